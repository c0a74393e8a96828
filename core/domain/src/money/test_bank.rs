//! The virtual bank with which payments are tried out. No real money.

/// What the payer did in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BankState {
    Waiting,
    Paid,
    Cancelled,
    /// Paid, and given back by the shop.
    Reversed,
}

/// What a payer may decide, once.
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
    /// Where the payer is sent back to.
    pub callback_url: String,
    pub state: BankState,
}

/// The virtual bank's page asks this.
pub trait TestBank: Send + Sync {
    /// The session with this reference; `None` when the bank does not know it (any more).
    fn session(&self, reference: &str) -> Option<BankSession>;

    /// The payer decides. False when the session was decided before, or there is none.
    fn decide(&self, reference: &str, decision: BankDecision) -> bool;
}
