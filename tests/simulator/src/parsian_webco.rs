//! Parsian Webco: templates with ordered values, message status, credit; three POST addresses.
//!
//! No official document is public, so the stand-in accepts every form that client libraries use: names in any case,
//! strings or `[]` arrays, form, JSON or `multipart/form-data`, a token or `cid` with `cpass`. The fields of a send's
//! reply besides `status` are unknown. The default is none; settings can add an id. Source: public client libraries,
//! read 2026-11. They document status 200, 100 and 401. The shapes of the status and credit replies are guesses,
//! marked below.

use std::borrow::Cow;
use std::collections::BTreeSet;

use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ledger::Draft;
use crate::provider::{Outcome, Provider, Reply};
use crate::request::{Request, mobile};
use crate::world::World;

const NAME: &str = "parsian_webco";
const ID_FIRST: u64 = 410_001;
const FAILED: i64 = 100;
const UNAUTHORIZED: i64 = 401;

pub(crate) struct ParsianWebco;

/// Behaviour of the Parsian Webco stand-in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParsianWebcoSettings {
    /// Accepted tokens (and `cpass` values of the older pair); absent: any non-empty one.
    pub tokens: Option<BTreeSet<String>>,
    /// Approved template ids; absent: any whole number.
    pub templates: Option<BTreeSet<String>>,
    /// Where a send's reply carries the message id: `smsID`, `id`, `data.smsID`, ...; absent: nowhere, as in the only
    /// recorded replies.
    pub id_field: Option<String>,
    /// Send `status` as text (`"200"`). Default false.
    pub status_as_text: bool,
    /// Use the error code as the HTTP status; otherwise 200. Default false.
    pub http_status_follows_code: bool,
    /// Credit before any message; each message subtracts one.
    pub credit: i64,
}

impl Default for ParsianWebcoSettings {
    fn default() -> Self {
        Self {
            tokens: None,
            templates: None,
            id_field: None,
            status_as_text: false,
            http_status_follows_code: false,
            credit: 1_000_000_000,
        }
    }
}

impl Provider for ParsianWebco {
    fn name(&self) -> &'static str {
        NAME
    }

    fn summary(&self) -> &'static str {
        "/webservice-send-sms/send /webservice-check-sms/get /webservice-get-credit/get"
    }

    fn claims(&self, path: &str) -> bool {
        path.starts_with("/webservice-")
    }

    fn call<'a>(&self, request: &'a Request) -> Cow<'a, str> {
        match request.path.trim_end_matches('/') {
            "/webservice-send-sms/send" => "send",
            "/webservice-check-sms/get" => "check",
            "/webservice-get-credit/get" => "credit",
            _ => "unknown",
        }
        .into()
    }

    fn masked_path(&self, path: &str) -> String {
        path.to_owned()
    }

    fn secret_fields(&self) -> &'static [&'static str] {
        &["token", "cpass"]
    }

    fn codes(&self) -> &'static [i64] {
        &[FAILED, UNAUTHORIZED]
    }

    fn numbers(&self, request: &Request) -> Vec<String> {
        request.list_caseless("Receiver")
    }

    fn answer(&self, world: &World, request: &Request) -> Reply {
        match answer(world, request) {
            Ok((mut body, outcome)) => {
                body["status"] = status(world, 200);
                Reply::json(200, &body, outcome)
            }
            Err(code) => self.refuse(world, request, code, None),
        }
    }

    fn refuse(&self, world: &World, _: &Request, code: i64, status_follows: Option<bool>) -> Reply {
        let follows = status_follows.unwrap_or(world.settings().parsian_webco.http_status_follows_code);
        // 100 is not a final HTTP status, so this code always comes with 200.
        let http = if follows && code == UNAUTHORIZED { 401 } else { 200 };
        Reply::json(http, &json!({"status": status(world, code)}), Outcome::Refused(code))
    }
}

fn status(world: &World, code: i64) -> Value {
    if world.settings().parsian_webco.status_as_text { code.to_string().into() } else { code.into() }
}

fn answer(world: &World, request: &Request) -> Result<(Value, Outcome), i64> {
    if request.http_method != Method::POST || request.malformed {
        return Err(FAILED);
    }
    let settings = &world.settings().parsian_webco;
    let filled = |name: &str| request.get_caseless(name).filter(|value| !value.is_empty());
    let credential = match filled("token") {
        Some(token) => token,
        None => filled("cid").and_then(|_| filled("cpass")).ok_or(UNAUTHORIZED)?,
    };
    if settings.tokens.as_ref().is_some_and(|tokens| !tokens.contains(credential)) {
        return Err(UNAUTHORIZED);
    }
    match ParsianWebco.call(request).as_ref() {
        "send" => send(world, settings, request, credential),
        // The names `delivery` and `credit` are ours: no public client reads any.
        "check" => {
            let id = filled("smsID").ok_or(FAILED)?;
            let mut ledger = world.ledger();
            let message =
                ledger.by_id(NAME, id).filter(|message| message.account == credential).ok_or(FAILED)?;
            Ok((json!({"delivery": message.status}), Outcome::Answered))
        }
        "credit" => Ok((json!({"credit": settings.credit - world.ledger().spent(NAME)}), Outcome::Answered)),
        _ => Err(FAILED),
    }
}

fn send(
    world: &World,
    settings: &ParsianWebcoSettings,
    request: &Request,
    account: &str,
) -> Result<(Value, Outcome), i64> {
    let template = request.get_caseless("TemplateID").ok_or(FAILED)?.trim().to_owned();
    let known = settings.templates.as_ref().is_none_or(|templates| templates.contains(&template));
    let values = request.list_caseless("MessageVars");
    let numbers: Option<Vec<_>> =
        request.list_caseless("Receiver").iter().map(|number| mobile(number)).collect();
    let numbers = numbers.filter(|numbers| !numbers.is_empty()).ok_or(FAILED)?;
    if template.parse::<u64>().is_err() || !known || values.is_empty() {
        return Err(FAILED);
    }
    let mut ledger = world.ledger();
    let cost = i64::try_from(numbers.len()).map_err(|_| FAILED)?;
    if settings.credit - ledger.spent(NAME) < cost {
        return Err(FAILED);
    }
    ledger.spend(NAME, cost);
    let tokens: Vec<_> =
        values.into_iter().enumerate().map(|(index, value)| ((index + 1).to_string(), value)).collect();
    let mut ids = Vec::new();
    for number in numbers {
        let draft = Draft {
            account: account.into(),
            number,
            template: Some(template.clone()),
            tokens: tokens.clone(),
            status: 1,
            ..Draft::default()
        };
        ids.push(ledger.accept(NAME, ID_FIRST, draft).0.id.clone());
    }
    let mut body = json!({});
    if let Some(field) = &settings.id_field {
        let id = ids.first().and_then(|id| id.parse::<u64>().ok());
        match field.split_once('.') {
            Some((outer, inner)) => body[outer] = json!({inner: id}),
            None => body[field] = json!(id),
        }
    }
    Ok((body, Outcome::Accepted))
}
