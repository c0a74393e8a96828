//! Single rules of payments, one test each.

use std::sync::atomic::Ordering;

use chelseru_domain::money::payment::gateway::{GatewayError, Unconfirmed};
use chelseru_domain::money::payment::{
    CallbackError, CreateError, Created, ROUND_MAX, ROUND_PARALLEL, ROUND_SILENT_MAX,
};
use chelseru_domain::money::wallet::{Actor, RefundRequest};
use chelseru_store::{PaymentSettled, PaymentState, PaymentStep, RefundTo};

use super::bank::{Fault, Money as BankMoney, RETURN, WINDOW};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// Just under, at and over; repeats and refusals are not counted, and another user is not held up.
#[tokio::test]
async fn one_user_begins_so_many_payments_in_an_hour() {
    let world = World::new();
    let create = async |request: PaymentRequest| world.payments.create(world.banks.as_ref(), request).await;
    let of_hour = || PaymentRequest { per_hour_max: 3, ..request(50_000) };
    let keyed = || PaymentRequest { idempotency_key: "k".parse().ok(), ..of_hour() };
    for _ in 0..4 {
        create(keyed()).await.unwrap();
    }
    let small = PaymentRequest { amount: Money::from_rial(1).unwrap(), ..of_hour() };
    assert!(matches!(create(small).await, Err(CreateError::AmountOutOfRange { .. })));
    for _ in 0..2 {
        create(of_hour()).await.unwrap();
    }
    let over = create(of_hour()).await;
    assert!(matches!(over, Err(CreateError::Exhausted(_))), "{over:?}");
    let other = PaymentRequest { user: UserId(USER.0 + 1), ..of_hour() };
    create(other).await.unwrap();
    world.clock.advance(Duration::from_secs(3600));
    create(of_hour()).await.unwrap();
}

/// What refuses a new payment refuses no repeat of one that began before: neither by its key nor by its order.
#[tokio::test]
async fn a_repeat_is_answered_whatever_refuses_new_payments() {
    let world = World::new();
    let create = async |request: PaymentRequest| world.payments.create(world.banks.as_ref(), request).await;
    let keyed = || PaymentRequest { idempotency_key: "k".parse().ok(), per_hour_max: 2, ..request(50_000) };
    let ordered = || PaymentRequest { order: "shoes".to_owned(), per_hour_max: 2, ..request(50_000) };
    let small = |request| PaymentRequest { amount: Money::from_rial(1).unwrap(), ..request };
    let by_key = create(keyed()).await.unwrap().payment;
    let by_order = create(ordered()).await.unwrap().payment;
    let repeats = async |refused: fn(&CreateError) -> bool, other: PaymentRequest| {
        let error = create(other).await.unwrap_err();
        assert!(refused(&error), "{error:?}");
        let repeat = create(keyed()).await.unwrap();
        assert_eq!((repeat.payment.id, repeat.replayed), (by_key.id, true));
        let again = create(ordered()).await.unwrap();
        assert_eq!((again.payment.id, again.replayed), (by_order.id, false));
        let reused = create(PaymentRequest { description: "other".to_owned(), ..keyed() }).await.unwrap_err();
        assert!(matches!(reused, CreateError::KeyReused), "{reused:?}");
        let terms = create(small(ordered())).await.unwrap_err();
        assert!(matches!(terms, CreateError::OrderOpen(_)), "{terms:?}");
    };
    let new = || PaymentRequest { per_hour_max: 2, ..request(50_000) };
    repeats(|error| matches!(error, CreateError::Exhausted(_)), new()).await;
    repeats(|error| matches!(error, CreateError::AmountOutOfRange { .. }), small(new())).await;
    world.clock.advance(Duration::from_secs(3600));
    world.bank().fault(Fault::Throttled(90));
    create(new()).await.unwrap_err();
    let is_held = |error: &CreateError| matches!(error, CreateError::Gateway(GatewayError::Throttled(_)));
    repeats(is_held, new()).await;
    world.banks.remove_all();
    repeats(|error| matches!(error, CreateError::NoGateway), new()).await;
}

