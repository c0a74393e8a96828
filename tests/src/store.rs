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

/// The server, once it has the template.
static PREPARED: LazyLock<Option<&'static Server>> = LazyLock::new(|| {
    let server = server()?;
    server.make(TEMPLATE, "template1");
    let address = server.pairs(TEMPLATE);
    let opened = on_runtime(async move { Store::open_postgres(&address, StoreOptions::default()).await });
    drop(opened.expect("tables"));
    server.wait_until_left(TEMPLATE);
    Some(server)
});

/// Whether the journeys run over PostgreSQL. A journey about the files of the embedded engine has nothing to ask there.
pub fn is_postgres() -> bool {
    std::env::var("CHELSERU_TEST_STORE").as_deref() == Ok("postgres")
}

/// The address of a new, empty database; `None` where no server is installed.
pub fn database() -> Option<String> {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let server = PREPARED.as_ref()?;
    let name = format!("gateway_{}", LAST.fetch_add(1, Ordering::Relaxed));
    server.make(&name, TEMPLATE);
    Some(server.url(&name))
}

/// A configuration with the store of this run.
pub(crate) fn chosen(config: String) -> String {
    if !is_postgres() || config.contains("[store]") {
        return config;
    }
    let address = database().expect("CHELSERU_TEST_STORE=postgres needs an installed server");
    format!("{config}{SECTION}url = \"{address}\"\nconnections_max = 6\n")
}

/// An edited configuration with the store of the file that it replaces.
pub(crate) fn kept(config: String, file: &Path) -> String {
    let before = std::fs::read_to_string(file).unwrap_or_default();
    match before.find(SECTION) {
        Some(at) if !config.contains("[store]") => format!("{config}{}", &before[at..]),
        _ => config,
    }
}
