//! The operations of this folder on sled, where one gateway is alone.

use crate::StoreError;
use crate::engine::sled::Sled;
use crate::operator::edit::{Edit, EditDraft};

impl Sled {
    #[allow(clippy::unused_async, reason = "the other engine waits")]
    pub(crate) async fn edit_enter(&self, after: u64, _: EditDraft) -> Result<Option<u64>, StoreError> {
        Ok(Some(after))
    }

    #[allow(clippy::unused_self, reason = "the other engine has edits")]
    pub(crate) fn edit_last(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    #[allow(clippy::unused_self, reason = "the other engine has edits")]
    pub(crate) fn edit_after(&self, _: u64) -> Result<Option<Edit>, StoreError> {
        Ok(None)
    }
}
