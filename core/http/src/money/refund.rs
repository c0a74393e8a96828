//! `payment/{id}/refund/`, for staff: `amount` in the payment's own unit (all that is left when absent), `to` (the
//! receiver), `note`.

use chelseru_domain::money::wallet::Role;
use std::sync::Arc;

use chelseru_domain::clock::rest_format;
use chelseru_domain::login::identity::Caller;
use chelseru_domain::money::payment::{
    Payment, PaymentId, PaymentRefunded, PaymentState, Refund, RefundTo, state_name,
};
use chelseru_domain::money::wallet::{RefundRequest, WalletError};
use chelseru_domain::money::{self, Currency};
use http::StatusCode;
use serde_json::{Value, json};

use super::Money;
use super::input::{
    AMOUNT, CURRENCY, DESCRIPTION, actor, amount, check_currency, failed, overdraft, too_large,
};
use super::payment::payment_json;
use crate::fields::{Fields, Text};
use crate::key::{IDEMPOTENCY_KEY, idempotency_key, key_reused, replayed};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};
use crate::staff::permission_denied;

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/payment/{id}/refund/",
    name: "Payment Refund",
    access: Access::User,
    kind: Kind::Plain,
    operations: &[Operation {
        verb: Verb::Post,
        id: "payment_refund",
        call: call!(refund),
        about: About {
            summary: "Refund a payment; staff only",
            parameters: &[IDEMPOTENCY_KEY],
            fields: &[
                AMOUNT,
                CURRENCY,
                Field("to", Is::MayText, TO_HELP),
                Field("note", Is::MayText, "The reason."),
            ],
            answers: &[
                (201, "Refunded"),
                (403, "Not staff."),
                (409, "The payment is not paid, or the wallet has too little."),
            ],
        },
    }],
}];

const TO: Text = Text { chars_max: 20 };
pub(crate) const TO_HELP: &str = "The receiver: payer (the gateway is asked to return the whole payment), payer_outside (booked only; pay the payer \
                       back yourself; the default) or wallet (the payer's, for a payment that did not charge it).";

/// `POST payment/{id}/refund/`.
async fn refund(money: Arc<Money>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let actor = actor(&money, &context, &caller).await?;
    if actor.role != Role::Staff {
        return Err(permission_denied());
    }
    let idempotency_key = idempotency_key(&context)?;
    let paid =
        money.payments.get(PaymentId(context.id("id")?)).await.map_err(|error| failed(&context, &error))?;
    let paid = paid.ok_or_else(not_found)?;
    // The unit in which the payment was made, whatever the configuration says today.
    let unit = paid.currency;
    let amount = amount(&mut fields, unit);
    check_currency(&mut fields, unit);
    let note = fields.given("note", DESCRIPTION).unwrap_or_default();
    let to = to(&mut fields);
    fields.finish()?;
    if to == RefundTo::Reverse {
        reversible(&money, &paid)?;
    }
    let request = RefundRequest { payment: paid.id, amount, to, note, idempotency_key };
    let refunded = money.wallets.refund(actor, request).await;
    let refunded = refunded.map_err(|error| wallet_failure(&context, error))?;
    let repeated = matches!(refunded, PaymentRefunded::Repeated(..));
    let (payment, refund) = done(unit, refunded)?;
    if refund.to == RefundTo::Reverse {
        reverse(&money, &context, payment.id).await?;
    }
    let payment = payment_json(&money, &context, &payment).await?;
    let body = json!({"refund": refund_json(&refund, unit), "payment": payment});
    let reply = Reply::json(StatusCode::CREATED, &body);
    Ok(if repeated { replayed(reply) } else { reply })
}

