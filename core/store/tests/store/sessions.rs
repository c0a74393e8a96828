//! Sessions in the store: the gate, the limit per user, revocation, purging.

use chelseru_store::{SessionGate, SessionId, UserId};

use super::*;

fn ids(sessions: &[Session]) -> Vec<u64> {
    sessions.iter().map(|session| session.id.0).collect()
}

#[tokio::test]
async fn a_session_opens_until_it_expires() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, session) = store.log_in(NUMBER, 100).await;
        let at = async |now| store.session_gate(user.id, session.id, secs(now)).await.unwrap();
        assert_eq!(at(100).await, SessionGate::Open);
        assert_eq!(at(100 + SESSION_TTL - 1).await, SessionGate::Open);
        assert_eq!(at(100 + SESSION_TTL).await, SessionGate::Ended);
    }
}

#[tokio::test]
async fn a_session_opens_for_its_own_user_only() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, session) = store.log_in(NUMBER, 100).await;
        let (other, _) = store.log_in(&number(1), 100).await;
        let gate = async |user, session| store.session_gate(user, session, secs(101)).await.unwrap();
        assert_eq!(gate(other.id, session.id).await, SessionGate::Ended);
        assert_eq!(gate(user.id, SessionId(99)).await, SessionGate::Ended);
        assert_eq!(gate(UserId(99), session.id).await, SessionGate::UserMissing);
        store.user_set_active(user.id, false).await.unwrap();
        assert_eq!(gate(user.id, session.id).await, SessionGate::UserInactive);
        store.user_set_active(user.id, true).await.unwrap();
        assert_eq!(gate(user.id, session.id).await, SessionGate::Ended);
    }
}

#[tokio::test]
async fn sessions_are_listed_newest_first_in_pages_and_per_user() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, _) = store.log_in(NUMBER, 100).await;
        store.log_in(&number(1), 100).await;
        store.log_in(NUMBER, 200).await;
        store.log_in(NUMBER, 300).await;
        let page = async |before: Option<u64>, limit| {
            ids(&store.sessions_of(user.id, before.map(SessionId), limit).await.unwrap())
        };
        assert_eq!(page(None, 10).await, [4, 3, 1]);
        assert_eq!(page(None, 2).await, [4, 3]);
        assert_eq!(page(Some(3), 2).await, [1]);
        assert_eq!(page(Some(1), 2).await, [0; 0]);
        assert_eq!(store.sessions_of(UserId(99), None, 10).await.unwrap(), []);
    }
}

#[tokio::test]
async fn one_session_more_than_allowed_ends_the_oldest() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, first) = store.log_in(NUMBER, 100).await;
        for at in [200, 300] {
            store.log_in(NUMBER, at).await;
        }
        assert_eq!(store.sessions_of(user.id, None, 10).await.unwrap().len(), 3);
        assert_eq!(store.session_gate(user.id, first.id, secs(301)).await.unwrap(), SessionGate::Open);
        store.log_in(NUMBER, 400).await;
        assert_eq!(ids(&store.sessions_of(user.id, None, 10).await.unwrap()), [4, 3, 2]);
        assert_eq!(store.session_gate(user.id, first.id, secs(401)).await.unwrap(), SessionGate::Ended);
    }
}

#[tokio::test]
async fn a_lowered_bound_is_reached_with_the_next_login() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, _) = store.log_in(NUMBER, 100).await;
        store.log_in(NUMBER, 200).await;
        store.log_in(NUMBER, 300).await;
        store.open_code(NUMBER, 4, 400).await;
        let mut draft = login(NUMBER, RIGHT, 400);
        draft.session.per_user_max = 1;
        store.login_with_challenge(draft).await.unwrap();
        assert_eq!(ids(&store.sessions_of(user.id, None, 10).await.unwrap()), [4]);
    }
}

#[tokio::test]
async fn a_session_is_revoked_by_its_own_user_once() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, session) = store.log_in(NUMBER, 100).await;
        let (other, _) = store.log_in(&number(1), 100).await;
        assert!(!store.session_revoke(other.id, session.id).await.unwrap());
        assert_eq!(store.session_gate(user.id, session.id, secs(101)).await.unwrap(), SessionGate::Open);
        assert!(store.session_revoke(user.id, session.id).await.unwrap());
        assert!(!store.session_revoke(user.id, session.id).await.unwrap());
        assert_eq!(store.session_gate(user.id, session.id, secs(101)).await.unwrap(), SessionGate::Ended);
        assert_eq!(store.sessions_of(user.id, None, 10).await.unwrap(), []);
    }
}

#[tokio::test]
async fn all_sessions_but_one_are_revoked() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, first) = store.log_in(NUMBER, 100).await;
        let (_, kept) = store.log_in(NUMBER, 200).await;
        store.log_in(NUMBER, 300).await;
        let (other, others) = store.log_in(&number(1), 300).await;
        let ended = store.sessions_revoke_all(user.id, Some(kept.id)).await.unwrap();
        assert_eq!(ended, [SessionId(1), SessionId(3)]);
        assert_eq!(store.sessions_of(user.id, None, 10).await.unwrap(), std::slice::from_ref(&kept));
        assert_eq!(store.session_get(user.id, first.id).await.unwrap(), None);
        assert_eq!(store.sessions_revoke_all(user.id, None).await.unwrap(), [kept.id]);
        assert_eq!(store.session_gate(other.id, others.id, secs(301)).await.unwrap(), SessionGate::Open);
    }
}

