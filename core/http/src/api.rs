//! The life of a request: id, preflight, route, negotiation, credentials, permission, method, body, handler, headers,
//! log.
//!
//! The order of credentials before method is the original's: `POST sessions/` without a token is 401, not 405.
//! Invariants: a request sees one generation; it never panics the connection; every answer has a request id.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use crate::drain::Incoming;
use chelseru_config::Server;
use chelseru_domain::language::Language;
use chelseru_domain::operator::{Counter, Meter, Storage};
use chelseru_domain::share::{Full, Share};
use futures_util::FutureExt;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, header};
use tokio_util::task::TaskTracker;

use crate::chat::socket::is_handshake;
use crate::cors;
use crate::files::tus;
use crate::generation::{Generation, Generations};
use crate::negotiation::{credentials, negotiate};
use crate::reply::{Failure, Reply};
use crate::reply_body::ReplyBody;
use crate::request::{
    Access, Addresses, Arrived, Context, Door, Edge, check_host, check_operator_host, no_credentials,
    not_found,
};
use crate::request_id::RequestIds;
use crate::route::{Route, Verb};
use crate::router::{Found, Router};
use crate::sms::report::logged_path;

/// The HTTP side of a gateway. One for all listeners.
pub struct Api {
    generations: Arc<dyn Generations>,
    public: Router,
    operator: Router,
    ids: RequestIds,
    edge: Arc<Edge>,
    /// Answers per status class, 1xx to 5xx.
    answers: [Counter; 5],
    /// Connections that went past the share of their address or their network.
    refused: [Counter; 2],
    operations: TaskTracker,
}

impl Api {
    /// # Errors
    ///
    /// A text for the operator: the operating system provides no randomness.
    pub fn new(
        server: Server,
        addresses: Addresses,
        generations: Arc<dyn Generations>,
        meter: &dyn Meter,
    ) -> Result<Api, String> {
        let class = |class| meter.counter("chelseru_requests_total", &[("class", class)]);
        let ids = RequestIds::new().map_err(|error| format!("no randomness for request ids: {error}"))?;
        Ok(Api {
            generations,
            public: Router::new(&server.base_path, Door::Public),
            operator: Router::new(&server.base_path, Door::Operator),
            ids,
            edge: Arc::new(Edge::new(server, addresses)),
            refused: [Full::Address, Full::Network]
                .map(|full| meter.counter("chelseru_connections_refused_total", &[("share", full.as_str())])),
            answers: ["1xx", "2xx", "3xx", "4xx", "5xx"].map(class),
            operations: TaskTracker::new(),
        })
    }

    /// The operations under way that change something, also those whose client went away. A stop closes it and waits
    /// for them. Each keeps the place of its client's connection, so there are no more than connections.
    pub fn operations(&self) -> &TaskTracker {
        &self.operations
    }

    pub(crate) fn server(&self) -> &Server {
        &self.edge.server
    }

    /// A place for a connection. A trusted proxy's needs none: each of its requests takes one for its client.
    ///
    /// # Errors
    ///
    /// The address, or its network, has as many as it may.
    pub(crate) fn place(&self, from: IpAddr) -> Result<Option<Arc<Share>>, Full> {
        if self.edge.proxies.trusts(from.to_canonical()) {
            return Ok(None);
        }
        let taken = self.edge.places.take(from, 1);
        taken.map(|share| Some(Arc::new(share))).inspect_err(|full| {
            let counter = if *full == Full::Address { &self.refused[0] } else { &self.refused[1] };
            counter.increment();
        })
    }

    /// Answers one request. Never panics, whatever the client sends; a defect in a handler answers 500.
    pub(crate) async fn handle(&self, from: &From, request: Request<Incoming>) -> Response<ReplyBody> {
        let started = Instant::now();
        let (head, body) = request.into_parts();
        let id = self.ids.of(&head.headers);
        let method = head.method.clone();
        let path = logged_path(head.uri.path());
        let client = self.edge.proxies.client(from.peer.ip(), &head.headers);
        let proxied = from.place.is_none() && client != from.peer.ip().to_canonical();
        let place = if proxied { self.place(client) } else { Ok(from.place.clone()) };
        let generation = self.generations.current();
        let origin = head.headers.get(header::ORIGIN).cloned();
        let language = head.headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let language = language.and_then(Language::accepted);

        let asker = Asker { from, client, place: &place };
        let answered =
            AssertUnwindSafe(self.answer(&generation, &id, asker, head, body)).catch_unwind().await;
        let answered = answered.unwrap_or_else(|_| {
            tracing::error!(request.id = %id, "a handler panicked; this is a defect");
            Err(Failure::internal())
        });
        let answered = answered.map_err(|failure| with_cause(&generation, failure, started));
        let code = answered.as_ref().err().map(|failure| failure.code);
        let reply = match (answered, language) {
            (Ok(reply), None) => reply,
            (Ok(reply), Some(language)) => reply.in_language(language),
            (Err(failure), None) => failure.into_reply(&id),
            (Err(failure), Some(language)) => failure.in_language(language).into_reply(&id),
        };
        let mut response = reply.into_response(&id);
        if from.door == Door::Public {
            cors::admit(&generation.origins, origin.as_ref(), response.headers_mut());
        }
        if method == Method::HEAD {
            *response.body_mut() = ReplyBody::default();
        }
        if proxied && let Ok(Some(place)) = place {
            // Given back when the reply is written.
            response.extensions_mut().insert(place);
        }
        let class = usize::from(response.status().as_u16() / 100).wrapping_sub(1);
        if let Some(counter) = self.answers.get(class) {
            counter.increment();
        }
        log(&id, &method, &path, client, response.status(), code, started);
        response
    }

