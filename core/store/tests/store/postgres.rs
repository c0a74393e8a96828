//! What only the PostgreSQL engine promises: several gateways at once, lost answers, a server that goes and comes
//! back, and one sentence for each database that cannot be used.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use chelseru_postgres_server::{Server, connected, on_runtime, server};
use chelseru_store::chat::{Appended, Judged};
use chelseru_store::{
    AuditDraft, AuditLog, AuditQuery, Health, RefreshDraft, RefreshOutcome, StoreError, UserDraft, UserMade,
};

use super::proxy::{Cut, Proxy};
use super::server::{Database, new_database, opened, options, prepare};
use super::*;

/// Longest wait for something that comes by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// The advisory lock of the only gateway.
const LOCK: i64 = 0x6368_656c_7365_0002;
/// What every change of a gateway holds.
const CHANGES: i64 = 0x6368_656c_7365_0003;
/// A gateway takes the database over.
const NEXT_TERM: &str = "update chelseru.gateway set term = term + 1";

/// Two stores over one database, as two gateways have them.
pub(super) fn two() -> Option<([Arc<Store>; 2], Database)> {
    server()?;
    let database = Database::new();
    Some(([Arc::new(database.open_shared()), Arc::new(database.open_shared())], database))
}

/// Runs an operation `times` times at once, on both stores in turn.
pub(super) async fn at_once<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    stores: &[Arc<Store>; 2],
    times: usize,
    operation: impl Fn(Arc<Store>, usize) -> F,
) -> Vec<T> {
    let running: Vec<_> =
        (0..times).map(|n| tokio::spawn(operation(Arc::clone(&stores[n % 2]), n))).collect();
    let mut results = Vec::new();
    for running in running {
        results.push(running.await.unwrap());
    }
    results
}

#[tokio::test]
async fn two_gateways_log_in_once_by_one_code() {
    let Some((stores, _database)) = two() else { return };
    for round in 1..=5 {
        let at = round * 1000;
        let opened = at_once(&stores, 12, move |store, n| async move {
            let draft = ChallengeDraft { mac: [n as u8; 32], ..challenge(NUMBER, n as u64, at) };
            (n, store.challenge_open(draft).await.unwrap())
        });
        let opened = opened.await;
        let mut won = opened.iter().filter(|(_, opened)| *opened == ChallengeOpened::Opened);
        let (Some((winner, _)), None) = (won.next(), won.next()) else { panic!("{opened:?}") };
        let winner = *winner as u8;
        let outcomes = at_once(&stores, 30, move |store, _| async move {
            store.login_with_challenge(login(NUMBER, [winner; 32], at)).await.unwrap()
        });
        let outcomes = outcomes.await;
        let logins =
            outcomes.iter().filter(|outcome| matches!(outcome, LoginOutcome::LoggedIn { .. })).count();
        assert_eq!(logins, 1, "{outcomes:?}");
        // A guess beside the right one finds no code, or used up what guesses there were.
        assert!(outcomes.iter().all(|outcome| matches!(
            outcome,
            LoginOutcome::LoggedIn { .. } | LoginOutcome::Missing | LoginOutcome::Burned
        )));
    }
    let users = stores[0].users_list(None, 10).await.unwrap();
    assert_eq!(users.len(), 1);
    assert_eq!(stores[1].sessions_of(users[0].id, None, 10).await.unwrap().len(), 3, "the limit holds");
}

#[tokio::test]
async fn two_gateways_give_no_guess_twice() {
    let Some((stores, _database)) = two() else { return };
    stores[0].challenge_open(challenge(NUMBER, 1, 100)).await.unwrap();
    let outcomes = at_once(&stores, 40, |store, _| async move {
        store.login_with_challenge(login(NUMBER, WRONG, 101)).await.unwrap()
    });
    let outcomes = outcomes.await;
    let left: BTreeSet<u32> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            LoginOutcome::Wrong { attempts_left } => Some(*attempts_left),
            _ => None,
        })
        .collect();
    assert_eq!(left, BTreeSet::from([0, 1, 2, 3, 4]));
    let looked = outcomes.iter().filter(|outcome| matches!(outcome, LoginOutcome::Wrong { .. })).count();
    assert_eq!(looked, 5);
}

