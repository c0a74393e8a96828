//! Giving payments back by asking the gateway: booked first, asked until the answer is clear.

use chelseru_domain::money::payment::NotReversible;
use chelseru_domain::money::wallet::{Actor, RefundRequest, Role};
use chelseru_store::{
    PaymentRefunded, PaymentState, RefundTo, Reversal, ReversalDecided, ReversalDecision, ReversalState,
};

use super::bank::{Fault, Money as BankMoney, REVERSE};
use super::*;

const STAFF: Actor = Actor { user: UserId(1), role: Role::Staff };

impl World {
    async fn order_reversal(&self, payment: &Payment, amount: Option<u64>) -> PaymentRefunded {
        let request = RefundRequest {
            payment: payment.id,
            amount: amount.map(|rial| Money::from_rial(rial).unwrap()),
            to: RefundTo::Reverse,
            note: String::new(),
            idempotency_key: None,
        };
        self.wallets.refund(STAFF, request).await.unwrap()
    }

    async fn reverse(&self, payment: &Payment) -> Reversal {
        self.payments.reverse(self.banks.as_ref(), payment.id).await.unwrap().expect("a reversal")
    }

    async fn reversal(&self, payment: &Payment) -> Reversal {
        self.payments.reversal(payment.id).await.unwrap().expect("a reversal")
    }

    fn money(&self, payment: &Payment) -> BankMoney {
        self.bank().sessions.lock().unwrap()[reference(payment)].money
    }
}

#[tokio::test]
async fn a_reversed_payment_leaves_the_wallet_once_and_reaches_the_payer() {
    let world = World::new();
    let payment = world.charge(10_000).await;
    assert!(matches!(world.order_reversal(&payment, None).await, PaymentRefunded::Done(..)));
    // The wallet has it no more before anybody is asked.
    assert_eq!((world.available().await, world.money(&payment)), (0, BankMoney::Confirmed));
    assert_eq!(world.reverse(&payment).await.state, ReversalState::Done);
    assert_eq!(world.money(&payment), BankMoney::Reversed);
    assert_eq!(world.payment(&payment).await.state, PaymentState::Refunded);
    // Nobody asks again.
    let asked = world.bank().questions.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.reverse(&payment).await.asked, 1);
    assert_eq!(world.payments.reverse_due(world.banks.as_ref()).await.unwrap(), 0);
    assert_eq!(world.bank().questions.load(std::sync::atomic::Ordering::SeqCst), asked);
    assert!(matches!(world.order_reversal(&payment, None).await, PaymentRefunded::NotPaid(_)));
    world.check_ledger().await;
}

#[tokio::test]
async fn an_unknown_outcome_is_asked_about_until_it_is_clear_also_by_the_next_process() {
    let world = World::new();
    let payment = world.charge(10_000).await;
    world.order_reversal(&payment, None).await;
    world.bank().fault(Fault::LostAnswer);
    let open = world.reverse(&payment).await;
    assert_eq!((open.state, open.doubtful, open.asked), (ReversalState::Open, true, 1));
    let world = world.restarted();
    // Long after the window it is still asked about, because it may have been done.
    world.clock.advance(REVERSE * 2);
    world.bank().fault(Fault::Down);
    world.payments.reverse_due(world.banks.as_ref()).await.unwrap();
    assert_eq!(world.reversal(&payment).await.state, ReversalState::Open);
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(world.payments.reverse_due(world.banks.as_ref()).await.unwrap(), 1);
    assert_eq!(world.reversal(&payment).await.state, ReversalState::Done);
    assert_eq!(world.money(&payment), BankMoney::Reversed);
}

