//! A PostgreSQL database for each store of these tests.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chelseru_postgres_server::{Refused, Server, on_runtime, run_in, server};
use chelseru_store::{Store, StoreError, StoreOptions};

/// A database with all tables, which the others are copies of.
const TEMPLATE: &str = "store_template";

const PATIENCE: Duration = Duration::from_secs(60);

/// The shared server once it has the template.
static PREPARED: LazyLock<Option<&'static Server>> = LazyLock::new(|| {
    let server = server()?;
    prepare(server);
    Some(server)
});

/// Makes the template on a server.
pub(crate) fn prepare(server: &Server) {
    server.make(TEMPLATE, "template1");
    drop(opened(&server.pairs(TEMPLATE), options()).unwrap());
    server.wait_until_left(TEMPLATE);
}

/// A copy of the database with all tables.
pub(crate) fn new_database(server: &Server) -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let name = format!("store_{}", LAST.fetch_add(1, Ordering::Relaxed));
    server.make(&name, TEMPLATE);
    name
}

/// A database of one test, removed after it.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) server: &'static Server,
}

impl Database {
    pub(crate) fn new() -> Database {
        let server = PREPARED.expect("the engine is tested where a server is installed");
        Database { name: new_database(server), server }
    }

    pub(crate) fn url(&self) -> String {
        self.server.pairs(&self.name)
    }

    /// A store that was dropped lets go of its lock a moment later.
    pub(crate) fn open(&self) -> Store {
        let until = Instant::now() + PATIENCE;
        loop {
            match opened(&self.url(), options()) {
                Err(error) if error.is_in_use() && Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                opened => return opened.unwrap(),
            }
        }
    }

    /// One of several stores that use the database at the same time.
    pub(crate) fn open_shared(&self) -> Store {
        opened(&self.url(), StoreOptions { shared: true, ..options() }).unwrap()
    }

    /// Statements of somebody who knows the tables.
    ///
    /// # Errors
    ///
    /// What the server says, with its code.
    pub(crate) fn run(&self, statements: &str) -> Result<(), Refused> {
        run_in(self.url(), format!("set search_path to chelseru; {statements}"))
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.server.remove(&self.name);
    }
}

pub(crate) fn options() -> StoreOptions {
    StoreOptions { connections_max: 4, lock_wait: Duration::from_secs(3), ..StoreOptions::default() }
}

/// Opens a store on a runtime that outlives the test's.
pub(crate) fn opened(url: &str, options: StoreOptions) -> Result<Store, StoreError> {
    let url = url.to_owned();
    on_runtime(async move { Store::open_postgres(&url, options).await })
}
