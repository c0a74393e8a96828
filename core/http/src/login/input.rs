//! Fields and checks shared by several login routes.

use std::net::IpAddr;

use chelseru_domain::login::account::{EMAIL_CHARS_MAX, email_fits};
use chelseru_domain::login::group::Group;
use chelseru_domain::login::identity::{ClientInfo, DEVICE_NAME_CHARS_MAX};
use chelseru_domain::login::method::MethodDisabled;
use chelseru_domain::phone::PhoneNumber;
use chelseru_domain::sms::shield::{Acquaintance, Admission, Cap, Refusal};
use http::{StatusCode, header};
use serde_json::Value;

use super::Login;
use crate::fields::{Fields, Text};
use crate::reply::{Failure, sentence};
use crate::request::Context;
use crate::route::{Field, Is};

/// Characters of a number as typed: 11 digits, a country prefix, spaces and direction marks.
pub(crate) const NUMBER: Text = Text { chars_max: 32 };
const EMAIL: Text = Text { chars_max: EMAIL_CHARS_MAX };

pub(crate) const MOBILE_NUMBER: Field =
    Field("mobile_number", Is::Text, "An Iranian mobile number in any usual spelling.");

/// The answers of a login in the document.
pub(crate) const TOKENS: &[(u16, &str)] = &[
    (200, "Tokens"),
    (401, "Wrong, expired, used or burned."),
    (403, "This login method is disabled."),
    (429, "Too many attempts."),
];

/// The answer when the operator leaves a login method to nobody.
impl From<MethodDisabled> for Failure {
    fn from(MethodDisabled: MethodDisabled) -> Failure {
        let text = "Authentication method is not configured correctly.";
        Failure::error(StatusCode::FORBIDDEN, "auth_method_disabled", text)
    }
}

/// Asks the shield whether this client may cause a message to a number.
pub(crate) async fn pass_shield(
    login: &Login,
    context: &Context,
    number: &PhoneNumber,
) -> Result<Admission, Failure> {
    let about = About { login, number, ip: context.client };
    let now = login.clock.now();
    let admitted = login.shield.admit(&login.shield_rules, number, context.client, &about, now).await;
    if let Ok(Admission::AccountsOnly { cap, .. }) = &admitted {
        shielded(login, context, number, *cap, "code for accounts only, by the shield");
    }
    admitted.map_err(|refusal| shield_failure(login, context, number, refusal))
}

/// [`pass_shield`] for a code that is sent to every number alike.
pub(crate) fn pass_shield_as_stranger(
    login: &Login,
    context: &Context,
    number: &PhoneNumber,
) -> Result<(), Failure> {
    let now = login.clock.now();
    let admitted = login.shield.admit_stranger(&login.shield_rules, number, context.client, now);
    admitted.map_err(|refusal| shield_failure(login, context, number, refusal))
}

fn shield_failure(login: &Login, context: &Context, number: &PhoneNumber, refusal: Refusal) -> Failure {
    shielded(login, context, number, refusal.cap, "code refused by the shield");
    let text = "Too many codes were asked for. Please try again later.";
    Failure::details(StatusCode::TOO_MANY_REQUESTS, "sms_limited", text)
        .retry_after(refusal.retry_after.as_secs().max(1))
}

/// Counts and logs what the shield did.
fn shielded(login: &Login, context: &Context, number: &PhoneNumber, cap: Cap, what: &'static str) {
    let cap = cap.as_str();
    login.meter.counter("chelseru_sms_shield_refusals_total", &[("cap", cap)]).increment();
    tracing::warn!(request.id = %context.id, phone = %number, client.ip = %context.client, cap, what, "shield");
}

/// What the accounts tell of a number. A store that cannot be read tells nothing.
struct About<'a> {
    login: &'a Login,
    number: &'a PhoneNumber,
    ip: IpAddr,
}

impl Acquaintance for About<'_> {
    async fn has_account(&self) -> bool {
        self.login.identity.has_account(self.number).await.unwrap_or(false)
    }

    async fn was_here(&self) -> bool {
        self.login.identity.knows(self.number, Some(self.ip)).await.unwrap_or(false)
    }
}

/// The field with a device's name.
pub(crate) const DEVICE_NAME: Field =
    Field("device_name", Is::MayText, "A name for the list of sessions, at most 64 characters.");

/// Facts about the client, for its session.
pub(crate) fn client_info(context: &Context) -> ClientInfo {
    let user_agent = context.header(header::USER_AGENT).to_owned();
    ClientInfo { ip: Some(context.client), user_agent, device_name: None }
}

/// [`client_info`] of a login, which may name its device.
pub(crate) fn named_client(context: &Context, fields: &mut Fields) -> ClientInfo {
    let device_name = fields.given("device_name", Text { chars_max: DEVICE_NAME_CHARS_MAX });
    ClientInfo { device_name, ..client_info(context) }
}

/// The required field `mobile_number`.
pub(crate) fn mobile_number(fields: &mut Fields, rule: Text) -> Option<PhoneNumber> {
    let text = fields.required("mobile_number", rule)?;
    match PhoneNumber::parse(&text) {
        Ok(number) => Some(number),
        Err(error) => {
            fields.refuse("mobile_number", sentence(&error));
            None
        }
    }
}

/// An optional mail address: `None` when absent; an empty one stays empty.
pub(crate) fn email(fields: &mut Fields) -> Option<String> {
    let email = fields.optional("email", EMAIL)?;
    if !email.is_empty() && !email_fits(&email) {
        fields.refuse("email", "Enter a valid email address.");
        return None;
    }
    Some(email)
}

/// The group a client names: a number or its text. Absent, null and refused values are group 0.
pub(crate) fn group_or_refuse(fields: &mut Fields) -> Group {
    let text = match fields.value("group") {
        None | Some(Value::Null) => return Group::default(),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => String::new(),
    };
    Group::parse(&text).unwrap_or_else(|error| {
        fields.refuse("group", sentence(&error));
        Group::default()
    })
}
