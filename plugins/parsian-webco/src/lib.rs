//! The provider Parsian Webco (api.parsianwebco.ir): template, status, credit.
//!
//! The provider publishes no documentation; every name here comes from third-party clients (compared on
//! 2026-11-22), so answers are read without regard to case and in several shapes, and everything that is not
//! clearly a success or a refusal is an unknown outcome. It takes templates only: the values of `__1__`, `__2__`
//! ... in order, joined with commas. A comma inside a value would shift all later ones and is refused here.
//!
//! Not known: texts of refusals, delivery codes, the unit of the credit (hence the setting `credit_unit`).

use chelseru_plugin_sdk::http::{Answer, Request};
use chelseru_plugin_sdk::json::Node;
use chelseru_plugin_sdk::sms::credit::Credit;
use chelseru_plugin_sdk::sms::template::Message;
use chelseru_plugin_sdk::sms::{Accepted, Limits, Report, State, status};
use chelseru_plugin_sdk::{
    Context, Description, Error, Plugin, Setting, SmsCredit, SmsStatus, SmsTemplate, error, export_sms,
    number,
};

/// The plugin.
pub struct ParsianWebco;

export_sms!(ParsianWebco: template, status, credit);

/// Paths and form fields, as the clients spell them; here in one place, because none is certain.
mod name {
    pub(crate) const SEND: &str = "/webservice-send-sms/send";
    pub(crate) const CHECK: &str = "/webservice-check-sms/get";
    pub(crate) const CREDIT: &str = "/webservice-get-credit/get";
    pub(crate) const TOKEN: &str = "token";
    pub(crate) const TEMPLATE: &str = "TemplateID";
    pub(crate) const VALUES: &str = "MessageVars";
    pub(crate) const RECEIVER: &str = "Receiver";
    pub(crate) const DELAY: &str = "delay";
    pub(crate) const MESSAGE_ID: &str = "smsID";
    /// Where the id of a sent message may be, in an answer or in its `data`.
    pub(crate) const MESSAGE_IDS: [&str; 4] = ["smsID", "sms_id", "id", "messageId"];
    /// Where the credit may be.
    pub(crate) const CREDITS: [&str; 5] = ["credit", "balance", "amount", "value", "data"];
    /// Where a delivery state may be.
    pub(crate) const DELIVERIES: [&str; 5] = ["delivery", "deliveryStatus", "smsStatus", "state", "data"];
}

impl Plugin for ParsianWebco {
    fn describe() -> Description {
        let summary = "Parsian Webco: templates, delivery status, credit.";
        Description::new("parsian-webco", env!("CARGO_PKG_VERSION"), summary)
            .setting(Setting::secret("api_key", "API token from the Parsian Webco panel."))
            .setting(
                Setting::text(
                    "credit_unit",
                    "What the provider counts the credit in: messages, rial or toman.",
                )
                .default("messages"),
            )
            .base_url("https://api.parsianwebco.ir", 10_000)
    }
}

fn request(context: &dyn Context, path: &str, fields: &[(&str, &str)]) -> Result<Request, Error> {
    let (base, token) = (context.base_url()?, context.required("api_key")?);
    let mut form = vec![(name::TOKEN, token.trim())];
    form.extend_from_slice(fields);
    Ok(Request::post([&base, path].concat()).header("accept", "application/json").form(&form))
}

/// The answer of a request that was carried out.
///
/// # Errors
/// The refusal that the body's `status` names; [`Answer::unclear`] for a body without a known `status`.
fn accepted(answer: &Answer) -> Result<Node<'_>, Error> {
    let node = answer.json()?;
    match node.get_any_case("status").integer() {
        Some(200) => Ok(node),
        Some(100) => Err(Error::rejected(100, "refused without a reason")),
        Some(status @ (401 | 403)) => Err(Error::unauthorized(status, "not authenticated")),
        Some(429) => Err(Error::Throttled(answer.retry_after_secs())),
        // 408 of the provider's own says no more than HTTP's: it may have been carried out.
        Some(408) => Err(answer.unclear_with(408, "status 408")),
        Some(status @ 300..=499) => Err(Error::rejected(status, "refused")),
        Some(_) => Err(answer.unclear_because("an unknown status")),
        None => Err(answer.unclear_because("no status")),
    }
}

/// The first of these keys with a text, in the answer or in its `data`.
fn find<'n>(node: &'n Node<'_>, names: &[&str]) -> &'n str {
    let places = [node, node.get_any_case("data").items().first().unwrap_or(node)];
    let texts = places.into_iter().flat_map(|place| names.iter().map(|name| place.get_any_case(name).text()));
    texts.into_iter().find(|text| !text.is_empty()).unwrap_or("")
}

