//! The payer at the simulated gateways: decides at the bank, then the browser returns to the shop.
//!
//! Payments get lost on the way back: [`Back`] says whether the browser brings the callback once, twice (as a query
//! and as a form at the same moment), or never. A callback has the gateway's shape and goes to the session's
//! `callback_url` over plain HTTP. [`Act::GiveBack`] is an act of the gateway: it returns money that the shop never
//! confirmed. Both real gateways do so after a while; tests do it at once.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::bank::{Bank, Paid, Session};
use crate::provider::PROVIDERS;
use crate::saman_sep;
use crate::server::{Answer, error_response, json_response};
use crate::world::World;

/// Bytes read of a shop's reply.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// An event of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    Pay,
    Cancel,
    /// The payer retries in a session he had cancelled, and pays.
    PayAgain,
    /// The gateway returns what was paid and not confirmed.
    GiveBack,
}

/// How the browser returns to the shop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Back {
    /// Once, in the gateway's form: Zarinpal by a query, the others by a form.
    #[default]
    Once,
    /// Never.
    Lost,
    /// By a query and by a form at once.
    Twice,
}

/// The shop's reply to a callback.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Callback {
    pub method: &'static str,
    pub status: u16,
    pub body: String,
}

/// `POST /_sim/payments`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    reference: String,
    #[serde(rename = "do")]
    act: Act,
    #[serde(default)]
    callback: Back,
}

pub(crate) async fn answer(world: &World, body: &[u8]) -> Response<Answer> {
    let order: Order = match serde_json::from_slice(body) {
        Ok(order) => order,
        Err(error) => return error_response(StatusCode::BAD_REQUEST, &format!("a payment: {error}")),
    };
    // The bank's lock is not held while the shop works.
    let done = act(&mut world.bank(), &order.reference, order.act);
    if !done {
        let text = format!("\"reference\": {:?} is not a payment in the right state", order.reference);
        return error_response(StatusCode::BAD_REQUEST, &text);
    }
    let back = if order.act == Act::GiveBack { Back::Lost } else { order.callback };
    match comes_back(world, &order.reference, back).await {
        Ok(callbacks) => json_response(StatusCode::OK, &json!({"callbacks": callbacks})),
        Err(error) => error_response(StatusCode::BAD_REQUEST, &error),
    }
}

/// False when the session does not exist, or its money is in another state than the act needs.
pub(crate) fn act(bank: &mut Bank, reference: &str, act: Act) -> bool {
    let (from, to) = match act {
        Act::Pay => (Paid::Waiting, Paid::Unverified),
        Act::Cancel => (Paid::Waiting, Paid::Cancelled),
        Act::PayAgain => (Paid::Cancelled, Paid::Unverified),
        Act::GiveBack => (Paid::Unverified, Paid::Returned),
    };
    let found = PROVIDERS
        .iter()
        .find(|provider| bank.get(provider.name(), reference).is_some_and(|session| session.paid == from));
    found.and_then(|provider| bank.get(provider.name(), reference)).map(|session| session.paid = to).is_some()
}

/// The shop's replies, in the order of the callbacks.
///
/// Errors: the session does not exist, or the shop cannot be reached.
pub(crate) async fn comes_back(world: &World, reference: &str, back: Back) -> Result<Vec<Callback>, String> {
    let session = world.bank().sessions().find(|session| session.reference == reference).cloned();
    let session = session.ok_or_else(|| format!("there is no payment {reference:?}"))?;
    let own = if session.provider == "zarinpal" { Method::GET } else { Method::POST };
    match back {
        Back::Lost => Ok(Vec::new()),
        Back::Once => Ok(vec![send(&session, own).await?]),
        Back::Twice => {
            let (query, form) = tokio::join!(send(&session, Method::GET), send(&session, Method::POST));
            Ok(vec![query?, form?])
        }
    }
}

/// A callback's fields in the gateway's shape. A query cannot carry PayPing's nested field.
fn fields(session: &Session, method: &Method) -> Vec<(&'static str, String)> {
    let paid = matches!(session.paid, Paid::Unverified | Paid::Verified);
    if session.provider == "zarinpal" {
        let status = if paid { "OK" } else { "NOK" };
        return vec![("Authority", session.reference.clone()), ("Status", status.to_owned())];
    }
    if session.provider == saman_sep::NAME {
        let (state, status) = if paid { ("OK", "2") } else { ("CanceledByUser", "1") };
        let receipt = if paid { session.receipt.to_string() } else { String::new() };
        return vec![
            ("MID", session.account.clone()),
            ("State", state.to_owned()),
            ("Status", status.to_owned()),
            ("RefNum", receipt),
            ("ResNum", session.client_ref.clone()),
            ("Token", session.reference.clone()),
            ("Amount", session.amount.to_string()),
            ("SecurePan", "621986****8080".to_owned()),
        ];
    }
    let status = if paid { "1" } else { "0" }.to_owned();
    if *method == Method::GET {
        let mut fields = vec![("paymentCode", session.reference.clone()), ("status", status)];
        fields.extend(paid.then(|| ("paymentRefId", session.receipt.to_string())));
        return fields;
    }
    let mut data: Value = json!({
        "clientRefId": session.client_ref, "paymentCode": session.reference,
        "amount": session.amount, "gatewayAmount": session.amount,
    });
    if paid {
        data["paymentRefId"] = session.receipt.into();
    }
    let error = if paid { "" } else { "127" }.to_owned();
    vec![("status", status), ("errorCode", error), ("data", data.to_string())]
}

async fn send(session: &Session, method: Method) -> Result<Callback, String> {
    let url = &session.callback_url;
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("callback to {url}: {what}: {error}");
    let (target, host) = url
        .strip_prefix("http://")
        .map(|rest| rest.split_at(rest.find('/').unwrap_or(rest.len())))
        .map(|(host, path)| (if path.is_empty() { "/" } else { path }.to_owned(), host))
        .ok_or_else(|| format!("callback to {url}: only http:// is supported"))?;
    let form =
        form_urlencoded::Serializer::new(String::new()).extend_pairs(fields(session, &method)).finish();
    let is_get = method == Method::GET;
    let joint = if target.contains('?') { '&' } else { '?' };
    let (target, body) =
        if is_get { (format!("{target}{joint}{form}"), String::new()) } else { (target, form) };
    let request = hyper::Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| failed("no request", &error))?;
    let stream = TcpStream::connect(host).await.map_err(|error| failed("not reached", &error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed("not reached", &error))?;
    // Ends with the sender.
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| failed("unanswered", &error))?;
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| failed("its answer", &error))?;
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok(Callback { method: if is_get { "GET" } else { "POST" }, status, body })
}
