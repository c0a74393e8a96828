//! Hubs, sockets and clients' frames for tests: without a connection, and without the store.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use chelseru_config::Chat;
use chelseru_domain::chat::Face;
use chelseru_domain::clock::Timestamp;
use chelseru_domain::ids::{SessionId, UserId};

use crate::hub::Hub;
use crate::open::{Form, Opened, Until, Who};
use crate::peer::Peer;

pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// When the tokens of these tests expire.
pub(crate) const EXPIRES: Timestamp = Timestamp::from_secs(1_800_000_000);

/// A socket of all rooms, with all frames.
pub(crate) const ALL: Opened =
    Opened { room: None, form: Form::Extended, since: None, until: Until::TokenExpires, language: None };

/// A hub with one socket of all rooms of a user.
pub(crate) fn hub_with(user: u64) -> (Hub, Arc<Peer>) {
    let hub = Hub::new();
    let peer = hub.enter(ALL, &Chat::default(), Some((who(user), EXPIRES)), HERE).expect("the first socket");
    (hub, peer)
}

pub(crate) fn who(user: u64) -> Who {
    Who {
        user: UserId(user),
        session: SessionId(user),
        face: Face { name: format!("user{user}").into(), avatar: None },
    }
}

/// A client's frame, from its first byte and its payload.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut out = vec![first];
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    out
}
