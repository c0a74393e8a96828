//! The store's operations against a database in a temporary folder. No clock, no sleeping: every operation takes its
//! instant.

mod audit;
mod avatar;
mod challenges;
mod chat;
mod chat_import;
mod chat_together;
mod console;
mod crash;
mod damage;
mod durability;
mod erasure;
mod failover;
mod files;
mod find;
mod history;
mod ledger;
mod money;
mod money_together;
mod moving;
mod node;
mod notes;
mod opening;
mod passwords;
mod postgres;
mod power;
mod proxy;
mod refresh;
mod replace;
mod search;
mod server;
mod sessions;
mod sms;

use std::path::Path;
use std::time::Duration;

use chelseru_store::{
    ChallengeDraft, ChallengeOpened, Due, Guesser, LoginDraft, LoginOutcome, Session, SessionDraft, Store,
    StoreOptions, Timestamp, User,
};
use server::Database;
use tempfile::TempDir;
use uuid::Uuid;

/// Segment sizes of the engine, today and in older versions.
const SEGMENT_BYTES: usize = 1024 * 1024;
const SEGMENT_BYTES_BEFORE: usize = 512 * 1024;
const NUMBER: &str = "+989121234567";
const RIGHT: [u8; 32] = [1; 32];
const WRONG: [u8; 32] = [2; 32];
const TTL: u64 = 240;
const SESSION_TTL: u64 = 86_400;

/// An engine of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Sled,
    Postgres,
}

/// Every engine. Each test of an operation runs over all of them, so another engine needs one name here and an arm in
/// [`TestStore::new`]. A test that damages files names its engine.
fn engines() -> Vec<Engine> {
    match chelseru_postgres_server::server() {
        Some(_) => vec![Engine::Sled, Engine::Postgres],
        None => vec![Engine::Sled],
    }
}

/// A store that is removed after the test.
struct TestStore {
    store: Store,
    /// Removed after the store is dropped.
    database: Option<Database>,
    folder: TempDir,
}

impl std::ops::Deref for TestStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl TestStore {
    fn new(engine: Engine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        match engine {
            Engine::Sled => Self::open(folder),
            Engine::Postgres => Self::open_database(Database::new(), folder),
        }
    }

    /// Opens what a test left in a folder.
    fn open(folder: TempDir) -> Self {
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        TestStore { store, database: None, folder }
    }

    fn open_database(database: Database, folder: TempDir) -> Self {
        TestStore { store: database.open(), database: Some(database), folder }
    }

    /// Closes the store and opens it again.
    fn reopened(self) -> Self {
        let TestStore { store, database, folder } = self;
        drop(store);
        match database {
            None => Self::open(folder),
            Some(database) => Self::open_database(database, folder),
        }
    }

    async fn open_code(&self, number: &str, id: u64, at_secs: u64) -> ChallengeOpened {
        self.challenge_open(challenge(number, id, at_secs)).await.unwrap()
    }

    async fn guess(&self, mac: [u8; 32], at_secs: u64) -> LoginOutcome {
        self.login_with_challenge(login(NUMBER, mac, at_secs)).await.unwrap()
    }

    /// A complete login that must succeed.
    async fn log_in(&self, number: &str, at_secs: u64) -> (User, Session) {
        self.open_code(number, at_secs, at_secs).await;
        match self.login_with_challenge(login(number, RIGHT, at_secs)).await.unwrap() {
            LoginOutcome::LoggedIn { user, session, .. } => (user, session),
            other => panic!("not logged in: {other:?}"),
        }
    }
}

/// The engine releases its lock a moment after its last handle is dropped.
fn open_engine(folder: &Path) -> sled::Db {
    for _ in 0..200 {
        if let Ok(db) = sled::Config::new().path(folder.join("sled")).segment_size(SEGMENT_BYTES).open() {
            return db;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the engine stays locked")
}

/// All records of a database. A long one stands in parts behind a stub.
fn records_in(db: &sled::Db) -> Vec<(Vec<u8>, Vec<u8>)> {
    let parts = |number: &[u8]| {
        let parts = db.scan_prefix([b"~", number].concat()).values();
        parts.map(Result::unwrap).collect::<Vec<_>>().concat()
    };
    db.range::<&[u8], _>(..b"~".as_slice())
        .map(Result::unwrap)
        .map(|(key, value)| match value.strip_prefix(b"\xff\xfeparts\xff") {
            Some(stub) => (key.to_vec(), parts(&stub[..8])),
            None => (key.to_vec(), value.to_vec()),
        })
        .collect()
}

fn secs(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// What is due then, when nothing is scheduled for more than an hour ahead.
fn due_at(at: u64) -> Due {
    Due::new(secs(at), Duration::from_secs(3600))
}

/// A code with five guesses, pending until it expires.
fn challenge(number: &str, id: u64, at_secs: u64) -> ChallengeDraft {
    ChallengeDraft {
        number: number.to_owned(),
        id,
        mac: RIGHT,
        created_at: secs(at_secs),
        expires_at: secs(at_secs + TTL),
        attempts_max: 5,
        others_max: 5,
        from: 0,
        resend_at: secs(at_secs + TTL),
    }
}

fn login(number: &str, mac: [u8; 32], at_secs: u64) -> LoginDraft {
    LoginDraft {
        number: number.to_owned(),
        mac,
        guesser: Guesser::default(),
        group: 0,
        username: format!("G0-0{}", &number[3..]),
        create: true,
        now: secs(at_secs),
        session: SessionDraft {
            key: Uuid::from_u128(u128::from(at_secs)),
            expires_at: secs(at_secs).plus(Duration::from_secs(SESSION_TTL)),
            user_agent: "curl/8".to_owned(),
            ip_address: "192.0.2.1".parse().ok(),
            device_name: None,
            per_user_max: 3,
        },
    }
}

fn number(n: usize) -> String {
    format!("+98912{n:07}")
}
