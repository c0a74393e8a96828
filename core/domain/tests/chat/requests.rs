//! Strangers: requests, invitations, blocks, the directory, and a random history of all of them against a model.

use std::collections::{BTreeMap, BTreeSet};

use chelseru_domain::PhoneNumber;
use chelseru_domain::chat::{
    ChatError, ChatEvent, ChatRules, Denied, Directory, Finder, Removal, RoomEdit, RoomId, RoomRequest,
    Strangers,
};
use chelseru_domain::ids::UserId;

use crate::{Random, World};

fn asking() -> ChatRules {
    let many = 1_000_000;
    ChatRules { rooms_per_hour_max: many, requests_per_hour_max: many, ..ChatRules::default() }
}

impl World {
    async fn pair(&self, user: u64, other: u64) -> Result<RoomId, ChatError> {
        let opened = self.chat.pair_open(UserId(user), UserId(other), RoomEdit::default()).await;
        opened.map(|(room, _)| room.id)
    }

    async fn rooms(&self, user: u64) -> BTreeSet<RoomId> {
        let rooms = self.chat.rooms_and_hidden(UserId(user)).await.unwrap();
        rooms.iter().map(|summary| summary.room.id).collect()
    }

    /// Rooms that wait for a user, with who asked.
    async fn waiting(&self, user: u64) -> BTreeMap<RoomId, u64> {
        let requests = self.chat.requests(UserId(user)).await.unwrap();
        requests.iter().map(|waiting| (waiting.request.room, waiting.request.by.0)).collect()
    }
}

