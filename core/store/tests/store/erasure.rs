//! Erasing an account: what refuses it, what it removes at once, and what the steps remove later.

use chelseru_store::chat::{Additions, RoomChange, RoomFacts, RoomMade};
use chelseru_store::{
    ErasureBegun, ErasureDraft, ErasureProof, Guesser, Rights, SmsClass, SmsContent, SmsDraft, SmsOwner,
    SpendDraft, SpendMade, UserDraft, UserId, UserMade,
};

use super::chat::{answered, pair};
use super::*;

fn erase(user: UserId, proof: ErasureProof) -> ErasureDraft {
    ErasureDraft { user, look: "sara".into(), proof, forfeit: false, by: user, now: secs(500) }
}

fn by_code(mac: [u8; 32]) -> ErasureProof {
    ErasureProof::Code { challenge: NUMBER.to_owned(), mac, guesser: Guesser::default() }
}

#[tokio::test]
async fn a_code_is_counted_and_erases_once() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, session) = store.log_in(NUMBER, 100).await;
        let begin = async |proof| store.erasure_begin(erase(user.id, proof)).await.unwrap();
        assert_eq!(begin(by_code(RIGHT)).await, ErasureBegun::Refused, "no code was sent since the login");
        store.open_code(NUMBER, 7, 490).await;
        for _ in 0..5 {
            assert_eq!(begin(by_code(WRONG)).await, ErasureBegun::Refused);
        }
        assert_eq!(begin(by_code(RIGHT)).await, ErasureBegun::Exhausted);
        assert!(store.user_get(user.id).await.unwrap().is_some());

        store.challenge_release(NUMBER, 7).await.unwrap();
        store.open_code(NUMBER, 8, 495).await;
        assert_eq!(begin(by_code(RIGHT)).await, ErasureBegun::Begun { forfeited: 0 });
        assert_eq!(begin(by_code(RIGHT)).await, ErasureBegun::Missing);
        assert_eq!(store.user_get(user.id).await.unwrap(), None);
        assert_eq!(store.session_get(user.id, session.id).await.unwrap(), None);

        // The list survives a restart, and ends with the work.
        let store = store.reopened();
        let open = store.erasures_open(10).await.unwrap();
        assert_eq!((open[0].user, open[0].number.as_str(), open.len()), (user.id, NUMBER, 1));
        store.erasure_end(user.id).await.unwrap();
        assert_eq!(store.erasures_open(10).await.unwrap(), []);

        // The number is a new account's.
        let (again, _) = store.log_in(NUMBER, 600).await;
        assert_ne!(again.id, user.id);
    }
}

#[tokio::test]
async fn rights_money_and_a_changed_password_refuse_it() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let draft = UserDraft {
            username: "sara".into(),
            look: "sara".into(),
            email: "sara@example.com".into(),
            password_hash: "hash".into(),
            staff: true,
            superuser: false,
            now: secs(100),
        };
        let UserMade::Made(user) = store.user_register(draft.clone()).await.unwrap() else { panic!() };
        let begin = async |proof, forfeit| {
            let draft = ErasureDraft { forfeit, ..erase(user.id, proof) };
            store.erasure_begin(draft).await.unwrap()
        };
        let password = |hash: &str| ErasureProof::Password { checked: Some(hash.to_owned()) };
        assert_eq!(begin(ErasureProof::Staff, false).await, ErasureBegun::HasRights);
        store.user_set_rights(user.id, Rights::None).await.unwrap();
        assert_eq!(begin(password("older"), false).await, ErasureBegun::Refused);

        store.ledger_probe("given".into(), user.id, 700, secs(1)).await.unwrap();
        assert_eq!(begin(password("hash"), false).await, ErasureBegun::Balance(700));
        let hold = SpendDraft {
            user: user.id,
            amount: 200,
            hold: true,
            expires_at: None,
            order: String::new(),
            unique_order: false,
            description: String::new(),
            now: secs(1),
            once: None,
        };
        let SpendMade::Done(held) = store.spend_create(hold).await.unwrap() else { panic!("not held") };
        assert_eq!(begin(password("hash"), true).await, ErasureBegun::Held(200));
        store.spend_void(held.id, secs(2)).await.unwrap();
        assert_eq!(begin(password("hash"), true).await, ErasureBegun::Begun { forfeited: 700 });
        assert_eq!(store.wallet_balance(user.id).await.unwrap().available, 0);

        // The name is free again.
        assert!(matches!(store.user_register(draft).await.unwrap(), UserMade::Made(_)));
    }
}

