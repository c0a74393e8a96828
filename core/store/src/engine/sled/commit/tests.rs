//! Group commit with a gated writer: batching, limits, failing and panicking changes, a failed disk.

use std::sync::mpsc;

use super::*;
use crate::engine::sled::error::engine_io;
use crate::engine::sled::parts::Splitter;
use crate::engine::sled::tree::{FailFlag, Tree};
use crate::space::tests::scripted;

/// A committer over a temporary tree. Each batch waits for a verdict: an error to fail with, or `None`.
struct Gated {
    committer: Committer,
    tree: sled::Tree,
    started: mpsc::Receiver<()>,
    verdict: mpsc::Sender<Option<&'static str>>,
    /// Free bytes of the disk; 800 are kept as a reserve.
    free: Arc<AtomicU64>,
}

fn gated(batch_max: usize, queue_max: usize) -> Gated {
    let db = sled::Config::new().temporary(true).open().unwrap();
    let tree: sled::Tree = (*db).clone();
    let free = Arc::new(AtomicU64::new(1 << 30));
    let (start, started) = mpsc::channel();
    let (verdict, next) = mpsc::channel();
    let target = tree.clone();
    let mut splitter = Splitter::new(tree.clone()).unwrap();
    let sink: Sink = Box::new(move |writes| {
        // The test may end first.
        let _ = start.send(());
        match next.recv().unwrap_or(None) {
            Some(error) => Err(io::Error::other(error)),
            None => splitter.batch(writes).and_then(|batch| target.apply_batch(batch)).map_err(engine_io),
        }
    });
    let txn = Txn::new(Tree::new(tree.clone(), FailFlag::default()));
    let space = Arc::new(Space::new(scripted(&free), Some(800)));
    let committer = Committer::start(txn, sink, space, batch_max, queue_max).unwrap();
    Gated { committer, tree, started, verdict, free }
}

impl Gated {
    fn put(&self, key: &'static str) -> oneshot::Receiver<Result<(), StoreError>> {
        self.try_put(key).expect("the queue has room")
    }

    fn try_put(&self, key: &'static str) -> Result<oneshot::Receiver<Result<(), StoreError>>, StoreError> {
        self.committer.submit(move |txn| {
            txn.put(key.into(), "v".into());
            Ok(())
        })
    }

    /// Puts a value of so many bytes with its key, if the disk has room when it runs.
    fn put_with_room(&self, key: &'static str, bytes: usize) -> mpsc::Receiver<Result<(), StoreError>> {
        let (sender, receiver) = mpsc::channel();
        let put = move |txn: &mut Txn| {
            txn.put(key.into(), vec![7; bytes - key.len()].into());
            Ok(())
        };
        self.committer
            .submit_with_room(put, move |result| sender.send(result).unwrap())
            .expect("it has room");
        receiver
    }

    fn holds(&self, key: &str) -> bool {
        self.tree.contains_key(key).unwrap()
    }
}

#[test]
fn changes_that_arrive_during_a_flush_share_the_next_one() {
    let store = gated(100, 100);
    let first = store.put("a");
    store.started.recv().unwrap();
    let others = ["b", "c", "d"].map(|key| store.put(key));
    store.verdict.send(None).unwrap();
    first.blocking_recv().unwrap().unwrap();
    store.started.recv().unwrap();
    store.verdict.send(None).unwrap();
    for other in others {
        other.blocking_recv().unwrap().unwrap();
    }
    assert_eq!(store.committer.stats().batches, 2);
    assert_eq!(store.committer.stats().changes, 4);
}

#[test]
fn nothing_is_answered_before_its_batch_is_durable() {
    let store = gated(100, 100);
    let mut answer = store.put("a");
    store.started.recv().unwrap();
    assert!(answer.try_recv().is_err(), "answered while the batch was being written");
    store.verdict.send(None).unwrap();
    answer.blocking_recv().unwrap().unwrap();
    assert!(store.holds("a"));
}

#[test]
fn a_batch_holds_at_most_batch_max_changes() {
    let store = gated(2, 100);
    let first = store.put("a");
    store.started.recv().unwrap();
    let others = ["b", "c", "d"].map(|key| store.put(key));
    for _ in 0..3 {
        store.verdict.send(None).unwrap();
    }
    first.blocking_recv().unwrap().unwrap();
    for other in others {
        other.blocking_recv().unwrap().unwrap();
    }
    assert_eq!(store.committer.stats().batches, 3);
}

