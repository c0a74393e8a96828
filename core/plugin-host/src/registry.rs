//! Providers by name, and their replacement as a transaction.
//!
//! [`Registry::prepare`] does all that can fail, beside the running calls: it reads files, compiles, checks and
//! binds. [`Registry::commit`] then swaps one pointer. A name whose new state failed keeps the provider it had;
//! calls in flight finish on the provider they began with, which is freed when the last of them ends.
//! What did not change (same bytes, settings, hosts, limits) is kept as the same provider, connections and all.
//! One task prepares and commits; readers never wait for it.
//! Not here: noticing that files changed (see `watch`), and where desired entries come from (the embedder).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde::Serialize;
use tokio::io::AsyncReadExt;

use crate::binding::{BindError, Binding};
use crate::host::Host;
use crate::limits::Limits;
use crate::plugin::{Kind, LoadError, Plugin};
use crate::provider::Provider;
use crate::setting::SettingValue;
use crate::stats::{CallStats, Stats};

/// A file that does not load is read again as long as it changes in between: somebody is still writing it.
const SETTLE_TIME: Duration = Duration::from_millis(100);
const SETTLE_TRIES: u32 = 20;

/// One entry that the configuration asks for.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The entry's name.
    pub name: String,
    /// The name of the [`Kind`] that its plugin must have.
    pub kind: &'static str,
    /// The component.
    pub file: PathBuf,
    /// See [`Binding::settings`].
    pub settings: BTreeMap<String, SettingValue>,
    /// See [`Binding::hosts`].
    pub hosts: Option<Vec<String>>,
    /// See [`Binding::limits`].
    pub limits: Limits,
}

/// Why an entry has no new provider.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The component's file could not be read.
    #[error("plugin {file:?}: {source}")]
    File {
        /// The file's name.
        file: String,
        /// Why not.
        source: io::Error,
    },
    /// The component was refused.
    #[error("plugin {file:?}: {source}")]
    Load {
        /// The file's name.
        file: String,
        /// Why.
        source: Arc<LoadError>,
    },
    /// The component does not go with its settings, hosts or limits.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Two entries have one name.
    #[error("provider {0:?} is there twice")]
    Duplicate(String),
    /// The registry knows no such kind.
    #[error("provider {name:?}: kind {kind:?} is unknown, accepted are: {accepted}")]
    UnknownKind {
        /// The entry.
        name: String,
        /// As asked for.
        kind: &'static str,
        /// The registry's kinds.
        accepted: String,
    },
}

/// Everything that makes an entry what it is, except its compiled code.
#[derive(Clone, PartialEq, Eq)]
struct Fingerprint {
    digest: String,
    kind: &'static str,
    settings: BTreeMap<String, SettingValue>,
    hosts: Option<Vec<String>>,
    limits: Limits,
}

/// What stays of an entry when its provider is replaced.
struct Entry {
    kind: &'static str,
    serving: Option<(Arc<Provider>, Fingerprint)>,
    generation: u64,
    failing: bool,
    last_error: Option<String>,
    loaded_at: u64,
    reloads: u64,
    reload_failures: u64,
    stats: Arc<Stats>,
}

impl Entry {
    fn new(kind: &'static str, stats: Arc<Stats>) -> Entry {
        Entry {
            kind,
            serving: None,
            generation: 0,
            failing: false,
            last_error: None,
            loaded_at: 0,
            reloads: 0,
            reload_failures: 0,
            stats,
        }
    }

    fn fail(&mut self, error: &RegistryError) {
        self.failing = true;
        self.reload_failures += 1;
        self.last_error = Some(error.to_string());
    }
}

enum Outcome {
    Kept(Arc<Provider>, Fingerprint),
    New(Arc<Provider>, Fingerprint, Arc<Stats>),
    /// Index into the failures.
    Failed(usize),
}

/// The outcome of [`Registry::prepare`]: nothing of it serves before [`Registry::commit`].
pub struct Prepared {
    outcomes: BTreeMap<String, (&'static str, Outcome)>,
    failures: Vec<(String, RegistryError)>,
    providers: BTreeMap<String, Arc<Provider>>,
}

impl Prepared {
    /// The entries that failed, by name, with the reason.
    pub fn failures(&self) -> &[(String, RegistryError)] {
        &self.failures
    }

