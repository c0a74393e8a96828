//! `payment/{id}/go/`: our own page between a client and a bank that takes payers by a form.
//!
//! A client opens `gateway_url` and needs to know nothing else about its bank. Invariant: without the key in the
//! address, which is not the callback's, the page does not exist.

use std::sync::Arc;

use chelseru_domain::money::payment::gateway::RedirectMethod;
use chelseru_domain::money::payment::{Confirmed, Payment, PaymentId, PaymentState, View, page_key};
use http::StatusCode;
use http::header::{self, HeaderValue};
use subtle::ConstantTimeEq;

use super::input::failed;
use super::{Money, page};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Open, Request, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

const KEY: &str = "key";

const ABOUT: About = About {
    summary: "Lead a payer to a bank that takes a form",
    parameters: &[Field(KEY, Is::Text, "The key in gateway_url.")],
    fields: &[],
    answers: &[
        (200, "A page that submits the form to the bank; after the payment, its result."),
        (303, "To a bank that takes no form."),
        (404, "No such payment, or another key.|Html"),
    ],
};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/payment/{id}/go/",
    name: "Payment Go",
    access: Access::Open,
    kind: Kind::Plain,
    operations: &[
        Operation { verb: Verb::Get, id: "payment_go", call: call!(go), about: ABOUT },
        // For clients that post `gateway_fields` wherever `gateway_url` points.
        Operation { verb: Verb::Post, id: "payment_go_form", call: call!(go), about: ABOUT },
    ],
}];

/// `GET` and `POST payment/{id}/go/?key=...`.
async fn go(money: Arc<Money>, request: Request<Open>) -> Answer {
    match form(&money, &request).await {
        Ok(reply) => Ok(reply),
        Err(failure) => {
            let context = &request.context;
            let accept = context.header(header::ACCEPT);
            match page::is_wanted(&context.head.method, accept, context.query("format").as_deref()) {
                true => Ok(page::failure(failure, &context.id)),
                false => Err(failure),
            }
        }
    }
}

async fn form(money: &Money, context: &Context) -> Answer {
    let id = PaymentId(context.id("id")?);
    let payment = money.payments.get(id).await.map_err(|error| failed(context, &error))?;
    let payment = payment.ok_or_else(not_found)?;
    let (key, given) = (page_key(&payment), context.query(KEY).unwrap_or_default());
    if !key.is_some_and(|key| bool::from(key.as_bytes().ct_eq(given.as_bytes()))) {
        return Err(not_found());
    }
    let start = payment.start.as_ref().filter(|_| payment.state == PaymentState::Pending);
    let Some(redirect) = start.map(|start| &start.redirect) else {
        return Ok(page::result(&Confirmed { payment, view: View::Whole }));
    };
    let url = bank_url(context, &redirect.url);
    match redirect.method {
        RedirectMethod::Post => Ok(page::bank_form(&url, redirect)),
        RedirectMethod::Get => {
            let location = HeaderValue::from_str(&url).map_err(|_| Failure::internal())?;
            Ok(Reply::bare(StatusCode::SEE_OTHER).with(header::LOCATION, location))
        }
    }
}

/// The bank's own address. The built-in bank names a path; its page is on the operators' listener.
pub(crate) fn bank_url(context: &Context, url: &str) -> String {
    if url.starts_with('/') { format!("{}{url}", context.operator_url()) } else { url.to_owned() }
}

/// The address of a payment's page; `None` for payments of older versions, which have no key.
pub(crate) fn address(context: &Context, payment: &Payment) -> Option<String> {
    let key = page_key(payment)?;
    let host = context.own_url().unwrap_or_else(|| context.origin());
    Some(format!("{host}{}/payment/{}/go/?{KEY}={key}", context.base_path(), payment.id))
}
