//! `sms/send`: one text to up to 200 recipients, with our id of each as `localid`.
//!
//! The provider answers with one entry per recipient; an entry is found by its `localid`, else by its number,
//! never by its place alone unless the entries name neither. A recipient without an entry has an unknown
//! outcome. A number that is not E.164 never reaches the comma list, where it could become two recipients.

use chelseru_plugin_sdk::json::Node;
use chelseru_plugin_sdk::sms::Limits;
use chelseru_plugin_sdk::sms::text::{Message, Receipt};
use chelseru_plugin_sdk::{Context, Error, SmsText, number};

use crate::{Kavenegar, entries, outcome, request};

impl SmsText for Kavenegar {
    const TEXT_LIMITS: Limits = crate::TEXT_LIMITS;

    fn send_text(context: &dyn Context, message: Message) -> Result<Vec<Receipt>, Error> {
        let receptors: Vec<Option<String>> =
            message.recipients.iter().map(|recipient| number::national_or_00(&recipient.number)).collect();
        let reachable =
            || message.recipients.iter().zip(&receptors).filter_map(|(r, to)| Some((r, to.as_deref()?)));

        let answer = if reachable().next().is_some() {
            let receptor: Vec<&str> = reachable().map(|(_, to)| to).collect();
            let local_ids: Vec<String> =
                reachable().map(|(recipient, _)| recipient.local_id.to_string()).collect();
            let (receptor, local_ids) = (receptor.join(","), local_ids.join(","));
            let sender =
                message.sender.filter(|line| !line.trim().is_empty()).or_else(|| context.optional("sender"));
            let mut fields =
                vec![("receptor", &*receptor), ("message", &message.text), ("localid", &local_ids)];
            if let Some(line) = &sender {
                fields.push(("sender", line.trim()));
            }
            Some(request(context, "sms/send", &fields)?.hand_over(context)?)
        } else {
            None
        };
        let sent = answer.as_ref().map(entries).transpose()?.unwrap_or_default();
        let mut pool: Vec<Option<&Node>> = sent.items().iter().map(Some).collect();

        // Which entries name their recipient decides once whether their order may count.
        let nameless = pool.len() == reachable().count()
            && sent.items().iter().all(|entry| {
                entry.get("localid").text().is_empty() && entry.get("receptor").text().is_empty()
            });
        let mut place = 0;
        let mut receipts = Vec::with_capacity(message.recipients.len());
        for (recipient, to) in message.recipients.iter().zip(&receptors) {
            let outcome = match to {
                None => Err(Error::invalid_recipient("", "not a phone number")),
                Some(to) => {
                    let found = if nameless { Some(place) } else { find(&pool, recipient.local_id, to) };
                    place += 1;
                    let entry = found.and_then(|index| pool.get_mut(index)?.take());
                    entry.map_or_else(|| Err(Error::unknown_outcome("no entry for this recipient")), outcome)
                }
            };
            receipts.push(Receipt { number: recipient.number.clone(), outcome });
        }
        Ok(receipts)
    }
}

/// The entry with our id; else one without an id and with the number.
fn find(pool: &[Option<&Node>], local_id: u64, receptor: &str) -> Option<usize> {
    let local_id = i64::try_from(local_id).ok();
    let by_id = |entry: &Node| local_id.is_some() && entry.get("localid").integer() == local_id;
    let by_number = |entry: &Node| {
        matches!(entry.get("localid").text(), "" | "0") && same_number(entry.get("receptor").text(), receptor)
    };
    let position = |matches: &dyn Fn(&Node) -> bool| pool.iter().position(|entry| entry.is_some_and(matches));
    position(&by_id).or_else(|| position(&by_number))
}

