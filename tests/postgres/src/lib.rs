//! A PostgreSQL server for the tests of one process.
//!
//! The first test that asks starts it, on a Unix socket in a temporary folder. It lives in a shell of its own, which
//! ends it and removes the folder as soon as this process is gone, however it ends. It does not sync its files: what
//! these tests ask is not whether the disk keeps its promises. Every user is let in without a password.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// Longest wait for an answer of the server, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

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

/// The server of this process; `None`, said in one line, where PostgreSQL is not installed.
pub fn server() -> Option<&'static Server> {
    SERVER.as_ref()
}

pub struct Server {
    folder: PathBuf,
    client: Arc<Client>,
    /// Its end is the end of the server.
    _life: std::process::ChildStdin,
}

impl Server {
    fn start(bin: &Path) -> Server {
        let folder = tempfile::Builder::new().prefix("chelseru-pg-").tempdir().expect("a folder").keep();
        if is_root() {
            // The server refuses to run as root.
            let owned = Command::new("chown").arg("postgres").arg(&folder).status();
            assert!(owned.expect("chown starts").success());
        }
        let script = format!(
            "cd {folder} && {bin}/initdb -U owner -E UTF8 --locale=C --auth=trust --no-sync -D data >log 2>&1 || exit 1
             {bin}/postgres -D data -k {folder} -c listen_addresses= -c fsync=off -c max_connections=400 \
                 -c shared_buffers=32MB -c autovacuum=off >>log 2>&1 &
             read end
             kill -QUIT $!
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
        let life = child.stdin.take().expect("piped");
        let until = Instant::now() + PATIENCE;
        let client = loop {
            match on_runtime(connected(pairs(&folder, "postgres"))) {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < until, "the server does not answer: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        Server { folder, client: Arc::new(client), _life: life }
    }

    /// The address of a database, as `key=value` pairs.
    pub fn pairs(&self, database: &str) -> String {
        pairs(&self.folder, database)
    }

    /// The address of a database, as a URL with a password that nobody asks for.
    pub fn url(&self, database: &str) -> String {
        let host = self.folder.display().to_string().replace('/', "%2F");
        format!("postgresql://owner:pass-word@{host}/{database}")
    }

    /// Runs statements on the server's own database.
    pub fn run(&self, statements: &str) {
        self.try_run(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    pub fn try_run(&self, statements: &str) -> Result<(), tokio_postgres::Error> {
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

fn pairs(folder: &Path, database: &str) -> String {
    format!("host={} user=owner dbname={database}", folder.display())
}

async fn connected(address: String) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Runs a future that may outlive the caller's runtime, while this thread waits for it.
pub fn on_runtime<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    RUNTIME.spawn(async move {
        let _ = sender.send(future.await);
    });
    receiver.recv().expect("the future does not panic")
}

/// The folder of the newest installed server's programs.
fn installed() -> Option<PathBuf> {
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
