//! The SMS shield: limits on codes per requester and per recipient.
//!
//! `otp/send/` is open to the public, so a stranger could flood one number or cost the operator thousands of messages.
//! Caps per number (gap, hour, day), per address and its network, per number prefix (all but the last four digits) and
//! in total prevent both. A prefix whose codes do not lead to logins is slowed automatically, because that is the
//! pattern of number-range pumping. Invariants: a refused request counts for nothing; the total cap bounds every map,
//! because only admitted requests are counted. Counts are in memory and are lost at a restart. Gateways that share a
//! store tell each other what they count ([`ShieldNote`]).
//!
//! A cap that a stranger can use up is a weapon against everybody else. So a quarter of the total and of each prefix
//! is kept for numbers that have an account; such numbers are not slowed. While only that part is left, the caller gets
//! the same reply for every number ([`Admission::AccountsOnly`]): a code goes to numbers with an account, the others
//! are counted for their address, network and number as if one had been sent, and 429 comes to all numbers at the same
//! moment, when the kept part is used up, too. One address has 2 % of the total and 10 % of
//! a prefix, and at most a third of the codes from which a prefix is slowed. Of one number's codes one address may ask
//! for three fifths; and where the number's account was used before, codes have counts of their own, so at most twice
//! the caps per number are sent. With the defaults: to stop new numbers for an hour takes 38 addresses in 38 networks
//! that cause 7,500 messages, and people who have an account still log in.
//!
//! Not here: wrong guesses ([`crate::login::otp`]) and messages of API keys, which have their own cap.

mod note;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use note::ShieldNote;

use crate::share::{is_own_machine, network};
use crate::{PhoneNumber, Range, Timestamp};

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;
/// Steps of an hour's count. Older counts are dropped.
const STEPS: usize = 12;
const STEP: u64 = HOUR / STEPS as u64;
/// Limit on the entries of each map. At the limit, expired entries are removed; if none expired, the request is
/// refused.
const ENTRIES_MAX: usize = 200_000;

/// One part of so many of the total and of a prefix is kept for numbers with an account.
const KNOWN_PART: u32 = 4;
/// Percent of the total that one address may cause.
const ADDRESS_OF_TOTAL_PERCENT: u32 = 2;
/// Percent of a prefix that one address may cause.
const ADDRESS_OF_PREFIX_PERCENT: u32 = 10;
/// Percent of `ratio_codes_min` that one address may add to a prefix.
const ADDRESS_OF_RATIO_PERCENT: u32 = 33;
/// Percent of a number's codes that one address may ask for.
const ADDRESS_OF_NUMBER_PERCENT: u32 = 60;

/// What is known of a number. Asked for only when it decides: each answer may read the store.
pub trait Acquaintance {
    /// The number has an account.
    fn has_account(&self) -> impl Future<Output = bool> + Send;

    /// Its account was used from the network of this request before.
    fn was_here(&self) -> impl Future<Output = bool> + Send;
}

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

/// An admitted request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// A code may be sent, whoever has the number.
    Open,
    /// Only the part for numbers with an account is left.
    AccountsOnly {
        /// The number has one, so a code may be sent. The caller must not learn it.
        account: bool,
        /// What is used up for other numbers.
        cap: Cap,
        /// A code to another number may be admitted after this time.
        retry_after: Duration,
    },
}

/// A refused request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    pub cap: Cap,
    /// It may be admitted after this time.
    pub retry_after: Duration,
}

/// What counts against the next code to a number, for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Codes of the last hour and of the last day.
    pub hour: usize,
    pub day: usize,
    /// What would refuse a code now, wherever it is asked for from; an address has smaller caps besides.
    pub refused: Option<Refusal>,
}

/// Counts codes; one for the whole gateway.
#[derive(Default)]
pub struct Shield {
    state: Mutex<State>,
    others: Option<note::Tell>,
}

