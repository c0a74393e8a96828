//! The credit of providers: asked on a schedule, and used to order them.
//!
//! A provider without credit steps back behind the others until it has some, so no message waits for its refusal. It
//! has none when it says so, or when it refuses a message for that reason. It steps forward again when it reports
//! credit, takes a message, or is changed; and after [`STEP_BACK`], for providers that cannot be asked. The state is
//! in the provider's gate, which survives reloads. Next: `ask_credit`, which asks, and `route`, which orders.

use std::time::Duration;

use crate::{Range, Timestamp};

/// Minutes between two questions about a provider's credit; 0: never asked.
pub const CREDIT_MINUTES: Range<u64> = Range::new(0, 1440, 30);
/// How long a provider without credit steps back before it is tried first again.
pub const STEP_BACK: Duration = Duration::from_secs(10 * 60);
/// A provider without credit is asked more often, so that it steps forward soon after it was paid.
const ASK_DRY: Duration = Duration::from_secs(60);

/// What is left at a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credit {
    /// Money in rial; negative when the account owes.
    Rial(i64),
    /// A number of messages.
    Messages(i64),
}

impl Credit {
    #[must_use]
    pub fn amount(self) -> i64 {
        let (Credit::Rial(amount) | Credit::Messages(amount)) = self;
        amount
    }

    /// The unit's name in the status and in metrics.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Credit::Rial(_) => "rial",
            Credit::Messages(_) => "messages",
        }
    }
}

/// What is known of a provider's credit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreditSeen {
    /// The last answer.
    pub credit: Option<Credit>,
    /// When it was asked last, answered or not.
    pub asked_at: Option<Timestamp>,
    /// Why the last question failed.
    pub error: Option<&'static str>,
    /// Since when it has none, by its own word or by a refused message.
    pub empty_since: Option<Timestamp>,
}

impl CreditSeen {
    /// Whether the provider steps back now.
    #[must_use]
    pub fn is_empty(&self, now: Timestamp) -> bool {
        self.empty_since.is_some_and(|since| now < since.plus(STEP_BACK))
    }

    /// Whether it is time to ask.
    pub(super) fn is_due(&self, every: Duration, now: Timestamp) -> bool {
        let every = if self.empty_since.is_some() { every.min(ASK_DRY) } else { every };
        self.asked_at.is_none_or(|asked| asked.plus(every) <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sms::gate::{Gate, GateRules};
    use crate::sms::{Rejection, SmsError, SmsReceipt};
    use std::sync::Arc;

    const RECEIPT: fn() -> Result<SmsReceipt, SmsError> = || {
        let (provider, message_id) = ("A".to_owned(), Some("1".to_owned()));
        Ok(SmsReceipt { provider, message_id, duplicate: false, cost_rial: None })
    };
    const BROKE: fn() -> Result<SmsReceipt, SmsError> =
        || Err(SmsError::InsufficientCredit(Rejection { code: "418".into(), text: String::new() }));

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1000 + secs)
    }

    async fn end(gate: &Arc<Gate>, result: Result<SmsReceipt, SmsError>, now: Timestamp) {
        gate.enter(now).await.expect("let through").end(&result, now);
    }

    #[tokio::test]
    async fn a_provider_without_credit_steps_back_until_it_has_some() {
        let gate = Arc::new(Gate::new(GateRules { failures: 100, ..GateRules::default() }));
        assert!(!gate.credit().is_empty(at(0)), "nothing is known");
        gate.note_credit(Ok(Credit::Rial(0)), at(0));
        assert!(gate.credit().is_empty(at(1)));
        gate.note_credit(Ok(Credit::Messages(1)), at(2));
        assert!(!gate.credit().is_empty(at(2)));
        end(&gate, BROKE(), at(3)).await;
        assert!(gate.credit().is_empty(at(3)), "a refused message says it too");
        gate.note_credit(Err("unavailable"), at(4));
        assert!(gate.credit().is_empty(at(4)), "no answer is no credit");
        assert_eq!(gate.credit().error, Some("unavailable"));
        end(&gate, RECEIPT(), at(5)).await;
        assert!(!gate.credit().is_empty(at(5)), "it took a message");
        end(&gate, BROKE(), at(6)).await;
        assert!(gate.credit().is_empty(at(6).plus(STEP_BACK - Duration::from_secs(1))));
        assert!(!gate.credit().is_empty(at(6).plus(STEP_BACK)), "one that cannot be asked is tried again");
        end(&gate, BROKE(), at(7)).await;
        gate.try_again();
        assert!(!gate.credit().is_empty(at(7)), "it was changed");
    }

    #[tokio::test]
    async fn an_empty_account_is_asked_more_often() {
        let gate = Gate::new(GateRules::default());
        let every = Duration::from_secs(1800);
        assert!(gate.credit().is_due(every, at(0)));
        gate.note_credit(Ok(Credit::Rial(5)), at(0));
        assert!(!gate.credit().is_due(every, at(1799)));
        assert!(gate.credit().is_due(every, at(1800)));
        gate.note_credit(Ok(Credit::Rial(-5)), at(1800));
        assert!(!gate.credit().is_due(every, at(1859)));
        assert!(gate.credit().is_due(every, at(1860)));
    }
}
