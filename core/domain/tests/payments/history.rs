//! Random histories of payments and spends against the bank's own books: faults, crashes, callbacks that are lost,
//! doubled, early, invented or in any order, lists of the bank, and payments after the end. A failure names its seed;
//! `CHELSERU_SEED=n` runs that one alone, `CHELSERU_HISTORIES=n` another number of them.

use std::collections::BTreeMap;
use std::future::Future;

use chelseru_domain::money::payment::verdict::RETURN_MARGIN;
use chelseru_domain::money::wallet::{Actor, RefundRequest, Role, SpendRequest};
use chelseru_store::{
    PaymentId, PaymentRefunded, PaymentState, RefundTo, ReversalState, SpendEnded, SpendId, SpendMade,
};

use super::bank::{Fault, Money as BankMoney, RETURN, WINDOW};
use super::*;

const HISTORIES: u64 = 2000;
/// Histories that share a store, so that the ledger of one goes on in the next.
const PER_STORE: u64 = 40;
const STEPS: u64 = 20;

/// xorshift64*: any numbers will do, the same ones for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// What a user should have.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
struct Purse {
    available: i64,
    held: i64,
}

#[derive(Debug, Default)]
struct Totals {
    paid: u64,
    crashes: u64,
    spends: u64,
    overdrafts: u64,
    refunds: u64,
    reversed: u64,
    /// Paid after it had ended here.
    late: u64,
    /// Paid after the bank itself had called it cancelled.
    again: u64,
    /// Callbacks with an invented receipt.
    invented: u64,
    ends: BTreeMap<String, u64>,
}

#[test]
fn any_history_settles_each_paid_payment_once_and_nothing_else() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds: Vec<u64> = match number("CHELSERU_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("CHELSERU_HISTORIES").unwrap_or(HISTORIES)).collect(),
    };
    // Two at once: half of a history is waiting for the disk.
    let (left, right) = seeds.split_at(seeds.len() / 2);
    let totals = std::thread::scope(|scope| {
        let halves = [left, right].map(|seeds| scope.spawn(move || run(seeds)));
        halves.map(|half| half.join().expect("a history failed; its seed is above"))
    });
    if seeds.len() > 100 {
        for (least, total) in [
            (500, (|t| t.paid) as fn(&Totals) -> u64),
            (500, |t| t.crashes),
            (40, |t| t.spends),
            (500, |t| t.overdrafts),
            (40, |t| t.refunds),
            (20, |t| t.reversed),
            (20, |t| t.late),
            (50, |t| t.again),
            (200, |t| t.invented),
        ] {
            let sum = totals.iter().map(total).sum::<u64>();
            assert!(sum > least, "the histories do too little: {sum}, not {least}: {totals:?}");
        }
        for end in [
            "Paid",
            "Cancelled ",
            "Failed mismatch:amount",
            "Failed interrupted",
            "Expired not_paid",
            "Expired returned",
            "Failed failed:back",
            "Paid after_cancelled",
            "Paid after_expired",
        ] {
            let seen = totals.iter().any(|totals| totals.ends.keys().any(|seen| seen.starts_with(end)));
            assert!(seen, "no history ends a payment as {end}: {:?}", totals[0].ends);
        }
    }
}

fn run(seeds: &[u64]) -> Totals {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut totals = Totals::default();
    for chunk in seeds.chunks(PER_STORE as usize) {
        let mut world = World::new();
        for seed in chunk {
            let name = format!("seed {seed} of {chunk:?}: CHELSERU_SEED={seed} runs it");
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                runtime.block_on(history(world, *seed, &mut totals))
            }));
            world = match result {
                Ok(world) => world,
                Err(panic) => {
                    eprintln!("{name}");
                    std::panic::resume_unwind(panic);
                }
            };
        }
    }
    totals
}

/// Runs to the end, or until the bank says that the process died; `None` then.
async fn alive<T>(world: &World, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = work => Some(done),
        () = world.bank().crash.notified() => None,
    }
}