impl SmsTemplate for ParsianWebco {
    const TEMPLATE_LIMITS: Limits = Limits { recipients_max: 1, characters_max: 0, deduplicates: false };

    fn check_template(message: &Message) -> Result<(), Error> {
        fields(message).map(|_| ())
    }

    fn send_template(context: &dyn Context, message: Message) -> Result<Accepted, Error> {
        let Fields { receiver, template, values } = fields(&message)?;
        let mut form = vec![(name::TEMPLATE, template.as_str())];
        if !values.is_empty() {
            form.push((name::VALUES, &values));
        }
        // Every known client of this form sends 1; what it delays is not known.
        form.extend([(name::RECEIVER, receiver.as_str()), (name::DELAY, "1")]);
        let answer = request(context, name::SEND, &form)?.hand_over(context)?;
        let node = accepted(&answer)?;
        let id = Some(find(&node, &name::MESSAGE_IDS)).filter(|id| !id.is_empty());
        // A bare `"data": 123` is the only other shape that can be an id.
        let id = id.unwrap_or_else(|| node.get_any_case("data").text());
        let id = if id == "0" { "" } else { id };
        Ok(Accepted { message_id: id.to_owned(), duplicate: false, cost_rial: None })
    }
}

struct Fields {
    receiver: String,
    template: String,
    values: String,
}

/// The form values of a message that obeys the rules. The provider gives no reason for a refusal, so what can
/// be known here is checked here.
fn fields(message: &Message) -> Result<Fields, Error> {
    let receiver = number::national(&message.recipient.number)
        .ok_or_else(|| Error::invalid_recipient("", "not an Iranian number"))?;
    let template = number::fold_digits(message.template.trim());
    if template.parse::<u64>().is_err() {
        return Err(Error::invalid_template("", "the template id is not a whole number"));
    }
    if message.values.iter().any(|value| value.value.trim().is_empty()) {
        return Err(Error::invalid_message("", "a value is empty"));
    }
    if message.values.iter().any(|value| value.value.contains([',', '\n', '\r'])) {
        return Err(Error::invalid_message("", "a value has a comma or a line break"));
    }
    let values: Vec<&str> = message.values.iter().map(|value| value.value.as_str()).collect();
    Ok(Fields { receiver, template: template.into_owned(), values: values.join(",") })
}

impl SmsStatus for ParsianWebco {
    const STATUS_LIMITS: status::Limits = status::Limits { ids_max: 1, age_seconds_max: 0 };

    fn status(context: &dyn Context, message_ids: Vec<String>) -> Result<Vec<Report>, Error> {
        let report = |message_id: String| {
            let answer = request(context, name::CHECK, &[(name::MESSAGE_ID, &message_id)])?.ask(context)?;
            let (state, detail) = match accepted(&answer) {
                Ok(node) => {
                    let word = find(&node, &name::DELIVERIES);
                    (state(word), error::log_text(word))
                }
                // "Failed" to a question about an id: it does not know the id.
                Err(Error::Rejected(rejection)) => (State::Unknown, rejection.code),
                Err(error) => return Err(error),
            };
            Ok(Report { message_id, state, detail })
        };
        message_ids.into_iter().map(report).collect()
    }
}

/// The state of a delivery word. The provider's numbers are not known; whatever is not a plain English word
/// says only that the provider has the message.
fn state(word: &str) -> State {
    let is = |known: &[&str]| known.iter().any(|known| word.eq_ignore_ascii_case(known));
    if is(&["delivered"]) {
        State::Delivered
    } else if is(&["failed", "undelivered", "not delivered", "rejected", "blocked"]) {
        State::Failed
    } else if is(&["sent"]) {
        State::Sent
    } else {
        State::Queued
    }
}

