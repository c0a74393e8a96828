//! `verify/lookup`: one message from a template in the panel, with up to five named values.
//!
//! Values named `token`, `token2`, `token3`, `token10` or `token20` take that place; the others take the free
//! places in this order. The rules for values are checked here first, because a refusal costs a round trip and
//! the gateway checks a message before it stores it. There is no de-duplication key: after a time-out the
//! outcome is unknown and stays so.
//!
//! Source: the manual's page on lookup (at most 100 characters; no space, line break or underscore in `token`,
//! `token2`, `token3`; at most 5 spaces in `token10` and 8 in `token20`).

use std::borrow::Cow;

use chelseru_plugin_sdk::sms::template::{Message, Value};
use chelseru_plugin_sdk::sms::{Accepted, Limits};
use chelseru_plugin_sdk::{Context, Error, SmsTemplate, number};

use crate::{Kavenegar, code, entries, outcome, request};

/// Characters in one value.
const VALUE_CHARACTERS_MAX: usize = 100;

/// The places of values and the white space each may hold; they are filled in this order.
const PLACES: [(&str, usize); 5] =
    [("token", 0), ("token2", 0), ("token3", 0), ("token10", 5), ("token20", 8)];

impl SmsTemplate for Kavenegar {
    const TEMPLATE_LIMITS: Limits = Limits { recipients_max: 1, characters_max: 0, deduplicates: false };

    fn check_template(message: &Message) -> Result<(), Error> {
        fields(message).map(|_| ())
    }

    fn send_template(context: &dyn Context, message: Message) -> Result<Accepted, Error> {
        let fields = fields(&message)?;
        let fields: Vec<(&str, &str)> = fields.iter().map(|(key, value)| (*key, value.as_ref())).collect();
        let answer = request(context, "verify/lookup", &fields)?.hand_over(context)?;
        let sent = entries(&answer)?;
        sent.items().first().map_or_else(|| Err(answer.unclear_because("no entry")), outcome)
    }
}

/// The form fields of a message that obeys the rules.
fn fields(message: &Message) -> Result<Vec<(&str, Cow<'_, str>)>, Error> {
    let receptor = number::national_or_00(&message.recipient.number)
        .ok_or_else(|| Error::invalid_recipient("", "not a phone number"))?;
    if message.template.trim().is_empty() {
        return Err(Error::invalid_template("", "the template has no name"));
    }
    let mut fields = vec![("receptor", receptor.into()), ("template", message.template.trim().into())];
    for (place, value) in PLACES.iter().zip(placed(&message.values)?) {
        if let Some(value) = value {
            check(*place, value)?;
            fields.push((place.0, value.into()));
        }
    }
    Ok(fields)
}

/// Each place's value.
fn placed(values: &[Value]) -> Result<[Option<&str>; PLACES.len()], Error> {
    let mut taken = [None; PLACES.len()];
    let place = |name: &str| PLACES.iter().position(|(place, _)| *place == name);
    for value in values {
        if let Some(index) = place(&value.name)
            && taken[index].replace(value.value.as_str()).is_some()
        {
            return Err(Error::invalid_message("", &["two values are named ", &value.name].concat()));
        }
    }
    for value in values.iter().filter(|value| place(&value.name).is_none()) {
        let Some(free) = taken.iter_mut().find(|place| place.is_none()) else {
            return Err(Error::invalid_message("", "a lookup template has at most five values"));
        };
        *free = Some(value.value.as_str());
    }
    if taken[0].is_none() {
        return Err(Error::invalid_message("", "a lookup template needs a value for token"));
    }
    Ok(taken)
}

