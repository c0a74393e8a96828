//! The port to payment gateways: what is asked of one, and what it may answer.
//!
//! An answer here is a gateway's word in the domain's words; what it means for a payment is [`super::verdict`]'s
//! decision. Amounts are rial; a gateway that counts otherwise declares its unit, and an amount that does not divide
//! evenly never reaches it. Not here: protocols (plugins).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chelseru_store::Payment;
pub use chelseru_store::{PaymentClaim, PaymentReceipt, PaymentStart, Redirect};

use crate::Timestamp;

/// The configured gateways by name.
pub trait PaymentGateways: Send + Sync {
    /// The one that new payments go to.
    fn selected(&self) -> Option<Arc<dyn PaymentGateway>>;
    fn by_name(&self, name: &str) -> Option<Arc<dyn PaymentGateway>>;
    /// All of them, the selected one first.
    fn all(&self) -> Vec<Arc<dyn PaymentGateway>>;
}

/// One configured gateway.
#[async_trait]
pub trait PaymentGateway: Send + Sync {
    fn name(&self) -> &str;
    /// The name of the plugin behind it: another one speaks another protocol.
    fn plugin(&self) -> &str;
    /// Names the plugin's very bytes.
    fn digest(&self) -> &str;
    fn rules(&self) -> GatewayRules;

    /// Makes a payment known to the gateway. Nobody was sent there before this answered.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    async fn create(&self, payment: NewPayment) -> Result<PaymentStart, GatewayError>;

    /// Understands a callback without asking anybody; `None` when it is none of this gateway's.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    async fn decode(&self, callback: &Callback) -> Result<Option<Claim>, GatewayError>;

    /// Asks whether a payment is paid, and confirms it when it is. May be asked again.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`]. After any of them nothing is known of the payment.
    async fn verify(
        &self,
        payment: StoredPayment,
        claim: Option<PaymentClaim>,
    ) -> Result<Verdict, GatewayError>;

    /// The references of payments that are paid and wait for a confirmation; asked only of gateways whose rules say
    /// that they can tell.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    async fn list_unverified(&self) -> Result<Vec<String>, GatewayError>;

    /// Gives a paid payment back as a whole, or says that it was given back before; asked only of gateways whose rules
    /// say that they can. May be asked again.
    ///
    /// # Errors
    ///
    /// See [`GatewayError`].
    async fn reverse(&self, payment: StoredPayment, receipt_number: String) -> Result<(), GatewayError>;
}

/// What a gateway does with money, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayRules {
    /// Rial.
    pub amount_min: u64,
    /// Rial.
    pub amount_max: u64,
    /// Amounts must be a multiple of this many rial.
    pub unit_rial: u64,
    /// From creation on, how long a payer can still pay.
    pub window: Duration,
    pub unconfirmed: Unconfirmed,
    pub lists_unverified: bool,
    /// For how long after it was paid a payment can be given back by asking; `None`: never.
    pub reverse_within: Option<Duration>,
}

/// What becomes of money that was paid and not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unconfirmed {
    /// The gateway keeps it until it is confirmed or given back.
    Kept,
    /// The gateway gives it back by itself, this long after it was paid.
    ReturnedAfter(Duration),
}

/// A payment as its gateway learns of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPayment {
    /// The gateway's own number of ours: the same for every try of one payment.
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

/// A request to `payment/verify/`, as it came.
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

/// What a callback says. A claim only: anybody can send one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The gateway's name of the payment.
    pub reference: String,
    pub claim: PaymentClaim,
}

/// A payment as it was stored when it was begun: what a gateway is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPayment {
    pub local_id: u64,
    pub reference: String,
    /// Rial.
    pub amount: u64,
    pub order: String,
    /// The plugin's own, from creation.
    pub state: Vec<u8>,
}

impl StoredPayment {
    /// `None` for one that its gateway does not know yet.
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
        /// Rial, when the gateway says.
        amount: Option<u64>,
        /// It was confirmed by an earlier question.
        before: bool,
    },
    NotPaid(Reason),
    Cancelled(Reason),
    /// Still going on; ask again, after this time when the gateway says.
    Pending(Option<Duration>),
    /// The gateway's answer is about another payment or amount. The field's name.
    Mismatch(String),
    /// The gateway does not know the reference.
    UnknownReference,
}

/// A gateway's code and words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reason {
    pub code: String,
    pub text: String,
}

/// Why there is no clear answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GatewayError {
    /// The gateway refused; nothing was done.
    #[error("the gateway refused ({})", .0.code)]
    Refused(Reason),
    /// The account, its settings or its permissions are refused; nothing was done.
    #[error("the gateway refuses the account ({})", .0.code)]
    Unauthorized(Reason),
    /// It could not be reached, or serves nobody now, or too many wait; nothing was done.
    #[error("the gateway was unavailable: {0}")]
    Unavailable(String),
    /// It may or may not have been done.
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
    /// Until when a payer can pay what is created now.
    #[must_use]
    pub fn window_end(&self, now: Timestamp) -> Timestamp {
        now.plus(self.window)
    }
}
