//! PayPing, payment API v3.
//!
//! The provider counts toman: amounts are divided by ten here, which the rules make exact. The browser posts a form
//! whose field `data` is a JSON text. `verify` needs the receipt number from that form. Anybody can invent the form,
//! so an answer that denies the receipt is `claim-denied` and says nothing about the payment; without a claim the
//! report of the payment names the receipt. Code, amount, our payment id and the receipt of every answer are compared
//! before anything counts as paid, also for "confirmed before" (409 with 110). Source: the v1-v2-v3 documentation and
//! the official WooCommerce plugin, as collected in 2026.

use chelseru_plugin_sdk::callback::Fields;
use chelseru_plugin_sdk::context::PAYER_URL;
use chelseru_plugin_sdk::encode;
use chelseru_plugin_sdk::http::{Answer, Request};
use chelseru_plugin_sdk::json::{Node, Object};
use chelseru_plugin_sdk::payment::{
    Callback, Claim, Order, Receipt, Redirect, Rules, Started, Stored, Unconfirmed, Verdict,
};
use chelseru_plugin_sdk::{
    Context, Description, Error, Payment, PaymentReverse, Plugin, Rejection, Setting, export_payment, number,
};

/// The provider.
pub struct Payping;

export_payment!(Payping: reverse);

const RIAL_PER_TOMAN: u64 = 10;
const ALREADY: &str = "110";

impl Plugin for Payping {
    fn describe() -> Description {
        Description::new("payping", env!("CARGO_PKG_VERSION"), "PayPing, payment API v3.")
            .setting(Setting::secret(
                "api_key",
                "The token from the PayPing panel, with the right pay:write.",
            ))
            .setting(
                Setting::boolean(
                    "reversible",
                    "Whether payments can be given back for 30 minutes; they reach the account later then.",
                )
                .default("false"),
            )
            .base_url("https://api.payping.ir", 15_000)
            .payer_url()
    }
}

impl Payment for Payping {
    fn rules(context: &dyn Context) -> Rules {
        Rules {
            // 1,000 to 50,000,000 toman in the official sample.
            amount_min: 10_000,
            amount_max: 500_000_000,
            unit_rial: RIAL_PER_TOMAN,
            window_seconds: 20 * 60,
            // Ten minutes by the documentation, fifteen by the help page.
            unconfirmed: Unconfirmed::ReturnedAfter(15 * 60),
            reverse_seconds: if reversible(context) { 30 * 60 } else { 0 },
            already_code: ALREADY.to_owned(),
        }
    }

    fn create(context: &dyn Context, order: Order) -> Result<Started, Error> {
        if !order.amount_rial.is_multiple_of(RIAL_PER_TOMAN) {
            return Err(Error::rejected("101", "the amount is no whole toman"));
        }
        let mut body = Object::new()
            .number("amount", order.amount_rial / RIAL_PER_TOMAN)
            .text("returnUrl", &order.callback_url)
            .text("description", &order.description)
            .text("clientRefId", &order.local_id.to_string());
        if reversible(context) {
            body = body.boolean("isReversible", true);
        }
        let mobile = order.mobile.as_deref().and_then(number::national);
        if let Some(identity) = mobile.as_ref().or(order.email.as_ref()) {
            body = body.text("payerIdentity", identity);
        }
        let url = [&context.base_url()?, "/v3/pay"].concat();
        let answer = authorized(context, Request::post(url).json(body))?.act(context)?;
        if answer.is_success() {
            let node = answer.json()?;
            let (code, url) = (node.get_any_case("paymentCode").text(), node.get_any_case("url").text());
            if code.is_empty() {
                return Err(answer.unclear_because("no paymentCode"));
            }
            let url = match (url, context.optional(PAYER_URL)) {
                (url, None) if !url.is_empty() => url.to_owned(),
                _ => [&context.payer_url()?, "/v3/pay/start/", &encode::segment(code)].concat(),
            };
            return Ok(Started {
                reference: code.to_owned(),
                redirect: Redirect::Get(url),
                state: Vec::new(),
                message: String::new(),
            });
        }
        Err(failure(&answer))
    }

