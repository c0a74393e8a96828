//! How fast a client may send. See `intake` for what a frame costs.

/// A token bucket: `rate` units a second, and twice as many in a burst.
pub(crate) struct Bucket {
    rate: f64,
    level: f64,
    at_ms: u64,
    refused: f64,
}

pub(crate) enum Taken {
    Allowed,
    Refused,
    Flood,
}

impl Bucket {
    pub(crate) fn full(rate: u32, now_ms: u64) -> Bucket {
        let rate = f64::from(rate);
        Bucket { rate, level: 2.0 * rate, at_ms: now_ms, refused: 0.0 }
    }

    /// Units that may be taken at once.
    pub(crate) fn burst(&self) -> u64 {
        (2.0 * self.rate) as u64
    }

    pub(crate) fn take(&mut self, units: u64, now_ms: u64) -> Taken {
        let earned = now_ms.saturating_sub(self.at_ms) as f64 * self.rate / 1000.0;
        self.at_ms = now_ms;
        self.level = (self.level + earned).min(2.0 * self.rate);
        // A full bucket forgives earlier refusals.
        if self.level >= 2.0 * self.rate {
            self.refused = 0.0;
        }
        let units = units as f64;
        if self.level >= units {
            self.level -= units;
            return Taken::Allowed;
        }
        self.refused += units;
        if self.refused > 2.0 * self.rate { Taken::Flood } else { Taken::Refused }
    }

    /// Takes units that are not there yet, for what was allowed already. What follows waits until they are earned.
    pub(crate) fn owe(&mut self, units: u64) {
        self.level -= units as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_allows_its_burst_then_its_rate_then_nothing() {
        let mut bucket = Bucket::full(10, 1);
        let mut taken = |now_ms| match bucket.take(1, now_ms) {
            Taken::Allowed => 'a',
            Taken::Refused => 'r',
            Taken::Flood => 'f',
        };
        assert!((0..20).all(|_| taken(1) == 'a'));
        assert_eq!(taken(1), 'r');
        assert_eq!((taken(101), taken(101)), ('a', 'r'));
        assert!((0..18).all(|_| taken(101) == 'r'));
        assert_eq!(taken(101), 'f');
        // Two quiet seconds fill the bucket and forgive.
        assert_eq!(taken(3000), 'a');
        assert!((0..19).all(|_| taken(3000) == 'a'));
        assert_eq!(taken(3000), 'r');
    }

    #[test]
    fn owed_units_are_earned_before_anything_else_is_allowed() {
        let mut bucket = Bucket::full(10, 1);
        bucket.owe(25);
        assert!(matches!(bucket.take(1, 1), Taken::Refused));
        // Five units short of none, and one for the frame: 600 ms.
        assert!(matches!(bucket.take(1, 590), Taken::Refused));
        assert!(matches!(bucket.take(1, 610), Taken::Allowed));
    }
}
