//! The interface `soap`: one POST of SOAP 1.1 per operation, written and read as text; no WSDL is fetched.
//!
//! The answers are flat: one `OPERATIONResult` element with a text, or with a list of `string` elements. A reader
//! for exactly that is smaller than an XML library, and anything else (a fault, a page) is unclear. Results are
//! the same ids and codes as those of `rest`.

use std::borrow::Cow;

use chelseru_plugin_sdk::http::{Answer, Request};
use chelseru_plugin_sdk::json::Node;
use chelseru_plugin_sdk::sms::Accepted;
use chelseru_plugin_sdk::{Context, Error};

use crate::{Filled, Login, Outcomes, Outgoing, code, one_each};

pub(crate) const BASE: &str = "https://api.payamak-panel.com";

const NAMESPACE: &str = "http://tempuri.org/";

fn request(login: &Login, operation: &str, arguments: &str) -> Request {
    let credentials = [element("username", &login.username), element("password", &login.password)].concat();
    let envelope = [
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body><",
        operation,
        " xmlns=\"",
        NAMESPACE,
        "\">",
        &credentials,
        arguments,
        "</",
        operation,
        "></soap:Body></soap:Envelope>",
    ];
    Request::post([&login.base, "/post/send.asmx"].concat())
        .header("soapaction", &["\"", NAMESPACE, operation, "\""].concat())
        .body("text/xml; charset=utf-8", envelope.concat().into_bytes())
}

fn element(name: &str, text: &str) -> String {
    ["<", name, ">", &escape(text), "</", name, ">"].concat()
}

/// Text as XML. Characters that XML 1.0 cannot hold become spaces.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            '\r' => out.push_str("&#13;"),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push(' '),
            _ => out.push(c),
        }
    }
    out
}

/// The inside of the first element of this name, whatever its prefix and attributes, and what follows it; `None`
/// when there is none or it is not closed. An empty element has an empty inside.
fn inside<'x>(xml: &'x str, name: &str) -> Option<(&'x str, &'x str)> {
    let mut rest = xml;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (tag, content) = after.split_once('>')?;
        rest = content;
        let full_name = tag.trim_end_matches('/').split_ascii_whitespace().next().unwrap_or_default();
        if full_name.rsplit(':').next() != Some(name) {
            continue;
        }
        if tag.ends_with('/') {
            return Some(("", rest));
        }
        return content.split_once(&["</", full_name].concat());
    }
}

/// The result of an operation.
///
/// # Errors
/// [`Answer::unclear`] for a fault, a page, or any other answer without a result; `unknown-outcome` for a result that
/// is no plain code in an answer that is not 2xx.
fn result<'a>(answer: &Answer, body: &'a str, operation: &str) -> Result<&'a str, Error> {
    if inside(body, "Fault").is_some() {
        return Err(answer.unclear_because("a SOAP fault"));
    }
    match inside(body, &[operation, "Result"].concat()) {
        None => Err(answer.unclear()),
        // It may be the id of a message that is on its way. A code keeps its meaning on any HTTP status.
        Some((text, _)) if !answer.is_success() && !code::is_code(text) => {
            Err(Error::unknown_outcome("a result in an answer that is not 2xx"))
        }
        Some((text, _)) => Ok(text.trim()),
    }
}

pub(crate) fn send(context: &dyn Context, login: &Login, message: &Outgoing) -> Outcomes {
    let rest =
        [element("from", message.from), element("text", message.text), element("isflash", "false")].concat();
    if let [to] = message.to {
        let arguments = [element("to", to), rest].concat();
        let answer = request(login, "SendSimpleSMS2", &arguments).hand_over(context)?;
        return code::outcome(result(&answer, &answer.text(), "SendSimpleSMS2")?)
            .map(|accepted| vec![Ok(accepted)]);
    }
    let to: Vec<String> = message.to.iter().map(|to| element("string", to)).collect();
    let arguments = ["<to>", &to.concat(), "</to>", &rest].concat();
    let answer = request(login, "SendSimpleSMS", &arguments).hand_over(context)?;
    let body = answer.text();
    let mut list = result(&answer, &body, "SendSimpleSMS")?;
    let mut outcomes = Vec::with_capacity(message.to.len());
    while let Some((item, rest)) = inside(list, "string") {
        outcomes.push(code::outcome(item));
        list = rest;
    }
    one_each(message.to.len(), outcomes)
}

