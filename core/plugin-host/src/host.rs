//! The host: one engine, and the way from bytes to a plugin.
//!
//! Loading runs beside the calls, two plugins at a time: what an instance takes of the host is added up, the code comes
//! from the cache or from the compiler, then kind, version and imports are checked, then the plugin describes itself in
//! a bounded instance without network.
//! Not here: the engine's settings (see `engine`), compiling (see `compile`), and what a plugin may do while it runs
//! (see `state`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use crate::aside::{Aside, Call, Habit};
use crate::cache::CodeCache;
use crate::clock::Clock;
use crate::compile::{Child, CompileLimits, Compiler};
use crate::description::Description;
use crate::egress::EgressOptions;
use crate::engine::{self, Allocation, PoolSize};
use crate::footprint;
use crate::grants::Grants;
use crate::imports;
use crate::kept::Kept;
use crate::limits::Limits;
use crate::lookup::{Lookup, Lookups};
use crate::plugin::{self, Checked, Kind, LoadError, Plugin};
use crate::state::{CallState, Grant, Network};
use crate::text::{Border, error_text};
use crate::wit::exports::chelseru::provider::plugin as wit;

/// Plugins that compile or describe themselves at once.
const LOADS_MAX: u32 = 2;
/// Below the cache's folder: the last good bytes of each entry.
const KEPT_DIR: &str = "kept";
/// How long a plugin may take to describe itself. Its CPU is limited as well; this bounds one that sleeps.
const DESCRIBE_TIME_MAX: Duration = Duration::from_secs(10);

/// How a host is built. Every field has a default that suits a gateway.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Where compiled code and the last good bytes of each entry are kept. `None` (default) keeps nothing.
    pub cache_dir: Option<PathBuf>,
    /// Bytes of compiled code that are kept; what was used longest ago goes first. Default 1 GiB.
    pub cache_bytes_max: u64,
    /// Where components are compiled. Default: in this process.
    pub compiler: Compiler,
    /// What a child that compiles may use.
    pub compile_limits: CompileLimits,
    /// Calls of all plugins that run at once. Default 256; the pool holds address space for each.
    pub calls_max: u32,
    /// The most memory any plugin's limits may allow, in bytes. Default 64 MiB.
    pub memory_bytes_max: usize,
    /// The clock by which guest CPU is counted. Default 10 ms: a hundred wake-ups a second, and a plugin that loops
    /// holds a thread of its caller's runtime no longer than this. While calls compute for long, the clock is faster.
    pub tick: Duration,
    /// Keep instances' memory in a pool. Default true; falls back when the address space is limited.
    pub pooling: bool,
    /// Bytes at the start of each pooled memory that stay resident between calls, where a call touched them. Default
    /// 1 MiB: giving pages back and taking them again disturbs the other cores, too. Costs this much at most per place
    /// that was ever used.
    pub keep_resident_bytes: usize,
    /// The largest component that is accepted, in bytes. Default 16 MiB.
    pub plugin_bytes_max: u64,
    /// Limits of the real HTTP transport.
    pub egress: EgressOptions,
    /// How its names are looked up. Default: by the system.
    pub lookup: Lookup,
}

impl Default for HostOptions {
    fn default() -> HostOptions {
        HostOptions {
            cache_dir: None,
            cache_bytes_max: 1 << 30,
            compiler: Compiler::InProcess,
            compile_limits: CompileLimits::default(),
            calls_max: 256,
            memory_bytes_max: 64 << 20,
            tick: Duration::from_millis(10),
            pooling: true,
            keep_resident_bytes: 1 << 20,
            plugin_bytes_max: 16 << 20,
            egress: EgressOptions::default(),
            lookup: Lookup::default(),
        }
    }
}

/// Why there is no host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// An option is out of its range.
    #[error("option {option} {reason}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its range.
        reason: &'static str,
    },
    /// The engine does not run on this machine.
    #[error("engine: {0}")]
    Engine(String),
    /// The clock's thread could not be started.
    #[error("ticker thread: {0}")]
    Ticker(#[from] std::io::Error),
}

/// Engine, linker, cache, clock and the global semaphore. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    pub(crate) inner: Arc<HostInner>,
}

pub(crate) struct HostInner {
    pub(crate) engine: Engine,
    pub(crate) options: HostOptions,
    pub(crate) calls: Arc<Semaphore>,
    linker: Linker<CallState>,
    loads: Arc<Semaphore>,
    pub(crate) aside: Aside,
    pub(crate) lookups: Arc<Lookups>,
    cache: Option<Arc<CodeCache>>,
    pub(crate) kept: Option<Kept>,
    allocation: Allocation,
    /// Calls may come from now on, beside which a compilation steps back.
    pub(crate) serves: AtomicBool,
}

