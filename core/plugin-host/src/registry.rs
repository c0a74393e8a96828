//! Providers by name, and their replacement as a transaction.
//!
//! [`Registry::prepare`] does all that can fail, beside the running calls. [`Registry::commit`] then swaps one
//! pointer. A name whose file was refused goes on with its last good component (see `prepare`), and otherwise with
//! the provider it had. Calls in flight finish on the provider they began with, which is freed when the last of them
//! ends. What did not change (same bytes, settings, hosts, limits) is kept as the same provider, connections and all.
//! One task prepares and commits; readers never wait for it.
//!
//! Not here: preparing one entry (see `prepare`), noticing that files changed (see `watch`), and where desired entries
//! come from (the embedder).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::file::Reader;
use crate::host::Host;
use crate::kept::{self, Good};
use crate::plugin::Kind;
use crate::prepare::{
    Ask, Desired, Failure, LoadedOnce, Loading, Outcome, PluginPins, READ_TIME_MAX, Ready, RegistryError,
    Serves, Serving, Work,
};
use crate::provider::Provider;
use crate::stats::Stats;
use crate::status::{ProviderStatus, RegistryHealth};

/// Files that are read, compiled and asked at once: more than can be slow by accident, and few enough that their bytes
/// fit into memory. How many are compiled at once is bounded by the host.
const FILES_MAX: usize = 8;

/// The outcome of [`Registry::prepare`]: nothing of it serves before [`Registry::commit`].
pub struct Prepared {
    outcomes: BTreeMap<String, Planned>,
    failures: Vec<Failure>,
    providers: BTreeMap<String, Arc<Provider>>,
}

/// What a commit does with an entry.
struct Planned {
    kind: &'static str,
    file: PathBuf,
    change: Change,
}

enum Change {
    Good(Outcome),
    Failed {
        /// Among the failures.
        index: usize,
        /// Of the last good component.
        stand_in: Option<Outcome>,
    },
}

impl Prepared {
    fn add(&mut self, want: &Desired, Entered { known, result }: Entered) {
        let change = match result {
            Ok(outcome) => Change::Good(outcome),
            Err((error, stand_in)) => {
                let serves = match (&stand_in, &known.serving) {
                    (Some(_), _) => Serves::LastGood,
                    (None, Some(_)) => Serves::Before,
                    (None, None) => Serves::Nothing,
                };
                let (name, is_known) = (want.name.clone(), known.is_failing);
                self.failures.push(Failure { name, error, serves, is_known });
                Change::Failed { index: self.failures.len() - 1, stand_in }
            }
        };
        let serving = match &change {
            Change::Good(outcome) | Change::Failed { stand_in: Some(outcome), .. } => {
                Some(Arc::clone(outcome.provider()))
            }
            Change::Failed { stand_in: None, .. } => known.serving.map(|old| old.provider),
        };
        self.providers.extend(serving.map(|provider| (want.name.clone(), provider)));
        let planned = Planned { kind: want.kind, file: want.file.clone(), change };
        self.outcomes.insert(want.name.clone(), planned);
    }

    /// The entries that failed, with the reason and with what serves in their place.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// The failures that a start cannot help: the configuration is at fault, and no earlier component fits it.
    pub fn start_refusals(&self) -> impl Iterator<Item = &Failure> {
        let refuses =
            |failure: &&Failure| failure.error.is_about_configuration() && failure.serves != Serves::LastGood;
        self.failures.iter().filter(refuses)
    }

