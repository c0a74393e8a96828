//! Any user's wallet, its lines and its corrections; open holds and reversals.

use std::sync::Arc;

use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::Caller;
use chelseru_domain::money::wallet::{Correction, CorrectionMade, CorrectionRequest};
use chelseru_domain::money::{self, Currency};
use http::StatusCode;
use serde_json::{Value, json};

use super::{record, staff};
use crate::fields::{Fields, Text};
use crate::key::{IDEMPOTENCY_KEY, idempotency_key, key_reused, replayed};
use crate::money::Money;
use crate::money::input::{CURRENCY, PAGE, amount, check_currency, failed, overdraft, too_large};
use crate::money::payment::payment_json;
use crate::money::refund::wallet_failure;
use crate::money::spend::spend_json;
use crate::money::wallet::{entry_json, wallet_json};
use crate::page::{CURSOR, Cursor, page, start};
use crate::reply::Reply;
use crate::request::{Access, Context, Request, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/staff/wallets/{id}/",
        name: "Staff Wallet",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "staff_wallet_get",
            call: call!(get),
            about: About {
                summary: "Get a user's balance; staff only",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Wallet"), (403, "Not staff."), (404, "No such user.")],
            },
        }],
    },
    Route {
        path: "/staff/wallets/{id}/entries/",
        name: "Staff Wallet Entries",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "staff_wallet_entries",
            call: call!(entries),
            about: About {
                summary: "List the lines of a user's wallet, newest first; staff only",
                parameters: &[CURSOR],
                fields: &[],
                answers: &[(200, "Page<WalletEntry>"), (403, "Not staff."), (404, "No such user.")],
            },
        }],
    },
    Route {
        path: "/staff/wallets/{id}/correct/",
        name: "Staff Wallet Correction",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "staff_wallet_correct",
            call: call!(correct),
            about: About {
                summary: "Correct a user's balance by a posting with a reason; staff only",
                parameters: &[IDEMPOTENCY_KEY],
                fields: &[
                    Field("amount", Is::Text, "An exact amount in the configured currency."),
                    CURRENCY,
                    Field("direction", Is::Text, "in: from the merchant to the wallet; out: the other way."),
                    Field("reason", Is::Text, "Why; it stays in the ledger's records and in the audit log."),
                ],
                answers: &[
                    (201, "Correction"),
                    (403, "Not staff."),
                    (404, "No such user."),
                    (409, "The wallet has too little, or the correction needs a second operator."),
                    (422, "The key stands for another request."),
                ],
            },
        }],
    },
    Route {
        path: "/staff/holds/",
        name: "Staff Holds",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "staff_hold_list",
            call: call!(holds),
            about: About {
                summary: "List open holds, the next one to expire first; staff only",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Results<Spend>"), (403, "Not staff.")],
            },
        }],
    },
    Route {
        path: "/staff/reversals/",
        name: "Staff Reversals",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "staff_reversal_list",
            call: call!(reversals),
            about: About {
                summary: "List payments whose reversal is open or refused; staff only",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Results<Payment>"), (403, "Not staff.")],
            },
        }],
    },
];

/// Holds, or reversals, in one answer.
const LISTED_MAX: usize = 100;
const REASON: Text = Text { chars_max: 255 };
const DIRECTION: Text = Text { chars_max: 10 };

/// `GET staff/wallets/{id}/`.
async fn get(money: Arc<Money>, request: Request<Caller>) -> Answer {
    staff(&money, &request, &request.caller).await?;
    let user = owner_ever(&money, &request).await?;
    let balance = money.wallets.balance(user).await.map_err(|error| failed(&request, &error))?;
    Ok(Reply::json(StatusCode::OK, &wallet_json(user, balance, money.currency)))
}

/// `GET staff/wallets/{id}/entries/`.
async fn entries(money: Arc<Money>, request: Request<Caller>) -> Answer {
    staff(&money, &request, &request.caller).await?;
    let user = owner_ever(&money, &request).await?;
    let found = money.wallets.entries(user, start(&request)?, PAGE).await;
    let (lines, next) = found.map_err(|error| failed(&request, &error))?;
    let results: Vec<Value> = lines.iter().map(|line| entry_json(line, money.currency)).collect();
    Ok(page(&request, next.map(Cursor::Next), None, &results))
}

