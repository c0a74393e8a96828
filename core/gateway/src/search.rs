//! Indexing messages for searches, in the background.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::chat::search::Indexer;
use chelseru_store::Task;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// From a failed run to the next one. Searches read what is not indexed meanwhile.
const RETRY: Duration = Duration::from_secs(60);

/// Indexes until the gateway stops.
pub(crate) async fn index_all(app: Arc<App>, stop: CancellationToken) {
    let work = app.nodes.while_held(Task::Search, || async {
        let mut indexer = Indexer::new(app.chat.clone());
        loop {
            if let Err(error) = indexer.run().await {
                tracing::warn!(%error, "messages could not be indexed for searches");
            }
            tokio::time::sleep(RETRY).await;
        }
    });
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}
