//! Rooms and messages: pairs, pages, client ids, order, gaps, bounds, and a random history against a model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::chat::{
    Access, ChatError, ChatEvent, ChatRules, Denied, Gap, MessageBody, MessageEdit, Rights, RoomEdit, RoomId,
    RoomRequest,
};
use chelseru_domain::ids::UserId;

use crate::{Random, World, open, post};

#[tokio::test]
async fn the_second_room_of_a_pair_is_the_first() {
    let world = World::new(2).await;
    let (room, new) = world.chat.pair_open(UserId(1), UserId(2), RoomEdit::default()).await.unwrap();
    assert!(new);
    let (again, new) = world.chat.pair_open(UserId(2), UserId(1), RoomEdit::default()).await.unwrap();
    assert_eq!((again.id, new), (room.id, false));
    let missing = world.chat.pair_open(UserId(1), UserId(9), RoomEdit::default()).await;
    assert!(matches!(missing, Err(ChatError::UserMissing)));
    let (own, _) = world.chat.pair_open(UserId(1), UserId(1), RoomEdit::default()).await.unwrap();
    assert_eq!(own.members, 1);
}

#[tokio::test]
async fn a_deleted_pair_can_begin_anew_and_its_messages_are_swept() {
    let world = World::new(2).await;
    let (room, _) = world.chat.pair_open(UserId(1), UserId(2), RoomEdit::default()).await.unwrap();
    for _ in 0..3 {
        world.post(room.id, 1, "x", None).await.unwrap();
    }
    assert!(matches!(
        world.ask(room.id, 2, RoomRequest::Delete).await,
        Err(ChatError::Denied(Denied::NoRight))
    ));
    world.ask(room.id, 1, RoomRequest::Delete).await.unwrap();
    assert!(matches!(world.post(room.id, 1, "x", None).await, Err(ChatError::RoomMissing)));
    world.chat.sweep(room.id).await.unwrap();
    assert_eq!(world.chat.store().chat_last_seq(room.id).await.unwrap(), 0);
    let (next, new) = world.chat.pair_open(UserId(2), UserId(1), RoomEdit::default()).await.unwrap();
    assert!(new && next.id != room.id);
}

#[tokio::test]
async fn a_room_whose_removal_was_cut_off_is_swept_later() {
    let world = World::new(2).await;
    let room = world.group(1, &[2]).await;
    for _ in 0..20 {
        world.post(room, 1, "kept for now", None).await.unwrap();
    }
    world.ask(room, 1, RoomRequest::Delete).await.unwrap();
    let world = world.restarted().await;
    assert_eq!(world.chat.store().chat_rooms_to_sweep(10).await.unwrap(), [room]);
    world.chat.sweep_all().await.unwrap();
    assert_eq!(world.chat.store().chat_last_seq(room).await.unwrap(), 0);
    assert_eq!(world.chat.store().chat_rooms_to_sweep(10).await.unwrap(), []);
}

/// A row of deletions is stepped over in bounded pieces, and no page loses or doubles a message by it.
#[tokio::test]
async fn a_page_steps_over_a_bounded_number_of_deleted_messages() {
    const DELETED: u64 = 1200;
    let world = World::with(1, ChatRules { messages_per_minute_max: 10_000, ..open() }).await;
    let room = world.group(1, &[]).await;
    let total = DELETED + 2;
    let (sender, mut done) = tokio::sync::mpsc::unbounded_channel();
    let entry = world.chat.enter(room).await.unwrap();
    for _ in 0..total {
        let sender = sender.clone();
        world
            .chat
            .post(&entry, post(1, "x", None), move |result| drop(sender.send(result.unwrap())))
            .unwrap();
    }
    for _ in 0..total {
        done.recv().await.unwrap();
    }
    let chat = &world.chat;
    let deletions = (2..=DELETED + 1).map(|seq| {
        let chat = chat.clone();
        tokio::spawn(async move { chat.message_change(room, seq, UserId(1), MessageEdit::Delete).await })
    });
    for deletion in deletions.collect::<Vec<_>>() {
        deletion.await.unwrap().unwrap();
    }
    let seqs = |page: &chelseru_domain::chat::MessagePage| -> Vec<u64> {
        page.messages.iter().map(|message| message.seq).collect()
    };
    let first = chat.messages_before(room, u64::MAX, 30).await.unwrap();
    assert_eq!((seqs(&first), first.more, first.end), (vec![total], true, total - 1000));
    let second = chat.messages_before(room, first.end, 30).await.unwrap();
    assert_eq!((seqs(&second), second.more), (vec![1], false));
    let first = chat.messages_after(room, 0, 30).await.unwrap();
    assert_eq!((seqs(&first), first.more, first.end), (vec![1], true, 1001));
    let second = chat.messages_after(room, first.end, 30).await.unwrap();
    assert_eq!((seqs(&second), second.more), (vec![total], false));
}

