//! The SMS shield: limits on codes per requester and per recipient.
//!
//! `otp/send/` is open to the public, so a stranger could flood one number or cost the operator thousands of messages.
//! Caps per number (gap, hour, day), per address and its network, per number prefix (all but the last four digits) and
//! in total prevent both. A prefix whose codes do not lead to logins is slowed automatically, because that is the
//! pattern of number-range pumping. Invariants: a refused request counts for nothing; the total cap bounds every map,
//! because only admitted requests are counted. Counts are in memory and are lost at a restart.
//!
//! Not here: wrong guesses ([`crate::login::otp`]) and messages of API keys, which have their own cap.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{PhoneNumber, Range, Timestamp};

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;
/// Steps of an hour's count. Older counts are dropped.
const STEPS: usize = 12;
const STEP: u64 = HOUR / STEPS as u64;
/// Limit on the entries of each map. At the limit, expired entries are removed; if none expired, the request is
/// refused.
const ENTRIES_MAX: usize = 200_000;

/// Between two codes to one number; a login in between ends the wait.
pub const NUMBER_GAP_SECS: Range<u64> = Range::new(0, 3600, 60);
/// Codes in an hour to one number.
pub const NUMBER_PER_HOUR: Range<u32> = Range::new(1, 1000, 5);
/// Codes in a day to one number.
pub const NUMBER_PER_DAY: Range<u32> = Range::new(1, 1000, 10);
/// Codes in an hour for one address. Mobile networks put many people behind one.
pub const ADDRESS_PER_HOUR: Range<u32> = Range::new(1, 10_000_000, 300);
/// Codes in an hour for one network (/24 or /64).
pub const NETWORK_PER_HOUR: Range<u32> = Range::new(1, 10_000_000, 1500);
/// Codes in an hour to numbers that differ in their last four digits only.
pub const PREFIX_PER_HOUR: Range<u32> = Range::new(1, 10_000_000, 200);
/// Codes in an hour.
pub const TOTAL_PER_HOUR: Range<u32> = Range::new(1, 10_000_000, 10_000);
/// Codes in an hour to a prefix from which its share of logins counts.
pub const RATIO_CODES: Range<u32> = Range::new(1, 10_000_000, 30);
/// The share of a prefix's codes that must lead to a login; 0: none.
pub const RATIO_PERCENT: Range<u32> = Range::new(0, 100, 10);
/// Between two codes to a slowed prefix.
pub const SLOW_GAP_SECS: Range<u64> = Range::new(1, 3600, 60);

/// The caps. The constants above define their meanings and ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShieldRules {
    pub number_gap: Duration,
    pub number_per_hour_max: u32,
    pub number_per_day_max: u32,
    pub address_per_hour_max: u32,
    pub network_per_hour_max: u32,
    pub prefix_per_hour_max: u32,
    pub total_per_hour_max: u32,
    pub ratio_codes_min: u32,
    pub ratio_percent_min: u32,
    pub slow_gap: Duration,
}

impl Default for ShieldRules {
    fn default() -> Self {
        ShieldRules {
            number_gap: NUMBER_GAP_SECS.default_secs(),
            number_per_hour_max: NUMBER_PER_HOUR.default,
            number_per_day_max: NUMBER_PER_DAY.default,
            address_per_hour_max: ADDRESS_PER_HOUR.default,
            network_per_hour_max: NETWORK_PER_HOUR.default,
            prefix_per_hour_max: PREFIX_PER_HOUR.default,
            total_per_hour_max: TOTAL_PER_HOUR.default,
            ratio_codes_min: RATIO_CODES.default,
            ratio_percent_min: RATIO_PERCENT.default,
            slow_gap: SLOW_GAP_SECS.default_secs(),
        }
    }
}

/// Which cap stopped a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    NumberGap,
    NumberHour,
    NumberDay,
    Address,
    Network,
    Prefix,
    PrefixSlowed,
    Total,
}

impl Cap {
    /// A stable word, for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Cap::NumberGap => "number_gap",
            Cap::NumberHour => "number_hour",
            Cap::NumberDay => "number_day",
            Cap::Address => "address",
            Cap::Network => "network",
            Cap::Prefix => "prefix",
            Cap::PrefixSlowed => "prefix_slowed",
            Cap::Total => "total",
        }
    }
}

/// A refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub cap: Cap,
    /// It may be admitted after this time.
    pub retry_after: Duration,
}

/// Counts codes; one for the whole gateway.
#[derive(Debug, Default)]
pub struct Shield {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    numbers: HashMap<String, Number>,
    addresses: HashMap<IpAddr, Window>,
    networks: HashMap<IpAddr, Window>,
    prefixes: HashMap<String, Prefix>,
    total: Window,
}

