//! Questions before the payer paid, claims that anybody can post, and money that a bank took after the end.

use chelseru_store::EventFilter;
use std::sync::atomic::Ordering;

use chelseru_domain::money::payment::gateway::{GatewayError, Listed, Reason};
use chelseru_domain::money::payment::{CallbackError, CreateError};
use chelseru_domain::operator::webhook::Webhooks;
use chelseru_store::{CLAIMS_MAX, EventBody, PaymentState};

use super::bank::{Fault, Money as BankMoney, WINDOW};
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn questions(world: &World) -> usize {
    world.bank().questions.load(Ordering::SeqCst)
}

/// What was told, the newest first.
async fn events(world: &World) -> Vec<EventBody> {
    let reports = Webhooks::new(world.store.clone(), world.clock.clone())
        .list(None, EventFilter::All, 50)
        .await
        .unwrap();
    reports.into_iter().map(|report| report.event.body).collect()
}

#[tokio::test]
async fn anybody_may_ask_before_the_payer_paid_and_he_is_credited_all_the_same() {
    let world = World::new();
    let payment = world.create(50_000).await;
    for receipt in [None, Some("1"), Some("2"), None] {
        let asked = world.stranger(&payment, receipt).await;
        assert_eq!(asked.state, PaymentState::Pending, "{receipt:?}");
        world.pass(Duration::from_secs(20)).await;
    }
    world.callback(&payment, false).await;
    world.bank().pay(reference(&payment));
    world.pass(MINUTE).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Paid);
    assert_eq!(world.available().await, 50_000);
}

#[tokio::test]
async fn an_invented_receipt_in_any_order_with_the_true_one_opens_and_closes_nothing() {
    for true_at in 0..4 {
        let world = World::new();
        let payment = world.create(50_000).await;
        world.bank().pay(reference(&payment));
        for at in 0..4 {
            if at == true_at {
                let receipt = world.bank().receipt(reference(&payment));
                let query = format!("{}&receipt={receipt}", callback(reference(&payment), true).query);
                let callback = vouched(&payment, Callback { query, ..callback(reference(&payment), true) });
                let paid = world.take(&callback).await;
                assert_eq!(paid.state, PaymentState::Paid, "behind {at} invented ones");
            } else {
                // The bank also answers without a claim, so an invented one finds the money as well.
                world.stranger(&payment, Some(&format!("9{at}"))).await;
            }
            world.clock.advance(Duration::from_secs(3));
        }
        assert_eq!(world.available().await, 50_000);
        world.check_ledger().await;
    }
}

#[tokio::test]
async fn claims_are_bounded_and_a_flood_does_not_push_out_the_payers_own() {
    let world = World::new();
    let payment = world.create(50_000).await;
    world.bank().down.store(true, Ordering::SeqCst);
    let receipt = world.bank().receipt(reference(&payment));
    let own = callback(reference(&payment), true);
    let own = Callback { query: format!("{}&receipt={receipt}", own.query), ..own };
    world.take(&vouched(&payment, own)).await;
    for number in 0..3 * CLAIMS_MAX {
        world.stranger(&payment, Some(&format!("9{number}"))).await;
        let claims = world.payment(&payment).await.claims;
        assert!(claims.len() <= CLAIMS_MAX);
        assert_eq!(claims[0].claim.receipt.as_ref(), Some(&receipt), "after {number}");
        assert!(claims[0].vouched);
    }
    assert_eq!(world.payment(&payment).await.claims.len(), CLAIMS_MAX);
    // The payer's own is tried first, and its answer counts.
    world.bank().down.store(false, Ordering::SeqCst);
    world.pass(MINUTE).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Pending, "not paid yet");
    world.bank().pay(reference(&payment));
    world.pass(MINUTE).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Paid);
}

