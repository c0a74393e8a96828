//! Zarinpal, payment API v4.
//!
//! Bodies are JSON. Amounts are whole rial with `currency` IRR in both calls, so that the unit is never in doubt. The
//! answer of `verify` names no amount: the stored amount is sent, and the provider refuses another one with -50.
//! Errors come with any HTTP status, with `data` and `errors` as object or array; the code decides.
//!
//! -51 of `verify` says only that nothing was paid so far: a payer who failed may try again in the same session, and a
//! callback with `NOK` can be invented. `inquiry` tells when the session is over (`FAILED`, `REVERSED`); it is asked
//! when a callback says `NOK`. Source: the v4 reference as collected in 2026 from the official PHP and Node libraries
//! and others.

use chelseru_plugin_sdk::callback::Fields;
use chelseru_plugin_sdk::http::{Answer, Request};
use chelseru_plugin_sdk::json::{Node, Object};
use chelseru_plugin_sdk::payment::{
    Callback, Claim, Order, Receipt, Redirect, Rules, Standing, Started, Stored, Unconfirmed, Unverified,
    Verdict,
};
use chelseru_plugin_sdk::{
    Context, Description, Error, Payment, PaymentInquiry, PaymentReverse, PaymentUnverified, Plugin,
    Rejection, Setting, encode, export_payment, number,
};

/// The provider.
pub struct Zarinpal;

export_payment!(Zarinpal: unverified, reverse, inquiry);

const PAID: &str = "100";
const PAID_BEFORE: &str = "101";

/// Characters of a description the provider takes.
const DESCRIPTION_MAX: usize = 500;

impl Plugin for Zarinpal {
    fn describe() -> Description {
        Description::new("zarinpal", env!("CARGO_PKG_VERSION"), "Zarinpal, payment API v4.")
            .setting(Setting::secret(
                "merchant_id",
                "The 36 characters of the terminal, from the Zarinpal panel.",
            ))
            .base_url("https://payment.zarinpal.com", 15_000)
            .payer_url()
    }
}

impl Payment for Zarinpal {
    fn rules(_: &dyn Context) -> Rules {
        Rules {
            // Sources disagree between 1,000 and 10,000; below 10,000 the provider may refuse.
            amount_min: 10_000,
            // Code -41: over 100 million toman.
            amount_max: 1_000_000_000,
            unit_rial: 1,
            // Neither time is documented; both are named long, so that nothing ends too early.
            window_seconds: 30 * 60,
            unconfirmed: Unconfirmed::ReturnedAfter(24 * 3600),
            reverse_seconds: 30 * 60,
            already_code: PAID_BEFORE.to_owned(),
        }
    }

    fn create(context: &dyn Context, order: Order) -> Result<Started, Error> {
        let description: String = order.description.chars().take(DESCRIPTION_MAX).collect();
        // The amount check of verify is ours; the provider must not confirm by itself.
        let mut metadata = Object::new().boolean("auto_verify", false);
        if let Some(mobile) = order.mobile.as_deref().and_then(number::national) {
            metadata = metadata.text("mobile", &mobile);
        }
        if let Some(email) = &order.email {
            metadata = metadata.text("email", email);
        }
        if !order.order.is_empty() {
            metadata = metadata.text("order_id", &order.order);
        }
        let body = body(context)?
            .number("amount", order.amount_rial)
            .text("currency", "IRR")
            .text("description", &description)
            .text("callback_url", &order.callback_url)
            .object("metadata", metadata);
        let answer = call(context, "request", body)?.act(context)?;
        let node = answer.json()?;
        let data = node.get("data");
        let authority = data.get("authority").text();
        if data.get("code").text() == PAID && !authority.is_empty() {
            let url = [&context.payer_url()?, "/pg/StartPay/", &encode::segment(authority)].concat();
            return Ok(Started {
                reference: authority.to_owned(),
                redirect: Redirect::Get(url),
                state: Vec::new(),
                message: data.get("message").text().to_owned(),
            });
        }
        Err(failure(&answer, &node))
    }

