//! Money on every engine: free text of any kind, the outbox, idempotency keys, postings read by their key. The rules of
//! payments, spends and refunds are tested in the domain.

use chelseru_store::{
    Account, Attempt, CreditFacts, DeliveryState, EventBody, EventFilter, EventId, KeptClaim, Once,
    OpeningBalance, PayMode, PaymentAsked, PaymentClaim, PaymentCreated, PaymentDraft, PaymentId,
    PaymentReceipt, PaymentRefunded, PaymentSettled, PaymentStart, PaymentState, PaymentStep, Redirect,
    RedirectMethod, RefundDraft, RefundState, RefundTo, ReversalDecided, ReversalDecision, ReversalState,
    ReversalStep, SpendDraft, SpendMade, UserId,
};

use super::*;

pub(crate) const ALICE: UserId = UserId(1);

pub(crate) fn payment(order: &str, once: Option<Once>) -> PaymentDraft {
    PaymentDraft {
        user: ALICE,
        amount: 1000,
        currency: chelseru_store::Currency::Irr,
        mode: chelseru_store::PayMode::Charge,
        order: order.to_owned(),
        unique_order: true,
        gateway: "BANK".to_owned(),
        plugin: "d".to_owned(),
        description: "for\0you".to_owned(),
        callback_url: "https://shop.example/\0".to_owned(),
        callback_key: "k".to_owned(),
        frontend_url: Some("f\0".to_owned()),
        now: secs(10),
        window_ends_at: secs(1000),
        check_at: secs(70),
        once,
    }
}

pub(crate) fn start(reference: &str) -> PaymentStart {
    PaymentStart {
        reference: reference.to_owned(),
        redirect: Redirect {
            method: RedirectMethod::Post,
            url: "https://bank.example/\0".to_owned(),
            fields: vec![("token\0".to_owned(), "\u{10FFFF}\"".to_owned())],
        },
        state: vec![0, 1, 255],
        message: "\0".to_owned(),
    }
}

pub(crate) fn receipt(number: &str) -> PaymentReceipt {
    PaymentReceipt {
        number: number.to_owned(),
        card_pan: "6037\0".to_owned(),
        card_hash: String::new(),
        fee_rial: Some(u64::MAX >> 1),
        code: "100".to_owned(),
        message: "\u{10FFFF}0".to_owned(),
    }
}

pub(crate) fn spend(amount: u64, order: &str, once: Option<Once>) -> SpendDraft {
    SpendDraft {
        user: ALICE,
        amount,
        hold: false,
        expires_at: None,
        order: order.to_owned(),
        unique_order: true,
        description: "a\0b".to_owned(),
        now: secs(20),
        once,
    }
}

pub(crate) fn once(key: u8) -> Once {
    Once { key: [key; 32], request: [1; 32], keep_until: secs(1_000) }
}

pub(crate) fn opening(user: UserId, amount: i64) -> Vec<OpeningBalance> {
    vec![OpeningBalance { key: format!("import:wallet:{user}"), user, amount, at: secs(1) }]
}

