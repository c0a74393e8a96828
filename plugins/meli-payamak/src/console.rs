//! The interface `console`: JSON, with the token as the last segment of the path.
//!
//! A success has an id and an empty `status`; a refusal has HTTP 200, the id 0 and a Persian text in `status`, and
//! no code. Only a few words are recognised, and only where the gateway does the same as for any other refusal
//! (it asks the next provider), because the texts are not documented. Malformed input is HTTP 400 with
//! a problem object whose `status` is a number.

use chelseru_plugin_sdk::http::{Answer, Request};
use chelseru_plugin_sdk::json::{Node, Object};
use chelseru_plugin_sdk::sms::Accepted;
use chelseru_plugin_sdk::{Context, Error, encode};

use crate::{Filled, Outcomes, Outgoing, code, one_each};

pub(crate) const BASE: &str = "https://console.melipayamak.com";

fn url(base: &str, method: &str, token: &str) -> String {
    [base, "/api/", method, "/", &encode::segment(token)].concat()
}

fn post(base: &str, method: &str, token: &str, object: Object) -> Request {
    Request::post(url(base, method, token)).header("accept", "application/json").json(object)
}

/// The answer's object, and its status text.
///
/// # Errors
/// `invalid-message` for the provider's own problem object with HTTP 400, the refusal for a status text;
/// [`Answer::unclear`] for another answer that is not 2xx or no JSON object.
fn object(answer: &Answer) -> Result<Node<'_>, Error> {
    let node = answer.json()?;
    let Node::Object(_) = node else { return Err(answer.unclear()) };
    if answer.is_success() {
        return Ok(node);
    }
    let ids = [node.get("recId"), node.get("recIds"), node.get("id")];
    if ids.iter().any(|id| !matches!(id.text(), "" | "0") || !id.items().is_empty()) {
        return Err(Error::unknown_outcome("an id in an answer that is not 2xx"));
    }
    let status = node.get("status");
    match (answer.status(), status.text()) {
        (400, _) if !node.get("errors").entries().is_empty() => {
            Err(Error::invalid_message(400, "the provider calls the request malformed"))
        }
        // A text is the provider's own word; a number is the HTTP status again.
        (_, text) if !text.is_empty() && status.integer().is_none() => Err(refusal(text)),
        _ => Err(answer.unclear_because("no status text")),
    }
}

/// The error a status text stands for; every case leads to the next provider.
fn refusal(text: &str) -> Error {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["اعتبار"]) {
        Error::insufficient_credit("status", text)
    } else if says(&["توکن", "احراز", "دسترسی"]) {
        Error::unauthorized("status", text)
    } else if says(&["الگو", "پترن"]) {
        Error::invalid_template("status", text)
    } else {
        Error::rejected("status", text)
    }
}

/// What an id and the answer's status text say together.
fn outcome(id: &str, status: &str) -> Result<Accepted, Error> {
    let is_id = id.bytes().all(|byte| byte.is_ascii_digit()) && id.bytes().any(|byte| byte != b'0');
    match (is_id, status) {
        (true, "") => Ok(code::accepted(id)),
        (false, "") => Err(Error::unknown_outcome("neither an id nor a status text")),
        (false, text) => Err(refusal(text)),
        (true, _) => Err(Error::unknown_outcome("an id and a status text")),
    }
}

pub(crate) fn send(context: &dyn Context, base: &str, token: &str, message: &Outgoing) -> Outcomes {
    let object_of = Object::new().text("from", message.from).text("text", message.text);
    if let [to] = message.to {
        let answer = post(base, "send/simple", token, object_of.text("to", to)).hand_over(context)?;
        let node = object(&answer)?;
        return outcome(node.get("recId").text(), node.get("status").text())
            .map(|accepted| vec![Ok(accepted)]);
    }
    let request = object_of.texts("to", message.to.iter().copied()).text("udh", "");
    let answer = post(base, "send/advanced", token, request).hand_over(context)?;
    let node = object(&answer)?;
    let status = node.get("status").text();
    let Node::List(ids) = node.get("recIds") else {
        return Err(outcome("", status).err().unwrap_or_else(|| answer.unclear()));
    };
    // With every id 0 (or none) the text is about all; with some, it cannot be told whom it means.
    if !status.is_empty() && ids.iter().all(|id| matches!(id.text(), "" | "0")) {
        return Err(refusal(status));
    }
    one_each(message.to.len(), ids.iter().map(|id| outcome(id.text(), status)).collect())
}