/// The bank knows payments by their receipts. The payer's came while it was down; strangers go on posting inventions,
/// with receipts and without.
#[tokio::test]
async fn the_payers_receipt_is_tried_before_what_strangers_post() {
    for vouches in [true, false] {
        let world = World::new();
        world.bank().needs_receipt.store(true, Ordering::SeqCst);
        let payment = world.create(50_000).await;
        world.bank().pay(reference(&payment));
        world.bank().down.store(true, Ordering::SeqCst);
        let receipt = world.bank().receipt(reference(&payment));
        let own = callback(reference(&payment), true);
        let own = Callback { query: format!("{}&receipt={receipt}", own.query), ..own };
        world.take(&if vouches { vouched(&payment, own) } else { own }).await;
        // A bank that drops the key leaves no way to tell them apart, but a claim without a receipt hides none.
        for number in 0..if vouches { 3 * CLAIMS_MAX } else { 0 } {
            world.stranger(&payment, Some(&format!("9{number}"))).await;
        }
        world.stranger(&payment, None).await;
        world.bank().down.store(false, Ordering::SeqCst);
        world.pass(MINUTE).await;
        assert_eq!(world.payment(&payment).await.state, PaymentState::Paid, "{vouches}");
        assert_eq!(world.available().await, 50_000);
    }
}

/// A stranger names something that the bank cannot read, and the payer's callback is lost.
#[tokio::test]
async fn a_claim_whose_question_fails_does_not_keep_a_paid_payment_pending() {
    for error in [
        GatewayError::Refused(Reason::default()),
        GatewayError::Unauthorized(Reason::default()),
        GatewayError::Unavailable("HTTP 400".into()),
        GatewayError::Unknown("HTTP 500".into()),
    ] {
        let world = World::new();
        let payment = world.create(50_000).await;
        *world.bank().chokes_with.lock().unwrap() = Some(error.clone());
        for number in 0..5 {
            let asked = world.stranger(&payment, Some(&format!("9{number}"))).await;
            assert_eq!(asked.state, PaymentState::Pending, "{error}");
            world.clock.advance(Duration::from_secs(3));
        }
        assert_eq!(world.payment(&payment).await.claims.len(), 5, "they may be true");
        world.bank().pay(reference(&payment));
        let asked = questions(&world);
        world.pass(MINUTE).await;
        assert_eq!(world.payment(&payment).await.state, PaymentState::Paid, "{error}");
        assert_eq!(questions(&world) - asked, 4, "three claims, and none");
        assert_eq!(world.available().await, 50_000);
        world.check_ledger().await;
    }
}

/// The question about the payer's own receipt fails, and this bank calls a payment unpaid without the receipt.
#[tokio::test]
async fn a_no_beside_a_claim_whose_question_failed_ends_nothing() {
    for (fault, vouches) in [(Fault::Down, true), (Fault::LostRequest, true), (Fault::Down, false)] {
        let world = World::new();
        world.bank().needs_receipt.store(true, Ordering::SeqCst);
        let payment = world.create(50_000).await;
        world.clock.advance(WINDOW - Duration::from_secs(10));
        world.bank().pay(reference(&payment));
        let receipt = world.bank().receipt(reference(&payment));
        let own = callback(reference(&payment), true);
        let own = Callback { query: format!("{}&receipt={receipt}", own.query), ..own };
        world.bank().fault(fault);
        world.take(&if vouches { vouched(&payment, own) } else { own }).await;
        world.bank().fault(fault);
        let asked = questions(&world);
        world.pass(MINUTE).await;
        assert_eq!(questions(&world) - asked, 2, "with the receipt, and without");
        assert_eq!(world.payment(&payment).await.state, PaymentState::Pending, "{fault:?}");
        world.pass(MINUTE).await;
        assert_eq!(world.payment(&payment).await.state, PaymentState::Paid, "{fault:?}");
    }
}

#[tokio::test]
async fn a_gateway_that_limits_requests_is_not_asked_about_the_next_claim() {
    for (faults, asks) in [(&[][..], 1), (&[Fault::Down], 2), (&[Fault::LostRequest, Fault::Down], 3)] {
        let world = World::new();
        let payment = world.create(50_000).await;
        world.bank().down.store(true, Ordering::SeqCst);
        for number in 0..4 {
            world.stranger(&payment, Some(&format!("9{number}"))).await;
            world.clock.advance(Duration::from_secs(3));
        }
        world.bank().down.store(false, Ordering::SeqCst);
        world.bank().pay(reference(&payment));
        for fault in faults {
            world.bank().fault(*fault);
        }
        world.bank().fault(Fault::Throttled(90));
        let asked = questions(&world);
        world.pass(MINUTE).await;
        world.pass(MINUTE).await;
        assert_eq!(questions(&world) - asked, asks, "and nothing during its wait");
        assert_eq!(world.payment(&payment).await.state, PaymentState::Pending);
        world.pass(MINUTE).await;
        assert_eq!(world.payment(&payment).await.state, PaymentState::Paid);
    }
}

