//! Single rules of wallets: spends, holds, refunds, and what the ledger can show.

use chelseru_domain::money::alone::{AloneMax, SUM_OF};
use chelseru_domain::money::wallet::{
    Actor, CorrectionMade, CorrectionRequest, RefundRequest, Role, SpendRequest, WalletError,
};
use chelseru_store::{
    PaymentRefunded, PaymentState, RefundTo, Spend, SpendEnded, SpendMade, SpendState, WalletBalance,
};

use super::*;

const STAFF: Actor = Actor { user: UserId(1), role: Role::Staff };

fn rial(amount: u64) -> Money {
    Money::from_rial(amount).unwrap()
}

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fn spend(amount: u64, hold: bool) -> SpendRequest {
    SpendRequest {
        user: USER,
        amount: rial(amount),
        hold_for: hold.then_some(WEEK),
        order: String::new(),
        unique_order: true,
        description: "d".into(),
        idempotency_key: None,
    }
}

fn refund(payment: &Payment, amount: Option<u64>, to: RefundTo) -> RefundRequest {
    RefundRequest {
        payment: payment.id,
        amount: amount.map(rial),
        to,
        note: "n".into(),
        idempotency_key: None,
    }
}

fn done(made: SpendMade) -> Spend {
    match made {
        SpendMade::Done(spend) => spend,
        other => panic!("not made: {other:?}"),
    }
}

impl World {
    async fn has(&self, available: u64, held: u64) {
        assert_eq!(self.wallets.balance(USER).await.unwrap(), WalletBalance { available, held });
        self.check_ledger().await;
    }
}

