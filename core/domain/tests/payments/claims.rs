//! The payer's own claim, beside a window that just ended, a gateway that is away, and claims of strangers. The bank
//! here calls a payment unpaid unless it is asked about its receipt.

use std::sync::atomic::Ordering;

use chelseru_domain::money::payment::CreateError;
use chelseru_domain::money::payment::gateway::{GatewayError, Reason};
use chelseru_store::PaymentState;

use super::bank::{Bank, Banks, Fault, WINDOW};
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn needy() -> World {
    let world = World::new();
    world.bank().needs_receipt.store(true, Ordering::SeqCst);
    world
}

/// The callback with the receipt that the bank's page would put into it.
fn claim(world: &World, payment: &Payment) -> Callback {
    let receipt = world.bank().receipt(reference(payment));
    let callback = callback(reference(payment), true);
    Callback { query: format!("{}&receipt={receipt}", callback.query), ..callback }
}

/// Paid in the last seconds of the window, and ended by a question after it, which knew no receipt.
async fn paid_and_expired(world: &World) -> Payment {
    let payment = world.create(50_000).await;
    world.clock.advance(WINDOW - 10 * SECOND);
    assert!(world.bank().pay(reference(&payment)));
    world.pass(20 * SECOND).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Expired);
    world.clock.advance(5 * SECOND);
    payment
}

#[tokio::test]
async fn the_payers_return_right_after_the_end_is_asked_about_at_once() {
    let world = needy();
    let payment = paid_and_expired(&world).await;
    let paid = world.take(&vouched(&payment, claim(&world, &payment))).await;
    assert_eq!((paid.state, paid.reason.as_str()), (PaymentState::Paid, "after_expired"));
    assert_eq!(world.available().await, 50_000);
    world.check_ledger().await;
}

#[tokio::test]
async fn a_receipt_without_the_key_right_after_the_end_is_asked_about_half_a_minute_later() {
    let world = needy();
    let payment = paid_and_expired(&world).await;
    let asked = world.take(&claim(&world, &payment)).await;
    assert_eq!(asked.state, PaymentState::Expired, "the bank was asked five seconds ago");
    world.pass(MINUTE).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Paid);
    let open = world.store.payments_open("BANK", 10).await.unwrap();
    assert_eq!(open, 0, "nothing is asked any more");
}

#[tokio::test]
async fn a_late_receipt_is_asked_about_when_the_gateway_can_be_asked_again() {
    for fault in [Fault::Down, Fault::LostRequest, Fault::Throttled(40)] {
        let world = needy();
        let payment = paid_and_expired(&world).await;
        // With the receipt, and without it.
        world.bank().fault(fault);
        world.bank().fault(fault);
        let asked = world.take(&vouched(&payment, claim(&world, &payment))).await;
        assert_eq!(asked.state, PaymentState::Expired, "{fault:?}");
        world.bank().faults.lock().unwrap().clear();
        world.pass(MINUTE).await;
        assert_eq!(world.payment(&payment).await.state, PaymentState::Paid, "{fault:?}");
    }
}

#[tokio::test]
async fn a_late_receipt_during_the_gateways_rate_limit_is_asked_about_after_it() {
    let world = needy();
    let payment = paid_and_expired(&world).await;
    let other = world.create(60_000).await;
    world.bank().fault(Fault::Throttled(40));
    world.callback(&other, true).await;
    let asked = world.take(&vouched(&payment, claim(&world, &payment))).await;
    assert_eq!(asked.state, PaymentState::Expired, "the bank is not to be asked");
    world.pass(MINUTE).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Paid);
}

/// The true receipt comes first and without the key, while the bank is away; then strangers name more receipts than one
/// check tries, and the bank chokes on each.
#[tokio::test]
async fn newer_claims_of_strangers_do_not_hide_an_older_true_one() {
    for strangers in [3, 5, 7] {
        let world = needy();
        let payment = world.create(50_000).await;
        world.bank().pay(reference(&payment));
        world.bank().down.store(true, Ordering::SeqCst);
        world.take(&claim(&world, &payment)).await;
        *world.bank().chokes_with.lock().unwrap() = Some(GatewayError::Refused(Reason::default()));
        for number in 0..strangers {
            world.stranger(&payment, Some(&format!("9{number}"))).await;
            world.clock.advance(3 * SECOND);
        }
        world.bank().down.store(false, Ordering::SeqCst);
        for _ in 0..3 {
            world.pass(MINUTE).await;
        }
        assert_eq!(world.payment(&payment).await.state, PaymentState::Paid, "behind {strangers}");
        assert_eq!(world.available().await, 50_000);
    }
}

