//! Resumable uploads: going on after a cut, their bounds and their end, and tus 1.0.0 to the letter.

use chelseru_tests::{Answer, TestGateway};
use serde_json::json;

use crate::chat_files::{Street, TIGHT, fed_by_hand, until};

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_a_cut_and_a_restart() {
    let mut street = Street::open("").await;
    let content: Vec<u8> = (0..300_000u32).map(|number| (number % 249) as u8).collect();
    let options = Answer::of(street.request(0, "OPTIONS", "/message/file/tus/")).await;
    assert_eq!((options.status, options.header("tus-version")), (200, "1.0.0"), "before a login");
    assert_eq!(options.header("tus-extension"), "creation,expiration,termination");
    assert_eq!(options.header("tus-max-size"), "20971520");
    let begun = street.begin(1, content.len()).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    let upload = begun.header("location").to_owned();
    assert!(!begun.header("upload-expires").is_empty());
    assert_eq!(street.piece(1, &upload, 0, &content[..100_000]).await.header("upload-offset"), "100000");
    let elsewhere = street.piece(1, &upload, 5, &content[5..6]).await;
    assert_eq!((elsewhere.status, elsewhere.header("upload-offset")), (409, "100000"));
    assert_eq!(street.piece(2, &upload, 100_000, b"x").await.status, 404, "not theirs");

    // A connection that breaks in the middle: received bytes stay.
    let (sender, body) = fed_by_hand();
    let request = street
        .request(1, "PATCH", &upload)
        .header("tus-resumable", "1.0.0")
        .header("upload-offset", "100000")
        .header("content-type", "application/offset+octet-stream")
        .body(body);
    let running = tokio::spawn(Answer::try_of(request));
    sender.send(Ok(content[100_000..150_000].to_vec())).await.expect("sent");
    let path = upload.trim_start_matches(&street.gateway.url).to_owned();
    let part = std::fs::read_dir(street.gateway.dir.path().join("data/uploads/incoming")).expect("a folder");
    let part =
        part.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|e| e == "part"));
    let part = part.expect("bytes");
    until(|| std::fs::metadata(&part).expect("a file").len() == 150_000).await;
    assert_eq!(street.piece(1, &upload, 100_000, b"x").await.status, 423, "another request is at it");
    sender.send(Err(std::io::Error::other("cut"))).await.expect("sent");
    assert!(running.await.expect("no panic").is_err());

    let (users, room, clock) = (street.users.clone(), street.room, street.clock.clone());
    let dir = street.gateway.stop().await;
    street = Street { gateway: TestGateway::start_in(dir, clock.clone()).await, clock, users, room };
    let upload = street.gateway.at(&path);
    let head = street.tus(1, "HEAD", &upload, &[], b"").await;
    assert_eq!((head.status, head.header("upload-offset")), (200, "150000"), "{head:?}");
    let over = street.piece(1, &upload, 150_000, &vec![0; 150_001]).await;
    assert_eq!(over.status, 413, "{over:?}");
    let offset: usize =
        street.tus(1, "HEAD", &upload, &[], b"").await.header("upload-offset").parse().expect("a number");
    // Bytes received before the refused one stay, too, and all of them must be correct.
    assert!(offset >= 150_000, "{offset}");
    street.tus(1, "DELETE", &upload, &[], b"").await;
    assert_eq!(street.tus(1, "HEAD", &upload, &[], b"").await.status, 404);
    assert_eq!(street.on_disk(), 0);

    let upload = street.begin(1, content.len()).await.header("location").to_owned();
    assert_eq!(street.piece(1, &upload, 0, &content[..150_000]).await.status, 204);
    let last = street.piece(1, &upload, 150_000, &content[150_000..]).await;
    assert_eq!((last.status, last.header("upload-offset")), (204, "300000"), "{last:?}");
    let id = last.header("upload-file-id").to_owned();
    let told = street.tus(1, "GET", &upload, &[], b"").await;
    assert_eq!((told.body["file"]["id"].to_string(), &told.body["file"]["name"]), (id, &json!("film.bin")));
    let link = street.send(1, &told.body["file"]).await;
    let got = street.request(2, "GET", &link).send().await.expect("an answer").bytes().await.expect("bytes");
    assert!(got == content, "the file is what was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn resumable_uploads_have_bounds_and_an_end() {
    let mut street = Street::open(TIGHT).await;
    let no_version = street.request(1, "POST", "/message/file/tus/").header("upload-length", "5");
    assert_eq!(Answer::of(no_version).await.status, 412);
    assert_eq!(street.begin(3, 5).await.status, 400, "not in the room");
    for headers in [
        vec![("upload-length", "5")],
        vec![("upload-length", "-5"), ("upload-metadata", "chatroom MQ==")],
        vec![("upload-length", "5"), ("upload-metadata", "chatroom ***")],
        vec![("upload-length", "99999999999999999999"), ("upload-metadata", "chatroom MQ==")],
    ] {
        let answer = street.tus(1, "POST", "/message/file/tus/", &headers, b"").await;
        assert_eq!(
            (answer.status, answer.header("tus-resumable")),
            (400, "1.0.0"),
            "{headers:?}: {answer:?}"
        );
    }
    for (length, status) in [(0, 201), (1001, 413), (1000, 201), (999, 201), (1, 429)] {
        let answer = street.begin(1, length).await;
        assert_eq!(answer.status, status, "{length}: {answer:?}");
    }
    // Announced bytes count, and are free again when the uploads expire.
    street.pass(24 * 3600).await;
    street.collected().await;
    assert_eq!(street.upload(1, "a.bin", &[7; 1000]).await.status, 201);
    let upload = street.begin(1, 1000).await.header("location").to_owned();
    assert_eq!(street.begin(1, 501).await.header("x-error-code"), "quota_exceeded");
    assert_eq!(street.begin(1, 500).await.status, 201);
    let wrong_type = [("upload-offset", "0"), ("content-type", "application/json")];
    assert_eq!(street.tus(1, "PATCH", &upload, &wrong_type, b"x").await.status, 415);
    let no_offset = [("content-type", "application/offset+octet-stream")];
    assert_eq!(street.tus(1, "PATCH", &upload, &no_offset, b"x").await.status, 400);
    assert_eq!(street.piece(1, &upload, 0, &[1; 10]).await.status, 204);
    street.pass(24 * 3600 + 1).await;
    street.collected().await;
    assert_eq!(street.tus(1, "HEAD", &upload, &[], b"").await.status, 404, "its time is over");
    assert_eq!(street.on_disk(), 0);
}

