//! Payments are found by any of their attributes, in a new store and in one from before there were indexes.

use chelseru_store::{
    Currency, PayMode, Payment, PaymentCreated, PaymentDraft, PaymentId, PaymentQuery, PaymentReceipt,
    PaymentSettled, PaymentStart, PaymentState, Redirect, UserId,
};

use super::*;

const PAYMENTS: u64 = 240;
const GATEWAYS: [&str; 2] = ["BANK", "BANK_2"];

fn draft(n: u64) -> PaymentDraft {
    PaymentDraft {
        user: UserId(1 + n % 7),
        amount: 1000 * (1 + n % 3),
        currency: Currency::Irr,
        mode: PayMode::Charge,
        order: if n.is_multiple_of(4) { format!("o-{}", n % 5) } else { String::new() },
        unique_order: false,
        gateway: GATEWAYS[(n % 2) as usize].into(),
        plugin_digest: String::new(),
        description: String::new(),
        callback_url: String::new(),
        callback_key: String::new(),
        frontend_url: None,
        now: secs(10_000 + n * 60),
        window_ends_at: secs(1_000_000),
        check_at: secs(1_000_000),
        once: None,
    }
}

fn start(name: &str) -> PaymentStart {
    PaymentStart {
        reference: name.to_owned(),
        redirect: Redirect {
            method: chelseru_store::RedirectMethod::Get,
            url: String::new(),
            fields: Vec::new(),
        },
        state: Vec::new(),
        message: String::new(),
    }
}

fn receipt(number: &str) -> PaymentReceipt {
    PaymentReceipt {
        number: number.to_owned(),
        card_pan: String::new(),
        card_hash: String::new(),
        fee_rial: None,
        code: String::new(),
        message: String::new(),
    }
}

/// Payments in every state but refunded.
async fn filled(store: &Store) {
    for n in 1..=PAYMENTS {
        let draft = draft(n);
        let now = draft.now;
        let payment = match store.payment_create(draft).await.unwrap() {
            PaymentCreated::Created(payment) => payment,
            PaymentCreated::OrderOpen(_) => continue,
            other => panic!("{other:?}"),
        };
        let id = payment.id;
        store.payment_started(id, start(&format!("A{n}")), secs(1_000_000), now).await.unwrap();
        let end = match n % 6 {
            0 | 1 => {
                let settled = store.payment_settle(id, receipt(&format!("R{n}")), now).await.unwrap();
                assert!(matches!(settled, PaymentSettled::Now(_)));
                continue;
            }
            2 => PaymentState::Failed,
            3 => PaymentState::Cancelled,
            4 => PaymentState::Expired,
            _ => continue,
        };
        store.payment_end(id, end, String::new(), None, now).await.unwrap();
    }
}

async fn all(store: &Store) -> Vec<Payment> {
    let mut payments = Vec::new();
    for user in 1..=7 {
        payments.extend(store.payments_of(UserId(user), None, 10_000).await.unwrap());
    }
    payments.sort_by_key(|payment| std::cmp::Reverse(payment.id));
    payments
}

/// All pages of a query, each of at most three payments and a few looks.
async fn found(store: &Store, query: &PaymentQuery) -> Vec<PaymentId> {
    let (mut ids, mut before) = (Vec::new(), None);
    loop {
        let page = store.payments_find(query, before, 3, 5).await.unwrap();
        assert!(page.payments.len() <= 3);
        ids.extend(page.payments.iter().map(|payment| payment.id));
        match page.next {
            Some(next) => {
                assert!(before.is_none_or(|before| next < before), "it goes on");
                before = Some(next);
            }
            None => return ids,
        }
    }
}

