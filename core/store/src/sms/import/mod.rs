//! Messages that another program sent: an archive.
//!
//! Their ids are of the time of the import and not of their creation, so that the purge, which goes by ids, counts
//! their age from the import on. Nothing of them is sent, polled or repeated.

pub(crate) mod postgres;
pub(crate) mod sled;

use crate::engine::{Engine, boxed, on_engine};
use crate::{SmsRecord, Store, StoreError};

impl Store {
    /// Stores messages that have ended.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    #[boxed]
    pub async fn import_sms(&self, messages: Vec<SmsRecord>) -> Result<(), StoreError> {
        on_engine!(self, import_sms(messages).await)
    }
}