#[derive(Debug, Default)]
struct Number {
    /// Seconds since 1970 of the codes of the last day, oldest first; at most the day's cap.
    sent: VecDeque<u64>,
    /// A login ended the gap.
    verified: bool,
}

#[derive(Debug, Default)]
struct Prefix {
    sent: Window,
    verified: Window,
    last: u64,
}

/// Counts of an hour, by steps of five minutes.
#[derive(Debug, Default, Clone)]
struct Window {
    /// Step number of the newest count.
    step: u64,
    counts: [u32; STEPS],
}

impl Window {
    fn forward(&mut self, now: u64) {
        let step = now / STEP;
        let ahead = step.saturating_sub(self.step);
        for index in 1..=ahead.min(STEPS as u64) {
            self.counts[((self.step + index) % STEPS as u64) as usize] = 0;
        }
        self.step = self.step.max(step);
    }

    fn count(&mut self, now: u64) -> u32 {
        self.forward(now);
        self.counts.iter().sum()
    }

    fn add(&mut self, now: u64) {
        self.forward(now);
        let slot = &mut self.counts[(self.step % STEPS as u64) as usize];
        *slot = slot.saturating_add(1);
    }

    /// When the oldest counts fall out.
    fn retry_after(&self, now: u64) -> Duration {
        let oldest = (0..STEPS as u64)
            .map(|index| self.step + 1 + index)
            .find(|step| self.counts[(step % STEPS as u64) as usize] > 0);
        let frees_at = oldest.map_or(now, |step| step * STEP);
        Duration::from_secs(frees_at.saturating_sub(now).max(1))
    }

    fn is_over(&mut self, now: u64) -> bool {
        self.count(now) == 0
    }
}

impl Shield {
    /// Admits and counts a code, or names the cap that refuses it.
    ///
    /// # Errors
    ///
    /// [`Refusal`]. Nothing was counted.
    pub fn admit(
        &self,
        rules: &ShieldRules,
        number: &PhoneNumber,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let now = now.as_secs();
        let (address, network) = (address.to_canonical(), network(address.to_canonical()));
        let prefix = prefix(number);
        let mut state = self.lock();
        let state = &mut *state;
        state.make_room(now);

        let over = |window: &mut Window, max: u32, cap: Cap| match window.count(now) < max {
            true => Ok(()),
            false => Err(Refusal { cap, retry_after: window.retry_after(now) }),
        };
        over(&mut state.total, rules.total_per_hour_max, Cap::Total)?;
        if let Some(window) = state.addresses.get_mut(&address) {
            over(window, rules.address_per_hour_max, Cap::Address)?;
        }
        if let Some(window) = state.networks.get_mut(&network) {
            over(window, rules.network_per_hour_max, Cap::Network)?;
        }
        if let Some(prefix) = state.prefixes.get_mut(&prefix) {
            over(&mut prefix.sent, rules.prefix_per_hour_max, Cap::Prefix)?;
            let free_at = prefix.last.saturating_add(rules.slow_gap.as_secs());
            if prefix.is_slowed(rules, now) && now < free_at {
                return Err(Refusal {
                    cap: Cap::PrefixSlowed,
                    retry_after: Duration::from_secs(free_at - now),
                });
            }
        }
        if let Some(number) = state.numbers.get_mut(number.e164()) {
            number.check(rules, now)?;
        }
        let full = [state.numbers.len(), state.addresses.len(), state.networks.len(), state.prefixes.len()];
        if full.iter().any(|len| *len >= ENTRIES_MAX) {
            return Err(Refusal { cap: Cap::Total, retry_after: Duration::from_secs(STEP) });
        }

        state.total.add(now);
        state.addresses.entry(address).or_default().add(now);
        state.networks.entry(network).or_default().add(now);
        let counted = state.prefixes.entry(prefix).or_default();
        counted.sent.add(now);
        counted.last = now;
        let counted = state.numbers.entry(number.e164().to_owned()).or_default();
        counted.sent.push_back(now);
        counted.verified = false;
        Ok(())
    }

    /// Records a login with a number's code.
    pub fn verified(&self, number: &PhoneNumber, now: Timestamp) {
        let mut state = self.lock();
        if let Some(number) = state.numbers.get_mut(number.e164()) {
            number.verified = true;
        }
        if let Some(prefix) = state.prefixes.get_mut(&prefix(number)) {
            prefix.verified.add(now.as_secs());
        }
    }