    fn decode_callback(callback: &Callback) -> Option<Claim> {
        let fields = Fields::read(callback);
        let (authority, status) = (fields.get("authority"), fields.get("status"));
        if authority.is_empty() {
            return None;
        }
        let cancelled = status.eq_ignore_ascii_case("NOK");
        Some(Claim { reference: authority.to_owned(), cancelled, receipt: None, data: Vec::new() })
    }

    fn verify(context: &dyn Context, payment: Stored, claim: Option<Claim>) -> Result<Verdict, Error> {
        let body = body(context)?
            .number("amount", payment.amount_rial)
            .text("currency", "IRR")
            .text("authority", &payment.reference);
        let answer = call(context, "verify", body)?.act(context)?;
        let node = answer.json()?;
        let data = node.get("data");
        let code = data.get("code").text();
        if code == PAID || code == PAID_BEFORE {
            let number = data.get("ref_id").text();
            if number.is_empty() || number == "0" {
                return Err(answer.unclear_because("a paid answer without ref_id"));
            }
            let receipt = Receipt {
                number: number.to_owned(),
                card_pan: data.get("card_pan").text().to_owned(),
                card_hash: data.get("card_hash").text().to_owned(),
                fee_rial: data.get("fee").integer().and_then(|fee| u64::try_from(fee).ok()),
                amount_rial: None,
                code: code.to_owned(),
                text: data.get("message").text().to_owned(),
            };
            return Ok(if code == PAID { Verdict::Paid(receipt) } else { Verdict::PaidBefore(receipt) });
        }
        let rejection = rejection(&node);
        Ok(match rejection.code.as_str() {
            "-51" if claim.is_some_and(|claim| claim.cancelled) => ended(context, payment, rejection)?,
            "-51" => Verdict::NotPaid(rejection),
            "-50" => Verdict::Mismatch("amount".to_owned()),
            "-54" | "-55" => Verdict::UnknownReference,
            _ => return Err(failure(&answer, &node)),
        })
    }
}

impl PaymentUnverified for Zarinpal {
    fn list_unverified(context: &dyn Context) -> Result<Vec<Unverified>, Error> {
        let answer = call(context, "unVerified", body(context)?)?.ask(context)?;
        let node = answer.json()?;
        let data = node.get("data");
        if data.get("code").text() != PAID {
            return Err(failure(&answer, &node));
        }
        let items = data.get("authorities").items().iter();
        Ok(items
            .map(|item| Unverified {
                reference: item.get("authority").text().to_owned(),
                amount_rial: item.get("amount").integer().and_then(|amount| u64::try_from(amount).ok()),
            })
            .filter(|item| !item.reference.is_empty())
            .collect())
    }
}

impl PaymentReverse for Zarinpal {
    fn reverse(context: &dyn Context, payment: Stored, _: String) -> Result<(), Error> {
        let body = body(context)?.text("authority", &payment.reference);
        let answer = call(context, "reverse", body)?.act(context)?;
        let node = answer.json()?;
        if node.get("data").get("code").text() == PAID {
            return Ok(());
        }
        // What was reversed before is refused, too, with one of several codes: an inquiry tells.
        let failure = failure(&answer, &node);
        if matches!(failure, Error::Rejected(_)) && Self::inquire(context, payment)? == Standing::Reversed {
            return Ok(());
        }
        Err(failure)
    }
}

impl PaymentInquiry for Zarinpal {
    fn inquire(context: &dyn Context, payment: Stored) -> Result<Standing, Error> {
        let body = body(context)?.text("authority", &payment.reference);
        let answer = call(context, "inquiry", body)?.ask(context)?;
        let node = answer.json()?;
        Ok(match node.get("data").get("status").text() {
            "IN_BANK" | "PENDING" => Standing::Waiting,
            "PAID" => Standing::Paid,
            "VERIFIED" => Standing::Confirmed,
            "FAILED" => Standing::Failed,
            "REVERSED" => Standing::Reversed,
            "" => return Err(failure(&answer, &node)),
            _ => Standing::Unknown,
        })
    }
}

