//! `chelseru apikey create | list | revoke`.
//!
//! A store belongs to one process. While a gateway runs on it, the command asks that gateway over loopback, with the
//! token in its data folder. Otherwise the command opens the store itself.

use std::path::Path;

use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::operator::api_key;
use chelseru_domain::operator::audit::AuditKind;
use http::Method;
use serde_json::{Value, json};

use super::ask::{Way, open, record};
use crate::http::operator::api_key::{api_key_event, api_key_json};

pub(crate) async fn create(
    config_file: &Path,
    scope: &str,
    name: &str,
    daily_cap: Option<u64>,
) -> Result<(), String> {
    let wanted = json!({"scope": scope, "name": name, "daily_cap": daily_cap});
    let made = match open(config_file).await? {
        Way::Store(store) => {
            let made = api_key::create(&store, SystemClock.now(), name, scope, daily_cap).await;
            let made = made.map_err(|error| error.to_string())?;
            let mut key = api_key_json(&made.key);
            key["token"] = made.token.into();
            let event = api_key_event(AuditKind::KeyCreated, made.key.id).detail(scope);
            record(config_file, &store, event).await?;
            store.close();
            key
        }
        Way::Gateway(gateway) => gateway.ask(Method::POST, "/operator/apikeys/", Some(wanted)).await?,
    };
    say!("{}", made["token"].as_str().unwrap_or_default());
    eprintln!(
        "API key {} for {scope}. It is not shown again; send it as: Authorization: Api-Key TOKEN",
        made["id"]
    );
    Ok(())
}

pub(crate) async fn list(config_file: &Path, as_json: bool) -> Result<(), String> {
    let keys = match open(config_file).await? {
        Way::Store(store) => {
            let keys = store.api_keys().await.map_err(|error| error.to_string())?;
            store.close();
            keys.iter().map(api_key_json).collect()
        }
        Way::Gateway(gateway) => {
            let mut answer = gateway.ask(Method::GET, "/operator/apikeys/", None).await?;
            answer["results"].as_array_mut().map(std::mem::take).unwrap_or_default()
        }
    };
    if as_json {
        say!("{:#}", Value::Array(keys));
        return Ok(());
    }
    say!("ID  SCOPE  DAILY CAP  CREATED  REVOKED  NAME");
    for key in &keys {
        let text = |name: &str| match &key[name] {
            Value::Null => "-".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let cells = ["id", "scope", "daily_cap", "created_at", "revoked_at", "name"].map(text);
        say!("{}", cells.join("  "));
    }
    Ok(())
}

pub(crate) async fn revoke(config_file: &Path, id: u64) -> Result<(), String> {
    let gone = || format!("API key {id} does not exist or is already revoked");
    match open(config_file).await? {
        Way::Store(store) => {
            let revoked = store.api_key_revoke(id, SystemClock.now()).await;
            if revoked.map_err(|error| error.to_string())? {
                record(config_file, &store, api_key_event(AuditKind::KeyRevoked, id)).await?;
                store.close();
            } else {
                store.close();
                return Err(gone());
            }
        }
        Way::Gateway(gateway) => {
            let wanted = json!({"id": id});
            gateway.ask(Method::POST, "/operator/apikeys/revoke/", Some(wanted)).await.map_err(|_| gone())?;
        }
    }
    eprintln!("API key {id} is revoked");
    Ok(())
}
