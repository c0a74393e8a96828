//! Saman (SEP), OnlinePG with a token.
//!
//! A payer reaches this bank with a form and comes back with one. Bodies are JSON, amounts whole rial. `verify` needs
//! the reference number (`RefNum`) of the callback, and its answer names neither the token nor our payment id. Anybody
//! can invent the callback, so a reference number that is unknown, belongs to another amount or was given back is
//! `claim-denied` and says nothing about the payment; without a callback nobody can tell whether it is paid. A
//! reference number counts for one payment: the gateway refuses a receipt that another payment has. Source: the
//! merchant guide 3.3 and the clients of others, as collected in 2026.

use chelseru_plugin_sdk::callback::Fields;
use chelseru_plugin_sdk::http::{Answer, Request};
use chelseru_plugin_sdk::json::{Node, Object};
use chelseru_plugin_sdk::payment::{
    Callback, Claim, Field, Order, Receipt, Redirect, Rules, Started, Stored, Unconfirmed, Verdict,
};
use chelseru_plugin_sdk::{
    Context, Description, Error, Payment, PaymentReverse, Plugin, Rejection, Setting, export_payment, number,
};

/// The provider.
pub struct SamanSep;

export_payment!(SamanSep: reverse);

const DONE: &str = "0";
/// The same request again.
const BEFORE: &str = "2";
const REVERSED: &str = "5";

impl Plugin for SamanSep {
    fn describe() -> Description {
        Description::new("saman-sep", env!("CARGO_PKG_VERSION"), "Saman (SEP), OnlinePG with a token.")
            .setting(Setting::integer("terminal", "The terminal's number.").required())
            .base_url("https://sep.shaparak.ir", 15_000)
            .payer_url()
    }
}

impl Payment for SamanSep {
    fn rules(_: &dyn Context) -> Rules {
        Rules {
            amount_min: 10_000,
            amount_max: 1_000_000_000,
            unit_rial: 1,
            // A token lives 20 minutes unless another time is asked for.
            window_seconds: 20 * 60,
            // Unconfirmed money goes back 30 minutes after the payment.
            unconfirmed: Unconfirmed::ReturnedAfter(30 * 60),
            reverse_seconds: 50 * 60,
            already_code: BEFORE.to_owned(),
        }
    }

    fn create(context: &dyn Context, order: Order) -> Result<Started, Error> {
        let mut body = Object::new()
            .text("action", "token")
            .text("TerminalId", &context.required("terminal")?)
            .number("Amount", order.amount_rial)
            .text("ResNum", &order.local_id.to_string())
            .text("RedirectUrl", &order.callback_url);
        if let Some(mobile) = order.mobile.as_deref().and_then(number::national) {
            body = body.text("CellNumber", &mobile);
        }
        let answer = call(context, "/onlinepg/onlinepg", body)?.act(context)?;
        let node = answer.json()?;
        let token = node.get_any_case("token").text();
        if node.get_any_case("status").text() == "1" && !token.is_empty() {
            let url = [&context.payer_url()?, "/OnlinePG/OnlinePG"].concat();
            let field = |name: &str, value: &str| Field { name: name.to_owned(), value: value.to_owned() };
            return Ok(Started {
                reference: token.to_owned(),
                // An empty `GetMethod` means that the payer comes back with a form.
                redirect: Redirect::Post((url, vec![field("Token", token), field("GetMethod", "")])),
                state: Vec::new(),
                message: String::new(),
            });
        }
        let code = node.get_any_case("errorCode").text();
        let refusal = Rejection::new(code, node.get_any_case("errorDesc").text());
        Err(match code {
            "" => answer.unclear(),
            "8" | "12" => Error::Unauthorized(refusal),
            _ => Error::Rejected(refusal),
        })
    }

    fn decode_callback(callback: &Callback) -> Option<Claim> {
        let fields = Fields::read(callback);
        let (token, state, status) = (fields.get("token"), fields.get("state"), fields.get("status"));
        // A token alone may be another bank's.
        if token.is_empty() || fields.get("resnum").is_empty() || (state.is_empty() && status.is_empty()) {
            return None;
        }
        let receipt = Some(fields.get("refnum").to_owned()).filter(|number| !number.is_empty());
        let cancelled = receipt.is_none() && (status == "1" || state.eq_ignore_ascii_case("CanceledByUser"));
        Some(Claim { reference: token.to_owned(), cancelled, receipt, data: Vec::new() })
    }

