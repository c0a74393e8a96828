//! Messages: one final state each, recovered after a restart, moved only forward.

use chelseru_store::{
    SmsBegun, SmsClass, SmsContent, SmsDraft, SmsEnd, SmsFilter, SmsIdempotency, SmsInserted, SmsOrder,
    SmsOwner, SmsProgress, SmsQuota, SmsRange, SmsRecovered, SmsReported, SmsStatus, SmsText, SmsTried,
};

use super::*;

pub(super) fn draft(id: u64, begun: Option<SmsBegun>) -> SmsDraft {
    SmsDraft {
        id,
        number: NUMBER.to_owned(),
        content: SmsContent::Text("hello".to_owned()),
        class: SmsClass::Notice,
        owner: SmsOwner::ApiKey(1),
        created_at: Timestamp::from_micros(id),
        deadline: secs(3600),
        begun,
        tried: Vec::new(),
        idempotency: None,
        quota: None,
        queue_max: 10,
    }
}

pub(super) fn begun(provider: &str) -> SmsBegun {
    SmsBegun { provider: provider.to_owned(), deduplicates: provider.starts_with("dedup") }
}

fn tried(code: &str) -> Vec<SmsTried> {
    vec![SmsTried { provider: "a".to_owned(), code: code.to_owned(), provider_code: Some("418".to_owned()) }]
}

fn accepted(provider_message_id: &str, poll_at: Option<Timestamp>) -> SmsEnd {
    SmsEnd::Accepted {
        provider: "a".to_owned(),
        provider_message_id: Some(provider_message_id.to_owned()).filter(|id| !id.is_empty()),
        cost_rial: Some(1200),
        poll_at,
    }
}

impl TestStore {
    async fn insert(&self, draft: SmsDraft) -> SmsInserted {
        self.sms_insert(draft).await.unwrap()
    }

    async fn due(&self, at: u64) -> Vec<u64> {
        let due = Due::new(Timestamp::from_micros(at), Duration::from_secs(3600));
        let due = self.sms_due(due, 100, &|_| false).await.unwrap();
        due.iter().map(|message| message.id).collect()
    }

    async fn status(&self, id: u64) -> SmsStatus {
        self.sms_get(id).await.unwrap().unwrap().status
    }
}

#[tokio::test]
async fn a_message_waits_is_begun_and_ends_once() {
    for engine in engines() {
        let store = TestStore::new(engine);
        assert_eq!(store.insert(draft(10, None)).await, SmsInserted::Inserted);
        assert_eq!((store.due(9).await, store.due(10).await), (vec![], vec![10]));
        assert_eq!(store.sms_waiting().await.unwrap(), 1);
        assert!(store.sms_begin(10, begun("a"), vec![], secs(1)).await.unwrap());
        assert_eq!((store.due(10).await, store.sms_waiting().await.unwrap()), (vec![], 0));
        // Retried later, in order of time.
        let retry = SmsEnd::Retry { due_at: secs(30), resume_with: None };
        store.sms_end(10, retry, tried("throttled"), secs(2)).await.unwrap();
        assert_eq!(store.sms_next_due().await.unwrap(), Some(secs(30)));
        // More than an hour ahead: the clock was.
        store.insert(SmsDraft { created_at: secs(90_000), ..draft(20, None) }).await;
        assert_eq!((store.due(0).await, store.due(secs(30).as_micros()).await), (vec![20], vec![10, 20]));
        assert!(store.sms_end(20, SmsEnd::Expired, vec![], secs(3)).await.unwrap().is_some());
        assert!(store.sms_begin(10, begun("a"), vec![], secs(30)).await.unwrap());
        let message = store.sms_end(10, accepted("77", None), vec![], secs(31)).await.unwrap().unwrap();
        assert_eq!(
            (message.status, message.provider_message_id.as_deref()),
            (SmsStatus::Accepted, Some("77"))
        );
        assert_eq!((message.rounds, message.tried, message.error), (1, tried("throttled"), None));
        // A late attempt changes nothing and must not send.
        assert!(!store.sms_begin(10, begun("b"), vec![], secs(32)).await.unwrap());
        let late = store.sms_end(10, SmsEnd::Failed, tried("late"), secs(33)).await.unwrap().unwrap();
        assert_eq!(late.status, SmsStatus::Accepted);
        assert_eq!((store.due(u64::MAX - 1).await, store.sms_waiting().await.unwrap()), (vec![], 0));
    }
}

