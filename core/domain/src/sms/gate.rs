//! The gate of a provider: circuit breaker, rate limit and concurrency limit.
//!
//! The circuit opens after repeated failures of the provider (not of a message), so that no message waits for a
//! provider that is down. Later one message probes it (half open). Its result closes the circuit or opens it again,
//! each time for twice as long. A provider that says how long it wants to be left alone opens it for that time at once.
//! Invariants: a message that the gate refuses was not sent to the provider; a gate survives reloads, and a change of
//! the provider's component, settings or grants half-opens its circuit; a result of the provider before such a change
//! says nothing about the one after it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::credit::{Credit, CreditSeen};
use super::{SmsError, SmsReceipt};
use crate::{Range, Timestamp};

/// How long a message waits for a free place before the gate is busy.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest time that a provider is left alone because it said so. A wrong or hostile number would switch it off.
pub(super) const TOLD_MAX: Duration = Duration::from_secs(15 * 60);
/// Limit on the growth of the open time, as a multiple of its first duration.
const OPEN_GROWTH_MAX: u32 = 8;

/// Failures in a row that open the circuit.
pub const FAILURES: Range<u32> = Range::new(1, 1000, 5);
/// How long the circuit opens first.
pub const OPEN_SECS: Range<u64> = Range::new(1, 3600, 15);
/// Concurrent messages; 0: unlimited.
pub const CONCURRENCY: Range<u32> = Range::new(0, 4096, 0);
/// Messages per second; 0: unlimited.
pub const RATE_PER_SECOND: Range<u32> = Range::new(0, 100_000, 0);

/// Limits of one provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateRules {
    /// See [`FAILURES`].
    pub failures: u32,
    /// See [`OPEN_SECS`].
    pub open_for: Duration,
    /// See [`CONCURRENCY`].
    pub concurrency_max: u32,
    /// See [`RATE_PER_SECOND`].
    pub rate_per_second: u32,
}

impl Default for GateRules {
    fn default() -> Self {
        GateRules {
            failures: FAILURES.default,
            open_for: OPEN_SECS.default_secs(),
            concurrency_max: CONCURRENCY.default,
            rate_per_second: RATE_PER_SECOND.default,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Circuit {
    Closed,
    Open,
    HalfOpen,
}

impl Circuit {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Circuit::Closed => "closed",
            Circuit::Open => "open",
            Circuit::HalfOpen => "half-open",
        }
    }
}

/// One provider's gate.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rules: GateRules,
    /// Failures in a row.
    failures: u32,
    /// Set while the circuit is open or half open.
    open_until: Option<Timestamp>,
    /// Times it opened in a row.
    opened: u32,
    /// When the current probe began.
    probing: Option<Timestamp>,
    /// Changes of the provider so far.
    epoch: u64,
    /// The earliest time of the message after the next (a leaky bucket of one second's messages).
    rate_at: Timestamp,
    places: Option<Arc<Semaphore>>,
    credit: CreditSeen,
}

/// Permission to pass. Report the result with [`Pass::end`].
#[derive(Debug)]
pub struct Pass {
    gate: Arc<Gate>,
    probe: bool,
    /// See [`State::epoch`]; of when the message passed.
    epoch: u64,
    ended: bool,
    _place: Option<OwnedSemaphorePermit>,
}

impl Gate {
    #[must_use]
    pub fn new(rules: GateRules) -> Self {
        Gate {
            state: Mutex::new(State {
                rules,
                failures: 0,
                open_until: None,
                opened: 0,
                probing: None,
                epoch: 0,
                rate_at: Timestamp::default(),
                places: places(rules),
                credit: CreditSeen::default(),
            }),
        }
    }

    /// Replaces the limits.
    pub fn set_rules(&self, rules: GateRules) {
        let mut state = self.lock();
        if state.rules.concurrency_max != rules.concurrency_max {
            state.places = places(rules);
        }
        state.rules = rules;
    }