#[test]
fn one_change_more_than_the_queue_holds_is_refused() {
    let store = gated(100, 2);
    let first = store.put("a");
    store.started.recv().unwrap();
    let waiting = ["b", "c"].map(|key| store.put(key));
    let before = Instant::now();
    assert!(!store.committer.has_refused_since(before));
    assert!(matches!(store.try_put("d"), Err(StoreError::Busy)));
    assert!(store.committer.has_refused_since(before));
    assert!(!store.committer.has_refused_since(Instant::now()));
    store.verdict.send(None).unwrap();
    store.verdict.send(None).unwrap();
    for answer in [first].into_iter().chain(waiting) {
        answer.blocking_recv().unwrap().unwrap();
    }
    store.verdict.send(None).unwrap();
    store.put("e").blocking_recv().unwrap().unwrap();
    assert!(!store.holds("d"));
}

#[test]
fn failing_and_panicking_changes_leave_no_trace_and_others_go_on() {
    let store = gated(100, 100);
    let first = store.put("a");
    store.started.recv().unwrap();
    let refused = store
        .committer
        .submit(|txn| {
            txn.put("refused".into(), "v".into());
            txn.delete("a".into());
            Err::<(), _>(StoreError::Closed)
        })
        .unwrap();
    let panicked = store
        .committer
        .submit(|txn| -> Result<(), StoreError> {
            txn.put("panicked".into(), "v".into());
            panic!("on purpose");
        })
        .unwrap();
    let sees = store
        .committer
        .submit(|txn| Ok((txn.get(b"a")?.is_some(), txn.get(b"refused")?, txn.get(b"panicked")?)))
        .unwrap();
    let last = store.put("b");
    store.verdict.send(None).unwrap();
    store.verdict.send(None).unwrap();
    first.blocking_recv().unwrap().unwrap();
    assert!(matches!(refused.blocking_recv().unwrap(), Err(StoreError::Closed)));
    assert!(matches!(panicked.blocking_recv().unwrap(), Err(StoreError::Panicked)));
    assert_eq!(sees.blocking_recv().unwrap().unwrap(), (true, None, None));
    last.blocking_recv().unwrap().unwrap();
    assert!(store.holds("a") && store.holds("b"));
    assert!(!store.holds("refused") && !store.holds("panicked"));
}

#[test]
fn after_one_write_error_the_store_has_failed_for_ever() {
    let store = gated(100, 100);
    let first = store.put("a");
    store.started.recv().unwrap();
    let waiting = store.put("b");
    store.verdict.send(Some("disk full")).unwrap();
    assert!(matches!(first.blocking_recv().unwrap(), Err(StoreError::Failed)));
    assert!(matches!(waiting.blocking_recv().unwrap(), Err(StoreError::Failed)));
    // The state is set after the batch is answered, and the waiting change is answered after the state is set.
    assert_eq!(store.committer.health(), Health::Failed("disk full".to_owned()));
    assert!(matches!(store.try_put("c"), Err(StoreError::Failed)));
    store.committer.close(None);
    assert_eq!(store.committer.health(), Health::Failed("disk full".to_owned()));
}

#[test]
fn closing_finishes_what_was_accepted_and_refuses_the_rest() {
    let store = gated(100, 100);
    let first = store.put("a");
    store.started.recv().unwrap();
    let waiting = store.put("b");
    store.verdict.send(None).unwrap();
    store.verdict.send(None).unwrap();
    store.committer.close(None);
    first.blocking_recv().unwrap().unwrap();
    waiting.blocking_recv().unwrap().unwrap();
    assert!(matches!(store.try_put("c"), Err(StoreError::Closed)));
    assert_eq!(store.committer.health(), Health::Closed);
    assert!(store.holds("b"));
}

#[test]
fn a_change_whose_caller_left_is_carried_out() {
    let store = gated(100, 100);
    drop(store.put("a"));
    store.started.recv().unwrap();
    store.verdict.send(None).unwrap();
    store.committer.close(None);
    assert!(store.holds("a"));
}

#[test]
fn a_change_that_only_reads_costs_no_flush() {
    let store = gated(100, 100);
    let seen = store.committer.submit(|txn| txn.get(b"a")).unwrap();
    assert_eq!(seen.blocking_recv().unwrap().unwrap(), None);
    assert_eq!(store.committer.stats().batches, 0);
}