    /// Records that a code was certainly not sent: the gap ends. The hour's and the day's counts keep it.
    pub fn not_sent(&self, number: &PhoneNumber) {
        if let Some(number) = self.lock().numbers.get_mut(number.e164()) {
            number.verified = true;
        }
    }

    /// Number of slowed prefixes.
    pub fn slowed(&self, rules: &ShieldRules, now: Timestamp) -> usize {
        let mut state = self.lock();
        state
            .prefixes
            .values_mut()
            .filter_map(|prefix| prefix.is_slowed(rules, now.as_secs()).then_some(()))
            .count()
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Removes expired entries when a map is full.
    fn make_room(&mut self, now: u64) {
        retain_when_full(&mut self.numbers, |number| number.sent.back().is_some_and(|at| now < at + DAY));
        retain_when_full(&mut self.addresses, |window| !window.is_over(now));
        retain_when_full(&mut self.networks, |window| !window.is_over(now));
        retain_when_full(&mut self.prefixes, |prefix| !prefix.sent.is_over(now));
    }
}

fn retain_when_full<K: Eq + Hash, V>(map: &mut HashMap<K, V>, keep: impl Fn(&mut V) -> bool) {
    if map.len() >= ENTRIES_MAX {
        map.retain(|_, value| keep(value));
    }
}

impl Number {
    fn check(&mut self, rules: &ShieldRules, now: u64) -> Result<(), Refusal> {
        while self.sent.front().is_some_and(|at| at + DAY <= now) {
            self.sent.pop_front();
        }
        let until = |cap, free_at: u64| {
            Err(Refusal { cap, retry_after: Duration::from_secs(free_at.saturating_sub(now).max(1)) })
        };
        if let Some(last) = self.sent.back().filter(|_| !self.verified) {
            let free_at = last + rules.number_gap.as_secs();
            if now < free_at {
                return until(Cap::NumberGap, free_at);
            }
        }
        for (cap, max, span) in [
            (Cap::NumberHour, rules.number_per_hour_max, HOUR),
            (Cap::NumberDay, rules.number_per_day_max, DAY),
        ] {
            // The cap frees up when the oldest of the last `max` codes expires.
            let oldest = self.sent.len().checked_sub(max as usize).and_then(|index| self.sent.get(index));
            if let Some(oldest) = oldest.filter(|at| now < *at + span) {
                return until(cap, oldest + span);
            }
        }
        Ok(())
    }
}

impl Prefix {
    fn is_slowed(&mut self, rules: &ShieldRules, now: u64) -> bool {
        let (sent, verified) = (self.sent.count(now), self.verified.count(now));
        sent >= rules.ratio_codes_min
            && u64::from(verified) * 100 < u64::from(sent) * u64::from(rules.ratio_percent_min)
    }
}

/// All but the last four digits.
fn prefix(number: &PhoneNumber) -> String {
    let e164 = number.e164();
    e164[..e164.len() - 4].to_owned()
}

/// The /24 or /64 of an address.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            IpAddr::from([a, b, c, 0])
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No cap but those a test sets.
    fn open() -> ShieldRules {
        ShieldRules {
            number_gap: Duration::ZERO,
            number_per_hour_max: 1000,
            number_per_day_max: 1000,
            address_per_hour_max: 1000,
            network_per_hour_max: 1000,
            prefix_per_hour_max: 1000,
            total_per_hour_max: 1000,
            ratio_codes_min: 1000,
            ratio_percent_min: 0,
            slow_gap: Duration::from_secs(60),
        }
    }

    struct World {
        shield: Shield,
        rules: ShieldRules,
    }

    fn world(rules: ShieldRules) -> World {
        World { shield: Shield::default(), rules }
    }

    impl World {
        /// `None` when let through.
        fn ask(&self, number: &str, address: &str, at: u64) -> Option<(Cap, u64)> {
            let number = PhoneNumber::parse(number).unwrap();
            let at = Timestamp::from_secs(36_000_000 + at);
            let refusal = self.shield.admit(&self.rules, &number, address.parse().unwrap(), at).err()?;
            Some((refusal.cap, refusal.retry_after.as_secs()))
        }
    }

    const A: &str = "09121230001";

    #[test]
    fn a_number_keeps_its_gap_until_somebody_logs_in() {
        let world = world(ShieldRules { number_gap: Duration::from_secs(60), ..open() });
        assert_eq!(world.ask(A, "192.0.2.1", 0), None);
        assert_eq!(world.ask(A, "192.0.2.1", 59), Some((Cap::NumberGap, 1)));
        assert_eq!(world.ask("09121230002", "192.0.2.1", 59), None);
        assert_eq!(world.ask(A, "192.0.2.1", 60), None);
        world.shield.verified(&PhoneNumber::parse(A).unwrap(), Timestamp::from_secs(36_000_061));
        assert_eq!(world.ask(A, "192.0.2.1", 61), None);
        assert_eq!(world.ask(A, "192.0.2.1", 62), Some((Cap::NumberGap, 59)));
    }

