//! Engines: the databases behind the store's operations.
//!
//! To add an engine: a variant of [`Engine`], an arm in [`on_engine`], a folder beside `sled` for shared parts
//! (connections, transactions), and one file with statements in each feature's folder. The compiler then names every
//! operation the new engine lacks. Nothing else changes: an operation's contract is in its feature's `mod.rs` and
//! holds for every engine.
//!
//! Not here: opening (see [`Store::open`](crate::Store::open)), and statements.

pub(crate) mod moving;
pub(crate) mod postgres;
pub(crate) mod sled;

use self::postgres::Postgres;
use self::sled::Sled;
use crate::StoreError;

/// The database of a store.
pub(crate) enum Engine {
    Sled(Sled),
    Postgres(Postgres),
}

/// Makes an `async fn` return a boxed future. Every public operation of the store has it: an unboxed future is compiled
/// in the crates that await it, with the statements of all engines, once for each of them.
pub(crate) use async_recursion::async_recursion as boxed;

/// Receives the result of a change, on any thread. Boxed for the same reason.
pub(crate) type Then<T> = Box<dyn FnOnce(Result<T, StoreError>) + Send>;

/// Calls one operation on the engine of the store.
///
/// A match instead of a trait object, because engines may await different things. Sled answers a `read` at once,
/// because its working set is cached; an engine that asks a server awaits it.
macro_rules! on_engine {
    ($store:ident, read $operation:ident($($argument:expr),* $(,)?)) => {
        match &*$store.engine {
            Engine::Sled(engine) => engine.$operation($($argument),*),
            Engine::Postgres(engine) => engine.$operation($($argument),*).await,
        }
    };
    ($store:ident, $operation:ident($($argument:expr),* $(,)?)) => {
        match &*$store.engine {
            Engine::Sled(engine) => engine.$operation($($argument),*),
            Engine::Postgres(engine) => engine.$operation($($argument),*),
        }
    };
    ($store:ident, $operation:ident($($argument:expr),* $(,)?).await) => {
        match &*$store.engine {
            Engine::Sled(engine) => engine.$operation($($argument),*).await,
            Engine::Postgres(engine) => engine.$operation($($argument),*).await,
        }
    };
}

pub(crate) use on_engine;

#[cfg(test)]
impl crate::Store {
    /// The engine, for tests that bypass the store's operations.
    pub(crate) fn sled(&self) -> &Sled {
        match &*self.engine {
            Engine::Sled(sled) => sled,
            Engine::Postgres(_) => panic!("the store is on PostgreSQL"),
        }
    }

    /// Likewise.
    pub(crate) fn postgres(&self) -> &Postgres {
        match &*self.engine {
            Engine::Postgres(postgres) => postgres,
            Engine::Sled(_) => panic!("the store is on sled"),
        }
    }
}
