//! The table: blocks of accounts in order of their numbers, each with the texts that a search looks into.
//!
//! A block has 256 accounts and says what none of them has: a bit for each four bytes that stand together in a text,
//! and facts. Most blocks are left out for the price of a few bits. In those that are left, each account has such a
//! signature of pairs of bytes, so few texts are read even where each of two words is frequent and no account has both.
//! Words of less than four bytes are looked for in the block's texts as a whole first.
//!
//! A changed account makes its block anew, which copies some 20 KiB.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Instant;

use chelseru_store::User;
use memchr::memmem::Finder;

use super::{Candidates, UserQuery, facts_of, text_of, words};
use crate::ids::UserId;
use crate::login::account::Rights;

/// Accounts of a block.
const BLOCK_ROWS: usize = 256;
/// Bytes that make one bit of a block's signature, and of an account's.
const BLOCK_GRAM: usize = 4;
const ROW_GRAM: usize = 2;
/// Bits of a block's signature. Numbers alone set 7 of 100, names and mail addresses 25.
const BLOCK_BITS: usize = 1 << 15;
/// Blocks that are looked at in one step. Other tasks run between steps.
const SCAN_STEP: usize = 128;

#[derive(Default)]
pub(super) struct Table {
    blocks: VecDeque<Block>,
    bytes: usize,
    /// The newest account that left the table for its bound.
    unsearched: Option<UserId>,
    pub(super) used_at: Option<Instant>,
}

struct Block {
    rows: Vec<Row>,
    /// Of each row.
    signatures: Vec<u128>,
    text: Vec<u8>,
    signature: Box<[u64; BLOCK_BITS / 64]>,
    /// Bits of facts that some row has, and that some row lacks.
    set: u32,
    clear: u32,
}

#[derive(Clone, Copy)]
struct Row {
    id: UserId,
    facts: Facts,
    /// Where the row's text ends; it begins where that of the row before ends.
    end: u32,
}

/// What filters ask for.
#[derive(Clone, Copy)]
pub(super) struct Facts {
    pub(super) joined_secs: u32,
    /// See the constants.
    pub(super) bits: u32,
}

/// The words of a query as texts hold them, and its filters.
pub(super) struct Wanted {
    words: Vec<Finder<'static>>,
    signature: u128,
    /// Bits of the blocks' signatures.
    block_bits: Vec<usize>,
    /// Words that these bits say nothing about.
    short: Vec<Finder<'static>>,
    /// The bits that filters ask for, and their values.
    mask: u32,
    bits: u32,
    /// Seconds, both inclusive: seconds are rounded down here, and the account itself is compared exactly.
    joined: RangeInclusive<u64>,
}

impl Table {
    /// The newest account.
    pub(super) fn last(&self) -> Option<UserId> {
        self.blocks.back().and_then(Block::last).or(self.unsearched)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an account that is newer than all others.
    pub(super) fn append(&mut self, user: &User) {
        if self.blocks.back().is_none_or(|block| block.rows.len() >= BLOCK_ROWS) {
            if let Some(full) = self.blocks.back_mut() {
                self.bytes -= full.bytes();
                full.fit();
                self.bytes += full.bytes();
            }
            self.blocks.push_back(Block::new());
            self.bytes += self.blocks.back().map_or(0, Block::bytes);
        }
        if let Some(block) = self.blocks.back_mut() {
            self.bytes -= block.bytes();
            block.push_user(user);
            self.bytes += block.bytes();
        }
    }

    /// Takes in accounts that were made, changed or, with `None`, erased. In order of their numbers.
    pub(super) fn change(&mut self, news: Vec<(UserId, Option<User>)>) {
        // Newer ones are read from the store.
        let Some(last) = self.last() else { return };
        let mut news = news.into_iter().filter(|(id, _)| *id <= last).peekable();
        while let Some((first, _)) = news.peek() {
            let at = self.blocks.partition_point(|block| block.first() <= Some(*first)).saturating_sub(1);
            let Some(old) = self.blocks.get(at) else { return };
            let end = self.blocks.get(at + 1).and_then(Block::first);
            let mut own = Vec::new();
            while let Some(one) = news.next_if(|(id, _)| end.is_none_or(|end| *id < end)) {
                // What left the table stays outside.
                if self.unsearched.is_none_or(|unsearched| unsearched < one.0) {
                    own.push(one);
                }
            }
            let block = old.with(&own);
            self.bytes = self.bytes - old.bytes() + block.bytes();
            if block.rows.is_empty() {
                self.blocks.remove(at);
            } else {
                self.blocks[at] = block;
            }
        }
    }

    /// Drops the oldest blocks until the table fits.
    pub(super) fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max && self.blocks.len() > 1 {
            if let Some(oldest) = self.blocks.pop_front() {
                self.bytes -= oldest.bytes();
                self.unsearched = oldest.last().or(self.unsearched);
            }
        }
    }

