//! Traces of an erased account: whatever interrupts their removal, another run finishes it.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use chelseru_domain::chat::{FileDraft, FileKept, StoredFile};
use chelseru_domain::erasure::{EraseFault, Eraser, FileBytes};
use chelseru_domain::files::place::PlaceError;
use chelseru_store::{ErasureBegun, ErasureDraft, ErasureProof, UserDraft, UserMade};

use super::*;

/// A disk that refuses so many removals before it obeys, and never ends the uploads of one user.
#[derive(Default)]
struct Disk {
    refuses: AtomicUsize,
    uploading: Option<UserId>,
    removed: Mutex<Vec<String>>,
}

impl FileBytes for Disk {
    async fn remove(&self, file: &StoredFile) -> Result<(), PlaceError> {
        if self.refuses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        {
            return Err(PlaceError::Away("no".to_owned()));
        }
        self.removed.lock().unwrap().push(file.name.clone());
        Ok(())
    }

    async fn abandon(&self, uploader: UserId) -> io::Result<()> {
        match self.uploading {
            Some(user) if user == uploader => Err(io::ErrorKind::ResourceBusy.into()),
            _ => Ok(()),
        }
    }
}

async fn close(world: &World, user: u64) {
    let draft = ErasureDraft {
        user: UserId(user),
        look: String::new(),
        proof: ErasureProof::Staff,
        forfeit: false,
        by: UserId(3),
        now: START,
    };
    let begun = world.chat.store().erasure_begin(draft).await.unwrap();
    assert_eq!(begun, ErasureBegun::Begun { forfeited: 0 });
}

async fn keep(world: &World, room: RoomId, name: &str) -> StoredFile {
    let draft = FileDraft {
        room: Some(room),
        uploader: UserId(1),
        name: name.to_owned(),
        folder: "/media/".to_owned(),
        title: name.to_owned(),
        content_type: "image/png".to_owned(),
        bytes: 10,
        text: None,
        picture: None,
        quota_bytes: 10_000,
        total_bytes: 10_000,
        now: START,
    };
    match world.chat.file_keep(draft).await.unwrap() {
        FileKept::Kept(file) => file,
        refused => panic!("{refused:?}"),
    }
}

#[tokio::test]
async fn an_interrupted_erasure_begins_again_and_members_see_it_once() {
    let mut world = World::new(3).await;
    let members = vec![UserId(2), UserId(3)];
    let group = world.chat.group_create(UserId(1), members, None, RoomEdit::default()).await.unwrap().id;
    let (pair, _) = world.chat.pair_open(UserId(1), UserId(2), RoomEdit::default()).await.unwrap();
    for name in ["a.png", "b.png"] {
        let file = keep(&world, group, name).await;
        let post = Post { file: Some(file.id), ..post(1, name, Some(name)) };
        world.chat.post_and_wait(group, post).await.unwrap();
    }
    close(&world, 1).await;

    let disk = Disk { refuses: AtomicUsize::new(2), ..Disk::default() };
    for _ in 0..2 {
        let eraser = Eraser::new(world.chat.store().clone(), world.chat.clone());
        assert!(eraser.run(&disk).await.is_err());
        drop(eraser);
        world = world.restarted().await;
    }
    let eraser = Eraser::new(world.chat.store().clone(), world.chat.clone());
    assert_eq!((eraser.run(&disk).await.unwrap(), eraser.run(&disk).await.unwrap()), (1, 0));
    assert_eq!(*disk.removed.lock().unwrap(), ["a.png", "b.png"]);
    assert_eq!(world.chat.store().chat_file_total().await.unwrap(), 0);

    // The oldest member owns the group, and each change was shown once.
    let room = world.chat.room(group, UserId(2)).await.unwrap().room;
    assert_eq!((room.owner, room.members), (UserId(2), 2));
    let pair = world.chat.room(pair.id, UserId(2)).await.unwrap().room;
    assert_eq!((pair.members, world.chat.rooms(UserId(1)).await.unwrap().len()), (1, 0));
    let page = world.chat.messages_before(group, u64::MAX, 10).await.unwrap();
    let left: Vec<_> =
        page.messages.iter().map(|one| (one.body.text.as_str(), one.file, &one.client_id)).collect();
    assert_eq!(left, [("b.png", None, &None), ("a.png", None, &None)]);
    let seen = world.watcher.seen.lock().unwrap();
    let count = |fits: fn(&ChatEvent) -> bool| {
        seen.iter().filter(|(room, event)| *room == group && fits(event)).count()
    };
    assert_eq!(count(|event| matches!(event, ChatEvent::Removed { user: UserId(1), .. })), 1);
    assert_eq!(count(|event| matches!(event, ChatEvent::Edited { .. })), 2);
    assert_eq!(count(|event| matches!(event, ChatEvent::Updated { .. })), 1);
}

