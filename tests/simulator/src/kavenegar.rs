//! Kavenegar: `/v1/{API-KEY}/{scope}/{method}.json`, with GET or POST, form or JSON.
//!
//! Simulated: `sms/send`, `sms/sendarray`, `verify/lookup`, `sms/status`, `sms/statuslocalmessageid`,
//! `sms/statusbyreceptor`, `sms/cancel`, `account/info`, `utils/getdate`. Any other path answers 404. The API key is
//! the account: local ids are unique per key, and repeating a known one returns the stored record without sending.
//! Not simulated: the age limits of status calls (48 h, 12 h), inbox, voice. Source: the `sms`, `verify`, `account`
//! and `utils` pages of the provider's REST manual and the official client libraries, read 2026-11. Where they
//! disagree (HTTP status of errors, `entries` of a lookup and of an error) the behaviour is a setting.

use std::borrow::Cow;
use std::collections::BTreeSet;

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ledger::{Draft, Message};
use crate::log::unix_ms;
use crate::provider::{Outcome, Provider, Reply};
use crate::request::{Request, json_array, list_of, mobile};
use crate::world::World;

const NAME: &str = "kavenegar";
/// First message id; ids in public replies have 7 to 10 digits.
const ID_FIRST: u64 = 8_792_343_001;
/// Price of one message in rial.
const COST_RIAL: i64 = 1_200;
/// Most recipients of one send.
const RECEPTORS_MAX: usize = 200;
/// Most ids of one status call.
const STATUS_IDS_MAX: usize = 500;
/// Most characters of one message.
const MESSAGE_CHARS_MAX: usize = 900;
/// Most characters of one template token.
const TOKEN_CHARS_MAX: usize = 100;
/// The sending line when a request names none.
const SENDER_DEFAULT: &str = "10004346";

const QUEUED: i64 = 1;
const SCHEDULED: i64 = 2;
const CANCELLED: i64 = 13;
const UNKNOWN: i64 = 100;

pub(crate) struct Kavenegar;

