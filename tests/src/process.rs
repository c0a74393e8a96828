//! A gateway as a separate process, for tests that kill it or test its command line.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The folder of this build's programs: the bench program's folder, or the parent of a test program's folder.
pub fn profile_folder() -> PathBuf {
    let own = std::env::current_exe().expect("the program's own path");
    let folder = own.parent().expect("a program is in a folder");
    match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().expect("deps/ is in a folder").to_owned(),
        _ => folder.to_owned(),
    }
}

/// The built `chelseru` command.
pub fn binary() -> PathBuf {
    let binary = profile_folder().join(format!("chelseru{}", std::env::consts::EXE_SUFFIX));
    let shown = binary.display();
    assert!(binary.is_file(), "{shown} is not built; run `cargo build --workspace --bin chelseru` first");
    binary
}

/// Runs a `chelseru` command in a folder until it ends.
pub fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).current_dir(dir).output().expect("the command starts")
}

/// `chelseru serve` in a folder. Dropping kills it.
pub struct Served {
    pub child: Child,
    /// Base address of the API, without a slash at the end.
    pub url: String,
    /// Base address of the operators' routes, without a slash at the end.
    pub operator_url: String,
}

impl Served {
    /// Starts the gateway. Returns when it prints its address.
    pub fn start(dir: &Path) -> Served {
        Served::start_with(dir, Stdio::inherit())
    }

    /// Like [`Served::start`], with the log in a file.
    pub fn start_logging(dir: &Path, log: &Path) -> Served {
        Served::start_with(dir, std::fs::File::create(log).expect("a file").into())
    }

    fn start_with(dir: &Path, stderr: Stdio) -> Served {
        let mut child = Command::new(binary())
            .arg("serve")
            .current_dir(dir)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("the command starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next().expect("a first line").expect("text");
        let mut urls = line.split_whitespace().filter(|word| word.starts_with("http://"));
        let mut url = || urls.next().expect("two addresses").trim_end_matches('/').to_owned();
        let (url, operator_url) = (url(), url());
        // Reads the pipe to its end, so the gateway never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Served { child, url, operator_url }
    }

    /// Kills the process, like a crash.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
