//! Webhooks over HTTP: the configured endpoints, and one delivery to one of them.
//!
//! A message has the form of the Standard Webhooks specification: headers `webhook-id`, `webhook-timestamp` and
//! `webhook-signature`, a JSON body of `type`, `timestamp` and `data`. Any 2xx is success; 410 ends the deliveries of
//! this event. Requests use the same guarded HTTP client as plugins: no redirect, no proxy, and no private address
//! that is not granted. Not here: the retry schedule (`chelseru-domain::webhook`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chelseru_config::{Loaded, Problem, Problems, WebhookEndpoint};
use chelseru_domain::Timestamp;
use chelseru_domain::chat;
use chelseru_domain::operator::webhook::{self, Event, Receivers, SECRET_BYTES, Told};
use chelseru_plugin_host::{
    Egress, EgressOptions, Grants, HostGrant, HttpRequest, HttpResponse, Method, Transport, Url,
};
use serde_json::Value;

/// Time limit of one attempt, from connecting to the end of the answer.
///
/// Source: Standard Webhooks specification, which advises 15 to 30 s.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// What a secret begins with.
const SECRET_PREFIX: &str = "whsec_";

/// The endpoints of a configuration.
#[derive(Default)]
pub struct Endpoints(BTreeMap<String, Endpoint>);

struct Endpoint {
    url: Url,
    /// The newest one first; each signs.
    secrets: Vec<Vec<u8>>,
    /// Empty: all but news.
    kinds: Vec<String>,
    /// Whether news of messages carry their texts.
    text: bool,
    transport: Egress,
}

impl Endpoints {
    /// The endpoints of a checked configuration.
    ///
    /// Errors: every unusable endpoint, at the line of its key; secrets are not shown.
    pub fn load(loaded: &Loaded) -> Result<Endpoints, Problems> {
        let (mut endpoints, mut problems) = (BTreeMap::new(), Vec::new());
        for (name, entry) in &loaded.config.webhooks.endpoints {
            match Endpoint::load(loaded, name, entry) {
                Ok(endpoint) => drop(endpoints.insert(name.clone(), endpoint)),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(Endpoints(endpoints)) } else { Err(Problems(problems)) }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is to be noted of chat for the endpoints.
    pub fn wants_news(&self) -> (bool, bool) {
        let mut wanting = chat::NEWS.iter().flat_map(|kind| self.wanting_news(kind)).peekable();
        (wanting.peek().is_some(), wanting.any(|(_, text)| text))
    }

    /// The endpoints that want news of this kind, and whether with texts.
    pub fn wanting_news(&self, kind: &str) -> Vec<(String, bool)> {
        let wants = |endpoint: &Endpoint| endpoint.kinds.iter().any(|want| want == kind);
        let named = |(name, endpoint): (&String, &Endpoint)| (name.clone(), endpoint.text);
        self.0.iter().filter(|(_, endpoint)| wants(endpoint)).map(named).collect()
    }

    /// Sends news to one endpoint.
    pub async fn tell_news(&self, endpoint: &str, id: &str, body: &Value, now: Timestamp) -> Told {
        match self.0.get(endpoint) {
            Some(endpoint) => endpoint.send(id, body.to_string().into_bytes(), now).await,
            None => unconfigured(),
        }
    }

    pub fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

impl Endpoint {
    fn load(loaded: &Loaded, name: &str, entry: &WebhookEndpoint) -> Result<Endpoint, Problem> {
        let refuse = |part: &str, found: Option<String>, what: &str| {
            loaded.source.problem(&format!("webhooks.endpoints.{name}.{part}"), found, what)
        };
        let mut secrets = Vec::new();
        let previous = entry.secret_previous.as_ref().map(|secret| ("secret_previous", secret));
        for (key, secret) in [("secret", &entry.secret)].into_iter().chain(previous) {
            let source = || Some(format!("{secret:?}"));
            let text = loaded.resolve(secret).map_err(|what| refuse(key, source(), &what))?;
            secrets.push(secret_bytes(&text).ok_or_else(|| {
                let accepted =
                    "must be whsec_ and Base64 of 24 to 64 bytes; `chelseru webhooks secret` makes one";
                refuse(key, source(), accepted)
            })?);
        }
        let found = || Some(format!("{:?}", entry.url));
        let url = Url::parse(&entry.url).map_err(|error| refuse("url", found(), &error.to_string()))?;
        let grants = grants(&entry.hosts, &url)
            .map_err(|what| refuse("hosts", Some(format!("{:?}", entry.hosts)), &what))?;
        grants.check(&url).map_err(|what| {
            let host = url.host_str().unwrap_or_default();
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            let cure = format!("{what}; a private address must be granted: hosts = [\"{host}{port}\"]");
            refuse("url", found(), &cure)
        })?;
        let transport = Egress::new(Arc::new(grants), EgressOptions::default());
        Ok(Endpoint { url, secrets, kinds: entry.events.clone(), text: entry.message_text, transport })
    }
}

/// A new secret, for `chelseru webhooks secret`.
///
/// Errors: the operating system provides no randomness.
pub fn secret_make() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes)))
}

