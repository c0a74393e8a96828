//! Searches, against a model that reads every message, while messages, memberships and blocks of words change.

use std::collections::BTreeMap;
use std::time::Duration;

use chelseru_domain::chat::search::{Indexer, Query};
use chelseru_domain::chat::{
    Member, Message, MessageEdit, Room, RoomKind, RoomStatus, message_id, message_of,
};
use chelseru_store::chat::{ImportedMessage, ImportedRoom, WordBlock};

use super::*;

/// One word in several spellings: the first is the one that the model compares.
const WORDS: [&[&str]; 9] = [
    &["کتاب", "كتاب", "کِتاب", "کتـاب"],
    &["کتابها", "کتاب‌ها", "كتابهآ"],
    &["میرود", "می‌رود", "مي‌رود", "میرَوَد"],
    &["0912", "۰۹۱۲", "٠٩١٢"],
    &["hello", "HELLO", "Hello,", "héllo!"],
    &["world", "(World)"],
    &["worldwide", "WORLDWIDE"],
    &["مسیول", "مسئول"],
    &["خانه", "خانة", "خانۀ"],
];
const QUERIES: [&[&str]; 8] = [
    &["کتاب"],
    &["ها", "0912"],
    &["world"],
    &["hello", "world"],
    &["رود"],
    &["مسیول", "خانه"],
    &["o"],
    &["absent"],
];

fn rules() -> ChatRules {
    let many = 1_000_000;
    ChatRules {
        messages_per_minute_max: many,
        messages_per_day_max: many,
        searches_per_minute_max: many,
        ..open()
    }
}

impl World {
    fn indexer(&self) -> Indexer {
        Indexer::new(Arc::clone(&self.chat)).eager()
    }

    async fn edit(&self, room: RoomId, seq: u64, by: u64, text: &str) {
        let body = MessageBody { kind: "text".into(), text: text.into(), ..MessageBody::default() };
        self.chat.message_change(room, seq, UserId(by), MessageEdit::Body(body)).await.unwrap();
    }

    async fn delete(&self, room: RoomId, seq: u64, by: u64) {
        self.chat.message_change(room, seq, UserId(by), MessageEdit::Delete).await.unwrap();
    }

    /// All pages of a search.
    async fn search(&self, user: u64, room: Option<RoomId>, text: &str, limit: usize) -> Vec<u64> {
        match room {
            Some(room) => self.search_one(user, room, text, limit).await,
            None => self.search_all(user, text, limit).await.0,
        }
    }

    async fn search_one(&self, user: u64, room: RoomId, text: &str, limit: usize) -> Vec<u64> {
        let query = Query::parse(text).unwrap();
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = self.chat.search_room(UserId(user), room, &query, before, limit).await.unwrap();
            assert!(page.messages.len() <= limit);
            found.extend(ids(&page.messages));
            let Some(next) = page.next else { return found };
            assert!(before.is_none_or(|before| next < before), "a page must make progress");
            before = Some(next);
        }
    }

    /// The hits in all rooms, and the pages that they took.
    async fn search_all(&self, user: u64, text: &str, limit: usize) -> (Vec<u64>, usize) {
        let query = Query::parse(text).unwrap();
        let (mut found, mut before) = (Vec::new(), None);
        for pages in 1.. {
            let page = self.chat.search_rooms(UserId(user), &query, before, limit).await.unwrap();
            assert!(page.messages.len() <= limit);
            found.extend(ids(&page.messages));
            let Some(next) = page.next else { return (found, pages) };
            assert!(before.is_none_or(|before| next < before), "a page must make progress");
            before = Some(next);
        }
        unreachable!("the pages are counted without end")
    }

    async fn blocks(&self, room: RoomId) -> Vec<WordBlock> {
        let mut blocks = Vec::new();
        let mut keep = |block: WordBlock<&[u8]>| {
            let WordBlock { first, last, bytes } = block;
            blocks.push(WordBlock { first, last, bytes: bytes.to_vec() });
        };
        self.chat.store().chat_word_blocks(room, u64::MAX, 1000, &mut keep).await.unwrap();
        blocks
    }
}

fn ids(messages: &[Message]) -> impl Iterator<Item = u64> {
    messages.iter().map(|message| message_id(message.room, message.seq))
}

#[derive(Default)]
struct Model {
    /// Time, sender, words by number, of the messages that are left, by room and number.
    messages: BTreeMap<(RoomId, u64), (u64, u64, Vec<usize>)>,
    members: BTreeMap<RoomId, Vec<u64>>,
}

