//! Random histories of chat, the same on every engine: rooms, members, requests, blocks, messages, files and
//! organisations. Each answer, the facts that every judge saw, and everything that can be read afterwards must be
//! equal. A failure names its seed; set `CHELSERU_SEED` to run that one.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use chelseru_store::chat::{
    Additions, Appended, Denied, FileDraft, FileId, FileKept, Judged, MessageBody, MessageChange,
    MessageDraft, MessageEdit, OrganizationId, OrganizationMade, PairDraft, Refusal, RoomChange, RoomDraft,
    RoomFacts, RoomId, RoomLimits, RoomMade, RoomStatus,
};
use chelseru_store::{StoreError, UserId};

use super::*;

const SEEDS: u64 = 8;
const STEPS: usize = 350;
const USERS: u64 = 7;
const LIMITS: RoomLimits = RoomLimits { rooms_per_user_max: 7, members_max: 5, bans_max: 3 };
/// Client ids in use, so that some are sent twice.
const CLIENT_IDS: u64 = 4;

/// What the histories must come across; they would show nothing of it otherwise.
const SEEN: &[&str] = &[
    "Accepting",
    "Known",
    "FileUnusable",
    "asked: [UserId",
    "Existing",
    "UserMissing",
    "Blocked",
    "TargetBlocked",
    "TooManyRequests",
    "TooManyRooms",
    "TooManyMembers",
    "OrganizationMissing",
    "HasRooms",
    "NameTaken",
    "TooMany",
    "Removed",
    "QuotaExceeded",
    "share_a_room: true",
    "blocks: true",
    "left: true",
    "waiting: 1",
    "target_banned: true",
    "actor_banned: true",
    "was_pending: true",
    "target_was_pending: true",
    "former: [UserId",
    "hidden_at: Some",
    "deleted: true",
    "more: true",
    "Edited",
    "ChatRequest",
    "swept at 1",
    "avatar removed at 1",
    "Some(Avatar",
];

/// xorshift64*: fixed numbers for a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn one_in(&mut self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    fn somebody(&mut self) -> UserId {
        UserId(1 + self.below(USERS))
    }

    /// Now and then one who does not exist.
    fn user(&mut self) -> UserId {
        if self.one_in(15) { UserId(USERS + 1) } else { self.somebody() }
    }

    fn text(&mut self) -> String {
        ["", "سلام", "a\0b", "\u{10FFFF}0", "hello", "😀"][self.below(6) as usize].to_owned()
    }
}

#[tokio::test]
async fn any_history_of_chat_is_the_same_on_every_engine() {
    let chosen = std::env::var("CHELSERU_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut unseen = SEEN.to_vec();
    for seed in chosen.map_or(1..=SEEDS, |seed| seed..=seed) {
        let mut expected: Option<Vec<String>> = None;
        for engine in engines() {
            let told = History::begin(engine, seed).await.told().await;
            unseen.retain(|what| !told.iter().any(|answer| answer.contains(what)));
            let Some(expected) = &expected else {
                expected = Some(told);
                continue;
            };
            for (at, (told, expected)) in told.iter().zip(expected).enumerate() {
                assert_eq!(told, expected, "{engine:?}, seed {seed}, answer {at}");
            }
            assert_eq!(told.len(), expected.len(), "{engine:?}, seed {seed}");
        }
    }
    assert!(chosen.is_some() || unseen.is_empty(), "no history came across {unseen:?}");
}

#[tokio::test]
async fn a_banned_user_does_not_return_to_the_pair() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (one, _) = store.log_in(&number(1), 100).await;
        let (other, _) = store.log_in(&number(2), 101).await;
        let open = async |user, other| {
            let draft = pair(user, other, Additions::Admit);
            answered(|then| store.chat_pair_open(draft, then)).await
        };
        let RoomMade::New { room, .. } = open(one.id, other.id).await else { panic!("{engine:?}: no room") };
        for (change, expected) in [(RoomChange::Ban, "banned"), (RoomChange::Unban, "back")] {
            let judge = move |_: &RoomFacts| Ok(vec![change.clone()]);
            let changed = answered(|then| {
                store.chat_room_change(room.id, one.id, Some(other.id), secs(300), judge, then)
            });
            assert!(matches!(changed.await, Judged::Done(_)));
            match open(other.id, one.id).await {
                RoomMade::Banned => assert_eq!(expected, "banned", "{engine:?}"),
                RoomMade::Existing(again) => {
                    assert_eq!((expected, again.id, again.members, again.bans), ("back", room.id, 2, 0));
                }
                made => panic!("{engine:?}: {made:?}"),
            }
        }
    }
}

