//! Codes in the store: one pending per number, counted guesses, one login per code.

use chelseru_store::{ChallengeOpened, LoginOutcome, Timestamp, UserDraft};

use super::*;

fn wrong(attempts_left: u32) -> LoginOutcome {
    LoginOutcome::Wrong { attempts_left }
}

#[tokio::test]
async fn a_right_code_is_one_login_and_then_missing() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.open_code(NUMBER, 1, 100).await;
        let outcome = store.guess(RIGHT, 101).await;
        let LoginOutcome::LoggedIn { user, session, new_user, .. } = outcome else { panic!("{outcome:?}") };
        assert!(new_user && user.active);
        assert_eq!((user.username.as_str(), user.number.as_str(), user.group), ("G0-09121234567", NUMBER, 0));
        assert_eq!((user.id.0, session.id.0, session.user), (1, 1, user.id));
        assert_eq!((user.created_at, user.last_login_at), (secs(101), Some(secs(101))));
        assert_eq!(store.guess(RIGHT, 101).await, LoginOutcome::Missing);
        assert_eq!(store.user_by_identity(0, NUMBER).await.unwrap(), Some(user.clone()));
        assert_eq!(store.user_by_name("G0-09121234567").await.unwrap(), None, "found by what the name says");
        assert_eq!(store.session_get(user.id, session.id).await.unwrap(), Some(session));
        assert_eq!(store.user_get(user.id).await.unwrap(), Some(user));
    }
}

#[tokio::test]
async fn a_code_that_was_never_sent_is_missing() {
    for engine in engines() {
        assert_eq!(TestStore::new(engine).guess(RIGHT, 100).await, LoginOutcome::Missing);
    }
}

#[tokio::test]
async fn four_wrong_guesses_leave_the_fifth_to_be_right() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.open_code(NUMBER, 1, 100).await;
        for left in [4, 3, 2, 1] {
            assert_eq!(store.guess(WRONG, 101).await, wrong(left));
        }
        assert!(matches!(store.guess(RIGHT, 101).await, LoginOutcome::LoggedIn { .. }));
    }
}

#[tokio::test]
async fn five_wrong_guesses_burn_the_code_for_the_right_one_too() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.open_code(NUMBER, 1, 100).await;
        for left in [4, 3, 2, 1, 0] {
            assert_eq!(store.guess(WRONG, 101).await, wrong(left));
        }
        assert_eq!(store.guess(RIGHT, 101).await, LoginOutcome::Burned);
        let store = store.reopened();
        assert_eq!(store.guess(RIGHT, 101).await, LoginOutcome::Burned);
        assert_eq!(store.open_code(NUMBER, 2, 102).await, ChallengeOpened::Opened);
        assert!(matches!(store.guess(RIGHT, 103).await, LoginOutcome::LoggedIn { .. }));
    }
}

