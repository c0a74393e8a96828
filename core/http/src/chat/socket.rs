//! The handshake of `chat/{room}/` and `ws/`: from a request to an open socket.
//!
//! Every refusal happens here, with a status and without a socket: 404 for a missing room, 403 without a body, as in
//! the original, for users who may not watch it. A token comes as `Authorization: Bearer`, as the subprotocol
//! `bearer.<token>`, or as the query's `token`, in this order. A client that offers the subprotocol `chelseru`
//! without a token sends it in the first frame. A room is watched before the handshake is answered, so the client
//! misses nothing after the answer.

use std::net::IpAddr;
use std::sync::Arc;

use chelseru_domain::chat::{ChatError, Denied, RoomId};
use chelseru_domain::clock::Timestamp;
use chelseru_domain::language::Language;
use chelseru_domain::login::token::TokenError;
use chelseru_domain::share::Share;
use chelseru_sockets::{Form, NoPlace, Opened, Place, Purpose, Since, Transport, Until, Who, holder, seen};
use fastwebsockets::upgrade::{self, UpgradeFut};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Chat;
use crate::login::input::client_info;
use crate::reply::{ERROR_CODE, Failure, Reply};
use crate::request::{Access, Context, Request, Tokenless, header_text, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};
use crate::timed::Timed;

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/chat/{room}/",
        name: "Chat Socket",
        access: Access::Tokenless,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "chat_socket",
            call: call!(room),
            about: About {
                summary: "Open a WebSocket for one room; see CHAT.md",
                parameters: &[
                    Field("token", Is::MayText, "An access token; better in a header or a subprotocol."),
                    Field("since", Is::MayInteger, "Resume after this message."),
                ],
                fields: &[],
                answers: &[
                    (101, "The socket is open."),
                    (426, "The request is no WebSocket handshake."),
                    (403, "No token, not a member, or banned."),
                ],
            },
        }],
    },
    Route {
        path: "/ws/",
        name: "Socket",
        access: Access::Tokenless,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "socket",
            call: call!(all),
            about: About {
                summary: "Open a WebSocket for all of the caller's rooms; see CHAT.md",
                parameters: &[Field(
                    "token",
                    Is::MayText,
                    "An access token; better in a header or a subprotocol.",
                )],
                fields: &[],
                answers: &[
                    (101, "The socket is open."),
                    (426, "The request is no WebSocket handshake."),
                    (403, "No valid token."),
                ],
            },
        }],
    },
    Route {
        path: "/ws/echo/",
        name: "Socket Echo",
        access: Access::Tokenless,
        kind: Kind::Test,
        operations: &[Operation {
            verb: Verb::Get,
            id: "socket_echo",
            call: call!(echo),
            about: About {
                summary: "Echo every frame",
                parameters: &[],
                fields: &[],
                answers: &[(101, "The socket is open.")],
            },
        }],
    },
];

/// The protocol's own name among the subprotocols.
const PROTOCOL: &str = "chelseru";

/// The prefix of a token in a subprotocol.
const BEARER: &str = "bearer.";

/// Message limit of the echo route in bytes: the largest message of the protocol's tests.
const ECHO_BYTES_MAX: usize = 32 * 1024 * 1024;

/// `GET chat/{room}/`: one room.
async fn room(chat: Arc<Chat>, request: Request<Tokenless>) -> Answer {
    let room = RoomId(request.id("room")?);
    open(&chat, request.context, Some(room)).await
}

/// `GET ws/`: all rooms of a user.
async fn all(chat: Arc<Chat>, request: Request<Tokenless>) -> Answer {
    open(&chat, request.context, None).await
}

