//! The interface `rest`: a form per method, answered by `{"Value", "RetStatus", "StrRetStatus"}`.
//!
//! `Value` alone decides a send: one id or code, or a comma list of them for several recipients. `RetStatus` is 1
//! for a message that was not sent, too. For questions, where 0 is a proper value, a bad login is told by
//! the words of `StrRetStatus` (seen: `InvalidUser`, `UserNameAndPasswordFailed`).

use chelseru_plugin_sdk::http::{Answer, Request};
use chelseru_plugin_sdk::json::Node;
use chelseru_plugin_sdk::sms::Accepted;
use chelseru_plugin_sdk::{Context, Error};

use crate::{Filled, Login, Outcomes, Outgoing, code, one_each};

pub(crate) const BASE: &str = "https://rest.payamak-panel.com";

fn request(login: &Login, method: &str, fields: &[(&str, &str)]) -> Request {
    let mut form = vec![("username", login.username.as_str()), ("password", login.password.as_str())];
    form.extend_from_slice(fields);
    Request::post([&login.base, "/api/SendSMS/", method].concat())
        .header("accept", "application/json")
        .form(&form)
}

/// The answer with its `Value`, which may also come bare.
///
/// # Errors
/// `unauthorized` for words that mean a bad login; [`Answer::unclear`] for an answer without a value;
/// `unknown-outcome` for a message id in an answer that is not 2xx.
fn value(answer: &Answer) -> Result<String, Error> {
    let node = answer.json()?;
    let words = node.get_any_case("StrRetStatus").text();
    let bad_login =
        ["InvalidUser", "UserNameAndPasswordFailed"].iter().any(|known| words.eq_ignore_ascii_case(known));
    let value = match &node {
        Node::Text(_) => node.text(),
        _ => node.get_any_case("Value").text(),
    };
    match value {
        // An id is an id, whatever the words say.
        _ if bad_login && code::outcome(value).is_err() => {
            Err(Error::unauthorized(words, "wrong user or password"))
        }
        "" => Err(answer.unclear_because("no Value")),
        // It may be the id of a message that is on its way. A code keeps its meaning on any HTTP status.
        _ if !answer.is_success() && value.split(',').any(|value| code::outcome(value).is_ok()) => {
            Err(Error::unknown_outcome("a message id in an answer that is not 2xx"))
        }
        _ => Ok(value.to_owned()),
    }
}

/// The value that answers a question: any number is one, so the HTTP status has to be 2xx.
fn asked(answer: &Answer) -> Result<String, Error> {
    let value = value(answer)?;
    if answer.is_success() { Ok(value) } else { Err(answer.unclear_because("a Value")) }
}

pub(crate) fn send(context: &dyn Context, login: &Login, message: &Outgoing) -> Outcomes {
    let to = message.to.join(",");
    let fields = [("to", to.as_str()), ("from", message.from), ("text", message.text), ("isFlash", "false")];
    let value = value(&request(login, "SendSMS", &fields).hand_over(context)?)?;
    match message.to {
        [_] => code::outcome(&value).map(|accepted| vec![Ok(accepted)]),
        to => one_each(to.len(), value.split(',').map(code::outcome).collect()),
    }
}

pub(crate) fn send_template(
    context: &dyn Context,
    login: &Login,
    message: &Filled,
) -> Result<Accepted, Error> {
    let (text, body_id) = (message.joined(), message.body_id.to_string());
    let fields = [("text", text.as_str()), ("to", message.to), ("bodyId", &body_id)];
    code::outcome(&value(&request(login, "BaseServiceNumber", &fields).hand_over(context)?)?)
}

/// The delivery code of one message.
pub(crate) fn delivery(context: &dyn Context, login: &Login, id: &str) -> Result<Option<i64>, Error> {
    let answer = request(login, "GetDeliveries2", &[("recID", id)]).ask(context)?;
    let value = asked(&answer)?;
    // A list of one is a list.
    let code = Node::Text(value.trim_matches(['[', ']', ' ']).into()).integer();
    code.map(Some).ok_or_else(|| answer.unclear_because("no delivery code"))
}

/// Messages left.
pub(crate) fn credit(context: &dyn Context, login: &Login) -> Result<i64, Error> {
    let answer = request(login, "GetCredit", &[]).ask(context)?;
    let value = asked(&answer)?;
    Node::Text(value.as_str().into()).whole_part().ok_or_else(|| answer.unclear_because("no credit"))
}

#[cfg(test)]
mod tests {
    use crate::MeliPayamak;
    use crate::tests::{ID, ONE, TWO, filled, ids, script, texts};
    use chelseru_plugin_sdk::sms::State;
    use chelseru_plugin_sdk::sms::credit::Credit;
    use chelseru_plugin_sdk::{Error, SmsCredit, SmsStatus, SmsTemplate, SmsText};

