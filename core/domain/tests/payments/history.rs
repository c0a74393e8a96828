//! Random histories of payments and spends against the bank's own books: faults, crashes, callbacks that are lost,
//! doubled, early, invented or in any order, lists of the bank, payments after the end, reversals that the bank refuses
//! and the staff decides, holds that expire, orders that are spent on twice, and refused payments that are begun again
//! by the same key. A failure names its seed; `CHELSERU_SEED=n` runs that one alone, `CHELSERU_HISTORIES=n` another
//! number of them.

use std::collections::BTreeMap;
use std::future::Future;

use chelseru_domain::money::payment::CreateError;
use chelseru_domain::money::payment::verdict::RETURN_MARGIN;
use chelseru_domain::money::wallet::{Actor, RefundRequest, Role, SpendRequest};
use chelseru_store::{
    Due, PaymentId, PaymentRefunded, PaymentState, RefundTo, ReversalDecided, ReversalDecision,
    ReversalState, SpendEnded, SpendId, SpendMade, SpendState,
};

use super::bank::{Fault, Money as BankMoney, RETURN, WINDOW};
use super::*;

const HISTORIES: u64 = 2000;
/// Histories that share a store, so that the ledger of one goes on in the next.
const PER_STORE: u64 = 40;
const STEPS: u64 = 20;
const STAFF: Actor = Actor { user: UserId(1), role: Role::Staff };

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
    /// Reversals that the bank refused and the staff decided.
    decided: u64,
    /// Holds whose time was over.
    expired: u64,
    /// Spends of an order that was paid.
    order_taken: u64,
    paid_directly: u64,
    spent_already: u64,
    /// Payments that were begun by the key of a refused one.
    begun_again: u64,
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
            (20, |t| t.decided),
            (20, |t| t.expired),
            (20, |t| t.order_taken),
            (5, |t| t.paid_directly),
            (3, |t| t.spent_already),
            (100, |t| t.begun_again),
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

/// What the wallets of a history should show.
#[derive(Default)]
struct Books {
    /// Spends: what is gone and what is held.
    spent: BTreeMap<(UserId, SpendId), (i64, i64)>,
    /// Holds that nobody has ended, and when they end by themselves.
    holds: BTreeMap<SpendId, (UserId, Timestamp)>,
    /// Orders of spends.
    orders: BTreeMap<(UserId, String), Vec<SpendId>>,
    refunded: BTreeMap<PaymentId, i64>,
    /// Refunds that the bank is asked to carry out.
    reversals: BTreeMap<PaymentId, i64>,
}

impl Books {
    /// Whether a spend still takes money, so that its order is paid.
    fn is_alive(&self, user: UserId, id: SpendId) -> bool {
        self.spent.get(&(user, id)).is_some_and(|(gone, held)| *gone + *held > 0)
    }

    fn ended(&mut self, user: UserId, id: SpendId, captured: i64) {
        self.spent.insert((user, id), (captured, 0));
        self.holds.remove(&id);
    }
}

/// Spends at once or as a hold, sometimes for an order, and then captures or voids a hold.
async fn spend(world: &World, user: UserId, random: &mut Random, books: &mut Books, totals: &mut Totals) {
    let amount = 1 + random.below(600);
    let hold_for = match random.below(4) {
        0 => Some(Duration::from_secs(7 * 24 * 3600)),
        1 => Some(Duration::from_secs(45)),
        _ => None,
    };
    // Payments have "a" and "b", too.
    let order = ["", "x", "y", "a", "b"][random.below(5) as usize].to_owned();
    let request = SpendRequest {
        user,
        amount: Money::from_rial(amount).unwrap(),
        hold_for,
        order: order.clone(),
        unique_order: true,
        description: String::new(),
        idempotency_key: (random.below(2) == 0).then(|| format!("s{}", random.below(2)).parse().unwrap()),
    };
    match world.wallets.spend(request).await.unwrap() {
        SpendMade::Done(spend) => {
            totals.spends += 1;
            let before = books.orders.get(&(user, order.clone())).cloned().unwrap_or_default();
            let paid = before.iter().find(|id| books.is_alive(user, **id));
            assert!(order.is_empty() || paid.is_none(), "{order} is paid by {paid:?} and by {}", spend.id);
            books.orders.entry((user, order)).or_default().push(spend.id);
            let amount = amount as i64;
            books
                .spent
                .insert((user, spend.id), if hold_for.is_some() { (amount, amount) } else { (amount, 0) });
            if let Some(hold_for) = hold_for {
                books.holds.insert(spend.id, (user, world.now().plus(hold_for)));
            }
        }
        SpendMade::Overdraft { available } => {
            totals.overdrafts += 1;
            assert!(available < amount);
        }
        SpendMade::Repeated(spend) => assert!(books.spent.contains_key(&(user, spend.id))),
        SpendMade::OrderTaken(spend) => {
            totals.order_taken += 1;
            assert!(spend.order == order && books.is_alive(user, spend.id), "{spend:?}");
        }
        SpendMade::OrderPaid(id) => {
            totals.paid_directly += 1;
            let paid = world.store.payment_get(id).await.unwrap().unwrap();
            assert_eq!((paid.user, &paid.order), (user, &order));
            assert_eq!((paid.state, paid.mode), (PaymentState::Paid, PayMode::Direct));
        }
        SpendMade::KeyReused => {}
        SpendMade::TooLarge => panic!("nothing here is large"),
    }
    let nth = random.below(6) as usize;
    if let Some(id) = books.holds.keys().nth(nth).copied() {
        let part = Money::from_rial(1 + random.below(3000)).unwrap();
        let ended = if random.below(2) == 0 {
            world.wallets.capture(STAFF, id, Some(part)).await.unwrap()
        } else {
            world.wallets.void(STAFF, id).await.unwrap()
        };
        if let SpendEnded::Done(spend, _) = ended {
            books.ended(spend.user, id, spend.captured as i64);
        }
    }
}