/// A stranger names the receipt of another paid payment: nothing ends, and the payer's own money still counts.
#[tokio::test]
async fn a_claimed_receipt_of_another_payment_ends_nothing() {
    let world = World::new();
    let first = world.charge(50_000).await;
    let taken = first.receipt.unwrap().number.parse().unwrap();
    let second = world.create(50_000).await;
    world.bank().pay(reference(&second));
    // This bank confirms whatever receipt is named, and says so in its answer.
    let own = world.bank().receipt(reference(&second));
    *world.bank().same_receipt.lock().unwrap() = Some(taken);
    let after = world.stranger(&second, Some(&own)).await;
    assert_eq!(after.state, PaymentState::Pending, "{}", after.reason);
    *world.bank().same_receipt.lock().unwrap() = None;
    world.pass(MINUTE).await;
    assert_eq!(world.payment(&second).await.state, PaymentState::Paid);
    assert_eq!(world.available().await, 100_000);
    world.check_ledger().await;
}

#[tokio::test]
async fn a_callback_with_another_key_is_not_about_this_payment() {
    let world = World::new();
    let (first, second) = (world.create(50_000).await, world.create(50_000).await);
    let url = world.bank().callback_url.lock().unwrap().clone();
    assert_eq!(url, format!("https://shop.example/back?{CALLBACK_KEY}={}", second.callback_key));
    assert_eq!(second.callback_url, "https://shop.example/back", "what the client named");
    let foreign = vouched(&second, callback(reference(&first), true));
    let answer = world.payments.callback(world.banks.as_ref(), &foreign, ANYONE).await;
    assert!(matches!(answer.unwrap_err(), CallbackError::NotFound));
    assert_eq!(questions(&world), 0);
    assert!(world.payment(&first).await.claims.is_empty());
}

#[tokio::test]
async fn ten_refreshes_make_one_question() {
    let world = World::new();
    let payment = world.create(50_000).await;
    for _ in 0..10 {
        assert_eq!(world.stranger(&payment, None).await.state, PaymentState::Pending);
        world.clock.advance(Duration::from_millis(900));
    }
    assert_eq!(questions(&world), 1);
    // The payer's own return is worth a question at once.
    world.bank().pay(reference(&payment));
    assert_eq!(world.callback(&payment, false).await.state, PaymentState::Paid);
    assert_eq!(questions(&world), 2);
}

#[tokio::test]
async fn a_changed_gateway_is_asked_at_once_whatever_the_one_before_said() {
    let world = World::new();
    world.bank().fault(Fault::Throttled(600));
    let create = || world.payments.create(world.banks.as_ref(), request(70_000));
    create().await.unwrap_err();
    world.payments.gateway_changed("ANOTHER");
    let held = create().await.unwrap_err();
    assert!(matches!(held, CreateError::Gateway(GatewayError::Throttled(_))), "{held:?}");
    world.payments.gateway_changed("BANK");
    assert_eq!(create().await.unwrap().payment.state, PaymentState::Pending);
}

