//! `sandbox/pay/{reference}/`: the page of the built-in virtual bank, for clients on this machine.

use std::sync::Arc;

use chelseru_domain::money::{BankDecision, BankSession, BankState, TestBank};
use http::StatusCode;
use http::header::{self, HeaderValue};
use serde_json::Value;

use super::Money;
use crate::fields::Fields;
use crate::generation::Generation;
use crate::reply::{Failure, Reply};
use crate::request::{Access, ByOperator, Context, Request, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/sandbox/pay/{reference}/",
    name: "Sandbox Bank",
    access: Access::Operator,
    kind: Kind::When(is_selected),
    operations: &[
        Operation {
            verb: Verb::Get,
            id: "sandbox_bank_page",
            call: call!(page),
            about: About {
                summary: "Show the trial bank's page",
                parameters: &[],
                fields: &[],
                answers: &[(200, "A page."), (405, "With sandbox.form: the bank takes payers by a form.")],
            },
        },
        Operation {
            verb: Verb::Post,
            id: "sandbox_bank_decide",
            call: call!(decide),
            about: About {
                summary: "Pay, cancel, or pay and lose the callback",
                parameters: &[],
                fields: &[
                    Field("action", Is::MayText, "pay, cancel or pay_lost."),
                    Field("Token", Is::MayText, "With sandbox.form: the payer arrives."),
                ],
                answers: &[
                    (200, "A page; the callback is skipped."),
                    (403, "With sandbox.form: the payer arrives without a referrer."),
                    (409, "The payment is already decided."),
                    (303, "To the callback address."),
                ],
            },
        },
    ],
}];

const HTML: &str = "text/html; charset=utf-8";

/// `GET`: shows the amount and the payer's choices.
async fn page(money: Arc<Money>, request: Request<ByOperator>) -> Answer {
    let (_, session) = session(&money, &request)?;
    if session.by_form {
        let text = "This bank takes payers by a form: open gateway_url.";
        return Err(Failure::detail(StatusCode::METHOD_NOT_ALLOWED, "sandbox_form", text));
    }
    Ok(shown(&session))
}

fn shown(session: &BankSession) -> Reply {
    let body = match session.state {
        BankState::Waiting => format!(
            "<h1>Sandbox bank</h1><p>No real money. To pay: <b>{} rial</b></p><form method=\"post\">\
             <button name=\"action\" value=\"pay\">Pay</button> \
             <button name=\"action\" value=\"cancel\">Cancel</button> \
             <button name=\"action\" value=\"pay_lost\">Pay, and lose the callback</button></form>",
            session.amount
        ),
        BankState::Paid => "<h1>Sandbox bank</h1><p>Paid.</p>".to_owned(),
        BankState::Cancelled => "<h1>Sandbox bank</h1><p>Cancelled.</p>".to_owned(),
        BankState::Reversed => "<h1>Sandbox bank</h1><p>Paid, then reversed.</p>".to_owned(),
    };
    html(&body)
}

/// The form with which a payer arrives. As at some banks, it needs the payment's token and a referrer.
fn arrive(context: &Context, session: &BankSession, token: &str) -> Answer {
    if token != context.parameter("reference") {
        return Err(Failure::field("Token", "Must be the payment's reference."));
    }
    if !context.header(header::REFERER).starts_with("http") {
        let text = "This bank takes payers only from the shop's site: the Referer header is missing.";
        return Err(Failure::detail(StatusCode::FORBIDDEN, "sandbox_referrer", text));
    }
    Ok(shown(session))
}

/// `POST`: applies the payer's decision and redirects the browser like a bank, except for a lost callback.
async fn decide(money: Arc<Money>, request: Request<ByOperator, Fields>) -> Answer {
    let (bank, session) = session(&money, &request)?;
    if let (true, Some(token)) = (session.by_form, request.body.value("Token").and_then(Value::as_str)) {
        return arrive(&request.context, &session, token);
    }
    let reference = request.parameter("reference");
    let (decision, status, lost) = match request.body.value("action").and_then(Value::as_str) {
        Some("pay") => (BankDecision::Pay, "OK", false),
        Some("pay_lost") => (BankDecision::Pay, "OK", true),
        Some("cancel") => (BankDecision::Cancel, "NOK", false),
        _ => return Err(Failure::field("action", "Must be pay, cancel or pay_lost.")),
    };
    if !bank.decide(reference, decision) {
        let text = "This payment is already decided.";
        return Err(Failure::detail(StatusCode::CONFLICT, "sandbox_decided", text));
    }
    if lost {
        return Ok(html("<h1>Sandbox bank</h1><p>Paid; the callback was skipped.</p>"));
    }
    // The query goes before a fragment.
    let (url, fragment) = match session.callback_url.split_once('#') {
        Some((url, fragment)) => (url, format!("#{fragment}")),
        None => (session.callback_url.as_str(), String::new()),
    };
    let joint = if url.contains('?') { '&' } else { '?' };
    let location =
        HeaderValue::from_str(&format!("{url}{joint}Authority={reference}&Status={status}{fragment}"));
    let reply = Reply::bare(StatusCode::SEE_OTHER);
    location.map(|location| reply.with(header::LOCATION, location)).map_err(|_| Failure::internal())
}

fn is_selected(generation: &Generation) -> bool {
    generation.money.bank.is_some()
}

/// The bank and its session for the path.
fn session(money: &Money, context: &Context) -> Result<(Arc<dyn TestBank>, BankSession), Failure> {
    let bank = money.bank.as_ref().ok_or_else(not_found)?;
    let session = bank.session(context.parameter("reference")).ok_or_else(not_found)?;
    Ok((bank.clone(), session))
}

/// A page without scripts, which no other page can frame.
fn html(body: &str) -> Reply {
    let page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Sandbox bank</title>{body}</html>"
    );
    Reply::text(StatusCode::OK, HTML, page).with(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    )
}
