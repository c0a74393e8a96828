//! Answered changes survive `kill -9`. This test binary runs itself as a child that logs users in. The parent reads
//! the answered sessions, kills the child in the middle of its work, and looks for each session.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use chelseru_store::{SessionGate, SessionId, UserId};

use super::*;

/// Names the store's folder; set only in the child.
const FOLDER: &str = "CHELSERU_STORE_CRASH_FOLDER";
const ROUNDS: usize = 10;
const CALLERS: usize = 16;

/// The child's part. Does nothing in an ordinary run, which lacks the folder in its environment.
#[test]
fn child_that_logs_in_until_it_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = Store::open(folder, StoreOptions::default()).unwrap();
        // A restarted round uses other numbers, so no code of the previous one is pending.
        let start = std::process::id() as usize % 1000;
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let store = store.clone();
                tokio::spawn(async move {
                    for n in 0.. {
                        let number = number(start * 10_000 + caller * 600 + n % 600);
                        let now = 100 + (n as u64) * 2 * TTL;
                        store.challenge_open(challenge(&number, 1, now)).await.unwrap();
                        let outcome = store.login_with_challenge(login(&number, RIGHT, now)).await.unwrap();
                        let LoginOutcome::LoggedIn { user, session, .. } = outcome else {
                            panic!("{outcome:?}")
                        };
                        // One write per line, so lines of several callers do not mix.
                        println!("answered {} {} {}", user.id, session.id, number);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    });
}

#[tokio::test]
async fn what_was_answered_survives_kill_nine() {
    let folder = tempfile::tempdir().unwrap();
    let mut sessions_seen = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::child_that_logs_in_until_it_is_killed", "--exact", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Each round is killed after a different amount of work, in the middle of a batch.
        let stop_after = 40 + round * 37;
        let mut answered = Vec::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.by_ref() {
            answered.extend(answer(&line.unwrap()));
            if answered.len() == stop_after {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(answered.len() >= stop_after, "round {round}: the child ended by itself");

        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        // A user keeps three sessions; check the newest answered one of each.
        let newest: std::collections::HashMap<_, _> =
            answered.iter().map(|(user, session, number)| (*user, (*session, number))).collect();
        for (user, (session, number)) in newest {
            let gate = store.session_gate(user, session, secs(101)).await.unwrap();
            assert_eq!(gate, SessionGate::Open, "round {round}: session {session} of user {user}");
            // And its code is consumed.
            let again = store.login_with_challenge(login(number, RIGHT, 101)).await.unwrap();
            assert!(!matches!(again, LoginOutcome::LoggedIn { .. }), "round {round}: {number} twice");
        }
        sessions_seen += answered.len();
    }
    assert!(sessions_seen >= ROUNDS * 40);
}

/// A line of the child. Other lines come from the test harness, and a truncated one was never read.
fn answer(line: &str) -> Option<(UserId, SessionId, String)> {
    let (_, rest) = line.split_once("answered ")?;
    let mut parts = rest.split(' ');
    let user = UserId(parts.next()?.parse().ok()?);
    let session = SessionId(parts.next()?.parse().ok()?);
    Some((user, session, parts.next()?.to_owned()))
}
