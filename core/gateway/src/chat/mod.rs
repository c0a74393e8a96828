//! Chat over sockets: what was stored is shown to those who watch, and what clients ask is carried out.
//!
//! `CHAT.md` in this crate's folder is the protocol, frame by frame. Rules and rights are the domain's
//! (`chelseru_domain::chat`); chat over plain requests, and the handshake that opens a socket, are in `crate::http`.
//! Reading order: `hub` (who watches what), `watch` (one room), `peer` (one socket's queue), `socket` (its task), `codec` (frames),
//! `request` and `act` (what clients ask), `json` (what they are told), `close` (why it ends).

pub mod close;
mod hub;

mod act;
mod codec;
mod json;
mod peer;
mod request;
mod socket;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

pub(crate) use act::{failure as refusal, holder, start};
pub use hub::Hub;
pub(crate) use hub::NoPlace;
pub(crate) use json::Form;
pub(crate) use peer::{Opened, Who};
pub(crate) use request::{Since, seen};
pub(crate) use socket::{Place, Purpose, serve};

use crate::app::App;
use chelseru_domain::operator::Meter;

/// The same while the gateway stops, which waits for it.
const STOPPING_TICK: Duration = Duration::from_millis(20);

/// How often sockets are looked after: half of the second within which an expired token must act.
const TICK: Duration = Duration::from_millis(500);

/// Looks after the open sockets until `stop` is cancelled; then tells them.
pub async fn look_after(app: Arc<App>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ended = app.live().identity.sessions_ended();
    let mut stopping = false;
    loop {
        let check_all = tokio::select! {
            () = stop.cancelled(), if !stopping => {
                app.hub.stop();
                stopping = true;
                interval = tokio::time::interval(STOPPING_TICK);
                continue;
            }
            event = ended.recv() => match event {
                Ok(event) => {
                    app.hub.sessions_ended(event);
                    continue;
                }
                // Which ones were missed is not known.
                Err(RecvError::Lagged(_)) => true,
                Err(RecvError::Closed) => return,
            },
            _ = interval.tick() => {
                // Closings still need the tick that ends those that take too long.
                if stopping && app.hub.sockets() == 0 {
                    return;
                }
                false
            }
        };
        app.metrics.gauge("chelseru_chat_sockets", &[], app.hub.sockets() as f64);
        app.hub.tick(&app.live().identity, app.clock.now(), check_all);
    }
}
