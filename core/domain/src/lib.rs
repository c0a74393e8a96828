//! The gateway's rules: login, SMS, money, chat, files and operation.
//!
//! Everything here is plain code over the store and a few ports: [`sms::SmsPort`] sends messages,
//! [`money::payment::gateway`] reaches payment gateways, [`clock::Clock`] tells the time. Nothing here knows HTTP,
//! WebSocket, WASM or sled. The gateway converts at its edge and builds replies from typed outcomes. Invariants: a
//! client's claim changes no right; a missing check fails closed; codes, tokens, keys and full phone numbers never
//! reach a `Debug` or `Display` text.
//!
//! One folder per feature: `login`, `sms`, `money`, `chat`, `files`, `operator`; `erasure` crosses them. Shared parts
//! stand beside them: `clock`, `ids`, `phone`, `secret`, `range`, `share`, `rate`, `text`, `idempotency`, `bus`.

pub mod bus;
pub mod clock;
pub mod ids;
pub mod language;
pub mod phone;
pub mod range;
pub mod rate;
pub mod secret;
pub mod share;
pub mod text;

mod error;
pub mod idempotency;

pub mod login;
pub mod sms;

pub mod money;

pub mod chat;
pub mod files;

pub mod erasure;

pub mod operator;

pub use clock::{Clock, Timestamp};
pub use error::{Checked, RuleError, Rules};
pub use phone::PhoneNumber;
pub use range::Range;

pub use chelseru_store::{StoreError, UserChange};
