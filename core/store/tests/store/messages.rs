//! Messages: one final state each, found again after a restart, moved only forward.

use chelseru_store::{
    Begun, IdempotencyDraft, MessageClass, MessageContent, MessageDraft, MessageEnd, MessageFilter,
    MessageInserted, MessageRange, MessageStatus, Progress, Quota, Recovered, Reported, Tried,
};

use super::*;

fn draft(id: u64, begun: Option<Begun>) -> MessageDraft {
    MessageDraft {
        id,
        number: NUMBER.to_owned(),
        content: MessageContent::Text("hello".to_owned()),
        class: MessageClass::Notice,
        owner: 1,
        created_at: Timestamp::from_micros(id),
        deadline: secs(3600),
        begun,
        tried: Vec::new(),
        idempotency: None,
        quota: None,
        queue_max: 10,
    }
}

fn begun(provider: &str) -> Begun {
    Begun { provider: provider.to_owned(), deduplicates: provider.starts_with("dedup") }
}

fn tried(code: &str) -> Vec<Tried> {
    vec![Tried { provider: "a".to_owned(), code: code.to_owned(), provider_code: "418".to_owned() }]
}

fn accepted(provider_message_id: &str, poll_at: Option<Timestamp>) -> MessageEnd {
    MessageEnd::Accepted {
        provider: "a".to_owned(),
        provider_message_id: provider_message_id.to_owned(),
        cost_rial: Some(1200),
        poll_at,
    }
}

impl TestStore {
    async fn insert(&self, draft: MessageDraft) -> MessageInserted {
        self.message_insert(draft).await.unwrap()
    }

    fn due(&self, at: u64) -> Vec<u64> {
        let due = self.messages_due(Timestamp::from_micros(at), 100, |_| false).unwrap();
        due.iter().map(|message| message.id).collect()
    }

    fn status(&self, id: u64) -> MessageStatus {
        self.message_get(id).unwrap().unwrap().status
    }
}

#[tokio::test]
async fn a_message_waits_is_begun_and_ends_once() {
    for engine in engines() {
        let store = TestStore::new(engine);
        assert_eq!(store.insert(draft(10, None)).await, MessageInserted::Inserted);
        assert_eq!((store.due(9), store.due(10)), (vec![], vec![10]));
        assert_eq!(store.messages_waiting().unwrap(), 1);
        assert!(store.message_begin(10, begun("a"), vec![], secs(1)).await.unwrap());
        assert_eq!((store.due(10), store.messages_waiting().unwrap()), (vec![], 0));
        // Tried again later, by the order of time.
        let retry = MessageEnd::Retry { due_at: secs(30), resume_with: None };
        store.message_end(10, retry, tried("throttled"), secs(2)).await.unwrap();
        assert_eq!(store.message_next_due().unwrap(), Some(secs(30)));
        assert!(store.message_begin(10, begun("a"), vec![], secs(30)).await.unwrap());
        let message = store.message_end(10, accepted("77", None), vec![], secs(31)).await.unwrap().unwrap();
        assert_eq!((message.status, message.provider_message_id.as_str()), (MessageStatus::Accepted, "77"));
        assert_eq!((message.rounds, message.tried, message.error.as_str()), (1, tried("throttled"), ""));
        // Whoever comes late changes nothing and must not send.
        assert!(!store.message_begin(10, begun("b"), vec![], secs(32)).await.unwrap());
        let late = store.message_end(10, MessageEnd::Failed, tried("late"), secs(33)).await.unwrap().unwrap();
        assert_eq!(late.status, MessageStatus::Accepted);
        assert_eq!((store.due(u64::MAX - 1), store.messages_waiting().unwrap()), (vec![], 0));
    }
}

#[tokio::test]
async fn a_message_that_expires_while_it_waits_leaves_the_queue() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.insert(draft(10, None)).await;
        store.message_end(10, MessageEnd::Expired, vec![], secs(3600)).await.unwrap();
        assert_eq!((store.due(u64::MAX - 1), store.status(10)), (vec![], MessageStatus::Expired));
        assert_eq!(store.messages_waiting().unwrap(), 0);
    }
}

#[tokio::test]
async fn what_a_crash_left_between_two_attempts_was_certainly_not_sent() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let hidden = MessageDraft { content: MessageContent::Hidden, ..draft(10, Some(begun("dedup"))) };
        store.insert(hidden).await;
        store.insert(draft(11, Some(begun("plain")))).await;
        store.insert(draft(12, Some(begun("plain")))).await;
        for id in [10, 11, 12] {
            assert!(store.message_rest(id, tried("throttled"), secs(1)).await.unwrap());
        }
        // The next attempt of one had begun.
        assert!(store.message_begin(12, begun("plain"), vec![], secs(2)).await.unwrap());
        let store = store.reopened();
        let recovered = store.messages_recover(secs(5)).await.unwrap();
        assert_eq!(recovered, Recovered { resumed: 1, unknown: 1, failed: 1 });
        let failed = store.message_get(10).unwrap().unwrap();
        assert_eq!((failed.status, failed.error.as_str()), (MessageStatus::Failed, "throttled"));
        let waiting = store.message_get(11).unwrap().unwrap();
        assert_eq!((waiting.status, waiting.resume_with), (MessageStatus::Queued, None));
        assert_eq!(store.status(12), MessageStatus::Unknown);
        assert_eq!(store.messages_recover(secs(5)).await.unwrap(), Recovered::default());
        // What has ended does not rest.
        assert!(!store.message_rest(10, vec![], secs(6)).await.unwrap());
    }
}