/// Lets holds expire whose time is over.
async fn expire(world: &World, books: &mut Books, totals: &mut Totals) {
    let now = world.now();
    world.wallets.expire_holds().await.unwrap();
    let over = books.holds.iter().filter(|(_, (_, at))| *at <= now);
    for (id, user) in over.map(|(id, (user, _))| (*id, *user)).collect::<Vec<_>>() {
        totals.expired += 1;
        books.ended(user, id, 0);
    }
}

/// Pays back outside, or asks the bank to. Says whether the process died.
async fn give_back(
    world: &World,
    users: &[UserId],
    random: &mut Random,
    books: &mut Books,
    totals: &mut Totals,
) -> bool {
    if decide(world, random, books, totals).await {
        return true;
    }
    let mut paid = Vec::new();
    for user in users {
        paid.extend(world.payments.list(*user, None, 50).await.unwrap());
    }
    paid.retain(|payment| payment.state == PaymentState::Paid && payment.mode == PayMode::Charge);
    let Some(payment) = paid.get(random.below(paid.len().max(1) as u64) as usize) else { return false };
    // A part that was paid back outside, or all of it by asking the bank.
    let (amount, to) = match random.below(2) {
        0 => (None, RefundTo::Reverse),
        _ => (Some(Money::from_rial(1 + random.below(2000)).unwrap()), RefundTo::Gateway),
    };
    if to == RefundTo::Reverse && random.below(2) == 0 {
        world.bank().faults.lock().unwrap().push_front(Fault::Refused);
    }
    let (note, idempotency_key) = (String::new(), None);
    let request = RefundRequest { payment: payment.id, amount, to, note, idempotency_key };
    let PaymentRefunded::Done(_, refund) = world.wallets.refund(STAFF, request).await.unwrap() else {
        return false;
    };
    totals.refunds += 1;
    *books.refunded.entry(payment.id).or_default() += refund.amount as i64;
    if to != RefundTo::Reverse {
        return false;
    }
    books.reversals.insert(payment.id, refund.amount as i64);
    let asked = world.payments.reverse(world.banks.as_ref(), payment.id);
    alive(world, asked).await.is_none() || decide(world, random, books, totals).await
}

/// The staff decides about some reversals that the bank refused. Says whether the process died.
async fn decide(world: &World, random: &mut Random, books: &mut Books, totals: &mut Totals) -> bool {
    let refused = async |id: PaymentId| {
        let reversal = world.payments.reversal(id).await.unwrap();
        reversal.is_some_and(|reversal| matches!(reversal.state, ReversalState::Refused(_)))
    };
    for id in books.reversals.keys().copied().collect::<Vec<_>>() {
        if !refused(id).await || random.below(4) == 0 {
            continue;
        }
        totals.decided += 1;
        let decision = [ReversalDecision::AskAgain, ReversalDecision::Undo, ReversalDecision::PaidOutside]
            [random.below(3) as usize];
        let decided = world.payments.decide_reversal(id, decision, STAFF.user).await.unwrap();
        assert!(matches!(decided, ReversalDecided::Done(_)), "{decision:?}: {decided:?}");
        match decision {
            ReversalDecision::AskAgain => {
                let asked = world.payments.reverse(world.banks.as_ref(), id);
                return alive(world, asked).await.is_none();
            }
            ReversalDecision::Undo => {
                let amount = books.reversals.remove(&id).unwrap();
                *books.refunded.entry(id).or_default() -= amount;
            }
            ReversalDecision::PaidOutside | ReversalDecision::ToWallet => {
                books.reversals.remove(&id);
            }
        }
    }
    false
}

