//! The protocol itself, on the echo route: the cases of groups 1 to 7, 9 and 10 of the Autobahn test suite, by hand.
//!
//! The suite needs Python 2.7, so every test run uses these hand-written cases: what a client sends and what it must
//! receive. `cargo xtask autobahn` runs the suite itself. Group 6 is strict: a text that can no longer become valid
//! closes the socket before its end.

use std::time::Duration;

use chelseru_tests::TestGateway;
use chelseru_tests::socket::{Event, Socket, frame};

/// The required reaction to a client's bytes.
#[derive(Debug, Clone)]
enum Then {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    /// A close with this code, and then the end.
    Close(u16),
}

use Then::{Binary, Close, Pong, Text};

struct Case {
    name: String,
    send: Vec<Vec<u8>>,
    then: Vec<Then>,
}

fn case(name: impl Into<String>, send: Vec<Vec<u8>>, then: Vec<Then>) -> Case {
    Case { name: name.into(), send, then }
}

const FINAL: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

fn text(payload: &[u8]) -> Vec<u8> {
    frame(FINAL | TEXT, payload)
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FINAL | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// Groups 1 and 2: sizes, pings and pongs.
fn sizes_and_pings() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in [0, 125, 126, 127, 128, 65_535, 65_536] {
        let payload = vec![b'*'; len];
        cases.push(case(format!("1.1 text of {len}"), vec![text(&payload)], vec![Text(payload.clone())]));
        let send = vec![frame(FINAL | BINARY, &payload)];
        cases.push(case(format!("1.2 binary of {len}"), send, vec![Binary(payload.clone())]));
    }
    let chopped = text(&[b'*'; 65_536]).chunks(997).map(<[u8]>::to_vec).collect();
    cases.push(case("1.1.8 text in chops", chopped, vec![Text(vec![b'*'; 65_536])]));
    for payload in [&b""[..], b"Hello, world!", &[0, 255, 254, 253, 252, 251, 0, 255], &[254; 125]] {
        let send = vec![frame(FINAL | PING, payload)];
        cases.push(case(format!("2.1 ping of {}", payload.len()), send, vec![Pong(payload.to_vec())]));
    }
    cases.push(case("2.5 ping of 126", vec![frame(FINAL | PING, &[254; 126])], vec![Close(1002)]));
    let octets = frame(FINAL | PING, &[254; 125]).into_iter().map(|octet| vec![octet]).collect();
    cases.push(case("2.6 ping in octets", octets, vec![Pong(vec![254; 125])]));
    let send = vec![frame(FINAL | PONG, b""), frame(FINAL | PONG, b"unasked"), frame(FINAL | PING, b"p")];
    cases.push(case("2.7 unasked pongs", send, vec![Pong(b"p".to_vec())]));
    let pings: Vec<_> = (0..10_u8).map(|number| frame(FINAL | PING, &[number])).collect();
    let pongs = || (0..10_u8).map(|number| Pong(vec![number])).collect();
    cases.push(case("2.10 ten pings", pings.clone(), pongs()));
    let octets = pings.concat().into_iter().map(|octet| vec![octet]).collect();
    cases.push(case("2.11 ten pings in octets", octets, pongs()));
    cases
}

/// Groups 3 and 4: reserved bits and opcodes.
fn reserved() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in 1..8_u8 {
        let send = vec![text(b"first"), frame(FINAL | bits << 4 | TEXT, b"x")];
        cases.push(case(format!("3 bits {bits}"), send, vec![Text(b"first".to_vec()), Close(1002)]));
        let send = vec![frame(FINAL | bits << 4 | PING, b"x")];
        cases.push(case(format!("3 bits {bits} of a ping"), send, vec![Close(1002)]));
    }
    for opcode in (3..8).chain(11..16_u8) {
        for payload in [&b""[..], b"reserved"] {
            let send = vec![text(b"first"), frame(FINAL | opcode, payload), frame(FINAL | PING, b"")];
            cases.push(case(format!("4 opcode {opcode}"), send, vec![Text(b"first".to_vec()), Close(1002)]));
        }
    }
    cases.push(case("5.1 RFC: no mask", vec![vec![0x81, 1, b'x']], vec![Close(1002)]));
    cases
}

