//! The operations of this folder on sled, where one gateway is alone.

use std::time::Duration;

use crate::StoreError;
use crate::engine::sled::Sled;
use crate::operator::node::{Node, NodeFacts, Task};

impl Sled {
    #[allow(clippy::unused_async, reason = "the other engine waits")]
    pub(crate) async fn node_seen(&self, facts: NodeFacts, _: Duration) -> Result<Vec<Node>, StoreError> {
        Ok(vec![Node { slot: 0, facts, up: Duration::ZERO, silent: Duration::ZERO, own: true }])
    }

    #[allow(clippy::unused_async, reason = "the other engine waits")]
    pub(crate) async fn node_leave(&self) -> Result<(), StoreError> {
        Ok(())
    }

    #[allow(clippy::unused_async, reason = "the other engine waits")]
    pub(crate) async fn leases_renew(&self, _: Duration) -> Result<Vec<Task>, StoreError> {
        Ok(Task::ALL.to_vec())
    }
}