#[tokio::test]
async fn fifty_parallel_spends_never_overdraw() {
    let world = World::new();
    world.charge(10_000).await;
    let spends: Vec<_> = (0..50)
        .map(|n| {
            let wallets = world.wallets.clone();
            tokio::spawn(async move { wallets.spend(spend(700, n % 2 == 0)).await.unwrap() })
        })
        .collect();
    let mut made = 0;
    for spend in spends {
        match spend.await.unwrap() {
            SpendMade::Done(_) => made += 1,
            SpendMade::Overdraft { available } => assert!(available < 700),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(made, 14);
    let balance = world.wallets.balance(USER).await.unwrap();
    assert_eq!(balance.available, 10_000 - 14 * 700);
    world.check_ledger().await;
}

#[tokio::test]
async fn the_last_rial_can_be_spent_and_not_one_more() {
    let world = World::new();
    world.charge(10_000).await;
    assert_eq!(
        world.wallets.spend(spend(10_001, false)).await.unwrap(),
        SpendMade::Overdraft { available: 10_000 }
    );
    assert_eq!(done(world.wallets.spend(spend(10_000, false)).await.unwrap()).balance, 0);
    assert_eq!(world.wallets.spend(spend(1, true)).await.unwrap(), SpendMade::Overdraft { available: 0 });
    world.has(0, 0).await;
}

#[tokio::test]
async fn a_hold_is_captured_whole_or_in_part_or_given_back() {
    let world = World::new();
    world.charge(10_000).await;
    let hold = async |amount| done(world.wallets.spend(spend(amount, true)).await.unwrap());
    let (whole, part, back) = (hold(1000).await, hold(2000).await, hold(3000).await);
    world.has(4000, 6000).await;
    let captured = world.wallets.capture(STAFF, whole.id, None).await.unwrap();
    assert!(matches!(
        captured,
        SpendEnded::Done(Spend { captured: 1000, state: SpendState::Captured, .. }, _)
    ));
    world.has(4000, 5000).await;
    let too_much = world.wallets.capture(STAFF, part.id, Some(rial(2001))).await.unwrap();
    assert_eq!(too_much, SpendEnded::TooMuch { held: 2000 });
    world.wallets.capture(STAFF, part.id, Some(rial(500))).await.unwrap();
    world.has(5500, 3000).await;
    world.wallets.void(STAFF, back.id).await.unwrap();
    world.has(8500, 0).await;
}

#[tokio::test]
async fn a_hold_ends_once() {
    let world = World::new();
    world.charge(10_000).await;
    let held = done(world.wallets.spend(spend(1000, true)).await.unwrap());
    let captured = world.wallets.capture(STAFF, held.id, None).await.unwrap();
    assert!(matches!(captured, SpendEnded::Done(..)));
    assert_eq!(world.wallets.capture(STAFF, held.id, None).await.unwrap(), captured, "asked again: the same");
    let other = world.wallets.capture(STAFF, held.id, Some(rial(1))).await.unwrap();
    assert!(matches!(other, SpendEnded::Was(_)));
    assert!(matches!(world.wallets.void(STAFF, held.id).await.unwrap(), SpendEnded::Was(_)));
    let held = done(world.wallets.spend(spend(1000, true)).await.unwrap());
    assert!(matches!(world.wallets.void(STAFF, held.id).await.unwrap(), SpendEnded::Done(..)));
    assert!(matches!(world.wallets.void(STAFF, held.id).await.unwrap(), SpendEnded::Done(..)));
    assert!(matches!(world.wallets.capture(STAFF, held.id, None).await.unwrap(), SpendEnded::Was(_)));
    let direct = done(world.wallets.spend(spend(1000, false)).await.unwrap());
    assert!(matches!(world.wallets.void(STAFF, direct.id).await.unwrap(), SpendEnded::Was(_)));
    let direct = world.wallets.capture(STAFF, direct.id, None).await.unwrap();
    assert!(matches!(direct, SpendEnded::Was(_)), "what was no hold cannot be captured");
    world.has(8000, 0).await;
}

#[tokio::test]
async fn only_the_staff_captures_voids_and_refunds() {
    let world = World::new();
    let payment = world.charge(10_000).await;
    let held = done(world.wallets.spend(spend(1000, true)).await.unwrap());
    let owner = Actor { user: USER, role: Role::Customer };
    assert!(matches!(world.wallets.capture(owner, held.id, None).await, Err(WalletError::StaffOnly)));
    assert!(matches!(world.wallets.void(owner, held.id).await, Err(WalletError::StaffOnly)));
    let refunded = world.wallets.refund(owner, refund(&payment, None, RefundTo::Gateway)).await;
    assert!(matches!(refunded, Err(WalletError::StaffOnly)));
    let stranger = Actor { user: UserId(8), role: Role::Customer };
    assert_eq!(world.wallets.spend_get(stranger, held.id).await.unwrap(), None);
    assert!(world.wallets.spend_get(owner, held.id).await.unwrap().is_some());
    assert!(world.wallets.spend_get(STAFF, held.id).await.unwrap().is_some());
    world.has(9000, 1000).await;
}

#[tokio::test]
async fn a_spend_with_a_key_happens_once() {
    let world = World::new();
    world.charge(10_000).await;
    let keyed = |amount| SpendRequest { idempotency_key: "k".parse().ok(), ..spend(amount, false) };
    let first = done(world.wallets.spend(keyed(1000)).await.unwrap());
    assert_eq!(world.wallets.spend(keyed(1000)).await.unwrap(), SpendMade::Repeated(first));
    assert_eq!(world.wallets.spend(keyed(999)).await.unwrap(), SpendMade::KeyReused);
    world.has(9000, 0).await;
    // A key of a spend is no key of a payment.
    let payment = PaymentRequest { idempotency_key: "k".parse().ok(), ..request(50_000) };
    world.payments.create(world.banks.as_ref(), payment).await.unwrap();
}

#[tokio::test]
async fn refunds_never_exceed_what_was_paid() {
    let world = World::new();
    let payment = world.charge(10_000).await;
    let give = async |amount| {
        world.wallets.refund(STAFF, refund(&payment, amount, RefundTo::Gateway)).await.unwrap()
    };
    assert_eq!(give(Some(10_001)).await, PaymentRefunded::TooMuch { left: 10_000 });
    assert!(matches!(give(Some(4000)).await, PaymentRefunded::Done(..)));
    assert_eq!(give(Some(6001)).await, PaymentRefunded::TooMuch { left: 6000 });
    assert_eq!(world.payment(&payment).await.state, PaymentState::Paid);
    assert!(matches!(give(None).await, PaymentRefunded::Done(..)));
    let after = world.payment(&payment).await;
    assert_eq!((after.state, after.refunded, after.refunds), (PaymentState::Refunded, 10_000, 2));
    assert!(matches!(give(Some(1)).await, PaymentRefunded::NotPaid(_)));
    assert_eq!(world.store.payment_refunds(payment.id).await.unwrap().len(), 2);
    world.has(0, 0).await;
}

#[tokio::test]
async fn parallel_refunds_never_exceed_what_was_paid() {
    let world = World::new();
    let payment = world.charge(10_000).await;
    let refunds =
        (0..20).map(|_| world.wallets.refund(STAFF, refund(&payment, Some(3000), RefundTo::Gateway)));
    let results = futures_util::future::join_all(refunds).await;
    let done = results.iter().filter(|result| matches!(result, Ok(PaymentRefunded::Done(..)))).count();
    assert_eq!(done, 3);
    world.has(1000, 0).await;
}

#[tokio::test]
async fn what_the_wallet_has_not_is_not_refunded() {
    let world = World::new();
    let payment = world.charge(10_000).await;
    done(world.wallets.spend(spend(9000, false)).await.unwrap());
    let refunded = world.wallets.refund(STAFF, refund(&payment, None, RefundTo::Gateway)).await.unwrap();
    assert_eq!(refunded, PaymentRefunded::Overdraft { available: 1000 });
    let refunded = world.wallets.refund(STAFF, refund(&payment, Some(500), RefundTo::Wallet)).await.unwrap();
    assert_eq!(refunded, PaymentRefunded::InWallet);
    world.has(1000, 0).await;
}

#[tokio::test]
async fn a_direct_payment_can_be_refunded_to_the_wallet() {
    let world = World::new();
    let request = PaymentRequest { mode: PayMode::Direct, ..request(50_000) };
    let payment = world.payments.create(world.banks.as_ref(), request).await.unwrap().payment;
    world.bank().pay(reference(&payment));
    world.callback(&payment, true).await;
    world.wallets.refund(STAFF, refund(&payment, Some(20_000), RefundTo::Wallet)).await.unwrap();
    world.has(20_000, 0).await;
}

#[tokio::test]
async fn a_refund_with_a_key_happens_once() {
    let world = World::new();
    let payment = world.charge(10_000).await;
    let keyed = |amount| RefundRequest {
        idempotency_key: "k".parse().ok(),
        ..refund(&payment, Some(amount), RefundTo::Gateway)
    };
    let PaymentRefunded::Done(_, first) = world.wallets.refund(STAFF, keyed(1000)).await.unwrap() else {
        panic!("not done")
    };
    let again = world.wallets.refund(STAFF, keyed(1000)).await.unwrap();
    assert!(matches!(again, PaymentRefunded::Repeated(_, refund) if refund == first));
    assert_eq!(world.wallets.refund(STAFF, keyed(1001)).await.unwrap(), PaymentRefunded::KeyReused);
    world.has(9000, 0).await;
}

#[tokio::test]
async fn a_wallets_lines_are_read_page_by_page() {
    let world = World::new();
    world.charge(10_000).await;
    for amount in 1..=5 {
        done(world.wallets.spend(spend(amount * 100, false)).await.unwrap());
    }
    let (first, next) = world.wallets.entries(USER, None, 4).await.unwrap();
    let (second, end) = world.wallets.entries(USER, next, 4).await.unwrap();
    assert_eq!(end, None);
    let lines: Vec<_> = first.iter().chain(&second).map(|line| (line.amount, line.balance)).collect();
    assert_eq!(
        lines,
        [(-500, 8500), (-400, 9000), (-300, 9400), (-200, 9700), (-100, 9900), (10_000, 10_000)]
    );
    assert_eq!(second[1].key, "payment:1");
    // Another user's line is no place to begin at.
    assert_eq!(world.wallets.entries(UserId(8), next, 4).await.unwrap(), (Vec::new(), None));
    assert_eq!(world.wallets.entries(USER, Some(99), 4).await.unwrap(), (Vec::new(), None));
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let world = World::new();
    let payment = world.charge(10_000).await;
    done(world.wallets.spend(spend(1000, true)).await.unwrap());
    let before = world.payment(&payment).await;
    let world = world.restarted();
    assert_eq!(world.payment(&payment).await, before);
    world.has(9000, 1000).await;
}

#[tokio::test]
async fn a_hold_that_nobody_captures_goes_back_and_says_so() {
    let world = World::new();
    world.store.events_want(true).await.unwrap();
    world.charge(10_000).await;
    let hold = |order: &str| SpendRequest { order: order.to_owned(), ..spend(4000, true) };
    let SpendMade::Done(first) = world.wallets.spend(hold("o")).await.unwrap() else { panic!("not held") };
    assert_eq!(first.expires_at, Some(world.now().plus(WEEK)));
    let SpendMade::Done(captured) = world.wallets.spend(hold("p")).await.unwrap() else { panic!("not held") };
    world.wallets.capture(STAFF, captured.id, None).await.unwrap();
    let held = world.wallets.holds(10).await.unwrap();
    assert_eq!(held, std::slice::from_ref(&first), "what is captured expires no more");
    world.clock.advance(WEEK - Duration::from_secs(1));
    assert_eq!(world.wallets.expire_holds().await.unwrap(), 0);
    assert_eq!(world.available().await, 2000);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.wallets.expire_holds().await.unwrap(), 1);
    assert_eq!(world.wallets.expire_holds().await.unwrap(), 0, "once");
    assert_eq!(world.available().await, 6000);
    let expired = world.store.spend_get(first.id).await.unwrap().unwrap();
    assert_eq!((expired.state, expired.ended_at), (SpendState::Expired, Some(world.now())));
    assert!(matches!(world.wallets.capture(STAFF, first.id, None).await.unwrap(), SpendEnded::Was(_)));
    let kinds: Vec<&str> = world
        .store
        .events_list(None, chelseru_store::EventFilter::All, 2)
        .await
        .unwrap()
        .iter()
        .map(|report| report.event.body.kind())
        .collect();
    assert_eq!(kinds, ["wallet.hold_expired", "wallet.credited"]);
    // The order can be paid again.
    assert!(matches!(world.wallets.spend(hold("o")).await.unwrap(), SpendMade::Done(_)));
    world.check_ledger().await;
}

#[tokio::test]
async fn an_order_is_spent_for_once() {
    let world = World::new();
    world.charge(10_000).await;
    let order = |hold| SpendRequest { order: "o".into(), ..spend(1000, hold) };
    let SpendMade::Done(first) = world.wallets.spend(order(true)).await.unwrap() else { panic!("not held") };
    assert_eq!(world.wallets.spend(order(false)).await.unwrap(), SpendMade::OrderTaken(first.clone()));
    world.wallets.void(STAFF, first.id).await.unwrap();
    let SpendMade::Done(second) = world.wallets.spend(order(false)).await.unwrap() else {
        panic!("not spent")
    };
    assert!(
        matches!(world.wallets.spend(order(true)).await.unwrap(), SpendMade::OrderTaken(taken) if taken.id == second.id)
    );
    let repeats = SpendRequest { unique_order: false, ..order(false) };
    assert!(matches!(world.wallets.spend(repeats).await.unwrap(), SpendMade::Done(_)));
    for _ in 0..2 {
        assert!(
            matches!(world.wallets.spend(spend(1, false)).await.unwrap(), SpendMade::Done(_)),
            "an empty order never counts"
        );
    }
    let calls = (0..30).map(|_| world.wallets.spend(SpendRequest { order: "q".into(), ..spend(10, false) }));
    let made = futures_util::future::join_all(calls).await;
    let done = made.into_iter().filter(|made| matches!(made, Ok(SpendMade::Done(_)))).count();
    assert_eq!(done, 1, "many at once");
    world.check_ledger().await;
}

#[tokio::test]
async fn a_correction_is_a_posting_with_a_reason_and_happens_once() {
    let world = World::new();
    world.charge(10_000).await;
    let correction = |rial, takes| CorrectionRequest {
        user: USER,
        amount: Money::from_rial(rial).unwrap(),
        takes,
        reason: "the bank said so".to_owned(),
        idempotency_key: "k".parse().ok(),
    };
    let make = |request| world.wallets.correct(STAFF, request, AloneMax::ANY);
    let CorrectionMade::Done(first) = make(correction(500, false)).await.unwrap() else { panic!("not made") };
    assert_eq!((first.amount, first.balance, first.by), (500, 10_500, STAFF.user));
    assert_eq!(make(correction(500, false)).await.unwrap(), CorrectionMade::Repeated(first));
    assert_eq!(make(correction(500, true)).await.unwrap(), CorrectionMade::KeyReused);
    let keyless = |rial, takes| CorrectionRequest { idempotency_key: None, ..correction(rial, takes) };
    assert!(
        matches!(make(keyless(500, true)).await.unwrap(), CorrectionMade::Done(made) if made.balance == 10_000)
    );
    assert_eq!(make(keyless(10_001, true)).await.unwrap(), CorrectionMade::Overdraft { available: 10_000 });
    let anybody = Actor { user: USER, role: Role::Customer };
    assert!(matches!(
        world.wallets.correct(anybody, keyless(1, false), AloneMax::ANY).await,
        Err(WalletError::StaffOnly)
    ));
    assert_eq!(world.available().await, 10_000);
    world.check_ledger().await;
}

#[tokio::test]
async fn corrections_of_one_person_in_one_wallet_count_together_for_a_day() {
    let world = World::new();
    world.charge(10_000).await;
    let most = AloneMax::rial(1000);
    let correction = |rial, takes, key: &str| CorrectionRequest {
        user: USER,
        amount: Money::from_rial(rial).unwrap(),
        takes,
        reason: "goodwill".to_owned(),
        idempotency_key: key.parse().ok(),
    };
    let make = |actor, request| world.wallets.correct(actor, request, most);
    assert!(matches!(make(STAFF, correction(1001, false, "")).await, Err(WalletError::NeedsSecond)));
    let first = make(STAFF, correction(600, false, "k")).await.unwrap();
    assert!(matches!(first, CorrectionMade::Done(_)));
    // The same request is no other correction; another request with its key is refused.
    assert!(matches!(make(STAFF, correction(600, false, "k")).await.unwrap(), CorrectionMade::Repeated(_)));
    assert_eq!(make(STAFF, correction(300, false, "k")).await.unwrap(), CorrectionMade::KeyReused);
    // What the wallet refuses counts no more than what was refused before.
    for _ in 0..3 {
        let other = CorrectionRequest { user: UserId(99), ..correction(900, true, "") };
        let refused = make(STAFF, other).await.unwrap();
        assert_eq!(refused, CorrectionMade::Overdraft { available: 0 });
    }
    // Both directions count, and several at once.
    let calls = (0..8).map(|_| make(STAFF, correction(100, true, "")));
    let made = futures_util::future::join_all(calls).await;
    let done = made.iter().filter(|made| matches!(made, Ok(CorrectionMade::Done(_)))).count();
    assert_eq!(done, 4, "{made:?}");
    assert!(matches!(make(STAFF, correction(1, false, "")).await, Err(WalletError::NeedsSecond)));
    assert_eq!(world.available().await, 10_200);
    // Another person, and another wallet.
    let colleague = Actor { user: UserId(77), role: Role::Staff };
    assert!(matches!(make(colleague, correction(1000, false, "")).await, Ok(CorrectionMade::Done(_))));
    let other = CorrectionRequest { user: UserId(99), ..correction(1000, false, "") };
    assert!(matches!(make(STAFF, other).await, Ok(CorrectionMade::Done(_))));
    world.clock.advance(SUM_OF - Duration::from_secs(1));
    assert!(matches!(make(STAFF, correction(1, false, "")).await, Err(WalletError::NeedsSecond)));
    world.clock.advance(Duration::from_secs(1));
    assert!(matches!(make(STAFF, correction(1000, false, "")).await, Ok(CorrectionMade::Done(_))));
    world.check_ledger().await;
}