#[tokio::test]
async fn what_a_crash_left_begun_is_resumed_by_its_id_or_unknown() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.insert(draft(10, Some(begun("plain")))).await;
        store.insert(draft(11, Some(begun("dedup")))).await;
        store
            .insert(MessageDraft { content: MessageContent::Hidden, ..draft(12, Some(begun("dedup"))) })
            .await;
        store.insert(draft(13, None)).await;
        let store = store.reopened();
        let recovered = store.messages_recover(secs(5)).await.unwrap();
        assert_eq!(recovered, Recovered { resumed: 1, unknown: 2, failed: 0 });
        assert_eq!(store.status(10), MessageStatus::Unknown);
        assert_eq!(store.message_get(10).unwrap().unwrap().error, "interrupted");
        let resumed = store.message_get(11).unwrap().unwrap();
        assert_eq!((resumed.status, resumed.resume_with.as_deref()), (MessageStatus::Queued, Some("dedup")));
        assert_eq!(store.status(12), MessageStatus::Unknown);
        assert_eq!(store.status(13), MessageStatus::Queued);
        assert_eq!(store.messages_recover(secs(5)).await.unwrap(), Recovered::default());
        assert_eq!(store.messages_waiting().unwrap(), 2);
        // Too late to be asked again.
        store.insert(draft(14, Some(begun("dedup")))).await;
        assert_eq!(store.messages_recover(secs(3600)).await.unwrap().unknown, 1);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again() {
    for engine in engines() {
        let store = TestStore::new(engine);
        for id in 1..=10 {
            assert_eq!(store.insert(draft(id, None)).await, MessageInserted::Inserted);
        }
        assert_eq!(store.insert(draft(11, None)).await, MessageInserted::Full);
        assert!(store.message_get(11).unwrap().is_none());
        assert!(store.message_begin(1, begun("a"), vec![], secs(1)).await.unwrap());
        assert_eq!(store.insert(draft(11, None)).await, MessageInserted::Inserted);
    }
}

#[tokio::test]
async fn a_daily_cap_stops_at_its_number_and_starts_again_the_next_day() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let with = |id, day| MessageDraft {
            quota: Some(Quota { owner: 1, day, cap: 2 }),
            ..draft(id, Some(begun("a")))
        };
        assert_eq!(store.insert(with(1, 5)).await, MessageInserted::Inserted);
        assert_eq!(store.insert(with(2, 5)).await, MessageInserted::Inserted);
        assert_eq!(store.insert(with(3, 5)).await, MessageInserted::QuotaReached);
        assert_eq!(store.insert(with(4, 6)).await, MessageInserted::Inserted);
    }
}

#[tokio::test]
async fn an_idempotency_key_is_one_message_for_a_day() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let with = |id, request, at| MessageDraft {
            idempotency: Some(IdempotencyDraft { key: [7; 32], request: [request; 32], keys_max: 1 }),
            created_at: at,
            ..draft(id, Some(begun("a")))
        };
        assert_eq!(store.insert(with(1, 1, secs(10))).await, MessageInserted::Inserted);
        let MessageInserted::Repeated(Some(first)) = store.insert(with(2, 1, secs(11))).await else {
            panic!("not repeated")
        };
        assert_eq!(first.id, 1);
        assert_eq!(store.insert(with(3, 2, secs(11))).await, MessageInserted::KeyReused);
        // The bound on keys.
        let other = IdempotencyDraft { key: [8; 32], request: [1; 32], keys_max: 1 };
        let full = MessageDraft { idempotency: Some(other), ..draft(4, None) };
        assert_eq!(store.insert(full.clone()).await, MessageInserted::Full);
        let day = 24 * 60 * 60;
        assert_eq!(store.idempotency_purge(secs(10 + day - 1), 10).await.unwrap(), 0);
        // Over by time although it was not purged, and counted once.
        assert_eq!(store.insert(with(5, 2, secs(10 + day))).await, MessageInserted::Inserted);
        assert_eq!(store.idempotency_purge(secs(10 + 2 * day), 10).await.unwrap(), 1);
        assert_eq!(store.insert(full).await, MessageInserted::Inserted);
    }
}