#[tokio::test]
async fn a_message_that_expires_while_it_waits_leaves_the_queue() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.insert(draft(10, None)).await;
        store.sms_end(10, SmsEnd::Expired, vec![], secs(3600)).await.unwrap();
        assert_eq!((store.due(u64::MAX - 1).await, store.status(10).await), (vec![], SmsStatus::Expired));
        assert_eq!(store.sms_waiting().await.unwrap(), 0);
    }
}

#[tokio::test]
async fn what_a_crash_left_between_two_attempts_was_certainly_not_sent() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let hidden = SmsDraft { content: SmsContent::Hidden, ..draft(10, Some(begun("dedup"))) };
        store.insert(hidden).await;
        store.insert(draft(11, Some(begun("plain")))).await;
        store.insert(draft(12, Some(begun("plain")))).await;
        for id in [10, 11, 12] {
            assert!(store.sms_rest(id, tried("throttled"), secs(1)).await.unwrap());
        }
        // The next attempt of one had begun.
        assert!(store.sms_begin(12, begun("plain"), vec![], secs(2)).await.unwrap());
        let store = store.reopened();
        let recovered = store.sms_recover(secs(5)).await.unwrap();
        assert_eq!(recovered, SmsRecovered { resumed: 1, unknown: 1, failed: 1 });
        let failed = store.sms_get(10).await.unwrap().unwrap();
        assert_eq!((failed.status, failed.error.as_deref()), (SmsStatus::Failed, Some("throttled")));
        let waiting = store.sms_get(11).await.unwrap().unwrap();
        assert_eq!((waiting.status, waiting.resume_with), (SmsStatus::Queued, None));
        assert_eq!(store.status(12).await, SmsStatus::Unknown);
        assert_eq!(store.sms_recover(secs(5)).await.unwrap(), SmsRecovered::default());
        // An ended message does not rest.
        assert!(!store.sms_rest(10, vec![], secs(6)).await.unwrap());
    }
}

#[tokio::test]
async fn what_a_crash_left_begun_is_resumed_by_its_id_or_unknown() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.insert(draft(10, Some(begun("plain")))).await;
        store.insert(draft(11, Some(begun("dedup")))).await;
        store.insert(SmsDraft { content: SmsContent::Hidden, ..draft(12, Some(begun("dedup"))) }).await;
        store.insert(draft(13, None)).await;
        let store = store.reopened();
        let recovered = store.sms_recover(secs(5)).await.unwrap();
        assert_eq!(recovered, SmsRecovered { resumed: 1, unknown: 2, failed: 0 });
        assert_eq!(store.status(10).await, SmsStatus::Unknown);
        assert_eq!(store.sms_get(10).await.unwrap().unwrap().error.as_deref(), Some("interrupted"));
        let resumed = store.sms_get(11).await.unwrap().unwrap();
        assert_eq!((resumed.status, resumed.resume_with.as_deref()), (SmsStatus::Queued, Some("dedup")));
        assert_eq!(store.status(12).await, SmsStatus::Unknown);
        assert_eq!(store.status(13).await, SmsStatus::Queued);
        assert_eq!(store.sms_recover(secs(5)).await.unwrap(), SmsRecovered::default());
        assert_eq!(store.sms_waiting().await.unwrap(), 2);
        // Too late to be asked again.
        store.insert(draft(14, Some(begun("dedup")))).await;
        assert_eq!(store.sms_recover(secs(3600)).await.unwrap().unknown, 1);
    }
}

#[tokio::test]
async fn a_full_queue_refuses_and_takes_again() {
    for engine in engines() {
        let store = TestStore::new(engine);
        for id in 1..=10 {
            assert_eq!(store.insert(draft(id, None)).await, SmsInserted::Inserted);
        }
        assert_eq!(store.insert(draft(11, None)).await, SmsInserted::Full);
        assert!(store.sms_get(11).await.unwrap().is_none());
        assert!(store.sms_begin(1, begun("a"), vec![], secs(1)).await.unwrap());
        assert_eq!(store.insert(draft(11, None)).await, SmsInserted::Inserted);
    }
}