impl SmsCredit for ParsianWebco {
    fn credit(context: &dyn Context) -> Result<Credit, Error> {
        let unit = context.optional("credit_unit");
        let answer = request(context, name::CREDIT, &[])?.ask(context)?;
        let node = accepted(&answer)?;
        let number = find(&node, &name::CREDITS);
        // Thousands are sometimes grouped for people.
        let number = Node::Text(number.replace(',', "").into()).whole_part();
        let number = number.ok_or_else(|| answer.unclear_because("no credit"))?;
        match unit.as_deref().map(str::trim) {
            None | Some("messages") => Ok(Credit::Messages(number)),
            Some("rial") => Ok(Credit::Rial(number)),
            Some("toman") => {
                let rial =
                    number.checked_mul(10).ok_or_else(|| answer.unclear_because("an impossible credit"))?;
                Ok(Credit::Rial(rial))
            }
            Some(_) => Err(Error::misconfigured("setting credit_unit is not messages, rial or toman")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chelseru_plugin_sdk::http::HttpError;
    use chelseru_plugin_sdk::sms::{Recipient, template::Value};
    use chelseru_plugin_sdk::testing::{self, Script};

    fn script() -> Script {
        Script::for_plugin::<ParsianWebco>().setting("api_key", "0a1b-secret")
    }

    fn message(values: &[&str]) -> Message {
        let recipient = Recipient { number: "+989120000001".into(), local_id: 1 };
        let value = |value: &&str| Value { name: String::new(), value: (*value).to_owned() };
        Message { recipient, template: "7".into(), values: values.iter().map(value).collect() }
    }

    fn send(status: u16, body: &str) -> Result<Accepted, Error> {
        ParsianWebco::send_template(&script().reply(status, body), message(&["482913"]))
    }

    #[test]
    fn the_description_obeys_the_rules() {
        chelseru_plugin_sdk::testing::check_description::<ParsianWebco>();
    }

    #[test]
    fn the_request_is_a_form_with_ordered_values() {
        let script = script().reply(200, r#"{"status":200}"#).reply(200, r#"{"status":200}"#);
        ParsianWebco::send_template(&script, message(&["482913", "سلام"])).expect("accepted");
        let expected = [
            ("token", "0a1b-secret"),
            ("TemplateID", "7"),
            ("MessageVars", "482913,سلام"),
            ("Receiver", "09120000001"),
            ("delay", "1"),
        ];
        assert_eq!(script.form(0), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(script.requests()[0].url, "https://api.parsianwebco.ir/webservice-send-sms/send");
        ParsianWebco::send_template(&script, message(&[])).expect("accepted");
        assert!(script.form(1).iter().all(|(key, _)| key != "MessageVars"));
    }

    #[test]
    fn an_accepted_message_takes_its_id_from_where_it_is() {
        for (body, id) in [
            (r#"{"status":200}"#, ""),
            (r#"{"Status":"۲۰۰","smsID":5461268677656004204}"#, "5461268677656004204"),
            (r#"{"status":"200","SmsId":"77"}"#, "77"),
            (r#"{"status":200,"ID":77}"#, "77"),
            (r#"{"status":200,"data":{"smsID":77}}"#, "77"),
            (r#"{"status":200,"data":[{"id":"77"}]}"#, "77"),
            (r#"{"status":200,"data":77}"#, "77"),
            (r#"{"status":200,"id":0}"#, ""),
        ] {
            assert_eq!(send(200, body).map(|accepted| accepted.message_id).as_deref(), Ok(id), "{body}");
        }
        assert!(send(500, r#"{"status":200}"#).is_ok(), "the body's status is the truth");
    }

    #[test]
    fn each_refusal_is_typed_in_the_body_or_as_http_status() {
        for (http_status, body, expected) in [
            (200, r#"{"status":100}"#, "Rejected"),
            (200, r#"{"status":401}"#, "Unauthorized"),
            (401, r#"{"status":"401"}"#, "Unauthorized"),
            (401, "", "Unauthorized"),
            (403, "<html>", "Unauthorized"),
            (429, "", "Throttled"),
            (200, r#"{"status":429}"#, "Throttled"),
            (200, r#"{"status":404}"#, "Rejected"),
            (200, r#"{"status":422}"#, "Rejected"),
            // Not the provider's own answer: whoever said it did not take the message.
            (302, "", "Unavailable"),
            (404, "<html>", "Unavailable"),
            (405, "<html>", "Unavailable"),
            (413, "<html>", "Unavailable"),
            (404, "{}", "Unavailable"),
        ] {
            let error = send(http_status, body).expect_err(body);
            assert!(
                format!("{error:?}").starts_with(&format!("Error::{expected}")),
                "{http_status} {body}: {error:?}"
            );
        }
    }

    #[test]
    fn whatever_is_unclear_is_an_unknown_outcome() {
        for (status, body) in [
            (200, ""),
            (200, "<html>ok 200</html>"),
            (200, "{}"),
            (200, "200"),
            (200, r#"{"status":true}"#),
            (200, r#"{"status":201}"#),
            (200, r#"{"status":500}"#),
            (200, r#"{"status":408}"#),
            (408, "<html>"),
            (504, ""),
            (502, "<html>"),
        ] {
            let error = send(status, body).expect_err(body);
            assert!(matches!(error, Error::UnknownOutcome(_)), "{status} {body}: {error:?}");
        }
        // A server that says it failed: the next provider.
        for status in [500, 501, 503] {
            let error = send(status, "<html>").expect_err("failed");
            assert!(matches!(error, Error::BrokeDown(_)), "{status}: {error:?}");
        }
        let cut = script().fail(HttpError::Unanswered("timed out".into()));
        let error = ParsianWebco::send_template(&cut, message(&["1"]));
        assert!(matches!(error, Err(Error::UnknownOutcome(_))));
    }

    #[test]
    fn a_broken_answer_never_panics_and_a_cut_one_is_never_a_success() {
        let whole = r#"{"status":"۲۰۰","data":[{"smsID":5461268677656004204,"text":"سلام"}],"credit":1.5}"#;
        for body in testing::truncations(whole) {
            let sent = ParsianWebco::send_template(&script().reply(200, body), message(&["1"]));
            assert!(matches!(sent, Err(Error::UnknownOutcome(_))));
        }
        for body in testing::mutations(whole) {
            let script = script().reply(200, body.clone()).reply(200, body.clone()).reply(200, body);
            // Each in turn; what they make of it is their own business, as long as they return.
            let _ = ParsianWebco::send_template(&script, message(&["1"]));
            let _ = ParsianWebco::status(&script, vec!["7".to_owned()]);
            let _ = ParsianWebco::credit(&script);
            assert_eq!(script.requests().len(), 3);
        }
    }

    #[test]
    fn what_the_provider_would_refuse_without_a_reason_is_refused_here() {
        for bad in ["a,b", "", " ", "a\nb"] {
            let error = ParsianWebco::check_template(&message(&["1", bad]));
            assert!(matches!(error, Err(Error::InvalidMessage(_))), "{bad:?}");
        }
        for template in ["", "login", "-1", "7.5"] {
            let message = Message { template: template.into(), ..message(&["1"]) };
            assert!(
                matches!(ParsianWebco::check_template(&message), Err(Error::InvalidTemplate(_))),
                "{template}"
            );
        }
        let persian = Message { template: " ۷ ".into(), ..message(&["1"]) };
        assert_eq!(ParsianWebco::check_template(&persian), Ok(()));
        let mut foreign = message(&["1"]);
        foreign.recipient.number = "+97450001234".into();
        let script = script();
        let error = ParsianWebco::send_template(&script, foreign);
        assert!(matches!(error, Err(Error::InvalidRecipient(_))));
        assert!(script.requests().is_empty());
    }

    #[test]
    fn a_delivery_word_is_a_state_and_anything_else_is_pending() {
        for (body, expected, detail) in [
            (r#"{"status":200,"delivery":"Delivered"}"#, State::Delivered, "Delivered"),
            (r#"{"status":200,"data":{"state":"failed"}}"#, State::Failed, "failed"),
            (r#"{"status":200,"smsStatus":"sent"}"#, State::Sent, "sent"),
            (r#"{"status":200,"data":3}"#, State::Queued, "3"),
            (r#"{"status":200}"#, State::Queued, ""),
            (r#"{"status":100}"#, State::Unknown, "100"),
        ] {
            let script = script().reply(200, body);
            let reports = ParsianWebco::status(&script, vec!["77".to_owned()]).expect(body);
            assert_eq!((reports[0].state, reports[0].detail.as_str()), (expected, detail), "{body}");
            assert_eq!(script.form(0)[1], ("smsID".to_owned(), "77".to_owned()));
        }
        let refused = ParsianWebco::status(&script().reply(200, r#"{"status":401}"#), vec!["77".to_owned()]);
        assert!(matches!(refused, Err(Error::Unauthorized(_))));
        let unclear = ParsianWebco::status(&script().reply(200, "<html>"), vec!["77".to_owned()]);
        assert!(matches!(unclear, Err(Error::Unavailable(_))));
    }

    #[test]
    fn credit_has_the_unit_of_the_setting() {
        for (unit, body, expected) in [
            ("messages", r#"{"status":200,"credit":"12,345"}"#, Credit::Messages(12_345)),
            ("rial", r#"{"status":200,"data":{"credit":1500.7}}"#, Credit::Rial(1500)),
            ("toman", r#"{"status":200,"data":"۱۵۰۰"}"#, Credit::Rial(15_000)),
        ] {
            let script = script().setting("credit_unit", unit).reply(200, body);
            assert_eq!(ParsianWebco::credit(&script), Ok(expected), "{unit}");
        }
        let wrong = script().setting("credit_unit", "euro").reply(200, r#"{"status":200,"credit":1}"#);
        assert!(matches!(ParsianWebco::credit(&wrong), Err(Error::Misconfigured(_))));
        let absent = script().reply(200, r#"{"status":200}"#);
        assert!(matches!(ParsianWebco::credit(&absent), Err(Error::Unavailable(_))));
    }
}
