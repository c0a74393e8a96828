//! From one wanted entry to a provider: read, load, check, bind, and change nothing.
//!
//! Entries of different files are prepared beside each other, so that a file which is slow to read or to compile
//! delays only its own. The same bytes are loaded once, however many entries use them. A file that is still being
//! written is waited for as long as it changes. When a file is refused, the last good component that was read from it
//! is bound to what the entry asks for now: that of the provider that serves, or at a start the kept bytes. An entry
//! may be pinned to its plugin ([`PluginPin`]): then a file that holds another plugin is refused in the same way.
//! Not here: what serves (see `registry`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OnceCell;

use crate::binding::{BindError, Binding};
use crate::file::Reader;
use crate::host::Host;
use crate::kept;
use crate::limits::Limits;
use crate::plugin::{Kind, LoadError, Plugin};
use crate::provider::{Facts, Provider};
use crate::setting::SettingValue;
use crate::stats::Stats;
use crate::watch::plugins_in;

/// A file that does not load is refused once it was still for this long: nobody is writing it any more.
const SETTLE_TIME: Duration = Duration::from_millis(500);
/// How often a file that goes on changing is read again.
const SETTLE_TRIES: u32 = 40;
/// Names in a message about a file that is not there.
const NAMED_MAX: usize = 20;
/// How long a file may take to be read.
pub(crate) const READ_TIME_MAX: Duration = Duration::from_secs(10);

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

/// Holds an entry to the plugin that serves it, for as long as the embedder has something open there. A plugin is known
/// by the name with which it describes itself.
#[derive(Clone, Debug)]
pub struct PluginPin {
    /// The plugin's name; `None`: that of the entry's last good component (see `kept`), and any when none is kept.
    pub plugin: Option<String>,
    /// Ends the sentence "cannot change its plugin from A to B ...".
    pub why: String,
}

/// The pinned entries, by name.
pub type PluginPins = BTreeMap<String, PluginPin>;

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
    /// The provider's answers make no sense to the embedder.
    #[error("{reason}")]
    Refused {
        /// The entry.
        name: String,
        /// A sentence.
        reason: String,
    },
    /// The entry is pinned, and the component is another plugin.
    #[error("cannot change its plugin from {old} to {new} {why}")]
    Pinned {
        /// The plugin that the entry is pinned to.
        old: String,
        /// As the component describes itself.
        new: String,
        /// See [`PluginPin::why`].
        why: String,
    },
    /// The component does not go with its settings, hosts or limits.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Two entries have one name.
    #[error("duplicate provider {0:?}")]
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

impl RegistryError {
    /// Whether the configuration is at fault and not the component: it names a file that is not there, a plugin of
    /// another kind or another one than the entry is pinned to, or its settings, hosts or limits do not fit.
    pub fn is_about_configuration(&self) -> bool {
        match self {
            RegistryError::Bind(_)
            | RegistryError::Duplicate(_)
            | RegistryError::UnknownKind { .. }
            | RegistryError::Pinned { .. } => true,
            RegistryError::File { source, .. } => source.kind() == io::ErrorKind::NotFound,
            RegistryError::Load { source, .. } => {
                matches!(**source, LoadError::WrongKind { is_plugin: true, .. })
            }
            RegistryError::Refused { .. } => false,
        }
    }
}

/// An entry whose newest state was refused.
#[derive(Debug)]
pub struct Failure {
    /// The entry.
    pub name: String,
    /// Why.
    pub error: RegistryError,
    /// What a commit would leave it with.
    pub serves: Serves,
    /// Whether its state before was refused too: then this is no news.
    pub is_known: bool,
}

/// What serves under a name whose newest state was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// The last good component of the same file, with the settings, hosts and limits that are asked for now.
    LastGood,
    /// What served before, as it was.
    Before,
    /// Nothing.
    Nothing,
}

/// Everything that makes an entry what it is, except its compiled code.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) digest: String,
    pub(crate) kind: &'static str,
    settings: BTreeMap<String, SettingValue>,
    hosts: Option<Vec<String>>,
    limits: Limits,
}

/// What serves, or may serve, under an entry's name.
#[derive(Clone)]
pub(crate) struct Serving {
    pub(crate) provider: Arc<Provider>,
    pub(crate) fingerprint: Fingerprint,
    /// Where its component was read.
    pub(crate) file: PathBuf,
}

impl Serving {
    /// Whether an entry asks for other settings or hosts. Limits are those of all entries.
    pub(crate) fn is_asked_otherwise(&self, want: &Desired) -> bool {
        self.fingerprint.settings != want.settings || self.fingerprint.hosts != want.hosts
    }
}

/// A provider that may serve, with what its entry keeps of it.
pub(crate) struct Ready {
    pub(crate) serving: Serving,
    pub(crate) stats: Arc<Stats>,
    /// The component, to be kept once it serves; `None` when it is kept already.
    pub(crate) bytes: Option<Bytes>,
}

