//! The provider Meli Payamak (payamak-panel.com, melipayamak.com): text, template, status, credit.
//!
//! The provider has three interfaces to the same lines, and this plugin speaks all: `rest` (user and password in
//! a form), `soap` (the same in XML, for old accounts; no WSDL is fetched), and `console` (a token in the path,
//! JSON). The setting `api` chooses; without it a `console_token` means `console`, else `rest`.
//!
//! No interface takes an id of ours, so a message whose answer is missing has an unknown outcome. A success is
//! a message id of ten or more digits and nothing else: other numbers are codes, see `code`. Source: the
//! provider's method pages and official clients, compared on 2026-11-22.
//!
//! Reading order: this file, `code`, then one interface: `rest`, `soap`, `console`.

mod code;
mod console;
mod rest;
mod soap;

use chelseru_plugin_sdk::sms::credit::Credit;
use chelseru_plugin_sdk::sms::text::Receipt;
use chelseru_plugin_sdk::sms::{Accepted, Limits, Report, State, status, template, text};
use chelseru_plugin_sdk::{
    Context, Description, Error, Plugin, Setting, SmsCredit, SmsStatus, SmsTemplate, SmsText, context,
    export_sms, number,
};

/// The plugin.
pub struct MeliPayamak;

export_sms!(MeliPayamak: text, template, status, credit);

/// Recipients of one `SendSimpleSMS`; the other interfaces name no limit.
const RECIPIENTS_MAX: u32 = 100;

/// Ids of one `receive/status` of the console. The older interfaces take one.
const CONSOLE_IDS_MAX: u32 = 100;

const LIMITS: Limits = Limits { recipients_max: RECIPIENTS_MAX, characters_max: 0, deduplicates: false };

/// What became of each recipient, in order, or of all at once.
type Outcomes = Result<Vec<Result<Accepted, Error>>, Error>;

/// The interface of one call with its address and credentials.
enum Api {
    Rest(Login),
    Soap(Login),
    Console { base: String, token: String },
}

struct Login {
    base: String,
    username: String,
    password: String,
}

/// One text to one or more national numbers.
struct Outgoing<'m> {
    to: &'m [&'m str],
    from: &'m str,
    text: &'m str,
}

/// One filled template to one national number.
struct Filled<'m> {
    to: &'m str,
    body_id: u64,
    values: Vec<&'m str>,
}

impl Filled<'_> {
    /// The values as the older interfaces want them.
    fn joined(&self) -> String {
        self.values.join(";")
    }
}

impl Api {
    fn of(context: &dyn Context) -> Result<Self, Error> {
        let chosen = context.optional("api");
        let token = context.optional("console_token");
        let chosen = match chosen.as_deref().map(str::trim) {
            Some(chosen) => chosen,
            None if token.is_some() => "console",
            None => "rest",
        };
        let base = |default: &str| match context.optional(context::BASE_URL) {
            Some(_) => context.base_url(),
            None => Ok(default.to_owned()),
        };
        let login = |default: &str| -> Result<Login, Error> {
            let (username, password) = (context.required("username")?, context.required("password")?);
            Ok(Login { base: base(default)?, username, password })
        };
        match chosen {
            "rest" => Ok(Self::Rest(login(rest::BASE)?)),
            "soap" => Ok(Self::Soap(login(soap::BASE)?)),
            "console" => {
                let token = context.required("console_token")?.trim().to_owned();
                Ok(Self::Console { base: base(console::BASE)?, token })
            }
            _ => Err(Error::misconfigured("setting api is not rest, soap or console")),
        }
    }
}

fn host(url: &str) -> &str {
    url.trim_start_matches("https://")
}

impl Plugin for MeliPayamak {
    fn describe() -> Description {
        let summary = "Meli Payamak: texts, templates (shared service), delivery status, credit.";
        let api = "Interface to use: rest, soap or console; without it console when console_token is set, else rest.";
        let base_url = "Address of the chosen interface; a test or a relay overrides it.";
        let hosts = [rest::BASE, soap::BASE, console::BASE].map(host);
        Description::new("meli-payamak", env!("CARGO_PKG_VERSION"), summary)
            .setting(Setting::text("username", "User name of the panel (rest and soap)."))
            .setting(
                Setting::secret("password", "Password or ApiKey of the panel (rest and soap).").optional(),
            )
            .setting(Setting::secret("console_token", "Token of the console interface.").optional())
            .setting(Setting::text("sender", "Line to send texts from; templates need none."))
            .setting(Setting::text("api", api))
            .setting(Setting::url(context::BASE_URL, base_url).replaces(&hosts))
            .setting(
                Setting::integer(
                    context::REQUEST_TIMEOUT_MS,
                    "Milliseconds to wait for one answer of the provider.",
                )
                .default("10000"),
            )
            .host(hosts[0])
            .host(hosts[1])
            .host(hosts[2])
    }
}

