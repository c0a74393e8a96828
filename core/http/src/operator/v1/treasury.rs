//! `operator/v1/` of money that people decide about: refunds, reversals, corrections, holds and the ledger.
//!
//! Acts take an `Idempotency-Key`, as the clients' routes of money do: a program that lost an answer repeats itself.

use std::sync::Arc;

use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::UserId;
use chelseru_domain::money;
use chelseru_domain::money::correction::{Confirmed, Waiting};
use chelseru_domain::money::payment::{
    Payment, PaymentId, PaymentRefunded, RefundQuery, RefundState, RefundTo, ReversalDecided,
    ReversalDecision,
};
use chelseru_domain::money::wallet::CorrectionMade;
use chelseru_domain::operator::desk::{Corrected, CorrectionOrder, RefundOrder};
use chelseru_domain::operator::house::{LedgerCheck, LedgerPhase};
use chelseru_domain::operator::role::{
    CorrectionConfirm, LedgerVerify, PaymentRead, PaymentRefund, ReversalDecide, UserRead, WalletCorrect,
    WalletRead,
};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Filters, NAME, NO_ROLE, NO_TOKEN, PAGE, WHY, act, failed, read, reason, route};
use crate::console::Console;
use crate::fields::Fields;
use crate::key::{IDEMPOTENCY_KEY, idempotency_key, key_reused, replayed};
use crate::money::input::{AMOUNT, amount, overdraft, too_large};
use crate::money::payment::payment_shown;
use crate::money::refund::{TO_HELP, done, refund_json, to, wallet_failure};
use crate::money::spend::spend_json;
use crate::money::staff::refunds::refund_json as found_refund_json;
use crate::money::staff::wallet::correction_json;
use crate::money::wallet::entry_json;
use crate::page::{CURSOR, Cursor, page, start};
use crate::reply::{Failure, Reply};
use crate::request::{ByOperator, Context, Request, not_found};
use crate::route::{About, Answer, Field, Is, Operation, Route, Verb, call};

const FULL: &str = "The wallet has too little, or the correction needs a person.";

/// An act with an idempotency key.
const fn once(
    id: &'static str,
    summary: &'static str,
    fields: &'static [Field],
    answers: &'static [(u16, &'static str)],
    call: crate::route::Call,
) -> Operation {
    let about = About { summary, parameters: &[IDEMPOTENCY_KEY], fields, answers };
    Operation { verb: Verb::Post, id, call, about }
}

