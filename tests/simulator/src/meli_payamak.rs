//! Meli Payamak: the old REST interface, the SOAP services and the new console interface of one account.
//!
//! REST: `POST /api/SendSMS/{Method}` with user name and password. SOAP: `POST /post/{service}.asmx` (and `?wsdl`).
//! Console: `/api/send/{name}/{token}` and `/api/receive/{name}/{token}` in JSON. Each reports errors differently: a
//! code in `Value`, a code as the result, or a Persian sentence in `status` with HTTP 200. None accepts an id of the
//! caller, so a repeated request sends twice. Not simulated: `SendSms` with its out parameters, inboxes, prices,
//! schedules. Source: the official client libraries and the provider's method pages, read 2026-11.

mod soap;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ledger::Draft;
use crate::provider::{Outcome, Provider, Reply};
use crate::request::{Request, list_of, mobile};
use crate::world::World;
use soap::Operation;

const NAME: &str = "meli_payamak";
/// First message id: 19 digits, past 2^53, like real ones.
const ID_FIRST: u64 = 5_461_268_677_656_004_204;
/// Most ids of one console status call.
const STATUS_IDS_MAX: usize = 100;
/// Most recipients of one `SendSimpleSMS`.
const RECEIVERS_MAX: usize = 100;

/// Delivery code for an unknown id.
const DELIVERY_UNKNOWN: i64 = 100;
/// State of a message whose delivery the setting decides; distinct from the provider's own codes.
const STATE_SENT: i64 = 200;

pub(crate) struct MeliPayamak;

/// Behaviour of the Meli Payamak stand-in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeliPayamakSettings {
    /// Accepted user names with passwords, for REST and SOAP; absent: any non-empty pair.
    pub accounts: Option<BTreeMap<String, String>>,
    /// Accepted console tokens; absent: any.
    pub tokens: Option<BTreeSet<String>>,
    /// Lines of the account; absent: any number.
    pub senders: Option<BTreeSet<String>>,
    /// Approved patterns: `bodyId` and its number of values; absent: any number with any values.
    pub patterns: Option<BTreeMap<String, usize>>,
    /// Messages paid for.
    pub credit: i64,
    /// Delivery state in delivery calls (1 delivered, 2 not delivered, 0 with the carrier). A state set with `POST
    /// /_sim/status` takes precedence. Default 1.
    pub delivery_code: i64,
}

impl Default for MeliPayamakSettings {
    fn default() -> Self {
        Self {
            accounts: None,
            tokens: None,
            senders: None,
            patterns: None,
            credit: 1_000_000_000,
            delivery_code: 1,
        }
    }
}

/// Documented codes, with the sentence that the console interface returns instead (in our own words).
const CODES: &[(i64, &str)] = &[
    (0, "نام کاربری یا رمز عبور نادرست است"),
    (2, "اعتبار کافی نیست"),
    (3, "محدودیت ارسال روزانه"),
    (4, "محدودیت حجم ارسال"),
    (5, "شماره فرستنده معتبر نیست"),
    (6, "سامانه در حال به‌روزرسانی است"),
    (7, "متن حاوی کلمه فیلتر شده است"),
    (9, "ارسال از خطوط عمومی با وب‌سرویس ممکن نیست"),
    (10, "کاربر فعال نیست"),
    (11, "ارسال نشد"),
    (12, "مدارک کاربر کامل نیست"),
    (14, "متن حاوی لینک است"),
    (15, "ارسال به بیش از یک شماره بدون لغو۱۱ ممکن نیست"),
    (16, "گیرنده‌ای پیدا نشد"),
    (17, "متن پیامک خالی است"),
    (18, "شماره گیرنده نامعتبر است"),
    (19, "محدودیت ارسال ساعتی"),
    (35, "گیرنده در لیست سیاه مخابرات است"),
    (-1, "دسترسی وب‌سرویس غیرفعال است"),
    (-2, "محدودیت تعداد شماره"),
    (-3, "خط ارسالی تعریف نشده است"),
    (-4, "کد متن صحیح نیست یا تایید نشده است"),
    (-5, "متن با متغیرها همخوانی ندارد"),
    (-6, "خطای داخلی"),
    (-7, "خطا در شماره فرستنده"),
    (-10, "در متغیرها لینک وجود دارد"),
    (-108, "آی‌پی مسدود شده است"),
    (-109, "آی‌پی مجاز تنظیم نشده است"),
    (-110, "استفاده از کلید وب‌سرویس الزامی است"),
    (-111, "آی‌پی معتبر نیست"),
];

