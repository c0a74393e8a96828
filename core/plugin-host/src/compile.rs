//! From a component's bytes to compiled code: in this process, or in a child that has limits.
//!
//! Compiling has no bound of its own: a component of a few megabytes may take minutes or gigabytes. A child with limits
//! on CPU, memory and wall time pays for it instead of the process that serves; past a limit it dies alone. The child
//! is the embedder's own program, called with arguments that lead it to [`compile_main`]. It reads a request from
//! standard input and writes the code to standard output, so no file of code passes between the two. It ends when its
//! standard input closes, so it does not outlive its parent, and it is killed when the caller of [`Child::compile`]
//! leaves: a newer edit does not wait for it.
//! Beside calls it computes in turns after half a second (see [`Pacer`]), so that they do not wait.
//! Not here: keeping the code (see `cache`).

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
#[cfg(target_os = "linux")]
use std::sync::mpsc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use wasmtime::Engine;

#[cfg(target_os = "linux")]
use crate::clock::{self, PAUSE, TURN};
use crate::engine::{self, Allocation};
use crate::plugin::LoadError;
use crate::text::{TEXT_CHARS_MAX, error_text, escaped};

/// Compiled code is about ten times its component; more is not taken.
const CODE_BYTES_MAX: u64 = 512 << 20;
/// The wall time of a child is this many times its CPU time: a busy machine is no fault of the component.
const WALL_FACTOR: u32 = 5;
/// And at least this long.
const WALL_TIME_MIN: Duration = Duration::from_secs(60);
/// How far a child steps back behind calls: at 10, about a tenth of a contended core.
const NICE: i32 = 10;
/// A child that takes longer computes in turns. Shipped plugins take a tenth of a second, and 2 s where this program is
/// built without optimisation.
#[cfg(target_os = "linux")]
const LONG: Duration = Duration::from_millis(if cfg!(debug_assertions) { 10_000 } else { 500 });
/// A child has one thread for each such part of its memory, and at most one for each core. A thread takes up to
/// 22 MiB beside the code it works on (measured with one to sixteen), so without this a component that compiles within
/// its limit on two cores would not on sixty-four.
const BYTES_PER_THREAD: u64 = 64 << 20;
/// What a child says first.
const DONE: u8 = 0;
const REFUSED: u8 = 1;
/// Bytes of a child's standard error that are read.
const ERROR_BYTES_MAX: u64 = 4 << 10;
/// What the standard library and the system say when memory is refused.
const NO_MEMORY: [&str; 4] =
    ["memory allocation of", "Cannot allocate memory", "out of memory", "failed to spawn thread"];
/// Bytes of a request before the component.
const HEAD_BYTES: usize = 25;

/// Where components are compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Compiler {
    /// In this process, without limits: for tools and tests that compile what they trust.
    #[default]
    InProcess,
    /// In a child process with limits.
    Child {
        /// The program; it calls [`compile_main`] when it gets `args`.
        program: PathBuf,
        /// Its arguments.
        args: Vec<OsString>,
        /// Environment variables that it gets beside its parent's. An allocator that commits memory in advance has to
        /// be told not to: what is committed counts, used or not.
        env: Vec<(OsString, OsString)>,
    },
}

/// What compiling one component may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// CPU time of the child, all its threads together. Default 60 s. Whole seconds count.
    pub cpu_time_max: Duration,
    /// Memory of the child, in bytes. Default 1 GiB.
    pub memory_bytes_max: u64,
}

impl CompileLimits {
    /// Threads of a child on a machine of `cores`, see [`BYTES_PER_THREAD`].
    fn threads(&self, cores: usize) -> u64 {
        (cores as u64).min(self.memory_bytes_max / BYTES_PER_THREAD).max(1)
    }
}

impl Default for CompileLimits {
    fn default() -> CompileLimits {
        CompileLimits { cpu_time_max: Duration::from_secs(60), memory_bytes_max: 1 << 30 }
    }
}

/// A program that compiles.
pub(crate) struct Child<'a> {
    pub(crate) program: &'a PathBuf,
    pub(crate) args: &'a [OsString],
    pub(crate) env: &'a [(OsString, OsString)],
    pub(crate) limits: CompileLimits,
    pub(crate) allocation: Allocation,
    /// Others wait beside it, see [`Pacer`].
    pub(crate) paced: bool,
}

