//! The request as a handler sees it.
//!
//! The types of a handler's [`Request`] are the rules of its route: `C` is the required caller, `B` how the body is
//! read. A handler that needs fields, or a user, cannot be registered without them. Invariant: the caller is the user
//! of a verified token; the client's address is the peer's, or the one reported by trusted proxies.

use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::drain::Incoming;
use bytes::Bytes;
use chelseru_config::{OperatorListen, Server, is_authority, is_public};
use chelseru_domain::login::identity::Caller;
use chelseru_domain::share::{Share, ShareLimits, Shares};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, StatusCode, Version, header};

use crate::body::{ADDRESS_PERCENT, BodyBounds, NETWORK_PERCENT, hold_lists, read_bytes};
use crate::fields::{self, Fields};
use crate::proxy::Proxies;
use crate::reply::Failure;

/// The listeners' configuration, for all requests.
pub(crate) struct Edge {
    pub(crate) server: Server,
    pub(crate) proxies: Proxies,
    pub(crate) addresses: Addresses,
    /// Connections and sockets, by where they come from.
    pub(crate) places: Arc<Shares>,
    /// Bytes of bodies that are read whole.
    pub(crate) bodies: Arc<Shares>,
}

impl Edge {
    pub(crate) fn new(server: Server, addresses: Addresses) -> Edge {
        let places = ShareLimits {
            // The listener bounds the total itself, and `chat.sockets_max` that of sockets.
            total: u64::MAX,
            ..ShareLimits::percent(
                server.connections_max.into(),
                server.connections_per_network_percent,
                server.connections_per_address_percent,
            )
        };
        let bodies = ShareLimits::percent(server.bodies_bytes_max, NETWORK_PERCENT, ADDRESS_PERCENT);
        Edge {
            proxies: Proxies::new(&server.trusted_proxies),
            places: Shares::new(places),
            bodies: Shares::new(bodies),
            server,
            addresses,
        }
    }
}

/// The listening addresses, with their actual ports.
#[derive(Debug, Clone)]
pub struct Addresses {
    pub public: SocketAddr,
    pub operator: OperatorListen,
    /// Names of the operators' listener besides addresses and `localhost`.
    pub operator_hosts: Vec<String>,
}

impl Addresses {
    /// The address under which a browser on this machine reaches the operators' listener. A browser cannot open a unix
    /// socket; `curl --unix-socket` takes any host.
    pub(crate) fn operator_url(&self) -> String {
        match &self.operator {
            OperatorListen::Tcp(address) => format!("http://{}", reachable(*address)),
            OperatorListen::Unix(_) => "http://localhost".to_owned(),
        }
    }

    /// `None` when other machines reach the public listener, because its public name is not known here.
    pub(crate) fn local_url(&self) -> Option<String> {
        let local = !is_public(self.public.ip());
        local.then(|| format!("http://{}", self.public))
    }
}

/// Converts a listening address to one to connect to.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { IpAddr::from([127, 0, 0, 1]) } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

/// The head of a request, with derived facts.
pub(crate) struct Context {
    pub(crate) id: String,
    pub(crate) head: Parts,
    /// The peer of the connection. Behind a proxy this is the proxy.
    pub(crate) peer: SocketAddr,
    /// The client's address.
    pub(crate) client: IpAddr,
    /// The route's path, with its parameters in braces.
    pub(crate) pattern: &'static str,
    /// Bytes of the path before `pattern`.
    pub(crate) prefix_len: usize,
    pub(crate) edge: Arc<Edge>,
    /// The memory that the body takes.
    pub(crate) memory: Share,
    /// The place of the connection among its address's. A socket keeps it.
    pub(crate) place: Option<Arc<Share>>,
}

impl Context {
    /// A header's text; `""` when absent or not text.
    pub(crate) fn header(&self, name: header::HeaderName) -> &str {
        header_text(&self.head.headers, name)
    }

    /// The raw query; `""` without one.
    pub(crate) fn query_text(&self) -> &str {
        self.head.uri.query().unwrap_or("")
    }