pub(super) fn pair(user: UserId, other: UserId, additions: Additions) -> PairDraft {
    PairDraft {
        user,
        other,
        name: None,
        descriptions: None,
        status: RoomStatus::Open,
        owner_rights: 7,
        other_rights: 3,
        limits: LIMITS,
        additions,
        now: secs(200),
    }
}

pub(super) struct History {
    pub(super) store: TestStore,
    random: Random,
    now: u64,
    rooms: Vec<RoomId>,
    organizations: Vec<OrganizationId>,
    /// Of the organisations.
    owners: Vec<UserId>,
    files: Vec<FileId>,
    told: Vec<String>,
}

impl History {
    pub(super) async fn begin(engine: Engine, seed: u64) -> History {
        let store = TestStore::new(engine);
        for user in 1..=USERS {
            let (user, _) = store.log_in(&number(user as usize), 100 + user).await;
            assert!(user.id.0 <= USERS);
        }
        History {
            store,
            random: Random(seed),
            now: 1000,
            rooms: vec![RoomId(77)],
            organizations: vec![OrganizationId(9)],
            owners: vec![UserId(1)],
            files: Vec::new(),
            told: Vec::new(),
        }
    }

    async fn told(mut self) -> Vec<String> {
        self.run().await;
        self.read_all().await;
        self.told
    }

    pub(super) async fn run(&mut self) {
        for _ in 0..STEPS {
            self.now += self.random.below(3);
            self.step().await;
        }
    }

    /// All that can be read now.
    pub(super) async fn reading(&mut self) -> Vec<String> {
        // A copy has no room that waits for its sweep.
        self.sweep_all().await;
        self.told.clear();
        self.read_all().await;
        std::mem::take(&mut self.told)
    }

    fn tell(&mut self, what: &str, answer: impl Debug) {
        self.told.push(format!("{what} at {}: {answer:?}", self.now));
    }

    fn room(&mut self) -> RoomId {
        // Mostly one of the newest, so that much happens in the same ones.
        let all = self.rooms.len() as u64;
        let among = if self.random.one_in(4) { all } else { all.min(4) };
        self.rooms[(all - 1 - self.random.below(among)) as usize]
    }

    async fn step(&mut self) {
        match self.random.below(36) {
            0 | 1 => self.pair_open().await,
            2 | 27 | 28 => self.group_create().await,
            3..=8 => self.room_change().await,
            9..=17 | 30..=35 => self.append().await,
            18..=20 => self.message_change().await,
            21 => self.block().await,
            22 | 25 => self.organization().await,
            23 => self.file().await,
            24 => self.contacts().await,
            26 => self.sweep().await,
            _ => self.read_some().await,
        }
    }

    fn additions(&mut self) -> Additions {
        match self.random.one_in(2) {
            true => Additions::Admit,
            false => Additions::Ask { waiting_max: 3, waiting_per_sender_max: 1, requests_max: 3 },
        }
    }

