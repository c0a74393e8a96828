//! `wallet/spend/...`: spending from a wallet, at once or as a hold that staff capture or void.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::clock::rest_format;
use chelseru_domain::login::identity::Caller;
use chelseru_domain::money::wallet::{
    Actor, Spend, SpendEnded, SpendId, SpendMade, SpendRequest, SpendState, WalletError,
};
use chelseru_domain::money::{self, Currency};
use http::StatusCode;
use serde_json::{Value, json};

use super::Money;
use super::input::{
    AMOUNT, CURRENCY, DESCRIPTION, ORDER, actor, amount, check_currency, failed, order_paid, overdraft,
    too_large,
};
use super::refund::wallet_failure;
use crate::fields::Fields;
use crate::key::{IDEMPOTENCY_KEY, idempotency_key, key_reused, replayed};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/wallet/spend/",
        name: "Wallet Spend",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "spend_create",
            call: call!(create),
            about: About {
                summary: "Spend or hold an amount of the caller's wallet",
                parameters: &[IDEMPOTENCY_KEY],
                fields: &[
                    Field("amount", Is::Text, "An exact amount in the configured currency."),
                    Field("hold", Is::MayBool, "Hold the amount until it is captured or voided."),
                    Field("order_id", Is::MayText, "The caller's reference."),
                    Field("description", Is::MayText, "Free text."),
                    CURRENCY,
                ],
                answers: &[
                    (201, "Spend"),
                    (409, "The wallet has too little, or the order is paid."),
                    (422, "The key stands for another request."),
                ],
            },
        }],
    },
    Route {
        path: "/wallet/spend/{id}/",
        name: "Wallet Spend Instance",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "spend_get",
            call: call!(get),
            about: About {
                summary: "Get one of the caller's spends",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Spend")],
            },
        }],
    },
    Route {
        path: "/wallet/spend/{id}/capture/",
        name: "Wallet Spend Capture",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "spend_capture",
            call: call!(capture),
            about: About {
                summary: "Capture a hold; staff only",
                parameters: &[],
                fields: &[AMOUNT, CURRENCY],
                answers: &[
                    (200, "Spend"),
                    (403, "Not staff."),
                    (409, "The spend has ended in another state."),
                ],
            },
        }],
    },
    Route {
        path: "/wallet/spend/{id}/void/",
        name: "Wallet Spend Void",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "spend_void",
            call: call!(void),
            about: About {
                summary: "Void a hold; staff only",
                parameters: &[],
                fields: &[CURRENCY],
                answers: &[
                    (200, "Spend"),
                    (403, "Not staff."),
                    (409, "The spend has ended in another state."),
                ],
            },
        }],
    },
];

/// `POST wallet/spend/`: at once, or as a hold.
async fn create(money: Arc<Money>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let amount = amount(&mut fields, money.currency);
    if fields.value("amount").is_none_or(Value::is_null) {
        fields.refuse("amount", "This field is required.");
    }
    check_currency(&mut fields, money.currency);
    let hold = fields.flag("hold", false);
    let order = fields.given("order_id", ORDER).unwrap_or_default();
    let description = fields.given("description", DESCRIPTION).unwrap_or_default();
    let idempotency_key = idempotency_key(&context)?;
    let amount = fields.all(amount)?;
    let request = SpendRequest {
        user: caller.user_id,
        amount,
        hold_for: hold.then(|| Duration::from_secs(money.rules.hold_days * 24 * 3600)),
        order,
        unique_order: money.rules.unique_orders,
        description,
        idempotency_key,
    };
    let made = money.wallets.spend(request).await.map_err(|error| failed(&context, &error))?;
    made_reply(money.currency, made)
}

