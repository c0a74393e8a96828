//! HTTP: the only place, with its submodules, that knows requests and replies.
//!
//! [`handle`] shows the order of every request: id, route, content negotiation, credentials, permission,
//! method, body, handler, headers, log. Handlers (`auth`, `operator`) translate between fields and the
//! domain, and each domain error to its status in one function.
//!
//! Not here: the rules themselves (`chelseru-domain`), the listener's bounds (`server`), the error shapes
//! (`reply`).

mod audit;
mod auth;
mod body;
mod chat;
pub mod fields;
mod file;
mod message;
pub mod openapi;
mod operator;
mod password;
mod payment;
mod proxy;
pub mod reply;
mod route;
mod sandbox_pay;
pub mod server;
mod session;
mod socket;
mod tus;
mod user;
mod wallet;

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use chelseru_domain::identity::Caller;
use futures_util::FutureExt;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper::body::Body;

use crate::app::{App, Live};
use body::ReplyBody;
use fields::Fields;
pub(crate) use operator::{api_key_event, api_key_json};
pub use proxy::Proxies;
use reply::{Failure, Reply};
pub use route::Router;
use route::{Access, Found, Operation, Route};
pub use user::{OPERATOR_TOKEN, user_json};

/// What a handler knows of the request it serves.
pub struct Context {
    pub app: Arc<App>,
    /// The configuration and providers this request started with; a reload does not change them half way.
    pub live: Arc<Live>,
    pub request_id: String,
    pub peer: SocketAddr,
    pub head: Parts,
    /// Who is calling; `None` on open routes without credentials.
    pub caller: Option<Caller>,
}

impl Context {
    /// The client's address: the peer's own, or what trusted proxies say it is.
    pub fn client_ip(&self) -> IpAddr {
        self.app.proxies.client(self.peer.ip(), &self.head.headers)
    }

    /// A header's text; `""` when it is absent or not text.
    pub fn header(&self, name: header::HeaderName) -> &str {
        header_text(&self.head.headers, name)
    }

    /// A value of the query, the first of its name.
    pub fn query(&self, name: &str) -> Option<String> {
        let query = self.head.uri.query().unwrap_or("");
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// Scheme and host as the client wrote them, for absolute addresses.
    pub fn origin(&self) -> String {
        let https = self.app.proxies.is_https(self.peer.ip(), &self.head.headers);
        let scheme = if https { "https" } else { "http" };
        format!("{scheme}://{}", self.header(header::HOST))
    }

    /// The number that is the path's last part: the `{id}` of a route that ends with it.
    ///
    /// Failures: 404 for anything that is no number.
    pub fn path_id(&self) -> Result<u64, Failure> {
        let text = self.head.uri.path().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| digits).ok_or_else(not_found)
    }

    /// The caller of a route that is for users only.
    pub fn user(&self) -> Result<&Caller, Failure> {
        self.caller.as_ref().ok_or_else(no_credentials)
    }
}

/// Gives every request an id that no other request of any gateway has: 16 random hexadecimal digits of this
/// process, then a running number of at least 12. Not random itself, because asking the system for randomness
/// costs more than the rest of the bookkeeping of a request.
pub struct RequestIds {
    process: String,
    next: AtomicU64,
}

impl RequestIds {
    pub fn new() -> RequestIds {
        let process = uuid::Uuid::new_v4().simple().to_string();
        RequestIds { process: process[..16].to_owned(), next: AtomicU64::new(1) }
    }

    fn next(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}{number:012x}", self.process)
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        RequestIds::new()
    }
}

/// Answers one request. Never panics, whatever the client sends; a defect in a handler answers 500.
pub async fn handle<B>(app: &Arc<App>, peer: SocketAddr, request: Request<B>) -> Response<ReplyBody>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let started = Instant::now();
    let request_id = app.request_ids.next();
    let (head, body) = request.into_parts();
    let method = head.method.clone();
    let path = message::logged_path(head.uri.path());
    let client = app.proxies.client(peer.ip(), &head.headers);

    let answered = AssertUnwindSafe(answer(app, &request_id, peer, head, body))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| {
            tracing::error!(request.id = %request_id, "a handler panicked; this is a defect");
            Err(Failure::internal())
        });
    let code = answered.as_ref().err().map(|failure| failure.code);
    let reply = answered.unwrap_or_else(|failure| failure.into_reply(&request_id));
    let mut response = reply.into_response(&request_id);
    if method == Method::HEAD {
        *response.body_mut() = ReplyBody::default();
    }
    app.metrics.request(response.status());
    log(&request_id, &method, &path, client, response.status(), code, started);
    response
}