    /// Half-opens an open circuit: the provider was changed, so the next message may try it.
    ///
    /// Messages that are on their way keep their places, and their results change nothing any more.
    pub fn try_again(&self) {
        let mut state = self.lock();
        state.epoch += 1;
        // Another account may have another credit.
        state.credit = CreditSeen::default();
        if state.open_until.is_some() {
            state.open_until = Some(Timestamp::default());
            state.opened = 0;
            state.probing = None;
        }
    }

    /// What is known of the provider's credit.
    #[must_use]
    pub fn credit(&self) -> CreditSeen {
        self.lock().credit.clone()
    }

    /// Records the answer to a question about the credit, or why there is none.
    pub fn note_credit(&self, answer: Result<Credit, &'static str>, now: Timestamp) {
        let mut state = self.lock();
        let seen = &mut state.credit;
        seen.asked_at = Some(now);
        seen.error = answer.err();
        if let Ok(credit) = answer {
            seen.credit = Some(credit);
            seen.empty_since = (credit.amount() <= 0).then_some(now);
        }
    }

    #[must_use]
    pub fn circuit(&self, now: Timestamp) -> Circuit {
        let state = self.lock();
        match state.open_until {
            None => Circuit::Closed,
            Some(until) if now < until => Circuit::Open,
            Some(_) => Circuit::HalfOpen,
        }
    }

    /// Time until a message may pass; `None` when one may pass now, as far as known.
    #[must_use]
    pub fn wait(&self, now: Timestamp) -> Option<Duration> {
        let state = self.lock();
        if let Some(until) = state.open_until {
            if now < until {
                return Some(until.since(now));
            }
            if state.probing.is_some_and(|since| now < since.plus(state.rules.open_for)) {
                return Some(Duration::from_millis(100));
            }
        }
        let wait = state.rate_wait(now);
        (!wait.is_zero()).then_some(wait)
    }

    /// Number of messages that may pass now, one after another, as far as known; 1 while the circuit is half open.
    #[must_use]
    pub fn room(&self, now: Timestamp) -> usize {
        let state = self.lock();
        if let Some(until) = state.open_until {
            let probing = state.probing.is_some_and(|since| now < since.plus(state.rules.open_for));
            return usize::from(now >= until && !probing);
        }
        state.rate_room(now)
    }

    /// Lets a message through.
    ///
    /// # Errors
    ///
    /// [`SmsError::CircuitOpen`] while the provider is not asked, [`SmsError::Busy`] past the rate or when no place
    /// became free in time.
    pub async fn enter(self: &Arc<Self>, now: Timestamp) -> Result<Pass, SmsError> {
        let (probe, epoch, places) = {
            let mut state = self.lock();
            let mut probe = false;
            if let Some(until) = state.open_until {
                let probing = state.probing.is_some_and(|since| now < since.plus(state.rules.open_for));
                if now < until || probing {
                    return Err(SmsError::CircuitOpen);
                }
                state.probing = Some(now);
                probe = true;
            }
            if !state.rate_take(now) {
                if probe {
                    state.probing = None;
                }
                return Err(SmsError::Busy);
            }
            (probe, state.epoch, state.places.clone())
        };
        let mut pass = Pass { gate: Arc::clone(self), probe, epoch, ended: false, _place: None };
        if let Some(places) = places {
            match tokio::time::timeout(PLACE_TIMEOUT, places.acquire_owned()).await {
                Ok(Ok(place)) => pass._place = Some(place),
                _ => return Err(SmsError::Busy),
            }
        }
        Ok(pass)
    }

    /// No code that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Between two messages; `None` without a rate.
    fn rate_gap(&self) -> Option<Duration> {
        let micros = 1_000_000u64.checked_div(u64::from(self.rules.rate_per_second))?;
        Some(Duration::from_micros(micros.max(1)))
    }

    fn rate_wait(&self, now: Timestamp) -> Duration {
        let Some(gap) = self.rate_gap() else { return Duration::ZERO };
        // One second's messages may pass at once.
        (self.rate_at.max(now).since(now) + gap).saturating_sub(Duration::from_secs(1))
    }