    pub(super) async fn find(&self, wanted: &Wanted, before: Option<UserId>, limit: usize) -> Candidates {
        let mut found = Candidates { ids: Vec::new(), next: None, unsearched: self.unsearched };
        let blocks = before.map_or(self.blocks.len(), |before| {
            self.blocks.partition_point(|block| block.first().is_some_and(|first| first < before))
        });
        for (looked, block) in self.blocks.range(..blocks).rev().enumerate() {
            let rows =
                before.map_or(block.rows.len(), |before| block.rows.partition_point(|row| row.id < before));
            let rows = if block.may_fit(wanted) { rows } else { 0 };
            for at in (0..rows).rev().filter(|at| block.fits(*at, wanted)) {
                found.ids.push(block.rows[at].id);
                if found.ids.len() == limit {
                    let is_last = looked + 1 == blocks && at == 0;
                    found.next = block.rows.get(at).map(|row| row.id).filter(|_| !is_last);
                    return found;
                }
            }
            if (looked + 1).is_multiple_of(SCAN_STEP) {
                tokio::task::yield_now().await;
            }
        }
        found
    }
}

impl Block {
    fn new() -> Block {
        let (rows, signatures, text) = Default::default();
        Block { rows, signatures, text, signature: Box::new([0; BLOCK_BITS / 64]), set: 0, clear: 0 }
    }

    fn first(&self) -> Option<UserId> {
        self.rows.first().map(|row| row.id)
    }

    fn last(&self) -> Option<UserId> {
        self.rows.last().map(|row| row.id)
    }

    fn push(&mut self, id: UserId, facts: Facts, text: &[u8]) {
        for bit in block_bits(text) {
            self.signature[bit / 64] |= 1 << (bit % 64);
        }
        self.signatures.push(signature(text));
        self.set |= facts.bits;
        self.clear |= !facts.bits;
        self.text.extend_from_slice(text);
        // A block's texts are far below 4 GiB: 256 of a few hundred bytes.
        self.rows.push(Row { id, facts, end: u32::try_from(self.text.len()).unwrap_or(u32::MAX) });
    }

    fn push_user(&mut self, user: &User) {
        self.push(user.id, facts_of(user), text_of(user).as_bytes());
    }

    /// The same block with accounts added, replaced and, with `None`, removed. In order of their numbers.
    fn with(&self, news: &[(UserId, Option<User>)]) -> Block {
        let mut block = Block::new();
        let mut news = news.iter().peekable();
        for (at, row) in self.rows.iter().enumerate() {
            while let Some((_, user)) = news.next_if(|(id, _)| *id < row.id) {
                user.iter().for_each(|user| block.push_user(user));
            }
            match news.next_if(|(id, _)| *id == row.id) {
                Some((_, user)) => user.iter().for_each(|user| block.push_user(user)),
                None => block.push(row.id, row.facts, self.text_of(at)),
            }
        }
        for (_, user) in news {
            user.iter().for_each(|user| block.push_user(user));
        }
        block.fit();
        block
    }

    fn fit(&mut self) {
        self.rows.shrink_to_fit();
        self.signatures.shrink_to_fit();
        self.text.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        size_of::<Block>()
            + BLOCK_BITS / 8
            + self.signatures.capacity() * size_of::<u128>()
            + self.rows.capacity() * size_of::<Row>()
            + self.text.capacity()
    }

