//! API keys, and the operators with their roles and second factors.

use chelseru_domain::ids::UserId;
use chelseru_domain::operator::api_key::{ApiKey, ApiKeyError, SCOPES};
use chelseru_domain::operator::console::RoleError;
use chelseru_domain::operator::role::{
    ApiKeyCreate, ApiKeyRead, ApiKeyRevoke, ConsoleLinkMake, OperatorRead, OperatorReset, OperatorSetRole,
    ROLES, UserRead, role_name, role_of,
};

use super::page::{Cell, Form, Input, Page, Part, Table, acts};
use super::row::{forms, operation, pages, row};
use super::show::latin;
use super::visit::{Outcome, Refused, Typed, Visit, reason_field, role_text};
use super::words::Words;
use super::{Console, LINK_PATH};
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/keys/", &[operation(Verb::Get, "console_keys", call!(keys))]),
    row("/console/keys/create/", &[operation(Verb::Post, "console_key_create", call!(create))]),
    row("/console/keys/revoke/", &[operation(Verb::Post, "console_key_revoke", call!(revoke))]),
    row("/console/operators/", &[operation(Verb::Get, "console_operators", call!(operators))]),
    row("/console/operators/role/", &[operation(Verb::Post, "console_operator_role", call!(role))]),
    row("/console/operators/factor/", &[operation(Verb::Post, "console_operator_factor", call!(factor))]),
    row("/console/operators/link/", &[operation(Verb::Post, "console_operator_link", call!(link))]),
];

pages!(keys = keys_shown, operators = operators_shown);
forms!(create = key_create, revoke = key_revoke, role = role_set, factor = factor_reset, link = link_make,);

async fn keys_shown(console: &Console, _: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    Ok(Outcome::Page(keys_page(console, visit, None).await?))
}

async fn keys_page(console: &Console, visit: &Visit, refused: Option<Form>) -> Result<Page, Refused> {
    let t = visit.t;
    let permit = visit.permit::<ApiKeyRead>()?;
    let offered = [
        visit.may::<ApiKeyCreate>().then(|| create_form(t)),
        visit.may::<ApiKeyRevoke>().then(|| revoke_form(t)),
    ];
    let mut parts = acts(offered, refused.as_ref());
    let mut table = Table::new("", vec![t.id, t.name, t.scope, t.daily_cap, t.created, t.state]);
    for key in console.desk.api_keys(&permit).await? {
        let ApiKey { id, name, scope, daily_cap, created_at, revoked_at, .. } = key;
        table.rows.push(vec![
            Cell::code(id),
            Cell::text(&name),
            Cell::code(scope),
            Cell::code(daily_cap.map(|cap| cap.to_string()).unwrap_or_default()),
            Cell::time(created_at, visit.language),
            if revoked_at.is_none() { Cell::good(t.valid) } else { Cell::bad(t.revoked) },
        ]);
    }
    parts.push(Part::Table(table));
    Ok(Page::new(t.api_keys.to_owned(), parts))
}

fn create_form(t: &Words) -> Form {
    let scopes = SCOPES.iter().map(|scope| (*scope, *scope));
    Form::new(t.create, t.key_text, "/console/keys/create/".to_owned())
        .field(Input { name: "name", label: t.name, ..Input::default() })
        .field(Input::select("scope", t.scope, "sms".to_owned(), scopes))
        .field(Input::code("daily_cap", t.daily_cap, String::new()))
        .field(reason_field(t))
}

fn revoke_form(t: &Words) -> Form {
    Form::new(t.revoke, t.revoke_text, "/console/keys/revoke/".to_owned())
        .danger_of_choice()
        .field(Input::code("id", t.id, String::new()))
        .field(reason_field(t))
}

