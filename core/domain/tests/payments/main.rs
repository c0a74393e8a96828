//! Payments and wallets against a bank that keeps its own books, with a hand-moved clock and a store in a temporary
//! folder. No sockets, no sleeping. Where PostgreSQL is installed, all of it runs again with the stores there.

mod bank;
mod claims;
mod history;
mod late;
#[path = "../place/mod.rs"]
mod place;
mod reversals;
mod rules;
mod views;
mod wallets;
mod webhooks;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bank::{Bank, Banks};
use chelseru_domain::clock::ManualClock;
use chelseru_domain::ids::UserId;
use chelseru_domain::money::payment::gateway::Callback;
use chelseru_domain::money::payment::{CALLBACK_KEY, CallbackCaller, PaymentRequest, Payments};
use chelseru_domain::money::wallet::Wallets;
use chelseru_domain::money::{Currency, Money};
use chelseru_domain::{Clock, Timestamp};
use chelseru_store::{Durability, PayMode, Payment, Store, StoreOptions};
use place::Place;

const USER: UserId = UserId(7);
/// A caller without a token.
const ANYONE: CallbackCaller = CallbackCaller { address: IpAddr::V4(Ipv4Addr::LOCALHOST), actor: None };
const START_SECS: u64 = 1_000_000;

/// A process that can crash: everything but the folder, the clock and the bank is gone then.
struct World {
    place: Place,
    clock: Arc<ManualClock>,
    store: Store,
    payments: Arc<Payments>,
    wallets: Arc<Wallets>,
    banks: Arc<Banks>,
}

impl World {
    fn new() -> World {
        World::with_banks(|clock| Banks::of(vec![Bank::new("BANK", clock)]))
    }

    fn with_banks(banks: impl FnOnce(Arc<ManualClock>) -> Banks) -> World {
        let place = Place::new();
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(START_SECS)));
        let store = open(&place);
        let payments = Arc::new(Payments::new(store.clone(), clock.clone()));
        let wallets = Arc::new(Wallets::new(store.clone(), clock.clone()));
        let banks = Arc::new(banks(clock.clone()));
        World { place, clock, store, payments, wallets, banks }
    }

    /// The process ends and starts again.
    fn restarted(self) -> World {
        let World { place, clock, store, payments, wallets, banks } = self;
        drop((store, payments, wallets));
        let store = open(&place);
        let payments = Arc::new(Payments::new(store.clone(), clock.clone()));
        let wallets = Arc::new(Wallets::new(store.clone(), clock.clone()));
        World { place, clock, store, payments, wallets, banks }
    }

    fn bank(&self) -> &Arc<Bank> {
        self.banks.first()
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn create(&self, amount_rial: u64) -> Payment {
        self.payments.create(self.banks.as_ref(), request(amount_rial)).await.unwrap().payment
    }

    /// The payer's browser comes back, with what the bank's page put into the address.
    async fn callback(&self, payment: &Payment, ok: bool) -> Payment {
        let callback = vouched(payment, callback(reference(payment), ok));
        self.take(&callback).await
    }

    async fn take(&self, callback: &Callback) -> Payment {
        self.payments.callback(self.banks.as_ref(), callback, ANYONE).await.unwrap().payment
    }

    /// Somebody who knows the reference posts a callback.
    async fn stranger(&self, payment: &Payment, receipt: Option<&str>) -> Payment {
        let mut callback = callback(reference(payment), true);
        if let Some(receipt) = receipt {
            callback.query.push_str(&format!("&receipt={receipt}"));
        }
        self.take(&callback).await
    }

    async fn reconcile(&self) {
        self.payments.reconcile(self.banks.as_ref()).await.unwrap();
        self.payments.reverse_due(self.banks.as_ref()).await.unwrap();
    }

    async fn payment(&self, payment: &Payment) -> Payment {
        self.payments.get(payment.id).await.unwrap().unwrap()
    }

    async fn available(&self) -> u64 {
        self.wallets.balance(USER).await.unwrap().available
    }

    async fn check_ledger(&self) {
        let report = self.store.ledger_verify().await.unwrap();
        assert_eq!(report.difference, None);
    }

    /// Money in the wallet, paid in at the bank.
    async fn charge(&self, rial: u64) -> Payment {
        let payment = self.create(rial).await;
        self.bank().pay(reference(&payment));
        self.callback(&payment, true).await
    }

    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.reconcile().await;
    }
}

fn open(place: &Place) -> Store {
    // Crashes are of the process here; the disk's part is the store's own test.
    place.open(&StoreOptions {
        durability: Durability::Process,
        cache_bytes: 1 << 20,
        ..StoreOptions::default()
    })
}

#[test]
fn everything_holds_over_postgresql_too() {
    // A history takes some thousand statements.
    let histories = ("CHELSERU_HISTORIES", "40");
    place::run_again("history::any_history_settles_each_paid_payment_once_and_nothing_else", &[histories]);
}

fn request(amount_rial: u64) -> PaymentRequest {
    PaymentRequest {
        user: USER,
        amount: Money::from_rial(amount_rial).unwrap(),
        currency: Currency::Irt,
        mode: PayMode::Charge,
        order: String::new(),
        unique_order: true,
        description: "a test".to_owned(),
        callback_url: "https://shop.example/back".to_owned(),
        frontend_url: None,
        mobile: None,
        email: None,
        idempotency_key: None,
        per_hour_max: u64::MAX,
    }
}

fn reference(payment: &Payment) -> &str {
    &payment.start.as_ref().unwrap().reference
}

fn callback(reference: &str, ok: bool) -> Callback {
    let status = if ok { "OK" } else { "NOK" };
    let query = format!("reference={reference}&status={status}");
    Callback { method: "GET".into(), query, ..Callback::default() }
}

/// The callback with the unguessable part of the payment's own address.
fn vouched(payment: &Payment, callback: Callback) -> Callback {
    let query = format!("{CALLBACK_KEY}={}&{}", payment.callback_key, callback.query);
    Callback { query, ..callback }
}