#[tokio::test]
async fn a_gateway_that_was_asked_too_often_is_left_alone_for_as_long_as_it_says() {
    let world = World::new();
    world.bank().rules.lock().unwrap().lists_unverified = true;
    let (first, second) = (world.create(50_000).await, world.create(60_000).await);
    world.bank().fault(Fault::Throttled(90));
    assert_eq!(world.callback(&first, true).await.state, PaymentState::Pending);
    world.bank().pay(reference(&first));
    world.bank().pay(reference(&second));
    let (asked, lists) = (questions(&world), world.bank().lists.load(Ordering::SeqCst));
    world.clock.advance(Duration::from_secs(89));
    world.reconcile().await;
    // A claim that comes meanwhile is kept.
    assert_eq!(world.callback(&second, true).await.claims.len(), 1);
    let error = world.payments.create(world.banks.as_ref(), request(70_000)).await.unwrap_err();
    let wait = Some(Duration::from_secs(1));
    assert!(
        matches!(error, CreateError::Gateway(GatewayError::Throttled(left)) if left == wait),
        "{error:?}"
    );
    assert_eq!((questions(&world), world.bank().lists.load(Ordering::SeqCst)), (asked, lists));
    world.pass(Duration::from_secs(3)).await;
    for payment in [&first, &second] {
        assert_eq!(world.payment(payment).await.state, PaymentState::Paid);
    }
    // The same when it was a new payment that was too much.
    world.bank().fault(Fault::Throttled(30));
    let refused = || world.payments.create(world.banks.as_ref(), request(70_000));
    for seconds in [30, 20, 10] {
        let error = refused().await.unwrap_err();
        let wait = Some(Duration::from_secs(seconds));
        assert!(
            matches!(error, CreateError::Gateway(GatewayError::Throttled(left)) if left == wait),
            "{error:?}"
        );
        world.clock.advance(Duration::from_secs(10));
    }
    refused().await.unwrap();
}

/// Ends a payment by the bank's word, and lets the payer pay in the same session.
async fn cancelled_and_paid(world: &World) -> Payment {
    let payment = world.create(50_000).await;
    world.bank().cancel(reference(&payment));
    assert_eq!(world.callback(&payment, false).await.state, PaymentState::Cancelled);
    assert!(world.bank().pay_again(reference(&payment)));
    payment
}

#[tokio::test]
async fn a_later_callback_settles_what_the_bank_took_after_the_end() {
    let world = World::new();
    world.store.events_want(true).await.unwrap();
    let payment = cancelled_and_paid(&world).await;
    world.clock.advance(MINUTE);
    let paid = world.callback(&payment, true).await;
    assert_eq!((paid.state, paid.reason.as_str()), (PaymentState::Paid, "after_cancelled"));
    assert_eq!(world.available().await, 50_000);
    let kinds: Vec<_> = events(&world).await.iter().map(|body| body.kind()).collect();
    assert_eq!(kinds, ["payment.paid", "wallet.credited", "payment.cancelled"]);
    world.check_ledger().await;
}

#[tokio::test]
async fn the_banks_list_settles_what_it_took_after_the_end_with_nothing_else_open() {
    for end in ["cancelled", "expired"] {
        let world = World::new();
        world.bank().rules.lock().unwrap().lists_unverified = true;
        let payment = world.create(50_000).await;
        if end == "cancelled" {
            world.bank().cancel(reference(&payment));
            world.callback(&payment, false).await;
            world.bank().pay_again(reference(&payment));
        } else {
            world.pass(WINDOW).await;
            assert_eq!(world.payment(&payment).await.state, PaymentState::Expired);
            world.bank().pay(reference(&payment));
        }
        assert_eq!(world.store.payments_open("BANK", 1).await.unwrap(), 0);
        world.pass(5 * MINUTE).await;
        let paid = world.payment(&payment).await;
        assert_eq!((paid.state, paid.reason.as_str()), (PaymentState::Paid, format!("after_{end}").as_str()));
        assert_eq!(world.available().await, 50_000);
        world.check_ledger().await;
    }
}

#[tokio::test]
async fn the_staff_can_have_the_bank_asked_after_the_end() {
    let world = World::new();
    let payment = cancelled_and_paid(&world).await;
    let asked = world.payments.ask(world.banks.as_ref(), payment.id).await.unwrap().unwrap();
    assert_eq!((asked.state, asked.reason.as_str()), (PaymentState::Paid, "after_cancelled"));
}

#[tokio::test]
async fn only_the_banks_word_leads_back_and_a_stranger_makes_few_questions() {
    let world = World::new();
    let payment = world.create(50_000).await;
    world.bank().cancel(reference(&payment));
    world.callback(&payment, false).await;
    let asked = questions(&world);
    for _ in 0..10 {
        assert_eq!(world.stranger(&payment, None).await.state, PaymentState::Cancelled);
        world.clock.advance(Duration::from_secs(5));
    }
    assert_eq!(questions(&world) - asked, 1, "50 seconds, one question each 30");
    // Long after its end nobody is asked any more.
    world.clock.advance(Duration::from_secs(8 * 24 * 3600));
    let asked = questions(&world);
    world.callback(&payment, true).await;
    assert_eq!(questions(&world), asked);
}