#[tokio::test]
async fn a_paid_payment_credits_the_wallet_once() {
    let world = World::new();
    let payment = world.create(50_000).await;
    assert_eq!(payment.state, PaymentState::Pending);
    world.bank().pay(reference(&payment));
    let paid = world.callback(&payment, true).await;
    assert_eq!(paid.state, PaymentState::Paid);
    assert_eq!(world.callback(&payment, true).await, paid);
    assert_eq!(world.available().await, 50_000);
    world.check_ledger().await;
}

/// A machine that starts with the local time as UTC, until its clock is set.
#[tokio::test]
async fn payments_of_a_clock_that_was_ahead_are_asked_about() {
    let world = World::new();
    let ahead = Duration::from_secs(3600 * 7 / 2);
    world.clock.advance(ahead);
    let paid = world.create(50_000).await;
    world.bank().pay(reference(&paid));
    world.clock.set_back(ahead);
    let round = world.payments.reconcile(world.banks.as_ref()).await.unwrap();
    assert_eq!(round.settled, 1, "{round:?}");
    assert_eq!(world.payment(&paid).await.state, PaymentState::Paid);
    // An unpaid one is asked about again, and not at once.
    world.clock.advance(ahead);
    let unpaid = world.create(30_000).await;
    world.clock.set_back(ahead);
    world.reconcile().await;
    let asked = world.payment(&unpaid).await;
    assert_eq!(asked.state, PaymentState::Pending);
    assert!(asked.check_at <= world.now().plus(MINUTE), "{asked:?}");
    let round = world.payments.reconcile(world.banks.as_ref()).await.unwrap();
    assert_eq!(round.looked_at, 0, "{round:?}");
}

