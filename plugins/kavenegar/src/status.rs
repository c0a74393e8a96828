//! `sms/status`, and the reports the provider pushes to a callback URL.
//!
//! Both use the same states. No public source names the fields of a push, so `messageid` and `status` are read without
//! regard to case from the query, from a form body, or from JSON: one object, an array of objects, or either of them
//! under `entries`. A push of an incoming message (`from` or `message`, and no status) holds no report. Anything else
//! is an error, so that the gateway answers 4xx and counts it.

use chelseru_plugin_sdk::json::Node;
use chelseru_plugin_sdk::sms::push::Delivery;
use chelseru_plugin_sdk::sms::{Report, State, status};
use chelseru_plugin_sdk::{Context, Error, SmsPush, SmsStatus, encode, number};

use crate::{Kavenegar, entries, request};

/// Ids in one `sms/status`; more is return code 414.
const IDS_MAX: u32 = 500;

/// The provider forgets a message after 48 hours and then answers status 100.
const AGE_SECONDS_MAX: u64 = 48 * 60 * 60;

impl SmsStatus for Kavenegar {
    const STATUS_LIMITS: status::Limits =
        status::Limits { ids_max: IDS_MAX, age_seconds_max: AGE_SECONDS_MAX };

    fn status(context: &dyn Context, message_ids: Vec<String>) -> Result<Vec<Report>, Error> {
        // An id that is no number was never the provider's, and a comma in it would shift the list.
        let ours = |id: &&str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        let asked: Vec<&str> = message_ids.iter().map(String::as_str).filter(ours).collect();
        let asked = asked.join(",");
        let answer = match asked.as_str() {
            "" => None,
            ids => Some(request(context, "sms/status", &[("messageid", ids)])?.ask(context)?),
        };
        let known = answer.as_ref().map(entries).transpose()?.unwrap_or_default();
        let report = |(index, message_id): (usize, String)| {
            let of_id = |entry: &&Node| entry.get("messageid").text() == message_id;
            // The answer usually keeps the order; a search for each of 500 ids is a fallback that costs no table.
            let found = known.items().get(index).filter(of_id).or_else(|| known.items().iter().find(of_id));
            let Some(entry) = found else {
                return Report { message_id, state: State::Unknown, detail: "not in the answer".to_owned() };
            };
            let detail = [entry.get("status").text(), " ", entry.get("statustext").text()].concat();
            Report {
                state: state(entry.get("status").integer()),
                detail: detail.trim().to_owned(),
                message_id,
            }
        };
        Ok(message_ids.into_iter().enumerate().map(report).collect())
    }
}

fn state(status: Option<i64>) -> State {
    match status {
        // Queued, scheduled.
        Some(1 | 2) => State::Queued,
        Some(4 | 5) => State::Sent,
        Some(10) => State::Delivered,
        // Failed at the line, undelivered, cancelled, blocked by the recipient.
        Some(6 | 11 | 13 | 14) => State::Failed,
        // 100 and what no source names.
        _ => State::Unknown,
    }
}

impl SmsPush for Kavenegar {
    fn parse_push(delivery: Delivery) -> Result<Vec<Report>, String> {
        let body = delivery.body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&delivery.body);
        if matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
            return json_reports(body);
        }
        let mut pairs = encode::form_decode(&delivery.query);
        pairs.extend(encode::form_decode(&String::from_utf8_lossy(body)));
        // Repeated fields and comma lists both mean several values.
        let values = |name: &str| -> Vec<&str> {
            let named = pairs.iter().filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
            named
                .flat_map(|(_, value)| value.split(','))
                .map(str::trim)
                .filter(|value| !value.is_empty())
                .collect()
        };
        let (ids, statuses) = (values("messageid"), values("status"));
        if statuses.is_empty() && !(values("from").is_empty() && values("message").is_empty()) {
            return Ok(Vec::new());
        }
        if ids.is_empty() && statuses.is_empty() {
            return Err("no messageid and no status".to_owned());
        }
        if ids.len() != statuses.len() {
            return Err(format!("{} messageid for {} status", ids.len(), statuses.len()));
        }
        ids.into_iter().zip(statuses).map(|(id, status)| pushed(id, status)).collect()
    }
}