impl SmsText for MeliPayamak {
    const TEXT_LIMITS: Limits = LIMITS;

    fn send_text(context: &dyn Context, message: text::Message) -> Result<Vec<Receipt>, Error> {
        let api = Api::of(context)?;
        let from = message.sender.filter(|line| !line.trim().is_empty());
        let from = from.map_or_else(|| context.required("sender"), Ok)?;
        let national: Vec<Option<String>> =
            message.recipients.iter().map(|recipient| number::national(&recipient.number)).collect();
        let to: Vec<&str> = national.iter().flatten().map(String::as_str).collect();
        let outgoing = Outgoing { to: &to, from: from.trim(), text: &message.text };
        let outcomes = match api {
            _ if to.is_empty() => Vec::new(),
            Api::Rest(login) => rest::send(context, &login, &outgoing)?,
            Api::Soap(login) => soap::send(context, &login, &outgoing)?,
            Api::Console { base, token } => console::send(context, &base, &token, &outgoing)?,
        };
        let mut outcomes = outcomes.into_iter();
        let receipt = |(recipient, to): (chelseru_plugin_sdk::sms::Recipient, Option<String>)| Receipt {
            number: recipient.number,
            outcome: match to {
                None => Err(Error::invalid_recipient("", "not an Iranian number")),
                Some(_) => outcomes
                    .next()
                    .unwrap_or_else(|| Err(Error::unknown_outcome("no result for this recipient"))),
            },
        };
        Ok(message.recipients.into_iter().zip(national).map(receipt).collect())
    }
}

/// The results of a call, when there is one for each recipient.
///
/// # Errors
/// A single refusal holds for all. Any other count says nothing about anyone.
fn one_each(recipients: usize, mut results: Vec<Result<Accepted, Error>>) -> Outcomes {
    if results.len() == recipients {
        return Ok(results);
    }
    match (results.pop(), results.is_empty()) {
        (Some(Err(error)), true) => Err(error),
        _ => Err(Error::unknown_outcome("not one result for each recipient")),
    }
}

impl SmsTemplate for MeliPayamak {
    const TEMPLATE_LIMITS: Limits = Limits { recipients_max: 1, ..LIMITS };

    fn check_template(message: &template::Message) -> Result<(), Error> {
        let to = number::national(&message.recipient.number);
        fill(message, to.as_deref()).map(|_| ())
    }

    fn send_template(context: &dyn Context, message: template::Message) -> Result<Accepted, Error> {
        let to = number::national(&message.recipient.number);
        let filled = fill(&message, to.as_deref())?;
        match Api::of(context)? {
            Api::Rest(login) => rest::send_template(context, &login, &filled),
            Api::Soap(login) => soap::send_template(context, &login, &filled),
            Api::Console { base, token } => console::send_template(context, &base, &token, &filled),
        }
    }
}

/// Checks a message. A semicolon in a value would shift all later ones.
fn fill<'m>(message: &'m template::Message, to: Option<&'m str>) -> Result<Filled<'m>, Error> {
    let to = to.ok_or_else(|| Error::invalid_recipient("", "not an Iranian number"))?;
    let body_id = number::fold_digits(message.template.trim()).parse();
    let body_id =
        body_id.map_err(|_| Error::invalid_template("", "the template id is not a whole number"))?;
    if message.values.iter().any(|value| value.value.trim().is_empty()) {
        return Err(Error::invalid_message("", "a value is empty"));
    }
    if message.values.iter().any(|value| value.value.contains(';')) {
        return Err(Error::invalid_message("", "a value has a semicolon"));
    }
    Ok(Filled { to, body_id, values: message.values.iter().map(|value| value.value.as_str()).collect() })
}