    /// The first value of this name in the query.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.query_text().as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    pub(crate) fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The raw part of the path for a parameter of the route.
    pub(crate) fn parameter(&self, name: &str) -> &str {
        let path = self.path().get(self.prefix_len..).unwrap_or_default();
        let parts = self.pattern.split('/').zip(path.split('/'));
        let named = |part: &str| part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) == Some(name);
        parts.filter(|(part, _)| named(part)).map(|(_, value)| value).next().unwrap_or_default()
    }

    /// The number in the path for a parameter of the route. Each number has one spelling: `01`, `+1` and numbers past
    /// 64 bits are not found.
    ///
    /// # Errors
    ///
    /// 404 for anything but a number.
    pub(crate) fn id(&self, name: &str) -> Result<u64, Failure> {
        number(self.parameter(name)).ok_or_else(not_found)
    }

    /// Scheme and host for absolute addresses: the configured ones; otherwise those a trusted proxy reports;
    /// otherwise those of the request.
    pub(crate) fn origin(&self) -> String {
        let Edge { server, proxies, addresses, .. } = &*self.edge;
        if !server.public_url.is_empty() {
            return server.public_url.clone();
        }
        let proxied = proxies.origin(self.peer.ip(), &self.head.headers);
        let scheme = if proxied.https { "https" } else { "http" };
        let named = proxied.host.as_deref().or_else(|| self.head.uri.authority().map(Authority::as_str));
        match named.unwrap_or_else(|| self.header(header::HOST)) {
            // HTTP/1.0 needs no Host header.
            "" => format!("{scheme}://{}", addresses.public),
            host => format!("{scheme}://{host}"),
        }
    }

    /// The address of a path on this host.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }

    /// The gateway's own address from the configuration; `None` when it has none.
    pub(crate) fn own_url(&self) -> Option<String> {
        let configured = Some(self.edge.server.public_url.clone()).filter(|url| !url.is_empty());
        configured.or_else(|| self.edge.addresses.local_url())
    }

    pub(crate) fn operator_url(&self) -> String {
        self.edge.addresses.operator_url()
    }

    pub(crate) fn base_path(&self) -> &str {
        &self.edge.server.base_path
    }
}

/// Checks the host that a request names. HTTP/1.1 has one `Host`, an older version at most one, and every name is a
/// host with or without a port. The target's own authority takes precedence over `Host`, which is still required (RFC
/// 9112, section 3.2).
///
/// # Errors
///
/// 400.
pub(crate) fn check_host(head: &Parts) -> Result<(), Failure> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let fits = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().is_ok_and(is_authority),
        (None, None) => head.version < Version::HTTP_11,
        _ => false,
    };
    if fits && head.uri.authority().is_none_or(|authority| is_authority(authority.as_str())) {
        return Ok(());
    }
    let text = "A request names one host, as a name or an address with or without a port.";
    Err(Failure::detail(StatusCode::BAD_REQUEST, "host_not_valid", text))
}

/// Checks the host of a request to the operators' listener. A page in an operator's browser can let its own name lead
/// to this machine (DNS rebinding) and then reads what the listener answers; but the browser still names the page's
/// host.
///
/// # Errors
///
/// 421 for a name that is not the listener's.
pub(crate) fn check_operator_host(head: &Parts, addresses: &Addresses) -> Result<(), Failure> {
    // A browser opens no unix socket, and names a host in every request.
    let named =
        head.uri.authority().map_or_else(|| header_text(&head.headers, header::HOST), Authority::as_str);
    if matches!(addresses.operator, OperatorListen::Unix(_)) || named.is_empty() {
        return Ok(());
    }
    let host = match named.split_once(']') {
        Some((address, _)) => address.trim_start_matches('['),
        None => named.split(':').next().unwrap_or_default(),
    };
    let is_own = |own: &String| own.eq_ignore_ascii_case(host);
    if host.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || addresses.operator_hosts.iter().any(is_own)
    {
        return Ok(());
    }
    let text = "This listener has no such name; operator.hosts in the configuration lists its names.";
    Err(Failure::detail(StatusCode::MISDIRECTED_REQUEST, "host_not_allowed", text))
}

/// A whole number in its one spelling.
pub(crate) fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let spelled = digits && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| spelled)
}

/// A request for a handler: `C` is the caller, `B` how the body is read.
pub(crate) struct Request<C, B = ()> {
    pub(crate) context: Context,
    pub(crate) caller: C,
    pub(crate) body: B,
}

impl<C, B> Deref for Request<C, B> {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

/// A request whose body is not read yet.
pub(crate) struct Arrived {
    pub(crate) context: Context,
    pub(crate) caller: Option<Caller>,
    pub(crate) body: Incoming,
}

impl Arrived {
    /// Reads the body in the handler's form.
    pub(crate) async fn read<C: Calls, B: FromBody>(self) -> Result<Request<C, B>, Failure> {
        let Arrived { mut context, caller, body } = self;
        let caller = C::admit(caller)?;
        let body = B::read(&mut context, body).await?;
        Ok(Request { context, caller, body })
    }
}

/// The callers a route accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anyone. A token, if sent, must be valid.
    Open,
    /// Anyone. `Authorization` is ignored, because clients with expired tokens call these routes.
    Tokenless,
    /// A valid access token.
    User,
    /// An API key, or a user with the right to send; the handler decides.
    Sender,
    /// A user, or the holder of a signed link; the handler decides.
    Link,
    /// Callers on the operators' listener. On the public one the route does not exist.
    Operator,
}