#[derive(Debug, Default)]
struct State {
    numbers: HashMap<String, Number>,
    addresses: HashMap<IpAddr, Window>,
    networks: HashMap<IpAddr, Window>,
    prefixes: HashMap<String, Prefix>,
    /// Codes that an address asked for to a prefix.
    shares: HashMap<(IpAddr, String), Window>,
    total: Split,
}

/// Codes to one number.
#[derive(Debug, Default)]
struct Number {
    /// Asked for from anywhere, and from where the number's account was used before.
    anywhere: Sent,
    known: Sent,
    /// A login ended the gap.
    verified: bool,
}

/// Codes of the last day, oldest first, with who asked: seconds since 1970. At most the day's cap.
#[derive(Debug, Default)]
struct Sent(VecDeque<(u64, IpAddr)>);

#[derive(Debug, Default)]
struct Prefix {
    sent: Split,
    /// Codes that count for the share of logins: of one address a part only.
    counted: Window,
    verified: Window,
    last: u64,
}

/// Codes to numbers that nobody knows here, and to numbers with an account.
#[derive(Debug, Default)]
struct Split {
    new: Window,
    known: Window,
}

impl Split {
    /// Refuses past the cap; new numbers past the part of it that is not kept for known ones.
    fn check(&mut self, known: bool, max: u32, cap: Cap, now: u64) -> Result<(), Refusal> {
        let (new, of_known) = (self.new.count(now), self.known.count(now));
        let full = if known { new.saturating_add(of_known) >= max } else { new >= max - kept(max) };
        if !full {
            return Ok(());
        }
        let retry_after = self.new.retry_after(now).min(match (known, of_known) {
            // Without the codes to known numbers: a caller could see in the time whether the last one was such.
            (false, _) | (_, 0) => Duration::MAX,
            (true, _) => self.known.retry_after(now),
        });
        Err(Refusal { cap, retry_after })
    }

    fn add(&mut self, known: bool, now: u64) {
        if known { self.known.add(now) } else { self.new.add(now) }
    }

    fn count(&mut self, now: u64) -> u32 {
        self.new.count(now).saturating_add(self.known.count(now))
    }
}

/// The part of a cap that is kept for numbers with an account.
fn kept(max: u32) -> u32 {
    max / KNOWN_PART
}

