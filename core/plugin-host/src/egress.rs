//! The way out of a plugin: what a request and an answer are, and the real transport over HTTP.
//!
//! [`Egress`] follows no redirect, uses no proxy and never repeats a request. It refuses addresses after DNS
//! (see `grants`), so a granted name that points at a private address does not open it. Its errors keep *not
//! sent*, *sent but unanswered* and *answered too large* apart, because the caller of a plugin decides with
//! that difference whether a request may be repeated; in doubt it says *unanswered*.
//! Not here: how many requests and bytes a call may use (see `state`), and where names are looked up (see `lookup`).

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
pub use reqwest::{Method, Url};
use tokio::sync::OnceCell;

use crate::grants::Grants;
use crate::lookup::{Lookup, LookupError, Lookups, ProviderPlaces};
use crate::stats::Stats;

/// A request that a plugin wants to send, already checked for form and grants.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// The request method.
    pub method: Method,
    /// Absolute, `http` or `https`.
    pub url: Url,
    /// Valid names and values, none of them one that the transport sets itself.
    pub headers: Vec<(String, String)>,
    /// The body; empty when there is none.
    pub body: Vec<u8>,
    /// For the whole exchange.
    pub timeout: Duration,
    /// The largest answer (head and body, bytes) that is wanted; above it the answer is `TooLarge`.
    pub response_bytes_max: usize,
    /// The answer's body is not read, whatever its size.
    pub ignores_body: bool,
}

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub struct HttpResponse {
    /// The HTTP status code.
    pub status: u16,
    /// In the order received; bytes that are not UTF-8 are replaced.
    pub headers: Vec<(String, String)>,
    /// The body, not decoded.
    pub body: Vec<u8>,
}

/// Why there is no answer. Texts name hosts, never headers, bodies or whole URLs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The host or the address it resolves to is not granted. Nothing was sent.
    #[error("not granted: {0}")]
    NotGranted(String),
    /// The request itself is wrong. Nothing was sent.
    #[error("invalid request: {0}")]
    InvalidRequest(String),
    /// No connection could be made. Nothing was sent; trying again is safe.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The request was, or may have been, written and no whole answer came.
    #[error("unanswered: {0}")]
    Unanswered(String),
    /// An answer came, larger than the limit. Holds its size in bytes as far as it is known.
    #[error("answer too large: {0} bytes or more")]
    TooLarge(u64),
}

impl HttpError {
    /// Whether the request may have reached its host.
    pub fn may_have_sent(&self) -> bool {
        matches!(self, HttpError::Unanswered(_) | HttpError::TooLarge(_))
    }
}

/// Carries a request out. Implement it to answer from memory in tests and benches.
///
/// The future runs in a task of its own and is dropped when the call that asked for it ends.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request, once.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError>;
}

/// Limits of the real transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressOptions {
    /// For DNS, TCP and TLS together. Default 3 s: shorter than a request's own limit, so that a host that is
    /// down is *not sent* instead of *unanswered*. A request with a shorter limit of its own is *unanswered* when
    /// that runs out, because it cannot be seen how far it came.
    pub connect_timeout: Duration,
    /// How long an idle connection is kept. Default 30 s.
    pub idle_timeout: Duration,
    /// Idle connections kept per host. Default 64: fewer than the calls that run at once, and each burst closes
    /// what the next one has to open again.
    pub idle_connections_max: usize,
}

impl Default for EgressOptions {
    fn default() -> EgressOptions {
        EgressOptions {
            connect_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(30),
            idle_connections_max: 64,
        }
    }
}

/// The real transport: HTTP/1.1 and HTTP/2 over TCP and TLS, with the address rule of its grants.
///
/// Each has its own connections, so that one plugin never rides on a connection another was granted.
pub struct Egress {
    resolver: CheckedResolver,
    options: EgressOptions,
    /// Built with the first request: reading the system's certificates takes milliseconds, and a provider that
    /// is never called needs none.
    client: OnceCell<reqwest::Client>,
}

impl Egress {
    /// Makes a transport that reaches what `grants` allows, with lookups of its own. Opens nothing yet.
    pub fn new(grants: Arc<Grants>, options: EgressOptions) -> Egress {
        Egress::with_lookups(grants, options, Lookups::new(Lookup::default()), Arc::default())
    }

    /// As [`Egress::new`], with a host's lookups. Counts those that are refused.
    pub(crate) fn with_lookups(
        grants: Arc<Grants>,
        options: EgressOptions,
        lookups: Arc<Lookups>,
        stats: Arc<Stats>,
    ) -> Egress {
        let resolver = CheckedResolver { grants, lookups, places: ProviderPlaces::default(), stats };
        Egress { resolver, options, client: OnceCell::new() }
    }

    async fn client(&self) -> Result<&reqwest::Client, HttpError> {
        let build = || async {
            let (resolver, options) = (self.resolver.clone(), self.options.clone());
            tokio::task::spawn_blocking(move || client_build(resolver, &options))
                .await
                .map_err(|_| HttpError::NotSent("the HTTP client could not be built".to_owned()))?
                .map_err(|e| {
                    HttpError::NotSent(format!("the HTTP client could not be built: {}", root_text(&e)))
                })
        };
        self.client.get_or_try_init(build).await
    }
}

