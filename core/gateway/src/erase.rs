//! Erasing the traces of closed accounts, in the background.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::erasure::Eraser;
use chelseru_store::Task;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// From a failed run to the next one.
const RETRY: Duration = Duration::from_secs(30);
/// From one look at the erasures of other gateways to the next.
const LOOK: Duration = Duration::from_secs(10);

/// Finishes erasures until the gateway stops: those that a stop interrupted first. An interrupted run is repeated at
/// the next start.
pub(crate) async fn erase_all(app: Arc<App>, stop: CancellationToken) {
    let begun = app.live().identity.erasures();
    let work = app.nodes.while_held(Task::Erasure, || async {
        let eraser = Eraser::new(app.store.clone(), app.chat.clone());
        loop {
            match eraser.run(app.files.as_ref()).await {
                // There may be more than one run takes.
                Ok(finished) if finished > 0 => {}
                Ok(_) if app.nodes.is_shared() => {
                    // Another gateway may have begun one.
                    let _ = tokio::time::timeout(LOOK, begun.notified()).await;
                }
                Ok(_) => begun.notified().await,
                Err(error) => {
                    tracing::warn!(%error, "erasures failed and are tried again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    });
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}
