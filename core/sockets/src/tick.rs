//! The task that checks open sockets: expired tokens, silence, slow closings, due unread counts, the stop.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use chelseru_domain::bus::Note;
use chelseru_domain::clock::Timestamp;
use chelseru_domain::login::identity::{Caller, Identity};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::close::Close;
use crate::hub::Hub;
use crate::place::Sockets;

/// The same interval while the gateway stops and waits for the sockets.
const STOPPING_TICK: Duration = Duration::from_millis(20);

/// How often sockets are checked: half of the second within which an expired token must act.
const TICK: Duration = Duration::from_millis(500);

/// How long a first frame may take.
const TOKEN_WAIT_MS: u64 = 10_000;

/// Ticks between two checks of one socket's session, besides announced ends.
const CHECK_TICKS: u64 = 120;

/// The same while another gateway may end a session, whose note may be lost.
const CHECK_SHARED_TICKS: u64 = 10;

/// Sessions asked for in one question to the store.
const CHECK_STEP: usize = 1000;

/// An empty ping.
const PING: &[u8] = &[0x89, 0];

/// Checks the open sockets until `stop` is cancelled, then closes them.
pub async fn look_after(sockets: Arc<Sockets>, stop: CancellationToken) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ended = sockets.identity().sessions_ended();
    let mut stopping = false;
    loop {
        let check_all = tokio::select! {
            () = stop.cancelled(), if !stopping => {
                sockets.hub.stop();
                stopping = true;
                interval = tokio::time::interval(STOPPING_TICK);
                continue;
            }
            event = ended.recv() => match event {
                Ok(event) => {
                    sockets.hub.sessions_ended(event);
                    if let Some(link) = &sockets.link {
                        link.send(Note::SessionsEnded(event));
                    }
                    continue;
                }
                // Some announcements were missed, so check all sessions.
                Err(RecvError::Lagged(_)) => true,
                Err(RecvError::Closed) => return,
            },
            _ = interval.tick() => {
                // Closings that take too long still need the tick.
                if stopping && sockets.hub.sockets() == 0 {
                    return;
                }
                false
            }
        };
        sockets.meter.gauge("chelseru_chat_sockets", &[], sockets.hub.sockets() as f64);
        let check_ticks = match &sockets.link {
            _ if check_all => 1,
            None => CHECK_TICKS,
            Some(link) if link.is_up() => CHECK_SHARED_TICKS,
            Some(_) => 1,
        };
        sockets.hub.tick(&sockets.identity(), sockets.clock.now(), check_ticks).await;
        sockets.show_due().await;
    }
}

impl Hub {
    /// Checks every socket: expired tokens, silence, closings that take too long, unread counts that are
    /// due. Of the sessions one in `check_ticks` is checked.
    pub(super) async fn tick(&self, identity: &Identity, now: Timestamp, check_ticks: u64) {
        let now_ms = self.now_ms();
        let tick = self.ticks.fetch_add(1, Ordering::Relaxed);
        let mut suspects = Vec::new();
        for peer in self.peers.read().unwrap_or_else(PoisonError::into_inner).values() {
            if let Some(wait_ms) = peer.close_wait_ms() {
                let since = peer.closing_at.load(Ordering::Relaxed);
                if since == 0 {
                    peer.closing_at.store(now_ms, Ordering::Relaxed);
                } else if now_ms.saturating_sub(since) > wait_ms {
                    peer.kill();
                }
                continue;
            }
            let heartbeat_ms = peer.limits.heartbeat_seconds * 1000;
            let heard_at = peer.heard_at.load(Ordering::Relaxed);
            let silent_ms = now_ms.saturating_sub(heard_at);
            let Some(caller) = peer.caller() else {
                if !peer.opened.is_echo() && now_ms.saturating_sub(peer.opened_at) > TOKEN_WAIT_MS {
                    peer.close(Close::UNAUTHORIZED);
                }
                continue;
            };
            if peer.is_expired(now) {
                peer.close(Close::TOKEN_EXPIRED);
            } else if silent_ms > 2 * heartbeat_ms && !peer.is_busy() {
                // What a busy socket's client sent is not read yet.
                peer.close(Close::SILENT);
            } else if silent_ms > heartbeat_ms && peer.pinged_at.load(Ordering::Relaxed) <= heard_at {
                peer.pinged_at.store(now_ms, Ordering::Relaxed);
                peer.push(Bytes::from_static(PING), 1);
            } else if peer.has_unread() && peer.unread_due(now_ms) {
                peer.signal();
            }
            if peer.id % check_ticks == tick % check_ticks {
                suspects.push((Arc::clone(peer), caller));
            }
        }
        for suspects in suspects.chunks(CHECK_STEP) {
            let callers: Vec<Caller> = suspects.iter().map(|(_, caller)| *caller).collect();
            // While the store cannot be read, they stay.
            let Ok(stand) = identity.stand(&callers).await else { return };
            for ((peer, _), _) in suspects.iter().zip(stand).filter(|(_, stands)| !stands) {
                peer.close(Close::SESSION_ENDED);
            }
        }
    }
}