async fn answer<B>(
    app: &Arc<App>,
    request_id: &str,
    peer: SocketAddr,
    head: Parts,
    body: B,
) -> Result<Reply, Failure>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let live = app.live();
    let route = match app.router.find(&head.uri, &live) {
        Found::Route(route) => route,
        // A handshake follows no redirect.
        Found::MissingSlash(_) if socket::is_handshake(&head.headers) => return Err(not_found()),
        Found::MissingSlash(location) => return Ok(Reply::moved(&location)),
        Found::Nothing => return Err(not_found()),
    };
    if route.access == Access::Loopback && !operator::is_local(peer, &head.headers) {
        return Err(not_found());
    }
    let allow = route.allow();
    match serve(app, live, route, request_id, peer, head, body).await {
        Ok(reply) => Ok(reply.with(header::ALLOW, allow)),
        Err(failure) => Err(failure.allow(allow)),
    }
}

/// The order from here on is the original's: a wrong token is refused before a wrong method.
async fn serve<B>(
    app: &Arc<App>,
    live: Arc<Live>,
    route: &Route,
    request_id: &str,
    peer: SocketAddr,
    head: Parts,
    body: B,
) -> Result<Reply, Failure>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if !route.is_file() {
        negotiate(&head)?;
    }
    let caller = match route.access {
        Access::Tokenless => None,
        _ => credentials(&live, &head.headers)?,
    };
    if route.access == Access::User && caller.is_none() {
        return Err(no_credentials());
    }
    if head.method == Method::OPTIONS {
        let reply = route.describe();
        return Ok(if tus::is_tus(route.path) { tus::describe(reply, &live) } else { reply });
    }
    let Some(operation) = route.operation(&head.method) else {
        let text = format!("Method \"{}\" not allowed.", head.method);
        return Err(Failure::detail(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text));
    };

    let limits = &app.limits;
    if operation.streams_body() {
        let body = file::request_body(body);
        let context =
            Context { app: app.clone(), live, request_id: request_id.to_owned(), peer, head, caller };
        return match operation {
            Operation::TusPatch => tus::patch(context, body).await,
            _ => file::upload(context, body).await,
        };
    }
    if operation.reads_bytes() {
        let timeout = std::time::Duration::from_secs(limits.body_read_timeout_seconds);
        let bytes = fields::read_bytes(body, limits.body_bytes_max, timeout).await?;
        let context =
            Context { app: app.clone(), live, request_id: request_id.to_owned(), peer, head, caller };
        return run_bytes(operation, context, bytes).await;
    }
    let fields = if operation.reads_body() {
        let timeout = std::time::Duration::from_secs(limits.body_read_timeout_seconds);
        let bytes_max = limits.body_bytes_max;
        Some(if operation.keeps_body_raw() {
            fields::read_raw(body, bytes_max, timeout).await?
        } else {
            fields::read(&head.headers, body, bytes_max, timeout).await?
        })
    } else {
        None
    };
    let context = Context { app: app.clone(), live, request_id: request_id.to_owned(), peer, head, caller };
    run(operation, context, fields).await
}

/// Operations that take their body as it comes.
async fn run_bytes(operation: Operation, context: Context, body: Bytes) -> Result<Reply, Failure> {
    match operation {
        Operation::MessageReport => message::message_report(context, body).await,
        _ => Err(Failure::internal()),
    }
}

