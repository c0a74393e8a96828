//! PayPing v3: pay, verify, report; JSON bodies in toman, a bearer token in the header.
//!
//! Request names match ignoring case. A second verify answers 409 with code 110 and the payment inside, in Pascal
//! case; a payment without money 121; a different amount 137. Errors have the shape of RFC 7807 with `metaData`.
//! Source: `shared` reference of the v3 API, read 2026-11.

use std::borrow::Cow;

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::bank::{Bank, Paid, Session};
use crate::provider::{Outcome, Provider, Reply};
use crate::request::Request;
use crate::world::World;

const NAME: &str = "payping";

pub(crate) struct Payping;

/// Behaviour of the PayPing stand-in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PaypingSettings {
    /// Verify reports a different payment, like a confused or hostile gateway. Default false.
    pub wrong_amount: bool,
    /// Number of 202 replies of verify before it completes. Default 0.
    pub processing: u32,
}

impl Provider for Payping {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "/v3/pay{,/verify,/reverse} /v1/report/CODE"
    }

    fn claims(&self, path: &str) -> bool {
        path.starts_with("/v3/pay") || path.starts_with("/v1/report/")
    }

    fn call<'a>(&self, request: &'a Request) -> Cow<'a, str> {
        match request.path.trim_end_matches('/') {
            "/v3/pay" => "pay",
            "/v3/pay/verify" => "verify",
            "/v3/pay/reverse" => "reverse",
            path if path.starts_with("/v1/report/") => "report",
            _ => "unknown",
        }
        .into()
    }

    fn masked_path(&self, path: &str) -> String {
        path.to_owned()
    }

    fn secret_fields(&self) -> &'static [&'static str] {
        &[]
    }

    fn codes(&self) -> &'static [i64] {
        &[101, 102, 103, 105, 109, 110, 111, 121, 122, 126, 127, 133, 134, 135, 137, 155, 156]
    }

    fn numbers(&self, _: &Request) -> Vec<String> {
        Vec::new()
    }

    fn answer(&self, world: &World, request: &Request) -> Reply {
        match answer(world, request) {
            Ok(reply) => reply,
            Err(code) => self.refuse(world, request, code, None),
        }
    }

    fn refuse(&self, _: &World, _: &Request, code: i64, _: Option<bool>) -> Reply {
        let status = match code {
            103 => 401,
            122 => 404,
            109 | 110 | 126 | 133 | 155 | 156 => 409,
            _ => 400,
        };
        Reply::json(status, &problem(status, code, Value::Null), Outcome::Refused(code))
    }
}

fn problem(status: u16, code: i64, message: Value) -> Value {
    let mut meta = json!({"code": code, "errors": [{"message": "refused"}]});
    if !message.is_null() {
        meta["message"] = message;
    }
    json!({"type": "about:blank", "title": "error", "status": status, "instance": "/", "paypingTraceId": "t", "metaData": meta})
}

fn answer(world: &World, request: &Request) -> Result<Reply, i64> {
    let bearer =
        request.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let token = bearer.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let token = token.map(|(_, token)| token).filter(|token| !token.is_empty()).ok_or(103)?;
    let mut bank = world.bank();
    let call = Payping.call(request);
    if call == "report" {
        let code = request.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        return Ok(report(own(&mut bank, code, token)?));
    }
    if request.http_method != Method::POST || !request.json.as_ref().is_some_and(Value::is_object) {
        return Err(101);
    }
    let text = |name: &str| request.get_caseless(name).unwrap_or_default();
    match call.as_ref() {
        "pay" => pay(&mut bank, request, token),
        "verify" => {
            // A payment that takes its time is looked at by each question.
            let settings = world.settings().payping.clone();
            let session = own(&mut bank, text("paymentCode"), token)?;
            let amount = text("amount").parse().map_err(|_| 101)?;
            let reply = verify(&settings, session, amount, text("paymentRefId"));
            if reply.as_ref().is_ok_and(|reply| reply.status == 202) {
                drop(bank);
                world.settings_change(|settings| settings.payping.processing -= 1);
            }
            reply
        }
        "reverse" => reverse(own(&mut bank, text("paymentCode"), token)?, text("paymentRefId")),
        _ => Err(101),
    }
}