    fn text_of(&self, at: usize) -> &[u8] {
        &self.text[self.start(at)..self.rows[at].end as usize]
    }

    fn start(&self, at: usize) -> usize {
        if at == 0 { 0 } else { self.rows[at - 1].end as usize }
    }

    /// False when no account fits.
    fn may_fit(&self, wanted: &Wanted) -> bool {
        let is_set = |bit: &usize| self.signature[bit / 64] & (1 << (bit % 64)) != 0;
        wanted.bits & !self.set == 0
            && (wanted.mask & !wanted.bits) & !self.clear == 0
            && wanted.block_bits.iter().all(is_set)
            && wanted.short.iter().all(|word| word.find(&self.text).is_some())
    }

    fn fits(&self, at: usize, wanted: &Wanted) -> bool {
        self.signatures[at] & wanted.signature == wanted.signature
            && wanted.admits(self.rows[at].facts)
            && wanted.words.iter().all(|word| word.find(self.text_of(at)).is_some())
    }
}

impl Wanted {
    pub(super) fn new(query: &UserQuery) -> Wanted {
        let words: Vec<String> = words(&query.text);
        let signature = words.iter().fold(0, |all, word| all | signature(word.as_bytes()));
        let block_bits = words.iter().flat_map(|word| block_bits(word.as_bytes())).collect();
        let finder = |word: &String| Finder::new(word.as_bytes()).into_owned();
        let short = words.iter().filter(|word| word.len() < BLOCK_GRAM).map(finder).collect();
        let words = words.iter().map(finder).collect();
        let (mut mask, mut bits) = (0, 0);
        let mut ask = |own: u32, value: u32| {
            mask |= own;
            bits |= value & own;
        };
        if let Some(active) = query.active {
            ask(Facts::ACTIVE, if active { Facts::ACTIVE } else { 0 });
        }
        match query.rights {
            None => {}
            Some(Rights::None) => ask(Facts::STAFF | Facts::SUPERUSER, 0),
            Some(Rights::Staff) => ask(Facts::STAFF | Facts::SUPERUSER, Facts::STAFF),
            Some(Rights::Superuser) => ask(Facts::SUPERUSER, Facts::SUPERUSER),
        }
        if let Some(group) = query.group {
            ask(Facts::GROUP, group << Facts::GROUP.trailing_zeros());
        }
        let (from, until) = (query.from.map_or(0, |from| from.as_secs()), query.until);
        let joined = from..=until.map_or(u64::MAX, |until| until.as_secs());
        Wanted { words, signature, block_bits, short, mask, bits, joined }
    }

    /// Whether everything but the text fits.
    fn admits(&self, facts: Facts) -> bool {
        facts.bits & self.mask == self.bits && self.joined.contains(&u64::from(facts.joined_secs))
    }
}

impl Facts {
    pub(super) const ACTIVE: u32 = 1;
    pub(super) const STAFF: u32 = 1 << 1;
    pub(super) const SUPERUSER: u32 = 1 << 2;
    /// The rest is the group, without its three highest bits.
    pub(super) const GROUP: u32 = !0 << 3;
}

/// A bit for each two bytes of a text that stand together.
fn signature(text: &[u8]) -> u128 {
    let bit = |gram: &[u8; ROW_GRAM]| 1 << spread(u16::from_le_bytes(*gram).into(), u128::BITS as usize);
    text.array_windows().map(bit).fold(0, |all, bit: u128| all | bit)
}

/// The bits of a text in a block's signature.
fn block_bits(text: &[u8]) -> impl Iterator<Item = usize> {
    let bit = |gram: &[u8; BLOCK_GRAM]| spread(u32::from_le_bytes(*gram), BLOCK_BITS);
    text.array_windows().map(bit)
}

/// One of so many bits for a number.
fn spread(number: u32, bits: usize) -> usize {
    (number.wrapping_mul(0x9e37_79b9) >> (u32::BITS - bits.ilog2())) as usize
}