#[tokio::test]
async fn touches_move_forward_and_bring_nothing_back() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, session) = store.log_in(NUMBER, 100).await;
        let (_, revoked) = store.log_in(NUMBER, 200).await;
        store.session_revoke(user.id, revoked.id).await.unwrap();
        let touches = vec![
            (user.id, session.id, secs(150)),
            (user.id, revoked.id, secs(250)),
            (UserId(9), session.id, secs(250)),
        ];
        assert_eq!(store.session_touch_many(touches).await.unwrap(), 1);
        store.session_touch_many(vec![(user.id, session.id, secs(120))]).await.unwrap();
        assert_eq!(store.session_get(user.id, session.id).await.unwrap().unwrap().last_seen_at, secs(150));
        assert_eq!(store.session_get(user.id, revoked.id).await.unwrap(), None);
    }
}

#[tokio::test]
async fn expired_sessions_are_purged_in_bounded_steps() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let mut users = Vec::new();
        for n in 0..5 {
            users.push(store.log_in(&number(n), 100 + n as u64).await.0.id);
        }
        let step = |now, limit| {
            let store = &store;
            async move {
                let step = store.sessions_purge(secs(now), limit).await.unwrap();
                (step.removed, step.finished)
            }
        };
        assert_eq!(step(99 + SESSION_TTL, 10).await, (0, true));
        assert_eq!(step(103 + SESSION_TTL, 3).await, (3, false));
        assert_eq!(step(103 + SESSION_TTL, 3).await, (1, true));
        // One engine walks over what stays, the other is led by an index.
        assert_eq!(step(103 + SESSION_TTL, 1).await, (0, engine == Engine::Postgres));
        assert_eq!(step(103 + SESSION_TTL, 1).await, (0, true));
        let mut left = Vec::new();
        for user in &users {
            left.push(store.sessions_of(*user, None, 9).await.unwrap().len());
        }
        assert_eq!(left, [0, 0, 0, 0, 1]);
    }
}

#[tokio::test]
async fn session_numbers_are_never_used_again() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, session) = store.log_in(NUMBER, 100).await;
        store.session_revoke(user.id, session.id).await.unwrap();
        let store = store.reopened();
        let (_, next) = store.log_in(NUMBER, 200).await;
        assert!(next.id > session.id);
    }
}

/// The gates of a bound token and of an unbound one.
async fn gates(store: &Store, session: &Session, binding: u64) -> [SessionGate; 2] {
    let gate = async |binding| {
        store.session_gate_of_token(session.user, session.id, binding, secs(101)).await.unwrap()
    };
    [gate(Some(binding)).await, gate(None).await]
}

#[tokio::test]
async fn a_token_opens_the_session_it_was_made_for_and_none_that_got_its_number() {
    use SessionGate::{Ended, Open};
    let store = TestStore::new(Engine::Sled);
    let (_, session) = store.log_in(NUMBER, 100).await;
    assert_eq!(gates(&store, &session, session.binding()).await, [Open, Ended]);
    assert_eq!(gates(&store, &session, session.binding() ^ 1).await, [Ended, Ended]);
    // The database is lost, and another person gets user 1 and session 1.
    let other = TestStore::new(Engine::Sled);
    other.open_code(&number(1), 1, 100).await;
    let mut draft = login(&number(1), RIGHT, 100);
    draft.session.key = Uuid::from_u128(7);
    let LoginOutcome::LoggedIn { session: theirs, .. } = other.login_with_challenge(draft).await.unwrap()
    else {
        panic!("not logged in")
    };
    assert_eq!((theirs.user, theirs.id), (session.user, session.id));
    assert_eq!(gates(&other, &session, session.binding()).await, [Ended, Ended]);
    let refresh = |binding| chelseru_store::RefreshDraft {
        user: session.user,
        session: session.id,
        binding,
        generation: 0,
        now: secs(101),
        idle_max: Duration::from_secs(1000),
        absolute_max: Duration::from_secs(1000),
        repeat_max: Duration::from_secs(10),
    };
    for binding in [Some(session.binding()), None] {
        let refused = other.refresh_rotate(refresh(binding)).await.unwrap();
        assert_eq!(refused, chelseru_store::RefreshOutcome::Ended);
    }
    let good = other.refresh_rotate(refresh(Some(theirs.binding()))).await.unwrap();
    assert!(matches!(good, chelseru_store::RefreshOutcome::Rotated(_)), "{good:?}");
}

#[tokio::test]
async fn an_upgrade_logs_nobody_out() {
    use SessionGate::{Ended, Open};
    let store = TestStore::new(Engine::Sled);
    let (_, before) = store.log_in(NUMBER, 100).await;
    // As an older version left it.
    let TestStore { store, folder, .. } = store;
    store.close();
    drop(store);
    let db = open_engine(folder.path());
    db.remove("munbound-sessions").unwrap().expect("it was noted");
    db.flush().unwrap();
    drop(db);
    let store = TestStore::open(folder);
    let (_, after) = store.log_in(&number(1), 100).await;
    let store = &store.reopened();
    assert_eq!(gates(store, &before, before.binding()).await, [Open, Open]);
    assert_eq!(gates(store, &after, after.binding()).await, [Open, Ended]);
}
