//! Chat over WebSockets: shows what was stored to those who watch, and carries out what clients ask.
//!
//! `core/gateway/CHAT.md` describes the protocol, frame by frame. Rules and rights belong to `chelseru_domain::chat`.
//! The handshake that opens a socket, and chat over plain requests, belong to `chelseru-http`. Invariants: a client
//! sees a message only after it is stored; a slow reader is closed and loses nothing; every queue has a bound.
//!
//! Reading order: `place` (what a socket needs), `open` (how it was opened), `hub` (all sockets), `rooms` and `watch`
//! (who sees what), `peer` (one socket's queue), `socket` (its task), `codec` (frames as bytes), `intake` (their
//! rate), `request`, `act` and `subscribe` (what clients ask), `publish` (what was stored), `frames` (what clients
//! get), `close` (why a socket ends), `link` and `relay` (other gateways), `tick` (the task that checks all sockets).

mod place;

mod open;

mod hub;
mod presence;
mod rooms;
mod watch;

mod peer;

mod bucket;
mod coalesce;
mod codec;
mod intake;
mod socket;

mod act;
mod refusal;
mod request;
mod subscribe;

mod away;
mod frames;
mod publish;

mod link;
mod relay;

mod close;
mod tick;

#[cfg(test)]
mod trial;

pub use away::Notes;
pub use close::Close;
pub use frames::{TYPES, file_facts};
pub use hub::{Hub, NoPlace};
pub use open::{Form, Opened, Since, Until, Who, seen};
pub use place::{Place, Sockets, holder};
pub use refusal::refusal;
pub use relay::{look, receive};
pub use socket::{Purpose, Transport};
pub use tick::look_after;
