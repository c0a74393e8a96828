//! Money of two gateways over one database: nothing is done twice, nothing is lost when connections break, and the
//! ledger names what somebody changed behind its back.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chelseru_store::{
    EventBody, PaymentCreated, PaymentDraft, PaymentId, PaymentRefunded, PaymentSettled, RefundDraft,
    RefundTo, SmsBegun, SmsClass, SmsContent, SmsDraft, SmsEnd, SmsIdempotency, SmsInserted, SmsOwner,
    SmsQuota, SmsStatus, SpendDraft, SpendEnded, SpendId, SpendMade, StoreError, Task, UserId,
};
use futures_util::future::join_all;

use super::money::{ALICE, once, opening, payment, receipt, spend, start};
use super::*;

/// Two gateways; `None` where PostgreSQL is not installed.
struct Two {
    stores: [Store; 2],
    /// Removed after the stores are dropped.
    database: Database,
}

impl Two {
    fn new() -> Option<Two> {
        chelseru_postgres_server::server()?;
        let database = Database::new();
        let stores = [database.open_shared(), database.open_shared()];
        Some(Two { stores, database })
    }

    /// Runs the same many times at once, by turns on each gateway.
    async fn each<T>(&self, times: u64, run: impl AsyncFn(&Store, u64) -> T) -> Vec<T> {
        join_all((0..times).map(|n| run(&self.stores[n as usize % 2], n))).await
    }

    async fn proven(&self) {
        assert_eq!(self.stores[0].ledger_verify().await.unwrap().difference, None);
    }

    async fn paid(&self, number: &str) -> PaymentId {
        let id = self.pending(number).await;
        let settled = self.stores[0].payment_settle(id, receipt(number), None, secs(12)).await.unwrap();
        assert!(matches!(settled, PaymentSettled::Now(_)));
        id
    }

    async fn pending(&self, reference: &str) -> PaymentId {
        let created = self.stores[0].payment_create(payment("", None)).await.unwrap();
        let PaymentCreated::Created(made) = created else { panic!("{created:?}") };
        self.stores[0].payment_started(made.id, start(reference), secs(70), secs(11)).await.unwrap();
        made.id
    }
}

fn count<T>(results: &[T], is: impl Fn(&T) -> bool) -> usize {
    results.iter().filter(|result| is(result)).count()
}

#[tokio::test]
async fn a_wallet_is_never_overdrawn() {
    let Some(two) = Two::new() else { return };
    two.stores[0].import_balances(opening(ALICE, 1000)).await.unwrap();
    let made = two.each(40, async |store, _| store.spend_create(spend(100, "", None)).await.unwrap()).await;
    assert_eq!(count(&made, |made| matches!(made, SpendMade::Done(_))), 10);
    assert_eq!(count(&made, |made| *made == SpendMade::Overdraft { available: 0 }), 30);
    two.proven().await;
}

#[tokio::test]
async fn the_first_posting_of_a_user_is_one_of_many_at_once() {
    let Some(two) = Two::new() else { return };
    let probes = two.each(30, async |store, n| {
        // Each of three keys from both gateways, each user's first.
        store.ledger_probe(format!("test:{}", n / 2 % 3), UserId(n / 2 % 3), 10, secs(1)).await.unwrap()
    });
    assert_eq!(count(&probes.await, |posted| *posted), 3);
    let probes = two.each(30, async |store, n| {
        store.ledger_probe(format!("more:{n}"), UserId(7), 10, secs(1)).await.unwrap()
    });
    assert_eq!(count(&probes.await, |posted| *posted), 30);
    assert_eq!(two.stores[1].wallet_balance(UserId(7)).await.unwrap().available, 300);
    two.proven().await;
}

