//! The console's list pages among N users, payments and messages (`CHELSERU_BENCH_SIZE`, by default 1,000,000).
//!
//! Each page is asked for as a browser does, HTML included. Also printed: the time until the table for searches of
//! users is built, and the bytes that it takes. Half of the users have a user name and a mail address, the others a
//! number and names.

use std::time::{Duration, Instant};

use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::ids::UserId;
use chelseru_store::{
    Currency, ImportedUser, PayMode, PaymentDraft, SmsClass, SmsContent, SmsOwner, SmsRecord, SmsStatus,
    Store, Timestamp, User, UserDraft,
};
use chelseru_tests::TestGateway;
use chelseru_tests::browser::Browser;

use crate::measure::{micros, percentile, runtime, sorted};

const SIZE: u64 = 1_000_000;
/// Records that are written together.
const STEP: u64 = 4000;
const READS: u64 = 200;
/// Reach of a page's p99.
const REACH: Duration = Duration::from_millis(50);

/// The address of a page, which varies with a number.
type Address = fn(u64) -> String;

const PAGES: [(&str, Address); 17] = [
    ("users, newest", |_| "/console/users/".into()),
    ("users, part of a name", |n| format!("/console/users/?q=er{}", n % 1000)),
    ("users, part of a mail address", |n| format!("/console/users/?q={}%40mail", n % 100_000)),
    ("users, part of a number", |n| format!("/console/users/?q={:05}", n * 31 % 100_000)),
    ("users, digits in the middle", |n| format!("/console/users/?q={:07}", n * 104_729 % 10_000_000)),
    ("users, two frequent words", |n| format!("/console/users/?q=ser{}+il.ex", n % 10)),
    ("users, two words", |n| format!("/console/users/?q=user+{n}")),
    // Nobody has it, so every row is looked at.
    ("users, nothing found", |_| "/console/users/?q=nobody-has-this".into()),
    ("users, disabled", |_| "/console/users/?state=disabled".into()),
    ("payments, newest", |_| "/console/payments/".into()),
    ("payments, of a user", |n| format!("/console/payments/?user={}", 1 + n % 1000)),
    ("payments, of an order", |n| format!("/console/payments/?order=o-{n}")),
    ("payments, state and gateway", |_| "/console/payments/?state=created&gateway=BENCH".into()),
    ("payments, nothing found", |n| format!("/console/payments/?user={}&state=paid", 1 + n % 1000)),
    ("messages, newest", |_| "/console/messages/".into()),
    ("messages, to a number", |n| format!("/console/messages/?number=0912{:07}", n % 10_000_000)),
    ("messages, nothing found", |_| "/console/messages/?status=failed".into()),
];

fn user(n: u64) -> UserDraft {
    UserDraft {
        username: format!("user{n}"),
        look: format!("user{n}"),
        email: format!("{n}@mail.example"),
        password_hash: String::new(),
        staff: false,
        superuser: false,
        now: Timestamp::from_secs(1_790_000_000 + n),
    }
}

/// A user who logs in by code. The ids lie above those of the others.
fn by_number(n: u64) -> ImportedUser {
    const FIRST: [&str; 5] = ["علی", "رضا", "سارا", "Mina", "زهرا"];
    const LAST: [&str; 7] = ["کریمی", "رضایی", "محمدی", "Ahmadi", "حسینی", "موسوی", "صادقی"];
    let number = format!("0912{:07}", n * 7919 % 10_000_000);
    let user = User {
        id: UserId((1 << 32) + n),
        active: true,
        username: format!("G0-{number}"),
        number: format!("+98{}", &number[1..]),
        group: 0,
        created_at: Timestamp::from_secs(1_790_000_000 + n),
        last_login_at: None,
        first_name: FIRST[n as usize % FIRST.len()].to_owned(),
        last_name: LAST[n as usize / 5 % LAST.len()].to_owned(),
        email: String::new(),
        staff: false,
        superuser: false,
        avatar: None,
    };
    ImportedUser { user, password_hash: None, owns_number: true, derived_name: true, merged: Vec::new() }
}

