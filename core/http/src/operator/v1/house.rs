//! `operator/v1/` of the house: keys, operators, providers, the configuration, backups and the doctor.

use std::path::PathBuf;
use std::sync::Arc;

use chelseru_domain::PhoneNumber;
use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::UserId;
use chelseru_domain::operator::api_key::ApiKeyError;
use chelseru_domain::operator::audit::AuditEntry;
use chelseru_domain::operator::console::{Opened, OperatorView, RoleError};
use chelseru_domain::operator::desk::ResendError;
use chelseru_domain::operator::doctor::Finding;
use chelseru_domain::operator::house::{ComponentSeen, ConfigSeen, HouseError};
use chelseru_domain::operator::role::{
    ApiKeyCreate, ApiKeyRead, ApiKeyRevoke, BackupRead, BackupWrite, ConfigRead, ConfigWrite,
    ConsoleLinkMake, OperatorRead, OperatorReset, OperatorSetRole, OverviewRead, PluginWrite, Proof,
    ProviderTest, UserRead, role_name, role_of,
};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::{NAME, NO_ROLE, NO_TOKEN, PAGE, WHY, act, failed, read, reason, route};
use crate::body::{BodyBounds, read_bytes};
use crate::console::Console;
use crate::console::components::OVERHEAD_BYTES;
use crate::drain::Incoming;
use crate::fields::{Fields, Text, multipart_with_file};
use crate::operator::api_key::api_key_json;
use crate::reply::{Failure, Reply, sentence};
use crate::request::{ByOperator, Context, Request, not_found};
use crate::route::{About, Answer, Field, Is, Operation, Route, Verb, call};

const REFUSED: &str = "The configuration is refused, or the file changed meanwhile.";
const FOLDER: Field = Field("folder", Is::Text, "An absolute path on the gateway's machine.");
const MAIN: Field = Field("user", Is::Text, "A user name, a phone number or an account number.");