    fn rate_room(&self, now: Timestamp) -> usize {
        let Some(gap) = self.rate_gap() else { return usize::MAX };
        let left = Duration::from_secs(1).saturating_sub(self.rate_at.since(now));
        usize::try_from(left.as_micros() / gap.as_micros()).unwrap_or(usize::MAX)
    }

    fn rate_take(&mut self, now: Timestamp) -> bool {
        let Some(gap) = self.rate_gap() else { return true };
        if !self.rate_wait(now).is_zero() {
            return false;
        }
        self.rate_at = self.rate_at.max(now).plus(gap);
        true
    }
}

impl Pass {
    /// Reports the provider's result.
    pub fn end(mut self, result: &Result<SmsReceipt, SmsError>, now: Timestamp) {
        self.ended = true;
        let verdict = verdict(result);
        let mut state = self.gate.lock();
        if self.epoch != state.epoch {
            return;
        }
        if self.probe {
            state.probing = None;
        }
        match result {
            Ok(_) => state.credit.empty_since = None,
            Err(SmsError::InsufficientCredit(_)) => state.credit.empty_since = Some(now),
            Err(_) => {}
        }
        match verdict {
            Verdict::Works => {
                state.failures = 0;
                state.opened = 0;
                state.open_until = None;
            }
            Verdict::Fails => {
                state.failures = state.failures.saturating_add(1);
                let reopens =
                    self.probe || (state.open_until.is_none() && state.failures >= state.rules.failures);
                if reopens {
                    let growth = 1u32.checked_shl(state.opened).unwrap_or(u32::MAX).min(OPEN_GROWTH_MAX);
                    state.open_until = Some(now.plus(state.rules.open_for * growth));
                    state.opened = (state.opened + 1).min(OPEN_GROWTH_MAX);
                }
                if let Err(SmsError::Throttled(Some(wait))) = result {
                    let until = now.plus((*wait).min(TOLD_MAX));
                    state.open_until = state.open_until.max(Some(until));
                }
            }
            Verdict::SaysNothing => {}
        }
    }
}

impl Drop for Pass {
    /// A dropped message says nothing about the provider; another one may probe.
    fn drop(&mut self) {
        if self.probe && !self.ended {
            let mut state = self.gate.lock();
            if self.epoch == state.epoch {
                state.probing = None;
            }
        }
    }
}

enum Verdict {
    Works,
    Fails,
    SaysNothing,
}

/// Whether a result is about the provider or about the message.
fn verdict(result: &Result<SmsReceipt, SmsError>) -> Verdict {
    match result {
        Ok(_) | Err(SmsError::InvalidRecipient(_) | SmsError::InvalidMessage(_)) => Verdict::Works,
        Err(
            SmsError::Unauthorized(_)
            | SmsError::InsufficientCredit(_)
            | SmsError::Throttled(_)
            | SmsError::Unavailable(_)
            | SmsError::Misconfigured(_)
            | SmsError::UnknownOutcome(_)
            | SmsError::BrokeDown(_)
            | SmsError::PluginFault { .. },
        ) => Verdict::Fails,
        Err(
            SmsError::InvalidTemplate(_)
            | SmsError::NotMapped
            | SmsError::Rejected(_)
            | SmsError::Busy
            | SmsError::CircuitOpen,
        ) => Verdict::SaysNothing,
    }
}

