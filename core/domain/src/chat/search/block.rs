//! The content of a block: the distinct words of a run of messages, and which messages have each of them.
//!
//! A search looks for a part of a word, so the words stand in one text that is scanned as a whole. Layout, with
//! numbers of 16 bits, little endian: format, flags, number of words, number of messages to always look at, those
//! messages, the end of each word in the text, the end of each list, the text, the lists. A list holds the distances
//! between the messages with a word, each in one or two bytes. Messages count from the first of the block.
//!
//! Invariant: a block names every message with a word, and may name more; a search reads each before it shows it.

use std::collections::BTreeMap;

use chelseru_store::chat::{WORD_BLOCK_BYTES_MAX, WordBlock};

use super::words::{END, Query, fold};

const FORMAT: u16 = 1;
/// The next message did not fit, so the block will not grow.
const FULL: u16 = 1;
const HEAD: usize = 8;

/// Bytes of a block, which is read and written as a whole. Sixteen of them, which share a page of the sled engine, stay
/// below 256 KiB: the engine counts a page as the next power of two, and keeps 544 KiB in each of 256 shards with the
/// default `data.cache_mib`. Larger blocks left a shard one page. The price is more blocks: a search that finds nothing
/// among 1,000,000 messages of one room takes 31 ms of one core, with blocks of 24 KiB 23 ms (bench `search`); over
/// 1000 rooms it took 63 ms in place of 89.
const BYTES_MAX: usize = 15 * 1024;
/// Messages that a block covers, deleted ones included. Distances fit two bytes of seven bits.
const SPAN_MAX: usize = 4096;
/// A message with more, or longer, words is looked at by every search instead of being listed.
const MESSAGE_WORDS_MAX: usize = 1000;
const MESSAGE_BYTES_MAX: usize = 8 * 1024;
const WORD_BYTES_MAX: usize = 128;
/// A listed message costs at most its words and their two ends and one distance each: it fits an empty block.
const _: () = assert!(HEAD + MESSAGE_BYTES_MAX + MESSAGE_WORDS_MAX * 6 <= BYTES_MAX);
const _: () = assert!(BYTES_MAX <= WORD_BLOCK_BYTES_MAX && BYTES_MAX <= u16::MAX as usize);

/// The messages of a block, one bit each.
struct Bits([u64; SPAN_MAX / 64]);

/// A block while it is filled, in the order of messages.
pub(super) struct Builder {
    first: u64,
    words: BTreeMap<Box<str>, List>,
    always: Vec<u16>,
    bytes: usize,
}

struct List {
    bytes: Vec<u8>,
    last: u16,
}

impl Builder {
    pub(super) fn new(first: u64) -> Builder {
        Builder { first, words: BTreeMap::new(), always: Vec::new(), bytes: HEAD }
    }

    /// Adds the words of a message; false, and nothing is added, when the block is full.
    pub(super) fn add(&mut self, seq: u64, text: &str) -> bool {
        let Some(at) = seq.checked_sub(self.first).filter(|at| *at < SPAN_MAX as u64) else { return false };
        let at = at as u16;
        let folded = fold(text);
        let mut words: Vec<&str> = folded.split_terminator(END).collect();
        words.sort_unstable();
        words.dedup();
        let is_long = |word: &&str| word.len() > WORD_BYTES_MAX;
        if words.len() > MESSAGE_WORDS_MAX || folded.len() > MESSAGE_BYTES_MAX || words.iter().any(is_long) {
            if self.bytes + 2 > BYTES_MAX {
                return false;
            }
            self.bytes += 2;
            self.always.push(at);
            return true;
        }
        let cost = |word: &&str| match self.words.get(*word) {
            Some(list) => distance_len(at - list.last),
            None => word.len() + 1 + 4 + distance_len(at),
        };
        let cost: usize = words.iter().map(cost).sum();
        if self.bytes + cost > BYTES_MAX {
            return false;
        }
        self.bytes += cost;
        for word in words {
            match self.words.get_mut(word) {
                Some(list) => list.add(at),
                None => {
                    let mut list = List { bytes: Vec::new(), last: 0 };
                    list.add(at);
                    self.words.insert(word.into(), list);
                }
            }
        }
        true
    }

