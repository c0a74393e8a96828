//! Random histories of one number's codes against a small model: sends, guesses, releases, resends and passing time
//! in any order, with occasional reopening of the store. A failure names its seed.

use super::*;

const SEEDS: u64 = 20;
const STEPS: usize = 150;
const ATTEMPTS: u32 = 3;
const GAP: u64 = 20;

/// The expected state of the number's code.
#[derive(Debug, Clone)]
struct Model {
    id: u64,
    expires_at: u64,
    resend_at: u64,
    guesses: u32,
}

impl Model {
    fn burned(&self) -> bool {
        self.guesses == ATTEMPTS
    }
}

/// xorshift64*: fixed numbers for a fixed seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// A distinct MAC for every code.
fn mac(id: u64) -> [u8; 32] {
    [id as u8; 32]
}

#[tokio::test]
async fn any_history_of_a_code_ends_as_the_model_says() {
    for engine in engines() {
        for seed in 1..=SEEDS {
            check(engine, seed).await;
        }
    }
}

async fn check(engine: Engine, seed: u64) {
    let mut random = Random(seed);
    let mut store = TestStore::new(engine);
    let mut model: Option<Model> = None;
    let (mut now, mut last_id, mut sessions) = (1000, 0, 0);
    for step in 0..STEPS {
        let context = format!("{engine:?}, seed {seed}, step {step}, at {now}, {model:?}");
        match random.below(12) {
            0..=2 => {
                last_id += 1;
                let mut draft = challenge(NUMBER, last_id, now);
                (draft.mac, draft.attempts_max, draft.resend_at) = (mac(last_id), ATTEMPTS, secs(now + GAP));
                let opened = store.challenge_open(draft).await.unwrap();
                let pending =
                    model.as_ref().filter(|m| now < m.expires_at && now < m.resend_at && !m.burned());
                match pending {
                    Some(m) => {
                        let retry_at = secs(m.resend_at.min(m.expires_at));
                        assert_eq!(opened, ChallengeOpened::Pending { retry_at }, "{context}");
                    }
                    None => {
                        assert_eq!(opened, ChallengeOpened::Opened, "{context}");
                        let (expires_at, resend_at) = (now + TTL, now + GAP);
                        model = Some(Model { id: last_id, expires_at, resend_at, guesses: 0 });
                    }
                }
            }
            3..=6 => {
                // The MAC of the newest code, or of one of the last ones.
                let id = last_id.saturating_sub(random.below(3));
                let mut draft = login(NUMBER, mac(id), now);
                draft.session.per_user_max = STEPS;
                let outcome = store.login_with_challenge(draft).await.unwrap();
                match &mut model {
                    None => assert_eq!(outcome, LoginOutcome::Missing, "{context}"),
                    Some(m) if now >= m.expires_at => assert_eq!(outcome, LoginOutcome::Expired, "{context}"),
                    Some(m) if m.burned() => assert_eq!(outcome, LoginOutcome::Burned, "{context}"),
                    Some(m) if m.id == id => {
                        assert!(matches!(outcome, LoginOutcome::LoggedIn { .. }), "{context}");
                        sessions += 1;
                        model = None;
                    }
                    Some(m) => {
                        m.guesses += 1;
                        let attempts_left = ATTEMPTS - m.guesses;
                        assert_eq!(outcome, LoginOutcome::Wrong { attempts_left }, "{context}");
                    }
                }
            }
            7 => {
                let id = last_id.saturating_sub(random.below(2));
                let released = store.challenge_release(NUMBER, id).await.unwrap();
                assert_eq!(released, model.as_ref().is_some_and(|m| m.id == id), "{context}");
                model = model.filter(|m| m.id != id);
            }
            8 => {
                let id = last_id.saturating_sub(random.below(2));
                let allowed = store.challenge_allow_resend(NUMBER, id, secs(now)).await.unwrap();
                let known = model.as_mut().filter(|m| m.id == id);
                assert_eq!(allowed, known.is_some(), "{context}");
                if let Some(m) = known {
                    m.resend_at = m.resend_at.min(now);
                }
            }
            9 => {
                let removed = store.challenges_purge(secs(now), 10).await.unwrap().removed;
                assert_eq!(removed == 1, model.as_ref().is_some_and(|m| now >= m.expires_at), "{context}");
                model = model.filter(|m| now < m.expires_at);
            }
            10 => now += [1, GAP - 1, GAP, TTL - GAP, TTL][random.below(5) as usize],
            _ if step % 10 == 0 => store = store.reopened(),
            _ => now += 1,
        }
    }
    let user = store.user_by_identity(0, NUMBER).await.unwrap();
    let stored = match user {
        Some(user) => store.sessions_of(user.id, None, STEPS).await.unwrap().len(),
        None => 0,
    };
    assert_eq!(stored, sessions, "seed {seed}: one session for each login");
    assert!(sessions > 0, "seed {seed} never logged in");
}