/// Where each operation is carried out.
async fn run(operation: Operation, context: Context, fields: Option<Fields>) -> Result<Reply, Failure> {
    let body = |fields: Option<Fields>| fields.ok_or_else(Failure::internal);
    match operation {
        Operation::OtpSend => auth::otp_send(context, body(fields)?).await,
        Operation::Authenticate => auth::authenticate(context, body(fields)?).await,
        Operation::Register => password::register(context, body(fields)?).await,
        Operation::Login => password::login(context, body(fields)?).await,
        Operation::PasswordChange => password::change(context, body(fields)?).await,
        Operation::PasswordResetSend => password::reset_send(context, body(fields)?).await,
        Operation::PasswordReset => password::reset(context, body(fields)?).await,
        Operation::Me => user::me(&context),
        Operation::MeUpdate => user::me_update(context, body(fields)?).await,
        Operation::OperatorUsers => user::operator(context, body(fields)?).await,
        Operation::AuditList => audit::list(&context),
        Operation::Jwks => session::jwks(&context),
        Operation::TokenRefresh => session::token_refresh(context, body(fields)?).await,
        Operation::TokenVerify => session::token_verify(&context, body(fields)?),
        Operation::Logout => session::logout(&context).await,
        Operation::SessionList => auth::session_list(&context),
        Operation::SessionEnd => session::end(&context).await,
        Operation::SessionEndOthers => session::end_others(&context).await,
        Operation::MessageSend => message::message_send(context, body(fields)?).await,
        Operation::MessageList => message::message_list(&context),
        Operation::MessageGet => message::message_get(&context),
        Operation::MessageReport => Err(Failure::internal()),
        Operation::ApiKeyList => operator::api_key_list(&context),
        Operation::ApiKeyCreate => operator::api_key_create(context, body(fields)?).await,
        Operation::ApiKeyRevoke => operator::api_key_revoke(context, body(fields)?).await,
        Operation::Backup => operator::backup(context, body(fields)?).await,
        Operation::WebhookList => operator::webhook_list(&context),
        Operation::WebhookReplay => operator::webhook_replay(context, body(fields)?).await,
        Operation::PaymentCreate => payment::create(context, body(fields)?).await,
        Operation::PaymentVerify => payment::verify(context, None).await,
        Operation::PaymentCallback => payment::verify(context, Some(body(fields)?)).await,
        Operation::PaymentList => payment::list(&context),
        Operation::PaymentGet => payment::get(&context),
        Operation::PaymentRefund => wallet::refund(context, body(fields)?).await,
        Operation::ChatRoot => Ok(chat::root(&context)),
        Operation::RoomList => chat::room::list(&context),
        Operation::RoomCreate => chat::room::create(context, body(fields)?).await,
        Operation::RoomGet => chat::room::get(&context),
        Operation::RoomUpdate => chat::room::update(context, body(fields)?).await,
        Operation::RoomDelete => chat::room::delete(context).await,
        Operation::RoomPin => chat::room::pin(context, true).await,
        Operation::RoomUnpin => chat::room::pin(context, false).await,
        Operation::RoomRead => chat::room::read(context, body(fields)?).await,
        Operation::RoomLeave => chat::member::leave(context).await,
        Operation::MemberList => chat::member::list(&context),
        Operation::MemberAdd => chat::member::add(context, body(fields)?).await,
        Operation::MemberGet => chat::member::get(&context),
        Operation::MemberRemove => chat::member::remove(context).await,
        Operation::MemberGrant => chat::member::grant(context, body(fields)?, true).await,
        Operation::MemberRevoke => chat::member::grant(context, body(fields)?, false).await,
        Operation::BanList => chat::member::bans(&context),
        Operation::BanAdd => chat::member::ban(context, body(fields)?).await,
        Operation::BanRemove => chat::member::unban(context).await,
        Operation::ChatMessageList => chat::message::list(&context),
        Operation::ChatMessageCreate => chat::message::create(context, body(fields)?).await,
        Operation::ChatMessageGet => chat::message::get(&context),
        Operation::ChatMessageUpdate => chat::message::update(context, body(fields)?).await,
        Operation::ChatMessageDelete => chat::message::delete(context).await,
        Operation::OrganizationList => chat::organization::list(&context),
        Operation::OrganizationCreate => chat::organization::create(context, body(fields)?).await,
        Operation::OrganizationGet => chat::organization::get(&context),
        Operation::OrganizationUpdate => chat::organization::update(context, body(fields)?).await,
        Operation::OrganizationDelete => chat::organization::delete(context).await,
        Operation::OrganizationRooms => chat::organization::rooms(&context),
        Operation::FileUpload | Operation::TusPatch => Err(Failure::internal()),
        Operation::FileGet => file::get(&context),
        Operation::FileDownload => file::download(context).await,
        Operation::TusCreate => tus::create(context).await,
        Operation::TusGet => tus::get(context).await,
        Operation::TusDelete => tus::delete(context).await,
        Operation::WalletGet => wallet::get(&context),
        Operation::WalletEntries => wallet::entries(&context),
        Operation::SpendCreate => wallet::spend(context, body(fields)?).await,
        Operation::SpendGet => wallet::spend_get(&context),
        Operation::SpendCapture => wallet::capture(context, body(fields)?).await,
        Operation::SpendVoid => wallet::void(context, body(fields)?).await,
        Operation::ChatSocket => socket::room(context).await,
        Operation::Socket => socket::all(context).await,
        Operation::SocketEcho => socket::echo(context).await,
        Operation::SandboxBankPage => sandbox_pay::page(&context),
        Operation::SandboxBankDecide => sandbox_pay::decide(&context, &body(fields)?),
        Operation::SandboxInbox => operator::sandbox_inbox(&context),
        Operation::Status => operator::status(&context),
        Operation::Metrics => operator::metrics(&context),
        Operation::Health => operator::health(&context),
        Operation::OpenApi => {
            Ok(Reply::json(StatusCode::OK, &openapi::document(&context.app.limits.base_path)))
        }
    }
}