/// A callback of the payer's browser or of anybody: with the true receipt, an invented one or none, with the
/// payment's own key or without.
async fn any_callback(world: &World, reference: &str, random: &mut Random, totals: &mut Totals) -> Callback {
    let mut callback = callback(reference, random.below(4) != 0);
    match random.below(4) {
        0 => {
            totals.invented += 1;
            callback.query.push_str(&format!("&receipt=9{}", random.below(5)));
        }
        1 => callback.query.push_str(&format!("&receipt={}", world.bank().receipt(reference))),
        _ => {}
    }
    match world.store.payment_by_reference("BANK", reference).await.unwrap() {
        Some(payment) if random.below(2) == 0 => vouched(&payment, callback),
        _ => callback,
    }
}

async fn history(mut world: World, seed: u64, totals: &mut Totals) -> World {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    // Users of this history alone, so that what they have is what it did.
    let users = [UserId(seed * 10), UserId(seed * 10 + 1)];
    let staff = Actor { user: UserId(1), role: Role::Staff };
    let mut purses: BTreeMap<UserId, Purse> = users.iter().map(|user| (*user, Purse::default())).collect();
    let mut holds: Vec<SpendId> = Vec::new();
    let mut spent: BTreeMap<(UserId, SpendId), (i64, i64)> = BTreeMap::new();
    let mut refunded: BTreeMap<PaymentId, i64> = BTreeMap::new();
    let first_session = world.bank().sessions.lock().unwrap().len();
    world.bank().rules.lock().unwrap().lists_unverified = random.below(2) == 0;
    let first = world
        .store
        .payments_due("BANK", Timestamp::from_secs(u64::MAX / 2_000_000), usize::MAX)
        .await
        .unwrap();
    assert!(first.is_empty(), "the history before left open payments");

    let references = async |world: &World| -> Vec<String> {
        let sessions = world.bank().sessions.lock().unwrap().clone();
        let mut mine = Vec::new();
        for (reference, session) in sessions {
            let payment = world.store.payment_get(PaymentId(session.local_id)).await.unwrap();
            if payment.is_some_and(|payment| users.contains(&payment.user)) {
                mine.push(reference);
            }
        }
        mine
    };
    // What the bank took before this history is settled and stays as it is.
    let faults = [
        Fault::Refused,
        Fault::Down,
        Fault::LostRequest,
        Fault::LostAnswer,
        Fault::Processing,
        Fault::WrongAmount,
        Fault::Throttled(20),
        Fault::CrashBefore,
        Fault::CrashAfter,
    ];
    for _ in 0..STEPS {
        if random.below(4) == 0 {
            world.bank().fault(faults[random.below(faults.len() as u64) as usize]);
        }
        let mine = references(&world).await;
        let some = |random: &mut Random| mine.get(random.below(mine.len().max(1) as u64) as usize).cloned();
        let user = users[random.below(2) as usize];
        let mut crashed = false;
        match random.below(14) {
            0..=2 => {
                let mut request = request(1000 + random.below(5) * 500);
                request.user = user;
                request.order = ["", "a", "b"][random.below(3) as usize].to_owned();
                request.mode = if random.below(5) == 0 { PayMode::Direct } else { PayMode::Charge };
                request.idempotency_key =
                    (random.below(2) == 0).then(|| format!("k{}", random.below(3)).parse().unwrap());
                crashed = alive(&world, world.payments.create(world.banks.as_ref(), request)).await.is_none();
            }
            3..=5 => {
                // Also after the end here, and after the bank itself called it cancelled.
                if let Some(reference) = some(&mut random)
                    && !world.bank().pay(&reference)
                    && random.below(3) == 0
                {
                    totals.again += u64::from(world.bank().pay_again(&reference));
                }
            }
            6 => {
                if let Some(reference) = some(&mut random) {
                    world.bank().cancel(&reference);
                }
            }
            7..=8 => {
                // Lost when it is never drawn, doubled when it is drawn twice, in any order, before the payer paid or
                // after.
                if let Some(reference) = some(&mut random) {
                    let callback = any_callback(&world, &reference, &mut random, totals).await;
                    for _ in 0..=random.below(2) {
                        let called = world.payments.callback(world.banks.as_ref(), &callback, ANYONE);
                        crashed |= alive(&world, called).await.is_none();
                    }
                }
            }
            9 => {
                let steps = [1, 30, 61, 300, 601];
                world.clock.advance(Duration::from_secs(steps[random.below(5) as usize]));
                crashed = alive(&world, world.payments.reconcile(world.banks.as_ref())).await.is_none();
                crashed |= alive(&world, world.payments.reverse_due(world.banks.as_ref())).await.is_none();
            }
            10 | 11 => {
                let amount = 1 + random.below(1000);
                let hold = random.below(2) == 0;
                let key = (random.below(2) == 0).then(|| format!("s{}", random.below(2)).parse().unwrap());
                let request = SpendRequest {
                    user,
                    amount: Money::from_rial(amount).unwrap(),
                    hold_for: hold.then_some(Duration::from_secs(7 * 24 * 3600)),
                    order: String::new(),
                    unique_order: true,
                    description: String::new(),
                    idempotency_key: key,
                };
                match world.wallets.spend(request).await.unwrap() {
                    SpendMade::Done(spend) => {
                        totals.spends += 1;
                        let amount = amount as i64;
                        spent.insert((user, spend.id), if hold { (amount, amount) } else { (amount, 0) });
                        holds.extend(hold.then_some(spend.id));
                    }
                    SpendMade::Overdraft { available } => {
                        totals.overdrafts += 1;
                        assert!(available < amount);
                    }
                    SpendMade::Repeated(spend) => assert!(spent.contains_key(&(user, spend.id))),
                    SpendMade::KeyReused | SpendMade::OrderTaken(_) => {}
                    SpendMade::TooLarge => panic!("nothing here is large"),
                }
                if let Some(&id) = holds.get(random.below(6) as usize) {
                    let part = Money::from_rial(1 + random.below(3000)).unwrap();
                    let ended = if random.below(2) == 0 {
                        world.wallets.capture(staff, id, Some(part)).await.unwrap()
                    } else {
                        world.wallets.void(staff, id).await.unwrap()
                    };
                    if let SpendEnded::Done(spend, _) = ended {
                        spent.insert((spend.user, id), (spend.captured as i64, 0));
                    }
                }
            }
            _ => {
                let mut paid = Vec::new();
                for user in &users {
                    paid.extend(world.payments.list(*user, None, 50).await.unwrap());
                }
                paid.retain(|payment| payment.state == PaymentState::Paid && payment.mode == PayMode::Charge);
                if let Some(payment) = paid.get(random.below(paid.len().max(1) as u64) as usize) {
                    // A part that was paid back outside, or all of it by asking the bank.
                    let (amount, to) = match random.below(2) {
                        0 => (None, RefundTo::Reverse),
                        _ => (Some(Money::from_rial(1 + random.below(2000)).unwrap()), RefundTo::Gateway),
                    };
                    let request = RefundRequest {
                        payment: payment.id,
                        amount,
                        to,
                        note: String::new(),
                        idempotency_key: None,
                    };
                    if let PaymentRefunded::Done(_, refund) =
                        world.wallets.refund(staff, request).await.unwrap()
                    {
                        totals.refunds += 1;
                        *refunded.entry(payment.id).or_default() += refund.amount as i64;
                        if to == RefundTo::Reverse {
                            let asked = world.payments.reverse(world.banks.as_ref(), payment.id);
                            crashed = alive(&world, asked).await.is_none();
                        }
                    }
                }
            }
        }
        if crashed || random.below(30) == 0 {
            totals.crashes += 1;
            world = world.restarted();
        }
    }

    // The bank is reachable from here on: within two minutes all that it can confirm is settled.
    world.bank().faults.lock().unwrap().clear();
    let lists = world.bank().rules.lock().unwrap().lists_unverified;
    let outage = random.below(8) == 0;
    let returned_before: Vec<String> = references(&world)
        .await
        .into_iter()
        .filter(|reference| world.bank().money(reference) == BankMoney::Returned)
        .collect();
    if outage {
        // Or it is not, until the money has gone back by itself.
        for _ in 0..(WINDOW + RETURN + RETURN_MARGIN).as_secs() / 60 + 1 {
            for _ in 0..20 {
                world.bank().fault(Fault::Down);
            }
            world.pass(Duration::from_secs(60)).await;
        }
        world.bank().faults.lock().unwrap().clear();
    }
    for _ in 0..=2 {
        world.reconcile().await;
        world.clock.advance(Duration::from_secs(60));
    }
    for reference in references(&world).await {
        let session = world.bank().sessions.lock().unwrap()[&reference].clone();
        let payment = world.payments.get(PaymentId(session.local_id)).await.unwrap().unwrap();
        let open = payment.state.is_open();
        match session.money {
            BankMoney::Confirmed => assert!(!open, "{reference} is confirmed and still {payment:?}"),
            BankMoney::Paid(_) => assert!(!open, "{reference} is paid and nobody asked: {payment:?}"),
            // Only the bank's own word ends what a payer may still pay.
            BankMoney::Waiting if payment.window_ends_at > world.now() && payment.start.is_some() => {
                assert!(open, "{reference} can be paid and is {payment:?}");
            }
            _ => {}
        }
    }
    for _ in 0..WINDOW.as_secs() / 60 + 2 {
        world.pass(Duration::from_secs(60)).await;
    }
    world.clock.advance(RETURN);
    world.bank().tick();

    let sessions = world.bank().sessions.lock().unwrap().clone();
    for (reference, session) in &sessions {
        let payment = world.payments.get(PaymentId(session.local_id)).await.unwrap().unwrap();
        if !users.contains(&payment.user) {
            continue;
        }
        let settled = matches!(payment.state, PaymentState::Paid | PaymentState::Refunded);
        let known = payment.start.as_ref().is_some_and(|start| start.reference == *reference);
        let confirmed = matches!(session.money, BankMoney::Confirmed | BankMoney::Reversed);
        // The payer has his money back when we say so, and only then.
        let reversal = world.payments.reversal(payment.id).await.unwrap().map(|reversal| reversal.state);
        let reversed = session.money == BankMoney::Reversed;
        assert_eq!(reversal == Some(ReversalState::Done), reversed, "{reference}: {reversal:?}, {session:?}");
        assert_ne!(reversal, Some(ReversalState::Open), "{reference} is asked about for ever");
        totals.reversed += u64::from(reversed);
        assert!(!payment.state.is_open(), "{reference} never ends: {payment:?}");
        let credited = known && confirmed;
        // A lie about the amount ends it without money; a later answer may still tell the truth.
        let right = if session.lied { !settled || credited } else { settled == credited };
        assert!(right, "{reference}: {session:?}, {payment:?}");
        assert!(!matches!(session.money, BankMoney::Paid(_)), "{reference}: money is nobody's");
        // What a bank with a list took after the end is credited, unless nobody could ask in time.
        let returned = session.money == BankMoney::Returned;
        if lists && !outage && known && returned {
            assert!(
                returned_before.contains(reference),
                "{reference} was listed and is not credited: {payment:?}"
            );
        }
        // What the payer is shown is what the bank says.
        if payment.state == PaymentState::Cancelled {
            assert!(
                matches!(session.money, BankMoney::Cancelled | BankMoney::Returned),
                "{reference}: {session:?}"
            );
        }
        assert!(session.lied || !payment.uncredited, "{reference}: {payment:?}");
        totals.late += u64::from(payment.reason.starts_with("after_"));
    }
    for (user, purse) in &mut purses {
        for payment in world.payments.list(*user, None, 1000).await.unwrap() {
            *totals.ends.entry(format!("{:?} {}", payment.state, payment.reason)).or_default() += 1;
            if matches!(payment.state, PaymentState::Paid | PaymentState::Refunded) {
                totals.paid += 1;
                assert!(
                    world.store.posting_by_key(&format!("payment:{}", payment.id)).await.unwrap().is_some()
                );
                if payment.mode == PayMode::Charge {
                    purse.available += payment.amount as i64;
                }
            }
            purse.available -= refunded.get(&payment.id).copied().unwrap_or(0);
        }
        for ((_, _), (gone, held)) in spent.iter().filter(|((owner, _), _)| owner == user) {
            purse.available -= gone;
            purse.held += held;
        }
        let balance = world.wallets.balance(*user).await.unwrap();
        let stored = Purse { available: balance.available as i64, held: balance.held as i64 };
        assert_eq!(stored, *purse, "user {user}");
    }
    assert!(world.bank().sessions.lock().unwrap().len() >= first_session);
    world.check_ledger().await;
    world
}