#[tokio::test]
async fn a_repeat_is_no_refusal_when_the_first_took_the_last() {
    let Some(two) = Two::new() else { return };
    for n in 1..=10 {
        let user = UserId(n);
        two.stores[0].import_balances(opening(user, 100)).await.unwrap();
        let spends = two.each(6, async |store, _| {
            let draft = SpendDraft { user, ..spend(100, "shoes", Some(once(1))) };
            store.spend_create(draft).await.unwrap()
        });
        assert_eq!(count(&spends.await, |made| matches!(made, SpendMade::Repeated(_))), 5);
        let payments = two.each(6, async |store, _| {
            let draft = PaymentDraft { user, ..payment("shoes", Some(once(2))) };
            store.payment_create(draft).await.unwrap()
        });
        assert_eq!(count(&payments.await, |made| matches!(made, PaymentCreated::Repeated(_))), 5);
        let messages = two.each(6, async |store, i| {
            let idempotency = Some(SmsIdempotency { key: [n as u8; 32], request: [1; 32], keys_max: n });
            let quota = Some(SmsQuota { api_key: 1, day: 3, cap: n });
            store
                .sms_insert(SmsDraft { idempotency, quota, queue_max: n, ..message(10 * n + i, None) })
                .await
                .unwrap()
        });
        assert_eq!(count(&messages.await, |inserted| matches!(inserted, SmsInserted::Repeated(Some(_)))), 5);
    }
}

#[tokio::test]
async fn a_key_and_an_order_make_one_thing() {
    let Some(two) = Two::new() else { return };
    two.stores[0].import_balances(opening(ALICE, 1000)).await.unwrap();
    let spends =
        two.each(20, async |store, _| store.spend_create(spend(1, "", Some(once(1)))).await.unwrap());
    let spends = spends.await;
    assert_eq!(count(&spends, |made| matches!(made, SpendMade::Done(_))), 1);
    assert_eq!(count(&spends, |made| matches!(made, SpendMade::Repeated(_))), 19);
    let spends =
        two.each(20, async |store, _| store.spend_create(spend(1, "shoes", None)).await.unwrap()).await;
    assert_eq!(count(&spends, |made| matches!(made, SpendMade::Done(_))), 1);
    assert_eq!(count(&spends, |made| matches!(made, SpendMade::OrderTaken(_))), 19);
    let payments =
        two.each(20, async |store, _| store.payment_create(payment("", Some(once(2)))).await.unwrap());
    let payments = payments.await;
    assert_eq!(count(&payments, |made| matches!(made, PaymentCreated::Created(_))), 1);
    assert_eq!(count(&payments, |made| matches!(made, PaymentCreated::Repeated(_))), 19);
    let payments = two.each(20, async |store, _| store.payment_create(payment("shoes", None)).await.unwrap());
    let payments = payments.await;
    assert_eq!(count(&payments, |made| matches!(made, PaymentCreated::Created(_))), 1);
    assert_eq!(count(&payments, |made| matches!(made, PaymentCreated::OrderOpen(_))), 19);
    two.proven().await;
}

/// The names were made so that a hash of user and order was the key of a lock that an open store holds, or that every
/// change holds.
#[tokio::test]
async fn the_name_of_an_order_is_no_lock_of_the_engine() {
    let Some(two) = Two::new() else { return };
    for (user, order) in [(7, "Oi7qEd_XTLSq"), (1, "Bbe4gmKLHMZB"), (2, "VbUBOtndMP5t")] {
        let began_at = std::time::Instant::now();
        let draft = PaymentDraft { user: UserId(user), ..payment(order, None) };
        let created = two.stores[0].payment_create(draft).await.unwrap();
        assert!(matches!(created, PaymentCreated::Created(_)), "{created:?}");
        assert!(began_at.elapsed() < Duration::from_secs(2), "{order}: {:?}", began_at.elapsed());
    }
}

