//! `token/refresh/`, `token/verify/` and `.well-known/jwks.json`.
//!
//! The texts are those of the token library that the original's clients know. These routes ignore `Authorization`,
//! because a client may send an expired access token along.

use std::sync::Arc;

use chelseru_domain::login::identity::RefreshError;
use http::StatusCode;
use serde_json::json;

use super::Login;
use super::failure::bare_token_failure;
use super::input::TOKENS;
use crate::fields::{Fields, Text};
use crate::generation::Generation;
use crate::reply::{Failure, Reply};
use crate::request::{Access, Request, Tokenless};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/.well-known/jwks.json",
        name: "Token Keys",
        access: Access::Tokenless,
        kind: Kind::When(has_keys),
        operations: &[Operation {
            verb: Verb::Get,
            id: "jwks",
            call: call!(jwks),
            about: About {
                summary: "Get the public keys of access tokens",
                parameters: &[],
                fields: &[],
                answers: &[(200, "KeySet"), (404, "Tokens are signed with a shared secret.")],
            },
        }],
    },
    Route {
        path: "/token/refresh/",
        name: "Token Refresh",
        access: Access::Tokenless,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "token_refresh",
            call: call!(refresh),
            about: About {
                summary: "Get new tokens for a refresh token, which is replaced",
                parameters: &[],
                fields: &[Field("refresh", Is::Text, "The newest refresh token.")],
                answers: TOKENS,
            },
        }],
    },
    Route {
        path: "/token/verify/",
        name: "Token Verify",
        access: Access::Tokenless,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "token_verify",
            call: call!(verify),
            about: About {
                summary: "Check a token",
                parameters: &[],
                fields: &[Field("token", Is::Text, "An access or refresh token.")],
                answers: &[(200, "Empty"), (401, "The token is not valid.")],
            },
        }],
    },
];

/// Characters of a token. Ours have about 400.
const TOKEN: Text = Text { chars_max: 8192 };

/// `POST token/refresh/`: a new pair for a refresh token.
async fn refresh(login: Arc<Login>, request: Request<Tokenless, Fields>) -> Answer {
    let Request { context, body: mut fields, .. } = request;
    let token = fields.required("refresh", TOKEN);
    let token = fields.all(token)?;
    match login.identity.refresh(&token, Some(context.client)).await {
        Ok(tokens) => {
            let body = json!({"access": tokens.access, "refresh": tokens.refresh});
            Ok(Reply::json(StatusCode::OK, &body))
        }
        Err(RefreshError::Token(error)) => Err(bare_token_failure(error)),
        Err(error @ (RefreshError::Store(_) | RefreshError::Signing(_))) => {
            tracing::error!(request.id = %context.id, %error, "tokens could not be refreshed");
            Err(Failure::internal())
        }
    }
}

/// `POST token/verify/`: `{}` for a token of either type with a valid session.
async fn verify(login: Arc<Login>, request: Request<Tokenless, Fields>) -> Answer {
    let mut fields = request.body;
    let token = fields.required("token", TOKEN);
    let token = fields.all(token)?;
    login.identity.check_token(&token).await.map_err(bare_token_failure)?;
    Ok(Reply::json(StatusCode::OK, &json!({})))
}

/// `GET .well-known/jwks.json`: the public halves of the token keys, for programs that check tokens themselves.
async fn jwks(login: Arc<Login>, _: Request<Tokenless>) -> Answer {
    Ok(Reply::json(StatusCode::OK, &login.identity.tokens().jwks()))
}

/// Returns true when tokens are signed with a key that has a public half.
fn has_keys(generation: &Generation) -> bool {
    !generation.login.identity.tokens().jwks().keys.is_empty()
}
