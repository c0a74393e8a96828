//! What one call owns while it runs, and where its limits are counted.
//!
//! A [`CallState`] lives and dies with its store: one call, or the self-description of a plugin that is being loaded
//! (then there is no provider, and settings and network are denied). What a call used is added to its provider's
//! figures when the state is dropped, whichever way the call ended. Not here: the imports (see `imports`), entering
//! and leaving a call, and the wall clock (see `provider`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::aside::Habit;
use crate::egress::Transport;
use crate::grants::Grants;
use crate::limits::{Exceeded, Limits};
use crate::meter::{Meter, Turn};
use crate::output::{GuestOutput, GuestStream, Stream};
use crate::stats::{HttpUse, Stats};
use crate::text::Border;

/// Random bytes that a guest may ask for at once.
const RANDOM_BYTES_MAX: u64 = 64 << 10;
/// Bytes of a table's element, as counted against the memory limit.
const TABLE_ELEMENT_BYTES: usize = 8;
/// Core instances of one component. A Rust guest with its adapters has a few; one of componentize-py, whose libraries
/// are linked when it is made, has more than 12. Memories and tables have their own bounds, and so has what an instance
/// takes beside them (see `footprint`).
pub(crate) const CORE_INSTANCES_MAX: u32 = 128;
/// Memories and tables of one component: several times what a Rust guest has.
pub(crate) const MEMORIES_MAX: u32 = 2;
pub(crate) const TABLES_MAX: u32 = 6;

/// What a provider gives its calls.
pub(crate) struct Grant {
    pub(crate) name: Arc<str>,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) border: Arc<Border>,
    pub(crate) hosts: Arc<Grants>,
    pub(crate) limits: Limits,
    /// The period of the host's clock.
    pub(crate) tick: Duration,
    pub(crate) stats: Arc<Stats>,
    pub(crate) habit: Habit,
}

/// Whether the function that is called may use the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Granted,
    /// With the reason that the plugin receives.
    Denied(&'static str),
}

/// The data of a store.
pub(crate) struct CallState {
    pub(crate) grant: Arc<Grant>,
    pub(crate) transport: Option<Arc<dyn Transport>>,
    pub(crate) network: Network,
    pub(crate) deadline: Instant,
    pub(crate) http: HttpUse,
    meter: Arc<Meter>,
    wasi: Option<WasiCtx>,
    table: ResourceTable,
    memory_bytes: usize,
}

impl CallState {
    /// Makes a store for one call, with every limit set.
    pub(crate) fn store(
        engine: &Engine,
        grant: &Arc<Grant>,
        transport: Option<Arc<dyn Transport>>,
        network: Network,
    ) -> Store<CallState> {
        let limits = &grant.limits;
        let (output_bytes_max, handles_max) = (limits.output_bytes_max, limits.handles_max);
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles_max);
        let state = CallState {
            transport,
            network,
            deadline: Instant::now() + limits.wall_time_max,
            http: HttpUse::default(),
            meter: Arc::new(Meter::new(limits.cpu_time_max, grant.tick)),
            wasi: None,
            table,
            memory_bytes: 0,
            grant: Arc::clone(grant),
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| state);
        store.set_hostcall_fuel(output_bytes_max);
        store.set_max_component_handles(handles_max);
        // Never set again: a deadline that is moved by host calls is one that a guest can outrun.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| store.data().interrupted());
        store
    }

    /// Counts the CPU of the call; poll the call through it.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Called when the host's clock has ticked while the guest was running or waiting.
    fn interrupted(&self) -> wasmtime::Result<UpdateDeadline> {
        match self.meter.interrupted() {
            Turn::GoOn => Ok(UpdateDeadline::Continue(1)),
            Turn::Yield => Ok(UpdateDeadline::Yield(1)),
            Turn::End => Err(Exceeded::Cpu.into()),
        }
    }

    fn memory_add(&mut self, current: usize, desired: usize) -> wasmtime::Result<bool> {
        let total = self.memory_bytes.saturating_sub(current).saturating_add(desired);
        if total > self.grant.limits.memory_bytes_max {
            // A trap, and not a refusal that the guest sees: most allocators abort then anyway, and this way the
            // error says what happened.
            return Err(Exceeded::Memory.into());
        }
        self.memory_bytes = total;
        Ok(true)
    }
}

impl Drop for CallState {
    fn drop(&mut self) {
        let used = self.meter.used();
        self.grant.stats.call_used(used, self.memory_bytes, &self.http);
        self.grant.habit.ended(used);
    }
}

impl ResourceLimiter for CallState {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.memory_add(current, desired)
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Exceeded::Memory.into())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        self.memory_add(
            current.saturating_mul(TABLE_ELEMENT_BYTES),
            desired.saturating_mul(TABLE_ELEMENT_BYTES),
        )
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        Err(Exceeded::Memory.into())
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX as usize
    }

    fn tables(&self) -> usize {
        TABLES_MAX as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_MAX as usize
    }
}

impl WasiView for CallState {
    /// Built when a guest first needs it: most calls never do, and it costs more than the rest of a call's state.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let CallState { grant, wasi, table, .. } = self;
        let ctx = wasi.get_or_insert_with(|| {
            let border = Arc::clone(&grant.border);
            let output = GuestOutput::new(Arc::clone(&grant.name), border, grant.limits.log_bytes_max);
            let stream = |stream| GuestStream { output: Arc::clone(&output), stream };
            WasiCtx::builder()
                .stdout(stream(Stream::Out))
                .stderr(stream(Stream::Err))
                .max_random_size(RANDOM_BYTES_MAX)
                .allow_tcp(false)
                .allow_udp(false)
                .allow_ip_name_lookup(false)
                .build()
        });
        WasiCtxView { ctx, table }
    }
}
