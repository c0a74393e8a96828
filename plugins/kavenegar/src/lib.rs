//! The provider Kavenegar (api.kavenegar.com): text, template (lookup), status, credit and pushed reports.
//!
//! The truth of an answer is `return.status` in its body, whatever the HTTP status says; a body without it
//! means that the message may have been sent. The API key is a segment of the path and nowhere else, so no error
//! text may hold a URL (the SDK sees to it). Money is rial on both sides.
//!
//! Reading order: this file (settings, requests, the envelope), `code` (return codes to errors), `text`,
//! `template`, `status` (polling and pushed reports). Source of every number and name: the provider's REST
//! manual and its official client libraries, compared on 2026-11-22; where they disagree, both are accepted.

mod code;
mod status;
mod template;
mod text;

use chelseru_plugin_sdk::http::{Answer, Request};
use chelseru_plugin_sdk::json::Node;
use chelseru_plugin_sdk::sms::credit::Credit;
use chelseru_plugin_sdk::sms::{Accepted, Limits};
use chelseru_plugin_sdk::{Context, Description, Error, Plugin, Setting, SmsCredit, encode, export_sms};

/// The plugin.
pub struct Kavenegar;

export_sms!(Kavenegar: text, template, status, credit, push);

/// Recipients of one `sms/send`; more is return code 414.
const RECIPIENTS_MAX: u32 = 200;

/// Characters of one text; more is return code 413.
const CHARACTERS_MAX: u32 = 900;

/// `localid` is the provider's de-duplication key for `sms/send`.
const TEXT_LIMITS: Limits =
    Limits { recipients_max: RECIPIENTS_MAX, characters_max: CHARACTERS_MAX, deduplicates: true };

impl Plugin for Kavenegar {
    fn describe() -> Description {
        let sender = "Line to send from, such as 10004346; without it the account's default line.";
        Description::new(
            "kavenegar",
            env!("CARGO_PKG_VERSION"),
            "Kavenegar: texts, lookup templates, reports.",
        )
        .setting(Setting::secret(
            "api_key",
            "API key from the Kavenegar panel, page of the account's settings.",
        ))
        .setting(Setting::text("sender", sender))
        .base_url("https://api.kavenegar.com", 10_000)
    }
}

impl SmsCredit for Kavenegar {
    fn credit(context: &dyn Context) -> Result<Credit, Error> {
        let answer = request(context, "account/info", &[])?.ask(context)?;
        let credit =
            entries(&answer)?.items().first().and_then(|account| account.get("remaincredit").whole_part());
        credit.map(Credit::Rial).ok_or_else(|| answer.unclear_because("no remaincredit"))
    }
}

/// A request to `METHOD.json` with form fields. POST, so that neither text nor number is in a URL.
fn request(context: &dyn Context, method: &str, fields: &[(&str, &str)]) -> Result<Request, Error> {
    let (base, key) = (context.base_url()?, context.required("api_key")?);
    let url = [&base, "/v1/", &encode::segment(key.trim()), "/", method, ".json"].concat();
    Ok(Request::post(url).header("accept", "application/json").form(fields))
}

/// The `entries` of a successful answer: an array, one object, or nothing.
///
/// # Errors
/// The typed error of the return code; `unclear` when there is no return code.
fn entries(answer: &Answer) -> Result<Node<'_>, Error> {
    let mut envelope = answer.json()?;
    let result = envelope.get("return");
    match result.get("status").integer() {
        Some(code::OK) => Ok(envelope.take("entries")),
        Some(status) => Err(code::error(status, result.get("message").text(), answer)),
        None => Err(answer.unclear_because("no return status")),
    }
}

/// What became of one entry of a send: one may be refused where others are accepted.
fn outcome(entry: &Node) -> Result<Accepted, Error> {
    let status = entry.get("status").integer();
    match status {
        // Queued, scheduled, handed to the carrier (twice), delivered.
        Some(1 | 2 | 4 | 5 | 10) => Ok(Accepted {
            // The provider's ids are positive, so zero is none.
            message_id: Some(entry.get("messageid").text())
                .filter(|id| *id != "0")
                .unwrap_or_default()
                .to_owned(),
            // For a known localid the stored record is returned and looks like a new one, unless it has gone so
            // far that it cannot be.
            duplicate: status == Some(10),
            cost_rial: entry.get("cost").integer().and_then(|cost| u64::try_from(cost).ok()),
        }),
        // Failed at the line, undelivered, cancelled (refunded), blocked by the recipient, unknown id.
        Some(failed @ (6 | 11 | 13 | 14 | 100)) => {
            Err(Error::rejected(failed, entry.get("statustext").text()))
        }
        _ => Err(Error::unknown_outcome("an entry with an unknown status")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chelseru_plugin_sdk::testing::Script;

    pub(crate) const API_KEY: &str = "4B6A/secret=";

    pub(crate) fn script() -> Script {
        Script::for_plugin::<Kavenegar>().setting("api_key", API_KEY)
    }

    #[test]
    fn the_description_obeys_the_rules() {
        chelseru_plugin_sdk::testing::check_description::<Kavenegar>();
    }

    #[test]
    fn credit_is_rial_from_an_object_or_an_array() {
        for entries in [r#"{"remaincredit":-1500000,"type":"master"}"#, r#"[{"remaincredit":"-1500000"}]"#] {
            let script = script().reply(200, format!(r#"{{"return":{{"status":200}},"entries":{entries}}}"#));
            assert_eq!(Kavenegar::credit(&script), Ok(Credit::Rial(-1_500_000)));
            assert_eq!(
                script.requests()[0].url,
                "https://api.kavenegar.com/v1/4B6A%2Fsecret%3D/account/info.json"
            );
        }
    }

    #[test]
    fn an_unclear_answer_to_a_question_is_unavailable() {
        for body in ["", "<html>", "{}", r#"{"return":{"status":200},"entries":{}}"#] {
            assert!(
                matches!(Kavenegar::credit(&script().reply(200, body)), Err(Error::Unavailable(_))),
                "{body}"
            );
        }
    }

    #[test]
    fn a_missing_key_is_misconfigured_and_asks_nothing() {
        let script = Script::for_plugin::<Kavenegar>();
        assert!(matches!(Kavenegar::credit(&script), Err(Error::Misconfigured(_))));
        assert!(script.requests().is_empty());
    }
}
