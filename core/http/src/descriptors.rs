//! The last file descriptors are not for clients.
//!
//! The store, requests to providers and the operator's own connections need descriptors when clients have taken all
//! they can get. The operating system gives the lowest free number, so a number near the limit says how many are taken:
//! connections stop [`ASIDE`] numbers below it, files that clients read or write at half of that, connections of
//! operators at a quarter. On systems without such a limit nothing is refused.

/// Descriptors that connections leave free, at most a quarter of the limit.
pub const ASIDE: u64 = 256;

/// What a descriptor was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Connection,
    /// A file that a client uploads or downloads.
    File,
    /// A connection to the operators' listener.
    Operator,
}

/// Whether a descriptor is one of those that are set aside; it must be closed then.
#[cfg(unix)]
pub(crate) fn is_set_aside(descriptor: &impl std::os::fd::AsRawFd, of: Use) -> bool {
    use rustix::process::{Resource, getrlimit};
    let number = u64::try_from(descriptor.as_raw_fd()).unwrap_or(0);
    getrlimit(Resource::Nofile).current.is_some_and(|limit| number >= first_set_aside(limit, of))
}

#[cfg(not(unix))]
pub(crate) fn is_set_aside<T>(_descriptor: &T, _of: Use) -> bool {
    false
}

/// The first number that is set aside under a limit.
fn first_set_aside(limit: u64, of: Use) -> u64 {
    let aside = ASIDE.min(limit / 4);
    match of {
        Use::Connection => limit - aside,
        Use::File => limit - aside / 2,
        Use::Operator => limit - aside / 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_set_aside_and_never_more_than_the_bound() {
        assert_eq!(first_set_aside(1024, Use::Connection), 768);
        assert_eq!(first_set_aside(1024, Use::File), 896);
        assert_eq!(first_set_aside(1024, Use::Operator), 960);
        assert_eq!(first_set_aside(1 << 20, Use::Connection), (1 << 20) - ASIDE);
        assert_eq!(first_set_aside(100, Use::Connection), 75);
        assert_eq!(first_set_aside(100, Use::File), 88);
        assert_eq!(first_set_aside(0, Use::Connection), 0);
    }

    #[cfg(unix)]
    #[test]
    fn an_ordinary_descriptor_is_not_set_aside() {
        let file = tempfile::tempfile().unwrap();
        assert!(!is_set_aside(&file, Use::Connection) && !is_set_aside(&file, Use::File));
    }
}