pub(crate) fn send_template(
    context: &dyn Context,
    login: &Login,
    message: &Filled,
) -> Result<Accepted, Error> {
    let body_id = message.body_id.to_string();
    let text = message.joined();
    let arguments = [element("text", &text), element("to", message.to), element("bodyId", &body_id)].concat();
    let answer = request(login, "SendByBaseNumber2", &arguments).hand_over(context)?;
    code::outcome(result(&answer, &answer.text(), "SendByBaseNumber2")?)
}

/// The whole number an operation that only reads answers with.
fn ask(
    context: &dyn Context,
    login: &Login,
    operation: &str,
    arguments: &str,
    read: fn(&Node) -> Option<i64>,
) -> Result<i64, Error> {
    let answer = request(login, operation, arguments).ask(context)?;
    if !answer.is_success() {
        return Err(answer.unclear());
    }
    let body = answer.text();
    let number = Node::Text(Cow::Borrowed(result(&answer, &body, operation)?));
    read(&number).ok_or_else(|| answer.unclear_because("no number"))
}

/// The delivery code of one message.
pub(crate) fn delivery(context: &dyn Context, login: &Login, id: &str) -> Result<Option<i64>, Error> {
    ask(context, login, "GetDelivery", &element("recId", id), |node| node.integer()).map(Some)
}