#[tokio::test]
async fn a_client_id_is_one_message_however_often_it_is_sent_and_wherever() {
    let world = World::new(2).await;
    let room = world.group(1, &[2]).await;
    let other = world.group(1, &[2]).await;
    assert_eq!(world.post(room, 1, "a", Some("id-1")).await.unwrap(), 1);
    assert_eq!(world.post(room, 1, "b", Some("id-1")).await.unwrap(), 1);
    // Another user's, or another room's, is another message.
    assert_eq!(world.post(room, 2, "c", Some("id-1")).await.unwrap(), 2);
    assert_eq!(world.post(other, 1, "d", Some("id-1")).await.unwrap(), 1);
    // A message that was taken stays taken when the room is closed before it is sent again.
    let close = RoomEdit { status: Some(chelseru_domain::chat::RoomStatus::Closed), ..RoomEdit::default() };
    world.ask(room, 1, RoomRequest::Edit(close)).await.unwrap();
    assert_eq!(world.post(room, 1, "a", Some("id-1")).await.unwrap(), 1);
    let refused = world.post(room, 1, "a", Some("id-2")).await;
    assert!(matches!(refused, Err(ChatError::Denied(Denied::RoomClosed))));
    let world = world.restarted().await;
    assert_eq!(world.post(room, 2, "c", Some("id-1")).await.unwrap(), 2);
    assert_eq!(world.watcher.seqs(room), [1, 2]);
    for id in ["", "a b", &"x".repeat(65), "ü"] {
        let refused = world.post(other, 1, "a", Some(id)).await;
        assert!(matches!(refused, Err(ChatError::Invalid { field: "client_id", .. })), "{id:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_order_is_seen_order_under_64_senders() {
    let world = Arc::new(World::new(64).await);
    let room = world.group(1, &(2..=64).collect::<Vec<_>>()).await;
    let tasks: Vec<_> = (1..=64)
        .map(|sender| {
            let world = world.clone();
            tokio::spawn(async move {
                let mut last = 0;
                for index in 0..20 {
                    let seq = world.post(room, sender, &format!("{index}"), None).await.unwrap();
                    assert!(seq > last, "a sender's own order");
                    last = seq;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(world.watcher.seqs(room), (1..=1280).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_gap_is_whole_or_a_reset() {
    let world = World::with(2, ChatRules { resume_max: 5, ..open() }).await;
    let room = world.group(1, &[2]).await;
    for index in 1..=6 {
        world.post(room, 1, &format!("{index}"), None).await.unwrap();
    }
    world.chat.message_change(room, 2, UserId(1), MessageEdit::Delete).await.unwrap();
    let heads = world.chat.heads(room).await.unwrap();
    assert_eq!(heads, (6, 1));
    let Gap::Whole { messages, edits } = world.chat.gap(room, (1, 0), heads).await.unwrap() else {
        panic!("a reset")
    };
    assert_eq!(messages.iter().map(|view| view.message.seq).collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
    assert!(messages[0].message.deleted && messages[0].message.body.text.is_empty());
    assert_eq!(edits.len(), 1);
    assert_eq!(world.chat.gap(room, (0, 1), heads).await.unwrap(), Gap::Reset);
    assert_eq!(world.chat.gap(room, (7, 1), heads).await.unwrap(), Gap::Reset);
    assert!(
        matches!(world.chat.gap(room, (6, 1), heads).await.unwrap(), Gap::Whole { messages, .. } if messages.is_empty())
    );
}

#[tokio::test]
async fn of_many_edits_of_a_message_the_last_is_told_and_kept() {
    let world = World::with(2, ChatRules { resume_max: 100, ..open() }).await;
    let room = world.group(1, &[2]).await;
    for text in ["one", "two"] {
        world.post(room, 1, text, None).await.unwrap();
    }
    for index in 1..=20 {
        let body = MessageBody { kind: "text".into(), text: format!("v{index}"), ..MessageBody::default() };
        world.chat.message_change(room, 1 + index % 2, UserId(1), MessageEdit::Body(body)).await.unwrap();
    }
    world.chat.message_change(room, 2, UserId(1), MessageEdit::Delete).await.unwrap();
    let heads = world.chat.heads(room).await.unwrap();
    assert_eq!(heads, (2, 21));
    let Gap::Whole { edits, .. } = world.chat.gap(room, (2, 0), heads).await.unwrap() else {
        panic!("a reset")
    };
    let seen: Vec<_> = edits.iter().map(|(revision, view)| (*revision, view.message.seq)).collect();
    assert_eq!(seen, [(20, 1), (21, 2)]);
    assert_eq!(edits[0].1.message.body.text, "v20");
    assert!(edits[1].1.message.deleted);
    // Who had seen the first of them learns the same.
    let Gap::Whole { edits, .. } = world.chat.gap(room, (2, 5), heads).await.unwrap() else {
        panic!("a reset")
    };
    assert_eq!(edits.len(), 2);
}

#[tokio::test]
async fn a_read_marker_is_told_of_when_it_moved_and_the_answer_is_the_same_when_not() {
    let world = World::new(2).await;
    let room = world.group(1, &[2]).await;
    for _ in 0..3 {
        world.post(room, 1, "x", None).await.unwrap();
    }
    // In this order: forward, again, back, past the end, and past the end again.
    for (seq, stands_at) in [(2, 2), (2, 2), (1, 2), (9, 3), (3, 3), (9, 3), (u64::MAX, 3)] {
        let changed = world.chat.room_change(room, UserId(2), RoomRequest::Read(seq)).await.unwrap();
        assert_eq!(changed.actor.unwrap().read_seq, stands_at, "{seq}");
    }
    // A sender has read its own message.
    world.ask(room, 1, RoomRequest::Read(u64::MAX)).await.unwrap();
    let seen = world.watcher.seen.lock().unwrap().clone();
    let read = |(_, event): &(RoomId, ChatEvent)| match event {
        ChatEvent::Read { user, seq } => Some((user.0, *seq)),
        _ => None,
    };
    assert_eq!(seen.iter().filter_map(read).collect::<Vec<_>>(), [(2, 2), (2, 3)]);
}

#[tokio::test]
async fn rights_and_pins_that_stay_as_they_are_change_nothing() {
    let world = World::new(2).await;
    let room = world.group(1, &[2]).await;
    let kick = Rights::of(&[Access::Kick]);
    let (grant, revoke) = (RoomRequest::Grant(UserId(2), kick), RoomRequest::Revoke(UserId(2), kick));
    for (request, first) in [(grant, Rights::member().and(kick)), (revoke, Rights::member())] {
        let mut changes = Vec::new();
        for _ in 0..2 {
            changes
                .push(world.chat.room_change(room, UserId(1), request.clone()).await.unwrap().room.changes);
        }
        assert_eq!(changes[0], changes[1], "{request:?}");
        let told = (room, ChatEvent::Rights { user: UserId(2), rights: first });
        let seen = world.watcher.seen.lock().unwrap().clone();
        assert_eq!(seen.iter().filter(|event| **event == told).count(), 1, "{request:?}");
    }
    for pinned in [true, true, false, false] {
        let changed = world.chat.room_change(room, UserId(2), RoomRequest::Pin(pinned)).await.unwrap();
        assert_eq!(changed.actor.unwrap().pinned, pinned);
    }
}

fn named(name: &str) -> RoomRequest {
    RoomRequest::Edit(RoomEdit { name: Some(Some(name.to_owned())), ..RoomEdit::default() })
}

#[tokio::test]
async fn changes_of_a_room_count_as_messages() {
    let world = World::with(3, ChatRules { messages_per_minute_max: 6, ..open() }).await;
    let room = world.group(1, &[2, 3]).await;
    // Every second edit changes nothing and costs nothing.
    for number in 0..4 {
        for _ in 0..2 {
            world.ask(room, 1, named(&number.to_string())).await.unwrap();
        }
    }
    let kick = Rights::of(&[Access::Kick]);
    world.ask(room, 1, RoomRequest::Grant(UserId(2), kick)).await.unwrap();
    world.post(room, 1, "x", None).await.unwrap();
    let refused = [
        named("one more"),
        RoomRequest::Revoke(UserId(2), kick),
        RoomRequest::Add(UserId(3)),
        RoomRequest::Remove(UserId(3)),
        RoomRequest::Ban(UserId(3)),
        RoomRequest::Unban(UserId(3)),
        RoomRequest::Delete,
    ];
    for request in refused {
        let result = world.ask(room, 1, request.clone()).await;
        assert!(matches!(result, Err(ChatError::Exhausted(_))), "{request:?}: {result:?}");
    }
    assert!(matches!(world.post(room, 1, "y", None).await, Err(ChatError::Exhausted(_))));
    // What concerns the actor alone.
    world.ask(room, 1, RoomRequest::Pin(true)).await.unwrap();
    world.ask(room, 1, RoomRequest::Read(1)).await.unwrap();
    // Each user has an own allowance.
    world.ask(room, 2, RoomRequest::Remove(UserId(3))).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    world.ask(room, 1, named("in the next minute")).await.unwrap();
}

#[tokio::test]
async fn a_refused_change_of_a_room_costs_nothing_and_leaving_never_does() {
    let world = World::with(3, ChatRules { messages_per_minute_max: 1, ..open() }).await;
    let room = world.group(1, &[2]).await;
    for _ in 0..3 {
        let refused = world.ask(room, 2, RoomRequest::Ban(UserId(1))).await;
        assert!(matches!(refused, Err(ChatError::Denied(_))), "{refused:?}");
    }
    world.post(room, 2, "x", None).await.unwrap();
    assert!(matches!(world.post(room, 2, "y", None).await, Err(ChatError::Exhausted(_))));
    world.ask(room, 2, RoomRequest::Remove(UserId(2))).await.unwrap();
    // A block is one whatever its user has sent.
    let pair = world.chat.pair_open(UserId(2), UserId(3), RoomEdit::default()).await.unwrap().0.id;
    world.chat.block(UserId(2), UserId(3)).await.unwrap();
    assert!(matches!(world.post(pair, 3, "z", None).await, Err(ChatError::Denied(Denied::Banned))));
    world.chat.unblock(UserId(2), UserId(3)).await.unwrap();
}

#[tokio::test]
async fn the_texts_of_an_edit_count_with_their_bytes() {
    let world = World::with(1, ChatRules { bytes_per_minute_max: 20, ..open() }).await;
    let room = world.group(1, &[]).await;
    world.ask(room, 1, named("twelve bytes")).await.unwrap();
    let refused = world.ask(room, 1, named("nine more")).await;
    assert!(matches!(refused, Err(ChatError::Exhausted(_))), "{refused:?}");
    world.ask(room, 1, named("the rest")).await.unwrap();
}

#[tokio::test]
async fn the_text_of_a_file_counts_as_a_message_once_it_is_there() {
    let world =
        World::with(1, ChatRules { messages_per_minute_max: 2, bytes_per_minute_max: 10, ..open() }).await;
    let charge = |text| world.chat.charge_file_text(UserId(1), text);
    for text in [None, Some("")] {
        assert!(charge(text).unwrap().is_none(), "nothing to count");
    }
    // An upload that was refused, so often.
    for _ in 0..5 {
        drop(charge(Some("10 bytes..")).unwrap().expect("counted"));
    }
    charge(Some("8 bytes.")).unwrap().expect("counted").came_about();
    assert!(matches!(charge(Some("3 b")), Err(ChatError::Exhausted(_))), "its bytes");
    charge(Some("2b")).unwrap().expect("counted").came_about();
    assert!(matches!(charge(Some("x")), Err(ChatError::Exhausted(_))));
    let room = world.group(1, &[]).await;
    assert!(matches!(world.post(room, 1, "x", None).await, Err(ChatError::Exhausted(_))));
}

#[tokio::test]
async fn bounds_stop_members_bans_rooms_and_organizations() {
    let rules = ChatRules {
        members_max: 2,
        bans_max: 1,
        rooms_per_user_max: 2,
        organizations_per_user_max: 1,
        text_chars_max: 3,
        ..open()
    };
    let world = World::with(4, rules).await;
    let room = world.group(1, &[]).await;
    world.ask(room, 1, RoomRequest::Add(UserId(2))).await.unwrap();
    assert!(matches!(
        world.ask(room, 1, RoomRequest::Add(UserId(3))).await,
        Err(ChatError::Full("members of a room"))
    ));
    world.ask(room, 1, RoomRequest::Ban(UserId(2))).await.unwrap();
    assert!(matches!(
        world.ask(room, 1, RoomRequest::Ban(UserId(3))).await,
        Err(ChatError::Full("bans of a room"))
    ));
    let members = vec![UserId(2), UserId(3)];
    let refused = world.chat.group_create(UserId(1), members, None, RoomEdit::default()).await;
    assert!(matches!(refused, Err(ChatError::Full("members of a room"))));
    world.group(1, &[]).await;
    let refused = world.chat.group_create(UserId(1), vec![], None, RoomEdit::default()).await;
    assert!(matches!(refused, Err(ChatError::Full("rooms of a user"))));
    let refused = world.chat.pair_open(UserId(2), UserId(1), RoomEdit::default()).await;
    assert!(matches!(refused, Err(ChatError::Full("rooms of a user"))));
    let own = world.group(4, &[]).await;
    let refused = world.ask(own, 4, RoomRequest::Add(UserId(1))).await;
    assert!(matches!(refused, Err(ChatError::Full("rooms of a user"))));
    world.chat.organization_create(UserId(1), "One".into(), "one".into()).await.unwrap();
    let refused = world.chat.organization_create(UserId(1), "Two".into(), "two".into()).await;
    assert!(matches!(refused, Err(ChatError::Full(_))));
    let refused = world.chat.organization_create(UserId(2), "One".into(), "one".into()).await;
    assert!(matches!(refused, Err(ChatError::Invalid { field: "uname", .. })));
    assert!(world.post(room, 1, "abc", None).await.is_ok());
    assert!(matches!(world.post(room, 1, "abcd", None).await, Err(ChatError::Invalid { field: "text", .. })));
}

/// What must hold whatever happened.
#[derive(Default)]
struct Model {
    /// Messages of the room: sender, text; `None` when deleted.
    messages: Vec<(u64, Option<String>)>,
    sent: BTreeMap<(u64, String), u64>,
    /// Members and what they have read.
    read: BTreeMap<u64, u64>,
    banned: Vec<u64>,
}

async fn check(world: &World, room: RoomId, model: &Model) {
    let store = world.chat.store();
    for (user, read) in &model.read {
        let expected = model.messages.iter().enumerate().skip(*read as usize);
        let expected = expected.filter(|(_, (sender, text))| text.is_some() && sender != user).count() as u64;
        let summary = world.chat.room(room, UserId(*user)).await.unwrap();
        assert_eq!(summary.member.read_seq, *read, "marker of {user}");
        assert_eq!(summary.unread, expected, "unread of {user}");
        assert_eq!(store.chat_unread_recount(room, UserId(*user)).await.unwrap(), Some(expected));
    }
    assert_eq!(world.chat.members(room).await.unwrap().len(), model.read.len());
    let stored = store.chat_gap(room, 0, u64::MAX).await.unwrap();
    assert_eq!(stored.len(), model.messages.len());
    for (index, (message, (sender, text))) in stored.iter().zip(&model.messages).enumerate() {
        assert_eq!(message.seq, index as u64 + 1, "numbers have no gap");
        assert_eq!(message.sender.0, *sender);
        assert_eq!((!message.deleted).then_some(&message.body.text), text.as_ref());
    }
    assert_eq!(world.watcher.seqs(room), (1..=stored.len() as u64).collect::<Vec<_>>(), "seen as stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_keep_counts_numbers_and_order() {
    let given = std::env::var("CHELSERU_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let fresh =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    let seeds = given.map_or(vec![1, 2, 3, fresh], |seed| vec![seed]);
    for seed in seeds {
        let run = tokio::spawn(history(seed));
        assert!(run.await.is_ok(), "failed with CHELSERU_SEED={seed}");
    }
}

async fn history(seed: u64) {
    const USERS: u64 = 5;
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut world = World::new(USERS).await;
    let room = world.group(1, &[2, 3]).await;
    let mut model = Model { read: BTreeMap::from([(1, 0), (2, 0), (3, 0)]), ..Model::default() };
    for step in 0..250 {
        let user = 1 + random.below(USERS);
        let member = model.read.contains_key(&user);
        let last = model.messages.len() as u64;
        match random.below(20) {
            0..=8 => {
                let id = (random.below(3) == 0).then(|| format!("c{}", random.below(4)));
                let result = world.post(room, user, &format!("s{step}"), id.as_deref()).await;
                assert_eq!(result.is_ok(), member, "{result:?}");
                let Ok(seq) = result else { continue };
                let known = id.clone().and_then(|id| model.sent.get(&(user, id)).copied());
                assert_eq!(seq, known.unwrap_or(last + 1));
                if known.is_none() {
                    model.messages.push((user, Some(format!("s{step}"))));
                    model.read.insert(user, seq);
                    id.map(|id| model.sent.insert((user, id), seq));
                }
            }
            9..=11 => {
                let seq = random.below(last + 3);
                assert_eq!(world.ask(room, user, RoomRequest::Read(seq)).await.is_ok(), member);
                if let Some(read) = model.read.get_mut(&user) {
                    *read = seq.min(last).max(*read);
                }
            }
            12..=13 if last > 0 => {
                let seq = 1 + random.below(last);
                let (sender, text) = model.messages[seq as usize - 1].clone();
                let delete = random.below(2) == 0;
                let edit = match delete {
                    true => MessageEdit::Delete,
                    false => MessageEdit::Body(post(user, &format!("e{step}"), None).body),
                };
                let result = world.chat.message_change(room, seq, UserId(user), edit).await;
                let may = member && text.is_some() && (sender == user || (delete && user == 1));
                assert_eq!(result.is_ok(), may, "{result:?}");
                if may {
                    model.messages[seq as usize - 1].1 = (!delete).then(|| format!("e{step}"));
                }
            }
            14 => {
                let result = world.ask(room, 1, RoomRequest::Add(UserId(user))).await;
                assert_eq!(result.is_ok(), !model.banned.contains(&user), "{result:?}");
                if result.is_ok() {
                    model.read.entry(user).or_insert(last);
                }
            }
            15 => {
                let result = world.ask(room, 1, RoomRequest::Remove(UserId(user))).await;
                assert_eq!(result.is_ok(), member && user != 1, "{result:?}");
                if result.is_ok() {
                    model.read.remove(&user);
                }
            }
            16 if user != 1 => {
                world.ask(room, 1, RoomRequest::Ban(UserId(user))).await.unwrap();
                model.read.remove(&user);
                model.banned.push(user);
            }
            17 => {
                world.ask(room, 1, RoomRequest::Unban(UserId(user))).await.unwrap();
                model.banned.retain(|banned| *banned != user);
            }
            18 if random.below(4) == 0 => world = world.restarted().await,
            _ => {}
        }
        if step % 10 == 0 {
            check(&world, room, &model).await;
        }
    }
    check(&world, room, &model).await;
}