    async fn answer(
        &self,
        generation: &Generation,
        id: &str,
        asker: Asker<'_>,
        head: Parts,
        body: Incoming,
    ) -> Result<Reply, Failure> {
        let Asker { from, client, place } = asker;
        check_host(&head)?;
        if from.door == Door::Operator {
            check_operator_host(&head, &self.edge.addresses)?;
        }
        let Ok(place) = place else { return Err(too_many_connections()) };
        if from.door == Door::Public
            && let Some(answer) = cors::preflight(&generation.origins, &head)
        {
            return answer;
        }
        let router = match from.door {
            Door::Public => &self.public,
            Door::Operator => &self.operator,
        };
        let (route, prefix_len) = match router.find(&head.uri, generation) {
            Found::Route(route, prefix_len) => (route, prefix_len),
            // A handshake follows no redirect.
            Found::MissingSlash(_) if is_handshake(&head.headers) => return Err(not_found()),
            Found::MissingSlash(location) => return Ok(Reply::moved(&location)),
            Found::Nothing => return Err(not_found()),
        };
        if from.door == Door::Public && route.path != "/health/" && generation.operator.overview.has_failed()
        {
            // Memory may hold what was refused, so nothing is read any more.
            return Err(Failure::store_failed());
        }
        let mut own = vec![(header::ALLOW, route.allow())];
        let mut head = head;
        if route.is_resumable() {
            own.push((tus::RESUMABLE, tus::OURS));
            head.method = tus::method(&head);
        }
        let context = Context {
            id: id.to_owned(),
            head,
            peer: from.peer,
            client,
            pattern: route.path,
            prefix_len,
            edge: self.edge.clone(),
            // Nothing yet, which is never refused.
            memory: self.edge.bodies.take(client, 0).map_err(|_| Failure::internal())?,
            place: place.clone(),
        };
        match self.serve(generation, route, context, body).await {
            Ok(mut reply) => {
                reply.headers.extend(own);
                Ok(reply)
            }
            Err(failure) => {
                Err(own.into_iter().fold(failure, |failure, (name, value)| failure.with(name, value)))
            }
        }
    }

    /// From here on the order is the original's: a wrong token is refused before a wrong method.
    async fn serve(
        &self,
        generation: &Generation,
        route: &Route,
        context: Context,
        body: Incoming,
    ) -> Result<Reply, Failure> {
        if !route.is_beside() {
            negotiate(&context.head)?;
        }
        if route.is_resumable() && context.head.method == Method::OPTIONS {
            // A client of the protocol asks for its extensions before it logs in.
            return Ok(route.describe(generation));
        }
        let caller = match route.access {
            Access::Tokenless | Access::Operator => None,
            _ => credentials(&generation.login.identity, &context).await?,
        };
        if route.access == Access::User && caller.is_none() {
            return Err(no_credentials());
        }
        if context.head.method == Method::OPTIONS {
            return Ok(route.describe(generation));
        }
        let Some(operation) = route.operation(&context.head.method) else {
            let text = format!("Method \"{}\" not allowed.", context.head.method);
            return Err(Failure::detail(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text));
        };
        let answering = (operation.call.run)(generation, Arrived { context, caller, body });
        if operation.verb == Verb::Get {
            return answering.await;
        }
        // A change runs to its end, its audit record with it, also when the client closes the connection meanwhile. One
        // whose body has not arrived by then finds it cut off.
        match self.operations.spawn(answering).await {
            Ok(answer) => answer,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Failure::internal()),
            },
        }
    }
}

/// Where a connection came in.
pub(crate) struct From {
    pub(crate) door: Door,
    pub(crate) peer: SocketAddr,
    /// Its place among its address's; `None` for trusted proxies, and on the operators' listener.
    pub(crate) place: Option<Arc<Share>>,
}

/// Who asks.
struct Asker<'a> {
    from: &'a From,
    /// The client behind the proxies.
    client: IpAddr,
    /// The client's place among its address's connections.
    place: &'a Result<Option<Arc<Share>>, Full>,
}

/// Replaces an internal error by its cause, when the cause is the store's disk. `started` is the request's.
fn with_cause(generation: &Generation, failure: Failure, started: Instant) -> Failure {
    if failure.status != StatusCode::INTERNAL_SERVER_ERROR {
        return failure;
    }
    let overview = &generation.operator.overview;
    match overview.storage() {
        Storage::Failed => Failure::store_failed(),
        Storage::Full => Failure::storage_full(),
        Storage::Stalled => Failure::store_stalled(),
        Storage::Away => Failure::store_away(),
        Storage::Serving if overview.has_refused_since(started) => Failure::store_busy(),
        Storage::Serving => failure,
    }
}

fn too_many_connections() -> Failure {
    let text = "Too many connections from this address.";
    Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "connections_full", text).retry_after(5)
}

/// Logs one line per request: failures of the gateway as errors, refusals and changes as information, reads as debug.
/// The query is never logged, because it may hold a token.
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
    if matches!(code, Some("store_failed" | "store_stalled" | "store_away" | "storage_full" | "busy")) {
        // Every request answers so; the gateway says it once a minute, or in the metrics.
        line!(debug);
    } else if status.is_server_error() {
        line!(error);
    } else if status.is_client_error() || !method.is_safe() {
        line!(info);
    } else {
        line!(debug);
    }
}
