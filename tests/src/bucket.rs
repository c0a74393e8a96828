//! An S3-compatible server of one test: the program of `tests/bucket`, which `cargo xtask test` builds.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::process::profile_folder;

pub const ACCESS_KEY: &str = "gateway";
pub const SECRET_KEY: &str = "a-secret-of-tests";
/// The bucket that exists.
pub const BUCKET: &str = "chelseru";

/// The built program.
static PROGRAM: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let name = format!("bucket-server/debug/chelseru-bucket-server{}", std::env::consts::EXE_SUFFIX);
    let program = profile_folder().parent().expect("a folder of all builds").join(name);
    if !program.is_file() {
        // Not by a macro, whose output the harness would keep for itself.
        let program = program.display();
        let _ = writeln!(
            std::io::stderr(),
            "skipped: journeys of a bucket ({program} is not built; cargo xtask test builds it)"
        );
        return None;
    }
    Some(program)
});

/// What the server does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Serve,
    /// Answers 503.
    Fail,
    /// Serves until so many requests arrived, and then does what is asked and does not answer.
    HangAfter(u64),
}

/// A server with one bucket. Dropping it ends it and removes its objects.
pub struct BucketServer {
    root: tempfile::TempDir,
    address: String,
    running: Mutex<Option<Running>>,
}

struct Running {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl BucketServer {
    /// `None`, said in one line, where the program is not built.
    pub fn start() -> Option<BucketServer> {
        PROGRAM.as_ref()?;
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join(BUCKET)).expect("a bucket");
        let mut server = BucketServer { root, address: "127.0.0.1:0".to_owned(), running: Mutex::default() };
        server.restart();
        Some(server)
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The tables of a configuration whose files are in the bucket.
    pub fn config(&self) -> String {
        format!(
            "[files]\nstore = \"s3\"\n[files.s3]\nendpoint = \"{}\"\nbucket = \"{BUCKET}\"\nprefix = \"shop\"\n\
             access_key = \"{ACCESS_KEY}\"\nsecret_key = \"{SECRET_KEY}\"\n",
            self.endpoint()
        )
    }

    /// The names of the bucket's objects, in order.
    pub fn objects(&self) -> Vec<String> {
        let bucket = self.folder();
        let mut objects = Vec::new();
        collect(&bucket, &bucket, &mut objects);
        objects.sort();
        objects
    }

    pub fn object(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder().join(name)).expect("an object")
    }

    /// Requests that arrived so far.
    pub fn asked(&self) -> u64 {
        self.order("asked").parse().expect("a number")
    }

    pub fn set(&self, mode: Mode) {
        self.order(&match mode {
            Mode::Serve => "serve".to_owned(),
            Mode::Fail => "fail".to_owned(),
            Mode::HangAfter(count) => format!("hang-after {count}"),
        });
    }

    /// Does what is asked from now on, and answers nothing.
    pub fn hang(&self) {
        self.set(Mode::HangAfter(0));
    }

    /// Ends the server, with its connections. Its objects stay.
    pub fn stop(&mut self) {
        if let Some(mut running) = self.running().take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
    }

    /// Starts it again at the same address.
    pub fn restart(&mut self) {
        self.stop();
        let mut child = Command::new(PROGRAM.as_ref().expect("it was started"))
            .arg(self.root.path())
            .args([&self.address, ACCESS_KEY, SECRET_KEY])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the bucket server starts");
        let orders = child.stdin.take().expect("piped");
        let mut answers = BufReader::new(child.stdout.take().expect("piped"));
        self.address = line(&mut answers);
        *self.running() = Some(Running { child, orders, answers });
    }

    fn order(&self, order: &str) -> String {
        let mut running = self.running();
        let Running { orders, answers, .. } = running.as_mut().expect("it runs");
        writeln!(orders, "{order}").expect("the bucket server listens");
        line(answers)
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join(BUCKET)
    }
}

impl Drop for BucketServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn line(answers: &mut impl BufRead) -> String {
    let mut line = String::new();
    answers.read_line(&mut line).expect("the bucket server answers");
    line.trim().to_owned()
}

fn collect(root: &Path, folder: &Path, objects: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, objects);
        } else if let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str) {
            objects.push(name.to_owned());
        }
    }
}
