//! Chat of two gateways over one database at once: numbers without gaps, one room for a pair, no limit passed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chelseru_store::chat::{
    Additions, Appended, Blocked, Denied, Judged, Limit, MessageBody, MessageDraft, MessageEdit,
    OrganizationMade, Refusal, RoomChange, RoomDraft, RoomFacts, RoomId, RoomLimits, RoomMade, RoomStatus,
};
use chelseru_store::{StoreError, UserId};

use super::chat::{answered, pair};
use super::postgres::{at_once, two};
use super::*;

const ROOMS_MAX: usize = 5;
const LIMITS: RoomLimits = RoomLimits { rooms_per_user_max: 1000, members_max: 1000, bans_max: 10 };

async fn users(store: &Store, count: usize) -> Vec<UserId> {
    let mut users = Vec::new();
    for n in 1..=count {
        store.challenge_open(challenge(&number(n), n as u64, 100)).await.unwrap();
        let LoginOutcome::LoggedIn { user, .. } =
            store.login_with_challenge(login(&number(n), RIGHT, 100)).await.unwrap()
        else {
            panic!("not logged in")
        };
        users.push(user.id);
    }
    users
}

async fn group(store: &Store, owner: UserId, members: Vec<UserId>) -> RoomId {
    let draft = RoomDraft {
        owner,
        owner_rights: 7,
        members,
        member_rights: 3,
        name: None,
        descriptions: None,
        status: RoomStatus::Open,
        organization: None,
        limits: LIMITS,
        additions: Additions::Admit,
        now: secs(200),
    };
    match answered(|then| store.chat_group_create(draft, then)).await {
        RoomMade::New { room, .. } => room.id,
        made => panic!("{made:?}"),
    }
}

fn message(room: RoomId, sender: UserId, text: String, client_id: Option<String>) -> MessageDraft {
    let body = MessageBody { kind: "text".into(), text, ..MessageBody::default() };
    MessageDraft { room, sender, body, file: None, client_id, now: secs(300) }
}

fn member(facts: &RoomFacts) -> Result<(), Refusal> {
    facts.actor.map(drop).ok_or(Refusal::Denied(Denied::NotMember))
}

async fn change(
    store: &Store,
    room: RoomId,
    actor: UserId,
    target: Option<UserId>,
    judge: impl Fn(&RoomFacts) -> Result<Vec<RoomChange>, Refusal> + Send + Sync + 'static,
) -> bool {
    let changed = answered(|then| store.chat_room_change(room, actor, target, secs(300), judge, then)).await;
    matches!(changed, Judged::Done(_))
}