#[tokio::test]
async fn a_payment_is_credited_once_and_its_refunds_fit_into_it() {
    let Some(two) = Two::new() else { return };
    let id = two.pending("A").await;
    let settled =
        two.each(12, async |store, _| store.payment_settle(id, receipt("R"), None, secs(12)).await.unwrap());
    assert_eq!(count(&settled.await, |settled| matches!(settled, PaymentSettled::Now(_))), 1);
    assert_eq!(two.stores[1].wallet_balance(ALICE).await.unwrap().available, 1000);
    // One receipt for two payments.
    let others = [two.pending("B").await, two.pending("C").await];
    let settled = two.each(2, async |store, n| {
        store.payment_settle(others[n as usize], receipt("S"), None, secs(12)).await.unwrap()
    });
    let settled = settled.await;
    assert_eq!(count(&settled, |settled| matches!(settled, PaymentSettled::Now(_))), 1);
    assert_eq!(count(&settled, |settled| matches!(settled, PaymentSettled::ReceiptReused(_))), 1);
    let refunds = two.each(12, async |store, n| {
        let (by, to, note) = (UserId(9), RefundTo::Gateway, n.to_string());
        let draft = RefundDraft { payment: id, amount: Some(300), to, by, note, now: secs(13), once: None };
        store.payment_refund(draft).await.unwrap()
    });
    let refunds = refunds.await;
    let positions: BTreeSet<u64> = refunds
        .iter()
        .filter_map(|refunded| match refunded {
            PaymentRefunded::Done(_, refund) => Some(refund.position),
            _ => None,
        })
        .collect();
    assert_eq!(positions.len(), 3, "three of one instant have places of their own");
    assert_eq!(count(&refunds, |refunded| *refunded == PaymentRefunded::TooMuch { left: 100 }), 9);
    two.proven().await;
}

#[tokio::test]
async fn a_hold_ends_once() {
    let Some(two) = Two::new() else { return };
    two.stores[0].import_balances(opening(ALICE, 1000)).await.unwrap();
    for n in 1..=8 {
        let draft = SpendDraft { hold: true, expires_at: Some(secs(30)), ..spend(100, "", None) };
        let SpendMade::Done(hold) = two.stores[0].spend_create(draft).await.unwrap() else {
            panic!("hold {n} is not made")
        };
        let ended = two.each(6, async |store, n| match n % 3 {
            0 => store.spend_capture(hold.id, Some(40), secs(31)).await.unwrap(),
            1 => store.spend_void(hold.id, secs(31)).await.unwrap(),
            _ => {
                store.holds_expire(secs(31), 10).await.unwrap();
                SpendEnded::Missing
            }
        });
        ended.await;
        let now = two.stores[1].spend_get(hold.id).await.unwrap().unwrap();
        assert!(now.ended_at.is_some(), "{now:?}");
        two.proven().await;
        let balance = two.stores[0].wallet_balance(ALICE).await.unwrap();
        assert_eq!(balance.held, 0);
    }
}

#[tokio::test]
async fn an_event_is_routed_by_one() {
    let Some(two) = Two::new() else { return };
    two.stores[0].events_want(true).await.unwrap();
    for user in 1..=20 {
        two.stores[0].import_balances(opening(UserId(user), 5)).await.unwrap();
    }
    // By then the first ones may be delivered; routing them again would make them due again.
    two.each(6, async |store, _| {
        store.events_route(20, secs(1), &|_| vec!["a".to_owned()]).await.unwrap();
        let due = store.deliveries_due("a", due_at(1), 100).await.unwrap();
        let delivered = due.iter().map(|(event, _)| (event.id, chelseru_store::Attempt::Delivered)).collect();
        store.deliveries_note("a", delivered).await.unwrap();
    })
    .await;
    assert!(two.stores[1].deliveries_due("a", due_at(1), 100).await.unwrap().is_empty());
    let events = two.stores[1].events_list(None, chelseru_store::EventFilter::All, 100).await.unwrap();
    assert_eq!(events.len(), 20);
    assert!(events.iter().all(|report| report.deliveries[0].1.attempts == 1), "{events:?}");
}

