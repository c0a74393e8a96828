//! `sandbox/pay/{reference}/`: the page of the built-in virtual bank, for clients on this machine.

use chelseru_domain::money::{BankDecision, BankSession, BankState, TestBank};
use http::StatusCode;
use http::header::{self, HeaderValue};

use super::Context;
use super::fields::Fields;
use super::reply::{Failure, Reply};

const HTML: &str = "text/html; charset=utf-8";

/// `GET`: what is to be paid, and three ways out.
pub(crate) fn page(context: &Context) -> Result<Reply, Failure> {
    let (_, session) = session(context)?;
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
        BankState::Reversed => "<h1>Sandbox bank</h1><p>Paid, and given back.</p>".to_owned(),
    };
    Ok(html(&body))
}

/// `POST`: the payer's decision; sends the browser back as a bank does, unless the callback shall be lost.
pub(crate) fn decide(context: &Context, fields: &Fields) -> Result<Reply, Failure> {
    let (reference, session) = session(context)?;
    let (decision, status, lost) = match fields.value("action").and_then(|action| action.as_str()) {
        Some("pay") => (BankDecision::Pay, "OK", false),
        Some("pay_lost") => (BankDecision::Pay, "OK", true),
        Some("cancel") => (BankDecision::Cancel, "NOK", false),
        _ => return Err(Failure::field("action", "Must be pay, cancel or pay_lost.")),
    };
    if !context.app.sandbox_bank.decide(&reference, decision) {
        return Err(Failure::detail(
            StatusCode::CONFLICT,
            "sandbox_decided",
            "This payment was decided before.",
        ));
    }
    if lost {
        return Ok(html("<h1>Sandbox bank</h1><p>Paid, and the way back is lost.</p>"));
    }
    // A fragment stays behind the query.
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

fn session(context: &Context) -> Result<(String, BankSession), Failure> {
    let path = context.head.uri.path().trim_end_matches('/');
    let reference = path.rsplit('/').next().unwrap_or_default();
    match context.app.sandbox_bank.session(reference) {
        Some(session) => Ok((reference.to_owned(), session)),
        None => Err(Failure::detail(StatusCode::NOT_FOUND, "not_found", "Not found.")),
    }
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
