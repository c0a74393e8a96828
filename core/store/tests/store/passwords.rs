//! Passwords: guarded, checked against the compared hash, changed together with the sessions.

use chelseru_store::{
    Guard, GuardOutcome, GuardRules, Guesser, PasswordLogin, PasswordLoginDraft, PasswordSet, ResetDraft,
    ResetOutcome, SessionGate, UserChange, UserDraft, UserId, UserMade,
};

use super::*;

const GUARD: [u8; 32] = [7; 32];
const TOTAL: [u8; 32] = [8; 32];
const RULES: GuardRules = GuardRules {
    free: 3,
    wait_first: Duration::from_secs(10),
    wait_max: Duration::from_secs(35),
    forget_after: Duration::from_secs(1000),
};

async fn guess(store: &TestStore, at_secs: u64) -> Option<u64> {
    let guards = vec![Guard { key: GUARD, rules: RULES }];
    match store.password_guard(guards, secs(at_secs)).await.unwrap() {
        GuardOutcome::Open => None,
        GuardOutcome::Waiting { retry_at, .. } => Some(retry_at.as_secs()),
    }
}

async fn registered(store: &TestStore, name: &str) -> User {
    let draft = UserDraft {
        username: name.to_owned(),
        look: name.to_lowercase(),
        email: "a@example.com".to_owned(),
        password_hash: "kept".to_owned(),
        staff: false,
        superuser: false,
        now: secs(50),
    };
    match store.user_register(draft).await.unwrap() {
        UserMade::Made(user) => user,
        UserMade::NameTaken => panic!("{name} is taken"),
    }
}

async fn log_in_with(store: &TestStore, user: UserId, checked: &str, at_secs: u64) -> Option<Session> {
    let draft = PasswordLoginDraft {
        user,
        renewed: None,
        checked: checked.to_owned(),
        guard: GUARD,
        total: TOTAL,
        now: secs(at_secs),
        session: login(NUMBER, RIGHT, at_secs).session,
    };
    match store.login_with_password(draft).await.unwrap() {
        PasswordLogin::LoggedIn { session, .. } => Some(session),
        PasswordLogin::Refused => None,
    }
}

#[tokio::test]
async fn guesses_are_free_then_wait_ever_longer_up_to_a_bound() {
    for engine in engines() {
        let store = TestStore::new(engine);
        for _ in 0..3 {
            assert_eq!(guess(&store, 100).await, None);
        }
        assert_eq!(guess(&store, 100).await, Some(110));
        assert_eq!(guess(&store, 109).await, Some(110), "a guess that has to wait is not counted");
        assert_eq!(guess(&store, 110).await, None);
        assert_eq!(guess(&store, 110).await, Some(130));
        assert_eq!(guess(&store, 130).await, None);
        assert_eq!(guess(&store, 131).await, Some(165), "40 s would be beyond the longest wait");
        for at in (165..1000).step_by(35) {
            assert_eq!(guess(&store, at).await, None);
        }
        let store = store.reopened();
        assert!(guess(&store, 1000).await.is_some(), "what was counted outlives a restart");
        assert_eq!(guess(&store, 3000).await, None);
        assert_eq!(guess(&store, 3000).await, None, "and is forgotten in the end");
    }
}

#[tokio::test]
async fn parallel_guesses_are_all_counted() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let mut guesses = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let store = store.store.clone();
            let guards = vec![Guard { key: GUARD, rules: RULES }];
            guesses.spawn(async move { store.password_guard(guards, secs(100)).await.unwrap() });
        }
        let open = guesses.join_all().await.into_iter().filter(|guess| *guess == GuardOutcome::Open).count();
        assert_eq!(open, 3);
    }
}

