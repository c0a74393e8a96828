//! The host: one engine with its pool and its clock, and the way from bytes to a plugin.
//!
//! Compiling happens on the blocking threads, two at a time, so that a reload does not stand in the way of calls.
//! The pool has a place for every call that the global semaphore lets in, and a few more for plugins that
//! describe themselves: a call that holds a permit never waits for memory.
//! Where address space is limited (containers, `ulimit -v`) the pool does not fit; then memory is allocated on
//! demand, which is slower and otherwise the same.
//! Not here: what a plugin may do while it runs (see `state`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::cache::CodeCache;
use crate::description::Description;
use crate::egress::EgressOptions;
use crate::grants::Grants;
use crate::imports;
use crate::limits::Limits;
use crate::plugin::{self, Checked, Kind, LoadError, Plugin};
use crate::state::{CORE_INSTANCES_MAX, CallState, Grant, MEMORIES_MAX, Network, TABLES_MAX};
use crate::text::{Border, error_text};
use crate::wit::exports::chelseru::provider::plugin as wit;

/// Plugins that compile or describe themselves at once.
const LOADS_MAX: u32 = 2;
/// How long a plugin may take to describe itself. Its CPU is limited as well; this bounds one that sleeps.
const DESCRIBE_TIME_MAX: Duration = Duration::from_secs(10);
/// Guest stack. The async stack below adds as much again for host functions, which is safe in debug builds too.
const GUEST_STACK_BYTES: usize = 512 << 10;
const ASYNC_STACK_BYTES: usize = 1 << 20;

/// How a host is built. Every field has a default that suits a gateway.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Where compiled code is kept. `None` (default) compiles at every load.
    pub cache_dir: Option<PathBuf>,
    /// Calls of all plugins that run at once. Default 256; the pool holds address space for each.
    pub calls_max: u32,
    /// The most memory any plugin's limits may allow, in bytes. Default 64 MiB.
    pub memory_bytes_max: usize,
    /// The clock by which guest CPU is counted. Default 10 ms: a hundred wake-ups a second, and a plugin that loops
    /// holds its thread no longer than this at once.
    pub tick: Duration,
    /// Keep instances' memory in a pool. Default true; falls back when the address space is limited.
    pub pooling: bool,
    /// Bytes at the start of each pooled memory that stay resident between calls. Default 256 KiB: what a small
    /// plugin touches. Costs this much per place that was ever used.
    pub keep_resident_bytes: usize,
    /// The largest component that is accepted, in bytes. Default 16 MiB.
    pub plugin_bytes_max: u64,
    /// Limits of the real HTTP transport.
    pub egress: EgressOptions,
}

