//! Pictures of accounts: one for each, replaced and taken in one change, counted, and kept from users who are blocked.

use chelseru_store::chat::{FILE_OVERHEAD_BYTES, FileDraft, FileId, FileKept, StoredFile};
use chelseru_store::{ErasureBegun, ErasureDraft, ErasureProof, UserId};

use super::*;

/// Two files with 100 bytes together.
const QUOTA: u64 = 100 + 2 * FILE_OVERHEAD_BYTES;

fn draft(uploader: UserId, name: &str, bytes: u64) -> FileDraft {
    FileDraft {
        room: None,
        uploader,
        name: name.into(),
        folder: "/media/".into(),
        title: "me.png".into(),
        content_type: "image/png".into(),
        bytes,
        text: None,
        picture: None,
        quota_bytes: QUOTA,
        total_bytes: 10 * QUOTA,
        now: secs(200),
    }
}

async fn kept(store: &TestStore, uploader: UserId, name: &str, bytes: u64) -> StoredFile {
    store.chat_file_keep(draft(uploader, name, bytes)).await.unwrap().kept().expect("kept")
}

/// The file and the path that an account names.
async fn shown(store: &TestStore, user: UserId) -> Option<(FileId, String)> {
    let user = store.user_get(user).await.unwrap().expect("an account");
    user.avatar.map(|avatar| (avatar.file, avatar.path))
}

/// The marked files, however young.
async fn doomed(store: &TestStore) -> Vec<FileId> {
    let (files, _) = store.chat_files_doom(FileId(0), 100, secs(0)).await.unwrap();
    files.iter().map(|file| file.id).collect()
}

#[tokio::test]
async fn a_new_picture_replaces_the_former_one_in_the_same_change() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, _) = store.log_in(NUMBER, 100).await;
        assert_eq!(user.avatar, None);
        let first = kept(&store, user.id, "one.png", 10).await;
        assert_eq!((first.room, first.message), (None, Some(0)));
        assert_eq!(shown(&store, user.id).await, Some((first.id, "/media/one.png".to_owned())));
        assert_eq!(doomed(&store).await, []);
        let second = kept(&store, user.id, "two.png", 20).await;
        let store = store.reopened();
        assert_eq!(shown(&store, user.id).await, Some((second.id, "/media/two.png".to_owned())));
        assert_eq!(doomed(&store).await, [first.id]);
        // The former one counts until it is removed.
        assert_eq!(store.chat_file_bytes(user.id).await.unwrap(), 30 + 2 * FILE_OVERHEAD_BYTES);
        assert!(store.chat_file_forget(first.id).await.unwrap());
        assert_eq!(store.chat_file_bytes(user.id).await.unwrap(), 20 + FILE_OVERHEAD_BYTES);
        // Nothing else that changes an account loses it.
        let name = chelseru_store::UserChange { first_name: Some("Sara".into()), ..Default::default() };
        store.user_update(user.id, name).await.unwrap();
        store.log_in(NUMBER, 300).await;
        assert_eq!(shown(&store, user.id).await.map(|(file, _)| file), Some(second.id));
        assert_eq!(
            store.users_newest(None, 1).await.unwrap()[0].avatar.as_ref().map(|found| found.file),
            Some(second.id)
        );
    }
}

#[tokio::test]
async fn a_picture_is_taken_once_and_only_if_it_is_the_one_meant() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, _) = store.log_in(NUMBER, 100).await;
        assert!(!store.avatar_remove(user.id, None).await.unwrap());
        let first = kept(&store, user.id, "one.png", 10).await;
        let second = kept(&store, user.id, "two.png", 10).await;
        assert!(!store.avatar_remove(user.id, Some(first.id)).await.unwrap(), "it was replaced since");
        assert!(store.avatar_remove(user.id, Some(second.id)).await.unwrap());
        assert_eq!(shown(&store, user.id).await, None);
        assert_eq!(doomed(&store).await, [first.id, second.id]);
        assert!(!store.avatar_remove(user.id, None).await.unwrap());
        assert!(!store.avatar_remove(UserId(99), None).await.unwrap());
    }
}

#[tokio::test]
async fn a_refused_picture_leaves_the_former_one() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, _) = store.log_in(NUMBER, 100).await;
        let first = kept(&store, user.id, "one.png", 10).await;
        let keep = async |user, name, bytes| store.chat_file_keep(draft(user, name, bytes)).await.unwrap();
        assert_eq!(keep(user.id, "two.png", 91).await, FileKept::QuotaExceeded);
        assert_eq!(keep(UserId(99), "three.png", 1).await, FileKept::UploaderMissing);
        assert_eq!(store.chat_file_total().await.unwrap(), 10 + FILE_OVERHEAD_BYTES);
        assert_eq!(store.chat_file_by_name("three.png").await.unwrap(), None);
        assert_eq!(shown(&store, user.id).await.map(|(file, _)| file), Some(first.id));
        assert!(matches!(keep(user.id, "four.png", 90).await, FileKept::Kept(_)), "at the limit");
    }
}

#[tokio::test]
async fn a_blocked_user_does_not_get_it_and_neither_does_anybody_after_it_was_replaced() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (owner, _) = store.log_in(NUMBER, 100).await;
        let (reader, _) = store.log_in("+989120000002", 100).await;
        let file = kept(&store, owner.id, "one.png", 10).await;
        let found = async |id| store.avatar_for(id, reader.id).await.unwrap().map(|file| file.id);
        assert_eq!(found(file.id).await, Some(file.id));
        store.chat_block(owner.id, reader.id).await.unwrap();
        assert_eq!(found(file.id).await, None);
        assert_eq!(store.avatar_for(file.id, owner.id).await.unwrap().map(|file| file.id), Some(file.id));
        store.chat_unblock(owner.id, reader.id).await.unwrap();
        // Whom the reader blocks, the reader still sees.
        store.chat_block(reader.id, owner.id).await.unwrap();
        assert_eq!(found(file.id).await, Some(file.id));
        let next = kept(&store, owner.id, "two.png", 10).await;
        assert_eq!((found(file.id).await, found(next.id).await), (None, Some(next.id)));
        assert_eq!(found(FileId(99)).await, None);
    }
}

#[tokio::test]
async fn an_erased_account_has_no_picture_and_its_file_is_among_its_traces() {
    for engine in engines() {
        let store = TestStore::new(engine);
        let (user, _) = store.log_in(NUMBER, 100).await;
        let file = kept(&store, user.id, "one.png", 10).await;
        let draft = ErasureDraft {
            user: user.id,
            look: String::new(),
            proof: ErasureProof::Staff,
            forfeit: false,
            by: user.id,
            now: secs(300),
        };
        assert_eq!(store.erasure_begin(draft).await.unwrap(), ErasureBegun::Begun { forfeited: 0 });
        assert_eq!(store.user_get(user.id).await.unwrap(), None);
        let (traces, _) = store.erasure_files(user.id, FileId(0), 10).await.unwrap();
        assert_eq!(traces.iter().map(|trace| trace.id).collect::<Vec<_>>(), [file.id]);
        // The number's next account begins without one.
        assert_eq!(store.log_in(NUMBER, 400).await.0.avatar, None);
        // An upload that was under way is not the picture of an account that is gone.
        let late = store.chat_file_keep(super::avatar::draft(user.id, "late.png", 1)).await.unwrap();
        assert_eq!(late, FileKept::UploaderMissing);
    }
}
