//! Changes that meet each other, fail, panic or are left alone, over a real server.

use std::sync::atomic::AtomicU32;

use chelseru_postgres_server::server;
use tokio::sync::Barrier;

use super::*;
use crate::engine::postgres::server::{Database, opened, options};
use crate::engine::postgres::sql::Kept;
use crate::{Store, StoreOptions};

const PUT: &str = "insert into probe (key, value) values ($1, 'v') on conflict do nothing";
const INSERT: &str = "insert into probe (key, value) values ($1, 'v')";
const LOCK: &str = "select from probe where key = $1 for update";
const COUNT: &str = "select count(*) from probe";
const CONFLICT: &str = "select 1 / 0 from (select pg_advisory_xact_lock(1)) one";

/// A store on a database of its own, with options.
fn store(options: StoreOptions) -> Option<(Store, Database)> {
    server()?;
    let database = Database::new();
    Some((opened(&database.url(), options).unwrap(), database))
}

/// What two changes share: the first run of each waits for the other's.
struct Meeting {
    barrier: Barrier,
    runs: AtomicU32,
}

impl Meeting {
    fn new() -> Arc<Meeting> {
        Arc::new(Meeting { barrier: Barrier::new(2), runs: AtomicU32::new(0) })
    }

    async fn first_runs_meet(&self) {
        if self.runs.fetch_add(1, Ordering::SeqCst) < 2 {
            self.barrier.wait().await;
        }
    }

    fn runs(&self) -> u32 {
        self.runs.load(Ordering::SeqCst)
    }
}