fn secret_bytes(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text.strip_prefix(SECRET_PREFIX)?).ok()?;
    SECRET_BYTES.contains(&bytes.len()).then_some(bytes)
}

fn grants(hosts: &[String], url: &Url) -> Result<Grants, String> {
    if !hosts.is_empty() {
        let entries = hosts.iter().map(|host| host.parse::<HostGrant>().map_err(|error| error.to_string()));
        return Ok(Grants::by_operator(entries.collect::<Result<_, _>>()?));
    }
    let host = url.host_str().unwrap_or_default();
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    Ok(Grants::public_only(vec![host.parse::<HostGrant>().map_err(|error| error.to_string())?]))
}

#[async_trait]
impl Receivers for Endpoints {
    fn wanting(&self, kind: &str) -> Vec<String> {
        let wants =
            |endpoint: &Endpoint| endpoint.kinds.is_empty() || endpoint.kinds.iter().any(|want| want == kind);
        self.0.iter().filter(|(_, endpoint)| wants(endpoint)).map(|(name, _)| name.clone()).collect()
    }

    async fn tell(&self, endpoint: &str, event: &Event, now: Timestamp) -> Told {
        match self.0.get(endpoint) {
            Some(endpoint) => {
                let body = webhook::body(event).to_string().into_bytes();
                endpoint.send(&webhook::public_id(event), body, now).await
            }
            None => unconfigured(),
        }
    }
}

fn unconfigured() -> Told {
    Told::Failed { error: "the endpoint is not configured".to_owned(), retry_after: None }
}

impl Endpoint {
    /// Signs a body and sends it.
    async fn send(&self, id: &str, body: Vec<u8>, now: Timestamp) -> Told {
        let now = now.as_secs();
        let signed =
            |secret: &Vec<u8>| format!("v1,{}", STANDARD.encode(webhook::signature(secret, id, now, &body)));
        let signatures = self.secrets.iter().map(signed).collect::<Vec<_>>().join(" ");
        let header = |name: &str, value: String| (name.to_owned(), value);
        let request = HttpRequest {
            method: Method::POST,
            url: self.url.clone(),
            headers: vec![
                header("content-type", "application/json".to_owned()),
                header("user-agent", concat!("chelseru/", env!("CARGO_PKG_VERSION")).to_owned()),
                header("webhook-id", id.to_owned()),
                header("webhook-timestamp", now.to_string()),
                header("webhook-signature", signatures),
            ],
            body,
            timeout: TIMEOUT,
            // The status tells all; a body of any size is left unread.
            response_bytes_max: HEAD_BYTES_MAX,
            ignores_body: true,
        };
        match self.transport.send(request).await {
            Ok(answer) if (200..300).contains(&answer.status) => Told::Accepted,
            Ok(answer) if answer.status == 410 => Told::Gone { error: "HTTP 410".to_owned() },
            Ok(answer) => {
                let error = format!("HTTP {}", answer.status);
                Told::Failed { error, retry_after: retry_after(&answer) }
            }
            Err(error) => Told::Failed { error: error.to_string(), retry_after: None },
        }
    }
}

/// Whole seconds; the way out has turned a date into them.
fn retry_after(answer: &HttpResponse) -> Option<Duration> {
    let header = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
    header?.1.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_whsec_and_24_to_64_bytes() {
        let made = secret_make().expect("randomness");
        assert_eq!(secret_bytes(&made).map(|bytes| bytes.len()), Some(32));
        for (bytes, accepted) in [(23, false), (24, true), (64, true), (65, false)] {
            let text = format!("whsec_{}", STANDARD.encode(vec![7; bytes]));
            assert_eq!(secret_bytes(&text).is_some(), accepted, "{bytes} bytes");
        }
        assert!(secret_bytes(&STANDARD.encode([7; 32])).is_none());
    }
}