#[tokio::test]
async fn two_gateways_number_messages_without_gaps_and_take_none_twice() {
    let Some((stores, _database)) = two() else { return };
    let users = users(&stores[0], 4).await;
    let room = group(&stores[0], users[0], users.clone()).await;
    // Each client id is sent eight times, through both gateways.
    let senders = users.clone();
    let sent = at_once(&stores, 160, move |store, n| {
        let (sender, client_id) = (senders[n / 2 % 4], format!("id-{}", n / 2 % 20));
        async move {
            let draft = message(room, sender, client_id.clone(), Some(client_id.clone()));
            match answered(|then| store.chat_message_append(draft, member, then)).await {
                Judged::Done(Appended::New { message, position, .. }) => {
                    assert_eq!(position.seq, message.seq);
                    (sender, client_id, message.seq, true)
                }
                Judged::Done(Appended::Known { message, .. }) => (sender, client_id, message.seq, false),
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    let new: BTreeSet<u64> = sent.iter().filter(|sent| sent.3).map(|sent| sent.2).collect();
    assert_eq!(new.len(), sent.iter().filter(|sent| sent.3).count(), "no number is given twice");
    assert!(new.iter().copied().eq(1..=new.len() as u64), "no number is left out: {new:?}");
    let mut by_id = BTreeMap::new();
    for (sender, client_id, seq, _) in &sent {
        assert_eq!(by_id.entry((sender, client_id)).or_insert(seq), &seq, "one message for one client id");
    }
    assert_eq!(by_id.len(), new.len());
    let stored = stores[1].chat_gap(room, 0, u64::MAX).await.unwrap();
    assert!(stored.iter().map(|message| message.seq).eq(1..=new.len() as u64));
    assert_eq!(stores[1].chat_last_seq(room).await.unwrap(), new.len() as u64);
}

#[tokio::test]
async fn messages_of_one_caller_keep_their_order() {
    let Some((stores, _database)) = two() else { return };
    let users = users(&stores[0], 1).await;
    let room = group(&stores[0], users[0], Vec::new()).await;
    let (sender, mut answers) = tokio::sync::mpsc::unbounded_channel();
    for n in 0..100 {
        let sender = sender.clone();
        let draft = message(room, users[0], n.to_string(), None);
        let then = move |result: Result<Judged<Appended>, StoreError>| drop(sender.send(result.unwrap()));
        stores[0].chat_message_append(draft, member, then).unwrap();
    }
    for n in 0..100 {
        let Judged::Done(Appended::New { message, .. }) = answers.recv().await.unwrap() else { panic!() };
        assert_eq!((message.seq, message.body.text), (n + 1, n.to_string()));
    }
}

#[tokio::test]
async fn unread_counts_and_revisions_hold_while_two_gateways_delete_and_send() {
    let Some((stores, _database)) = two() else { return };
    let users = users(&stores[0], 3).await;
    let room = group(&stores[0], users[0], users.clone()).await;
    for n in 0..20 {
        let draft = message(room, users[0], n.to_string(), None);
        answered(|then| stores[0].chat_message_append(draft, member, then)).await;
    }
    let everyone = users.clone();
    at_once(&stores, 120, move |store, n| {
        let user = everyone[n % 3];
        async move {
            match n % 3 {
                0 => {
                    let edit = MessageEdit::Delete;
                    let seq = 1 + n as u64 / 3 % 20;
                    let wanted =
                        chelseru_store::chat::MessageChange { room, seq, actor: user, edit, now: secs(301) };
                    answered(|then| store.chat_message_change(wanted, |_, _| Ok(()), then)).await;
                }
                1 => {
                    let draft = message(room, user, n.to_string(), None);
                    answered(|then| store.chat_message_append(draft, member, then)).await;
                }
                _ => {
                    let seq = n as u64 % 25;
                    assert!(change(&store, room, user, None, move |_| Ok(vec![RoomChange::Read(seq)])).await);
                }
            }
        }
    })
    .await;
    let last = stores[0].chat_last_seq(room).await.unwrap();
    assert_eq!(last, 60);
    for member in stores[1].chat_members(room, 10).await.unwrap() {
        let counted = stores[0].chat_unread_recount(room, member.user).await.unwrap();
        if member.user != users[1] {
            assert_eq!(Some(member.unread(last)), counted, "{member:?}");
        }
    }
    let position = stores[1].chat_position(room).await.unwrap().unwrap();
    let revisions = stores[0].chat_revisions(room, 0, u64::MAX).await.unwrap();
    assert!(revisions.iter().map(|edited| edited.revision).eq(1..=position.revision), "{revisions:?}");
    assert_eq!(position.revision, 20);
}

#[tokio::test]
async fn a_pair_that_opens_its_room_through_two_gateways_has_one() {
    let Some((stores, _database)) = two() else { return };
    let users = users(&stores[0], 2).await;
    let made = at_once(&stores, 24, move |store, n| {
        let draft = pair(users[n / 2 % 2], users[(n / 2 + 1) % 2], Additions::Admit);
        async move {
            match answered(|then| store.chat_pair_open(draft, then)).await {
                RoomMade::New { room, .. } => (room.id, true),
                RoomMade::Existing(room) => (room.id, false),
                made => panic!("{made:?}"),
            }
        }
    })
    .await;
    assert_eq!(made.iter().filter(|made| made.1).count(), 1, "{made:?}");
    assert!(made.iter().all(|room| room.0 == made[0].0), "{made:?}");
}

#[tokio::test]
async fn two_gateways_add_nobody_to_more_rooms_than_allowed() {
    let Some((stores, _database)) = two() else { return };
    let users = users(&stores[0], 9).await;
    let target = users[8];
    let mut rooms = Vec::new();
    for owner in &users[..8] {
        for _ in 0..3 {
            rooms.push((*owner, group(&stores[0], *owner, Vec::new()).await));
        }
    }
    let added = at_once(&stores, rooms.len(), move |store, n| {
        let (owner, room) = rooms[n];
        async move {
            let judge = |facts: &RoomFacts| match facts.target_rooms < ROOMS_MAX {
                true => Ok(vec![RoomChange::Member { rights: 1 }]),
                false => Err(Refusal::Full(Limit::UserRooms)),
            };
            change(&store, room, owner, Some(target), judge).await
        }
    })
    .await;
    assert_eq!(added.iter().filter(|added| **added).count(), ROOMS_MAX);
    assert_eq!(stores[1].chat_rooms_of(target, 100).await.unwrap().len(), ROOMS_MAX);
}

/// Requests give way to newer ones in other rooms, crosswise.
#[tokio::test]
async fn two_gateways_keep_requests_within_their_limit() {
    let Some((stores, _database)) = two() else { return };
    let users = users(&stores[0], 6).await;
    let mut rooms = Vec::new();
    for owner in &users[..3] {
        for _ in 0..4 {
            rooms.push((*owner, group(&stores[0], *owner, Vec::new()).await));
        }
    }
    let (asked, places) = (users[3..].to_vec(), rooms.clone());
    let invited = at_once(&stores, 72, move |store, n| {
        let ((owner, room), target) = (places[n / 3 % places.len()], asked[n % 3]);
        async move {
            let judge = |facts: &RoomFacts| match facts.target {
                None => Ok(vec![RoomChange::Invite { rights: 1, waiting_max: 2 }]),
                Some(_) => Ok(Vec::new()),
            };
            change(&store, room, owner, Some(target), judge).await
        }
    })
    .await;
    assert!(invited.iter().all(|invited| *invited));
    for user in &users[3..] {
        assert_eq!(stores[0].chat_requests(*user, 100).await.unwrap().len(), 2);
    }
    for (_, room) in rooms {
        let members = stores[1].chat_members(room, 100).await.unwrap().len();
        let facts = stores[0].chat_facts(room, users[0]).await.unwrap().unwrap();
        assert_eq!(facts.room.members as usize, members);
    }
}

#[tokio::test]
async fn two_gateways_block_and_ask_in_one_order() {
    let Some((stores, _database)) = two() else { return };
    let users = users(&stores[0], 2).await;
    let (one, other) = (users[0], users[1]);
    for _ in 0..10 {
        let room = group(&stores[0], one, Vec::new()).await;
        let done = at_once(&stores, 2, move |store, n| async move {
            if n == 0 {
                return store.chat_block(other, one).await.unwrap() == Blocked::Done;
            }
            let judge = |facts: &RoomFacts| match facts.acquaintance.blocks {
                false => Ok(vec![RoomChange::Invite { rights: 1, waiting_max: 5 }]),
                true => Err(Refusal::Denied(Denied::Blocked)),
            };
            change(&store, room, one, Some(other), judge).await
        })
        .await;
        assert!(done[0]);
        // Asked before the block: the block ended the request. Asked after it: refused.
        assert_eq!(stores[0].chat_requests(other, 10).await.unwrap(), []);
        assert_eq!(stores[1].chat_members(room, 10).await.unwrap().len(), 1);
        stores[0].chat_unblock(other, one).await.unwrap();
    }
}

#[tokio::test]
async fn two_gateways_keep_names_and_contacts_within_their_limits() {
    let Some((stores, _database)) = two() else { return };
    let users = users(&stores[0], 2).await;
    let (one, other) = (users[0], users[1]);
    let made = at_once(&stores, 16, move |store, n| async move {
        let owner = if n / 2 % 2 == 0 { one } else { other };
        store.chat_organization_create(owner, "tea".into(), "tea".into(), 5, secs(1)).await.unwrap()
    })
    .await;
    assert_eq!(made.iter().filter(|made| matches!(made, OrganizationMade::New(_))).count(), 1, "{made:?}");
    at_once(&stores, 16, move |store, n| async move {
        store.chat_organization_create(one, "tea".into(), format!("tea-{n}"), 5, secs(1)).await.unwrap()
    })
    .await;
    assert_eq!(stores[0].chat_organizations_of(one, 100).await.unwrap().len(), 5);
    let added = at_once(&stores, 16, move |store, n| async move {
        store.contacts_add(one, vec![[n as u8; 16], [100; 16]], 6).await.unwrap()
    })
    .await;
    assert_eq!(added.iter().filter(|added| **added).count(), 5, "{added:?}");
}

/// Connections are cut in the middle of sending, by the server. What was answered is stored once.
#[tokio::test]
async fn messages_survive_connections_that_the_server_cuts() {
    let Some((stores, database)) = two() else { return };
    let users = users(&stores[0], 4).await;
    let room = group(&stores[0], users[0], users.clone()).await;
    let sending = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&sending);
    let sends = tokio::spawn({
        let stores = stores.clone();
        async move {
            at_once(&stores, 8, move |store, n| {
                let (sender, counted) = (users[n % 4], Arc::clone(&counted));
                async move {
                    let mut answered_for = Vec::new();
                    for m in 0..40 {
                        let client_id = format!("{n}-{m}");
                        loop {
                            let (sender_half, receiver) = tokio::sync::oneshot::channel();
                            let draft = message(room, sender, client_id.clone(), Some(client_id.clone()));
                            let then = move |result| drop(sender_half.send(result));
                            store.chat_message_append(draft, member, then).unwrap();
                            match receiver.await.unwrap() {
                                Ok(Judged::Done(
                                    Appended::New { message, .. } | Appended::Known { message, .. },
                                )) => {
                                    answered_for.push((client_id, message.seq));
                                    break;
                                }
                                Err(
                                    StoreError::Unavailable { .. } | StoreError::Busy | StoreError::Unsure,
                                ) => {}
                                other => panic!("{other:?}"),
                            }
                        }
                        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    answered_for
                }
            })
            .await
        }
    });
    while !sends.is_finished() {
        let before = sending.load(std::sync::atomic::Ordering::Relaxed);
        database.server.run(&format!(
            "select pg_terminate_backend(pid) from pg_stat_activity \
             where datname = '{}' and pid <> pg_backend_pid()",
            database.name
        ));
        // Some messages get through between two cuts.
        while !sends.is_finished() && sending.load(std::sync::atomic::Ordering::Relaxed) < before + 20 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let answered_for: Vec<(String, u64)> = sends.await.unwrap().into_iter().flatten().collect();
    let stored = stores[0].chat_gap(room, 0, u64::MAX).await.unwrap();
    assert!(stored.iter().map(|message| message.seq).eq(1..=320), "{} messages", stored.len());
    let by_seq: BTreeMap<u64, &str> =
        stored.iter().map(|message| (message.seq, message.client_id.as_deref().unwrap())).collect();
    for (client_id, seq) in &answered_for {
        assert_eq!(by_seq[seq], client_id);
    }
}