    fn answer(value: &str) -> String {
        format!(r#"{{"Value":"{value}","RetStatus":1,"StrRetStatus":"Ok"}}"#)
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_text_is_a_form_with_a_comma_list() {
        let script = script("rest").reply(200, answer(&format!("{ID},2")));
        let receipts = MeliPayamak::send_text(&script, texts(TWO)).expect("answered");
        let form = [
            ("username", "user"),
            ("password", "p&<w"),
            ("to", "09120000001,09120000002"),
            ("from", "5000"),
            ("text", "سلام & <b>"),
            ("isFlash", "false"),
        ];
        assert_eq!(script.form(0), pairs(&form));
        assert_eq!(ids(&receipts), [ID, "-"]);
        assert!(matches!(receipts[1].outcome, Err(Error::InsufficientCredit(_))));
        assert_eq!(script.requests()[0].timeout_ms, Some(10_000));
    }

    #[test]
    fn ret_status_one_with_a_code_is_not_sent() {
        let error = MeliPayamak::send_text(&script("rest").reply(200, answer("11")), texts(ONE));
        assert!(matches!(error, Err(Error::Unavailable(_))), "{error:?}");
        let error = MeliPayamak::send_text(&script("rest").reply(200, answer("0")), texts(TWO));
        assert!(matches!(error, Err(Error::Unauthorized(_))), "one code holds for all");
    }

    #[test]
    fn an_id_that_contains_a_code_is_an_id() {
        let receipts =
            MeliPayamak::send_text(&script("rest").reply(200, answer("1111111111111111")), texts(ONE));
        assert_eq!(ids(&receipts.expect("accepted")), ["1111111111111111"]);
    }

    #[test]
    fn a_count_that_does_not_fit_is_an_unknown_outcome() {
        for value in [ID.to_owned(), format!("{ID},{ID},{ID}"), format!("{ID},2,")] {
            let error = MeliPayamak::send_text(&script("rest").reply(200, answer(&value)), texts(TWO));
            assert!(matches!(error, Err(Error::UnknownOutcome(_))), "{value}: {error:?}");
        }
    }

    #[test]
    fn a_template_joins_its_values_with_semicolons() {
        let script = script("rest").reply(200, answer(ID));
        let accepted = MeliPayamak::send_template(&script, filled(&["482913", "علی رضا"])).expect("accepted");
        assert_eq!(accepted.message_id, ID);
        let form = [("text", "482913;علی رضا"), ("to", "09120000001"), ("bodyId", "12345")];
        assert_eq!(script.form(0)[2..], pairs(&form));
        assert!(script.requests()[0].url.ends_with("/BaseServiceNumber"));
        let refused = MeliPayamak::send_template(
            &crate::tests::script("rest").reply(200, answer("-4")),
            filled(&["1"]),
        );
        assert!(matches!(refused, Err(Error::InvalidTemplate(_))));
    }

    #[test]
    fn values_come_as_text_number_or_bare() {
        for body in [format!("\"{ID}\""), ID.to_owned(), format!(r#"{{"value":{ID}}}"#)] {
            let receipts = MeliPayamak::send_text(&script("rest").reply(200, body.as_str()), texts(ONE));
            assert_eq!(ids(&receipts.expect("accepted")), [ID], "{body}");
        }
    }

    #[test]
    fn a_bad_login_is_told_by_its_words_where_zero_is_a_value() {
        for words in ["InvalidUser", "UserNameAndPasswordFailed", "invaliduser"] {
            let body = format!(r#"{{"Value":"0","RetStatus":0,"StrRetStatus":"{words}"}}"#);
            let credit = MeliPayamak::credit(&script("rest").reply(200, body.as_str()));
            assert!(matches!(credit, Err(Error::Unauthorized(_))), "{words}");
            let status = MeliPayamak::status(&script("rest").reply(200, body), vec![ID.to_owned()]);
            assert!(matches!(status, Err(Error::Unauthorized(_))), "{words}");
        }
        assert_eq!(MeliPayamak::credit(&script("rest").reply(200, answer("0"))), Ok(Credit::Messages(0)));
        assert_eq!(
            MeliPayamak::credit(&script("rest").reply(200, answer("1234.5"))),
            Ok(Credit::Messages(1234))
        );
    }

    #[test]
    fn a_delivery_code_is_asked_by_id() {
        let script = script("rest").reply(200, answer("1")).reply(200, r#"{"Value":"[16]"}"#);
        let reports = MeliPayamak::status(&script, vec![ID.to_owned(), "7".to_owned()]).expect("answered");
        assert_eq!((reports[0].state, reports[1].state), (State::Delivered, State::Failed));
        assert_eq!(script.form(0)[2..], pairs(&[("recID", ID)]));
    }

    #[test]
    fn an_answer_that_is_not_2xx_is_never_a_success() {
        let error = MeliPayamak::send_text(&script("rest").reply(500, answer(ID)), texts(ONE));
        assert!(matches!(error, Err(Error::UnknownOutcome(_))));
        let error = MeliPayamak::send_text(&script("rest").reply(429, ""), texts(ONE));
        assert_eq!(error.expect_err("throttled"), Error::Throttled(None));
        let many = format!("2,{ID}");
        let error = MeliPayamak::send_text(&script("rest").reply(400, answer(&many)), texts(TWO));
        assert!(matches!(error, Err(Error::UnknownOutcome(_))), "one of them may be on its way");
        for status in [400, 401, 500] {
            let error = MeliPayamak::send_text(&script("rest").reply(status, answer("2")), texts(ONE));
            assert!(matches!(error, Err(Error::InsufficientCredit(_))), "{status}: its own code counts");
            let credit = MeliPayamak::credit(&script("rest").reply(status, answer("1500")));
            assert!(credit.is_err(), "{status}: {credit:?}");
        }
    }
}
