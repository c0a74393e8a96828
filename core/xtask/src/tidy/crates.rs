//! Rules about crates: arrows between them, inherited lints, and banned or foreign packages.
//!
//! The manifests contain the arrows; the table here says which are allowed. It may name crates that do not exist yet. A
//! crate that is missing from the table is a finding.

use std::collections::BTreeSet;
use std::path::Path;

use super::Tidy;
use crate::manifest;

/// Everything below the program, from the edges to the ground.
const BELOW_GATEWAY: &[&str] = &[
    "chelseru-config",
    "chelseru-domain",
    "chelseru-http",
    "chelseru-outbound",
    "chelseru-plugin-host",
    "chelseru-sockets",
    "chelseru-store",
];

/// Which of this repository's crates each crate may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("chelseru", BELOW_GATEWAY),
    ("chelseru-http", &["chelseru-config", "chelseru-domain", "chelseru-sockets"]),
    ("chelseru-sockets", &["chelseru-config", "chelseru-domain"]),
    ("chelseru-outbound", &["chelseru-config", "chelseru-domain", "chelseru-plugin-host"]),
    ("chelseru-config", &["chelseru-domain"]),
    ("chelseru-domain", &["chelseru-store"]),
    ("chelseru-plugin-host", &[]),
    ("chelseru-store", &[]),
    ("xtask", &[]),
    // Shares no code with the gateway, so it cannot share a mistake.
    ("chelseru-simulator", &[]),
    (SERVER_FOR_TESTS, &[]),
    (
        "chelseru-tests",
        &[
            "chelseru",
            "chelseru-config",
            "chelseru-domain",
            "chelseru-http",
            "chelseru-outbound",
            "chelseru-plugin-host",
            SERVER_FOR_TESTS,
            "chelseru-simulator",
            "chelseru-sockets",
            "chelseru-store",
        ],
    ),
    ("chelseru-plugin-sdk", &[]),
];

/// Any crate's tests may start a server.
const SERVER_FOR_TESTS: &str = "chelseru-postgres-server";

/// A plugin may depend on the kit alone, never on another plugin or the gateway.
const PLUGIN_ARROWS: &[&str] = &["chelseru-plugin-sdk"];

/// External packages that a crate must not depend on.
const FOREIGN: &[(&str, &[&str])] = &[
    // The import of the original's database reads PostgreSQL; the store's own is behind the store.
    ("chelseru", &["deadpool-postgres", "sled"]),
    (
        "chelseru-http",
        &["deadpool-postgres", "reqwest", "sled", "tokio-postgres", "wasmtime", "wasmtime-wasi"],
    ),
    (
        "chelseru-sockets",
        &["deadpool-postgres", "reqwest", "sled", "tokio-postgres", "wasmtime", "wasmtime-wasi"],
    ),
    (
        "chelseru-outbound",
        &["deadpool-postgres", "fastwebsockets", "matchit", "multer", "sled", "tokio-postgres"],
    ),
    (
        "chelseru-config",
        &[
            "deadpool-postgres",
            "fastwebsockets",
            "http",
            "hyper",
            "hyper-util",
            "reqwest",
            "sled",
            "tokio-postgres",
            "wasmtime",
            "wasmtime-wasi",
        ],
    ),
    (
        "chelseru-domain",
        &[
            "deadpool-postgres",
            "fastwebsockets",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "reqwest",
            "sled",
            "tokio-postgres",
            "toml",
            "wasmtime",
            "wasmtime-wasi",
        ],
    ),
    (
        "chelseru-store",
        &["fastwebsockets", "http", "hyper", "hyper-util", "reqwest", "wasmtime", "wasmtime-wasi"],
    ),
    (
        "chelseru-plugin-host",
        &["deadpool-postgres", "fastwebsockets", "jsonwebtoken", "sled", "tokio-postgres"],
    ),
];

/// The only allowed source of a locked package.
pub(super) const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

impl Tidy<'_> {
    /// Members of both workspaces: lints inherited, arrows held.
    pub(super) fn manifests(&mut self) {
        let mut members = Vec::new();
        for (folder, plugin) in [("", false), ("plugins", true)] {
            let Some(text) = self.read(Path::new(folder).join("Cargo.toml")) else { continue };
            for member in manifest::strings(&text, "workspace", "members") {
                let file = Path::new(folder).join(member).join("Cargo.toml");
                if let Some(text) = self.read(&file) {
                    members.push((file, text, plugin));
                }
            }
        }
        let ours: BTreeSet<_> = members
            .iter()
            .filter_map(|(_, text, _)| manifest::value(text, "package", "name"))
            .map(str::to_owned)
            .collect();
        for (file, text, plugin) in &members {
            if manifest::value(text, "lints", "workspace") != Some("true") {
                self.find(file, 0, "inherit the lints: [lints] workspace = true");
            }
            let Some(name) = manifest::value(text, "package", "name") else {
                self.find(file, 0, "names no package");
                continue;
            };
            self.arrows(file, text, name, *plugin, &ours);
        }
    }

    fn arrows(&mut self, file: &Path, text: &str, name: &str, plugin: bool, ours: &BTreeSet<String>) {
        let listed = ARROWS.iter().find(|(from, _)| *from == name).map(|(_, to)| *to);
        let Some(allowed) = listed.or(plugin.then_some(PLUGIN_ARROWS)) else {
            self.find(
                file,
                0,
                format!("{name} is not in the table of arrows (core/xtask/src/tidy/crates.rs)"),
            );
            return;
        };
        let foreign = FOREIGN.iter().find(|(from, _)| *from == name).map_or(&[] as &[_], |(_, to)| *to);
        for dependency in manifest::dependencies(text) {
            let to = dependency.name.as_str();
            let for_tests = dependency.dev && to == SERVER_FOR_TESTS;
            if ours.contains(to) && !allowed.contains(&to) && !for_tests {
                self.find(file, dependency.line, format!("{name} must not depend on {to}"));
            }
            if foreign.contains(&to) {
                self.find(file, dependency.line, format!("{name} must not depend on {to}"));
            }
        }
    }

    /// The bans of `deny.toml` against both lock files.
    pub(super) fn bans(&mut self) {
        let Some(policy) = self.read("deny.toml") else { return };
        let banned = manifest::banned(&policy);
        if banned.is_empty() {
            self.find(
                "deny.toml",
                0,
                "bans nothing: deny = [ { crate = \"...\", reason = \"...\" } ] is expected",
            );
        }
        for (name, reason) in &banned {
            if reason.is_empty() {
                self.find("deny.toml", 0, format!("bans {name} without a reason"));
            }
        }
        for file in ["Cargo.lock", "plugins/Cargo.lock"] {
            let Some(lock) = self.read(file) else { continue };
            for (name, source) in manifest::locked(&lock) {
                if let Some((_, reason)) = banned.iter().find(|(banned, _)| *banned == name) {
                    self.find(file, 0, format!("{name} is banned: {reason}"));
                }
                if let Some(source) = source.filter(|source| source != REGISTRY) {
                    self.find(file, 0, format!("{name} comes from {source}, accepted: {REGISTRY}"));
                }
            }
        }
    }
}
