//! `chelseru webhooks secret | list | replay | test`.

use chelseru_store::EventFilter;
use std::path::Path;
use std::sync::Arc;

use chelseru_domain::clock::SystemClock;
use chelseru_domain::operator::webhook::{Webhooks, event_of, report_json};
use chelseru_outbound::money::webhooks::secret_make;
use http::Method;
use serde_json::{Value, json};

use super::ask::{Way, open};

/// Events shown.
const SHOWN_MAX: usize = 100;
/// Failed events replayed at once.
const REPLAY_MAX: usize = 10_000;

pub(crate) fn secret() -> Result<(), String> {
    let secret = secret_make().map_err(|error| format!("no randomness: {error}"))?;
    eprintln!(
        "give this to the receiver, and to the gateway as secret = {{ env = \"...\" }} in [webhooks.endpoints.NAME]:"
    );
    say!("{secret}");
    Ok(())
}

pub(crate) async fn list(config_file: &Path, dead: bool, as_json: bool) -> Result<(), String> {
    let events: Vec<Value> = match open(config_file).await? {
        Way::Store(store) => {
            let which = if dead { EventFilter::Dead } else { EventFilter::All };
            let events =
                store.events_list(None, which, SHOWN_MAX).await.map_err(|error| error.to_string())?;
            store.close();
            events.iter().map(report_json).collect()
        }
        Way::Gateway(gateway) => {
            let path = if dead { "/operator/webhooks/?dead=true" } else { "/operator/webhooks/" };
            let mut answer = gateway.ask(Method::GET, path, None).await?;
            answer["results"].as_array_mut().map(std::mem::take).unwrap_or_default()
        }
    };
    if as_json {
        say!("{:#}", Value::Array(events));
        return Ok(());
    }
    say!("EVENT  TYPE  TIME  DELIVERIES");
    for event in &events {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let deliveries: Vec<String> = event["deliveries"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|delivery| {
                let (endpoint, state) = (text(&delivery["endpoint"]), text(&delivery["state"]));
                match delivery["error"].as_str() {
                    Some("") | None => format!("{endpoint}: {state}"),
                    Some(error) => {
                        format!("{endpoint}: {state} after {} attempts ({error})", delivery["attempts"])
                    }
                }
            })
            .collect();
        let told = if deliveries.is_empty() { "nobody".to_owned() } else { deliveries.join("; ") };
        say!("{}  {}  {}  {told}", text(&event["id"]), text(&event["type"]), text(&event["timestamp"]));
    }
    Ok(())
}

/// Sends a test event through the running gateway.
pub(crate) async fn test(config_file: &Path, endpoint: &str) -> Result<(), String> {
    match open(config_file).await? {
        Way::Store(store) => {
            store.close();
            Err("the gateway does not run; start it, because it is what sends events".to_owned())
        }
        Way::Gateway(gateway) => {
            let wanted = json!({"test": true, "endpoint": endpoint});
            gateway.ask(Method::POST, "/operator/webhooks/", Some(wanted)).await?;
            eprintln!("a test event is sent to {endpoint}; `chelseru webhooks list` shows its delivery");
            Ok(())
        }
    }
}

pub(crate) async fn replay(
    config_file: &Path,
    event: Option<&str>,
    endpoint: Option<&str>,
) -> Result<(), String> {
    let count = match open(config_file).await? {
        Way::Store(store) => {
            let webhooks = Webhooks::new(store.clone(), Arc::new(SystemClock));
            let endpoint = endpoint.map(str::to_owned);
            let replayed = match event {
                None => webhooks.replay_dead(endpoint, REPLAY_MAX).await,
                Some(event) => {
                    let id = event_of(event).ok_or_else(|| format!("{event:?} is not an event id"))?;
                    webhooks.replay(id, endpoint).await
                }
            };
            store.close();
            replayed.map_err(|error| error.to_string())? as u64
        }
        Way::Gateway(gateway) => {
            let wanted = json!({"event": event, "endpoint": endpoint});
            let answer = gateway.ask(Method::POST, "/operator/webhooks/", Some(wanted)).await?;
            answer["replayed"].as_u64().unwrap_or(0)
        }
    };
    if count == 0 && event.is_some() {
        return Err("the event is not stored, or had no endpoint; name one with --endpoint".to_owned());
    }
    eprintln!("{count} deliveries are queued again");
    Ok(())
}
