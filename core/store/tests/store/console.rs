//! Operators of the console: each proof opens one session, and sessions end with the account's.

use chelseru_store::{
    CONSOLE_SESSIONS_MAX, ConsoleDraft, ConsoleProof, ConsoleSession, OperatorChange, OperatorRole,
    SecondFactor, UserId,
};

use super::*;

const OPERATOR: UserId = UserId(7);

fn draft(proof: ConsoleProof, hash: u8, at: u64) -> ConsoleDraft {
    ConsoleDraft {
        user: OPERATOR,
        proof,
        hash: [hash; 32],
        now: secs(at),
        expires_at: secs(at + 100),
        ip_address: "192.0.2.1".to_owned(),
        user_agent: "a browser".to_owned(),
    }
}

async fn open(store: &TestStore, proof: ConsoleProof, hash: u8, at: u64) -> Option<ConsoleSession> {
    store.console_open(draft(proof, hash, at)).await.unwrap()
}

async fn link(store: &TestStore, hash: u8, until: u64) {
    store.console_link_put(OPERATOR, [hash; 32], secs(until)).await.unwrap();
}

#[tokio::test]
async fn a_link_opens_once_and_within_its_time() {
    for engine in engines() {
        let store = TestStore::new(engine);
        assert!(open(&store, ConsoleProof::Link([1; 32]), 1, 5).await.is_none(), "no link yet");
        link(&store, 1, 10).await;
        assert!(open(&store, ConsoleProof::Link([2; 32]), 1, 5).await.is_none(), "another one");
        assert!(open(&store, ConsoleProof::Link([1; 32]), 1, 10).await.is_none(), "expired");
        let store = store.reopened();
        assert!(open(&store, ConsoleProof::Link([1; 32]), 1, 9).await.is_some());
        assert!(open(&store, ConsoleProof::Link([1; 32]), 2, 9).await.is_none(), "used");
    }
}

#[tokio::test]
async fn a_step_and_a_recovery_code_open_once() {
    for engine in engines() {
        let store = TestStore::new(engine);
        assert!(open(&store, ConsoleProof::Step(5), 1, 1).await.is_none(), "no factor");
        let factor =
            SecondFactor { sealed: vec![1], step: 5, recovery: vec![[8; 32], [9; 32]], since: secs(1) };
        store.operator_change(OPERATOR, OperatorChange::Factor(Some(factor))).await.unwrap();
        for (step, opens) in [(5, false), (6, true), (6, false), (4, false), (9, true), (8, false)] {
            assert_eq!(open(&store, ConsoleProof::Step(step), 1, 1).await.is_some(), opens, "{step}");
        }
        for (code, opens) in [(8, true), (8, false), (7, false), (9, true)] {
            let proof = ConsoleProof::Recovery([code; 32]);
            assert_eq!(open(&store, proof, 2, 1).await.is_some(), opens, "{code}");
        }
        let record = store.operator_get(OPERATOR).await.unwrap().unwrap();
        assert!(record.factor.unwrap().recovery.is_empty());
    }
}

#[tokio::test]
async fn sessions_are_bounded_and_the_oldest_gives_way() {
    for engine in engines() {
        let store = TestStore::new(engine);
        for n in 0..=CONSOLE_SESSIONS_MAX as u8 {
            link(&store, n, 1000).await;
            assert!(open(&store, ConsoleProof::Link([n; 32]), n, 5).await.is_some());
        }
        let sessions = store.console_sessions(OPERATOR).await.unwrap();
        assert_eq!(sessions.len(), CONSOLE_SESSIONS_MAX);
        assert!(store.console_session(OPERATOR, [0; 32]).await.unwrap().is_none(), "the oldest");
        // Expired ones go first.
        link(&store, 99, 1000).await;
        open(&store, ConsoleProof::Link([99; 32]), 99, 500).await.unwrap();
        assert_eq!(store.console_sessions(OPERATOR).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_role_a_removed_factor_and_the_end_of_all_sessions_end_the_console() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let sessions = async || store.console_sessions(OPERATOR).await.unwrap().len();
        let enter = async |hash: u8| {
            link(&store, hash, 1000).await;
            open(&store, ConsoleProof::Link([hash; 32]), hash, 5).await.unwrap();
            // An unused link must not outlive the sessions.
            link(&store, hash, 1000).await;
            assert_eq!(sessions().await, 1);
        };
        enter(1).await;
        store.operator_change(OPERATOR, OperatorChange::Role(Some(OperatorRole::Support))).await.unwrap();
        assert_eq!(sessions().await, 0);
        assert!(open(&store, ConsoleProof::Link([1; 32]), 1, 5).await.is_none(), "the link, too");
        enter(2).await;
        store.operator_change(OPERATOR, OperatorChange::Language("en".into())).await.unwrap();
        assert_eq!(sessions().await, 1, "a language ends nothing");
        store.operator_change(OPERATOR, OperatorChange::Factor(None)).await.unwrap();
        assert_eq!(sessions().await, 0);
        enter(3).await;
        store.sessions_revoke_all(OPERATOR, None).await.unwrap();
        assert_eq!(sessions().await, 0);
        let record = store.operator_get(OPERATOR).await.unwrap().unwrap();
        assert_eq!((record.role, record.language.as_str()), (Some(OperatorRole::Support), "en"));
        assert_eq!(store.operators().await.unwrap().len(), 1);
    }
}