/// `GET ws/echo/`, in tests only.
async fn echo(chat: Arc<Chat>, request: Request<Tokenless>) -> Answer {
    if !chat.echo {
        return Err(not_found());
    }
    check_upgrade(&request.head)?;
    let mut limits = chat.limits.clone();
    (limits.queue_bytes_max, limits.queue_frames_max) = (4 * ECHO_BYTES_MAX, 1_000_000);
    let until = Until::TokenExpires;
    let opened = Opened { room: None, form: Form::Original, since: None, until, language: None };
    let place = enter(&chat, opened, &limits, None, request.client)?;
    accept(request.context, place, None, Purpose::Echo, ECHO_BYTES_MAX)
}

async fn open(chat: &Chat, context: Context, room: Option<RoomId>) -> Answer {
    check_upgrade(&context.head)?;
    let limits = &chat.limits;
    let origin = header_text(&context.head.headers, header::ORIGIN);
    if !origin.is_empty() && !limits.origins.is_empty() && limits.origins.grant(origin).is_none() {
        return Ok(refused("origin_refused"));
    }
    let asked = Asked::read(&context);
    let form = if room.is_none() || asked.extended { Form::Extended } else { Form::Original };
    let unchanged = form == Form::Original && asked.by_query;
    let until = if unchanged { Until::SessionEnds } else { Until::TokenExpires };
    let language = Language::accepted(header_text(&context.head.headers, header::ACCEPT_LANGUAGE));
    let opened = Opened { room, form, since: asked.since, until, language };
    let who = match &asked.token {
        Some(token) => match holder(&chat.identity, &chat.chat, token, || client_info(&context)).await {
            Ok(holder) => Some(holder),
            Err(TokenError::Store) => return Err(Failure::internal()),
            Err(_) => return Ok(refused("token_not_valid")),
        },
        None if asked.protocol => None,
        None => return Ok(refused("not_authenticated")),
    };
    let place = enter(chat, opened, limits, who.clone(), context.client)?;
    if let Some((who, _)) = &who
        && let Err(error) = place.start(who).await
    {
        return start_failure(&context, error);
    }
    let protocol = asked.protocol.then(|| HeaderValue::from_static(PROTOCOL));
    accept(context, place, protocol, Purpose::Chat, limits.frame_bytes_max)
}

/// Why the caller may not open the socket.
fn start_failure(context: &Context, error: ChatError) -> Answer {
    match error {
        ChatError::RoomMissing => Err(not_found()),
        ChatError::Denied(Denied::Banned) => Ok(refused("banned")),
        ChatError::Denied(Denied::RoomClosed) => Ok(refused("room_closed")),
        ChatError::Denied(_) => Ok(refused("not_member")),
        ChatError::Busy => Err(busy()),
        error => {
            tracing::error!(request.id = %context.id, %error, "a socket could not be opened");
            Err(Failure::internal())
        }
    }
}

fn enter(
    chat: &Chat,
    opened: Opened,
    limits: &chelseru_config::Chat,
    who: Option<(Who, Timestamp)>,
    from: IpAddr,
) -> Result<Place, Failure> {
    chat.sockets.enter(opened, limits, who, from).map_err(|full| match full {
        NoPlace::User => {
            let text = "This user has too many open sockets.";
            Failure::detail(StatusCode::TOO_MANY_REQUESTS, "too_many_sockets", text)
        }
        NoPlace::Gateway => busy(),
    })
}

