//! A bucket that fails, by a server that answers as each test says. What works is tested over a real one, in journeys.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Answers one connection after the other: with these bytes, and the last ones again and again. Without any it closes
/// the connection. Returns the bucket and the number of requests.
async fn scripted(answers: Vec<&'static str>) -> (Bucket, std::sync::Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let asked = asked.clone();
        async move {
            loop {
                let (connection, _) = listener.accept().await.expect("a connection");
                let turn = asked.fetch_add(1, Ordering::SeqCst);
                let answer = answers[turn.min(answers.len() - 1)];
                tokio::spawn(serve(connection, answer));
            }
        }
    });
    let place = BucketPlace {
        endpoint: endpoint.clone(),
        bucket: "files".to_owned(),
        region: "us-east-1".to_owned(),
        prefix: String::new(),
        access_key: "me".to_owned(),
        secret_key: "hunter2".to_owned(),
        path_style: true,
        shown: format!("{endpoint}/files/"),
    };
    (Bucket::new(&place).expect("an address"), asked)
}

async fn serve(mut connection: TcpStream, answer: &str) {
    let (mut seen, mut piece) = (Vec::new(), [0; 4096]);
    while !seen.windows(4).any(|four| four == b"\r\n\r\n") {
        match connection.read(&mut piece).await {
            Ok(read) if read > 0 => seen.extend_from_slice(&piece[..read]),
            _ => return,
        }
    }
    connection.write_all(answer.as_bytes()).await.expect("written");
    // An answer that is shorter than it says is one that does not go on.
    if answer.contains("stalls") {
        std::future::pending::<()>().await;
    }
}

const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
const BUSY: &str =
    "HTTP/1.1 503 Slow Down\r\ncontent-length: 27\r\nconnection: close\r\n\r\n<Code>ServiceBusy</Code>   ";

async fn read(pieces: Pieces) -> io::Result<Vec<u8>> {
    let pieces: Vec<_> = pieces.collect().await;
    let pieces: io::Result<Vec<_>> = pieces.into_iter().collect();
    Ok(pieces?.concat())
}

#[tokio::test]
async fn what_may_help_is_tried_again_and_then_given_up() {
    let (bucket, asked) = scripted(vec![BUSY, "", WHOLE]).await;
    let pieces = bucket.open("a", Part::whole(5)).await.expect("the third attempt");
    assert_eq!(read(pieces).await.expect("whole"), b"hello");
    assert_eq!(asked.load(Ordering::SeqCst), 3);

    let (bucket, asked) = scripted(vec![BUSY]).await;
    let error = bucket.open("a", Part::whole(5)).await.err().expect("given up");
    assert!(matches!(error, PlaceError::Away(_)) && error.to_string().contains("ServiceBusy"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 3);

    let forbidden = "HTTP/1.1 403 Forbidden\r\ncontent-length: 25\r\n\r\n<Code>AccessDenied</Code>";
    let (bucket, asked) = scripted(vec![forbidden]).await;
    let error = bucket.remove("a").await.expect_err("refused");
    assert!(matches!(error, PlaceError::Refused(_)), "{error}");
    assert!(error.to_string().contains("may not write, read and remove"), "{error}");
    assert!(!error.to_string().contains("hunter2") && !error.to_string().contains("Signature"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "a refusal is no reason to ask again");
}

#[tokio::test]
async fn a_refusal_names_the_clock_when_that_is_wrong() {
    let answer = "HTTP/1.1 403 Forbidden\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\ncontent-length: 25\r\n\r\n\
                  <Code>AccessDenied</Code>";
    let (bucket, _) = scripted(vec![answer]).await;
    let error = bucket.probe().await.expect_err("refused").to_string();
    assert!(error.contains("refuses this machine's clock, which differs by"), "{error}");
}

#[tokio::test]
async fn a_file_of_another_size_is_not_served() {
    let (bucket, _) = scripted(vec![WHOLE]).await;
    for part in [Part::whole(6), Part { start: 1, bytes: 2, of: 5 }] {
        let error = bucket.open("a", part).await.err().expect("refused");
        assert!(error.to_string().contains("has 5 bytes where"), "{error}");
    }
}

#[tokio::test]
async fn a_file_that_stops_in_the_middle_ends_in_an_error_after_a_while() {
    let stalls = "HTTP/1.1 200 OK\r\ncontent-length: 50\r\nx-test: stalls\r\n\r\nhello";
    let (bucket, _) = scripted(vec![stalls]).await;
    let started = Instant::now();
    let mut pieces = bucket.open("a", Part::whole(50)).await.expect("begun");
    assert_eq!(pieces.next().await.expect("a piece").expect("read"), "hello");
    let error = pieces.next().await.expect("an end").expect_err("no more comes");
    assert!(error.to_string().contains("ended early"), "{error}");
    assert!(started.elapsed() >= IDLE_MAX && started.elapsed() < 2 * IDLE_MAX, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_failure_inside_a_success_is_a_failure() {
    let begun = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<InitiateMultipartUploadResult \
                 xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>files</Bucket><Key>a</Key>\
                 <UploadId>7</UploadId></InitiateMultipartUploadResult>";
    let part = "HTTP/1.1 200 OK\r\netag: \"x\"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let failed = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<Error><Code>InternalError</Code></Error>";
    let gone = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
    let (bucket, asked) = scripted(vec![begun, part, failed, gone]).await;
    let local = std::env::temp_dir().join(format!("chelseru-bucket-{}", std::process::id()));
    std::fs::write(&local, b"hello").expect("a file");
    let error = bucket.put_parts("a", &local, 5).await.expect_err("not put together");
    std::fs::remove_file(&local).expect("removed");
    assert!(error.to_string().contains("could not put a file together"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 4, "the unfinished upload is aborted");
}
