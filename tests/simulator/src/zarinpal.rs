//! Zarinpal v4: request, verify, inquiry, unVerified, reverse; JSON bodies, merchant id in the body.
//!
//! Errors have the form `{"data":[],"errors":{"code":..}}`. Whether the HTTP status follows is a setting, because it
//! is undocumented. A form body is refused with -9 even under a JSON content type; a different amount with -50. A
//! second verify answers 101 with the same receipt. Source: `shared` reference of the v4 API, read 2026-11.

use std::borrow::Cow;

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bank::{Bank, Paid, Session};
use crate::provider::{Outcome, Provider, Reply};
use crate::request::Request;
use crate::world::World;

const NAME: &str = "zarinpal";
const PREFIX: &str = "/pg/v4/payment/";

pub(crate) struct Zarinpal;

/// Behaviour of the Zarinpal stand-in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ZarinpalSettings {
    /// Errors have HTTP status 422 instead of 200. Default false.
    pub http_status_follows_code: bool,
    /// Every payer pays as soon as a session is opened, for benches. Default false.
    pub paid_at_once: bool,
    /// One receipt number for every payment, to test that it is used once. Default none.
    pub same_receipt: Option<u64>,
}

impl Provider for Zarinpal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "/pg/v4/payment/{request,verify,inquiry,unVerified,reverse}.json"
    }

    fn claims(&self, path: &str) -> bool {
        path.starts_with("/pg/")
    }

    fn call<'a>(&self, request: &'a Request) -> Cow<'a, str> {
        let call = request.path.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(".json"));
        call.unwrap_or("unknown").into()
    }

    fn masked_path(&self, path: &str) -> String {
        path.to_owned()
    }

    fn secret_fields(&self) -> &'static [&'static str] {
        &["merchant_id"]
    }

    fn codes(&self) -> &'static [i64] {
        &[-9, -10, -11, -12, -15, -41, -50, -51, -52, -53, -54, -55, -60, -61, -63]
    }

    fn numbers(&self, _: &Request) -> Vec<String> {
        Vec::new()
    }

    fn answer(&self, world: &World, request: &Request) -> Reply {
        match answer(world, request) {
            Ok((data, outcome)) => Reply::json(200, &json!({"data": data, "errors": []}), outcome),
            Err(code) => self.refuse(world, request, code, None),
        }
    }

    fn refuse(&self, world: &World, _: &Request, code: i64, status_follows: Option<bool>) -> Reply {
        let follows = status_follows.unwrap_or(world.settings().zarinpal.http_status_follows_code);
        // The validation error names its fields.
        let validations =
            if code == -9 { json!([{"amount": "The amount is not valid."}]) } else { json!([]) };
        let errors = json!({"code": code, "message": "refused", "validations": validations});
        let status = if follows { 422 } else { 200 };
        Reply::json(status, &json!({"data": [], "errors": errors}), Outcome::Refused(code))
    }
}

fn answer(world: &World, request: &Request) -> Result<(Value, Outcome), i64> {
    if request.http_method != Method::POST {
        return Err(-9);
    }
    let body = request.json.as_ref().filter(|body| body.is_object()).ok_or(-9)?;
    let merchant = text(body, "merchant_id");
    if merchant.is_empty() {
        return Err(-10);
    }
    let settings = world.settings();
    let settings = &settings.zarinpal;
    let mut bank = world.bank();
    let call = Zarinpal.call(request);
    match call.as_ref() {
        "request" => open(&mut bank, settings, body),
        "unVerified" => Ok(unverified(&bank, merchant)),
        "verify" | "inquiry" | "reverse" => {
            let session = bank.get(NAME, text(body, "authority")).ok_or(-54)?;
            match call.as_ref() {
                "verify" => verify(session, settings, body),
                "inquiry" => Ok(inquire(session)),
                _ => reverse(session),
            }
        }
        _ => Err(-9),
    }
}

fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body[name].as_str().unwrap_or_default()
}

fn open(bank: &mut Bank, settings: &ZarinpalSettings, body: &Value) -> Result<(Value, Outcome), i64> {
    let text = |name| text(body, name);
    let amount = body["amount"].as_u64().filter(|amount| *amount >= 1000).ok_or(-9)?;
    if amount > 1_000_000_000 {
        return Err(-41);
    }
    // The shop sends rial; another unit would be another amount.
    if text("currency") != "IRR" || text("callback_url").is_empty() || text("description").is_empty() {
        return Err(-9);
    }
    let session = Session {
        provider: NAME,
        reference: String::new(),
        amount,
        callback_url: text("callback_url").into(),
        client_ref: body["metadata"]["order_id"].as_str().unwrap_or_default().into(),
        receipt: 0,
        paid: if settings.paid_at_once { Paid::Unverified } else { Paid::Waiting },
        reversible: true,
        account: text("merchant_id").into(),
    };
    let authority = bank.open(session, |number| format!("A{number:035}")).reference.clone();
    let data = json!({
        "authority": authority, "fee": 0, "fee_type": "Merchant", "code": 100, "message": "Success",
    });
    Ok((data, Outcome::Accepted))
}

fn verify(session: &mut Session, settings: &ZarinpalSettings, body: &Value) -> Result<(Value, Outcome), i64> {
    if session.account != text(body, "merchant_id") {
        return Err(-53);
    }
    if body["amount"].as_u64() != Some(session.amount) {
        return Err(-50);
    }
    let (code, message) = match session.paid {
        Paid::Waiting | Paid::Cancelled | Paid::Returned => return Err(-51),
        Paid::Unverified => (100, "Paid"),
        Paid::Verified => (101, "Verified"),
    };
    session.paid = Paid::Verified;
    let data = json!({
        "code": code, "message": message, "card_hash": "1EBE3EBEBE35C7EC",
        "card_pan": "502229******5995", "ref_id": settings.same_receipt.unwrap_or(session.receipt),
        "fee_type": "Merchant", "fee": 0, "wages": null, "order_id": null,
    });
    Ok((data, Outcome::Answered))
}

fn inquire(session: &Session) -> (Value, Outcome) {
    let status = match session.paid {
        Paid::Waiting => "IN_BANK",
        Paid::Cancelled => "FAILED",
        Paid::Unverified => "PAID",
        Paid::Verified => "VERIFIED",
        Paid::Returned => "REVERSED",
    };
    (json!({"status": status, "code": 100, "message": "Success"}), Outcome::Answered)
}

/// The last hundred payments of a shop that were paid and not verified.
fn unverified(bank: &Bank, merchant: &str) -> (Value, Outcome) {
    let unverified = bank.sessions().filter(|session| session.paid == Paid::Unverified);
    let mine = unverified.filter(|session| session.provider == NAME && session.account == merchant);
    let mut authorities: Vec<_> = mine
        .map(|session| {
            json!({
                "authority": session.reference, "amount": session.amount,
                "callback_url": session.callback_url, "referer": "", "date": "2026-01-01 00:00:00",
            })
        })
        .collect();
    authorities.drain(..authorities.len().saturating_sub(100));
    (json!({"code": "100", "message": "Success", "authorities": authorities}), Outcome::Answered)
}

fn reverse(session: &mut Session) -> Result<(Value, Outcome), i64> {
    if session.paid != Paid::Verified {
        return Err(-61);
    }
    session.paid = Paid::Returned;
    Ok((json!({"code": 100, "message": "Reversed"}), Outcome::Answered))
}
