//! PostgreSQL servers for the tests of one process.
//!
//! The first test that asks starts the shared one, in a temporary folder. A server lives in a shell of its own, which
//! ends it and removes the folder as soon as this process is gone, however it ends. It does not sync its files: what
//! these tests ask is not whether the disk keeps its promises. Over its Unix socket it lets every user in without a
//! password; over TCP it asks for one.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// Longest wait for an answer of the server, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// Free bytes of a file system in memory from which it takes servers. One server needs up to 1 GiB of log.
const MEMORY_MIN: u64 = 4 << 30;

/// Ports of servers. Below those that a system gives to whoever asks for any.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// What outlives the runtime of a test runs here.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
});

static SERVER: LazyLock<Option<Server>> = LazyLock::new(|| {
    let started = installed().map(|bin| Server::start(&bin));
    if started.is_none() {
        eprintln!("skipped: the tests over PostgreSQL (no initdb in /usr/lib/postgresql)");
    }
    started
});

/// The shared server of this process; `None`, said in one line, where PostgreSQL is not installed.
pub fn server() -> Option<&'static Server> {
    SERVER.as_ref()
}

pub struct Server {
    folder: PathBuf,
    port: u16,
    client: Arc<Client>,
    /// Orders to the shell that runs the server; its end is the end of the server.
    orders: Mutex<ChildStdin>,
    /// The shell. Nobody waits for it: it ends after this process.
    _shell: Child,
}

impl Server {
    /// A server of one test, which may do with it what it likes.
    pub fn own() -> Option<Server> {
        server()?;
        installed().map(|bin| Server::start(&bin))
    }

    /// Another server that follows this one, which acknowledges nothing from now on that the other one has not.
    pub fn standby(&self) -> Server {
        let bin = installed().expect("this one runs");
        let (folder, port) = (self.folder.display(), self.port);
        let copy = format!(
            "{}/pg_basebackup -h {folder} -p {port} -U owner -D data -R --no-sync -c fast",
            bin.display()
        );
        let standby = Server::start_as(&bin, &copy, None);
        self.run("alter system set synchronous_standby_names = '*'");
        self.run("select pg_reload_conf()");
        let until = Instant::now() + PATIENCE;
        while self.count("select count(*) from pg_stat_replication where sync_state = 'sync'".to_owned()) == 0
        {
            assert!(Instant::now() < until, "the standby does not follow");
            std::thread::sleep(Duration::from_millis(20));
        }
        standby
    }

    /// Makes a standby the server that writes.
    pub fn promote(&self) {
        // What it copied says that it waits for a standby of its own.
        self.run("select pg_promote()");
        self.run("alter system reset synchronous_standby_names");
        self.run("select pg_reload_conf()");
    }

    /// A server of one test that offers TLS with this certificate and key, in PEM. The user is `owner`, the password
    /// that of [`Server::url`].
    pub fn with_tls(certificate: &str, key: &str) -> Option<Server> {
        server()?;
        let server = Server::start_with(&installed()?, Some((certificate, key)));
        server.run("alter role owner password 'pass-word'");
        Some(server)
    }

    fn start(bin: &Path) -> Server {
        Server::start_with(bin, None)
    }

    fn start_with(bin: &Path, tls: Option<(&str, &str)>) -> Server {
        let init = format!(
            "{}/initdb -U owner -E UTF8 --locale=C --auth-local=trust --auth-host=scram-sha-256 --no-sync -D data",
            bin.display()
        );
        Server::start_as(bin, &init, tls)
    }

    /// `make` is the command that makes the folder `data`.
    fn start_as(bin: &Path, make: &str, tls: Option<(&str, &str)>) -> Server {
        // Another test's server may take the port between its choice and the start.
        std::iter::repeat_with(|| Server::try_start_as(bin, make, tls)).flatten().next().expect("tried again")
    }