impl Child<'_> {
    /// Compiles in a child. Dropping the future kills it.
    pub(crate) async fn compile(&self, component: &[u8]) -> Result<Vec<u8>, LoadError> {
        let host = |error: io::Error| LoadError::Host(format!("the compiler {:?}: {error}", self.program));
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let mut child = Command::new(self.program)
            .args(self.args)
            .env("RUST_BACKTRACE", "0")
            .env("RAYON_NUM_THREADS", self.limits.threads(cores).to_string())
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(host)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut input), Some(output), Some(errors)) = pipes else {
            return Err(LoadError::Host("the compiler has no pipes".to_owned()));
        };
        #[cfg(target_os = "linux")]
        let _pacer = child.id().filter(|_| self.paced).and_then(|id| Pacer::start(id, LONG));
        let exchange = async {
            let (mut code, mut said) = (Vec::new(), Vec::new());
            let (mut output, mut errors) = (output.take(CODE_BYTES_MAX + 1), errors.take(ERROR_BYTES_MAX));
            // Both at once: a child that fails early does not read everything.
            let write = async {
                input.write_all(&self.head(component)).await?;
                input.write_all(component).await?;
                input.flush().await
            };
            let (written, read, _) =
                tokio::join!(write, output.read_to_end(&mut code), errors.read_to_end(&mut said));
            // The child's own end says more than a pipe that broke because of it.
            let status = child.wait().await.map_err(host)?;
            drop(input);
            self.answer(status, written.and(read.map(drop)), code, &String::from_utf8_lossy(&said))
        };
        let wall = (self.limits.cpu_time_max * WALL_FACTOR).max(WALL_TIME_MIN);
        match tokio::time::timeout(wall, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(LoadError::CompileTime { limit: wall, wall: true }),
        }
    }

    fn head(&self, component: &[u8]) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[0] = u8::from(self.allocation == Allocation::OnDemand);
        head[1..9].copy_from_slice(&self.limits.memory_bytes_max.to_le_bytes());
        head[9..17].copy_from_slice(&self.limits.cpu_time_max.as_secs().max(1).to_le_bytes());
        head[17..].copy_from_slice(&(component.len() as u64).to_le_bytes());
        head
    }

    fn answer(
        &self,
        status: ExitStatus,
        io: io::Result<()>,
        code: Vec<u8>,
        said: &str,
    ) -> Result<Vec<u8>, LoadError> {
        match (code.first(), status.success()) {
            (Some(&DONE), true) if code.len() as u64 <= CODE_BYTES_MAX => Ok(code[1..].to_vec()),
            (Some(&DONE), true) => Err(LoadError::Host("the compiled code is too large".to_owned())),
            (Some(&REFUSED), true) => {
                let text = String::from_utf8_lossy(&code[1..]);
                Err(LoadError::Malformed(escaped(&text, TEXT_CHARS_MAX)))
            }
            _ => Err(self.death(status, io, said)),
        }
    }

    /// Why the child died: by a signal that one of its limits sends, or otherwise.
    fn death(&self, status: ExitStatus, io: io::Result<()>, said: &str) -> LoadError {
        // Memory that is refused ends some code with a panic or an error and not with an abort.
        if NO_MEMORY.iter().any(|words| said.contains(words)) {
            return LoadError::CompileMemory { limit_bytes: self.limits.memory_bytes_max };
        }
        #[cfg(unix)]
        match std::os::unix::process::ExitStatusExt::signal(&status) {
            // SIGXCPU. A SIGKILL comes from elsewhere (a container out of memory) and says nothing of the component.
            Some(24) => {
                return LoadError::CompileTime { limit: self.limits.cpu_time_max, wall: false };
            }
            // An allocation that fails aborts; so does a stack that may not grow.
            Some(6 | 11 | 7) => {
                return LoadError::CompileMemory { limit_bytes: self.limits.memory_bytes_max };
            }
            _ => {}
        }
        let pipe = io.err().map_or(String::new(), |error| format!(", {error}"));
        let said = escaped(said.trim(), TEXT_CHARS_MAX);
        LoadError::Host(format!("the compiler {:?} ended early ({status}{pipe}) {said}", self.program))
    }
}

/// Stops a child for 0.3 of each 0.5 ms, once it has run for long. A thread that computes without a pause makes calls
/// beside it wait 3 to 4 times as long on two cores, whatever its priority is. The child cannot pause by itself: the
/// compiler gives nothing up before it is done. It leaves one core to the thread that stops it: where both had the same
/// one, turns of 0.2 ms took milliseconds. Ends with the child, and when it is dropped.
#[cfg(target_os = "linux")]
struct Pacer {
    /// Closed when the child is no longer wanted.
    _wanted: mpsc::Sender<()>,
}

#[cfg(target_os = "linux")]
impl Pacer {
    /// `None` where the system cannot do it: then the child goes on as it is.
    fn start(child: u32, after: Duration) -> Option<Pacer> {
        use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
        let id = Pid::from_raw(i32::try_from(child).ok()?)?;
        // Not the number: another process may have it when this one is gone.
        let child = pidfd_open(id, PidfdFlags::empty()).ok()?;
        let (wanted, leaves) = mpsc::channel::<()>();
        let stays = move |wait| matches!(leaves.recv_timeout(wait), Err(mpsc::RecvTimeoutError::Timeout));
        let pace = move || {
            let tell = |signal| pidfd_send_signal(&child, signal).is_ok();
            let mut goes_on = stays(after);
            if goes_on {
                // Its turns end in time only where it does not have this thread's core.
                clock::keep_to_its_core();
                clock::leave_its_core_all(id);
            }
            while goes_on && tell(Signal::STOP) {
                goes_on = stays(PAUSE);
                goes_on = tell(Signal::CONT) && goes_on && stays(TURN);
            }
        };
        std::thread::Builder::new().name("plugin-compiler".to_owned()).spawn(pace).ok()?;
        Some(Pacer { _wanted: wanted })
    }
}

