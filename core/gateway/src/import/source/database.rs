//! A source by its name, opened: one type over the databases that are read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::postgres::Postgres;
use super::row::Row;
use super::schema::Query;
use super::sqlite::Sqlite;
use super::{dumpdata, postgres};

/// What the command line names as the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SourceName {
    Sqlite(PathBuf),
    /// With the password, which is never shown.
    Postgres(String),
    Dumpdata(PathBuf),
}

impl FromStr for SourceName {
    type Err = String;

    fn from_str(text: &str) -> Result<SourceName, String> {
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(SourceName::Sqlite(path.into())),
            Some(("dumpdata", path)) if !path.is_empty() => Ok(SourceName::Dumpdata(path.into())),
            Some(("postgres", "")) | None => Err(NAMES.to_owned()),
            Some(("postgres" | "postgresql", rest)) => {
                Ok(SourceName::Postgres(match rest.starts_with("//") {
                    true => text.to_owned(),
                    false => rest.to_owned(),
                }))
            }
            Some(_) => Err(NAMES.to_owned()),
        }
    }
}

const NAMES: &str = "accepted are sqlite:PATH, postgres:URL and dumpdata:PATH";

impl SourceName {
    /// The kind and the name, without a password.
    pub(crate) fn shown(&self) -> (&'static str, String) {
        match self {
            SourceName::Sqlite(path) => ("sqlite", path.display().to_string()),
            SourceName::Postgres(url) => ("postgres", postgres::shown(url)),
            SourceName::Dumpdata(path) => ("dumpdata", path.display().to_string()),
        }
    }
}

/// An open database.
pub(crate) enum Source {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

impl Source {
    /// Opens a source for reading only. Blocks. Must run where a tokio runtime can be entered.
    ///
    /// Errors: a text for the operator that names the source.
    pub(crate) fn open(name: &SourceName, scratch: &Path) -> Result<Source, String> {
        match name {
            SourceName::Sqlite(path) => Sqlite::open(path).map(Source::Sqlite),
            SourceName::Postgres(url) => Postgres::open(url).map(|source| Source::Postgres(Box::new(source))),
            SourceName::Dumpdata(path) => dumpdata::open(path, scratch).map(Source::Sqlite),
        }
    }

    /// The columns of a table; empty when there is no such table.
    pub(crate) fn columns(&self, table: &str) -> Result<BTreeSet<String>, String> {
        match self {
            Source::Sqlite(source) => source.columns(table),
            Source::Postgres(source) => source.columns(table),
        }
    }

    /// The table that a column of another table refers to, when the database knows.
    pub(crate) fn target(&self, table: &str, column: &str) -> Result<Option<String>, String> {
        match self {
            Source::Sqlite(source) => source.target(table, column),
            Source::Postgres(source) => source.target(table, column),
        }
    }

    pub(crate) fn count(&self, table: &str) -> Result<u64, String> {
        match self {
            Source::Sqlite(source) => source.count(table),
            Source::Postgres(source) => source.count(table),
        }
    }

    /// The largest id that a table ever gave, as far as the database knows.
    pub(crate) fn last_id(&self, table: &str) -> Result<u64, String> {
        match self {
            Source::Sqlite(source) => source.last_id(table),
            Source::Postgres(source) => source.last_id(table),
        }
    }

    /// Hands out the rows of a query in its order.
    ///
    /// Errors: those of reading, which name table and row, and the first one of `each`.
    pub(crate) fn each(
        &self,
        query: &Query,
        each: &mut dyn FnMut(&Row) -> Result<(), String>,
    ) -> Result<(), String> {
        match self {
            Source::Sqlite(source) => source.each(query, each),
            Source::Postgres(source) => source.each(query, each),
        }
    }
}
