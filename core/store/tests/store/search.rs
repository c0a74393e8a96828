//! Blocks of words: stored for the messages that they were read from, and gone with the first change of one.

use chelseru_store::UserId;
use chelseru_store::chat::{
    ImportedMessage, ImportedRoom, Judged, Message, MessageBody, MessageChange, MessageEdit, Room, RoomId,
    RoomKind, RoomStatus, WORD_BLOCK_BYTES_MAX, WordBlock,
};

use super::*;

const ROOM: RoomId = RoomId(7);

fn block(first: u64, last: u64, content: &str) -> WordBlock {
    WordBlock { first, last, bytes: content.as_bytes().to_vec() }
}

async fn room_with_messages(store: &Store, count: u64) {
    let room = Room {
        id: ROOM,
        kind: RoomKind::Group,
        owner: UserId(1),
        name: None,
        descriptions: None,
        avatar: None,
        status: RoomStatus::Open,
        organization: None,
        created_at: secs(1),
        updated_at: secs(1),
        members: 0,
        bans: 0,
        revision: 0,
        changes: 0,
    };
    let imported = ImportedRoom { room, members: Vec::new(), bans: Vec::new(), pair_with: None };
    store.import_rooms(vec![imported]).await.unwrap();
    let message = |seq: u64| Message {
        room: ROOM,
        seq,
        sender: UserId(1),
        body: MessageBody { kind: "text".into(), text: format!("text {seq}"), ..MessageBody::default() },
        file: None,
        file_name: None,
        client_id: None,
        created_at: secs(seq),
        edited_at: None,
        deleted: false,
    };
    let messages = (1..=count).map(|seq| ImportedMessage { message: message(seq), old_id: seq });
    store.import_messages(messages.collect()).await.unwrap();
}

async fn change(store: &Store, seq: u64, edit: MessageEdit) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let change = MessageChange { room: ROOM, seq, actor: UserId(1), edit, now: secs(9) };
    let then = move |result: Result<_, _>| drop(sender.send(result));
    store.chat_message_change(change, |_, _| Ok(()), then).unwrap();
    assert!(matches!(receiver.await.unwrap(), Ok(Judged::Done(_))));
}

async fn blocks(store: &Store, room: RoomId, below: u64, limit: usize) -> Vec<WordBlock> {
    let mut blocks = Vec::new();
    let mut keep = |block: WordBlock<&[u8]>| {
        let WordBlock { first, last, bytes } = block;
        blocks.push(WordBlock { first, last, bytes: bytes.to_vec() });
    };
    let shown = store.chat_word_blocks(room, below, limit, &mut keep).await.unwrap();
    assert_eq!(shown, blocks.len());
    blocks
}

async fn spans(store: &Store) -> Vec<(u64, u64)> {
    let blocks = blocks(store, ROOM, u64::MAX, 100).await;
    blocks.iter().map(|block| (block.first, block.last)).collect()
}

#[tokio::test]
async fn blocks_are_read_newest_first_and_replace_what_they_overlap() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.log_in(NUMBER, 1).await;
        room_with_messages(&store, 40).await;
        let put = async |first, last| {
            store.chat_word_block_put(ROOM, block(first, last, "words"), 0).await.unwrap()
        };
        for (first, last) in [(1, 10), (11, 20), (21, 21), (22, 40)] {
            assert!(put(first, last).await);
        }
        let store = store.reopened();
        assert_eq!(spans(&store).await, [(22, 40), (21, 21), (11, 20), (1, 10)]);
        let some = blocks(&store, ROOM, 22, 2).await;
        assert_eq!(some, [block(21, 21, "words"), block(11, 20, "words")]);
        assert_eq!(blocks(&store, ROOM, 1, 9).await, []);
        assert_eq!(blocks(&store, RoomId(8), u64::MAX, 9).await, []);
        let put = async |first, last| {
            store.chat_word_block_put(ROOM, block(first, last, "newer"), 0).await.unwrap()
        };
        assert!(put(10, 30).await);
        assert_eq!(spans(&store).await, [(10, 30)]);
        assert!(put(31, 31).await && put(10, 31).await);
        assert_eq!(spans(&store).await, [(10, 31)]);
        let long = WordBlock { first: 1, last: 1, bytes: vec![0; WORD_BLOCK_BYTES_MAX + 1] };
        assert!(store.chat_word_block_put(ROOM, long, 0).await.is_err());
        let largest = WordBlock { first: 1, last: 1, bytes: vec![0; WORD_BLOCK_BYTES_MAX] };
        assert!(store.chat_word_block_put(ROOM, largest, 0).await.unwrap());
    }
}

#[tokio::test]
async fn a_changed_message_loses_its_block_and_a_late_block_is_refused() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.log_in(NUMBER, 1).await;
        room_with_messages(&store, 30).await;
        for (first, last) in [(1, 10), (11, 20), (21, 30)] {
            assert!(store.chat_word_block_put(ROOM, block(first, last, "words"), 0).await.unwrap());
        }
        change(&store, 15, MessageEdit::Body(MessageBody { text: "other".into(), ..MessageBody::default() }))
            .await;
        assert_eq!(spans(&store).await, [(21, 30), (1, 10)]);
        let late = store.chat_word_block_put(ROOM, block(11, 20, "words"), 0).await.unwrap();
        assert!(!late, "it was read before the edit");
        assert!(store.chat_word_block_put(ROOM, block(11, 20, "other"), 1).await.unwrap());
        // A file's removal changes no word; the revision rises all the same.
        change(&store, 15, MessageEdit::DropFile).await;
        assert_eq!(spans(&store).await, [(21, 30), (11, 20), (1, 10)]);
        change(&store, 30, MessageEdit::Delete).await;
        change(&store, 1, MessageEdit::Delete).await;
        assert_eq!(spans(&store).await, [(11, 20)]);
        let missing = store.chat_word_block_put(RoomId(8), block(1, 1, "words"), 0).await.unwrap();
        assert!(!missing, "there is no such room");
    }
}

#[tokio::test]
async fn a_deleted_room_keeps_no_block() {
    for engine in engines() {
        let store = TestStore::new(engine);
        store.log_in(NUMBER, 1).await;
        room_with_messages(&store, 5).await;
        assert!(store.chat_word_block_put(ROOM, block(1, 5, "words"), 0).await.unwrap());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let judge = |_: &_| Ok(vec![chelseru_store::chat::RoomChange::Delete]);
        let then = move |result: Result<_, _>| drop(sender.send(result));
        store.chat_room_change(ROOM, UserId(1), None, secs(9), judge, then).unwrap();
        assert!(matches!(receiver.await.unwrap(), Ok(Judged::Done(_))));
        assert!(!store.chat_word_block_put(ROOM, block(1, 5, "words"), 0).await.unwrap());
        while store.chat_room_sweep(ROOM, 3).await.unwrap() > 0 {}
        assert_eq!(spans(&store).await, []);
    }
}