/// The child's side of [`Compiler::Child`]: reads a component from standard input and writes its code to standard
/// output. Call it before anything else in the process, threads above all: its limits are the whole process's.
pub fn compile_main() -> ExitCode {
    match compile_answer() {
        Ok((word, bytes)) => {
            let mut out = io::stdout().lock();
            match out.write_all(&[word]).and_then(|()| out.write_all(&bytes)).and_then(|()| out.flush()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn compile_answer() -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; HEAD_BYTES];
    io::stdin().lock().read_exact(&mut head)?;
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
    limit_self(number(1), number(9))?;
    // Its exact length: a vector that grows holds the old one beside the new one, three times as much for a moment.
    let length = number(17);
    let mut component = Vec::new();
    component
        .try_reserve_exact(usize::try_from(length).map_err(io::Error::other)?)
        .map_err(|_| no_memory())?;
    io::stdin().lock().take(length).read_to_end(&mut component)?;
    // The parent keeps the pipe open for as long as it wants the answer.
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(3);
    });
    let allocation = if head[0] == 0 { Allocation::Pooling } else { Allocation::OnDemand };
    let engine =
        Engine::new(&engine::config_for_code(allocation)).map_err(|e| io::Error::other(error_text(&e)))?;
    Ok(match precompile(&engine, &component) {
        Ok(code) => (DONE, code),
        Err(error) => (REFUSED, error_text(&error).into_bytes()),
    })
}

/// Says what the parent takes for memory that was refused.
fn no_memory() -> io::Error {
    io::Error::other(NO_MEMORY[2])
}

/// Compiles a component. The text format is not for plugins, and compiled code is refused as well.
fn precompile(engine: &Engine, component: &[u8]) -> wasmtime::Result<Vec<u8>> {
    if !component.starts_with(b"\0asm") {
        // In the engine's own words for what is no binary.
        return wasmtime::component::Component::from_binary(engine, component).and_then(|c| c.serialize());
    }
    engine.precompile_component(component)
}

/// Limits this process, and lets others go first.
#[cfg(unix)]
fn limit_self(memory_bytes_max: u64, cpu_secs_max: u64) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, nice, setrlimit};
    let limit = |soft: u64, hard: u64| Rlimit { current: Some(soft), maximum: Some(hard) };
    // A parent that is killed leaves it stopped for ever otherwise: it is stopped now and then (see `Pacer`).
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    setrlimit(Resource::Core, limit(0, 0))?;
    // Data and not address space: allocators and thread stacks reserve far more addresses than they use.
    setrlimit(Resource::Data, limit(memory_bytes_max, memory_bytes_max))?;
    setrlimit(Resource::Cpu, limit(cpu_secs_max, cpu_secs_max + 1))?;
    // Calls are more urgent than compiling; a system that refuses this changes nothing.
    let _ = nice(NICE);
    Ok(())
}

/// Without limits of processes, only the parent's wall clock ends a child.
#[cfg(not(unix))]
fn limit_self(_: u64, _: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_no_more_threads_than_its_memory_bears() {
        let threads = |mib: u64, cores| {
            CompileLimits { memory_bytes_max: mib << 20, ..CompileLimits::default() }.threads(cores)
        };
        assert_eq!([threads(24, 64), threads(128, 1), threads(128, 64)], [1, 1, 2]);
        assert_eq!([threads(1024, 2), threads(1024, 64)], [2, 16]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_paced_child_stands_still_for_most_of_the_time_goes_on_and_is_let_go() {
        use std::time::Instant;
        let endless =
            || std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let stat = |id: u32, field: usize| {
            let text = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
            // Behind the name, which may hold spaces, comes the third field.
            text.rsplit_once(')').unwrap().1.split_whitespace().nth(field - 3).unwrap().to_owned()
        };
        // Hundredths of a second that it computed, fields 14 and 15 of proc_pid_stat(5).
        let computed =
            |id| -> u64 { [14, 15].iter().map(|&field| stat(id, field).parse::<u64>().unwrap()).sum() };
        let mut child = endless();
        let pacer = Pacer::start(child.id(), Duration::ZERO).unwrap();
        let begun = Instant::now();
        while computed(child.id()) < 10 {
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not go on");
            std::thread::sleep(Duration::from_millis(10));
        }
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(160), "0.1 s of computing in {took:?}");
        // It leaves a core to who paces it.
        let cores = |id| rustix::thread::sched_getaffinity(id).unwrap().count();
        let kept = cores(rustix::process::Pid::from_raw(child.id().cast_signed()));
        assert_eq!(kept, (cores(None) - 1).max(1));
        drop(pacer);
        let begun = Instant::now();
        // The last pause ends; nothing stops it any more.
        while (0..20).any(|_| stat(child.id(), 3) == "T") {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is left stopped");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // A child that has gone is no longer told anything.
        assert!(Pacer::start(child.id(), Duration::ZERO).is_none());
    }
}