/// A payment of the shop that asks.
fn own<'a>(bank: &'a mut Bank, code: &str, token: &str) -> Result<&'a mut Session, i64> {
    bank.get(NAME, code).filter(|session| session.account == token).ok_or(122)
}

fn report(session: &Session) -> Reply {
    let (status, paid) = match session.paid {
        Paid::Waiting => (2, false),
        Paid::Cancelled => (3, false),
        Paid::Unverified => (5, true),
        Paid::Verified => (1, true),
        // Undocumented. The shop did not get the money, which is the meaning of 4.
        Paid::Returned => (4, false),
    };
    let receipt = if paid { session.receipt } else { 0 };
    let body = json!({"isPaid": paid, "refId": receipt, "paymentStatus": status, "amount": session.amount});
    Reply::json(200, &body, Outcome::Answered)
}

fn pay(bank: &mut Bank, request: &Request, token: &str) -> Result<Reply, i64> {
    let text = |name: &str| request.get_caseless(name).unwrap_or_default();
    let amount = text("amount").parse().map_err(|_| 101)?;
    if !(1000..=50_000_000).contains(&amount) {
        return Err(101);
    }
    if text("returnUrl").is_empty() {
        return Err(105);
    }
    let session = Session {
        provider: NAME,
        reference: String::new(),
        amount,
        callback_url: text("returnUrl").into(),
        client_ref: text("clientRefId").into(),
        receipt: 0,
        paid: Paid::Waiting,
        reversible: request.json.as_ref().is_some_and(|body| body["isReversible"] == true),
        account: token.into(),
    };
    let code = bank.open(session, |number| format!("PP{number:06}")).reference.clone();
    let body = json!({
        "paymentCode": code, "url": format!("https://api.payping.ir/v3/pay/start/{code}"),
        "amount": amount, "payerWage": 0, "businessWage": 0, "gatewayAmount": amount, "paypingVat": 0,
    });
    Ok(Reply::json(200, &body, Outcome::Accepted))
}

fn verify(
    settings: &PaypingSettings,
    session: &mut Session,
    amount: u64,
    receipt: &str,
) -> Result<Reply, i64> {
    if receipt.parse() != Ok(session.receipt) {
        return Err(133);
    }
    if amount != session.amount {
        return Err(137);
    }
    let before = match session.paid {
        Paid::Waiting | Paid::Cancelled | Paid::Returned => return Err(121),
        Paid::Unverified => false,
        Paid::Verified => true,
    };
    if settings.processing > 0 {
        return Ok(Reply::json(202, &json!({}), Outcome::Answered));
    }
    session.paid = Paid::Verified;
    let amount = if settings.wrong_amount { 1 } else { session.amount };
    let (status, body) = if before {
        let known = json!({
            "Amount": amount, "CardNumber": "603799******1234", "CardHashPan": "BE7E",
            "ClientRefId": session.client_ref, "PaymentRefId": session.receipt,
            "Code": session.reference, "PayedDate": "2026-01-01T10:00:00Z",
        });
        (409, problem(409, 110, known))
    } else {
        let body = json!({
            "amount": amount, "cardNumber": "603799******1234", "cardHashPan": "BE7E",
            "clientRefId": session.client_ref, "paymentRefId": session.receipt,
            "code": session.reference, "payedDate": "2026-01-01T10:00:00Z",
        });
        (200, body)
    };
    Ok(Reply::json(status, &body, Outcome::Answered))
}

fn reverse(session: &mut Session, receipt: &str) -> Result<Reply, i64> {
    if receipt.parse() != Ok(session.receipt) {
        return Err(133);
    }
    match session.paid {
        Paid::Verified if session.reversible => session.paid = Paid::Returned,
        Paid::Verified => return Err(134),
        Paid::Returned => return Err(110),
        Paid::Waiting | Paid::Cancelled | Paid::Unverified => return Err(121),
    }
    let body = json!({"amount": session.amount, "reversedDate": "2026-01-01T10:00:00Z"});
    Ok(Reply::json(200, &body, Outcome::Answered))
}
