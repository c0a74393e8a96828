//! `token/refresh/`, `token/verify/`, `logout/` and the ends of `sessions/`.
//!
//! The token routes answer in the words of the token library that the original's clients know. They do not look
//! at `Authorization`: a client whose access token ran out sends it along all the same.

use chelseru_domain::identity::RefreshError;
use chelseru_domain::ids::SessionId;
use chelseru_domain::token::TokenError;
use http::StatusCode;
use serde_json::json;

use super::fields::{Fields, Text};
use super::reply::{Failure, Reply};
use super::{Context, not_found};

/// Ours have about 400 characters; longer ones are refused by the check of the token itself.
const TOKEN: Text = Text { chars_max: 8192 };

/// `POST token/refresh/`: a new pair for a refresh token.
pub(crate) async fn token_refresh(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let token = fields.required("refresh", TOKEN);
    fields.finish()?;
    let token = token.ok_or_else(Failure::internal)?;
    match context.live.identity.refresh(&token, Some(context.client_ip())).await {
        Ok(tokens) => {
            let body = json!({"access": tokens.access, "refresh": tokens.refresh});
            Ok(Reply::json(StatusCode::OK, &body))
        }
        Err(RefreshError::Token(error)) => Err(bare_token_failure(error)),
        Err(error @ (RefreshError::Store(_) | RefreshError::Signing(_))) => {
            tracing::error!(request.id = %context.request_id, %error, "tokens could not be refreshed");
            Err(Failure::internal())
        }
    }
}

/// `POST token/verify/`: `{}` for a token of either type whose session stands.
pub(crate) fn token_verify(context: &Context, mut fields: Fields) -> Result<Reply, Failure> {
    let token = fields.required("token", TOKEN);
    fields.finish()?;
    let token = token.ok_or_else(Failure::internal)?;
    context.live.identity.token_verify(&token).map_err(bare_token_failure)?;
    Ok(Reply::json(StatusCode::OK, &json!({})))
}

/// `POST logout/`: ends the session the request was made with.
pub(crate) async fn logout(context: &Context) -> Result<Reply, Failure> {
    let caller = context.user()?;
    // One that ended meanwhile is as good.
    context
        .live
        .identity
        .logout(caller, Some(context.client_ip()))
        .await
        .map_err(|error| failed(context, &error))?;
    Ok(Reply::json(StatusCode::OK, &json!({"details": "Logged out."})))
}

/// `DELETE sessions/{id}/`: 404 for a session of another user as for one that never was.
pub(crate) async fn end(context: &Context) -> Result<Reply, Failure> {
    let session = SessionId(context.path_id()?);
    let ended = context.live.identity.session_end(context.user()?, session, Some(context.client_ip())).await;
    match ended.map_err(|error| failed(context, &error))? {
        true => Ok(Reply::empty()),
        false => Err(not_found()),
    }
}

/// `DELETE sessions/`: all of the caller's but the one that asks.
pub(crate) async fn end_others(context: &Context) -> Result<Reply, Failure> {
    let ended = context.live.identity.sessions_end_others(context.user()?, Some(context.client_ip())).await;
    let ended = ended.map_err(|error| failed(context, &error))?;
    Ok(Reply::json(StatusCode::OK, &json!({"ended": ended})))
}

/// `GET .well-known/jwks.json`: the public halves of the token keys, for programs that check tokens themselves.
pub(crate) fn jwks(context: &Context) -> Result<Reply, Failure> {
    Ok(Reply::json(StatusCode::OK, &context.live.identity.tokens().jwks()))
}

fn failed(context: &Context, error: &dyn std::fmt::Display) -> Failure {
    tracing::error!(request.id = %context.request_id, %error, "a session could not be ended");
    Failure::internal()
}

/// 401 without the list of what was tried, as the token routes of the original's library answer.
fn bare_token_failure(error: TokenError) -> Failure {
    let refused = |code, text| Failure::detail(StatusCode::UNAUTHORIZED, code, text).challenge();
    match error {
        TokenError::Expired => refused("token_not_valid", "Token is expired"),
        TokenError::WrongType => refused("token_not_valid", "Token has wrong type"),
        TokenError::NoUserId => {
            refused("token_not_valid", "Token contained no recognizable user identification")
        }
        TokenError::UserNotFound => refused("user_not_found", "User not found"),
        TokenError::UserInactive => refused("user_inactive", "User is inactive"),
        TokenError::Invalid | TokenError::SessionEnded => refused("token_not_valid", "Token is invalid"),
        TokenError::Store => Failure::internal(),
    }
}