pub(crate) const ROUTES: &[Route] = &[
    route(
        "/operator/v1/refunds/",
        "Operator Refund List",
        &[read(
            "operator_refund_list",
            "Find refunds, newest first",
            &[
                CURSOR,
                Field("payment", Is::MayInteger, "The payment's number."),
                Field("user", Is::MayText, "The payer: an account's number, a phone number or a user name."),
                Field("state", Is::MayText, "open, done, refused or undone."),
                Field("to", Is::MayText, "payer, payer_outside or wallet."),
                Field("gateway", Is::MayText, "A gateway's name."),
                Field("by", Is::MayText, "Who ordered it."),
                Field("from", Is::MayText, "Booked on this day or later: 2026-11-26 or 1405/09/05."),
                Field("until", Is::MayText, "Booked before this day."),
            ],
            &[(200, "Page<StaffRefund>"), (401, NO_TOKEN), (403, NO_ROLE), (404, "An invalid cursor.")],
            call!(refunds),
        )],
    ),
    route(
        "/operator/v1/payments/{id}/refund/",
        "Operator Payment Refund",
        &[once(
            "operator_payment_refund",
            "Refund a payment",
            &[WHY, AMOUNT, Field("to", Is::MayText, TO_HELP)],
            &[
                (201, "Refunded"),
                (401, NO_TOKEN),
                (403, NO_ROLE),
                (409, "The payment is not paid, or the wallet has too little."),
                (422, "The key stands for another request."),
            ],
            call!(refund),
        )],
    ),
    route(
        "/operator/v1/reversals/",
        "Operator Reversal List",
        &[read(
            "operator_reversal_list",
            "List payments whose reversal is open or refused",
            &[],
            &[(200, "Results<Payment>"), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(reversals),
        )],
    ),
    route(
        "/operator/v1/payments/{id}/reversal/",
        "Operator Reversal Decision",
        &[act(
            "operator_reversal_decide",
            "Decide about a reversal that the gateway refuses",
            &[WHY, Field("decision", Is::Text, "retry, undo, wallet or paid_outside.")],
            &[
                (200, "Payment"),
                (401, NO_TOKEN),
                (403, NO_ROLE),
                (409, "The gateway is still asked, or the wallet holds no more."),
            ],
            call!(decide),
        )],
    ),
    route(
        "/operator/v1/holds/",
        "Operator Hold List",
        &[read(
            "operator_hold_list",
            "List open holds, the next one to expire first",
            &[],
            &[(200, "Results<Spend>"), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(holds),
        )],
    ),
    route(
        "/operator/v1/wallets/{id}/entries/",
        "Operator Wallet Entries",
        &[read(
            "operator_wallet_entries",
            "List the lines of a user's wallet, newest first",
            &[CURSOR],
            &[(200, "Page<WalletEntry>"), (401, NO_TOKEN), (403, NO_ROLE), (404, "An invalid cursor.")],
            call!(entries),
        )],
    ),
    route(
        "/operator/v1/wallets/{id}/correct/",
        "Operator Wallet Correction",
        &[once(
            "operator_wallet_correct",
            "Correct a user's balance by a posting; a large correction waits for a second operator",
            &[
                WHY,
                Field("amount", Is::Text, "An exact amount in the configured currency."),
                Field("direction", Is::Text, "in: from the merchant to the wallet; out: the other way."),
            ],
            &[
                (201, "Correction"),
                (202, "WaitingCorrection"),
                (401, NO_TOKEN),
                (403, NO_ROLE),
                (409, FULL),
                (422, "The key stands for another request."),
            ],
            call!(correct),
        )],
    ),
    route(
        "/operator/v1/corrections/",
        "Operator Correction List",
        &[read(
            "operator_correction_list",
            "List the corrections that wait for a second operator, oldest first",
            &[],
            &[(200, "Results<WaitingCorrection>"), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(corrections),
        )],
    ),
    route(
        "/operator/v1/corrections/{correction}/confirm/",
        "Operator Correction Confirm",
        &[act(
            "operator_correction_confirm",
            "Post a correction that another operator asked for",
            &[WHY],
            &[(200, "Correction"), (401, NO_TOKEN), (403, NO_ROLE), (409, FULL)],
            call!(confirm),
        )],
    ),
    route(
        "/operator/v1/corrections/{correction}/withdraw/",
        "Operator Correction Withdraw",
        &[act(
            "operator_correction_withdraw",
            "Withdraw a correction that waits",
            &[WHY],
            &[(204, "Withdrawn."), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(withdraw),
        )],
    ),
    route(
        "/operator/v1/ledger/",
        "Operator Ledger",
        &[
            read(
                "operator_ledger",
                "Show the last recomputation of the ledger",
                &[],
                &[(200, "LedgerCheck"), (401, NO_TOKEN), (403, NO_ROLE)],
                call!(ledger),
            ),
            Operation {
                verb: Verb::Post,
                id: "operator_ledger_verify",
                call: call!(verify),
                about: About {
                    summary: "Begin to recompute the ledger on a copy of one moment",
                    parameters: &[],
                    fields: &[],
                    answers: &[(202, "LedgerCheck"), (401, NO_TOKEN), (403, NO_ROLE)],
                },
            },
        ],
    ),
];

const STATES: [(&str, RefundState); 4] = [
    ("open", RefundState::Open),
    ("done", RefundState::Done),
    ("refused", RefundState::Refused),
    ("undone", RefundState::Undone),
];
const PLACES: [(&str, RefundTo); 3] =
    [("payer", RefundTo::Reverse), ("payer_outside", RefundTo::Gateway), ("wallet", RefundTo::Wallet)];

async fn refunds(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<PaymentRead>(&request).await?;
    let users = console.allow::<UserRead>(&request).await?;
    let mut filters = Filters::new(&request);
    let query = RefundQuery {
        payment: filters.number("payment").map(PaymentId),
        user: filters.user(&console, &users, "user").await?,
        state: filters.one_of("state", &STATES),
        to: filters.one_of("to", &PLACES),
        gateway: filters.text("gateway"),
        by: filters.user(&console, &users, "by").await?,
        from: filters.day("from"),
        until: filters.day("until"),
    };
    filters.finish()?;
    let found = console.desk.refunds(&permit, &query, start(&request)?, PAGE).await;
    let found = found.map_err(|error| failed(&request, &error))?;
    let results: Vec<Value> =
        found.refunds.iter().map(|(refund, payment)| found_refund_json(refund, payment)).collect();
    Ok(page(&request, found.next.map(Cursor::Next), None, &results))
}

async fn refund(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<PaymentRefund>(&context).await?;
    let reads = console.allow::<PaymentRead>(&context).await?;
    let id = PaymentId(context.id("id")?);
    let key = idempotency_key(&context)?;
    let found = console.desk.payment(&reads, id).await.map_err(|error| failed(&context, &error))?;
    let paid = found.ok_or_else(not_found)?.0;
    let unit = paid.currency;
    let (amount, to) = (amount(&mut fields, unit), to(&mut fields));
    fields.finish()?;
    let reason = reason(&mut fields)?;
    if to == RefundTo::Reverse && paid.state == chelseru_domain::money::payment::PaymentState::Paid {
        let judged = console.desk.payment_reversible(&reads, &paid);
        judged.map_err(|error| Failure::field("to", format!("{error}.")))?;
    }
    let refunded =
        console.desk.payment_refund(&permit, RefundOrder { payment: id, amount, to, key }, &reason);
    let refunded = refunded.await.map_err(|error| wallet_failure(&context, error))?;
    let repeated = matches!(refunded, PaymentRefunded::Repeated(..));
    let (_, refund) = done(unit, refunded)?;
    if refund.to == RefundTo::Reverse {
        let asked = console.desk.reversal_continue(&permit, id).await;
        asked.map_err(|error| failed(&context, &error))?;
    }
    let payment = shown(&console, &context, id).await?;
    let body = json!({"refund": refund_json(&refund, unit), "payment": payment});
    let reply = Reply::json(StatusCode::CREATED, &body);
    Ok(if repeated { replayed(reply) } else { reply })
}

/// A payment with its reversal.
async fn shown(console: &Console, context: &Context, id: PaymentId) -> Result<Value, Failure> {
    let permit = console.allow::<PaymentRead>(context).await?;
    let found = console.desk.payment(&permit, id).await.map_err(|error| failed(context, &error))?;
    let (payment, _, reversal): (Payment, _, _) = found.ok_or_else(not_found)?;
    Ok(payment_shown(&payment, reversal.as_ref()))
}

async fn reversals(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<PaymentRead>(&request).await?;
    let undecided = console.desk.reversals_undecided(&permit).await;
    let mut results = Vec::new();
    for reversal in undecided.map_err(|error| failed(&request, &error))? {
        results.push(shown(&console, &request, reversal.payment).await?);
    }
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

async fn decide(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<ReversalDecide>(&context).await?;
    let id = PaymentId(context.id("id")?);
    let word = fields.required("decision", NAME);
    let decision = match fields.all(word)?.as_str() {
        "retry" => ReversalDecision::AskAgain,
        "undo" => ReversalDecision::Undo,
        "wallet" => ReversalDecision::ToWallet,
        "paid_outside" => ReversalDecision::PaidOutside,
        _ => return Err(Failure::field("decision", "Must be retry, undo, wallet or paid_outside.")),
    };
    let reason = reason(&mut fields)?;
    let decided = console.desk.reversal_decide(&permit, id, decision, &reason).await;
    match decided.map_err(|error| failed(&context, &error))? {
        ReversalDecided::Done(_) => Ok(Reply::json(StatusCode::OK, &shown(&console, &context, id).await?)),
        ReversalDecided::Open => {
            let text =
                "The gateway is still asked. `paid_outside` ends that; anything else waits for its answer.";
            Err(Failure::detail(StatusCode::CONFLICT, "reversal_open", text))
        }
        ReversalDecided::InWallet => {
            Err(Failure::field("decision", "This payment charged the wallet; `undo` returns it there."))
        }
        ReversalDecided::TooLarge => Err(too_large()),
        ReversalDecided::Missing => Err(not_found()),
    }
}

async fn holds(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<WalletRead>(&request).await?;
    let holds = console.desk.holds(&permit).await.map_err(|error| failed(&request, &error))?;
    let results: Vec<Value> = holds.iter().map(|spend| spend_json(spend, console.currency)).collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

async fn entries(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<WalletRead>(&request).await?;
    let user = UserId(request.id("id")?);
    let found = console.desk.wallet_entries(&permit, user, start(&request)?, PAGE).await;
    let (lines, next) = found.map_err(|error| failed(&request, &error))?;
    let results: Vec<Value> = lines.iter().map(|line| entry_json(line, console.currency)).collect();
    Ok(page(&request, next.map(Cursor::Next), None, &results))
}

async fn correct(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<WalletCorrect>(&context).await?;
    let users = console.allow::<UserRead>(&context).await?;
    let (user, unit) = (UserId(context.id("id")?), console.currency);
    let key = idempotency_key(&context)?;
    let amount = amount(&mut fields, unit);
    if fields.value("amount").is_none_or(Value::is_null) {
        fields.refuse("amount", "This field is required.");
    }
    let takes = match fields.required("direction", NAME).as_deref() {
        Some("in") => Some(false),
        Some("out") => Some(true),
        Some(_) => {
            fields.refuse("direction", "Must be in or out.");
            None
        }
        None => None,
    };
    let (amount, takes) = fields.all((amount, takes))?;
    let reason = reason(&mut fields)?;
    console.desk.user(&users, user).await.map_err(|error| failed(&context, &error))?.ok_or_else(not_found)?;
    let order = CorrectionOrder { user, amount, takes, key };
    let made = console.desk.wallet_correct(&permit, order, &reason).await;
    match made.map_err(|error| wallet_failure(&context, error))? {
        Corrected::Waits(waiting) => Ok(Reply::json(StatusCode::ACCEPTED, &waiting_json(&waiting, unit))),
        Corrected::TooMany => Err(Failure::store_busy()),
        Corrected::Made(made) => corrected(&console, user, made, StatusCode::CREATED),
    }
}

fn corrected(console: &Console, user: UserId, made: CorrectionMade, status: StatusCode) -> Answer {
    let unit = console.currency;
    match made {
        CorrectionMade::Done(one) => Ok(Reply::json(status, &correction_json(user, &one, unit))),
        CorrectionMade::Repeated(one) => {
            Ok(replayed(Reply::json(status, &correction_json(user, &one, unit))))
        }
        CorrectionMade::KeyReused => Err(key_reused()),
        CorrectionMade::Overdraft { available } => Err(overdraft(unit, available)),
        CorrectionMade::TooLarge => Err(too_large()),
    }
}

fn waiting_json(one: &Waiting, unit: money::Currency) -> Value {
    json!({
        "id": one.id,
        "user": one.user.0,
        "direction": if one.takes { "out" } else { "in" },
        "amount": money::to_json(one.amount.rial(), unit),
        "currency": money::currency_name(unit),
        "reason": one.reason,
        "asked_by": one.by.0,
        "created_at": rest_format(one.at),
        "expires_at": rest_format(one.expires_at()),
    })
}

async fn corrections(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<WalletRead>(&request).await?;
    let waiting = console.desk.corrections_waiting(&permit).await;
    let waiting = waiting.map_err(|error| failed(&request, &error))?;
    let results: Vec<Value> = waiting.iter().map(|one| waiting_json(one, console.currency)).collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

async fn confirm(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<CorrectionConfirm>(&context).await?;
    let reason = reason(&mut fields)?;
    let id = context.parameter("correction");
    let done = console.desk.correction_confirm(&permit, id, &reason).await;
    match done.map_err(|error| wallet_failure(&context, error))? {
        Confirmed::Missing => Err(not_found()),
        Confirmed::Own => {
            let text = "Who asked for a correction cannot confirm it.";
            Err(Failure::detail(StatusCode::CONFLICT, "second_person_required", text))
        }
        Confirmed::Ended(waiting, made) => corrected(&console, waiting.user, made, StatusCode::OK),
    }
}

async fn withdraw(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<CorrectionConfirm>(&context).await?;
    let reason = reason(&mut fields)?;
    let ended = console.desk.correction_withdraw(&permit, context.parameter("correction"), &reason).await;
    match ended.map_err(|error| failed(&context, &error))? {
        true => Ok(Reply::empty()),
        false => Err(not_found()),
    }
}

async fn ledger(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<WalletRead>(&request).await?;
    Ok(Reply::json(StatusCode::OK, &ledger_json(&console.desk.ledger_check(&permit))))
}

async fn verify(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<LedgerVerify>(&request).await?;
    let reads = console.allow::<WalletRead>(&request).await?;
    console.desk.ledger_check_start(&permit);
    Ok(Reply::json(StatusCode::ACCEPTED, &ledger_json(&console.desk.ledger_check(&reads))))
}

fn ledger_json(check: &LedgerCheck) -> Value {
    match check {
        LedgerCheck::Never => json!({"state": "never"}),
        LedgerCheck::Running { since, phase, copied_bytes } => {
            let phase = match phase {
                LedgerPhase::Copying => "copying",
                LedgerPhase::Reading => "reading",
                LedgerPhase::Recomputing => "recomputing",
            };
            json!({
                "state": "running", "since": rest_format(*since), "phase": phase, "copied_bytes": copied_bytes,
            })
        }
        LedgerCheck::Done { at, seconds, outcome } => match outcome {
            Err(problem) => json!({
                "state": "failed", "ended_at": rest_format(*at), "seconds": seconds, "problem": problem,
            }),
            Ok(counts) => json!({
                "state": "verified", "ended_at": rest_format(*at), "seconds": seconds,
                "postings": counts.postings, "accounts": counts.accounts, "payments": counts.payments,
                "users_total_rial": counts.users_total, "head": counts.head,
            }),
        },
    }
}
