//! The original's database from PostgreSQL and from a dump: the same import as from SQLite.

use std::collections::BTreeMap;
use std::path::Path;

use chelseru_postgres_server::server;
use rusqlite::Connection;
use rusqlite::types::Value as Sql;
use serde_json::{Value, json};

use crate::import::{import, import_from, new_folder, original, rows, warning};

/// What every source must agree on: what was imported of each table, and the sums.
fn outcome(report: &Value) -> Value {
    let tables: BTreeMap<&str, (&Value, &Value)> = report["tables"]
        .as_array()
        .expect("tables")
        .iter()
        .map(|table| (table["table"].as_str().expect("a name"), (&table["there"], &table["here"])))
        .filter(|(table, _)| table.starts_with("drfchelseru_") || *table == "auth_user")
        .collect();
    let mut money = report["money"].clone();
    // The time of the import is in it.
    money["ledger_head"] = Value::Null;
    json!({"tables": tables, "money": money, "users": report["users"], "left_out": report["left_out"]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dump_is_imported_with_a_warning_of_what_it_lost() {
    let (dir, other) = (new_folder(), new_folder());
    let dump = dir.path().join("dump.json");
    std::fs::write(&dump, dumped(&original().join("db.sqlite3")).to_string()).expect("a file");
    let source = format!("dumpdata:{}", dump.display());
    let (done, text, report) = import_from(dir.path(), &source, &["--allow-debt"]);
    assert!(done, "{text}");
    let (_, _, expected) = import(other.path(), &original().join("db.sqlite3"), &["--allow-debt"]);
    let (found, mut expected) = (outcome(&report), outcome(&expected));
    // Codes and sessions are in no table that is read, so a dump does not count them.
    for table in ["drfchelseru_otpcode", "drfchelseru_session"] {
        expected["tables"][table] = found["tables"][table].clone();
    }
    assert_eq!(found, expected);
    assert_eq!(warning(&report, "a dump does not have everything").len(), 1);
    assert_eq!(rows(&report, "drfchelseru_messagechat"), (6, 6));

    for (text, expected) in [
        ("{}", "a list of objects with model, pk and fields"),
        ("[{\"model\": \"auth.user\", \"pk\": 1}]", "missing field `fields`"),
        ("[]", "holds no object of django-chelseru"),
        (
            "[{\"model\": \"drfchelseru.wallet\", \"pk\": 4, \"fields\": {\"user\": 1}}]",
            "drfchelseru.wallet 4: amount is missing",
        ),
    ] {
        std::fs::write(&dump, text).expect("a file");
        let (done, said, _) = import_from(new_folder().path(), &source, &[]);
        assert!(!done && said.contains(expected), "{text}: {said}");
    }
}

/// A database as `manage.py dumpdata` writes it.
fn dumped(path: &Path) -> Value {
    let connection = Connection::open(path).expect("a database");
    let mut objects = Vec::new();
    let many = |table: &str, own: &str, id: i64, value: &str| -> Vec<i64> {
        let sql = format!("SELECT {value} FROM {table} WHERE {own} = ?1 ORDER BY id");
        let mut statement = connection.prepare(&sql).expect("a query");
        let rows = statement.query_map([id], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("numbers")
    };
    for (model, table) in [
        ("auth.user", "auth_user"),
        ("drfchelseru.user", "drfchelseru_user"),
        ("drfchelseru.wallet", "drfchelseru_wallet"),
        ("drfchelseru.payment", "drfchelseru_payment"),
        ("drfchelseru.organization", "drfchelseru_organization"),
        ("drfchelseru.chatroompermissions", "drfchelseru_chatroompermissions"),
        ("drfchelseru.chatroom", "drfchelseru_chatroom"),
        ("drfchelseru.messagechat", "drfchelseru_messagechat"),
        ("drfchelseru.attachfile", "drfchelseru_attachfile"),
        ("drfchelseru.messagesms", "drfchelseru_messagesms"),
        ("drfchelseru.otpcode", "drfchelseru_otpcode"),
    ] {
        let mut statement =
            connection.prepare(&format!("SELECT * FROM {table} ORDER BY id")).expect("a table");
        let types: Vec<(String, String)> = statement
            .columns()
            .map(|column| (column.name().to_owned(), column.decl_type().unwrap_or_default().to_lowercase()))
            .collect();
        let mut found = statement.query([]).expect("rows");
        while let Some(row) = found.next().expect("a row") {
            let id: i64 = row.get("id").expect("an id");
            let mut fields = serde_json::Map::new();
            for (at, (name, kind)) in types.iter().enumerate().filter(|(_, (name, _))| name != "id") {
                let value: Sql = row.get(at).expect("a value");
                let name = name.strip_suffix("_id").filter(|_| kind != "varchar(20)").unwrap_or(name);
                fields.insert(name.to_owned(), dumped_value(value, kind));
            }
            match model {
                "drfchelseru.chatroom" => {
                    for (field, table) in
                        [("users", "users"), ("banneds", "banneds"), ("pinned_for", "pinned_for")]
                    {
                        let table = format!("drfchelseru_chatroom_{table}");
                        fields.insert(field.to_owned(), json!(many(&table, "chatroom_id", id, "user_id")));
                    }
                    let table = "drfchelseru_chatroom_permissions";
                    let levels = many(table, "chatroom_id", id, "chatroompermissions_id");
                    fields.insert("permissions".to_owned(), json!(levels));
                }
                "drfchelseru.chatroompermissions" => {
                    let table = "drfchelseru_chatroompermissions_user";
                    let users = many(table, "chatroompermissions_id", id, "user_id");
                    fields.insert("user".to_owned(), json!(users));
                }
                "drfchelseru.messagechat" => {
                    let table = "drfchelseru_messagechat_read_by";
                    fields.insert("read_by".to_owned(), json!(many(table, "messagechat_id", id, "user_id")));
                }
                _ => {}
            }
            objects.push(json!({"model": model, "pk": id, "fields": fields}));
        }
    }
    Value::Array(objects)
}

/// Milliseconds are all that a dump keeps of a time.
fn dumped_value(value: Sql, kind: &str) -> Value {
    match value {
        Sql::Null => Value::Null,
        Sql::Integer(number) if kind == "bool" => json!(number == 1),
        Sql::Integer(number) => json!(number),
        Sql::Real(number) => json!(number),
        Sql::Text(text) if kind == "datetime" => {
            let whole = text.replace(' ', "T");
            json!(format!("{}Z", whole.get(..23).unwrap_or(&whole)))
        }
        Sql::Text(text) => json!(text),
        Sql::Blob(_) => panic!("no table has binary values"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_is_imported_like_sqlite() {
    let Some(server) = server() else { return };
    server.make("original", "template1");
    server.run("create role old superuser login password 'pass-word'");
    let address = format!("postgresql://old:pass-word@127.0.0.1:{}/original", server.port());
    let (client, connection) =
        tokio_postgres::connect(&address, tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client.batch_execute(&as_postgres(&original().join("db.sqlite3"))).await.expect("filled");

    let (dir, other) = (new_folder(), new_folder());
    let source = format!("postgres:{address}");
    let (done, text, report) = import_from(dir.path(), &source, &["--allow-debt"]);
    assert!(done && !text.contains("pass-word"), "{text}");
    let (_, _, expected) = import(other.path(), &original().join("db.sqlite3"), &["--allow-debt"]);
    assert_eq!(outcome(&report), outcome(&expected));
    for kind in ["accounts of one number", "user names that look alike", "rooms of one"] {
        assert_eq!(warning(&report, kind), warning(&expected, kind), "{kind}");
    }

    client.batch_execute("DROP TABLE drfchelseru_wallet CASCADE").await.expect("dropped");
    let (done, text, _) = import_from(new_folder().path(), &source, &[]);
    assert!(!done && text.contains("the table drfchelseru_wallet is missing"), "{text}");
    let wrong = format!("{}/missing", source.rsplit_once('/').expect("a path").0);
    let (done, text, _) = import_from(new_folder().path(), &wrong, &[]);
    assert!(!done && text.contains("does not exist") && !text.contains("pass-word"), "{text}");
}

/// Statements that make the tables and rows of an SQLite database in PostgreSQL.
fn as_postgres(path: &Path) -> String {
    let connection = Connection::open(path).expect("a database");
    let mut script = String::new();
    let mut tables = connection
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
        .expect("a query");
    let tables: Vec<String> =
        tables.query_map([], |row| row.get(0)).expect("rows").collect::<Result<_, _>>().expect("names");
    for table in tables {
        let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\"")).expect("a table");
        let columns: Vec<(String, String)> = statement
            .columns()
            .map(|column| (column.name().to_owned(), column.decl_type().unwrap_or_default().to_lowercase()))
            .collect();
        let typed: Vec<String> = columns
            .iter()
            .map(|(name, kind)| {
                let kind = match kind.as_str() {
                    "integer" if name == "id" => "serial PRIMARY KEY",
                    "bool" => "boolean",
                    "datetime" => "timestamptz",
                    "real" => "double precision",
                    "char(39)" => "inet",
                    other => other.split(" unsigned").next().unwrap_or(other),
                };
                format!("\"{name}\" {kind}")
            })
            .collect();
        script.push_str(&format!("CREATE TABLE \"{table}\" ({});\n", typed.join(", ")));
        let mut found = statement.query([]).expect("rows");
        while let Some(row) = found.next().expect("a row") {
            let values: Vec<String> = columns
                .iter()
                .enumerate()
                .map(|(at, (_, kind))| match row.get::<_, Sql>(at).expect("a value") {
                    Sql::Null => "NULL".to_owned(),
                    Sql::Integer(number) if kind == "bool" => (number == 1).to_string(),
                    Sql::Integer(number) => number.to_string(),
                    Sql::Real(number) => format!("{number:?}"),
                    Sql::Text(text) if kind == "datetime" => format!("'{text}+00'"),
                    Sql::Text(text) => format!("'{}'", text.replace('\'', "''")),
                    Sql::Blob(_) => panic!("no table has binary values"),
                })
                .collect();
            script.push_str(&format!("INSERT INTO \"{table}\" VALUES ({});\n", values.join(", ")));
        }
    }
    script
}
