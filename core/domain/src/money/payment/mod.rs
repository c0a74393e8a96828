//! Payments: made, confirmed by the gateway's own word, settled once.
//!
//! [`Payments::create`] makes a payment and gets it known to the selected gateway; [`Payments::callback`] takes what
//! a browser brings back as a hint that it is time to ask; [`Payments::reconcile`] asks without a hint. All three
//! end in one function that asks the gateway about what is stored, judges the answer ([`verdict`]) and lets the
//! store change state and money together. Invariants: a client's word changes neither amount nor state; one question
//! per payment at a time, and those who waited for it share its answer; a payment stays with the gateway that began
//! it; whatever is dropped half way is found again by the queue of open payments.
//!
//! Not here: HTTP shapes and detaching from a connection (the gateway), protocols (plugins). Next: `gateway` (the
//! port), `verdict`, `reversal` (giving back).

pub mod gateway;
mod reversal;
pub mod verdict;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use chelseru_store::{
    Once, PayMode, Payment, PaymentClaim, PaymentCreated, PaymentDraft, PaymentId, PaymentSettled,
    PaymentState, PaymentStep, Store, StoreError,
};
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use crate::ids::UserId;
use crate::money::amount::{Currency, Money};
use crate::{Clock, Timestamp};
use gateway::{
    Callback, GatewayError, GatewayRules, NewPayment, PaymentGateway, PaymentGateways, StoredPayment,
};
pub use reversal::NotReversible;
use verdict::{CREATE_LEASE, Next};

/// How long an idempotency key is kept.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(24 * 3600);
/// Gateways a callback is shown to, the selected one first.
const DECODERS_MAX: usize = 16;
/// Payments one round of the reconciler looks at per gateway, and how many at once.
pub const ROUND_MAX: usize = 256;
pub const ROUND_PARALLEL: usize = 8;
/// Questions in a row that a gateway leaves unanswered before its round ends: it is down, and each further one would
/// only wait for another time-out. What was not looked at is still due.
pub const ROUND_SILENT_MAX: usize = 8;
/// From one look at a gateway's list of unverified payments to the next.
const LIST_INTERVAL: Duration = Duration::from_secs(30);

/// What a client asks for. Texts were bounded and addresses allowed by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRequest {
    pub user: UserId,
    pub amount: Money,
    /// The unit the client counts in; the payment's answers are in it, too.
    pub currency: Currency,
    pub mode: PayMode,
    pub order: String,
    pub description: String,
    pub callback_url: String,
    pub frontend_url: Option<String>,
    /// E.164 with a leading plus.
    pub mobile: Option<String>,
    pub email: Option<String>,
    pub idempotency_key: Option<String>,
}

