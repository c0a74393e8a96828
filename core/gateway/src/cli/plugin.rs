//! `chelseru plugin list`, `chelseru plugin install` and `chelseru plugin inspect`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chelseru_outbound::kinds::KINDS;
use chelseru_outbound::plugins;
use chelseru_plugin_host::{Description, Plugin, SettingKind};
use http::Method;
use serde_json::{Value, json};

use super::ask::{exchange, upload};
use super::out;
use crate::config::{self, Loaded};
use crate::door::OperatorDoor;
use crate::operator::component;
use crate::owner;

/// Time limit of a running gateway's answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// The same while a component is compiled and put in its place.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(180);

pub(crate) async fn list(config_file: &Path, json: bool) -> Result<(), String> {
    let loaded = super::load::load(config_file)?;
    let data_dir = config::data_dir(&loaded.config, config_file);
    let (providers, running) = match ask(&data_dir).await {
        Ok(mut status) => (with_credit(status["providers"].take(), &status["sms"]["providers"]), true),
        Err(reason) => {
            eprintln!("no gateway answers ({reason}); showing what it would load:");
            (load_status(&loaded, config_file).await?, false)
        }
    };
    if json {
        say!("{:#}", json!({"running": running, "providers": providers}));
        return Ok(());
    }
    let rows: Vec<[String; 8]> = providers.as_array().into_iter().flatten().map(row).collect();
    print_table(["NAME", "STATE", "KIND", "PLUGIN", "VERSION", "INTERFACE", "GENERATION", "BLAKE3"], &rows);
    if running {
        let rows: Vec<[String; 12]> = providers.as_array().into_iter().flatten().map(figures).collect();
        say!();
        print_table(
            [
                "NAME",
                "CALLS",
                "ERRORS",
                "P50 ms",
                "P99 ms",
                "CPU s",
                "MEMORY KiB",
                "REQUESTS",
                "OUT KiB",
                "IN KiB",
                "COMPILE ms",
                "REFUSED",
            ],
            &rows,
        );
    }
    for provider in providers.as_array().into_iter().flatten() {
        let errors = provider["errors"].as_array().into_iter().flatten();
        let kinds: Vec<String> = errors
            .map(|error| format!("{} {}", error["kind"].as_str().unwrap_or(""), error["count"]))
            .collect();
        if !kinds.is_empty() {
            say!("{}: failed calls: {}", provider["name"].as_str().unwrap_or(""), kinds.join(", "));
        }
        if let Some(credit) = credit_line(&provider["credit"]) {
            say!("{}: credit: {credit}", provider["name"].as_str().unwrap_or(""));
        }
        if let Some(error) = provider["last_error"].as_str() {
            say!("{}: last error: {error}", provider["name"].as_str().unwrap_or(""));
        }
    }
    Ok(())
}

/// Installs a component: at the gateway that runs, and so at every gateway over its store; or into the folder, when
/// none runs.
pub(crate) async fn install(
    config_file: &Path,
    file: &Path,
    name: Option<&str>,
    reason: &str,
) -> Result<(), String> {
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let name = match name.or_else(|| file.file_stem()?.to_str()) {
        Some(name) => name.replace('_', "-"),
        None => return Err(format!("{}: name the component with --name", file.display())),
    };
    let loaded = super::load::load(config_file)?;
    let data_dir = config::data_dir(&loaded.config, config_file);
    match ask(&data_dir).await {
        Ok(status) => install_running(&data_dir, &name, &bytes, reason, &status).await,
        Err(why) => {
            owner::refuse_root(&data_dir)?;
            eprintln!("no gateway answers ({why}); installing into the folder:");
            let host = super::compiler::host_for_one()?;
            let checked = host.load(bytes.clone(), KINDS).await;
            checked.map_err(|error| format!("{}: {error}", file.display()))?;
            let target = component::file_in(&data_dir.join(plugins::PLUGINS_DIR), &name)?;
            component::write(&target, &bytes).map_err(|error| format!("{}: {error}", target.display()))?;
            say!("installed {}", target.display());
            Ok(())
        }
    }
}

