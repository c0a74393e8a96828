//! Ids of requests.

use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;

/// Gives every request an id that no other request of any gateway has: 16 random hexadecimal digits of this process,
/// then a running number of at least 12 digits. The number is not random, because asking the system for randomness
/// costs more than the rest of the bookkeeping of a request.
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

    /// The id that a client, or a proxy before it, gave the request, when it has a sane form: 8 to 64 letters, digits,
    /// `.`, `_` and `-`. Else a new one.
    pub(crate) fn of(&self, headers: &HeaderMap) -> String {
        let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
        let sane = |id: &&str| {
            (8..=64).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        given.filter(sane).map_or_else(|| self.next(), str::to_owned)
    }

    fn next(&self) -> String {
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