/// The listener that serves a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `server.listen`, for clients.
    Public,
    /// `operator.listen`, for operators and their machines.
    Operator,
}

impl Access {
    /// The listener for routes of this access. Nothing in a request changes it: behind a reverse proxy every client
    /// comes from this machine.
    pub(crate) const fn door(self) -> Door {
        match self {
            Access::Operator => Door::Operator,
            Access::Open | Access::Tokenless | Access::User | Access::Sender | Access::Link => Door::Public,
        }
    }
}

/// The type of a caller, for an [`Access`].
pub(crate) trait Calls: Sized {
    const ACCESS: Access;

    fn admit(caller: Option<Caller>) -> Result<Self, Failure>;
}

impl Calls for Caller {
    const ACCESS: Access = Access::User;

    fn admit(caller: Option<Caller>) -> Result<Self, Failure> {
        caller.ok_or_else(no_credentials)
    }
}

macro_rules! callers {
    ($($(#[$doc:meta])* $name:ident)+) => {
        $($(#[$doc])*
        pub(crate) struct $name(pub(crate) Option<Caller>);

        impl Calls for $name {
            const ACCESS: Access = Access::$name;

            fn admit(caller: Option<Caller>) -> Result<Self, Failure> {
                Ok($name(caller))
            }
        })+
    };
}

callers! {
    /// The user with the right to send, when no API key was sent.
    Sender
    /// The downloading user, when no link was used.
    Link
}

/// The caller on a route for anyone.
pub(crate) struct Open;

/// The caller on a route for anyone, which shows a user more.
pub(crate) struct Anyone(pub(crate) Option<Caller>);

impl Calls for Anyone {
    const ACCESS: Access = Access::Open;

    fn admit(caller: Option<Caller>) -> Result<Self, Failure> {
        Ok(Anyone(caller))
    }
}

/// The caller on a route that reads no token.
pub(crate) struct Tokenless;

/// The caller on a route of the operators' listener.
pub(crate) struct ByOperator;

impl Calls for Open {
    const ACCESS: Access = Access::Open;

    fn admit(_: Option<Caller>) -> Result<Self, Failure> {
        Ok(Open)
    }
}

impl Calls for Tokenless {
    const ACCESS: Access = Access::Tokenless;

    fn admit(_: Option<Caller>) -> Result<Self, Failure> {
        Ok(Tokenless)
    }
}

impl Calls for ByOperator {
    const ACCESS: Access = Access::Operator;

    fn admit(_: Option<Caller>) -> Result<Self, Failure> {
        Ok(ByOperator)
    }
}

/// How a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyKind {
    /// Not read.
    Unread,
    /// JSON, form or multipart, field by field.
    Fields,
    /// As received, of any media type: a plugin parses it.
    Bytes,
    /// Piece by piece: a file.
    Stream,
}

/// The type of a body, for a [`BodyKind`].
pub(crate) trait FromBody: Sized + Send {
    const KIND: BodyKind;

    fn read(context: &mut Context, body: Incoming) -> impl Future<Output = Result<Self, Failure>> + Send;
}

impl FromBody for () {
    const KIND: BodyKind = BodyKind::Unread;

    async fn read(_: &mut Context, _: Incoming) -> Result<Self, Failure> {
        Ok(())
    }
}

impl FromBody for Fields {
    const KIND: BodyKind = BodyKind::Fields;

    async fn read(context: &mut Context, body: Incoming) -> Result<Self, Failure> {
        let bytes = read_bytes(body, context.edge.body_bounds(), &mut context.memory).await?;
        let fields = fields::parse(&context.head.headers, bytes).await?;
        hold_lists(fields.list_bytes(), &mut context.memory)?;
        Ok(fields)
    }
}

impl FromBody for Bytes {
    const KIND: BodyKind = BodyKind::Bytes;

    async fn read(context: &mut Context, body: Incoming) -> Result<Self, Failure> {
        read_bytes(body, context.edge.body_bounds(), &mut context.memory).await
    }
}

impl FromBody for Incoming {
    const KIND: BodyKind = BodyKind::Stream;

    async fn read(_: &mut Context, body: Incoming) -> Result<Self, Failure> {
        Ok(body)
    }
}

impl Edge {
    /// The most bytes of a body that is read whole, and the time it may take.
    pub(crate) fn body_bounds(&self) -> BodyBounds {
        let timeout = Duration::from_secs(self.server.body_read_timeout_seconds);
        BodyBounds { bytes_max: self.server.body_bytes_max, timeout }
    }
}

pub(crate) fn header_text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

pub(crate) fn not_found() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "not_found", "Not found.")
}

