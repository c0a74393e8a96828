//! `wallet/...` and refunds: between fields and the domain's wallets.
//!
//! Each outcome becomes a status in one function: [`spend_reply`], [`ended_reply`], [`refund`]. What is not the
//! caller's does not exist for him.

use chelseru_domain::clock::rest_format;
use chelseru_domain::money;
use chelseru_domain::wallet::{RefundRequest, SpendRequest, WalletError};
use chelseru_store::{
    PaymentId, PaymentRefunded, PaymentState, RefundTo, Spend, SpendEnded, SpendId, SpendMade, SpendState,
};
use http::StatusCode;
use serde_json::{Value, json};

use super::Context;
use super::fields::{Fields, Text};
use super::payment::{
    PAGE, actor, amount, idempotency_key, key_reused, page, page_start, path_number, payment_shown,
    read_failure, shown_amount, unit,
};
use super::reply::{Failure, Reply};

const ORDER: Text = Text { chars_max: 64 };
const DESCRIPTION: Text = Text { chars_max: 255 };

/// `GET wallet/`.
pub(crate) fn get(context: &Context) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let unit = unit(context);
    let balance = context.app.wallets.balance(user).map_err(|error| read_failure(context, &error))?;
    let body = json!({
        "user": user.0,
        "balance": shown_amount(balance.available, unit),
        "held": shown_amount(balance.held, unit),
        "currency": money::currency_name(unit),
        "balance_rial": balance.available,
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

/// `GET wallet/entries/`: newest first.
pub(crate) fn entries(context: &Context) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let unit = unit(context);
    let from = page_start(context)?;
    let (lines, next) =
        context.app.wallets.entries(user, from, PAGE).map_err(|error| read_failure(context, &error))?;
    let results: Vec<Value> = lines
        .iter()
        .map(|line| {
            let (kind, subject) = line.key.split_once(':').unwrap_or((line.key.as_str(), ""));
            let amount = shown_amount(line.amount.unsigned_abs(), unit);
            json!({
                "id": line.number,
                "kind": kind,
                "subject": subject,
                "direction": if line.amount < 0 { "out" } else { "in" },
                "amount": amount,
                "balance": shown_amount(u64::try_from(line.balance).unwrap_or(0), unit),
                "currency": money::currency_name(unit),
                "created_at": rest_format(line.at),
            })
        })
        .collect();
    Ok(Reply::json(StatusCode::OK, &page(context, next, &results)))
}

/// `POST wallet/spend/`: at once, or as a hold.
pub(crate) async fn spend(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let amount = required_amount(&context, &mut fields)?;
    let hold = fields.flag("hold");
    let order = fields.given("order_id", ORDER).unwrap_or_default();
    let description = fields.given("description", DESCRIPTION).unwrap_or_default();
    let idempotency_key = idempotency_key(&context)?;
    fields.finish()?;
    let Some(amount) = amount else { return Err(Failure::internal()) };
    let request = SpendRequest { user, amount, hold, order, description, idempotency_key };
    let made = context.app.wallets.spend(request).await.map_err(|error| read_failure(&context, &error))?;
    spend_reply(&context, made)
}

fn spend_reply(context: &Context, made: SpendMade) -> Result<Reply, Failure> {
    match made {
        SpendMade::Done(spend) => Ok(Reply::json(StatusCode::CREATED, &spend_json(context, &spend))),
        SpendMade::Repeated(mut spend) => {
            // The answer of then, whatever became of the hold since.
            if spend.hold {
                (spend.state, spend.captured, spend.ended_at) = (SpendState::Held, 0, None);
            }
            Ok(Reply::json(StatusCode::CREATED, &spend_json(context, &spend)))
        }
        SpendMade::KeyReused => Err(key_reused()),
        SpendMade::Overdraft { available } => Err(overdraft(context, available)),
        SpendMade::TooLarge => Err(too_large()),
    }
}

/// `GET wallet/spend/{id}/`.
pub(crate) fn spend_get(context: &Context) -> Result<Reply, Failure> {
    let spend = own_spend(context)?;
    Ok(Reply::json(StatusCode::OK, &spend_json(context, &spend)))
}

/// `POST wallet/spend/{id}/capture/`: all of it, or `amount` of it.
pub(crate) async fn capture(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let spend = own_spend(&context)?;
    let amount = amount(&mut fields, "amount", unit(&context))?;
    fields.finish()?;
    let ended = context.app.wallets.capture(actor(&context)?, spend.id, amount).await;
    ended_reply(&context, ended)
}

/// `POST wallet/spend/{id}/void/`.
pub(crate) async fn void(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    fields.finish()?;
    let spend = own_spend(&context)?;
    let ended = context.app.wallets.void(actor(&context)?, spend.id).await;
    ended_reply(&context, ended)
}

fn ended_reply(context: &Context, ended: Result<SpendEnded, WalletError>) -> Result<Reply, Failure> {
    let unit = unit(context);
    match ended.map_err(|error| wallet_failure(context, error))? {
        SpendEnded::Done(spend) => Ok(Reply::json(StatusCode::OK, &spend_json(context, &spend))),
        SpendEnded::Was(spend) => Err(Failure::object(
            StatusCode::CONFLICT,
            "spend_ended",
            json!({"detail": "This spend has ended otherwise.", "state": spend_state(spend.state)}),
        )),
        SpendEnded::TooMuch { held } => {
            let (held, unit) = (money::format(held, unit), money::currency_name(unit));
            Err(Failure::field("amount", format!("Only {held} {unit} is held.")))
        }
        SpendEnded::TooLarge => Err(too_large()),
        SpendEnded::Missing => Err(not_found()),
    }
}

/// `POST payment/{id}/refund/`, for the staff: `amount` (all that is left when absent), `to` (`gateway`: paid back
/// outside; `wallet`; `reverse`: the gateway is asked to give the whole payment back), `note`.
pub(crate) async fn refund(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let actor = actor(&context)?;
    let amount = amount(&mut fields, "amount", unit(&context))?;
    let note = fields.given("note", DESCRIPTION).unwrap_or_default();
    let to = match fields.given("to", Text { chars_max: 20 }).as_deref() {
        None | Some("gateway") => RefundTo::Gateway,
        Some("wallet") => RefundTo::Wallet,
        Some("reverse") => RefundTo::Reverse,
        Some(_) => {
            fields.refuse("to", "Must be \"gateway\", \"wallet\" or \"reverse\".");
            RefundTo::Gateway
        }
    };
    let idempotency_key = idempotency_key(&context)?;
    if !actor.staff {
        return Err(wallet_failure(&context, WalletError::StaffOnly));
    }
    fields.finish()?;
    let Some(payment) = path_number(&context, "payment").map(PaymentId) else { return Err(not_found()) };
    if to == RefundTo::Reverse {
        reversible(&context, payment)?;
    }
    let request = RefundRequest { payment, amount, to, note, idempotency_key };
    let refunded = context.app.wallets.refund(actor, request).await;
    let unit = unit(&context);
    match refunded.map_err(|error| wallet_failure(&context, error))? {
        PaymentRefunded::Done(payment, refund) | PaymentRefunded::Repeated(payment, refund) => {
            if refund.to == RefundTo::Reverse {
                reverse(&context, payment.id).await?;
            }
            let body = json!({
                "refund": {
                    "number": refund.number,
                    "amount": shown_amount(refund.amount, unit),
                    "currency": money::currency_name(unit),
                    "to": match refund.to {
                        RefundTo::Gateway => "gateway",
                        RefundTo::Wallet => "wallet",
                        RefundTo::Reverse => "reverse",
                    },
                    "created_at": rest_format(refund.at),
                },
                "payment": payment_shown(&context, &payment)?,
            });
            Ok(Reply::json(StatusCode::CREATED, &body))
        }
        PaymentRefunded::KeyReused => Err(key_reused()),
        PaymentRefunded::NotPaid(payment) => Err(Failure::object(
            StatusCode::CONFLICT,
            "payment_not_paid",
            json!({
                "detail": "Only what is paid can be given back.",
                "state": super::payment::state_name(payment.state),
            }),
        )),
        PaymentRefunded::TooMuch { left } => {
            let (left, unit) = (money::format(left, unit), money::currency_name(unit));
            Err(Failure::field("amount", format!("Only {left} {unit} is left of it.")))
        }
        PaymentRefunded::Overdraft { available } => Err(overdraft(&context, available)),
        PaymentRefunded::InWallet => Err(Failure::field("to", "What charged the wallet is in the wallet.")),
        PaymentRefunded::NotWhole => {
            Err(Failure::field("amount", "A gateway gives a payment back as a whole, or not at all."))
        }
        PaymentRefunded::TooLarge => Err(too_large()),
        PaymentRefunded::Missing => Err(not_found()),
    }
}

/// Whether the payment's gateway can be asked to give it back. A payment that is not there or not paid is told of by
/// the refund itself.
fn reversible(context: &Context, payment: PaymentId) -> Result<(), Failure> {
    let (payments, gateways) = (&context.app.payments, &context.live.gateways);
    let found = payments.get(payment).map_err(|error| read_failure(context, &error))?;
    let paid = found.filter(|payment| payment.state == PaymentState::Paid);
    let judged = paid.map_or(Ok(()), |payment| payments.reversible(gateways.as_ref(), &payment));
    judged.map_err(|reason| Failure::field("to", format!("{reason}.")))
}

/// Asks the gateway, in a task of its own: a client that goes away does not stop what was begun.
async fn reverse(context: &Context, payment: PaymentId) -> Result<(), Failure> {
    let (app, gateways) = (context.app.clone(), context.live.gateways.clone());
    let asked = tokio::spawn(async move { app.payments.reverse(gateways.as_ref(), payment).await });
    // A panic was reported by itself; the reversal is still open.
    let asked = asked.await.map_err(|_| Failure::internal())?;
    asked.map(drop).map_err(|error| read_failure(context, &error))
}

fn required_amount(context: &Context, fields: &mut Fields) -> Result<Option<money::Money>, Failure> {
    let amount = amount(fields, "amount", unit(context))?;
    if fields.value("amount").is_none_or(Value::is_null) {
        fields.refuse("amount", "This field is required.");
    }
    Ok(amount)
}

fn own_spend(context: &Context) -> Result<Spend, Failure> {
    let actor = actor(context)?;
    let Some(id) = path_number(context, "spend").map(SpendId) else { return Err(not_found()) };
    let spend = context.app.wallets.spend_get(actor, id).map_err(|error| read_failure(context, &error))?;
    spend.ok_or_else(not_found)
}

fn spend_json(context: &Context, spend: &Spend) -> Value {
    let unit = unit(context);
    json!({
        "id": spend.id.0,
        "user": spend.user.0,
        "state": spend_state(spend.state),
        "amount": shown_amount(spend.amount, unit),
        "captured": shown_amount(spend.captured, unit),
        "balance_after": shown_amount(spend.balance, unit),
        "currency": money::currency_name(unit),
        "order_id": spend.order,
        "description": spend.description,
        "created_at": rest_format(spend.created_at),
        "ended_at": spend.ended_at.map(rest_format),
    })
}

fn spend_state(state: SpendState) -> &'static str {
    match state {
        SpendState::Held => "held",
        SpendState::Captured => "captured",
        SpendState::Voided => "voided",
    }
}

fn wallet_failure(context: &Context, error: WalletError) -> Failure {
    match error {
        WalletError::StaffOnly => Failure::detail(
            StatusCode::FORBIDDEN,
            "staff_only",
            "You do not have permission to perform this action.",
        ),
        WalletError::Store(error) => read_failure(context, &error),
    }
}

fn overdraft(context: &Context, available: u64) -> Failure {
    let unit = unit(context);
    let body = json!({
        "detail": "The wallet does not have that much.",
        "available": shown_amount(available, unit),
        "currency": money::currency_name(unit),
    });
    Failure::object(StatusCode::CONFLICT, "insufficient_funds", body)
}

fn too_large() -> Failure {
    Failure::detail(StatusCode::CONFLICT, "balance_too_large", "A balance would leave its range.")
}

fn not_found() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "not_found", "Not found.")
}