#[tokio::test]
async fn any_text_of_a_payment_comes_back_as_it_was() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let claim = PaymentClaim { cancelled: false, receipt: Some("r\0".to_owned()), data: vec![0, 200] };
        for (n, text) in ["a", "a\0", "\0a", "\u{10FFFF}0a", "a\u{10FFFF}"].into_iter().enumerate() {
            let draft = payment(text, None);
            let PaymentCreated::Created(made) = store.payment_create(draft.clone()).await.unwrap() else {
                panic!("{text:?} is another order")
            };
            assert_eq!((&made.order, &made.description), (&draft.order, &draft.description));
            let known = start(text);
            store.payment_started(made.id, known.clone(), secs(70), secs(11)).await.unwrap();
            let kept = KeptClaim { claim: claim.clone(), vouched: true };
            store.payment_claimed(made.id, Some(kept), Some(secs(80))).await.unwrap();
            let PaymentSettled::Now(paid) =
                store.payment_settle(made.id, receipt(text), None, secs(12)).await.unwrap()
            else {
                panic!("{text:?} is another receipt")
            };
            let read = store.payment_by_reference("BANK", text).await.unwrap().unwrap();
            assert_eq!(read, paid);
            assert_eq!((read.start, read.receipt), (Some(known), Some(receipt(text))));
            assert_eq!(
                (read.claims[0].claim.clone(), read.frontend_url),
                (claim.clone(), draft.frontend_url)
            );
            let note = format!("{text}\0");
            let (by, to, now) = (UserId(9), RefundTo::Gateway, secs(13 + n as u64));
            let refund = RefundDraft { payment: made.id, amount: Some(1), to, by, note, now, once: None };
            let PaymentRefunded::Done(_, refund) = store.payment_refund(refund).await.unwrap() else {
                panic!("not refunded")
            };
            assert_eq!(store.payment_refunds(made.id).await.unwrap(), [refund]);
        }
        let SpendMade::Done(made) = store.spend_create(spend(5, "x\0", None)).await.unwrap() else {
            panic!("not spent")
        };
        assert_eq!(store.spend_get(made.id).await.unwrap(), Some(made));
        assert_eq!(store.ledger_verify().await.unwrap().difference, None);
    }
}

/// A new pending payment.
async fn begun(store: &Store, draft: PaymentDraft, name: &str) -> PaymentId {
    let PaymentCreated::Created(made) = store.payment_create(draft).await.unwrap() else {
        panic!("{name} is not created")
    };
    store.payment_started(made.id, start(name), secs(70), secs(11)).await.unwrap();
    made.id
}

async fn settled(store: &Store, id: PaymentId, number: &str) {
    let settled = store.payment_settle(id, receipt(number), None, secs(12)).await.unwrap();
    assert!(matches!(settled, PaymentSettled::Now(_)), "{settled:?}");
}

/// Which payment pays Alice's order.
async fn pays(store: &Store, order: &str) -> PaymentId {
    match store.payment_create(payment(order, None)).await.unwrap() {
        PaymentCreated::OrderPaid(paid) => paid.id,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_order_that_is_paid_late_is_paid_although_another_payment_is_open() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let first = begun(&store, payment("o-1", None), "A1").await;
        let cancelled = PaymentState::Cancelled;
        store.payment_end(first, cancelled, String::new(), None, secs(12)).await.unwrap();
        let second = begun(&store, payment("o-1", None), "A2").await;
        settled(&store, first, "R1").await;
        assert_eq!(pays(&store, "o-1").await, first);
        let repeats = PaymentDraft { unique_order: false, ..payment("o-1", None) };
        let made = store.payment_create(repeats).await.unwrap();
        assert!(matches!(&made, PaymentCreated::OrderOpen(open) if open.id == second), "{made:?}");
        // The newest one is named when both are paid, whichever was paid last.
        settled(&store, second, "R2").await;
        assert_eq!(pays(&store, "o-1").await, second);
    }
}

#[tokio::test]
async fn an_order_stays_paid_until_its_last_paid_payment_is_refunded() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let repeats = || PaymentDraft { unique_order: false, ..payment("o-1", None) };
        let mut paid = Vec::new();
        // Between them are payments of another user, of another order, and one that failed.
        for n in 0..3 {
            let other_user = PaymentDraft { user: UserId(2), ..repeats() };
            let drafts = [repeats(), other_user, PaymentDraft { order: "o-2".to_owned(), ..repeats() }];
            for (draft, kind) in drafts.into_iter().zip(["a", "b", "c"]) {
                let name = format!("{kind}{n}");
                let id = begun(&store, draft, &name).await;
                settled(&store, id, &name).await;
                paid.extend((kind == "a").then_some(id));
            }
            let failed = begun(&store, repeats(), &format!("d{n}")).await;
            let state = PaymentState::Failed;
            store.payment_end(failed, state, String::new(), None, secs(12)).await.unwrap();
        }
        let give_back = async |payment| {
            let (to, by, now) = (RefundTo::Gateway, UserId(9), secs(20));
            let draft = RefundDraft { payment, amount: None, to, by, note: String::new(), now, once: None };
            let refunded = store.payment_refund(draft).await.unwrap();
            assert!(matches!(refunded, PaymentRefunded::Done(..)), "{refunded:?}");
        };
        assert_eq!(pays(&store, "o-1").await, paid[2]);
        give_back(paid[1]).await;
        assert_eq!(pays(&store, "o-1").await, paid[2]);
        give_back(paid[2]).await;
        assert_eq!(pays(&store, "o-1").await, paid[0]);
        give_back(paid[0]).await;
        let made = store.payment_create(payment("o-1", None)).await.unwrap();
        assert!(matches!(made, PaymentCreated::Created(_)), "{made:?}");
    }
}