fn denied<T: std::fmt::Debug>(result: Result<T, ChatError>) -> Denied {
    match result {
        Err(ChatError::Denied(denied)) => denied,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_strangers_pair_waits_until_it_is_answered() {
    let world = World::with(2, asking()).await;
    let pair = world.pair(1, 2).await.unwrap();
    assert_eq!(world.post(pair, 1, "hello", None).await.unwrap(), 1);
    assert_eq!((world.rooms(1).await, world.rooms(2).await), (BTreeSet::from([pair]), BTreeSet::new()));
    assert_eq!(world.waiting(2).await, BTreeMap::from([(pair, 1)]));
    // One can read it, and do nothing that the other one would notice.
    assert_eq!(world.chat.room(pair, UserId(2)).await.unwrap().unread, 1);
    assert_eq!(denied(world.ask(pair, 2, RoomRequest::Read(1)).await), Denied::NotAccepted);
    assert_eq!(denied(world.ask(pair, 2, RoomRequest::Pin(true)).await), Denied::NotAccepted);
    // The answer accepts. It comes before the message, and every change has its number.
    assert_eq!(world.post(pair, 2, "hi", None).await.unwrap(), 2);
    assert_eq!((world.rooms(2).await, world.waiting(2).await), (BTreeSet::from([pair]), BTreeMap::new()));
    let seen = world.watcher.seen.lock().unwrap().clone();
    let events: Vec<&ChatEvent> = seen.iter().map(|(_, event)| event).collect();
    assert!(
        matches!(
            events[..],
            [
                ChatEvent::Made { .. },
                ChatEvent::Posted(_),
                ChatEvent::Accepted { user: UserId(2), .. },
                ChatEvent::Posted(_)
            ]
        ),
        "{events:?}"
    );
    let facts = world.chat.check(pair, UserId(2), chelseru_domain::chat::Action::Attend).await.unwrap();
    assert_eq!(facts.room.changes, 1);
    assert_eq!(denied(world.ask(pair, 2, RoomRequest::Accept).await), Denied::NoRequest);
}

#[tokio::test]
async fn a_disabled_accounts_requests_are_not_listed_while_it_is_disabled() {
    let world = World::with(3, asking()).await;
    let pair = world.pair(1, 2).await.unwrap();
    let group = world.group(3, &[2]).await;
    world.chat.store().user_set_active(UserId(1), false).await.unwrap();
    assert_eq!(world.waiting(2).await, BTreeMap::from([(group, 3)]));
    world.chat.store().user_set_active(UserId(1), true).await.unwrap();
    assert_eq!(world.waiting(2).await, BTreeMap::from([(pair, 1), (group, 3)]));
}

#[tokio::test]
async fn who_shares_a_room_and_staff_and_closed_communities_ask_nobody() {
    let world = World::with(4, asking()).await;
    let group = world.group(1, &[2]).await;
    assert_eq!(world.waiting(2).await, BTreeMap::from([(group, 1)]));
    assert_eq!(denied(world.chat.room(group, UserId(2)).await), Denied::NotMember);
    assert_eq!(denied(world.post(group, 2, "x", None).await), Denied::NotMember);
    world.ask(group, 2, RoomRequest::Accept).await.unwrap();
    let pair = world.pair(1, 2).await.unwrap();
    assert_eq!(world.rooms(2).await, BTreeSet::from([group, pair]));
    // A pair that was asked for makes nobody acquainted.
    world.pair(1, 3).await.unwrap();
    world.group(1, &[3]).await;
    assert_eq!((world.waiting(3).await.len(), world.rooms(3).await.len()), (2, 0));
    let staff = chelseru_store::Rights::Staff;
    world.chat.store().user_set_rights(UserId(4), staff).await.unwrap();
    let support = world.pair(4, 3).await.unwrap();
    assert_eq!(world.rooms(3).await, BTreeSet::from([support]));
    world.chat.set_rules(ChatRules { strangers: Strangers::Admit, ..asking() });
    world.pair(3, 2).await.unwrap();
    assert_eq!((world.rooms(2).await.len(), world.waiting(2).await.len()), (3, 0));
}

#[tokio::test]
async fn who_left_or_declined_is_asked_again() {
    let world = World::with(3, asking()).await;
    let group = world.group(1, &[2, 3]).await;
    world.ask(group, 2, RoomRequest::Accept).await.unwrap();
    world.ask(group, 3, RoomRequest::Decline).await.unwrap();
    assert_eq!(world.chat.members(group).await.unwrap().len(), 2);
    let other = world.group(1, &[2]).await;
    assert_eq!(world.rooms(2).await, BTreeSet::from([group, other]), "they share a room");
    world.ask(group, 2, RoomRequest::Remove(UserId(2))).await.unwrap();
    for user in [2, 3] {
        world.ask(group, 1, RoomRequest::Add(UserId(user))).await.unwrap();
        assert_eq!(world.waiting(user).await, BTreeMap::from([(group, 1)]), "user {user}");
    }
    world.ask(group, 2, RoomRequest::Accept).await.unwrap();
    // Who was removed by another one did not decide anything.
    world.ask(group, 1, RoomRequest::Remove(UserId(2))).await.unwrap();
    world.ask(group, 1, RoomRequest::Add(UserId(2))).await.unwrap();
    assert_eq!(world.rooms(2).await, BTreeSet::from([group, other]));
    // An invitation can be taken back.
    world.ask(group, 1, RoomRequest::Remove(UserId(3))).await.unwrap();
    assert_eq!(world.waiting(3).await, BTreeMap::new());
    // A declined pair stays for its opener, and opens when the other one names the opener.
    let pair = world.pair(1, 3).await.unwrap();
    world.ask(pair, 3, RoomRequest::Decline).await.unwrap();
    world.pair(1, 3).await.unwrap();
    world.post(pair, 1, "still there?", None).await.unwrap();
    assert_eq!((world.waiting(3).await.len(), world.rooms(3).await.len()), (0, 0));
    world.pair(3, 1).await.unwrap();
    assert_eq!(world.rooms(3).await, BTreeSet::from([pair]));
}

#[tokio::test]
async fn a_declined_pair_is_not_asked_for_again_by_kicking_the_other_one() {
    let world = World::with(2, asking()).await;
    let pair = world.pair(1, 2).await.unwrap();
    world.ask(pair, 2, RoomRequest::Decline).await.unwrap();
    let kicked = world.ask(pair, 1, RoomRequest::Remove(UserId(2))).await;
    assert_eq!(denied(kicked), Denied::PairRoom);
    assert_eq!(world.pair(1, 2).await.unwrap(), pair);
    assert_eq!((world.waiting(2).await, world.rooms(2).await), (BTreeMap::new(), BTreeSet::new()));
    assert_eq!(world.chat.members(pair).await.unwrap().len(), 2);
}

#[tokio::test]
async fn who_declined_a_pair_is_not_asked_again_whatever_becomes_of_the_room() {
    let rules = ChatRules { requests_per_hour_max: 4, ..asking() };
    let world = World::with(4, rules).await;
    let (one, other) = (UserId(1), UserId(2));
    let pair = world.pair(1, 2).await.unwrap();
    world.ask(pair, 2, RoomRequest::Decline).await.unwrap();
    let told = world.watcher.seen.lock().unwrap().len();
    let opened = async || {
        let pair = world.pair(1, 2).await.unwrap();
        let members = world.chat.members(pair).await.unwrap();
        let members: Vec<_> = members.iter().map(|member| (member.user, member.pending)).collect();
        assert_eq!(members, [(one, false), (other, true)], "the opener sees what is always seen");
        assert_eq!((world.waiting(2).await, world.rooms(2).await), (BTreeMap::new(), BTreeSet::new()));
        pair
    };
    world.ask(pair, 1, RoomRequest::Ban(other)).await.unwrap();
    world.ask(pair, 1, RoomRequest::Unban(other)).await.unwrap();
    assert_eq!(opened().await, pair);
    world.chat.block(one, other).await.unwrap();
    world.chat.unblock(one, other).await.unwrap();
    assert_eq!(opened().await, pair);
    world.ask(pair, 1, RoomRequest::Delete).await.unwrap();
    let world_after = opened().await;
    assert_ne!(world_after, pair);
    world.post(world_after, 1, "still there?", None).await.unwrap();
    // Neither an event nor news are for the other one.
    let seen = world.watcher.seen.lock().unwrap()[told..].to_vec();
    for (room, event) in &seen {
        let for_other = match event {
            ChatEvent::Asked { .. } | ChatEvent::Declined { .. } | ChatEvent::Joined { .. } => true,
            ChatEvent::Made { members, asked, .. } => members.contains(&other) || !asked.is_empty(),
            _ => false,
        };
        assert!(!for_other, "{event:?}");
        let notice = chelseru_domain::chat::Notice::of(*room, event, true);
        if let Some(notice) = notice {
            assert!(!world.chat.addressed(&notice).await.unwrap().contains(&other), "{event:?}");
        }
    }
    // Each of the four was counted.
    assert!(matches!(world.pair(1, 3).await, Err(ChatError::Exhausted(_))));
    // A group is another thing, and so is another user's pair.
    let group = world.group(3, &[2]).await;
    let theirs = world.pair(4, 2).await.unwrap();
    assert_eq!(world.waiting(2).await, BTreeMap::from([(group, 3), (theirs, 4)]));
    // It ends when the one who declined accepts.
    world.pair(2, 1).await.unwrap();
    assert_eq!(world.rooms(2).await, BTreeSet::from([world_after]));
    world.clock.advance(std::time::Duration::from_secs(60 * 60));
    world.ask(world_after, 1, RoomRequest::Delete).await.unwrap();
    let again = world.pair(1, 2).await.unwrap();
    assert!(world.waiting(2).await.contains_key(&again));
}

#[tokio::test]
async fn a_declined_pair_is_asked_for_again_once_the_other_one_opened_it() {
    let world = World::with(2, asking()).await;
    let pair = world.pair(1, 2).await.unwrap();
    world.ask(pair, 2, RoomRequest::Decline).await.unwrap();
    world.ask(pair, 1, RoomRequest::Delete).await.unwrap();
    // The room is gone; who declined opens one.
    let own = world.pair(2, 1).await.unwrap();
    assert_eq!(world.waiting(1).await, BTreeMap::from([(own, 2)]));
    world.ask(own, 2, RoomRequest::Delete).await.unwrap();
    let again = world.pair(1, 2).await.unwrap();
    assert_eq!(world.waiting(2).await, BTreeMap::from([(again, 1)]));
}

#[tokio::test]
async fn a_ban_is_told_to_those_who_saw_the_user_in_the_room() {
    let world = World::with(4, asking()).await;
    let group = world.group(1, &[2, 3]).await;
    world.ask(group, 2, RoomRequest::Accept).await.unwrap();
    let pair = world.pair(1, 3).await.unwrap();
    let begin = world.watcher.seen.lock().unwrap().len();
    // A member, twice; an invited user; a stranger, twice.
    for user in [2, 2, 3, 4, 4] {
        world.ask(group, 1, RoomRequest::Ban(UserId(user))).await.unwrap();
    }
    // The other user of a pair has not answered yet.
    world.chat.block(UserId(1), UserId(3)).await.unwrap();
    let seen = world.watcher.seen.lock().unwrap()[begin..].to_vec();
    let banned = ChatEvent::Removed { user: UserId(2), why: Removal::Banned };
    let ended = ChatEvent::Declined { user: UserId(3) };
    assert_eq!(seen, [(group, banned), (group, ended.clone()), (pair, ended)]);
    assert_eq!(world.waiting(3).await, BTreeMap::new());
    let bans = world.chat.bans(group).await.unwrap();
    assert_eq!(bans, [UserId(2), UserId(3), UserId(4)]);
}

#[tokio::test]
async fn requests_are_no_rooms_and_fill_nothing() {
    let rules = ChatRules { requests_max: 3, rooms_per_user_max: 3, ..asking() };
    let world = World::with(7, rules.clone()).await;
    for user in 2..=6 {
        world.pair(user, 1).await.unwrap();
    }
    // The oldest ones went, and the user's own rooms are free.
    let by: Vec<u64> = world.waiting(1).await.into_values().collect();
    assert_eq!(by, [4, 5, 6]);
    let rooms = [world.group(1, &[]).await, world.group(1, &[]).await, world.group(1, &[]).await];
    let full = world.ask(*world.waiting(1).await.keys().next().unwrap(), 1, RoomRequest::Accept).await;
    assert!(matches!(full, Err(ChatError::Full("rooms of a user"))), "{full:?}");
    let pair = *world.waiting(1).await.keys().next().unwrap();
    let full = world.post(pair, 1, "an answer accepts", None).await;
    assert!(matches!(full, Err(ChatError::Full("rooms of a user"))), "{full:?}");
    world.ask(rooms[0], 1, RoomRequest::Delete).await.unwrap();
    world.post(pair, 1, "an answer accepts", None).await.unwrap();
    // Nobody fills another's list alone, and an invitation that was pushed out is a member no more.
    world.chat.set_rules(ChatRules { requests_max: 10, rooms_per_user_max: 100, ..rules });
    let mut groups = Vec::new();
    for _ in 0..5 {
        groups.push(world.group(7, &[2]).await);
    }
    let refused = world.chat.group_create(UserId(7), vec![UserId(2)], None, RoomEdit::default()).await;
    assert!(matches!(refused, Err(ChatError::Full(_))), "{refused:?}");
    let refused = world.ask(world.group(7, &[]).await, 7, RoomRequest::Add(UserId(2))).await;
    assert!(matches!(refused, Err(ChatError::Full(_))), "{refused:?}");
    world.chat.set_rules(ChatRules { requests_max: 5, rooms_per_user_max: 100, ..asking() });
    world.pair(3, 2).await.unwrap();
    assert_eq!(world.waiting(2).await.len(), 5);
    assert_eq!(world.chat.members(groups[0]).await.unwrap().len(), 1);
    assert_eq!(denied(world.ask(groups[0], 2, RoomRequest::Accept).await), Denied::NotMember);
    // A deleted room waits for nobody.
    world.ask(groups[1], 7, RoomRequest::Delete).await.unwrap();
    assert_eq!(world.waiting(2).await.len(), 4);
}

#[tokio::test]
async fn rooms_and_requests_of_an_hour_are_bounded_and_what_was_refused_is_not_counted() {
    let rules = ChatRules { rooms_per_hour_max: 4, requests_per_hour_max: 3, ..ChatRules::default() };
    let world = World::with(9, rules).await;
    let exhausted = |result: Result<RoomId, ChatError>| matches!(result, Err(ChatError::Exhausted(_)));
    for _ in 0..10 {
        assert!(matches!(world.pair(1, 99).await, Err(ChatError::UserMissing)));
    }
    let everybody = (2..=9).map(UserId).collect::<Vec<_>>();
    let refused = world.chat.group_create(UserId(1), everybody, None, RoomEdit::default()).await;
    assert!(matches!(refused, Err(ChatError::Exhausted(_))), "more strangers than may be asked");
    let pair = world.pair(1, 2).await.unwrap();
    assert_eq!(world.pair(1, 2).await.unwrap(), pair, "an existing room costs nothing");
    let group = world.group(1, &[3, 4]).await;
    assert!(exhausted(world.pair(1, 5).await), "a fourth stranger");
    let refused = world.ask(group, 1, RoomRequest::Add(UserId(5))).await;
    assert!(matches!(refused, Err(ChatError::Exhausted(_))), "{refused:?}");
    // Who is no stranger costs no request.
    world.ask(group, 3, RoomRequest::Accept).await.unwrap();
    world.pair(1, 3).await.unwrap();
    world.group(1, &[3]).await;
    assert!(exhausted(world.pair(1, 1).await), "a fifth room");
    assert!(world.pair(2, 5).await.is_ok(), "each user has an own allowance");
}

#[tokio::test]
async fn blocked_users_open_no_pair_and_invite_nobody() {
    let world = World::with(3, asking()).await;
    // Without a pair.
    world.chat.block(UserId(1), UserId(2)).await.unwrap();
    assert_eq!(denied(world.pair(2, 1).await), Denied::Blocked);
    let refused = world.chat.group_create(UserId(2), vec![UserId(1)], None, RoomEdit::default()).await;
    assert_eq!(denied(refused), Denied::Blocked);
    let group = world.group(2, &[3]).await;
    assert_eq!(denied(world.ask(group, 2, RoomRequest::Add(UserId(1))).await), Denied::Blocked);
    assert_eq!(denied(world.pair(1, 2).await), Denied::TargetBanned, "end the block first");
    world.chat.unblock(UserId(1), UserId(2)).await.unwrap();
    // A block answers a request: of a pair and of groups.
    let pair = world.pair(2, 1).await.unwrap();
    world.ask(group, 2, RoomRequest::Add(UserId(1))).await.unwrap();
    assert_eq!(world.waiting(1).await.len(), 2);
    world.chat.block(UserId(1), UserId(2)).await.unwrap();
    assert_eq!(world.waiting(1).await, BTreeMap::new());
    assert_eq!(denied(world.post(pair, 2, "x", None).await), Denied::Banned);
    assert_eq!(world.chat.blocks(UserId(1), UserId(0), 10).await.unwrap(), [UserId(2)]);
    // A block that was made in the pair's room outlives it.
    let pair = world.pair(3, 1).await.unwrap();
    world.pair(1, 3).await.unwrap();
    world.ask(pair, 3, RoomRequest::Ban(UserId(1))).await.unwrap();
    world.ask(pair, 3, RoomRequest::Delete).await.unwrap();
    assert_eq!(denied(world.pair(1, 3).await), Denied::Blocked);
    world.chat.unblock(UserId(3), UserId(1)).await.unwrap();
    world.pair(1, 3).await.unwrap();
    assert!(matches!(world.chat.block(UserId(1), UserId(99)).await, Err(ChatError::UserMissing)));
    assert!(matches!(world.chat.block(UserId(1), UserId(1)).await, Err(ChatError::Invalid { .. })));
}

#[tokio::test]
async fn after_a_block_ends_the_other_one_is_asked() {
    let world = World::with(2, asking()).await;
    let pair = world.pair(1, 2).await.unwrap();
    world.pair(2, 1).await.unwrap();
    world.chat.block(UserId(1), UserId(2)).await.unwrap();
    assert_eq!(world.rooms(2).await, BTreeSet::new());
    world.chat.unblock(UserId(1), UserId(2)).await.unwrap();
    assert_eq!(world.pair(1, 2).await.unwrap(), pair);
    assert_eq!(world.waiting(2).await, BTreeMap::from([(pair, 1)]));
    assert_eq!(world.pair(2, 1).await.unwrap(), pair);
    assert_eq!(world.rooms(2).await, BTreeSet::from([pair]));
}

#[tokio::test]
async fn the_directory_finds_who_knows_each_other() {
    let world = World::with(3, ChatRules { lookups_per_day_max: 30, ..asking() }).await;
    let number = |user: u64| PhoneNumber::parse(&format!("0912000{user:04}")).unwrap();
    let find = async |user: u64, other: u64| {
        let found = world.chat.find(UserId(user), &Finder::Number(number(other))).await;
        found.map(|found| found.map(|user| user.id.0))
    };
    let lookup = async |user: u64, others: &[u64]| {
        let numbers = others.iter().map(|other| number(*other)).collect();
        let found = world.chat.lookup(UserId(user), numbers).await.unwrap();
        found.into_iter().map(|user| user.map(|user| user.id.0)).collect::<Vec<_>>()
    };
    assert_eq!(find(1, 1).await.unwrap(), Some(1));
    assert_eq!(lookup(1, &[2, 3, 99]).await, [None, None, None]);
    assert_eq!(find(2, 1).await.unwrap(), Some(1), "1 has the number of 2");
    assert_eq!(find(1, 2).await.unwrap(), None, "2 has not that of 1");
    assert_eq!(lookup(2, &[1, 1]).await, [Some(1), Some(1)]);
    assert_eq!(find(1, 2).await.unwrap(), Some(2));
    // A shared room confirms no number.
    let group = world.group(1, &[3]).await;
    world.ask(group, 3, RoomRequest::Accept).await.unwrap();
    assert_eq!(find(1, 3).await.unwrap(), None);
    // The name of an account with a number is no way around it.
    let named = Finder::Username("G0-+989120000003".to_owned());
    assert_eq!(world.chat.find(UserId(1), &named).await.unwrap(), None);
    world.chat.block(UserId(2), UserId(1)).await.unwrap();
    assert_eq!(find(1, 2).await.unwrap(), None);
    world.chat.unblock(UserId(2), UserId(1)).await.unwrap();
    world.chat.contacts_forget(UserId(2)).await.unwrap();
    assert_eq!(find(1, 2).await.unwrap(), None);
    let limits = |directory| ChatRules { directory, lookups_per_day_max: 30, ..asking() };
    world.chat.set_rules(limits(Directory::Open));
    assert_eq!((find(1, 2).await.unwrap(), find(1, 3).await.unwrap()), (Some(2), Some(3)));
    assert_eq!(find(1, 99).await.unwrap(), None);
    world.chat.set_rules(limits(Directory::Off));
    assert!(matches!(find(1, 2).await, Err(ChatError::DirectoryOff)));
    world.chat.set_rules(limits(Directory::Contacts));
    let many = (0..29).map(|_| number(2)).collect();
    assert!(matches!(world.chat.lookup(UserId(1), many).await, Err(ChatError::Exhausted(_))));
}

/// A room as the model knows it.
#[derive(Default)]
struct Place {
    pair: Option<(u64, u64)>,
    owner: u64,
    /// Members; true when they accepted.
    members: BTreeMap<u64, bool>,
    bans: BTreeSet<u64>,
    left: BTreeSet<u64>,
}

#[derive(Default)]
struct Model {
    places: BTreeMap<RoomId, Place>,
    /// Requests by user: the room and who asks.
    waiting: BTreeMap<u64, BTreeMap<RoomId, u64>>,
    blocks: BTreeSet<(u64, u64)>,
    /// Who declined whose pair.
    declined: BTreeSet<(u64, u64)>,
}

const WAITING_MAX: usize = 3;

impl Model {
    fn pair(&self, one: u64, other: u64) -> Option<RoomId> {
        let pair = Some((one.min(other), one.max(other)));
        self.places.iter().find(|(_, place)| place.pair == pair).map(|(id, _)| *id)
    }

    fn share(&self, one: u64, other: u64) -> bool {
        let accepted = |place: &Place, user| place.members.get(user) == Some(&true);
        self.places.values().any(|place| accepted(place, &one) && accepted(place, &other))
    }

    fn blocks(&self, user: u64, other: u64) -> bool {
        let banned = self.pair(user, other).is_some_and(|pair| self.places[&pair].bans.contains(&other));
        banned || self.blocks.contains(&(user, other))
    }

    fn remove(&mut self, room: RoomId, user: u64) {
        if self.places.get_mut(&room).unwrap().members.remove(&user) == Some(false) {
            self.waiting.entry(user).or_default().remove(&room);
        }
    }

    fn end(&mut self, room: RoomId, user: u64) {
        self.waiting.entry(user).or_default().remove(&room);
        if self.places[&room].pair.is_none() {
            self.remove(room, user);
        }
    }

    fn invite(&mut self, room: RoomId, user: u64, by: u64) {
        if self.places[&room].pair.is_some() && self.declined.contains(&(user, by)) {
            self.places.get_mut(&room).unwrap().members.insert(user, false);
            return;
        }
        let waiting = self.waiting.entry(user).or_default();
        if waiting.len() >= WAITING_MAX {
            // All were made at one instant; then the lower number counts as older.
            let oldest = *waiting.keys().next().unwrap();
            self.end(oldest, user);
        }
        self.waiting.entry(user).or_default().insert(room, by);
        self.places.get_mut(&room).unwrap().members.insert(user, false);
    }

    fn accept(&mut self, room: RoomId, user: u64) {
        self.waiting.entry(user).or_default().remove(&room);
        let place = self.places.get_mut(&room).unwrap();
        place.members.insert(user, true);
        place.left.remove(&user);
        if let Some((one, other)) = place.pair {
            self.declined.remove(&(user, one + other - user));
        }
    }

    fn made(&mut self, room: RoomId, owner: u64, other: u64, pair: bool) {
        let known = self.share(owner, other);
        let pair = pair.then_some((owner.min(other), owner.max(other)));
        let members = BTreeMap::from([(owner, true)]);
        self.places.insert(room, Place { pair, owner, members, ..Place::default() });
        match known {
            true => drop(self.places.get_mut(&room).unwrap().members.insert(other, true)),
            false => self.invite(room, other, owner),
        }
    }

    fn block(&mut self, user: u64, other: u64) {
        self.blocks.insert((user, other));
        let asked: Vec<RoomId> = self
            .waiting
            .get(&user)
            .into_iter()
            .flatten()
            .filter(|(_, by)| **by == other)
            .map(|(room, _)| *room)
            .collect();
        asked.into_iter().for_each(|room| self.end(room, user));
        if let Some(pair) = self.acting_in_pair(user, other) {
            self.remove(pair, other);
            self.places.get_mut(&pair).unwrap().bans.insert(other);
        }
    }

    fn unblock(&mut self, user: u64, other: u64) {
        self.blocks.remove(&(user, other));
        if let Some(pair) = self.acting_in_pair(user, other) {
            self.places.get_mut(&pair).unwrap().bans.remove(&other);
        }
    }

    fn acting_in_pair(&self, user: u64, other: u64) -> Option<RoomId> {
        let place = |pair: &RoomId| &self.places[pair];
        self.pair(user, other)
            .filter(|pair| place(pair).members.contains_key(&user) && !place(pair).bans.contains(&user))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_of_strangers_agree_with_a_model() {
    let given = std::env::var("CHELSERU_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    let fresh =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    for seed in given.map_or(vec![1, 2, 3, 4, fresh], |seed| vec![seed]) {
        let run = tokio::spawn(history(seed));
        assert!(run.await.is_ok(), "failed with CHELSERU_SEED={seed}");
    }
}

async fn history(seed: u64) {
    const USERS: u64 = 5;
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let rules = ChatRules { requests_max: WAITING_MAX, ..asking() };
    let mut world = World::with(USERS, rules).await;
    let mut model = Model::default();
    for step in 0..200 {
        let user = 1 + random.below(USERS);
        let other = 1 + (user + random.below(USERS - 1)) % USERS;
        let known: Vec<RoomId> = model.places.keys().copied().collect();
        let room = match known.len() {
            0 => RoomId(0),
            rooms => known[random.below(rooms as u64) as usize],
        };
        let member = model.places.get(&room).and_then(|place| place.members.get(&user)).copied();
        let banned = model.places.get(&room).is_some_and(|place| place.bans.contains(&user));
        match random.below(12) {
            0 | 1 => open_pair(&world, &mut model, user, other).await,
            2 if known.len() < 12 => {
                let members = vec![UserId(other)];
                let made = world.chat.group_create(UserId(user), members, None, RoomEdit::default()).await;
                assert_eq!(made.is_ok(), !model.blocks(other, user), "step {step}: {made:?}");
                if let Ok(made) = made {
                    model.made(made.id, user, other, false);
                }
            }
            3 if !known.is_empty() && model.places[&room].pair.is_none() => {
                let (owner, place) = (model.places[&room].owner, &model.places[&room]);
                if owner == user || place.members.contains_key(&user) {
                    continue;
                }
                let (blocks, left) = (model.blocks(user, owner), place.left.contains(&user));
                let added = world.ask(room, owner, RoomRequest::Add(UserId(user))).await;
                assert_eq!(added.is_ok(), !blocks, "step {step}: {added:?}");
                match blocks {
                    true => {}
                    false if model.share(owner, user) && !left => model.accept(room, user),
                    false => model.invite(room, user, owner),
                }
            }
            4 | 5 if room.0 > 0 => {
                let accepted = world.ask(room, user, RoomRequest::Accept).await;
                assert_eq!(accepted.is_ok(), member == Some(false) && !banned, "step {step}: {accepted:?}");
                if accepted.is_ok() {
                    model.accept(room, user);
                }
            }
            6 if room.0 > 0 => {
                let declined = world.ask(room, user, RoomRequest::Decline).await;
                assert_eq!(declined.is_ok(), member == Some(false) && !banned, "step {step}: {declined:?}");
                if declined.is_ok() {
                    model.end(room, user);
                    match model.places[&room].pair {
                        Some((one, other)) => drop(model.declined.insert((user, one + other - user))),
                        None => drop(model.places.get_mut(&room).unwrap().left.insert(user)),
                    }
                }
            }
            7 if room.0 > 0 && model.places[&room].pair.is_none() => {
                let leaves = member.is_some() && model.places[&room].owner != user;
                let left = world.ask(room, user, RoomRequest::Remove(UserId(user))).await;
                assert_eq!(left.is_ok(), leaves, "step {step}: {left:?}");
                if leaves {
                    model.remove(room, user);
                    model.places.get_mut(&room).unwrap().left.insert(user);
                }
            }
            8 if room.0 > 0 => {
                let pair = model.places[&room].pair.is_some();
                let posted = world.post(room, user, "x", None).await;
                let may = !banned && (member == Some(true) || (member == Some(false) && pair));
                assert_eq!(posted.is_ok(), may, "step {step}: {posted:?}");
                if may && member == Some(false) {
                    model.accept(room, user);
                }
            }
            9 => {
                world.chat.block(UserId(user), UserId(other)).await.unwrap();
                model.block(user, other);
            }
            10 => {
                world.chat.unblock(UserId(user), UserId(other)).await.unwrap();
                model.unblock(user, other);
                if random.below(4) == 0 {
                    world = world.restarted().await;
                }
            }
            11 if room.0 > 0 && model.places[&room].pair.is_some() => {
                let deletes = model.places[&room].owner == user && member == Some(true) && !banned;
                let deleted = world.ask(room, user, RoomRequest::Delete).await;
                assert_eq!(deleted.is_ok(), deletes, "step {step}: {deleted:?}");
                if deletes {
                    model.places.remove(&room);
                    for waiting in model.waiting.values_mut() {
                        waiting.remove(&room);
                    }
                }
            }
            _ => {}
        }
        if step % 10 == 9 {
            check(&world, &model, USERS).await;
        }
    }
    check(&world, &model, USERS).await;
}

async fn open_pair(world: &World, model: &mut Model, user: u64, other: u64) {
    let opened = world.pair(user, other).await;
    let refused = model.blocks(other, user);
    match model.pair(user, other) {
        None => {
            assert_eq!(opened.is_ok(), !refused && !model.blocks(user, other), "{opened:?}");
            if let Ok(room) = opened {
                model.made(room, user, other, true);
                model.declined.remove(&(user, other));
            }
        }
        Some(room) => {
            assert_eq!(opened.is_ok(), !refused, "{opened:?}");
            if refused {
                return;
            }
            model.accept(room, user);
            let place = &model.places[&room];
            if place.members.len() < 2 && !place.bans.contains(&other) {
                model.invite(room, other, user);
            }
        }
    }
}

async fn check(world: &World, model: &Model, users: u64) {
    for user in 1..=users {
        let rooms = model.places.iter().filter(|(_, place)| place.members.get(&user) == Some(&true));
        let rooms: BTreeSet<RoomId> = rooms.map(|(id, _)| *id).collect();
        assert_eq!(world.rooms(user).await, rooms, "rooms of {user}");
        let waiting = model.waiting.get(&user).cloned().unwrap_or_default();
        assert_eq!(world.waiting(user).await, waiting, "requests of {user}");
    }
    for (id, place) in &model.places {
        let members = world.chat.members(*id).await.unwrap();
        let members: BTreeMap<u64, bool> =
            members.iter().map(|member| (member.user.0, !member.pending)).collect();
        assert_eq!(members, place.members, "members of {id:?}");
        let facts = world.chat.store().chat_facts(*id, UserId(0)).await.unwrap().unwrap();
        assert_eq!(facts.room.members as usize, members.len());
        assert_eq!(facts.room.bans as usize, place.bans.len());
    }
}