    #[test]
    fn a_number_stops_at_its_hour_and_at_its_day() {
        let world = world(ShieldRules { number_per_hour_max: 2, number_per_day_max: 3, ..open() });
        assert_eq!(world.ask(A, "192.0.2.1", 0), None);
        assert_eq!(world.ask(A, "192.0.2.2", 10), None);
        assert_eq!(world.ask(A, "192.0.2.3", 3599), Some((Cap::NumberHour, 1)));
        assert_eq!(world.ask(A, "192.0.2.3", 3600), None);
        assert_eq!(world.ask(A, "192.0.2.3", 20_000), Some((Cap::NumberDay, DAY - 20_000)));
        assert_eq!(world.ask(A, "192.0.2.3", DAY), None);
    }

    #[test]
    fn addresses_and_networks_stop_and_are_free_after_an_hour() {
        let world = world(ShieldRules { address_per_hour_max: 2, network_per_hour_max: 3, ..open() });
        let number = |n: u32| format!("09{:09}", 120_000_000 + n);
        assert_eq!(world.ask(&number(1), "192.0.2.1", 0), None);
        assert_eq!(world.ask(&number(2), "192.0.2.1", 0), None);
        assert_eq!(world.ask(&number(3), "192.0.2.1", 0).unwrap().0, Cap::Address);
        assert_eq!(world.ask(&number(3), "::ffff:192.0.2.1", 0).unwrap().0, Cap::Address, "the same address");
        assert_eq!(world.ask(&number(3), "192.0.2.200", 0), None);
        assert_eq!(world.ask(&number(4), "192.0.2.7", 0).unwrap().0, Cap::Network);
        assert_eq!(world.ask(&number(4), "192.0.3.7", 0), None);
        let (_, wait) = world.ask(&number(5), "192.0.2.1", 0).unwrap();
        assert!((1..=HOUR).contains(&wait), "{wait}");
        assert_eq!(world.ask(&number(5), "192.0.2.1", wait), None);
        for n in 0..3 {
            assert_eq!(world.ask(&number(10 + n), &format!("2001:db8::{n}"), 0), None);
        }
        assert_eq!(world.ask(&number(20), "2001:db8::ff:1", 0).unwrap().0, Cap::Network);
        assert_eq!(world.ask(&number(20), "2001:db8:0:1::1", 0), None);
    }

    #[test]
    fn a_prefix_and_the_total_stop() {
        let world = world(ShieldRules { prefix_per_hour_max: 2, total_per_hour_max: 3, ..open() });
        assert_eq!(world.ask("09121230001", "192.0.2.1", 0), None);
        assert_eq!(world.ask("09121230002", "192.0.2.1", 0), None);
        assert_eq!(world.ask("09121230003", "192.0.2.1", 0).unwrap().0, Cap::Prefix);
        assert_eq!(world.ask("09121240003", "192.0.2.1", 0), None, "a refused one was not counted");
        assert_eq!(world.ask("09131240003", "198.51.100.1", 0).unwrap().0, Cap::Total);
        assert_eq!(world.ask("09131240003", "198.51.100.1", HOUR), None);
    }

    #[test]
    fn a_prefix_without_logins_is_slowed_and_recovers_with_them() {
        let world = world(ShieldRules { ratio_codes_min: 10, ratio_percent_min: 20, ..open() });
        let ask = |n: u32, at| world.ask(&format!("0912123{n:04}"), "192.0.2.1", at);
        for n in 0..10 {
            assert_eq!(ask(n, 0), None);
        }
        assert_eq!(ask(10, 0), Some((Cap::PrefixSlowed, 60)));
        let now = Timestamp::from_secs(36_000_000);
        assert_eq!(world.shield.slowed(&world.rules, now), 1);
        assert_eq!(ask(10, 60), None, "slowed, not stopped");
        assert_eq!(ask(11, 61), Some((Cap::PrefixSlowed, 59)));
        assert_eq!(world.ask("09131230000", "192.0.2.1", 61), None, "another prefix is not");
        for n in 0..3 {
            world.shield.verified(&PhoneNumber::parse(&format!("0912123{n:04}")).unwrap(), now);
        }
        assert_eq!(world.shield.slowed(&world.rules, now), 0);
        assert_eq!(ask(11, 61), None);
    }
}