impl Host {
    /// Builds the engine and starts its clock, which ends with the last clone of the host and its plugins.
    ///
    /// A cache directory that cannot be used safely is left out with a warning.
    ///
    /// # Errors
    /// An option is out of range, or the machine cannot run the engine at all.
    pub fn new(options: HostOptions) -> Result<Host, HostError> {
        options_check(&options)?;
        let pool = options.pooling.then_some(PoolSize {
            places: options.calls_max + LOADS_MAX,
            memory_bytes_max: options.memory_bytes_max,
            keep_resident_bytes: options.keep_resident_bytes,
        });
        let (engine, allocation) = engine::build(pool).map_err(HostError::Engine)?;
        let linker = imports::linker(&engine).map_err(|e| HostError::Engine(error_text(&e)))?;
        let cache = options.cache_dir.as_deref().and_then(|dir| {
            match CodeCache::open(&engine, dir, options.cache_bytes_max) {
                Ok(cache) => Some(Arc::new(cache)),
                Err(error) => {
                    tracing::warn!(path = %dir.display(), %error, "compiled-code cache is not used");
                    None
                }
            }
        });
        // A folder that is not safe for code is not safe for components either.
        let kept_dir = options.cache_dir.as_deref().filter(|_| cache.is_some());
        let kept = kept_dir.and_then(|dir| match Kept::open(&dir.join(KEPT_DIR)) {
            Ok(kept) => Some(kept),
            Err(error) => {
                tracing::warn!(path = %dir.display(), %error, "the last good plugins are not kept");
                None
            }
        });
        let clock = Clock::start(&engine, options.tick)?;
        Ok(Host {
            inner: Arc::new(HostInner {
                engine,
                calls: Arc::new(Semaphore::new(options.calls_max as usize)),
                linker,
                loads: Arc::new(Semaphore::new(LOADS_MAX as usize)),
                aside: Aside::new(clock),
                lookups: Lookups::new(options.lookup.clone()),
                cache,
                kept,
                allocation,
                serves: AtomicBool::new(false),
                options,
            }),
        })
    }

    /// Whether the pool is in use.
    pub fn allocation(&self) -> Allocation {
        self.inner.allocation
    }

    /// The options that the host was built with.
    pub fn options(&self) -> &HostOptions {
        &self.inner.options
    }

    /// Calls of all plugins that run now.
    pub fn calls_running(&self) -> u32 {
        let free = u32::try_from(self.inner.calls.available_permits()).unwrap_or(u32::MAX);
        self.inner.options.calls_max.saturating_sub(free)
    }

    /// Makes a plugin of a component's bytes: checks what an instance takes of the host (see `footprint`), compiles it
    /// or takes its code from the cache, checks kind, version, exports and imports, and lets it describe itself,
    /// without settings or network.
    ///
    /// May be dropped half way: a child that compiles is killed, a compilation in this process ends in the background.
    ///
    /// # Errors
    /// Says what is wrong with the component; trying the same bytes again does not help.
    pub async fn load(&self, bytes: impl Into<Bytes>, kinds: &[Kind]) -> Result<Arc<Plugin>, LoadError> {
        let bytes: Bytes = bytes.into();
        let limit = self.inner.options.plugin_bytes_max;
        let found = bytes.len() as u64;
        if found > limit {
            return Err(LoadError::FileTooLarge { found, limit });
        }
        let closed = |_| LoadError::Host("the host is closing".to_owned());
        let permit = Arc::clone(&self.inner.loads).acquire_owned().await.map_err(closed)?;

        let begun = Instant::now();
        let component = bytes.clone();
        let digest = blocking(move || {
            footprint::check(&component)?;
            Ok(blake3::hash(&component).to_hex().to_string())
        })
        .await?;
        let (component, from_cache) = match self.cached(&digest).await? {
            Some(component) => (component, true),
            None => (self.compile(bytes, &digest).await?, false),
        };
        let compile_time = if from_cache { Duration::ZERO } else { begun.elapsed() };
        let (host, kinds) = (self.clone(), kinds.to_vec());
        let checked = blocking(move || {
            let checked = plugin::check(&host.inner.engine, &host.inner.linker, &component, &kinds)?;
            // Otherwise the first call would pay for it.
            component.initialize_copy_on_write_image().map_err(|e| LoadError::Host(error_text(&e)))?;
            Ok(checked)
        })
        .await?;
        let (checked, description) = self.describe(checked, permit).await?;
        Ok(Arc::new(Plugin::new(checked, description, digest, from_cache, compile_time)))
    }

    /// The component's code from the cache. An error when the compiler gave it up before, within the same limits.
    async fn cached(&self, digest: &str) -> Result<Option<Component>, LoadError> {
        let Some(cache) = self.inner.cache.clone() else { return Ok(None) };
        let (host, digest) = (self.clone(), digest.to_owned());
        blocking(move || {
            if let Some(component) = cache.get(&host.inner.engine, &digest) {
                return Ok(Some(component));
            }
            let limits = host.inner.options.compile_limits;
            let given_up = match host.inner.options.compiler {
                Compiler::Child { .. } => cache.given_up(&digest, &limits),
                Compiler::InProcess => None,
            };
            given_up.map_or(Ok(None), |reason| Err(LoadError::CompileGivenUp(reason)))
        })
        .await
    }

