//! Verification of the ledger: every hidden change is found and named.

use chelseru_store::{Account, SpendDraft, SpendEnded, SpendMade, StoreError};

use super::*;

const ALICE: UserId = UserId(1);
const BOB: UserId = UserId(2);

use chelseru_store::UserId;

async fn with_postings(engine: Engine) -> TestStore {
    let store = TestStore::new(engine);
    for n in 1..=4u64 {
        let user = if n % 2 == 0 { BOB } else { ALICE };
        assert!(store.ledger_probe(format!("test:{n}"), user, n * 1000, secs(n)).await.unwrap());
    }
    store
}

/// Spend 1 is immediate, 2 is captured in part, 3 is voided, 4 is held.
async fn with_spends(engine: Engine) -> TestStore {
    let store = with_postings(engine).await;
    for n in 1..=4 {
        let (order, description) = (String::new(), String::new());
        let (now, amount) = (secs(10), 700 + n);
        let draft = SpendDraft {
            user: ALICE,
            amount,
            hold: n > 1,
            expires_at: None,
            order,
            unique_order: true,
            description,
            now,
            once: None,
        };
        let SpendMade::Done(spend) = store.spend_create(draft).await.unwrap() else { panic!("not made") };
        let ended = match n {
            2 => store.spend_capture(spend.id, Some(500), now).await.unwrap(),
            3 => store.spend_void(spend.id, now).await.unwrap(),
            _ => continue,
        };
        assert!(matches!(ended, SpendEnded::Done(..)));
    }
    assert_eq!(store.ledger_verify().await.unwrap().difference, None);
    store
}

/// Changes the database behind the store's back and returns the result of the ledger check.
async fn after(change: impl FnOnce(&sled::Db)) -> Option<String> {
    changed(with_postings(Engine::Sled).await, change).await
}

async fn changed(store: TestStore, change: impl FnOnce(&sled::Db)) -> Option<String> {
    let TestStore { store, folder, .. } = store;
    store.close();
    drop(store);
    let db = open_engine(folder.path());
    change(&db);
    db.flush().unwrap();
    drop(db);
    let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
    store.ledger_verify().await.unwrap().difference
}

/// The first block: postings 1 to 15.
fn block() -> Vec<u8> {
    [b"$b", 0u64.to_be_bytes().as_slice()].concat()
}

/// Edits the records of the first block as a list.
fn edit(db: &sled::Db, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let stored = db.get(block()).unwrap().expect("the block is there");
    let (first, mut rest) = stored.split_at(8);
    let mut records = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (record, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        records.push(record.to_vec());
        rest = after;
    }
    change(&mut records);
    let mut changed = first.to_vec();
    for record in records {
        changed.extend_from_slice(&(record.len() as u32).to_be_bytes());
        changed.extend_from_slice(&record);
    }
    db.insert(block(), changed).unwrap();
}

fn wallet(user: UserId) -> Vec<u8> {
    [b"$aw", user.0.to_be_bytes().as_slice()].concat()
}

/// Replaces the first occurrence of some bytes in a value.
fn patch(db: &sled::Db, key: &[u8], from: &[u8], to: &[u8]) {
    let mut value = db.get(key).unwrap().expect("the key is there").to_vec();
    let at = value.windows(from.len()).position(|window| window == from).expect("the bytes are there");
    value[at..at + from.len()].copy_from_slice(to);
    db.insert(key, value).unwrap();
}

#[tokio::test]
async fn an_untouched_ledger_proves_itself() {
    for engine in engines() {
        let store = with_postings(engine).await;
        let report = store.ledger_verify().await.unwrap();
        assert_eq!(report.difference, None);
        assert_eq!((report.postings, report.accounts, report.users_total), (4, 3, 10_000));
        assert_eq!(store.account_balance(&Account::Merchant).await.unwrap(), -10_000);
        let again = store.reopened();
        assert_eq!(again.ledger_verify().await.unwrap(), report);
        assert_eq!(TestStore::new(engine).ledger_verify().await.unwrap().difference, None);
    }
}

