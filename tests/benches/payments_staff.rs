//! The lists of the staff among 1,000 and among 1,000,000 payments: one page of each filter, as requests.

use std::time::{Duration, Instant};

use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::ids::UserId;
use chelseru_store::{Currency, PayMode, PaymentDraft, Store};
use chelseru_tests::TestGateway;

use crate::measure::{Connection, micros, percentile, sorted};

/// Payments of a small and of a large store.
const PAYMENTS: [u64; 2] = [1000, 1_000_000];
const USERS: u64 = 1000;
/// Payments that are written together.
const STEP: u64 = 4000;
const READS: u64 = 2000;
/// Reach of a page's p99.
const REACH: Duration = Duration::from_millis(10);

/// Filters of staff: their names and the queries, which vary with a number.
type Filter = (&'static str, fn(u64) -> String);
const FILTERS: [Filter; 6] = [
    ("newest", |_| String::new()),
    ("user", |n| format!("?user={}", 1 + n % USERS)),
    ("order", |n| format!("?order_id=o-{n}")),
    ("state and gateway", |_| "?state=created&gateway=BENCH".to_owned()),
    ("user and amount", |n| format!("?user={}&amount={}", 1 + n % USERS, 1000 + n % 100)),
    // Nothing has both, so a page looks at as many entries as it may.
    ("nothing found", |n| format!("?user={}&state=paid", 1 + n % USERS)),
];

async fn fill(store: &Store, count: u64) {
    for first in (0..count).step_by(STEP as usize) {
        let drafts = (first..(first + STEP).min(count)).map(draft);
        for created in futures_util::future::join_all(drafts.map(|draft| store.payment_create(draft))).await {
            created.expect("stored");
        }
    }
}

fn draft(n: u64) -> PaymentDraft {
    let now = SystemClock.now();
    PaymentDraft {
        user: UserId(1 + n % USERS),
        amount: 10 * (1000 + n % 100),
        currency: Currency::Irt,
        mode: PayMode::Charge,
        order: format!("o-{n}"),
        unique_order: true,
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

pub(crate) async fn run() {
    for count in PAYMENTS {
        let config = "[auth]\naccess_token_seconds = 86400\n[payment]\nstaff_users = [1]\n";
        let gateway = TestGateway::start(config).await;
        let access = gateway.login("09121234567").await.access;
        let started = Instant::now();
        fill(&gateway.app.store, count).await;
        println!("{count} payments stored in {:.1} s", started.elapsed().as_secs_f64());
        for (name, query) in FILTERS {
            let (url, access) = (gateway.url.clone(), access.clone());
            let times = tokio::task::spawn_blocking(move || {
                let mut connection = Connection::open(&url);
                sorted((0..READS).map(|n| {
                    // In an order that defeats caches.
                    let query = query(n.wrapping_mul(0x9E37_79B9) % count);
                    let head = format!("GET /drfchelseru/staff/payments/{query} HTTP/1.1");
                    let request =
                        format!("{head}\r\nhost: localhost\r\nauthorization: Bearer {access}\r\n\r\n");
                    let started = Instant::now();
                    let page = connection.ask(request.as_bytes());
                    let took = started.elapsed();
                    assert!(page.contains("\"results\""), "{page}");
                    took
                }))
            });
            let times = times.await.expect("no panic");
            println!(
                "staff/payments/, {name}, among {count}: p50 {:.0} us, p99 {:.0} us; reach: {:.0} us",
                micros(percentile(&times, 0.5)),
                micros(percentile(&times, 0.99)),
                micros(REACH)
            );
        }
    }
}
