//! Why a call has no answer, and the way from the engine's errors to that.
//!
//! An error says whether a request of the call may have left, because then what the call was to do may have been done.
//! Texts pass the border like everything else that comes from a guest.

use std::time::Duration;

use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap};

use crate::limits::{Exceeded, Limits};
use crate::text::{Border, error_text};

/// Why a call has no answer.
///
/// The texts are for logs; [`CallError::code`] is stable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Too many calls run or wait. Nothing was done; trying again later is safe.
    #[error("too many calls at once")]
    Busy,
    /// No answer within the wall time.
    #[error("no answer in {} ms", after.as_millis())]
    Timeout {
        /// The limit.
        after: Duration,
        /// See [`CallError::may_have_sent`].
        may_have_sent: bool,
    },
    /// The guest computed for too long.
    #[error("more than {} ms of CPU", limit.as_millis())]
    CpuExceeded {
        /// The limit.
        limit: Duration,
        /// See [`CallError::may_have_sent`].
        may_have_sent: bool,
    },
    /// The guest wanted more memory than it may have.
    #[error("more than {limit_bytes} bytes of memory")]
    MemoryExceeded {
        /// The limit.
        limit_bytes: usize,
        /// See [`CallError::may_have_sent`].
        may_have_sent: bool,
    },
    /// The answer, or the arguments of a host call, are larger than what may be copied out of the guest.
    #[error("more than {limit_bytes} bytes of output")]
    OutputTooLarge {
        /// The limit.
        limit_bytes: usize,
        /// See [`CallError::may_have_sent`].
        may_have_sent: bool,
    },
    /// The guest held more resource handles than it may have.
    #[error("more than {limit} resource handles")]
    HandlesExceeded {
        /// The limit.
        limit: usize,
        /// See [`CallError::may_have_sent`].
        may_have_sent: bool,
    },
    /// The guest asked for more HTTP requests than a call may send.
    #[error("more than {limit} HTTP requests")]
    RequestsExceeded {
        /// The limit.
        limit: u32,
        /// See [`CallError::may_have_sent`].
        may_have_sent: bool,
    },
    /// The guest failed: a trap, an exit, or an answer that breaks the binary interface.
    #[error("trap: {message}")]
    Trap {
        /// One line of the engine's own words.
        message: String,
        /// See [`CallError::may_have_sent`].
        may_have_sent: bool,
    },
    /// The plugin does not export the function.
    #[error("function \"{interface}.{function}\" is not exported")]
    NoSuchExport {
        /// As asked for.
        interface: String,
        /// As asked for.
        function: String,
    },
    /// The plugin exports the function with another type. Loading refuses it when its kind lists the function.
    #[error("function \"{interface}.{function}\" has another type: {message}")]
    TypeMismatch {
        /// As asked for.
        interface: String,
        /// As asked for.
        function: String,
        /// What differs.
        message: String,
    },
}

impl CallError {
    /// A stable word for metrics and for machines: one of [`crate::CALL_ERRORS`].
    pub fn code(&self) -> &'static str {
        match self {
            CallError::Busy => "busy",
            CallError::Timeout { .. } => "timeout",
            CallError::CpuExceeded { .. } => "cpu_exceeded",
            CallError::MemoryExceeded { .. } => "memory_exceeded",
            CallError::OutputTooLarge { .. } => "output_too_large",
            CallError::HandlesExceeded { .. } => "handles_exceeded",
            CallError::RequestsExceeded { .. } => "requests_exceeded",
            CallError::Trap { .. } => "trap",
            CallError::NoSuchExport { .. } => "no_such_export",
            CallError::TypeMismatch { .. } => "type_mismatch",
        }
    }

    /// Whether at least one HTTP request of this call may have reached its host. Then what the call was to do may
    /// have been done, and doing it again may do it twice.
    pub fn may_have_sent(&self) -> bool {
        match self {
            CallError::Busy | CallError::NoSuchExport { .. } | CallError::TypeMismatch { .. } => false,
            CallError::Timeout { may_have_sent, .. }
            | CallError::CpuExceeded { may_have_sent, .. }
            | CallError::MemoryExceeded { may_have_sent, .. }
            | CallError::OutputTooLarge { may_have_sent, .. }
            | CallError::HandlesExceeded { may_have_sent, .. }
            | CallError::RequestsExceeded { may_have_sent, .. }
            | CallError::Trap { may_have_sent, .. } => *may_have_sent,
        }
    }
}

/// Sorts the engine's error of a call that ran with these limits.
pub(crate) fn sort(
    error: &wasmtime::Error,
    limits: &Limits,
    border: &Border,
    may_have_sent: bool,
) -> CallError {
    if let Some(exceeded) = error.downcast_ref::<Exceeded>() {
        return match exceeded {
            Exceeded::Memory => {
                CallError::MemoryExceeded { limit_bytes: limits.memory_bytes_max, may_have_sent }
            }
            Exceeded::Cpu => CallError::CpuExceeded { limit: limits.cpu_time_max, may_have_sent },
            Exceeded::HttpRequests => {
                CallError::RequestsExceeded { limit: limits.http_requests_max, may_have_sent }
            }
        };
    }
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return CallError::Busy;
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        return CallError::Trap { message: trap.to_string(), may_have_sent };
    }
    // The engine has no public type for these two; the tests hold the words equal to its own.
    let mut message = error_text(error);
    if message.contains("fuel allocated for hostcalls has been exhausted") {
        return CallError::OutputTooLarge { limit_bytes: limits.output_bytes_max, may_have_sent };
    }
    let handles = matches!(error.downcast_ref::<ResourceTableError>(), Some(ResourceTableError::Full));
    if handles || message.contains("store handle limit exceeded") {
        return CallError::HandlesExceeded { limit: limits.handles_max, may_have_sent };
    }
    border.text(&mut message);
    CallError::Trap { message, may_have_sent }
}