/// Answers 101 and serves the socket in a separate task.
fn accept(
    context: Context,
    place: Place,
    protocol: Option<HeaderValue>,
    purpose: Purpose,
    bytes_max: usize,
) -> Answer {
    let held = context.place.clone();
    let Ok((response, upgrade)) = upgrade::upgrade(http::Request::from_parts(context.head, ())) else {
        return Err(Failure::internal());
    };
    let headers = response.headers().iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let mut reply = Reply { headers, ..Reply::bare(StatusCode::SWITCHING_PROTOCOLS) };
    if let Some(protocol) = protocol {
        reply = reply.with(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    place.serve(transport(upgrade, held), purpose, bytes_max);
    Ok(reply)
}

/// The connection itself, once hyper lets go of it.
async fn transport(upgrade: UpgradeFut, held: Option<Arc<Share>>) -> Option<Transport> {
    let upgraded = upgrade.await.ok()?.into_inner().into_inner();
    let Ok(parts) = upgraded.downcast::<TokioIo<Timed<TcpStream>>>() else {
        tracing::error!("a connection is not what the listener makes");
        return None;
    };
    Some(Transport { stream: parts.io.into_inner().into_inner(), read: parts.read_buf, held })
}

/// A client's choices for a socket, besides its path.
struct Asked {
    token: Option<String>,
    /// The token came in the address, as from the original's clients.
    by_query: bool,
    /// The client offers the protocol's own name.
    protocol: bool,
    /// The client wants all frames, not only the original's.
    extended: bool,
    since: Option<Since>,
}

impl Asked {
    fn read(context: &Context) -> Asked {
        let headers = &context.head.headers;
        let offered: Vec<&str> = headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .collect();
        let protocol = offered.contains(&PROTOCOL);
        let mut token = header_text(headers, header::AUTHORIZATION)
            .strip_prefix("Bearer ")
            .or_else(|| offered.iter().find_map(|word| word.strip_prefix(BEARER)))
            .map(|token| token.trim().to_owned());
        let by_query = token.is_none();
        let (mut events, mut since, mut revision) = (false, None, None);
        let query = context.query_text();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                // The first token counts, as in the original.
                "token" => {
                    token.get_or_insert(value.into_owned());
                }
                "events" => events = value == "1",
                "since" => since = value.parse().ok().map(seen),
                "revision" => revision = value.parse().ok(),
                _ => {}
            }
        }
        let since = since.map(|seq| Since { seq, revision });
        Asked { token, by_query, protocol, extended: protocol || events || since.is_some(), since }
    }
}

/// Checks for a handshake of the supported version, which HTTP/1.0 cannot carry. The upgrade itself checks key and
/// version again.
fn check_upgrade(head: &Parts) -> Result<(), Failure> {
    let headers = &head.headers;
    let has = |name: HeaderName, wanted: &str| {
        let values = headers.get_all(name);
        let mut words =
            values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        words.any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    let only = |name: HeaderName, wanted: &str| {
        let mut values = headers.get_all(name).iter();
        values.next().is_some_and(|value| value.as_bytes().trim_ascii() == wanted.as_bytes())
            && values.next().is_none()
    };
    let key = header_text(headers, header::SEC_WEBSOCKET_KEY);
    let whole = head.method == Method::GET
        && has(header::CONNECTION, "upgrade")
        && has(header::UPGRADE, "websocket")
        && only(header::SEC_WEBSOCKET_VERSION, "13")
        && head.version >= Version::HTTP_11;
    if !whole {
        let text = "This address takes WebSocket connections.";
        return Err(Failure::detail(StatusCode::UPGRADE_REQUIRED, "upgrade_required", text)
            .with(header::UPGRADE, HeaderValue::from_static("websocket"))
            .with(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13")));
    }
    // 16 bytes in base64.
    if key.len() != 24 || !key.ends_with("==") {
        let text = "Sec-WebSocket-Key must be 16 bytes in base64.";
        return Err(Failure::detail(StatusCode::BAD_REQUEST, "bad_websocket_key", text));
    }
    Ok(())
}

/// Whether a request is a handshake.
pub(crate) fn is_handshake(headers: &HeaderMap) -> bool {
    header_text(headers, header::UPGRADE).eq_ignore_ascii_case("websocket")
}

/// 403 without a body, as in the original; a header holds the code.
fn refused(code: &'static str) -> Reply {
    Reply { status: StatusCode::FORBIDDEN, ..Reply::empty() }.with(ERROR_CODE, HeaderValue::from_static(code))
}

fn busy() -> Failure {
    let text = "Too many sockets are open.";
    Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "sockets_full", text).retry_after(5)
}