#[tokio::test]
async fn looks_of_older_versions_go_with_the_account_and_those_of_others_stay() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let register = async |name: &str, look: &str| {
            let draft = UserDraft {
                username: name.into(),
                look: look.into(),
                email: String::new(),
                password_hash: "hash".into(),
                staff: false,
                superuser: false,
                now: secs(100),
            };
            match store.user_register(draft).await.unwrap() {
                UserMade::Made(user) => Some(user.id),
                UserMade::NameTaken => None,
            }
        };
        let sara = register("Sara", "sara").await.unwrap();
        let alike = register("Sara2", "sara2").await.unwrap();
        let third = register("Sara3", "sara3").await.unwrap();
        // An older version found names by other texts; one was empty.
        let older = |name: &str| match name {
            "Sara" => String::new(),
            name => format!("-{}", name.to_lowercase()),
        };
        store.looks_enter(older, 10).await.unwrap();
        assert_eq!((register("a", "").await, register("a", "-sara3").await), (None, None), "taken");

        let mut steps = 0;
        for user in [sara, third] {
            let begun =
                store.erasure_begin(ErasureDraft { look: String::new(), ..erase(user, ErasureProof::Staff) });
            assert_eq!(begun.await.unwrap(), ErasureBegun::Begun { forfeited: 0 });
            let mut after = Vec::new();
            while let Some(last) = store.erasure_looks(user, after, 2).await.unwrap() {
                (after, steps) = (last, steps + 1);
            }
            assert_eq!(store.erasure_looks(user, Vec::new(), 100).await.unwrap(), None, "again");
        }
        assert!(engine != Engine::Sled || steps > 2, "a step is bounded: {steps}");
        for (name, look) in [("a", "sara"), ("b", ""), ("c", "sara3"), ("d", "-sara3")] {
            assert!(register(name, look).await.is_some(), "{engine:?}: {look:?} is free");
        }
        for look in ["sara2", "-sara2"] {
            let found = store.user_by_look(look).await.unwrap().map(|user| user.id);
            assert_eq!(found, Some(alike), "{engine:?}: {look}");
        }
    }
}

#[tokio::test]
async fn declined_pairs_of_both_sides_go_and_those_of_others_stay() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let mut users = Vec::new();
        for n in 1..=3 {
            users.push(store.log_in(&number(n), 100).await.0.id);
        }
        let [one, two, three] = users[..] else { panic!() };
        for (asker, decliner) in [(one, two), (two, three), (three, one)] {
            decline(&store, asker, decliner).await;
        }
        let left = async |user| store.erasure_own(user, 10).await.unwrap();
        assert_eq!((left(two).await, left(two).await), (1, 0), "{engine:?}: the user's own");
        let mut after = (UserId(0), UserId(0));
        while let Some(last) = store.erasure_declines(two, after, 1).await.unwrap() {
            after = last;
        }
        assert_eq!((left(three).await, left(one).await), (0, 1), "{engine:?}: of others");
    }
}

/// One user opens a pair with another one, who declines it.
pub(super) async fn decline(store: &TestStore, asker: UserId, decliner: UserId) {
    let asking = Additions::Ask { waiting_max: 9, waiting_per_sender_max: 9, requests_max: 9 };
    let made = answered(|then| store.chat_pair_open(pair(asker, decliner, asking), then)).await;
    let RoomMade::New { room, asked, .. } = made else { panic!("{made:?}") };
    assert_eq!(asked, [decliner]);
    let judge = |_: &RoomFacts| Ok(vec![RoomChange::Dismiss]);
    answered(|then| store.chat_room_change(room.id, decliner, None, secs(300), judge, then)).await;
}

/// On sled a test beside the statements does it.
#[tokio::test]
async fn the_oldest_of_too_many_declined_pairs_is_dropped_on_postgresql() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let store = TestStore::new(Engine::Postgres);
    let (one, two) = (store.log_in(&number(1), 100).await.0.id, store.log_in(&number(2), 100).await.0.id);
    let database = store.database.as_ref().unwrap();
    let full = format!(
        "insert into account (id, active, username, number, group_number, created_at, first_name, last_name, email,
            staff, superuser, erased)
         select n, false, '', '', 0, now(), '', '', '', false, false, true from generate_series(2001, 3000) n;
         insert into chat_decline (decliner, asker, at)
         select {}, n, to_timestamp(n / 100) from generate_series(2001, 3000) n",
        two.0
    );
    database.run(&full).unwrap();
    decline(&store, one, two).await;
    // The division fails when the rows are others.
    let check = "select 1 / (count(*) = 1000 and min(asker) = 1 and not bool_or(asker = 2001))::int from chat_decline";
    database.run(check).unwrap();
}

#[tokio::test]
async fn messages_to_a_number_go_in_steps_in_every_state() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let insert = async |id: u64, number: &str| {
            let draft = SmsDraft {
                id,
                number: number.to_owned(),
                content: SmsContent::Text("hello".into()),
                class: SmsClass::Notice,
                owner: SmsOwner::Gateway,
                created_at: secs(1),
                deadline: secs(1000),
                begun: None,
                tried: Vec::new(),
                idempotency: None,
                quota: None,
                queue_max: 100,
            };
            store.sms_insert(draft).await.unwrap();
        };
        for id in 1..=5 {
            insert(id, NUMBER).await;
        }
        insert(6, "+989120000006").await;
        insert(secs(2).as_micros(), NUMBER).await;
        let mut removed = Vec::new();
        loop {
            match store.erasure_messages(NUMBER, secs(2), 2).await.unwrap() {
                0 => break,
                step => removed.push(step),
            }
        }
        assert_eq!(removed, [2, 2, 1]);
        assert_eq!(store.sms_waiting().await.unwrap(), 2, "another number's, and a later one");
        assert_eq!(store.sms_get(1).await.unwrap(), None);
        assert!(store.sms_get(6).await.unwrap().is_some());
    }
}
