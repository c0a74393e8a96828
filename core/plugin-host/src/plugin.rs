//! A loaded plugin: what it is, what it exports, and the checks of a component before it runs.
//!
//! A [`Plugin`] is immutable and holds compiled code with its imports linked, never an instance. Its kind and
//! interface version are read from its exports, and its imports are compared with what the host serves, before any code
//! of it runs. The types of its functions are compared with its kind's before any of them is called.
//! Not here: compiling (see `compile`), the self-description (see `description`), and calls (see `provider`).

use std::collections::BTreeMap;
use std::time::Duration;

use semver::Version;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, Instance, InstancePre, Linker};
use wasmtime::{Engine, Store};

use crate::description::Description;
use crate::function::AnyFunction;
use crate::state::CallState;
use crate::text;

/// A kind of plugin that the embedder can use.
///
/// A component is of this kind when it exports one of `any_of` from `package` in one of `versions`.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// For listings and errors: `sms`.
    pub name: &'static str,
    /// Where the interfaces are: `chelseru:provider`.
    pub package: &'static str,
    /// Supported `(major, minor)` versions of the package.
    pub versions: &'static [(u64, u64)],
    /// At least one of these interfaces must be exported.
    pub any_of: &'static [&'static str],
    /// Interfaces that may be exported as well.
    pub optional: &'static [&'static str],
    /// The functions that are called: whoever exports their interface exports them, with these types.
    pub functions: &'static [&'static dyn AnyFunction],
}

/// Why bytes did not become a plugin. None of these goes away by trying the same bytes again, except `Host`.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// More bytes than the host accepts.
    #[error("{found} bytes are more than the {limit} that are accepted")]
    FileTooLarge {
        /// In bytes.
        found: u64,
        /// In bytes.
        limit: u64,
    },
    /// Not a whole, valid component: another format, truncated, or using features that are off.
    #[error("not a valid component: {0}")]
    Malformed(String),
    /// Each instance of it takes more of the host than is accepted.
    #[error(
        "an instance takes {found} bytes of the host beside its memories and tables, {passive} of them for passive \
         element segments; at most {limit} are accepted"
    )]
    InstanceBytes {
        /// All bytes.
        found: u64,
        /// Those of passive element segments.
        passive: u64,
        /// In bytes.
        limit: u64,
    },
    /// It instantiates what it does not define, so nobody knows what an instance takes.
    #[error("instantiates a {0} that it imports or takes from an instance; define it in the component")]
    ForeignPart(
        /// `module` or `component`.
        &'static str,
    ),
    /// A valid component of another kind.
    #[error("wrong kind: exports {found}, accepted is {accepted}")]
    WrongKind {
        /// The interfaces it exports.
        found: String,
        /// What any accepted kind needs.
        accepted: String,
        /// Whether it is a whole plugin, of a kind that is not accepted here.
        is_plugin: bool,
    },
    /// The right kind, made for another version of the interfaces.
    #[error("world \"{interface}\" is {} than this host ({supported})", if *newer { "newer" } else { "older" })]
    Version {
        /// The interface with its version.
        interface: String,
        /// Whether the host is the older one.
        newer: bool,
        /// The versions that the host serves.
        supported: String,
    },
    /// The version of an interface, with its build metadata, is longer than a version needs to be.
    #[error("the version of \"{interface}\" has {found} characters, at most {limit} are accepted")]
    VersionTooLong {
        /// The interface, cut.
        interface: String,
        /// Its version's characters, which are ASCII.
        found: usize,
        /// Characters that are accepted.
        limit: usize,
    },
    /// An interface that every plugin exports is missing.
    #[error("does not export \"{0}\"")]
    MissingExport(String),
    /// It imports what the host does not serve.
    #[error("import \"{name}\" is not served by this host ({reason})")]
    UnknownImport {
        /// The import.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A function has other types than in this version of the interfaces.
    #[error(
        "function \"{function}\" has another type than this host's ({message}); build the plugin again with the \
         interfaces of this version"
    )]
    Type {
        /// Interface and function.
        function: String,
        /// What differs.
        message: String,
    },
    /// It failed while describing itself.
    #[error("describe failed: {0}")]
    Describe(String),
    /// It described itself outside the bounds.
    #[error("description: {0}")]
    Description(String),
    /// Compiling takes more memory than it may.
    #[error("compiling it takes more than {} MiB of memory", limit_bytes >> 20)]
    CompileMemory {
        /// In bytes.
        limit_bytes: u64,
    },
    /// Compiling takes more time than it may.
    #[error("compiling it takes more than {} s{}", limit.as_secs(), if *wall { "" } else { " of CPU" })]
    CompileTime {
        /// The limit.
        limit: Duration,
        /// Whether the wall clock ended it, which may be the fault of a busy machine.
        wall: bool,
    },
    /// Compiling these bytes was given up before, and the limits are the same.
    #[error("{0}; it is tried again when it or a limit changes")]
    CompileGivenUp(String),
    /// The host could not do its part (memory, threads).
    #[error("host: {0}")]
    Host(String),
}