    /// The block, which covers the messages up to `last`.
    pub(super) fn finish(self, last: u64, full: bool) -> WordBlock {
        let Builder { first, words, always, bytes } = self;
        let mut out = Vec::with_capacity(bytes);
        let head = [FORMAT, if full { FULL } else { 0 }, words.len() as u16, always.len() as u16];
        let mut put = |number: u16| out.extend_from_slice(&number.to_le_bytes());
        head.into_iter().chain(always).for_each(&mut put);
        let mut end = 0;
        for word in words.keys() {
            end += word.len() + 1;
            put(end as u16);
        }
        let mut end = 0;
        for list in words.values() {
            end += list.bytes.len();
            put(end as u16);
        }
        for word in words.keys() {
            out.extend_from_slice(word.as_bytes());
            out.push(END as u8);
        }
        for list in words.values() {
            out.extend_from_slice(&list.bytes);
        }
        WordBlock { first, last, bytes: out }
    }
}

impl List {
    fn add(&mut self, at: u16) {
        let distance = at - self.last;
        if distance >= 0x80 {
            self.bytes.push(0x80 | (distance & 0x7f) as u8);
            self.bytes.push((distance >> 7) as u8);
        } else {
            self.bytes.push(distance as u8);
        }
        self.last = at;
    }
}

fn distance_len(distance: u16) -> usize {
    if distance >= 0x80 { 2 } else { 1 }
}

/// A stored block.
pub(super) struct Block<'a> {
    pub(super) full: bool,
    always: &'a [u8],
    word_ends: &'a [u8],
    list_ends: &'a [u8],
    text: &'a [u8],
    lists: &'a [u8],
}

