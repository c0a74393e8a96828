//! What arrives from other gateways that share the store.
//!
//! Changes of rooms have numbers of the store, so a note that is lost, doubled or late changes nothing but the time:
//! every so often the watched rooms' positions are looked up ([`look`]). Signals and presence are told by notes alone;
//! presence of a gateway that is not heard is dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::bus::{NodeId, Note};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::place::Sockets;

/// Rooms asked for in one question to the store.
const STEP: usize = 1000;

/// From one look at the rooms' positions to the next while notes arrive: for those that were lost, and for a gateway
/// that ended before it sent one.
const LOOK_UP: Duration = Duration::from_secs(5);
/// And while none do.
const LOOK_DOWN: Duration = Duration::from_millis(400);
/// How often it is checked whether notes arrive.
const LOOK_TICK: Duration = Duration::from_millis(100);

/// A gateway that was not heard for so long is gone, as far as presence goes.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Takes notes of other gateways until none can come. What does not concern sockets goes to `beyond`.
pub async fn receive(
    sockets: Arc<Sockets>,
    beyond: impl Fn(Note),
    mut notes: mpsc::Receiver<(NodeId, Note)>,
) {
    let mut heard = HashMap::new();
    let mut quiet = tokio::time::interval(SILENCE_MAX / 2);
    loop {
        tokio::select! {
            received = notes.recv() => match received {
                Some((node, note)) => {
                    heard.insert(node, Instant::now());
                    take(&sockets, &beyond, node, note);
                }
                None => return,
            },
            _ = quiet.tick() => heard.retain(|node, at: &mut Instant| {
                let is_there = at.elapsed() < SILENCE_MAX;
                if !is_there {
                    sockets.hub.rooms.node_gone(*node);
                }
                is_there
            }),
        }
    }
}

fn take(sockets: &Arc<Sockets>, beyond: &impl Fn(Note), node: NodeId, note: Note) {
    match note {
        Note::Changed { room, news } => sockets.chat.elsewhere(room, news),
        Note::Signal(signal) => sockets.hub.rooms.relay_here(&signal),
        Note::Present { room, users } => sockets.hub.rooms.present_elsewhere(room, node, users),
        Note::WhoIsThere { room } => sockets.hub.rooms.tell_present(room),
        Note::SessionsEnded(ended) => sockets.hub.sessions_ended(ended),
        Note::BlocksChanged(user) => {
            let sockets = Arc::clone(sockets);
            tokio::spawn(async move {
                if let Err(error) = sockets.blocks_changed_elsewhere(user).await {
                    tracing::warn!(%error, "whom a user blocks could not be read");
                }
            });
        }
        Note::FaceChanged(user) => {
            let sockets = Arc::clone(sockets);
            tokio::spawn(async move { sockets.face_changed_elsewhere(user).await });
        }
        Note::WhoIsConnected { ask, mut users } => {
            users.retain(|user| sockets.hub.has(*user));
            if let Some(link) = &sockets.link {
                link.send(Note::Connected { ask, users });
            }
        }
        Note::Here => {}
        note @ (Note::Shield(_)
        | Note::Counted(_)
        | Note::AccountChanged(_)
        | Note::Connected { .. }
        | Note::Edited) => beyond(note),
    }
}

/// Looks where the watched rooms stand in the store, until `stop` is cancelled: seldom while notes arrive, often while
/// none do, and at once when they arrive again.
pub async fn look(sockets: Arc<Sockets>, stop: CancellationToken) {
    let Some(link) = sockets.link.clone() else { return };
    let (mut was_up, mut looked) = (true, Instant::now());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_TICK) => {}
        }
        let is_up = link.is_up();
        if is_up != was_up {
            tracing::warn!(up = is_up, "the bus to the other gateways changed its state");
            sockets.hub.rooms.bus_changed(is_up);
        }
        let every = if is_up { LOOK_UP } else { LOOK_DOWN };
        if looked.elapsed() < every && is_up == was_up {
            continue;
        }
        (was_up, looked) = (is_up, Instant::now());
        for rooms in sockets.hub.rooms.all().chunks(STEP) {
            if let Err(error) = sockets.chat.look_at(rooms).await {
                tracing::warn!(%error, "the positions of watched rooms could not be read");
                break;
            }
        }
    }
}