impl Model {
    fn found(&self, user: u64, room: Option<RoomId>, query: &[&str]) -> Vec<u64> {
        let mut found: Vec<(u64, u64)> = Vec::new();
        for ((at, seq), (time, _, words)) in &self.messages {
            let in_sight = self.members[at].contains(&user) && room.is_none_or(|room| room == *at);
            let has = |part: &&str| words.iter().any(|word| WORDS[*word][0].contains(part));
            if in_sight && query.iter().all(has) {
                found.push((*time, message_id(*at, *seq)));
            }
        }
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.into_iter().map(|(_, id)| id).collect()
    }
}

fn text(random: &mut Random, words: &[usize]) -> String {
    let spelled = words.iter().map(|word| {
        let spellings = WORDS[*word];
        spellings[random.below(spellings.len() as u64) as usize]
    });
    spelled.collect::<Vec<_>>().join(if random.below(2) == 0 { " " } else { " - " })
}

fn some_words(random: &mut Random) -> Vec<usize> {
    let count = 1 + random.below(4);
    (0..count).map(|_| random.below(WORDS.len() as u64) as usize).collect()
}

async fn history(seed: u64) {
    let mut random = Random(seed);
    let steps_max = [24_000, 400][random.below(2) as usize];
    let mut world = World::with(3, ChatRules { search_steps_max: steps_max, ..rules() }).await;
    let mut model = Model::default();
    for _ in 0..3 {
        let room = world.group(1, &[2, 3]).await;
        model.members.insert(room, vec![1, 2, 3]);
    }
    let rooms: Vec<RoomId> = model.members.keys().copied().collect();
    let mut now = 0;
    for _ in 0..400 {
        let room = rooms[(random.below(9) / 4) as usize];
        let members = &model.members[&room];
        let user = members[random.below(members.len() as u64) as usize];
        let own = model.messages.iter().filter(|((at, _), (_, sender, _))| *at == room && *sender == user);
        let own: Vec<u64> = own.map(|((_, seq), _)| *seq).collect();
        let one = (!own.is_empty()).then(|| own[random.below(own.len().max(1) as u64) as usize]);
        if random.below(3) == 0 {
            now += 1;
            world.clock.advance(Duration::from_secs(1));
        }
        match (random.below(40), one) {
            (0, Some(seq)) => {
                world.delete(room, seq, user).await;
                model.messages.remove(&(room, seq));
            }
            (1..=3, Some(seq)) => {
                let words = some_words(&mut random);
                world.edit(room, seq, user, &text(&mut random, &words)).await;
                if let Some(message) = model.messages.get_mut(&(room, seq)) {
                    message.2 = words;
                }
            }
            (4, _) => world.indexer().round().await.unwrap(),
            (5, _) if user != 1 && members.len() > 2 => {
                world.ask(room, user, RoomRequest::Remove(UserId(user))).await.unwrap();
                model.members.get_mut(&room).unwrap().retain(|member| *member != user);
            }
            (6, _) if random.below(4) == 0 => world = world.restarted().await,
            (7..=9, _) => {
                let query = QUERIES[random.below(QUERIES.len() as u64) as usize];
                let limit = 1 + random.below(20) as usize;
                let text = query.join(" ");
                let found = world.search(user, Some(room), &text, limit).await;
                assert_eq!(found, model.found(user, Some(room), query), "seed {seed}: {text} in {room:?}");
                let found = world.search(user, None, &text, limit).await;
                assert_eq!(found, model.found(user, None, query), "seed {seed}: {text} everywhere");
            }
            _ => {
                let words = some_words(&mut random);
                let seq = world.post(room, user, &text(&mut random, &words), None).await.unwrap();
                model.messages.insert((room, seq), (now, user, words));
            }
        }
    }
}

#[tokio::test]
async fn a_random_history_finds_what_a_model_finds() {
    match std::env::var("CHELSERU_SEED") {
        Ok(seed) => history(seed.parse().unwrap()).await,
        Err(_) => {
            for seed in 1..=8 {
                history(seed).await;
            }
        }
    }
}

