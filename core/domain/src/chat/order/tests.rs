//! Changes that arrive in any order are shown in the order of their positions.

use std::sync::{Arc, Mutex};

use super::super::{ChatPort, Face, MessageView, Removal};
use super::*;
use crate::chat::{Message, MessageBody};
use crate::ids::UserId;

const ROOM: RoomId = RoomId(7);

fn at(seq: u64, revision: u64, changes: u64) -> Position {
    Position { seq, revision, changes }
}

fn view(seq: u64) -> MessageView {
    let message = Message {
        room: ROOM,
        seq,
        sender: UserId(1),
        body: MessageBody::default(),
        file: None,
        file_name: None,
        client_id: None,
        created_at: chelseru_store::Timestamp::from_secs(1),
        edited_at: None,
        deleted: false,
    };
    MessageView { message, sender: Face { name: "one".into(), avatar: None }, file: None }
}

/// A port that notes what it is shown in words, and a clock.
#[derive(Default)]
struct World {
    shown: Mutex<Vec<String>>,
    answered: Arc<Mutex<Vec<String>>>,
    order: Order,
    batch: Batch,
}

impl ChatPort for Mutex<Vec<String>> {
    fn publish(&self, _room: RoomId, events: &[ChatEvent]) {
        self.lock().unwrap().extend(events.iter().map(word));
    }
}

fn word(event: &ChatEvent) -> String {
    match event {
        ChatEvent::Posted(view) => format!("m{}", view.message.seq),
        ChatEvent::Edited { revision, .. } => format!("e{revision}"),
        ChatEvent::Removed { user, .. } => format!("r{user}"),
        ChatEvent::Read { seq, .. } => format!("read{seq}"),
        other => panic!("{other:?}"),
    }
}

fn posted(position: Position) -> (Place, Option<ChatEvent>) {
    (Place::At(position), Some(ChatEvent::Posted(view(position.seq))))
}

fn edited(position: Position) -> (Place, Option<ChatEvent>) {
    let Position { revision, .. } = position;
    (Place::At(position), Some(ChatEvent::Edited { view: view(1), revision, by: UserId(1) }))
}

fn removed(position: Position, user: u64) -> (Place, Option<ChatEvent>) {
    (Place::At(position), Some(ChatEvent::Removed { user: UserId(user), why: Removal::Kicked }))
}

fn read(position: Position) -> (Place, Option<ChatEvent>) {
    (Place::After(position), Some(ChatEvent::Read { user: UserId(2), seq: position.seq }))
}

impl World {
    fn beginning(shown: Position) -> World {
        let mut world = World::default();
        world.order.begin(ROOM, shown, &mut world.batch);
        world
    }

    /// Takes changes; what was shown since the last call.
    fn take(&mut self, changes: Vec<(Place, Option<ChatEvent>)>) -> String {
        for (place, event) in changes {
            let name = event.as_ref().map_or("silent".to_owned(), word);
            let answered = Arc::clone(&self.answered);
            let done = Some(Box::new(move || answered.lock().unwrap().push(name)) as _);
            self.order.take(StoredChange { room: ROOM, place, event, done }, Instant::now(), &mut self.batch);
        }
        self.shown()
    }

    /// Takes changes of another gateway; what was shown since the last call.
    fn hear(&mut self, changes: Vec<(Place, Option<ChatEvent>)>) -> String {
        for (place, event) in changes {
            let change = StoredChange { room: ROOM, place, event, done: None };
            self.order.take(change, Instant::now(), &mut self.batch);
        }
        self.shown()
    }

    fn shown(&mut self) -> String {
        self.batch.publish(&self.shown, None);
        std::mem::take(&mut *self.shown.lock().unwrap()).join(" ")
    }

    fn answered(&self) -> String {
        std::mem::take(&mut *self.answered.lock().unwrap()).join(" ")
    }
}

#[test]
fn a_message_waits_for_the_one_before_it_and_so_does_its_caller() {
    let mut world = World::beginning(at(4, 0, 0));
    assert_eq!(world.take(vec![posted(at(6, 0, 0)), posted(at(7, 0, 0))]), "");
    assert_eq!(world.answered(), "");
    assert!(world.order.overdue_at().is_some());
    assert_eq!(world.take(vec![posted(at(5, 0, 0))]), "m5 m6 m7");
    assert_eq!(world.answered(), "m5 m6 m7");
    assert_eq!(world.order.overdue_at(), None);
}