/// Asks a provider, before it serves, what never changes while it does: its limits, its rules. An error refuses the
/// provider. Calls that are busy may be made again.
pub type Ask = for<'a> fn(&'a Provider) -> Pin<Box<dyn Future<Output = Result<Facts, String>> + Send + 'a>>;

/// What one entry's preparation came to.
pub(crate) enum Outcome {
    /// Nothing changed: the provider that serves already.
    Same(Serving),
    New(Ready),
}

impl Outcome {
    pub(crate) fn provider(&self) -> &Arc<Provider> {
        match self {
            Outcome::Same(serving) | Outcome::New(Ready { serving, .. }) => &serving.provider,
        }
    }
}

/// Names whose component is being loaded, for the status.
#[derive(Clone, Default)]
pub(crate) struct Loading(Arc<Mutex<BTreeMap<String, u32>>>);

impl Loading {
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    fn enter(&self, name: &str) -> LoadingName {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_insert(0) += 1;
        LoadingName { all: self.clone(), name: name.to_owned() }
    }
}

struct LoadingName {
    all: Loading,
    name: String,
}

impl Drop for LoadingName {
    fn drop(&mut self) {
        let mut names = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = names.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                names.remove(&self.name);
            }
        }
    }
}

pub(crate) type Loaded = Result<Arc<Plugin>, Arc<LoadError>>;

