//! What several operations of chat do inside a change of sled.

pub(crate) mod facts;
pub(crate) mod message;
pub(crate) mod room;

use crate::StoreError;
use crate::engine::sled::Sled;

impl Sled {
    pub(crate) async fn chat_barrier(&self) -> Result<(), StoreError> {
        self.change(|_| Ok(())).await
    }
}
