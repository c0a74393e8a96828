//! `operator/v1/users/...` and `operator/v1/sessions/`: found, shown and acted on as in the console.

use std::sync::Arc;

use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::{SessionId, UserId};
use chelseru_domain::login::account::{Rights, UserView};
use chelseru_domain::login::identity::{EraseError, ResetTokenError, UserActError};
use chelseru_domain::login::user_index::UserQuery;
use chelseru_domain::operator::desk::{SessionPlace, SessionQuery};
use chelseru_domain::operator::role::{
    CapLift, ResetLinkMake, SessionEnd, UserErase, UserRead, UserSetActive,
};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Filters, NO_ROLE, NO_TOKEN, PAGE, WHY, act, failed, placed, read, reason, route};
use crate::console::Console;
use crate::fields::Fields;
use crate::login::me::user_json;
use crate::login::session::session_json;
use crate::page::{CURSOR, Cursor, page, start};
use crate::reply::{Failure, Reply, sentence};
use crate::request::{ByOperator, Context, Request, not_found, number};
use crate::route::{Answer, Field, Is, Route, call};

const LIST: &[(u16, &str)] =
    &[(200, "Page<Account>"), (401, NO_TOKEN), (403, NO_ROLE), (404, "An invalid cursor.")];
const ONE: &[(u16, &str)] = &[(200, "Account"), (401, NO_TOKEN), (403, NO_ROLE)];
const ACTED: &[(u16, &str)] =
    &[(200, "Account"), (401, NO_TOKEN), (403, "The role does not include this, or the account has rights.")];
const ENDED: &[(u16, &str)] =
    &[(200, "Ended"), (401, NO_TOKEN), (403, "The role does not include this, or the account has rights.")];
const LIFTED: &[(u16, &str)] = &[(200, "Lifted"), (401, NO_TOKEN), (403, NO_ROLE)];
const RESET: &[(u16, &str)] = &[
    (200, "ResetToken"),
    (401, NO_TOKEN),
    (403, "The role does not include this, or the account has rights."),
];
const ERASED: &[(u16, &str)] = &[
    (204, "Erased; its traces follow."),
    (401, NO_TOKEN),
    (403, NO_ROLE),
    (409, "The account has rights, an open payment, held money or a balance."),
];

pub(crate) const ROUTES: &[Route] = &[
    route(
        "/operator/v1/users/",
        "Operator User List",
        &[read(
            "operator_user_list",
            "Find users by a part of a number, a name or a mail address, newest first",
            &[
                CURSOR,
                Field("search", Is::MayText, "Parts that must all be found."),
                Field("group", Is::MayInteger, "Only of this group."),
                Field("state", Is::MayText, "active or disabled."),
                Field("rights", Is::MayText, "none, staff or superuser."),
                Field("from", Is::MayText, "Joined on this day or later: 2026-11-26 or 1405/09/05."),
                Field("until", Is::MayText, "Joined before this day."),
            ],
            LIST,
            call!(list),
        )],
    ),
    route(
        "/operator/v1/users/{id}/",
        "Operator User",
        &[read("operator_user", "Show a user", &[], ONE, call!(one))],
    ),
    route(
        "/operator/v1/users/{id}/disable/",
        "Operator User Disable",
        &[act("operator_user_disable", "Disable a user and end the sessions", &[WHY], ACTED, call!(disable))],
    ),
    route(
        "/operator/v1/users/{id}/enable/",
        "Operator User Enable",
        &[act("operator_user_enable", "Enable a disabled user", &[WHY], ACTED, call!(enable))],
    ),
    route(
        "/operator/v1/users/{id}/sessions/end/",
        "Operator User Sessions End",
        &[act(
            "operator_user_sessions_end",
            "End one session of a user, or all",
            &[WHY, Field("session", Is::MayInteger, "Only this one.")],
            ENDED,
            call!(sessions_end),
        )],
    ),
    route(
        "/operator/v1/users/{id}/lift/",
        "Operator User Lift",
        &[act(
            "operator_user_lift",
            "Forget the codes that count against a user's number, and a pending one",
            &[WHY],
            LIFTED,
            call!(lift),
        )],
    ),
    route(
        "/operator/v1/users/{id}/reset-link/",
        "Operator User Reset Link",
        &[act(
            "operator_user_reset_link",
            "Make a token with which a user sets a new password once",
            &[WHY],
            RESET,
            call!(reset),
        )],
    ),
    route(
        "/operator/v1/users/{id}/erase/",
        "Operator User Erase",
        &[act(
            "operator_user_erase",
            "Erase an account without rights",
            &[WHY, Field("forfeit", Is::MayBool, "Give a balance up.")],
            ERASED,
            call!(erase),
        )],
    ),
    route(
        "/operator/v1/sessions/",
        "Operator Session List",
        &[read(
            "operator_session_list",
            "Find sessions of all users, those of the newest account first",
            &[
                Field("before", Is::MayText, "Where a page begins, from `next` of the one before."),
                Field("address", Is::MayText, "The beginning of the address."),
                Field("device", Is::MayText, "A part of the device's name or of the user agent."),
                Field("user", Is::MayText, "Only of this user: a number, a name or an account number."),
            ],
            &[(200, "Page<Session>"), (401, NO_TOKEN), (403, NO_ROLE)],
            call!(sessions),
        )],
    ),
];

const RIGHTS: [(&str, Rights); 3] =
    [("none", Rights::None), ("staff", Rights::Staff), ("superuser", Rights::Superuser)];