/// Group 5: fragments.
fn fragments() -> Vec<Case> {
    let (part, rest, last) = (
        |payload: &[u8]| frame(TEXT, payload),
        |payload: &[u8]| frame(CONTINUATION, payload),
        |payload: &[u8]| frame(FINAL | CONTINUATION, payload),
    );
    let whole = || Text(b"fragment1fragment2".to_vec());
    let ping = || frame(FINAL | PING, b"p");
    let pong = || Pong(b"p".to_vec());
    let octets =
        |frames: Vec<Vec<u8>>| frames.concat().into_iter().map(|octet| vec![octet]).collect::<Vec<_>>();
    let two = || vec![part(b"fragment1"), last(b"fragment2")];
    let with_ping = || vec![part(b"fragment1"), ping(), last(b"fragment2")];
    vec![
        case("5.1", vec![frame(PING, b"fragment1"), last(b"fragment2")], vec![Close(1002)]),
        case("5.2", vec![frame(PONG, b"fragment1"), last(b"fragment2")], vec![Close(1002)]),
        case("5.3", two(), vec![whole()]),
        case("5.5", octets(two()), vec![whole()]),
        case("5.6", with_ping(), vec![pong(), whole()]),
        case("5.8", octets(with_ping()), vec![pong(), whole()]),
        case("5.9", vec![last(b"nothing to go on"), text(b"x")], vec![Close(1002)]),
        case("5.12", vec![rest(b"nothing to go on"), text(b"x")], vec![Close(1002)]),
        case("5.15", [two(), vec![rest(b"more"), text(b"x")]].concat(), vec![whole(), Close(1002)]),
        case("5.18", vec![part(b"fragment1"), text(b"fragment2")], vec![Close(1002)]),
        case(
            "5.19",
            vec![part(b"1"), rest(b"2"), ping(), rest(b"3"), rest(b"4"), ping(), last(b"5")],
            vec![pong(), pong(), Text(b"12345".to_vec())],
        ),
        case("5 empty fragments", vec![part(b""), rest(b""), last(b"")], vec![Text(Vec::new())]),
        case(
            "5 binary in fragments",
            vec![frame(BINARY, &[1]), rest(&[2]), last(&[0xff])],
            vec![Binary(vec![1, 2, 0xff])],
        ),
    ]
}