fn made_reply(unit: Currency, made: SpendMade) -> Answer {
    match made {
        SpendMade::Done(spend) => Ok(Reply::json(StatusCode::CREATED, &spend_json(&spend, unit))),
        SpendMade::Repeated(mut spend) => {
            // A repeat returns the first answer, whatever happened to the hold since.
            if spend.hold {
                (spend.state, spend.captured, spend.ended_at) = (SpendState::Held, 0, None);
            }
            Ok(replayed(Reply::json(StatusCode::CREATED, &spend_json(&spend, unit))))
        }
        SpendMade::KeyReused => Err(key_reused()),
        SpendMade::OrderTaken(spend) => Err(order_paid("spend", spend.id.0)),
        SpendMade::OrderPaid(id) => Err(order_paid("payment", id.0)),
        SpendMade::Overdraft { available } => Err(overdraft(unit, available)),
        SpendMade::TooLarge => Err(too_large()),
    }
}

/// `GET wallet/spend/{id}/`.
async fn get(money: Arc<Money>, request: Request<Caller>) -> Answer {
    let (_, spend) = own_spend(&money, &request, &request.caller).await?;
    Ok(Reply::json(StatusCode::OK, &spend_json(&spend, money.currency)))
}

/// `POST wallet/spend/{id}/capture/`: captures all of it, or `amount` of it.
async fn capture(money: Arc<Money>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let (actor, spend) = own_spend(&money, &context, &caller).await?;
    let amount = amount(&mut fields, money.currency);
    check_currency(&mut fields, money.currency);
    fields.finish()?;
    let ended = money.wallets.capture(actor, spend.id, amount).await;
    ended_reply(&money, &context, ended)
}

/// `POST wallet/spend/{id}/void/`.
async fn void(money: Arc<Money>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let (actor, spend) = own_spend(&money, &context, &caller).await?;
    check_currency(&mut fields, money.currency);
    fields.finish()?;
    let ended = money.wallets.void(actor, spend.id).await;
    ended_reply(&money, &context, ended)
}

fn ended_reply(money: &Money, context: &Context, ended: Result<SpendEnded, WalletError>) -> Answer {
    let unit = money.currency;
    match ended.map_err(|error| wallet_failure(context, error))? {
        // The balance of now, and not the one from when the hold was made.
        SpendEnded::Done(spend, balance) => {
            Ok(Reply::json(StatusCode::OK, &spend_json(&Spend { balance, ..spend }, unit)))
        }
        SpendEnded::Was(spend) => Err(Failure::object(
            StatusCode::CONFLICT,
            "spend_ended",
            json!({"detail": "This spend has already ended.", "state": spend_state(spend.state)}),
        )),
        SpendEnded::TooMuch { held } => {
            let (held, unit) = (money::format(held, unit), money::currency_name(unit));
            Err(Failure::field("amount", format!("Only {held} {unit} is held.")))
        }
        SpendEnded::TooLarge => Err(too_large()),
        SpendEnded::Missing => Err(not_found()),
    }
}

/// The spend of the path: the caller's own, or any for staff.
async fn own_spend(money: &Money, context: &Context, caller: &Caller) -> Result<(Actor, Spend), Failure> {
    let actor = actor(money, context, caller).await?;
    let id = SpendId(context.id("id")?);
    let spend = money.wallets.spend_get(actor, id).await.map_err(|error| failed(context, &error))?;
    Ok((actor, spend.ok_or_else(not_found)?))
}

pub(crate) fn spend_json(spend: &Spend, unit: Currency) -> Value {
    json!({
        "id": spend.id.0,
        "user": spend.user.0,
        "state": spend_state(spend.state),
        "amount": money::to_json(spend.amount, unit),
        "captured": money::to_json(spend.captured, unit),
        "balance_after": money::to_json(spend.balance, unit),
        "currency": money::currency_name(unit),
        "order_id": spend.order,
        "description": spend.description,
        "created_at": rest_format(spend.created_at),
        "ended_at": spend.ended_at.map(rest_format),
        "expires_at": spend.expires_at.map(rest_format),
    })
}

fn spend_state(state: SpendState) -> &'static str {
    match state {
        SpendState::Held => "held",
        SpendState::Captured => "captured",
        SpendState::Voided => "voided",
        SpendState::Expired => "expired",
    }
}
