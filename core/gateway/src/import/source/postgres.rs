//! PostgreSQL, in one read-only transaction of one snapshot.
//!
//! Every column is asked for as text, so the shape of a value is the same for every type that Django ever gave it. Rows
//! come in portions of a portal, so memory stays bounded.

use std::collections::BTreeSet;
use std::str::FromStr;

use tokio::runtime::Handle;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

use super::row::{Row, Value};
use super::schema::Query;
use super::sqlite::quoted;

/// Rows that are fetched at once.
const PORTION: usize = 1000;

pub(crate) struct Postgres {
    client: Client,
    runtime: Handle,
}

impl Postgres {
    /// Errors: a text that names host and database, never the password.
    pub(super) fn open(url: &str) -> Result<Postgres, String> {
        let runtime = Handle::current();
        let name = shown(url);
        let config = Config::from_str(url).map_err(|error| format!("{name}: {}", words(&error)))?;
        let client = runtime.block_on(async {
            let (client, connection) =
                config.connect(NoTls).await.map_err(|error| format!("{name}: {}", words(&error)))?;
            tokio::spawn(connection);
            let begin = "SET TIME ZONE 'UTC'; SET datestyle TO 'ISO'; SET extra_float_digits TO 3; \
                         BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
            client.batch_execute(begin).await.map_err(|error| format!("{name}: {}", words(&error)))?;
            Ok::<_, String>(client)
        })?;
        Ok(Postgres { client, runtime })
    }

    pub(super) fn columns(&self, table: &str) -> Result<BTreeSet<String>, String> {
        let sql = "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 \
                   AND NOT attisdropped";
        let rows = self.runtime.block_on(self.client.query(sql, &[&quoted(table)]));
        let rows = rows.map_err(|error| format!("{table}: {}", words(&error)))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    pub(super) fn target(&self, table: &str, column: &str) -> Result<Option<String>, String> {
        let sql = "SELECT target.relname::text FROM pg_constraint c JOIN pg_class target ON target.oid = c.confrelid \
                   JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] \
                   WHERE c.contype = 'f' AND c.conrelid = to_regclass($1) AND a.attname = $2";
        let rows = self.runtime.block_on(self.client.query(sql, &[&quoted(table), &column]));
        let rows = rows.map_err(|error| format!("{table}: {}", words(&error)))?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    pub(super) fn count(&self, table: &str) -> Result<u64, String> {
        if self.columns(table)?.is_empty() {
            return Ok(0);
        }
        self.number(table, &format!("SELECT count(*) FROM {}", quoted(table)))
    }

    pub(super) fn last_id(&self, table: &str) -> Result<u64, String> {
        let largest =
            self.number(table, &format!("SELECT coalesce(max(id), 0)::bigint FROM {}", quoted(table)))?;
        let sequence = self
            .runtime
            .block_on(self.client.query("SELECT pg_get_serial_sequence($1, 'id')", &[&quoted(table)]));
        let sequence = sequence.map_err(|error| format!("{table}: {}", words(&error)))?;
        let name: Option<String> = sequence.first().and_then(|row| row.get(0));
        let Some(name) = name else { return Ok(largest) };
        // The name comes quoted from the server.
        let given = self.number(table, &format!("SELECT last_value FROM {name}"))?;
        Ok(largest.max(given))
    }

    pub(super) fn each(
        &self,
        query: &Query,
        each: &mut dyn FnMut(&Row) -> Result<(), String>,
    ) -> Result<(), String> {
        let fault = |error: &tokio_postgres::Error| format!("{}: {}", query.table, words(error));
        let run =
            |sql: &str| self.runtime.block_on(self.client.batch_execute(sql)).map_err(|error| fault(&error));
        run(&format!("DECLARE rows NO SCROLL CURSOR FOR {}", sql(query)))?;
        let fetch = format!("FETCH {PORTION} FROM rows");
        let mut row = Row { query, values: Vec::new() };
        loop {
            let portion = self.runtime.block_on(self.client.query(fetch.as_str(), &[]));
            let portion = portion.map_err(|error| fault(&error))?;
            for found in &portion {
                row.values.clear();
                for at in 0..found.len() {
                    let text: Option<String> = found.try_get(at).map_err(|error| fault(&error))?;
                    row.values.push(text.map_or(Value::Null, Value::Text));
                }
                each(&row)?;
            }
            if portion.len() < PORTION {
                return run("CLOSE rows");
            }
        }
    }

    fn number(&self, table: &str, sql: &str) -> Result<u64, String> {
        let row = self.runtime.block_on(self.client.query_one(sql, &[]));
        let row = row.map_err(|error| format!("{table}: {}", words(&error)))?;
        let number: i64 = row.get(0);
        Ok(u64::try_from(number).unwrap_or(0))
    }
}

fn sql(query: &Query) -> String {
    let own = quoted(query.table);
    let mut columns: Vec<String> =
        query.columns.iter().map(|column| format!("{own}.{}::text", quoted(column))).collect();
    if let Some(joined) = query.joined {
        let (table, refers, value) = (quoted(joined.table), quoted(joined.refers), quoted(joined.value));
        columns.push(format!(
            r#"(SELECT string_agg({table}.{value}::text, ',') FROM {table} WHERE {table}.{refers} = {own}."id")"#
        ));
    }
    let order: Vec<String> = query.order.iter().map(|column| format!("{own}.{}", quoted(column))).collect();
    format!("SELECT {} FROM {own} ORDER BY {}", columns.join(", "), order.join(", "))
}

/// Host and database of a URL.
pub(super) fn shown(url: &str) -> String {
    let Ok(config) = Config::from_str(url) else { return "postgres".to_owned() };
    let host = config.get_hosts().first().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    });
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("{}/{database}", host.unwrap_or_default())
}

/// An error with what is behind it: the client's own text is only "db error".
fn words(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(database) => database.message().to_owned(),
        None => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
            format!("{error}{}", cause.unwrap_or_default())
        }
    }
}