/// Two guards count each guess or neither does, and a right guess is given back to the total.
#[tokio::test]
async fn two_guards_count_as_one() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let user = registered(&store, "alice").await;
        let slow = GuardRules { free: 5, wait_max: RULES.wait_first, ..RULES };
        let guess = async |from: u8, at_secs: u64| {
            let guards = vec![Guard { key: [from; 32], rules: RULES }, Guard { key: TOTAL, rules: slow }];
            store.password_guard(guards, secs(at_secs)).await.unwrap()
        };
        let waiting = |retry_at: u64, first: usize| GuardOutcome::Waiting { retry_at: secs(retry_at), first };
        for _ in 0..3 {
            assert_eq!(guess(1, 100).await, GuardOutcome::Open);
        }
        assert_eq!(guess(1, 100).await, waiting(110, 0), "one address");
        assert_eq!(guess(2, 100).await, GuardOutcome::Open, "which the total did not count");
        assert_eq!(guess(3, 100).await, GuardOutcome::Open);
        assert_eq!(guess(4, 100).await, waiting(110, 1), "all addresses");
        assert_eq!(guess(4, 110).await, GuardOutcome::Open);
        assert_eq!(guess(5, 115).await, waiting(120, 1), "the total's wait does not grow");
        log_in_with(&store, user.id, "kept", 115).await.unwrap();
        store.guards_clear(vec![TOTAL]).await.unwrap();
        assert_eq!(guess(5, 115).await, GuardOutcome::Open);
    }
}

#[tokio::test]
async fn a_name_is_found_by_its_look_and_taken_by_it() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let user = registered(&store, "Alice").await;
        assert_eq!(store.user_by_look("alice").await.unwrap().unwrap(), user);
        let again = UserDraft {
            username: "aLICE".to_owned(),
            look: "alice".to_owned(),
            email: String::new(),
            password_hash: "kept".to_owned(),
            staff: false,
            superuser: false,
            now: secs(50),
        };
        assert_eq!(store.user_register(again).await.unwrap(), UserMade::NameTaken);
        let store = store.reopened();
        // Nothing is left to enter, and entering it again finds nothing alike.
        let step = store.looks_enter(str::to_lowercase, 10).await.unwrap();
        assert_eq!((step.read, step.alike), (1, vec![]));
        assert_eq!(store.looks_enter(str::to_lowercase, 10).await.unwrap().read, 0);
    }
}

#[tokio::test]
async fn forgotten_guards_are_purged() {
    for engine in engines() {
        let store = TestStore::new(engine);
        guess(&store, 100).await;
        assert_eq!(store.guards_purge(secs(1099), 10).await.unwrap().removed, 0);
        assert_eq!(store.guards_purge(secs(1100), 10).await.unwrap().removed, 1);
    }
}

#[tokio::test]
async fn a_right_password_opens_a_session_and_the_guard() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let user = registered(&store, "alice").await;
        for _ in 0..3 {
            guess(&store, 100).await;
        }
        let session = log_in_with(&store, user.id, "kept", 101).await.unwrap();
        assert_eq!(store.session_gate(user.id, session.id, secs(102)).await.unwrap(), SessionGate::Open);
        assert_eq!(guess(&store, 102).await, None);
        assert_eq!(store.user_get(user.id).await.unwrap().unwrap().last_login_at, Some(secs(101)));
        assert_eq!(store.password_of(user.id).await.unwrap().as_deref(), Some("kept"));
    }
}

#[tokio::test]
async fn a_password_changed_meanwhile_and_a_switched_off_account_open_nothing() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let user = registered(&store, "alice").await;
        assert_eq!(log_in_with(&store, user.id, "other", 100).await, None);
        assert_eq!(log_in_with(&store, UserId(99), "kept", 100).await, None);
        store.user_set_active(user.id, false).await.unwrap();
        assert_eq!(log_in_with(&store, user.id, "kept", 100).await, None);
    }
}

