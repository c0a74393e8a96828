//! Payments are found by any of their attributes, in a new store and in one from before there were indexes.

use chelseru_store::{
    Currency, PayMode, Payment, PaymentCreated, PaymentDraft, PaymentId, PaymentQuery, PaymentReceipt,
    PaymentRefunded, PaymentSettled, PaymentStart, PaymentState, Redirect, Refund, RefundDraft, RefundQuery,
    RefundState, RefundTo, ReversalDecision, ReversalStep, UserId,
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
        plugin: String::new(),
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

/// Payments in every state but refunded, and refunds in every state.
pub(super) async fn filled(store: &Store) {
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
                let settled = store.payment_settle(id, receipt(&format!("R{n}")), None, now).await.unwrap();
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
    refunded(store).await;
}

/// Refunds of every sixth payment, in every state. Each payment is paid again in the end.
async fn refunded(store: &Store) {
    let paid = all(store).await.into_iter().filter(|payment| payment.state == PaymentState::Paid);
    for (n, payment) in paid.enumerate().filter(|(n, _)| n.is_multiple_of(3)) {
        let (id, by, now) = (payment.id, UserId(50 + n as u64 % 2), secs(100_000 + n as u64));
        let order = async |to, amount, at| {
            let note = format!("note {n}");
            let draft = RefundDraft { payment: id, amount, to, by, note, now: at, once: None };
            let refunded = store.payment_refund(draft).await.unwrap();
            assert!(matches!(refunded, PaymentRefunded::Done(..)), "{refunded:?}");
        };
        // Two in one instant have positions of their own.
        order(RefundTo::Gateway, Some(1), now).await;
        order(RefundTo::Gateway, Some(2), now).await;
        assert_eq!(store.payment_refunds(id).await.unwrap().len(), 2);
    }
    // Whole payments, by way of the gateway.
    let paid = all(store).await.into_iter();
    let paid = paid.filter(|payment| payment.state == PaymentState::Paid && payment.refunded == 0);
    for (n, payment) in paid.enumerate() {
        let (id, now) = (payment.id, secs(200_000 + n as u64));
        let draft = RefundDraft {
            payment: id,
            amount: None,
            to: RefundTo::Reverse,
            by: UserId(60),
            note: String::new(),
            now,
            once: None,
        };
        store.payment_refund(draft).await.unwrap();
        let refused = || ReversalStep::Refused("-1".to_owned());
        match n % 4 {
            0 => {}
            1 => drop(store.reversal_step(id, ReversalStep::Done, now).await.unwrap()),
            2 => drop(store.reversal_step(id, refused(), now).await.unwrap()),
            _ => {
                store.reversal_step(id, refused(), now).await.unwrap();
                store.reversal_decide(id, ReversalDecision::Undo, UserId(61), now).await.unwrap();
            }
        }
    }
}

/// All pages of a query of refunds, each of at most three and a few looks.
async fn refunds_found(store: &Store, query: &RefundQuery) -> Vec<Refund> {
    let (mut refunds, mut before) = (Vec::new(), None);
    loop {
        let page = store.refunds_find(query, before, 3, 5).await.unwrap();
        assert!(page.refunds.len() <= 3);
        refunds.extend(page.refunds.into_iter().map(|(refund, _)| refund));
        match page.next {
            Some(next) => {
                assert!(before.is_none_or(|before| next < before), "it goes on");
                before = Some(next);
            }
            None => return refunds,
        }
    }
}

/// Every query of a few for refunds, against a look at all of them.
async fn check_refunds(store: &Store) {
    let mut refunds = Vec::new();
    for payment in all(store).await {
        for refund in store.payment_refunds(payment.id).await.unwrap() {
            refunds.push((refund, payment.clone()));
        }
    }
    refunds.sort_by_key(|(refund, _)| std::cmp::Reverse(refund.position));
    let mut positions: Vec<u64> = refunds.iter().map(|(refund, _)| refund.position).collect();
    positions.dedup();
    assert_eq!(positions.len(), refunds.len());
    assert!(positions.iter().all(|position| *position > 0));
    let states = [RefundState::Open, RefundState::Done, RefundState::Refused, RefundState::Undone];
    for state in states {
        assert!(refunds.iter().any(|(refund, _)| refund.state == state), "{state:?}");
    }
    let states = [None].into_iter().chain(states.map(Some));
    for payment in all(store).await.iter().map(|payment| payment.id).chain([PaymentId(u64::MAX)]) {
        for state in states.clone() {
            let query = RefundQuery { payment: Some(payment), state, ..RefundQuery::default() };
            let wanted: Vec<Refund> = refunds
                .iter()
                .map(|(refund, _)| refund)
                .filter(|refund| refund.payment == payment && state.is_none_or(|state| refund.state == state))
                .cloned()
                .collect();
            assert_eq!(refunds_found(store, &query).await, wanted, "{query:?}");
        }
    }
    for state in states {
        for user in [None, Some(UserId(3)), Some(UserId(99))] {
            for to in [None, Some(RefundTo::Gateway), Some(RefundTo::Wallet)] {
                for by in [None, Some(UserId(51)), Some(UserId(60))] {
                    for gateway in [None, Some("BANK_2".to_owned())] {
                        for (from, until) in [(None, None), (Some(secs(100_002)), Some(secs(200_003)))] {
                            let gateway = gateway.clone();
                            let payment = None;
                            let query = RefundQuery { payment, user, state, to, gateway, by, from, until };
                            let fits = |(refund, payment): &&(Refund, Payment)| {
                                query.user.is_none_or(|user| payment.user == user)
                                    && query.state.is_none_or(|state| refund.state == state)
                                    && query.to.is_none_or(|to| refund.to == to)
                                    && query.by.is_none_or(|by| refund.by == by)
                                    && query.gateway.as_ref().is_none_or(|name| payment.gateway == *name)
                                    && query.from.is_none_or(|from| refund.at >= from)
                                    && query.until.is_none_or(|until| refund.at < until)
                            };
                            let wanted: Vec<Refund> =
                                refunds.iter().filter(fits).map(|(refund, _)| refund.clone()).collect();
                            assert_eq!(refunds_found(store, &query).await, wanted, "{query:?}");
                        }
                    }
                }
            }
        }
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
                                ..PaymentQuery::default()
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
    check_named(store, paid).await;
}

/// What names one payment is a condition like the others.
async fn check_named(store: &Store, paid: &Payment) {
    let reference = paid.start.as_ref().map(|start| start.reference.clone());
    let receipt = paid.receipt.as_ref().map(|receipt| receipt.number.clone());
    let id = Some(paid.id);
    let names = [
        PaymentQuery { id, ..PaymentQuery::default() },
        PaymentQuery { reference: reference.clone(), ..PaymentQuery::default() },
        PaymentQuery { receipt: receipt.clone(), ..PaymentQuery::default() },
        PaymentQuery {
            id,
            reference,
            receipt,
            gateway: Some(paid.gateway.clone()),
            ..PaymentQuery::default()
        },
    ];
    for named in names {
        assert_eq!(found(store, &named).await, [paid.id], "{named:?}");
        let same = PaymentQuery { user: Some(paid.user), state: Some(paid.state), ..named.clone() };
        assert_eq!(found(store, &same).await, [paid.id]);
        for none in [
            PaymentQuery { state: Some(PaymentState::Expired), ..named.clone() },
            PaymentQuery { user: Some(UserId(99)), ..named.clone() },
            PaymentQuery { gateway: Some("X".to_owned()), ..named.clone() },
            PaymentQuery { until: Some(paid.created_at), ..named.clone() },
            PaymentQuery { id: Some(PaymentId(u64::MAX)), ..named.clone() },
            PaymentQuery { reference: Some("A".to_owned()), ..named.clone() },
            PaymentQuery { receipt: Some("A".to_owned()), ..named.clone() },
        ] {
            assert_eq!(found(store, &none).await, [], "{none:?}");
        }
        let before = store.payments_find(&named, Some(paid.id), 3, 5).await.unwrap();
        assert_eq!((before.payments, before.next), (Vec::new(), None));
    }
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
        check_refunds(&store).await;
        assert_eq!(store.ledger_verify().await.unwrap().difference, None);
    }
}

/// A store of the format before refunds had indexes gets them, and not the others again.
#[tokio::test]
async fn a_store_from_before_the_indexes_of_refunds_gets_them() {
    let TestStore { store, folder, .. } = TestStore::new(Engine::Sled);
    filled(&store).await;
    drop(store);
    let db = open_engine(folder.path());
    for prefix in ["$F", "$y", "$j"] {
        for key in db.scan_prefix(prefix).keys() {
            db.remove(key.unwrap()).unwrap();
        }
    }
    db.insert(b"mformat", &2u64.to_be_bytes()).unwrap();
    db.flush().unwrap();
    drop(db);
    let store = Store::open(folder.path(), StoreOptions::default()).unwrap();
    check_refunds(&store).await;
    check(&store).await;
}

/// Takes the indexes away and leaves what a version without them wrote.
fn before_indexes(db: &sled::Db) {
    for prefix in ["$O", "$m", "$t", "$T", "$G", "$q", "$R", "$F", "$y", "$j", "mindexes-money"] {
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
    for position in
        [None, Some((b'p', 0u64)), Some((b'p', 101)), Some((b's', 0)), Some((b'r', 0)), Some((b'r', 99))]
    {
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
        check_refunds(&store).await;
        // A paid order is known as paid, and an open one as open.
        for payment in payments.iter().filter(|payment| !payment.order.is_empty()) {
            let same = |other: &&Payment| other.user == payment.user && other.order == payment.order;
            let open = payments.iter().filter(same).any(|other| other.state.is_open());
            let paid = payments.iter().filter(same).any(|other| other.state == PaymentState::Paid);
            let (order, user) = (payment.order.clone(), payment.user);
            let again = PaymentDraft { order, user, unique_order: true, ..draft(500) };
            match (open, paid) {
                (_, true) => {
                    let made = store.payment_create(again).await.unwrap();
                    assert!(matches!(made, PaymentCreated::OrderPaid(_)), "{made:?}");
                }
                (true, false) => {
                    let made = store.payment_create(again).await.unwrap();
                    assert!(matches!(made, PaymentCreated::OrderOpen(_)), "{made:?}");
                }
                (false, false) => {}
            }
        }
        assert_eq!(store.ledger_verify().await.unwrap().difference, None);
        drop(store);
        // And a version without the indexes refuses the store, because it would not keep them.
        let db = open_engine(folder.path());
        assert_eq!(db.get(b"mformat").unwrap().unwrap(), 6u64.to_be_bytes());
    }
}