#[tokio::test]
async fn a_gateway_that_wants_no_events_leaves_those_of_another_one() {
    let Some(two) = Two::new() else { return };
    let [wants, other] = &two.stores;
    let seen = async |store: &Store| {
        store.node_seen(super::node::facts("here"), Duration::from_secs(60)).await.unwrap();
    };
    let written = async |user| {
        wants.import_balances(opening(UserId(user), 5)).await.unwrap();
        let events = wants.events_list(None, chelseru_store::EventFilter::All, 100).await.unwrap();
        let of_user =
            |body: &EventBody| matches!(body, EventBody::WalletChanged { user: of, .. } if of.0 == user);
        events.iter().any(|report| of_user(&report.event.body))
    };
    other.events_want(false).await.unwrap();
    seen(other).await;
    assert!(!written(1).await);
    wants.events_want(true).await.unwrap();
    // It starts in this moment, and the other one cannot see it yet.
    other.events_want(false).await.unwrap();
    seen(wants).await;
    assert!(written(2).await);
    other.events_want(false).await.unwrap();
    assert!(written(3).await, "it is seen");
    let held = other.leases_renew(Duration::from_secs(60)).await.unwrap();
    assert!(!held.contains(&Task::Webhooks) && held.contains(&Task::Payments), "{held:?}");
    assert_eq!(wants.leases_renew(Duration::from_secs(60)).await.unwrap(), [Task::Webhooks]);
    // A stop is no reason to lose events: it may start again.
    wants.node_leave().await.unwrap();
    assert!(written(4).await);
    seen(wants).await;
    wants.events_want(false).await.unwrap();
    assert!(!written(5).await, "nobody wants them");
    other.events_want(true).await.unwrap();
    wants.events_want(false).await.unwrap();
    assert!(written(6).await);
    other.node_leave().await.unwrap();
    wants.events_want(false).await.unwrap();
    assert!(!written(7).await, "the one that wanted them is gone");
}

fn message(id: u64, begun: Option<SmsBegun>) -> SmsDraft {
    SmsDraft {
        id,
        number: NUMBER.to_owned(),
        content: SmsContent::Text("h\0i".to_owned()),
        class: SmsClass::Notice,
        owner: SmsOwner::ApiKey(1),
        created_at: Timestamp::from_micros(id),
        deadline: secs(3600),
        begun,
        tried: Vec::new(),
        idempotency: None,
        quota: None,
        queue_max: 20,
    }
}

fn begun() -> SmsBegun {
    SmsBegun { provider: "a".to_owned(), deduplicates: false }
}

#[tokio::test]
async fn a_message_is_in_one_hand() {
    let Some(two) = Two::new() else { return };
    for id in 1..=10 {
        for store in &two.stores {
            store.node_seen(super::node::facts("here"), Duration::from_secs(60)).await.unwrap();
        }
        two.stores[0].sms_insert(message(id, None)).await.unwrap();
        let began = two
            .each(6, async |store, n| (n % 2, store.sms_begin(id, begun(), vec![], secs(5)).await.unwrap()));
        let hands: BTreeSet<u64> =
            began.await.iter().filter(|(_, began)| *began).map(|(hand, _)| *hand).collect();
        assert_eq!(hands.len(), 1, "both gateways send message {id}");
        let hand = *hands.first().unwrap() as usize;
        // Who comes later neither rests it nor recovers it.
        assert!(!two.stores[1 - hand].sms_rest(id, vec![], secs(6)).await.unwrap());
        assert_eq!(two.stores[1 - hand].sms_recover(secs(6)).await.unwrap(), Default::default());
        let end = SmsEnd::Accepted {
            provider: "a".to_owned(),
            provider_message_id: None,
            cost_rial: None,
            poll_at: None,
        };
        let ended = two.stores[hand].sms_end(id, end, vec![], secs(7)).await.unwrap().unwrap();
        assert_eq!((ended.status, ended.content), (SmsStatus::Accepted, SmsContent::Text("h\0i".to_owned())));
    }
    // A gateway that is gone for good: its attempt is given up after the time an attempt may take.
    two.stores[0].sms_insert(message(11, Some(begun()))).await.unwrap();
    assert_eq!(two.stores[1].sms_recover(secs(599)).await.unwrap().unknown, 0);
    assert_eq!(two.stores[1].sms_recover(secs(601)).await.unwrap().unknown, 1);
}

#[tokio::test]
async fn the_bounds_of_messages_hold_across_gateways() {
    let Some(two) = Two::new() else { return };
    let inserted = two.each(60, async |store, n| store.sms_insert(message(n, None)).await.unwrap()).await;
    assert_eq!(count(&inserted, |inserted| *inserted == SmsInserted::Inserted), 20);
    assert_eq!(two.stores[0].sms_waiting().await.unwrap(), 20);
    let inserted = two.each(30, async |store, n| {
        let quota = Some(SmsQuota { api_key: 1, day: 3, cap: 7 });
        store.sms_insert(SmsDraft { quota, ..message(100 + n, Some(begun())) }).await.unwrap()
    });
    assert_eq!(count(&inserted.await, |inserted| *inserted == SmsInserted::Inserted), 7);
    let inserted = two.each(30, async |store, n| {
        let key = [(n / 6) as u8; 32];
        let idempotency = Some(SmsIdempotency { key, request: [1; 32], keys_max: 3 });
        store.sms_insert(SmsDraft { idempotency, ..message(200 + n, Some(begun())) }).await.unwrap()
    });
    let inserted = inserted.await;
    assert_eq!(count(&inserted, |inserted| *inserted == SmsInserted::Inserted), 3);
    assert_eq!(count(&inserted, |inserted| matches!(inserted, SmsInserted::Repeated(Some(_)))), 15);
    assert_eq!(count(&inserted, |inserted| *inserted == SmsInserted::Full), 12);
}

