//! Saman (SEP), OnlinePG: token, the payer's page, verify, reverse; JSON bodies in rial.
//!
//! The payer's page takes a form with a referrer, as the original demands it, and posts a form back. Verify and reverse
//! know a payment by its reference number only. Source: `shared` reference of the merchant guide 3.3, read 2026-11.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};

use crate::bank::{Bank, Paid, Session};
use crate::provider::{Outcome, Provider, Reply};
use crate::request::Request;
use crate::world::World;

pub(crate) const NAME: &str = "saman_sep";

pub(crate) struct SamanSep;

impl Provider for SamanSep {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "/onlinepg/onlinepg /OnlinePG/OnlinePG /verifyTxnRandomSessionkey/ipg/{Verify,Reverse}Transaction"
    }

    fn claims(&self, path: &str) -> bool {
        let path = path.to_ascii_lowercase();
        path.starts_with("/onlinepg/") || path.starts_with("/verifytxnrandomsessionkey/")
    }

    fn call<'a>(&self, request: &'a Request) -> Cow<'a, str> {
        match request.path.to_ascii_lowercase().as_str() {
            "/onlinepg/onlinepg" if request.json.is_some() => "token",
            "/onlinepg/onlinepg" => "page",
            "/verifytxnrandomsessionkey/ipg/verifytransaction" => "verify",
            "/verifytxnrandomsessionkey/ipg/reversetransaction" => "reverse",
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
        &[-106, -105, -104, -6, -2, 2, 5, 8, 12]
    }

    fn numbers(&self, _: &Request) -> Vec<String> {
        Vec::new()
    }

    fn answer(&self, world: &World, request: &Request) -> Reply {
        let mut bank = world.bank();
        let text = |name: &str| request.get_caseless(name).unwrap_or_default();
        match self.call(request).as_ref() {
            "page" => page(&mut bank, request),
            _ if request.http_method != Method::POST => refusal(-2),
            "token" => token(&mut bank, request),
            "verify" => paid_with(&mut bank, text("RefNum"), text("TerminalNumber"), |session| {
                let before = match session.paid {
                    Paid::Unverified => false,
                    Paid::Verified => true,
                    Paid::Returned => return Err(-6),
                    Paid::Waiting | Paid::Cancelled => return Err(-2),
                };
                session.paid = Paid::Verified;
                Ok(if before { 2 } else { 0 })
            }),
            "reverse" => paid_with(&mut bank, text("RefNum"), text("TerminalNumber"), |session| {
                let code = match session.paid {
                    Paid::Verified => 0,
                    Paid::Returned => 5,
                    Paid::Waiting | Paid::Cancelled | Paid::Unverified => return Err(-2),
                };
                session.paid = Paid::Returned;
                Ok(code)
            }),
            _ => refusal(-2),
        }
    }

    fn refuse(&self, _: &World, request: &Request, code: i64, _: Option<bool>) -> Reply {
        match self.call(request).as_ref() {
            "token" => token_refused(code),
            _ => refusal(code),
        }
    }
}

fn token(bank: &mut Bank, request: &Request) -> Reply {
    let text = |name: &str| request.get_caseless(name).unwrap_or_default();
    let amount = text("Amount").parse().unwrap_or(0);
    if text("TerminalId").is_empty() {
        return token_refused(12);
    }
    if text("action") != "token" || amount == 0 || text("ResNum").is_empty() || text("RedirectUrl").is_empty()
    {
        return token_refused(5);
    }
    let session = Session {
        provider: NAME,
        reference: String::new(),
        amount,
        callback_url: text("RedirectUrl").into(),
        client_ref: text("ResNum").into(),
        receipt: 0,
        paid: Paid::Waiting,
        reversible: true,
        account: text("TerminalId").into(),
    };
    let token = bank.open(session, |number| format!("sep{number:029x}")).reference.clone();
    Reply::json(200, &json!({"status": 1, "token": token}), Outcome::Accepted)
}

/// The page on which the payer decides. It opens to a form with a known token, from a page that names its site.
fn page(bank: &mut Bank, request: &Request) -> Reply {
    let known = bank.get(NAME, request.get_caseless("Token").unwrap_or_default()).is_some();
    let (status, text, outcome) = match (request.http_method == Method::POST, known) {
        (false, _) => (405, "This page takes a form.", Outcome::Refused(11)),
        (true, false) => (200, "TokenNotFound", Outcome::Refused(10)),
        _ if !request.headers.contains_key("referer") => (403, "No referrer.", Outcome::Refused(8)),
        _ => (200, "Card number, please.", Outcome::Answered),
    };
    Reply {
        status,
        content_type: "text/html; charset=utf-8",
        body: Bytes::from_static(text.as_bytes()),
        outcome,
    }
}

/// Carries out an act on the transaction with a reference number, and answers with it.
fn paid_with(
    bank: &mut Bank,
    receipt: &str,
    terminal: &str,
    act: impl FnOnce(&mut Session) -> Result<i64, i64>,
) -> Reply {
    let receipt: u64 = receipt.parse().unwrap_or(0);
    let found = bank.sessions().find(|session| session.provider == NAME && session.receipt == receipt);
    let Some(reference) = found.map(|session| session.reference.clone()) else { return refusal(-2) };
    let Some(session) = bank.get(NAME, &reference) else { return refusal(-2) };
    if session.account != terminal {
        return refusal(-105);
    }
    let code = match act(session) {
        Ok(code) => code,
        Err(code) => return refusal(code),
    };
    let detail = json!({
        "RRN": "14226761817", "RefNum": session.receipt.to_string(), "MaskedPan": "621986****8080",
        "HashedPan": "b96a", "TerminalNumber": terminal.parse::<u64>().unwrap_or(0),
        "OrginalAmount": session.amount, "AffectiveAmount": session.amount,
        "StraceDate": "2026-01-01 10:00:00", "StraceNo": "100428",
    });
    let body = json!({
        "TransactionDetail": detail, "ResultCode": code, "ResultDescription": "done", "Success": true,
    });
    Reply::json(200, &body, Outcome::Answered)
}

fn refusal(code: i64) -> Reply {
    let body = json!({
        "TransactionDetail": Value::Null, "ResultCode": code, "ResultDescription": "refused", "Success": false,
    });
    Reply::json(200, &body, Outcome::Refused(code))
}

fn token_refused(code: i64) -> Reply {
    let body = json!({"status": -1, "errorCode": code.to_string(), "errorDesc": "refused"});
    Reply::json(200, &body, Outcome::Refused(code))
}