/// The reply is always JSON. As in the original, an `Accept` that excludes it answers 406 and an unknown
/// `?format=` 404. A browser's `text/html` gets JSON too: there is no browsable page.
fn negotiate(head: &Parts) -> Result<(), Failure> {
    let query = head.uri.query().unwrap_or("");
    if !query.is_empty() {
        let format = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "format");
        if format.is_some_and(|(_, value)| value != "json" && value != "api") {
            return Err(not_found());
        }
    }
    let mut accepts = head.headers.get_all(header::ACCEPT).iter().peekable();
    if accepts.peek().is_none() {
        return Ok(());
    }
    let accepted =
        accepts.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|range| {
            let essence = range.split(';').next().unwrap_or("").trim();
            ["*/*", "application/*", "application/json", "text/html", "text/*", "text/plain", ""]
                .contains(&essence)
        });
    if accepted {
        return Ok(());
    }
    Err(Failure::detail(
        StatusCode::NOT_ACCEPTABLE,
        "not_acceptable",
        "Could not satisfy the request Accept header.",
    ))
}

/// The caller named by `Authorization: Bearer`. As in the original, a bad token is refused on open routes too,
/// and the scheme is case sensitive.
fn credentials(live: &Live, headers: &HeaderMap) -> Result<Option<Caller>, Failure> {
    let value = header_text(headers, header::AUTHORIZATION);
    let mut words = value.split_ascii_whitespace();
    if words.next() != Some("Bearer") {
        return Ok(None);
    }
    let (Some(token), None) = (words.next(), words.next()) else {
        return Err(Failure::detail(
            StatusCode::UNAUTHORIZED,
            "bad_authorization_header",
            "Authorization header must contain two space-delimited values",
        )
        .challenge());
    };
    live.identity.caller(token).map(Some).map_err(auth::token_failure)
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

fn not_found() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "not_found", "Not found.")
}

fn no_credentials() -> Failure {
    Failure::detail(
        StatusCode::UNAUTHORIZED,
        "not_authenticated",
        "Authentication credentials were not provided.",
    )
    .challenge()
}

/// One line per request: failures of the gateway as errors, refusals and changes as information, reads as
/// detail. The query is never logged; it may hold a token.
fn log(
    request_id: &str,
    method: &Method,
    path: &str,
    client: IpAddr,
    status: StatusCode,
    code: Option<&'static str>,
    started: Instant,
) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                request.id = %request_id,
                http.method = %method,
                http.path = %path,
                http.status = status.as_u16(),
                error.code = code,
                client.ip = %client,
                duration_ms = started.elapsed().as_micros() as f64 / 1000.0,
                "request"
            )
        };
    }
    if status.is_server_error() {
        line!(error);
    } else if status.is_client_error() || !method.is_safe() {
        line!(info);
    } else {
        line!(debug);
    }
}
