//! `sessions/...` and `logout/`: a user's own sessions.

use std::fmt::Display;
use std::sync::Arc;

use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::SessionId;
use chelseru_domain::login::identity::{Caller, SessionView};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;

use super::Login;
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request, not_found};
use crate::route::{About, Answer, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/sessions/",
        name: "Session List",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[
            Operation {
                verb: Verb::Get,
                id: "session_list",
                call: call!(list),
                about: About {
                    summary: "List the caller's sessions, newest first",
                    parameters: &[],
                    fields: &[],
                    answers: &[(200, "Session[]")],
                },
            },
            Operation {
                verb: Verb::Delete,
                id: "session_end_others",
                call: call!(end_others),
                about: About {
                    summary: "End all other sessions",
                    parameters: &[],
                    fields: &[],
                    answers: &[(200, "Ended")],
                },
            },
        ],
    },
    Route {
        path: "/sessions/{id}/",
        name: "Session",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Delete,
            id: "session_end",
            call: call!(end),
            about: About {
                summary: "End one of the caller's sessions",
                parameters: &[],
                fields: &[],
                answers: &[(204, "Done.")],
            },
        }],
    },
    Route {
        path: "/logout/",
        name: "Logout",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "logout",
            call: call!(logout),
            about: About {
                summary: "End this session",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Details")],
            },
        }],
    },
];

/// `GET sessions/`: the caller's own, newest first.
async fn list(login: Arc<Login>, request: Request<Caller>) -> Answer {
    let sessions =
        login.identity.sessions(&request.caller).await.map_err(|error| failed(&request, &error))?;
    let sessions: Vec<_> = sessions.iter().map(session_json).collect();
    Ok(Reply::json(StatusCode::OK, &sessions))
}

/// `DELETE sessions/`: ends all sessions of the caller except the current one.
async fn end_others(login: Arc<Login>, request: Request<Caller>) -> Answer {
    let ended = login.identity.sessions_end_others(&request.caller, Some(request.client)).await;
    let ended = ended.map_err(|error| failed(&request, &error))?;
    Ok(Reply::json(StatusCode::OK, &json!({"ended": ended})))
}

/// `DELETE sessions/{id}/`: 404 for another user's session, as for one that never existed.
async fn end(login: Arc<Login>, request: Request<Caller>) -> Answer {
    let session = SessionId(request.id("id")?);
    let ended = login.identity.session_end(&request.caller, session, Some(request.client)).await;
    match ended.map_err(|error| failed(&request, &error))? {
        true => Ok(Reply::empty()),
        false => Err(not_found()),
    }
}

/// `POST logout/`: ends the session of the request; one that has already ended counts as success.
async fn logout(login: Arc<Login>, request: Request<Caller>) -> Answer {
    let ended = login.identity.logout(&request.caller, Some(request.client)).await;
    ended.map_err(|error| failed(&request, &error))?;
    Ok(Reply::json(StatusCode::OK, &json!({"details": "Logged out."})))
}

pub(crate) fn session_json(session: &SessionView) -> impl Serialize + '_ {
    #[derive(Serialize)]
    struct Session<'a> {
        id: u64,
        session_key: String,
        user_agent: &'a str,
        ip_address: String,
        device_name: Option<&'a str>,
        device: &'a str,
        browser: &'a str,
        platform: &'a str,
        last_seen: String,
        created_at: String,
        user: u64,
        current: bool,
    }
    Session {
        id: session.id.0,
        session_key: session.session_key.to_string(),
        user_agent: &session.user_agent,
        ip_address: session.ip_address.map(|ip| ip.to_string()).unwrap_or_default(),
        device_name: session.device_name.as_deref(),
        device: &session.agent.device,
        browser: &session.agent.browser,
        platform: &session.agent.platform,
        last_seen: rest_format(session.last_seen),
        created_at: rest_format(session.created_at),
        user: session.user.0,
        current: session.current,
    }
}

fn failed(context: &Context, error: &dyn Display) -> Failure {
    tracing::error!(request.id = %context.id, %error, "sessions could not be read or ended");
    Failure::internal()
}