#[tokio::test]
async fn an_invented_claim_that_is_in_progress_does_not_hide_a_true_one() {
    let world = needy();
    let payment = world.create(50_000).await;
    world.bank().pay(reference(&payment));
    world.bank().down.store(true, Ordering::SeqCst);
    world.take(&claim(&world, &payment)).await;
    world.clock.advance(3 * SECOND);
    world.stranger(&payment, Some("9")).await;
    world.bank().down.store(false, Ordering::SeqCst);
    // The answer about the newest one, which is the stranger's.
    world.bank().fault(Fault::Processing);
    world.pass(MINUTE).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Paid);
}

#[tokio::test]
async fn a_claim_in_progress_keeps_a_payment_open_past_its_window() {
    let world = needy();
    let payment = world.create(50_000).await;
    world.bank().down.store(true, Ordering::SeqCst);
    world.stranger(&payment, Some("9")).await;
    world.bank().down.store(false, Ordering::SeqCst);
    world.bank().fault(Fault::Processing);
    world.pass(WINDOW + MINUTE).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Pending);
    world.pass(MINUTE).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Expired);
}

#[tokio::test]
async fn a_claim_that_comes_again_with_the_key_is_the_payers() {
    let world = needy();
    let payment = world.create(50_000).await;
    world.bank().down.store(true, Ordering::SeqCst);
    let own = claim(&world, &payment);
    world.take(&own).await;
    world.clock.advance(3 * SECOND);
    world.take(&vouched(&payment, own)).await;
    let claims = world.payment(&payment).await.claims;
    assert!(claims.len() == 1 && claims[0].vouched, "{claims:?}");
}

/// Two entries may use one account of a provider, or one entry be called otherwise later.
#[tokio::test]
async fn a_receipt_pays_once_at_all_entries_of_one_provider() {
    let world = World::with_banks(|clock| {
        Banks::of(vec![Bank::new("BANK", clock.clone()), Bank::new("OTHER", clock)])
    });
    for name in ["BANK", "OTHER"] {
        let bank = world.banks.named(name);
        bank.needs_receipt.store(true, Ordering::SeqCst);
        *bank.same_receipt.lock().unwrap() = Some(77);
        if name == "OTHER" {
            world.banks.select_next();
        }
        let payment = world.create(50_000).await;
        bank.pay(reference(&payment));
        let receipt = bank.receipt(reference(&payment));
        let own = callback(reference(&payment), true);
        let own = Callback { query: format!("{}&receipt={receipt}", own.query), ..own };
        world.take(&vouched(&payment, own)).await;
        let paid = world.payment(&payment).await.state == PaymentState::Paid;
        assert_eq!(paid, name == "BANK", "{name}");
    }
    assert_eq!(world.available().await, 50_000);
    world.check_ledger().await;
}

/// Another gateway over the store asked, and the bank confirmed; this one only knows that it has not asked itself.
#[tokio::test]
async fn what_another_gateway_may_have_confirmed_is_asked_about_for_ever() {
    let world = World::new();
    let second = Payments::new(world.store.clone(), world.clock.clone());
    for payments in [&*world.payments, &second] {
        payments.share_counts(&Arc::default());
    }
    let payment = world.create(50_000).await;
    world.bank().pay(reference(&payment));
    world.bank().fault(Fault::LostAnswer);
    let back = vouched(&payment, callback(reference(&payment), true));
    second.callback(world.banks.as_ref(), &back, ANYONE).await.unwrap();
    for _ in 0..60 {
        world.bank().fault(Fault::Down);
        world.pass(MINUTE).await;
    }
    assert_eq!(world.payment(&payment).await.state, PaymentState::Pending);
    world.pass(MINUTE).await;
    assert_eq!(world.payment(&payment).await.state, PaymentState::Paid);
}

#[tokio::test]
async fn no_payment_begins_while_the_gateways_are_changed() {
    let world = World::new();
    let paused = world.payments.pause_beginning().await;
    let (payments, banks) = (world.payments.clone(), world.banks.clone());
    let request = tokio::spawn(async move { payments.create(banks.as_ref(), request(50_000)).await });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!request.is_finished());
    assert_eq!(world.store.payments_open("BANK", 10).await.unwrap(), 0, "nothing is stored");
    world.banks.remove_all();
    drop(paused);
    assert!(matches!(request.await.unwrap(), Err(CreateError::NoGateway)));
}