#[tokio::test]
async fn an_erasure_removes_the_looks_of_older_versions() {
    let world = World::new(2).await;
    let store = world.chat.store();
    let register = async |username: &str, look: &str| {
        let draft = UserDraft {
            username: username.to_owned(),
            look: look.to_owned(),
            email: String::new(),
            password_hash: "hash".to_owned(),
            staff: false,
            superuser: false,
            now: START,
        };
        store.user_register(draft).await.unwrap()
    };
    let UserMade::Made(user) = register("sara", "sara").await else { panic!("taken") };
    store.looks_enter(|name| format!("older {name}"), 10).await.unwrap();
    close(&world, user.id.0).await;
    if !place::over_postgres() {
        assert_eq!(register("other", "older sara").await, UserMade::NameTaken, "a step removes it");
    }
    let eraser = Eraser::new(store.clone(), world.chat.clone());
    assert_eq!(eraser.run(&Disk::default()).await.unwrap(), 1);
    assert!(matches!(register("other", "older sara").await, UserMade::Made(_)));
}

#[tokio::test]
async fn an_erasure_removes_that_others_declined_the_accounts_pairs() {
    let world = World::with(2, ChatRules::default()).await;
    let (pair, _) = world.chat.pair_open(UserId(1), UserId(2), RoomEdit::default()).await.unwrap();
    world.ask(pair.id, 2, RoomRequest::Decline).await.unwrap();
    close(&world, 1).await;
    let eraser = Eraser::new(world.chat.store().clone(), world.chat.clone());
    assert_eq!(eraser.run(&Disk::default()).await.unwrap(), 1);
    assert_eq!(world.chat.store().erasure_own(UserId(2), 10).await.unwrap(), 0);
}

#[tokio::test]
async fn an_erasure_that_fails_does_not_stop_those_behind_it() {
    let world = World::new(3).await;
    for user in 1..=2 {
        world.chat.group_create(UserId(user), vec![UserId(3)], None, RoomEdit::default()).await.unwrap();
        close(&world, user).await;
    }
    let eraser = Eraser::new(world.chat.store().clone(), world.chat.clone());
    let rooms = async |user| world.chat.rooms(UserId(user)).await.unwrap().len();
    let disk = Disk { uploading: Some(UserId(1)), ..Disk::default() };
    for _ in 0..2 {
        let failed = eraser.run(&disk).await;
        assert!(
            matches!(&failed, Err(EraseFault::Disk(error)) if error.kind() == io::ErrorKind::ResourceBusy),
            "{failed:?}"
        );
        assert_eq!((rooms(1).await, rooms(2).await), (1, 0));
        let open = world.chat.store().erasures_open(10).await.unwrap();
        assert_eq!(open.iter().map(|erasure| erasure.user.0).collect::<Vec<_>>(), [1]);
    }
    assert_eq!(eraser.run(&Disk::default()).await.unwrap(), 1);
    assert_eq!((rooms(1).await, rooms(3).await), (0, 2));
}

#[tokio::test]
async fn old_messages_go_in_steps_and_keep_their_numbers() {
    let place = Place::new();
    let store = place.open(&StoreOptions::default());
    let contacts = MasterKey::from_bytes([7; 32]).derive(KeyUse::Contacts);
    let clock = Arc::new(ManualClock::at(START));
    let (chat, queue) = ChatService::new(store.clone(), clock.clone(), open(), contacts);
    let (chat, watcher) = (Arc::new(chat), Arc::<Watcher>::default());
    tokio::spawn(ChatService::publish_all(queue, watcher.clone(), None));
    for user in 1..=2 {
        log_in(&store, &format!("+98912000{user:04}")).await;
    }
    let mut rooms = Vec::new();
    for _ in 0..3 {
        let room = chat.group_create(UserId(1), vec![UserId(2)], None, RoomEdit::default()).await.unwrap().id;
        for text in ["old", "older"] {
            chat.post_and_wait(room, post(1, text, None)).await.unwrap();
        }
        rooms.push(room);
    }
    let day = std::time::Duration::from_secs(86_400);
    clock.advance(day * 2);
    chat.post_and_wait(rooms[0], post(1, "new", None)).await.unwrap();
    let mut deleted = Vec::new();
    for _ in 0..6 {
        deleted.push(chat.messages_expire(day, 2).await.unwrap());
    }
    assert_eq!(deleted.iter().sum::<usize>(), 6, "{deleted:?}");
    assert_eq!(chat.messages_expire(day, 100).await.unwrap(), 0);
    let texts = async |room| {
        let page = chat.messages_before(room, u64::MAX, 10).await.unwrap();
        page.messages.iter().map(|one| (one.seq, one.body.text.clone())).collect::<Vec<_>>()
    };
    assert_eq!(texts(rooms[0]).await, [(3, "new".to_owned())]);
    assert_eq!(texts(rooms[1]).await, []);
    chat.post_and_wait(rooms[1], post(2, "third", None)).await.unwrap();
    assert_eq!(texts(rooms[1]).await, [(3, "third".to_owned())]);
    assert_eq!(chat.room(rooms[0], UserId(2)).await.unwrap().unread, 1, "deleted ones are not unread");
    let seen = watcher.seen.lock().unwrap();
    let gone = |event: &ChatEvent| matches!(event, ChatEvent::Edited { view, .. } if view.message.deleted);
    assert_eq!(seen.iter().filter(|(_, event)| gone(event)).count(), 6);
}
