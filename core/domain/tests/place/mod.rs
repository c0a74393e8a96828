//! Where the stores of a test program are: in folders, or in databases when the program starts itself again to run all
//! its tests over PostgreSQL.

use std::process::Command;
use std::time::{Duration, Instant};

use chelseru_store::{Store, StoreOptions};
pub(crate) use server::Database;
use tempfile::TempDir;

#[path = "../../../store/tests/store/server.rs"]
#[allow(dead_code, reason = "the tests of the store use the rest")]
mod server;

/// Set while the stores are in databases.
const OVER_POSTGRES: &str = "CHELSERU_TEST_STORE";

/// A store that was dropped lets go of its folder a moment later.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a store outlives its process. Removed when it is dropped.
pub(crate) enum Place {
    Folder(TempDir),
    Database(Database),
}

impl Place {
    pub(crate) fn new() -> Place {
        match std::env::var_os(OVER_POSTGRES) {
            Some(_) => Place::Database(Database::new()),
            None => Place::Folder(tempfile::tempdir().unwrap()),
        }
    }

    /// The options are those of a store in a folder.
    pub(crate) fn open(&self, options: &StoreOptions) -> Store {
        let folder = match self {
            Place::Folder(folder) => folder,
            Place::Database(database) => return database.open(),
        };
        let until = Instant::now() + PATIENCE;
        loop {
            match Store::open(folder.path(), options.clone()) {
                Err(error) if error.is_in_use() && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                opened => return opened.unwrap(),
            }
        }
    }
}

/// Whether the stores are in databases.
pub(crate) fn over_postgres() -> bool {
    std::env::var_os(OVER_POSTGRES).is_some()
}

/// Runs all tests of this program again with their stores in PostgreSQL, where it is installed. `ran` is one of them.
pub(crate) fn run_again(ran: &str, variables: &[(&str, &str)]) {
    if over_postgres() {
        return;
    }
    if !chelseru_postgres_server::is_installed() {
        return eprintln!("skipped: the tests over PostgreSQL (no initdb in /usr/lib/postgresql)");
    }
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.env(OVER_POSTGRES, "postgres").envs(variables.iter().copied());
    let output = program.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(&format!("test {ran} ... ok")), "{said}");
}