/// Begins a payment; one that the bank refused is sometimes begun again by the same key. Says whether the process died.
async fn begin(world: &World, user: UserId, random: &mut Random, totals: &mut Totals) -> bool {
    let mut request = request(1000 + random.below(5) * 500);
    request.user = user;
    request.order = ["", "a", "b"][random.below(3) as usize].to_owned();
    request.mode = if random.below(3) == 0 { PayMode::Direct } else { PayMode::Charge };
    request.idempotency_key =
        (random.below(2) == 0).then(|| format!("k{}", random.below(3)).parse().unwrap());
    let create = async || alive(world, world.payments.create(world.banks.as_ref(), request.clone())).await;
    match create().await {
        None => return true,
        Some(Err(CreateError::OrderSpent(id))) => {
            totals.spent_already += 1;
            let spend = world.store.spend_get(id).await.unwrap().unwrap();
            assert_eq!((spend.user, &spend.order, request.mode), (user, &request.order, PayMode::Direct));
            assert!(matches!(spend.state, SpendState::Held | SpendState::Captured), "{spend:?}");
        }
        Some(Err(CreateError::Gateway(_))) if request.idempotency_key.is_some() => {}
        Some(_) => return false,
    }
    match create().await {
        None => return true,
        Some(Ok(created)) => {
            assert!(!created.replayed, "a failure is no answer to a key: {created:?}");
            assert!(created.payment.start.is_some(), "{created:?}");
            totals.begun_again += 1;
        }
        Some(Err(_)) => {}
    }
    false
}

async fn history(mut world: World, seed: u64, totals: &mut Totals) -> World {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    // Users of this history alone, so that what they have is what it did.
    let users = [UserId(seed * 10), UserId(seed * 10 + 1)];
    let mut purses: BTreeMap<UserId, Purse> = users.iter().map(|user| (*user, Purse::default())).collect();
    let mut books = Books::default();
    let first_session = world.bank().sessions.lock().unwrap().len();
    world.bank().rules.lock().unwrap().lists_unverified = random.below(2) == 0;
    let first = world
        .store
        .payments_due("BANK", Due::new(Timestamp::from_secs(u64::MAX / 2_000_000), Duration::MAX), usize::MAX)
        .await
        .unwrap();
    assert!(first.is_empty(), "the history before left open payments");

    // Payments are numbered on, so what the bank knew before is not of this history.
    let local_ids = |world: &World| -> Vec<(String, u64)> {
        let sessions = world.bank().sessions.lock().unwrap();
        sessions.iter().map(|(reference, session)| (reference.clone(), session.local_id)).collect()
    };
    let last_before = local_ids(&world).into_iter().map(|(_, id)| id).max().unwrap_or(0);
    let references = |world: &World| -> Vec<String> {
        let mine = local_ids(world).into_iter().filter(|(_, id)| *id > last_before);
        mine.map(|(reference, _)| reference).collect()
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
        let mine = references(&world);
        let some = |random: &mut Random| mine.get(random.below(mine.len().max(1) as u64) as usize).cloned();
        let user = users[random.below(2) as usize];
        let mut crashed = false;
        match random.below(14) {
            0..=2 => crashed = begin(&world, user, &mut random, totals).await,
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
                expire(&world, &mut books, totals).await;
            }
            10 | 11 => {
                // By the one who has something.
                let mut rich = user;
                for other in users {
                    if world.wallets.balance(other).await.unwrap().available > 0 {
                        rich = other;
                    }
                }
                for _ in 0..=random.below(3) {
                    spend(&world, rich, &mut random, &mut books, totals).await;
                }
            }
            _ => crashed = give_back(&world, &users, &mut random, &mut books, totals).await,
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
        .into_iter()
        .filter(|reference| world.bank().money(reference) == BankMoney::Returned)
        .collect();
    if outage {
        // Or it is not, until the money has gone back by itself.
        for _ in 0..(WINDOW + RETURN + RETURN_MARGIN).as_secs() / 180 + 1 {
            for _ in 0..20 {
                world.bank().fault(Fault::Down);
            }
            world.pass(Duration::from_secs(180)).await;
        }
        world.bank().faults.lock().unwrap().clear();
    }
    for _ in 0..=2 {
        world.reconcile().await;
        world.clock.advance(Duration::from_secs(60));
    }
    for reference in references(&world) {
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
    for _ in 0..WINDOW.as_secs() / 180 + 2 {
        world.pass(Duration::from_secs(180)).await;
    }
    world.clock.advance(RETURN);
    world.bank().tick();
    expire(&world, &mut books, totals).await;

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
            purse.available -= books.refunded.get(&payment.id).copied().unwrap_or(0);
        }
        for ((_, _), (gone, held)) in books.spent.iter().filter(|((owner, _), _)| owner == user) {
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