impl<'a> Block<'a> {
    /// `None` for a block of another format or a damaged one, which counts as missing.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Block<'a>> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let [format, flags, words, always] = [0, 1, 2, 3].map(|at| number(head, at));
        if format != Some(FORMAT) {
            return None;
        }
        let words = usize::from(words?);
        let (always, rest) = rest.split_at_checked(usize::from(always?) * 2)?;
        let (word_ends, rest) = rest.split_at_checked(words * 2)?;
        let (list_ends, rest) = rest.split_at_checked(words * 2)?;
        let text = words.checked_sub(1).map_or(Some(0), |last| number(word_ends, last))?;
        let (text, lists) = rest.split_at_checked(usize::from(text))?;
        Some(Block { full: flags? & FULL != 0, always, word_ends, list_ends, text, lists })
    }

    /// The messages to look at for a query, as distances from the first, newest first.
    pub(super) fn candidates(&self, query: &Query) -> Vec<u16> {
        let mut found: Option<Bits> = None;
        for finder in query.finders() {
            let mut with = Bits::default();
            let mut from = 0;
            while let Some(hit) = self.text.get(from..).and_then(|text| finder.find(text)) {
                let word = self.word_at(from + hit);
                self.list(word, |message| with.set(message));
                // In a damaged block an end may lie before its word.
                from = self.end(self.word_ends, word).max(from + hit + 1);
            }
            let both = match found {
                None => with,
                Some(found) => found.and(&with),
            };
            let is_empty = both.is_empty();
            found = Some(both);
            if is_empty {
                break;
            }
        }
        let mut found = found.unwrap_or_default();
        self.always.chunks_exact(2).filter_map(|bytes| number(bytes, 0)).for_each(|at| found.set(at));
        found.newest_first()
    }

    /// The word at a place of the text.
    fn word_at(&self, place: usize) -> usize {
        let (mut low, mut high) = (0, self.word_ends.len() / 2);
        while low < high {
            let middle = usize::midpoint(low, high);
            if self.end(self.word_ends, middle) <= place {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn list(&self, word: usize, mut each: impl FnMut(u16)) {
        let start = word.checked_sub(1).map_or(0, |before| self.end(self.list_ends, before));
        let mut list = self.lists.get(start..self.end(self.list_ends, word)).unwrap_or_default().iter();
        let mut at = 0u16;
        while let Some(&byte) = list.next() {
            let mut distance = u16::from(byte & 0x7f);
            if byte >= 0x80 {
                distance |= list.next().map_or(0, |&high| u16::from(high) << 7);
            }
            at = at.saturating_add(distance);
            each(at);
        }
    }

    /// A damaged end is the largest number: nothing is beyond it.
    fn end(&self, ends: &[u8], at: usize) -> usize {
        number(ends, at).map_or(usize::from(u16::MAX), usize::from)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at * 2..)?.first_chunk::<2>().map(|bytes| u16::from_le_bytes(*bytes))
}

impl Default for Bits {
    fn default() -> Self {
        Bits([0; SPAN_MAX / 64])
    }
}

impl Bits {
    fn set(&mut self, at: u16) {
        if let Some(word) = self.0.get_mut(usize::from(at / 64)) {
            *word |= 1 << (at % 64);
        }
    }

    fn and(mut self, other: &Bits) -> Bits {
        self.0.iter_mut().zip(other.0).for_each(|(one, other)| *one &= other);
        self
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    fn newest_first(&self) -> Vec<u16> {
        let mut found = Vec::new();
        for (at, word) in self.0.iter().enumerate().rev() {
            let mut left = *word;
            while left != 0 {
                let bit = 63 - left.leading_zeros();
                found.push(at as u16 * 64 + bit as u16);
                left &= !(1 << bit);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(block: &WordBlock, query: &str) -> Vec<u64> {
        let found = Block::read(&block.bytes).unwrap().candidates(&Query::parse(query).unwrap());
        found.into_iter().map(|at| block.first + u64::from(at)).collect()
    }

    #[test]
    fn a_block_names_the_messages_with_parts_of_its_words() {
        let mut builder = Builder::new(10);
        for (seq, text) in [(10, "سلام دنیا"), (11, "hello world"), (13, "سلام hello"), (700, "worldwide")]
        {
            assert!(builder.add(seq, text));
        }
        let block = builder.finish(700, false);
        assert_eq!(candidates(&block, "سلام"), [13, 10]);
        assert_eq!(candidates(&block, "orld"), [700, 11]);
        assert_eq!(candidates(&block, "hello سلام"), [13]);
        assert_eq!(candidates(&block, "d"), [700, 11]);
        assert_eq!(candidates(&block, "absent"), [0u64; 0]);
        assert_eq!(candidates(&Builder::new(5).finish(9, false), "a"), [0u64; 0]);
    }

    #[test]
    fn a_block_ends_before_it_is_too_long() {
        let mut builder = Builder::new(1);
        let mut seq = 1;
        while builder.add(seq, &format!("message number{seq} سلام{}", seq % 50)) {
            seq += 1;
        }
        let expected = builder.bytes;
        let block = builder.finish(seq - 1, true);
        assert_eq!(block.bytes.len(), expected);
        assert!(block.bytes.len() <= BYTES_MAX && block.bytes.len() > BYTES_MAX - 100 && seq > 600, "{seq}");
        assert!(Block::read(&block.bytes).unwrap().full);
        assert_eq!(candidates(&block, &format!("number{}", seq - 1)), [seq - 1]);
        assert_eq!(candidates(&block, "message").len() as u64, seq - 1);
        let mut sparse = Builder::new(1);
        assert!(sparse.add(SPAN_MAX as u64, "a"));
        assert!(!sparse.add(SPAN_MAX as u64 + 1, "a"));
    }

    #[test]
    fn a_message_that_is_too_rich_is_looked_at_always() {
        let many: String = (0..=MESSAGE_WORDS_MAX).map(|n| format!("w{n} ")).collect();
        let long = "x".repeat(WORD_BYTES_MAX + 1);
        let large = "کلمه‌ای ".repeat(MESSAGE_BYTES_MAX / 12);
        let fits: String = (0..MESSAGE_WORDS_MAX).map(|n| format!("w{n} ")).collect();
        for (text, listed) in [(many, false), (long, false), (large, false), (fits, true)] {
            let mut builder = Builder::new(1);
            assert!(builder.add(1, &text));
            let block = builder.finish(1, false);
            assert_eq!(candidates(&block, "zzz").is_empty(), listed, "{}", text.len());
        }
    }

    #[test]
    fn a_damaged_block_never_panics() {
        let mut builder = Builder::new(1);
        for seq in 1..200 {
            builder.add(seq, &format!("word{seq} and more"));
        }
        let bytes = builder.finish(199, false).bytes;
        let query = Query::parse("word and").unwrap();
        let mut state = 7u32;
        for _ in 0..2000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut damaged = bytes.clone();
            let at = state as usize % damaged.len();
            damaged[at] ^= (state >> 24) as u8 | 1;
            damaged.truncate(damaged.len() - (state as usize >> 8) % 40);
            if let Some(block) = Block::read(&damaged) {
                let _ = block.candidates(&query);
            }
        }
    }
}
