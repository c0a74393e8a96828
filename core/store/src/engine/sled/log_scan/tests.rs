//! Logs of two segments with damage in one of them: what is refused, and what a power cut may leave.

use super::*;

const SEGMENT: usize = 64 * 1024;
const CAP: u8 = 2;
const WHOLE: u8 = 8;
const LINK: u8 = 10;

/// A message of a page. All numbers are below 241, so each is one byte.
fn message(kind: u8, segment: u8, page: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, kind, u8::try_from(body.len()).unwrap(), segment, page];
    message.extend_from_slice(body);
    let crc = crc32fast::hash(&[body, &message[4..8]].concat()) ^ u32::MAX;
    message[..4].copy_from_slice(&crc.to_le_bytes());
    message
}

fn page(segment: u8, page: u8) -> Vec<u8> {
    message(WHOLE, segment, page, &[7; 100])
}

fn commit(segment: u8, number: u64) -> Vec<u8> {
    let key = [&[0, u8::try_from(keys::COMMIT.len()).unwrap()], keys::COMMIT].concat();
    message(LINK, segment, 1, &[&key[..], &[16], &commit_value(number)].concat())
}

fn segment(number: u8, messages: &[Vec<u8>]) -> Vec<u8> {
    let lsn = i64::from(number) * SEGMENT as i64;
    let mut bytes = vec![0; 4];
    bytes.extend([lsn, 0].map(|lsn| (lsn ^ i64::MAX).to_le_bytes()).concat());
    let crc = crc32fast::hash(&bytes[4..]) ^ u32::MAX;
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes.extend(messages.concat());
    bytes.extend(message(CAP, number, 0, &[]));
    bytes.resize(SEGMENT, 0);
    bytes
}

fn scanned(file: &[u8]) -> LogScan {
    let database = tempfile::tempdir().unwrap();
    std::fs::write(database.path().join("db"), file).unwrap();
    scan(database.path(), SEGMENT).unwrap()
}

/// Two segments. The second one replaces pages of the first one and ends with two batches.
fn log(replaced: &[u8], damage: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut first = segment(3, &[page(3, 5), page(3, 6)]);
    damage(&mut first);
    let mut later: Vec<_> = replaced.iter().map(|number| page(4, *number)).collect();
    later.extend([commit(4, 8), page(4, 9), commit(4, 9)]);
    [first, segment(4, &later)].concat()
}

fn is_damaged(file: &[u8]) -> bool {
    let found = scanned(file);
    assert_eq!(found.last_batch, Some(9));
    found.damage.is_some()
}

#[test]
fn an_unreadable_message_is_damage_when_it_is_the_only_one_that_is_needed() {
    let content = |first: &mut [u8]| first[SEGMENT_HEADER + 50] ^= 1;
    assert!(!is_damaged(&log(&[], |_| ())));
    assert!(is_damaged(&log(&[6], content)));
    assert!(is_damaged(&log(&[5], content)), "the other one");
    assert!(!is_damaged(&log(&[5, 6], content)));
}

#[test]
fn a_segment_without_its_start_is_damage_when_a_page_in_it_is_needed() {
    let first = page(3, 5).len();
    for end in [SEGMENT_HEADER, SEGMENT_HEADER + first] {
        let zero = |bytes: &mut [u8]| bytes[..end].fill(0);
        assert!(is_damaged(&log(&[5], zero)), "zero up to {end}");
        assert!(!is_damaged(&log(&[5, 6], zero)), "zero up to {end}");
        // No power cut leaves anything else.
        let garbage = |bytes: &mut [u8]| bytes[..end].fill(0xa5);
        assert!(is_damaged(&log(&[5, 6], garbage)), "garbage up to {end}");
    }
    let blank = |bytes: &mut [u8]| bytes.fill(0);
    assert!(!is_damaged(&log(&[], blank)));
}

#[test]
fn a_segment_that_was_being_overwritten_with_zeros_is_none_when_its_number_is_in_use() {
    let without_start = |bytes: &mut [u8]| bytes[..SEGMENT_HEADER].fill(0);
    let damaged = log(&[], without_start);
    assert!(is_damaged(&damaged));
    let other = segment(3, &[page(3, 8)]);
    assert!(!is_damaged(&[damaged, other].concat()));
}

#[test]
fn a_file_that_ends_within_a_message_was_cut() {
    let log = log(&[5, 6], |_| ());
    let (first, second) = log.split_at(SEGMENT);
    let turned = [second, first].concat();
    assert!(!is_damaged(&turned));
    let whole = SEGMENT + SEGMENT_HEADER + page(3, 5).len();
    assert!(is_damaged(&turned[..whole + 60]));
    // A cut between two messages looks like the end of what was written.
    assert!(!is_damaged(&turned[..whole]));
}

#[test]
fn what_follows_the_last_batch_but_one_is_left_to_the_engine() {
    let mut log = log(&[], |_| ());
    let unsynced = SEGMENT + SEGMENT_HEADER + commit(4, 8).len();
    log[unsynced + 50] ^= 1;
    assert!(!is_damaged(&log));
}