static CODE_NUMBERS: [i64; CODES.len()] = {
    let mut numbers = [0; CODES.len()];
    let mut index = 0;
    while index < CODES.len() {
        numbers[index] = CODES[index].0;
        index += 1;
    }
    numbers
};

/// The SOAP operations: arguments (`[]` marks an array) and result type.
const OPERATIONS: &[(&str, &[&str], &str)] = &[
    ("SendSimpleSMS2", &["username", "password", "to", "from", "text", "isflash"], "s:string"),
    ("SendSimpleSMS", &["username", "password", "to[]", "from", "text", "isflash"], "tns:ArrayOfString"),
    ("SendByBaseNumber", &["username", "password", "text[]", "to", "bodyId"], "s:string"),
    ("SendByBaseNumber2", &["username", "password", "text", "to", "bodyId"], "s:string"),
    ("GetDelivery", &["username", "password", "recId"], "s:int"),
    ("GetDeliveries", &["username", "password", "recIds[]"], "tns:ArrayOfInt"),
    ("GetCredit", &["username", "password"], "s:double"),
];

/// `Err` is the code that refuses the call.
type Checked<T> = Result<T, i64>;

/// The interface of a path.
enum Style<'a> {
    Rest { method: &'a str },
    Soap,
    Console { call: &'a str, token: &'a str },
    Unknown,
}

fn style(path: &str) -> Style<'_> {
    if path.starts_with("/post/") {
        return if path.ends_with(".asmx") { Style::Soap } else { Style::Unknown };
    }
    let Some(rest) = path.strip_prefix("/api/") else { return Style::Unknown };
    let rest = rest.trim_end_matches('/');
    match rest.split_once('/') {
        Some((group, method)) if group.eq_ignore_ascii_case("SendSMS") => Style::Rest { method },
        Some(("send" | "receive", _)) => match rest.rsplit_once('/') {
            Some((call, token)) if call.contains('/') => Style::Console { call, token },
            _ => Style::Unknown,
        },
        _ => Style::Unknown,
    }
}