#[tokio::test]
async fn a_long_room_is_searched_by_blocks_and_every_message_is_found_once() {
    let world = World::with(1, ChatRules { search_steps_max: 600, ..rules() }).await;
    let room = world.group(1, &[]).await;
    for n in 1..=1500 {
        let text = format!("message number{n} {}", if n % 100 == 7 { "rare" } else { "common" });
        world.post(room, 1, &text, None).await.unwrap();
    }
    let blocks = async || world.blocks(room).await;
    let rare: Vec<u64> = (0..15).rev().map(|n| message_id(room, n * 100 + 7)).collect();
    let query = Query::parse("rare").unwrap();
    // Without blocks a search gives up early, and goes on with the next page.
    let first = world.chat.search_room(UserId(1), room, &query, None, 30).await.unwrap();
    assert!(first.messages.len() < 15 && first.next.is_some());
    assert_eq!(world.search(1, Some(room), "rare", 30).await, rare);
    world.indexer().round().await.unwrap();
    let indexed = blocks().await;
    assert!(indexed.len() > 1, "{}", indexed.len());
    assert_eq!(covered(&indexed), 1500);
    // With them it reads what it shows.
    let first = world.chat.search_room(UserId(1), room, &query, None, 30).await.unwrap();
    assert_eq!((first.messages.len(), first.next), (15, None));
    assert_eq!(world.search(1, Some(room), "number1499 common", 5).await, [message_id(room, 1499)]);
    assert_eq!(world.search(1, Some(room), "common", 7).await.len(), 1485);

    // An edit removes its block in the same change; nothing is missed, and another round covers it again.
    world.edit(room, 3, 1, "now rare").await;
    assert!(covered(&blocks().await) < 1500);
    assert_eq!(world.search(1, Some(room), "now", 5).await, [message_id(room, 3)]);
    world.delete(room, 1407, 1).await;
    let rare_left = world.search(1, Some(room), "rare", 4).await;
    assert_eq!(rare_left.len(), 15);
    // The searches asked for the room.
    world.indexer().round().await.unwrap();
    assert_eq!(covered(&blocks().await), 1500);
    assert_eq!(world.search(1, Some(room), "rare", 4).await, rare_left);
    // A deleted word is in no block.
    world.delete(room, 3, 1).await;
    assert!(blocks().await.iter().all(|block| !contains(block, "now\n")));
    world.search(1, Some(room), "absent", 4).await;
    world.indexer().round().await.unwrap();
    assert!(blocks().await.iter().all(|block| !contains(block, "now\n")));
}

fn covered(blocks: &[WordBlock]) -> u64 {
    blocks.iter().map(|block| block.last + 1 - block.first).sum()
}