/// A spend and a payment that charges the wallet are one purchase; a spend and a payment that only pays are two.
#[tokio::test]
async fn an_order_is_not_paid_directly_and_from_the_wallet() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.import_balances(opening(ALICE, 700)).await.unwrap();
        let direct = |order: &str| PaymentDraft { mode: PayMode::Direct, ..payment(order, None) };
        let spends = async |order: &str| store.spend_create(spend(5, order, None)).await.unwrap();
        let creates = async |draft: PaymentDraft| store.payment_create(draft).await.unwrap();

        let held = SpendDraft { hold: true, ..spend(5, "spent", None) };
        let SpendMade::Done(spent) = store.spend_create(held).await.unwrap() else { panic!("not held") };
        assert_eq!(creates(direct("spent")).await, PaymentCreated::OrderSpent(spent.id));
        assert!(matches!(creates(payment("spent", None)).await, PaymentCreated::Created(_)));
        store.spend_void(spent.id, secs(21)).await.unwrap();
        // The payment that charges is open meanwhile.
        assert!(matches!(creates(direct("spent")).await, PaymentCreated::OrderOpen(_)));

        let paid = begun(&store, direct("paid"), "A1").await;
        // Nobody knows yet whether it will be paid.
        settled(&store, paid, "R1").await;
        assert_eq!(spends("paid").await, SpendMade::OrderPaid(paid));
        let repeats = SpendDraft { unique_order: false, ..spend(5, "paid", None) };
        assert!(matches!(store.spend_create(repeats).await.unwrap(), SpendMade::Done(_)));

        // Hidden by a newer one that charged.
        let first = begun(&store, direct("both"), "A2").await;
        settled(&store, first, "R2").await;
        let charge = PaymentDraft { unique_order: false, ..payment("both", None) };
        let second = begun(&store, charge, "A3").await;
        settled(&store, second, "R3").await;
        assert_eq!(spends("both").await, SpendMade::OrderPaid(first));
        let other_user = SpendDraft { user: UserId(2), ..spend(5, "both", None) };
        assert!(!matches!(store.spend_create(other_user).await.unwrap(), SpendMade::OrderPaid(_)));
        let (to, by, now) = (RefundTo::Gateway, UserId(9), secs(20));
        let refund =
            RefundDraft { payment: first, amount: None, to, by, note: String::new(), now, once: None };
        store.payment_refund(refund).await.unwrap();
        assert!(matches!(spends("both").await, SpendMade::Done(_)));
    }
}

