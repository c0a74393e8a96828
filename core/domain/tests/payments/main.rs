//! Payments and wallets against a bank that keeps its own books, with a hand-moved clock and a store in a temporary
//! folder. No sockets, no sleeping. Where PostgreSQL is installed, all of it runs again with the stores there.

mod bank;
mod history;
mod late;
mod reversals;
mod rules;
#[path = "../../../store/tests/store/server.rs"]
#[allow(dead_code, reason = "the tests of the store use the rest")]
mod server;
mod views;
mod wallets;
mod webhooks;

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
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
use chelseru_store::{Durability, PayMode, Payment, Store, StoreError, StoreOptions};
use server::Database;
use tempfile::TempDir;

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
        let store = place.open();
        let payments = Arc::new(Payments::new(store.clone(), clock.clone()));
        let wallets = Arc::new(Wallets::new(store.clone(), clock.clone()));
        let banks = Arc::new(banks(clock.clone()));
        World { place, clock, store, payments, wallets, banks }
    }

    /// The process ends and starts again.
    fn restarted(self) -> World {
        let World { place, clock, store, payments, wallets, banks } = self;
        drop((store, payments, wallets));
        let store = place.open();
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

/// Set while the stores of this program's tests are in PostgreSQL.
const OVER_POSTGRES: &str = "CHELSERU_TEST_POSTGRES";

/// Where a world's store outlives the process.
enum Place {
    Folder(TempDir),
    Database(Database),
}

impl Place {
    fn new() -> Place {
        match std::env::var_os(OVER_POSTGRES) {
            Some(_) => Place::Database(Database::new()),
            None => Place::Folder(tempfile::tempdir().unwrap()),
        }
    }

    fn open(&self) -> Store {
        match self {
            Place::Folder(folder) => open(folder),
            Place::Database(database) => database.open(),
        }
    }
}

#[test]
fn everything_holds_over_postgresql_too() {
    if std::env::var_os(OVER_POSTGRES).is_some() {
        return;
    }
    if server::installed().is_none() {
        return eprintln!("skipped: payments over PostgreSQL (no initdb in /usr/lib/postgresql)");
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let again = again.env(OVER_POSTGRES, "1").env("CHELSERU_HISTORIES", HISTORIES_OVER_POSTGRES);
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("any_history_settles_each_paid_payment_once_and_nothing_else ... ok"), "{said}");
}

/// A history takes some thousand statements.
const HISTORIES_OVER_POSTGRES: &str = "40";

fn open(folder: &TempDir) -> Store {
    // Crashes are of the process here; the disk's part is the store's own test.
    let options =
        StoreOptions { durability: Durability::Process, cache_bytes: 1 << 20, ..StoreOptions::default() };
    // A store that was dropped lets go of its folder a moment later.
    let until = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        match Store::open(folder.path(), options.clone()) {
            Err(StoreError::Locked { .. }) if std::time::Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => return opened.unwrap(),
        }
    }
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
