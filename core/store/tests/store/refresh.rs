//! Refresh tokens: replaced one by one, repeated after a lost answer, and the session's end when a replaced one
//! returns.

use chelseru_store::{RefreshDraft, RefreshOutcome, SessionGate, SessionId, UserId};

use super::*;

const IDLE: u64 = 1000;
const ABSOLUTE: u64 = 5000;
const REPEAT: u64 = 60;

fn draft(session: &Session, generation: u32, at_secs: u64) -> RefreshDraft {
    RefreshDraft {
        user: session.user,
        session: session.id,
        binding: Some(session.binding()),
        generation,
        now: secs(at_secs),
        idle_max: Duration::from_secs(IDLE),
        absolute_max: Duration::from_secs(ABSOLUTE),
        repeat_max: Duration::from_secs(REPEAT),
    }
}

async fn refresh(store: &TestStore, session: &Session, generation: u32, at_secs: u64) -> RefreshOutcome {
    store.refresh_rotate(draft(session, generation, at_secs)).await.unwrap()
}

async fn rotated(store: &TestStore, session: &Session, generation: u32, at_secs: u64) -> Session {
    match refresh(store, session, generation, at_secs).await {
        RefreshOutcome::Rotated(session) => session,
        other => panic!("not rotated: {other:?}"),
    }
}

#[tokio::test]
async fn a_refresh_gives_the_next_generation_and_more_time() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (_, session) = store.log_in(NUMBER, 100).await;
        assert_eq!((session.generation, session.rotated_at), (0, secs(100)));
        let next = rotated(&store, &session, 0, 500).await;
        assert_eq!((next.generation, next.rotated_at, next.expires_at), (1, secs(500), secs(500 + IDLE)));
        assert_eq!(next.last_seen_at, secs(500));
        let store = store.reopened();
        assert_eq!(rotated(&store, &session, 1, 600).await.generation, 2);
    }
}

#[tokio::test]
async fn the_last_token_may_be_repeated_until_its_successor_is_used_or_the_time_is_over() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (_, session) = store.log_in(NUMBER, 100).await;
        let next = rotated(&store, &session, 0, 200).await;
        assert_eq!(refresh(&store, &session, 0, 200 + REPEAT).await, RefreshOutcome::Repeated(next.clone()));
        assert_eq!(refresh(&store, &session, 0, 201).await, RefreshOutcome::Repeated(next));
        rotated(&store, &session, 1, 202).await;
        assert_eq!(refresh(&store, &session, 0, 203).await, RefreshOutcome::Reused);
        assert_eq!(refresh(&store, &session, 2, 204).await, RefreshOutcome::Ended);

        let (_, other) = store.log_in(NUMBER, 300).await;
        rotated(&store, &other, 0, 400).await;
        assert_eq!(refresh(&store, &other, 0, 401 + REPEAT).await, RefreshOutcome::Reused);
        assert_eq!(store.session_gate(other.user, other.id, secs(462)).await.unwrap(), SessionGate::Ended);
    }
}

#[tokio::test]
async fn an_older_token_ends_its_own_session_and_no_other() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (_, session) = store.log_in(NUMBER, 100).await;
        let (_, other) = store.log_in(NUMBER, 101).await;
        rotated(&store, &session, 0, 200).await;
        rotated(&store, &session, 1, 300).await;
        assert_eq!(refresh(&store, &session, 0, 301).await, RefreshOutcome::Reused);
        assert_eq!(
            store.session_gate(session.user, session.id, secs(302)).await.unwrap(),
            SessionGate::Ended
        );
        assert_eq!(store.session_gate(other.user, other.id, secs(302)).await.unwrap(), SessionGate::Open);
    }
}

#[tokio::test]
async fn parallel_refreshes_of_one_token_are_one_rotation() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (_, session) = store.log_in(NUMBER, 100).await;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (store, draft) = (store.store.clone(), draft(&session, 0, 200));
            calls.spawn(async move { store.refresh_rotate(draft).await.unwrap() });
        }
        let mut rotations = 0;
        for outcome in calls.join_all().await {
            match outcome {
                RefreshOutcome::Rotated(session) => {
                    rotations += 1;
                    assert_eq!(session.generation, 1);
                }
                RefreshOutcome::Repeated(session) => assert_eq!(session.generation, 1),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(rotations, 1);
        assert_eq!(rotated(&store, &session, 1, 201).await.generation, 2);
    }
}

#[tokio::test]
async fn a_session_ends_when_it_idles_or_is_too_old_however_often_it_is_refreshed() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (_, session) = store.log_in(NUMBER, 100).await;
        let mut at = 100;
        for generation in 0..5 {
            at += IDLE - 1;
            let next = rotated(&store, &session, generation, at).await;
            assert_eq!(next.expires_at, secs((at + IDLE).min(100 + ABSOLUTE)));
        }
        assert_eq!(refresh(&store, &session, 5, 100 + ABSOLUTE).await, RefreshOutcome::Ended);

        let (_, idle) = store.log_in(NUMBER, 10_000).await;
        rotated(&store, &idle, 0, 10_001).await;
        assert_eq!(refresh(&store, &idle, 1, 10_001 + IDLE).await, RefreshOutcome::Ended);
    }
}

#[tokio::test]
async fn tokens_of_others_and_of_the_future_change_nothing() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, session) = store.log_in(NUMBER, 100).await;
        let (other, _) = store.log_in(&number(1), 100).await;
        let of = |user, generation| RefreshDraft { user, ..draft(&session, generation, 200) };
        assert_eq!(store.refresh_rotate(of(other.id, 0)).await.unwrap(), RefreshOutcome::Ended);
        assert_eq!(store.refresh_rotate(of(UserId(99), 0)).await.unwrap(), RefreshOutcome::UserMissing);
        assert_eq!(store.refresh_rotate(of(user.id, 1)).await.unwrap(), RefreshOutcome::Ended);
        let missing = RefreshDraft { session: SessionId(99), ..draft(&session, 0, 200) };
        assert_eq!(store.refresh_rotate(missing).await.unwrap(), RefreshOutcome::Ended);
        rotated(&store, &session, 0, 201).await;
        store.user_set_active(user.id, false).await.unwrap();
        assert_eq!(store.refresh_rotate(of(user.id, 1)).await.unwrap(), RefreshOutcome::UserInactive);
    }
}
