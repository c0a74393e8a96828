//! `me/`: what users see and change of themselves.
//!
//! Only what is listed here can be changed; everything else in a body (`is_staff`, `group`, `mobile_number`) is
//! not looked at, whatever it says.

use chelseru_domain::UserChange;
use chelseru_domain::account::{NAME_CHARS_MAX, UserView};
use chelseru_domain::clock::rest_format;
use http::StatusCode;
use serde_json::{Value, json};

use super::fields::{Fields, Text};
use super::password::email;
use super::reply::{Failure, Reply};
use super::{Context, auth};

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

/// The account as its own user and operators may see it.
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