fn contains(block: &WordBlock, text: &str) -> bool {
    block.bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn only_rooms_in_sight_are_searched() {
    let asking = ChatRules { strangers: Strangers::Ask, ..rules() };
    let world = World::with(4, asking).await;
    let (pair, _) = world.chat.pair_open(UserId(1), UserId(2), RoomEdit::default()).await.unwrap();
    world.post(pair.id, 1, "secret one", None).await.unwrap();
    let mine = world.group(1, &[]).await;
    world.post(mine, 1, "secret two", None).await.unwrap();
    let both = [message_id(mine, 1), message_id(pair.id, 1)];
    assert_eq!(world.search(1, None, "secret", 9).await, both);
    // A request is read in its room, as its messages are, and is none of the user's rooms.
    assert_eq!(world.search(2, None, "secret", 9).await, [0u64; 0]);
    assert_eq!(world.search(2, Some(pair.id), "secret", 9).await, [message_id(pair.id, 1)]);
    let query = Query::parse("secret").unwrap();
    let refused = world.chat.search_room(UserId(3), mine, &query, None, 9).await;
    assert!(matches!(refused, Err(ChatError::Denied(_) | ChatError::RoomMissing)), "{refused:?}");
    // A group that only asks shows no message.
    let group = world.group(1, &[3]).await;
    world.post(group, 1, "secret three", None).await.unwrap();
    let refused = world.chat.search_room(UserId(3), group, &query, None, 9).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(world.search(3, None, "secret", 9).await, [0u64; 0]);
    // A pair that was left is hidden until its next message.
    world.ask(pair.id, 1, RoomRequest::Remove(UserId(1))).await.unwrap();
    assert_eq!(world.search(1, None, "one", 9).await, [0u64; 0]);
}

/// Rooms of one user, filled as by an import: at once, so that there can be many messages.
struct Filled {
    world: World,
    model: Model,
    rooms: Vec<RoomId>,
    /// The numbers of the rooms' newest messages.
    last: Vec<u64>,
}

impl Filled {
    async fn new(rooms: u64, rules: ChatRules) -> Filled {
        let world = World::with(1, rules).await;
        let (mut model, rooms) = (Model::default(), (1..=rooms).map(RoomId).collect::<Vec<_>>());
        let made = rooms.iter().map(|id| room(*id, UserId(1))).collect();
        world.chat.store().import_rooms(made).await.unwrap();
        model.members = rooms.iter().map(|room| (*room, vec![1])).collect();
        let last = vec![0; rooms.len()];
        Filled { world, model, rooms, last }
    }

    /// Appends messages, each with the room's place, its time in seconds, and its words.
    async fn fill(&mut self, messages: Vec<(usize, u64, Vec<usize>)>, random: &mut Random) {
        let mut imported = Vec::new();
        for (at, time, words) in messages {
            let id = self.rooms[at];
            self.last[at] += 1;
            let seq = self.last[at];
            let message = message(id, seq, time, &text(random, &words));
            imported.push(ImportedMessage { message, old_id: message_id(id, seq) });
            self.model.messages.insert((id, seq), (time, 1, words));
        }
        self.world.chat.store().import_messages(imported).await.unwrap();
    }

    fn found(&self, query: &[&str]) -> Vec<u64> {
        self.model.found(1, None, query)
    }
}

fn room(id: RoomId, owner: UserId) -> ImportedRoom {
    let member = Member {
        user: owner,
        rights: 0,
        read_seq: 0,
        deleted_unread: 0,
        pinned: false,
        joined_at: START,
        hidden_at: None,
        pending: false,
    };
    let room = Room {
        id,
        kind: RoomKind::Group,
        owner,
        name: None,
        descriptions: None,
        avatar: None,
        status: RoomStatus::Open,
        organization: None,
        created_at: START,
        updated_at: START,
        members: 1,
        bans: 0,
        revision: 0,
        changes: 0,
    };
    ImportedRoom { room, members: vec![member], bans: Vec::new(), pair_with: None }
}

fn message(room: RoomId, seq: u64, time: u64, text: &str) -> Message {
    Message {
        room,
        seq,
        sender: UserId(1),
        body: MessageBody { kind: "text".into(), text: text.into(), ..MessageBody::default() },
        file: None,
        file_name: None,
        client_id: None,
        created_at: START.plus(Duration::from_secs(time)),
        edited_at: None,
        deleted: false,
    }
}

/// Messages in the order of their times, of which some are equal. Some rooms get most of them, and for some time one
/// room gets all.
fn some_messages(
    random: &mut Random,
    rooms: u64,
    count: u64,
    time: &mut u64,
) -> Vec<(usize, u64, Vec<usize>)> {
    let (mut messages, mut alone) = (Vec::new(), 0);
    for _ in 0..count {
        if random.below(3) == 0 {
            *time += 1;
        }
        alone = if random.below(200) == 0 { 100 } else { u64::saturating_sub(alone, 1) };
        let last = if alone > 0 { 1 } else { 1 + random.below(rooms) };
        messages.push((random.below(last) as usize, *time, some_words(random)));
    }
    messages
}

/// What the pages of a search over all rooms must be, whatever is indexed and however little a page may read.
async fn pages_of_all_rooms(seed: u64) {
    let mut random = Random(seed);
    let steps_max = [1, 100, 1000, 24_000][random.below(4) as usize];
    let rooms = [1, 3, 20, 100][random.below(4) as usize];
    let count = [60, 600][random.below(2) as usize];
    let mut filled = Filled::new(rooms, ChatRules { search_steps_max: steps_max, ..rules() }).await;
    let mut time = 0;
    for indexed in [random.below(2) == 0, random.below(2) == 0] {
        let messages = some_messages(&mut random, rooms, count, &mut time);
        filled.fill(messages, &mut random).await;
        if indexed {
            filled.world.indexer().round().await.unwrap();
        }
        for _ in 0..random.below(20) {
            let nth = random.below(filled.model.messages.len() as u64) as usize;
            let (room, seq) = *filled.model.messages.keys().nth(nth).unwrap();
            if random.below(2) == 0 {
                filled.world.delete(room, seq, 1).await;
                filled.model.messages.remove(&(room, seq));
            } else {
                let words = some_words(&mut random);
                filled.world.edit(room, seq, 1, &text(&mut random, &words)).await;
                filled.model.messages.get_mut(&(room, seq)).unwrap().2 = words;
            }
        }
        for query in QUERIES {
            let limit = 1 + random.below(30) as usize;
            let (found, pages) = filled.world.search_all(1, &query.join(" "), limit).await;
            let about = format!("seed {seed}: {query:?}, {rooms} rooms, {limit} a page, {steps_max} steps");
            assert_eq!(found, filled.found(query), "{about}");
            // A page that is not full has the steps for sixteen messages and more of each room.
            let most = 2 + found.len() / limit + filled.model.messages.len() / 16;
            assert!(pages <= most, "{about}: {pages} pages are more than {most}");
        }
    }
}

#[tokio::test]
async fn the_pages_of_all_rooms_are_what_a_filter_finds_and_come_to_an_end() {
    match std::env::var("CHELSERU_SEED") {
        Ok(seed) => pages_of_all_rooms(seed.parse().unwrap()).await,
        Err(_) => {
            for seed in 1..=if place::over_postgres() { 4 } else { 16 } {
                pages_of_all_rooms(seed).await;
            }
        }
    }
}

#[tokio::test]
async fn a_search_over_all_rooms_goes_back_in_time_until_everything_was_looked_at() {
    let mut filled = Filled::new(3, ChatRules { search_steps_max: 1, ..rules() }).await;
    // Two thousand messages, the only hit is the oldest of all, in the room that changed last.
    let words = |n: u64| if n == 0 { vec![7] } else { vec![4, 5] };
    let messages = (0..2000).map(|n| ((n % 3) as usize, n, words(n))).collect();
    filled.fill(messages, &mut Random(1)).await;
    let query = Query::parse("مسیول").unwrap();
    let first = filled.world.chat.search_rooms(UserId(1), &query, None, 9).await.unwrap();
    assert_eq!((first.messages.len(), first.next.is_some()), (0, true), "an empty page has a next one");
    let (found, unindexed) = filled.world.search_all(1, "مسیول", 9).await;
    assert_eq!(found, filled.found(&["مسیول"]));
    // The searches asked for blocks of the rooms, and with them a page goes further.
    assert!(filled.world.blocks(filled.rooms[0]).await.is_empty());
    filled.world.indexer().round().await.unwrap();
    let (found, indexed) = filled.world.search_all(1, "مسیول", 9).await;
    assert_eq!(found, filled.found(&["مسیول"]));
    assert!(indexed * 10 < unindexed, "{indexed} pages with blocks, {unindexed} without");
}

#[tokio::test]
async fn the_next_page_comes_whatever_happened_to_the_message_where_it_begins() {
    let mut filled = Filled::new(3, rules()).await;
    let messages = (0..90).map(|n| ((n % 3) as usize, n / 6, vec![4])).collect();
    filled.fill(messages, &mut Random(1)).await;
    let query = Query::parse("hello").unwrap();
    let all = filled.found(&["hello"]);
    let chat = &filled.world.chat;
    let page = chat.search_rooms(UserId(1), &query, None, 10).await.unwrap();
    assert_eq!(ids(&page.messages).collect::<Vec<_>>(), all[..10]);
    let next = page.next.unwrap();
    // The message is deleted.
    let (room, seq) = message_of(next.id);
    assert_eq!(next.id, all[9]);
    filled.world.delete(room, seq, 1).await;
    let page = chat.search_rooms(UserId(1), &query, Some(next), 10).await.unwrap();
    assert_eq!(ids(&page.messages).collect::<Vec<_>>(), all[10..20]);
    // Its room is gone, with all messages.
    let next = page.next.unwrap();
    let (room, _) = message_of(next.id);
    filled.world.ask(room, 1, RoomRequest::Delete).await.unwrap();
    while chat.store().chat_room_sweep(room, 1000).await.unwrap() > 0 {}
    assert!(chat.store().chat_message(room, 1).await.unwrap().is_none());
    let page = chat.search_rooms(UserId(1), &query, Some(next), 10).await.unwrap();
    let elsewhere = all[20..].iter().copied().filter(|id| message_of(*id).0 != room);
    assert_eq!(ids(&page.messages).collect::<Vec<_>>(), elsewhere.take(10).collect::<Vec<_>>());
}

#[tokio::test]
async fn searches_of_a_minute_are_bounded() {
    let world = World::with(2, ChatRules { searches_per_minute_max: 3, ..rules() }).await;
    let room = world.group(1, &[2]).await;
    let query = Query::parse("a").unwrap();
    for _ in 0..3 {
        world.chat.search_room(UserId(1), room, &query, None, 9).await.unwrap();
    }
    let refused = world.chat.search_rooms(UserId(1), &query, None, 9).await;
    assert!(matches!(refused, Err(ChatError::Exhausted(_))), "{refused:?}");
    world.chat.search_rooms(UserId(2), &query, None, 9).await.unwrap();
    world.clock.advance(Duration::from_secs(60));
    world.chat.search_rooms(UserId(1), &query, None, 9).await.unwrap();
}