/// Behaviour of the Kavenegar stand-in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KavenegarSettings {
    /// Use the error code as the HTTP status (sources disagree); otherwise 200. Default true.
    pub http_status_follows_code: bool,
    /// Shape of `entries` in a lookup's reply. Default array.
    pub lookup_entries: LookupEntries,
    /// Whether an error contains `"entries": null` or omits it. Default null.
    pub error_entries: ErrorEntries,
    /// Accepted API keys; absent: any.
    pub api_keys: Option<BTreeSet<String>>,
    /// Approved templates; absent: any.
    pub templates: Option<BTreeSet<String>>,
    /// Lines of the account; absent: any well-formed one.
    pub senders: Option<BTreeSet<String>>,
    /// Paid-in credit in rial; each message costs 1,200.
    pub credit_rial: i64,
    /// Delivery state of queued messages in status calls (the queued state itself is 1). A state set with `POST
    /// /_sim/status` takes precedence. Default 10, delivered.
    pub delivery_status: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LookupEntries {
    Array,
    Object,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ErrorEntries {
    Null,
    Absent,
}

impl Default for KavenegarSettings {
    fn default() -> Self {
        Self {
            http_status_follows_code: true,
            lookup_entries: LookupEntries::Array,
            error_entries: ErrorEntries::Null,
            api_keys: None,
            templates: None,
            senders: None,
            credit_rial: 1_000_000_000_000,
            delivery_status: 10,
        }
    }
}

/// Every documented error code, with a message in our own words.
const CODES: &[(i64, &str)] = &[
    (400, "پارامترها ناقص هستند"),
    (401, "حساب کاربری غیرفعال است"),
    (402, "عملیات ناموفق بود"),
    (403, "کلید وب‌سرویس معتبر نیست"),
    (404, "متد ناشناخته است"),
    (405, "متد فراخوانی نادرست است"),
    (406, "پارامتر اجباری خالی است"),
    (407, "دسترسی به این متد ندارید"),
    (409, "سرور قادر به پاسخ‌گویی نیست"),
    (411, "گیرنده نامعتبر است"),
    (412, "فرستنده نامعتبر است"),
    (413, "پیام خالی یا بیش از حد بلند است"),
    (414, "تعداد بیش از حد مجاز است"),
    (415, "اندیس شروع نادرست است"),
    (416, "نشانی آی‌پی مطابقت ندارد"),
    (417, "تاریخ نادرست است"),
    (418, "اعتبار حساب کافی نیست"),
    (419, "طول آرایه‌ها برابر نیست"),
    (420, "ارسال لینک مجاز نیست"),
    (422, "نویسهٔ نامناسب در داده‌ها"),
    (424, "الگو پیدا نشد"),
    (426, "سرویس پیشرفته لازم است"),
    (427, "این خط سطح دسترسی لازم دارد"),
    (428, "تماس صوتی ممکن نیست"),
    (429, "آی‌پی محدود شده است"),
    (430, "هویت حساب تایید نشده است"),
    (431, "ساختار توکن نادرست است"),
    (432, "توکن در الگو نیست"),
    (451, "فراخوانی بیش از حد"),
    (501, "حساب آزمایشی است"),
    (604, "تعداد شماره‌ها زیاد است"),
    (607, "برچسب نادرست است"),
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

/// `Err` is the code that refuses the call.
type Checked<T> = Result<T, i64>;

/// Splits `/v1/{key}/{scope}/{method}.json`, with or without a trailing slash.
fn split(path: &str) -> Option<(&str, &str)> {
    let (key, call) = path.strip_prefix("/v1/")?.split_once('/')?;
    Some((key, call.trim_end_matches('/').strip_suffix(".json")?))
}

impl Provider for Kavenegar {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "/v1/{API-KEY}/... sms/send sms/sendarray verify/lookup sms/status sms/statuslocalmessageid \
         sms/statusbyreceptor sms/cancel account/info utils/getdate (.json)"
    }

    fn claims(&self, path: &str) -> bool {
        // `/v1/report/` belongs to a payment provider on another host.
        path.starts_with("/v1/") && !path.starts_with("/v1/report/")
    }

    fn call<'a>(&self, request: &'a Request) -> Cow<'a, str> {
        split(&request.path).map_or("unknown", |(_, call)| call).into()
    }

    fn masked_path(&self, path: &str) -> String {
        let rest = path.strip_prefix("/v1/").unwrap_or(path);
        rest.split_once('/').map_or_else(|| "/v1/***".to_owned(), |(_, call)| format!("/v1/***/{call}"))
    }

    fn secret_fields(&self) -> &'static [&'static str] {
        &[]
    }

    fn codes(&self) -> &'static [i64] {
        &CODE_NUMBERS
    }

    fn numbers(&self, request: &Request) -> Vec<String> {
        list_of(&request.joined("receptor").unwrap_or_default())
    }

    fn answer(&self, world: &World, request: &Request) -> Reply {
        match answer(world, request) {
            Ok((entries, outcome)) => Reply::json(
                200,
                &json!({"return": {"status": 200, "message": "تایید شد"}, "entries": entries}),
                outcome,
            ),
            Err(code) => self.refuse(world, request, code, None),
        }
    }

    fn refuse(&self, world: &World, _: &Request, code: i64, status_follows: Option<bool>) -> Reply {
        let settings = &world.settings().kavenegar;
        let message = CODES.iter().find(|(known, _)| *known == code).map_or("", |(_, message)| message);
        let mut body = json!({"return": {"status": code, "message": message}});
        if settings.error_entries == ErrorEntries::Null {
            body["entries"] = Value::Null;
        }
        let follows = status_follows.unwrap_or(settings.http_status_follows_code);
        let status = if follows { u16::try_from(code).unwrap_or(200) } else { 200 };
        Reply::json(status, &body, Outcome::Refused(code))
    }
}