#[tokio::test]
async fn two_gateways_register_a_name_once_and_rotate_a_token_once() {
    let Some((stores, _database)) = two() else { return };
    let draft = UserDraft {
        username: "sara".into(),
        look: "sara".into(),
        email: String::new(),
        password_hash: "hash".into(),
        staff: false,
        superuser: false,
        now: secs(1),
    };
    let made = at_once(&stores, 16, move |store, _| {
        let draft = draft.clone();
        async move { store.user_register(draft).await.unwrap() }
    });
    let made = made.await;
    assert_eq!(made.iter().filter(|made| matches!(made, UserMade::Made(_))).count(), 1);

    stores[0].challenge_open(challenge(NUMBER, 1, 100)).await.unwrap();
    let login = stores[1].login_with_challenge(login(NUMBER, RIGHT, 100)).await.unwrap();
    let LoginOutcome::LoggedIn { session, .. } = login else { panic!("{login:?}") };
    let refreshed = at_once(&stores, 16, move |store, _| {
        let draft = RefreshDraft {
            user: session.user,
            session: session.id,
            binding: Some(session.binding()),
            generation: 0,
            now: secs(101),
            idle_max: Duration::from_secs(1000),
            absolute_max: Duration::from_secs(1000),
            repeat_max: Duration::from_secs(10),
        };
        async move { store.refresh_rotate(draft).await.unwrap() }
    });
    let refreshed = refreshed.await;
    let rotated = refreshed.iter().filter(|outcome| matches!(outcome, RefreshOutcome::Rotated(_))).count();
    let repeated = refreshed.iter().filter(|outcome| matches!(outcome, RefreshOutcome::Repeated(_))).count();
    assert_eq!((rotated, repeated), (1, 15), "{refreshed:?}");
}

