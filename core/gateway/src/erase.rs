//! Erasing the traces of closed accounts, in the background.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::erasure::Eraser;
use tokio_util::sync::CancellationToken;

use crate::app::App;

/// From a failed run to the next one.
const RETRY: Duration = Duration::from_secs(30);

/// Finishes erasures until the gateway stops: those that a stop interrupted first. An interrupted run is repeated at
/// the next start.
pub(crate) async fn erase_all(app: Arc<App>, stop: CancellationToken) {
    let begun = app.live().identity.erasures();
    let eraser = Eraser::new(app.store.clone(), app.chat.clone());
    loop {
        let run = async {
            match eraser.run(app.files.as_ref()).await {
                // There may be more than one run takes.
                Ok(finished) => finished > 0,
                Err(error) => {
                    tracing::warn!(%error, "traces of an erased account could not be removed");
                    tokio::time::sleep(RETRY).await;
                    true
                }
            }
        };
        let more = tokio::select! {
            () = stop.cancelled() => return,
            more = run => more,
        };
        if more {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = begun.notified() => {}
        }
    }
}