async fn count(store: &Store) -> i64 {
    store.postgres().reader().await.unwrap().row(COUNT, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn of_two_changes_that_wait_for_each_other_both_are_made() {
    let Some((store, _database)) = store(options()) else { return };
    for key in [b"a", b"b"] {
        store.probe_put(key, b"v").await.unwrap();
    }
    let meeting = Meeting::new();
    let change = |first: &'static [u8], second: &'static [u8]| {
        store.postgres().change((Arc::clone(&meeting), first, second), |sql, (meeting, first, second)| {
            Box::pin(async move {
                sql.rows(LOCK, &[first]).await?;
                meeting.first_runs_meet().await;
                sql.rows(LOCK, &[second]).await?;
                Ok(())
            })
        })
    };
    let (one, other) = tokio::join!(change(b"a", b"b"), change(b"b", b"a"));
    one.unwrap();
    other.unwrap();
    assert_eq!(meeting.runs(), 3, "the one that the server chose ran again");
}

#[tokio::test]
async fn of_two_changes_that_make_the_same_row_the_second_finds_it() {
    let Some((store, _database)) = store(options()) else { return };
    let meeting = Meeting::new();
    let change = || {
        store.postgres().change(Arc::clone(&meeting), |sql, meeting| {
            Box::pin(async move {
                let key: &[u8] = b"a";
                let made = sql.found(LOCK, &[&key]).await?.is_none();
                meeting.first_runs_meet().await;
                if made {
                    sql.run(INSERT, &[&key]).await?;
                }
                Ok(made)
            })
        })
    };
    let (one, other) = tokio::join!(change(), change());
    assert_ne!(one.unwrap(), other.unwrap());
    assert_eq!(meeting.runs(), 3);
}

#[tokio::test]
async fn a_conflict_that_does_not_end_is_given_up_as_busy() {
    let Some((store, _database)) = store(options()) else { return };
    let runs = Arc::new(AtomicU32::new(0));
    let change = store.postgres().change(Arc::clone(&runs), |sql, runs| {
        Box::pin(async move {
            runs.fetch_add(1, Ordering::SeqCst);
            sql.run(PUT, &[&b"a".as_slice()]).await?;
            let raise = "do $$ begin raise exception 'conflict' using errcode = '40001'; end $$";
            sql.run(raise, &[]).await?;
            Ok(())
        })
    });
    assert!(matches!(change.await, Err(StoreError::Busy)));
    assert_eq!((runs.load(Ordering::SeqCst), count(&store).await), (RUNS_MAX, 0));
}

#[tokio::test]
async fn an_error_that_an_operation_overlooks_still_undoes_it() {
    let Some((store, _database)) = store(options()) else { return };
    let change = store.postgres().change((), |sql, ()| {
        Box::pin(async move {
            sql.run(PUT, &[&b"a".as_slice()]).await?;
            let _ = sql.rows(CONFLICT, &[]).await;
            Ok(())
        })
    });
    assert!(change.await.is_err());
    assert_eq!(count(&store).await, 0);
}

#[tokio::test]
async fn what_is_sent_with_the_commit_is_part_of_the_change() {
    let Some((store, _database)) = store(StoreOptions { connections_max: 1, ..options() }) else { return };
    let key = |key: &[u8]| -> Vec<Kept> { vec![Box::new(key.to_vec())] };
    let put = |first: Option<&'static [u8]>, last: &'static [u8], doomed: bool| {
        store.postgres().change((first, last, doomed), move |sql, (first, last, doomed)| {
            Box::pin(async move {
                if let Some(first) = first {
                    sql.run(INSERT, &[first]).await?;
                }
                sql.run_last(INSERT, key(last)).await?;
                if *doomed {
                    sql.run_last(CONFLICT, Vec::new()).await?;
                }
                sql.run_last(PUT, key(last)).await
            })
        })
    };
    // Alone, it goes to the server together with what begins and ends its transaction.
    put(None, b"a", false).await.unwrap();
    put(Some(b"b"), b"c", false).await.unwrap();
    assert_eq!(count(&store).await, 3);
    // One that fails undoes the whole change, and the connection serves on.
    let failed = put(Some(b"d"), b"e", true).await.unwrap_err();
    assert!(failed.to_string().contains("division by zero"), "{failed}");
    let failed = put(Some(b"d"), b"a", false).await.unwrap_err();
    assert!(failed.to_string().contains("23505"), "{failed}");
    assert_eq!(count(&store).await, 3);
    put(Some(b"d"), b"e", false).await.unwrap();
    assert_eq!(count(&store).await, 5);
}

#[tokio::test]
async fn a_change_that_sends_nothing_is_none() {
    let Some((store, _database)) = store(StoreOptions { connections_max: 1, ..options() }) else { return };
    store.postgres().change((), |_, ()| Box::pin(async { Ok(()) })).await.unwrap();
    assert!(matches!(
        store.postgres().change((), |_, ()| Box::pin(async { Err::<(), _>(StoreError::Busy) })).await,
        Err(StoreError::Busy)
    ));
    let marks = "select count(*) as marks from commit_mark";
    let row = store.postgres().reader().await.unwrap().row(marks, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>("marks"), 0, "a transaction writes its mark first");
    store.probe_put(b"a", b"v").await.unwrap();
    let row = store.postgres().reader().await.unwrap().row(marks, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>("marks"), 1);
}

#[tokio::test]
async fn a_change_that_panics_is_undone_and_the_store_goes_on() {
    let Some((store, _database)) = store(StoreOptions { connections_max: 1, ..options() }) else { return };
    let change = store.postgres().change((), |sql, ()| {
        Box::pin(async move {
            sql.run(PUT, &[&b"a".as_slice()]).await?;
            assert!(sql.rows(COUNT, &[]).await?.is_empty(), "it has a row");
            Ok(())
        })
    });
    assert!(matches!(change.await, Err(StoreError::Panicked)));
    assert_eq!(count(&store).await, 0);
    store.probe_put(b"b", b"v").await.unwrap();
    assert_eq!(count(&store).await, 1);
}

#[tokio::test]
async fn a_change_runs_to_its_end_when_its_caller_is_gone() {
    let Some((store, _database)) = store(options()) else { return };
    let (begun, proceed) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let change =
        store.postgres().change((Arc::clone(&begun), Arc::clone(&proceed)), |sql, (begun, proceed)| {
            Box::pin(async move {
                begun.wait().await;
                proceed.wait().await;
                sql.run(PUT, &[&b"a".as_slice()]).await?;
                Ok(())
            })
        });
    tokio::select! {
        biased;
        _ = begun.wait() => {}
        ended = change => panic!("{ended:?}"),
    }
    proceed.wait().await;
    let until = Instant::now() + Duration::from_secs(60);
    while count(&store).await == 0 {
        assert!(Instant::now() < until, "the change was not made");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn changes_beyond_the_connections_wait_for_a_while_and_beyond_the_queue_not_at_all() {
    let wait = Duration::from_millis(50);
    let few = StoreOptions { connections_max: 1, connection_wait: wait, queue_max: 2, ..options() };
    let Some((store, _database)) = store(few) else { return };
    let (begun, proceed) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let holding = store.clone();
    let (first, then) = (Arc::clone(&begun), Arc::clone(&proceed));
    let holder = tokio::spawn(async move {
        let change = holding.postgres().change((first, then), |_, (begun, proceed)| {
            Box::pin(async move {
                begun.wait().await;
                proceed.wait().await;
                Ok(())
            })
        });
        change.await
    });
    begun.wait().await;
    let since = Instant::now();
    let (second, third) = tokio::join!(store.probe_put(b"a", b"v"), store.probe_put(b"b", b"v"));
    assert!(matches!(second, Err(StoreError::Busy)), "{second:?}");
    assert!(matches!(third, Err(StoreError::Busy)), "{third:?}");
    assert!(store.has_refused_since(since));
    assert!(store.oldest_waiting() >= wait);
    proceed.wait().await;
    holder.await.unwrap().unwrap();
    store.probe_put(b"a", b"v").await.unwrap();
    assert_eq!((count(&store).await, store.oldest_waiting()), (1, Duration::ZERO));
}

/// The place of the broken connection is the only one.
#[tokio::test]
async fn a_read_whose_connection_broke_needs_no_second_place_in_the_pool() {
    let Some((store, database)) = store(StoreOptions { connections_max: 1, ..options() }) else { return };
    store.probe_put(b"a", b"v").await.unwrap();
    let reader = store.postgres().reader().await.unwrap();
    assert_eq!(reader.row(COUNT, &[]).await.unwrap().get::<_, i64>(0), 1);
    for _ in 0..2 {
        let pid: i32 = reader.row("select pg_backend_pid()", &[]).await.unwrap().get(0);
        database.server.run(&format!("select pg_terminate_backend({pid})"));
        let began_at = Instant::now();
        assert_eq!(reader.row(COUNT, &[]).await.unwrap().get::<_, i64>(0), 1);
        assert!(began_at.elapsed() < options().connection_wait, "{:?}", began_at.elapsed());
    }
    drop(reader);
    store.probe_put(b"b", b"v").await.unwrap();
    assert_eq!(count(&store).await, 2);
}

/// The first change of a connection prepares more than those after it.
#[tokio::test]
async fn a_conflict_of_the_first_statement_on_a_new_connection_runs_again() {
    let Some((store, _database)) = store(StoreOptions { connections_max: 1, ..options() }) else { return };
    let runs = Arc::new(AtomicU32::new(0));
    let change = store.postgres().change(Arc::clone(&runs), |sql, runs| {
        Box::pin(async move {
            if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                let raise = "do $$ begin raise exception 'conflict' using errcode = '40001'; end $$";
                sql.run(raise, &[]).await?;
            }
            sql.run(PUT, &[&b"a".as_slice()]).await?;
            Ok(())
        })
    });
    change.await.unwrap();
    assert_eq!((runs.load(Ordering::SeqCst), count(&store).await), (2, 1));
}