pub(crate) fn no_credentials() -> Failure {
    Failure::detail(
        StatusCode::UNAUTHORIZED,
        "not_authenticated",
        "Authentication credentials were not provided.",
    )
    .challenge()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_one_host() {
        let check = |version, target: &str, hosts: &[&str]| {
            let mut request = http::Request::builder().uri(target).version(version);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            check_host(&request.body(()).expect("a request").into_parts().0).is_ok()
        };
        for host in ["example.com", "example.com:8000", "127.0.0.1", "[::1]:80", "my_host", "a-b.c"] {
            assert!(check(Version::HTTP_11, "/", &[host]), "{host}");
        }
        for host in ["", "a b", "a,b", "user@host", "host:port", "host:99999", "[::1", "http://x", "a/b"] {
            assert!(!check(Version::HTTP_11, "/", &[host]), "{host}");
            assert!(!check(Version::HTTP_10, "/", &[host]), "{host}");
        }
        assert!(!check(Version::HTTP_11, "/", &[]));
        assert!(!check(Version::HTTP_11, "/", &["a", "a"]));
        assert!(check(Version::HTTP_10, "/", &[]));
        assert!(check(Version::HTTP_11, "http://other.example/", &["example.com"]));
        assert!(!check(Version::HTTP_11, "http://other.example/", &[]));
        assert!(!check(Version::HTTP_11, "http://user@other.example/", &["example.com"]));
    }

    #[test]
    fn the_operators_listener_answers_to_its_own_names() {
        let check = |operator: &OperatorListen, target: &str, host: &str| {
            let request = http::Request::builder().uri(target).header(header::HOST, host).body(());
            let operator_hosts = vec!["gateway.internal".to_owned()];
            let public = SocketAddr::from(([127, 0, 0, 1], 1));
            let addresses = Addresses { public, operator: operator.clone(), operator_hosts };
            check_operator_host(&request.expect("a request").into_parts().0, &addresses).is_ok()
        };
        let tcp = OperatorListen::Tcp(SocketAddr::from(([127, 0, 0, 1], 2)));
        for host in [
            "127.0.0.1",
            "127.0.0.1:8001",
            "10.1.2.3",
            "[::1]:8001",
            "LocalHost:8001",
            "Gateway.Internal:1",
            "",
        ] {
            assert!(check(&tcp, "/", host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8001", "localhost.evil.example", "127.0.0.1.evil.example", "x"]
        {
            assert!(!check(&tcp, "/", host), "{host}");
            assert!(!check(&tcp, &format!("http://{host}/"), "127.0.0.1"), "{host}");
            assert!(check(&OperatorListen::Unix("s".into()), "/", host), "{host}");
        }
    }

    #[test]
    fn a_number_has_one_spelling() {
        for (text, expected) in [("0", 0), ("7", 7), ("18446744073709551615", u64::MAX)] {
            assert_eq!(number(text), Some(expected), "{text}");
        }
        for text in
            ["", "01", "00", "+1", "-1", " 1", "1 ", "%31", "1e3", "\u{6f1}", "18446744073709551616", "0x1"]
        {
            assert_eq!(number(text), None, "{text:?}");
        }
    }

    fn context(path: &str, pattern: &'static str, prefix_len: usize) -> Context {
        let (head, ()) = http::Request::builder().uri(path).body(()).expect("a request").into_parts();
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let addresses =
            Addresses { public: peer, operator: OperatorListen::Tcp(peer), operator_hosts: Vec::new() };
        let edge = Arc::new(Edge::new(Server::default(), addresses));
        let memory = edge.bodies.take(peer.ip(), 0).expect("nothing");
        let client = peer.ip();
        Context { id: "r".into(), head, peer, client, pattern, prefix_len, edge, memory, place: None }
    }

    #[test]
    fn parameters_are_found_by_name_behind_the_base_path() {
        let found = context("/base/a/7/b/x/", "/a/{id}/b/{name}/", 5);
        assert_eq!(
            (found.id("id").ok(), found.parameter("name"), found.parameter("none")),
            (Some(7), "x", "")
        );
        assert_eq!(found.id("name").map_err(|failure| failure.status), Err(StatusCode::NOT_FOUND));
        assert_eq!(context("/m/x.png", "/m/{name}", 0).parameter("name"), "x.png");
    }
}
