//! Watchers that come, lose their right and come again, while what they missed is read.

use std::sync::Arc;

use chelseru_domain::chat::{ChatEvent, ChatPort, Face, Message, MessageBody, MessageView, Removal};
use chelseru_domain::clock::Timestamp;

use super::*;
use crate::hub::Hub;
use crate::trial::hub_with;

const ROOM: RoomId = RoomId(7);
const USER: UserId = UserId(1);
const RESUME_MAX: u64 = 1000;

fn catch_up(ticket: Ticket, seq: u64) -> CatchUp {
    CatchUp { room: ROOM, ticket, seq, revision: 0, heads: (seq, 0) }
}

fn posted(seq: u64) -> ChatEvent {
    let message = Message {
        room: ROOM,
        seq,
        sender: UserId(2),
        body: MessageBody { kind: "text".into(), text: format!("message {seq}"), ..MessageBody::default() },
        file: None,
        file_name: None,
        client_id: None,
        created_at: Timestamp::from_secs(1_800_000_000),
        edited_at: None,
        deleted: false,
    };
    let sender = Face { name: "user2".into(), avatar: None };
    ChatEvent::Posted(MessageView { message, sender, file: None })
}

fn post(hub: &Hub, seq: u64) {
    hub.publish(ROOM, &[posted(seq)]);
}

fn kick(hub: &Hub) {
    hub.publish(ROOM, &[ChatEvent::Removed { user: USER, why: Removal::Kicked }]);
}

/// The texts of the queued frames.
fn frames(peer: &Peer) -> String {
    let chunks = peer.take_queue(true).chunks;
    chunks.iter().map(|chunk| String::from_utf8_lossy(chunk).into_owned()).collect()
}

fn watch(hub: &Hub, peer: &Arc<Peer>) -> Ticket {
    hub.rooms.watch(ROOM, peer, USER).expect("a new watcher")
}

fn admit(hub: &Hub, peer: &Arc<Peer>, ticket: Ticket) -> bool {
    hub.rooms.admit(ROOM, peer, ticket, |_, _| None)
}

#[test]
fn a_socket_that_has_left_leaves_no_room_behind() {
    let (hub, peer) = hub_with(1);
    hub.leave(&peer);
    assert_eq!(hub.rooms.watch(ROOM, &peer, USER), None);
    assert!(!hub.rooms.has(ROOM), "watched");
    hub.rooms.follow(ROOM, &peer, USER);
    assert!(!hub.rooms.has(ROOM), "followed");
}

#[test]
fn a_room_lasts_as_long_as_its_last_watcher_or_follower() {
    let (hub, peer) = hub_with(1);
    watch(&hub, &peer);
    assert_eq!(hub.rooms.watch(ROOM, &peer, USER), None, "once");
    hub.rooms.follow(ROOM, &peer, USER);
    hub.rooms.unwatch(ROOM, &peer);
    assert!(hub.rooms.has(ROOM));
    hub.leave(&peer);
    assert!(!hub.rooms.has(ROOM));
}

#[test]
fn a_watcher_whose_right_is_not_checked_gets_nothing() {
    let (hub, peer) = hub_with(1);
    let ticket = watch(&hub, &peer);
    post(&hub, 1);
    let early = catch_up(ticket, 0);
    assert!(!hub.rooms.reads(&early, &peer));
    assert!(matches!(hub.rooms.join(&early, &peer, RESUME_MAX), Step::Gone));
    assert!(matches!(hub.rooms.go_live(&early, &peer), Step::Gone));
    post(&hub, 2);
    assert_eq!(frames(&peer), "");
}

/// A member is kicked while a gap is read, and subscribes again: nothing shows what was posted since.
#[test]
fn what_an_ended_watcher_was_to_read_serves_no_later_one() {
    let (hub, peer) = hub_with(1);
    let first = watch(&hub, &peer);
    assert!(admit(&hub, &peer, first));
    let stale = catch_up(first, 1);
    assert!(hub.rooms.reads(&stale, &peer));
    kick(&hub);
    assert!(!hub.rooms.reads(&stale, &peer));

    let second = watch(&hub, &peer);
    post(&hub, 2);
    assert!(!hub.rooms.reads(&stale, &peer));
    assert!(matches!(hub.rooms.join(&stale, &peer, RESUME_MAX), Step::Gone));
    assert!(!admit(&hub, &peer, first), "the end of an older check admits nobody");
    post(&hub, 3);
    let told = frames(&peer);
    assert!(told.contains("unsubscribed") && !told.contains("message "), "{told}");

    // The refusal of the older one leaves the newer one, which is admitted in its turn.
    hub.rooms.refuse(ROOM, &peer, first);
    assert!(admit(&hub, &peer, second));
    assert!(matches!(hub.rooms.join(&stale, &peer, RESUME_MAX), Step::Gone));
    assert!(matches!(hub.rooms.join(&catch_up(second, 3), &peer, RESUME_MAX), Step::Live));
    post(&hub, 4);
    assert!(frames(&peer).contains("message 4"));
    hub.rooms.refuse(ROOM, &peer, second);
    assert!(!hub.rooms.has(ROOM));
}

#[test]
fn what_is_held_for_a_watcher_goes_with_it() {
    let (hub, peer) = hub_with(1);
    let ticket = watch(&hub, &peer);
    assert!(admit(&hub, &peer, ticket));
    post(&hub, 2);
    let joining = catch_up(ticket, 1);
    assert!(matches!(hub.rooms.join(&joining, &peer, RESUME_MAX), Step::Joining((2, 0))));
    post(&hub, 3);
    assert!(hub.rooms.reads(&joining, &peer));
    kick(&hub);
    assert!(!hub.rooms.reads(&joining, &peer), "no chunk that was read meanwhile");
    assert!(matches!(hub.rooms.go_live(&joining, &peer), Step::Gone));
    let told = frames(&peer);
    assert!(told.contains("unsubscribed") && !told.contains("message "), "{told}");
}

#[test]
fn a_watcher_that_joins_gets_each_message_once() {
    let (hub, peer) = hub_with(1);
    let ticket = watch(&hub, &peer);
    assert!(admit(&hub, &peer, ticket));
    post(&hub, 100);
    let far = catch_up(ticket, 0);
    assert!(matches!(hub.rooms.join(&far, &peer, RESUME_MAX), Step::Behind((100, 0))));
    let near = catch_up(ticket, 90);
    assert!(matches!(hub.rooms.join(&near, &peer, RESUME_MAX), Step::Joining((100, 0))));
    post(&hub, 101);
    assert_eq!(frames(&peer), "");
    assert!(matches!(hub.rooms.go_live(&near, &peer), Step::Live));
    assert!(frames(&peer).contains("message 101"));
    assert!(!hub.rooms.reads(&near, &peer), "a live one reads nothing more");
}

#[test]
fn a_room_has_one_catch_up_and_the_newest_subscription_counts() {
    let (hub, peer) = hub_with(1);
    let first = watch(&hub, &peer);
    hub.rooms.unwatch(ROOM, &peer);
    let second = watch(&hub, &peer);
    for ticket in [first, second, first] {
        peer.push_catch_up(catch_up(ticket, 0));
    }
    let other = CatchUp { room: RoomId(8), ..catch_up(first, 0) };
    peer.push_catch_up(other);
    let kept: Vec<_> = peer.take_queue(true).catch_ups.iter().map(|kept| (kept.room, kept.ticket)).collect();
    assert_eq!(kept, [(ROOM, second), (RoomId(8), first)]);
}