#[tokio::test]
async fn a_key_is_posted_once() {
    for engine in engines() {
        let store = with_postings(engine).await;
        assert!(!store.ledger_probe("test:1".into(), ALICE, 1000, secs(9)).await.unwrap());
        assert_eq!(store.wallet_balance(ALICE).await.unwrap().available, 4000);
        let calls = (0..50).map(|_| store.ledger_probe("test:9".into(), ALICE, 1, secs(9)));
        let mut done = 0;
        for call in calls.collect::<Vec<_>>() {
            done += usize::from(call.await.unwrap());
        }
        assert_eq!(done, 1);
    }
}

#[tokio::test]
async fn a_posting_that_moves_nothing_is_a_defect_that_leaves_no_trace() {
    for engine in engines() {
        let store = with_postings(engine).await;
        let result = store.ledger_probe("test:9".into(), ALICE, 0, secs(9)).await;
        assert!(matches!(result, Err(StoreError::Panicked)));
        assert_eq!(store.ledger_verify().await.unwrap().postings, 4);
    }
}

#[tokio::test]
async fn a_balance_past_its_range_is_refused() {
    for engine in engines() {
        let store = with_postings(engine).await;
        assert!(!store.ledger_probe("test:9".into(), ALICE, i64::MAX as u64, secs(9)).await.unwrap());
        assert_eq!(store.ledger_verify().await.unwrap().difference, None);
    }
}

#[tokio::test]
async fn a_changed_text_breaks_the_hash() {
    let found = after(|db| patch(db, &block(), b"test:2", b"test:3")).await;
    assert_eq!(found.unwrap(), "posting 2 (test:3): its hash is not that of its content");
}

#[tokio::test]
async fn a_posting_that_is_gone_is_missed() {
    let found = after(|db| edit(db, |records| drop(records.remove(1)))).await;
    assert_eq!(found.unwrap(), "posting 2 (test:3): stores the number 3");
    let found = after(|db| edit(db, |records| drop(records.pop()))).await;
    assert_eq!(found.unwrap(), "the last posting should be 4, found 3");
    let found = after(|db| drop(db.remove(block()).unwrap())).await;
    assert_eq!(found.unwrap(), "the last posting should be 4, found 0");
    let found = after(|db| {
        let stored = db.get(block()).unwrap().expect("the block is there");
        db.insert(block(), &stored[..stored.len() - 1]).unwrap();
    })
    .await;
    assert_eq!(found.unwrap(), "a posting block record is not readable: it is truncated in posting 4",);
}

#[tokio::test]
async fn a_block_that_is_gone_is_missed() {
    let store = with_postings(Engine::Sled).await;
    for n in 0..40 {
        assert!(store.ledger_probe(format!("more:{n}"), ALICE, 1, secs(9)).await.unwrap());
    }
    assert_eq!(store.ledger_verify().await.unwrap().difference, None);
    assert_eq!(store.posting_by_key("more:30").await.unwrap().unwrap().number, 35);
    let found = changed(store, |db| {
        drop(db.remove([b"$b", 1u64.to_be_bytes().as_slice()].concat()).unwrap());
    })
    .await;
    assert_eq!(found.unwrap(), "posting 16 is missing");
}

/// As the first versions stored them: each under its own key.
#[tokio::test]
async fn postings_from_before_blocks_are_read_and_followed() {
    let TestStore { store, folder, .. } = with_postings(Engine::Sled).await;
    let lines = store.wallet_entries(ALICE, None, 100).await.unwrap();
    store.close();
    drop(store);
    let db = open_engine(folder.path());
    edit(&db, |records| {
        for (number, record) in (1u64..).zip(records.drain(..)) {
            db.insert([b"$p", number.to_be_bytes().as_slice()].concat(), record).unwrap();
        }
    });
    db.remove(block()).unwrap();
    db.flush().unwrap();
    drop(db);
    let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
    assert_eq!(store.wallet_entries(ALICE, None, 100).await.unwrap(), lines);
    for n in 0..20 {
        assert!(store.ledger_probe(format!("more:{n}"), ALICE, 1, secs(9)).await.unwrap());
    }
    assert_eq!(store.wallet_entries(ALICE, None, 100).await.unwrap().0.len(), lines.0.len() + 20);
    assert_eq!(store.posting_by_key("test:2").await.unwrap().unwrap().number, 2);
    let report = store.ledger_verify().await.unwrap();
    assert_eq!((report.postings, report.difference), (24, None));
}