impl Provider for MeliPayamak {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "REST /api/SendSMS/{SendSMS BaseServiceNumber GetDeliveries2 GetCredit GetCredit2}, SOAP \
         /post/{send SharedService}.asmx, console /api/{send receive}/{name}/{token}"
    }

    fn claims(&self, path: &str) -> bool {
        path.starts_with("/api/") || path.starts_with("/post/")
    }

    fn call<'a>(&self, request: &'a Request) -> Cow<'a, str> {
        match style(&request.path) {
            Style::Rest { method } => method.into(),
            Style::Soap => match Operation::read(&request.body) {
                Ok(operation) => format!("soap/{}", operation.name).into(),
                Err(_) => "soap".into(),
            },
            Style::Console { call, .. } => call.into(),
            Style::Unknown => "unknown".into(),
        }
    }

    fn masked_path(&self, path: &str) -> String {
        match style(path) {
            Style::Console { call, .. } => format!("/api/{call}/***"),
            Style::Rest { .. } | Style::Soap => path.to_owned(),
            // The last part may be a misplaced token.
            Style::Unknown => path.rsplit_once('/').map_or("***".into(), |(head, _)| format!("{head}/***")),
        }
    }

    fn secret_fields(&self) -> &'static [&'static str] {
        &["password"]
    }

    fn codes(&self) -> &'static [i64] {
        &CODE_NUMBERS
    }

    fn numbers(&self, request: &Request) -> Vec<String> {
        match style(&request.path) {
            Style::Soap => {
                Operation::read(&request.body).map(|operation| operation.list("to")).unwrap_or_default()
            }
            _ => list_of(request.get("to").unwrap_or_default()),
        }
    }

    fn answer(&self, world: &World, request: &Request) -> Reply {
        match style(&request.path) {
            Style::Rest { method } => match rest(world, request, method) {
                Ok((value, outcome)) => rest_reply(&value, outcome),
                Err(code) => self.refuse(world, request, code, None),
            },
            Style::Soap => soap_answer(world, request),
            Style::Console { call, token } => console(world, request, call, token),
            Style::Unknown => not_found(),
        }
    }

    fn refuse(&self, _: &World, request: &Request, code: i64, _: Option<bool>) -> Reply {
        let outcome = Outcome::Refused(code);
        match style(&request.path) {
            Style::Rest { .. } => rest_reply(&code.to_string(), outcome),
            Style::Soap => match Operation::read(&request.body) {
                Ok(operation) => soap_result(&operation.name, &[code.to_string()], outcome),
                Err(error) => soap_reply(500, soap::fault(&error), outcome),
            },
            Style::Console { call, .. } => {
                let text = CODES.iter().find(|(known, _)| *known == code).map_or("خطا", |(_, text)| text);
                Reply::json(200, &console_body(call, None, text), outcome)
            }
            Style::Unknown => not_found(),
        }
    }
}

fn not_found() -> Reply {
    Reply::json(404, &json!({"Message": "No HTTP resource was found"}), Outcome::Refused(404))
}

// Shared by all three interfaces.

/// Checks user name and password and returns the account.
fn account(world: &World, username: Option<&str>, password: Option<&str>) -> Checked<String> {
    let (Some(username), Some(password)) = (username, password) else { return Err(0) };
    let known = match &world.settings().meli_payamak.accounts {
        None => !username.is_empty() && !password.is_empty(),
        Some(accounts) => accounts.get(username).is_some_and(|expected| expected == password),
    };
    if known { Ok(username.to_owned()) } else { Err(0) }
}

/// Sends one text to one number and returns its id.
fn send_text(world: &World, account: &str, from: &str, to: &str, text: &str) -> Checked<String> {
    let number = check_text(world, from, to, text)?;
    enter(
        world,
        Draft {
            account: account.into(),
            number,
            text: Some(text.into()),
            sender: Some(from.into()),
            ..Draft::default()
        },
    )
}

fn check_text(world: &World, from: &str, to: &str, text: &str) -> Checked<String> {
    let digits = !from.is_empty() && from.bytes().all(|byte| byte.is_ascii_digit());
    let known = world.settings().meli_payamak.senders.as_ref().is_none_or(|senders| senders.contains(from));
    if !digits || !known {
        return Err(5);
    }
    if text.is_empty() {
        return Err(17);
    }
    if to.is_empty() {
        return Err(16);
    }
    mobile(to).ok_or(18)
}

/// Fills a pattern for one number and returns the message id.
fn send_pattern(
    world: &World,
    account: &str,
    body_id: &str,
    values: Vec<String>,
    to: &str,
) -> Checked<String> {
    if to.is_empty() {
        return Err(16);
    }
    if to.contains([',', ';']) {
        return Err(-2);
    }
    let number = mobile(to).ok_or(18)?;
    let settings = world.settings();
    body_id.parse::<u64>().map_err(|_| -4)?;
    if let Some(patterns) = &settings.meli_payamak.patterns
        && *patterns.get(body_id).ok_or(-4)? != values.len()
    {
        return Err(-5);
    }
    if values.iter().any(|value| value.contains("://") || value.contains("www.")) {
        return Err(-10);
    }
    let tokens =
        values.into_iter().enumerate().map(|(index, value)| ((index + 1).to_string(), value)).collect();
    enter(
        world,
        Draft { account: account.into(), number, template: Some(body_id.into()), tokens, ..Draft::default() },
    )
}