#[test]
fn messages_edits_and_changes_of_the_room_are_one_order() {
    let mut world = World::beginning(at(2, 1, 1));
    let history = [
        posted(at(3, 1, 1)),
        removed(at(3, 1, 2), 9),
        posted(at(4, 1, 2)),
        edited(at(4, 2, 2)),
        posted(at(5, 2, 2)),
    ];
    for (first, change) in history.iter().enumerate().skip(1).rev() {
        assert_eq!(world.take(vec![change.clone()]), "", "change {first} came first");
    }
    assert_eq!(world.take(vec![history[0].clone()]), "m3 r9 m4 e2 m5");
}

#[test]
fn a_marker_comes_after_what_it_marks_and_before_what_follows() {
    let mut world = World::beginning(at(0, 0, 0));
    assert_eq!(world.take(vec![posted(at(2, 0, 0)), read(at(1, 0, 0))]), "");
    assert_eq!(world.take(vec![posted(at(1, 0, 0))]), "m1 read1 m2");
    assert_eq!(
        world.take(vec![read(at(1, 0, 0))]),
        "read1",
        "a marker takes no place, so it is never too late"
    );
}

#[test]
fn a_change_that_nobody_sees_takes_its_place() {
    let mut world = World::beginning(at(0, 0, 0));
    assert_eq!(world.take(vec![posted(at(1, 0, 1))]), "");
    assert_eq!(world.take(vec![(Place::At(at(0, 0, 1)), None)]), "m1");
    assert_eq!(world.answered(), "silent m1");
}

#[test]
fn what_changed_nothing_is_answered_at_once() {
    let mut world = World::beginning(at(0, 0, 0));
    assert_eq!(world.take(vec![posted(at(2, 0, 0)), (Place::Nowhere, None)]), "");
    assert_eq!(world.answered(), "silent");
}

#[test]
fn a_room_whose_base_is_unknown_begins_with_what_comes_first() {
    let mut world = World::default();
    assert_eq!(world.take(vec![posted(at(5, 0, 0)), posted(at(6, 0, 0))]), "m5 m6");
    assert_eq!(world.take(vec![posted(at(4, 0, 0))]), "m4", "late and not lost");
    assert_eq!(world.take(vec![posted(at(7, 0, 0))]), "m7");
}

#[test]
fn a_gap_that_is_not_filled_in_time_is_named_and_skipped() {
    let mut world = World::beginning(at(4, 1, 0));
    assert_eq!(world.take(vec![posted(at(7, 1, 0)), edited(at(7, 3, 0))]), "");
    let overdue = world.order.overdue_at().unwrap();
    assert_eq!(world.order.overdue(overdue - Duration::from_millis(1)), None);
    let gap = world.order.overdue(overdue).unwrap();
    assert_eq!(gap, Gap { room: ROOM, from: at(4, 1, 0), to: at(6, 1, 0) });
    world.order.skip(gap, &mut world.batch);
    assert_eq!(world.shown(), "m7");
    let gap = world.order.overdue(world.order.overdue_at().unwrap()).unwrap();
    assert_eq!(gap, Gap { room: ROOM, from: at(7, 1, 0), to: at(7, 2, 0) });
    world.order.skip(gap, &mut world.batch);
    assert_eq!((world.shown().as_str(), world.order.overdue_at()), ("e3", None));
}

#[test]
fn any_order_of_arrival_is_shown_in_the_order_of_positions() {
    for seed in 1..=200u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = |bound: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % bound as u64) as usize
        };
        let mut position = at(0, 0, 0);
        let mut history = Vec::new();
        for _ in 0..40 {
            match below(4) {
                0 => position.revision += 1,
                1 => position.changes += 1,
                _ => position.seq += 1,
            }
            history.push(match (history.last(), position) {
                (_, position) if position.seq == 0 && position.revision == 0 => {
                    removed(position, position.changes)
                }
                (Some((Place::At(last), _)), position) if last.changes < position.changes => {
                    removed(position, position.changes)
                }
                (Some((Place::At(last), _)), position) if last.revision < position.revision => {
                    edited(position)
                }
                (None, position) if position.revision > 0 => edited(position),
                (_, position) => posted(position),
            });
        }
        let expected: Vec<String> = history.iter().map(|(_, event)| word(event.as_ref().unwrap())).collect();
        for at in (1..history.len()).rev() {
            history.swap(at, below(at + 1));
        }
        let mut world = World::beginning(at(0, 0, 0));
        let mut shown = Vec::new();
        while !history.is_empty() {
            let some = history.split_off(history.len() - (1 + below(history.len())));
            shown.extend(world.take(some).split_whitespace().map(str::to_owned));
        }
        assert_eq!(shown, expected, "seed {seed}");
    }
}