    fn verify(context: &dyn Context, payment: Stored, claim: Option<Claim>) -> Result<Verdict, Error> {
        let Some(claimed) = claim.and_then(|claim| claim.receipt) else {
            // A callback may still come; one without a reference number can be invented and ends nothing.
            return Ok(Verdict::NotPaid(Rejection::new("", "no callback named a reference number")));
        };
        let answer = transaction(context, "VerifyTransaction", &claimed)?.act(context)?;
        let node = answer.json()?;
        let result = Transaction::read(&node);
        match result.code {
            DONE | BEFORE => {}
            "-104" | "-105" | "-106" => return Err(Error::Unauthorized(result.rejection())),
            // Unknown, given back by us, or given back by the bank after 30 minutes.
            "-2" | "-6" | REVERSED => return Ok(Verdict::ClaimDenied(result.rejection())),
            "" => return Err(answer.unclear()),
            _ => return Err(failure(&answer, &result)),
        }
        let detail = result.detail;
        if detail.entries().is_empty() {
            return Err(answer.unclear_because("a paid answer without its transaction"));
        }
        let amount = detail.get_any_case("OrginalAmount").integer();
        let amount = amount.and_then(|amount| u64::try_from(amount).ok());
        let terminal = context.required("terminal")?;
        for (differs, field) in [
            (detail.get_any_case("RefNum").text() != claimed, "RefNum"),
            (detail.get_any_case("TerminalNumber").text() != terminal, "TerminalNumber"),
            (amount != Some(payment.amount_rial), "OrginalAmount"),
        ] {
            if differs {
                return Ok(Verdict::ClaimDenied(Rejection::new("", &["another ", field].concat())));
            }
        }
        let receipt = Receipt {
            number: claimed,
            card_pan: detail.get_any_case("MaskedPan").text().to_owned(),
            card_hash: detail.get_any_case("HashedPan").text().to_owned(),
            fee_rial: None,
            amount_rial: amount,
            code: result.code.to_owned(),
            text: result.text.to_owned(),
        };
        Ok(if result.code == DONE { Verdict::Paid(receipt) } else { Verdict::PaidBefore(receipt) })
    }
}

impl PaymentReverse for SamanSep {
    fn reverse(context: &dyn Context, _: Stored, receipt_number: String) -> Result<(), Error> {
        let answer = transaction(context, "ReverseTransaction", &receipt_number)?.act(context)?;
        let node = answer.json()?;
        let result = Transaction::read(&node);
        match result.code {
            DONE | BEFORE | REVERSED => Ok(()),
            "-104" | "-105" | "-106" => Err(Error::Unauthorized(result.rejection())),
            "" => Err(answer.unclear()),
            _ => Err(failure(&answer, &result)),
        }
    }
}

/// The answer about a transaction.
struct Transaction<'a> {
    code: &'a str,
    text: &'a str,
    detail: &'a Node<'a>,
}

impl<'a> Transaction<'a> {
    fn read(node: &'a Node<'a>) -> Transaction<'a> {
        // The guide's own example has a blank in front of this key.
        let detail = match node.get_any_case("TransactionDetail") {
            none if none.entries().is_empty() => node.get_any_case(" TransactionDetail"),
            detail => detail,
        };
        let (code, text) = (node.get_any_case("ResultCode"), node.get_any_case("ResultDescription"));
        Transaction { code: code.text(), text: text.text(), detail }
    }

    fn rejection(&self) -> Rejection {
        Rejection::new(self.code, self.text)
    }
}

fn transaction(context: &dyn Context, call_name: &str, receipt: &str) -> Result<Request, Error> {
    let terminal = context.required("terminal")?;
    let terminal: u64 = terminal.parse().map_err(|_| Error::rejected("12", "the terminal is no number"))?;
    let body = Object::new().text("RefNum", receipt).number("TerminalNumber", terminal);
    call(context, &["/verifyTxnRandomSessionkey/ipg/", call_name].concat(), body)
}

