//! Chat that comes from another program, on every engine.

use chelseru_store::UserId;
use chelseru_store::chat::{
    Additions, Appended, FILE_OVERHEAD_BYTES, FileDraft, FileId, FileKept, ImportedFile, ImportedIds,
    ImportedMessage, ImportedRoom, Judged, Member, Message, MessageBody, MessageDraft, Organization,
    OrganizationId, OrganizationMade, Room, RoomDraft, RoomId, RoomKind, RoomLimits, RoomMade, RoomStatus,
    StoredFile,
};

use super::chat::{answered, pair};
use super::*;

const PAIR: RoomId = RoomId(50);
const GROUP: RoomId = RoomId(51);

fn member(user: UserId, read_seq: u64) -> Member {
    Member {
        user,
        rights: 3,
        read_seq,
        deleted_unread: 0,
        pinned: user.0 == 1,
        joined_at: secs(10),
        hidden_at: None,
        pending: false,
    }
}

fn room(id: RoomId, kind: RoomKind, members: u32, bans: u32) -> Room {
    Room {
        id,
        kind,
        owner: UserId(1),
        name: Some("tea\0room".into()),
        descriptions: None,
        avatar: None,
        status: RoomStatus::Open,
        organization: (kind == RoomKind::Group).then_some(OrganizationId(40)),
        created_at: secs(10),
        updated_at: secs(11),
        members,
        bans,
        revision: 0,
        changes: 0,
    }
}

fn message(seq: u64, sender: u64) -> ImportedMessage {
    let message = Message {
        room: PAIR,
        seq,
        sender: UserId(sender),
        body: MessageBody { kind: "text".into(), text: format!("m{seq}"), ..MessageBody::default() },
        file: (seq == 2).then_some(FileId(60)),
        file_name: (seq == 2).then(|| "/media/60.png".into()),
        client_id: None,
        created_at: secs(20 + seq),
        edited_at: None,
        deleted: false,
    };
    ImportedMessage { message, old_id: 7000 + seq }
}

fn file() -> StoredFile {
    StoredFile {
        id: FileId(60),
        room: Some(PAIR),
        uploader: UserId(2),
        name: "60.png".into(),
        folder: "/media/".into(),
        title: "60".into(),
        content_type: "image/png".into(),
        bytes: 100,
        text: None,
        picture: None,
        created_at: secs(20),
        message: Some(2),
        shared: false,
    }
}

/// In the order of an import: organisations, messages, rooms, files, numbers.
async fn import(store: &Store) {
    let organization = Organization {
        id: OrganizationId(40),
        name: "Tea".into(),
        uname: "tea".into(),
        owner: UserId(1),
        created_at: secs(9),
    };
    store.import_organizations(vec![organization]).await.unwrap();
    store.import_messages(vec![message(1, 1), message(2, 2), message(3, 1)]).await.unwrap();
    assert_eq!(
        store.chat_rooms_of(UserId(1), 10).await.unwrap(),
        [],
        "a room without its members is nobody's"
    );
    store.import_messages(vec![message(4, 1), message(5, 2)]).await.unwrap();
    let rooms = vec![
        ImportedRoom {
            room: room(PAIR, RoomKind::Pair, 2, 0),
            members: vec![member(UserId(1), 4), member(UserId(2), 2)],
            bans: Vec::new(),
            pair_with: Some(UserId(2)),
        },
        ImportedRoom {
            room: room(GROUP, RoomKind::Group, 1, 1),
            members: vec![member(UserId(1), 0)],
            bans: vec![UserId(3)],
            pair_with: None,
        },
    ];
    store.import_rooms(rooms).await.unwrap();
    store.import_files(vec![ImportedFile { file: file(), old_path: "old/60.png".into() }]).await.unwrap();
    let last = ImportedIds { user: 100, payment: 300, room: 200, organization: 80, file: 90 };
    store.import_ids(last).await.unwrap();
    // Lower numbers leave the next ones as they are.
    store.import_ids(ImportedIds { room: 20, ..last }).await.unwrap();
}