fn enter(world: &World, draft: Draft) -> Checked<String> {
    let credit = world.settings().meli_payamak.credit;
    let mut ledger = world.ledger();
    if ledger.spent(NAME) >= credit {
        return Err(2);
    }
    ledger.spend(NAME, 1);
    Ok(ledger.accept(NAME, ID_FIRST, Draft { status: STATE_SENT, ..draft }).0.id.clone())
}

fn delivery(world: &World, account: &str, id: &str) -> i64 {
    let setting = world.settings().meli_payamak.delivery_code;
    match world.ledger().by_id(NAME, id.trim()).filter(|message| message.account == account) {
        Some(message) if message.status == STATE_SENT => setting,
        Some(message) => message.status,
        None => DELIVERY_UNKNOWN,
    }
}

fn credit(world: &World) -> i64 {
    world.settings().meli_payamak.credit - world.ledger().spent(NAME)
}

/// Each recipient gets an id or a code; at least one id makes the request accepted.
fn outcome_of(results: &[Checked<String>]) -> Outcome {
    match results.iter().find_map(|result| result.as_ref().err()) {
        Some(code) if results.iter().all(Result::is_err) => Outcome::Refused(*code),
        _ => Outcome::Accepted,
    }
}

fn id_or_code(result: &Checked<String>) -> String {
    match result {
        Ok(id) => id.clone(),
        Err(code) => code.to_string(),
    }
}

// REST

fn rest_reply(value: &str, outcome: Outcome) -> Reply {
    // `RetStatus` decides nothing: a real reply with code 11 says `Ok`.
    let (ret, text) = if value == "0" { (0, "InvalidUser") } else { (1, "Ok") };
    Reply::json(200, &json!({"Value": value, "RetStatus": ret, "StrRetStatus": text}), outcome)
}

fn rest(world: &World, request: &Request, method: &str) -> Checked<(String, Outcome)> {
    if request.http_method != Method::POST || request.malformed {
        return Err(11);
    }
    let field = |name: &str| request.get_caseless(name).unwrap_or_default();
    let account = account(world, request.get_caseless("username"), request.get_caseless("password"))?;
    match method.to_ascii_lowercase().as_str() {
        "sendsms" => {
            let receivers = list_of(field("to"));
            if receivers.is_empty() {
                return Err(16);
            }
            let send = |to: &String| send_text(world, &account, field("from"), to, field("text"));
            let results: Vec<_> = receivers.iter().map(send).collect();
            let value = results.iter().map(id_or_code).collect::<Vec<_>>().join(",");
            Ok((value, outcome_of(&results)))
        }
        "baseservicenumber" => {
            let id =
                send_pattern(world, &account, field("bodyId"), pattern_values(field("text")), field("to"))?;
            Ok((id, Outcome::Accepted))
        }
        "getdeliveries2" => Ok((delivery(world, &account, field("recId")).to_string(), Outcome::Answered)),
        "getcredit" => Ok((format!("{}.0", credit(world)), Outcome::Answered)),
        "getcredit2" => Ok((credit(world).to_string(), Outcome::Answered)),
        _ => Err(11),
    }
}

/// Pattern values as REST and one SOAP operation send them: joined with `;`.
fn pattern_values(text: &str) -> Vec<String> {
    text.split(';').map(str::to_owned).collect()
}

// SOAP

fn soap_reply(status: u16, body: String, outcome: Outcome) -> Reply {
    Reply { status, content_type: "text/xml; charset=utf-8", body: body.into(), outcome }
}

