//! The store under the journeys: the embedded engine, or a PostgreSQL database for each gateway when
//! `CHELSERU_TEST_STORE=postgres` says so.

use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use chelseru_postgres_server::{Server, on_runtime, server};
use chelseru_store::{Store, StoreOptions};

/// A database with all tables, which the others are copies of.
const TEMPLATE: &str = "journeys";
const SECTION: &str = "\n[store]\nengine = \"postgres\"\n";

/// The server, when the journeys run over it.
static POSTGRES: LazyLock<Option<&'static Server>> = LazyLock::new(|| {
    if std::env::var("CHELSERU_TEST_STORE").as_deref() != Ok("postgres") {
        return None;
    }
    let server = server().expect("CHELSERU_TEST_STORE=postgres needs an installed server");
    server.make(TEMPLATE, "template1");
    let address = server.pairs(TEMPLATE);
    let opened = on_runtime(async move { Store::open_postgres(&address, StoreOptions::default()).await });
    drop(opened.expect("tables"));
    server.wait_until_left(TEMPLATE);
    Some(server)
});

/// Whether the journeys run over PostgreSQL. A journey about the files of the embedded engine has nothing to ask there.
pub fn is_postgres() -> bool {
    POSTGRES.is_some()
}

/// The address of a new, empty database.
pub fn database(server: &Server) -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let name = format!("gateway_{}", LAST.fetch_add(1, Ordering::Relaxed));
    server.make(&name, TEMPLATE);
    server.url(&name)
}

/// A configuration with the store of this run.
pub(crate) fn chosen(config: String) -> String {
    match *POSTGRES {
        Some(server) if !config.contains("[store]") => {
            format!("{config}{SECTION}url = \"{}\"\nconnections_max = 6\n", database(server))
        }
        _ => config,
    }
}

/// An edited configuration with the store of the file that it replaces.
pub(crate) fn kept(config: String, file: &Path) -> String {
    let before = std::fs::read_to_string(file).unwrap_or_default();
    match before.find(SECTION) {
        Some(at) if !config.contains("[store]") => format!("{config}{}", &before[at..]),
        _ => config,
    }
}