    fn decode_callback(callback: &Callback) -> Option<Claim> {
        let mut fields = Fields::read(callback);
        let data = fields.get("data").to_owned();
        if !data.is_empty() {
            fields.add_json(data.as_bytes());
        }
        // A query of another provider's callback may well have a `code`; PayPing's browsers post.
        let names: &[&str] = match callback.method.as_str() {
            "GET" => &["paymentCode", "authority"],
            _ => &["paymentCode", "authority", "code"],
        };
        let reference = names.iter().map(|name| fields.get(name)).find(|value| !value.is_empty())?;
        let receipt = [fields.get("paymentRefId"), fields.get("refid")]
            .into_iter()
            .find(|number| receipt_number(number).is_some());
        let cancelled = receipt.is_none() && matches!(fields.get("status"), "0" | "-1");
        let (reference, receipt) = (reference.to_owned(), receipt.map(str::to_owned));
        Some(Claim { reference, cancelled, receipt, data: Vec::new() })
    }

    fn verify(context: &dyn Context, payment: Stored, claim: Option<Claim>) -> Result<Verdict, Error> {
        let claimed = claim.and_then(|claim| claim.receipt);
        let by_claim = claimed.is_some();
        let receipt = match claimed {
            Some(receipt) => receipt,
            None => match find_receipt(context, &payment)? {
                Found::Receipt(receipt) => receipt,
                Found::Verdict(verdict) => return Ok(verdict),
            },
        };
        let Some(number) = receipt_number(&receipt) else {
            return Ok(Verdict::ClaimDenied(Rejection::new(
                "133",
                "the receipt is not a number of PayPing's",
            )));
        };
        let body = Object::new()
            .number("paymentRefId", number)
            .text("paymentCode", &payment.reference)
            .number("amount", payment.amount_rial / RIAL_PER_TOMAN);
        let url = [&context.base_url()?, "/v3/pay/verify"].concat();
        let answer = authorized(context, Request::post(url).json(body))?.act(context)?;
        if matches!(answer.status(), 202 | 502) {
            return Ok(Verdict::Pending(answer.retry_after_secs()));
        }
        let differs = |difference: Difference| match difference {
            // The receipt may be another payment's, which is what somebody wrote into a form.
            Difference::Payment(field) if by_claim => {
                Verdict::ClaimDenied(Rejection::new("", &["another ", field].concat()))
            }
            Difference::Payment(field) | Difference::Amount(field) => Verdict::Mismatch(field.to_owned()),
        };
        if answer.status() == 200 {
            return Ok(
                compare(&answer.json()?, &payment, &receipt, "200").map_or_else(differs, Verdict::Paid)
            );
        }
        let node = answer.json().unwrap_or_default();
        let rejection = rejection(&node);
        Ok(match rejection.code.as_str() {
            ALREADY | "123" => {
                let known = node.get_any_case("metaData").get_any_case("message");
                if known.entries().is_empty() {
                    return Err(answer.unclear_with(200, "confirmed before, without saying what"));
                }
                compare(known, &payment, &receipt, &rejection.code).map_or_else(differs, Verdict::PaidBefore)
            }
            "109" | "126" | "155" => Verdict::Pending(answer.retry_after_secs()),
            // Not found, other data, another amount: so is a receipt that was invented.
            "122" | "133" | "137" if by_claim => Verdict::ClaimDenied(rejection),
            // 121: nothing is paid so far. 133: this receipt, which the report named, is not good.
            "121" | "133" => Verdict::NotPaid(rejection),
            "122" => Verdict::UnknownReference,
            "127" => Verdict::Cancelled(rejection),
            "137" => Verdict::Mismatch("amount".to_owned()),
            _ => return Err(failure(&answer)),
        })
    }
}

impl PaymentReverse for Payping {
    fn reverse(context: &dyn Context, payment: Stored, receipt_number: String) -> Result<(), Error> {
        let Ok(receipt_number) = receipt_number.parse::<u64>() else {
            return Err(Error::rejected("133", "the receipt number is no number"));
        };
        let body =
            Object::new().number("paymentRefId", receipt_number).text("paymentCode", &payment.reference);
        let url = [&context.base_url()?, "/v3/pay/reverse"].concat();
        let answer = authorized(context, Request::post(url).json(body))?.act(context)?;
        if answer.status() == 200 {
            // A page or an empty body says nothing; asked again, what was done is "already done".
            return match answer.json()?.get_any_case("reversedDate").text() {
                "" => Err(answer.unclear_because("no reversedDate")),
                _ => Ok(()),
            };
        }
        match rejection(&answer.json().unwrap_or_default()).code.as_str() {
            ALREADY => Ok(()),
            // It is being given back: ask again until it is.
            code @ ("109" | "126" | "156") => Err(answer.unclear_with(200, &["code ", code].concat())),
            _ => Err(failure(&answer)),
        }
    }
}