/// A share of a cap, at least 1.
fn part(max: u32, percent: u32) -> u32 {
    u32::try_from((u64::from(max) * u64::from(percent)).div_ceil(100)).unwrap_or(max).max(1)
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
    /// Admits and counts a code, or names the cap that refuses it. With [`Admission::AccountsOnly`] the reply must not
    /// depend on whether the number has an account; neither does what is counted for the caller.
    ///
    /// # Errors
    ///
    /// [`Refusal`]. Nothing was counted.
    pub async fn admit(
        &self,
        rules: &ShieldRules,
        number: &PhoneNumber,
        address: IpAddr,
        about: &impl Acquaintance,
        now: Timestamp,
    ) -> Result<Admission, Refusal> {
        let asked = Asked::new(number, address, now);
        let Err(refusal) = self.try_admit(rules, &asked, Part::Open, false) else {
            return Ok(Admission::Open);
        };
        // The store is read outside of the lock, and only for those that would be refused.
        match refusal.cap {
            Cap::Total | Cap::Prefix | Cap::PrefixSlowed => {
                let account = about.has_account().await;
                let part = if account { Part::Kept } else { Part::Unsent };
                let here = account && about.was_here().await;
                let Refusal { cap, retry_after } = refusal;
                let admission = Admission::AccountsOnly { account, cap, retry_after };
                self.try_admit(rules, &asked, part, here).map(|()| admission)
            }
            Cap::NumberGap | Cap::NumberHour | Cap::NumberDay => {
                if !about.was_here().await {
                    return Err(refusal);
                }
                self.try_admit(rules, &asked, Part::Kept, true).map(|()| Admission::Open)
            }
            Cap::Address | Cap::Network => Err(refusal),
        }
    }

    /// [`Shield::admit`] for a code that is sent to every number alike, so that no part is kept for any.
    ///
    /// # Errors
    ///
    /// [`Refusal`]. Nothing was counted.
    pub fn admit_stranger(
        &self,
        rules: &ShieldRules,
        number: &PhoneNumber,
        address: IpAddr,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        self.try_admit(rules, &Asked::new(number, address, now), Part::Open, false)
    }

    /// `here`: the number's account was used from the network of the caller.
    fn try_admit(
        &self,
        rules: &ShieldRules,
        asked: &Asked<'_>,
        part_of_cap: Part,
        here: bool,
    ) -> Result<(), Refusal> {
        let kept = part_of_cap != Part::Open;
        let Asked { number, address, network, prefix, now } = asked;
        let (address, network, now) = (*address, *network, *now);
        let mut state = self.lock();
        let state = &mut *state;
        state.make_room(now);

        let over = |window: &mut Window, max: u32, cap: Cap| match window.count(now) < max {
            true => Ok(()),
            false => Err(Refusal { cap, retry_after: window.retry_after(now) }),
        };
        // Behind a proxy that nobody declared all clients have the address of this machine, so it has no smaller share.
        let own_share = !is_own_machine(address);
        let address_max = match own_share {
            true => rules.address_per_hour_max.min(part(rules.total_per_hour_max, ADDRESS_OF_TOTAL_PERCENT)),
            false => rules.address_per_hour_max,
        };
        if let Some(window) = state.addresses.get_mut(&address) {
            over(window, address_max, Cap::Address)?;
        }
        if let Some(window) = state.networks.get_mut(&network) {
            over(window, rules.network_per_hour_max, Cap::Network)?;
        }
        state.total.check(kept, rules.total_per_hour_max, Cap::Total, now)?;
        let mut share = state.shares.get_mut(&(address, prefix.clone()));
        if let Some(share) = share.as_deref_mut().filter(|_| own_share) {
            over(share, part(rules.prefix_per_hour_max, ADDRESS_OF_PREFIX_PERCENT), Cap::Address)?;
        }
        let caused = share.map_or(0, |share| share.count(now));
        if let Some(prefix) = state.prefixes.get_mut(prefix) {
            prefix.sent.check(kept, rules.prefix_per_hour_max, Cap::Prefix, now)?;
            let free_at = prefix.last.saturating_add(rules.slow_gap.as_secs());
            if !kept && prefix.is_slowed(rules, now) && now < free_at {
                return Err(Refusal {
                    cap: Cap::PrefixSlowed,
                    retry_after: Duration::from_secs(free_at - now),
                });
            }
        }
        if let Some(number) = state.numbers.get_mut(number.e164()) {
            number.check(rules, here, address, now)?;
        }
        if state.is_full() {
            return Err(Refusal { cap: Cap::Total, retry_after: Duration::from_secs(STEP) });
        }
        let counts = !own_share || caused < part(rules.ratio_codes_min, ADDRESS_OF_RATIO_PERCENT);
        state.count(asked, part_of_cap, here, counts);
        self.tell(|| ShieldNote::Admitted {
            number: number.e164().to_owned(),
            address,
            part: part_of_cap,
            here,
            in_ratio: counts,
            at: Timestamp::from_secs(now),
        });
        Ok(())
    }

    /// Records a login with a number's code.
    pub fn verified(&self, number: &PhoneNumber, now: Timestamp) {
        self.lock().verified(number, now);
        self.tell(|| ShieldNote::Verified { number: number.e164().to_owned(), at: now });
    }

    /// Records that a code was certainly not sent: the gap ends. The hour's and the day's counts keep it.
    pub fn not_sent(&self, number: &PhoneNumber) {
        self.lock().end_gap(number);
        self.tell(|| ShieldNote::NotSent { number: number.e164().to_owned() });
    }

    /// What counts against the next code to a number. A refusal is the longest of those that one of the number's own
    /// addresses would get, of its prefix and of the total.
    pub fn standing(&self, rules: &ShieldRules, number: &PhoneNumber, now: Timestamp) -> Standing {
        let now = now.as_secs();
        let mut state = self.lock();
        let state = &mut *state;
        let mut refused = vec![state.total.check(false, rules.total_per_hour_max, Cap::Total, now).err()];
        if let Some(prefix) = state.prefixes.get_mut(&prefix(number)) {
            refused.push(prefix.sent.check(false, rules.prefix_per_hour_max, Cap::Prefix, now).err());
            let free_at = prefix.last.saturating_add(rules.slow_gap.as_secs());
            let slowed = prefix.is_slowed(rules, now) && now < free_at;
            let retry_after = Duration::from_secs(free_at.saturating_sub(now));
            refused.push(slowed.then_some(Refusal { cap: Cap::PrefixSlowed, retry_after }));
        }
        let (mut hour, mut day) = (0, 0);
        if let Some(number) = state.numbers.get_mut(number.e164()) {
            let sent = number.anywhere.0.iter().chain(&number.known.0);
            let (at, by): (Vec<u64>, Vec<IpAddr>) = sent.copied().unzip();
            hour = at.iter().filter(|at| now < **at + HOUR).count();
            day = at.iter().filter(|at| now < **at + DAY).count();
            for from in by {
                // The gap hides longer caps.
                refused.push(number.anywhere.check(rules, number.verified, from, now).err());
                refused.push(number.anywhere.check(rules, true, from, now).err());
            }
        }
        let refused = refused.into_iter().flatten().max_by_key(|refusal| refusal.retry_after);
        Standing { hour, day, refused }
    }

    /// Forgets the codes that count against a number. Those of its prefix, of addresses and in total stay. False when
    /// none counted.
    pub fn lift(&self, number: &PhoneNumber) -> bool {
        self.tell(|| ShieldNote::Lifted { number: number.e164().to_owned() });
        self.lock().numbers.remove(number.e164()).is_some()
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

/// A request as the counts see it.
struct Asked<'a> {
    number: &'a PhoneNumber,
    address: IpAddr,
    network: IpAddr,
    prefix: String,
    /// Seconds since 1970.
    now: u64,
}

impl Asked<'_> {
    fn new(number: &PhoneNumber, address: IpAddr, now: Timestamp) -> Asked<'_> {
        let address = address.to_canonical();
        Asked { number, address, network: network(address), prefix: prefix(number), now: now.as_secs() }
    }
}