#[tokio::test]
async fn what_was_certainly_not_done_is_tried_until_the_window_is_over() {
    let world = World::new();
    let payment = world.charge(10_000).await;
    world.order_reversal(&payment, None).await;
    world.bank().fault(Fault::Down);
    assert_eq!(world.reverse(&payment).await.state, ReversalState::Open);
    // Not before its time.
    assert_eq!(world.payments.reverse_due(world.banks.as_ref()).await.unwrap(), 0);
    assert_eq!(world.reversal(&payment).await.asked, 1);
    world.clock.advance(REVERSE + Duration::from_secs(700));
    world.bank().fault(Fault::Down);
    assert_eq!(world.payments.reverse_due(world.banks.as_ref()).await.unwrap(), 1);
    assert_eq!(world.reversal(&payment).await.state, ReversalState::Refused("unavailable".to_owned()));
    // Booked all the same: the payer is owed it.
    assert_eq!((world.available().await, world.money(&payment)), (0, BankMoney::Confirmed));
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_waited_for() {
    let world = World::new();
    let payment = world.charge(10_000).await;
    world.order_reversal(&payment, None).await;
    world.clock.advance(REVERSE * 2);
    let gone = Banks::of(vec![Bank::new("OTHER", world.clock.clone())]);
    let open = world.payments.reverse(&gone, payment.id).await.unwrap().unwrap();
    assert_eq!((open.state, open.doubtful), (ReversalState::Open, false));
    assert_eq!(world.reverse(&payment).await.state, ReversalState::Done);
}

#[tokio::test]
async fn a_refusal_ends_it_and_a_part_is_none_of_a_gateways() {
    let world = World::new();
    let payment = world.charge(10_000).await;
    assert_eq!(world.order_reversal(&payment, Some(9_999)).await, PaymentRefunded::NotWhole);
    assert_eq!((world.available().await, world.payments.reversal(payment.id).await.unwrap()), (10_000, None));
    world.order_reversal(&payment, Some(10_000)).await;
    world.bank().fault(Fault::Refused);
    assert_eq!(world.reverse(&payment).await.state, ReversalState::Refused("-60".to_owned()));
    assert_eq!(world.reverse(&payment).await.asked, 1);
}

#[tokio::test]
async fn only_a_gateway_that_can_is_asked_and_only_in_its_time() {
    let world = World::new();
    let payment = world.charge(10_000).await;
    let judged =
        async |world: &World| world.payments.reversible(world.banks.as_ref(), &world.payment(&payment).await);
    assert_eq!(judged(&world).await, Ok(()));
    world.clock.advance(REVERSE - Duration::from_secs(1));
    assert_eq!(judged(&world).await, Ok(()));
    world.clock.advance(Duration::from_secs(1));
    assert!(matches!(judged(&world).await, Err(NotReversible::Over { .. })));
    world.bank().rules.lock().unwrap().reverse_within = None;
    assert_eq!(judged(&world).await, Err(NotReversible::NotOffered("BANK".to_owned())));
}

impl World {
    /// A paid payment whose reversal the bank refused.
    async fn refused(&self, mode: PayMode) -> Payment {
        let request = PaymentRequest { mode, order: "o".into(), unique_order: false, ..request(10_000) };
        let payment = self.payments.create(self.banks.as_ref(), request).await.unwrap().payment;
        self.bank().pay(reference(&payment));
        self.callback(&payment, true).await;
        self.order_reversal(&payment, None).await;
        self.bank().fault(Fault::Refused);
        assert_eq!(self.reverse(&payment).await.state, ReversalState::Refused("-60".to_owned()));
        payment
    }

    async fn decide(&self, payment: &Payment, decision: ReversalDecision) -> ReversalDecided {
        self.payments.decide_reversal(payment.id, decision, STAFF.user).await.unwrap()
    }
}

#[tokio::test]
async fn a_refused_reversal_is_told_of_and_closed_by_the_staff() {
    let world = World::new();
    world.store.events_want(true).await.unwrap();
    let payment = world.refused(PayMode::Charge).await;
    let events = world.store.events_list(None, chelseru_store::EventFilter::All, 1).await.unwrap();
    assert_eq!(events[0].event.body.kind(), "payment.reversal_refused");
    assert_eq!(world.payments.reversals_refused().into_iter().collect::<Vec<_>>(), [("BANK".to_owned(), 1)]);
    assert_eq!(world.payments.reversals_undecided(10).await.unwrap().len(), 1);
    // The money is in the wallet already when the refund is taken back.
    assert_eq!(world.decide(&payment, ReversalDecision::ToWallet).await, ReversalDecided::InWallet);
    assert!(matches!(world.decide(&payment, ReversalDecision::Undo).await, ReversalDecided::Done(_)));
    assert_eq!((world.available().await, world.payment(&payment).await.state), (10_000, PaymentState::Paid));
    assert_eq!(
        (world.payment(&payment).await.refunded, world.payments.reversal(payment.id).await.unwrap()),
        (0, None)
    );
    assert_eq!(world.decide(&payment, ReversalDecision::Undo).await, ReversalDecided::Missing, "once");
    assert_eq!(world.payments.reversals_undecided(10).await.unwrap(), []);
    let refunds = world.store.payment_refunds(payment.id).await.unwrap();
    assert_eq!(refunds[0].undone.map(|undone| undone.by), Some(STAFF.user));
    world.check_ledger().await;
    // And it can be given back again, in parts or by the bank.
    world.order_reversal(&payment, None).await;
    assert_eq!(world.reverse(&payment).await.state, ReversalState::Done);
    assert_eq!((world.available().await, world.money(&payment)), (0, BankMoney::Reversed));
    assert_eq!(world.decide(&payment, ReversalDecision::PaidOutside).await, ReversalDecided::Missing);
    world.check_ledger().await;
}

#[tokio::test]
async fn a_refused_reversal_is_tried_again() {
    let world = World::new();
    let payment = world.refused(PayMode::Charge).await;
    assert!(matches!(world.decide(&payment, ReversalDecision::AskAgain).await, ReversalDecided::Done(_)));
    assert_eq!(
        world.decide(&payment, ReversalDecision::Undo).await,
        ReversalDecided::Open,
        "it is being asked"
    );
    let world = world.restarted();
    assert_eq!(world.payments.reverse_due(world.banks.as_ref()).await.unwrap(), 1);
    assert_eq!(world.money(&payment), BankMoney::Reversed);
    assert_eq!(world.payments.reversals_undecided(10).await.unwrap(), []);
    world.check_ledger().await;
}

#[tokio::test]
async fn what_a_bank_refuses_goes_to_the_wallet_or_was_paid_outside() {
    let world = World::new();
    let payment = world.refused(PayMode::Direct).await;
    assert!(matches!(world.decide(&payment, ReversalDecision::ToWallet).await, ReversalDecided::Done(_)));
    assert_eq!(
        (world.available().await, world.payment(&payment).await.state),
        (10_000, PaymentState::Refunded)
    );
    assert_eq!(world.store.payment_refunds(payment.id).await.unwrap()[0].to, RefundTo::Wallet);
    world.check_ledger().await;
    let payment = world.refused(PayMode::Direct).await;
    assert!(matches!(world.decide(&payment, ReversalDecision::PaidOutside).await, ReversalDecided::Done(_)));
    assert_eq!(world.store.payment_refunds(payment.id).await.unwrap()[0].to, RefundTo::Gateway);
    assert_eq!(
        (world.available().await, world.payment(&payment).await.state),
        (10_000, PaymentState::Refunded)
    );
    let payment = world.refused(PayMode::Direct).await;
    assert!(matches!(world.decide(&payment, ReversalDecision::Undo).await, ReversalDecided::Done(_)));
    let merchant = world.store.account_balance(&chelseru_store::Account::Merchant).await.unwrap();
    assert_eq!((merchant, world.payment(&payment).await.state), (10_000, PaymentState::Paid));
    assert_eq!(world.payments.reversals_undecided(10).await.unwrap(), []);
    world.check_ledger().await;
    // A question without an end is closed by a person's word alone.
    let payment = world.charge(5000).await;
    world.order_reversal(&payment, None).await;
    world.bank().fault(Fault::LostAnswer);
    world.reverse(&payment).await;
    assert_eq!(world.decide(&payment, ReversalDecision::Undo).await, ReversalDecided::Open);
    assert!(matches!(world.decide(&payment, ReversalDecision::PaidOutside).await, ReversalDecided::Done(_)));
    assert_eq!(world.payments.reversal(payment.id).await.unwrap(), None);
    world.check_ledger().await;
}