/// Messages left; 0 for a bad login, too.
pub(crate) fn credit(context: &dyn Context, login: &Login) -> Result<i64, Error> {
    ask(context, login, "GetCredit", "", |node| node.whole_part())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MeliPayamak;
    use crate::tests::{ID, ONE, TWO, filled, ids, script, texts};
    use chelseru_plugin_sdk::sms::State;
    use chelseru_plugin_sdk::sms::credit::Credit;
    use chelseru_plugin_sdk::{SmsCredit, SmsStatus, SmsTemplate, SmsText};

    fn answer(operation: &str, result: &str) -> String {
        format!(
            "<?xml version=\"1.0\"?><soap:Envelope xmlns:soap=\"http://schemas.xmlsoap.org/soap/envelope/\"><soap:Body>\n \
             <{operation}Response xmlns=\"http://tempuri.org/\"><{operation}Result>{result}</{operation}Result>\
             </{operation}Response></soap:Body></soap:Envelope>"
        )
    }

    #[test]
    fn one_text_is_send_simple_sms2_with_everything_escaped() {
        let script = script("soap").reply(200, answer("SendSimpleSMS2", ID));
        assert_eq!(ids(&MeliPayamak::send_text(&script, texts(ONE)).expect("accepted")), [ID]);
        let request = &script.requests()[0];
        let body = String::from_utf8_lossy(&request.body);
        assert!(body.contains(
            "<SendSimpleSMS2 xmlns=\"http://tempuri.org/\"><username>user</username><password>p&amp;&lt;w</password>\
             <to>09120000001</to><from>5000</from><text>سلام &amp; &lt;b&gt;</text><isflash>false</isflash></SendSimpleSMS2>"
        ), "{body}");
        let header = |name: &str| request.headers.iter().find(|h| h.name == name).map(|h| h.value.as_str());
        assert_eq!(header("soapaction"), Some("\"http://tempuri.org/SendSimpleSMS2\""));
        assert_eq!(header("content-type"), Some("text/xml; charset=utf-8"));
    }

    #[test]
    fn several_texts_are_send_simple_sms_with_a_result_each() {
        let result = format!("<string>{ID}</string>\n<string>35</string>");
        let script = script("soap").reply(200, answer("SendSimpleSMS", &result));
        let receipts = MeliPayamak::send_text(&script, texts(TWO)).expect("answered");
        assert_eq!(ids(&receipts), [ID, "-"]);
        assert!(matches!(receipts[1].outcome, Err(Error::InvalidRecipient(_))));
        let body = String::from_utf8_lossy(&script.requests()[0].body).into_owned();
        assert!(body.contains("<to><string>09120000001</string><string>09120000002</string></to>"), "{body}");
    }

    #[test]
    fn a_code_is_compared_as_a_number_and_holds_for_all() {
        let error =
            MeliPayamak::send_text(&script("soap").reply(200, answer("SendSimpleSMS2", "2")), texts(ONE));
        assert!(matches!(error, Err(Error::InsufficientCredit(_))), "{error:?}");
        let refused = answer("SendSimpleSMS", "<string>0</string>");
        let error = MeliPayamak::send_text(&script("soap").reply(200, refused), texts(TWO));
        assert!(matches!(error, Err(Error::Unauthorized(_))), "{error:?}");
    }

    #[test]
    fn only_a_fault_with_its_own_status_is_left_to_the_next_provider() {
        let fault =
            "<s:Envelope><s:Body><s:Fault><faultcode>s:Server</faultcode></s:Fault></s:Body></s:Envelope>";
        let failed = MeliPayamak::send_text(&script("soap").reply(500, fault), texts(ONE));
        assert!(matches!(failed, Err(Error::BrokeDown(_))), "{failed:?}");
        for (status, body) in [
            (200, fault.to_owned()),
            (500, answer("SendSimpleSMS2", ID)),
            (200, answer("SendSimpleSMS2", "")),
            (200, answer("Other", ID)),
            (200, format!("<SendSimpleSMS2Result>{ID}")),
            (200, "<SendSimpleSMS2Result/>".to_owned()),
        ] {
            let error = MeliPayamak::send_text(&script("soap").reply(status, body.as_str()), texts(ONE));
            assert!(matches!(error, Err(Error::UnknownOutcome(_))), "{body}: {error:?}");
        }
        for (status, code) in [(400, "2"), (500, "2")] {
            let error = MeliPayamak::send_text(
                &script("soap").reply(status, answer("SendSimpleSMS2", code)),
                texts(ONE),
            );
            assert!(
                matches!(error, Err(Error::InsufficientCredit(_))),
                "{status}: its own code counts: {error:?}"
            );
        }
        let refused = MeliPayamak::send_text(&script("soap").reply(400, fault), texts(ONE));
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        for list in [format!("<string>{ID}</string>"), String::new(), "<string>".to_owned()] {
            let body = answer("SendSimpleSMS", &list);
            let error = MeliPayamak::send_text(&script("soap").reply(200, body), texts(TWO));
            assert!(matches!(error, Err(Error::UnknownOutcome(_))), "{list}: {error:?}");
        }
    }

    #[test]
    fn template_status_and_credit_have_their_operations() {
        let sent = script("soap").reply(200, answer("SendByBaseNumber2", ID));
        let accepted = MeliPayamak::send_template(&sent, filled(&["482913", "ب"])).expect("accepted");
        assert_eq!(accepted.message_id, ID);
        let body = String::from_utf8_lossy(&sent.requests()[0].body).into_owned();
        assert!(body.contains("<text>482913;ب</text><to>09120000001</to><bodyId>12345</bodyId>"), "{body}");

        let asked = script("soap").reply(200, answer("GetDelivery", "8"));
        let reports = MeliPayamak::status(&asked, vec![ID.to_owned()]).expect("answered");
        assert_eq!((reports[0].state, reports[0].detail.as_str()), (State::Sent, "8"));

        let credit = MeliPayamak::credit(&script("soap").reply(200, answer("GetCredit", "1234.75")));
        assert_eq!(credit, Ok(Credit::Messages(1234)));
    }

    #[test]
    fn the_reader_finds_elements_by_name_and_never_beyond_the_end() {
        for (xml, found) in [
            ("<a>1</a>", Some("1")),
            ("<x:a b=\"c\">1</x:a>", Some("1")),
            ("<aa>2</aa><a>1</a>", Some("1")),
            ("<a/>", Some("")),
            ("<a />", Some("")),
            ("<a>1", None),
            ("<a", None),
            ("", None),
            ("</a>1</a>", None),
            ("a>1</a>", None),
        ] {
            assert_eq!(inside(xml, "a").map(|(text, _)| text), found, "{xml}");
        }
    }

    #[test]
    fn text_that_xml_cannot_hold_is_replaced() {
        assert_eq!(escape("a\u{0}b\u{b}c\r\n\"<>&"), "a b c&#13;\n&quot;&lt;&gt;&amp;");
    }
}