#[test]
fn quiet_rooms_are_forgotten_and_waiting_ones_kept() {
    let mut world = World::beginning(at(1, 0, 0));
    for room in 0..ROOMS_MAX as u64 {
        world.order.begin(RoomId(1000 + room), at(1, 0, 0), &mut world.batch);
    }
    assert_eq!(world.take(vec![posted(at(3, 0, 0))]), "");
    world.order.forget_quiet();
    assert_eq!(world.order.rooms.keys().collect::<Vec<_>>(), [&ROOM]);
    assert_eq!(world.take(vec![posted(at(2, 0, 0))]), "m2 m3");
}

#[test]
fn changes_of_another_gateway_stand_between_and_are_shown_once() {
    let mut world = World::beginning(at(4, 0, 0));
    assert_eq!(world.take(vec![posted(at(6, 0, 0))]), "", "the other one has the fifth");
    assert_eq!(world.hear(vec![posted(at(5, 0, 0))]), "m5 m6");
    assert_eq!(world.answered(), "m6", "the other one has a caller of its own");
    assert_eq!(world.hear(vec![posted(at(5, 0, 0)), posted(at(6, 0, 0))]), "", "twice, and from the store");
    assert_eq!(world.hear(vec![posted(at(9, 0, 0)), posted(at(8, 0, 0))]), "");
    assert_eq!(world.hear(vec![posted(at(7, 0, 0)), removed(at(9, 0, 1), 3)]), "m7 m8 m9 r3");
}

#[test]
fn what_the_store_has_reached_is_waited_for_and_then_a_gap() {
    let mut world = World::beginning(at(4, 0, 0));
    let now = Instant::now();
    world.order.reached(ROOM, at(4, 0, 0), now);
    assert_eq!(world.order.overdue_at(), None, "nothing is missing");
    world.order.reached(ROOM, at(6, 1, 0), now);
    assert_eq!(world.order.overdue_at(), Some(now + GAP_WAIT));
    assert_eq!(world.order.overdue(now), None);
    assert_eq!(world.hear(vec![posted(at(5, 0, 0)), posted(at(6, 0, 0))]), "m5 m6");
    let late = Instant::now() + GAP_WAIT;
    let gap = world.order.overdue(late).expect("the edit is missing");
    assert_eq!((gap.from, gap.to), (at(6, 0, 0), at(6, 1, 0)));
    world.order.skip(gap, &mut world.batch);
    assert_eq!((world.order.overdue_at(), world.order.overdue(late)), (None, None));
    assert_eq!(world.hear(vec![edited(at(6, 1, 0))]), "", "it was read from the store");
}

#[test]
fn a_long_gap_is_read_in_parts() {
    let mut world = World::beginning(at(10, 0, 0));
    let now = Instant::now();
    world.order.reached(ROOM, at(10 + GAP_MESSAGES_MAX * 2 + 1, 3, 2), now);
    let mut parts = Vec::new();
    while let Some(gap) = world.order.overdue(Instant::now() + GAP_WAIT) {
        parts.push((gap.to.seq - gap.from.seq, gap.to.revision, gap.to.changes));
        world.order.skip(gap, &mut world.batch);
    }
    assert_eq!(parts, [(GAP_MESSAGES_MAX, 0, 0), (GAP_MESSAGES_MAX, 0, 0), (1, 3, 2)]);
    assert_eq!(world.order.overdue_at(), None);
}

#[test]
fn the_first_base_of_a_watched_room_counts_until_it_is_forgotten() {
    let mut world = World::beginning(at(4, 0, 0));
    world.order.begin(ROOM, at(6, 0, 0), &mut world.batch);
    assert_eq!(world.hear(vec![posted(at(5, 0, 0))]), "m5", "whoever watches already lacks it");
    assert_eq!(world.take(vec![posted(at(8, 0, 0))]), "");
    world.order.forget(ROOM, &mut world.batch);
    assert_eq!((world.shown().as_str(), world.answered().as_str()), ("m8", "m8"), "its caller has an answer");
    world.order.begin(ROOM, at(20, 0, 0), &mut world.batch);
    assert_eq!(world.hear(vec![posted(at(20, 0, 0)), posted(at(21, 0, 0))]), "m21");
}

#[test]
fn a_base_shows_what_waited_for_something_before_it() {
    let mut world = World::default();
    assert_eq!(world.take(vec![posted(at(4, 0, 0)), posted(at(7, 0, 0))]), "m4");
    world.order.begin(ROOM, at(6, 0, 0), &mut world.batch);
    assert_eq!(world.shown(), "m7");
    assert_eq!(world.order.overdue_at(), None);
}