/// The result in the shape of the operation: one value, or a list.
fn soap_result(operation: &str, values: &[String], outcome: Outcome) -> Reply {
    let item = match OPERATIONS.iter().find(|(name, ..)| *name == operation).map(|(.., result)| *result) {
        Some("tns:ArrayOfString") => Some("string"),
        Some("tns:ArrayOfInt") => Some("int"),
        _ => None,
    };
    let result: String = values
        .iter()
        .map(|value| match item {
            Some(item) => format!("<{item}>{}</{item}>", soap::escaped(value)),
            None => soap::escaped(value),
        })
        .collect();
    soap_reply(200, soap::answer(operation, &result), outcome)
}

fn soap_answer(world: &World, request: &Request) -> Reply {
    if request.http_method == Method::GET {
        let host = request.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let location = format!("http://{host}{}", request.path);
        return soap_reply(200, soap::wsdl(&location, OPERATIONS), Outcome::Answered);
    }
    let operation = match Operation::read(&request.body) {
        Ok(operation) => operation,
        Err(error) => return soap_reply(500, soap::fault(&error), Outcome::Refused(500)),
    };
    if OPERATIONS.iter().all(|(name, ..)| *name != operation.name) {
        let text = format!("Server did not recognize the operation {}", operation.name);
        return soap_reply(500, soap::fault(&text), Outcome::Refused(500));
    }
    let (values, outcome) = match soap_call(world, &operation) {
        Ok(answered) => answered,
        Err(code) => (vec![code.to_string()], Outcome::Refused(code)),
    };
    soap_result(&operation.name, &values, outcome)
}

fn soap_call(world: &World, operation: &Operation) -> Checked<(Vec<String>, Outcome)> {
    let field = |name: &str| operation.get(name).unwrap_or_default();
    let account = account(world, operation.get("username"), operation.get("password"))?;
    let accepted = |id: String| (vec![id], Outcome::Accepted);
    match operation.name.as_str() {
        "SendSimpleSMS2" => {
            send_text(world, &account, field("from"), field("to"), field("text")).map(accepted)
        }
        "SendSimpleSMS" => {
            let receivers = operation.list("to");
            if receivers.is_empty() {
                return Err(16);
            }
            if receivers.len() > RECEIVERS_MAX {
                return Err(-2);
            }
            let send = |to: &String| send_text(world, &account, field("from"), to, field("text"));
            let results: Vec<_> = receivers.iter().map(send).collect();
            Ok((results.iter().map(id_or_code).collect(), outcome_of(&results)))
        }
        "SendByBaseNumber" => {
            send_pattern(world, &account, field("bodyId"), operation.list("text"), field("to")).map(accepted)
        }
        "SendByBaseNumber2" => {
            send_pattern(world, &account, field("bodyId"), pattern_values(field("text")), field("to"))
                .map(accepted)
        }
        "GetDelivery" => Ok((vec![delivery(world, &account, field("recId")).to_string()], Outcome::Answered)),
        "GetDeliveries" => {
            let codes =
                operation.list("recIds").iter().map(|id| delivery(world, &account, id).to_string()).collect();
            Ok((codes, Outcome::Answered))
        }
        "GetCredit" => Ok((vec![credit(world).to_string()], Outcome::Answered)),
        _ => Err(11),
    }
}

// Console

/// The body of a console reply in the shape of the call; a refusal has a text and no result.
fn console_body(call: &str, result: Option<Value>, status: &str) -> Value {
    let (name, nothing) = match call {
        "send/advanced" | "send/multiple" => ("recIds", json!([])),
        "send/otp" => ("code", json!("")),
        "receive/credit" => ("amount", json!(0)),
        "receive/status" => ("resultsAsCode", json!([])),
        _ => ("recId", json!(0)),
    };
    let mut body = json!({name: result.unwrap_or(nothing), "status": status});
    if call == "receive/status" {
        let codes =
            body[name].as_array().map(|codes| codes.iter().map(ToString::to_string).collect::<Vec<_>>());
        body["results"] = json!(codes);
    }
    body
}

