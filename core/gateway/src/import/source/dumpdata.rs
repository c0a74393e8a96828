//! A file of `manage.py dumpdata`: JSON, read as a stream into a temporary SQLite database, which is then the source.
//!
//! A dump names models instead of tables, cuts times to milliseconds, and has the rows of join tables only as lists
//! inside of objects. Objects of models that are not imported are passed over.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, ErrorCode, params_from_iter};
use serde::Deserialize;
use serde::de::{Deserializer as _, Error as _, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::schema::{
    ALL, BANS, FILES, MEMBERS, MESSAGES, ORGANIZATIONS, PAYMENTS, PERMISSION_USERS, PERMISSIONS, PINS,
    PROFILES, Query, READERS, ROOM_PERMISSIONS, ROOMS, SMS, USERS, WALLETS,
};
use super::sqlite::{Sqlite, quoted};

/// The database inside the scratch folder.
const DATABASE: &str = "dump.sqlite3";

/// Fields of an object whose lists are rows of a join table.
type Lists = &'static [(&'static str, &'static Query)];

/// The models that are read.
const MODELS: [(&str, &Query, Lists); 10] = [
    ("auth.user", &USERS, &[]),
    ("drfchelseru.user", &PROFILES, &[]),
    ("drfchelseru.wallet", &WALLETS, &[]),
    ("drfchelseru.payment", &PAYMENTS, &[]),
    ("drfchelseru.organization", &ORGANIZATIONS, &[]),
    ("drfchelseru.chatroompermissions", &PERMISSIONS, &[("user", &PERMISSION_USERS)]),
    (
        "drfchelseru.chatroom",
        &ROOMS,
        &[("users", &MEMBERS), ("banneds", &BANS), ("pinned_for", &PINS), ("permissions", &ROOM_PERMISSIONS)],
    ),
    ("drfchelseru.messagechat", &MESSAGES, &[("read_by", &READERS)]),
    ("drfchelseru.attachfile", &FILES, &[]),
    ("drfchelseru.messagesms", &SMS, &[]),
];

/// The beginning of the names of the package's models.
const APP: &str = "drfchelseru.";

#[derive(Deserialize)]
struct Object {
    model: String,
    #[serde(default)]
    pk: Value,
    fields: Map<String, Value>,
}

/// Reads a dump into a database in the scratch folder. Memory does not grow with the dump.
///
/// Errors: a text that names the file, and the object or the line.
pub(super) fn open(path: &Path, scratch: &Path) -> Result<Sqlite, String> {
    let fault = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| fault(&error))?;
    let text = after_bom(BufReader::new(file)).map_err(|error| fault(&error))?;
    let connection = Connection::open(scratch.join(DATABASE)).map_err(|error| fault(&error))?;
    let mut load = Load::begin(&connection).map_err(|error| fault(&error))?;
    let mut json = serde_json::Deserializer::from_reader(text);
    json.deserialize_any(Objects(&mut load)).and_then(|()| json.end()).map_err(|error| fault(&error))?;
    load.finish().map_err(|error| fault(&error))?;
    connection.execute_batch("COMMIT").map_err(|error| fault(&error))?;
    Ok(Sqlite::of(connection))
}

/// The text behind the mark that some shells write at the beginning of a file.
fn after_bom(mut reader: BufReader<File>) -> Result<BufReader<File>, String> {
    let mut head = [0; 3];
    let read = reader.read(&mut head).map_err(|error| error.to_string())?;
    match &head[..read] {
        [0xef, 0xbb, 0xbf] => return Ok(reader),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            return Err("is UTF-16 text; accepted is UTF-8, as `dumpdata --output FILE` writes it".to_owned());
        }
        _ => {}
    }
    reader.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
    Ok(reader)
}

/// A dump that is being read.
struct Load<'c> {
    connection: &'c Connection,
    models: HashMap<&'static str, Model>,
    /// Objects of `auth.user`, and of the package.
    users: u64,
    ours: u64,
}