/// Group 6: valid and invalid UTF-8 texts.
fn texts() -> Vec<Case> {
    let mut cases = Vec::new();
    let hello = "Hello-µ@ßöäüàá-UTF-8!! κόσμε".as_bytes();
    cases.push(case("6.2.1", vec![text(hello)], vec![Text(hello.to_vec())]));
    let (first, second) = hello.split_at(7);
    let two = vec![frame(TEXT, first), frame(FINAL | CONTINUATION, second)];
    cases.push(case("6.2.2", two, vec![Text(hello.to_vec())]));
    let mut each: Vec<_> = hello.iter().map(|octet| frame(CONTINUATION, &[*octet])).collect();
    each[0][0] = TEXT;
    each.push(frame(FINAL | CONTINUATION, b""));
    cases.push(case("6.2.3 a fragment for each octet", each, vec![Text(hello.to_vec())]));
    // The limits of each length, and code points that are no characters but may be sent.
    let valid: &[&[u8]] = &[
        &[0x00],
        &[0x7f],
        &[0xc2, 0x80],
        &[0xdf, 0xbf],
        &[0xe0, 0xa0, 0x80],
        &[0xef, 0xbf, 0xbf],
        &[0xf0, 0x90, 0x80, 0x80],
        &[0xf4, 0x8f, 0xbf, 0xbf],
        &[0xed, 0x9f, 0xbf],
        &[0xee, 0x80, 0x80],
        &[0xef, 0xbf, 0xbd],
        &[0xef, 0xbf, 0xbe],
        &[0xf0, 0x9f, 0xbf, 0xbf],
    ];
    for bytes in valid {
        cases.push(case(format!("6 valid {bytes:02x?}"), vec![text(bytes)], vec![Text(bytes.to_vec())]));
    }
    let invalid: &[&[u8]] = &[
        &[0x80],
        &[0xbf],
        &[0x80, 0xbf, 0x80],
        &[0xc0, 0x20],
        &[0xc3],
        &[0xe0, 0x20, 0x20],
        &[0xe2, 0x82],
        &[0xf0, 0x90, 0x80],
        &[0xf8, 0x88, 0x80, 0x80, 0x80],
        &[0xfc, 0x84, 0x80, 0x80, 0x80, 0x80],
        &[0xfe],
        &[0xff],
        &[0xc0, 0xaf],
        &[0xc1, 0xbf],
        &[0xe0, 0x80, 0xaf],
        &[0xe0, 0x9f, 0xbf],
        &[0xf0, 0x80, 0x80, 0xaf],
        &[0xf0, 0x8f, 0xbf, 0xbf],
        &[0xf4, 0x90, 0x80, 0x80],
        &[0xf5, 0x80, 0x80, 0x80],
        &[0xed, 0xa0, 0x80],
        &[0xed, 0xbf, 0xbf],
        &[0xed, 0xa0, 0x80, 0xed, 0xb0, 0x80],
        &[0xce, 0xba, 0xed, 0xa0, 0x80, 0x65],
    ];
    for bytes in invalid {
        cases.push(case(format!("6 invalid {bytes:02x?}"), vec![text(bytes)], vec![Close(1007)]));
        let each = bytes.iter().enumerate().map(|(at, octet)| {
            let opcode = if at == 0 { TEXT } else { CONTINUATION };
            let last = if at + 1 == bytes.len() { FINAL } else { 0 };
            frame(last | opcode, &[*octet])
        });
        cases.push(case(format!("6.3 invalid {bytes:02x?} by octet"), each.collect(), vec![Close(1007)]));
    }
    // 6.4: reported as soon as it is known, between fragments and within a frame.
    let begun = vec![frame(TEXT, "κόσμε".as_bytes()), frame(CONTINUATION, &[0xf4, 0x90])];
    cases.push(case("6.4.1", begun, vec![Close(1007)]));
    let mut half = text(&[&[b'a'; 10], &[0xf4, 0x90][..], &[b'a'; 100]].concat());
    half.truncate(half.len() - 90);
    cases.push(case("6.4.3 half a frame", vec![half], vec![Close(1007)]));
    cases
}

/// Group 7: closing.
fn closings() -> Vec<Case> {
    let mut cases = vec![
        case("7.1.1", vec![text(b"x"), close(1000, b"")], vec![Text(b"x".to_vec()), Close(1000)]),
        case("7.1.2 two closes", vec![close(1000, b""), close(1000, b"")], vec![Close(1000)]),
        case("7.1.3 ping after close", vec![close(1000, b""), frame(FINAL | PING, b"")], vec![Close(1000)]),
        case("7.1.4 text after close", vec![close(1000, b""), text(b"late")], vec![Close(1000)]),
        case(
            "7.1.5 close between fragments",
            vec![frame(TEXT, b"1"), close(1000, b""), frame(FINAL | CONTINUATION, b"2")],
            vec![Close(1000)],
        ),
        case("7.3.1 no code", vec![frame(FINAL | CLOSE, b"")], vec![Close(1000)]),
        case("7.3.2 one byte", vec![frame(FINAL | CLOSE, b"a")], vec![Close(1002)]),
        case("7.3.4 a reason", vec![close(1000, b"Hello World!")], vec![Close(1000)]),
        case("7.3.5 the longest reason", vec![close(1000, &[b'*'; 123])], vec![Close(1000)]),
        case("7.3.6 too long a reason", vec![close(1000, &[b'*'; 124])], vec![Close(1002)]),
        case(
            "7.5.1 a reason that is no text",
            vec![close(1000, &[0xce, 0xba, 0xed, 0xa0, 0x80])],
            vec![Close(1007)],
        ),
    ];
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        cases.push(case(format!("7.7 code {code}"), vec![close(code, b"")], vec![Close(code)]));
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        cases.push(case(format!("7.9 code {code}"), vec![close(code, b"")], vec![Close(1002)]));
    }
    cases
}

