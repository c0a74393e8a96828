//! Notes: changed only from the value that the caller saw, bounded in number and size.

use chelseru_store::{NOTE_NAME_BYTES_MAX, NOTE_VALUE_BYTES_MAX, NOTES_MAX, NoteKind, NotePut};

use super::*;

const KIND: NoteKind = NoteKind::Filter;

async fn put(store: &TestStore, name: &str, seen: Option<&str>, value: Option<&str>) -> NotePut {
    let text = |text: Option<&str>| text.map(str::to_owned);
    store.note_put(KIND, name.to_owned(), text(seen), text(value)).await.unwrap()
}

async fn all(store: &TestStore, prefix: &str) -> Vec<(String, String)> {
    let notes = store.notes(KIND, prefix).await.unwrap();
    notes.into_iter().map(|note| (note.name, note.value)).collect()
}

#[tokio::test]
async fn a_note_changes_only_from_the_value_that_was_seen() {
    for engine in engines() {
        let store = TestStore::new(engine);
        assert_eq!(put(&store, "a", Some("x"), Some("1")).await, NotePut::Changed, "there is none");
        assert_eq!(put(&store, "a", None, Some("1")).await, NotePut::Done);
        assert_eq!(put(&store, "a", None, Some("2")).await, NotePut::Changed, "there is one");
        assert_eq!(put(&store, "a", Some("2"), None).await, NotePut::Changed);
        assert_eq!(put(&store, "a", Some("1"), Some("2")).await, NotePut::Done);
        assert_eq!(put(&store, "ab", None, Some("3")).await, NotePut::Done);
        assert_eq!(put(&store, "b", None, Some("4")).await, NotePut::Done);
        let store = store.reopened();
        assert_eq!(all(&store, "a").await, [("a".into(), "2".into()), ("ab".into(), "3".into())]);
        assert!(store.notes(NoteKind::Correction, "").await.unwrap().is_empty(), "another kind");
        assert_eq!(put(&store, "a", Some("2"), None).await, NotePut::Done);
        assert_eq!(put(&store, "a", None, None).await, NotePut::Done, "there is none, as the caller saw");
        assert_eq!(all(&store, "").await.len(), 2);
    }
}

#[tokio::test]
async fn notes_are_bounded_in_size_and_number() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (name, value) = ("n".repeat(NOTE_NAME_BYTES_MAX), "v".repeat(NOTE_VALUE_BYTES_MAX));
        assert_eq!(put(&store, &name, None, Some(&value)).await, NotePut::Done);
        assert_eq!(put(&store, &format!("{name}n"), None, Some("v")).await, NotePut::Full);
        assert_eq!(put(&store, "a", None, Some(&format!("{value}v"))).await, NotePut::Full);
        // A few at a time: they wait for each other, and none does so for longer than a connection is waited for.
        let mut puts = tokio::task::JoinSet::<Result<NotePut, chelseru_store::StoreError>>::new();
        for number in 1..NOTES_MAX {
            if puts.len() >= 32 {
                assert_eq!(puts.join_next().await.unwrap().unwrap().unwrap(), NotePut::Done);
            }
            let store = store.store.clone();
            puts.spawn(
                async move { store.note_put(KIND, number.to_string(), None, Some(String::new())).await },
            );
        }
        while let Some(put) = puts.join_next().await {
            assert_eq!(put.unwrap().unwrap(), NotePut::Done);
        }
        assert_eq!(put(&store, "one more", None, Some("v")).await, NotePut::Full);
        assert_eq!(
            put(&store, "1", Some(""), Some("changed")).await,
            NotePut::Done,
            "a change needs no room"
        );
        let other = store.note_put(NoteKind::Correction, "one".into(), None, Some("v".into()));
        assert_eq!(other.await.unwrap(), NotePut::Done, "each kind has a bound of its own");
    }
}