#[tokio::test]
async fn reports_move_a_message_only_forward() {
    for engine in engines() {
        use Progress::{Delivered, Failed, NotKnown, Underway};
        use Reported::{Moved, Unchanged, UnknownId};
        for (reports, ends) in [
            (
                vec![(Underway, Unchanged), (Delivered, Moved), (Delivered, Unchanged)],
                MessageStatus::Delivered,
            ),
            (vec![(Delivered, Moved), (Failed, Unchanged), (Underway, Unchanged)], MessageStatus::Delivered),
            (vec![(Failed, Moved), (Underway, Unchanged), (Delivered, Moved)], MessageStatus::Delivered),
            (vec![(NotKnown, Unchanged), (Failed, Moved), (NotKnown, Unchanged)], MessageStatus::Failed),
        ] {
            let store = TestStore::new(engine);
            store.insert(draft(1, Some(begun("a")))).await;
            store.message_end(1, accepted("77", Some(secs(60))), vec![], secs(1)).await.unwrap();
            for (progress, outcome) in &reports {
                let reported = store.message_report("a", "77", *progress, secs(2)).await.unwrap();
                assert_eq!(reported, *outcome, "{progress:?} of {reports:?}");
            }
            assert_eq!(store.status(1), ends, "{reports:?}");
            assert!(store.messages_to_poll(secs(100), 10).unwrap().is_empty(), "an end is not polled");
            for (provider, id) in [("a", "78"), ("b", "77")] {
                let unknown = store.message_report(provider, id, Delivered, secs(2)).await.unwrap();
                assert_eq!(unknown, UnknownId);
            }
        }
    }
}

#[tokio::test]
async fn polling_comes_again_when_told_and_ends() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.insert(draft(1, Some(begun("a")))).await;
        store.message_end(1, accepted("77", Some(secs(60))), vec![], secs(1)).await.unwrap();
        let polled = |at| store.messages_to_poll(secs(at), 10).unwrap().len();
        assert_eq!((polled(59), polled(60)), (0, 1));
        store.messages_polled(vec![(1, Some(secs(120)))]).await.unwrap();
        assert_eq!((polled(60), polled(120)), (0, 1));
        store.messages_polled(vec![(1, None)]).await.unwrap();
        assert_eq!(polled(10_000), 0);
        assert_eq!(store.message_get(1).unwrap().unwrap().polls, 2);
    }
}

#[tokio::test]
async fn lists_filter_and_say_where_they_stopped() {
    for engine in engines() {
        let store = TestStore::new(engine);
        for id in 1..=9 {
            let number = number(id as usize % 2);
            store.insert(MessageDraft { number, owner: id % 3, ..draft(id, Some(begun("a"))) }).await;
        }
        store.message_end(4, accepted("77", None), vec![], secs(1)).await.unwrap();
        let all = MessageRange { from: 0, to: u64::MAX, ascending: false };
        let list = |filter: MessageFilter, range, limit, looked| {
            let page = store.messages_page(&filter, range, limit, looked).unwrap();
            (page.messages.iter().map(|message| message.id).collect::<Vec<_>>(), page.stopped_at)
        };
        let any = MessageFilter::default;
        assert_eq!(list(any(), all, 3, 100), (vec![9, 8, 7], None));
        assert_eq!(list(any(), MessageRange { to: 7, ..all }, 3, 100), (vec![6, 5, 4], None));
        assert_eq!(
            list(any(), MessageRange { from: 7, ascending: true, ..all }, 9, 100),
            (vec![7, 8, 9], None)
        );
        let of_number = MessageFilter { number: Some(number(1)), ..any() };
        assert_eq!(list(of_number, all, 9, 100), (vec![9, 7, 5, 3, 1], None));
        let accepted = MessageFilter { status: Some(MessageStatus::Accepted), ..any() };
        assert_eq!(list(accepted.clone(), all, 9, 100), (vec![4], None));
        assert_eq!(list(accepted, all, 9, 5), (vec![], Some(5)));
        let owned = MessageFilter { owner: Some(0), provider: Some(String::new()), ..any() };
        assert_eq!(list(owned, all, 9, 100), (vec![9, 6, 3], None));
    }
}

#[tokio::test]
async fn purging_removes_what_ended_and_keeps_what_waits() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.insert(draft(1, Some(begun("a")))).await;
        store.message_end(1, accepted("77", Some(secs(60))), vec![], secs(1)).await.unwrap();
        store.insert(draft(2, None)).await;
        store.insert(draft(30, Some(begun("a")))).await;
        assert_eq!(store.messages_purge(Timestamp::from_micros(20), 10).await.unwrap(), 1);
        assert!(store.message_get(1).unwrap().is_none());
        assert!(store.messages_to_poll(secs(100), 10).unwrap().is_empty());
        let gone = store.message_report("a", "77", Progress::Delivered, secs(2)).await.unwrap();
        assert_eq!(gone, Reported::UnknownId);
        assert_eq!((store.due(2), store.message_last_id().unwrap()), (vec![2], 30));
    }
}
