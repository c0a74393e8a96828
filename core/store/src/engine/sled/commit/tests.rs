//! Group commit with a gated writer: batching, bounds, failing and panicking changes, a failed disk.

use std::sync::mpsc;

use super::*;

/// A committer over a temporary tree whose batches wait for a word each: the error to fail with, or `None`.
struct Gated {
    committer: Committer,
    tree: sled::Tree,
    started: mpsc::Receiver<()>,
    verdict: mpsc::Sender<Option<&'static str>>,
}

fn gated(batch_max: usize, queue_max: usize) -> Gated {
    let db = sled::Config::new().temporary(true).open().unwrap();
    let tree: sled::Tree = (*db).clone();
    let (start, started) = mpsc::channel();
    let (verdict, next) = mpsc::channel();
    let target = tree.clone();
    let sink: Sink = Box::new(move |batch| {
        // The test may end first.
        let _ = start.send(());
        match next.recv().unwrap_or(None) {
            Some(error) => Err(io::Error::other(error)),
            None => target.apply_batch(batch).map_err(|error| io::Error::other(error.to_string())),
        }
    });
    let committer = Committer::start(Txn::new(tree.clone()), sink, batch_max, queue_max).unwrap();
    Gated { committer, tree, started, verdict }
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
    assert!(matches!(store.try_put("d"), Err(StoreError::Busy)));
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
    // The state is set after the batch was answered, and the waiting one is answered after the state is set.
    assert_eq!(store.committer.health(), Health::Failed("disk full".to_owned()));
    assert!(matches!(store.try_put("c"), Err(StoreError::Failed)));
    store.committer.close();
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
    store.committer.close();
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
    store.committer.close();
    assert!(store.holds("a"));
}

#[test]
fn a_change_that_only_reads_costs_no_flush() {
    let store = gated(100, 100);
    let seen = store.committer.submit(|txn| txn.get(b"a")).unwrap();
    assert_eq!(seen.blocking_recv().unwrap().unwrap(), None);
    assert_eq!(store.committer.stats().batches, 0);
}