impl LoadError {
    /// Whether compiling the same bytes within the same limits fails again.
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self, LoadError::CompileMemory { .. } | LoadError::CompileTime { wall: false, .. })
    }

    /// Whether the bytes may be the first part of a file that is still being written. A component that ends between
    /// two of its sections is valid and only lacks exports.
    pub fn may_be_unfinished(&self) -> bool {
        matches!(self, LoadError::Malformed(_) | LoadError::WrongKind { .. } | LoadError::MissingExport(_))
    }
}

/// The protocol that every plugin speaks, whatever its kind.
const PROTOCOL: &str = "chelseru:provider";
const PROTOCOL_VERSIONS: &[(u64, u64)] = &[(0, 1)];

/// Characters of a foreign name in an error.
const NAME_CHARS_MAX: usize = 64;
/// Characters of an interface's version. Build metadata may have any length, and the version goes to logs and listings.
const VERSION_CHARS_MAX: usize = 63;

/// Interfaces that the linker serves.
const SERVED: &[&str] = &[
    "chelseru:provider/http",
    "chelseru:provider/settings",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

/// A name such as `chelseru:provider/http@0.1.0`, taken apart.
struct InterfaceName<'a> {
    /// `chelseru:provider/http`.
    path: &'a str,
    /// `chelseru:provider`.
    package: &'a str,
    /// `http`.
    interface: &'a str,
    version: Version,
}