#[tokio::test]
async fn a_posting_tells_what_it_moved_and_what_was_left() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.import_balances(opening(ALICE, 700)).await.unwrap();
        store.import_balances(opening(UserId(2), -40)).await.unwrap();
        store.spend_create(spend(200, "", None)).await.unwrap();
        store.spend_create(SpendDraft { hold: true, ..spend(300, "", None) }).await.unwrap();
        let posting = store.posting_by_key("spend:2").await.unwrap().unwrap();
        let moved: Vec<_> = posting
            .entries
            .iter()
            .map(|entry| (entry.account.clone(), entry.amount, entry.balance))
            .collect();
        assert_eq!(moved, [(Account::Wallet(ALICE), -300, 200), (Account::Held(ALICE), 300, 300)]);
        let before = store.posting_by_key("spend:1").await.unwrap().unwrap();
        assert_eq!((posting.entries[0].previous, posting.entries[1].previous), (before.number, 0));
        assert_eq!(before.entries[1].balance, 200);
        let import = store.posting_by_key("import:wallet:2").await.unwrap().unwrap();
        assert_eq!((import.entries[0].balance, import.entries[1].balance), (-40, -660));
        for (account, balance) in
            [(Account::Import, -660), (Account::Debt(UserId(2)), -40), (Account::Merchant, 200)]
        {
            assert_eq!(store.account_balance(&account).await.unwrap(), balance);
        }
        let (lines, next) = store.wallet_entries(ALICE, None, 2).await.unwrap();
        assert_eq!(
            lines.iter().map(|line| (line.amount, line.is_hold)).collect::<Vec<_>>(),
            [(-300, true), (-200, false)]
        );
        let (lines, end) = store.wallet_entries(ALICE, next, 2).await.unwrap();
        assert_eq!((lines.len(), lines[0].amount, end), (1, 700, None));
        // A posting that never moved this wallet.
        assert_eq!(store.wallet_entries(ALICE, Some(import.number), 2).await.unwrap(), (vec![], None));
        assert_eq!(store.import_balances(opening(ALICE, 700)).await.unwrap(), 0);
        let report = store.ledger_verify().await.unwrap();
        assert_eq!((report.difference, report.postings, report.users_total), (None, 4, 500));
    }
}

#[tokio::test]
async fn a_key_is_one_request_until_it_ends() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.import_balances(opening(ALICE, 700)).await.unwrap();
        let SpendMade::Done(first) = store.spend_create(spend(5, "", Some(once(1)))).await.unwrap() else {
            panic!("not spent")
        };
        let again = store.spend_create(spend(5, "", Some(once(1)))).await.unwrap();
        assert_eq!(again, SpendMade::Repeated(first));
        let other = Once { request: [2; 32], ..once(1) };
        let reused = store.spend_create(spend(6, "", Some(other.clone()))).await.unwrap();
        assert_eq!(reused, SpendMade::KeyReused);
        // Expired although not purged.
        let late =
            SpendDraft { now: secs(1_000), ..spend(6, "", Some(Once { keep_until: secs(2_000), ..other })) };
        assert!(matches!(store.spend_create(late).await.unwrap(), SpendMade::Done(_)));
        let PaymentCreated::Created(failed) = store.payment_create(payment("", Some(once(2)))).await.unwrap()
        else {
            panic!("not created")
        };
        let end = chelseru_store::PaymentState::Failed;
        store.payment_end(failed.id, end, "refused".to_owned(), None, secs(11)).await.unwrap();
        // The gateway never took it: the key begins it again, and no other request.
        let asked = |once| PaymentAsked {
            user: ALICE,
            mode: PayMode::Charge,
            order: String::new(),
            unique_order: true,
            now: secs(12),
            once: Some(once),
        };
        assert_eq!(store.payment_known(asked(once(2))).await.unwrap(), None);
        let other = Once { request: [3; 32], ..once(2) };
        assert_eq!(store.payment_known(asked(other)).await.unwrap(), Some(PaymentCreated::KeyReused));
        let PaymentCreated::Created(second) = store.payment_create(payment("", Some(once(2)))).await.unwrap()
        else {
            panic!("not begun again")
        };
        assert_ne!(second.id, failed.id);
        let repeated = store.payment_create(payment("", Some(once(2)))).await.unwrap();
        assert_eq!(store.payment_known(asked(once(2))).await.unwrap().as_ref(), Some(&repeated));
        assert_eq!(repeated, PaymentCreated::Repeated(second));
        let mut removed = 0;
        loop {
            let step = store.once_purge(secs(1_500), 1).await.unwrap();
            removed += step.removed;
            if step.finished {
                break;
            }
        }
        assert_eq!(removed, 1);
    }
}