async fn list(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<UserRead>(&request).await?;
    let mut filters = Filters::new(&request);
    let query = UserQuery {
        text: filters.text("search").unwrap_or_default(),
        group: filters.number("group").map(|group| u32::try_from(group).unwrap_or(u32::MAX)),
        active: filters.one_of("state", &[("active", true), ("disabled", false)]),
        rights: filters.one_of("rights", &RIGHTS),
        from: filters.day("from"),
        until: filters.day("until"),
    };
    filters.finish()?;
    let found = console.desk.users(&permit, &query, start(&request)?.map(UserId), PAGE).await;
    let found = found.map_err(|error| failed(&request, &error))?;
    let results: Vec<Value> = found.users.iter().map(user_json).collect();
    Ok(page(&request, found.next.map(|next| Cursor::Next(next.0)), None, &results))
}

async fn one(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let user = found(&console, &request).await?;
    Ok(Reply::json(StatusCode::OK, &user_json(&user)))
}

async fn found(console: &Console, context: &Context) -> Result<UserView, Failure> {
    let permit = console.allow::<UserRead>(context).await?;
    let found = console.desk.user(&permit, UserId(context.id("id")?)).await;
    found.map_err(|error| failed(context, &error))?.ok_or_else(not_found)
}

async fn disable(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    set_active(&console, request, false).await
}

async fn enable(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    set_active(&console, request, true).await
}

async fn set_active(console: &Console, request: Request<ByOperator, Fields>, active: bool) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<UserSetActive>(&context).await?;
    let (id, reason) = (UserId(context.id("id")?), reason(&mut fields)?);
    let user = console.desk.user_set_active(&permit, id, active, &reason).await;
    let user = user.map_err(|error| refused(&context, error))?;
    Ok(Reply::json(StatusCode::OK, &user_json(&user)))
}

fn refused(context: &Context, error: UserActError) -> Failure {
    match error {
        UserActError::NoAccount => not_found(),
        UserActError::Protected | UserActError::Own => protected(&error),
        UserActError::Store(error) => failed(context, &error),
    }
}

fn protected(error: &impl std::fmt::Display) -> Failure {
    Failure::detail(StatusCode::FORBIDDEN, "account_protected", sentence(error))
}

async fn sessions_end(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<SessionEnd>(&context).await?;
    let session = match fields.number_text("session") {
        None => None,
        Some(text) => {
            let wrong = || Failure::field("session", "A valid integer is required.");
            Some(SessionId(number(&text).ok_or_else(wrong)?))
        }
    };
    let (id, reason) = (UserId(context.id("id")?), reason(&mut fields)?);
    let ended = console.desk.user_sessions_end(&permit, id, session, &reason).await;
    let ended = ended.map_err(|error| refused(&context, error))?;
    Ok(Reply::json(StatusCode::OK, &json!({"ended": ended})))
}

async fn lift(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<CapLift>(&context).await?;
    let user = found(&console, &context).await?;
    let reason = reason(&mut fields)?;
    let lifted = console.desk.cap_lift(&permit, &user, &reason).await;
    let lifted = lifted.map_err(|error| refused(&context, error))?;
    Ok(Reply::json(StatusCode::OK, &json!({"lifted": lifted})))
}

async fn reset(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<ResetLinkMake>(&context).await?;
    let user = found(&console, &context).await?;
    let reason = reason(&mut fields)?;
    match console.desk.reset_token_make(&permit, user.id, &reason).await {
        Ok(made) => {
            let expires_at = rest_format(made.expires_at);
            let body = json!({"username": user.username, "token": made.token, "expires_at": expires_at});
            Ok(Reply::json(StatusCode::OK, &body))
        }
        Err(ResetTokenError::NoAccount) => Err(not_found()),
        Err(ResetTokenError::Protected) => Err(protected(&UserActError::Protected)),
        Err(error) => Err(failed(&context, &error)),
    }
}

async fn erase(console: Arc<Console>, request: Request<ByOperator, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let permit = console.allow::<UserErase>(&context).await?;
    let forfeit = fields.flag("forfeit", false);
    let (id, reason) = (UserId(context.id("id")?), reason(&mut fields)?);
    match console.desk.user_erase(&permit, id, forfeit, &reason).await {
        Ok(()) => Ok(Reply::empty()),
        Err(EraseError::Missing) => Err(not_found()),
        Err(
            error @ (EraseError::HasRights
            | EraseError::PaymentOpen(_)
            | EraseError::Held(_)
            | EraseError::Balance(_)),
        ) => Err(Failure::detail(StatusCode::CONFLICT, "account_in_use", sentence(&error))),
        Err(error) => Err(failed(&context, &error)),
    }
}

fn place(text: &str) -> Option<SessionPlace> {
    let (user, session) = text.split_once('-')?;
    Some((UserId(number(user)?), SessionId(number(session)?)))
}

async fn sessions(console: Arc<Console>, request: Request<ByOperator>) -> Answer {
    let permit = console.allow::<UserRead>(&request).await?;
    let mut filters = Filters::new(&request);
    let before = filters.text("before");
    let from = before.as_deref().and_then(place);
    if from.is_none() && before.is_some() {
        filters.refuse("before", "Must be a place from `next`.");
    }
    let query = SessionQuery {
        address: filters.text("address").unwrap_or_default(),
        device: filters.text("device").unwrap_or_default(),
        user: filters.user(&console, &permit, "user").await?,
    };
    filters.finish()?;
    let found = console.desk.sessions(&permit, &query, from, PAGE).await;
    let found = found.map_err(|error| failed(&request, &error))?;
    let results: Result<Vec<Value>, _> =
        found.sessions.iter().map(|session| serde_json::to_value(session_json(session))).collect();
    let results = results.map_err(|error| failed(&request, &error))?;
    let next = found.next.map(|(user, session)| format!("{user}-{session}"));
    Ok(placed(&request, next, &results))
}