    async fn pair_open(&mut self) {
        // Mostly the same few, so that they find their room again.
        let few = !self.random.one_in(3);
        let user = if few { UserId(1 + self.random.below(2)) } else { self.random.somebody() };
        let other = if few { UserId(2 + self.random.below(2)) } else { self.random.user() };
        let additions = self.additions();
        let descriptions = Some(self.random.text());
        let draft = PairDraft { descriptions, now: secs(self.now), ..pair(user, other, additions) };
        let made = answered(|then| self.store.chat_pair_open(draft, then)).await;
        if let RoomMade::New { room, .. } = &made {
            self.rooms.push(room.id);
        }
        self.tell("pair", made);
    }

    async fn group_create(&mut self) {
        let members = (0..self.random.below(6)).map(|_| self.random.user()).collect();
        let (owner, organization) = match self.random.one_in(3) {
            true => (self.owners[0], Some(self.organizations[0])),
            false => (self.random.somebody(), None),
        };
        let owner = if self.random.one_in(8) { self.random.somebody() } else { owner };
        let draft = RoomDraft {
            owner,
            owner_rights: u16::MAX,
            members,
            member_rights: 5,
            name: Some(self.random.text()),
            descriptions: None,
            status: RoomStatus::Hold,
            organization,
            limits: LIMITS,
            additions: self.additions(),
            now: secs(self.now),
        };
        let made = answered(|then| self.store.chat_group_create(draft, then)).await;
        if let RoomMade::New { room, .. } = &made {
            self.rooms.push(room.id);
        }
        self.tell("group", made);
    }

    fn change(&mut self) -> RoomChange {
        let random = &mut self.random;
        match random.below(20) {
            0 => RoomChange::Name(Some(random.text())),
            1 => RoomChange::Descriptions(None),
            2 => RoomChange::Status([RoomStatus::Open, RoomStatus::Closed][random.below(2) as usize]),
            3 => RoomChange::Avatar(self.files.last().copied()),
            4 | 5 => RoomChange::Member { rights: random.below(9) as u16 },
            6 | 7 => RoomChange::Invite { rights: 1, waiting_max: 2 },
            8 => RoomChange::Accept,
            9 => RoomChange::Dismiss,
            10 => RoomChange::Remove,
            11 => RoomChange::Owner,
            12 => RoomChange::Hide,
            13 | 17 | 18 => RoomChange::Ban,
            14 => RoomChange::Unban,
            15 => RoomChange::Pin(random.one_in(2)),
            19 => RoomChange::Await { rights: 2 },
            _ if random.one_in(4) => RoomChange::Delete,
            _ => RoomChange::Read(random.below(20)),
        }
    }