/// Every query of a few, against a look at all payments.
async fn check(store: &Store) {
    let payments = all(store).await;
    assert!(payments.len() > 200);
    let states = [None, Some(PaymentState::Paid), Some(PaymentState::Expired), Some(PaymentState::Pending)];
    let mut queries = 0;
    for user in [None, Some(UserId(3)), Some(UserId(99))] {
        for order in [None, Some("o-0".to_owned()), Some("none".to_owned())] {
            for gateway in [None, Some("BANK".to_owned()), Some("BANK_2".to_owned()), Some("X".to_owned())] {
                for state in states {
                    for amount in [None, Some(2000), Some(7)] {
                        for (from, until) in [(None, None), (Some(secs(14_000)), Some(secs(19_000)))] {
                            let (order, gateway) = (order.clone(), gateway.clone());
                            let amount_min = amount.is_none().then_some(1500);
                            let query = PaymentQuery {
                                user,
                                order,
                                gateway,
                                state,
                                amount,
                                amount_min,
                                amount_max: Some(2500),
                                from,
                                until,
                            };
                            let wanted: Vec<PaymentId> = payments
                                .iter()
                                .filter(|payment| fits(payment, &query))
                                .map(|payment| payment.id)
                                .collect();
                            assert_eq!(found(store, &query).await, wanted, "{query:?}");
                            queries += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(queries, 3 * 3 * 4 * 4 * 3 * 2);
    let everything: Vec<PaymentId> = payments.iter().map(|payment| payment.id).collect();
    assert_eq!(found(store, &PaymentQuery::default()).await, everything);
    let paid = payments.iter().find(|payment| payment.state == PaymentState::Paid).unwrap();
    for name in [&paid.start.as_ref().unwrap().reference, &paid.receipt.as_ref().unwrap().number] {
        assert_eq!(store.payments_named(name).await.unwrap(), std::slice::from_ref(paid));
    }
    assert_eq!(store.payments_named("A").await.unwrap(), []);
}

fn fits(payment: &Payment, query: &PaymentQuery) -> bool {
    query.user.is_none_or(|user| payment.user == user)
        && query.order.as_ref().is_none_or(|order| payment.order == *order)
        && query.gateway.as_ref().is_none_or(|gateway| payment.gateway == *gateway)
        && query.state.is_none_or(|state| payment.state == state)
        && query.amount.is_none_or(|amount| payment.amount == amount)
        && query.amount_min.is_none_or(|least| payment.amount >= least)
        && query.amount_max.is_none_or(|most| payment.amount <= most)
        && query.from.is_none_or(|from| payment.created_at >= from)
        && query.until.is_none_or(|until| payment.created_at < until)
}

#[tokio::test]
async fn payments_are_found_by_any_of_their_attributes() {
    for engine in engines() {
        let store = TestStore::new(engine);
        filled(&store).await;
        check(&store).await;
        assert_eq!(store.ledger_verify().await.unwrap().difference, None);
    }
}

/// Takes the indexes away and leaves what a version without them wrote.
fn before_indexes(db: &sled::Db) {
    for prefix in ["$O", "$m", "$t", "$T", "$G", "$q", "$R", "mindexes-money"] {
        for key in db.scan_prefix(prefix).keys() {
            db.remove(key.unwrap()).unwrap();
        }
    }
    for entry in db.scan_prefix("$o") {
        let (key, value) = entry.unwrap();
        match &value[..8] {
            [0, 0, 0, 0, 0, 0, 0, 0] => drop(db.remove(key).unwrap()),
            open => drop(db.insert(key, open).unwrap()),
        }
    }
    db.insert(b"mformat", &1u64.to_be_bytes()).unwrap();
    db.flush().unwrap();
}

#[tokio::test]
async fn a_store_from_before_the_indexes_gets_them_wherever_it_was_interrupted() {
    for position in [None, Some((b'p', 0u64)), Some((b'p', 101)), Some((b's', 0))] {
        let TestStore { store, folder, .. } = TestStore::new(Engine::Sled);
        filled(&store).await;
        let payments = all(&store).await;
        drop(store);
        let db = open_engine(folder.path());
        match position {
            // Interrupted after these payments: what they have in the indexes stays.
            Some((kind, number)) if (kind, number) != (b'p', 0) => {
                let position = [&[kind][..], &number.to_be_bytes()].concat();
                db.insert(b"mindexes-money", position).unwrap();
                db.flush().unwrap();
            }
            _ => before_indexes(&db),
        }
        drop(db);
        let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
        assert_eq!(all(&store).await, payments);
        check(&store).await;
        // A paid order is known as paid, and an open one as open.
        for payment in payments.iter().filter(|payment| !payment.order.is_empty()) {
            let same = |other: &&Payment| other.user == payment.user && other.order == payment.order;
            let open = payments.iter().filter(same).any(|other| other.state.is_open());
            let paid = payments.iter().filter(same).any(|other| other.state == PaymentState::Paid);
            let (order, user) = (payment.order.clone(), payment.user);
            let again = PaymentDraft { order, user, unique_order: true, ..draft(500) };
            match (open, paid) {
                (true, _) => {
                    let made = store.payment_create(again).await.unwrap();
                    assert!(matches!(made, PaymentCreated::OrderOpen(_)), "{made:?}");
                }
                (false, true) => {
                    let made = store.payment_create(again).await.unwrap();
                    assert!(matches!(made, PaymentCreated::OrderPaid(_)), "{made:?}");
                }
                (false, false) => {}
            }
        }
        assert_eq!(store.ledger_verify().await.unwrap().difference, None);
        drop(store);
        // And a version without the indexes refuses the store, because it would not keep them.
        let db = open_engine(folder.path());
        assert_eq!(db.get(b"mformat").unwrap().unwrap(), 2u64.to_be_bytes());
    }
}