#[tokio::test]
async fn two_gateways_number_the_audit_log_without_gaps() {
    let Some((stores, _database)) = two() else { return };
    let entry = |event: &str| AuditDraft { event: event.to_owned(), ..AuditDraft::default() };
    let drafts = vec![(AuditLog::Anyone, entry("one")), (AuditLog::Operator, entry("two"))];
    at_once(&stores, 20, move |store, _| {
        let drafts = drafts.clone();
        async move { store.audit_append(drafts, 1000).await.unwrap() }
    })
    .await;
    let query = AuditQuery { limit: 100, look_max: 100, ..AuditQuery::default() };
    let page = stores[0].audit_page(&query).await.unwrap();
    let ids: Vec<u64> = page.entries.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, (1..=40).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_made_once() {
    if server().is_none() {
        return;
    }
    let database = Database::new();
    let proxy = Proxy::new(database.server.socket());
    let url = format!("host=127.0.0.1 port={} user=owner dbname={}", proxy.port, database.name);
    let store = opened(&url, options()).unwrap();
    let mut sessions = 0;
    for (round, cut) in
        [Cut::Nowhere, Cut::Before, Cut::After, Cut::Within].into_iter().cycle().take(12).enumerate()
    {
        let at = 1000 * (round as u64 + 1);
        store.challenge_open(challenge(NUMBER, at, at)).await.unwrap();
        proxy.cut_next(cut);
        let mut draft = login(NUMBER, RIGHT, at);
        draft.session.per_user_max = 100;
        let outcome = store.login_with_challenge(draft).await.unwrap();
        let LoginOutcome::LoggedIn { user, session, .. } = outcome else { panic!("{cut:?}: {outcome:?}") };
        assert!(proxy.has_cut(), "{cut:?}");
        sessions += 1;
        let stored = store.sessions_of(user.id, None, 100).await.unwrap();
        assert_eq!(stored.len(), sessions, "{cut:?}");
        assert_eq!(stored[0].id, session.id, "{cut:?}");
    }
    drop(store);
    drop(database);
}

#[tokio::test]
async fn a_server_that_stands_still_is_given_up_and_nothing_is_made_twice() {
    if server().is_none() {
        return;
    }
    let database = Database::new();
    let proxy = Proxy::new(database.server.socket());
    let url = format!("host=127.0.0.1 port={} user=owner dbname={}", proxy.port, database.name);
    let store = opened(&url, StoreOptions { answer_wait: Duration::from_secs(3), ..options() }).unwrap();
    store.challenge_open(challenge(NUMBER, 1, 100)).await.unwrap();
    proxy.cut_next(Cut::Silent);
    let made = match store.login_with_challenge(login(NUMBER, RIGHT, 100)).await {
        Ok(LoginOutcome::LoggedIn { .. }) => 1..=1,
        // As fits a machine that takes seconds for a statement.
        Err(StoreError::Unavailable { .. } | StoreError::Unsure | StoreError::Busy) => 0..=1,
        other => panic!("{other:?}"),
    };
    assert!(proxy.has_cut());
    let sessions = store.sessions_before(None, 10).await.unwrap().len();
    assert!(made.contains(&sessions), "{sessions} sessions for {made:?} logins");
}

/// Changes of one room run one after another; a server that stands still is waited for once, and not by each.
#[tokio::test]
async fn the_changes_of_a_room_wait_together_for_a_server_that_stands_still() {
    if server().is_none() {
        return;
    }
    let database = Database::new();
    let proxy = Proxy::new(database.server.socket());
    let url = format!("host=127.0.0.1 port={} user=owner dbname={}", proxy.port, database.name);
    let (answer_wait, connection_wait) = (Duration::from_secs(3), Duration::from_secs(1));
    let store = opened(&url, StoreOptions { answer_wait, connection_wait, ..options() }).unwrap();
    for user in 1..=2 {
        failover::log_in(&store, user).await;
    }
    let room = failover::pair(&store).await;
    let append = |key| failover::append(&store, room, key).unwrap();
    append(1).await.unwrap().unwrap();
    proxy.stand_still(true);
    let began_at = Instant::now();
    for answer in futures_util::future::join_all((2..8).map(append)).await {
        let answer = answer.unwrap();
        assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
    }
    let took = began_at.elapsed();
    assert!(took < answer_wait + connection_wait + Duration::from_secs(1), "{took:?}");
    assert_eq!(store.oldest_waiting(), Duration::ZERO);
    proxy.stand_still(false);
    let after = until(async || append(9).await.unwrap(), Result::is_ok).await.unwrap();
    let Judged::Done(Appended::New { message, .. }) = after else { panic!("{after:?}") };
    assert_eq!(message.seq, 2, "what was refused is not there");
}

#[tokio::test]
async fn a_second_gateway_is_refused_and_names_the_first() {
    if server().is_none() {
        return;
    }
    let database = Database::new();
    let store = database.open();
    let refused = opened(&database.url(), options()).unwrap_err();
    let StoreError::InUse { reason } = &refused else { panic!("{refused:?}") };
    let process = format!("process {}", std::process::id());
    assert!(reason.contains("another gateway") && reason.contains(&process), "{reason}");
    drop(store);
    // The first one is gone, also when it ended a moment ago.
    drop(database.open());
}

#[tokio::test]
async fn without_its_lock_a_gateway_changes_nothing_until_it_holds_it_again() {
    if server().is_none() {
        return;
    }
    let database = Database::new();
    let store = database.open();
    store.probe_put(b"key", b"before").await.unwrap();
    let other = lock_taken(&database);
    for _ in 0..20 {
        let lost = (0..20).map(|_| store.probe_put(b"key", b"lost"));
        for refused in futures_util::future::join_all(lost).await {
            assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
        }
    }
    assert!(matches!(store.health(), Health::Away(_)));
    assert_eq!(store.probe_get(b"key").await.unwrap().unwrap(), b"before", "reads go on");
    drop(other);
    until(async || store.probe_put(b"key", b"after").await, Result::is_ok).await.unwrap();
    assert_eq!(store.health(), Health::Serving);
    assert_eq!(store.probe_get(b"key").await.unwrap().unwrap(), b"after");
}

/// A gateway that another one has followed, and that has not noticed.
#[tokio::test]
async fn a_gateway_that_was_overtaken_changes_nothing_and_notices() {
    if server().is_none() {
        return;
    }
    let database = Database::new();
    let store = database.open();
    store.probe_put(b"key", b"before").await.unwrap();
    let other = connected(database.url()).await.unwrap();
    other.batch_execute(NEXT_TERM).await.unwrap();
    let refused = store.probe_put(b"key", b"lost").await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert_eq!(store.probe_get(b"key").await.unwrap().unwrap(), b"before");
    // Nobody else is there after all.
    until(async || store.probe_put(b"key", b"after").await, Result::is_ok).await.unwrap();
    assert_eq!(store.health(), Health::Serving);
    assert_eq!(store.probe_get(b"key").await.unwrap().unwrap(), b"after");
}

/// What the gateway before has begun ends before the next one goes on.
#[tokio::test]
async fn a_gateway_that_takes_over_waits_for_changes_that_began_before() {
    if server().is_none() {
        return;
    }
    let database = Database::new();
    database.open().close();
    let mut before = connected(database.url()).await.unwrap();
    let change = before.transaction().await.unwrap();
    change.query("select pg_advisory_xact_lock_shared($1)", &[&CHANGES]).await.unwrap();
    let url = database.url().to_owned();
    let opening = tokio::task::spawn_blocking(move || opened(&url, options()).map(drop));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!opening.is_finished());
    change.commit().await.unwrap();
    opening.await.unwrap().unwrap();
}