#[tokio::test]
async fn a_hundred_parallel_callbacks_give_one_credit_and_one_answer() {
    let world = World::new();
    let payment = world.create(50_000).await;
    world.bank().pay(reference(&payment));
    let calls: Vec<_> = (0..100)
        .map(|n| {
            let (payments, banks) = (world.payments.clone(), world.banks.clone());
            let callback = callback(reference(&payment), n % 2 == 0);
            tokio::spawn(async move {
                payments.callback(banks.as_ref(), &callback, ANYONE).await.unwrap().payment
            })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(answers[0].state, PaymentState::Paid);
    assert_eq!(world.available().await, 50_000);
    assert_eq!(world.bank().questions.load(Ordering::SeqCst), 1, "those who waited share the answer");
    world.check_ledger().await;
}

#[tokio::test]
async fn a_hundred_waiting_for_a_silent_bank_ask_it_once() {
    let world = World::new();
    let payment = world.create(50_000).await;
    world.bank().fault(Fault::LostAnswer);
    world.bank().pay(reference(&payment));
    let callback = callback(reference(&payment), true);
    let calls = (0..100).map(|_| world.payments.callback(world.banks.as_ref(), &callback, ANYONE));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().payment.state == PaymentState::Pending));
    assert_eq!(world.bank().questions.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_callback_that_says_ok_proves_nothing() {
    let world = World::new();
    let payment = world.create(50_000).await;
    assert_eq!(world.callback(&payment, true).await.state, PaymentState::Pending);
    assert_eq!(world.available().await, 0);
    // Nor does it end anything: the payer was at the bank all along.
    world.bank().pay(reference(&payment));
    world.pass(MINUTE).await;
    assert_eq!(world.callback(&payment, true).await.state, PaymentState::Paid);
    assert_eq!(world.available().await, 50_000);
}

#[tokio::test]
async fn a_nok_callback_cancels_only_what_the_gateway_calls_cancelled() {
    let world = World::new();
    let payment = world.create(50_000).await;
    assert_eq!(world.callback(&payment, false).await.state, PaymentState::Pending, "the bank says otherwise");
    assert_eq!(world.bank().questions.load(Ordering::SeqCst), 1);
    world.bank().cancel(reference(&payment));
    world.pass(MINUTE).await;
    let after = world.payment(&payment).await;
    assert_eq!((after.state, after.reason.as_str()), (PaymentState::Cancelled, "cancelled"));
    // And a NOK about a payment that the bank knows to be paid credits it.
    let payment = world.create(50_000).await;
    world.bank().pay(reference(&payment));
    assert_eq!(world.callback(&payment, false).await.state, PaymentState::Paid);
    assert_eq!(world.available().await, 50_000);
}

#[tokio::test]
async fn another_amount_in_the_gateways_answer_is_not_credited() {
    let world = World::new();
    let payment = world.create(50_000).await;
    world.bank().pay(reference(&payment));
    world.bank().fault(Fault::WrongAmount);
    let after = world.callback(&payment, true).await;
    assert_eq!((after.state, after.reason.as_str()), (PaymentState::Failed, "mismatch:amount"));
    assert_eq!(world.available().await, 0);
}

#[tokio::test]
async fn a_receipt_is_good_for_one_payment() {
    let world = World::new();
    *world.bank().same_receipt.lock().unwrap() = Some(99);
    world.charge(50_000).await;
    let second = world.create(50_000).await;
    world.bank().pay(reference(&second));
    let after = world.callback(&second, true).await;
    assert_eq!((after.state, after.reason.as_str()), (PaymentState::Failed, "receipt_reused"));
    assert_eq!(world.available().await, 50_000);
    world.check_ledger().await;
}

#[tokio::test]
async fn silence_after_paying_stays_pending_and_is_settled_by_the_reconciler() {
    for fault in [Fault::LostAnswer, Fault::LostRequest, Fault::Down, Fault::Processing] {
        let world = World::new();
        let payment = world.create(50_000).await;
        world.bank().pay(reference(&payment));
        world.bank().fault(fault);
        assert_eq!(world.callback(&payment, true).await.state, PaymentState::Pending, "{fault:?}");
        assert_eq!(world.available().await, 0);
        world.pass(MINUTE).await;
        assert_eq!(world.payment(&payment).await.state, PaymentState::Paid, "{fault:?}");
        assert_eq!(world.available().await, 50_000);
    }
}

#[tokio::test]
async fn a_lost_callback_is_settled_within_two_minutes() {
    for lists in [false, true] {
        let world = World::new();
        world.bank().rules.lock().unwrap().lists_unverified = lists;
        let payment = world.create(50_000).await;
        world.pass(Duration::from_secs(200)).await;
        world.bank().pay(reference(&payment));
        world.pass(MINUTE).await;
        world.pass(MINUTE).await;
        assert_eq!(world.payment(&payment).await.state, PaymentState::Paid);
    }
}

#[tokio::test]
async fn the_list_of_unverified_settles_what_is_not_due_yet() {
    let world = World::new();
    world.bank().rules.lock().unwrap().lists_unverified = true;
    let payment = world.create(50_000).await;
    world.bank().pay(reference(&payment));
    world.reconcile().await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Paid);
}

#[tokio::test]
async fn money_that_went_back_by_itself_is_marked_as_returned() {
    let world = World::new();
    let payment = world.create(50_000).await;
    world.bank().pay(reference(&payment));
    for _ in 0..60 {
        world.bank().fault(Fault::Down);
        world.pass(MINUTE).await;
    }
    let after = world.payment(&payment).await;
    assert_eq!((after.state, after.reason.as_str()), (PaymentState::Expired, "returned"));
    assert_eq!(world.bank().money(reference(&payment)), BankMoney::Returned);
}

#[tokio::test]
async fn a_question_without_an_answer_is_asked_until_there_is_one() {
    let world = World::new();
    let payment = world.create(50_000).await;
    world.bank().pay(reference(&payment));
    // This one was carried out: the bank keeps the money for us, and never gives it back.
    world.bank().fault(Fault::LostAnswer);
    world.callback(&payment, true).await;
    for _ in 0..100 {
        world.bank().fault(Fault::Down);
        world.pass(MINUTE).await;
    }
    assert_eq!(world.payment(&payment).await.state, PaymentState::Pending);
    world.pass(MINUTE).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Paid);
}

#[tokio::test]
async fn a_gateway_that_keeps_money_is_asked_for_ever() {
    let world = World::new();
    world.bank().rules.lock().unwrap().unconfirmed = Unconfirmed::Kept;
    let payment = world.create(50_000).await;
    world.bank().pay(reference(&payment));
    for _ in 0..300 {
        world.bank().fault(Fault::Down);
        world.pass(MINUTE).await;
    }
    assert_eq!(world.payment(&payment).await.state, PaymentState::Pending);
    world.pass(MINUTE).await;
    assert_eq!(world.available().await, 50_000);
}