pub(crate) const ROUTES: &[Route] = &[
    route(
        "/operator/v1/overview/",
        "Operator Overview",
        &[read(
            "operator_overview",
            "Show version, providers, configuration and refusals",
            &[],
            &[(200, "Any"), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(overview),
        )],
    ),
    route(
        "/operator/v1/doctor/",
        "Operator Doctor",
        &[read(
            "operator_doctor",
            "Examine the gateway and its machine, worst first",
            &[],
            &[(200, "Results<Finding>"), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(doctor),
        )],
    ),
    route(
        "/operator/v1/keys/",
        "Operator Key List",
        &[
            read(
                "operator_key_list",
                "List API keys, revoked ones included",
                &[],
                &[(200, "Results<ApiKey>"), (401, NO_TOKEN), (403, NO_ROLE)],
                call!(keys),
            ),
            act(
                "operator_key_create",
                "Make an API key; its token is shown once",
                &[
                    WHY,
                    Field("scope", Is::Text, "sms, or operator: and a role."),
                    Field("name", Is::MayText, "A name for people."),
                    Field("daily_cap", Is::MayInteger, "Messages a day (UTC)."),
                ],
                &[(201, "NewApiKey"), (401, NO_TOKEN), (403, NO_ROLE)],
                call!(key_create),
            ),
        ],
    ),
    route(
        "/operator/v1/keys/{id}/revoke/",
        "Operator Key Revoke",
        &[act(
            "operator_key_revoke",
            "Revoke an API key",
            &[WHY],
            &[(204, "Revoked."), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(key_revoke),
        )],
    ),
    route(
        "/operator/v1/operators/",
        "Operator List",
        &[read(
            "operator_list",
            "List operators with their roles",
            &[],
            &[(200, "Results<OperatorAccount>"), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(operators),
        )],
    ),
    route(
        "/operator/v1/operators/role/",
        "Operator Role",
        &[act(
            "operator_role_set",
            "Give, change or take a role",
            &[WHY, MAIN, Field("role", Is::Text, "viewer, support, finance, admin or none.")],
            &[(204, "Set."), (401, NO_TOKEN), (403, NO_ROLE), (409, "Nobody changes the own role.")],
            call!(role_set),
        )],
    ),
    route(
        "/operator/v1/operators/factor/reset/",
        "Operator Factor Reset",
        &[act(
            "operator_factor_reset",
            "Remove the second factor of an operator and end the sessions",
            &[WHY, MAIN],
            &[(204, "Removed."), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(factor_reset),
        )],
    ),
    route(
        "/operator/v1/operators/link/",
        "Operator Console Link",
        &[act(
            "operator_console_link",
            "Make the one-time link of an operator's console, for whom no key can ask",
            &[MAIN],
            &[(200, "ResetToken"), (401, NO_TOKEN), (403, "The role does not include this, or a key asks.")],
            call!(link_make),
        )],
    ),
    route(
        "/operator/v1/providers/",
        "Operator Provider List",
        &[read(
            "operator_provider_list",
            "List providers with their state, order and settings without secrets",
            &[],
            &[(200, "OperatorProviders"), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(providers),
        )],
    ),
    route(
        "/operator/v1/providers/{name}/move/",
        "Operator Provider Move",
        &[act(
            "operator_provider_move",
            "Move a provider one place in the order of messages",
            &[WHY, Field("place", Is::Text, "earlier or later.")],
            &[(204, "Moved; it serves."), (401, NO_TOKEN), (403, NO_ROLE), (409, REFUSED)],
            call!(provider_move),
        )],
    ),
    route(
        "/operator/v1/providers/{name}/test/",
        "Operator Provider Test",
        &[act(
            "operator_provider_test",
            "Send a message by one provider",
            &[
                WHY,
                Field("mobile_number", Is::Text, "The receiver."),
                Field("text", Is::Text, "At most 160 characters."),
            ],
            &[
                (201, "OperatorMessageId"),
                (401, NO_TOKEN),
                (403, NO_ROLE),
                (503, "The queue or the disk is full."),
            ],
            call!(provider_test),
        )],
    ),
    route(
        "/operator/v1/components/",
        "Operator Component List",
        &[
            read(
                "operator_component_list",
                "List the components of the plugins folder",
                &[],
                &[(200, "Results<OperatorComponent>"), (401, NO_TOKEN), (403, NO_ROLE)],
                call!(components),
            ),
            Operation {
                verb: Verb::Post,
                id: "operator_component_put",
                call: call!(component_put),
                about: About {
                    summary: "Upload a component in the place of the one of its name, or take it back",
                    parameters: &[],
                    fields: &[
                        WHY,
                        Field("name", Is::Text, "The component's name, as used in the configuration."),
                        Field("file", Is::File, "The component."),
                    ],
                    answers: &[
                        (201, "OperatorDigest"),
                        (401, NO_TOKEN),
                        (403, NO_ROLE),
                        (409, "The component is refused."),
                        (413, "It exceeds plugins.plugin_bytes_max."),
                    ],
                },
            },
        ],
    ),
    route(
        "/operator/v1/components/{name}/back/",
        "Operator Component Back",
        &[act(
            "operator_component_back",
            "Put the component before back",
            &[WHY],
            &[(200, "OperatorDigest"), (401, NO_TOKEN), (403, NO_ROLE), (409, "The component is refused.")],
            call!(component_back),
        )],
    ),
    route(
        "/operator/v1/config/",
        "Operator Configuration",
        &[read(
            "operator_config",
            "Show the configuration file without secrets, and its state",
            &[],
            &[(200, "OperatorConfig"), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(config),
        )],
    ),
    route(
        "/operator/v1/config/check/",
        "Operator Configuration Check",
        &[act(
            "operator_config_check",
            "Check a configuration as `chelseru check` does, and change nothing",
            &[Field("text", Is::Text, "The file; a hidden secret stands for that of the file.")],
            &[(200, "OperatorConfigChecked"), (401, NO_TOKEN), (403, NO_ROLE), (409, REFUSED)],
            call!(config_check),
        )],
    ),
    route(
        "/operator/v1/config/apply/",
        "Operator Configuration Apply",
        &[act(
            "operator_config_apply",
            "Write a configuration and wait until it serves, or take it back",
            &[
                WHY,
                Field("text", Is::Text, "The file; a hidden secret stands for that of the file."),
                Field("mark", Is::Text, "`mark` of the file that was edited."),
            ],
            &[(204, "It serves."), (401, NO_TOKEN), (403, NO_ROLE), (409, REFUSED)],
            call!(config_apply),
        )],
    ),
    route(
        "/operator/v1/backups/",
        "Operator Backup List",
        &[
            read(
                "operator_backup_list",
                "List the backups on record, newest first",
                &[],
                &[(200, "Results<OperatorBackup>"), (401, NO_TOKEN), (403, NO_ROLE)],
                call!(backups),
            ),
            act(
                "operator_backup_write",
                "Write a backup into a folder that does not exist yet",
                &[FOLDER],
                &[(201, "Copied"), (401, NO_TOKEN), (403, NO_ROLE)],
                call!(backup_write),
            ),
        ],
    ),
    route(
        "/operator/v1/backups/verify/",
        "Operator Backup Verify",
        &[act(
            "operator_backup_verify",
            "Verify every file of a backup",
            &[FOLDER],
            &[(200, "OperatorBackupVerified"), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(backup_verify),
        )],
    ),
];

const LONG: Text = Text { chars_max: 4096 };
const MESSAGE: Text = Text { chars_max: 160 };

async fn overview(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<OverviewRead>(&request).await?;
    Ok(Reply::json(StatusCode::OK, &console.desk.overview(&permit).await))
}

async fn doctor(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<OverviewRead>(&request).await?;
    let findings = console.desk.doctor(&permit).await.map_err(|error| house_failure(&request, error))?;
    let results: Vec<Value> = findings.iter().map(finding_json).collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

/// A finding of the doctor, for programs and for `chelseru doctor`.
#[must_use]
pub fn finding_json(finding: &Finding) -> Value {
    json!({
        "check": finding.check.as_str(),
        "state": finding.state.as_str(),
        "what": finding.what.to_string(),
        "cure": finding.check.cure(),
    })
}

async fn keys(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<ApiKeyRead>(&request).await?;
    let keys = console.desk.api_keys(&permit).await.map_err(|error| failed(&request, &error))?;
    let results: Vec<Value> = keys.iter().map(api_key_json).collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

async fn key_create(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<ApiKeyCreate>(&context).await?;
    let scope = fields.required("scope", NAME);
    let name = fields.given("name", NAME).unwrap_or_default();
    let cap = fields.number_text("daily_cap").map(|text| text.parse::<u64>());
    let scope = fields.all(scope)?;
    let reason = reason(&mut fields)?;
    let cap = cap.transpose().map_err(|_| Failure::field("daily_cap", "A valid integer is required."))?;
    match console.desk.api_key_create(&permit, &name, &scope, cap, &reason).await {
        Ok(made) => {
            let mut body = api_key_json(&made.key);
            body["token"] = made.token.into();
            Ok(Reply::json(StatusCode::CREATED, &body))
        }
        Err(error @ (ApiKeyError::Store(_) | ApiKeyError::Randomness(_))) => Err(failed(&context, &error)),
        Err(error) => Err(Failure::details(StatusCode::BAD_REQUEST, "invalid_api_key", error.to_string())),
    }
}

async fn key_revoke(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<ApiKeyRevoke>(&context).await?;
    let (id, reason) = (context.id("id")?, reason(&mut fields)?);
    match console.desk.api_key_revoke(&permit, id, &reason).await {
        Ok(true) => Ok(Reply::empty()),
        Ok(false) => Err(not_found()),
        Err(error) => Err(failed(&context, &error)),
    }
}

async fn operators(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<OperatorRead>(&request).await?;
    let users = console.allow::<UserRead>(&request).await?;
    let found = console.desk.operators(&permit, &users).await.map_err(|error| failed(&request, &error))?;
    let results: Vec<Value> = found.iter().map(operator_json).collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

fn operator_json(operator: &OperatorView) -> Value {
    json!({
        "user": operator.user.id.0,
        "username": operator.user.username,
        "role": operator.role.map(role_name),
        "factor_since": operator.factor_since.map(rest_format),
        "sessions": operator.sessions,
    })
}

/// The user that a body names.
async fn named(console: &Console, context: &Context, fields: &mut Fields) -> Result<UserId, Failure> {
    let permit = console.allow::<UserRead>(context).await?;
    let text = fields.required("user", NAME);
    let text = fields.all(text)?;
    let found = console.desk.user_named(&permit, &text).await.map_err(|error| failed(context, &error))?;
    found.map(|user| user.id).ok_or_else(|| Failure::field("user", "There is no such user."))
}

fn role_failure(context: &Context, error: RoleError) -> Failure {
    match error {
        RoleError::Own => {
            Failure::detail(StatusCode::CONFLICT, "own_account", "Nobody changes the own role.")
        }
        RoleError::NoAccount => Failure::field("user", "There is no such user."),
        RoleError::Store(error) => failed(context, &error),
    }
}

async fn role_set(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<OperatorSetRole>(&context).await?;
    let user = named(&console, &context, &mut fields).await?;
    let word = fields.required("role", NAME);
    let role = match fields.all(word)?.as_str() {
        "none" => None,
        word => {
            let wrong = || Failure::field("role", "Must be viewer, support, finance, admin or none.");
            Some(role_of(word).ok_or_else(wrong)?)
        }
    };
    let reason = reason(&mut fields)?;
    let set = console.desk.console().role_set(&permit, user, role, &reason).await;
    set.map(|()| Reply::empty()).map_err(|error| role_failure(&context, error))
}

async fn factor_reset(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<OperatorReset>(&context).await?;
    let user = named(&console, &context, &mut fields).await?;
    let reason = reason(&mut fields)?;
    let reset = console.desk.console().factor_reset(&permit, user, &reason).await;
    reset.map(|()| Reply::empty()).map_err(|error| role_failure(&context, error))
}

async fn link_make(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<ConsoleLinkMake>(&context).await?;
    if matches!(permit.operator().proof(), Proof::ApiKey(_)) {
        let text = "Not allowed: a key opens no session of a person.";
        return Err(Failure::detail(StatusCode::FORBIDDEN, "role_forbids", text));
    }
    let user = named(&console, &context, &mut fields).await?;
    let made = console.desk.console().link_make(&permit, user).await;
    let made = made.map_err(|error| failed(&context, &error))?;
    let Opened { token, expires_at } =
        made.ok_or_else(|| Failure::field("user", "This user is no operator."))?;
    let users = console.allow::<UserRead>(&context).await?;
    let found = console.desk.user(&users, user).await.map_err(|error| failed(&context, &error))?;
    let username = found.map(|user| user.username).unwrap_or_default();
    let body = json!({"username": username, "token": token, "expires_at": rest_format(expires_at)});
    Ok(Reply::json(StatusCode::OK, &body))
}

async fn providers(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let seen = seen(&console, &request).await?;
    let permit = console.allow::<OverviewRead>(&request).await?;
    let mut status = console.desk.overview(&permit).await;
    let settings: serde_json::Map<String, Value> = seen
        .settings
        .iter()
        .map(|(name, pairs)| {
            let pairs: serde_json::Map<String, Value> =
                pairs.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
            (name.clone(), pairs.into())
        })
        .collect();
    let body = json!({"order": seen.order, "providers": status["providers"].take(), "settings": settings});
    Ok(Reply::json(StatusCode::OK, &body))
}

async fn seen(console: &Console, context: &Context) -> Result<ConfigSeen, Failure> {
    let permit = console.allow::<ConfigRead>(context).await?;
    console.desk.config(&permit).await.map_err(|error| house_failure(context, error))
}

fn house_failure(context: &Context, error: HouseError) -> Failure {
    match error {
        HouseError::Refused(problems) => Failure::object(
            StatusCode::CONFLICT,
            "config_refused",
            json!({"detail": "The configuration is refused.", "problems": problems}),
        ),
        HouseError::Stale => {
            let text = "Something was edited meanwhile, here or at another gateway; read it again.";
            Failure::detail(StatusCode::CONFLICT, "config_stale", text)
        }
        HouseError::Failed(text) => {
            tracing::info!(request.id = %context.id, reason = text, "an operator's request was not done");
            Failure::details(StatusCode::BAD_REQUEST, "house_failed", text)
        }
    }
}

async fn provider_move(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<ConfigWrite>(&context).await?;
    let name = context.parameter("name").to_owned();
    if !seen(&console, &context).await?.order.contains(&name) {
        return Err(not_found());
    }
    let place = fields.required("place", NAME);
    let earlier = match fields.all(place)?.as_str() {
        "earlier" => true,
        "later" => false,
        _ => return Err(Failure::field("place", "Must be earlier or later.")),
    };
    let reason = reason(&mut fields)?;
    let moved = console.desk.provider_move(&permit, &name, earlier, &reason).await;
    moved.map(|()| Reply::empty()).map_err(|error| house_failure(&context, error))
}

async fn provider_test(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<ProviderTest>(&context).await?;
    let number = fields.required("mobile_number", NAME);
    let text = fields.required("text", MESSAGE);
    let (number, text) = fields.all((number, text))?;
    let number = PhoneNumber::parse(&number)
        .map_err(|_| Failure::field("mobile_number", "A mobile number is required."))?;
    let reason = reason(&mut fields)?;
    let name = context.parameter("name");
    match console.desk.provider_test(&permit, name, number, text, &reason).await {
        Ok(id) => Ok(Reply::json(StatusCode::CREATED, &json!({"id": id}))),
        Err(ResendError::Missing) => Err(not_found()),
        Err(error) => {
            Err(Failure::details(StatusCode::BAD_REQUEST, "message_not_sent_again", sentence(&error)))
        }
    }
}

async fn config(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let seen = seen(&console, &request).await?;
    // Comments may hold what was once a secret, so the text is for whoever may edit it.
    let text = console.allow::<ConfigWrite>(&request).await.is_ok().then_some(&seen.text);
    let body = json!({
        "file": seen.file, "text": text, "mark": seen.mark, "generation": seen.generation,
        "refused": seen.refused, "restart_keys": seen.restart_keys,
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

/// A file as it was sent, with its spaces and ends of lines.
fn file_text(fields: &Fields) -> Result<String, Failure> {
    let text = fields.value("text").and_then(Value::as_str);
    text.map(str::to_owned).ok_or_else(|| Failure::field("text", "This field is required."))
}

async fn config_check(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: fields, .. } = request;
    let permit = console.allow::<ConfigWrite>(&context).await?;
    let text = file_text(&fields)?;
    let checked = console.desk.config_check(&permit, &text).await;
    let checked = checked.map_err(|error| house_failure(&context, error))?;
    let body = json!({"restart_keys": checked.restart_keys, "warnings": checked.warnings});
    Ok(Reply::json(StatusCode::OK, &body))
}

async fn config_apply(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<ConfigWrite>(&context).await?;
    let text = file_text(&fields)?;
    let mark = fields.required("mark", NAME);
    let mark = fields.all(mark)?;
    let reason = reason(&mut fields)?;
    let applied = console.desk.config_apply(&permit, &text, &mark, &reason).await;
    applied.map(|()| Reply::empty()).map_err(|error| house_failure(&context, error))
}

async fn backups(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<BackupRead>(&request).await?;
    let page = console.desk.backups(&permit, PAGE).await.map_err(|error| failed(&request, &error))?;
    let one = |entry: &AuditEntry| {
        let draft = &entry.draft;
        let detail = if draft.after.is_empty() { &draft.detail } else { &draft.after };
        json!({
            "folder": draft.subject, "created_at": rest_format(draft.at), "detail": detail,
            "actor": draft.actor.map(|actor| actor.0),
        })
    };
    let results: Vec<Value> = page.entries.iter().map(one).collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

fn folder(fields: &mut Fields) -> Result<PathBuf, Failure> {
    let folder = fields.required("folder", LONG);
    let folder = PathBuf::from(fields.all(folder)?);
    if folder.is_absolute() { Ok(folder) } else { Err(Failure::field("folder", "Must be an absolute path.")) }
}

async fn backup_write(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<BackupWrite>(&context).await?;
    let folder = folder(&mut fields)?;
    let written = console.desk.backup_write(&permit, &folder).await;
    let counts = written.map_err(|error| house_failure(&context, error))?;
    let body = json!({"records": counts.amount, "files": counts.files});
    Ok(Reply::json(StatusCode::CREATED, &body))
}

async fn backup_verify(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<BackupWrite>(&context).await?;
    let folder = folder(&mut fields)?;
    let verified = console.desk.backup_verify(&permit, &folder).await;
    let counts = verified.map_err(|error| house_failure(&context, error))?;
    Ok(Reply::json(StatusCode::OK, &json!({"files": counts.files, "bytes": counts.amount})))
}

async fn components(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<ConfigRead>(&request).await?;
    let components = console.desk.components(&permit).map_err(|error| house_failure(&request, error))?;
    let one = |one: &ComponentSeen| {
        json!({
            "name": one.name, "bytes": one.bytes, "used_by": one.used_by, "has_before": one.has_before,
        })
    };
    let results: Vec<Value> = components.iter().map(one).collect();
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})))
}

fn digest(context: &Context, status: StatusCode, done: Result<String, HouseError>) -> Answer {
    let digest = done.map_err(|error| house_failure(context, error))?;
    Ok(Reply::json(status, &json!({"blake3": digest})))
}

/// Takes a component, within a bound of its own.
async fn component_put(console: Arc<Console>, request: Request<ByOperator, Incoming>) -> Answer {
    let Request { mut context, body, .. } = request;
    let permit = console.allow::<PluginWrite>(&context).await?;
    let bytes_max = console.desk.component_bytes_max().saturating_add(OVERHEAD_BYTES);
    let bounds = BodyBounds {
        bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
        timeout: context.edge.body_bounds().timeout,
    };
    let bytes = read_bytes(body, bounds, &mut context.memory).await?;
    let (mut fields, file) = multipart_with_file(context.header(header::CONTENT_TYPE), bytes).await?;
    let name = fields.required("name", NAME);
    let name = fields.all(name)?;
    let reason = reason(&mut fields)?;
    let file = file.filter(|file| !file.is_empty());
    let file = file.ok_or_else(|| Failure::field("file", "No file was submitted."))?;
    let put = console.desk.component_put(&permit, &name, file.to_vec(), &reason).await;
    digest(&context, StatusCode::CREATED, put)
}

async fn component_back(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<PluginWrite>(&context).await?;
    let reason = reason(&mut fields)?;
    let back = console.desk.component_back(&permit, context.parameter("name"), &reason).await;
    digest(&context, StatusCode::OK, back)
}
