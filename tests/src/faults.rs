//! Faults of the disk and the clock under a gateway that is a process of its own.
//!
//! A small library is compiled and preloaded (`faults.c`). The test switches faults on and off while the gateway runs;
//! they act on the files below one folder. Needs Linux with glibc and a C compiler: without them a test says so in one
//! visible line and ends.

use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A number of the control file. The order is that of `faults.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Errno of every write.
    Write,
    /// Errno of every sync.
    Sync,
    /// Errno of every creation of a file.
    Create,
    /// 1: writes and syncs do not return until this is 0 again.
    Stuck,
    /// Seconds that the time of day is ahead.
    WallAhead,
    /// Seconds that the monotonic clock is ahead.
    SteadyAhead,
    /// Counts the calls that failed.
    Hits,
    /// Counts the calls that did not return at once.
    Stalled,
}

const NUMBERS: u64 = 8;

/// errno of Linux: input/output error, no space left on device.
pub const EIO: i64 = 5;
pub const ENOSPC: i64 = 28;

/// A compiled library and its switches.
pub struct Faults {
    library: PathBuf,
    control_path: PathBuf,
    control: std::fs::File,
    root: PathBuf,
}

impl Faults {
    /// Compiles the library into `folder`, for faults of the files below `root`. `None`, and a line on standard error,
    /// where that is not possible.
    pub fn new(folder: &Path, root: &Path) -> Option<Faults> {
        let made = Faults::compile(folder, root);
        if made.is_none() {
            // Not by a macro, whose output the harness would keep for itself.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: injected faults need Linux with glibc and a C compiler"
            );
        }
        made
    }

    fn compile(folder: &Path, root: &Path) -> Option<Faults> {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            return None;
        }
        let (library, source) = (folder.join("faults.so"), folder.join("faults.c"));
        std::fs::write(&source, include_str!("faults.c")).ok()?;
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let compiled = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(&source)
            .arg("-ldl")
            .output()
            .ok()?;
        assert!(compiled.status.success(), "faults.c: {}", String::from_utf8_lossy(&compiled.stderr));
        let control_path = folder.join("faults.control");
        let mut options = std::fs::File::options();
        let control = options.read(true).write(true).create_new(true).open(&control_path).ok()?;
        control.set_len(NUMBERS * 8).ok()?;
        Some(Faults { library, control_path, control, root: root.to_owned() })
    }

    /// Makes a command run with the faults.
    pub fn preload(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library);
        command.env("CHELSERU_FAULTS_CONTROL", &self.control_path);
        command.env("CHELSERU_FAULTS_ROOT", &self.root);
    }

    /// Takes effect at the next call.
    pub fn set(&self, fault: Fault, number: i64) {
        let written = self.control.write_all_at(&number.to_ne_bytes(), fault as u64 * 8);
        written.expect("the control file can be written");
    }

    pub fn get(&self, fault: Fault) -> i64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, fault as u64 * 8).expect("the control file can be read");
        i64::from_ne_bytes(bytes)
    }
}
