//! Creation: checks a payment against the gateway's rules, stores it, and begins it at the gateway.
//!
//! The record is stored before the gateway is asked. A crash in between leaves a payment that fails by itself,
//! instead of one without a record. A repeated idempotency key, or a second request for the same open order, gets the
//! first reply, whatever would refuse a new payment meanwhile. A payment that its gateway did not take is begun anew by
//! the same key.

use std::sync::Arc;

use chelseru_store::{
    Once, PayMode, Payment, PaymentAsked, PaymentCreated, PaymentDraft, PaymentId, PaymentRefusal,
    PaymentState, PaymentStep, SpendId, StoreError,
};

use super::callback_key;
use super::end::EndReason;
use super::gateway::{GatewayError, GatewayRules, NewPayment, PaymentGateway, PaymentGateways, Reason};
use super::service::Payments;
use super::verdict::{self, CREATE_LEASE};
use crate::Range;
use crate::Timestamp;
use crate::idempotency::{Hashes, IdempotencyKey, Kind};
use crate::ids::UserId;
use crate::money::amount::{Currency, Money};
use crate::rate::{Exhausted, Rate};

/// A client's request. The caller has bounded the texts and checked the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRequest {
    pub user: UserId,
    pub amount: Money,
    /// The client's unit, also used in replies.
    pub currency: Currency,
    pub mode: PayMode,
    pub order: String,
    /// Refuse an order of the user that is paid.
    pub unique_order: bool,
    pub description: String,
    pub callback_url: String,
    pub frontend_url: Option<String>,
    /// E.164 with a leading plus.
    pub mobile: Option<String>,
    pub email: Option<String>,
    pub idempotency_key: Option<IdempotencyKey>,
    /// Payments the user may begin in an hour; see [`PAYMENTS_PER_HOUR`].
    pub per_hour_max: u64,
}

/// Payments one user may begin in an hour. Each costs a call of the gateway, whose limits all users share, and a record
/// that stays.
pub const PAYMENTS_PER_HOUR: Range<u64> = Range::new(1, 10_000_000, 60);

/// A started payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub payment: Payment,
    /// An earlier request with the same idempotency key made it.
    pub replayed: bool,
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
    #[error("a request with this idempotency key is still running")]
    InFlight,
    /// The order has a payment with the same terms, and its gateway has not answered yet.
    #[error("payment {0} of this order is being started")]
    OrderBeginning(PaymentId),
    /// Nobody pays twice for one order.
    #[error("payment {0} of this order is paid")]
    OrderPaid(PaymentId),
    /// The payment would not charge the wallet, and the order is paid from there.
    #[error("spend {0} paid this order")]
    OrderSpent(SpendId),
    /// Another payment of this order is open, with other terms.
    #[error("payment {} of this order is open", .0.id)]
    OrderOpen(Box<Payment>),
    /// The user has begun as many payments as an hour allows.
    #[error("the user has begun too many payments")]
    Exhausted(Exhausted),
    /// The gateway did not take it, or is not asked during its rate limit. A stored payment failed.
    #[error(transparent)]
    Gateway(GatewayError),
    #[error("the operating system provides no randomness")]
    Randomness,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Payments {
    /// Creates a payment and begins it at the selected gateway. The result is pending and holds the bank's address.
    ///
    /// Cancellation: a payment whose call was dropped fails after [`CREATE_LEASE`].
    ///
    /// # Errors
    ///
    /// See [`CreateError`].
    pub async fn create(
        &self,
        gateways: &dyn PaymentGateways,
        request: PaymentRequest,
    ) -> Result<Created, CreateError> {
        let callback_key = callback_key::draw().ok_or(CreateError::Randomness)?;
        let now = self.clock.now();
        // From the choice of the gateway to the stored payment.
        let beginning = self.beginning.read().await;
        let gateway = match self.admitted(gateways, &request, now) {
            Ok(gateway) => gateway,
            Err(refused) if request.order.is_empty() && request.idempotency_key.is_none() => {
                return Err(refused);
            }
            // What there is already needs no leave to begin.
            Err(refused) => match self.store.payment_known(asked(&request, now)).await? {
                Some(known) => return answered(known, &request),
                None => return Err(refused),
            },
        };
        let rules = gateway.rules();
        let draft = draft(&request, callback_key, gateway.as_ref(), &rules, now);
        let made = self.store.payment_create(draft).await;
        if !matches!(made, Ok(PaymentCreated::Created(_))) {
            self.begun.give_back(&request.user, 1);
        }
        let payment = match made? {
            PaymentCreated::Created(payment) => payment,
            known => return answered(known, &request),
        };
        drop(beginning);
        let callback_url = callback_key::add(&request.callback_url, &payment.callback_key);
        let new = NewPayment {
            local_id: payment.id.0,
            amount: request.amount.rial(),
            callback_url,
            description: request.description,
            order: request.order,
            mobile: request.mobile,
            email: request.email,
        };
        let payment = self.begin(gateway.as_ref(), payment, new).await?;
        Ok(Created { payment, replayed: false })
    }

    /// The gateway at which a new payment may begin now. Takes it from the user's allowance.
    fn admitted(
        &self,
        gateways: &dyn PaymentGateways,
        request: &PaymentRequest,
        now: Timestamp,
    ) -> Result<Arc<dyn PaymentGateway>, CreateError> {
        let gateway = gateways.selected().ok_or(CreateError::NoGateway)?;
        check_amount(request.amount, &gateway.rules())?;
        if let Some(left) = self.holds.left(gateway.name(), now) {
            return Err(CreateError::Gateway(GatewayError::Throttled(Some(left))));
        }
        let rate = Rate::per_hour("payments", request.per_hour_max);
        self.begun.take(&request.user, 1, rate, now).map_err(CreateError::Exhausted)?;
        Ok(gateway)
    }

    /// Begins a stored payment at its gateway, or ends it as failed.
    async fn begin(
        &self,
        gateway: &dyn PaymentGateway,
        payment: Payment,
        new: NewPayment,
    ) -> Result<Payment, CreateError> {
        let error = match gateway.create(new).await {
            Ok(start) => {
                let now = self.clock.now();
                let check_at = now.plus(verdict::DELAY_MAX);
                match self.store.payment_started(payment.id, start, check_at, now).await? {
                    PaymentStep::Done(payment) => {
                        self.unasked.begun(payment.id);
                        return Ok(payment);
                    }
                    PaymentStep::Was(payment) => {
                        tracing::error!(
                            payment.id = payment.id.0,
                            plugin.id = %payment.gateway,
                            reason = %payment.reason,
                            "a payment ended while its gateway began it"
                        );
                        GatewayError::Unknown("the gateway's reference is unusable".to_owned())
                    }
                    PaymentStep::Missing => GatewayError::Unknown("the payment was removed".to_owned()),
                }
            }
            Err(error) => error,
        };
        self.holds.note(gateway.name(), &error, self.clock.now());
        // No payer has the bank's address yet, so this payment cannot be paid, whatever the gateway did.
        let reason = EndReason::of(&error).text();
        let (end, now) = (PaymentState::Failed, self.clock.now());
        self.store.payment_end(payment.id, end, reason, refusal(&error), now).await?;
        Err(CreateError::Gateway(error))
    }
}