fn answer(world: &World, request: &Request) -> Checked<(Value, Outcome)> {
    let (key, call) = split(&request.path).ok_or(404)?;
    if request.http_method != Method::GET && request.http_method != Method::POST {
        return Err(405);
    }
    if call == "utils/getdate" {
        // The only call without a key.
        return Ok((getdate(unix_ms() / 1000), Outcome::Answered));
    }
    let settings = &world.settings().kavenegar;
    let accepted = settings.api_keys.as_ref().is_none_or(|keys| keys.contains(key));
    if key.is_empty() || key == "0" || !accepted {
        return Err(403);
    }
    if request.malformed {
        return Err(400);
    }
    match call {
        "sms/send" => send(world, request, key),
        "sms/sendarray" if request.http_method != Method::POST => Err(405),
        "sms/sendarray" => send_array(world, request, key),
        "verify/lookup" => lookup(world, request, key),
        "sms/status" => status(world, request, key),
        "sms/statuslocalmessageid" => status_by_localid(world, request, key),
        "sms/statusbyreceptor" => status_by_receptor(world, request, key),
        "sms/cancel" => cancel(world, request, key),
        "account/info" => Ok((
            json!({"remaincredit": settings.credit_rial - world.ledger().spent(NAME), "expiredate": 4_102_444_800_u64, "type": "master"}),
            Outcome::Answered,
        )),
        _ => Err(404),
    }
}

fn send(world: &World, request: &Request, key: &str) -> Checked<(Value, Outcome)> {
    let receptors = list_of(&mandatory(request.joined("receptor").as_deref())?);
    let text = request.get("message").ok_or(400)?;
    if receptors.len() > RECEPTORS_MAX {
        return Err(414);
    }
    let common = Common::read(request)?;
    let sender = sender(world, optional(request.get("sender")))?;
    let localids = localids(optional(request.get("localid")), receptors.len())?;
    let drafts = receptors
        .iter()
        .zip(localids)
        .map(|(receptor, localid)| common.draft(key, receptor, text, &sender, localid))
        .collect::<Checked<Vec<_>>>()?;
    accept(world, key, drafts)
}

fn send_array(world: &World, request: &Request, key: &str) -> Checked<(Value, Outcome)> {
    let array =
        |name: &str| -> Checked<Vec<String>> { json_array(&mandatory(request.get(name))?).ok_or(400) };
    let (receptors, senders, texts) = (array("receptor")?, array("sender")?, array("message")?);
    if receptors.is_empty() {
        return Err(406);
    }
    if senders.len() != receptors.len() || texts.len() != receptors.len() {
        return Err(419);
    }
    if receptors.len() > RECEPTORS_MAX {
        return Err(414);
    }
    if let Some(types) = optional(request.get("type")).and_then(json_array)
        && types.len() != receptors.len()
    {
        return Err(419);
    }
    let common = Common::read(request)?;
    // Three client libraries use three names for the same list.
    let localid = ["localmessageids", "localmessageid", "localid"]
        .into_iter()
        .find_map(|name| optional(request.get(name)));
    let localids = localids(localid, receptors.len())?;
    let drafts = receptors
        .iter()
        .zip(&senders)
        .zip(&texts)
        .zip(localids)
        .map(|(((receptor, line), text), localid)| {
            common.draft(key, receptor, text, &sender(world, Some(line))?, localid)
        })
        .collect::<Checked<Vec<_>>>()?;
    accept(world, key, drafts)
}

fn lookup(world: &World, request: &Request, key: &str) -> Checked<(Value, Outcome)> {
    let receptor = mandatory(request.get("receptor"))?;
    let template = mandatory(request.get("template"))?;
    let token = mandatory(request.get("token"))?;
    let number = mobile(&receptor).or_else(|| abroad_or_landline(&receptor)).ok_or(411)?;
    let mut tokens = Vec::new();
    for (name, spaces_max) in [("token", 0), ("token2", 0), ("token3", 0), ("token10", 5), ("token20", 8)] {
        let Some(value) = optional(request.get(name)) else { continue };
        check_token(value, spaces_max)?;
        tokens.push((name.to_owned(), value.to_owned()));
    }
    match optional(request.get("type")) {
        None | Some("sms") => {}
        Some("call") if token.bytes().all(|byte| byte.is_ascii_digit()) => {}
        Some("call") => return Err(428),
        Some(_) => return Err(400),
    }
    check_tag(request)?;
    let settings = world.settings();
    if settings.kavenegar.templates.as_ref().is_some_and(|known| !known.contains(&template)) {
        return Err(424);
    }
    let draft = Draft {
        account: key.into(),
        number,
        template: Some(template),
        tokens,
        sender: Some(SENDER_DEFAULT.into()),
        status: QUEUED,
        ..Draft::default()
    };
    let (mut entries, outcome) = accept(world, key, vec![draft])?;
    if settings.kavenegar.lookup_entries == LookupEntries::Object {
        entries = entries[0].take();
    }
    Ok((entries, outcome))
}