#[tokio::test]
async fn an_event_of_a_clock_that_was_ahead_is_due() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.events_want(true).await.unwrap();
        let soon = store.event_test("d".to_owned(), secs(100)).await.unwrap();
        let ahead = store.event_test("d".to_owned(), secs(9_000)).await.unwrap();
        let due = async |at, limit| {
            let due = store.deliveries_due("d", due_at(at), limit).await.unwrap();
            due.iter().map(|(event, _)| event.id).collect::<Vec<_>>()
        };
        assert_eq!((due(99, 10).await, due(100, 10).await), (vec![ahead], vec![soon, ahead]));
        assert_eq!((due(100, 1).await, due(9_000 - 3600, 10).await), (vec![soon], vec![soon]));
    }
}

#[tokio::test]
async fn an_event_is_routed_delivered_replayed_and_purged() {
    for engine in engines() {
        let store = TestStore::new(engine);
        // Nothing is written while nobody wants it.
        store.import_balances(opening(UserId(5), 7)).await.unwrap();
        store.events_want(true).await.unwrap();
        store.import_balances(opening(ALICE, 700)).await.unwrap();
        for _ in 0..2 {
            store.spend_create(spend(5, "", None)).await.unwrap();
        }
        let routed = store.events_route(10, secs(20), &|event| match event.body {
            EventBody::WalletChanged { amount: 700, .. } => vec!["a".to_owned(), "b".to_owned()],
            _ => vec!["a".to_owned()],
        });
        assert_eq!(routed.await.unwrap(), 3);
        assert_eq!(store.events_route(10, secs(20), &|_| vec!["b".to_owned()]).await.unwrap(), 0);
        assert!(store.deliveries_due("a", due_at(19), 10).await.unwrap().is_empty());
        let due = store.deliveries_due("a", due_at(20), 10).await.unwrap();
        assert_eq!(due.len(), 3);
        let EventBody::WalletChanged { amount, balance, posting, .. } = &due[1].0.body else {
            panic!("{:?}", due[1])
        };
        assert_eq!((*amount, *balance, posting.as_str()), (-5, 695, "spend:1"));
        let error = "no\0".to_owned();
        let again_at = Some(secs(60));
        let attempts = vec![
            (due[2].0.id, Attempt::Failed { error: error.clone(), again_at: None }),
            (due[0].0.id, Attempt::Delivered),
            (due[1].0.id, Attempt::Failed { error: error.clone(), again_at }),
            (EventId(99), Attempt::Delivered),
        ];
        store.deliveries_note("a", attempts).await.unwrap();
        let due = store.deliveries_due("a", due_at(60), 10).await.unwrap();
        assert_eq!((due.len(), due[0].1.attempts, &due[0].1.error), (1, 1, &error));
        assert_eq!(store.deliveries_dead(10).await.unwrap(), 1);
        let dead = store.events_list(None, EventFilter::Dead, 10).await.unwrap();
        let states =
            |at: usize| dead[at].deliveries.iter().map(|(_, delivery)| delivery.state).collect::<Vec<_>>();
        assert_eq!((dead.len(), states(0)), (1, vec![DeliveryState::Dead]));
        assert_eq!(store.events_replay_dead(Some("b".to_owned()), 10, secs(70)).await.unwrap(), 0);
        assert_eq!(store.events_replay_dead(None, 10, secs(70)).await.unwrap(), 1);
        let first = store.events_list(None, EventFilter::All, 10).await.unwrap().pop().unwrap();
        assert_eq!(first.deliveries.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(store.event_replay(first.event.id, None, secs(80)).await.unwrap(), 2);
        assert_eq!(store.event_replay(first.event.id, Some("c".to_owned()), secs(80)).await.unwrap(), 1);
        assert_eq!(store.event_replay(EventId(99), Some("c".to_owned()), secs(80)).await.unwrap(), 0);
        let test = store.event_test("c".to_owned(), secs(90)).await.unwrap();
        let of_c = store.deliveries_due("c", due_at(90), 10).await.unwrap();
        assert_eq!(of_c.iter().map(|(event, _)| event.id).collect::<Vec<_>>(), [first.event.id, test]);
        let listed = store.events_list(Some(test), EventFilter::All, 2).await.unwrap();
        assert_eq!(
            listed.iter().map(|report| report.event.id.0).collect::<Vec<_>>(),
            [test.0 - 1, test.0 - 2]
        );
        // None is too old, and there are no more than four.
        assert_eq!(store.events_purge(secs(1), 4, 10).await.unwrap(), (0, 0));
        assert_eq!(store.events_purge(secs(1), 3, 10).await.unwrap(), (1, 1));
        assert_eq!(store.events_purge(secs(90), 10, 1).await.unwrap(), (1, 1));
        assert_eq!(store.events_purge(secs(90), 10, 10).await.unwrap(), (1, 1));
        assert_eq!(store.events_list(None, EventFilter::All, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_low_credit_is_said_once_until_it_rises() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.events_want(true).await.unwrap();
        let credit = || {
            let (provider, unit) = ("SMS".to_owned(), "rial".to_owned());
            CreditFacts { provider, amount: 5, unit, min: 10 }
        };
        for (low, news) in [(false, false), (true, true), (true, false), (false, false), (true, true)] {
            assert_eq!(store.credit_note(credit(), low, secs(1)).await.unwrap(), news);
        }
        assert_eq!(store.events_list(None, EventFilter::All, 10).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn open_payments_are_found_by_their_gateway_and_time() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let mut ids = Vec::new();
        for (gateway, check_at) in [("BANK", 90), ("BANK", 70), ("BANK_2", 80)] {
            let gateway = gateway.to_owned();
            let draft = PaymentDraft { gateway, check_at: secs(check_at), ..payment("", None) };
            let PaymentCreated::Created(made) = store.payment_create(draft).await.unwrap() else {
                panic!("not created")
            };
            ids.push(made.id);
        }
        let due = async |gateway, at| {
            let due = store.payments_due(gateway, due_at(at), 10).await.unwrap();
            due.iter().map(|payment| payment.id).collect::<Vec<_>>()
        };
        assert_eq!((due("BANK", 89).await, due("BANK", 90).await), (vec![ids[1]], vec![ids[1], ids[0]]));
        let draft = PaymentDraft { check_at: secs(9_000), ..payment("", None) };
        let PaymentCreated::Created(ahead) = store.payment_create(draft).await.unwrap() else {
            panic!("not created")
        };
        // Its clock was ahead.
        assert_eq!(due("BANK", 89).await, [ids[1], ahead.id]);
        assert_eq!(due("BANK", 9_000 - 3600).await, [ids[1], ids[0]]);
        let first = store.payments_due("BANK", due_at(89), 1).await.unwrap();
        assert_eq!(first.iter().map(|payment| payment.id).collect::<Vec<_>>(), [ids[1]]);
        store.payment_started(ahead.id, start("B"), secs(70), secs(11)).await.unwrap();
        let end = chelseru_store::PaymentState::Expired;
        store.payment_end(ahead.id, end, "not_paid".to_owned(), None, secs(100)).await.unwrap();
        assert_eq!(store.payments_open("BANK", 10).await.unwrap(), 2);
        assert_eq!(store.payments_open_gateways().await.unwrap(), ["BANK", "BANK_2"]);
        store.payment_started(ids[2], start("A"), secs(80), secs(11)).await.unwrap();
        let end = chelseru_store::PaymentState::Expired;
        store.payment_end(ids[2], end, "not_paid".to_owned(), None, secs(100)).await.unwrap();
        assert_eq!(store.payments_open_gateways().await.unwrap(), ["BANK"]);
        // A late question opens it again for its gateway, until an answer comes.
        store.payment_claimed(ids[2], None, Some(secs(120))).await.unwrap();
        assert_eq!((due("BANK_2", 119).await, due("BANK_2", 120).await), (vec![], vec![ids[2]]));
        assert!(matches!(store.payment_late_answered(ids[2]).await.unwrap(), PaymentStep::Done(_)));
        assert!(matches!(store.payment_late_answered(ids[2]).await.unwrap(), PaymentStep::Was(_)));
        assert_eq!(store.payments_open("BANK_2", 10).await.unwrap(), 0);
    }
}

/// Entries can be renamed, and two of them may use one account of a provider. Two providers may give one number.
#[tokio::test]
async fn a_claimed_receipt_is_good_once_at_all_entries_of_its_plugin() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let claim = |number: &str| PaymentClaim {
            cancelled: false,
            receipt: Some(number.to_owned()),
            data: Vec::new(),
        };
        let mut made = 0;
        let mut settled = async |gateway: &str, plugin: &str, number: &str, claimed: bool| {
            made += 1;
            let draft =
                PaymentDraft { gateway: gateway.to_owned(), plugin: plugin.to_owned(), ..payment("", None) };
            let PaymentCreated::Created(created) = store.payment_create(draft).await.unwrap() else {
                panic!("not created")
            };
            let begun = start(&format!("reference {made}"));
            store.payment_started(created.id, begun, secs(70), secs(11)).await.unwrap();
            let claim = claimed.then(|| claim(number));
            let settled = store.payment_settle(created.id, receipt(number), claim, secs(12)).await.unwrap();
            matches!(settled, PaymentSettled::Now(_))
        };
        assert!(settled("SEP", "saman-sep@1", "77", true).await);
        assert!(!settled("SEP", "saman-sep@1", "77", true).await);
        assert!(!settled("SEP_RELAY", "saman-sep@1", "77", true).await, "another entry");
        assert!(!settled("RENAMED", "saman-sep@2", "77", true).await, "and a newer plugin");
        assert!(settled("A_BANK", "payping@3", "77", true).await, "another provider's number");
        assert!(settled("SEP_RELAY", "saman-sep@1", "78", true).await);
        assert!(!settled("A", "saman-sep@3", "78", true).await, "the names lie before and behind");
        // A record of an older version has the digest only.
        assert!(settled("OLD", "9", "79", true).await);
        assert!(!settled("NEW", "saman-sep@9", "79", true).await);
        // Nobody named it: what the gateway says about its own reference counts.
        assert!(settled("NEW", "saman-sep@9", "77", false).await);
        assert_eq!(store.ledger_verify().await.unwrap().difference, None);
    }
}

#[tokio::test]
async fn a_gateway_that_carried_a_reversal_out_has_the_last_word() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let PaymentCreated::Created(made) = store.payment_create(payment("", None)).await.unwrap() else {
            panic!("not created")
        };
        store.payment_started(made.id, start("reference"), secs(70), secs(11)).await.unwrap();
        store.payment_settle(made.id, receipt("1"), None, secs(12)).await.unwrap();
        let (to, by, now) = (RefundTo::Reverse, UserId(9), secs(20));
        let draft =
            RefundDraft { payment: made.id, amount: None, to, by, note: String::new(), now, once: None };
        assert!(matches!(store.payment_refund(draft).await.unwrap(), PaymentRefunded::Done(..)));
        let step = async |step| store.reversal_step(made.id, step, now).await.unwrap().unwrap().state;
        let refused = ReversalState::Refused("-61".to_owned());
        assert_eq!(step(ReversalStep::Refused("-61".to_owned())).await, refused);
        let later = ReversalStep::AskAgain { at: secs(30), doubtful: true };
        assert_eq!(step(later).await, refused, "nothing else changes a refusal");
        assert_eq!(step(ReversalStep::Done).await, ReversalState::Done);
        assert_eq!(step(ReversalStep::Refused("-61".to_owned())).await, ReversalState::Done);
        assert_eq!(store.reversals_undecided(10).await.unwrap(), []);
        let undone = store.reversal_decide(made.id, ReversalDecision::Undo, by, now).await.unwrap();
        assert_eq!(undone, ReversalDecided::Missing, "the payer has the money");
        let states: Vec<_> = store.payment_refunds(made.id).await.unwrap().iter().map(|r| r.state).collect();
        assert_eq!(states, [RefundState::Done]);
        assert_eq!(store.ledger_verify().await.unwrap().difference, None);
    }
}
