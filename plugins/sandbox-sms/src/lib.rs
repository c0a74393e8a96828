//! The provider for trying the gateway out: accepts everything, sends nothing, calls no host.
//!
//! A message's id is `sandbox-` and the gateway's own id, so that the same message always has the same id. The
//! gateway itself shows what was "sent" (its terminal and inbox); this plugin never prints a message.
//!
//! With the setting `fail` every send ends in that error of `types.error`, which lets tests and operators see
//! what the gateway does with each. Not here: real delivery, and anything that would need state.

use chelseru_plugin_sdk::sms::{
    Accepted, Limits, Recipient, Report, State, credit::Credit, status, template, text,
};
use chelseru_plugin_sdk::{
    Context, Description, Error, Plugin, Setting, SmsCredit, SmsStatus, SmsTemplate, SmsText, export_sms,
};

/// The sandbox.
pub struct SandboxSms;

export_sms!(SandboxSms: text, template, status, credit);

const ID_PREFIX: &str = "sandbox-";

/// One recipient at a time would do, but batches should be tried out too. Our own choice.
const LIMITS: Limits = Limits { recipients_max: 100, characters_max: 0, deduplicates: true };

impl Plugin for SandboxSms {
    fn describe() -> Description {
        let summary = "Accepts every message and sends none; for trying the gateway out.";
        let fail = "Simulated fault: invalid-recipient, invalid-message, invalid-template, unauthorized, \
             insufficient-credit, throttled, unavailable, rejected, unknown-outcome, broke-down or misconfigured.";
        Description::new("sandbox-sms", env!("CARGO_PKG_VERSION"), summary)
            .setting(Setting::text("fail", fail))
            .setting(
                Setting::integer("credit", "Messages the account pretends to have left.").default("1000000"),
            )
    }
}

/// Ends in the error that the setting `fail` names.
fn fault(context: &dyn Context) -> Result<(), Error> {
    let Some(name) = context.optional("fail") else { return Ok(()) };
    let text = "simulated";
    Err(match name.trim() {
        "invalid-recipient" => Error::invalid_recipient(name, text),
        "invalid-message" => Error::invalid_message(name, text),
        "invalid-template" => Error::invalid_template(name, text),
        "unauthorized" => Error::unauthorized(name, text),
        "insufficient-credit" => Error::insufficient_credit(name, text),
        "throttled" => Error::Throttled(Some(1)),
        "unavailable" => Error::unavailable(text),
        "rejected" => Error::rejected(name, text),
        "unknown-outcome" => Error::unknown_outcome(text),
        "broke-down" => Error::BrokeDown(text.to_owned()),
        "misconfigured" => Error::misconfigured(text),
        _ => Error::misconfigured("setting fail names no fault"),
    })
}

fn accepted(recipient: &Recipient) -> Accepted {
    let message_id = [ID_PREFIX, &recipient.local_id.to_string()].concat();
    Accepted { message_id, duplicate: false, cost_rial: Some(0) }
}

impl SmsText for SandboxSms {
    const TEXT_LIMITS: Limits = LIMITS;

    fn send_text(context: &dyn Context, message: text::Message) -> Result<Vec<text::Receipt>, Error> {
        fault(context)?;
        let recipients = message.recipients.into_iter();
        Ok(recipients.map(|r| text::Receipt { outcome: Ok(accepted(&r)), number: r.number }).collect())
    }
}

impl SmsTemplate for SandboxSms {
    const TEMPLATE_LIMITS: Limits = LIMITS;

    fn check_template(_: &template::Message) -> Result<(), Error> {
        Ok(())
    }

    fn send_template(context: &dyn Context, message: template::Message) -> Result<Accepted, Error> {
        fault(context)?;
        Ok(accepted(&message.recipient))
    }
}

impl SmsStatus for SandboxSms {
    const STATUS_LIMITS: status::Limits = status::Limits { ids_max: 500, age_seconds_max: 0 };