    async fn compile(&self, bytes: Bytes, digest: &str) -> Result<Component, LoadError> {
        let (host, digest) = (self.clone(), digest.to_owned());
        let options = &self.inner.options;
        match &options.compiler {
            Compiler::InProcess => {
                blocking(move || {
                    // `from_binary`, because the text format is not for plugins; it refuses compiled code as well.
                    let component = Component::from_binary(&host.inner.engine, &bytes)
                        .map_err(|e| LoadError::Malformed(error_text(&e)))?;
                    if let (Some(cache), Ok(code)) = (&host.inner.cache, component.serialize()) {
                        cache.put(&digest, &code);
                    }
                    Ok(component)
                })
                .await
            }
            Compiler::Child { program, args, env } => {
                let limits = options.compile_limits;
                let allocation = self.inner.allocation;
                let beside_calls = self.inner.serves.load(Ordering::Relaxed);
                let child = Child { program, args, env, limits, allocation, beside_calls };
                let compiled = child.compile(&bytes).await;
                blocking(move || {
                    let cache = host.inner.cache.as_ref();
                    let code = compiled.inspect_err(|error| {
                        if let (Some(cache), true) = (cache, error.is_given_up()) {
                            cache.give_up(&digest, &limits, &error.to_string());
                        }
                    })?;
                    if let Some(cache) = cache {
                        cache.put(&digest, &code);
                    }
                    crate::cache::component(&host.inner.engine, &code)
                        .map_err(|e| LoadError::Host(error_text(&e)))
                })
                .await
            }
        }
    }

    /// Lets a plugin describe itself. Gives the permit back when its instance is gone.
    async fn describe(
        &self,
        checked: Checked,
        permit: OwnedSemaphorePermit,
    ) -> Result<(Checked, Description), LoadError> {
        let limits = Limits {
            memory_bytes_max: self.inner.options.memory_bytes_max,
            wall_time_max: DESCRIBE_TIME_MAX,
            output_bytes_max: 256 << 10,
            ..Limits::default()
        };
        let grant = Arc::new(Grant {
            name: "(describe)".into(),
            settings: BTreeMap::new(),
            border: Arc::new(Border::default()),
            hosts: Arc::new(Grants::default()),
            tick: self.inner.options.tick,
            stats: Arc::default(),
            habit: Habit::default(),
            limits,
        });
        let network = Network::Denied("there is no network while a plugin describes itself");
        let mut store = CallState::store(&self.inner.engine, &grant, None, network);
        let meter = Arc::clone(store.data().meter());
        let run = Box::pin(async move {
            let _permit = permit;
            let described = described(&checked, &mut store).await;
            drop(store);
            described.map(|described| (checked, described))
        });
        match tokio::time::timeout(DESCRIBE_TIME_MAX, Call::here(run, meter, &self.inner.aside)).await {
            Ok(described) => described,
            Err(_) => Err(LoadError::Describe(format!("no answer in {} s", DESCRIBE_TIME_MAX.as_secs()))),
        }
    }
}

async fn described(checked: &Checked, store: &mut Store<CallState>) -> Result<Description, LoadError> {
    let failed = |error: wasmtime::Error| LoadError::Describe(error_text(&error));
    let instance = checked.pre.instantiate_async(&mut *store).await.map_err(failed)?;
    checked.types_check(store, &instance)?;
    let describe =
        instance.get_typed_func::<(), (wit::Description,)>(&mut *store, &checked.describe).map_err(failed)?;
    let (raw,) = describe.call_async(&mut *store, ()).await.map_err(failed)?;
    Description::parse(raw).map_err(LoadError::Description)
}

/// Runs work that takes a thread for a while.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> Result<T, LoadError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(LoadError::Host("loading stopped".to_owned())))
}

fn options_check(options: &HostOptions) -> Result<(), HostError> {
    let range = |option, reason| Err(HostError::Option { option, reason });
    if options.calls_max == 0 || options.calls_max > 4096 {
        return range("calls_max", "must be from 1 to 4096");
    }
    if options.memory_bytes_max < 64 << 10 || options.memory_bytes_max > 1 << 30 {
        return range("memory_bytes_max", "must be from 64 KiB to 1 GiB");
    }
    if options.tick < Duration::from_millis(1) || options.tick > Duration::from_secs(1) {
        return range("tick", "must be from 1 ms to 1 s");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_named() {
        let named = |options: HostOptions| match Host::new(options).err() {
            Some(HostError::Option { option, .. }) => option,
            other => panic!("{other:?}"),
        };
        assert_eq!(named(HostOptions { calls_max: 0, ..HostOptions::default() }), "calls_max");
        assert_eq!(named(HostOptions { tick: Duration::ZERO, ..HostOptions::default() }), "tick");
        assert_eq!(named(HostOptions { memory_bytes_max: 0, ..HostOptions::default() }), "memory_bytes_max");
    }
}
