//! Searches of operators among 1,000 and among 1,000,000 users: one page of each kind, and the first one.

use std::time::{Duration, Instant};

use chelseru_domain::ids::UserId;
use chelseru_domain::login::user_index::UserQuery;
use chelseru_store::{Store, Timestamp, UserDraft};
use chelseru_tests::{TestGateway, machine};

use crate::measure::{micros, percentile, runtime, sorted};

const USERS: [u64; 2] = [1000, 1_000_000];
/// Users that are written together.
const STEP: u64 = 4000;
const READS: u64 = 200;
const PAGE: usize = 50;
/// Reach of a page's p99.
const REACH: Duration = Duration::from_millis(50);

/// The typed text of a search, which varies with a number.
type Typed = fn(u64) -> String;

const SEARCHES: [(&str, Typed); 5] = [
    ("newest", |_| String::new()),
    ("part of a name", |n| format!("er{}", n % 1000)),
    ("part of a mail address", |n| format!("{}@mail", n % 100_000)),
    ("two words", |n| format!("user {n}")),
    // Nobody has it, so every row is looked at.
    ("nothing found", |_| "nobody-has-this".to_owned()),
];

async fn fill(store: &Store, count: u64) {
    for first in (0..count).step_by(STEP as usize) {
        let made = (first..(first + STEP).min(count)).map(|n| {
            store.user_register(UserDraft {
                username: format!("user{n}"),
                look: format!("user{n}"),
                email: format!("{n}@mail.example"),
                password_hash: String::new(),
                staff: false,
                superuser: false,
                now: Timestamp::from_secs(1_790_000_000 + n),
            })
        });
        for made in futures_util::future::join_all(made).await {
            made.expect("stored");
        }
    }
}

pub(crate) fn run() {
    runtime().block_on(async {
        for count in USERS {
            let gateway = TestGateway::start("").await;
            fill(&gateway.app.store, count).await;
            search(&gateway, count).await;
        }
    });
}

async fn search(gateway: &TestGateway, count: u64) {
    let desk = gateway.app.live().generation.console.desk.clone();
    let permit = machine();
    let find = async |text: String, before: Option<UserId>| {
        let query = UserQuery { text, ..UserQuery::default() };
        desk.users(&permit, &query, before, PAGE).await.expect("read").users.len()
    };
    let first = Instant::now();
    find(String::new(), None).await;
    println!("{count} users, first search (reads every account): {:.0} ms", micros(first.elapsed()) / 1000.0);
    for (name, text) in SEARCHES {
        let mut samples = Vec::new();
        for n in 0..READS {
            let (text, started) = (text(n * 7919 % count), Instant::now());
            find(text, None).await;
            samples.push(started.elapsed());
        }
        let samples = sorted(samples.into_iter());
        let (p50, p99) = (percentile(&samples, 0.5), percentile(&samples, 0.99));
        let kept = if p99 <= REACH { "within" } else { "past" };
        println!(
            "{count} users, {name}: p50 {:.2} ms, p99 {:.2} ms ({kept} {} ms)",
            micros(p50) / 1000.0,
            micros(p99) / 1000.0,
            REACH.as_millis()
        );
    }
}