/// Why no payment was started.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("no payment gateway is configured")]
    NoGateway,
    /// Rial, both ends included.
    #[error("the gateway takes {min} to {max} rial")]
    AmountOutOfRange { min: u64, max: u64 },
    #[error("the gateway takes multiples of {unit} rial")]
    AmountNotWhole { unit: u64 },
    #[error("the idempotency key was used for another request")]
    KeyReused,
    #[error("a request with this idempotency key is being carried out")]
    InFlight,
    /// Another payment of this order is open, with other terms.
    #[error("payment {} of this order is open", .0.id)]
    OrderOpen(Box<Payment>),
    /// The gateway did not take it. The payment failed.
    #[error(transparent)]
    Gateway(GatewayError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a callback led nowhere.
#[derive(Debug, thiserror::Error)]
pub enum CallbackError {
    /// It is no callback of any configured gateway.
    #[error("the callback is not understood")]
    NotUnderstood,
    #[error("no payment has this reference")]
    NotFound,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What one round of the reconciler did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Round {
    pub looked_at: usize,
    pub settled: usize,
    pub ended: usize,
    /// More were due than a round takes, and the gateway answers.
    pub more: bool,
}

/// A payment after somebody asked about it.
struct Looked {
    payment: Payment,
    /// The gateway was asked and did not answer.
    silent: bool,
}

impl Looked {
    fn at(payment: Payment) -> Looked {
        Looked { payment, silent: false }
    }
}

/// Makes, confirms and settles payments.
pub struct Payments {
    store: Store,
    clock: Arc<dyn Clock>,
    flights: Flights,
    /// When each gateway's list was last read.
    listed: Mutex<HashMap<String, Timestamp>>,
}

impl Payments {
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Payments { store, clock, flights: Flights::default(), listed: Mutex::default() }
    }

    /// Makes a payment and gets it known to the selected gateway. The answer is pending, with a way to the bank.
    ///
    /// Cancellation: when the returned future is dropped, the payment ends as failed after [`CREATE_LEASE`].
    ///
    /// # Errors
    ///
    /// See [`CreateError`].
    pub async fn create(
        &self,
        gateways: &dyn PaymentGateways,
        request: PaymentRequest,
    ) -> Result<Payment, CreateError> {
        let gateway = gateways.selected().ok_or(CreateError::NoGateway)?;
        let rules = gateway.rules();
        let amount = request.amount.rial();
        if !(rules.amount_min..=rules.amount_max).contains(&amount) {
            return Err(CreateError::AmountOutOfRange { min: rules.amount_min, max: rules.amount_max });
        }
        if !amount.is_multiple_of(rules.unit_rial.max(1)) {
            return Err(CreateError::AmountNotWhole { unit: rules.unit_rial });
        }
        let now = self.clock.now();
        let draft = draft(&request, gateway.as_ref(), &rules, now);
        let payment = match self.store.payment_create(draft).await? {
            PaymentCreated::Created(payment) => payment,
            PaymentCreated::Repeated(payment) => return repeated(payment),
            PaymentCreated::KeyReused => return Err(CreateError::KeyReused),
            PaymentCreated::OrderOpen(open) if same_terms(&open, &request) => return repeated(open),
            PaymentCreated::OrderOpen(open) => return Err(CreateError::OrderOpen(Box::new(open))),
        };
        let new = NewPayment {
            local_id: payment.id.0,
            amount,
            callback_url: request.callback_url,
            description: request.description,
            order: request.order,
            mobile: request.mobile,
            email: request.email,
        };
        let error = match gateway.create(new).await {
            Ok(start) => {
                let now = self.clock.now();
                let check_at = now.plus(verdict::DELAY_MAX);
                match self.store.payment_started(payment.id, start, check_at, now).await? {
                    PaymentStep::Done(payment) => return Ok(payment),
                    PaymentStep::Was(payment) => {
                        tracing::error!(payment.id = payment.id.0, plugin.id = %payment.gateway, reason = %payment.reason, "a started payment could not go on");
                        GatewayError::Unknown("the gateway's reference is of no use".to_owned())
                    }
                    PaymentStep::Missing => GatewayError::Unknown("the payment is gone".to_owned()),
                }
            }
            Err(error) => error,
        };
        // Nobody was sent to the bank, so this payment cannot be paid, whatever the gateway made of the request.
        let reason = match &error {
            GatewayError::Refused(reason) => format!("refused:{}", reason.code),
            GatewayError::Unauthorized(reason) => format!("unauthorized:{}", reason.code),
            GatewayError::Unavailable(_) => "unavailable".to_owned(),
            GatewayError::Unknown(_) => "unanswered".to_owned(),
        };
        self.store.payment_end(payment.id, PaymentState::Failed, cut(reason), self.clock.now()).await?;
        Err(CreateError::Gateway(error))
    }

    /// Takes what a browser brought back, asks the gateway, and says how the payment stands.
    ///
    /// Cancellation: safe; what was not finished is found by [`Payments::reconcile`]. Callers run it detached from
    /// the client's connection all the same, so that nobody has to wait for that.
    ///
    /// # Errors
    ///
    /// See [`CallbackError`]. A gateway that does not answer is no error: the payment stays pending.
    pub async fn callback(
        &self,
        gateways: &dyn PaymentGateways,
        callback: &Callback,
    ) -> Result<Payment, CallbackError> {
        let mut understood = false;
        for gateway in gateways.all().into_iter().take(DECODERS_MAX) {
            let claim = match gateway.decode(callback).await {
                Ok(Some(claim)) => claim,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(plugin.id = gateway.name(), %error, "a callback could not be decoded");
                    continue;
                }
            };
            understood = true;
            if let Some(payment) = self.store.payment_by_reference(gateway.name(), &claim.reference)? {
                return Ok(self.confirm(gateways, payment, Some(claim.claim)).await?.payment);
            }
        }
        Err(if understood { CallbackError::NotFound } else { CallbackError::NotUnderstood })
    }

    /// One round over every gateway that has open payments, all of them at once: see [`Payments::reconcile_gateway`].
    ///
    /// # Errors
    ///
    /// Those of reading a queue. A single payment that fails is logged and looked at again.
    pub async fn reconcile(&self, gateways: &dyn PaymentGateways) -> Result<Round, StoreError> {
        let names = self.open_gateways()?;
        let rounds = names.iter().map(|name| self.reconcile_gateway(gateways, name));
        let mut all = Round::default();
        for round in futures_util::future::join_all(rounds).await {
            let Round { looked_at, settled, ended, more } = round?;
            all.looked_at += looked_at;
            all.settled += settled;
            all.ended += ended;
            all.more |= more;
        }
        Ok(all)
    }

    /// The gateways that have open payments, configured or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`].
    pub fn open_gateways(&self) -> Result<Vec<String>, StoreError> {
        self.store.payments_open_gateways()
    }

    /// One round over a gateway's open payments that are due, and over its list of unverified ones. Callers run the
    /// gateways beside each other, so that one that is slow or down delays nobody else's payments.
    ///
    /// Limits: [`ROUND_MAX`] payments, [`ROUND_PARALLEL`] at once; after [`ROUND_SILENT_MAX`] questions without an
    /// answer no further one is begun.
    ///
    /// # Errors
    ///
    /// Those of reading the queue. A single payment that fails is logged and looked at again.
    pub async fn reconcile_gateway(
        &self,
        gateways: &dyn PaymentGateways,
        name: &str,
    ) -> Result<Round, StoreError> {
        let now = self.clock.now();
        let mut work = self.unverified(gateways, name, now).await?;
        let due = self.store.payments_due(name, now, ROUND_MAX)?;
        let full = due.len() == ROUND_MAX;
        for payment in due {
            if work.iter().all(|other| other.id != payment.id) {
                work.push(payment);
            }
        }
        let silent = AtomicUsize::new(0);
        let answers = || silent.load(Ordering::Relaxed) < ROUND_SILENT_MAX;
        let mut round = Round::default();
        let mut looks = futures_util::stream::iter(work)
            // What was begun goes on to its end: a question that is dropped half way counts as asked for ever.
            .take_while(|_| std::future::ready(answers()))
            .map(|payment| async move {
                let id = payment.id;
                let was_open = payment.state.is_open();
                (id, was_open, self.look(gateways, payment).await)
            })
            .buffer_unordered(ROUND_PARALLEL);
        while let Some((id, was_open, looked)) = looks.next().await {
            round.looked_at += 1;
            let Looked { payment, silent: unanswered } = match looked {
                Ok(looked) => looked,
                Err(error) => {
                    tracing::error!(payment.id = id.0, %error, "a payment could not be reconciled");
                    continue;
                }
            };
            if unanswered {
                silent.fetch_add(1, Ordering::Relaxed);
            } else {
                silent.store(0, Ordering::Relaxed);
            }
            if was_open && payment.state == PaymentState::Paid {
                round.settled += 1;
            } else if was_open && !payment.state.is_open() {
                round.ended += 1;
            }
        }
        drop(looks);
        round.more = full && answers();
        Ok(round)
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn get(&self, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        self.store.payment_get(id)
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn list(
        &self,
        user: UserId,
        before: Option<PaymentId>,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        self.store.payments_of(user, before, limit)
    }

    /// A due payment: one that the gateway never answered about fails, one that is pending is asked about.
    async fn look(&self, gateways: &dyn PaymentGateways, payment: Payment) -> Result<Looked, StoreError> {
        if payment.state != PaymentState::Created {
            return self.confirm(gateways, payment, None).await;
        }
        let reason = "interrupted".to_owned();
        let step = self.store.payment_end(payment.id, PaymentState::Failed, reason, self.clock.now()).await?;
        Ok(Looked::at(step_payment(step, payment)))
    }

    /// The pending payments that a gateway says are paid and unconfirmed.
    async fn unverified(
        &self,
        gateways: &dyn PaymentGateways,
        name: &str,
        now: Timestamp,
    ) -> Result<Vec<Payment>, StoreError> {
        let mut found = Vec::new();
        let Some(gateway) = gateways.by_name(name) else { return Ok(found) };
        if !gateway.rules().lists_unverified || !self.list_is_due(name, now) {
            return Ok(found);
        }
        match gateway.list_unverified().await {
            Ok(references) => {
                for reference in references.into_iter().take(ROUND_MAX) {
                    let payment = self.store.payment_by_reference(name, &reference)?;
                    found.extend(payment.filter(|payment| payment.state == PaymentState::Pending));
                }
            }
            Err(error) => {
                tracing::warn!(plugin.id = name, %error, "the list of unverified payments could not be read")
            }
        }
        Ok(found)
    }

    fn list_is_due(&self, gateway: &str, now: Timestamp) -> bool {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        match listed.get(gateway) {
            Some(last) if now.since(*last) < LIST_INTERVAL && *last <= now => false,
            _ => {
                listed.insert(gateway.to_owned(), now);
                true
            }
        }
    }

    /// Asks the gateway that began a payment, and settles or ends it by the answer. Returns the payment as it is
    /// afterwards.
    async fn confirm(
        &self,
        gateways: &dyn PaymentGateways,
        payment: Payment,
        claim: Option<PaymentClaim>,
    ) -> Result<Looked, StoreError> {
        if payment.state != PaymentState::Pending {
            return Ok(Looked::at(payment));
        }
        let flight = self.flights.of(payment.id);
        let _turn = flight.lock().await;
        // Whoever waited while somebody else asked takes that answer.
        let seen_attempts = payment.attempts;
        let Some(payment) = self.store.payment_get(payment.id)? else {
            return Ok(Looked::at(payment));
        };
        if payment.state != PaymentState::Pending || payment.attempts != seen_attempts {
            return Ok(Looked::at(payment));
        }
        let Some(gateway) = gateways.by_name(&payment.gateway) else {
            tracing::error!(payment.id = payment.id.0, plugin.id = %payment.gateway, "the gateway of an open payment is not configured");
            return Ok(Looked::at(self.ask_later(payment, None).await?));
        };
        let asked_before = payment.asked;
        let payment = match self.store.payment_asking(payment.id, claim).await? {
            PaymentStep::Done(payment) => payment,
            other => return Ok(Looked::at(step_payment(other, payment))),
        };
        let Some(stored) = StoredPayment::of(&payment) else { return Ok(Looked::at(payment)) };
        let answer = gateway.verify(stored, payment.claim.clone()).await;
        let nothing_done = answer.as_ref().is_err_and(GatewayError::nothing_done);
        let silent = matches!(&answer, Err(GatewayError::Unavailable(_) | GatewayError::Unknown(_)));
        if let Err(error) = &answer {
            tracing::warn!(payment.id = payment.id.0, plugin.id = %payment.gateway, %error, "whether it is paid is unknown; it stays pending");
        }
        let now = self.clock.now();
        let payment = match verdict::judge(&payment, &gateway.rules(), answer, asked_before, now) {
            Next::AskAt(at) => self.ask_later(payment, Some((at, nothing_done && !asked_before))).await?,
            Next::End { state, reason } => {
                if reason.starts_with("mismatch") {
                    tracing::error!(payment.id = payment.id.0, plugin.id = %payment.gateway, %reason, "the gateway confirms something else than was asked; not credited");
                }
                let step = self.store.payment_end(payment.id, state, reason, now).await?;
                step_payment(step, payment)
            }
            Next::Settle(receipt) => match self.store.payment_settle(payment.id, receipt, now).await? {
                PaymentSettled::Now(settled) => {
                    tracing::info!(payment.id = settled.id.0, plugin.id = %settled.gateway, "payment settled");
                    settled
                }
                PaymentSettled::Was(payment) => payment,
                PaymentSettled::ReceiptReused(payment) => {
                    tracing::error!(payment.id = payment.id.0, plugin.id = %payment.gateway, "the gateway's receipt stands for another payment; not credited");
                    payment
                }
                PaymentSettled::TooLarge => {
                    tracing::error!(
                        payment.id = payment.id.0,
                        "the wallet cannot hold this payment; a person has to look"
                    );
                    self.ask_later(payment, None).await?
                }
                PaymentSettled::Missing => payment,
            },
        };
        Ok(Looked { payment, silent })
    }

    async fn ask_later(
        &self,
        payment: Payment,
        answer: Option<(Timestamp, bool)>,
    ) -> Result<Payment, StoreError> {
        let (at, not_asked) =
            answer.unwrap_or_else(|| (self.clock.now().plus(verdict::delay(payment.attempts)), false));
        let step = self.store.payment_check_later(payment.id, at, not_asked).await?;
        Ok(step_payment(step, payment))
    }
}

fn draft(
    request: &PaymentRequest,
    gateway: &dyn PaymentGateway,
    rules: &GatewayRules,
    now: Timestamp,
) -> PaymentDraft {
    let once = request.idempotency_key.as_ref().map(|key| {
        let amount = request.amount.rial().to_be_bytes();
        let mode = format!("{:?}{:?}", request.mode, request.currency);
        let parts: [&[u8]; 9] = [
            &amount,
            mode.as_bytes(),
            request.order.as_bytes(),
            request.description.as_bytes(),
            request.callback_url.as_bytes(),
            request.frontend_url.as_deref().unwrap_or("").as_bytes(),
            request.mobile.as_deref().unwrap_or("").as_bytes(),
            request.email.as_deref().unwrap_or("").as_bytes(),
            if request.frontend_url.is_some() { b"f" } else { b"" },
        ];
        once("payment", key, &parts, now)
    });
    PaymentDraft {
        user: request.user,
        amount: request.amount.rial(),
        currency: request.currency,
        mode: request.mode,
        order: request.order.clone(),
        gateway: gateway.name().to_owned(),
        plugin_digest: gateway.digest().to_owned(),
        description: request.description.clone(),
        callback_url: request.callback_url.clone(),
        frontend_url: request.frontend_url.clone(),
        now,
        window_ends_at: rules.window_end(now),
        check_at: now.plus(CREATE_LEASE),
        once,
    }
}

/// A payment that a request made before: the same answer as then.
fn repeated(payment: Payment) -> Result<Payment, CreateError> {
    if payment.start.is_some() {
        return Ok(payment);
    }
    let reason = |code: &str| gateway::Reason { code: code.to_owned(), text: String::new() };
    Err(match (payment.state, payment.reason.split_once(':')) {
        (PaymentState::Created, _) => CreateError::InFlight,
        (_, Some(("refused", code))) => CreateError::Gateway(GatewayError::Refused(reason(code))),
        (_, Some(("unauthorized", code))) => CreateError::Gateway(GatewayError::Unauthorized(reason(code))),
        _ if payment.reason == "unavailable" => {
            CreateError::Gateway(GatewayError::Unavailable("it was before".to_owned()))
        }
        _ => CreateError::Gateway(GatewayError::Unknown("it was before".to_owned())),
    })
}

/// Whether a request asks for what is open already, so that its payer can simply go there.
fn same_terms(open: &Payment, request: &PaymentRequest) -> bool {
    open.amount == request.amount.rial()
        && open.currency == request.currency
        && open.mode == request.mode
        && open.callback_url == request.callback_url
        && open.frontend_url == request.frontend_url
}

fn step_payment(step: PaymentStep, before: Payment) -> Payment {
    match step {
        PaymentStep::Done(payment) | PaymentStep::Was(payment) => payment,
        PaymentStep::Missing => before,
    }
}

/// A stored reason is short.
fn cut(reason: String) -> String {
    reason.chars().take(64).collect()
}

/// An idempotency key of a kind of request, and the request it stands for.
pub(crate) fn once(kind: &str, key: &str, parts: &[&[u8]], now: Timestamp) -> Once {
    let digest = |parts: &[&[u8]]| -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in parts {
            // The lengths keep two different lists of parts apart.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    };
    Once {
        key: digest(&[kind.as_bytes(), key.as_bytes()]),
        request: digest(parts),
        keep_until: now.plus(IDEMPOTENCY_TTL),
    }
}

/// One question per payment at a time.
#[derive(Default)]
struct Flights(Mutex<HashMap<PaymentId, Weak<tokio::sync::Mutex<()>>>>);

/// Entries from which on those that nobody uses are dropped.
const FLIGHTS_SWEEP: usize = 1024;

impl Flights {
    fn of(&self, id: PaymentId) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.len() >= FLIGHTS_SWEEP {
            flights.retain(|_, flight| flight.strong_count() > 0);
        }
        if let Some(flight) = flights.get(&id).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::new(tokio::sync::Mutex::new(()));
        flights.insert(id, Arc::downgrade(&flight));
        flight
    }
}

/// A state's name as the API and webhooks write it.
#[must_use]
pub fn state_name(state: PaymentState) -> &'static str {
    match state {
        PaymentState::Created => "created",
        PaymentState::Pending => "pending",
        PaymentState::Paid => "paid",
        PaymentState::Failed => "failed",
        PaymentState::Cancelled => "cancelled",
        PaymentState::Expired => "expired",
        PaymentState::Refunded => "refunded",
    }
}