/// `POST staff/wallets/{id}/correct/`.
async fn correct(money: Arc<Money>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let actor = staff(&money, &context, &caller).await?;
    let user = owner(&money, &context).await?;
    let unit = money.currency;
    let amount = amount(&mut fields, unit);
    if fields.value("amount").is_none_or(Value::is_null) {
        fields.refuse("amount", "This field is required.");
    }
    check_currency(&mut fields, unit);
    let direction = fields.required("direction", DIRECTION);
    let takes = match direction.as_deref() {
        Some("in") => Some(false),
        Some("out") => Some(true),
        Some(_) => {
            fields.refuse("direction", "Must be in or out.");
            None
        }
        None => None,
    };
    let reason = fields.required("reason", REASON);
    let idempotency_key = idempotency_key(&context)?;
    let (amount, takes, reason) = fields.all((amount, takes, reason))?;
    let request = CorrectionRequest { user, amount, takes, reason, idempotency_key };
    let made = money.wallets.correct(actor, request, money.correction_alone).await;
    let (correction, repeated) = match made.map_err(|error| wallet_failure(&context, error))? {
        CorrectionMade::Done(correction) => (correction, false),
        CorrectionMade::Repeated(correction) => (correction, true),
        CorrectionMade::KeyReused => return Err(key_reused()),
        CorrectionMade::Overdraft { available } => return Err(overdraft(unit, available)),
        CorrectionMade::TooLarge => return Err(too_large()),
    };
    if !repeated {
        let detail =
            format!("correction {}: {} rial: {}", correction.number, correction.amount, correction.reason);
        record(&money, &context, actor, format!("wallet of user {user}"), detail);
    }
    let reply = Reply::json(StatusCode::CREATED, &correction_json(user, &correction, unit));
    Ok(if repeated { replayed(reply) } else { reply })
}

pub(crate) fn correction_json(user: UserId, correction: &Correction, unit: Currency) -> Value {
    json!({
        "number": correction.number,
        "user": user.0,
        "direction": if correction.amount < 0 { "out" } else { "in" },
        "amount": money::to_json(correction.amount.unsigned_abs(), unit),
        "balance_after": money::to_json(correction.balance, unit),
        "currency": money::currency_name(unit),
        "reason": correction.reason,
        "created_at": rest_format(correction.at),
    })
}

/// `GET staff/holds/`.
async fn holds(money: Arc<Money>, request: Request<Caller>) -> Answer {
    staff(&money, &request, &request.caller).await?;
    let holds = money.wallets.holds(LISTED_MAX).await.map_err(|error| failed(&request, &error))?;
    let unit: Currency = money.currency;
    let results: Vec<Value> = holds.iter().map(|spend| spend_json(spend, unit)).collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

/// `GET staff/reversals/`.
async fn reversals(money: Arc<Money>, request: Request<Caller>) -> Answer {
    staff(&money, &request, &request.caller).await?;
    let undecided = money.payments.reversals_undecided(LISTED_MAX).await;
    let mut results = Vec::new();
    for reversal in undecided.map_err(|error| failed(&request, &error))? {
        let payment = money.payments.get(reversal.payment).await.map_err(|error| failed(&request, &error))?;
        if let Some(payment) = payment {
            results.push(payment_json(&money, &request, &payment).await?);
        }
    }
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

/// The user of the path, or the number of an erased one, whose postings stay.
async fn owner_ever(money: &Money, context: &Context) -> Result<UserId, crate::reply::Failure> {
    let user = UserId(context.id("id")?);
    let entries = money.wallets.entries(user, None, 1).await.map_err(|error| failed(context, &error))?;
    if entries.0.is_empty() { owner(money, context).await } else { Ok(user) }
}

/// The user of the path.
async fn owner(money: &Money, context: &Context) -> Result<UserId, crate::reply::Failure> {
    let user = UserId(context.id("id")?);
    let account = money.identity.user(user).await.map_err(|error| failed(context, &error))?;
    account.map(|_| user).ok_or_else(not_found)
}