impl SmsStatus for MeliPayamak {
    const STATUS_LIMITS: status::Limits = status::Limits { ids_max: 1, age_seconds_max: 0 };

    fn status_limits(context: &dyn Context) -> status::Limits {
        let ids_max = if matches!(Api::of(context), Ok(Api::Console { .. })) { CONSOLE_IDS_MAX } else { 1 };
        status::Limits { ids_max, ..Self::STATUS_LIMITS }
    }

    fn status(context: &dyn Context, message_ids: Vec<String>) -> Result<Vec<Report>, Error> {
        // An id that is no number was never the provider's.
        let ours = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        let asked: Vec<&str> = message_ids.iter().map(String::as_str).filter(|id| ours(id)).collect();
        let mut codes = Vec::new();
        if !asked.is_empty() {
            codes = match Api::of(context)? {
                Api::Rest(login) => {
                    asked.iter().map(|id| rest::delivery(context, &login, id)).collect::<Result<_, _>>()?
                }
                Api::Soap(login) => {
                    asked.iter().map(|id| soap::delivery(context, &login, id)).collect::<Result<_, _>>()?
                }
                Api::Console { base, token } => console::deliveries(context, &base, &token, &asked)?,
            };
        }
        let mut codes = codes.into_iter();
        let report = |message_id: String| {
            let code = if ours(&message_id) { codes.next().flatten() } else { None };
            let state = code.map_or(State::Unknown, code::delivery);
            let detail = code.map_or_else(|| "not in the answer".to_owned(), |code| code.to_string());
            Report { message_id, state, detail }
        };
        Ok(message_ids.into_iter().map(report).collect())
    }
}