impl<'a> InterfaceName<'a> {
    fn parse(name: &'a str) -> Option<InterfaceName<'a>> {
        let (path, version) = name.split_once('@')?;
        let (package, interface) = path.split_once('/')?;
        Some(InterfaceName { path, package, interface, version: Version::parse(version).ok()? })
    }
}

fn version_check(full: &str, found: &Version, supported: &[(u64, u64)]) -> Result<(), LoadError> {
    let interface = text::escaped(full, NAME_CHARS_MAX);
    let chars = found.to_string().len();
    if chars > VERSION_CHARS_MAX {
        return Err(LoadError::VersionTooLong { interface, found: chars, limit: VERSION_CHARS_MAX });
    }
    let found = (found.major, found.minor);
    if supported.contains(&found) {
        return Ok(());
    }
    let list: Vec<String> = supported.iter().map(|(major, minor)| format!("{major}.{minor}")).collect();
    Err(LoadError::Version {
        interface,
        newer: supported.iter().all(|known| *known < found),
        supported: list.join(", "),
    })
}

/// A component that may be instantiated: its kind and its imports are right. It has not run yet.
pub(crate) struct Checked {
    pub(crate) kind: Kind,
    pub(crate) interface_version: Version,
    pub(crate) pre: InstancePre<CallState>,
    pub(crate) describe: ComponentExportIndex,
    functions: BTreeMap<String, BTreeMap<String, ComponentExportIndex>>,
}

/// Reads kind, version, exports and imports from a component's type.
pub(crate) fn check(
    engine: &Engine,
    linker: &Linker<CallState>,
    component: &Component,
    kinds: &[Kind],
) -> Result<Checked, LoadError> {
    let ty = component.component_type();
    let names: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
    let exports: Vec<(&str, InterfaceName<'_>)> =
        names.iter().filter_map(|name| Some((*name, InterfaceName::parse(name)?))).collect();

    let is_of = |kind: &&Kind| {
        exports.iter().any(|(_, e)| e.package == kind.package && kind.any_of.contains(&e.interface))
    };
    let protocol = exports.iter().find(|(_, e)| e.package == PROTOCOL && e.interface == "plugin");
    let Some(kind) = kinds.iter().find(is_of) else {
        let (found, accepted) = (found_text(&names), accepted_text(kinds));
        return Err(LoadError::WrongKind { found, accepted, is_plugin: protocol.is_some() });
    };
    let mut functions = BTreeMap::new();
    let mut interface_version: Option<Version> = None;
    for (full, export) in exports.iter().filter(|(_, e)| e.package == kind.package) {
        let interface = export.interface;
        let required = kind.any_of.contains(&interface);
        if !required && !kind.optional.contains(&interface) {
            continue;
        }
        version_check(full, &export.version, kind.versions)?;
        if required {
            interface_version = interface_version.max(Some(export.version.clone()));
        }
        functions.insert(interface.to_owned(), functions_of(engine, component, full));
    }
    let missing = || LoadError::MissingExport(format!("{PROTOCOL}/plugin"));
    let (plugin, export) = protocol.ok_or_else(missing)?;
    version_check(plugin, &export.version, PROTOCOL_VERSIONS)?;
    let describe = functions_of(engine, component, plugin).remove("describe").ok_or_else(missing)?;

    let pre = linker.instantiate_pre(component).map_err(|e| unknown_import(engine, component, &e))?;
    let interface_version = interface_version.ok_or_else(missing)?;
    Ok(Checked { kind: *kind, interface_version, pre, describe, functions })
}

impl Checked {
    /// Compares the types of what it exports with those its kind promises.
    pub(crate) fn types_check(
        &self,
        store: &mut Store<CallState>,
        instance: &Instance,
    ) -> Result<(), LoadError> {
        for function in self.kind.functions {
            let (interface, name) = function.named();
            let Some(exported) = self.functions.get(interface) else { continue };
            let full = || format!("{interface}.{name}");
            let export = exported.get(name).ok_or_else(|| LoadError::MissingExport(full()))?;
            function
                .compare(store, instance, export)
                .map_err(|message| LoadError::Type { function: full(), message })?;
        }
        Ok(())
    }
}

fn found_text(names: &[&str]) -> String {
    if names.is_empty() {
        return "nothing".to_owned();
    }
    let shown: Vec<String> =
        names.iter().take(8).map(|n| format!("\"{}\"", text::escaped(n, NAME_CHARS_MAX))).collect();
    shown.join(", ")
}

fn accepted_text(kinds: &[Kind]) -> String {
    let one = |kind: &Kind| format!("{}: {}/{}", kind.name, kind.package, kind.any_of.join(" or "));
    kinds.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn functions_of(
    engine: &Engine,
    component: &Component,
    full: &str,
) -> BTreeMap<String, ComponentExportIndex> {
    let Some((ComponentItem::ComponentInstance(instance), index)) = component.get_export(None, full) else {
        return BTreeMap::new();
    };
    instance
        .exports(engine)
        .filter(|(_, export)| matches!(export.ty, ComponentItem::ComponentFunc(_)))
        .filter_map(|(name, _)| Some((name.to_owned(), component.get_export_index(Some(&index), name)?)))
        .collect()
}

/// Finds the import that the linker could not serve.
fn unknown_import(engine: &Engine, component: &Component, error: &wasmtime::Error) -> LoadError {
    let ty = component.component_type();
    for (name, import) in ty.imports(engine) {
        // An import of types only needs nobody to serve it.
        let needs_host = match &import.ty {
            ComponentItem::ComponentInstance(instance) => {
                instance.exports(engine).any(|(_, export)| !matches!(export.ty, ComponentItem::Type(_)))
            }
            ComponentItem::Type(_) => false,
            _ => true,
        };
        let served = InterfaceName::parse(name).is_some_and(|import| {
            let minor = if import.package == PROTOCOL { (0, 1) } else { (0, 2) };
            (import.version.major, import.version.minor) == minor && SERVED.contains(&import.path)
        });
        if needs_host && !served {
            return LoadError::UnknownImport {
                name: text::escaped(name, NAME_CHARS_MAX),
                reason: format!("{PROTOCOL}/http and /settings 0.1 and WASI 0.2 are"),
            };
        }
    }
    LoadError::UnknownImport { name: "?".to_owned(), reason: text::error_text(error) }
}

/// A loaded plugin. Immutable; shared by every provider that is bound to it.
pub struct Plugin {
    checked: Checked,
    description: Description,
    digest: String,
    from_cache: bool,
    compile_time: Duration,
    memory_bytes_initial: usize,
}

impl Plugin {
    pub(crate) fn new(
        checked: Checked,
        description: Description,
        digest: String,
        from_cache: bool,
        compile_time: Duration,
    ) -> Plugin {
        let pages = checked.pre.component().resources_required().and_then(|r| r.max_initial_memory_size);
        let memory_bytes_initial =
            usize::try_from(pages.unwrap_or(0).saturating_mul(64 << 10)).unwrap_or(usize::MAX);
        Plugin { checked, description, digest, from_cache, compile_time, memory_bytes_initial }
    }

    /// What the plugin says of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// BLAKE3 of the component's bytes, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The name of the [`Kind`] it was accepted as.
    pub fn kind(&self) -> &'static str {
        self.checked.kind.name
    }

    /// The version of the interfaces it exports.
    pub fn interface_version(&self) -> Version {
        self.checked.interface_version.clone()
    }

    /// Whether it exports an interface of its kind, named without package and version: `sms-credit`.
    pub fn exports(&self, interface: &str) -> bool {
        self.checked.functions.contains_key(interface)
    }

    /// The interfaces of its kind that it exports, in alphabetical order.
    pub fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.checked.functions.keys().map(String::as_str)
    }

    /// Whether the compiled code came from the cache.
    pub fn from_cache(&self) -> bool {
        self.from_cache
    }

    /// How long compiling took; zero when the code came from the cache.
    pub fn compile_time(&self) -> Duration {
        self.compile_time
    }

    pub(crate) fn memory_bytes_initial(&self) -> usize {
        self.memory_bytes_initial
    }

    pub(crate) fn pre(&self) -> &InstancePre<CallState> {
        &self.checked.pre
    }

    pub(crate) fn function(&self, interface: &str, function: &str) -> Option<&ComponentExportIndex> {
        self.checked.functions.get(interface)?.get(function)
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.description.name)
            .field("version", &self.description.version)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_error_says_which_side_is_older() {
        let check =
            |text: &str| version_check("a:b/c@x", &Version::parse(text).expect("a version"), &[(0, 1)]);
        assert!(check("0.1.7").is_ok());
        assert_eq!(
            check("0.2.0").expect_err("newer").to_string(),
            "world \"a:b/c@x\" is newer than this host (0.1)"
        );
        assert_eq!(
            check("0.0.9").expect_err("older").to_string(),
            "world \"a:b/c@x\" is older than this host (0.1)"
        );
        assert!(check(&format!("0.1.7+{}", "a".repeat(VERSION_CHARS_MAX - 6))).is_ok());
        let long = format!("0.1.7-{}", "a".repeat(VERSION_CHARS_MAX - 5));
        assert_eq!(
            check(&long).expect_err("too long").to_string(),
            "the version of \"a:b/c@x\" has 64 characters, at most 63 are accepted"
        );
    }
}