/// Makes a key and shows it once.
async fn key_create(
    console: &Console,
    _: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<ApiKeyCreate>()?;
    let mut form = create_form(t);
    let (name, scope, cap) = (typed.get("name"), typed.get("scope"), typed.latin("daily_cap"));
    let parsed = if cap.is_empty() { Ok(None) } else { cap.parse().map(Some) };
    typed.fill(&mut form);
    if parsed.is_err() {
        form.refuse("daily_cap", t.number_wrong);
    }
    let (Some(reason), Ok(daily_cap)) = (typed.reason(&mut form, t), parsed) else {
        return Ok(Outcome::Again(keys_page(console, visit, Some(form)).await?));
    };
    match console.desk.api_key_create(&permit, &name, &scope, daily_cap, &reason).await {
        Ok(made) => {
            let parts = vec![Part::Secret { text: t.key_made, lines: vec![made.token] }];
            Ok(Outcome::Page(Page::new(t.api_keys.to_owned(), parts)))
        }
        Err(ApiKeyError::UnknownScope(_)) => {
            form.refuse("scope", t.choice_wrong);
            Ok(Outcome::Again(keys_page(console, visit, Some(form)).await?))
        }
        Err(ApiKeyError::BadName | ApiKeyError::BadCap | ApiKeyError::TooMany) => {
            form.refuse("name", t.key_wrong);
            Ok(Outcome::Again(keys_page(console, visit, Some(form)).await?))
        }
        Err(error) => Err(Refused::Failed(error.to_string())),
    }
}

async fn key_revoke(
    console: &Console,
    _: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<ApiKeyRevoke>()?;
    let mut form = revoke_form(t);
    typed.fill(&mut form);
    let id: Option<u64> = typed.latin("id").parse().ok();
    match id {
        Some(id) => {
            let keys = console.desk.api_keys(&visit.permit::<ApiKeyRead>()?).await?;
            match keys.iter().find(|key| key.id == id) {
                Some(key) => form.target(&key.name),
                None => form.refuse("id", t.missing),
            }
        }
        None => form.refuse("id", t.number_wrong),
    }
    if let (Some(reason), Some(id)) = (typed.reason(&mut form, t), id) {
        if console.desk.api_key_revoke(&permit, id, &reason).await? {
            return Ok(Outcome::Done("/console/keys/".to_owned()));
        }
        form.refuse("id", t.missing);
    }
    Ok(Outcome::Again(keys_page(console, visit, Some(form)).await?))
}

async fn operators_shown(console: &Console, _: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    Ok(Outcome::Page(operators_page(console, visit, None).await?))
}

async fn operators_page(console: &Console, visit: &Visit, refused: Option<Form>) -> Result<Page, Refused> {
    let (t, language) = (visit.t, visit.language);
    let permits = (visit.permit::<OperatorRead>()?, visit.permit::<UserRead>()?);
    let offered = [
        visit.may::<OperatorSetRole>().then(|| role_form(t)),
        visit.may::<OperatorReset>().then(|| factor_form(t)),
        visit.may::<ConsoleLinkMake>().then(|| link_form(t)),
    ];
    let mut parts = acts(offered, refused.as_ref());
    let mut table = Table::new("", vec![t.id, t.username, t.role, t.factor, t.sessions]);
    for operator in console.desk.operators(&permits.0, &permits.1).await? {
        let role = operator.role.map_or(t.role_none, |role| role_text(role, t));
        table.rows.push(vec![
            Cell::link(format!("/console/users/{}/", operator.user.id), operator.user.id),
            Cell::text(&operator.user.username),
            Cell::plain(role),
            match operator.factor_since {
                Some(since) => Cell::time(since, language),
                None => Cell::bad(t.factor_none),
            },
            Cell::code(operator.sessions),
        ]);
    }
    parts.push(Part::Table(table));
    Ok(Page::new(t.operators.to_owned(), parts))
}

/// The field that names an operator, or a user who becomes one.
fn user_field(t: &Words) -> Input {
    Input { name: "user", label: t.user, ..Input::default() }
}