impl SmsCredit for MeliPayamak {
    /// The provider states no unit; its panel counts messages.
    fn credit(context: &dyn Context) -> Result<Credit, Error> {
        let messages = match Api::of(context)? {
            Api::Rest(login) => rest::credit(context, &login),
            Api::Soap(login) => soap::credit(context, &login),
            Api::Console { base, token } => console::credit(context, &base, &token),
        };
        messages.map(Credit::Messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chelseru_plugin_sdk::http::HttpError;
    use chelseru_plugin_sdk::sms::{Recipient, template::Value};
    use chelseru_plugin_sdk::testing::{self, Script};

    pub(crate) const ONE: &[&str] = &["+989120000001"];
    pub(crate) const TWO: &[&str] = &["+989120000001", "+989120000002"];
    pub(crate) const ID: &str = "5461268677656004204";

    /// Credentials of all interfaces; `api` chooses.
    pub(crate) fn script(api: &str) -> Script {
        let script =
            Script::for_plugin::<MeliPayamak>().setting("username", "user").setting("password", "p&<w");
        script.setting("console_token", "to/ken").setting("sender", "5000").setting("api", api)
    }

    pub(crate) fn texts(numbers: &[&str]) -> text::Message {
        let recipient = |number: &&str| Recipient { number: (*number).to_owned(), local_id: 1 };
        text::Message {
            recipients: numbers.iter().map(recipient).collect(),
            text: "سلام & <b>".into(),
            sender: None,
        }
    }

    pub(crate) fn filled(values: &[&str]) -> template::Message {
        let recipient = Recipient { number: "+989120000001".into(), local_id: 1 };
        let value = |value: &&str| Value { name: String::new(), value: (*value).to_owned() };
        template::Message { recipient, template: "12345".into(), values: values.iter().map(value).collect() }
    }

    /// The ids of the receipts, or "-" for an error.
    pub(crate) fn ids(receipts: &[Receipt]) -> Vec<&str> {
        receipts.iter().map(|r| r.outcome.as_ref().map_or("-", |accepted| &accepted.message_id)).collect()
    }

    #[test]
    fn the_description_obeys_the_rules() {
        chelseru_plugin_sdk::testing::check_description::<MeliPayamak>();
    }

    #[test]
    fn the_interface_follows_the_settings() {
        let url_of = |script: Script| {
            let script = script.fail(HttpError::NotSent("x".into()));
            MeliPayamak::credit(&script).expect_err("not sent");
            script.requests()[0].url.clone()
        };
        assert_eq!(url_of(script("rest")), "https://rest.payamak-panel.com/api/SendSMS/GetCredit");
        assert_eq!(url_of(script("soap")), "https://api.payamak-panel.com/post/send.asmx");
        let console = "https://console.melipayamak.com/api/receive/credit/to%2Fken";
        assert_eq!(url_of(script("console")), console);
        assert_eq!(url_of(script("")), console, "a token alone means the console");
        let login_only =
            Script::for_plugin::<MeliPayamak>().setting("username", "u").setting("password", "p");
        assert_eq!(url_of(login_only), "https://rest.payamak-panel.com/api/SendSMS/GetCredit");
        let relay = script("rest").setting("base_url", "http://127.0.0.1:9/x/");
        assert_eq!(url_of(relay), "http://127.0.0.1:9/x/api/SendSMS/GetCredit");
    }

    #[test]
    fn missing_credentials_and_unknown_interfaces_are_misconfigured() {
        for script in [
            Script::for_plugin::<MeliPayamak>(),
            Script::for_plugin::<MeliPayamak>().setting("username", "u"),
            Script::for_plugin::<MeliPayamak>().setting("api", "console"),
            script("xml"),
        ] {
            assert!(matches!(MeliPayamak::credit(&script), Err(Error::Misconfigured(_))));
            assert!(script.requests().is_empty());
        }
        let no_line = script("rest").setting("sender", "");
        assert!(matches!(MeliPayamak::send_text(&no_line, texts(ONE)), Err(Error::Misconfigured(_))));
    }

    #[test]
    fn hosts_of_all_interfaces_are_asked_for() {
        let hosts = ["rest.payamak-panel.com", "api.payamak-panel.com", "console.melipayamak.com"];
        let described = MeliPayamak::describe();
        assert_eq!(described.hosts, hosts);
        let base_url =
            described.settings.iter().find(|setting| setting.key == "base_url").expect("described");
        assert_eq!(base_url.replaces, hosts, "one relay stands for all three");
    }

    #[test]
    fn a_number_that_is_not_iranian_never_reaches_the_request() {
        let script = script("rest").reply(200, format!(r#"{{"Value":"{ID}"}}"#));
        let numbers: &[_] = &["+98912,0000001", "+989120000002", "+97450001234"];
        let receipts = MeliPayamak::send_text(&script, texts(numbers)).expect("answered");
        assert_eq!(ids(&receipts), ["-", ID, "-"]);
        assert!(matches!(receipts[0].outcome, Err(Error::InvalidRecipient(_))));
        assert_eq!(script.form(0)[2], ("to".to_owned(), "09120000002".to_owned()));
        let none = crate::tests::script("rest");
        MeliPayamak::send_text(&none, texts(&numbers[..1])).expect("answered without the provider");
        assert!(none.requests().is_empty());
    }

    #[test]
    fn templates_are_checked_before_the_network() {
        for (template, values, expected) in [
            ("12345", &["a;b"] as &[_], "InvalidMessage"),
            ("12345", &["a", " "], "InvalidMessage"),
            ("login", &["a"], "InvalidTemplate"),
            ("", &["a"], "InvalidTemplate"),
        ] {
            let message = template::Message { template: template.into(), ..filled(values) };
            let script = script("rest");
            let error = MeliPayamak::send_template(&script, message.clone()).expect_err("refused");
            assert_eq!(MeliPayamak::check_template(&message), Err(error.clone()));
            assert!(format!("{error:?}").contains(expected), "{error:?}");
            assert!(script.requests().is_empty());
        }
        assert_eq!(MeliPayamak::check_template(&filled(&["a b", "c"])), Ok(()));
    }

    #[test]
    fn the_console_answers_many_ids_and_the_others_one() {
        for (api, ids_max) in [("rest", 1), ("soap", 1), ("console", 100)] {
            assert_eq!(MeliPayamak::status_limits(&script(api)).ids_max, ids_max);
        }
    }

    #[test]
    fn ids_that_are_none_of_the_provider_are_not_asked() {
        for api in ["rest", "soap", "console"] {
            let script = script(api);
            let reports =
                MeliPayamak::status(&script, vec!["sandbox-1".into(), String::new()]).expect("answered");
            assert!(reports.iter().all(|report| report.state == State::Unknown));
            assert!(script.requests().is_empty());
        }
    }

    #[test]
    fn no_error_holds_a_credential() {
        for api in ["rest", "soap", "console"] {
            for error in [HttpError::NotSent, HttpError::Unanswered, HttpError::InvalidRequest] {
                let text = if api == "console" {
                    "for https://console.melipayamak.com/api/send/simple/to%2Fken"
                } else {
                    ""
                };
                let script = script(api).fail(error(text.to_owned()));
                let shown = format!("{:?}", MeliPayamak::send_text(&script, texts(ONE)).expect_err("failed"));
                assert!(!shown.contains("to%2Fken") && !shown.contains("p&<w"), "{shown}");
            }
        }
    }

    #[test]
    fn a_server_that_says_it_failed_is_left_to_the_next_provider() {
        for api in ["rest", "soap", "console"] {
            for (status, body) in [(500, "{}"), (503, "<html>"), (503, "")] {
                let text = MeliPayamak::send_text(&script(api).reply(status, body), texts(ONE));
                let template = MeliPayamak::send_template(&script(api).reply(status, body), filled(&["1"]));
                assert!(matches!(text, Err(Error::BrokeDown(_))), "{api} {body}: {text:?}");
                assert!(matches!(template, Err(Error::BrokeDown(_))), "{api} {body}: {template:?}");
            }
        }
    }

    #[test]
    fn an_unclear_answer_to_a_send_is_an_unknown_outcome_everywhere() {
        for api in ["rest", "soap", "console"] {
            for (status, body) in [
                (200, ""),
                (200, "<html>5461268677656004204</html>"),
                (502, "<html>"),
                (504, "{}"),
                (200, "{}"),
            ] {
                let text = MeliPayamak::send_text(&script(api).reply(status, body), texts(ONE));
                let template = MeliPayamak::send_template(&script(api).reply(status, body), filled(&["1"]));
                assert!(matches!(text, Err(Error::UnknownOutcome(_))), "{api} {body}: {text:?}");
                assert!(matches!(template, Err(Error::UnknownOutcome(_))), "{api} {body}: {template:?}");
            }
        }
    }

    #[test]
    fn a_broken_answer_never_panics_and_a_cut_one_is_never_a_success() {
        let soap = format!("<e:E><r:SendSimpleSMS2Result a=\"b\">{ID}</r:SendSimpleSMS2Result></e:E>");
        let rest = format!(r#"{{"Value":"{ID}","RetStatus":1,"StrRetStatus":"Ok"}}"#);
        let console = format!(r#"{{"recId":{ID},"resultsAsCode":[1],"amount":1.5,"status":""}}"#);
        for (api, whole, end) in
            [("rest", &rest, "}"), ("soap", &soap, "</r:SendSimpleSMS2Result"), ("console", &console, "}")]
        {
            let sent = |body: Vec<u8>| MeliPayamak::send_text(&script(api).reply(200, body), texts(ONE));
            assert_eq!(ids(&sent(whole.clone().into_bytes()).expect("accepted")), [ID], "{api}");
            let result_ends = whole.rfind(end).expect("the end is part of the answer") + end.len();
            for body in testing::truncations(&whole[..result_ends]) {
                assert!(matches!(sent(body), Err(Error::UnknownOutcome(_))), "{api}");
            }
            for body in testing::mutations(whole) {
                let script = script(api).reply(200, body.clone()).reply(200, body.clone()).reply(200, body);
                // What they make of it is their own business, as long as they return.
                let _ = MeliPayamak::send_text(&script, texts(TWO));
                let _ = MeliPayamak::status(&script, vec![ID.to_owned()]);
                let _ = MeliPayamak::credit(&script);
                assert_eq!(script.requests().len(), 3);
            }
        }
    }

    #[test]
    fn an_unclear_answer_to_a_question_is_unavailable_everywhere() {
        for api in ["rest", "soap", "console"] {
            for (status, body) in [(200, ""), (200, "<html>"), (502, "<html>"), (200, "{}")] {
                let credit = MeliPayamak::credit(&script(api).reply(status, body));
                assert!(matches!(credit, Err(Error::Unavailable(_))), "{api} {body}: {credit:?}");
                let reports = MeliPayamak::status(&script(api).reply(status, body), vec![ID.to_owned()]);
                assert!(matches!(reports, Err(Error::Unavailable(_))), "{api} {body}: {reports:?}");
            }
        }
    }
}