async fn install_running(
    data_dir: &Path,
    name: &str,
    bytes: &[u8],
    reason: &str,
    status: &Value,
) -> Result<(), String> {
    let door = OperatorDoor::find(data_dir)?;
    let fields = [("name", name), ("reason", reason)];
    let sent = upload(&door, "/operator/v1/components/", &fields, bytes, INSTALL_TIMEOUT).await?;
    let (code, answer) = sent;
    if !code.is_success() {
        let problems = answer["problems"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let said = [&answer["details"], &answer["detail"]].into_iter().find_map(Value::as_str);
        let lines: Vec<&str> = said.into_iter().chain(problems).collect();
        return Err(format!("{name}: the running gateway answered {code}: {}", lines.join(" ")));
    }
    let digest = answer["blake3"].as_str().unwrap_or("unknown");
    let entries = status["providers"].as_array().into_iter().flatten();
    let is_used = entries.filter_map(|entry| entry["plugin"].as_str()).any(|plugin| plugin == name);
    match is_used {
        true => say!("{name} serves; blake3 {digest}"),
        false => say!("{name} is installed, and no [provider] entry names it; blake3 {digest}"),
    }
    let nodes = status["gateways"]["nodes"].as_array().map_or(1, Vec::len);
    if nodes > 1 {
        say!("the other {} gateways take it within seconds; status/ says which have", nodes - 1);
    }
    Ok(())
}

/// The providers with what the status tells of their credit.
fn with_credit(mut providers: Value, messages: &Value) -> Value {
    for provider in providers.as_array_mut().into_iter().flatten() {
        let credit = provider["name"].as_str().map(|name| messages[name]["credit"].clone());
        provider["credit"] = credit.unwrap_or_default();
    }
    providers
}

/// `None` for a provider whose credit is not known.
fn credit_line(credit: &Value) -> Option<String> {
    if credit.is_null() {
        return None;
    }
    let mut line = match (credit["amount"].as_i64(), credit["unit"].as_str()) {
        (Some(amount), Some(unit)) => format!("{amount} {unit}"),
        _ => "unknown".to_owned(),
    };
    for (flag, words) in [("low", ", below credit_min"), ("stepped_back", ", asked last until it has some")] {
        if credit[flag] == true {
            line.push_str(words);
        }
    }
    if let Some(error) = credit["error"].as_str() {
        line.push_str(&format!(", the last question failed: {error}"));
    }
    Some(line)
}

pub(crate) async fn inspect(config_file: &Path, plugin: &str, as_json: bool) -> Result<(), String> {
    let path = if plugin.ends_with(".wasm") || plugin.contains(std::path::MAIN_SEPARATOR) {
        PathBuf::from(plugin)
    } else {
        let loaded = super::load::load(config_file)?;
        let data_dir = config::data_dir(&loaded.config, config_file);
        data_dir.join(plugins::PLUGINS_DIR).join(format!("{plugin}.wasm"))
    };
    let bytes = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let size = bytes.len();
    let host = super::compiler::host_for_one()?;
    let loaded = host.load(bytes, KINDS).await.map_err(|error| format!("{}: {error}", path.display()))?;
    if as_json {
        say!("{:#}", describe_json(&loaded, size));
    } else {
        out::write(format_args!("{}", describe_text(&loaded, size)));
    }
    Ok(())
}

/// Asks the gateway that runs on this configuration's data folder.
async fn ask(data_dir: &Path) -> Result<Value, String> {
    let door = OperatorDoor::find(data_dir)?;
    let (base, token) = (door.base_path.as_str(), Some(door.token.as_str()));
    let (status, answer) =
        exchange(&door.address, base, Method::GET, "/status/", token, None, ASK_TIMEOUT).await?;
    if status.is_success() { Ok(answer) } else { Err(format!("it answered {status}")) }
}

async fn load_status(loaded: &Loaded, config_file: &Path) -> Result<Value, String> {
    let data_dir = config::data_dir(&loaded.config, config_file);
    let registry = plugins::registry(&loaded.config, &data_dir, super::compiler::compiler())?;
    let desired = plugins::desired(loaded, &data_dir.join(plugins::PLUGINS_DIR))
        .map_err(|problems| problems.to_string())?;
    let prepared = registry.prepare(&desired).await;
    registry.commit(prepared);
    serde_json::to_value(registry.status()).map_err(|error| error.to_string())
}

fn row(provider: &Value) -> [String; 8] {
    let text = |key: &str| match &provider[key] {
        Value::String(text) => text.clone(),
        Value::Null => "-".into(),
        other => other.to_string(),
    };
    let digest = text("blake3").chars().take(16).collect();
    [
        text("name"),
        text("state"),
        text("kind"),
        text("plugin"),
        text("version"),
        text("interface_version"),
        text("generation"),
        digest,
    ]
}

/// What the calls of a provider entry came to and used.
fn figures(provider: &Value) -> [String; 12] {
    let number = |key: &str| provider[key].as_u64().unwrap_or(0);
    let scaled = |key: &str, unit: f64| format!("{:.1}", number(key) as f64 / unit);
    [
        provider["name"].as_str().unwrap_or("").to_owned(),
        number("calls").to_string(),
        number("call_errors").to_string(),
        scaled("p50_micros", 1e3),
        scaled("p99_micros", 1e3),
        scaled("cpu_micros", 1e6),
        (number("memory_bytes_max") / 1024).to_string(),
        number("http_requests").to_string(),
        (number("http_bytes_out") / 1024).to_string(),
        (number("http_bytes_in") / 1024).to_string(),
        number("compile_ms").to_string(),
        number("reload_failures").to_string(),
    ]
}

fn print_table<const N: usize>(head: [&str; N], rows: &[[String; N]]) {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        say!("{}", padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    line(head);
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
}

fn abilities(plugin: &Plugin) -> Vec<&'static str> {
    let names = KINDS.iter().flat_map(|kind| kind.any_of.iter().chain(kind.optional));
    names.copied().filter(|name| plugin.exports(name)).collect()
}

fn hosts(description: &Description) -> Vec<String> {
    description.hosts.iter().map(ToString::to_string).collect()
}

fn kind_word(kind: SettingKind) -> &'static str {
    match kind {
        SettingKind::Text => "text",
        SettingKind::Integer => "integer",
        SettingKind::Boolean => "boolean",
        SettingKind::Url => "url",
        SettingKind::Link => "link",
    }
}

