//! The writes during an export, which make the export consistent with one moment.
//!
//! An export reserves the capture, lets a change begin it, reads the tree, and takes what was captured. The writer adds
//! each batch as a whole, before the engine has it: what the reader saw of a batch is in the capture. Invariants: one
//! export at a time. The capture ends with its [`Reserved`], however the export ends, so nothing that refuses a change
//! (a full disk, a full queue, a stop) can keep it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sled::IVec;

use crate::engine::sled::parts::Writes;

/// Bytes of captured keys and values; an export during which more is written fails.
const CAPTURE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Shared by the writer and the exports.
#[derive(Clone, Default)]
pub(crate) struct Captures(Arc<Mutex<State>>);

#[derive(Default)]
enum State {
    #[default]
    Free,
    Reserved,
    Capturing(Capture),
}

#[derive(Default)]
pub(crate) struct Capture {
    writes: Writes,
    bytes: usize,
}

/// The only export. Dropping it ends the capture.
pub(crate) struct Reserved(Captures);

impl Captures {
    /// `None` while another export runs.
    pub(crate) fn reserve(&self) -> Option<Reserved> {
        let mut state = self.lock();
        matches!(*state, State::Free).then(|| {
            *state = State::Reserved;
            Reserved(self.clone())
        })
    }

    /// Captures the batch that is being gathered, and later ones. Without an export nothing is captured. One that an
    /// earlier export left in the queue begins the next one early, which captures more than is needed.
    pub(crate) fn begin(&self) {
        let mut state = self.lock();
        if matches!(*state, State::Reserved) {
            *state = State::Capturing(Capture::default());
        }
    }

    /// Adds a batch.
    pub(crate) fn add(&self, batch: &Writes) {
        if let State::Capturing(capture) = &mut *self.lock() {
            for (key, value) in batch {
                capture.add(key, value.as_ref());
            }
        }
    }

    /// No code under the lock can panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reserved {
    /// The last write of each key, `None` for a removal. Returns nothing when there were too many, or when the capture
    /// was never begun.
    pub(crate) fn take(self) -> Option<impl Iterator<Item = (IVec, Option<IVec>)>> {
        match std::mem::take(&mut *self.0.lock()) {
            State::Capturing(capture) if !capture.is_too_long() => Some(capture.writes.into_iter()),
            _ => None,
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        *self.0.lock() = State::Free;
    }
}

impl Capture {
    fn add(&mut self, key: &IVec, value: Option<&IVec>) {
        if self.is_too_long() {
            return;
        }
        self.bytes += key.len() + value.map_or(0, |value| value.len());
        self.writes.insert(key.clone(), value.cloned());
        if self.is_too_long() {
            self.writes = Writes::new();
        }
    }

    fn is_too_long(&self) -> bool {
        self.bytes > CAPTURE_BYTES_MAX
    }
}
