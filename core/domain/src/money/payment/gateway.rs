//! The port to payment gateways: the questions and the possible answers.
//!
//! Answers here are domain types; [`super::verdict`] decides what they mean for a payment. Amounts are rial. A
//! gateway that counts in another unit declares it, and gets only amounts that divide evenly. Not here: protocols
//! (plugins).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chelseru_store::Payment;
pub use chelseru_store::{PaymentClaim, PaymentReceipt, PaymentStart, Redirect, RedirectMethod};

use crate::Timestamp;

/// The configured gateways by name.
pub trait PaymentGateways: Send + Sync {
    /// The gateway of new payments. `None` once it was replaced by gateways that lack it.
    fn selected(&self) -> Option<Arc<dyn PaymentGateway>>;
    fn by_name(&self, name: &str) -> Option<Arc<dyn PaymentGateway>>;
    /// All gateways, the selected one first.
    fn all(&self) -> Vec<Arc<dyn PaymentGateway>>;
}

/// One configured gateway.
#[async_trait]
pub trait PaymentGateway: Send + Sync {
    fn name(&self) -> &str;
    /// The name of its plugin. Another plugin speaks another protocol.
    fn plugin(&self) -> &str;
    /// The digest of the plugin's bytes.
    fn digest(&self) -> &str;
    fn rules(&self) -> GatewayRules;

    /// Begins a payment at the gateway. No payer has the bank's address before this returns.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    async fn create(&self, payment: NewPayment) -> Result<PaymentStart, GatewayError>;

    /// Decodes a callback without network access; `None` when it belongs to another gateway.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    async fn decode(&self, callback: &Callback) -> Result<Option<Claim>, GatewayError>;

    /// Asks whether a payment is paid, and confirms it if so. May be repeated.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`]. Each of them leaves the payment's state unknown.
    async fn verify(
        &self,
        payment: StoredPayment,
        claim: Option<PaymentClaim>,
    ) -> Result<Verdict, GatewayError>;

    /// The paid payments that wait for confirmation; called only for gateways whose rules offer the list.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    async fn list_unverified(&self) -> Result<Vec<Listed>, GatewayError>;

    /// Returns the whole payment to the payer; succeeds if it was already returned. Called only if the rules offer
    /// it. May be repeated.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    async fn reverse(&self, payment: StoredPayment, receipt_number: String) -> Result<(), GatewayError>;
}

/// A gateway's rules about money, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayRules {
    /// Rial.
    pub amount_min: u64,
    /// Rial.
    pub amount_max: u64,
    /// Amounts must be a multiple of this many rial.
    pub unit_rial: u64,
    /// How long after its creation a payment can be paid.
    pub window: Duration,
    pub unconfirmed: Unconfirmed,
    pub lists_unverified: bool,
    /// How long after its payment a payment can be reversed; `None`: never.
    pub reverse_within: Option<Duration>,
}

/// What happens to paid money without confirmation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unconfirmed {
    /// The gateway keeps it until it is confirmed or returned.
    Kept,
    /// The gateway returns it automatically, this long after the payment.
    ReturnedAfter(Duration),
}

/// The data of a payment sent to its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPayment {
    /// Our payment id. Stays the same across retries.
    pub local_id: u64,
    /// Rial.
    pub amount: u64,
    pub callback_url: String,
    pub description: String,
    pub order: String,
    /// E.164 with a leading plus.
    pub mobile: Option<String>,
    pub email: Option<String>,
}

/// A request to `payment/verify/`, as received.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Callback {
    /// Upper case.
    pub method: String,
    /// Without the question mark.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// The contents of a callback. Only a claim, because anyone can send one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The gateway's reference of the payment.
    pub reference: String,
    pub claim: PaymentClaim,
}

/// A payment that a gateway lists as paid and unconfirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The gateway's reference of the payment.
    pub reference: String,
    /// Rial, if reported.
    pub amount: Option<u64>,
}

/// A payment as stored at creation, for questions to its gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPayment {
    pub local_id: u64,
    pub reference: String,
    /// Rial.
    pub amount: u64,
    pub order: String,
    /// The plugin's state from creation.
    pub state: Vec<u8>,
}

impl StoredPayment {
    /// `None` before the gateway has begun it.
    pub(super) fn of(payment: &Payment) -> Option<StoredPayment> {
        let start = payment.start.as_ref()?;
        Some(StoredPayment {
            local_id: payment.id.0,
            reference: start.reference.clone(),
            amount: payment.amount,
            order: payment.order.clone(),
            state: start.state.clone(),
        })
    }
}

/// A gateway's clear answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Paid {
        receipt: chelseru_store::PaymentReceipt,
        /// Rial, if the gateway reports it.
        amount: Option<u64>,
        /// An earlier question already confirmed it.
        before: bool,
    },
    /// Not paid yet: the payer may still be at the bank.
    NotPaid(Reason),
    /// The gateway itself reports that the payer cancelled; nobody can pay it any more.
    Cancelled(Reason),
    /// The gateway itself reports that it failed or was returned; nobody can pay it any more.
    Failed(Reason),
    /// Still in progress; ask again, after this time if the gateway names one.
    Pending(Option<Duration>),
    /// The gateway denies the claim. This proves nothing about the payment.
    ClaimDenied(Reason),
    /// The gateway's answer is about another payment or amount. Holds the field's name.
    Mismatch(String),
    /// The gateway does not know the reference.
    UnknownReference,
}

/// A gateway's code and text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reason {
    pub code: String,
    pub text: String,
    /// The request field that the gateway refuses, in the gateway's spelling.
    pub field: Option<String>,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.code)?;
        if let Some(field) = &self.field {
            write!(f, ", field {field}")?;
        }
        if !self.text.is_empty() {
            write!(f, ": {}", self.text)?;
        }
        Ok(())
    }
}

/// Why there is no clear answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// The gateway refused; nothing was done.
    #[error("the gateway refused ({0})")]
    Refused(Reason),
    /// The account, its settings or its permissions are refused; nothing was done.
    #[error("the gateway refuses the account ({0})")]
    Unauthorized(Reason),
    /// The gateway limits requests; with its wait, if named. Nothing was done.
    #[error("the gateway limits requests")]
    Throttled(Option<Duration>),
    /// Unreachable, out of service, or too many calls are waiting. Nothing was done.
    #[error("the gateway was unavailable: {0}")]
    Unavailable(String),
    /// The outcome is unknown.
    #[error("the gateway's answer is missing or unreadable: {0}")]
    Unknown(String),
}

impl GatewayError {
    /// Whether the gateway certainly did nothing.
    #[must_use]
    pub fn nothing_done(&self) -> bool {
        !matches!(self, GatewayError::Unknown(_))
    }
}

impl GatewayRules {
    /// The end of the payment window of a payment created now.
    #[must_use]
    pub fn window_end(&self, now: Timestamp) -> Timestamp {
        now.plus(self.window)
    }
}