/// Which part of the total and of the prefix a code is counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// What everybody may use.
    Open,
    /// What is kept for numbers with an account.
    Kept,
    /// As [`Part::Kept`], but no code is sent, so the part is not used up.
    Unsent,
}

impl State {
    /// Removes expired entries when a map is full.
    fn make_room(&mut self, now: u64) {
        retain_when_full(&mut self.numbers, |number| number.last().is_some_and(|at| now < at + DAY));
        retain_when_full(&mut self.addresses, |window| !window.is_over(now));
        retain_when_full(&mut self.networks, |window| !window.is_over(now));
        retain_when_full(&mut self.prefixes, |prefix| prefix.sent.count(now) > 0);
        retain_when_full(&mut self.shares, |window| !window.is_over(now));
    }

    fn is_full(&self) -> bool {
        let State { numbers, addresses, networks, prefixes, shares, .. } = self;
        let full = [numbers.len(), addresses.len(), networks.len(), prefixes.len(), shares.len()];
        full.iter().any(|len| *len >= ENTRIES_MAX)
    }

    /// A login with a number's code.
    fn verified(&mut self, number: &PhoneNumber, now: Timestamp) {
        self.end_gap(number);
        if let Some(prefix) = self.prefixes.get_mut(&prefix(number)) {
            prefix.verified.add(now.as_secs());
        }
    }

    fn end_gap(&mut self, number: &PhoneNumber) {
        if let Some(number) = self.numbers.get_mut(number.e164()) {
            number.verified = true;
        }
    }