#[tokio::test]
async fn a_daily_cap_stops_at_its_number_and_starts_again_the_next_day() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let with = |id, day| SmsDraft {
            quota: Some(SmsQuota { api_key: 1, day, cap: 2 }),
            ..draft(id, Some(begun("a")))
        };
        assert_eq!(store.insert(with(1, 5)).await, SmsInserted::Inserted);
        assert_eq!(store.insert(with(2, 5)).await, SmsInserted::Inserted);
        assert_eq!(store.insert(with(3, 5)).await, SmsInserted::QuotaReached);
        assert_eq!(store.insert(with(4, 6)).await, SmsInserted::Inserted);
    }
}

#[tokio::test]
async fn an_idempotency_key_is_one_message_for_a_day() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let with = |id, request, at| SmsDraft {
            idempotency: Some(SmsIdempotency { key: [7; 32], request: [request; 32], keys_max: 1 }),
            created_at: at,
            ..draft(id, Some(begun("a")))
        };
        assert_eq!(store.insert(with(1, 1, secs(10))).await, SmsInserted::Inserted);
        let SmsInserted::Repeated(Some(first)) = store.insert(with(2, 1, secs(11))).await else {
            panic!("not repeated")
        };
        assert_eq!(first.id, 1);
        assert_eq!(store.insert(with(3, 2, secs(11))).await, SmsInserted::KeyReused);
        // The limit of keys.
        let other = SmsIdempotency { key: [8; 32], request: [1; 32], keys_max: 1 };
        let full = SmsDraft { idempotency: Some(other), ..draft(4, None) };
        assert_eq!(store.insert(full.clone()).await, SmsInserted::Full);
        let day = 24 * 60 * 60;
        assert_eq!(store.sms_idempotency_purge(secs(10 + day - 1), 10).await.unwrap(), 0);
        // Expired although not purged, and counted once.
        assert_eq!(store.insert(with(5, 2, secs(10 + day))).await, SmsInserted::Inserted);
        assert_eq!(store.sms_idempotency_purge(secs(10 + 2 * day), 10).await.unwrap(), 1);
        assert_eq!(store.insert(full).await, SmsInserted::Inserted);
    }
}