#[tokio::test]
async fn imported_chat_goes_on_where_it_was() {
    for engine in engines() {
        let store = TestStore::new(engine);
        for n in 1..=3 {
            store.log_in(&number(n), 100 + n as u64).await;
        }
        import(&store).await;
        assert_eq!(store.chat_message_by_old_id(7002).await.unwrap(), Some((PAIR, 2)), "{engine:?}");
        assert_eq!(store.chat_message_by_old_id(7009).await.unwrap(), None);
        assert_eq!(store.chat_file_by_old_path("old/60.png").await.unwrap(), Some(file()));
        assert_eq!(store.chat_file_by_old_path("old/61.png").await.unwrap(), None);
        assert_eq!(store.chat_file_total().await.unwrap(), 100 + FILE_OVERHEAD_BYTES);
        assert_eq!(store.chat_message(PAIR, 2).await.unwrap(), Some(message(2, 2).message));
        for (before, seq) in [(0, 0), (21, 0), (22, 1), (24, 3), (1000, 5)] {
            assert_eq!(store.chat_last_seq_before(PAIR, secs(before)).await.unwrap(), seq, "before {before}");
        }
        // Who sent the newest message has read everything.
        let unread = async |user| store.chat_summary(PAIR, UserId(user)).await.unwrap().unwrap().unread;
        assert_eq!((unread(1).await, unread(2).await), (1, 0), "{engine:?}");
        assert_eq!(store.chat_members(GROUP, 10).await.unwrap(), [member(UserId(1), 0)]);
        assert_eq!(store.chat_bans(GROUP, 10).await.unwrap(), [UserId(3)]);
        let facts = store.chat_facts(GROUP, UserId(3)).await.unwrap().unwrap();
        assert_eq!((facts.room, facts.actor_banned), (room(GROUP, RoomKind::Group, 1, 1), true));
        go_on(&store).await;
    }
}

async fn go_on(store: &TestStore) {
    let opened =
        answered(|then| store.chat_pair_open(pair(UserId(2), UserId(1), Additions::Admit), then)).await;
    assert_eq!(opened, RoomMade::Existing(room(PAIR, RoomKind::Pair, 2, 0)));
    let body = MessageBody { kind: "text".into(), text: "next".into(), ..MessageBody::default() };
    let draft =
        MessageDraft { room: PAIR, sender: UserId(2), body, file: None, client_id: None, now: secs(300) };
    let appended = answered(|then| store.chat_message_append(draft, |_| Ok(()), then)).await;
    assert!(
        matches!(&appended, Judged::Done(Appended::New { message, .. }) if message.seq == 6),
        "{appended:?}"
    );
    let draft = RoomDraft {
        owner: UserId(1),
        owner_rights: 7,
        members: Vec::new(),
        member_rights: 3,
        name: None,
        descriptions: None,
        status: RoomStatus::Open,
        organization: Some(OrganizationId(40)),
        limits: RoomLimits { rooms_per_user_max: 10, members_max: 10, bans_max: 10 },
        additions: Additions::Admit,
        now: secs(300),
    };
    let made = answered(|then| store.chat_group_create(draft, then)).await;
    assert!(matches!(&made, RoomMade::New { room, .. } if room.id == RoomId(201)), "{made:?}");
    let made = store.chat_organization_create(UserId(1), "x".into(), "x".into(), 9, secs(300)).await.unwrap();
    assert!(matches!(&made, OrganizationMade::New(made) if made.id == OrganizationId(81)), "{made:?}");
    let draft = FileDraft {
        room: Some(PAIR),
        uploader: UserId(1),
        name: "new.png".into(),
        folder: "/media/".into(),
        title: String::new(),
        content_type: "image/png".into(),
        bytes: 1,
        text: None,
        picture: None,
        quota_bytes: 10_000,
        total_bytes: 10_000,
        now: secs(300),
    };
    let kept = store.chat_file_keep(draft).await.unwrap();
    assert!(matches!(&kept, FileKept::Kept(kept) if kept.id == FileId(91)), "{kept:?}");
    let (user, _) = store.log_in(&number(9), 400).await;
    assert_eq!(user.id, UserId(101));
}