#[test]
fn without_room_a_change_is_refused_and_the_store_goes_on_once_there_is_some() {
    let store = gated(100, 100);
    store.free.store(99, Ordering::Relaxed);
    // The disk is sampled at most every 100 ms.
    let refused = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        let mut answer = store.put("a");
        matches!(next_answer(&store, &mut answer), Err(StoreError::Full))
    });
    assert!(refused);
    assert_eq!(store.committer.health(), Health::Serving);
    store.free.store(1 << 30, Ordering::Relaxed);
    let taken = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        let mut answer = store.put("b");
        next_answer(&store, &mut answer).is_ok()
    });
    assert!(taken);
    assert!(store.holds("b"));
}

/// The answer to the only change, which may or may not be written.
fn next_answer(
    store: &Gated,
    answer: &mut oneshot::Receiver<Result<(), StoreError>>,
) -> Result<(), StoreError> {
    loop {
        if store.started.try_recv().is_ok() {
            store.verdict.send(None).unwrap();
        }
        match answer.try_recv() {
            Ok(answer) => return answer,
            Err(oneshot::error::TryRecvError::Empty) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_change_that_waits_is_seen_to_wait() {
    let store = gated(100, 100);
    assert_eq!(store.committer.oldest_waiting(), Duration::ZERO);
    let first = store.put("a");
    store.started.recv().unwrap();
    let second = store.put("b");
    std::thread::sleep(Duration::from_millis(20));
    assert!(store.committer.oldest_waiting() >= Duration::from_millis(20));
    store.verdict.send(None).unwrap();
    store.verdict.send(None).unwrap();
    first.blocking_recv().unwrap().unwrap();
    second.blocking_recv().unwrap().unwrap();
    store.committer.close(None);
    assert_eq!(store.committer.oldest_waiting(), Duration::ZERO);
}

#[test]
fn closing_does_not_wait_for_a_stuck_writer_longer_than_it_may() {
    let store = gated(100, 100);
    let _answer = store.put("a");
    store.started.recv().unwrap();
    assert!(!store.committer.close(Some(Duration::from_millis(20))));
    // Dropping it does not, either.
    drop(store.committer);
    drop(store.verdict);
}

#[test]
fn closing_in_time_says_so() {
    let store = gated(100, 100);
    let answer = store.put("a");
    store.verdict.send(None).unwrap();
    assert!(store.committer.close(Some(Duration::from_secs(60))));
    answer.blocking_recv().unwrap().unwrap();
}

#[test]
fn a_change_that_can_wait_is_refused_when_the_room_went_while_it_waited() {
    let store = gated(100, 100);
    let first = store.put("a");
    store.started.recv().unwrap();
    let (waits, other) = (store.put_with_room("waits", 10), store.put("b"));
    store.free.store(799, Ordering::Relaxed);
    store.verdict.send(None).unwrap();
    first.blocking_recv().unwrap().unwrap();
    store.started.recv().unwrap();
    store.verdict.send(None).unwrap();
    other.blocking_recv().unwrap().unwrap();
    assert!(matches!(waits.recv().unwrap(), Err(StoreError::Full)));
    assert!(store.holds("b") && !store.holds("waits"));
    assert_eq!(store.committer.health(), Health::Serving);
}

#[test]
fn a_batch_ends_when_it_would_not_fit_above_the_floor() {
    let store = gated(100, 100);
    let first = store.put("a");
    store.started.recv().unwrap();
    let waiting = ["b", "c", "d", "e", "f"].map(|key| store.put_with_room(key, 50));
    // 100 are the floor, and 8 are written for one.
    store.free.store(100 + 8 * 100, Ordering::Relaxed);
    store.verdict.send(None).unwrap();
    first.blocking_recv().unwrap().unwrap();
    for _ in 0..3 {
        store.started.recv().unwrap();
        assert!(waiting[4].try_recv().is_err(), "answered with the others");
        store.verdict.send(None).unwrap();
    }
    for answer in waiting {
        answer.recv().unwrap().unwrap();
    }
    let stats = store.committer.stats();
    assert_eq!((stats.batches, stats.changes), (4, 6));
}

#[test]
fn an_error_refuses_the_changes_that_the_batch_left() {
    let store = gated(100, 100);
    let first = store.put("a");
    store.started.recv().unwrap();
    let waiting = ["b", "c"].map(|key| store.put_with_room(key, 100));
    store.free.store(900, Ordering::Relaxed);
    store.verdict.send(None).unwrap();
    first.blocking_recv().unwrap().unwrap();
    store.free.store(1 << 30, Ordering::Relaxed);
    store.started.recv().unwrap();
    store.verdict.send(Some("disk full")).unwrap();
    for answer in waiting {
        assert!(matches!(answer.recv().unwrap(), Err(StoreError::Failed)));
    }
}