#[tokio::test]
async fn nobody_paid_until_the_window_ended_expires() {
    let world = World::new();
    let payment = world.create(50_000).await;
    world.pass(WINDOW - Duration::from_secs(1)).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Pending);
    world.pass(MINUTE).await;
    let after = world.payment(&payment).await;
    assert_eq!((after.state, after.reason.as_str()), (PaymentState::Expired, "not_paid"));
}

#[tokio::test]
async fn no_end_is_left_again() {
    let world = World::new();
    let ends = [PaymentState::Failed, PaymentState::Cancelled, PaymentState::Expired, PaymentState::Paid];
    for end in ends {
        let payment = world.create(50_000).await;
        let receipt = |number: &str| chelseru_store::PaymentReceipt {
            number: number.to_owned(),
            card_pan: String::new(),
            card_hash: String::new(),
            fee_rial: None,
            code: String::new(),
            message: String::new(),
        };
        if end == PaymentState::Paid {
            world.bank().pay(reference(&payment));
            world.callback(&payment, true).await;
        } else {
            world.store.payment_end(payment.id, end, "test".into(), None, world.now()).await.unwrap();
        }
        let before = world.payment(&payment).await;
        assert_eq!(before.state, end);
        if end == PaymentState::Paid {
            let settled =
                world.store.payment_settle(payment.id, receipt("1"), None, world.now()).await.unwrap();
            assert_eq!(settled, PaymentSettled::Was(before.clone()));
            let step = world.store.payment_claimed(payment.id, None, Some(world.now())).await.unwrap();
            assert_eq!(step, PaymentStep::Was(before.clone()));
        }
        for other in [PaymentState::Failed, PaymentState::Cancelled, PaymentState::Expired] {
            let step =
                world.store.payment_end(payment.id, other, "again".into(), None, world.now()).await.unwrap();
            assert_eq!(step, PaymentStep::Was(before.clone()));
        }
        let start = payment.start.clone().unwrap();
        let step = world.store.payment_started(payment.id, start, world.now(), world.now()).await.unwrap();
        assert_eq!(step, PaymentStep::Was(before.clone()));
        let step = world
            .store
            .payment_check_later(payment.id, chelseru_store::CheckedLater::at(world.now()))
            .await
            .unwrap();
        assert_eq!(step, PaymentStep::Was(before.clone()));
        assert_eq!(world.payment(&payment).await, before);
    }
    world.check_ledger().await;
}

#[tokio::test]
async fn what_the_gateway_does_not_take_fails_and_leaves_nothing_open() {
    let world = World::new();
    let faults = [Fault::Refused, Fault::Down, Fault::LostRequest, Fault::LostAnswer];
    for fault in faults {
        world.bank().fault(fault);
        let mut request = request(50_000);
        request.order = "a".into();
        let error = world.payments.create(world.banks.as_ref(), request).await.unwrap_err();
        assert!(matches!(error, CreateError::Gateway(_)), "{fault:?}: {error}");
    }
    let failed = world.payments.list(USER, None, 10).await.unwrap();
    assert_eq!(failed.len(), faults.len());
    assert!(failed.iter().all(|payment| payment.state == PaymentState::Failed));
    assert_eq!(world.store.payments_open("BANK", 10).await.unwrap(), 0);
}

#[tokio::test]
async fn a_crash_while_creating_fails_the_payment_after_its_lease() {
    let world = World::new();
    world.bank().fault(Fault::CrashAfter);
    tokio::select! {
        _ = world.payments.create(world.banks.as_ref(), request(50_000)) => panic!("it died"),
        () = world.bank().crash.notified() => {}
    }
    let world = world.restarted();
    world.reconcile().await;
    let payment = world.payments.list(USER, None, 1).await.unwrap().remove(0);
    assert_eq!(payment.state, PaymentState::Created, "the process may be a slow one, not a dead one");
    world.pass(Duration::from_secs(121)).await;
    assert_eq!(world.payment(&payment).await.reason, "interrupted");
}

