//! `me/`: a user's own account.
//!
//! Only the fields listed here can be changed. An attempt to change another field of the account is a field error;
//! names that an account does not have are ignored.

use std::fmt::Display;
use std::sync::Arc;

use chelseru_domain::UserChange;
use chelseru_domain::clock::rest_format;
use chelseru_domain::login::account::{NAME_CHARS_MAX, UserView};
use chelseru_domain::login::identity::Caller;
use chelseru_domain::login::token::TokenError;
use http::StatusCode;
use serde_json::{Value, json};

use super::Login;
use super::erase;
use super::failure::token_failure;
use super::input::email;
use crate::fields::{Fields, Text};
use crate::files::shown::Shown;
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/me/",
    name: "Me",
    access: Access::User,
    kind: Kind::Plain,
    operations: &[
        Operation {
            verb: Verb::Get,
            id: "me",
            call: call!(me),
            about: About {
                summary: "Get the caller's account",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Account")],
            },
        },
        Operation {
            verb: Verb::Patch,
            id: "me_update",
            call: call!(update),
            about: About {
                summary: "Change the caller's fields; absent fields stay",
                parameters: &[],
                fields: &[
                    Field("first_name", Is::MayText, "At most 150 characters."),
                    Field("last_name", Is::MayText, "At most 150 characters."),
                    Field("email", Is::MayText, "A mail address."),
                ],
                answers: &[(200, "Account")],
            },
        },
        Operation { verb: Verb::Delete, id: "me_erase", call: call!(erase::erase), about: erase::ABOUT },
    ],
}];

/// Fields of an account that its user does not change here.
const FIXED: [&str; 12] = [
    "id",
    "username",
    "mobile_number",
    "group",
    "is_active",
    "is_staff",
    "is_superuser",
    "has_password",
    "avatar",
    "avatar_id",
    "date_joined",
    "last_login",
];

const NAME: Text = Text { chars_max: NAME_CHARS_MAX };

/// `GET me/`.
async fn me(login: Arc<Login>, request: Request<Caller>) -> Answer {
    let user = login.identity.me(&request.caller).await.map_err(|error| failed(&request, &error))?;
    answer(&login, &request, request.caller, user).await
}

/// `PATCH me/`: changes the fields present in the body.
async fn update(login: Arc<Login>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let now = login.identity.me(&caller).await.map_err(|error| failed(&context, &error))?;
    refuse_fixed(&mut fields, &account_json(&login, &context, caller, &now.ok_or_else(gone)?).await?);
    let change = UserChange {
        first_name: fields.optional("first_name", NAME),
        last_name: fields.optional("last_name", NAME),
        email: email(&mut fields),
    };
    fields.finish()?;
    let user = login.identity.me_update(&caller, change).await;
    answer(&login, &context, caller, user.map_err(|error| failed(&context, &error))?).await
}

/// Refuses fields that exist and cannot be changed here, unless they are as they were: a client may send back what it
/// got.
fn refuse_fixed(fields: &mut Fields, account: &Value) {
    for name in FIXED {
        if fields.value(name).is_some_and(|value| *value != account[name]) {
            fields.refuse(name, "This field cannot be changed here.");
        }
    }
}

/// The account as its user and operators see it.
pub(crate) fn user_json(user: &UserView) -> Value {
    json!({
        "id": user.id.0,
        "username": user.username,
        "mobile_number": user.mobile_number,
        "group": user.group,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "email": user.email,
        "is_active": user.active,
        "is_staff": user.staff,
        "is_superuser": user.superuser,
        "has_password": user.has_password,
        "avatar_id": user.avatar.map(|file| file.0),
        "date_joined": rest_format(user.date_joined),
        "last_login": user.last_login.map(rest_format),
    })
}

fn gone() -> Failure {
    token_failure(TokenError::UserNotFound)
}

/// The account as its user sees it, with the picture.
pub(super) async fn account_json(
    login: &Login,
    context: &Context,
    caller: Caller,
    user: &UserView,
) -> Result<Value, Failure> {
    let mut files = Shown::to(&login.files, context, caller);
    files.load_avatars(Vec::from_iter(user.avatar)).await.map_err(|error| failed(context, &error))?;
    let mut account = user_json(user);
    account["avatar"] = files.address(user.avatar).into();
    account["avatar_file"] = files.get(user.avatar).cloned().into();
    Ok(account)
}

async fn answer(login: &Login, context: &Context, caller: Caller, user: Option<UserView>) -> Answer {
    let account = account_json(login, context, caller, &user.ok_or_else(gone)?).await?;
    Ok(Reply::json(StatusCode::OK, &account))
}

fn failed(context: &Context, error: &dyn Display) -> Failure {
    tracing::error!(request.id = %context.id, %error, "an account could not be read or changed");
    Failure::internal()
}