#[tokio::test]
async fn a_late_payment_pays_its_order_although_another_one_is_open() {
    let world = World::new();
    let order = || PaymentRequest { order: "o-1".into(), ..request(50_000) };
    let first = world.payments.create(world.banks.as_ref(), order()).await.unwrap().payment;
    world.bank().cancel(reference(&first));
    world.callback(&first, false).await;
    let second = world.payments.create(world.banks.as_ref(), order()).await.unwrap().payment;
    assert_ne!(first.id, second.id);
    world.bank().pay_again(reference(&first));
    world.clock.advance(MINUTE);
    assert_eq!(world.callback(&first, true).await.state, PaymentState::Paid);
    let error = world.payments.create(world.banks.as_ref(), order()).await.unwrap_err();
    assert!(matches!(error, CreateError::OrderPaid(id) if id == first.id), "{error:?}");
    assert_eq!(world.payment(&second).await.state, PaymentState::Pending);
    // A shop whose orders repeat is led to the open one.
    let repeats = PaymentRequest { unique_order: false, ..order() };
    let again = world.payments.create(world.banks.as_ref(), repeats).await.unwrap().payment;
    assert_eq!(again.id, second.id);
}

#[tokio::test]
async fn a_listed_payment_that_is_not_credited_is_told_once() {
    let world = World::new();
    world.store.events_want(true).await.unwrap();
    *world.bank().same_receipt.lock().unwrap() = Some(77);
    world.charge(10_000).await;
    let payment = cancelled_and_paid(&world).await;
    world.bank().rules.lock().unwrap().lists_unverified = true;
    let foreign = Listed { reference: "NOT-OURS".into(), amount: None };
    world.bank().foreign.lock().unwrap().push(foreign);
    for _ in 0..4 {
        world.pass(5 * MINUTE).await;
    }
    assert_eq!(world.available().await, 10_000);
    assert!(world.payment(&payment).await.uncredited);
    assert_eq!(world.payments.uncredited().into_iter().collect::<Vec<_>>(), [("BANK".to_owned(), 2)]);
    let told: Vec<_> = events(&world)
        .await
        .into_iter()
        .filter_map(|body| match body {
            EventBody::PaymentUncredited { reference, listed, payment, .. } => {
                Some((reference, listed, payment.map(|payment| payment.id)))
            }
            _ => None,
        })
        .collect();
    let ours = (reference(&payment).to_owned(), Some(50_000), Some(payment.id));
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.contains(&ours) && told.contains(&("NOT-OURS".to_owned(), None, None)), "{told:?}");
}

#[tokio::test]
async fn a_bank_that_takes_money_late_and_is_never_asked_returns_it() {
    let world = World::new();
    let payment = world.create(50_000).await;
    world.pass(WINDOW).await;
    world.bank().pay(reference(&payment));
    world.pass(20 * MINUTE).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Expired);
    assert_eq!(world.bank().money(reference(&payment)), BankMoney::Returned);
}

/// Somebody who polls a payment cannot make the payer's own return look unpaid.
#[tokio::test]
async fn the_payers_return_is_asked_about_at_once_whoever_asked_before() {
    let world = World::new();
    let payment = world.create(50_000).await;
    assert_eq!(world.stranger(&payment, None).await.state, PaymentState::Pending);
    world.bank().pay(reference(&payment));
    assert_eq!(world.stranger(&payment, None).await.state, PaymentState::Pending, "strangers wait");
    assert_eq!(world.callback(&payment, true).await.state, PaymentState::Paid);
    assert_eq!(questions(&world), 2);

    let payment = world.create(60_000).await;
    for _ in 0..5 {
        assert_eq!(world.callback(&payment, true).await.state, PaymentState::Pending);
    }
    assert_eq!(questions(&world), 3, "a page that is reloaded asks once");
}