/// What the protocol asks of a server besides the bytes, for clients behind proxies and with empty files.
#[tokio::test(flavor = "multi_thread")]
async fn a_resumable_upload_follows_the_protocol_to_the_letter() {
    let street = Street::open(TIGHT).await;
    // Every answer names the version, refusals too.
    for (user, method, path) in [
        (0, "POST", "/message/file/tus/"),
        (1, "PUT", "/message/file/tus/"),
        (1, "HEAD", "/message/file/tus/nothing/"),
    ] {
        let answer = street.tus(user, method, path, &[], b"").await;
        let versions: Vec<_> = answer.headers.get_all("tus-resumable").iter().collect();
        assert_eq!(versions, ["1.0.0"], "{method} {path}: {answer:?}");
    }
    // An empty file is complete at once.
    let empty = street.begin(1, 0).await;
    assert_eq!((empty.status, empty.header("upload-offset")), (201, "0"), "{empty:?}");
    assert!(!empty.header("upload-file-id").is_empty(), "{empty:?}");
    let told = street.tus(1, "GET", empty.header("location"), &[], b"").await;
    let link = street.send(1, &told.body["file"]).await;
    let got = street.request(2, "GET", &link).send().await.expect("an answer");
    assert_eq!((got.status().as_u16(), got.bytes().await.expect("bytes").len()), (200, 0));

    // A proxy that knows GET and POST only.
    let begun = street.begin(1, 4).await;
    let upload = begun.header("location").to_owned();
    let patch = [
        ("x-http-method-override", "PATCH"),
        ("upload-offset", "0"),
        ("content-type", "application/offset+octet-stream"),
    ];
    let post = async |headers: &[(&str, &str)], body: &'static [u8]| {
        let mut request = street.request(1, "POST", &upload).header("tus-resumable", "1.0.0");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).send().await.expect("an answer")
    };
    let sent = post(&patch, b"half").await;
    assert_eq!(
        (sent.status().as_u16(), &sent.headers()["upload-offset"]),
        (204, &"4".parse().expect("text"))
    );
    let head = street.tus(1, "HEAD", &upload, &[], b"").await;
    let metadata = format!("filename ZmlsbS5iaW4=,chatroom {}", base64_of(&street.room.to_string()));
    assert_eq!((head.status, head.header("upload-metadata")), (200, metadata.as_str()), "{head:?}");
    let delete = [("x-http-method-override", "delete")];
    assert_eq!(post(&delete, b"").await.status().as_u16(), 204);
    assert_eq!(street.tus(1, "HEAD", &upload, &[], b"").await.status, 404);
    // Only here: elsewhere a header changes no method.
    let elsewhere = street.request(1, "POST", "/sessions/").header("x-http-method-override", "DELETE");
    assert_eq!(Answer::of(elsewhere).await.status, 405);
}

pub(crate) fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test(flavor = "multi_thread")]
async fn finished_resumable_uploads_block_no_further_one() {
    let street = Street::open(&TIGHT.replace("user_bytes_max = 14788", "user_bytes_max = 100000")).await;
    let mut uploads = Vec::new();
    for number in 0..5 {
        let begun = street.begin(1, 2).await;
        assert_eq!(begun.status, 201, "{number}: {begun:?}");
        let upload = begun.header("location").to_owned();
        assert_eq!(street.piece(1, &upload, 0, b"ok").await.status, 204);
        uploads.push(upload);
    }
    // The newest two may still be asked about; the states of the others are gone, their files are not.
    let mut known = 0;
    for upload in &uploads {
        known += usize::from(street.tus(1, "HEAD", upload, &[], b"").await.status == 200);
    }
    assert_eq!((known, street.on_disk()), (2, 5 + 2));
    // Unfinished ones do count.
    for status in [201, 201, 429] {
        assert_eq!(street.begin(1, 2).await.status, status);
    }
}
