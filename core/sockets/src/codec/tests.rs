//! Frames cut anywhere, broken frames, and messages at the limit.

use super::*;
use crate::trial::masked;

fn all(decoder: &mut Decoder, mut input: &[u8]) -> Result<Vec<Incoming>, Close> {
    let mut found = Vec::new();
    while let Some(incoming) = decoder.decode(&mut input)? {
        found.push(incoming);
    }
    Ok(found)
}

#[test]
fn frames_come_whole_however_they_are_cut() {
    let long = "آ".repeat(40_000);
    let bytes = [
        masked(0x81, "سلام".as_bytes()),
        masked(0x01, "a👋".as_bytes()[..3].as_ref()),
        masked(0x89, b"ping"),
        masked(0x80, "a👋".as_bytes()[3..].as_ref()),
        masked(0x81, long.as_bytes()),
        masked(0x82, &[0, 255]),
        masked(0x88, &[3, 232]),
    ]
    .concat();
    let expected = [
        Incoming::Text("سلام".into()),
        Incoming::Ping(b"ping".to_vec()),
        Incoming::Text("a👋".into()),
        Incoming::Text(long),
        Incoming::Binary(vec![0, 255]),
        Incoming::Close(1000),
    ];
    for step in [1, 2, 3, 7, 1000, bytes.len()] {
        let mut decoder = Decoder::new(100_000, u64::MAX);
        let found: Vec<_> =
            bytes.chunks(step).flat_map(|piece| all(&mut decoder, piece).expect("good frames")).collect();
        assert_eq!(found, expected, "in steps of {step}");
        // Seven frames, and 19 times 4 KiB in the long one.
        assert_eq!(decoder.take_begun(), Begun { units: 26, of_message: true });
    }
}

#[test]
fn broken_frames_have_the_code_of_their_fault() {
    let cases: &[(&[&[u8]], Close)] = &[
        (&[&masked(0xc1, b"")], Close::PROTOCOL),
        (&[&masked(0x83, b"")], Close::PROTOCOL),
        (&[&[0x81, 0x01, b'a']], Close::PROTOCOL),
        (&[&masked(0x80, b"a")], Close::PROTOCOL),
        (&[&masked(0x01, b"a"), &masked(0x81, b"b")], Close::PROTOCOL),
        (&[&masked(0x09, b"")], Close::PROTOCOL),
        (&[&masked(0x89, &[0; 126])], Close::PROTOCOL),
        (&[&masked(0x88, &[3])], Close::PROTOCOL),
        (&[&masked(0x88, &[3, 237])], Close::PROTOCOL),
        (&[&masked(0x88, &[3, 232, 0xff])], Close::NOT_UTF8),
        (&[&masked(0x81, &[0xff])], Close::NOT_UTF8),
        (&[&masked(0x01, &[0xe2, 0x82]), &masked(0x80, b"a")], Close::NOT_UTF8),
        (&[&masked(0x81, &[0xe2, 0x82])], Close::NOT_UTF8),
    ];
    for (frames, close) in cases {
        let mut decoder = Decoder::new(1000, u64::MAX);
        assert_eq!(all(&mut decoder, &frames.concat()), Err(*close), "{frames:?}");
    }
}

#[test]
fn a_message_may_have_as_many_bytes_as_the_bound_and_not_one_more() {
    for (len, fits) in [(99, true), (100, true), (101, false)] {
        let found = all(&mut Decoder::new(100, u64::MAX), &masked(0x81, &vec![b'a'; len]));
        assert_eq!(found.is_ok(), fits, "{len}");
        let halves = [masked(0x01, &vec![b'a'; len - 50]), masked(0x80, &[b'a'; 50])].concat();
        assert_eq!(all(&mut Decoder::new(100, u64::MAX), &halves).is_ok(), fits, "{len} in two");
    }
    // A message that is announced as too big is refused before a byte of it arrives.
    let head = [0x82, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(all(&mut Decoder::new(100, u64::MAX), &head), Err(Close::TOO_BIG));
}

#[test]
fn our_frames_have_the_shortest_head() {
    for (len, head) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
        let bytes = frame(Opcode::Text, &vec![b'x'; len]);
        assert_eq!(bytes.len(), head + len);
        assert!(bytes[head..].iter().all(|byte| *byte == b'x'));
    }
}