/// The reports in a JSON body.
fn json_reports(body: &[u8]) -> Result<Vec<Report>, String> {
    let node = Node::parse(body).map_err(|_| "the body is not JSON".to_owned())?;
    let entries = node.get_any_case("entries");
    let items = if entries == &Node::Null { node.items() } else { entries.items() };
    if items.is_empty() {
        return Err("no messageid and no status".to_owned());
    }
    let mut reports = Vec::with_capacity(items.len());
    for item in items {
        let get = |name: &str| item.get_any_case(name).text();
        let (id, status) = (get("messageid"), get("status"));
        if status.is_empty() && !(get("from").is_empty() && get("message").is_empty()) {
            continue;
        }
        if id.is_empty() || status.is_empty() {
            return Err("an entry without messageid or status".to_owned());
        }
        reports.push(pushed(id, status)?);
    }
    Ok(reports)
}

fn pushed(id: &str, status: &str) -> Result<Report, String> {
    let code = number::fold_digits(status).parse::<i64>();
    let code = code.map_err(|_| "status is not a number".to_owned())?;
    let id = number::fold_digits(id);
    if !id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("messageid is not a number".to_owned());
    }
    Ok(Report { message_id: id.into_owned(), state: state(Some(code)), detail: code.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::script;

    fn push(query: &str, body: &str) -> Result<Vec<(String, State)>, String> {
        let delivery =
            Delivery { method: "POST".into(), query: query.into(), headers: Vec::new(), body: body.into() };
        let reports = Kavenegar::parse_push(delivery)?;
        Ok(reports.into_iter().map(|report| (report.message_id, report.state)).collect())
    }

    #[test]
    fn reports_come_in_the_order_of_the_ids_whatever_the_answers_order() {
        let body = r#"{"return":{"status":200},"entries":[
            {"messageid":"12","status":10,"statustext":"رسیده"},{"messageid":9,"status":"4"}]}"#;
        let script = script().reply(200, body);
        let ids = ["9", "x,1", "12", "77"].map(str::to_owned);
        let reports = Kavenegar::status(&script, ids.to_vec()).expect("answered");
        let seen: Vec<_> =
            reports.iter().map(|r| (r.message_id.as_str(), r.state, r.detail.as_str())).collect();
        let absent = "not in the answer";
        assert_eq!(
            seen,
            [
                ("9", State::Sent, "4"),
                ("x,1", State::Unknown, absent),
                ("12", State::Delivered, "10 رسیده"),
                ("77", State::Unknown, absent),
            ]
        );
        assert_eq!(script.form(0), [("messageid".to_owned(), "9,12,77".to_owned())]);
    }

    #[test]
    fn no_id_of_the_provider_means_no_request() {
        let script = script();
        let reports = Kavenegar::status(&script, vec!["sandbox-1".to_owned()]).expect("answered");
        assert_eq!(reports[0].state, State::Unknown);
        assert!(script.requests().is_empty());
    }

    #[test]
    fn each_documented_status_is_its_state() {
        for (status, expected) in [
            (1, State::Queued),
            (2, State::Queued),
            (4, State::Sent),
            (5, State::Sent),
            (6, State::Failed),
            (10, State::Delivered),
            (11, State::Failed),
            (13, State::Failed),
            (14, State::Failed),
            (100, State::Unknown),
            (50, State::Unknown),
            (-1, State::Unknown),
        ] {
            assert_eq!(state(Some(status)), expected, "{status}");
        }
        assert_eq!(state(None), State::Unknown);
    }

    #[test]
    fn a_refused_question_is_its_typed_error() {
        let script =
            script().reply(403, r#"{"return":{"status":403,"message":"کلید نامعتبر"},"entries":null}"#);
        let error = Kavenegar::status(&script, vec!["1".to_owned()]);
        assert_eq!(error, Err(Error::unauthorized(403, "کلید نامعتبر")));
    }

    #[test]
    fn pushed_reports_are_read_from_query_and_form() {
        let one = Ok(vec![("8792343001".to_owned(), State::Delivered)]);
        assert_eq!(push("messageid=8792343001&status=10", ""), one);
        assert_eq!(push("", "status=10&MessageId=8792343001"), one);
        assert_eq!(push("messageid=8792343001", "status=%DB%B1%DB%B0"), one);
        let two = Ok(vec![("1".to_owned(), State::Sent), ("2".to_owned(), State::Failed)]);
        assert_eq!(push("messageid=1,2&status=5,11", ""), two);
        assert_eq!(push("messageid=1&status=5&messageid=2&status=11", ""), two);
    }

    #[test]
    fn pushed_reports_are_read_from_json() {
        let one = Ok(vec![("5461268677656004204".to_owned(), State::Delivered)]);
        for body in [
            r#"{"messageid":5461268677656004204,"status":10}"#,
            r#"{"MessageId":"5461268677656004204","Status":"۱۰","extra":{"a":[1]}}"#,
            "\u{feff} [{\"messageid\":5461268677656004204,\"status\":\"10\"}]",
            r#"{"entries":[{"messageid":5461268677656004204,"status":10}]}"#,
            r#"{"entries":{"messageid":5461268677656004204,"status":10}}"#,
        ] {
            assert_eq!(push("", body), one, "{body}");
        }
        let two = r#"[{"messageid":1,"status":5},{"messageid":2,"status":11}]"#;
        assert_eq!(
            push("a=b", two),
            Ok(vec![("1".to_owned(), State::Sent), ("2".to_owned(), State::Failed)])
        );
        let incoming = r#"{"messageid":1,"from":"09120000001","to":"1000","message":"hi"}"#;
        assert_eq!(push("", incoming), Ok(Vec::new()));
        for (body, told) in [
            ("{", "the body is not JSON"),
            ("[]", "no messageid and no status"),
            ("[1]", "an entry without messageid or status"),
            ("{}", "an entry without messageid or status"),
            (r#"{"messageid":1}"#, "an entry without messageid or status"),
            (r#"{"messageid":1.5e400,"status":1}"#, "messageid is not a number"),
            (r#"{"messageid":1,"status":10.9}"#, "status is not a number"),
            (r#"{"messageid":-1,"status":1}"#, "messageid is not a number"),
            (r#"{"messageid":1,"status":"sent"}"#, "status is not a number"),
        ] {
            assert_eq!(push("", body), Err(told.to_owned()), "{body}");
        }
    }

    #[test]
    fn a_broken_push_never_panics() {
        for bytes in chelseru_plugin_sdk::testing::mutations("messageid=1,2&status=%DB%B1,11&from=a+b") {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            for (query, body) in [(text.as_str(), ""), ("", text.as_str())] {
                if let Ok(reports) = push(query, body) {
                    assert!(reports.len() <= 3, "{text}");
                }
            }
        }
        for bytes in chelseru_plugin_sdk::testing::mutations(r#"{"entries":[{"messageid":1,"status":"10"}]}"#)
        {
            if let Ok(reports) = push("", &String::from_utf8_lossy(&bytes)) {
                assert!(reports.len() <= 1);
            }
        }
    }

    #[test]
    fn a_push_without_a_report_is_empty_and_a_broken_one_is_named() {
        assert_eq!(push("messageid=1&from=09120000001&to=1000&message=hi", ""), Ok(Vec::new()));
        for (query, body) in [("", ""), ("a=b", ""), ("", "hello"), ("", "<xml/>")] {
            assert_eq!(push(query, body), Err("no messageid and no status".to_owned()), "{query} {body}");
        }
        assert_eq!(push("messageid=1", ""), Err("1 messageid for 0 status".to_owned()));
        assert_eq!(push("status=10", ""), Err("0 messageid for 1 status".to_owned()));
        assert_eq!(push("messageid=1,2&status=10", ""), Err("2 messageid for 1 status".to_owned()));
        assert_eq!(push("messageid=1&status=sent", ""), Err("status is not a number".to_owned()));
        assert_eq!(push("messageid=a&status=1", ""), Err("messageid is not a number".to_owned()));
    }
}