/// Charges and enters the messages. A known local id costs nothing and returns its first record.
fn accept(world: &World, key: &str, drafts: Vec<Draft>) -> Checked<(Value, Outcome)> {
    let mut ledger = world.ledger();
    let fresh = drafts
        .iter()
        .filter(|draft| !draft.localid.is_some_and(|localid| ledger.knows_localid(NAME, key, localid)))
        .count();
    let cost = COST_RIAL * i64::try_from(fresh).unwrap_or(i64::MAX / COST_RIAL);
    if world.settings().kavenegar.credit_rial - ledger.spent(NAME) < cost {
        return Err(418);
    }
    ledger.spend(NAME, cost);
    let mut outcome = Outcome::Repeated;
    let entries: Vec<_> = drafts
        .into_iter()
        .map(|draft| {
            let (message, new) = ledger.accept(NAME, ID_FIRST, draft);
            if new {
                outcome = Outcome::Accepted;
            }
            entry(message)
        })
        .collect();
    Ok((Value::Array(entries), outcome))
}

fn entry(message: &Message) -> Value {
    // A lookup shows the text of the filled template; the stand-in does not know the template's text.
    let text = message.text.clone().unwrap_or_else(|| {
        message.tokens.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(" ")
    });
    json!({
        "messageid": numeric_id(message),
        "message": text,
        "status": message.status,
        "statustext": status_text(message.status),
        "sender": message.sender,
        "receptor": message.number,
        "date": message.accepted_at_ms / 1000,
        "cost": COST_RIAL,
    })
}

fn status(world: &World, request: &Request, key: &str) -> Checked<(Value, Outcome)> {
    let ids = id_list(request, "messageid")?;
    let delivery = world.settings().kavenegar.delivery_status;
    let mut ledger = world.ledger();
    let entries = ids.iter().map(|id| {
        let message = ledger.by_id(NAME, id).filter(|message| message.account == key);
        let status = message.map_or(UNKNOWN, |message| current(message, delivery));
        json!({"messageid": number_of(id), "status": status, "statustext": status_text(status)})
    });
    Ok((entries.collect(), Outcome::Answered))
}

fn status_by_localid(world: &World, request: &Request, key: &str) -> Checked<(Value, Outcome)> {
    let ids = id_list(request, "localid")?;
    let delivery = world.settings().kavenegar.delivery_status;
    let mut ledger = world.ledger();
    let entries = ids.iter().map(|id| {
        let message = id.parse().ok().and_then(|localid| ledger.by_localid(NAME, key, localid));
        let (messageid, status) = match message {
            Some(message) => (numeric_id(message), current(message, delivery)),
            None => (0, UNKNOWN),
        };
        // The local id is text in the provider's replies, the message id a number.
        json!({"messageid": messageid, "localid": id, "status": status, "statustext": status_text(status)})
    });
    Ok((entries.collect(), Outcome::Answered))
}

fn status_by_receptor(world: &World, request: &Request, key: &str) -> Checked<(Value, Outcome)> {
    const DAY_SECS: u64 = 86_400;
    let number = mobile(&mandatory(request.get("receptor"))?).ok_or(411)?;
    let start: u64 = mandatory(request.get("startdate"))?.parse().map_err(|_| 417)?;
    let end = match optional(request.get("enddate")) {
        Some(end) => end.parse().map_err(|_| 417)?,
        None => start.saturating_add(DAY_SECS),
    };
    if end < start || end - start > DAY_SECS {
        return Err(417);
    }
    let delivery = world.settings().kavenegar.delivery_status;
    let ledger = world.ledger();
    let entries = ledger
        .messages()
        .filter(|message| message.provider == NAME && message.account == key && message.number == number)
        .filter(|message| (start..=end).contains(&(message.accepted_at_ms / 1000)))
        .map(|message| {
            let status = current(message, delivery);
            json!({"messageid": numeric_id(message), "receptor": number,
                   "status": status, "statustext": status_text(status)})
        });
    Ok((entries.collect(), Outcome::Answered))
}