fn client_build(resolver: CheckedResolver, options: &EgressOptions) -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(options.connect_timeout)
        .pool_idle_timeout(options.idle_timeout)
        .pool_max_idle_per_host(options.idle_connections_max)
        .dns_resolver(resolver)
        .build()
}

#[async_trait]
impl Transport for Egress {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // An address in the URL never meets the resolver, so this is the only check it gets.
        self.resolver.grants.check(&request.url).map_err(HttpError::NotGranted)?;
        let mut headers = HeaderMap::with_capacity(request.headers.len());
        for (name, value) in &request.headers {
            let (name, value) = header_parse(name, value)?;
            // Not `append`, which panics above some 30,000 headers.
            headers
                .try_append(name, value)
                .map_err(|_| HttpError::InvalidRequest("too many headers".to_owned()))?;
        }
        let bytes_max = request.response_bytes_max;
        let sending = self
            .client()
            .await?
            .request(request.method, request.url)
            .headers(headers)
            .body(request.body)
            .timeout(request.timeout)
            .send();
        let mut response = sending.await.map_err(error_sort)?;

        let headers: Vec<(String, String)> = response
            .headers()
            .iter()
            .map(|(name, value)| {
                let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.as_str().to_owned(), if *name == RETRY_AFTER { retry_after(text) } else { text })
            })
            .collect();
        let head_bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let length = if request.ignores_body { 0 } else { response.content_length().unwrap_or(0) };
        let announced = length.saturating_add(head_bytes as u64);
        if announced > bytes_max as u64 {
            return Err(HttpError::TooLarge(announced));
        }
        if request.ignores_body {
            return Ok(HttpResponse { status: response.status().as_u16(), headers, body: Vec::new() });
        }
        let mut body = Vec::with_capacity(announced as usize - head_bytes);
        while let Some(chunk) = response.chunk().await.map_err(error_sort)? {
            let bytes = head_bytes + body.len() + chunk.len();
            if bytes > bytes_max {
                return Err(HttpError::TooLarge(bytes as u64));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpResponse { status: response.status().as_u16(), headers, body })
    }
}

/// A `Retry-After` in seconds. A date becomes the seconds until then, because a plugin has no clock; any other text
/// stays.
fn retry_after(text: String) -> String {
    let Ok(at) = httpdate::parse_http_date(&text) else { return text };
    let left = at.duration_since(SystemTime::now()).unwrap_or_default();
    (left.as_secs() + u64::from(left.subsec_nanos() > 0)).to_string()
}

/// Checks one header of a plugin's request.
///
/// # Errors
/// `InvalidRequest` for what HTTP forbids, and for headers that would change how the message is framed or where
/// it goes: those belong to the transport.
pub(crate) fn header_parse(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), HttpError> {
    const OWN: [&str; 9] = [
        "host",
        "content-length",
        "connection",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "keep-alive",
        "proxy-authorization",
    ];
    let invalid =
        |why: &str| HttpError::InvalidRequest(format!("header {:?}: {why}", name.get(..64).unwrap_or(name)));
    let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("not a header name"))?;
    if OWN.contains(&header.as_str()) {
        return Err(invalid("set by the host"));
    }
    let value = HeaderValue::from_str(value).map_err(|_| invalid("control characters in the value"))?;
    Ok((header, value))
}

/// Tells what an error of the HTTP client means for repeating the request.
fn error_sort(error: reqwest::Error) -> HttpError {
    let mut source: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(cause) = source {
        if let Some(refused) = cause.downcast_ref::<AddressRefused>() {
            return HttpError::NotGranted(refused.to_string());
        }
        source = cause.source();
    }
    if error.is_builder() {
        HttpError::InvalidRequest(root_text(&error))
    } else if error.is_connect() {
        HttpError::NotSent(root_text(&error))
    } else if error.is_timeout() {
        HttpError::Unanswered("no whole answer in time".to_owned())
    } else {
        HttpError::Unanswered(root_text(&error))
    }
}

/// The innermost cause, which never holds the URL (a URL's query may hold a key).
fn root_text(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if std::ptr::addr_eq(cause, error) { "the HTTP client refused".to_owned() } else { cause.to_string() }
}

/// The host's lookups, minus the addresses that are not allowed for the name.
#[derive(Clone)]
struct CheckedResolver {
    grants: Arc<Grants>,
    lookups: Arc<Lookups>,
    places: ProviderPlaces,
    stats: Arc<Stats>,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let CheckedResolver { grants, lookups, places, stats } = self.clone();
        Box::pin(async move {
            let name = name.as_str();
            let found = lookups.find(name, &places).await.inspect_err(|error| {
                if *error == LookupError::Busy {
                    stats.lookup_refused();
                }
            })?;
            let allowed: Vec<SocketAddr> =
                found.iter().copied().filter(|a| grants.address_allowed(name, a.ip())).collect();
            if allowed.is_empty() && !found.is_empty() {
                return Err(
                    AddressRefused { name: name.to_owned(), address: found[0].ip().to_string() }.into()
                );
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[derive(Debug)]
struct AddressRefused {
    name: String,
    address: String,
}

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AddressRefused { name, address } = self;
        write!(
            f,
            "host \"{name}\" resolves to {address}, which is not public and not granted for the same ports"
        )
    }
}

impl StdError for AddressRefused {}