    /// The failures that an edit must not bring about: all but those of entries that failed before and lose nothing,
    /// and of pinned entries that go on as they were.
    pub fn edit_refusals(&self) -> impl Iterator<Item = &Failure> {
        // Somebody exchanged the file of a pinned entry. The edit is not about that.
        let goes_on = |failure: &Failure| {
            matches!(failure.error, RegistryError::Pinned { .. }) && failure.serves == Serves::LastGood
        };
        let is_old_news = |failure: &Failure| match failure.serves {
            Serves::LastGood => true,
            Serves::Nothing => !failure.error.is_about_configuration(),
            Serves::Before => false,
        };
        self.failures
            .iter()
            .filter(move |failure| !(goes_on(failure) || (failure.is_known && is_old_news(failure))))
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

/// Providers by name.
pub struct Registry {
    host: Host,
    kinds: &'static [Kind],
    current: ArcSwap<BTreeMap<String, Arc<Provider>>>,
    entries: Mutex<BTreeMap<String, Entry>>,
    reader: Reader,
    loading: Loading,
    ask: Option<Ask>,
    keeps: bool,
}

impl Registry {
    /// Makes an empty registry.
    pub fn new(host: Host, kinds: &'static [Kind]) -> Registry {
        Registry {
            host,
            kinds,
            current: ArcSwap::default(),
            entries: Mutex::default(),
            reader: Reader::new(READ_TIME_MAX),
            loading: Loading::default(),
            ask: None,
            keeps: false,
        }
    }

    /// Asks every provider before it serves; see [`Provider::facts`].
    pub fn with_ask(mut self, ask: Ask) -> Registry {
        self.ask = Some(ask);
        self
    }

    /// Keeps the bytes of what serves beside the code cache, for a later start (see `kept`). For the one process that
    /// serves; others only read what it kept.
    pub fn with_keeping(mut self) -> Registry {
        self.keeps = true;
        self
    }

    /// The host that the providers run in.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Reads, compiles, checks and binds what is desired, and changes nothing.
    ///
    /// Entries of up to eight files are prepared at once, those of one file in turn. The same bytes are
    /// compiled once, however many entries use them. A file that does not load and is still changing is waited for.
    /// May be dropped half way: then a compiler that runs for it is killed.
    pub async fn prepare(&self, desired: &[Desired]) -> Prepared {
        self.prepare_pinned(desired, &PluginPins::new()).await
    }

    /// As [`Registry::prepare`], and lets pinned entries have no other plugin than theirs.
    pub async fn prepare_pinned(&self, desired: &[Desired], pins: &PluginPins) -> Prepared {
        let work = Work {
            host: &self.host,
            kinds: self.kinds,
            reader: &self.reader,
            loading: &self.loading,
            ask: self.ask,
            loaded: LoadedOnce::default(),
            pins,
        };
        for entry in self.entries().values() {
            if let Some(Serving { provider, fingerprint, .. }) = &entry.serving {
                work.loaded.insert(&fingerprint.digest, fingerprint.kind, provider.plugin());
            }
        }
        let mut files: BTreeMap<&Path, Vec<&Desired>> = BTreeMap::new();
        let mut names = BTreeSet::new();
        for want in desired.iter().filter(|want| names.insert(&want.name)) {
            files.entry(&want.file).or_default().push(want);
        }
        // Futures of one type, made here: a closure inside the stream would make this one not `Send`.
        let turns: Vec<_> = files.into_values().map(|entries| self.prepare_in_turn(&work, entries)).collect();
        let turns: Vec<Vec<_>> = stream::iter(turns).buffer_unordered(FILES_MAX).collect().await;
        let mut done: BTreeMap<&str, Entered> = turns.into_iter().flatten().collect();

        let mut prepared =
            Prepared { outcomes: BTreeMap::new(), failures: Vec::new(), providers: BTreeMap::new() };
        for want in desired {
            match done.remove(want.name.as_str()) {
                Some(entered) => prepared.add(want, entered),
                None => {
                    let (name, error) = (want.name.clone(), RegistryError::Duplicate(want.name.clone()));
                    prepared.failures.push(Failure { name, error, serves: Serves::Before, is_known: false });
                }
            }
        }
        prepared
    }

    /// Prepares the entries of one file.
    async fn prepare_in_turn<'a>(
        &self,
        work: &Work<'_>,
        entries: Vec<&'a Desired>,
    ) -> Vec<(&'a str, Entered)> {
        let mut done = Vec::with_capacity(entries.len());
        for want in entries {
            let known = self.known(&want.name);
            let old = known.serving.as_ref();
            let result = match work.prepare(want, old, Arc::clone(&known.stats)).await {
                Ok(outcome) => Ok(outcome),
                // Settings that come with another plugin may be meant for that one.
                Err(error @ RegistryError::Pinned { .. })
                    if old.is_some_and(|old| old.is_asked_otherwise(want)) =>
                {
                    Err((error, None))
                }
                Err(error) => Err((error, work.prepare_last_good(want, old, Arc::clone(&known.stats)).await)),
            };
            done.push((want.name.as_str(), Entered { known, result }));
        }
        done
    }

    fn known(&self, name: &str) -> Known {
        let entries = self.entries();
        let entry = entries.get(name);
        Known {
            serving: entry.and_then(|entry| entry.serving.clone()),
            stats: entry.map(|entry| Arc::clone(&entry.stats)).unwrap_or_default(),
            is_failing: entry.is_some_and(|entry| entry.failing),
        }
    }

    /// The entries whose last good component (see `kept`) is another one than the one that a commit would let serve.
    /// For a start: while providers serve, the kept bytes follow them a moment later.
    pub async fn replaced(&self, prepared: &Prepared) -> BTreeSet<String> {
        let Some(kept) = self.host.inner.kept.clone() else { return BTreeSet::new() };
        let digests = tokio::task::spawn_blocking(move || kept.digests()).await.unwrap_or_default();
        let is_other = |name: &str, Planned { file, change, .. }: &Planned| match change {
            Change::Good(outcome) => digests
                .get(&kept::key(name, file))
                .is_some_and(|digest| digest != outcome.provider().plugin().digest()),
            Change::Failed { .. } => false,
        };
        let replaced = prepared.outcomes.iter().filter(|(name, planned)| is_other(name, planned));
        replaced.map(|(name, _)| name.clone()).collect()
    }

    /// The bytes of a component's file, within the bounds of a preparation.
    ///
    /// # Errors
    /// Those of the system; `InvalidInput` for what is no regular file, `FileTooLarge` past
    /// [`crate::HostOptions::plugin_bytes_max`], `TimedOut` when the system does not answer.
    pub async fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        self.reader.read(file, self.host.options().plugin_bytes_max).await
    }