fn check_amount(amount: Money, rules: &GatewayRules) -> Result<(), CreateError> {
    let amount = amount.rial();
    if !(rules.amount_min..=rules.amount_max).contains(&amount) {
        return Err(CreateError::AmountOutOfRange { min: rules.amount_min, max: rules.amount_max });
    }
    if !amount.is_multiple_of(rules.unit_rial.max(1)) {
        return Err(CreateError::AmountNotWhole { unit: rules.unit_rial });
    }
    Ok(())
}

/// The reply to a request that begins nothing new.
fn answered(known: PaymentCreated, request: &PaymentRequest) -> Result<Created, CreateError> {
    match known {
        PaymentCreated::Repeated(payment) if payment.start.is_none() => Err(CreateError::InFlight),
        PaymentCreated::Repeated(payment) => Ok(Created { payment, replayed: true }),
        PaymentCreated::KeyReused => Err(CreateError::KeyReused),
        PaymentCreated::OrderOpen(open) if !same_terms(&open, request) => {
            Err(CreateError::OrderOpen(Box::new(open)))
        }
        PaymentCreated::OrderOpen(open) if open.start.is_none() => Err(CreateError::OrderBeginning(open.id)),
        PaymentCreated::OrderPaid(paid) => Err(CreateError::OrderPaid(paid.id)),
        PaymentCreated::OrderSpent(spend) => Err(CreateError::OrderSpent(spend)),
        PaymentCreated::OrderOpen(payment) | PaymentCreated::Created(payment) => {
            Ok(Created { payment, replayed: false })
        }
    }
}

fn asked(request: &PaymentRequest, now: Timestamp) -> PaymentAsked {
    PaymentAsked {
        user: request.user,
        mode: request.mode,
        order: request.order.clone(),
        unique_order: request.unique_order,
        now,
        once: once(request, now),
    }
}

fn once(request: &PaymentRequest, now: Timestamp) -> Option<Once> {
    let key = request.idempotency_key.as_ref()?;
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
    Some(Hashes::of(Kind::Payment, key, &parts).once(now))
}

fn draft(
    request: &PaymentRequest,
    callback_key: String,
    gateway: &dyn PaymentGateway,
    rules: &GatewayRules,
    now: Timestamp,
) -> PaymentDraft {
    PaymentDraft {
        user: request.user,
        amount: request.amount.rial(),
        currency: request.currency,
        mode: request.mode,
        order: request.order.clone(),
        unique_order: request.unique_order,
        gateway: gateway.name().to_owned(),
        plugin: began_by(gateway),
        description: request.description.clone(),
        callback_url: request.callback_url.clone(),
        callback_key,
        frontend_url: request.frontend_url.clone(),
        now,
        window_ends_at: rules.window_end(now),
        check_at: now.plus(CREATE_LEASE),
        once: once(request, now),
    }
}

/// What a payment notes of the plugin that begins it, `NAME@DIGEST`: see [`Payment::plugin`].
#[must_use]
pub fn began_by(gateway: &dyn PaymentGateway) -> String {
    format!("{}@{}", gateway.plugin(), gateway.digest())
}

/// A gateway's own text of a refusal, which the payment stores.
fn refusal(error: &GatewayError) -> Option<PaymentRefusal> {
    match error {
        GatewayError::Refused(reason) | GatewayError::Unauthorized(reason) => {
            let Reason { code, text, field } = reason.clone();
            Some(PaymentRefusal { code, text, field })
        }
        GatewayError::Throttled(_) | GatewayError::Unavailable(_) | GatewayError::Unknown(_) => None,
    }
}

/// Whether a request matches the open payment, so that the payer can continue there.
fn same_terms(open: &Payment, request: &PaymentRequest) -> bool {
    open.amount == request.amount.rial()
        && open.currency == request.currency
        && open.mode == request.mode
        && open.callback_url == request.callback_url
        && open.frontend_url == request.frontend_url
}