    /// `None` when the port is taken.
    fn try_start_as(bin: &Path, make: &str, tls: Option<(&str, &str)>) -> Option<Server> {
        let folder =
            tempfile::Builder::new().prefix("chelseru-pg-").tempdir_in(place()).expect("a folder").keep();
        if let Some((certificate, key)) = tls {
            std::fs::write(folder.join("server.crt"), certificate).expect("a file");
            std::fs::write(folder.join("server.key"), key).expect("a file");
        }
        // The server wants a key that is its own and closed to others.
        let (keep, ssl) = match tls {
            Some(_) => (" && install -m 600 server.crt server.key data", "-c ssl=on"),
            None => ("", ""),
        };
        if is_root() {
            // The server refuses to run as root.
            let owned = Command::new("chown").arg("postgres").arg(&folder).status();
            assert!(owned.expect("chown starts").success());
        }
        let port = free_port();
        let script = format!(
            "cd {folder} && {make} >log 2>&1{keep} || exit 1
             start() {{
                 {bin}/postgres -D data -k {folder} -p {port} -c listen_addresses=127.0.0.1 -c fsync=off \
                     -c max_connections=400 -c shared_buffers=32MB -c autovacuum=off {ssl} >>log 2>&1 &
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
            .expect("a shell starts");
        let orders = Mutex::new(child.stdin.take().expect("piped"));
        match reached(&folder, port) {
            Some(client) => Some(Server { folder, port, client: Arc::new(client), orders, _shell: child }),
            None => {
                drop(orders);
                child.wait().expect("the shell ends with its orders");
                None
            }
        }
    }

    /// Ends the server at once, as a crash does: what it acknowledged is in its log.
    pub fn crash(&self) {
        self.order("crash");
    }

    /// Starts the server again after a crash.
    pub fn restart(&mut self) {
        self.order("start");
        self.client = Arc::new(reached(&self.folder, self.port).expect("the port was its own a moment ago"));
    }

    fn order(&self, order: &str) {
        writeln!(self.orders.lock().expect("nobody panics with it"), "{order}").expect("the shell reads");
    }

    /// Where the server listens for programs on this machine.
    pub fn socket(&self) -> PathBuf {
        self.folder.join(format!(".s.PGSQL.{}", self.port))
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a database over the socket, as `key=value` pairs.
    pub fn pairs(&self, database: &str) -> String {
        pairs(&self.folder, self.port, database)
    }

    /// The same address as a URL, with a password that nobody asks for.
    pub fn url(&self, database: &str) -> String {
        let host = self.folder.display().to_string().replace('/', "%2F");
        format!("postgresql://owner:pass-word@{host}:{}/{database}", self.port)
    }

    /// Runs statements on the server's own database.
    pub fn run(&self, statements: &str) {
        self.try_run(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    fn try_run(&self, statements: &str) -> Result<(), tokio_postgres::Error> {
        let (client, statements) = (Arc::clone(&self.client), statements.to_owned());
        on_runtime(async move { client.batch_execute(&statements).await })
    }

    /// The first column of the only row of a query on the server's own database.
    pub fn count(&self, query: String) -> i64 {
        let client = Arc::clone(&self.client);
        on_runtime(async move { client.query_one(&query, &[]).await }).expect("one row").get(0)
    }

    /// Makes a database like another one.
    pub fn make(&self, name: &str, like: &str) {
        self.run(&format!("create database {name} template {like}"));
    }

    /// Waits until nobody uses a database; only such a one can be copied.
    pub fn wait_until_left(&self, database: &str) {
        let until = Instant::now() + PATIENCE;
        while self.count(format!("select count(*) from pg_stat_activity where datname = '{database}'")) > 0 {
            assert!(Instant::now() < until, "{database} is still in use");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Removes a database and ends its connections.
    pub fn remove(&self, database: &str) {
        if let Err(error) = self.try_run(&format!("drop database if exists {database} with (force)")) {
            eprintln!("{database}: {error}");
        }
    }
}

fn pairs(folder: &Path, port: u16, database: &str) -> String {
    format!("host={} port={port} user=owner dbname={database}", folder.display())
}

fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let own = u16::try_from(std::process::id() % 9_973).expect("below 9,973");
    loop {
        let n = own.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + n % (PORTS.end - PORTS.start);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits for the server's first answer. `None` when another program has its port.
fn reached(folder: &Path, port: u16) -> Option<Client> {
    let until = Instant::now() + PATIENCE;
    loop {
        let error = match on_runtime(connected(pairs(folder, port, "postgres"))) {
            Ok(client) => return Some(client),
            Err(error) => error,
        };
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        if log.contains("Address already in use") {
            return None;
        }
        assert!(Instant::now() < until, "the server does not answer: {error}\n{log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A client of a database, for tests that look behind the store.
///
/// # Errors
///
/// Those of connecting.
pub async fn connected(address: String) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Why the server did not run something.
pub type Refused = tokio_postgres::Error;

/// Runs statements on a database.
///
/// # Errors
///
/// Those of connecting and of the statements.
pub fn run_in(address: String, statements: String) -> Result<(), Refused> {
    on_runtime(async move { connected(address).await?.batch_execute(&statements).await })
}

/// Runs a future that may outlive the caller's runtime, while this thread waits for it.
pub fn on_runtime<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    RUNTIME.spawn(async move {
        let _ = sender.send(future.await);
    });
    receiver.recv().expect("the future does not panic")
}

/// Whether PostgreSQL is installed.
pub fn is_installed() -> bool {
    installed().is_some()
}

/// The folder of the newest installed server's programs.
fn installed() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    folders.sort();
    folders.into_iter().rev().find(|folder| folder.join("initdb").exists())
}

/// In memory where it has room: every database of a test is 300 files, and their folder on a disk costs more than all
/// statements.
fn place() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let free = rustix::fs::statvfs(&memory).map_or(0, |system| system.f_bavail * system.f_frsize);
    if free >= MEMORY_MIN { memory } else { std::env::temp_dir() }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// In a session of its own, so that whatever ends the tests does not end the shell before it has cleaned up.
fn as_server_user() -> Command {
    let mut command = Command::new("setsid");
    if is_root() {
        command.args(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command
}
