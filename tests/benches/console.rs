//! The console's list pages among 1,000 and among 1,000,000 users, payments and messages: each page as a browser asks
//! for it, HTML included.

use std::time::{Duration, Instant};

use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::ids::UserId;
use chelseru_store::{
    Currency, PayMode, PaymentDraft, SmsClass, SmsContent, SmsOwner, SmsRecord, SmsStatus, Store, Timestamp,
    UserDraft,
};
use chelseru_tests::TestGateway;
use chelseru_tests::browser::Browser;

use crate::measure::{micros, percentile, runtime, sorted};

const COUNTS: [u64; 2] = [1000, 1_000_000];
/// Records that are written together.
const STEP: u64 = 4000;
const READS: u64 = 200;
/// Reach of a page's p99.
const REACH: Duration = Duration::from_millis(50);

/// The address of a page, which varies with a number.
type Address = fn(u64) -> String;

const PAGES: [(&str, Address); 14] = [
    ("users, newest", |_| "/console/users/".into()),
    ("users, part of a name", |n| format!("/console/users/?q=er{}", n % 1000)),
    ("users, part of a mail address", |n| format!("/console/users/?q={}%40mail", n % 100_000)),
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
        plugin_digest: String::new(),
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
        let users = numbers.clone().map(|n| store.user_register(user(n)));
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
        for count in COUNTS {
            let gateway = TestGateway::start("").await;
            let started = Instant::now();
            fill(&gateway.app.store, count).await;
            println!("{count} of each stored in {:.1} s", started.elapsed().as_secs_f64());
            pages(&gateway, count).await;
        }
    });
}

async fn pages(gateway: &TestGateway, count: u64) {
    let mut browser = Browser::of(gateway, "root").await;
    let first = Instant::now();
    browser.get("/console/users/").await;
    println!("{count}, first search (reads every account): {:.0} ms", micros(first.elapsed()) / 1000.0);
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
