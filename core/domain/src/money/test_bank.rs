//! The virtual bank for trial payments. No real money.

/// What the payer did in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BankState {
    Waiting,
    Paid,
    Cancelled,
    /// Paid, then reversed by the shop.
    Reversed,
}

/// A payer's decision, made once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BankDecision {
    Pay,
    Cancel,
}

/// One payment, as its payer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BankSession {
    /// Rial.
    pub amount: u64,
    /// The payer's return address.
    pub callback_url: String,
    /// Payers arrive by a form, with a referrer.
    pub by_form: bool,
    pub state: BankState,
}

/// The bank behind the virtual bank's page.
pub trait TestBank: Send + Sync {
    /// The session with this reference; `None` when the bank does not know it (any more).
    fn session(&self, reference: &str) -> Option<BankSession>;

    /// Applies the payer's decision. False when the session is already decided, or does not exist.
    fn decide(&self, reference: &str, decision: BankDecision) -> bool;
}