    async fn room_change(&mut self) {
        let (room, actor) = (self.room(), self.random.somebody());
        let target =
            (!self.random.one_in(3)).then(|| if self.random.one_in(3) { actor } else { self.random.user() });
        let leaves = target == Some(actor) && self.random.one_in(2);
        let mut changes = vec![if leaves { RoomChange::Remove } else { self.change() }];
        if changes != [RoomChange::Delete] && self.random.one_in(5) {
            changes.push(self.change());
        }
        let seen = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&seen);
        let judge = move |facts: &RoomFacts| {
            *noted.lock().unwrap() = Some(facts.clone());
            let adds = |change: &RoomChange| {
                use RoomChange::{Await, Ban, Invite, Member};
                matches!(change, Member { .. } | Invite { .. } | Await { .. } | Ban)
            };
            if !facts.target_exists && changes.iter().any(adds) {
                return Err(Refusal::Denied(Denied::TargetMissing));
            }
            let removes = |change: &RoomChange| matches!(change, RoomChange::Remove | RoomChange::Ban);
            if target == Some(facts.room.owner) && changes.iter().any(removes) {
                return Err(Refusal::Denied(Denied::OwnerProtected));
            }
            if facts.room.status == RoomStatus::Closed && changes.len() > 1 {
                return Err(Refusal::Denied(Denied::RoomClosed));
            }
            Ok(changes.clone())
        };
        let now = secs(self.now);
        let changed =
            answered(|then| self.store.chat_room_change(room, actor, target, now, judge, then)).await;
        let seen = seen.lock().unwrap().take();
        self.tell("facts", seen);
        self.tell("change", changed);
    }

    async fn append(&mut self) {
        let room = self.room();
        let draft = MessageDraft {
            room,
            sender: self.random.user(),
            body: MessageBody {
                kind: "text".into(),
                text: self.random.text(),
                raw: self.random.one_in(2),
                lat: self.random.one_in(4).then(|| "35.7".to_owned()),
                lng: None,
            },
            file: self.random.one_in(6).then(|| self.files.last().copied()).flatten(),
            client_id: self.random.one_in(2).then(|| format!("c{}", self.random.below(CLIENT_IDS))),
            now: secs(self.now),
        };
        let seen = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&seen);
        let judge = move |facts: &RoomFacts| {
            *noted.lock().unwrap() = Some(facts.clone());
            match facts.actor {
                Some(_) => Ok(()),
                None => Err(Refusal::Denied(Denied::NotMember)),
            }
        };
        let appended = answered(|then| self.store.chat_message_append(draft, judge, then)).await;
        let seen = seen.lock().unwrap().take();
        if let Judged::Done(Appended::New { position, .. } | Appended::Accepting { position, .. }) = &appended
        {
            assert_eq!(self.store.chat_position(room).await.unwrap(), Some(*position));
        }
        self.tell("facts", seen);
        self.tell("append", appended);
    }

    async fn message_change(&mut self) {
        let room = self.room();
        let last = self.store.chat_last_seq(room).await.unwrap();
        let edit = match self.random.below(4) {
            0 | 1 => MessageEdit::Delete,
            2 => MessageEdit::DropFile,
            _ => MessageEdit::Body(MessageBody {
                kind: "text".into(),
                text: self.random.text(),
                ..MessageBody::default()
            }),
        };
        let seq = 1 + self.random.below(last + 1);
        let actor = self.random.user();
        let change = MessageChange { room, seq, actor, edit, now: secs(self.now) };
        let judge =
            move |facts: &RoomFacts, message: &chelseru_store::chat::Message| match facts.actor.is_some()
                || message.sender == actor
            {
                true => Ok(()),
                false => Err(Refusal::Denied(Denied::NoRight)),
            };
        let changed = answered(|then| self.store.chat_message_change(change, judge, then)).await;
        self.tell("edit", changed);
    }

    async fn block(&mut self) {
        let (blocker, blocked) = (self.random.somebody(), self.random.user());
        if self.random.one_in(3) {
            return self.store.chat_unblock(blocker, blocked).await.unwrap();
        }
        let outcome = self.store.chat_block(blocker, blocked).await.unwrap();
        self.tell("block", outcome);
    }

    async fn organization(&mut self) {
        let among = if self.random.one_in(2) { self.organizations.len() as u64 } else { 1 };
        let at = self.random.below(among) as usize;
        let (owner, id) = match self.random.one_in(3) {
            true => (self.random.somebody(), self.organizations[at]),
            false => (self.owners[at], self.organizations[at]),
        };
        let uname = format!("org{}", self.random.below(4));
        match self.random.below(4) {
            0 | 1 => {
                let name = self.random.text();
                let now = secs(self.now);
                let made = self.store.chat_organization_create(owner, name, uname, 2, now).await.unwrap();
                if let OrganizationMade::New(organization) = &made {
                    self.organizations.insert(0, organization.id);
                    self.owners.insert(0, owner);
                }
                self.tell("organisation", made);
            }
            2 => {
                let name = self.random.one_in(2).then(|| self.random.text());
                let changed =
                    self.store.chat_organization_update(owner, id, name, Some(uname)).await.unwrap();
                self.tell("organisation", changed);
            }
            _ => {
                let removed = self.store.chat_organization_remove(owner, id).await.unwrap();
                self.tell("organisation", removed);
            }
        }
    }

    async fn file(&mut self) {
        let draft = FileDraft {
            room: if self.random.one_in(4) { None } else { Some(self.room()) },
            uploader: self.random.user(),
            name: format!("{}.txt", self.now * 1000 + self.told.len() as u64),
            folder: "/media/".into(),
            title: self.random.text(),
            content_type: "text/plain".into(),
            bytes: self.random.below(100),
            text: Some(self.random.text()),
            picture: None,
            quota_bytes: 2 * 4150,
            total_bytes: 5 * 4150,
            now: secs(self.now),
        };
        let kept = self.store.chat_file_keep(draft).await.unwrap();
        if let FileKept::Kept(file) = &kept {
            self.files.push(file.id);
        }
        self.tell("file", kept);
        if self.random.one_in(3) {
            let doomed = self.store.chat_files_doom(FileId(0), 5, secs(self.now - 20)).await.unwrap();
            for file in &doomed.0 {
                let forgotten = self.store.chat_file_forget(file.id).await.unwrap();
                self.tell("forgotten", forgotten);
            }
            self.tell("doomed", doomed);
        }
        if !self.files.is_empty() && self.random.one_in(6) {
            let id = self.files[self.random.below(self.files.len() as u64) as usize];
            let doomed = self.store.chat_file_doom(id).await.unwrap();
            self.tell("doomed alone", doomed);
            let (owner, reader) = (self.random.user(), self.random.user());
            let shown = self.store.avatar_for(id, reader).await.unwrap();
            self.tell("avatar", shown);
            let only = Some(id).filter(|_| self.random.one_in(2));
            let removed = self.store.avatar_remove(owner, only).await.unwrap();
            self.tell("avatar removed", removed);
        }
        let before = self.files.last().copied().filter(|_| self.random.one_in(2));
        let newest = self.store.chat_files_newest(before, 4).await.unwrap();
        self.tell("newest", newest);
    }

    async fn contacts(&mut self) {
        let user = self.random.somebody();
        let mut marks = Vec::new();
        for _ in 0..self.random.below(4) {
            marks.push([self.random.below(12) as u8; 16]);
        }
        if self.random.one_in(4) {
            let forgotten = self.store.contacts_forget(user, 2).await.unwrap();
            self.tell("forgotten", forgotten);
        }
        let added = self.store.contacts_add(user, marks, 5).await.unwrap();
        self.tell("contacts", added);
        let known = self.store.contacts_have(user, [self.random.below(12) as u8; 16]).await.unwrap();
        self.tell("known", known);
    }

    async fn sweep(&mut self) {
        let rooms = self.store.chat_rooms_to_sweep(10).await.unwrap();
        for room in &rooms {
            // How many records a message has is the engine's own affair.
            while self.store.chat_room_sweep(*room, 3).await.unwrap() > 0 {}
            assert_eq!(self.store.chat_last_seq(*room).await.unwrap(), 0);
        }
        self.tell("swept", rooms);
        assert_eq!(self.store.chat_rooms_to_sweep(10).await.unwrap(), []);
    }

    async fn read_some(&mut self) {
        let (room, user) = (self.room(), self.random.user());
        let (from, limit) = (self.random.below(20), 1 + self.random.below(6) as usize);
        let page = self.store.chat_messages_before(room, from, limit).await.unwrap();
        self.tell("before", page);
        let page = self.store.chat_messages_after(room, from, limit).await.unwrap();
        self.tell("after", page);
        let summary = self.store.chat_summary(room, user).await.unwrap();
        self.tell("summary", summary);
        let requests = self.store.chat_requests(user, 10).await.unwrap();
        self.tell("requests", requests);
        let share = self.store.chat_share_a_room(user, UserId(1)).await.unwrap();
        self.tell("share", share);
        let pair = self.store.chat_pair(user, UserId(2)).await.unwrap();
        self.tell("pair", pair);
    }

    async fn sweep_all(&mut self) {
        while let [_, ..] = self.store.chat_rooms_to_sweep(10).await.unwrap().as_slice() {
            self.sweep().await;
        }
    }

    async fn read_all(&mut self) {
        self.sweep_all().await;
        for room in self.rooms.clone() {
            self.read_room(room).await;
        }
        for user in (0..=USERS + 1).map(UserId) {
            let rooms = self.store.chat_rooms_of(user, 100).await.unwrap();
            self.tell("rooms", rooms);
            let requests = self.store.chat_requests(user, 100).await.unwrap();
            self.tell("requests", requests);
            let blocks = self.store.chat_blocks(user, UserId(2), 100).await.unwrap();
            self.tell("blocks", blocks);
            let owned = self.store.chat_organizations_of(user, 100).await.unwrap();
            self.tell("organisations", owned);
            let bytes = self.store.chat_file_bytes(user).await.unwrap();
            self.tell("bytes", bytes);
            let avatar = self.store.user_get(user).await.unwrap().and_then(|user| user.avatar);
            self.tell("avatar", avatar);
        }
        let rooms = self.store.chat_rooms_before(Some(RoomId(1000)), 50).await.unwrap();
        self.tell("rooms", rooms);
        let organizations = self.store.chat_organizations_before(None, 3).await.unwrap();
        self.tell("organisations", organizations);
        let total = self.store.chat_file_total().await.unwrap();
        self.tell("total", total);
        for file in self.files.clone() {
            let file = self.store.chat_file(file).await.unwrap();
            self.tell("file", file);
        }
        self.read_older().await;
    }

    /// The walk over old messages, whose steps may end elsewhere on each engine.
    async fn read_older(&mut self) {
        let (mut after, mut old) = ((RoomId(0), 0), Vec::new());
        loop {
            let before = secs(1000 + (self.now - 1000) / 2);
            let step = self.store.chat_messages_older(after, before, 4).await.unwrap();
            old.extend(step.old);
            let Some(next) = step.next else { break };
            assert!(next > after);
            after = next;
        }
        self.tell("older", old);
    }

    async fn read_room(&mut self, room: RoomId) {
        let position = self.store.chat_position(room).await.unwrap();
        self.tell("position", position);
        let members = self.store.chat_members(room, 100).await.unwrap();
        let some = self.store.chat_members_from(room, UserId(3), 2).await.unwrap();
        let bans = self.store.chat_bans(room, 100).await.unwrap();
        let some_bans = self.store.chat_bans_from(room, UserId(3), 2).await.unwrap();
        if let Some(facts) = self.store.chat_facts(room, UserId(1)).await.unwrap() {
            assert_eq!((facts.room.members as usize, facts.room.bans as usize), (members.len(), bans.len()));
            self.tell("facts", facts);
        }
        let last = self.store.chat_last_seq(room).await.unwrap();
        for member in &members {
            let counted = self.store.chat_unread_recount(room, member.user).await.unwrap();
            self.tell("unread", (member.unread(last), counted));
        }
        self.tell("members", (members, some, bans, some_bans));
        let gap = self.store.chat_gap(room, 0, last).await.unwrap();
        assert!(gap.iter().map(|message| message.seq).eq(1..=last), "a gap in {room:?}");
        for time in [0, self.now / 2, self.now] {
            let seq = self.store.chat_last_seq_before(room, secs(time)).await.unwrap();
            self.tell("last before", seq);
        }
        self.tell("messages", gap);
        let revision = position.map_or(0, |position| position.revision);
        let revisions = self.store.chat_revisions(room, revision / 2, revision).await.unwrap();
        self.tell("revisions", revisions);
        let message = self.store.chat_message(room, 1).await.unwrap();
        self.tell("first", message);
    }
}

/// The answer of a change that calls back.
pub(super) async fn answered<T: Send + 'static>(
    call: impl FnOnce(Box<dyn FnOnce(Result<T, StoreError>) + Send>) -> Result<(), StoreError>,
) -> T {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    call(Box::new(move |result| drop(sender.send(result)))).unwrap();
    receiver.await.unwrap().unwrap()
}
