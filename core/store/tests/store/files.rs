//! What files hold of their uploader's quota and of the limit of all files, on every engine.

use chelseru_store::UserId;
use chelseru_store::chat::{FILE_OVERHEAD_BYTES, FileDraft, FileId, FileKept, Picture, RoomId, Thumbnail};

use super::*;

const UPLOADER: UserId = UserId(1);
const ENOUGH: u64 = 1 << 20;

fn draft(name: &str, bytes: u64, text: Option<&str>) -> FileDraft {
    FileDraft {
        room: Some(RoomId(1)),
        uploader: UPLOADER,
        name: name.to_owned(),
        folder: "/media/".to_owned(),
        title: String::new(),
        content_type: "image/png".to_owned(),
        bytes,
        text: text.map(str::to_owned),
        picture: None,
        quota_bytes: ENOUGH,
        total_bytes: ENOUGH,
        now: secs(100),
    }
}

async fn held(store: &TestStore) -> [u64; 2] {
    [store.chat_file_bytes(UPLOADER).await.unwrap(), store.chat_file_total().await.unwrap()]
}

#[tokio::test]
async fn a_file_holds_bytes_thumbnail_text_and_a_fixed_part_until_it_is_forgotten() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let thumbnail = Thumbnail { bytes: 9, width: 1, height: 1 };
        let picture = Picture { width: 2, height: 2, thumbnail: Some(thumbnail) };
        let picture = FileDraft { picture: Some(picture), ..draft("a.png", 100, None) };
        for (draft, more) in [
            (picture, 109),
            (draft("b.png", 0, None), 0),
            // Characters of two bytes, and one that PostgreSQL keeps otherwise.
            (draft("c.png", 1, Some("سلام\0")), 10),
        ] {
            let before = held(&store).await;
            let file = store.chat_file_keep(draft).await.unwrap().kept().expect("kept");
            let after = before.map(|sum| sum + FILE_OVERHEAD_BYTES + more);
            assert_eq!(held(&store).await, after, "{engine:?}: {}", file.name);
        }
        let store = store.reopened();
        let (doomed, _) = store.chat_files_doom(FileId(0), 10, secs(200)).await.unwrap();
        assert_eq!(doomed.len(), 3);
        for file in doomed {
            assert!(store.chat_file_forget(file.id).await.unwrap());
        }
        assert_eq!(held(&store).await, [0, 0], "{engine:?}");
    }
}

#[tokio::test]
async fn an_empty_file_needs_its_part_of_the_quota_and_of_the_total() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let keep = async |name: &str, quota_bytes: u64, total_bytes: u64| {
            let draft = FileDraft { quota_bytes, total_bytes, ..draft(name, 0, Some("four")) };
            store.chat_file_keep(draft).await.unwrap()
        };
        let one = FILE_OVERHEAD_BYTES + 4;
        assert_eq!(keep("a", one - 1, ENOUGH).await, FileKept::QuotaExceeded);
        assert_eq!(keep("a", ENOUGH, one - 1).await, FileKept::TotalExceeded);
        assert!(matches!(keep("a", one, one).await, FileKept::Kept(_)), "{engine:?}: at the limit");
        assert_eq!(keep("b", one, ENOUGH).await, FileKept::QuotaExceeded, "{engine:?}: used up");
        assert_eq!(held(&store).await, [one, one]);
    }
}

/// On sled a step of the store's format does it; its test is beside it.
#[tokio::test]
async fn sums_of_before_are_taken_anew_on_postgresql() {
    if !engines().contains(&Engine::Postgres) {
        return;
    }
    let store = TestStore::new(Engine::Postgres);
    for (name, text) in [("a", None), ("b", Some("سلام"))] {
        store.chat_file_keep(draft(name, 10, text)).await.unwrap().kept().expect("kept");
    }
    let right = held(&store).await;
    assert_eq!(right, [2 * FILE_OVERHEAD_BYTES + 28; 2]);
    let database = store.database.as_ref().unwrap();
    // Of user 9 nothing is left.
    let older = "update stored_file_quota set bytes = 20; update stored_file_total set bytes = 27;
        insert into stored_file_quota (uploader, bytes) values (9, 7)";
    database.run(older).unwrap();
    assert_eq!(held(&store).await, [20, 27]);
    database.run(include_str!("../../src/engine/postgres/migrations/0014_file_bytes.sql")).unwrap();
    assert_eq!(held(&store).await, right);
    assert_eq!(store.chat_file_bytes(UserId(9)).await.unwrap(), 0);
}
