//! The database that an import reads: SQLite, PostgreSQL, or a `dumpdata` file.
//!
//! Tables are read row by row in the order of a key, so memory does not grow with them. Invariants: nothing is ever
//! written to the source; a value that cannot be read is an error that names table and row, never a default.
//!
//! Not here: what a row means (the files beside `source`). Reading order: `database`, `schema`, `check`, `row`,
//! `sqlite`, `postgres`, `dumpdata`.

mod database;

mod check;
mod schema;

mod row;

mod dumpdata;
mod postgres;
mod sqlite;

pub(super) use check::check;
pub(super) use database::Source;
pub(crate) use database::SourceName;
pub(super) use row::{Row, Value};
pub(super) use schema::{
    BANS, FILES, MEMBERS, MESSAGES, NOT_IMPORTED, ORGANIZATIONS, PAYMENTS, PERMISSION_USERS, PERMISSIONS,
    PINS, PROFILES, Query, READ_BY, ROOM_PERMISSIONS, ROOMS, SMS, USER_IDS, USERS, WALLETS,
};
