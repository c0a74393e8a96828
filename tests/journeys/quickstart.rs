//! The quick starts of `examples/`, run as a newcomer runs them, over a network that breaks.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chelseru_tests::{Answer, PATIENCE, TestGateway, root};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// A network between a client and a gateway, which the test cuts and mends.
pub(crate) struct Network {
    pub(crate) url: String,
    open: watch::Sender<bool>,
    /// Connections that found it cut.
    pub(crate) refused: Arc<AtomicUsize>,
}

impl Network {
    pub(crate) async fn to(gateway: &TestGateway) -> Network {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let here = listener.local_addr().expect("an address");
        let there = gateway.url.trim_start_matches("http://").split('/').next().expect("a host").to_owned();
        let url = gateway.url.replace(&there, &here.to_string());
        let (open, watched) = watch::channel(true);
        let refused = Arc::<AtomicUsize>::default();
        let counted = refused.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if !*watched.borrow() {
                    counted.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                let (there, mut watched) = (there.clone(), watched.clone());
                tokio::spawn(async move {
                    let carried = async {
                        let mut server = TcpStream::connect(&there).await?;
                        tokio::io::copy_bidirectional(&mut client, &mut server).await
                    };
                    // A cut drops both connections.
                    tokio::select! {
                        _ = carried => {}
                        _ = watched.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Network { url, open, refused }
    }

    pub(crate) fn set_open(&self, open: bool) {
        self.open.send(open).expect("the network is there");
    }
}

/// A program, and the lines that it prints.
struct Program {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Program {
    fn start(command: &mut Command) -> Program {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            stdout.lines().map_while(Result::ok).all(|line| sender.send(line).is_ok())
        });
        Program { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.recv()).await;
        line.expect("a line comes").expect("the program runs")
    }

    /// Waits until the program ends by itself; whether it reports success.
    async fn ends(&mut self) -> bool {
        let end = tokio::time::timeout(PATIENCE, self.lines.recv()).await;
        assert_eq!(end.expect("it ends"), None);
        self.child.wait().expect("a child").success()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Node with a WebSocket of its own; `None` where it is not installed.
fn node() -> Option<Command> {
    let command = || {
        let mut command = Command::new("node");
        command.arg("--experimental-websocket").arg("--no-warnings");
        command
    };
    let found = command().args(["-e", "process.exit(typeof WebSocket === 'function' ? 0 : 1)"]).status();
    found.is_ok_and(|status| status.success()).then(command)
}

/// Python with the package `websockets`: `CHELSERU_PYTHON`, or the usual one; `None` where it is not installed.
fn python() -> Option<Command> {
    let name = std::env::var("CHELSERU_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let quiet = |mut command: Command| command.stderr(Stdio::null()).status();
    let mut tried = Command::new(&name);
    tried.args(["-c", "import sys, websockets.asyncio.client; sys.exit(sys.version_info < (3, 10))"]);
    quiet(tried).is_ok_and(|status| status.success()).then(|| Command::new(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_javascript_quick_start_logs_in_pays_and_chats_over_a_broken_network() {
    match node() {
        Some(node) => try_out(node, Some("examples/javascript/quickstart.mjs")).await,
        None => {
            println!("not run: node with WebSocket is not installed, so examples/javascript is not tried")
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_quick_start_logs_in_pays_and_chats_over_a_broken_network() {
    match python() {
        Some(python) => try_out(python, Some("examples/python/quickstart.py")).await,
        None => println!("not run: Python with websockets is not installed, so examples/python is not tried"),
    }
}

/// Java with a Kotlin compiler, the standard library and kotlinx-serialization-json in the class path that
/// `CHELSERU_KOTLIN` names; `None` without it.
fn kotlin() -> Option<(String, tempfile::TempDir)> {
    let path = std::env::var("CHELSERU_KOTLIN").ok()?;
    let out = tempfile::tempdir().expect("a folder");
    let compiled = Command::new("java")
        .args([
            "-cp",
            &path,
            "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler",
            "-no-stdlib",
            "-no-reflect",
            "-cp",
            &path,
        ])
        .arg("-d")
        .arg(out.path())
        .arg(root().join("examples/kotlin/Quickstart.kt"))
        .status();
    assert!(compiled.is_ok_and(|status| status.success()), "the quick start compiles");
    Some((format!("{}:{path}", out.path().display()), out))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kotlin_quick_start_logs_in_pays_and_chats_over_a_broken_network() {
    match tokio::task::spawn_blocking(kotlin).await.expect("no panic") {
        Some((path, _out)) => {
            let mut java = Command::new("java");
            java.args(["-cp", &path, "QuickstartKt"]);
            try_out(java, None).await;
        }
        None => println!("not run: CHELSERU_KOTLIN is not set, so examples/kotlin is not tried"),
    }
}

/// Dart 3; `None` where it is not installed.
fn dart() -> Option<Command> {
    let found = Command::new("dart").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success()).then(|| {
        let mut dart = Command::new("dart");
        dart.arg("run");
        dart
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dart_quick_start_logs_in_pays_and_chats_over_a_broken_network() {
    match dart() {
        Some(dart) => try_out(dart, Some("examples/dart/quickstart.dart")).await,
        None => println!("not run: dart is not installed, so examples/dart is not tried"),
    }
}

async fn try_out(mut interpreter: Command, script: Option<&str>) {
    let config = "[auth]\notp_test_numbers = { \"09120000002\" = \"482913\" }\n";
    let gateway = Arc::new(TestGateway::start(config).await);
    let network = Network::to(&gateway).await;
    let peer = gateway.login("09120000001").await.access;
    let arguments = [network.url.as_str(), "09120000002", "482913", "1"];
    interpreter.args(script.map(|script| root().join(script))).args(arguments);
    let mut program = Program::start(&mut interpreter);
    assert_eq!(program.line().await, "logged in as 2");
    let pay = program.line().await;
    assert!(pay.starts_with("pay at http://"), "{pay}");
    assert_eq!(program.line().await, "1 2: hello");

    let rooms = gateway.get("/chat/chatrooms/", Some(&peer)).await;
    let room = rooms.body[0]["id"].clone();
    let post = async |text: &str| {
        let body: Value = json!({"chat_room": room, "text": text});
        let request = gateway.client.post(gateway.at("/chat/messages/")).bearer_auth(&peer);
        assert_eq!(Answer::of(request.json(&body)).await.status, 201);
    };
    post("one").await;
    assert_eq!(program.line().await, "2 1: one");
    // The network is gone while two messages are sent; nothing is lost and nothing comes twice.
    network.set_open(false);
    post("two").await;
    post("three").await;
    // At least one try to reconnect fails.
    let until = Instant::now() + PATIENCE;
    while network.refused.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < until, "the client does not try again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    network.set_open(true);
    for expected in ["3 1: two", "4 1: three"] {
        assert_eq!(program.line().await, expected);
    }
    post("bye").await;
    assert_eq!(program.line().await, "5 1: bye");
    assert!(program.ends().await);
}
