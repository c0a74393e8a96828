//! Chat at the domain's boundary: a temporary store, a clock moved by hand, and a port that notes what it is
//! shown. A failure of a random history prints its seed; set `CHELSERU_SEED` to run that one.

mod chat;
mod erasure;
mod nodes;
#[path = "../place/mod.rs"]
mod place;
mod requests;
mod search;

use std::sync::{Arc, Mutex};

use chelseru_domain::Timestamp;
use chelseru_domain::chat::{
    ChatError, ChatEvent, ChatPort, ChatRules, ChatService, Face, MessageBody, Post, RoomEdit, RoomId,
    RoomRequest, Strangers,
};
use chelseru_domain::clock::ManualClock;
use chelseru_domain::ids::UserId;
use chelseru_domain::secret::{KeyUse, MasterKey};
use chelseru_store::{ChallengeDraft, LoginDraft, LoginOutcome, SessionDraft, Store, StoreOptions};
use place::Place;

const START: Timestamp = Timestamp::from_secs(1_800_000_000);

#[derive(Default)]
struct Watcher {
    seen: Mutex<Vec<(RoomId, ChatEvent)>>,
}

impl ChatPort for Watcher {
    fn publish(&self, room: RoomId, events: &[ChatEvent]) {
        let mut seen = self.seen.lock().unwrap();
        seen.extend(events.iter().map(|event| (room, event.clone())));
    }
}

impl Watcher {
    /// Numbers of the messages seen, by room, in the order of seeing.
    fn seqs(&self, room: RoomId) -> Vec<u64> {
        let seen = self.seen.lock().unwrap();
        let of = |(at, event): &(RoomId, ChatEvent)| match event {
            ChatEvent::Posted(view) if *at == room => Some(view.message.seq),
            _ => None,
        };
        seen.iter().filter_map(of).collect()
    }
}

#[test]
fn everything_holds_over_postgresql_too() {
    place::run_again("erasure::old_messages_go_in_steps_and_keep_their_numbers", &[]);
}

struct World {
    chat: Arc<ChatService>,
    watcher: Arc<Watcher>,
    place: Place,
    rules: ChatRules,
    clock: Arc<ManualClock>,
}

impl World {
    async fn new(users: u64) -> World {
        World::with(users, open()).await
    }

    async fn with(users: u64, rules: ChatRules) -> World {
        let world = World::open(Place::new(), rules, Arc::default(), Arc::new(ManualClock::at(START)));
        for user in 1..=users {
            assert_eq!(log_in(world.chat.store(), &format!("+98912000{user:04}")).await, UserId(user));
        }
        world
    }

    fn open(place: Place, rules: ChatRules, watcher: Arc<Watcher>, clock: Arc<ManualClock>) -> World {
        let store = place.open(&StoreOptions::default());
        let contacts = MasterKey::from_bytes([7; 32]).derive(KeyUse::Contacts);
        let (chat, queue) = ChatService::new(store, clock.clone(), rules.clone(), contacts);
        tokio::spawn(ChatService::publish_all(queue, watcher.clone(), None));
        World { chat: Arc::new(chat), watcher, place, rules, clock }
    }

    /// As after an end of the process.
    async fn restarted(self) -> World {
        let World { chat, watcher, place, rules, clock } = self;
        chat.store().close();
        drop(chat);
        // The publisher's last handle goes with its task.
        tokio::task::yield_now().await;
        World::open(place, rules, watcher, clock)
    }

    async fn group(&self, owner: u64, members: &[u64]) -> RoomId {
        let members = members.iter().map(|id| UserId(*id)).collect();
        self.chat.group_create(UserId(owner), members, None, RoomEdit::default()).await.unwrap().id
    }

    async fn post(
        &self,
        room: RoomId,
        sender: u64,
        text: &str,
        client_id: Option<&str>,
    ) -> Result<u64, ChatError> {
        self.chat
            .post_and_wait(room, post(sender, text, client_id))
            .await
            .map(|posted| posted.view.message.seq)
    }

    async fn ask(&self, room: RoomId, actor: u64, request: RoomRequest) -> Result<(), ChatError> {
        self.chat.room_change(room, UserId(actor), request).await.map(drop)
    }
}

/// Rules under which everybody is admitted: most tests are of what members do.
fn open() -> ChatRules {
    ChatRules { strangers: Strangers::Admit, rooms_per_hour_max: 1_000_000, ..ChatRules::default() }
}

fn post(sender: u64, text: &str, client_id: Option<&str>) -> Post {
    Post {
        sender: UserId(sender),
        face: Face { name: format!("user{sender}").into(), avatar: None },
        body: MessageBody { kind: "text".into(), text: text.into(), ..MessageBody::default() },
        file: None,
        client_id: client_id.map(str::to_owned),
    }
}

async fn log_in(store: &Store, number: &str) -> UserId {
    let draft = ChallengeDraft {
        number: number.to_owned(),
        id: 1,
        mac: [1; 32],
        created_at: START,
        expires_at: START.plus(std::time::Duration::from_secs(60)),
        attempts_max: 5,
        others_max: 5,
        from: 0,
        resend_at: START,
    };
    store.challenge_open(draft).await.unwrap();
    let login = LoginDraft {
        number: number.to_owned(),
        mac: [1; 32],
        guesser: chelseru_store::Guesser::default(),
        group: 0,
        username: format!("G0-{number}"),
        create: true,
        now: START,
        session: SessionDraft {
            key: uuid::Uuid::from_u128(1),
            expires_at: START.plus(std::time::Duration::from_secs(3600)),
            user_agent: String::new(),
            ip_address: None,
            device_name: None,
            per_user_max: 5,
        },
    };
    match store.login_with_challenge(login).await.unwrap() {
        LoginOutcome::LoggedIn { user, .. } => user.id,
        other => panic!("{other:?}"),
    }
}

/// A small generator, so that a history is its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