#[tokio::test]
async fn wrong_guesses_are_counted_across_a_restart() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.open_code(NUMBER, 1, 100).await;
        assert_eq!(store.guess(WRONG, 101).await, wrong(4));
        assert_eq!(store.reopened().guess(WRONG, 101).await, wrong(3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_parallel_right_guesses_one_logs_in() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.open_code(NUMBER, 1, 100).await;
        let guesses: Vec<_> = (0..50)
            .map(|_| {
                let store = store.store.clone();
                tokio::spawn(
                    async move { store.login_with_challenge(login(NUMBER, RIGHT, 101)).await.unwrap() },
                )
            })
            .collect();
        let (mut logged_in, mut missing) = (0, 0);
        for guess in guesses {
            match guess.await.unwrap() {
                LoginOutcome::LoggedIn { .. } => logged_in += 1,
                LoginOutcome::Missing => missing += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((logged_in, missing), (1, 49));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_parallel_wrong_guesses_five_are_looked_at() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.open_code(NUMBER, 1, 100).await;
        let guesses: Vec<_> = (0..50)
            .map(|_| {
                let store = store.store.clone();
                tokio::spawn(
                    async move { store.login_with_challenge(login(NUMBER, WRONG, 101)).await.unwrap() },
                )
            })
            .collect();
        let mut left = Vec::new();
        for guess in guesses {
            match guess.await.unwrap() {
                LoginOutcome::Wrong { attempts_left } => left.push(attempts_left),
                LoginOutcome::Burned => {}
                other => panic!("{other:?}"),
            }
        }
        left.sort_unstable();
        assert_eq!(left, [0, 1, 2, 3, 4]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_parallel_opens_one_opens_and_its_code_is_the_one_that_works() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let opens: Vec<_> = (0..8u8)
            .map(|n| {
                let store = store.store.clone();
                tokio::spawn(async move {
                    let mut draft = challenge(NUMBER, u64::from(n), 100);
                    draft.mac = [n + 10; 32];
                    (n, store.challenge_open(draft).await.unwrap())
                })
            })
            .collect();
        let mut opened = Vec::new();
        for open in opens {
            match open.await.unwrap() {
                (n, ChallengeOpened::Opened) => opened.push(n),
                (_, ChallengeOpened::Pending { retry_at }) => assert_eq!(retry_at, secs(100 + TTL)),
            }
        }
        assert_eq!(opened.len(), 1);
        assert!(matches!(store.guess([opened[0] + 10; 32], 101).await, LoginOutcome::LoggedIn { .. }));
    }
}

#[tokio::test]
async fn a_code_is_good_until_the_instant_it_expires() {
    for engine in engines() {
        let just_before = Timestamp::from_micros(secs(100 + TTL).as_micros() - 1);
        for (now, works) in [(just_before, true), (secs(100 + TTL), false), (secs(100 + TTL + 1), false)] {
            let store = TestStore::new(engine);
            store.open_code(NUMBER, 1, 100).await;
            let mut draft = login(NUMBER, RIGHT, 100);
            draft.now = now;
            let outcome = store.login_with_challenge(draft).await.unwrap();
            match works {
                true => assert!(matches!(outcome, LoginOutcome::LoggedIn { .. })),
                false => assert_eq!(outcome, LoginOutcome::Expired),
            }
        }
    }
}

#[tokio::test]
async fn a_code_is_pending_until_the_instant_of_its_resend() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let mut draft = challenge(NUMBER, 1, 100);
        draft.resend_at = secs(160);
        store.challenge_open(draft).await.unwrap();

        let mut next = challenge(NUMBER, 2, 159);
        next.mac = WRONG;
        next.created_at = Timestamp::from_micros(secs(160).as_micros() - 1);
        let pending = ChallengeOpened::Pending { retry_at: secs(160) };
        assert_eq!(store.challenge_open(next.clone()).await.unwrap(), pending);
        next.created_at = secs(160);
        assert_eq!(store.challenge_open(next).await.unwrap(), ChallengeOpened::Opened);
        // The new code invalidated the old one; the formerly wrong guess is now right.
        assert_eq!(store.guess(RIGHT, 161).await, wrong(4));
        assert!(matches!(store.guess(WRONG, 161).await, LoginOutcome::LoggedIn { .. }));
    }
}

#[tokio::test]
async fn expired_and_used_codes_do_not_hold_up_the_next() {
    for engine in engines() {
        let store = TestStore::new(engine);
        assert_eq!(store.open_code(NUMBER, 1, 100).await, ChallengeOpened::Opened);
        assert_eq!(store.open_code(NUMBER, 2, 100 + TTL).await, ChallengeOpened::Opened);
        assert!(matches!(store.guess(RIGHT, 101 + TTL).await, LoginOutcome::LoggedIn { .. }));
        assert_eq!(store.open_code(NUMBER, 3, 101 + TTL).await, ChallengeOpened::Opened);
    }
}

#[tokio::test]
async fn a_resend_later_than_the_expiry_waits_only_for_the_expiry() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let mut draft = challenge(NUMBER, 1, 100);
        draft.resend_at = secs(100 + 2 * TTL);
        store.challenge_open(draft).await.unwrap();
        let pending = ChallengeOpened::Pending { retry_at: secs(100 + TTL) };
        assert_eq!(store.open_code(NUMBER, 2, 101).await, pending);
    }
}

#[tokio::test]
async fn a_released_code_is_gone_and_the_next_opens_at_once() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.open_code(NUMBER, 1, 100).await;
        assert!(!store.challenge_release(NUMBER, 99).await.unwrap());
        assert!(matches!(store.open_code(NUMBER, 2, 100).await, ChallengeOpened::Pending { .. }));
        assert!(store.challenge_release(NUMBER, 1).await.unwrap());
        assert!(!store.challenge_release(NUMBER, 1).await.unwrap());
        assert_eq!(store.guess(RIGHT, 100).await, LoginOutcome::Missing);
        assert_eq!(store.open_code(NUMBER, 2, 100).await, ChallengeOpened::Opened);
    }
}

#[tokio::test]
async fn a_code_that_may_have_been_sent_works_while_the_next_may_be_opened() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.open_code(NUMBER, 1, 100).await;
        assert!(!store.challenge_allow_resend(NUMBER, 99, secs(105)).await.unwrap());
        assert!(store.challenge_allow_resend(NUMBER, 1, secs(105)).await.unwrap());
        assert!(matches!(store.open_code(NUMBER, 2, 104).await, ChallengeOpened::Pending { .. }));
        assert!(matches!(store.guess(RIGHT, 105).await, LoginOutcome::LoggedIn { .. }));
        store.open_code(NUMBER, 3, 106).await;
        store.challenge_allow_resend(NUMBER, 3, secs(107)).await.unwrap();
        assert_eq!(store.open_code(NUMBER, 4, 107).await, ChallengeOpened::Opened);
    }
}

#[tokio::test]
async fn another_number_and_another_group_are_other_accounts() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (first, _) = store.log_in(NUMBER, 100).await;
        let (again, _) = store.log_in(NUMBER, 200).await;
        let (other, _) = store.log_in(&number(1), 300).await;
        assert_eq!((first.id.0, again.id.0, other.id.0), (1, 1, 2));
        store.open_code(NUMBER, 9, 400).await;
        let mut draft = login(NUMBER, RIGHT, 400);
        draft.group = 5;
        draft.username = "G5-09121234567".to_owned();
        let LoginOutcome::LoggedIn { user, new_user, .. } = store.login_with_challenge(draft).await.unwrap()
        else {
            panic!("not logged in");
        };
        assert_eq!((user.id.0, user.group, new_user), (3, 5, true));
    }
}