#[tokio::test]
async fn a_name_is_registered_once() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let user = registered(&store, "alice").await;
        assert_eq!((user.staff, user.superuser, user.number.as_str()), (false, false, ""));
        let again = UserDraft {
            username: "alice".to_owned(),
            look: "alice".to_owned(),
            email: String::new(),
            password_hash: "stolen".to_owned(),
            staff: true,
            superuser: true,
            now: secs(60),
        };
        assert_eq!(store.user_register(again).await.unwrap(), UserMade::NameTaken);
        assert_eq!(store.password_of(user.id).await.unwrap().as_deref(), Some("kept"));
        assert_eq!(store.user_by_name("alice").await.unwrap().unwrap(), user);
        registered(&store, "bob").await;
        let names = async |after, limit| {
            let users = store.users_list(after, limit).await.unwrap();
            users.into_iter().map(|user| user.username).collect::<Vec<_>>()
        };
        assert_eq!(names(None, 9).await, ["alice", "bob"]);
        assert_eq!(names(None, 1).await, ["alice"]);
        assert_eq!(names(Some(user.id), 9).await, ["bob"]);
        let newest = async |before, limit| {
            let users = store.users_newest(before, limit).await.unwrap();
            users.into_iter().map(|user| user.username).collect::<Vec<_>>()
        };
        assert_eq!(newest(None, 9).await, ["bob", "alice"]);
        assert_eq!(newest(None, 1).await, ["bob"]);
        let bob = store.user_by_name("bob").await.unwrap().unwrap();
        assert_eq!(newest(Some(bob.id), 9).await, ["alice"]);
        assert_eq!(newest(Some(user.id), 9).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let user = registered(&store, "alice").await;
        let kept = log_in_with(&store, user.id, "kept", 100).await.unwrap();
        let other = log_in_with(&store, user.id, "kept", 101).await.unwrap();
        let set = |checked: &str, hash: &str, except| {
            store.password_set(user.id, Some(checked.to_owned()), hash.to_owned(), except, secs(200))
        };
        assert_eq!(set("other", "new", None).await.unwrap(), PasswordSet::Refused);
        assert_eq!(set("kept", "new", Some(kept.id)).await.unwrap(), PasswordSet::Set(vec![other.id]));
        assert_eq!(store.password_of(user.id).await.unwrap().as_deref(), Some("new"));
        assert_eq!(store.session_gate(user.id, kept.id, secs(201)).await.unwrap(), SessionGate::Open);
        let nobody = store.password_set(UserId(99), None, "x".to_owned(), None, secs(200)).await.unwrap();
        assert_eq!(nobody, PasswordSet::Refused);
        assert_eq!(store.password_of(UserId(99)).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_reset_needs_its_own_code_and_ends_all_sessions() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, session) = store.log_in(NUMBER, 100).await;
        let reset = |mac, number: &str, at| {
            let draft = ResetDraft {
                number: number.to_owned(),
                group: 0,
                challenge: format!("{number}/reset"),
                mac,
                guesser: Guesser::default(),
                hash: "new".to_owned(),
                now: secs(at),
            };
            let store = store.store.clone();
            async move { store.password_reset(draft).await.unwrap() }
        };
        // A login code cannot reset a password.
        store.open_code(NUMBER, 2, 200).await;
        assert_eq!(reset(RIGHT, NUMBER, 201).await, ResetOutcome::Refused);
        store.open_code(&format!("{NUMBER}/reset"), 3, 202).await;
        assert_eq!(reset(WRONG, NUMBER, 203).await, ResetOutcome::Refused);
        assert_eq!(store.password_of(user.id).await.unwrap(), None);
        let ResetOutcome::Reset(of, ended) = reset(RIGHT, NUMBER, 204).await else { panic!("not reset") };
        assert_eq!((of.id, ended), (user.id, vec![session.id]));
        assert_eq!(store.password_of(user.id).await.unwrap().as_deref(), Some("new"));
        assert_eq!(reset(RIGHT, NUMBER, 205).await, ResetOutcome::Refused, "a code is used once");
        // Without an account the right code changes nothing.
        store.open_code(&format!("{}/reset", number(5)), 4, 206).await;
        assert_eq!(reset(RIGHT, &number(5), 207).await, ResetOutcome::Refused);
    }
}

#[tokio::test]
async fn a_user_is_changed_field_by_field() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let user = registered(&store, "alice").await;
        let change = UserChange { first_name: Some("آلیس".to_owned()), ..UserChange::default() };
        let changed = store.user_update(user.id, change).await.unwrap().unwrap();
        assert_eq!(changed, User { first_name: "آلیس".to_owned(), ..user });
        let store = store.reopened();
        assert_eq!(store.user_get(changed.id).await.unwrap(), Some(changed));
        assert_eq!(store.user_update(UserId(99), UserChange::default()).await.unwrap(), None);
    }
}