/// Ends the connections of a database's store, and takes the lock in its place.
fn lock_taken(database: &Database) -> tokio_postgres::Client {
    let client = Arc::new(on_runtime(connected(database.url())).unwrap());
    let waiting = Arc::clone(&client);
    let taken = std::thread::spawn(move || {
        on_runtime(async move { waiting.query("select pg_advisory_lock($1)", &[&LOCK]).await.map(drop) })
    });
    let of = format!(
        "from pg_locks where locktype = 'advisory' and not granted and database =
        (select oid from pg_database where datname = '{}')",
        database.name
    );
    let until = Instant::now() + PATIENCE;
    while database.server.count(format!("select count(*) {of}")) == 0 {
        assert!(Instant::now() < until, "nobody waits for the lock");
    }
    let waits = format!("(select pid {of})");
    database.server.run(&format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{}' and pid <> all (array{waits})",
        database.name
    ));
    taken.join().unwrap().unwrap();
    let next = Arc::clone(&client);
    // As a gateway does.
    on_runtime(async move { next.batch_execute(NEXT_TERM).await }).unwrap();
    Arc::into_inner(client).expect("the waiting thread has ended")
}

#[tokio::test]
async fn a_crash_of_the_server_loses_nothing_acknowledged_and_is_got_over() {
    let Some(mut server) = Server::own() else { return };
    prepare(&server);
    let name = new_database(&server);
    let wait = Duration::from_secs(1);
    let options = StoreOptions { connection_wait: wait, ..options() };
    let store = Arc::new(opened(&server.pairs(&name), options).unwrap());
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let workers: Vec<_> = (0..8u64)
        .map(|worker| {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut kept, mut refused, mut n) = (Vec::new(), 0, 0);
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    n += 1;
                    let event = format!("{worker}-{n}");
                    let draft = AuditDraft { event: event.clone(), ..AuditDraft::default() };
                    match store.audit_append(vec![(AuditLog::Anyone, draft)], 1_000_000).await {
                        Ok(()) => kept.push(event),
                        Err(StoreError::Unavailable { .. } | StoreError::Busy | StoreError::Unsure) => {
                            refused += 1;
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
                (kept, refused)
            })
        })
        .collect();
    let appended = async |more_than: u64| {
        let query = AuditQuery { limit: 1, look_max: 1, ..AuditQuery::default() };
        let newest = async || store.audit_page(&query).await;
        let newest = until(newest, |page| {
            page.as_ref().is_ok_and(|page| page.entries.first().is_some_and(|entry| entry.id > more_than))
        });
        newest.await.unwrap().entries[0].id
    };
    let mut before = appended(50).await;
    for _ in 0..2 {
        server.crash();
        let down = until(async || store.probe_put(b"down", b"").await, Result::is_err).await;
        assert!(matches!(down, Err(StoreError::Unavailable { .. } | StoreError::Unsure)), "{down:?}");
        let asked = Instant::now();
        assert!(store.key_mark().await.is_err());
        assert!(asked.elapsed() < PATIENCE);
        assert!(matches!(store.health(), Health::Away(_)), "{:?}", store.health());
        server.restart();
        before = appended(before + 50).await;
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for worker in workers {
        let (kept, failed) = worker.await.unwrap();
        acknowledged.extend(kept);
        refused += failed;
    }
    assert!(refused > 0, "the crashes were noticed");
    let query = AuditQuery { limit: 1_000_000, look_max: 1_000_000, ..AuditQuery::default() };
    let entries = store.audit_page(&query).await.unwrap().entries;
    let mut events: Vec<_> = entries.into_iter().map(|entry| entry.draft.event).collect();
    events.sort_unstable();
    assert!(events.windows(2).all(|pair| pair[0] != pair[1]), "nothing is there twice");
    for event in &acknowledged {
        assert!(events.binary_search(event).is_ok(), "{event} was acknowledged and is lost");
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_refused_with_one_sentence() {
    let Some(server) = server() else { return };
    let database = Database::new();
    server.run("create role keeper login password 'right'");
    let port = server.port();
    let refused = |url: &str| match opened(url, options()) {
        Err(StoreError::Database { reason } | StoreError::Unavailable { reason }) => {
            assert!(!reason.contains("wrong-word") && !reason.contains('\n'), "{reason}");
            reason
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("{url} was opened"),
    };
    let check = |url: &str, texts: &[&str]| {
        let reason = refused(url);
        assert!(texts.iter().all(|text| reason.contains(text)), "{reason}");
    };
    let name = &database.name;
    check("nonsense", &["the address of the database is not valid"]);
    check(
        &format!("postgres://keeper:wrong-word@127.0.0.1:{port}/{name}"),
        &["refuses user \"keeper\"", "check the user and the password"],
    );
    check(
        &format!("postgres://keeper:right@127.0.0.1:{port}/missing"),
        &["has no database \"missing\"", "createdb missing"],
    );
    server.run("create database empty_one");
    check(
        &format!("postgres://keeper:right@127.0.0.1:{port}/empty_one"),
        &["user \"keeper\" lacks rights in database \"empty_one\"", "grant create"],
    );
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    check(&format!("postgres://keeper@127.0.0.1:{closed}/x"), &["cannot be reached", "refused"]);
    check(
        &format!("postgres://keeper:right@127.0.0.1:{port}/{name}?sslmode=require"),
        &["cannot be reached", "TLS"],
    );
    check(
        &format!("postgres://keeper:right@127.0.0.1:{port}/{name}?sslrootcert=/missing.pem"),
        &["sslrootcert", "/missing.pem"],
    );
    let client = on_runtime(connected(database.url())).unwrap();
    on_runtime(async move {
        client.batch_execute("insert into chelseru.migration (number, name) values (9999, 'later')").await
    })
    .unwrap();
    check(&database.url(), &["step 9999", "newer version"]);
    server.run("drop database empty_one");
    server.run("drop role keeper");
}

#[tokio::test]
async fn gateways_that_start_together_make_the_tables_once() {
    let Some(server) = server() else { return };
    server.run("create database new_one");
    let starts: Vec<_> = (0..6)
        .map(|_| {
            let url = server.pairs("new_one");
            std::thread::spawn(move || opened(&url, StoreOptions { shared: true, ..options() }))
        })
        .collect();
    for start in starts {
        let store = start.join().unwrap().unwrap();
        assert!(store.is_empty().await.unwrap() && store.is_unused().await.unwrap());
    }
    server.run("drop database new_one with (force)");
}

#[tokio::test]
async fn of_gateways_that_make_a_key_at_once_one_has_the_key_of_the_store() {
    let Some((stores, _database)) = two() else { return };
    let claimed =
        at_once(
            &stores,
            8,
            |store, n| async move { (n, store.key_mark_claim([n as u8; 16]).await.unwrap()) },
        );
    let claimed = claimed.await;
    let mut won = claimed.iter().filter(|(_, won)| *won);
    let (Some((winner, _)), None) = (won.next(), won.next()) else { panic!("{claimed:?}") };
    assert_eq!(stores[1].key_mark().await.unwrap(), Some(vec![*winner as u8; 16]));
    assert!(stores[0].is_empty().await.unwrap(), "a store is empty for as long as nobody logs in");
    assert!(stores[0].key_mark_claim([*winner as u8; 16]).await.unwrap(), "again");
    stores[0].key_mark_set([99; 16]).await.unwrap();
    assert!(stores[1].key_mark_claim([99; 16]).await.unwrap(), "an operator accepted another one");
    for engine in engines() {
        let store = TestStore::new(engine);
        assert!(store.key_mark_claim([1; 16]).await.unwrap());
        assert!(!store.key_mark_claim([2; 16]).await.unwrap());
        assert_eq!(store.key_mark().await.unwrap(), Some(vec![1; 16]));
    }
}

#[tokio::test]
async fn text_with_nul_is_kept_as_it_was_sent() {
    if server().is_none() {
        return;
    }
    let store = TestStore::new(Engine::Postgres);
    store.open_code("+98912\0", 1, 100).await;
    let mut draft = login("+98912\0", RIGHT, 100);
    draft.session.device_name = Some("a\0b\u{10FFFF}".to_owned());
    draft.session.user_agent = "agent\0".to_owned();
    let LoginOutcome::LoggedIn { user, session, .. } = store.login_with_challenge(draft).await.unwrap()
    else {
        panic!("not logged in")
    };
    let stored = store.session_get(user.id, session.id).await.unwrap().unwrap();
    assert_eq!(stored, session);
    assert_eq!(store.user_get(user.id).await.unwrap().unwrap().number, "+98912\0");
}

#[tokio::test]
async fn ids_beyond_the_databases_numbers_are_of_nobody() {
    if server().is_none() {
        return;
    }
    let store = TestStore::new(Engine::Postgres);
    let (user, session) = store.log_in(NUMBER, 100).await;
    use chelseru_store::{SessionId, UserId};
    assert_eq!(store.user_get(UserId(u64::MAX)).await.unwrap(), None);
    assert_eq!(store.session_get(user.id, SessionId(u64::MAX)).await.unwrap(), None);
    let all = store.sessions_of(user.id, Some(SessionId(u64::MAX)), usize::MAX).await.unwrap();
    assert_eq!(all, [session]);
    let touched = store.session_touch_many(vec![(user.id, SessionId(1), Timestamp::from_micros(u64::MAX))]);
    assert_eq!(touched.await.unwrap(), 1);
    let seen = store.sessions_of(user.id, None, 1).await.unwrap()[0].last_seen_at;
    assert_eq!(seen, Timestamp::from_micros(u64::MAX));
}

/// Waits for an outcome.
async fn until<T>(mut operation: impl AsyncFnMut() -> T, done: impl Fn(&T) -> bool) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        let outcome = operation().await;
        if done(&outcome) || Instant::now() >= until {
            return outcome;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