fn cancel(world: &World, request: &Request, key: &str) -> Checked<(Value, Outcome)> {
    let ids = id_list(request, "messageid")?;
    let mut refund = 0;
    let mut ledger = world.ledger();
    let entries: Value = ids
        .iter()
        .map(|id| {
            let message = ledger.by_id(NAME, id).filter(|message| message.account == key);
            let status = match message {
                Some(message) if message.status == SCHEDULED => {
                    message.status = CANCELLED;
                    refund += COST_RIAL;
                    CANCELLED
                }
                Some(message) => message.status,
                None => UNKNOWN,
            };
            json!({"messageid": number_of(id), "status": status, "statustext": status_text(status)})
        })
        .collect();
    ledger.spend(NAME, -refund);
    Ok((entries, Outcome::Answered))
}

/// Validated values shared by all messages of one send.
struct Common {
    scheduled_at: u64,
}

impl Common {
    fn read(request: &Request) -> Checked<Self> {
        let date: u64 = match optional(request.get("date")) {
            Some(date) => date.parse().map_err(|_| 417)?,
            None => 0,
        };
        let scheduled_at = if date > unix_ms() / 1000 { date } else { 0 };
        if let Some(kind) = optional(request.get("type")) {
            let kinds = json_array(kind).unwrap_or_else(|| vec![kind.to_owned()]);
            if kinds.iter().any(|kind| !matches!(kind.as_str(), "0" | "1" | "2" | "3")) {
                return Err(400);
            }
        }
        check_tag(request)?;
        Ok(Self { scheduled_at })
    }

    fn draft(
        &self,
        key: &str,
        receptor: &str,
        text: &str,
        sender: &str,
        localid: Option<i64>,
    ) -> Checked<Draft> {
        let number = mobile(receptor).ok_or(411)?;
        if text.is_empty() || text.chars().count() > MESSAGE_CHARS_MAX {
            return Err(413);
        }
        Ok(Draft {
            account: key.into(),
            number,
            text: Some(text.into()),
            sender: Some(sender.into()),
            localid,
            status: if self.scheduled_at > 0 { SCHEDULED } else { QUEUED },
            scheduled_at: self.scheduled_at,
            ..Draft::default()
        })
    }
}

/// 400 when the parameter is missing, 406 when it is empty.
fn mandatory(value: Option<&str>) -> Checked<String> {
    match value {
        None => Err(400),
        Some("") => Err(406),
        Some(value) => Ok(value.to_owned()),
    }
}

/// Treats as absent an empty value, and the word `null` that one client library sends.
fn optional(value: Option<&str>) -> Option<&str> {
    value.filter(|value| !value.is_empty() && *value != "null")
}

fn sender(world: &World, sender: Option<&str>) -> Checked<String> {
    let Some(sender) = sender else { return Ok(SENDER_DEFAULT.into()) };
    let line = ["+98", "0098"].into_iter().find_map(|prefix| sender.strip_prefix(prefix)).unwrap_or(sender);
    let digits = line.bytes().all(|byte| byte.is_ascii_digit());
    let known = world.settings().kavenegar.senders.as_ref().is_none_or(|lines| lines.contains(line));
    if digits && (4..=14).contains(&line.len()) && known { Ok(line.into()) } else { Err(412) }
}

/// One local id per recipient, or none at all.
fn localids(value: Option<&str>, count: usize) -> Checked<Vec<Option<i64>>> {
    let Some(value) = value else { return Ok(vec![None; count]) };
    let ids = list_of(value);
    if ids.len() != count {
        return Err(419);
    }
    ids.iter().map(|id| id.parse().map(Some).map_err(|_| 400)).collect()
}

fn check_token(token: &str, spaces_max: usize) -> Checked<()> {
    let spaces = token.chars().filter(|letter| *letter == ' ').count();
    let refused = |letter: char| letter == '_' || (letter != ' ' && letter.is_whitespace());
    let ok = spaces <= spaces_max && token.chars().count() <= TOKEN_CHARS_MAX && !token.contains(refused);
    if ok { Ok(()) } else { Err(431) }
}