fn places(rules: GateRules) -> Option<Arc<Semaphore>> {
    (rules.concurrency_max > 0).then(|| Arc::new(Semaphore::new(rules.concurrency_max as usize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: Result<SmsReceipt, SmsError> = Err(SmsError::Throttled(None));
    const BAD_NUMBER: fn() -> Result<SmsReceipt, SmsError> =
        || Err(SmsError::InvalidRecipient(crate::sms::Rejection { code: "411".into(), text: String::new() }));

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1000 + secs)
    }

    fn gate(rules: GateRules) -> Arc<Gate> {
        Arc::new(Gate::new(rules))
    }

    async fn fail(gate: &Arc<Gate>, now: Timestamp) {
        gate.enter(now).await.expect("let through").end(&DOWN, now);
    }

    #[tokio::test]
    async fn a_changed_provider_is_tried_at_once_and_its_fate_decides() {
        let gate = gate(GateRules { failures: 2, open_for: Duration::from_secs(10), ..GateRules::default() });
        gate.try_again();
        assert_eq!(gate.circuit(at(0)), Circuit::Closed, "a closed circuit stays closed");
        fail(&gate, at(0)).await;
        fail(&gate, at(0)).await;
        assert_eq!(gate.circuit(at(1)), Circuit::Open);
        gate.try_again();
        assert_eq!(gate.circuit(at(1)), Circuit::HalfOpen);
        fail(&gate, at(1)).await;
        assert_eq!(gate.circuit(at(2)), Circuit::Open, "one failure opens it again");
        gate.try_again();
        gate.enter(at(2)).await.expect("one may try").end(&BAD_NUMBER(), at(2));
        assert_eq!(gate.circuit(at(2)), Circuit::Closed);
    }

    #[tokio::test]
    async fn a_late_result_of_the_provider_before_a_change_says_nothing_about_the_one_after_it() {
        let told: Result<SmsReceipt, SmsError> = Err(SmsError::Throttled(Some(Duration::from_secs(900))));
        let rules = GateRules { failures: 1, open_for: Duration::from_secs(10), ..GateRules::default() };
        for late in [&DOWN, &told] {
            // A probe, and a message that passed while the circuit was closed.
            for is_probe in [true, false] {
                let gate = gate(rules);
                let usual = gate.enter(at(0)).await.expect("let through");
                fail(&gate, at(0)).await;
                let probe = gate.enter(at(10)).await.expect("one may try");
                gate.try_again();
                let new = gate.enter(at(10)).await.expect("the changed one is tried");
                let old = if is_probe { probe } else { usual };
                // The new probe goes on: no other message may try meanwhile.
                old.end(late, at(11));
                assert_eq!(gate.enter(at(11)).await.unwrap_err(), SmsError::CircuitOpen, "{late:?}");
                new.end(&BAD_NUMBER(), at(11));
                assert_eq!(gate.circuit(at(11)), Circuit::Closed, "{late:?}, probe: {is_probe}");
            }
            // After the new one answered, too.
            let gate = gate(rules);
            fail(&gate, at(0)).await;
            let old = gate.enter(at(10)).await.expect("one may try");
            gate.try_again();
            gate.enter(at(10)).await.expect("one may try").end(&BAD_NUMBER(), at(10));
            old.end(late, at(11));
            assert_eq!(gate.circuit(at(11)), Circuit::Closed, "{late:?}");
        }
    }

    #[tokio::test]
    async fn a_dropped_message_of_the_provider_before_a_change_makes_no_room_for_a_second_probe() {
        let gate = gate(GateRules { failures: 1, concurrency_max: 2, ..GateRules::default() });
        fail(&gate, at(0)).await;
        let old = gate.enter(at(60)).await.expect("one may try");
        gate.try_again();
        let new = gate.enter(at(60)).await.expect("the changed one is tried");
        drop(old);
        assert_eq!(gate.enter(at(60)).await.unwrap_err(), SmsError::CircuitOpen);
        new.end(&BAD_NUMBER(), at(60));
        // The places of both are free again.
        let _held = (gate.enter(at(60)).await.expect("a place"), gate.enter(at(60)).await.expect("a place"));
    }

    #[tokio::test]
    async fn a_provider_is_left_alone_for_as_long_as_it_says() {
        let gate = gate(GateRules::default());
        let throttle = async |secs: u64, now: Timestamp| {
            let told = Err(SmsError::Throttled(Some(Duration::from_secs(secs))));
            gate.enter(now).await.expect("let through").end(&told, now);
        };
        throttle(60, at(0)).await;
        assert_eq!((gate.circuit(at(59)), gate.circuit(at(60))), (Circuit::Open, Circuit::HalfOpen));
        assert_eq!(gate.enter(at(59)).await.unwrap_err(), SmsError::CircuitOpen);
        gate.enter(at(60)).await.expect("one may try").end(&BAD_NUMBER(), at(60));
        assert_eq!(gate.circuit(at(60)), Circuit::Closed);
        // At most a quarter of an hour, whatever it says.
        throttle(u64::from(u32::MAX), at(100)).await;
        assert_eq!((gate.circuit(at(999)), gate.circuit(at(1000))), (Circuit::Open, Circuit::HalfOpen));
    }

    #[tokio::test]
    async fn a_circuit_opens_after_failures_in_a_row_and_one_probe_closes_it() {
        let gate = gate(GateRules { failures: 3, open_for: Duration::from_secs(10), ..GateRules::default() });
        fail(&gate, at(0)).await;
        fail(&gate, at(0)).await;
        // A refused number is the message's fault and shows that the provider works.
        gate.enter(at(0)).await.unwrap().end(&BAD_NUMBER(), at(0));
        for _ in 0..3 {
            assert_eq!(gate.circuit(at(0)), Circuit::Closed);
            fail(&gate, at(0)).await;
        }
        assert_eq!(gate.circuit(at(9)), Circuit::Open);
        assert_eq!(gate.enter(at(9)).await.unwrap_err(), SmsError::CircuitOpen);
        assert_eq!(gate.wait(at(9)), Some(Duration::from_secs(1)));
        assert_eq!(gate.circuit(at(10)), Circuit::HalfOpen);
        let probe = gate.enter(at(10)).await.unwrap();
        assert_eq!(gate.enter(at(10)).await.unwrap_err(), SmsError::CircuitOpen, "one probe at a time");
        probe.end(&BAD_NUMBER(), at(11));
        assert_eq!(gate.circuit(at(11)), Circuit::Closed);
        assert!(gate.enter(at(11)).await.is_ok());
    }

    #[tokio::test]
    async fn a_failed_probe_opens_for_twice_as_long_up_to_a_bound() {
        let gate = gate(GateRules { failures: 1, open_for: Duration::from_secs(1), ..GateRules::default() });
        let mut now = at(0);
        for wait in [1, 2, 4, 8, 8, 8] {
            fail(&gate, now).await;
            assert_eq!(gate.wait(now), Some(Duration::from_secs(wait)));
            now = now.plus(Duration::from_secs(wait));
        }
        // A probe that is dropped half way makes room for another.
        drop(gate.enter(now).await.unwrap());
        assert!(gate.enter(now).await.is_ok());
    }

    #[tokio::test]
    async fn a_rate_lets_one_seconds_messages_through_at_once() {
        let gate = gate(GateRules { rate_per_second: 4, ..GateRules::default() });
        for _ in 0..4 {
            assert!(gate.enter(at(0)).await.is_ok());
        }
        assert_eq!(gate.enter(at(0)).await.unwrap_err(), SmsError::Busy);
        let quarter = at(0).plus(Duration::from_millis(250));
        assert!(gate.enter(quarter).await.is_ok());
        assert_eq!(gate.enter(quarter).await.unwrap_err(), SmsError::Busy);
        // What is said beforehand is what happens.
        for (millis, room) in [(250, 0), (499, 0), (500, 1), (1000, 3), (1250, 4), (9000, 4)] {
            let then = at(0).plus(Duration::from_millis(millis));
            assert_eq!((gate.room(then), gate.wait(then).is_none()), (room, room > 0), "{millis} ms");
        }
        assert_eq!(gate.wait(quarter), Some(Duration::from_millis(250)));
        gate.set_rules(GateRules::default());
        assert!(gate.enter(quarter).await.is_ok());
    }

    #[tokio::test]
    async fn a_message_past_the_places_waits_for_one() {
        let gate = gate(GateRules { concurrency_max: 1, ..GateRules::default() });
        let held = gate.enter(at(0)).await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(50), gate.enter(at(0))).await;
        assert!(waiting.is_err(), "the second went through beside the first");
        drop(held);
        assert!(gate.enter(at(0)).await.is_ok());
    }
}
