//! Limits how fast one network can try references of payments.
//!
//! References can be guessed, and `payment/verify/` is open to anyone. A request without the payment's own key, and
//! without its owner's token, costs its network points; an unknown reference costs more than a known one. A payer whose
//! browser brings the key, and the owner, cost nothing and are never refused, so a stranger behind the same address
//! locks nobody out.

use std::net::IpAddr;
use std::time::Duration;

use crate::Timestamp;
use crate::rate::{Rate, Rates};
use crate::share::network;

/// Points of one network in a [`WINDOW`].
pub const SCAN_POINTS_MAX: u32 = 300;
/// Points of a request for a payment that exists.
pub const SCAN_POINTS_HIT: u32 = 1;
/// Points of a request for a payment that does not exist: 30 of them a minute.
pub const SCAN_POINTS_MISS: u32 = 10;
/// How long points count.
pub const SCAN_WINDOW: Duration = Duration::from_secs(60);

const SCANS: Rate = Rate { name: "questions", max: SCAN_POINTS_MAX as u64, span: SCAN_WINDOW };

/// The points of all networks.
#[derive(Default)]
pub(super) struct Scans(pub(super) Rates<IpAddr>);

impl Scans {
    /// Takes points of an address's network.
    ///
    /// # Errors
    ///
    /// How long the network must wait, when its points are used up. Nothing is taken then.
    pub(super) fn take(&self, address: IpAddr, points: u32, now: Timestamp) -> Result<(), Duration> {
        let taken = self.0.take(&network(address.to_canonical()), points.into(), SCANS, now);
        taken.map_err(|exhausted| exhausted.retry_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_network_waits_at_its_limit_and_only_until_the_window_ends() {
        let (scans, now) = (Scans::default(), Timestamp::from_secs(1000));
        let take = |from: &str, points, now| scans.take(address(from), points, now);
        for _ in 1..SCAN_POINTS_MAX / SCAN_POINTS_MISS {
            assert_eq!(take("192.0.2.1", SCAN_POINTS_MISS, now), Ok(()));
        }
        assert_eq!(take("192.0.2.9", SCAN_POINTS_MISS - 1, now), Ok(()));
        assert_eq!(take("::ffff:192.0.2.1", SCAN_POINTS_HIT, now), Ok(()), "just under");
        assert_eq!(take("192.0.2.200", SCAN_POINTS_HIT, now), Err(SCAN_WINDOW), "the same network");
        assert_eq!(take("192.0.3.1", SCAN_POINTS_HIT, now), Ok(()));
        let almost = now.plus(SCAN_WINDOW - Duration::from_secs(1));
        assert_eq!(take("192.0.2.1", SCAN_POINTS_HIT, almost), Err(Duration::from_secs(1)));
        let later = now.plus(SCAN_WINDOW);
        assert_eq!(take("192.0.2.1", SCAN_POINTS_MAX, later), Ok(()), "counted anew");
        assert_eq!(take("192.0.2.1", SCAN_POINTS_HIT, later), Err(SCAN_WINDOW));
    }
}