fn check_tag(request: &Request) -> Checked<()> {
    let Some(tag) = optional(request.get("tag")) else { return Ok(()) };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if tag.len() <= 200 && tag.bytes().all(allowed) { Ok(()) } else { Err(607) }
}

/// A foreign number (`00` and country code) or an Iranian landline: a lookup accepts both.
fn abroad_or_landline(receptor: &str) -> Option<String> {
    let digits = receptor.bytes().all(|byte| byte.is_ascii_digit());
    let abroad =
        receptor.starts_with("00") && !receptor.starts_with("0098") && (10..=17).contains(&receptor.len());
    let landline = receptor.len() == 11 && receptor.starts_with('0') && !receptor.starts_with("09");
    (digits && (abroad || landline)).then(|| receptor.to_owned())
}

fn id_list(request: &Request, name: &str) -> Checked<Vec<String>> {
    let ids = list_of(&mandatory(request.joined(name).as_deref())?);
    if ids.len() > STATUS_IDS_MAX {
        return Err(414);
    }
    if ids.iter().any(|id| id.parse::<i64>().is_err()) {
        return Err(400);
    }
    Ok(ids)
}

/// The delivery state that a status call returns for a message.
fn current(message: &Message, delivery: i64) -> i64 {
    if message.status == QUEUED { delivery } else { message.status }
}

fn numeric_id(message: &Message) -> i64 {
    number_of(&message.id)
}

fn number_of(id: &str) -> i64 {
    id.parse().unwrap_or(0)
}

fn status_text(status: i64) -> &'static str {
    match status {
        1 => "در صف ارسال",
        2 => "زمان‌بندی شده",
        4 | 5 => "ارسال شده به مخابرات",
        6 => "خطا در ارسال",
        10 => "رسیده به گیرنده",
        11 => "نرسیده به گیرنده",
        13 => "لغو شده",
        14 => "بلاک شده توسط گیرنده",
        _ => "شناسه نامعتبر است",
    }
}

/// `datetime` is UTC; the provider does not document its time zone.
fn getdate(unix_secs: u64) -> Value {
    let (days, secs) = (unix_secs / 86_400, unix_secs % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (secs / 3_600, secs / 60 % 60, secs % 60);
    json!({
        "datetime": format!("{year:04}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}"),
        "year": year, "month": month, "day": day,
        "hour": hour, "minute": minute, "second": second,
        "unixtime": unix_secs,
    })
}

/// Year, month and day of a day counted from 1970-01-01, computed by counting whole years and months.
fn civil(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_gives_key_and_call_with_or_without_a_slash_at_the_end() {
        assert_eq!(split("/v1/KEY/sms/send.json"), Some(("KEY", "sms/send")));
        assert_eq!(split("/v1/KEY/sms/send.json/"), Some(("KEY", "sms/send")));
        for wrong in ["/v1/KEY", "/v1/KEY/sms/send", "/v1/KEY/sms/send.xml", "/v2/KEY/sms/send.json"] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_key_is_masked_in_every_path_of_the_provider() {
        assert_eq!(Kavenegar.masked_path("/v1/KEY/sms/send.json"), "/v1/***/sms/send.json");
        assert_eq!(Kavenegar.masked_path("/v1/KEY"), "/v1/***");
    }

    #[test]
    fn dates_are_counted_right_over_leap_years() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(20_779), (2026, 11, 22));
    }

    #[test]
    fn tokens_are_held_to_their_spaces_and_length() {
        assert_eq!(check_token("482913", 0), Ok(()));
        assert_eq!(check_token("a b c d e f", 5), Ok(()));
        for (token, spaces) in [("a b", 0), ("a_b", 0), ("a\nb", 5), ("a\tb", 5), ("a b c d e f g", 5)] {
            assert_eq!(check_token(token, spaces), Err(431), "{token:?}");
        }
        assert_eq!(check_token(&"x".repeat(100), 0), Ok(()));
        assert_eq!(check_token(&"x".repeat(101), 0), Err(431));
    }
}
