//! SQLite, opened for reading only.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::row::{Row, Value};
use super::schema::Query;

pub(crate) struct Sqlite {
    connection: Connection,
}

impl Sqlite {
    /// Errors: a text that names the file.
    pub(super) fn open(path: &Path) -> Result<Sqlite, String> {
        let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        if !path.is_file() {
            return Err(fault(&"there is no such file"));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| fault(&error))?;
        // One snapshot for the whole import, should somebody still write; and the first look at the file.
        connection
            .execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -32768; BEGIN; SELECT count(*) FROM sqlite_master;")
            .map_err(|error| match error.sqlite_error_code() {
                Some(rusqlite::ErrorCode::NotADatabase) => fault(&"is no SQLite database"),
                _ => fault(&error),
            })?;
        Ok(Sqlite { connection })
    }

    /// A database that was just filled.
    pub(super) fn of(connection: Connection) -> Sqlite {
        Sqlite { connection }
    }

    pub(super) fn columns(&self, table: &str) -> Result<BTreeSet<String>, String> {
        self.list("SELECT name FROM pragma_table_info(?1)", table)
    }

    pub(super) fn target(&self, table: &str, column: &str) -> Result<Option<String>, String> {
        let sql = r#"SELECT "table" FROM pragma_foreign_key_list(?1) WHERE "from" = ?2"#;
        let found = self.connection.query_row(sql, [table, column], |row| row.get(0)).optional();
        found.map_err(|error| format!("{table}: {error}"))
    }

    pub(super) fn count(&self, table: &str) -> Result<u64, String> {
        if self.columns(table)?.is_empty() {
            return Ok(0);
        }
        let sql = format!("SELECT count(*) FROM {}", quoted(table));
        let count: i64 =
            self.connection.query_row(&sql, [], |row| row.get(0)).map_err(|e| format!("{table}: {e}"))?;
        Ok(count.unsigned_abs())
    }

    pub(super) fn last_id(&self, table: &str) -> Result<u64, String> {
        let fault = |error: rusqlite::Error| format!("{table}: {error}");
        let sql = format!("SELECT coalesce(max(id), 0) FROM {}", quoted(table));
        let largest: i64 = self.connection.query_row(&sql, [], |row| row.get(0)).map_err(fault)?;
        let mut given = None;
        if !self.columns("sqlite_sequence")?.is_empty() {
            let sql = "SELECT seq FROM sqlite_sequence WHERE name = ?1";
            given = self.connection.query_row(sql, [table], |row| row.get(0)).optional().map_err(fault)?;
        }
        Ok(u64::try_from(largest.max(given.unwrap_or(0))).unwrap_or(0))
    }

    pub(super) fn each(
        &self,
        query: &Query,
        each: &mut dyn FnMut(&Row) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut place = format!("the first row of {}", query.table);
        let mut statement =
            self.connection.prepare(&sql(query)).map_err(|error| format!("{}: {error}", query.table))?;
        let mut rows = statement.query([]).map_err(|error| format!("{}: {error}", query.table))?;
        let mut row = Row { query, values: Vec::new() };
        while let Some(found) = rows.next().map_err(|error| format!("after {place}: {error}"))? {
            row.values.clear();
            let columns = query.columns.len() + usize::from(query.joined.is_some());
            for at in 0..columns {
                let value = match found.get_ref(at).map_err(|error| format!("after {place}: {error}"))? {
                    ValueRef::Null => Value::Null,
                    ValueRef::Integer(number) => Value::Integer(number),
                    ValueRef::Real(number) => Value::Real(number),
                    ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                        Ok(text) => Value::Text(text.to_owned()),
                        Err(_) => {
                            let column = query.columns.get(at).copied().unwrap_or_default();
                            return Err(format!("{}: {column} is not UTF-8 text", row.place()));
                        }
                    },
                    ValueRef::Blob(_) => {
                        let column = query.columns.get(at).copied().unwrap_or_default();
                        return Err(format!("{}: {column} is binary and no text", row.place()));
                    }
                };
                row.values.push(value);
            }
            each(&row)?;
            place = row.place();
        }
        Ok(())
    }

    fn list(&self, sql: &str, table: &str) -> Result<BTreeSet<String>, String> {
        let fault = |error: rusqlite::Error| format!("{table}: {error}");
        let mut statement = self.connection.prepare(sql).map_err(fault)?;
        let names = statement.query_map([table], |row| row.get(0)).map_err(fault)?;
        names.collect::<Result<_, _>>().map_err(fault)
    }
}

fn sql(query: &Query) -> String {
    let mut columns: Vec<String> = query.columns.iter().map(|column| quoted(column)).collect();
    if let Some(joined) = query.joined {
        let (table, refers, value) = (quoted(joined.table), quoted(joined.refers), quoted(joined.value));
        let own = quoted(query.table);
        columns.push(format!(
            r#"(SELECT group_concat({value}) FROM {table} WHERE {table}.{refers} = {own}."id")"#
        ));
    }
    let order: Vec<String> = query.order.iter().map(|column| quoted(column)).collect();
    format!("SELECT {} FROM {} ORDER BY {}", columns.join(", "), quoted(query.table), order.join(", "))
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