#[tokio::test]
async fn an_order_has_one_open_payment() {
    let world = World::new();
    let order = |rial: u64| PaymentRequest { order: "o-1".into(), ..request(rial) };
    let create = |request| world.payments.create(world.banks.as_ref(), request);
    let first = create(order(50_000)).await.unwrap().payment;
    // The same again leads to the same bank page; other terms are refused.
    assert_eq!(create(order(50_000)).await.unwrap().payment.id, first.id);
    let error = create(order(60_000)).await.unwrap_err();
    assert!(matches!(error, CreateError::OrderOpen(open) if open.id == first.id));
    let mut other_user = order(60_000);
    other_user.user = UserId(8);
    assert_ne!(create(other_user).await.unwrap().payment.id, first.id);
    world.bank().cancel(reference(&first));
    world.callback(&first, false).await;
    assert_ne!(create(order(60_000)).await.unwrap().payment.id, first.id);
}

#[tokio::test]
async fn many_at_once_open_one_payment_of_an_order() {
    let world = World::new();
    let calls = (0..50).map(|n| {
        let request = PaymentRequest { order: "o-1".into(), ..request(50_000 + n * 10) };
        world.payments.create(world.banks.as_ref(), request)
    });
    let results = futures_util::future::join_all(calls).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert_eq!(world.store.payments_open("BANK", 100).await.unwrap(), 1);
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_answer_for_a_day() {
    let world = World::new();
    let keyed = |rial: u64| PaymentRequest { idempotency_key: "k".parse().ok(), ..request(rial) };
    let create = |request| world.payments.create(world.banks.as_ref(), request);
    let created = create(keyed(50_000)).await.unwrap();
    assert!(!created.replayed);
    let first = created.payment;
    assert_eq!(create(keyed(50_000)).await.unwrap(), Created { payment: first.clone(), replayed: true });
    assert!(matches!(create(keyed(60_000)).await.unwrap_err(), CreateError::KeyReused));
    let mut other = keyed(60_000);
    other.user = UserId(8);
    assert_ne!(create(other).await.unwrap().payment.id, first.id, "a key is its user's own");
    world.bank().pay(reference(&first));
    world.callback(&first, true).await;
    assert_eq!(
        create(keyed(50_000)).await.unwrap().payment.start,
        first.start,
        "also when it is paid by now"
    );
    world.clock.advance(Duration::from_secs(24 * 3600) - Duration::from_secs(1));
    assert_eq!(create(keyed(50_000)).await.unwrap().payment.id, first.id);
    world.clock.advance(Duration::from_secs(1));
    assert_ne!(create(keyed(50_000)).await.unwrap().payment.id, first.id);
    world.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(world.store.once_purge(world.now(), 10).await.unwrap().removed, 2);
}

#[tokio::test]
async fn an_idempotency_key_in_flight_is_said_to_be() {
    let world = World::new();
    let keyed = || PaymentRequest { idempotency_key: "k".parse().ok(), ..request(50_000) };
    world.bank().fault(Fault::CrashBefore);
    tokio::select! {
        _ = world.payments.create(world.banks.as_ref(), keyed()) => panic!("it died"),
        () = world.bank().crash.notified() => {}
    }
    let again = world.payments.create(world.banks.as_ref(), keyed()).await;
    assert!(matches!(again.unwrap_err(), CreateError::InFlight));
    world.pass(Duration::from_secs(121)).await;
    let again = world.payments.create(world.banks.as_ref(), keyed()).await.unwrap();
    assert!(!again.replayed, "the first one never reached the gateway: {again:?}");
}

#[tokio::test]
async fn a_payment_that_the_gateway_did_not_take_is_tried_again_by_its_key() {
    let world = World::new();
    let keyed = || PaymentRequest { idempotency_key: "k".parse().ok(), ..request(50_000) };
    let create = || world.payments.create(world.banks.as_ref(), keyed());
    world.bank().fault(Fault::Refused);
    let error = create().await.unwrap_err();
    assert!(matches!(error, CreateError::Gateway(GatewayError::Refused(reason))
        if reason.code == "-9" && reason.text == "no" && reason.field.as_deref() == Some("amount")));
    let kept = world.payments.list(USER, None, 10).await.unwrap().remove(0).refusal.expect("it is kept");
    assert_eq!((kept.code.as_str(), kept.text.as_str(), kept.field.as_deref()), ("-9", "no", Some("amount")));
    for fault in [Fault::Down, Fault::LostRequest, Fault::LostAnswer] {
        world.bank().fault(fault);
        assert!(matches!(create().await.unwrap_err(), CreateError::Gateway(_)), "{fault:?}");
    }
    let taken = create().await.unwrap();
    assert!(!taken.replayed);
    assert_eq!(create().await.unwrap(), Created { payment: taken.payment.clone(), replayed: true });
    world.bank().pay(reference(&taken.payment));
    assert_eq!(world.callback(&taken.payment, true).await.state, PaymentState::Paid);
    let payments = world.payments.list(USER, None, 10).await.unwrap();
    assert_eq!(payments.len(), 5, "each try has its record");
    assert_eq!(world.available().await, 50_000, "and one of them is paid");
}

#[tokio::test]
async fn amounts_outside_the_gateways_limits_are_refused() {
    let world = World::new();
    let create = |rial| world.payments.create(world.banks.as_ref(), request(rial));
    for rial in [999, 1_000_000_001] {
        assert!(matches!(create(rial).await.unwrap_err(), CreateError::AmountOutOfRange { .. }), "{rial}");
    }
    for rial in [1000, 1_000_000_000] {
        create(rial).await.unwrap();
    }
    world.bank().rules.lock().unwrap().unit_rial = 10;
    assert!(matches!(create(10_005).await.unwrap_err(), CreateError::AmountNotWhole { unit: 10 }));
    create(10_010).await.unwrap();
}

#[tokio::test]
async fn a_payment_stays_with_the_gateway_that_began_it() {
    let world = World::with_banks(|clock| {
        Banks::of(vec![Bank::new("BANK", clock.clone()), Bank::new("OTHER", clock)])
    });
    let payment = world.create(50_000).await;
    world.bank().pay(reference(&payment));
    world.banks.select_next();
    assert_eq!(world.create(50_000).await.gateway, "OTHER");
    let paid = world.callback(&payment, true).await;
    assert_eq!((paid.state, paid.gateway.as_str()), (PaymentState::Paid, "BANK"));
    assert_eq!(world.store.payments_open_gateways().await.unwrap(), ["OTHER"]);
}

#[tokio::test]
async fn a_gateway_that_is_down_holds_up_no_other_and_is_asked_little() {
    let world = World::with_banks(|clock| {
        Banks::of(vec![Bank::new("BANK", clock.clone()), Bank::new("OTHER", clock)])
    });
    let bank = world.bank().clone();
    let mut waiting = Vec::new();
    // More than a round takes, and all of them overdue before the one below.
    for _ in 0..ROUND_MAX + 44 {
        let payment = world.create(50_000).await;
        bank.pay(reference(&payment));
        waiting.push(payment);
    }
    bank.down.store(true, std::sync::atomic::Ordering::SeqCst);
    world.clock.advance(Duration::from_secs(1));
    world.banks.select_next();
    let other = world.create(60_000).await;
    world.banks.named("OTHER").pay(reference(&other));
    world.pass(MINUTE).await;
    assert_eq!(world.payment(&other).await.state, PaymentState::Paid);
    let asked = bank.questions.load(std::sync::atomic::Ordering::SeqCst);
    assert!((1..=ROUND_SILENT_MAX + ROUND_PARALLEL).contains(&asked), "asked {asked} times");

    // It is back: two minutes later nothing waits any more.
    bank.down.store(false, std::sync::atomic::Ordering::SeqCst);
    for _ in 0..2 {
        world.clock.advance(MINUTE);
        while world.payments.reconcile(world.banks.as_ref()).await.unwrap().more {}
    }
    for payment in &waiting {
        assert_eq!(world.payment(payment).await.state, PaymentState::Paid);
    }
    world.check_ledger().await;
}

#[tokio::test]
async fn an_open_payment_without_its_gateway_waits() {
    let world = World::new();
    let payment = world.create(50_000).await;
    let banks = world.banks.clone();
    banks.remove_all();
    world.pass(MINUTE).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Pending);
    assert_eq!(world.store.payments_open("BANK", 10).await.unwrap(), 1);
    let error = world.payments.create(banks.as_ref(), request(50_000)).await.unwrap_err();
    assert!(matches!(error, CreateError::NoGateway));
}