fn check((name, spaces_max): (&str, usize), value: &str) -> Result<(), Error> {
    let refused = |code: &str, rule: &str| Err(Error::invalid_message(code, &[name, " ", rule].concat()));
    let characters_code = code::TOKEN_CHARACTERS.to_string();
    if value.is_empty() {
        return refused("", "is empty");
    }
    if value.chars().count() > VALUE_CHARACTERS_MAX {
        return refused("", "is longer than 100 characters");
    }
    if spaces_max == 0 && value.contains(|c: char| c == '_' || c.is_whitespace() || c.is_control()) {
        return refused(&characters_code, "has a space, a line break or an underscore");
    }
    if spaces_max > 0 && value.chars().filter(|c| c.is_whitespace()).count() > spaces_max {
        return refused(&characters_code, "has too many spaces");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::script;
    use chelseru_plugin_sdk::http::HttpError;
    use chelseru_plugin_sdk::sms::Recipient;

    fn message(values: &[(&str, &str)]) -> Message {
        let recipient = Recipient { number: "+989120000001".into(), local_id: 1 };
        let value = |&(name, value): &(&str, &str)| Value { name: name.to_owned(), value: value.to_owned() };
        Message { recipient, template: "login".into(), values: values.iter().map(value).collect() }
    }

    fn tokens(values: &[(&str, &str)]) -> Vec<(String, String)> {
        let script =
            script().reply(200, r#"{"return":{"status":200},"entries":[{"messageid":1,"status":5}]}"#);
        Kavenegar::send_template(&script, message(values)).expect("accepted");
        assert!(script.requests()[0].url.ends_with("/verify/lookup.json"));
        let form = script.form(0);
        assert_eq!(form[0], ("receptor".to_owned(), "09120000001".to_owned()));
        assert_eq!(form[1], ("template".to_owned(), "login".to_owned()));
        form[2..].to_vec()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn values_take_their_named_place_and_the_others_the_free_ones_in_order() {
        assert_eq!(tokens(&[("code", "1")]), pairs(&[("token", "1")]));
        assert_eq!(
            tokens(&[("code", "1"), ("a", "2"), ("b", "3"), ("c", "4 4"), ("d", "5 5")]),
            pairs(&[
                ("token", "1"),
                ("token2", "2"),
                ("token3", "3"),
                ("token10", "4 4"),
                ("token20", "5 5")
            ])
        );
        assert_eq!(
            tokens(&[("token20", "a b"), ("code", "1"), ("token2", "x"), ("name", "y")]),
            pairs(&[("token", "1"), ("token2", "x"), ("token3", "y"), ("token20", "a b")])
        );
    }

    #[test]
    fn values_that_fit_no_place_are_refused() {
        for values in [
            &[] as &[_],
            &[("token2", "1")],
            &[("token", "1"), ("token", "2")],
            &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5"), ("f", "6")],
        ] {
            let error = Kavenegar::check_template(&message(values)).expect_err("refused");
            assert!(matches!(error, Error::InvalidMessage(_)), "{values:?}: {error:?}");
        }
    }

    #[test]
    fn the_first_three_values_hold_no_space_line_break_or_underscore() {
        for name in ["token", "token2", "token3"] {
            for bad in ["a b", "a\nb", "a\rb", "a\tb", "a_b", "a\u{a0}b", "a\u{2028}b", "a\u{0}b"] {
                let error = Kavenegar::check_template(&message(
                    &[("token", "1"), (name, bad)][usize::from(name == "token")..],
                ));
                let Err(Error::InvalidMessage(rejection)) = error else {
                    panic!("{name}={bad:?}: {error:?}")
                };
                assert_eq!(rejection.code, "431");
                assert!(!rejection.text.contains(bad), "the value stays out of the log");
            }
        }
        assert_eq!(Kavenegar::check_template(&message(&[("token", "سلام-12.3")])), Ok(()));
    }

    #[test]
    fn each_limit_of_a_value_holds_at_its_edge() {
        for (name, value, fits) in [
            ("token", "x".repeat(100), true),
            ("token", "x".repeat(101), false),
            ("token", "ک".repeat(100), true),
            ("token", String::new(), false),
            ("token10", "a b c d e f".to_owned(), true),
            ("token10", "a b c d e f g".to_owned(), false),
            ("token20", "a b c d e f g h i".to_owned(), true),
            ("token20", "a b c d e f g h i j".to_owned(), false),
            ("token20", "x".repeat(101), false),
        ] {
            let values = [("token", "1"), (name, value.as_str())];
            let values = if name == "token" { &values[1..] } else { &values };
            assert_eq!(Kavenegar::check_template(&message(values)).is_ok(), fits, "{name}={value:?}");
        }
    }

    #[test]
    fn a_message_that_fails_the_check_is_not_sent() {
        let script = script();
        assert!(Kavenegar::send_template(&script, message(&[("token", "a b")])).is_err());
        let nameless = Message { template: " ".into(), ..message(&[("token", "1")]) };
        assert!(matches!(Kavenegar::send_template(&script, nameless), Err(Error::InvalidTemplate(_))));
        let mut comma = message(&[("token", "1")]);
        comma.recipient.number = "+989120000001,09120000002".into();
        assert!(matches!(Kavenegar::send_template(&script, comma), Err(Error::InvalidRecipient(_))));
        assert!(script.requests().is_empty());
    }

    #[test]
    fn entries_are_an_object_or_an_array() {
        let entry = r#"{"messageid":8792343001,"status":5,"cost":"1200"}"#;
        for entries in [entry.to_owned(), format!("[{entry}]")] {
            let script = script().reply(200, format!(r#"{{"return":{{"status":200}},"entries":{entries}}}"#));
            let accepted = Kavenegar::send_template(&script, message(&[("code", "1")])).expect("accepted");
            let expected =
                Accepted { message_id: "8792343001".into(), duplicate: false, cost_rial: Some(1200) };
            assert_eq!(accepted, expected);
        }
    }

    #[test]
    fn an_unclear_end_is_an_unknown_outcome() {
        let value = &[("code", "482913")];
        for body in
            ["", "<html>", r#"{"return":{"status":200}}"#, r#"{"return":{"status":200},"entries":[]}"#]
        {
            let error = Kavenegar::send_template(&script().reply(200, body), message(value)).expect_err(body);
            assert!(matches!(error, Error::UnknownOutcome(_)), "{body}: {error:?}");
        }
        let cut = script().fail(HttpError::Unanswered("timed out".into()));
        assert!(matches!(Kavenegar::send_template(&cut, message(value)), Err(Error::UnknownOutcome(_))));
        let refused = script().fail(HttpError::NotSent("connection refused".into()));
        assert!(matches!(Kavenegar::send_template(&refused, message(value)), Err(Error::Unavailable(_))));
    }
}
