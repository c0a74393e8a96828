//! Searches, against a model that reads every message, while messages, memberships and blocks of words change.

use std::collections::BTreeMap;
use std::time::Duration;

use chelseru_domain::chat::search::{Found, Indexer, Query};
use chelseru_domain::chat::{MessageEdit, message_id};
use chelseru_store::chat::WordBlock;

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
        let query = Query::parse(text).unwrap();
        let (mut found, mut before) = (Vec::new(), None);
        for _ in 0..100_000 {
            let Found { messages, next } = match room {
                Some(room) => self.chat.search_room(UserId(user), room, &query, before, limit).await.unwrap(),
                None => self.chat.search_rooms(UserId(user), &query, before, limit).await.unwrap(),
            };
            assert!(messages.len() <= limit);
            found.extend(messages.iter().map(|message| message_id(message.room, message.seq)));
            if next.is_none() {
                return found;
            }
            assert_ne!(next, before, "a page must make progress");
            before = next;
        }
        panic!("the pages have no end");
    }
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
                if steps_max > 1000 {
                    let found = world.search(user, None, &text, limit).await;
                    assert_eq!(found, model.found(user, None, query), "seed {seed}: {text} everywhere");
                }
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
    let blocks = async || world.chat.store().chat_word_blocks(room, u64::MAX, 100).await.unwrap();
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

#[tokio::test]
async fn a_search_over_too_much_unindexed_text_waits_for_the_index() {
    let world = World::with(1, ChatRules { search_steps_max: 50, ..rules() }).await;
    let room = world.group(1, &[]).await;
    for n in 0..200 {
        world.clock.advance(Duration::from_secs(1));
        world.post(room, 1, &format!("message {n}"), None).await.unwrap();
    }
    let query = Query::parse("absent").unwrap();
    let early = world.chat.search_rooms(UserId(1), &query, None, 9).await;
    assert!(matches!(early, Err(ChatError::Preparing)), "{early:?}");
    // What is near is shown all the same, and the page behind it waits.
    let near = Query::parse("199").unwrap();
    let page = world.chat.search_rooms(UserId(1), &near, None, 9).await.unwrap();
    assert_eq!((page.messages.len(), page.next), (1, Some(message_id(room, 200))));
    world.indexer().round().await.unwrap();
    let found = world.chat.search_rooms(UserId(1), &query, None, 9).await.unwrap();
    assert_eq!((found.messages.len(), found.next), (0, None));
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
