//! From a component's bytes to compiled code: in this process, or in a child that has limits.
//!
//! Compiling has no bound of its own: a component of a few megabytes may take minutes or gigabytes. A child with limits
//! on CPU, memory and wall time pays for it instead of the process that serves; past a limit it dies alone. The child
//! is the embedder's own program, called with arguments that lead it to [`compile_main`]. It reads a request from
//! standard input and writes the code to standard output, so no file of code passes between the two. It ends when its
//! standard input closes, so it does not outlive its parent, and it is killed when the caller of [`Child::compile`]
//! leaves: a newer edit does not wait for it.
//! Beside calls it leaves a core, and computes in short turns and in a session of its own (see [`step_back`]).
//! Not here: keeping the code (see `cache`).

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use wasmtime::Engine;

use crate::engine::{self, Allocation};
use crate::plugin::LoadError;
use crate::scheduler;
use crate::text::{TEXT_CHARS_MAX, error_text, escaped};

/// Compiled code is about ten times its component; more is not taken.
const CODE_BYTES_MAX: u64 = 512 << 20;
/// The wall time of a child is this many times its CPU time: a busy machine is no fault of the component.
const WALL_FACTOR: u32 = 5;
/// And at least this long.
const WALL_TIME_MIN: Duration = Duration::from_secs(60);
/// How far a child's threads step back (`nice`). Beside calls, the turns do more.
const NICE: i32 = 2;
/// How far a child steps back as a group of its own: at 10, about a tenth of a contended core.
const GROUP_NICE: i32 = 10;
/// A child has one thread for each such part of its memory, and at most one for each core that it may have. A thread
/// takes up to 22 MiB beside the code it works on (measured with one to sixteen), so without this a component that
/// compiles within its limit on two cores would not on sixty-four.
const BYTES_PER_THREAD: u64 = 64 << 20;
/// How long a thread computes at once beside calls.
const TURN: Duration = Duration::from_micros(300);
/// The stack of a thread. It counts as the child's memory.
const STACK_BYTES: usize = 4 << 20;
/// What a child says first.
const DONE: u8 = 0;
const REFUSED: u8 = 1;
/// Bytes of a child's standard error that are read.
const ERROR_BYTES_MAX: u64 = 4 << 10;
/// What the standard library and the system say when memory is refused.
const NO_MEMORY: [&str; 4] =
    ["memory allocation of", "Cannot allocate memory", "out of memory", "failed to spawn thread"];
/// Bytes of a request before the component: two flags, the limits and the component's length.
const HEAD_BYTES: usize = 26;

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
    /// Threads of a child on a machine of `cores`, see [`BYTES_PER_THREAD`]. Beside calls it leaves them a core.
    fn threads(&self, cores: usize, beside_calls: bool) -> u64 {
        let cores = cores.saturating_sub(usize::from(beside_calls)) as u64;
        cores.min(self.memory_bytes_max / BYTES_PER_THREAD).max(1)
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
    /// Calls may come while it compiles.
    pub(crate) beside_calls: bool,
}

impl Child<'_> {
    /// Compiles in a child. Dropping the future kills it.
    pub(crate) async fn compile(&self, component: &[u8]) -> Result<Vec<u8>, LoadError> {
        let host = |error: io::Error| LoadError::Host(format!("the compiler {:?}: {error}", self.program));
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let mut child = Command::new(self.program)
            .args(self.args)
            .env("RUST_BACKTRACE", "0")
            .env("RAYON_NUM_THREADS", self.limits.threads(cores, self.beside_calls).to_string())
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
        head[1] = u8::from(self.beside_calls);
        head[2..10].copy_from_slice(&self.limits.memory_bytes_max.to_le_bytes());
        head[10..18].copy_from_slice(&self.limits.cpu_time_max.as_secs().max(1).to_le_bytes());
        head[18..].copy_from_slice(&(component.len() as u64).to_le_bytes());
        head
    }

    fn answer(
        &self,
        status: ExitStatus,
        io: io::Result<()>,
        mut code: Vec<u8>,
        said: &str,
    ) -> Result<Vec<u8>, LoadError> {
        match (code.first(), status.success()) {
            (Some(&DONE), true) if code.len() as u64 <= CODE_BYTES_MAX => {
                // In place: a copy would be up to half a GiB more for a moment.
                code.remove(0);
                Ok(code)
            }
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
    limit_self(number(2), number(10))?;
    // Its exact length: a vector that grows holds the old one beside the new one, three times as much for a moment.
    let length = number(18);
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
    // All of it in threads that the engine's own library makes, so that each of them knows its turns.
    let beside_calls = head[1] != 0;
    let threads = rayon::ThreadPoolBuilder::new()
        .stack_size(STACK_BYTES)
        .start_handler(move |_| {
            if beside_calls {
                scheduler::give_way_every(TURN);
            }
        })
        .build()
        .map_err(|_| no_memory())?;
    Ok(match threads.install(|| precompile(&engine, &component)) {
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
    use rustix::process::{Resource, Rlimit, setrlimit};
    let limit = |soft: u64, hard: u64| Rlimit { current: Some(soft), maximum: Some(hard) };
    setrlimit(Resource::Core, limit(0, 0))?;
    // Data and not address space: allocators and thread stacks reserve far more addresses than they use.
    setrlimit(Resource::Data, limit(memory_bytes_max, memory_bytes_max))?;
    setrlimit(Resource::Cpu, limit(cpu_secs_max, cpu_secs_max + 1))?;
    step_back();
    Ok(())
}

/// Calls are more urgent than compiling. A system that refuses a part of this changes nothing else.
///
/// The lower priority alone does not suffice where the child shares a group of the scheduler with the gateway (see
/// `scheduler`): of 1,000 calls that commit, 20 waited for 4 ms. A Linux that groups processes by session (sched(7),
/// "The autogroup feature") gets a session of its own, with a group that steps back as a whole. Where a service manager
/// or a container groups them by cgroups instead, the turns of the threads are what helps.
#[cfg(unix)]
fn step_back() {
    #[cfg(target_os = "linux")]
    scheduler::step_back(NICE);
    // Elsewhere `nice` is of the whole process.
    #[cfg(not(target_os = "linux"))]
    let _ = rustix::process::nice(NICE);
    let _ = rustix::process::setsid();
    #[cfg(target_os = "linux")]
    let _ = std::fs::write("/proc/self/autogroup", GROUP_NICE.to_string());
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
        let threads = |mib: u64, cores, beside_calls| {
            CompileLimits { memory_bytes_max: mib << 20, ..CompileLimits::default() }
                .threads(cores, beside_calls)
        };
        assert_eq!([threads(24, 64, false), threads(128, 1, false), threads(128, 64, false)], [1, 1, 2]);
        assert_eq!([threads(1024, 2, false), threads(1024, 64, false)], [2, 16]);
        assert_eq!([1, 2, 4, 64].map(|cores| threads(1024, cores, true)), [1, 1, 3, 16]);
    }
}
