//! Rules about crates: which may know which, inherited lints, and banned or foreign packages.
//!
//! The manifests are the arrows; this table says which of them may exist. It names crates before they exist, so that
//! a new one finds its place here. A crate that the table leaves out is a finding.

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
    // Speaks HTTP like a stranger, so that it cannot share a mistake with the gateway.
    ("chelseru-simulator", &[]),
    (
        "chelseru-tests",
        &[
            "chelseru",
            "chelseru-config",
            "chelseru-domain",
            "chelseru-http",
            "chelseru-outbound",
            "chelseru-plugin-host",
            "chelseru-simulator",
            "chelseru-sockets",
            "chelseru-store",
        ],
    ),
    ("chelseru-plugin-sdk", &[]),
];

/// What a plugin may depend on: the kit alone, never another plugin or the gateway.
const PLUGIN_ARROWS: &[&str] = &["chelseru-plugin-sdk"];

/// Packages from outside that a crate of ours must not know.
const FOREIGN: &[(&str, &[&str])] = &[
    ("chelseru", &["sled"]),
    ("chelseru-http", &["reqwest", "sled", "wasmtime", "wasmtime-wasi"]),
    ("chelseru-sockets", &["reqwest", "sled", "wasmtime", "wasmtime-wasi"]),
    ("chelseru-outbound", &["fastwebsockets", "matchit", "multer", "sled"]),
    (
        "chelseru-config",
        &["fastwebsockets", "http", "hyper", "hyper-util", "reqwest", "sled", "wasmtime", "wasmtime-wasi"],
    ),
    (
        "chelseru-domain",
        &[
            "fastwebsockets",
            "http",
            "http-body-util",
            "hyper",
            "hyper-util",
            "reqwest",
            "sled",
            "toml",
            "wasmtime",
            "wasmtime-wasi",
        ],
    ),
    (
        "chelseru-store",
        &["fastwebsockets", "http", "hyper", "hyper-util", "reqwest", "wasmtime", "wasmtime-wasi"],
    ),
    ("chelseru-plugin-host", &["fastwebsockets", "jsonwebtoken", "sled"]),
];

/// The only place that a locked package may come from.
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
                self.find(file, 0, "does not inherit the lints: [lints] workspace = true");
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
            if ours.contains(to) && !allowed.contains(&to) {
                self.find(file, dependency.line, format!("{name} must not depend on {to}"));
            }
            if foreign.contains(&to) {
                self.find(file, dependency.line, format!("{name} must not know {to}"));
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