    fn status(_: &dyn Context, message_ids: Vec<String>) -> Result<Vec<Report>, Error> {
        let report = |message_id: String| {
            let ours = message_id.starts_with(ID_PREFIX);
            let (state, detail) =
                if ours { (State::Delivered, "sandbox") } else { (State::Unknown, "not ours") };
            Report { message_id, state, detail: detail.to_owned() }
        };
        Ok(message_ids.into_iter().map(report).collect())
    }
}

impl SmsCredit for SandboxSms {
    fn credit(context: &dyn Context) -> Result<Credit, Error> {
        let messages = context.integer("credit")?.unwrap_or(0);
        Ok(Credit::Messages(i64::try_from(messages).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chelseru_plugin_sdk::testing::Script;

    fn text_to(local_ids: &[u64]) -> text::Message {
        let recipient = |&local_id| Recipient { number: format!("+98912000{local_id:04}"), local_id };
        text::Message {
            recipients: local_ids.iter().map(recipient).collect(),
            text: "x".into(),
            sender: None,
        }
    }

    fn template() -> template::Message {
        let recipient = Recipient { number: "+989120000007".into(), local_id: 7 };
        template::Message { recipient, template: "login".into(), values: Vec::new() }
    }

    #[test]
    fn the_description_obeys_the_rules() {
        chelseru_plugin_sdk::testing::check_description::<SandboxSms>();
    }

    #[test]
    fn messages_are_accepted_under_their_local_id_without_a_request() {
        let script = Script::for_plugin::<SandboxSms>();
        let receipts = SandboxSms::send_text(&script, text_to(&[1, 2])).expect("accepted");
        let ids: Vec<_> =
            receipts.iter().map(|r| r.outcome.as_ref().expect("accepted").message_id.as_str()).collect();
        assert_eq!(ids, ["sandbox-1", "sandbox-2"]);
        assert_eq!(receipts[1].number, "+989120000002");
        assert_eq!(SandboxSms::send_template(&script, template()).expect("accepted").message_id, "sandbox-7");
        assert!(script.requests().is_empty());
    }

    #[test]
    fn own_messages_are_delivered_and_others_unknown() {
        let ids = vec!["sandbox-1".to_owned(), "5".to_owned()];
        let reports = SandboxSms::status(&Script::new(), ids).expect("answered");
        assert_eq!(reports.iter().map(|r| r.state).collect::<Vec<_>>(), [State::Delivered, State::Unknown]);
    }

    #[test]
    fn each_fault_can_be_simulated() {
        let names = [
            "invalid-recipient",
            "invalid-message",
            "invalid-template",
            "unauthorized",
            "insufficient-credit",
            "throttled",
            "unavailable",
            "rejected",
            "unknown-outcome",
            "broke-down",
            "misconfigured",
        ];
        let mut kinds = Vec::new();
        for name in names {
            let script = Script::for_plugin::<SandboxSms>().setting("fail", name);
            let error = SandboxSms::send_text(&script, text_to(&[1])).expect_err(name);
            assert_eq!(SandboxSms::send_template(&script, template()), Err(error.clone()));
            assert!(SandboxSms::describe().settings[0].help.contains(name), "{name} is documented");
            assert!(!kinds.contains(&std::mem::discriminant(&error)), "{name} is its own error");
            kinds.push(std::mem::discriminant(&error));
        }
        let script = Script::for_plugin::<SandboxSms>().setting("fail", "nonsense");
        assert!(matches!(SandboxSms::send_template(&script, template()), Err(Error::Misconfigured(_))));
    }

    #[test]
    fn credit_is_the_setting() {
        let script = Script::for_plugin::<SandboxSms>();
        assert_eq!(SandboxSms::credit(&script), Ok(Credit::Messages(1_000_000)));
        assert_eq!(SandboxSms::credit(&script.setting("credit", "3")), Ok(Credit::Messages(3)));
    }
}