/// The number of a receipt. PayPing's are positive and 64 bits with a sign; it refuses to read a request with a larger
/// one, which anybody can write into a form.
fn receipt_number(text: &str) -> Option<u64> {
    text.parse::<u64>().ok().filter(|number| (1..=i64::MAX.unsigned_abs()).contains(number))
}

/// By the operator's setting: PayPing holds such payments back for the time in which they can be reversed.
fn reversible(context: &dyn Context) -> bool {
    context.optional("reversible").as_deref() == Some("true")
}

enum Found {
    Receipt(String),
    Verdict(Verdict),
}

/// The receipt number of a payment whose callback never came.
fn find_receipt(context: &dyn Context, payment: &Stored) -> Result<Found, Error> {
    let url = [&context.base_url()?, "/v1/report/", &encode::segment(&payment.reference)].concat();
    let answer = authorized(context, Request::get(url))?.ask(context)?;
    if answer.status() == 404 {
        return Ok(Found::Verdict(Verdict::UnknownReference));
    }
    if !answer.is_success() {
        return Err(failure(&answer));
    }
    let node = answer.json()?;
    let status = node.get_any_case("paymentStatus").text();
    let receipt = node.get_any_case("refId").text();
    let reason = |text: &str| Rejection::new(status, text);
    Ok(match status {
        // Paid and confirmed, or paid and waiting for us.
        "1" | "5" if receipt_number(receipt).is_some() => Found::Receipt(receipt.to_owned()),
        "0" | "2" => Found::Verdict(Verdict::NotPaid(reason("not paid yet"))),
        "3" => Found::Verdict(Verdict::Cancelled(reason("cancelled"))),
        "4" => Found::Verdict(Verdict::Failed(reason("the bank did not confirm it"))),
        _ => return Err(answer.unclear_because("a payment status nobody described")),
    })
}