    /// Who would serve after a commit: new and kept providers, and the old ones of entries that failed.
    pub fn providers(&self) -> &BTreeMap<String, Arc<Provider>> {
        &self.providers
    }

    /// Whether a commit would change who serves.
    pub fn has_changes(&self, registry: &Registry) -> bool {
        let current = registry.current.load();
        current.len() != self.providers.len()
            || self.providers.iter().any(|(name, provider)| {
                !current.get(name).is_some_and(|serving| Arc::ptr_eq(serving, provider))
            })
    }
}

/// How an entry does, for operators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderStatus {
    /// The entry's name.
    pub name: String,
    /// The kind of its plugin.
    pub kind: &'static str,
    /// The plugin's name; absent while nothing serves.
    pub plugin: Option<String>,
    /// The plugin's version.
    pub version: Option<String>,
    /// The version of the interfaces it exports.
    pub interface_version: Option<String>,
    /// BLAKE3 of the component.
    pub blake3: Option<String>,
    /// How many providers have served under this name, the present one included.
    pub generation: u64,
    /// `serving`; `serving-old` when the newest state was refused; `failed` when nothing serves.
    pub state: &'static str,
    /// Why the newest state was refused.
    pub last_error: Option<String>,
    /// When the present provider began to serve, in milliseconds since 1970 (UTC); 0 when none does.
    pub loaded_at: u64,
    /// What its calls came to and what they used.
    #[serde(flatten)]
    pub calls: CallStats,
    /// Replacements of a provider that served.
    pub reloads: u64,
    /// States that were refused.
    pub reload_failures: u64,
}

