//! What one call of a plugin may use, and the limits that end it.
//!
//! Every limit has a name, a unit, a default and its reason. A limit that ends a call is an [`Exceeded`], which travels
//! inside the engine's error and becomes a [`crate::CallError`]. A limit that the plugin can act on is an error of the
//! import instead.
//! Not here: counting (see `state`, `meter`) and queueing (see `provider`).

use std::time::Duration;

/// The limit that ended a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exceeded {
    #[error("memory limit")]
    Memory,
    #[error("CPU limit")]
    Cpu,
    #[error("request limit")]
    HttpRequests,
}

/// What one call may use. Every limit has a typed error: a [`crate::CallError`], or one that the plugin receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memories and tables of a call together, in bytes. Default 16 MiB: a provider protocol needs about
    /// one. At most the host's own `memory_bytes_max`. Above it: `MemoryExceeded`.
    pub memory_bytes_max: usize,
    /// CPU of a call: the guest's and that of the host functions it calls. Default 200 ms: a thousand times what
    /// mapping one message takes. Waiting and sleeping do not count. Above it: `CpuExceeded`.
    pub cpu_time_max: Duration,
    /// From the start of the instance to its answer, waiting included; the time in the queue is not. Default 15 s.
    /// Above it: `Timeout`.
    pub wall_time_max: Duration,
    /// Bytes of all HTTP requests and answers of a call together. Default 4 MiB. Above it the plugin receives
    /// `invalid-request`, or `too-large` for an answer.
    pub host_call_bytes_max: usize,
    /// Resource handles alive at once (streams, pollables, ...). Default 128: an ordinary guest holds under ten.
    /// Above it: `HandlesExceeded`.
    pub handles_max: usize,
    /// Bytes that one crossing copies out of the guest: its answer, or the arguments of one host call; lists count
    /// with the size their items have in the host. Default 1 MiB. Above it: `OutputTooLarge`.
    pub output_bytes_max: usize,
    /// One HTTP answer, head and body, in bytes. Default 1 MiB. Above it the plugin receives `too-large`.
    pub http_response_bytes_max: usize,
    /// HTTP requests of a call, refused ones included. Default 8. Above it: `RequestsExceeded`. 0 forbids the network.
    pub http_requests_max: u32,
    /// Bytes of standard output and error of a call together. Default 4 KiB. What is above it is dropped, and one
    /// line says so.
    pub log_bytes_max: usize,
    /// Calls of this provider that run at once. Default 64. Further calls wait.
    pub concurrency_max: u32,
    /// Calls of this provider that wait. Default 256. Above it: `Busy` at once.
    pub queue_calls_max: u32,
    /// How long a call waits for its turn. Default 1 s. Above it: `Busy`.
    pub queue_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            memory_bytes_max: 16 << 20,
            cpu_time_max: Duration::from_millis(200),
            wall_time_max: Duration::from_secs(15),
            host_call_bytes_max: 4 << 20,
            handles_max: 128,
            output_bytes_max: 1 << 20,
            http_response_bytes_max: 1 << 20,
            http_requests_max: 8,
            log_bytes_max: 4 << 10,
            concurrency_max: 64,
            queue_calls_max: 256,
            queue_time_max: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// The limits that are out of their range, by name, with the range.
    pub(crate) fn problems(&self, host_memory_bytes_max: usize) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.memory_bytes_max == 0 || self.memory_bytes_max > host_memory_bytes_max {
            let range = format!("must be from 1 to the host's own {host_memory_bytes_max} bytes");
            problems.push(("memory_bytes_max", range));
        }
        let zero = [
            ("cpu_time_max", self.cpu_time_max.is_zero()),
            ("wall_time_max", self.wall_time_max.is_zero()),
            ("output_bytes_max", self.output_bytes_max == 0),
            ("concurrency_max", self.concurrency_max == 0),
        ];
        let zero = zero.into_iter().filter(|(_, zero)| *zero);
        problems.extend(zero.map(|(limit, _)| (limit, "must not be 0".to_owned())));
        problems
    }
}