#[tokio::test]
async fn callbacks_about_nothing_are_refused() {
    let world = World::new();
    let unknown = world.payments.callback(world.banks.as_ref(), &callback("BANK-77", true), ANYONE).await;
    assert!(matches!(unknown.unwrap_err(), CallbackError::NotFound));
    let nonsense = Callback { method: "POST".into(), body: b"{}".to_vec(), ..Callback::default() };
    let nonsense = world.payments.callback(world.banks.as_ref(), &nonsense, ANYONE).await;
    assert!(matches!(nonsense.unwrap_err(), CallbackError::NotUnderstood));
}

#[tokio::test]
async fn only_pay_goes_to_the_merchant_and_not_to_the_wallet() {
    let world = World::new();
    let request = PaymentRequest { mode: PayMode::Direct, ..request(50_000) };
    let payment = world.payments.create(world.banks.as_ref(), request).await.unwrap().payment;
    world.bank().pay(reference(&payment));
    world.callback(&payment, true).await;
    assert_eq!(world.available().await, 0);
    assert_eq!(world.store.account_balance(&chelseru_store::Account::Merchant).await.unwrap(), 50_000);
    world.check_ledger().await;
}

#[tokio::test]
async fn a_wallet_at_the_end_of_its_range_leaves_the_payment_pending() {
    let world = World::new();
    world.store.ledger_probe("test:1".into(), USER, i64::MAX as u64, world.now()).await.unwrap();
    let payment = world.create(50_000).await;
    world.bank().pay(reference(&payment));
    assert_eq!(world.callback(&payment, true).await.state, PaymentState::Pending);
    assert_eq!(world.available().await, i64::MAX as u64);
    let _ = RETURN;
}