fn body(context: &dyn Context) -> Result<Object, Error> {
    Ok(Object::new().text("merchant_id", &context.required("merchant_id")?))
}

fn call(context: &dyn Context, endpoint: &str, body: Object) -> Result<Request, Error> {
    let url = [&context.base_url()?, "/pg/v4/payment/", endpoint, ".json"].concat();
    Ok(Request::post(url).header("accept", "application/json").json(body))
}

/// The verdict about a payment that `verify` calls unpaid and a callback calls `NOK`: over when `inquiry` says so.
fn ended(context: &dyn Context, payment: Stored, rejection: Rejection) -> Result<Verdict, Error> {
    match Zarinpal::inquire(context, payment) {
        // The provider has one word for a payer who cancelled and one who was refused; the callback said which.
        Ok(Standing::Failed) => Ok(Verdict::Cancelled(rejection)),
        Ok(Standing::Reversed) => Ok(Verdict::Failed(Rejection { code: "REVERSED".to_owned(), ..rejection })),
        // Paid between the two questions: the next `verify` confirms it.
        Ok(Standing::Paid | Standing::Confirmed) => Ok(Verdict::Pending(None)),
        Err(throttled @ Error::Throttled(_)) => Err(throttled),
        // What `verify` said holds, and it is not an end.
        Ok(Standing::Waiting | Standing::Unknown) | Err(_) => Ok(Verdict::NotPaid(rejection)),
    }
}

/// The code, words and refused field of an error body, in any of its forms.
fn rejection(node: &Node) -> Rejection {
    let errors = node.get("errors");
    let code = errors.get("code").text();
    if !code.is_empty() {
        return validated(Rejection::new(code, errors.get("message").text()), errors.get("validations"));
    }
    // `{"errors": {"authority": ["Invalid authority", "-54"]}}`
    for (field, texts) in errors.entries() {
        let texts = texts.items();
        let code = texts.iter().map(Node::text).find(|text| text.parse::<i64>().is_ok());
        if let Some(code) = code {
            return Rejection::new(code, texts.first().map_or("", Node::text)).field(field);
        }
    }
    // Some codes come as `data.code`.
    let data = node.get("data");
    Rejection::new(data.get("code").text(), data.get("message").text())
}

/// A refusal with its `validations` (`[{"amount": "..."}]`, or one object): the first one names the field, and the text
/// has all of them.
fn validated(refusal: Rejection, validations: &Node) -> Rejection {
    let mut text = refusal.text.clone();
    let mut first = "";
    for (field, words) in validations.items().iter().flat_map(Node::entries) {
        let words =
            if words.text().is_empty() { words.items().first().map_or("", Node::text) } else { words.text() };
        text.push_str(&["; ", field, ": ", words].concat());
        if first.is_empty() {
            first = field;
        }
    }
    Rejection::new(refusal.code, &text).field(first)
}

