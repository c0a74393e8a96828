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
        let mut command = Command::new(binary());
        command.arg("serve").stderr(stderr);
        Served::start_command(dir, command)
    }

    /// Like [`Served::start`], by a command that ends in `chelseru serve`.
    pub fn start_command(dir: &Path, mut command: Command) -> Served {
        let mut child = command.current_dir(dir).stdout(Stdio::piped()).spawn().expect("the command starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = lines.next().expect("a first line").expect("text");
        let mut urls = line.split_whitespace().filter(|word| word.starts_with("http://"));
        let mut url = || urls.next().expect("two addresses").trim_end_matches('/').to_owned();
        let (url, operator_url) = (url(), url());
        // Reads the pipe to its end, so the gateway never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Served { child, url, operator_url }
    }

    /// Asks the process to stop, as a supervisor does.
    #[cfg(unix)]
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends a signal, by its option of `kill`: `-HUP`.
    pub fn signal(&self, name: &str) {
        let asked = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(asked.expect("kill starts").success());
    }

    /// Waits for the process to end by itself, and returns its exit status. Panics after [`PATIENCE`](crate::PATIENCE).
    pub async fn ended(&mut self) -> std::process::ExitStatus {
        let until = std::time::Instant::now() + crate::PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(std::time::Instant::now() < until, "the process does not end");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
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
