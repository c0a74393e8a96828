//! Ids of requests.

use std::sync::atomic::{AtomicU64, Ordering};

/// Gives every request an id that is unique across gateways: 16 random hexadecimal digits of this process, then a
/// counter of at least 12 digits. The counter is not random, because asking the system for randomness costs more than
/// the rest of a request's bookkeeping.
pub(crate) struct RequestIds {
    process: String,
    next: AtomicU64,
}

impl RequestIds {
    /// # Errors
    ///
    /// The operating system provides no randomness.
    pub(crate) fn new() -> Result<RequestIds, getrandom::Error> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)?;
        let process = format!("{:016x}", u64::from_ne_bytes(random));
        Ok(RequestIds { process, next: AtomicU64::new(1) })
    }

    pub(crate) fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}{number:012x}", self.process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_within_and_between_processes() {
        let (one, other) = (RequestIds::new().expect("random"), RequestIds::new().expect("random"));
        let ids = [one.next(), one.next(), other.next()];
        assert!(ids[0] != ids[1] && ids[0] != ids[2]);
        assert!(ids.iter().all(|id| id.len() == 28), "{ids:?}");
    }
}
