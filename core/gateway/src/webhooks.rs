//! Webhooks over HTTP: the configured endpoints, the body of an event, and the task that tells them.
//!
//! A message has the form of the Standard Webhooks specification: headers `webhook-id`, `webhook-timestamp` and
//! `webhook-signature`, a JSON body of `type`, `timestamp` and `data`. Success is any 2xx; 410 means no more of this
//! event. Requests leave through the same guarded way out as those of plugins: no redirect, no proxy, and no private
//! address that the operator did not name. Not here: when to try again (`chelseru-domain::webhook`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chelseru_domain::webhook::{self, Receivers, SECRET_BYTES, Told};
use chelseru_plugin_host::{
    Egress, EgressOptions, Grants, HostGrant, HttpRequest, HttpResponse, Method, Transport, Url,
};
use chelseru_store::Event;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::config::Loaded;

/// One try, from connecting to the end of the answer.
///
/// Source: Standard Webhooks specification, which advises 15 to 30 s.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of an answer that are read; nothing in it is used.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(250);
/// What a secret begins with.
const SECRET_PREFIX: &str = "whsec_";

/// The endpoints of a configuration.
#[derive(Default)]
pub struct Endpoints(BTreeMap<String, Endpoint>);

struct Endpoint {
    url: Url,
    secret: Vec<u8>,
    /// Empty: all.
    kinds: Vec<String>,
    transport: Egress,
}

impl Endpoints {
    /// The endpoints that a checked configuration names.
    ///
    /// Errors: a sentence with the key of the first endpoint that cannot be; never a secret.
    pub fn load(loaded: &Loaded) -> Result<Endpoints, String> {
        let mut endpoints = BTreeMap::new();
        for (name, entry) in &loaded.config.webhooks.endpoints {
            let refuse = |part: &str, what: String| {
                let key = format!("webhooks.endpoints.{name}.{part}");
                loaded.source.problem(&key, None, what).to_string()
            };
            let secret = loaded.resolve(&entry.secret).map_err(|what| refuse("secret", what))?;
            let secret = secret_bytes(&secret).ok_or_else(|| {
                refuse(
                    "secret",
                    "must be whsec_ and Base64 of 24 to 64 bytes; chelseru webhooks secret makes one".into(),
                )
            })?;
            let url = Url::parse(&entry.url).map_err(|error| refuse("url", error.to_string()))?;
            let grants = grants(&entry.hosts, &url).map_err(|what| refuse("hosts", what))?;
            grants.check(&url).map_err(|what| refuse("url", what))?;
            let transport = Egress::new(Arc::new(grants), EgressOptions::default());
            endpoints.insert(name.clone(), Endpoint { url, secret, kinds: entry.events.clone(), transport });
        }
        Ok(Endpoints(endpoints))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// A fresh secret, for `chelseru webhooks secret`.
///
/// Errors: the operating system gives no randomness.
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

    async fn tell(&self, endpoint: &str, event: &Event) -> Told {
        let Some(endpoint) = self.0.get(endpoint) else {
            return Told::Failed { error: "the endpoint is not configured".to_owned(), retry_after: None };
        };
        let now = crate::app::unix_millis() / 1000;
        let (id, body) = (webhook::public_id(event), webhook::body(event).to_string().into_bytes());
        let signature = STANDARD.encode(webhook::signature(&endpoint.secret, &id, now, &body));
        let header = |name: &str, value: String| (name.to_owned(), value);
        let request = HttpRequest {
            method: Method::POST,
            url: endpoint.url.clone(),
            headers: vec![
                header("content-type", "application/json".to_owned()),
                header("user-agent", concat!("chelseru/", env!("CARGO_PKG_VERSION")).to_owned()),
                header("webhook-id", id),
                header("webhook-timestamp", now.to_string()),
                header("webhook-signature", format!("v1,{signature}")),
            ],
            body,
            timeout: TIMEOUT,
            response_bytes_max: ANSWER_BYTES_MAX,
        };
        match endpoint.transport.send(request).await {
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

/// Whole seconds; a date is not looked at.
fn retry_after(answer: &HttpResponse) -> Option<Duration> {
    let header = answer.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"));
    header?.1.trim().parse().ok().map(Duration::from_secs)
}

/// Tells whoever wants to know until the gateway stops. Each endpoint has a task of its own while something is due
/// for it, so that one that does not answer holds up no other.
pub async fn tell_all(app: Arc<App>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    let busy: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = tick.tick() => {}
        }
        let endpoints = app.live().endpoints.clone();
        if endpoints.is_empty() {
            continue;
        }
        if let Err(error) = app.webhooks.route(endpoints.as_ref()).await {
            tracing::error!(%error, "events could not be given to webhooks");
            continue;
        }
        for name in endpoints.names() {
            let mut running = busy.lock().unwrap_or_else(PoisonError::into_inner);
            if running.contains(&name) {
                continue;
            }
            running.push(name.clone());
            drop(running);
            let (app, endpoints, busy, stop) = (app.clone(), endpoints.clone(), busy.clone(), stop.clone());
            tasks.spawn(async move {
                tell(&app, &endpoints, &name, &stop).await;
                busy.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != name);
            });
        }
    }
    // What is under way ends by its own time-out; what is cut off is told again at the next start.
    tasks.close();
    tasks.wait().await;
}

async fn tell(app: &App, endpoints: &Endpoints, name: &str, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        match app.webhooks.deliver(endpoints, name).await {
            Ok(step) => {
                app.metrics.webhook(name, "delivered", step.delivered);
                app.metrics.webhook(name, "failed", step.failed);
                app.metrics.webhook(name, "dead", step.dead);
                if !step.more || step.failed + step.dead > 0 {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(webhook = name, %error, "events could not be told");
                return;
            }
        }
    }
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