/// Providers by name.
pub struct Registry {
    host: Host,
    kinds: &'static [Kind],
    current: ArcSwap<BTreeMap<String, Arc<Provider>>>,
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Registry {
    /// Makes an empty registry.
    pub fn new(host: Host, kinds: &'static [Kind]) -> Registry {
        Registry { host, kinds, current: ArcSwap::default(), entries: Mutex::default() }
    }

    /// The host that the providers run in.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Reads, compiles, checks and binds what is desired, and changes nothing.
    ///
    /// The same bytes are compiled once, however many entries use them. A file that does not load and is still
    /// changing is waited for, at most two seconds.
    pub async fn prepare(&self, desired: &[Desired]) -> Prepared {
        let mut work = Work { host: &self.host, kinds: self.kinds, loaded: BTreeMap::new() };
        for entry in self.entries().values() {
            if let Some((provider, fingerprint)) = &entry.serving {
                let key = (fingerprint.digest.clone(), fingerprint.kind);
                work.loaded.insert(key, Ok(Arc::clone(provider.plugin())));
            }
        }
        let mut prepared =
            Prepared { outcomes: BTreeMap::new(), failures: Vec::new(), providers: BTreeMap::new() };
        for want in desired {
            let old = self.entries().get(&want.name).and_then(|entry| {
                let (provider, fingerprint) = entry.serving.as_ref()?;
                Some((Arc::clone(provider), fingerprint.clone()))
            });
            let stats =
                self.entries().get(&want.name).map(|entry| Arc::clone(&entry.stats)).unwrap_or_default();
            let outcome = if prepared.outcomes.contains_key(&want.name) {
                Err(RegistryError::Duplicate(want.name.clone()))
            } else {
                work.prepare(want, old.as_ref(), stats).await
            };
            let outcome = match outcome {
                Ok(outcome) => outcome,
                Err(error) => {
                    prepared.failures.push((want.name.clone(), error));
                    Outcome::Failed(prepared.failures.len() - 1)
                }
            };
            let serving = match &outcome {
                Outcome::Kept(provider, _) | Outcome::New(provider, _, _) => Some(Arc::clone(provider)),
                Outcome::Failed(_) => old.map(|(provider, _)| provider),
            };
            if let Some(provider) = serving {
                prepared.providers.insert(want.name.clone(), provider);
            }
            prepared.outcomes.insert(want.name.clone(), (want.kind, outcome));
        }
        prepared
    }

    /// Lets what was prepared serve, at once and for all names together, and returns it.
    ///
    /// Names that failed keep their provider if they have one; names that are no longer desired leave.
    pub fn commit(&self, prepared: Prepared) -> Arc<BTreeMap<String, Arc<Provider>>> {
        let Prepared { outcomes, failures, .. } = prepared;
        let mut entries = self.entries();
        entries.retain(|name, _| outcomes.contains_key(name));
        for (name, (kind, outcome)) in outcomes {
            match outcome {
                Outcome::Kept(provider, fingerprint) => {
                    let entry = entries.entry(name).or_insert_with(|| Entry::new(kind, Arc::default()));
                    entry.serving = Some((provider, fingerprint));
                    entry.failing = false;
                    entry.last_error = None;
                }
                Outcome::New(provider, fingerprint, stats) => {
                    let entry = entries.entry(name).or_insert_with(|| Entry::new(kind, stats));
                    entry.kind = kind;
                    entry.generation += 1;
                    if entry.serving.is_some() {
                        entry.reloads += 1;
                    }
                    log_serving(&provider, &fingerprint, entry.generation);
                    entry.serving = Some((provider, fingerprint));
                    entry.failing = false;
                    entry.last_error = None;
                    entry.loaded_at = now_ms();
                }
                Outcome::Failed(index) => {
                    let (_, error) = &failures[index];
                    let entry =
                        entries.entry(name.clone()).or_insert_with(|| Entry::new(kind, Arc::default()));
                    entry.fail(error);
                    log_refused(&name, error, entry.serving.is_some());
                }
            }
        }
        let serving = entries
            .iter()
            .filter_map(|(name, entry)| Some((name.clone(), Arc::clone(&entry.serving.as_ref()?.0))))
            .collect();
        let serving = Arc::new(serving);
        // Inside the lock, so that two commits cannot leave the one's entries with the other's providers.
        self.current.store(Arc::clone(&serving));
        serving
    }

    /// Drops what was prepared: nobody is replaced, and the entries that failed say so. The caller, who knows
    /// what was refused as a whole, logs it.
    pub fn refuse(&self, prepared: Prepared) {
        let mut entries = self.entries();
        for (name, error) in &prepared.failures {
            if let Some(entry) = entries.get_mut(name) {
                entry.fail(error);
            }
        }
    }

    /// The provider that serves under a name. Hold it for one call, not for longer.
    pub fn get(&self, name: &str) -> Option<Arc<Provider>> {
        self.current.load().get(name).cloned()
    }

    /// All that serve, as one consistent state.
    pub fn snapshot(&self) -> Arc<BTreeMap<String, Arc<Provider>>> {
        self.current.load_full()
    }

    /// How every entry does, in the order of their names.
    pub fn status(&self) -> Vec<ProviderStatus> {
        self.entries().iter().map(|(name, entry)| status(name, entry)).collect()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Nothing inside the lock panics half way through a change.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status(name: &str, entry: &Entry) -> ProviderStatus {
    let plugin = entry.serving.as_ref().map(|(provider, _)| provider.plugin());
    ProviderStatus {
        name: name.to_owned(),
        kind: entry.kind,
        plugin: plugin.map(|p| p.description().name.clone()),
        version: plugin.map(|p| p.description().version.to_string()),
        interface_version: plugin.map(|p| p.interface_version().to_string()),
        blake3: plugin.map(|p| p.digest().to_owned()),
        generation: entry.generation,
        state: match (plugin, entry.failing) {
            (Some(_), false) => "serving",
            (Some(_), true) => "serving-old",
            (None, _) => "failed",
        },
        last_error: entry.last_error.clone(),
        loaded_at: entry.loaded_at,
        calls: entry.stats.snapshot(),
        reloads: entry.reloads,
        reload_failures: entry.reload_failures,
    }
}

fn log_serving(provider: &Provider, fingerprint: &Fingerprint, generation: u64) {
    let description = provider.plugin().description();
    tracing::info!(
        plugin.id = provider.name(),
        plugin.name = description.name,
        plugin.version = %description.version,
        plugin.blake3 = fingerprint.digest.get(..16).unwrap_or_default(),
        generation,
        "provider serves"
    );
}

fn log_refused(name: &str, error: &RegistryError, serving_old: bool) {
    let kept = if serving_old { "the old one keeps serving" } else { "nothing serves under this name" };
    tracing::warn!(plugin.id = name, %error, "provider refused, {kept}");
}

type Loaded = Result<Arc<Plugin>, Arc<LoadError>>;

/// What one preparation has already loaded, by digest and kind.
struct Work<'a> {
    host: &'a Host,
    kinds: &'static [Kind],
    loaded: BTreeMap<(String, &'static str), Loaded>,
}

impl Work<'_> {
    async fn prepare(
        &mut self,
        want: &Desired,
        old: Option<&(Arc<Provider>, Fingerprint)>,
        stats: Arc<Stats>,
    ) -> Result<Outcome, RegistryError> {
        let Some(kind) = self.kinds.iter().find(|kind| kind.name == want.kind) else {
            let accepted = self.kinds.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
            return Err(RegistryError::UnknownKind { name: want.name.clone(), kind: want.kind, accepted });
        };
        let file = file_name(&want.file);
        let (digest, plugin) = self.load_settled(want, kind, &file).await?;
        let fingerprint = Fingerprint {
            digest,
            kind: kind.name,
            settings: want.settings.clone(),
            hosts: want.hosts.clone(),
            limits: want.limits.clone(),
        };
        if let Some((provider, _)) = old.filter(|(_, old)| *old == fingerprint) {
            return Ok(Outcome::Kept(Arc::clone(provider), fingerprint));
        }
        let binding = Binding {
            name: want.name.clone(),
            settings: want.settings.clone(),
            hosts: want.hosts.clone(),
            limits: want.limits.clone(),
        };
        let provider = Provider::bind_with(self.host, plugin, binding, Arc::clone(&stats))?;
        Ok(Outcome::New(Arc::new(provider), fingerprint, stats))
    }

    /// Loads a file, again when it may have been half-written and has changed since.
    async fn load_settled(
        &mut self,
        want: &Desired,
        kind: &Kind,
        file: &str,
    ) -> Result<(String, Arc<Plugin>), RegistryError> {
        let bytes_max = self.host.options().plugin_bytes_max;
        let read = || file_read(&want.file, bytes_max);
        let file_error = |source| RegistryError::File { file: file.to_owned(), source };
        let (mut bytes, mut digest) = read().await.map_err(file_error)?;
        let mut tries = 0;
        loop {
            let key = (digest.clone(), kind.name);
            let loaded = match self.loaded.get(&key) {
                Some(loaded) => loaded.clone(),
                None => {
                    let loaded = self.host.load(bytes, std::slice::from_ref(kind)).await.map_err(Arc::new);
                    self.loaded.insert(key, loaded.clone());
                    loaded
                }
            };
            let source = match loaded {
                Ok(plugin) => return Ok((digest, plugin)),
                Err(source) => source,
            };
            tries += 1;
            if source.may_be_unfinished() && tries <= SETTLE_TRIES {
                tokio::time::sleep(SETTLE_TIME).await;
                let again = read().await.map_err(file_error)?;
                if again.1 != digest {
                    (bytes, digest) = again;
                    continue;
                }
            }
            return Err(RegistryError::Load { file: file.to_owned(), source });
        }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Reads a file up to one byte more than is accepted, so that the host can refuse it by size.
async fn file_read(path: &Path, bytes_max: u64) -> io::Result<(Bytes, String)> {
    let mut bytes = Vec::new();
    tokio::fs::File::open(path).await?.take(bytes_max + 1).read_to_end(&mut bytes).await?;
    let digest = blake3::hash(&bytes).to_hex().to_string();
    Ok((bytes.into(), digest))
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