pub(crate) fn send_template(
    context: &dyn Context,
    base: &str,
    token: &str,
    message: &Filled,
) -> Result<Accepted, Error> {
    let request = Object::new()
        .number("bodyId", message.body_id)
        .text("to", message.to)
        .texts("args", message.values.iter().copied());
    let answer = post(base, "send/shared", token, request).hand_over(context)?;
    let node = object(&answer)?;
    outcome(node.get("recId").text(), node.get("status").text())
}

/// The answer to a question: a text in its status refuses it.
fn answered<'a>(answer: &'a Answer) -> Result<Node<'a>, Error> {
    let node = object(answer)?;
    match node.get("status").text() {
        "" => Ok(node),
        text => Err(refusal(text)),
    }
}

/// The delivery codes of messages, in their order.
pub(crate) fn deliveries(
    context: &dyn Context,
    base: &str,
    token: &str,
    ids: &[&str],
) -> Result<Vec<Option<i64>>, Error> {
    let request = Object::new().numbers("recIds", ids.iter().copied());
    let answer = post(base, "receive/status", token, request).ask(context)?;
    let codes = answered(&answer)?.take("resultsAsCode");
    if codes.items().len() != ids.len() {
        return Err(answer.unclear_because("not one code for each id"));
    }
    Ok(codes.items().iter().map(Node::integer).collect())
}

/// The amount left, whose unit the provider does not state.
pub(crate) fn credit(context: &dyn Context, base: &str, token: &str) -> Result<i64, Error> {
    let answer =
        Request::get(url(base, "receive/credit", token)).header("accept", "application/json").ask(context)?;
    answered(&answer)?.get("amount").whole_part().ok_or_else(|| answer.unclear_because("no amount"))
}

#[cfg(test)]
mod tests {
    use crate::MeliPayamak;
    use crate::tests::{ID, ONE, TWO, filled, ids, script, texts};
    use chelseru_plugin_sdk::json::Node;
    use chelseru_plugin_sdk::sms::State;
    use chelseru_plugin_sdk::sms::credit::Credit;
    use chelseru_plugin_sdk::testing::Script;
    use chelseru_plugin_sdk::{Error, SmsCredit, SmsStatus, SmsTemplate, SmsText};

    fn console(status: u16, body: &str) -> Script {
        script("console").reply(status, body)
    }

    fn text_error(status: u16, body: &str) -> Error {
        MeliPayamak::send_text(&console(status, body), texts(ONE)).expect_err(body)
    }