impl Default for HostOptions {
    fn default() -> HostOptions {
        HostOptions {
            cache_dir: None,
            calls_max: 256,
            memory_bytes_max: 64 << 20,
            tick: Duration::from_millis(10),
            pooling: true,
            keep_resident_bytes: 256 << 10,
            plugin_bytes_max: 16 << 20,
            egress: EgressOptions::default(),
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

/// Where instances' memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// From the pool: fast.
    Pooling,
    /// From the system, for each call.
    OnDemand,
}

/// Engine, linker, cache, clock and the global semaphore. Cheap to clone.
#[derive(Clone)]
pub struct Host {
    pub(crate) inner: Arc<HostInner>,
}

pub(crate) struct HostInner {
    pub(crate) engine: Engine,
    pub(crate) options: HostOptions,
    pub(crate) calls: Semaphore,
    linker: Linker<CallState>,
    loads: Semaphore,
    cache: Option<Arc<CodeCache>>,
    allocation: Allocation,
    running: AtomicU32,
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
        let (engine, allocation) = engine_build(&options)?;
        let linker = imports::linker(&engine).map_err(|e| HostError::Engine(error_text(&e)))?;
        let cache = options.cache_dir.as_deref().and_then(|dir| match CodeCache::open(&engine, dir) {
            Ok(cache) => Some(Arc::new(cache)),
            Err(error) => {
                tracing::warn!(path = %dir.display(), %error, "compiled-code cache is not used");
                None
            }
        });
        ticker_start(&engine, options.tick)?;
        Ok(Host {
            inner: Arc::new(HostInner {
                engine,
                calls: Semaphore::new(options.calls_max as usize),
                linker,
                loads: Semaphore::new(LOADS_MAX as usize),
                cache,
                allocation,
                running: AtomicU32::new(0),
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
        self.inner.running.load(Ordering::Relaxed)
    }

    /// Makes a plugin of a component's bytes: compiles it or takes its code from the cache, checks kind, version,
    /// exports and imports, and lets it describe itself, without settings or network.
    ///
    /// May be dropped half way; a compilation that began then ends in the background.
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
        let _permit = self.inner.loads.acquire().await.map_err(closed)?;

        let (host, kinds) = (self.clone(), kinds.to_vec());
        let prepare = move || {
            let digest = blake3::hash(&bytes).to_hex().to_string();
            let (component, from_cache) = host.compile(&bytes, &digest)?;
            let checked = plugin::check(&host.inner.engine, &host.inner.linker, &component, &kinds)?;
            if !from_cache && let Some(cache) = &host.inner.cache {
                cache.put(&digest, &component);
            }
            // Otherwise the first call would pay for it.
            component.initialize_copy_on_write_image().map_err(|e| LoadError::Host(error_text(&e)))?;
            Ok((checked, digest, from_cache))
        };
        let prepared = tokio::task::spawn_blocking(prepare).await;
        let (checked, digest, from_cache) =
            prepared.map_err(|_| LoadError::Host("compiling stopped".to_owned()))??;
        let description = self.describe(&checked).await?;
        Ok(Arc::new(Plugin::new(checked, description, digest, from_cache)))
    }

    fn compile(&self, bytes: &[u8], digest: &str) -> Result<(Component, bool), LoadError> {
        let engine = &self.inner.engine;
        if let Some(component) = self.inner.cache.as_ref().and_then(|cache| cache.get(engine, digest)) {
            return Ok((component, true));
        }
        // `from_binary`, because the text format is not for plugins; compiled code is refused by it as well.
        let component =
            Component::from_binary(engine, bytes).map_err(|e| LoadError::Malformed(error_text(&e)))?;
        Ok((component, false))
    }

    async fn describe(&self, checked: &Checked) -> Result<Description, LoadError> {
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
            limits,
        });
        let network = Network::Denied("there is no network while a plugin describes itself");
        let mut store = CallState::store(&self.inner.engine, &grant, None, network);
        let failed = |error: wasmtime::Error| LoadError::Describe(error_text(&error));
        let meter = store.data().meter();
        let run = async {
            let instance = checked.pre.instantiate_async(&mut store).await.map_err(failed)?;
            checked.types_check(&mut store, &instance)?;
            let describe = instance
                .get_typed_func::<(), (wit::Description,)>(&mut store, &checked.describe)
                .map_err(failed)?;
            describe.call_async(&mut store, ()).await.map_err(failed)
        };
        let mut run = pin!(run);
        let metered = std::future::poll_fn(|context| meter.poll(run.as_mut(), context));
        match tokio::time::timeout(grant.limits.wall_time_max, metered).await {
            Ok(Ok((raw,))) => Description::parse(raw).map_err(LoadError::Description),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(LoadError::Describe(format!("no answer in {} s", DESCRIBE_TIME_MAX.as_secs()))),
        }
    }
}

impl HostInner {
    /// Counts a running call until the guard is dropped.
    pub(crate) fn run(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(&self.running)
    }
}

pub(crate) struct Running<'a>(&'a AtomicU32);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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

fn engine_build(options: &HostOptions) -> Result<(Engine, Allocation), HostError> {
    let mut config = config_common();
    if options.pooling {
        let places = options.calls_max + LOADS_MAX;
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(places)
            .total_core_instances(places * CORE_INSTANCES_MAX)
            .total_memories(places * MEMORIES_MAX)
            .total_tables(places * TABLES_MAX)
            .total_stacks(places)
            .max_core_instances_per_component(CORE_INSTANCES_MAX)
            .max_memories_per_component(MEMORIES_MAX)
            .max_tables_per_component(TABLES_MAX)
            .max_memory_size(options.memory_bytes_max)
            .max_unused_warm_slots(places)
            .linear_memory_keep_resident(options.keep_resident_bytes)
            .table_keep_resident(16 << 10);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        match Engine::new(&config) {
            Ok(engine) => return Ok((engine, Allocation::Pooling)),
            Err(error) => {
                let error = error_text(&error);
                tracing::warn!(
                    error,
                    "no address space for the instance pool, allocating on demand (slower)"
                );
            }
        }
        config = config_common();
    }
    // Every memory would reserve 4 GiB of address space by default, which is what may be missing here.
    config
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_reservation(0)
        .memory_reservation_for_growth(1 << 20)
        .memory_guard_size(64 << 10)
        .memory_may_move(true);
    let engine = Engine::new(&config).map_err(|e| HostError::Engine(error_text(&e)))?;
    Ok((engine, Allocation::OnDemand))
}

fn config_common() -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .async_stack_size(ASYNC_STACK_BYTES)
        // A backtrace costs more than the call that trapped, and nobody is shown it.
        .wasm_backtrace_max_frames(None)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_memory64(false);
    config
}

/// Starts the thread that moves the engine's epoch on. It holds no strong reference and ends with the engine.
fn ticker_start(engine: &Engine, tick: Duration) -> std::io::Result<()> {
    let engine = engine.weak();
    let run = move || {
        loop {
            std::thread::sleep(tick);
            match engine.upgrade() {
                Some(engine) => engine.increment_epoch(),
                None => return,
            }
        }
    };
    std::thread::Builder::new().name("plugin-ticker".to_owned()).spawn(run).map(drop)
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