/// The receiver of the money. The older names are understood, too.
pub(crate) fn to(fields: &mut Fields) -> RefundTo {
    match fields.given("to", TO).as_deref() {
        None | Some("payer_outside" | "gateway") => RefundTo::Gateway,
        Some("wallet") => RefundTo::Wallet,
        Some("payer" | "reverse") => RefundTo::Reverse,
        Some(_) => {
            fields.refuse("to", "Must be \"payer\", \"payer_outside\" or \"wallet\".");
            RefundTo::Gateway
        }
    }
}

pub(crate) fn to_name(to: RefundTo) -> &'static str {
    match to {
        RefundTo::Gateway => "payer_outside",
        RefundTo::Wallet => "wallet",
        RefundTo::Reverse => "payer",
    }
}

pub(crate) fn refund_json(refund: &Refund, unit: Currency) -> Value {
    json!({
        "number": refund.number,
        "amount": money::to_json(refund.amount, unit),
        "currency": money::currency_name(unit),
        "to": to_name(refund.to),
        "created_at": rest_format(refund.at),
    })
}

/// The payment and its refund; a repeated request returns the same.
pub(crate) fn done(unit: Currency, refunded: PaymentRefunded) -> Result<(Payment, Refund), Failure> {
    Err(match refunded {
        PaymentRefunded::Done(payment, refund) | PaymentRefunded::Repeated(payment, refund) => {
            return Ok((payment, refund));
        }
        PaymentRefunded::KeyReused => key_reused(),
        PaymentRefunded::NotPaid(payment) => Failure::object(
            StatusCode::CONFLICT,
            "payment_not_paid",
            json!({
                "detail": "Only a paid payment can be refunded.",
                "state": state_name(payment.state),
            }),
        ),
        PaymentRefunded::Imported(payment) => Failure::object(
            StatusCode::CONFLICT,
            "payment_imported",
            json!({
                "detail": "This payment was imported: give the money back at its gateway.",
                "state": state_name(payment.state),
            }),
        ),
        PaymentRefunded::TooMuch { left } => {
            let (left, unit) = (money::format(left, unit), money::currency_name(unit));
            Failure::field("amount", format!("Only {left} {unit} of it is left to refund."))
        }
        PaymentRefunded::Overdraft { available } => overdraft(unit, available),
        PaymentRefunded::InWallet => {
            let text =
                "This payment was credited to the wallet; refund it with `to=payer` or `to=payer_outside`.";
            Failure::field("to", text)
        }
        PaymentRefunded::NotWhole => {
            Failure::field("amount", "A gateway reverses a payment as a whole or not at all.")
        }
        PaymentRefunded::TooLarge => too_large(),
        PaymentRefunded::Missing => not_found(),
    })
}

/// Checks that the payment's gateway can reverse. The refund itself reports a payment that is not paid.
fn reversible(money: &Money, paid: &Payment) -> Result<(), Failure> {
    if paid.state != PaymentState::Paid {
        return Ok(());
    }
    let judged = money.payments.reversible(money.gateways.as_ref(), paid);
    judged.map_err(|reason| Failure::field("to", format!("{reason}.")))
}

/// Asks the gateway in a separate task, so a disconnect does not stop it.
pub(crate) async fn reverse(
    money: &Arc<Money>,
    context: &Context,
    payment: PaymentId,
) -> Result<(), Failure> {
    let money = money.clone();
    let asked = tokio::spawn(async move { money.payments.reverse(money.gateways.as_ref(), payment).await });
    // The panic is already in the log; the reversal stays open.
    let asked = asked.await.map_err(|_| Failure::internal())?;
    asked.map(drop).map_err(|error| failed(context, &error))
}

/// Translates why the wallets refused a change.
pub(crate) fn wallet_failure(context: &Context, error: WalletError) -> Failure {
    match error {
        WalletError::StaffOnly => permission_denied(),
        WalletError::NeedsSecond => {
            let text = "This correction needs a second operator; ask for it at the console.";
            Failure::detail(StatusCode::CONFLICT, "second_person_required", text)
        }
        WalletError::Store(error) => failed(context, &error),
    }
}