#[tokio::test]
async fn reports_move_a_message_only_forward() {
    for engine in engines() {
        use SmsProgress::{Delivered, Failed, NotKnown, Underway};
        use SmsReported::{Moved, Unchanged, UnknownId};
        for (reports, ends) in [
            (vec![(Underway, Unchanged), (Delivered, Moved), (Delivered, Unchanged)], SmsStatus::Delivered),
            (vec![(Delivered, Moved), (Failed, Unchanged), (Underway, Unchanged)], SmsStatus::Delivered),
            (vec![(Failed, Moved), (Underway, Unchanged), (Delivered, Moved)], SmsStatus::Delivered),
            (vec![(NotKnown, Unchanged), (Failed, Moved), (NotKnown, Unchanged)], SmsStatus::Failed),
        ] {
            let store = TestStore::new(engine);
            store.insert(draft(1, Some(begun("a")))).await;
            store.sms_end(1, accepted("77", Some(secs(60))), vec![], secs(1)).await.unwrap();
            for (progress, outcome) in &reports {
                let reported = store.sms_report("a", "77", *progress, secs(2)).await.unwrap();
                assert_eq!(reported, *outcome, "{progress:?} of {reports:?}");
            }
            assert_eq!(store.status(1).await, ends, "{reports:?}");
            assert!(store.sms_to_poll(secs(100), 10).await.unwrap().is_empty(), "an end is not polled");
            for (provider, id) in [("a", "78"), ("b", "77")] {
                let unknown = store.sms_report(provider, id, Delivered, secs(2)).await.unwrap();
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
        store.sms_end(1, accepted("77", Some(secs(60))), vec![], secs(1)).await.unwrap();
        let polled = async |at| store.sms_to_poll(secs(at), 10).await.unwrap().len();
        assert_eq!((polled(59).await, polled(60).await), (0, 1));
        store.sms_polled(vec![(1, Some(secs(120)))]).await.unwrap();
        assert_eq!((polled(60).await, polled(120).await), (0, 1));
        store.sms_polled(vec![(1, None)]).await.unwrap();
        assert_eq!(polled(10_000).await, 0);
        assert_eq!(store.sms_get(1).await.unwrap().unwrap().polls, 2);
    }
}

#[tokio::test]
async fn lists_filter_and_say_where_they_stopped() {
    for engine in engines() {
        let store = TestStore::new(engine);
        for id in 1..=9 {
            let number = number(id as usize % 2);
            store
                .insert(SmsDraft { number, owner: SmsOwner::from(id % 3), ..draft(id, Some(begun("a"))) })
                .await;
        }
        store.sms_end(4, accepted("77", None), vec![], secs(1)).await.unwrap();
        let all = SmsRange { from: 0, to: u64::MAX, order: SmsOrder::NewestFirst };
        let list = async |filter: SmsFilter, range, limit, looked| {
            let page = store.sms_page(&filter, range, limit, looked).await.unwrap();
            (page.messages.iter().map(|message| message.id).collect::<Vec<_>>(), page.stopped_at)
        };
        let any = SmsFilter::default;
        assert_eq!(list(any(), all, 3, 100).await, (vec![9, 8, 7], None));
        assert_eq!(list(any(), SmsRange { to: 7, ..all }, 3, 100).await, (vec![6, 5, 4], None));
        assert_eq!(
            list(any(), SmsRange { from: 7, order: SmsOrder::OldestFirst, ..all }, 9, 100).await,
            (vec![7, 8, 9], None)
        );
        let of_number = SmsFilter { number: Some(number(1)), ..any() };
        assert_eq!(list(of_number, all, 9, 100).await, (vec![9, 7, 5, 3, 1], None));
        let accepted = SmsFilter { status: Some(SmsStatus::Accepted), ..any() };
        assert_eq!(list(accepted.clone(), all, 9, 100).await, (vec![4], None));
        assert_eq!(list(accepted, all, 9, 5).await, (vec![], Some(5)));
        let owned = SmsFilter { owner: Some(SmsOwner::Gateway), ..any() };
        assert_eq!(list(owned, all, 9, 100).await, (vec![9, 6, 3], None));
        let templated = SmsContent::Template {
            name: "welcome".into(),
            values: vec![("name".into(), "Sara".into())],
            fallback_text: None,
        };
        let contents = [SmsContent::Text("Your ORDER 77 left".into()), templated, SmsContent::Hidden];
        for (id, content) in (20..).zip(contents) {
            store.insert(SmsDraft { content, ..draft(id, Some(begun("a"))) }).await;
        }
        let holding = |parts: &[&str]| {
            let parts = parts.iter().map(|part| (*part).to_owned()).collect();
            SmsFilter { text: Some(SmsText { parts, folded: str::to_lowercase }), ..any() }
        };
        for (parts, found) in [
            (&["order", "77"][..], vec![20]),
            (&["order", "78"], vec![]),
            (&["sara"], vec![21]),
            (&["welcome"], vec![21]),
            (&[""], vec![21, 20]),
        ] {
            let texts = SmsRange { from: 20, ..all };
            assert_eq!(list(holding(parts), texts, 9, 100).await, (found, None), "{parts:?}");
        }
    }
}

#[tokio::test]
async fn purging_removes_what_ended_and_keeps_what_waits() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.insert(draft(1, Some(begun("a")))).await;
        store.sms_end(1, accepted("77", Some(secs(60))), vec![], secs(1)).await.unwrap();
        store.insert(draft(2, None)).await;
        store.insert(draft(30, Some(begun("a")))).await;
        assert_eq!(store.sms_purge(Timestamp::from_micros(20), 10).await.unwrap(), 1);
        assert!(store.sms_get(1).await.unwrap().is_none());
        assert!(store.sms_to_poll(secs(100), 10).await.unwrap().is_empty());
        let gone = store.sms_report("a", "77", SmsProgress::Delivered, secs(2)).await.unwrap();
        assert_eq!(gone, SmsReported::UnknownId);
        assert_eq!((store.due(2).await, store.sms_last_id().await.unwrap()), (vec![2], 30));
    }
}
