//! `wallet/` and `wallet/entries/`: a user's balance and its entries.

use std::sync::Arc;

use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::Caller;
use chelseru_domain::money::wallet::{WalletBalance, WalletEntry};
use chelseru_domain::money::{self, Currency};
use http::StatusCode;
use serde_json::{Value, json};

use super::Money;
use super::input::{PAGE, failed};
use crate::page::{CURSOR, Cursor, page, start};
use crate::reply::Reply;
use crate::request::{Access, Request};
use crate::route::{About, Answer, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/wallet/",
        name: "Wallet",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "wallet_get",
            call: call!(get),
            about: About {
                summary: "Get the caller's balance",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Wallet")],
            },
        }],
    },
    Route {
        path: "/wallet/entries/",
        name: "Wallet Entries",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "wallet_entries",
            call: call!(entries),
            about: About {
                summary: "List the entries of the caller's wallet, newest first",
                parameters: &[CURSOR],
                fields: &[],
                answers: &[(200, "Page<WalletEntry>")],
            },
        }],
    },
];

/// `GET wallet/`.
async fn get(money: Arc<Money>, request: Request<Caller>) -> Answer {
    let (user, unit) = (request.caller.user_id, money.currency);
    let balance = money.wallets.balance(user).await.map_err(|error| failed(&request, &error))?;
    Ok(Reply::json(StatusCode::OK, &wallet_json(user, balance, unit)))
}

pub(crate) fn wallet_json(user: UserId, balance: WalletBalance, unit: Currency) -> Value {
    json!({
        "user": user.0,
        "balance": money::to_json(balance.available, unit),
        "held": money::to_json(balance.held, unit),
        "currency": money::currency_name(unit),
        "balance_rial": balance.available,
    })
}

/// `GET wallet/entries/`: newest first.
async fn entries(money: Arc<Money>, request: Request<Caller>) -> Answer {
    let from = start(&request)?;
    let found = money.wallets.entries(request.caller.user_id, from, PAGE);
    let (lines, next) = found.await.map_err(|error| failed(&request, &error))?;
    let results: Vec<Value> = lines.iter().map(|line| entry_json(line, money.currency)).collect();
    Ok(page(&request, next.map(Cursor::Next), None, &results))
}

pub(crate) fn entry_json(line: &WalletEntry, unit: Currency) -> Value {
    let (kind, subject) = line.key.split_once(':').unwrap_or((line.key.as_str(), ""));
    json!({
        "id": line.number,
        "kind": if line.is_hold { "hold" } else { kind },
        "subject": subject,
        "direction": if line.amount < 0 { "out" } else { "in" },
        "amount": money::to_json(line.amount.unsigned_abs(), unit),
        "balance": money::to_json(u64::try_from(line.balance).unwrap_or(0), unit),
        "currency": money::currency_name(unit),
        "created_at": rest_format(line.at),
    })
}