/// Groups 9 and 10: sizes and numbers.
fn large() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in [1 << 18, 1 << 22, 1 << 24] {
        let payload = vec![b'*'; len];
        cases.push(case(format!("9.1 text of {len}"), vec![text(&payload)], vec![Text(payload.clone())]));
        let send = vec![frame(FINAL | BINARY, &payload)];
        cases.push(case(format!("9.2 binary of {len}"), send, vec![Binary(payload)]));
    }
    for size in [256, 4096, 65_536] {
        let payload = vec![b'*'; 1 << 20];
        let mut parts: Vec<_> = payload.chunks(size).map(|part| frame(CONTINUATION, part)).collect();
        parts[0][0] = TEXT;
        parts.last_mut().expect("some")[0] = FINAL | CONTINUATION;
        cases.push(case(format!("9.3 fragments of {size}"), vec![parts.concat()], vec![Text(payload)]));
    }
    let chops = text(&vec![b'*'; 1 << 20]).chunks(1024).map(<[u8]>::to_vec).collect();
    cases.push(case("9.5 chops", chops, vec![Text(vec![b'*'; 1 << 20])]));
    let many = vec![text(&[b'*'; 64]); 1000];
    cases.push(case("9.7 a thousand texts", many, vec![Text(vec![b'*'; 64]); 1000]));
    let payload = vec![b'*'; 65_536];
    let mut parts: Vec<_> = payload.chunks(1300).map(|part| frame(CONTINUATION, part)).collect();
    parts[0][0] = TEXT;
    parts.last_mut().expect("some")[0] = FINAL | CONTINUATION;
    cases.push(case("10.1", parts, vec![Text(payload)]));
    cases
}

async fn check(address: &str, case: Case) {
    let mut socket = Socket::open(address, &[]).await.expect("the echo route is there");
    let (sent, mut writer) = {
        // Reading must continue while much is sent.
        let Case { send, .. } = &case;
        (send.clone(), socket_writer(&socket))
    };
    let writing = tokio::spawn(async move {
        for bytes in sent {
            // A gateway that has closed may stop reading.
            if tokio::io::AsyncWriteExt::write_all(&mut writer, &bytes).await.is_err() {
                return;
            }
        }
    });
    for then in &case.then {
        let event = socket.event().await;
        let as_expected = match (then, &event) {
            (Text(expected), Event::Text(got)) => got.as_bytes() == expected,
            (Binary(expected), Event::Binary(got)) | (Pong(expected), Event::Pong(got)) => got == expected,
            (Close(expected), Event::Close(got, _)) => got == expected,
            _ => false,
        };
        assert!(as_expected, "{}: expected {}, got {}", case.name, short(then), short(&event));
    }
    match case.then.last() {
        Some(Close(_)) => {
            assert_eq!(socket.event().await, Event::End, "{}: one close and no more", case.name)
        }
        _ => {
            assert!(socket.is_quiet(Duration::from_millis(1)).await, "{}: nothing more", case.name);
            writing.await.expect("no panic");
            socket.send_bytes(&close(1000, b"")).await;
            assert!(matches!(socket.event().await, Event::Close(1000, _)), "{}: a good end", case.name);
            assert_eq!(socket.event().await, Event::End, "{}", case.name);
            return;
        }
    }
    writing.abort();
}

/// A second handle of the connection.
fn socket_writer(socket: &Socket) -> tokio::net::TcpStream {
    use std::os::fd::AsFd;
    let handle = socket.stream.as_fd().try_clone_to_owned().expect("a handle");
    tokio::net::TcpStream::from_std(handle.into()).expect("a socket")
}

fn short(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.chars().take(120).collect()
}

async fn check_all(cases: Vec<Case>) {
    let gateway = TestGateway::start("").await;
    let address = gateway.at("/ws/echo/");
    for case in cases {
        check(&address, case).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_1_to_5_and_7_are_as_the_protocol_says() {
    check_all([sizes_and_pings(), reserved(), fragments(), closings()].into_iter().flatten().collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_6_takes_text_only() {
    check_all(texts()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_9_and_10_take_large_and_many_messages() {
    check_all(large()).await;
}