    /// `in_ratio`: it counts for the prefix's share of logins.
    fn count(&mut self, asked: &Asked<'_>, part: Part, here: bool, in_ratio: bool) {
        let now = asked.now;
        if part != Part::Unsent {
            self.total.add(part == Part::Kept, now);
        }
        self.addresses.entry(asked.address).or_default().add(now);
        self.networks.entry(asked.network).or_default().add(now);
        self.shares.entry((asked.address, asked.prefix.clone())).or_default().add(now);
        if part != Part::Unsent {
            let prefix = self.prefixes.entry(asked.prefix.clone()).or_default();
            prefix.sent.add(part == Part::Kept, now);
            // A code to an account is no sign of pumping, and must not move what others are told.
            if part == Part::Open {
                prefix.last = now;
                if in_ratio {
                    prefix.counted.add(now);
                }
            }
        }
        let number = self.numbers.entry(asked.number.e164().to_owned()).or_default();
        number.sent(here).0.push_back((now, asked.address));
        number.verified = false;
    }
}

fn retain_when_full<K: Eq + Hash, V>(map: &mut HashMap<K, V>, keep: impl Fn(&mut V) -> bool) {
    if map.len() >= ENTRIES_MAX {
        map.retain(|_, value| keep(value));
    }
}

impl Number {
    fn sent(&mut self, here: bool) -> &mut Sent {
        if here { &mut self.known } else { &mut self.anywhere }
    }

    /// When the newest code was sent.
    fn last(&self) -> Option<u64> {
        self.anywhere.last().max(self.known.last())
    }

    fn check(&mut self, rules: &ShieldRules, here: bool, from: IpAddr, now: u64) -> Result<(), Refusal> {
        let verified = self.verified;
        self.sent(here).check(rules, verified, from, now)
    }
}

impl Sent {
    fn last(&self) -> Option<u64> {
        self.0.back().map(|(at, _)| *at)
    }

    fn check(&mut self, rules: &ShieldRules, verified: bool, from: IpAddr, now: u64) -> Result<(), Refusal> {
        while self.0.front().is_some_and(|(at, _)| at + DAY <= now) {
            self.0.pop_front();
        }
        let until = |cap, free_at: u64| {
            Err(Refusal { cap, retry_after: Duration::from_secs(free_at.saturating_sub(now).max(1)) })
        };
        if let Some(last) = self.last().filter(|_| !verified) {
            let free_at = last + rules.number_gap.as_secs();
            if now < free_at {
                return until(Cap::NumberGap, free_at);
            }
        }
        for (cap, max, span) in [
            (Cap::NumberHour, rules.number_per_hour_max, HOUR),
            (Cap::NumberDay, rules.number_per_day_max, DAY),
        ] {
            // A cap frees up when the oldest of the last `max` codes expires.
            let all = self.0.len().checked_sub(max as usize).and_then(|index| self.0.get(index));
            let share = part(max, if is_own_machine(from) { 100 } else { ADDRESS_OF_NUMBER_PERCENT });
            let own = self.0.iter().rev().filter(|(_, by)| *by == from).nth(share as usize - 1);
            let oldest =
                [all, own].into_iter().flatten().map(|(at, _)| *at).filter(|at| now < at + span).max();
            if let Some(oldest) = oldest {
                return until(cap, oldest + span);
            }
        }
        Ok(())
    }
}

impl Prefix {
    fn is_slowed(&mut self, rules: &ShieldRules, now: u64) -> bool {
        let (sent, verified) = (self.counted.count(now), self.verified.count(now));
        sent >= rules.ratio_codes_min
            && u64::from(verified) * 100 < u64::from(sent) * u64::from(rules.ratio_percent_min)
    }
}

/// All but the last four digits.
fn prefix(number: &PhoneNumber) -> String {
    let e164 = number.e164();
    e164[..e164.len() - 4].to_owned()
}

#[cfg(test)]
mod tests;