struct Model {
    query: &'static Query,
    insert: String,
    /// Field, and the statement that adds one of its values.
    lists: Vec<(&'static str, String)>,
}

impl<'c> Load<'c> {
    /// Makes the tables.
    fn begin(connection: &'c Connection) -> rusqlite::Result<Load<'c>> {
        connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN")?;
        for query in ALL {
            let columns = query.columns.iter().filter(|column| **column != "id");
            let columns: String = columns.map(|column| format!(", {}", quoted(column))).collect();
            let table = quoted(query.table);
            connection.execute_batch(&format!("CREATE TABLE {table} (id INTEGER PRIMARY KEY{columns})"))?;
        }
        let (table, refers) = (quoted(READERS.table), quoted(READERS.columns[1]));
        connection.execute_batch(&format!("CREATE INDEX readers ON {table} ({refers})"))?;
        let models = MODELS.into_iter().map(|(name, query, lists)| {
            let lists = lists.iter().map(|(field, query)| (*field, insert(query, &query.columns[1..])));
            (name, Model { query, insert: insert(query, query.columns), lists: lists.collect() })
        });
        Ok(Load { connection, models: models.collect(), users: 0, ours: 0 })
    }

    /// Stores one object.
    ///
    /// Errors: a text that names the object and its field.
    fn add(&mut self, object: &Object) -> Result<(), String> {
        let name = object.model.to_lowercase();
        self.ours += u64::from(name.starts_with(APP));
        self.users += u64::from(name == USER_MODEL);
        let Some(model) = self.models.get(name.as_str()) else { return Ok(()) };
        let place = format!("{name} {}", object.pk);
        let Some(id) = object.pk.as_i64() else {
            return Err(format!(
                "{place}: pk is no whole number; a dump with --natural-primary lost the ids, so make one without"
            ));
        };
        let mut values = Vec::with_capacity(model.query.columns.len());
        for column in model.query.columns {
            values.push(if *column == "id" { Sql::Integer(id) } else { field(object, column, &place)? });
        }
        self.insert(&model.insert, values).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => format!("{place} is there twice"),
            _ => format!("{place}: {error}"),
        })?;
        for (field, insert) in &model.lists {
            let wrong = || format!("{place}: {field} is no list of numbers");
            let list = object.fields.get(*field).ok_or_else(|| format!("{place}: {field} is missing"))?;
            for value in list.as_array().ok_or_else(wrong)? {
                let other = value.as_i64().ok_or_else(wrong)?;
                let row = vec![Sql::Integer(id), Sql::Integer(other)];
                self.insert(insert, row).map_err(|error| format!("{place}: {error}"))?;
            }
        }
        Ok(())
    }

    fn insert(&self, sql: &str, values: Vec<Sql>) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute(params_from_iter(values)).map(|_| ())
    }

    fn finish(&self) -> Result<(), String> {
        if self.ours == 0 {
            return Err("holds no object of django-chelseru (drfchelseru....)".to_owned());
        }
        if self.users == 0 {
            return Err(format!(
                "holds no object of {USER_MODEL}, to which all others refer: dump that model too, or, in a project \
                 with AUTH_USER_MODEL, copy the users into it first"
            ));
        }
        Ok(())
    }
}

const USER_MODEL: &str = "auth.user";

fn insert(query: &Query, columns: &[&str]) -> String {
    let names: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
    let places = vec!["?"; columns.len()].join(", ");
    format!("INSERT INTO {} ({}) VALUES ({places})", quoted(query.table), names.join(", "))
}

/// The value of a column. A reference has its column's name without `_id`.
fn field(object: &Object, column: &str, place: &str) -> Result<Sql, String> {
    let reference = column.strip_suffix("_id").and_then(|name| object.fields.get(name));
    let Some(value) = object.fields.get(column).or(reference) else {
        return Err(format!("{place}: {column} is missing"));
    };
    Ok(match value {
        Value::Null => Sql::Null,
        Value::Bool(flag) => Sql::Integer(i64::from(*flag)),
        Value::String(text) => Sql::Text(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Sql::Integer(whole),
            (None, Some(real)) if !number.is_u64() => Sql::Real(real),
            _ => return Err(format!("{place}: {column} is {number}, which is too large")),
        },
        Value::Array(_) | Value::Object(_) => {
            return Err(format!(
                "{place}: {column} is a list or an object; a dump with --natural-foreign lost the ids, so make one \
                 without"
            ));
        }
    })
}

/// Hands the objects of a dump to the load, one by one.
struct Objects<'a, 'c>(&'a mut Load<'c>);

impl<'de> Visitor<'de> for Objects<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects with model, pk and fields, as `manage.py dumpdata` writes it")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut objects: A) -> Result<(), A::Error> {
        while let Some(object) = objects.next_element::<Object>()? {
            self.0.add(&object).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
