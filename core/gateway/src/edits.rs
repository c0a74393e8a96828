//! Edits that all gateways over one store make: of the configuration at a console, and of components.
//!
//! Whoever makes an edit here first has it served here and then enters it in the store; the other gateways make it in
//! their own files (`operator::follow`) and remember its number in the data folder. Invariants: an edit is entered only
//! when this gateway had made all others before it, so no edit is undone unseen; one that cannot be entered is taken
//! back here. Keys of a machine ([`chelseru_config::is_of_machine`]) are in no edit, and files edited by hand are
//! nobody else's.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chelseru_domain::bus::{Bus, Note};
use chelseru_domain::clock::Clock;
use chelseru_domain::operator::house::HouseError;
use chelseru_domain::secret::{KeyUse, MasterKey, SubKey};
use chelseru_store::{Edit, EditDraft, EditOf, Store};
use serde::Serialize;
use tokio::sync::Notify;

use crate::private;

/// In the data folder: the number of the last edit that was made here.
const FILE: &str = "edits";

/// The edits of this gateway.
pub(crate) struct Edits {
    seal: SubKey,
    file: PathBuf,
    state: Mutex<EditStatus>,
    /// `None` where nobody shares the store.
    others: Option<Others>,
    /// Another gateway entered one.
    pub(crate) entered: Arc<Notify>,
}

/// How the other gateways learn of an edit.
pub(crate) struct Others {
    pub(crate) store: Store,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The name of this gateway, for operators.
    pub(crate) name: String,
}

/// The part of `status/` about shared edits.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct EditStatus {
    /// The last edit that was made here; `None` before the first look.
    pub(crate) last: Option<u64>,
    /// Why the one after it is not made here.
    pub(crate) refused: Option<String>,
}

/// The edits before one that is about to be made here: [`Edits::enter`] it once it serves.
pub(crate) struct Ticket {
    /// `None` for an edit that is given to nobody.
    after: Option<u64>,
}

impl Ticket {
    /// For an edit that concerns nobody else, or came from somebody else.
    pub(crate) fn here() -> Ticket {
        Ticket { after: None }
    }
}

impl Edits {
    pub(crate) fn open(data_dir: &Path, key: &MasterKey, others: Option<Others>) -> Edits {
        let file = data_dir.join(FILE);
        let last = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        let state = Mutex::new(EditStatus { last, refused: None });
        Edits { seal: key.derive(KeyUse::EditSeal), file, state, others, entered: Arc::default() }
    }

    pub(crate) fn status(&self) -> EditStatus {
        self.state().clone()
    }

    /// Notes why the next edit is not made here; false when that was known.
    pub(crate) fn refused(&self, reason: &str) -> bool {
        let before = self.state().refused.replace(reason.to_owned());
        before.as_deref() != Some(reason)
    }

    /// Notes that an edit was made here.
    ///
    /// Errors: a text that names the file.
    pub(crate) fn made(&self, number: u64) -> Result<(), String> {
        *self.state() = EditStatus { last: Some(number), refused: None };
        self.write(number).map_err(|error| format!("{}: {error}", self.file.display()))
    }

    fn write(&self, number: u64) -> io::Result<()> {
        let part = self.file.with_extension("part");
        let _ = std::fs::remove_file(&part);
        let mut out = private::make_file(&part)?;
        out.write_all(number.to_string().as_bytes())?;
        out.sync_all()?;
        std::fs::rename(&part, &self.file)?;
        private::sync_dir(self.file.parent().unwrap_or(Path::new(".")))
    }

    fn state(&self) -> MutexGuard<'_, EditStatus> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an edit. Every edit so far must have been made here.
    ///
    /// Errors: [`HouseError::Stale`] when one was not, [`HouseError::Failed`] while the store is away.
    pub(crate) async fn draw(&self) -> Result<Ticket, HouseError> {
        let Some(others) = &self.others else { return Ok(Ticket::here()) };
        let last = others.store.edit_last().await.map_err(failed)?;
        if self.state().last != Some(last) {
            self.entered.notify_one();
            return Err(HouseError::Stale);
        }
        Ok(Ticket { after: Some(last) })
    }

    /// Gives an edit, which serves here, to the other gateways.
    ///
    /// Errors: as [`Edits::draw`]; it must be taken back then.
    pub(crate) async fn enter(&self, ticket: Ticket, of: EditOf, body: &[u8]) -> Result<(), HouseError> {
        let (Some(others), Some(after)) = (&self.others, ticket.after) else { return Ok(()) };
        let sealed = self.seal.seal(&bound(&of), body).ok_or_else(|| failed("no randomness"))?;
        let draft = EditDraft { of, sealed, made_at: others.name.clone(), now: others.clock.now() };
        let entered = others.store.edit_enter(after, draft).await;
        let number = entered.map_err(failed)?.ok_or(HouseError::Stale)?;
        if let Err(error) = self.made(number) {
            tracing::warn!(%error, "the number of an edit could not be written; it is made once more at a start");
        }
        others.bus.send(Note::Edited);
        Ok(())
    }

    /// What an edit of another gateway says; `None` when it was sealed with another key.
    pub(crate) fn unseal(&self, edit: &Edit) -> Option<Vec<u8>> {
        self.seal.unseal(&bound(&edit.of), &edit.sealed)
    }
}

fn failed(error: impl ToString) -> HouseError {
    HouseError::Failed(error.to_string())
}

/// What an edit's bytes are bound to when they are sealed.
fn bound(of: &EditOf) -> Vec<u8> {
    match of {
        EditOf::Config => b"config".to_vec(),
        EditOf::Component(name) => format!("component {name}").into_bytes(),
    }
}