/// Numbers are the same when their last ten digits are, in whichever form the provider echoes them.
fn same_number(echoed: &str, sent: &str) -> bool {
    let last_ten = |text: &str| -> Vec<char> {
        let folded = number::fold_digits(text);
        folded.chars().rev().filter(char::is_ascii_digit).take(10).collect()
    };
    last_ten(echoed) == last_ten(sent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{API_KEY, script};
    use chelseru_plugin_sdk::http::HttpError;
    use chelseru_plugin_sdk::sms::Recipient;
    use chelseru_plugin_sdk::testing;

    fn message(recipients: &[(&str, u64)]) -> Message {
        let recipient = |&(number, local_id): &(&str, u64)| Recipient { number: number.to_owned(), local_id };
        Message {
            recipients: recipients.iter().map(recipient).collect(),
            text: "سلام, 1+1".into(),
            sender: None,
        }
    }

    fn envelope(entries: &str) -> String {
        format!(r#"{{"return":{{"status":200,"message":"تایید شد"}},"entries":{entries}}}"#)
    }

    fn ids(receipts: &[Receipt]) -> Vec<Result<&str, &Error>> {
        receipts.iter().map(|r| r.outcome.as_ref().map(|accepted| accepted.message_id.as_str())).collect()
    }

    const TWO: &[(&str, u64)] = &[("+989120000001", 11), ("+97450001234", 9_007_199_254_740_991)];

    #[test]
    fn the_request_is_a_form_with_national_numbers_and_local_ids() {
        let script = script().reply(200, envelope("[]"));
        Kavenegar::send_text(&script, message(TWO)).expect("answered");
        let pairs = [
            ("receptor", "09120000001,0097450001234"),
            ("message", "سلام, 1+1"),
            ("localid", "11,9007199254740991"),
        ];
        assert_eq!(script.form(0), pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
        let request = &script.requests()[0];
        assert_eq!(request.url, "https://api.kavenegar.com/v1/4B6A%2Fsecret%3D/sms/send.json");
        assert_eq!(request.timeout_ms, Some(10_000));
        assert!(!String::from_utf8_lossy(&request.body).contains("secret"));
    }

    #[test]
    fn the_callers_line_comes_before_the_setting() {
        for (caller, setting, line) in [
            (Some("3000"), Some("1000"), Some("3000")),
            (Some(" "), Some("1000"), Some("1000")),
            (None, Some("1000"), Some("1000")),
            (None, None, None),
        ] {
            let mut script = script().reply(200, envelope("[]"));
            if let Some(setting) = setting {
                script = script.setting("sender", setting);
            }
            let message = Message { sender: caller.map(str::to_owned), ..message(TWO) };
            Kavenegar::send_text(&script, message).expect("answered");
            let sent = script.form(0).into_iter().find(|(key, _)| key == "sender").map(|(_, value)| value);
            assert_eq!(sent.as_deref(), line);
        }
    }

    #[test]
    fn entries_are_found_by_local_id_in_any_order_as_string_or_number() {
        for (first, second) in [("\"9007199254740991\"", "11"), ("9007199254740991", "\"11\"")] {
            let body = envelope(&format!(
                r#"[{{"messageid":8792343002,"status":5,"receptor":"0097450001234","localid":{first},"cost":1200}},
                    {{"messageid":"8792343001","status":"1","receptor":"09120000001","localid":{second}}}]"#
            ));
            let receipts = Kavenegar::send_text(&script().reply(200, body), message(TWO)).expect("answered");
            assert_eq!(ids(&receipts), [Ok("8792343001"), Ok("8792343002")]);
            assert_eq!(receipts[1].outcome.as_ref().map(|a| a.cost_rial), Ok(Some(1200)));
            assert_eq!(receipts[0].number, "+989120000001");
        }
    }

    #[test]
    fn entries_without_local_id_are_found_by_number_or_else_by_place() {
        let by_number = envelope(
            r#"[{"messageid":2,"status":1,"receptor":"+97450001234"},{"messageid":1,"status":1,"receptor":"989120000001","localid":0}]"#,
        );
        let receipts = Kavenegar::send_text(&script().reply(200, by_number), message(TWO)).expect("answered");
        assert_eq!(ids(&receipts), [Ok("1"), Ok("2")]);
        let by_place = envelope(r#"[{"messageid":1,"status":1},{"messageid":2,"status":1}]"#);
        let receipts = Kavenegar::send_text(&script().reply(200, by_place), message(TWO)).expect("answered");
        assert_eq!(ids(&receipts), [Ok("1"), Ok("2")]);
    }

    #[test]
    fn a_recipient_without_an_entry_has_an_unknown_outcome() {
        let body = envelope(r#"{"messageid":1,"status":1,"localid":"11"}"#);
        let receipts = Kavenegar::send_text(&script().reply(200, body), message(TWO)).expect("answered");
        assert!(receipts[0].outcome.is_ok());
        assert!(matches!(receipts[1].outcome, Err(Error::UnknownOutcome(_))));
        // The same number twice takes two entries, never one for both.
        let twice: &[_] = &[("+989120000001", 11), ("+989120000001", 12)];
        let body = envelope(r#"[{"messageid":1,"status":1,"receptor":"09120000001"}]"#);
        let receipts = Kavenegar::send_text(&script().reply(200, body), message(twice)).expect("answered");
        assert!(receipts[0].outcome.is_ok());
        assert!(matches!(receipts[1].outcome, Err(Error::UnknownOutcome(_))));
    }

    #[test]
    fn each_entry_status_has_its_own_outcome() {
        let one: &[_] = &[("+989120000001", 11)];
        for status in 0..=110 {
            let body =
                envelope(&format!(r#"[{{"messageid":7,"status":{status},"statustext":"x","localid":11}}]"#));
            let receipts = Kavenegar::send_text(&script().reply(200, body), message(one)).expect("answered");
            match (status, &receipts[0].outcome) {
                (1 | 2 | 4 | 5 | 10, Ok(accepted)) => {
                    assert_eq!(accepted.message_id, "7");
                    assert_eq!(accepted.duplicate, status == 10);
                }
                (6 | 11 | 13 | 14 | 100, Err(Error::Rejected(r))) => assert_eq!(r.code, status.to_string()),
                (_, Err(Error::UnknownOutcome(_))) => {
                    assert!(![1, 2, 4, 5, 6, 10, 11, 13, 14, 100].contains(&status))
                }
                (_, outcome) => panic!("entry status {status}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn an_id_of_zero_is_none() {
        let body = envelope(r#"[{"messageid":0,"status":1,"localid":11}]"#);
        let receipts =
            Kavenegar::send_text(&script().reply(200, body), message(&TWO[..1])).expect("answered");
        assert_eq!(ids(&receipts), [Ok("")]);
    }

    #[test]
    fn a_number_that_is_none_never_reaches_the_request() {
        let mixed: &[_] = &[("+9891200000,01", 1), ("+989120000001", 2), ("09120000002", 3)];
        let script = script().reply(200, envelope(r#"[{"messageid":5,"status":1}]"#));
        let receipts = Kavenegar::send_text(&script, message(mixed)).expect("answered");
        assert_eq!(script.form(0)[0].1, "09120000001");
        assert!(matches!(receipts[0].outcome, Err(Error::InvalidRecipient(_))));
        assert!(receipts[1].outcome.is_ok());
        assert!(matches!(receipts[2].outcome, Err(Error::InvalidRecipient(_))));

        let none = crate::tests::script();
        let receipts =
            Kavenegar::send_text(&none, message(&mixed[..1])).expect("answered without the provider");
        assert!(matches!(receipts[0].outcome, Err(Error::InvalidRecipient(_))));
        assert!(none.requests().is_empty());
    }

    #[test]
    fn an_unreadable_answer_is_never_a_success() {
        for (status, body) in [
            (200, ""),
            (200, "<html>ok</html>"),
            (502, "<html>bad gateway</html>"),
            (504, "{}"),
            (200, "[]"),
            (200, r#"{"return":{}}"#),
            (200, r#"{"return":{"status":"ok"}}"#),
            (200, r#"{"return":{"status":200},"entries":[{"#),
        ] {
            let error = Kavenegar::send_text(&script().reply(status, body), message(TWO)).expect_err(body);
            assert!(matches!(error, Error::UnknownOutcome(_)), "{body}: {error:?}");
        }
        let body = r#"{"return":{"status":200}}"#;
        let receipts = Kavenegar::send_text(&script().reply(200, body), message(TWO))
            .expect("an answer without entries");
        assert!(receipts.iter().all(|r| matches!(r.outcome, Err(Error::UnknownOutcome(_)))));
    }

    #[test]
    fn a_broken_answer_never_panics_and_a_cut_one_is_never_a_success() {
        let whole = envelope(
            r#"[{"messageid":8792343001,"message":"سلام","status":1,"statustext":"در صف","receptor":"09120000001",
                "localid":"11","cost":1200.5}]"#,
        );
        let sent = |body: Vec<u8>, status: u16| {
            Kavenegar::send_text(&script().reply(status, body), message(&TWO[..1]))
        };
        assert_eq!(ids(&sent(whole.clone().into_bytes(), 200).expect("accepted")), [Ok("8792343001")]);
        for body in testing::truncations(&whole) {
            for status in [200, 408, 502] {
                assert!(matches!(sent(body.clone(), status), Err(Error::UnknownOutcome(_))));
            }
            assert!(matches!(sent(body.clone(), 404), Err(Error::Unavailable(_))));
            assert!(matches!(sent(body.clone(), 503), Err(Error::BrokeDown(_))));
        }
        for body in testing::mutations(&whole) {
            if let Ok(receipts) = sent(body, 200) {
                assert_eq!(receipts.len(), 1);
            }
        }
    }

    #[test]
    fn the_api_key_is_in_no_error() {
        let url = "https://api.kavenegar.com/v1/4B6A%2Fsecret%3D/sms/send.json";
        for error in
            [HttpError::NotGranted, HttpError::InvalidRequest, HttpError::NotSent, HttpError::Unanswered]
        {
            let script = script().fail(error(format!("error sending request for url ({url})")));
            let shown = format!("{:?}", Kavenegar::send_text(&script, message(TWO)).expect_err("failed"));
            assert!(!shown.contains("secret") && !shown.contains(API_KEY), "{shown}");
        }
    }
}