fn payment(n: u64) -> PaymentDraft {
    let now = SystemClock.now();
    PaymentDraft {
        user: UserId(1 + n % 1000),
        amount: 10 * (1000 + n % 100),
        currency: Currency::Irt,
        mode: PayMode::Charge,
        order: format!("o-{n}"),
        unique_order: false,
        gateway: "BENCH".to_owned(),
        plugin: String::new(),
        description: "bench".to_owned(),
        callback_url: "https://shop.example/pay".to_owned(),
        callback_key: String::new(),
        frontend_url: None,
        now,
        // Nobody looks at them during the bench.
        window_ends_at: now.plus(Duration::from_secs(86_400)),
        check_at: now.plus(Duration::from_secs(86_400)),
        once: None,
    }
}

fn message(n: u64) -> SmsRecord {
    let at = Timestamp::from_micros(1_790_000_000_000_000 + n);
    SmsRecord {
        status: SmsStatus::Delivered,
        id: at.as_micros(),
        number: format!("+98912{:07}", n % 10_000_000),
        content: SmsContent::Text("bench".to_owned()),
        class: SmsClass::Notice,
        owner: SmsOwner::Gateway,
        created_at: at,
        updated_at: at,
        due_at: at,
        deadline: at,
        rounds: 1,
        begun: None,
        resume_with: None,
        provider: Some("BENCH".to_owned()),
        provider_message_id: None,
        cost_rial: None,
        error: None,
        tried: Vec::new(),
        poll_at: None,
        polls: 0,
    }
}

async fn fill(store: &Store, count: u64) {
    for first in (0..count).step_by(STEP as usize) {
        let numbers = first..(first + STEP).min(count);
        let (named, numbered): (Vec<u64>, Vec<u64>) = numbers.clone().partition(|n| n.is_multiple_of(2));
        store.import_users(numbered.into_iter().map(by_number).collect()).await.expect("stored");
        let users = named.into_iter().map(|n| store.user_register(user(n)));
        for made in futures_util::future::join_all(users).await {
            made.expect("stored");
        }
        let payments = numbers.clone().map(|n| store.payment_create(payment(n)));
        for made in futures_util::future::join_all(payments).await {
            made.expect("stored");
        }
        store.import_sms(numbers.map(message).collect()).await.expect("stored");
    }
}

pub(crate) fn run() {
    runtime().block_on(async {
        let size = std::env::var("CHELSERU_BENCH_SIZE").ok();
        let count = size.map_or(SIZE, |size| size.parse().expect("CHELSERU_BENCH_SIZE is a number"));
        let gateway = TestGateway::start("").await;
        let started = Instant::now();
        fill(&gateway.app.store, count).await;
        println!("{count} of each stored in {:.1} s", started.elapsed().as_secs_f64());
        pages(&gateway, count).await;
    });
}

async fn pages(gateway: &TestGateway, count: u64) {
    let mut browser = Browser::of(gateway, "root").await;
    let first = Instant::now();
    browser.get("/console/users/").await;
    println!("{count}, newest page without a table: {:.2} ms", micros(first.elapsed()) / 1000.0);
    let first = Instant::now();
    browser.get("/console/users/?q=nobody-has-this").await;
    println!("{count}, first search (reads every account): {:.0} ms", micros(first.elapsed()) / 1000.0);
    let bytes = gateway.app.live().identity.search_bytes().unwrap_or(0);
    println!("{count}, table of searches: {:.1} MiB", bytes as f64 / f64::from(1 << 20));
    for (name, address) in PAGES {
        let mut samples = Vec::new();
        for n in 0..READS {
            let (address, started) = (address(n * 7919 % count), Instant::now());
            let shown = browser.get(&address).await;
            samples.push(started.elapsed());
            assert_eq!(shown.status, 200, "{address}");
        }
        let samples = sorted(samples.into_iter());
        let (p50, p99) = (percentile(&samples, 0.5), percentile(&samples, 0.99));
        let kept = if p99 <= REACH { "within" } else { "past" };
        println!(
            "{count}, {name}: p50 {:.2} ms, p99 {:.2} ms ({kept} {} ms)",
            micros(p50) / 1000.0,
            micros(p99) / 1000.0,
            REACH.as_millis()
        );
    }
}