    /// Lets what was prepared serve, at once and for all names together, and returns it.
    ///
    /// Names that failed get their last good component, or keep the provider they have; names that are no longer
    /// desired leave.
    pub fn commit(&self, prepared: Prepared) -> Arc<BTreeMap<String, Arc<Provider>>> {
        let Prepared { outcomes, failures, .. } = prepared;
        let mut entries = self.entries();
        entries.retain(|name, _| outcomes.contains_key(name));
        let (mut good, mut keys) = (Vec::new(), BTreeSet::new());
        for (name, Planned { kind, file, change }) in outcomes {
            let entry = entries.entry(name.clone()).or_insert_with(|| Entry::new(kind));
            entry.kind = kind;
            let key = kept::key(&name, &file);
            match change {
                Change::Good(outcome) => {
                    if let Some((digest, bytes)) = entry.serve(outcome) {
                        good.push(Good { key: key.clone(), digest, bytes });
                    }
                    entry.good();
                }
                Change::Failed { index, stand_in } => {
                    if let Some(outcome) = stand_in {
                        let _ = entry.serve(outcome);
                    }
                    let Failure { error, serves, .. } = &failures[index];
                    entry.fail(error);
                    log_refused(&name, error, *serves);
                }
            }
            keys.insert(key);
        }
        if let Some(kept) = self.host.inner.kept.as_ref().filter(|_| self.keeps) {
            kept.keep(good, keys);
        }
        let serving = entries
            .iter()
            .filter_map(|(name, entry)| Some((name.clone(), Arc::clone(&entry.serving.as_ref()?.provider))))
            .collect();
        let serving: Arc<BTreeMap<_, _>> = Arc::new(serving);
        if !serving.is_empty() {
            self.host.inner.serves.store(true, Ordering::Relaxed);
        }
        // Inside the lock, so that two commits cannot leave the one's entries with the other's providers.
        self.current.store(Arc::clone(&serving));
        serving
    }

