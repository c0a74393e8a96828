//! TITLE: what is sent where, and the page that says so.
//!
//! Replace what belongs to "Acme" by your provider; the rest is how every plugin looks.

use chelseru_plugin_sdk::http::Request;
use chelseru_plugin_sdk::sms::{Accepted, Limits, text};
use chelseru_plugin_sdk::{Context, Description, Error, Plugin, Setting, SmsText, export_sms, number};

/// The provider.
pub struct Acme;

// What it can do: text, template, status, credit, push. Each is a trait below; none is a stub.
export_sms!(Acme: text);

impl Plugin for Acme {
    fn describe() -> Description {
        Description::new("acme", env!("CARGO_PKG_VERSION"), "Acme SMS.")
            .setting(Setting::secret("api_key", "From acme.example, page API."))
            .base_url("https://api.acme.example", 10_000)
    }
}

impl SmsText for Acme {
    const TEXT_LIMITS: Limits = Limits { recipients_max: 1, characters_max: 0, deduplicates: false };

    fn send_text(context: &dyn Context, message: text::Message) -> Result<Vec<text::Receipt>, Error> {
        let (url, key) = (context.base_url()?, context.required("api_key")?);
        let mut receipts = Vec::new();
        for recipient in message.recipients {
            let Some(to) = number::national(&recipient.number) else {
                return Err(Error::invalid_recipient("", "not an Iranian number"));
            };
            let answer = Request::post([&url, "/send"].concat())
                .header("authorization", &key)
                .form(&[("to", &to), ("text", &message.text)])
                .hand_over(context)?;
            receipts.push(text::Receipt { number: recipient.number, outcome: Ok(accepted(&answer)?) });
        }
        Ok(receipts)
    }
}

/// `ok ID` or `error CODE`. Anything else may have been sent: it is unclear, and the gateway will not repeat it.
fn accepted(answer: &chelseru_plugin_sdk::http::Answer) -> Result<Accepted, Error> {
    let text = answer.text();
    match text.trim().split_once(' ') {
        Some(("ok", id)) if answer.is_success() => {
            Ok(Accepted { message_id: id.to_owned(), duplicate: false, cost_rial: None })
        }
        Some(("error", "7")) => Err(Error::insufficient_credit(7, "no credit")),
        Some(("error", code)) if code.parse::<u32>().is_ok() => Err(Error::rejected(code, "refused")),
        _ => Err(answer.unclear()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chelseru_plugin_sdk::sms::Recipient;
    use chelseru_plugin_sdk::testing::{self, Script};

    fn send(status: u16, body: &str) -> Result<Vec<text::Receipt>, Error> {
        let script = Script::for_plugin::<Acme>().setting("api_key", "k").reply(status, body);
        let recipients = vec![Recipient { number: "+989121234567".to_owned(), local_id: 1 }];
        let receipts =
            Acme::send_text(&script, text::Message { recipients, text: "Hello".to_owned(), sender: None });
        assert_eq!(script.form(0)[0], ("to".to_owned(), "09121234567".to_owned()));
        receipts
    }

    #[test]
    fn the_description_obeys_the_rules() {
        testing::check_description::<Acme>();
    }

    #[test]
    fn a_message_is_accepted_refused_or_unclear() {
        let receipts = send(200, "ok 17").expect("accepted");
        assert_eq!(receipts[0].outcome.as_ref().expect("accepted").message_id, "17");
        assert!(matches!(send(200, "error 7"), Err(Error::InsufficientCredit(_))));
        assert!(matches!(send(200, "<html>"), Err(Error::UnknownOutcome(_))));
    }
}