#[tokio::test]
async fn killed_connections_lose_and_double_nothing() {
    let Some(two) = Two::new() else { return };
    two.stores[0].import_balances(opening(ALICE, 1_000_000)).await.unwrap();
    let (over, name) = (Arc::new(AtomicBool::new(false)), two.database.name.clone());
    let until = Arc::clone(&over);
    let killer = std::thread::spawn(move || {
        let server = chelseru_postgres_server::server().expect("it runs");
        let mut killed = 0;
        while !until.load(Ordering::Acquire) {
            let began_at = std::time::Instant::now();
            killed += server.count(format!(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '{name}'"
            ));
            // On a slow machine nothing else would ever get through.
            std::thread::sleep(4 * began_at.elapsed());
        }
        killed
    });
    // Each request is repeated by its key until it is answered, as a client does.
    let made = two.each(60, async |store, n| {
        let draft = spend(10, "", Some(once(n as u8)));
        for _ in 0..1000 {
            match store.spend_create(draft.clone()).await {
                Ok(SpendMade::Done(spend) | SpendMade::Repeated(spend)) => return spend.id,
                Ok(other) => panic!("{other:?}"),
                Err(StoreError::Unavailable { .. } | StoreError::Busy | StoreError::Unsure) => {
                    tokio::task::yield_now().await;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        panic!("request {n} was never answered")
    });
    let made: BTreeSet<SpendId> = made.await.into_iter().collect();
    over.store(true, Ordering::Release);
    assert!(killer.join().unwrap() > 0);
    assert_eq!(made.len(), 60);
    let answers = || async { two.stores[0].spends_of(ALICE, None, 1000).await };
    let mut spends = answers().await;
    while spends.is_err() {
        spends = answers().await;
    }
    assert_eq!(spends.unwrap().iter().map(|spend| spend.id).collect::<BTreeSet<_>>(), made);
    assert_eq!(two.stores[0].wallet_balance(ALICE).await.unwrap().available, 1_000_000 - 600);
    two.proven().await;
}

/// Some of everything that moves money: payment 1 with a refund, a spend, and a hold.
async fn filled(two: &Two) {
    let id = two.paid("R").await;
    let store = &two.stores[0];
    store.import_balances(opening(UserId(2), 50)).await.unwrap();
    let hold = |amount| SpendDraft { hold: true, ..spend(amount, "", None) };
    let SpendMade::Done(held) = store.spend_create(hold(30)).await.unwrap() else { panic!("not held") };
    store.spend_capture(held.id, Some(20), secs(21)).await.unwrap();
    store.spend_create(hold(15)).await.unwrap();
    let (by, to, now) = (UserId(9), RefundTo::Gateway, secs(22));
    let refund = RefundDraft { payment: id, amount: Some(5), to, by, note: String::new(), now, once: None };
    store.payment_refund(refund).await.unwrap();
    two.proven().await;
}

/// Without the triggers and the foreign keys of the tables.
const UNCHECKED: &str = "set session_replication_role = replica; ";

const TABLES: [&str; 7] =
    ["wallet", "ledger_posting", "ledger_entry", "ledger_share", "payment", "refund", "spend"];

/// Changes the tables behind the store's back and returns what the ledger check names. Undoes the change.
async fn after(two: &Two, change: &str) -> String {
    two.database.run(&format!("{UNCHECKED}{change}")).unwrap();
    let difference = two.stores[0].ledger_verify().await.unwrap().difference;
    let undo =
        TABLES.map(|table| format!("delete from {table}; insert into {table} select * from was_{table};"));
    two.database.run(&format!("{UNCHECKED}{}", undo.concat())).unwrap();
    two.proven().await;
    difference.unwrap_or_default()
}

#[tokio::test]
async fn the_tables_refuse_to_lose_money() {
    let Some(two) = Two::new() else { return };
    two.stores[0].import_balances(opening(ALICE, 50)).await.unwrap();
    for (change, refusal) in [
        ("update ledger_entry set amount = 1", "never changed"),
        ("delete from ledger_posting", "never changed"),
        ("truncate ledger_entry", "never changed"),
        (
            "insert into ledger_entry select posting, 3, 'merchant', 5, null from ledger_entry limit 1",
            "sum to zero",
        ),
        ("update wallet set available = available - 51", "check constraint"),
        ("delete from wallet", "foreign key"),
    ] {
        let error = two.database.run(change).unwrap_err();
        let text = error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
        assert!(text.contains(refusal), "{change}: {text}");
    }
    two.proven().await;
}

#[tokio::test]
async fn what_somebody_changed_is_named() {
    let Some(two) = Two::new() else { return };
    filled(&two).await;
    let save = TABLES.map(|table| format!("create table was_{table} as select * from {table};"));
    two.database.run(&save.concat()).unwrap();
    for (change, found) in [
        ("update ledger_entry set amount = amount + 1 where account = 'wallet:2'", "its hash is not that of its content"),
        ("update ledger_posting set key = 'payment:9' where key = 'payment:1'", "(payment:9): its hash is not that"),
        ("update ledger_posting set at = at + interval '1 s' where key = 'spend:2'", "its hash is not that"),
        (
            "delete from ledger_entry where posting = (select number from ledger_posting where key = 'spend:1');
             delete from ledger_posting where key = 'spend:1'",
            "posting 2 of user 1 is missing before",
        ),
        (
            "delete from ledger_entry where posting = (select max(number) from ledger_posting);
             delete from ledger_posting where number = (select max(number) from ledger_posting)",
            "the last posting of user 1 should be its 5., found 4",
        ),
        (
            "delete from ledger_entry where posting = (select number from ledger_posting where user_id = 2);
             delete from ledger_posting where user_id = 2",
            "2 wallets and 5 postings are stored, but 1 chains have 5",
        ),
        ("update wallet set available = available + 1 where user_id = 2", "the wallet of user 2 is stored with 51"),
        ("update ledger_share set balance = balance - 1 where account = 'merchant'", "the account merchant is stored with 19"),
        ("update payment set amount = amount + 1", "payment 1: 1001 rial are paid, but 1000 credited"),
        ("update payment set state = 'pending'", "payment:1 is credited without being paid"),
        ("update payment set refunded = 6", "payment 1: 6 rial are stored as refunded in 1 refunds, but 5"),
        ("update refund set amount = 6", "refund 1 of payment 1 was taken back otherwise"),
        ("delete from refund", "payment 1: 5 rial are stored as refunded in 1 refunds, but 0 were posted in 0"),
        ("update spend set captured = 21 where id = 1", "spend 1: 21 rial are stored as captured, but 20 were posted"),
        ("update spend set amount = 16 where id = 2", "spend 2: 16 rial are stored, but 15 were posted"),
        (
            "update spend set state = 'voided', ended_at = created_at where id = 2",
            "spend 2: voided, but 0 rial were returned",
        ),
        ("delete from spend where id = 2", "spend:2 is posted, but no spend has it"),
        (
            "insert into payment select 7, user_id, state, reason, amount, currency, mode, order_name, gateway,
                 plugin_digest, description, callback_url, callback_key, frontend_url, created_at, window_ends_at,
                 paid_at, ended_at, reference, redirect_method, redirect_url, redirect_fields, plugin_state,
                 start_message, claims, asked, attempts, check_at, late_question, receipt_number, receipt_card_pan,
                 receipt_card_hash, receipt_fee, receipt_code, receipt_message, refunded, refunds, refusal_code,
                 refusal_text, refusal_field, uncredited, imported from payment",
            "payment 7 is paid without a credit",
        ),
    ] {
        let difference = after(&two, change).await;
        assert!(difference.contains(found), "{change}: {difference}");
    }
}