fn describe_json(plugin: &Plugin, size: usize) -> Value {
    let description = plugin.description();
    let settings = description.settings.iter().map(|setting| {
        json!({
            "key": setting.key, "kind": kind_word(setting.kind), "required": setting.required,
            "secret": setting.secret, "default": setting.default, "help": setting.help,
        })
    });
    json!({
        "name": description.name, "version": description.version, "summary": description.summary,
        "kind": plugin.kind(), "interface_version": plugin.interface_version().to_string(),
        "blake3": plugin.digest(), "bytes": size, "hosts": hosts(description), "abilities": abilities(plugin),
        "settings": settings.collect::<Vec<_>>(),
    })
}

fn describe_text(plugin: &Plugin, size: usize) -> String {
    use std::fmt::Write;

    let description = plugin.description();
    let mut text = format!(
        "{} {}: {}\nkind {}, interface {}, {size} bytes, blake3 {}\nabilities: {}\nhosts: {}\nsettings:\n",
        description.name,
        description.version,
        description.summary,
        plugin.kind(),
        plugin.interface_version(),
        plugin.digest(),
        abilities(plugin).join(", "),
        if description.hosts.is_empty() { "none".to_owned() } else { hosts(description).join(", ") },
    );
    for setting in &description.settings {
        let mut marks = vec![kind_word(setting.kind).to_owned()];
        if setting.required {
            marks.push("required".into());
        }
        if setting.secret {
            marks.push("secret".into());
        }
        if let Some(default) = &setting.default {
            marks.push(format!("default {default}"));
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {} ({}): {}", setting.key, marks.join(", "), setting.help);
    }
    text
}
