//! The engine: its settings and its pool.
//!
//! The pool has a place for every call that the global semaphore lets in, and a few more for plugins that describe
//! themselves: a call that holds a permit never waits for memory. Where address space is limited (containers,
//! `ulimit -v`) the pool does not fit; then memory is allocated on demand, which is slower and otherwise the same.
//! Not here: its clock (see `clock`), and what a plugin may do while it runs (see `state`).

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::state::{CORE_INSTANCES_MAX, MEMORIES_MAX, TABLES_MAX};
use crate::text::error_text;

/// Guest stack. The async stack below adds as much again for host functions, which is safe in debug builds too.
const GUEST_STACK_BYTES: usize = 512 << 10;
const ASYNC_STACK_BYTES: usize = 1 << 20;

/// Where instances' memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// From the pool: fast.
    Pooling,
    /// From the system, for each call.
    OnDemand,
}

/// What the pool holds.
pub(crate) struct PoolSize {
    /// Instances at once.
    pub(crate) places: u32,
    /// Of each memory, in bytes.
    pub(crate) memory_bytes_max: usize,
    /// Of each memory, kept resident between calls, in bytes.
    pub(crate) keep_resident_bytes: usize,
}

/// Builds an engine with a pool, or without one where the address space does not allow it.
///
/// # Errors
/// A text, when the machine cannot run the engine at all.
pub(crate) fn build(pool: Option<PoolSize>) -> Result<(Engine, Allocation), String> {
    if let Some(size) = pool {
        let places = size.places;
        let mut config = config_for_code(Allocation::Pooling);
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(places)
            .total_core_instances(places * CORE_INSTANCES_MAX)
            .total_memories(places * MEMORIES_MAX)
            .total_tables(places * TABLES_MAX)
            .total_stacks(places)
            .max_core_instances_per_component(CORE_INSTANCES_MAX)
            .max_memories_per_component(MEMORIES_MAX)
            .max_tables_per_component(TABLES_MAX)
            .max_memory_size(size.memory_bytes_max)
            .max_unused_warm_slots(places)
            .linear_memory_keep_resident(size.keep_resident_bytes)
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
    }
    let engine = Engine::new(&config_for_code(Allocation::OnDemand)).map_err(|e| error_text(&e))?;
    Ok((engine, Allocation::OnDemand))
}

/// Everything that compiled code depends on. The pool is not part of it: code does not know where its memory is from.
pub(crate) fn config_for_code(allocation: Allocation) -> Config {
    let mut config = config_common();
    if allocation == Allocation::OnDemand {
        // Every memory would reserve 4 GiB of address space by default, which is what may be missing here.
        config
            .allocation_strategy(InstanceAllocationStrategy::OnDemand)
            .memory_reservation(0)
            .memory_reservation_for_growth(1 << 20)
            .memory_guard_size(64 << 10)
            .memory_may_move(true);
    }
    config
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