#[tokio::test]
async fn a_paid_order_is_not_paid_twice() {
    let world = World::new();
    let order = || PaymentRequest { order: "o-1".into(), ..request(50_000) };
    let create = |request| world.payments.create(world.banks.as_ref(), request);
    let failed = create(order()).await.unwrap().payment;
    world.bank().cancel(reference(&failed));
    world.callback(&failed, false).await;
    // A fresh attempt after a failure is fine.
    let paid = create(order()).await.unwrap().payment;
    assert_ne!(paid.id, failed.id);
    world.bank().pay(reference(&paid));
    world.callback(&paid, true).await;
    assert!(matches!(create(order()).await.unwrap_err(), CreateError::OrderPaid(id) if id == paid.id));
    let mut other_user = order();
    other_user.user = UserId(8);
    create(other_user).await.unwrap();
    let repeats = PaymentRequest { unique_order: false, ..order() };
    let again = create(repeats).await.unwrap().payment;
    world.bank().cancel(reference(&again));
    world.callback(&again, false).await;
    assert!(matches!(create(order()).await.unwrap_err(), CreateError::OrderPaid(id) if id == paid.id));
    for _ in 0..2 {
        world.charge(1000).await;
    }
    // What was given back as a whole can be paid again.
    let refund = RefundRequest {
        payment: paid.id,
        amount: None,
        to: RefundTo::Gateway,
        note: String::new(),
        idempotency_key: None,
    };
    world
        .wallets
        .refund(Actor { user: UserId(1), role: chelseru_domain::money::wallet::Role::Staff }, refund)
        .await
        .unwrap();
    create(order()).await.unwrap();
}

/// Each change waits for the disk, so their number bounds the payments a second.
#[tokio::test]
async fn a_payment_takes_three_changes_and_a_question_one() {
    let world = World::new();
    let changes = async |work: &str, expected: u64, before: u64| {
        let now = world.store.commit_stats().changes;
        assert_eq!(now - before, expected, "{work}");
        now
    };
    let start = world.store.commit_stats().changes;
    let payment = world.create(50_000).await;
    let now = changes("stored, and begun at the bank", 2, start).await;
    world.bank().pay(reference(&payment));
    assert_eq!(world.callback(&payment, true).await.state, PaymentState::Paid);
    let now = changes("the answer with the money", 1, now).await;
    world.callback(&payment, true).await;
    let now = changes("the same callback again", 0, now).await;

    let open = world.create(60_000).await;
    let now = changes("another one", 2, now).await;
    world.callback(&open, true).await;
    let now = changes("not paid yet: the claim, and when to ask again", 1, now).await;
    for round in 0..3 {
        world.pass(MINUTE).await;
        assert_eq!(world.payment(&open).await.state, PaymentState::Pending);
        changes("each further question", round + 1, now).await;
    }
}
