//! A Valkey or Redis server of one test.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Instant;

use crate::PATIENCE;
use crate::certificate::Certificate;

/// Of a server with TLS, in its folder.
const CERTIFICATE: &str = "server.pem";
const KEY: &str = "server.key";

/// The installed server program, by name.
static PROGRAM: LazyLock<Option<&'static str>> = LazyLock::new(|| {
    let runs = |name: &&str| {
        let asked = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let found = ["valkey-server", "redis-server"].into_iter().find(|name| runs(name));
    if found.is_none() {
        eprintln!(
            "skipped: journeys of several gateways (neither valkey-server nor redis-server is installed)"
        );
    }
    found
});

/// A server that keeps nothing on disk. Dropping it ends it.
pub struct BusServer {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    tls: bool,
}

impl BusServer {
    /// `None`, said in one line, where no server is installed.
    pub fn start() -> Option<BusServer> {
        BusServer::start_in(tempfile::tempdir().expect("a folder"), false)
    }

    /// Like [`BusServer::start`], with TLS only, by this certificate.
    pub fn start_with_tls(certificate: &Certificate) -> Option<BusServer> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(CERTIFICATE), &certificate.pem).expect("a file");
        std::fs::write(folder.path().join(KEY), &certificate.key).expect("a file");
        BusServer::start_in(folder, true)
    }

    fn start_in(folder: tempfile::TempDir, tls: bool) -> Option<BusServer> {
        let program = (*PROGRAM)?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let child = run(program, folder.path(), port, tls);
        let server = BusServer { child, port, folder, tls };
        server.wait_until_reached();
        Some(server)
    }

    pub fn url(&self) -> String {
        self.url_at("127.0.0.1")
    }

    /// Its address under another name of this machine.
    pub fn url_at(&self, host: &str) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://{host}:{}/", self.port)
    }

    /// Ends it, like a crash.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again at the same address.
    pub fn restart(&mut self) {
        self.kill();
        self.child = run((*PROGRAM).expect("it was started"), self.folder.path(), self.port, self.tls);
        self.wait_until_reached();
    }

    /// Sends a signal, by its option of `kill`: `-STOP`.
    pub fn signal(&self, name: &str) {
        let asked = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(asked.expect("kill starts").success());
    }

    fn wait_until_reached(&self) {
        let until = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < until, "the bus server does not start");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for BusServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(program: &str, folder: &std::path::Path, port: u16, tls: bool) -> Child {
    let port = port.to_string();
    let listen: &[&str] = match tls {
        false => &["--port", &port],
        true => &[
            "--port",
            "0",
            "--tls-port",
            &port,
            "--tls-cert-file",
            CERTIFICATE,
            "--tls-key-file",
            KEY,
            "--tls-ca-cert-file",
            CERTIFICATE,
            "--tls-auth-clients",
            "no",
        ],
    };
    Command::new(program)
        .args(listen)
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the bus server starts")
}