#[tokio::test]
async fn swapped_postings_do_not_follow_each_other() {
    let found = after(|db| edit(db, |records| records.swap(1, 2))).await;
    assert_eq!(found.unwrap(), "posting 2 (test:3): stores the number 3");
}

#[tokio::test]
async fn a_changed_balance_is_named() {
    let found = after(|db| {
        let merchant_like = db.get(wallet(BOB)).unwrap().unwrap();
        db.insert(wallet(ALICE), merchant_like).unwrap();
    })
    .await;
    assert_eq!(found.unwrap(), "the wallet of user 1 is stored with 6000 rial, but its postings sum to 4000");
}

#[tokio::test]
async fn an_account_or_key_from_nowhere_is_counted() {
    let found = after(|db| {
        let balance = db.get(wallet(BOB)).unwrap().unwrap();
        db.insert(wallet(UserId(3)), balance).unwrap();
    })
    .await;
    assert_eq!(found.unwrap(), "4 accounts are stored, but postings name 3");
    let found = after(|db| drop(db.insert(b"$ktest:77", &77u64.to_be_bytes()).unwrap())).await;
    assert_eq!(found.unwrap(), "5 posting keys for 4 postings");
    let found = after(|db| drop(db.insert(b"$ktest:2", &3u64.to_be_bytes()).unwrap())).await;
    assert_eq!(found.unwrap(), "posting 2 (test:2): its key does not lead to it");
}

#[tokio::test]
async fn a_payment_that_calls_itself_paid_needs_its_credit() {
    let found = after(|db| drop(db.insert(b"$kpayment:1", &1u64.to_be_bytes()).unwrap())).await;
    assert_eq!(found.unwrap(), "5 posting keys for 4 postings");
    let found =
        after(|db| drop(db.insert([b"$P", 1u64.to_be_bytes().as_slice()].concat(), b"x").unwrap())).await;
    assert!(found.unwrap().starts_with("a payment record is not readable: schema version"), "it is named");
}

#[tokio::test]
async fn a_spend_that_tells_of_other_postings_is_named() {
    let spend = |id: u64| [b"$s", id.to_be_bytes().as_slice()].concat();
    // Numbers are stored with seven bits per byte: 500 is f4 03, 704 is c0 05.
    let found =
        changed(with_spends(Engine::Sled).await, |db| patch(db, &spend(2), &[0xf4, 3], &[0xf5, 3])).await;
    assert_eq!(found.unwrap(), "spend 2: 501 rial are stored as captured, but 500 were posted");
    let found =
        changed(with_spends(Engine::Sled).await, |db| patch(db, &spend(4), &[0xc0, 5], &[0xc1, 5])).await;
    assert_eq!(found.unwrap(), "spend 4: 705 rial are stored, but 704 were posted");
    let found = changed(with_spends(Engine::Sled).await, |db| drop(db.remove(spend(1)).unwrap())).await;
    assert_eq!(found.unwrap(), "4 postings are spend:, but 3 spends have one");
    // A voided one whose record says that it is held.
    let found = changed(with_spends(Engine::Sled).await, |db| {
        let held = db.get(spend(4)).unwrap().unwrap();
        db.insert(spend(3), held).unwrap();
    })
    .await;
    assert_eq!(found.unwrap(), "spend 3: 704 rial are stored, but 703 were posted");
}