    /// Drops what was prepared: nobody is replaced, and the entries that failed say so. The caller, who knows
    /// what was refused as a whole, logs it.
    pub fn refuse(&self, prepared: Prepared) {
        let mut entries = self.entries();
        for Failure { name, error, .. } in &prepared.failures {
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
        let loading = self.loading.names();
        let entries = self.entries();
        let known = entries.iter().map(|(name, entry)| entry.status(name, loading.contains(name)));
        let first = loading.iter().filter(|name| !entries.contains_key(*name));
        let mut all: Vec<ProviderStatus> =
            known.chain(first.map(|name| Entry::new("").status(name, true))).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Whether every entry can serve.
    pub fn health(&self) -> RegistryHealth {
        let mut health = RegistryHealth { compiling: self.loading.names(), ..RegistryHealth::default() };
        for (name, entry) in self.entries().iter() {
            match (&entry.serving, entry.failing) {
                (None, _) => health.failed.insert(name.clone()),
                (Some(_), true) => health.serving_old.insert(name.clone()),
                (Some(_), false) => false,
            };
        }
        health
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Nothing inside the lock panics half way through a change.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the preparation of one entry came to; on an error, with its last good component if there is one.
struct Entered {
    known: Known,
    result: Result<Outcome, (RegistryError, Option<Outcome>)>,
}

/// What a preparation knows of an entry.
struct Known {
    serving: Option<Serving>,
    /// The figures that its next provider goes on with.
    stats: Arc<Stats>,
    is_failing: bool,
}

/// What stays of an entry when its provider is replaced.
struct Entry {
    kind: &'static str,
    serving: Option<Serving>,
    generation: u64,
    failing: bool,
    last_error: Option<String>,
    loaded_at: u64,
    reloads: u64,
    reload_failures: u64,
    stats: Arc<Stats>,
}

impl Entry {
    fn new(kind: &'static str) -> Entry {
        Entry {
            kind,
            serving: None,
            generation: 0,
            failing: false,
            last_error: None,
            loaded_at: 0,
            reloads: 0,
            reload_failures: 0,
            stats: Arc::default(),
        }
    }

    /// Lets a provider serve. Returns its component with its digest, when they are to be kept.
    fn serve(&mut self, outcome: Outcome) -> Option<(String, Bytes)> {
        let Ready { serving, stats, bytes } = match outcome {
            Outcome::Same(serving) => {
                self.serving = Some(serving);
                return None;
            }
            Outcome::New(ready) => ready,
        };
        self.generation += 1;
        if self.serving.is_some() {
            self.reloads += 1;
        }
        self.stats = stats;
        self.loaded_at = now_ms();
        log_serving(&serving, self.generation);
        let digest = serving.fingerprint.digest.clone();
        self.serving = Some(serving);
        Some((digest, bytes?))
    }

    fn good(&mut self) {
        self.failing = false;
        self.last_error = None;
    }

    fn fail(&mut self, error: &RegistryError) {
        self.failing = true;
        self.reload_failures += 1;
        self.last_error = Some(error.to_string());
    }

    fn status(&self, name: &str, compiling: bool) -> ProviderStatus {
        let plugin = self.serving.as_ref().map(|serving| serving.provider.plugin());
        ProviderStatus {
            name: name.to_owned(),
            kind: self.kind,
            plugin: plugin.map(|p| p.description().name.clone()),
            version: plugin.map(|p| p.description().version.to_string()),
            interface_version: plugin.map(|p| p.interface_version().to_string()),
            blake3: plugin.map(|p| p.digest().to_owned()),
            generation: self.generation,
            state: match (plugin, self.failing) {
                (Some(_), false) => "serving",
                (Some(_), true) => "serving-old",
                (None, _) if compiling => "compiling",
                (None, _) => "failed",
            },
            compiling,
            compile_ms: plugin.map_or(0, |p| u64::try_from(p.compile_time().as_millis()).unwrap_or(u64::MAX)),
            last_error: self.last_error.clone(),
            loaded_at: self.loaded_at,
            calls: self.stats.snapshot(),
            reloads: self.reloads,
            reload_failures: self.reload_failures,
        }
    }
}

fn log_serving(serving: &Serving, generation: u64) {
    let description = serving.provider.plugin().description();
    tracing::info!(
        plugin.id = serving.provider.name(),
        plugin.name = description.name,
        plugin.version = %description.version,
        plugin.blake3 = serving.fingerprint.digest.get(..16).unwrap_or_default(),
        generation,
        "provider serves"
    );
}

fn log_refused(name: &str, error: &RegistryError, serves: Serves) {
    match serves {
        Serves::LastGood => {
            tracing::warn!(plugin.id = name, %error, "plugin refused; its last good one serves")
        }
        Serves::Before => {
            tracing::warn!(plugin.id = name, %error, "plugin refused; the old one keeps serving")
        }
        Serves::Nothing => {
            tracing::error!(plugin.id = name, %error, "plugin refused; nothing serves under this name");
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
