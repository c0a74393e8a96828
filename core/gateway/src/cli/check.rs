//! `chelseru check`: what `serve` and a running server would refuse.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use chelseru_plugin_host::{Compiler, Provider};
use http::Method;
use serde_json::Value;

use super::ask::{TIMEOUT, exchange};
use crate::candidate::{Candidate, Occasion, OpenPayments, Waiting};
use crate::config::Loaded;
use crate::door::OperatorDoor;
use crate::ground::Ground;
use crate::{files, machine};

/// The result for an accepted file.
pub struct Report {
    pub warnings: Vec<String>,
    /// Whether a gateway would start with an earlier version of a plugin, or without it.
    pub degraded: bool,
    /// Each provider entry with its plugin and the plugin's version.
    pub providers: Vec<(String, String)>,
}

/// Prints the providers that would serve, or every problem.
pub(crate) async fn check(config_file: &Path) -> Result<(), String> {
    let report = check_with(config_file, super::compiler::compiler()).await?;
    for warning in report.warnings {
        eprintln!("warning: {warning}");
    }
    say!("{}: {}", config_file.display(), if report.degraded { "degraded" } else { "ok" });
    for (name, plugin) in report.providers {
        say!("  {name}: {plugin}");
    }
    Ok(())
}

/// Checks as `serve` would, and as a server that runs on the same data folder would.
///
/// Errors: every problem.
pub async fn check_file(config_file: &Path) -> Result<Report, String> {
    // Only the program itself can be its own compiler.
    check_with(config_file, Compiler::InProcess).await
}

async fn check_with(config_file: &Path, compiler: Compiler) -> Result<Report, String> {
    let loaded = super::load::load(config_file)?;
    let ground = Ground::look(&loaded.config, config_file, compiler)?;
    let running = Running::find(&ground).await;
    let mut warnings = machine::warnings(&loaded);
    let own = running.as_ref().map(|running| (running.listen, &running.door.address));
    warnings.extend(machine::occupied_ports(&loaded, own));
    let open = running.map(|running| running.open).unwrap_or_default();
    let files = files::choose(&loaded, &ground.data_dir);
    let candidate = prepare(&ground, loaded, &open).await?;
    warnings.extend(files?.try_out().await?);
    let warnings = candidate.warnings().iter().chain(&warnings).map(ToString::to_string).collect();
    let describe = |(name, provider): (&String, &Arc<Provider>)| {
        let description = provider.plugin().description();
        (name.clone(), format!("{} {}", description.name, description.version))
    };
    let providers = candidate.providers().iter().map(describe).collect();
    Ok(Report { warnings, degraded: !candidate.failures().is_empty(), providers })
}

async fn prepare(ground: &Ground, loaded: Loaded, open: &OpenPayments) -> Result<Candidate, String> {
    let candidate = Candidate::prepare(ground, loaded, open, Occasion::Start).await;
    candidate.map_err(|problems| problems.to_string())
}

/// A server that runs on the same data folder.
struct Running {
    door: OperatorDoor,
    /// Its public listener.
    listen: Option<SocketAddr>,
    open: OpenPayments,
}

impl Running {
    /// Returns `None` when no server runs or it cannot report its open payments.
    async fn find(ground: &Ground) -> Option<Running> {
        let door = OperatorDoor::find(&ground.data_dir).ok()?;
        let (address, base) = (&door.address, door.base_path.as_str());
        let token = Some(door.token.as_str());
        let asked = exchange(address, base, Method::GET, "/status/", token, None, TIMEOUT).await;
        let status = asked.ok().filter(|(status, _)| status.is_success())?.1;
        let listen = status["listen"]["server"].as_str().and_then(|text| text.parse().ok());
        Some(Running { open: open_payments(&status), listen, door })
    }
}

/// Reads the open payments from the answer of `status/`.
fn open_payments(status: &Value) -> OpenPayments {
    let waiting = status["payment"]["waiting"].as_object().into_iter().flatten();
    let read = |(name, waiting): (&String, &Value)| {
        let count = |key: &str| usize::try_from(waiting[key].as_u64()?).ok();
        let plugin = waiting["plugin"].as_str()?.to_owned();
        let waiting = Waiting { plugin, payments: count("payments")?, reversals: count("reversals")? };
        Some((name.clone(), waiting))
    };
    OpenPayments(waiting.filter_map(read).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_waits_is_read_from_the_status() {
        let waiting = json!({"ZARINPAL_COM": {"plugin": "zarinpal", "payments": 2, "reversals": 1}});
        let open = open_payments(&json!({"payment": {"waiting": waiting}}));
        let expected = Waiting { plugin: "zarinpal".to_owned(), payments: 2, reversals: 1 };
        assert_eq!(open.0.get("ZARINPAL_COM"), Some(&expected));
        assert!(open_payments(&json!({"payment": {}})).0.is_empty());
    }
}