fn failure(answer: &Answer, node: &Node) -> Error {
    let rejection = rejection(node);
    match rejection.code.as_str() {
        "-10" | "-11" | "-13" | "-14" | "-15" | "-16" | "-17" | "-18" | "-19" => {
            Error::Unauthorized(rejection)
        }
        // The session is another account's: `merchant_id` was changed meanwhile. That says nothing about the payment.
        "-53" => Error::Unauthorized(rejection),
        // Reversing needs the address of this machine in the provider's panel.
        "-62" => Error::Unauthorized(rejection),
        "-12" => Error::Throttled(answer.retry_after_secs()),
        // Not the provider's own answer: the HTTP status decides.
        "" => answer.unclear(),
        // An unexpected error at the provider, or a success without what makes one: unknown on any HTTP status.
        code @ ("-52" | PAID | PAID_BEFORE) => answer.unclear_with(200, &["code ", code].concat()),
        _ if answer.status() == 429 => Error::Throttled(answer.retry_after_secs()),
        _ if answer.status() >= 500 => answer.unclear(),
        _ => Error::Rejected(rejection),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chelseru_plugin_sdk::http::{Header, HttpError, HttpResponse};
    use chelseru_plugin_sdk::testing::{self, Script};

    const AUTHORITY: &str = "A000000000000000000000000000ydq5y838";
    const STARTED: &str = r#"{"data":{"authority":"A000000000000000000000000000ydq5y838","fee":12000,"fee_type":"Merchant","code":100,"message":"Success"},"errors":[]}"#;
    const VERIFIED: &str = r#"{"data":{"wages":null,"code":100,"message":"Paid","card_hash":"0866A6EA","card_pan":"502229******5995","ref_id":201,"fee_type":"Merchant","fee":12000,"order_id":null},"errors":[]}"#;

    fn script() -> Script {
        Script::for_plugin::<Zarinpal>().setting("merchant_id", "merchant-secret")
    }

    fn order() -> Order {
        Order {
            local_id: 17,
            amount_rial: 150_000,
            callback_url: "https://shop.example/back?a=1".into(),
            description: "سفارش".into(),
            order: "o-1".into(),
            mobile: Some("+989121234567".into()),
            email: None,
        }
    }

    fn stored() -> Stored {
        Stored {
            local_id: 17,
            reference: AUTHORITY.into(),
            amount_rial: 150_000,
            order: "o-1".into(),
            state: Vec::new(),
        }
    }

    fn verdict(status: u16, body: &str) -> Result<Verdict, Error> {
        Zarinpal::verify(&script().reply(status, body), stored(), None)
    }

    fn callback(method: &str, query: &str, content_type: &str, body: &str) -> Option<Claim> {
        let headers = vec![Header { name: "content-type".into(), value: content_type.into() }];
        Zarinpal::decode_callback(&Callback {
            method: method.into(),
            query: query.into(),
            headers,
            body: body.into(),
        })
    }

    #[test]
    fn the_description_obeys_the_rules() {
        testing::check_description::<Zarinpal>();
    }

    #[test]
    fn bodies_are_json_in_rial_in_both_calls() {
        let script = script().reply(200, STARTED).reply(200, VERIFIED);
        let started = Zarinpal::create(&script, order()).expect("started");
        assert_eq!(started.reference, AUTHORITY);
        assert_eq!(
            started.redirect,
            Redirect::Get(["https://payment.zarinpal.com/pg/StartPay/", AUTHORITY].concat())
        );
        Zarinpal::verify(&script, stored(), None).expect("verified");
        let requests = script.requests();
        let bodies: Vec<_> = requests.iter().map(|request| String::from_utf8_lossy(&request.body)).collect();
        assert_eq!(
            bodies[0],
            r#"{"merchant_id":"merchant-secret","amount":150000,"currency":"IRR","description":"سفارش","callback_url":"https://shop.example/back?a=1","metadata":{"auto_verify":false,"mobile":"09121234567","order_id":"o-1"}}"#
        );
        assert_eq!(
            bodies[1],
            r#"{"merchant_id":"merchant-secret","amount":150000,"currency":"IRR","authority":"A000000000000000000000000000ydq5y838"}"#
        );
        assert_eq!(requests[1].url, "https://payment.zarinpal.com/pg/v4/payment/verify.json");
        let json = |request: &chelseru_plugin_sdk::http::HttpRequest| {
            request.headers.iter().any(|h| h.name == "content-type" && h.value == "application/json")
        };
        assert!(requests.iter().all(json));
    }

    #[test]
    fn paid_and_paid_before_carry_the_receipt() {
        let Ok(Verdict::Paid(receipt)) = verdict(200, VERIFIED) else { panic!("not paid") };
        assert_eq!((receipt.number.as_str(), receipt.card_pan.as_str()), ("201", "502229******5995"));
        assert_eq!(receipt.fee_rial, Some(12_000));
        let before = VERIFIED.replace("\"code\":100", "\"code\":101");
        assert!(matches!(verdict(200, &before), Ok(Verdict::PaidBefore(receipt)) if receipt.number == "201"));
    }

    #[test]
    fn a_paid_answer_without_a_receipt_is_not_believed() {
        let error =
            verdict(200, r#"{"data":{"code":100,"message":"Paid"},"errors":[]}"#).expect_err("unclear");
        assert!(matches!(error, Error::UnknownOutcome(_)));
    }

    #[test]
    fn codes_decide_whatever_the_http_status() {
        let body =
            |code: i64| format!(r#"{{"data":[],"errors":{{"code":{code},"message":"m","validations":[]}}}}"#);
        for status in [200, 401, 422] {
            assert!(matches!(verdict(status, &body(-51)), Ok(Verdict::NotPaid(r)) if r.code == "-51"));
            assert_eq!(verdict(status, &body(-50)), Ok(Verdict::Mismatch("amount".into())));
            assert!(matches!(verdict(status, &body(-53)), Err(Error::Unauthorized(r)) if r.code == "-53"));
            assert_eq!(verdict(status, &body(-54)), Ok(Verdict::UnknownReference));
            assert!(matches!(verdict(status, &body(-10)), Err(Error::Unauthorized(_))));
            assert!(matches!(verdict(status, &body(-12)), Err(Error::Throttled(_))));
            assert!(matches!(verdict(status, &body(-52)), Err(Error::UnknownOutcome(_))));
            let error = Zarinpal::create(&script().reply(status, body(-9)), order()).expect_err("refused");
            assert!(matches!(error, Error::Rejected(rejection) if rejection.code == "-9"));
        }
        let listed = r#"{"data":{},"errors":{"authority":["Invalid authority","-54"]}}"#;
        assert_eq!(verdict(200, listed), Ok(Verdict::UnknownReference));
    }

    #[test]
    fn a_nok_callback_is_a_hint_and_the_inquiry_tells() {
        let unpaid = r#"{"data":[],"errors":{"code":-51,"message":"m"}}"#;
        let claim = |cancelled| {
            Some(Claim { reference: AUTHORITY.into(), cancelled, receipt: None, data: Vec::new() })
        };
        let standing = |word: &str| format!(r#"{{"data":{{"code":100,"status":"{word}"}},"errors":[]}}"#);
        for claim in [None, claim(false)] {
            let asked = script().reply(200, unpaid);
            assert!(matches!(Zarinpal::verify(&asked, stored(), claim), Ok(Verdict::NotPaid(_))));
            assert_eq!(asked.requests().len(), 1, "nothing says that it is over");
        }
        let told = |answer: &str| {
            Zarinpal::verify(&script().reply(200, unpaid).reply(200, answer), stored(), claim(true))
        };
        for word in ["IN_BANK", "PENDING", "NEW_WORD"] {
            assert!(matches!(told(&standing(word)), Ok(Verdict::NotPaid(r)) if r.code == "-51"), "{word}");
        }
        assert!(matches!(told("<html>"), Ok(Verdict::NotPaid(_))));
        assert!(matches!(told(&standing("FAILED")), Ok(Verdict::Cancelled(_))));
        assert!(matches!(told(&standing("REVERSED")), Ok(Verdict::Failed(r)) if r.code == "REVERSED"));
        assert_eq!(told(&standing("PAID")), Ok(Verdict::Pending(None)));
        let slow = script().reply(200, unpaid).respond(throttled("9"));
        assert_eq!(Zarinpal::verify(&slow, stored(), claim(true)), Err(Error::Throttled(Some(9))));
    }

    fn throttled(seconds: &str) -> HttpResponse {
        let headers = vec![Header { name: "Retry-After".into(), value: seconds.into() }];
        HttpResponse { status: 429, headers, body: b"<html>".to_vec() }
    }

    #[test]
    fn a_throttle_keeps_its_delay_for_every_question() {
        let asked = |response: HttpResponse| script().respond(response);
        let slow = Error::Throttled(Some(40));
        assert_eq!(Zarinpal::verify(&asked(throttled("40")), stored(), None), Err(slow.clone()));
        assert_eq!(Zarinpal::create(&asked(throttled("40")), order()), Err(slow.clone()));
        assert_eq!(Zarinpal::list_unverified(&asked(throttled("40"))), Err(slow));
    }

    #[test]
    fn a_refusal_keeps_code_text_and_field() {
        let body = r#"{"data":[],"errors":{"code":-9,"message":"validation","validations":[{"amount":"too small"},{"email":["bad","x"]}]}}"#;
        let error = Zarinpal::create(&script().reply(422, body), order());
        let Err(Error::Rejected(rejection)) = error else { panic!("{error:?}") };
        assert_eq!((rejection.code.as_str(), rejection.field.as_deref()), ("-9", Some("amount")));
        assert_eq!(rejection.text, "validation; amount: too small; email: bad");
        let one = r#"{"data":[],"errors":{"code":-9,"message":"m","validations":{"mobile":"bad"}}}"#;
        let error = Zarinpal::create(&script().reply(200, one), order());
        assert!(matches!(error, Err(Error::Rejected(r)) if r.field.as_deref() == Some("mobile")));
    }

    #[test]
    fn payers_go_to_their_own_address_past_a_relay() {
        let relay =
            script().setting("base_url", "http://10.0.0.7:8080").setting("payer_url", "https://pay.example/");
        let relay = relay.reply(200, STARTED);
        let started = Zarinpal::create(&relay, order()).expect("started");
        assert_eq!(started.redirect, Redirect::Get(["https://pay.example/pg/StartPay/", AUTHORITY].concat()));
        assert!(relay.requests()[0].url.starts_with("http://10.0.0.7:8080/pg/v4/"));
    }

    #[test]
    fn what_was_reversed_before_is_reversed() {
        let reversed = r#"{"data":{"code":100,"message":"Reversed"},"errors":[]}"#;
        let refused = |code: i64| format!(r#"{{"data":[],"errors":{{"code":{code},"message":"m"}}}}"#);
        let standing = |word: &str| format!(r#"{{"data":{{"code":100,"status":"{word}"}},"errors":[]}}"#);
        let reverse = |script: &Script| Zarinpal::reverse(script, stored(), "201".into());
        let first = script().reply(200, reversed);
        assert_eq!(reverse(&first), Ok(()));
        let request = &first.requests()[0];
        assert_eq!(request.url, "https://payment.zarinpal.com/pg/v4/payment/reverse.json");
        let sent = r#"{"merchant_id":"merchant-secret","authority":"A000000000000000000000000000ydq5y838"}"#;
        assert_eq!(String::from_utf8_lossy(&request.body), sent);
        // The code for both is the same; the inquiry tells.
        assert_eq!(reverse(&script().reply(200, refused(-61)).reply(200, standing("REVERSED"))), Ok(()));
        let error = reverse(&script().reply(200, refused(-61)).reply(200, standing("VERIFIED")));
        assert!(matches!(error, Err(Error::Rejected(rejection)) if rejection.code == "-61"));
        let unsure = reverse(&script().reply(200, refused(-61)).fail(HttpError::Unanswered("t".into())));
        assert!(!matches!(unsure, Ok(()) | Err(Error::Rejected(_))), "{unsure:?}");
        // The window is over, and so is the reversal whose answer was lost.
        assert_eq!(reverse(&script().reply(200, refused(-63)).reply(200, standing("REVERSED"))), Ok(()));
        let error = reverse(&script().reply(200, refused(-63)).reply(200, standing("VERIFIED")));
        assert!(matches!(error, Err(Error::Rejected(rejection)) if rejection.code == "-63"));
        assert!(matches!(reverse(&script().reply(200, refused(-62))), Err(Error::Unauthorized(_))));
        assert!(matches!(reverse(&script().reply(502, "<html>")), Err(Error::UnknownOutcome(_))));
    }

    #[test]
    fn an_inquiry_tells_how_a_payment_stands() {
        for (word, standing) in [
            ("IN_BANK", Standing::Waiting),
            ("PAID", Standing::Paid),
            ("VERIFIED", Standing::Confirmed),
            ("FAILED", Standing::Failed),
            ("REVERSED", Standing::Reversed),
            ("NEW_WORD", Standing::Unknown),
        ] {
            let body = format!(r#"{{"data":{{"code":100,"status":"{word}"}},"errors":[]}}"#);
            assert_eq!(Zarinpal::inquire(&script().reply(200, body), stored()), Ok(standing), "{word}");
        }
        assert!(Zarinpal::inquire(&script().reply(200, "{}"), stored()).is_err());
    }

    #[test]
    fn silence_and_pages_are_unknown() {
        for script in [
            script().reply(502, "<html>"),
            script().reply(408, "<html>"),
            script().reply(422, r#"{"data":[],"errors":{"code":-52,"message":"m"}}"#),
            script().reply(200, ""),
            script().reply(200, "{}"),
            script().fail(HttpError::Unanswered("timeout".into())),
        ] {
            let error = Zarinpal::verify(&script, stored(), None).expect_err("unknown");
            assert!(matches!(error, Error::UnknownOutcome(_)), "{error:?}");
        }
        let refused = script().fail(HttpError::NotSent("refused".into()));
        assert!(matches!(Zarinpal::verify(&refused, stored(), None), Err(Error::Unavailable(_))));
    }

    #[test]
    fn cut_and_broken_answers_never_count_as_paid() {
        for body in testing::truncations(VERIFIED) {
            let result = Zarinpal::verify(&script().reply(200, body), stored(), None);
            assert!(!matches!(result, Ok(Verdict::Paid(_) | Verdict::PaidBefore(_))));
        }
        for body in testing::mutations(STARTED) {
            let _ = Zarinpal::create(&script().reply(200, body), order());
        }
    }

    #[test]
    fn callbacks_come_as_query_form_or_json() {
        let ok = callback("GET", "x=1&Authority=A1&Status=OK", "", "").expect("a claim");
        assert_eq!((ok.reference.as_str(), ok.cancelled), ("A1", false));
        assert!(callback("GET", "authority=A1&status=nok", "", "").expect("a claim").cancelled);
        assert!(!callback("GET", "Authority=A1", "", "").expect("a claim without a status").cancelled);
        assert_eq!(callback("GET", "Status=OK", "", ""), None);
        let form = "application/x-www-form-urlencoded";
        assert_eq!(callback("POST", "", form, "authority=A1").expect("a claim").reference, "A1");
        assert_eq!(
            callback("POST", "", "application/json", r#"{"authority":"A1"}"#).expect("a claim").reference,
            "A1"
        );
        assert_eq!(callback("POST", "", "application/json", "{}"), None);
    }

    #[test]
    fn unverified_payments_are_listed_also_with_a_code_as_text() {
        let body = r#"{"data":{"code":"100","message":"ok","authorities":[{"authority":"A1","amount":50000,"callback_url":"x","referer":"","date":"2026-01-01 00:00:00"},{"authority":"","amount":1}]},"errors":[]}"#;
        let listed = Zarinpal::list_unverified(&script().reply(200, body)).expect("listed");
        assert_eq!(listed, [Unverified { reference: "A1".into(), amount_rial: Some(50_000) }]);
    }
}