fn call(context: &dyn Context, path: &str, body: Object) -> Result<Request, Error> {
    let url = [&context.base_url()?, path].concat();
    Ok(Request::post(url).header("accept", "application/json").json(body))
}

fn failure(answer: &Answer, result: &Transaction) -> Error {
    match answer.status() {
        429 => Error::Throttled(answer.retry_after_secs()),
        500.. => answer.unclear(),
        _ => Error::Rejected(result.rejection()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chelseru_plugin_sdk::http::Header;
    use chelseru_plugin_sdk::testing::{self, Script};

    const TOKEN: &str = "2c3c1fefac5a48geb9f9be7e445dd9b2";
    const STARTED: &str = r#"{"status":1,"token":"2c3c1fefac5a48geb9f9be7e445dd9b2"}"#;
    const VERIFIED: &str = r#"{"TransactionDetail":{"RRN":"14226761817","RefNum":"50","MaskedPan":"621986****8080","HashedPan":"b96a14400c3a59249e87c300ecc06e5920327e70220213b5bbb7d7b2410f7e0d","TerminalNumber":2001,"OrginalAmount":20000,"AffectiveAmount":19000,"StraceDate":"2019-09-16 18:11:06","StraceNo":"100428"},"ResultCode":0,"ResultDescription":"done","Success":true}"#;

    fn script() -> Script {
        Script::for_plugin::<SamanSep>().setting("terminal", "2001")
    }

    fn order() -> Order {
        Order {
            local_id: 17,
            amount_rial: 20_000,
            callback_url: "https://shop.example/back?k=1".into(),
            description: "d".into(),
            order: "o-1".into(),
            mobile: Some("+989121234567".into()),
            email: None,
        }
    }

    fn stored() -> Stored {
        let (reference, order) = (TOKEN.to_owned(), "o-1".to_owned());
        Stored { local_id: 17, reference, amount_rial: 20_000, order, state: Vec::new() }
    }

    fn claim(receipt: Option<&str>) -> Option<Claim> {
        let receipt = receipt.map(str::to_owned);
        Some(Claim { reference: TOKEN.into(), cancelled: false, receipt, data: Vec::new() })
    }

    fn verdict(status: u16, body: &str) -> Result<Verdict, Error> {
        SamanSep::verify(&script().reply(status, body), stored(), claim(Some("50")))
    }

    fn callback(body: &str) -> Option<Claim> {
        let headers =
            vec![Header { name: "content-type".into(), value: "application/x-www-form-urlencoded".into() }];
        let (method, query) = ("POST".into(), "k=1".into());
        SamanSep::decode_callback(&Callback { method, query, headers, body: body.into() })
    }

    #[test]
    fn the_description_obeys_the_rules() {
        testing::check_description::<SamanSep>();
    }

    #[test]
    fn a_payer_is_sent_with_a_form() {
        let script = script().reply(200, STARTED);
        let started = SamanSep::create(&script, order()).expect("started");
        let Redirect::Post((url, fields)) = started.redirect else { panic!("an address") };
        assert_eq!((url.as_str(), fields.len()), ("https://sep.shaparak.ir/OnlinePG/OnlinePG", 2));
        assert_eq!((fields[0].name.as_str(), fields[0].value.as_str()), ("Token", TOKEN));
        assert_eq!(
            String::from_utf8_lossy(&script.requests()[0].body),
            r#"{"action":"token","TerminalId":"2001","Amount":20000,"ResNum":"17","RedirectUrl":"https://shop.example/back?k=1","CellNumber":"09121234567"}"#
        );
    }

    #[test]
    fn a_refused_token_keeps_the_banks_words() {
        let refused = |body: &str| SamanSep::create(&script().reply(200, body), order());
        let answer = r#"{"status":-1,"errorCode":"5","errorDesc":"parameters"}"#;
        assert!(
            matches!(refused(answer), Err(Error::Rejected(r)) if r.code == "5" && r.text == "parameters")
        );
        let answer = r#"{"status":-1,"errorCode":"8","errorDesc":"address"}"#;
        assert!(matches!(refused(answer), Err(Error::Unauthorized(_))));
        assert!(matches!(refused("{}"), Err(Error::UnknownOutcome(_))));
        let page = SamanSep::create(&script().reply(403, "<html>"), order());
        assert!(matches!(
            page,
            Err(Error::Unauthorized(_) | Error::Unavailable(_) | Error::UnknownOutcome(_))
        ));
    }

    #[test]
    fn a_form_says_which_payment_it_is_about() {
        let paid = format!("MID=2001&State=OK&Status=2&RefNum=50&ResNum=17&Token={TOKEN}&Amount=20000");
        let claim = callback(&paid).expect("its form");
        assert_eq!((claim.reference.as_str(), claim.receipt.as_deref()), (TOKEN, Some("50")));
        assert!(!claim.cancelled);
        let gone = format!("State=CanceledByUser&Status=1&RefNum=&ResNum=17&Token={TOKEN}");
        let claim = callback(&gone).expect("its form");
        assert!(claim.cancelled && claim.receipt.is_none());
        for other in ["", "Token=x", "Token=x&State=OK", "ResNum=17&State=OK", "Authority=A&Status=OK"] {
            assert!(callback(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_paid_answer_is_compared_field_by_field() {
        let Ok(Verdict::Paid(receipt)) = verdict(200, VERIFIED) else { panic!("paid") };
        assert_eq!((receipt.number.as_str(), receipt.amount_rial), ("50", Some(20_000)));
        assert_eq!(receipt.card_pan, "621986****8080");
        let spaced = VERIFIED.replace("\"TransactionDetail\"", "\" TransactionDetail\"");
        assert!(matches!(verdict(200, &spaced), Ok(Verdict::Paid(_))));
        let before = VERIFIED.replace("\"ResultCode\":0", "\"ResultCode\":2");
        assert!(matches!(verdict(200, &before), Ok(Verdict::PaidBefore(_))));
        for (from, to) in [
            ("\"RefNum\":\"50\"", "\"RefNum\":\"51\""),
            ("\"TerminalNumber\":2001", "\"TerminalNumber\":2002"),
            ("\"OrginalAmount\":20000", "\"OrginalAmount\":20001"),
        ] {
            let other = VERIFIED.replace(from, to);
            assert_ne!(other, VERIFIED);
            assert!(matches!(verdict(200, &other), Ok(Verdict::ClaimDenied(_))), "{to}");
        }
        let bare = r#"{"ResultCode":2,"ResultDescription":"again","Success":true}"#;
        assert!(matches!(verdict(200, bare), Err(Error::UnknownOutcome(_))));
    }

    #[test]
    fn an_invented_reference_number_says_nothing_about_the_payment() {
        for code in ["-2", "-6", "5"] {
            let body = format!(r#"{{"ResultCode":{code},"ResultDescription":"x","Success":false}}"#);
            assert!(matches!(verdict(200, &body), Ok(Verdict::ClaimDenied(r)) if r.code == code), "{code}");
        }
        let unauthorized = r#"{"ResultCode":-106,"ResultDescription":"address","Success":false}"#;
        assert!(matches!(verdict(200, unauthorized), Err(Error::Unauthorized(_))));
        let asked = script();
        for claim in [None, claim(None)] {
            assert!(matches!(SamanSep::verify(&asked, stored(), claim), Ok(Verdict::NotPaid(_))));
        }
        assert!(asked.requests().is_empty(), "there is nothing to ask about");
        for (status, body) in [(500, ""), (502, "<html>"), (200, "<html>"), (200, "")] {
            assert!(matches!(verdict(status, body), Err(Error::UnknownOutcome(_))), "{status} {body}");
        }
    }

    #[test]
    fn a_reversal_is_done_once() {
        let reverse = |code: &str| {
            let body = format!(r#"{{"ResultCode":{code},"ResultDescription":"x","Success":true}}"#);
            SamanSep::reverse(&script().reply(200, body), stored(), "50".into())
        };
        for done in ["0", "2", "5"] {
            assert_eq!(reverse(done), Ok(()), "{done}");
        }
        assert!(matches!(reverse("-2"), Err(Error::Rejected(r)) if r.code == "-2"));
        let lost = SamanSep::reverse(&script().reply(502, "<html>"), stored(), "50".into());
        assert!(matches!(lost, Err(Error::UnknownOutcome(_))));
    }
}