/// Why a paid answer is not about what was asked; the name of the field.
enum Difference {
    /// It is another payment's.
    Payment(&'static str),
    /// It is this payment's, with another amount.
    Amount(&'static str),
}

/// The receipt of a paid answer, when the answer is about what was asked.
fn compare(node: &Node<'_>, payment: &Stored, receipt: &str, code: &str) -> Result<Receipt, Difference> {
    let get = |name: &str| node.get_any_case(name).text().to_owned();
    for (field, stored) in [
        ("code", payment.reference.as_str()),
        ("clientRefId", &payment.local_id.to_string()),
        ("paymentRefId", receipt),
    ] {
        if get(field) != stored {
            return Err(Difference::Payment(field));
        }
    }
    let amount = node.get_any_case("amount").integer().and_then(|toman| u64::try_from(toman).ok());
    let amount = amount.and_then(|toman| toman.checked_mul(RIAL_PER_TOMAN));
    if amount != Some(payment.amount_rial) {
        return Err(Difference::Amount("amount"));
    }
    Ok(Receipt {
        number: receipt.to_owned(),
        card_pan: get("cardNumber"),
        card_hash: get("cardHashPan"),
        fee_rial: None,
        amount_rial: amount,
        code: code.to_owned(),
        text: String::new(),
    })
}

fn authorized(context: &dyn Context, request: Request) -> Result<Request, Error> {
    let token = ["Bearer ", &context.required("api_key")?].concat();
    Ok(request.header("authorization", &token).header("accept", "application/json"))
}

/// The code, words and refused field of an error body. The provider names no field; these codes are about one.
fn rejection(node: &Node) -> Rejection {
    let meta = node.get_any_case("metaData");
    let code = meta.get_any_case("code").text();
    let field = match code {
        "104" | "112" | "137" => "amount",
        "105" => "returnUrl",
        "113" => "payerIdentity",
        _ => "",
    };
    let texts = meta.get_any_case("errors").items().iter().map(|error| error.get_any_case("message").text());
    let texts: Vec<&str> = texts.filter(|text| !text.is_empty()).collect();
    let title = node.get_any_case("title").text();
    let text = if texts.is_empty() { title.to_owned() } else { texts.join("; ") };
    Rejection::new(code, &text).field(field)
}

fn failure(answer: &Answer) -> Error {
    let rejection = rejection(&answer.json().unwrap_or_default());
    match (answer.status(), rejection.code.as_str()) {
        (429, _) => Error::Throttled(answer.retry_after_secs()),
        // Not the provider's own answer: the HTTP status decides.
        (_, "") => answer.unclear(),
        (401 | 403, _) | (_, "102" | "103" | "104" | "111" | "112" | "166") => Error::Unauthorized(rejection),
        // An internal error at the provider or at the bank behind it: unknown on any HTTP status.
        (_, code @ ("106" | "108" | "114")) => answer.unclear_with(200, &["code ", code].concat()),
        (500.., _) => answer.unclear(),
        _ => Error::Rejected(rejection),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chelseru_plugin_sdk::http::{Header, HttpError, HttpResponse};
    use chelseru_plugin_sdk::testing::{self, Script};

    const STARTED: &str = r#"{"paymentCode":"Vw3kD1Gr","url":"https://api.payping.ir/v3/pay/start/Vw3kD1Gr","amount":50000,"payerWage":0,"businessWage":500,"gatewayAmount":50000,"paypingVat":45}"#;
    const VERIFIED: &str = r#"{"amount":50000,"cardNumber":"603799******1234","cardHashPan":"8F2C","clientRefId":"17","paymentRefId":123456789,"code":"Vw3kD1Gr","payedDate":"2026-01-01T10:00:00Z","payerWage":0,"businessWage":500,"gatewayAmount":50000,"paypingVat":45,"sharedPaymentItems":null}"#;
    const BEFORE: &str = r#"{"type":"x","title":"Conflict","status":409,"paypingTraceId":"t","metaData":{"code":110,"message":{"Amount":50000,"PayerWage":0,"BusinessWage":500,"GatewayAmount":50000,"CardNumber":"603799******1234","CardHashPan":"8F2C","ClientRefId":"17","PaymentRefId":123456789,"Code":"Vw3kD1Gr","PayedDate":"2026-01-01T10:00:00Z"},"errors":[{"message":"done"}]}}"#;

    const PAID_REPORT: &str = r#"{"isPaid":true,"refId":123456789,"paymentStatus":5}"#;

    fn script() -> Script {
        Script::for_plugin::<Payping>().setting("api_key", "token-secret")
    }

    fn order(amount_rial: u64) -> Order {
        Order {
            local_id: 17,
            amount_rial,
            callback_url: "https://shop.example/back".into(),
            description: "d".into(),
            order: "o-1".into(),
            mobile: Some("+989121234567".into()),
            email: Some("a@b.example".into()),
        }
    }

    fn stored() -> Stored {
        Stored {
            local_id: 17,
            reference: "Vw3kD1Gr".into(),
            amount_rial: 500_000,
            order: "o-1".into(),
            state: Vec::new(),
        }
    }

    fn claim(receipt: Option<&str>) -> Option<Claim> {
        let receipt = receipt.map(str::to_owned);
        Some(Claim { reference: "Vw3kD1Gr".into(), cancelled: false, receipt, data: Vec::new() })
    }

    fn verdict(status: u16, body: &str) -> Result<Verdict, Error> {
        Payping::verify(&script().reply(status, body), stored(), claim(Some("123456789")))
    }

    fn problem(code: u32) -> String {
        format!(r#"{{"title":"x","status":400,"metaData":{{"code":{code},"errors":[{{"message":"m"}}]}}}}"#)
    }

    fn callback(content_type: &str, body: &str) -> Option<Claim> {
        let headers = vec![Header { name: "content-type".into(), value: content_type.into() }];
        Payping::decode_callback(&Callback {
            method: "POST".into(),
            query: String::new(),
            headers,
            body: body.into(),
        })
    }

    #[test]
    fn a_reversal_is_asked_for_when_it_was_agreed_on() {
        let agreed = || script().setting("reversible", "true");
        assert_eq!(
            (Payping::rules(&script()).reverse_seconds, Payping::rules(&agreed()).reverse_seconds),
            (0, 1800)
        );
        for (script, sent) in [(script(), false), (agreed(), true)] {
            let script = script.reply(200, STARTED);
            Payping::create(&script, order(500_000)).expect("started");
            let body = String::from_utf8_lossy(&script.requests()[0].body).into_owned();
            assert_eq!(body.contains(r#""isReversible":true"#), sent, "{body}");
        }
        let reverse = |script: &Script| Payping::reverse(script, stored(), "123456789".into());
        let done = agreed().reply(200, r#"{"amount":50000,"reversedDate":"2026-01-01T10:00:00Z"}"#);
        assert_eq!(reverse(&done), Ok(()));
        let request = &done.requests()[0];
        assert_eq!(request.url, "https://api.payping.ir/v3/pay/reverse");
        let sent = r#"{"paymentRefId":123456789,"paymentCode":"Vw3kD1Gr"}"#;
        assert_eq!(String::from_utf8_lossy(&request.body), sent);
        let problem = |code: u32| {
            format!(r#"{{"status":409,"metaData":{{"code":{code},"errors":[{{"message":"m"}}]}}}}"#)
        };
        assert_eq!(reverse(&agreed().reply(409, problem(110))), Ok(()), "it was done before");
        assert!(matches!(reverse(&agreed().reply(409, problem(156))), Err(Error::UnknownOutcome(_))));
        for code in [134, 135, 136] {
            let refused = reverse(&agreed().reply(400, problem(code)));
            assert!(matches!(refused, Err(Error::Rejected(rejection)) if rejection.code == code.to_string()));
        }
        for (status, body) in [(502, "<html>"), (200, "<html>"), (200, "{}"), (200, "")] {
            let unclear = reverse(&agreed().reply(status, body));
            assert!(matches!(unclear, Err(Error::UnknownOutcome(_))), "{status} {body}: {unclear:?}");
        }
    }

    #[test]
    fn the_description_obeys_the_rules() {
        testing::check_description::<Payping>();
    }

    #[test]
    fn requests_are_json_in_toman_with_our_number() {
        let script = script().reply(200, STARTED).reply(200, VERIFIED);
        let started = Payping::create(&script, order(500_000)).expect("started");
        assert_eq!(started.reference, "Vw3kD1Gr");
        Payping::verify(&script, stored(), claim(Some("123456789"))).expect("verified");
        let requests = script.requests();
        let body = |index: usize| String::from_utf8_lossy(&requests[index].body).into_owned();
        assert_eq!(
            body(0),
            r#"{"amount":50000,"returnUrl":"https://shop.example/back","description":"d","clientRefId":"17","payerIdentity":"09121234567"}"#
        );
        assert_eq!(body(1), r#"{"paymentRefId":123456789,"paymentCode":"Vw3kD1Gr","amount":50000}"#);
        let bearer = |h: &Header| h.name == "authorization" && h.value == "Bearer token-secret";
        assert!(requests.iter().all(|request| request.headers.iter().any(bearer)));
    }

    #[test]
    fn a_part_of_a_toman_is_refused_and_not_rounded() {
        let script = script().reply(200, STARTED);
        assert!(matches!(Payping::create(&script, order(500_005)), Err(Error::Rejected(_))));
        assert!(script.requests().is_empty());
    }

    #[test]
    fn paid_now_and_paid_before_are_compared_field_by_field() {
        assert!(
            matches!(verdict(200, VERIFIED), Ok(Verdict::Paid(r)) if r.number == "123456789" && r.amount_rial == Some(500_000))
        );
        assert!(matches!(verdict(409, BEFORE), Ok(Verdict::PaidBefore(r)) if r.number == "123456789"));
        for (body, status) in [(VERIFIED, 200), (BEFORE, 409)] {
            for (from, to, field) in [
                ("mount\":50000,\"", "mount\":50001,\"", "amount"),
                ("Vw3kD1Gr", "XXXXXXXX", "code"),
                ("RefId\":\"17\"", "RefId\":\"18\"", "clientRefId"),
                ("123456789", "123456780", "paymentRefId"),
            ] {
                assert!(body.contains(from), "{from}");
                let other = body.replace(from, to);
                let told = verdict(status, &other);
                // Whoever wrote the form may have named another payment's receipt.
                match field {
                    "amount" => assert_eq!(told, Ok(Verdict::Mismatch(field.into()))),
                    _ => assert!(
                        matches!(&told, Ok(Verdict::ClaimDenied(r)) if r.text.contains(field)),
                        "{told:?}"
                    ),
                }
                let reported = script().reply(200, PAID_REPORT).reply(status, other.as_str());
                let told = Payping::verify(&reported, stored(), None);
                assert_eq!(told, Ok(Verdict::Mismatch(field.into())), "the report named the receipt");
            }
        }
        let bare = r#"{"metaData":{"code":110}}"#;
        assert!(matches!(verdict(409, bare), Err(Error::UnknownOutcome(_))));
    }

    #[test]
    fn what_is_not_final_is_pending_or_unknown() {
        for (status, body) in [(202, ""), (502, "<html>")] {
            assert_eq!(verdict(status, body), Ok(Verdict::Pending(None)));
        }
        for code in [109, 126, 155] {
            assert_eq!(verdict(409, &problem(code)), Ok(Verdict::Pending(None)));
        }
        for (status, body) in [(500, ""), (503, "<html>"), (408, ""), (200, "<html>"), (200, "")] {
            assert!(matches!(verdict(status, body), Err(Error::UnknownOutcome(_))), "{status} {body}");
        }
        for code in [106, 108, 114] {
            assert!(matches!(verdict(400, &problem(code)), Err(Error::UnknownOutcome(_))), "{code}");
        }
        // Somebody in front of the provider: nothing was confirmed.
        for (status, body) in [(302, ""), (400, ""), (404, "<html>"), (413, "<html>")] {
            assert!(matches!(verdict(status, body), Err(Error::Unavailable(_))), "{status} {body}");
        }
        let silent = script().fail(HttpError::Unanswered("x".into()));
        let silent = Payping::verify(&silent, stored(), claim(Some("1")));
        assert!(matches!(silent, Err(Error::UnknownOutcome(_))));
        assert!(matches!(verdict(401, ""), Err(Error::Unauthorized(_))));
    }

    #[test]
    fn a_receipt_that_is_denied_says_nothing_about_the_payment() {
        let reported = |code: u32| {
            Payping::verify(&script().reply(200, PAID_REPORT).reply(409, problem(code)), stored(), None)
        };
        for code in [122, 133, 137] {
            assert!(matches!(verdict(409, &problem(code)), Ok(Verdict::ClaimDenied(_))), "{code}");
        }
        let invented = Payping::verify(&script(), stored(), claim(Some("x")));
        assert!(matches!(invented, Ok(Verdict::ClaimDenied(_))));
        assert!(matches!(verdict(409, &problem(121)), Ok(Verdict::NotPaid(_))));
        assert!(matches!(verdict(400, &problem(127)), Ok(Verdict::Cancelled(_))));
        assert!(matches!(reported(121), Ok(Verdict::NotPaid(_))));
        assert!(matches!(reported(133), Ok(Verdict::NotPaid(_))));
        assert_eq!(reported(122), Ok(Verdict::UnknownReference));
        assert_eq!(reported(137), Ok(Verdict::Mismatch("amount".into())));
    }

    #[test]
    fn a_throttle_keeps_its_delay() {
        let slow = || {
            let headers = vec![Header { name: "Retry-After".into(), value: "40".into() }];
            script().respond(HttpResponse { status: 429, headers, body: Vec::new() })
        };
        let expected = Error::Throttled(Some(40));
        assert_eq!(Payping::verify(&slow(), stored(), claim(Some("1"))), Err(expected.clone()));
        assert_eq!(Payping::verify(&slow(), stored(), None), Err(expected.clone()));
        assert_eq!(Payping::create(&slow(), order(500_000)), Err(expected));
    }

    #[test]
    fn a_refusal_keeps_code_text_and_field() {
        for (code, field) in [(101, None), (105, Some("returnUrl")), (113, Some("payerIdentity"))] {
            let refused = Payping::create(&script().reply(400, problem(code)), order(500_000));
            let Err(Error::Rejected(rejection)) = refused else { panic!("{refused:?}") };
            assert_eq!((rejection.code, rejection.field.as_deref()), (code.to_string(), field));
            assert_eq!(rejection.text, "m");
        }
    }

    #[test]
    fn payers_go_to_their_own_address_past_a_relay() {
        for (setting, url) in [
            (None, "https://api.payping.ir/v3/pay/start/Vw3kD1Gr"),
            (Some("https://pay.example/"), "https://pay.example/v3/pay/start/Vw3kD1Gr"),
        ] {
            let mut relay = script().setting("base_url", "http://10.0.0.7:8080").reply(200, STARTED);
            if let Some(setting) = setting {
                relay = relay.setting("payer_url", setting);
            }
            let started = Payping::create(&relay, order(500_000)).expect("started");
            assert_eq!(started.redirect, Redirect::Get(url.to_owned()));
        }
    }

    #[test]
    fn a_lost_callback_is_found_in_the_report() {
        let paid = r#"{"isPaid":true,"refId":123456789,"paymentStatus":5}"#;
        for claim in [None, claim(None)] {
            let script = script().reply(200, paid).reply(200, VERIFIED);
            assert!(matches!(Payping::verify(&script, stored(), claim), Ok(Verdict::Paid(_))));
            assert_eq!(script.requests()[0].url, "https://api.payping.ir/v1/report/Vw3kD1Gr");
        }
        let report = |status: u16, body: &str| Payping::verify(&script().reply(status, body), stored(), None);
        for status in [0, 2] {
            let body = format!(r#"{{"paymentStatus":{status}}}"#);
            assert!(matches!(report(200, &body), Ok(Verdict::NotPaid(_))));
        }
        assert!(matches!(report(200, r#"{"paymentStatus":4}"#), Ok(Verdict::Failed(_))));
        assert!(matches!(report(200, r#"{"paymentStatus":3}"#), Ok(Verdict::Cancelled(_))));
        assert_eq!(report(404, ""), Ok(Verdict::UnknownReference));
        assert!(matches!(report(200, r#"{"paymentStatus":9}"#), Err(Error::Unavailable(_))));
        assert!(matches!(report(200, r#"{"paymentStatus":5,"refId":0}"#), Err(Error::Unavailable(_))));
    }

    #[test]
    fn the_real_callback_has_its_fields_inside_data() {
        let form = "application/x-www-form-urlencoded";
        let data = r#"{"clientRefId":"17","paymentCode":"Vw3kD1Gr","paymentRefId":123456789,"amount":50000}"#;
        let body = encode::form(&[("status", "1"), ("errorCode", ""), ("data", data)]);
        let claim = callback(form, &body).expect("a claim");
        assert_eq!((claim.reference.as_str(), claim.cancelled), ("Vw3kD1Gr", false));
        assert_eq!(claim.receipt.as_deref(), Some("123456789"));
        let data = r#"{"clientRefId":"17","paymentCode":"Vw3kD1Gr","amount":50000}"#;
        let body = encode::form(&[("status", "0"), ("errorCode", "127"), ("data", data)]);
        let claim = callback(form, &body).expect("a claim");
        assert!(claim.cancelled && claim.receipt.is_none());
    }

    #[test]
    fn a_receipt_number_that_payping_cannot_read_is_never_sent() {
        let form = |number: &str| {
            let data = format!(r#"{{"paymentCode":"Vw3kD1Gr","paymentRefId":{number}}}"#);
            let body = encode::form(&[("status", "1"), ("data", data.as_str())]);
            callback("application/x-www-form-urlencoded", &body).expect("a claim").receipt
        };
        let largest = i64::MAX.to_string();
        assert_eq!(form(&largest), Some(largest.clone()));
        for number in ["0", "-1", "9223372036854775808", "18446744073709551615", "18446744073709551616"] {
            assert_eq!(form(number), None, "{number}");
            // Stored by an earlier version.
            let unasked = script();
            let denied = Payping::verify(&unasked, stored(), claim(Some(number)));
            assert!(matches!(denied, Ok(Verdict::ClaimDenied(_))), "{number}: {denied:?}");
            assert!(unasked.requests().is_empty(), "{number}");
        }
        let asked = script().reply(200, VERIFIED);
        let other = Payping::verify(&asked, stored(), claim(Some(&largest)));
        assert!(matches!(other, Ok(Verdict::ClaimDenied(_))), "{other:?}");
        assert_eq!(asked.requests().len(), 1);
    }

    #[test]
    fn flat_fields_work_too() {
        let json = r#"{"paymentCode":"c","paymentRefId":"12"}"#;
        for claim in [
            callback("application/json", json),
            callback("application/json", r#"{"data":{"paymentCode":"c","paymentRefId":12}}"#),
            callback("application/x-www-form-urlencoded", "PaymentCode=c&PaymentRefId=12"),
            callback("application/x-www-form-urlencoded", "code=c&refid=12"),
        ] {
            let claim = claim.expect("a claim");
            assert_eq!((claim.reference.as_str(), claim.receipt.as_deref()), ("c", Some("12")));
        }
        assert_eq!(callback("application/json", "{}"), None);
        assert_eq!(callback("application/x-www-form-urlencoded", "data={"), None);
    }
}