/// The reply of the provider's framework to a body that does not fit.
fn problem(field: &str) -> Reply {
    let body = json!({
        "type": "https://tools.ietf.org/html/rfc7231#section-6.5.1",
        "title": "One or more validation errors occurred.",
        "status": 400,
        "traceId": "00-00000000000000000000000000000000-0000000000000000-00",
        "errors": {field: [format!("The {field} field is required.")]},
    });
    Reply::json(400, &body, Outcome::Refused(400))
}

fn console(world: &World, request: &Request, call: &str, token: &str) -> Reply {
    let settings = world.settings();
    if settings.meli_payamak.tokens.as_ref().is_some_and(|tokens| !tokens.contains(token)) {
        return MeliPayamak.refuse(world, request, 0, None);
    }
    if call == "receive/credit" {
        let body = console_body(call, Some(json!(credit(world))), "");
        return Reply::json(200, &body, Outcome::Answered);
    }
    let (Some(json), &Method::POST) = (&request.json, &request.http_method) else { return problem("Body") };
    match console_call(world, call, token, json) {
        Ok(Ok((result, outcome))) => Reply::json(200, &console_body(call, Some(result), ""), outcome),
        Ok(Err(code)) => MeliPayamak.refuse(world, request, code, None),
        Err(field) => problem(field),
    }
}

/// Outer `Err`: the missing or mistyped field. Inner `Err`: the provider's code.
fn console_call(
    world: &World,
    call: &str,
    token: &str,
    json: &Value,
) -> Result<Checked<(Value, Outcome)>, &'static str> {
    let text = |name: &'static str| json[name].as_str().ok_or(name);
    let list = |name: &'static str| -> Result<Vec<String>, &'static str> {
        let items = json[name].as_array().ok_or(name)?;
        Ok(items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect())
    };
    let accepted = |id: String| (numeric(&id), Outcome::Accepted);
    Ok(match call {
        "send/simple" => send_text(world, token, text("from")?, text("to")?, text("text")?).map(accepted),
        "send/shared" => {
            let body_id = match &json["bodyId"] {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return Err("bodyId"),
            };
            send_pattern(world, token, &body_id, list("args")?, text("to")?).map(accepted)
        }
        "send/advanced" | "send/multiple" => {
            let (from, receivers) = (text("from")?, list("to")?);
            let texts = match call {
                "send/multiple" => list("text")?,
                _ => vec![text("text")?.to_owned(); receivers.len()],
            };
            if texts.len() != receivers.len() {
                return Err("text");
            }
            let send = |(to, text): (&String, &String)| send_text(world, token, from, to, text);
            let results: Vec<_> = receivers.iter().zip(&texts).map(send).collect();
            match outcome_of(&results) {
                Outcome::Refused(code) => Err(code),
                outcome => {
                    let ids = results.iter().map(|result| result.as_ref().map_or(json!(0), |id| numeric(id)));
                    Ok((ids.collect(), outcome))
                }
            }
        }
        "send/otp" => send_otp(world, token, text("to")?).map(|code| (json!(code), Outcome::Accepted)),
        "receive/status" => {
            let ids = list("recIds")?;
            if ids.len() > STATUS_IDS_MAX {
                return Err("recIds");
            }
            let codes = ids.iter().map(|id| json!(delivery(world, token, id)));
            Ok((codes.collect(), Outcome::Answered))
        }
        _ => Err(11),
    })
}

/// The provider generates the code and returns it to the caller, too.
fn send_otp(world: &World, token: &str, to: &str) -> Checked<String> {
    let number = mobile(to).ok_or(18)?;
    // Codes of one run differ and repeat in the next run; tests rely on both.
    let code = (world.ledger().accepted(NAME) * 7_919 % 900_000 + 100_000).to_string();
    let tokens = vec![("code".to_owned(), code.clone())];
    enter(
        world,
        Draft { account: token.into(), number, template: Some("otp".into()), tokens, ..Draft::default() },
    )?;
    Ok(code)
}

fn numeric(id: &str) -> Value {
    id.parse::<u64>().map_or(Value::Null, Value::from)
}
