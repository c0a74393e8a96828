//! `me/`: what users see and change of themselves.
//!
//! Only what is listed here can be changed; everything else in a body (`is_staff`, `group`, `mobile_number`) is
//! not looked at, whatever it says.

use chelseru_domain::UserChange;
use chelseru_domain::account::{NAME_CHARS_MAX, UserView};
use chelseru_domain::clock::rest_format;
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};

use super::fields::{Fields, Text};
use super::password::email;
use super::reply::{Failure, Reply};
use super::{Context, auth};
use crate::users::{self, UserCommand};

const NAME: Text = Text { chars_max: NAME_CHARS_MAX };

/// `GET me/`.
pub(crate) fn me(context: &Context) -> Result<Reply, Failure> {
    let user = context.live.identity.me(context.user()?).map_err(|error| failed(context, &error))?;
    answer(user)
}

/// `PATCH me/`: the fields that are present.
pub(crate) async fn me_update(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let change = UserChange {
        first_name: fields.optional("first_name", NAME),
        last_name: fields.optional("last_name", NAME),
        email: email(&mut fields),
    };
    fields.finish()?;
    let user = context.live.identity.me_update(context.user()?, change).await;
    answer(user.map_err(|error| failed(&context, &error))?)
}

/// What a command of this machine shows to be one.
pub const OPERATOR_TOKEN: HeaderName = HeaderName::from_static("x-operator-token");

/// `POST operator/users/`: a command of `chelseru user`, from this machine and with the token of the data folder.
pub(crate) async fn operator(context: Context, fields: Fields) -> Result<Reply, Failure> {
    if !context.app.door.knows(context.header(OPERATOR_TOKEN)) {
        let text = "The operator token is missing or wrong.";
        return Err(Failure::error(StatusCode::FORBIDDEN, "operator_token_wrong", text));
    }
    let refuse = |reason: String| Failure::error(StatusCode::BAD_REQUEST, "operator_command_refused", reason);
    let command: UserCommand =
        serde_json::from_value(fields.into_object()).map_err(|error| refuse(error.to_string()))?;
    let done = users::run(&context.live.identity, command).await.map_err(refuse)?;
    Ok(Reply::json(StatusCode::OK, &done))
}

/// The account as its own user and operators may see it.
pub fn user_json(user: &UserView) -> Value {
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
        "date_joined": rest_format(user.date_joined),
        "last_login": user.last_login.map(rest_format),
    })
}

fn answer(user: Option<UserView>) -> Result<Reply, Failure> {
    let gone = || auth::token_failure(chelseru_domain::token::TokenError::UserNotFound);
    Ok(Reply::json(StatusCode::OK, &user_json(&user.ok_or_else(gone)?)))
}

fn failed(context: &Context, error: &dyn std::fmt::Display) -> Failure {
    tracing::error!(request.id = %context.request_id, %error, "an account could not be read or changed");
    Failure::internal()
}
