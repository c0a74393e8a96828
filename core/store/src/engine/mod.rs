//! Engines: the databases that the store's operations can stand on.
//!
//! A second engine is added here: a variant of [`Engine`], an arm in [`on_engine`], a folder beside `sled` for what its
//! features share (connections, transactions), and one file in each feature's folder with its statements. The compiler
//! then names every operation that the new engine lacks. Nothing else changes: the contract of an operation stands in
//! its feature's `mod.rs` and holds for every engine.
//!
//! Not here: opening (see [`Store::open`](crate::Store::open)) and any statement.

pub(crate) mod sled;

use self::sled::Sled;

/// The database under a store.
pub(crate) enum Engine {
    Sled(Sled),
}

/// Calls one operation on whichever engine the store has.
///
/// A match and no trait object: futures stay unboxed, and engines may differ in what they await. A `read` is answered
/// at once by sled, whose working set is cached, and awaited by an engine that asks a server.
macro_rules! on_engine {
    ($store:ident, read $operation:ident($($argument:expr),* $(,)?)) => {
        match &*$store.engine {
            Engine::Sled(engine) => engine.$operation($($argument),*),
        }
    };
    ($store:ident, $operation:ident($($argument:expr),* $(,)?)) => {
        match &*$store.engine {
            Engine::Sled(engine) => engine.$operation($($argument),*),
        }
    };
    ($store:ident, $operation:ident($($argument:expr),* $(,)?).await) => {
        match &*$store.engine {
            Engine::Sled(engine) => engine.$operation($($argument),*).await,
        }
    };
}

pub(crate) use on_engine;

#[cfg(test)]
impl crate::Store {
    /// The engine of a test that looks behind the store's operations.
    pub(crate) fn sled(&self) -> &Sled {
        let Engine::Sled(sled) = &*self.engine;
        sled
    }
}