/// What one preparation loads, by digest and kind. Whoever comes second waits for the first.
#[derive(Default)]
pub(crate) struct LoadedOnce(Mutex<BTreeMap<(String, &'static str), LoadedCell>>);

type LoadedCell = Arc<OnceCell<Loaded>>;

impl LoadedOnce {
    /// Notes what is loaded already.
    pub(crate) fn insert(&self, digest: &str, kind: &'static str, plugin: &Arc<Plugin>) {
        let _ = self.cell(digest, kind).set(Ok(Arc::clone(plugin)));
    }

    fn cell(&self, digest: &str, kind: &'static str) -> LoadedCell {
        let mut cells = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(cells.entry((digest.to_owned(), kind)).or_default())
    }
}

/// What the entries of one preparation share.
pub(crate) struct Work<'a> {
    pub(crate) host: &'a Host,
    pub(crate) kinds: &'static [Kind],
    pub(crate) reader: &'a Reader,
    pub(crate) loading: &'a Loading,
    pub(crate) ask: Option<Ask>,
    pub(crate) loaded: LoadedOnce,
    pub(crate) pins: &'a PluginPins,
}

impl Work<'_> {
    /// Prepares an entry, which had `old` when it served before.
    pub(crate) async fn prepare(
        &self,
        want: &Desired,
        old: Option<&Serving>,
        stats: Arc<Stats>,
    ) -> Result<Outcome, RegistryError> {
        let kind = self.kind(want)?;
        let (bytes, digest, plugin) = self.load_settled(want, kind).await?;
        self.check_pin(want, kind, &digest, &plugin).await?;
        self.bind(want, kind, Component { bytes: Some(bytes), digest, plugin }, old, stats).await
    }

    /// Prepares an entry of the last good component that was read from its file; `None` when there is none or it does
    /// not serve either.
    pub(crate) async fn prepare_last_good(
        &self,
        want: &Desired,
        old: Option<&Serving>,
        stats: Arc<Stats>,
    ) -> Option<Outcome> {
        let kind = self.kind(want).ok()?;
        let component = match old {
            Some(old) if old.file == want.file && old.fingerprint.kind == kind.name => Component {
                bytes: None,
                digest: old.fingerprint.digest.clone(),
                plugin: Arc::clone(old.provider.plugin()),
            },
            Some(_) => return None,
            None => self.load_kept(want, kind).await?,
        };
        let pinned_to = self.pins.get(&want.name).and_then(|pin| pin.plugin.as_ref());
        if pinned_to.is_some_and(|name| *name != component.plugin.description().name) {
            return None;
        }
        self.bind(want, kind, component, old, stats).await.ok()
    }

    /// Loads the bytes that were kept of an entry's file.
    async fn load_kept(&self, want: &Desired, kind: &Kind) -> Option<Component> {
        let kept = self.host.inner.kept.clone()?;
        let (key, bytes_max) = (kept::key(&want.name, &want.file), self.host.options().plugin_bytes_max);
        let read = tokio::task::spawn_blocking(move || kept.get(&key, bytes_max));
        let bytes: Bytes = read.await.ok()??.into();
        let digest = blake3::hash(&bytes).to_hex().to_string();
        Some(Component { bytes: None, plugin: self.load(want, kind, &bytes, &digest).await.ok()?, digest })
    }

    /// Refuses another plugin than the one that the entry is pinned to.
    async fn check_pin(
        &self,
        want: &Desired,
        kind: &Kind,
        digest: &str,
        plugin: &Plugin,
    ) -> Result<(), RegistryError> {
        let Some(pin) = self.pins.get(&want.name) else { return Ok(()) };
        let old = match &pin.plugin {
            Some(old) => old.clone(),
            None => match self.load_kept(want, kind).await {
                Some(kept) if kept.digest != digest => kept.plugin.description().name.clone(),
                _ => return Ok(()),
            },
        };
        let new = plugin.description().name.clone();
        if old == new { Ok(()) } else { Err(RegistryError::Pinned { old, new, why: pin.why.clone() }) }
    }

    fn kind(&self, want: &Desired) -> Result<&'static Kind, RegistryError> {
        self.kinds.iter().find(|kind| kind.name == want.kind).ok_or_else(|| {
            let accepted = self.kinds.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", ");
            RegistryError::UnknownKind { name: want.name.clone(), kind: want.kind, accepted }
        })
    }

    async fn bind(
        &self,
        want: &Desired,
        kind: &Kind,
        component: Component,
        old: Option<&Serving>,
        stats: Arc<Stats>,
    ) -> Result<Outcome, RegistryError> {
        let fingerprint = Fingerprint {
            digest: component.digest,
            kind: kind.name,
            settings: want.settings.clone(),
            hosts: want.hosts.clone(),
            limits: want.limits.clone(),
        };
        let file = want.file.clone();
        if let Some(old) = old.filter(|old| old.fingerprint == fingerprint) {
            return Ok(Outcome::Same(Serving { provider: Arc::clone(&old.provider), fingerprint, file }));
        }
        let binding = Binding {
            name: want.name.clone(),
            settings: want.settings.clone(),
            hosts: want.hosts.clone(),
            limits: want.limits.clone(),
        };
        let plugin = component.plugin;
        let provider =
            Provider::bind_with(self.host, Arc::clone(&plugin), binding.clone(), Arc::clone(&stats))?;
        if let Some(ask) = self.ask {
            // Through a provider of its own: a preparation that is refused must not show in the entry's figures.
            let asked = Provider::bind(self.host, plugin, binding)?;
            let refused = |reason| RegistryError::Refused { name: want.name.clone(), reason };
            provider.learn(ask(&asked).await.map_err(refused)?);
        }
        let serving = Serving { provider: Arc::new(provider), fingerprint, file };
        Ok(Outcome::New(Ready { serving, stats, bytes: component.bytes }))
    }

    /// Loads a file, again when it may have been half-written and has changed since.
    async fn load_settled(
        &self,
        want: &Desired,
        kind: &Kind,
    ) -> Result<(Bytes, String, Arc<Plugin>), RegistryError> {
        let file = file_name(&want.file);
        let file_error = |source| RegistryError::File { file: file.clone(), source };
        let (mut bytes, mut digest) = self.read(want).await.map_err(file_error)?;
        let mut tries = 0;
        loop {
            let source = match self.load(want, kind, &bytes, &digest).await {
                Ok(plugin) => return Ok((bytes, digest, plugin)),
                Err(source) => source,
            };
            tries += 1;
            if source.may_be_unfinished() && tries <= SETTLE_TRIES {
                tokio::time::sleep(SETTLE_TIME).await;
                let again = self.read(want).await.map_err(file_error)?;
                if again.1 != digest {
                    (bytes, digest) = again;
                    continue;
                }
            }
            return Err(RegistryError::Load { file, source });
        }
    }

    async fn load(&self, want: &Desired, kind: &Kind, bytes: &Bytes, digest: &str) -> Loaded {
        let load = || async {
            let _loading = self.loading.enter(&want.name);
            self.host.load(bytes.clone(), std::slice::from_ref(kind)).await.map_err(Arc::new)
        };
        self.loaded.cell(digest, kind.name).get_or_init(load).await.clone()
    }

    async fn read(&self, want: &Desired) -> io::Result<(Bytes, String)> {
        let read = self.reader.read(&want.file, self.host.options().plugin_bytes_max).await;
        let bytes = read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => absent(&want.file),
            _ => error,
        })?;
        let digest = blake3::hash(&bytes).to_hex().to_string();
        Ok((bytes.into(), digest))
    }
}

/// A component that was read and loaded.
struct Component {
    /// `None` when they are kept already.
    bytes: Option<Bytes>,
    digest: String,
    plugin: Arc<Plugin>,
}

/// The error of a file that is not there, with what its folder has.
fn absent(file: &Path) -> io::Error {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut there: Vec<String> =
        plugins_in(folder).iter().map(|path| file_name(path).escape_debug().to_string()).collect();
    there.sort();
    there.truncate(NAMED_MAX);
    let has = if there.is_empty() { "no plugins".to_owned() } else { there.join(", ") };
    let text = format!("no such file; {} has {has}", folder.display());
    io::Error::new(io::ErrorKind::NotFound, text)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