#[tokio::test]
async fn a_group_that_takes_no_new_accounts_refuses_them_and_keeps_the_code() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let mut draft = login(NUMBER, RIGHT, 100);
        draft.create = false;
        store.open_code(NUMBER, 1, 100).await;
        assert_eq!(store.login_with_challenge(draft.clone()).await.unwrap(), LoginOutcome::CreationRefused);
        assert!(matches!(store.guess(RIGHT, 100).await, LoginOutcome::LoggedIn { .. }));
        store.open_code(NUMBER, 2, 200).await;
        draft.now = secs(200);
        assert!(matches!(
            store.login_with_challenge(draft).await.unwrap(),
            LoginOutcome::LoggedIn { new_user: false, .. }
        ));
    }
}

#[tokio::test]
async fn who_holds_the_user_name_is_not_in_the_numbers_way() {
    for engine in engines() {
        let store = TestStore::new(engine);
        // Such names can no longer be registered; an older version allowed them.
        let squatter = UserDraft {
            username: "G0-09121234567".to_owned(),
            look: "G0-09121234567".to_owned(),
            email: String::new(),
            password_hash: "hash".to_owned(),
            staff: false,
            superuser: false,
            now: secs(100),
        };
        store.user_register(squatter).await.unwrap();
        let (user, _) = store.log_in(NUMBER, 200).await;
        assert_eq!(
            (user.id.0, user.username.as_str(), user.number.as_str()),
            (2, "G0-09121234567-2", NUMBER)
        );
        assert_eq!(store.user_by_name("G0-09121234567-2").await.unwrap(), Some(user.clone()));
        let (again, _) = store.log_in(NUMBER, 300).await;
        assert_eq!(again.id, user.id);
    }
}

#[tokio::test]
async fn an_inactive_user_spends_the_code_and_gets_no_session() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, session) = store.log_in(NUMBER, 100).await;
        assert!(store.user_set_active(user.id, false).await.unwrap());
        assert_eq!(store.session_get(user.id, session.id).await.unwrap(), None);
        store.open_code(NUMBER, 2, 200).await;
        assert_eq!(store.guess(RIGHT, 200).await, LoginOutcome::UserInactive);
        assert_eq!(store.guess(RIGHT, 200).await, LoginOutcome::Missing);
        assert_eq!(store.sessions_of(user.id, None, 10).await.unwrap(), []);
        assert!(store.user_set_active(user.id, true).await.unwrap());
        store.open_code(NUMBER, 3, 300).await;
        assert!(matches!(store.guess(RIGHT, 300).await, LoginOutcome::LoggedIn { .. }));
    }
}

#[tokio::test]
async fn expired_codes_are_purged_in_bounded_steps() {
    for engine in engines() {
        let store = TestStore::new(engine);
        for n in 0..10 {
            store.open_code(&number(n), 1, 100 + n as u64).await;
        }
        let step = |now, limit| {
            let store = &store;
            async move {
                let step = store.challenges_purge(secs(now), limit).await.unwrap();
                (step.removed, step.finished)
            }
        };
        assert_eq!(step(99 + TTL, 100).await, (0, true));
        assert_eq!(step(104 + TTL, 3).await, (3, false));
        // One engine walks over what stays, the other is led by an index.
        let (removed, finished) = step(104 + TTL, 3).await;
        assert_eq!(removed, 2);
        assert_eq!((finished, step(104 + TTL, 10).await), (engine == Engine::Postgres, (0, true)));
        let gone = store.login_with_challenge(login(&number(0), RIGHT, 101)).await.unwrap();
        assert_eq!(gone, LoginOutcome::Missing);
        let kept = store.login_with_challenge(login(&number(9), RIGHT, 110)).await.unwrap();
        assert!(matches!(kept, LoginOutcome::LoggedIn { .. }));
    }
}

#[tokio::test]
async fn purging_an_empty_store_finishes_at_once() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let nothing = chelseru_store::PurgeStep { removed: 0, finished: true };
        assert_eq!(store.challenges_purge(secs(1), 0).await.unwrap(), nothing);
        assert_eq!(store.sessions_purge(secs(1), 0).await.unwrap(), nothing);
    }
}

#[tokio::test]
async fn a_replaced_code_is_not_purged_at_its_predecessors_expiry() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.open_code(NUMBER, 1, 100).await;
        store.challenge_allow_resend(NUMBER, 1, secs(150)).await.unwrap();
        store.open_code(NUMBER, 2, 150).await;
        assert_eq!(store.challenges_purge(secs(100 + TTL), 10).await.unwrap().removed, 0);
        assert!(matches!(store.guess(RIGHT, 100 + TTL).await, LoginOutcome::LoggedIn { .. }));
    }
}
