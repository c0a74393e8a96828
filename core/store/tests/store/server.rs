//! A PostgreSQL server for the tests of this process, and a database for each store.
//!
//! The server is started by the first test that asks for one, in a temporary folder, and lives in its own shell, which
//! ends it and removes the folder as soon as this process is gone, however it ends. It does not sync its files: what
//! these tests ask is not whether the disk keeps its promises.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use chelseru_store::{Store, StoreError, StoreOptions};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// Longest wait for the server's first answer, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// A database with all tables, which the others are copies of.
const TEMPLATE: &str = "store_template";

/// Stores outlive the runtime of the test that opens them, for as long as they have to.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
});

static SERVER: LazyLock<Option<Server>> = LazyLock::new(|| {
    let started = installed().map(|bin| Server::start(&bin));
    if started.is_none() {
        eprintln!("skipped: the tests over PostgreSQL (no initdb in /usr/lib/postgresql)");
    }
    started
});

pub(crate) struct Server {
    folder: PathBuf,
    port: u16,
    client: Arc<Client>,
    /// Orders to the shell that runs the server; its end is the end of the server.
    orders: Mutex<ChildStdin>,
    /// The shell. Nobody waits for it: it ends after this process.
    _shell: Child,
}

/// The server of this process, where PostgreSQL is installed.
pub(crate) fn server() -> Option<&'static Server> {
    SERVER.as_ref()
}

impl Server {
    /// A server of one test, which may do with it what it likes.
    pub(crate) fn own() -> Option<Server> {
        server()?;
        installed().map(|bin| Server::start(&bin))
    }

    fn start(bin: &Path) -> Server {
        let folder = tempfile::Builder::new().prefix("chelseru-pg-").tempdir().unwrap().keep();
        if is_root() {
            // The server refuses to run as root.
            assert!(Command::new("chown").arg("postgres").arg(&folder).status().unwrap().success());
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let script = format!(
            "cd {folder} && {bin}/initdb -U owner -E UTF8 --locale=C --auth-local=trust \
                 --auth-host=scram-sha-256 --no-sync -D data >log 2>&1 || exit 1
             start() {{
                 {bin}/postgres -D data -k {folder} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off \
                     -c max_connections=400 -c shared_buffers=32MB -c autovacuum=off >>log 2>&1 &
                 server=$!
             }}
             start
             while read order; do
                 case $order in
                     crash) kill -QUIT $server; wait $server ;;
                     start) start ;;
                 esac
             done
             kill -QUIT $server
             wait
             cd /
             rm -rf {folder}",
            folder = folder.display(),
            bin = bin.display()
        );
        let mut child = as_server_user()
            .args(["sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let orders = Mutex::new(child.stdin.take().unwrap());
        let client = Arc::new(reached(&folder, port));
        let server = Server { folder, port, client, orders, _shell: child };
        server.make(TEMPLATE, "template1");
        drop(on_runtime(open(server.url(TEMPLATE), options())).unwrap());
        server.wait_until_left(TEMPLATE);
        server
    }

    /// Ends the server at once, as a crash does: what it acknowledged is in its log.
    pub(crate) fn crash(&self) {
        self.order("crash");
    }

    /// Starts the server again after a crash.
    pub(crate) fn restart(&mut self) {
        self.order("start");
        self.client = Arc::new(reached(&self.folder, self.port));
    }

    fn order(&self, order: &str) {
        writeln!(self.orders.lock().unwrap(), "{order}").unwrap();
    }

    /// Where the server listens for programs on this machine.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{}", self.port))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self, database: &str) -> String {
        url_in(&self.folder, self.port, database)
    }

    /// Statements on the server's own database.
    pub(crate) fn run(&self, statements: &str) {
        self.try_run(statements).unwrap();
    }

    fn try_run(&self, statements: &str) -> Result<(), tokio_postgres::Error> {
        let (client, statements) = (Arc::clone(&self.client), statements.to_owned());
        on_runtime(async move { client.batch_execute(&statements).await })
    }

    /// The first column of the only row of a query on the server's own database.
    pub(crate) fn count(&self, query: String) -> i64 {
        let client = Arc::clone(&self.client);
        on_runtime(async move { client.query_one(&query, &[]).await }).unwrap().get(0)
    }

    /// A copy of the database with all tables.
    pub(crate) fn new_database(&self) -> String {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let name = format!("store_{}", LAST.fetch_add(1, Ordering::Relaxed));
        self.make(&name, TEMPLATE);
        name
    }

    fn make(&self, name: &str, from: &str) {
        self.run(&format!("create database {name} template {from}"));
    }

    /// A database is copied only while nobody uses it.
    fn wait_until_left(&self, database: &str) {
        let until = Instant::now() + PATIENCE;
        while self.count(format!("select count(*) from pg_stat_activity where datname = '{database}'")) > 0 {
            assert!(Instant::now() < until, "{database} is still in use");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A database of one test, removed after it.
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) server: &'static Server,
}

impl Database {
    pub(crate) fn new() -> Database {
        let server = server().expect("the engine is tested where a server is installed");
        Database { name: server.new_database(), server }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url(&self.name)
    }

    pub(crate) fn open(&self) -> Store {
        opened(&self.url(), options()).unwrap()
    }

    /// One of several stores that use the database at the same time.
    pub(crate) fn open_shared(&self) -> Store {
        opened(&self.url(), StoreOptions { shared: true, ..options() }).unwrap()
    }

    /// Statements of somebody who knows the tables.
    pub(crate) fn run(&self, statements: &str) -> Result<(), tokio_postgres::Error> {
        let (url, statements) = (self.url(), format!("set search_path to chelseru; {statements}"));
        on_runtime(async move { connected(url).await?.batch_execute(&statements).await })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("drop database if exists {} with (force)", self.name);
        if let Err(error) = self.server.try_run(&statement) {
            eprintln!("{}: {error}", self.name);
        }
    }
}

pub(crate) fn options() -> StoreOptions {
    StoreOptions { connections_max: 4, connection_wait: PATIENCE, ..StoreOptions::default() }
}

/// Opens a store on the runtime of the stores.
pub(crate) fn opened(url: &str, options: StoreOptions) -> Result<Store, StoreError> {
    on_runtime(open(url.to_owned(), options))
}

async fn open(url: String, options: StoreOptions) -> Result<Store, StoreError> {
    Store::open_postgres(&url, options).await
}

pub(crate) async fn connected(url: String) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn url_in(folder: &Path, port: u16, database: &str) -> String {
    format!("host={} port={port} user=owner dbname={database}", folder.display())
}

/// Waits for the server's first answer.
fn reached(folder: &Path, port: u16) -> Client {
    let until = Instant::now() + PATIENCE;
    loop {
        match on_runtime(connected(url_in(folder, port, "postgres"))) {
            Ok(client) => return client,
            Err(error) => assert!(Instant::now() < until, "the server does not answer: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a future on the runtime of the stores while this thread waits.
pub(crate) fn on_runtime<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    RUNTIME.spawn(async move {
        let _ = sender.send(future.await);
    });
    receiver.recv().expect("the future does not panic")
}

/// The folder of the newest installed server's programs.
pub(crate) fn installed() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.into_iter().rev().find(|folder| folder.join("initdb").exists())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn as_server_user() -> Command {
    if !is_root() {
        return Command::new("env");
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    command
}
