//! A store is copied from one engine to the other and back, and nothing is lost on the way: a store with one of
//! everything, record by record and column by column, and random histories of chat and money as they read.

mod everything;
mod histories;
mod refused;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Seek;
use std::path::PathBuf;

use super::*;

/// Records of a store on sled.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Rows of a store on PostgreSQL, by table, as JSON and in order.
type Tables = BTreeMap<String, Vec<serde_json::Map<String, serde_json::Value>>>;

/// Where a moved store is in its folder.
fn place(folder: &TempDir) -> PathBuf {
    folder.path().join("db")
}

/// Copies a store on sled into a database.
async fn into_postgres(sled: &Store) -> TestStore {
    let moved = TestStore::new(Engine::Postgres);
    moved.fill_from(sled, &|_, _| {}, Box::pin(async { Ok(()) })).await.unwrap();
    moved
}

/// Copies a store into a folder, by its export.
async fn into_sled(store: &Store) -> TestStore {
    let folder = tempfile::tempdir().unwrap();
    let mut file =
        File::options().read(true).write(true).create_new(true).open(folder.path().join("export")).unwrap();
    let scratch = folder.path().join("scratch");
    store.export(file.try_clone().unwrap(), &scratch).await.unwrap();
    assert!(!scratch.exists(), "the copy is removed");
    file.rewind().unwrap();
    Store::import(&place(&folder), &mut file, || Ok(())).unwrap();
    let store = Store::open(place(&folder), StoreOptions::default()).unwrap();
    TestStore { store, database: None, folder }
}

/// Closes a store that [`into_sled`] made and opens its database.
fn engine_of(store: TestStore) -> (sled::Db, TempDir) {
    let TestStore { store, folder, .. } = store;
    drop(store);
    (open_engine(&place(&folder)), folder)
}

fn records(store: TestStore) -> Records {
    let (engine, _folder) = engine_of(store);
    records_in(&engine).into_iter().collect()
}

/// Opens a store whose records were changed.
fn reopened(folder: TempDir, path: PathBuf) -> TestStore {
    loop {
        // The engine lets go of its lock a moment after its last handle is gone.
        match Store::open(&path, StoreOptions::default()) {
            Err(chelseru_store::StoreError::Locked { .. }) => std::thread::yield_now(),
            opened => return TestStore { store: opened.unwrap(), database: None, folder },
        }
    }
}

/// The store with what only older versions wrote: a session from before bindings.
fn older(store: TestStore) -> TestStore {
    let (engine, folder) = engine_of(store);
    engine.insert(b"munbound-sessions", &1_u64.to_be_bytes()).unwrap();
    engine.flush().unwrap();
    drop(engine);
    let path = place(&folder);
    reopened(folder, path)
}

/// Every table of a store.
async fn tables(store: &TestStore) -> Tables {
    let database = store.database.as_ref().unwrap();
    let (client, connection) = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let names =
        "select relname::text from pg_class where relnamespace = 'chelseru'::regnamespace and relkind = 'r'";
    let mut tables = Tables::new();
    for name in client.query(names, &[]).await.unwrap() {
        let name: String = name.get(0);
        let rows = format!("select row_to_json(t)::text from chelseru.{name} t");
        let rows = client.query(&rows, &[]).await.unwrap();
        let mut rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        rows.sort();
        tables.insert(name, rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect());
    }
    drop(client);
    connection.await.unwrap().unwrap();
    tables
}

/// Also when the backup had none.
#[tokio::test]
async fn a_restored_store_begins_a_million_higher() {
    for engine in engines() {
        let mut restored = vec![into_sled(&TestStore::new(engine)).await];
        if engines().contains(&Engine::Postgres) {
            restored.push(into_postgres(&restored[0]).await);
        }
        for store in restored {
            let (user, session) = store.log_in(NUMBER, 100).await;
            store.import_balances(money::opening(user.id, 100)).await.unwrap();
            let draft = chelseru_store::SpendDraft { user: user.id, ..money::spend(10, "", None) };
            let chelseru_store::SpendMade::Done(spend) = store.spend_create(draft).await.unwrap() else {
                panic!("{engine:?}: not spent")
            };
            let numbers = [user.id.0, session.id.0, spend.id.0];
            assert_eq!(numbers, [1_000_001; 3], "{engine:?}");
        }
    }
}

#[tokio::test]
async fn one_of_everything_comes_back_from_postgres() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let filled = TestStore::new(Engine::Sled);
    everything::fill(&filled).await;
    // An export numbers on, so what is compared was exported as often.
    let before = older(into_sled(&filled).await);
    let moved = into_postgres(&before).await;
    assert_eq!(moved.ledger_verify().await.unwrap().difference, None);
    let audit = async |store: &Store| {
        let query = chelseru_store::AuditQuery { limit: 100, look_max: 1000, ..Default::default() };
        store.audit_page(&query).await.unwrap().entries
    };
    let entries = audit(&before).await;
    assert_eq!(entries, audit(&moved).await);
    let back = into_sled(&moved).await;
    assert_eq!(back.ledger_verify().await.unwrap().difference, None);
    assert_eq!(entries, audit(&back).await);
    everything::compare_records(&records(before), &records(back));
}

#[tokio::test]
async fn one_of_everything_comes_back_from_sled() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let before = TestStore::new(Engine::Postgres);
    everything::fill(&before).await;
    let through = into_sled(&before).await;
    let back = into_postgres(&through).await;
    assert_eq!(back.ledger_verify().await.unwrap().difference, None);
    everything::compare_tables(&tables(&before).await, &tables(&back).await);
}
