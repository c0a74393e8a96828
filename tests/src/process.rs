//! A gateway as a process of its own, for tests that kill it or look at its command line.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// The built `chelseru` command: beside the bench program, or one folder above a test program.
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().expect("the program's own path");
    let name = format!("chelseru{}", std::env::consts::EXE_SUFFIX);
    let places: Vec<PathBuf> = own.ancestors().skip(1).take(2).map(|folder| folder.join(&name)).collect();
    let binary = places.iter().find(|place| place.is_file());
    binary
        .unwrap_or_else(|| panic!("none of {places:?} is built; run `cargo build --workspace` first"))
        .clone()
}

/// Runs a command of `chelseru` to its end, in a folder.
pub fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).current_dir(dir).output().expect("the command starts")
}

/// `chelseru serve` in a folder; killed when dropped.
pub struct Served {
    pub child: Child,
    /// Base address of the API, without a slash at the end.
    pub url: String,
}

impl Served {
    /// Returns when it says where it listens.
    pub fn start(dir: &Path) -> Served {
        Served::start_with(dir, Stdio::inherit())
    }

    /// As [`Served::start`], with its log in a file.
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
        let url =
            line.split_whitespace().find(|word| word.starts_with("http://")).expect("an address").to_owned();
        // The pipe is read to its end, so that the gateway never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Served { child, url: url.trim_end_matches('/').to_owned() }
    }

    /// Ends it at once, as a crash does.
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