    #[test]
    fn one_text_is_send_simple() {
        let script = console(200, &format!(r#"{{"recId":{ID},"status":""}}"#));
        assert_eq!(ids(&MeliPayamak::send_text(&script, texts(ONE)).expect("accepted")), [ID]);
        let request = &script.requests()[0];
        assert_eq!(request.url, "https://console.melipayamak.com/api/send/simple/to%2Fken");
        let sent = Node::parse(&request.body).expect("JSON");
        assert_eq!(
            (sent.get("from").text(), sent.get("to").text(), sent.get("text").text()),
            ("5000", "09120000001", "سلام & <b>")
        );
    }

    #[test]
    fn several_texts_are_send_advanced_with_an_id_each() {
        let script = console(200, r#"{"recIds":[3741437414,"3741437415"],"status":null}"#);
        let receipts = MeliPayamak::send_text(&script, texts(TWO)).expect("accepted");
        assert_eq!(ids(&receipts), ["3741437414", "3741437415"]);
        assert!(script.requests()[0].url.contains("/send/advanced/"));
        let partly = console(200, r#"{"recIds":[3741437414,0],"status":""}"#);
        let receipts = MeliPayamak::send_text(&partly, texts(TWO)).expect("answered");
        assert!(matches!(receipts[1].outcome, Err(Error::UnknownOutcome(_))));
    }

    #[test]
    fn a_batch_that_is_refused_or_unclear_is_so_for_all() {
        for (body, expected) in [
            (r#"{"recIds":[0,0],"status":"اعتبار کافی نیست"}"#, "InsufficientCredit"),
            (r#"{"recIds":[],"status":"خطا"}"#, "Rejected"),
            (r#"{"status":"خطا"}"#, "Rejected"),
            (r#"{"status":""}"#, "UnknownOutcome"),
            (r#"{"recIds":[3741437414],"status":""}"#, "UnknownOutcome"),
        ] {
            let error = MeliPayamak::send_text(&console(200, body), texts(TWO)).expect_err(body);
            assert!(format!("{error:?}").starts_with(&format!("Error::{expected}")), "{body}: {error:?}");
        }
        let mixed = console(200, r#"{"recIds":[3741437414,0],"status":"خطا"}"#);
        let receipts = MeliPayamak::send_text(&mixed, texts(TWO)).expect("answered");
        assert!(matches!(receipts[0].outcome, Err(Error::UnknownOutcome(_))));
    }

    #[test]
    fn a_status_text_is_a_refusal_and_never_a_success() {
        for (status, expected) in [
            ("اعتبار شما کافی نیست", "InsufficientCredit"),
            ("توکن نامعتبر است", "Unauthorized"),
            ("الگو یافت نشد", "InvalidTemplate"),
            ("شماره گیرنده نامعتبر", "Rejected"),
            ("something new", "Rejected"),
        ] {
            let error = text_error(200, &format!(r#"{{"recId":0,"status":"{status}"}}"#));
            assert!(format!("{error:?}").starts_with(&format!("Error::{expected}")), "{status}: {error:?}");
        }
        assert!(matches!(
            text_error(200, r#"{"recId":3741437414,"status":"خطا"}"#),
            Error::UnknownOutcome(_)
        ));
        assert!(matches!(text_error(200, r#"{"recId":0,"status":""}"#), Error::UnknownOutcome(_)));
    }

    #[test]
    fn http_statuses_that_refuse_are_typed() {
        let problem = r#"{"type":"x","title":"One or more errors","status":400,"errors":{"To":["bad"]}}"#;
        assert!(matches!(text_error(400, problem), Error::InvalidMessage(_)));
        assert!(matches!(text_error(401, ""), Error::Unauthorized(_)));
        assert!(matches!(text_error(403, "<html>"), Error::Unauthorized(_)));
        assert!(matches!(text_error(429, ""), Error::Throttled(None)));
        for (status, body) in [(302, ""), (404, "<html>"), (405, "<html>"), (413, "<html>"), (400, "<html>")]
        {
            assert!(matches!(text_error(status, body), Error::Unavailable(_)), "{status}");
        }
        assert!(matches!(text_error(408, "<html>"), Error::UnknownOutcome(_)));
        let own = r#"{"recId":0,"status":"اعتبار کافی نیست"}"#;
        assert!(matches!(text_error(400, own), Error::InsufficientCredit(_)), "its own word counts");
        let id = r#"{"recId":3741437414,"status":""}"#;
        assert!(matches!(text_error(404, id), Error::UnknownOutcome(_)), "it may be on its way");
        assert!(matches!(text_error(200, "[]"), Error::UnknownOutcome(_)));
    }

    #[test]
    fn a_template_is_send_shared_with_ordered_arguments() {
        let script = console(200, r#"{"recId":3741437414,"status":""}"#);
        let accepted = MeliPayamak::send_template(&script, filled(&["482913", "ب"])).expect("accepted");
        assert_eq!(accepted.message_id, "3741437414");
        let body = String::from_utf8_lossy(&script.requests()[0].body).into_owned();
        assert_eq!(body, r#"{"bodyId":12345,"to":"09120000001","args":["482913","ب"]}"#);
    }

    #[test]
    fn deliveries_are_asked_in_one_request_with_exact_ids() {
        let script = console(200, r#"{"results":["رسیده","x"],"resultsAsCode":[1,300],"status":""}"#);
        let reports =
            MeliPayamak::status(&script, vec![ID.to_owned(), "no".into(), "7".into()]).expect("answered");
        let states: Vec<_> = reports.iter().map(|report| report.state).collect();
        assert_eq!(states, [State::Delivered, State::Unknown, State::Failed]);
        let body = String::from_utf8_lossy(&script.requests()[0].body).into_owned();
        assert_eq!(body, format!(r#"{{"recIds":[{ID},7]}}"#));
        let short = console(200, r#"{"resultsAsCode":[],"status":""}"#);
        assert!(matches!(MeliPayamak::status(&short, vec![ID.to_owned()]), Err(Error::Unavailable(_))));
    }

    #[test]
    fn credit_is_the_whole_amount_or_the_refusal() {
        let credit = MeliPayamak::credit(&console(200, r#"{"amount":1234.5,"status":""}"#));
        assert_eq!(credit, Ok(Credit::Messages(1234)));
        let refused = MeliPayamak::credit(&console(200, r#"{"amount":0,"status":"توکن نامعتبر"}"#));
        assert!(matches!(refused, Err(Error::Unauthorized(_))));
    }
}
