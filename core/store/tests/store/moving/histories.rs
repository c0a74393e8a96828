//! Random histories, as they read before and after the store was moved. A failure names its seed.

use chelseru_store::{CorrectionDraft, PaymentCreated, PaymentState, SpendDraft, SpendMade, UserId};

use super::super::chat::History;
use super::super::money::{opening, payment, receipt, spend, start};
use super::*;

const SEEDS: u64 = 3;
const STEPS: usize = 150;
const USERS: u64 = 4;

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

#[tokio::test]
async fn any_history_of_chat_reads_the_same_after_a_move() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    for seed in 1..=SEEDS {
        for engine in engines() {
            let mut history = History::begin(engine, seed).await;
            history.run().await;
            let expected = history.reading().await;
            let sled = into_sled(&history.store).await;
            let postgres = into_postgres(&sled).await;
            for moved in [sled, postgres] {
                history.store = moved;
                let read = history.reading().await;
                for (read, expected) in read.iter().zip(&expected) {
                    assert_eq!(read, expected, "{engine:?}, seed {seed}");
                }
                assert_eq!(read.len(), expected.len(), "{engine:?}, seed {seed}");
            }
        }
    }
}

#[tokio::test]
async fn any_history_of_money_reads_the_same_after_a_move() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    for seed in 1..=SEEDS {
        for engine in engines() {
            let store = TestStore::new(engine);
            money(&store, seed).await;
            let expected = reading(&store).await;
            let sled = into_sled(&store).await;
            let postgres = into_postgres(&sled).await;
            for moved in [&sled, &postgres] {
                assert_eq!(moved.ledger_verify().await.unwrap().difference, None, "{engine:?}, seed {seed}");
                assert_eq!(reading(moved).await, expected, "{engine:?}, seed {seed}");
            }
            // And on: no key of a posting or number is given again.
            money(&postgres, seed + 100).await;
            assert_eq!(postgres.ledger_verify().await.unwrap().difference, None, "{engine:?}, seed {seed}");
        }
    }
}

async fn money(store: &TestStore, seed: u64) {
    let mut random = Random(seed);
    for user in 1..=USERS {
        store.import_balances(opening(UserId(user), 5000)).await.unwrap();
    }
    for step in 0..STEPS {
        let now = secs(1000 + step as u64);
        let (user, amount) = (UserId(1 + random.below(USERS)), 1 + random.below(900));
        match random.below(4) {
            0 => {
                let draft = chelseru_store::PaymentDraft { user, amount, now, ..payment("", None) };
                let PaymentCreated::Created(made) = store.payment_create(draft).await.unwrap() else {
                    continue;
                };
                let name = format!("{seed}-{step}");
                store.payment_started(made.id, start(&name), secs(5000), now).await.unwrap();
                match random.below(3) {
                    0 => drop(store.payment_settle(made.id, receipt(&name), None, now).await.unwrap()),
                    1 => {
                        let end = PaymentState::Failed;
                        store.payment_end(made.id, end, "no".to_owned(), None, now).await.unwrap();
                    }
                    _ => {}
                }
            }
            1 | 2 => {
                let hold = random.below(2) == 0;
                let draft = SpendDraft { user, hold, now, ..spend(amount, "", None) };
                let SpendMade::Done(made) = store.spend_create(draft).await.unwrap() else { continue };
                match random.below(3) {
                    0 if hold => drop(store.spend_void(made.id, now).await.unwrap()),
                    1 if hold => drop(store.spend_capture(made.id, Some(1), now).await.unwrap()),
                    _ => {}
                }
            }
            _ => {
                let amount = amount.cast_signed() - 450;
                let reason = "why".to_owned();
                let draft =
                    CorrectionDraft { user, amount: amount.max(1), reason, by: user, now, once: None };
                store.correction_make(draft).await.unwrap();
            }
        }
    }
}

/// What users and operators see of it. The numbers of lines differ between engines; their order does not.
async fn reading(store: &TestStore) -> Vec<String> {
    let mut read = Vec::new();
    for user in (1..=USERS).map(UserId) {
        let balance = store.wallet_balance(user).await.unwrap();
        read.push(format!("{balance:?}"));
        for line in store.wallet_entries(user, None, 1000).await.unwrap().0 {
            read.push(format!(
                "{} {} {:?} {} {}",
                line.key, line.is_hold, line.at, line.amount, line.balance
            ));
        }
        read.push(format!("{:?}", store.payments_of(user, None, 1000).await.unwrap()));
        read.push(format!("{:?}", store.spends_of(user, None, 1000).await.unwrap()));
    }
    for account in [chelseru_store::Account::Merchant, chelseru_store::Account::Gateway("BANK".to_owned())] {
        read.push(format!("{:?}", store.account_balance(&account).await.unwrap()));
    }
    read
}
