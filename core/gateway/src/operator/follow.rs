//! Makes the edits of the other gateways over the store, through the same candidate as any edit.
//!
//! Edits are made in their order. One that is refused here is tried again and holds up the later ones, while the old
//! configuration serves and `status/` says so. A gateway that is new has its files from somewhere: it takes the
//! components and counts the other edits as made.

use std::sync::Arc;
use std::time::Duration;

use chelseru_config::KeyChange;
use chelseru_domain::operator::house::HouseError;
use chelseru_store::{Edit, EditOf};
use tokio_util::sync::CancellationToken;

use super::{component, house};
use crate::app::App;

/// How often the store is asked for edits whose note was lost.
const LOOK: Duration = Duration::from_secs(5);
/// Until an edit that was refused here is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// Makes the edits of other gateways until `stop` is cancelled.
pub(crate) async fn follow(app: Arc<App>, stop: CancellationToken) {
    if !app.nodes.is_shared() {
        return;
    }
    loop {
        let pause = match catch_up(&app).await {
            Ok(()) => LOOK,
            Err(reason) => {
                if app.edits.refused(&reason) {
                    tracing::warn!(%reason, "an edit of another gateway is not made here");
                }
                AGAIN
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = app.edits.entered.notified() => {}
        }
    }
}

/// Makes the edits that are not made here yet. Errors: what stands against the next one.
async fn catch_up(app: &App) -> Result<(), String> {
    let newest = app.store.edit_last().await.map_err(|error| error.to_string())?;
    // A larger number is of another database.
    let known = app.edits.status().last.filter(|known| *known <= newest);
    // Of a new gateway's files, whoever copied them knows which edits are in them.
    let skipped = if known.is_some() { 0 } else { newest };
    let mut last = known.unwrap_or(0);
    while let Some(edit) = app.store.edit_after(last).await.map_err(|error| error.to_string())? {
        let number = edit.number;
        if edit.of != EditOf::Config || number > skipped {
            make(app, edit).await?;
        }
        last = number;
        app.edits.made(last)?;
    }
    if known.is_none() {
        app.edits.made(last)?;
    }
    Ok(())
}

async fn make(app: &App, edit: Edit) -> Result<(), String> {
    let about = |reason: String| format!("edit {}, made at {}: {reason}", edit.number, edit.made_at);
    let body = app.edits.unseal(&edit).ok_or_else(|| about("it was sealed with another key".to_owned()))?;
    let done = match &edit.of {
        EditOf::Component(name) => component::put_from_another(app, name, body).await.map(drop),
        EditOf::Config => match serde_json::from_slice::<Vec<KeyChange>>(&body) {
            Ok(changes) => house::change_keys(app, &changes).await,
            Err(error) => Err(HouseError::Failed(error.to_string())),
        },
    };
    done.map_err(|error| match error {
        HouseError::Refused(problems) => about(problems.join("; ")),
        other => about(other.to_string()),
    })?;
    let Edit { number, of, made_at, .. } = edit;
    tracing::info!(number, made_at, ?of, "an edit of another gateway was made here");
    Ok(())
}