fn role_form(t: &Words) -> Form {
    let roles = ROLES.map(|role| (role_name(role), role_text(role, t)));
    let choices = roles.into_iter().chain([("none", t.role_none)]);
    Form::new(t.set_role, t.set_role_text, "/console/operators/role/".to_owned())
        .danger_of_choice()
        .field(user_field(t))
        .field(Input::select("role", t.role, "viewer".to_owned(), choices))
        .field(reason_field(t))
}

fn factor_form(t: &Words) -> Form {
    Form::new(t.factor_reset, t.factor_reset_text, "/console/operators/factor/".to_owned())
        .danger_of_choice()
        .field(user_field(t))
        .field(reason_field(t))
}

fn link_form(t: &Words) -> Form {
    Form::new(t.link_title, t.link_text, "/console/operators/link/".to_owned()).field(user_field(t))
}

/// The user that a form names; the form gets a message when there is none.
async fn named(
    console: &Console,
    visit: &Visit,
    typed: &Typed,
    form: &mut Form,
) -> Result<Option<UserId>, Refused> {
    let text = typed.get("user");
    let permit = visit.permit::<UserRead>()?;
    let found = console.desk.user_named(&permit, &latin(&text)).await?;
    typed.fill(form);
    match &found {
        Some(user) if form.danger.is_some() => form.target(&user.username),
        Some(_) => {}
        None => form.refuse("user", visit.t.user_wrong),
    }
    Ok(found.map(|user| user.id))
}

async fn role_set(console: &Console, _: &Context, visit: &Visit, typed: &Typed) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<OperatorSetRole>()?;
    let mut form = role_form(t);
    let user = named(console, visit, typed, &mut form).await?;
    let word = typed.get("role");
    let role = match word.as_str() {
        "none" => Some(None),
        word => role_of(word).map(Some),
    };
    if role.is_none() {
        form.refuse("role", t.choice_wrong);
    }
    if let (Some(reason), Some(user), Some(role)) = (typed.reason(&mut form, t), user, role) {
        match console.desk.console().role_set(&permit, user, role, &reason).await {
            Ok(()) => return Ok(Outcome::Done("/console/operators/".to_owned())),
            Err(RoleError::Own) => form.refuse("user", t.own_refused),
            Err(RoleError::NoAccount) => form.refuse("user", t.user_wrong),
            Err(RoleError::Store(error)) => return Err(error.into()),
        }
    }
    Ok(Outcome::Again(operators_page(console, visit, Some(form)).await?))
}

async fn factor_reset(
    console: &Console,
    _: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<OperatorReset>()?;
    let mut form = factor_form(t);
    let user = named(console, visit, typed, &mut form).await?;
    if let (Some(reason), Some(user)) = (typed.reason(&mut form, t), user) {
        match console.desk.console().factor_reset(&permit, user, &reason).await {
            Ok(()) => return Ok(Outcome::Done("/console/operators/".to_owned())),
            Err(RoleError::Store(error)) => return Err(error.into()),
            Err(RoleError::NoAccount | RoleError::Own) => {
                form.refuse("user", t.user_wrong);
            }
        }
    }
    Ok(Outcome::Again(operators_page(console, visit, Some(form)).await?))
}

/// Makes a one-time link for another operator and shows it once.
async fn link_make(console: &Console, _: &Context, visit: &Visit, typed: &Typed) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<ConsoleLinkMake>()?;
    let mut form = link_form(t);
    if let Some(user) = named(console, visit, typed, &mut form).await? {
        let made = console.desk.console().link_make(&permit, user).await;
        if let Some(link) = made.map_err(|error| Refused::Failed(error.to_string()))? {
            let lines = vec![format!("{LINK_PATH}?token={}", link.token)];
            let parts = vec![Part::Secret { text: t.link_text, lines }];
            return Ok(Outcome::Page(Page::new(t.link_title.to_owned(), parts)));
        }
        form.refuse("user", t.user_wrong);
    }
    Ok(Outcome::Again(operators_page(console, visit, Some(form)).await?))
}
