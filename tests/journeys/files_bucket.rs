//! Uploaded files in a bucket of an S3-compatible store: the same answers as from a folder, and none that hangs when
//! the bucket does.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru::cli;
use chelseru::http::files::store::Folder;
use chelseru_domain::clock::SystemClock;
use chelseru_domain::files::place::{FilePlace, Part, Pieces, PlaceError};
use chelseru_outbound::bucket::Bucket;
use chelseru_tests::bucket::{ACCESS_KEY, BUCKET, BucketServer, Mode, SECRET_KEY};
use chelseru_tests::process::{self, Served};
use chelseru_tests::{Answer, Login, PATIENCE, TestGateway, folder};
use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::chat_files::Street;
use crate::chat_pictures::png;
use crate::import;

/// The place that a configuration names.
fn place(server: &BucketServer) -> Bucket {
    let config = server.config();
    let loaded = chelseru::config::Config::parse(Path::new("config.toml"), config).expect("a configuration");
    match loaded.files_place().expect("a place") {
        chelseru::config::FilesPlace::Bucket(place) => Bucket::new(&place).expect("an address"),
        chelseru::config::FilesPlace::Folder => panic!("a bucket is configured"),
    }
}

async fn whole(pieces: Pieces) -> std::io::Result<Vec<u8>> {
    let pieces: Vec<_> = pieces.collect().await;
    pieces.into_iter().try_fold(Vec::new(), |mut all, piece| {
        all.extend_from_slice(&piece?);
        Ok(all)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_and_a_bucket_keep_the_same_promises() {
    let Some(server) = BucketServer::start() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let places: [Box<dyn FilePlace>; 2] =
        [Box::new(Folder::new(dir.path().join("uploads"))), Box::new(place(&server))];
    let content: Vec<u8> = (0..300_000u32).map(|number| (number % 251) as u8).collect();
    for place in places {
        std::fs::create_dir_all(dir.path().join("uploads")).expect("a folder");
        place.probe().await.expect("it works");
        let (local, path) = (dir.path().join("local"), "chat_files/2026/11/27/ab.bin");
        std::fs::write(&local, &content).expect("a file");
        place.offer(&local, path).await.expect("offered");
        assert!(local.exists(), "the local file stays until it settles");
        place.settle(&local, path).await.expect("settled");
        assert!(!local.exists());
        let of = content.len() as u64;
        for (start, bytes) in [(0, of), (0, 1), (65_530, 131_080), (of - 7, 7)] {
            let pieces = place.open(path, Part { start, bytes, of }).await.expect("there");
            let (start, end) = (start as usize, (start + bytes) as usize);
            assert!(whole(pieces).await.expect("read") == content[start..end], "{start}..{end}");
        }
        place.remove(path).await.expect("removed");
        place.remove(path).await.expect("a missing file is no error");
        let missing = place.open(path, Part::whole(of)).await.err();
        assert!(matches!(missing, Some(PlaceError::Missing)), "{missing:?}");

        // An empty file, and one whose record was refused.
        std::fs::write(&local, b"").expect("a file");
        place.offer(&local, path).await.expect("offered");
        place.offer(&local, path).await.expect("offered again");
        place.withdraw(path).await.expect("withdrawn");
        place.withdraw(path).await.expect("withdrawn again");
        assert!(local.exists() && place.open(path, Part::whole(1)).await.is_err());
        place.offer(&local, path).await.expect("offered");
        place.settle(&local, path).await.expect("settled");
        let pieces = place.open(path, Part::whole(0)).await.expect("there");
        assert_eq!(whole(pieces).await.expect("read"), b"");
        place.remove(path).await.expect("removed");
    }
    assert_eq!(server.objects(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_travels_in_parts() {
    let Some(server) = BucketServer::start() else { return };
    let (dir, place) = (tempfile::tempdir().expect("a folder"), place(&server));
    let local = dir.path().join("local");
    // Four parts and a byte; each mebibyte has its number.
    let bytes = 64 * 1024 * 1024 + 1;
    let content: Vec<u8> = (0..bytes).map(|at: usize| (at >> 20) as u8).collect();
    std::fs::write(&local, &content).expect("a file");
    place.offer(&local, "large").await.expect("offered");
    assert!(server.asked() >= 7, "{} requests", server.asked());
    assert!(server.object("shop/large") == content, "every part at its place");
    let of = content.len() as u64;
    let pieces = place.open("large", Part { start: of - 2, bytes: 2, of }).await.expect("there");
    assert_eq!(whole(pieces).await.expect("read"), [63, 64]);
}

impl Street {
    async fn get(&self, user: usize, link: &str, headers: &[(&str, &str)]) -> reqwest::Response {
        let host = self.gateway.url.trim_end_matches("/drfchelseru");
        let link = if link.starts_with('/') { format!("{host}{link}") } else { link.to_owned() };
        let request = headers
            .iter()
            .fold(self.request(user, "GET", &link), |request, (name, value)| request.header(*name, *value));
        request.send().await.expect("an answer")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_a_bucket_are_served_and_removed_like_files_in_a_folder() {
    let Some(server) = BucketServer::start() else { return };
    let mut street = Street::open(&server.config()).await;
    let picture = png(640, 480);
    let file = street.upload(1, "cat.png", &picture).await;
    assert_eq!(file.status, 201, "{file:?}");
    let path = file.body["file"].as_str().expect("a path").to_owned();
    let object = path.replace("/media/uploads/", "shop/");
    assert_eq!(server.objects(), [object.clone(), format!("{object}.thumbnail")]);
    assert!(server.object(&object) == picture);
    assert_eq!(street.on_disk(), 0, "nothing stays on this machine");
    let link = street.send(1, &file.body).await;

    let got = street.get(2, &link, &[]).await;
    let tag = got.headers()["etag"].to_str().expect("text").to_owned();
    assert!(got.bytes().await.expect("bytes") == picture);
    let part = street.get(2, &link, &[("range", "bytes=10-19")]).await;
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], &*format!("bytes 10-19/{}", picture.len()));
    assert!(part.bytes().await.expect("bytes") == picture[10..20]);
    let none = street.get(2, &link, &[("range", "bytes=9999999-")]).await;
    assert_eq!(none.status(), 416);
    let asked = server.asked();
    assert_eq!(street.get(2, &link, &[("if-none-match", &tag)]).await.status(), 304);
    let head = street.ask(2, "HEAD", &link, Value::Null).await;
    assert_eq!((head.status, head.header("content-length")), (200, &*picture.len().to_string()));
    assert_eq!(server.asked(), asked, "neither asks the bucket");
    assert_eq!(street.get(3, &link, &[]).await.status(), 404);
    let facts = street.ask(2, "GET", &format!("/chat/files/{}/", file.body["id"]), Value::Null).await.body;
    for (link, mime) in [(&facts["link"], "image/png"), (&facts["thumbnail"]["link"], "image/jpeg")] {
        let got = street.get(0, link.as_str().expect("a link"), &[]).await;
        assert_eq!(
            (got.status().as_u16(), &got.headers()["content-type"]),
            (200, &mime.parse().expect("a type"))
        );
        assert!(!got.bytes().await.expect("bytes").is_empty());
    }

    // By tus, and empty.
    let content = vec![7; 200_000];
    let upload = street.begin(1, content.len()).await.header("location").to_owned();
    assert_eq!(street.piece(1, &upload, 0, &content[..150_000]).await.status, 204);
    let last = street.piece(1, &upload, 150_000, &content[150_000..]).await;
    assert_eq!(last.status, 204, "{last:?}");
    let told = street.tus(1, "GET", &upload, &[], b"").await;
    let film = street.send(1, &told.body["file"]).await;
    assert!(street.get(2, &film, &[]).await.bytes().await.expect("bytes") == content);
    let empty = street.begin(1, 0).await;
    assert_eq!(empty.status, 201, "{empty:?}");
    assert_eq!(server.objects().len(), 4);

    // An archive of one's own has the bytes.
    let got = street.get(1, &street.gateway.at("/me/export/"), &[]).await;
    let bytes = got.bytes().await.expect("bytes");
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).expect("an archive");
    let names = archive.file_names().map(|name| name.expect("UTF-8").into_owned());
    let name = names.collect::<Vec<_>>().into_iter().find(|name| name.ends_with("cat.png"));
    let name = name.expect("the picture");
    assert_eq!(archive.by_name(&name).expect("a file").size(), picture.len() as u64);

    // What nobody shows is collected: the empty file, and the picture once its message is gone.
    let messages =
        street.ask(1, "GET", &format!("/chat/messages/?chat_room={}", street.room), Value::Null).await;
    let results = messages.body["results"].as_array().expect("a list").clone();
    let shown = results.iter().find(|message| message["file_id"] == file.body["id"]).expect("the message");
    let path = format!("/chat/messages/{}/?chat_room={}", shown["id"], street.room);
    assert_eq!(street.ask(1, "DELETE", &path, Value::Null).await.status, 204);
    street.pass(25 * 3600).await;
    street.collected().await;
    assert_eq!(server.objects().len(), 1, "{:?}", server.objects());
    assert!(street.get(2, &film, &[]).await.bytes().await.expect("bytes") == content);
}

/// Waits until the gateway has removed what it left in the bucket.
async fn until_objects(server: &BucketServer, gateway: &TestGateway, count: usize) {
    let until = Instant::now() + PATIENCE;
    while server.objects().len() != count {
        assert!(Instant::now() < until, "{:?}", server.objects());
        gateway.app.files.finish_left().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_refuses_files_and_nothing_else() {
    let Some(mut server) = BucketServer::start() else { return };
    let street = Street::open(&server.config()).await;
    let file = street.upload(1, "a.png", &png(640, 480)).await.body;
    let link = street.send(1, &file).await;
    let content = vec![9; 5000];
    let upload = street.begin(1, content.len()).await.header("location").to_owned();
    assert_eq!(street.piece(1, &upload, 0, &content[..4000]).await.status, 204);

    let away = |answer: &Answer| {
        assert_eq!((answer.status, answer.header("x-error-code")), (503, "files_away"), "{answer:?}");
        assert_eq!(answer.header("retry-after"), "5");
    };
    for stopped in [true, false] {
        if stopped {
            server.stop();
        } else {
            server.restart();
            server.set(Mode::Fail);
        }
        away(&street.ask(2, "GET", &link, Value::Null).await);
        away(&street.upload(1, "b.bin", b"bytes").await);
        let offset = if stopped { 4000 } else { 5000 };
        away(&street.piece(1, &upload, offset, &content[offset..]).await);
        let words = json!({"chat_room": street.room, "text": "still here"});
        assert_eq!(street.ask(2, "POST", "/chat/messages/", words).await.status, 201);
        street.gateway.login("09120000002").await;
        let ready = street.gateway.get("/ready/", None).await;
        assert_eq!(ready.status, 200, "{ready:?}");
    }
    // It is back: what was there is there, the upload that was whole is kept, and nothing else is.
    server.set(Mode::Serve);
    assert_eq!(street.ask(2, "GET", &link, Value::Null).await.status, 200);
    let told = street.tus(1, "GET", &upload, &[], b"").await;
    assert_eq!((told.status, told.header("upload-offset")), (200, "5000"), "{told:?}");
    let film = street.send(1, &told.body["file"]).await;
    assert!(street.get(2, &film, &[]).await.bytes().await.expect("bytes") == content);
    until_objects(&server, &street.gateway, 3).await;
    assert_eq!(street.upload(1, "b.bin", b"bytes").await.status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn how_the_bucket_does_is_in_the_status_and_the_metrics() {
    let Some(server) = BucketServer::start() else { return };
    let street = Street::open(&server.config()).await;
    let gateway = &street.gateway;
    let place = format!("{}/{BUCKET}/shop/", server.endpoint());
    let files = async || gateway.status().await["files"].clone();
    let ready = async || gateway.get("/ready/", None).await;
    assert_eq!(files().await, json!({"place": place, "state": "ok", "error": null}));
    assert_eq!(street.upload(1, "a.bin", b"bytes").await.status, 201);
    server.set(Mode::Fail);
    assert_eq!(street.upload(1, "b.bin", b"bytes").await.status, 503);
    let told = files().await;
    assert_eq!(told["state"], "away", "{told}");
    assert!(told["error"].as_str().is_some_and(|error| error.contains("503")), "{told}");
    let ready_now = ready().await;
    assert_eq!((ready_now.status, &ready_now.body), (200, &json!({"status": "degraded"})));
    let metrics = gateway.get("/metrics/", None).await.text;
    for line in [
        "chelseru_bucket_up 0",
        "chelseru_bucket_errors_total{kind=\"away\"} 1",
        "chelseru_bucket_errors_total{kind=\"refused\"} 0",
        "chelseru_bucket_seconds_count{method=\"put\"}",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    // It is found to be back although nobody asks for a file.
    server.set(Mode::Serve);
    gateway.wait_for("the bucket", |status| status["files"]["state"] == "ok").await;
    assert_eq!(ready().await.body, json!({"status": "ok"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_does_not_hang_with_the_bucket() {
    let Some(server) = BucketServer::start() else { return };
    let gateway = TestGateway::start(&server.config()).await;
    server.hang();
    let dir = gateway.dir.path().to_owned();
    let doctor = tokio::task::spawn_blocking(move || process::run(&dir, &["doctor"])).await;
    let doctor = doctor.expect("no panic");
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(!doctor.status.success() && said.contains("does not answer within 10 s"), "{said}");
    assert_eq!(gateway.status().await["files"]["state"], "away");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_refuses_a_bucket_with_which_a_start_would_be_refused() {
    let Some(server) = BucketServer::start() else { return };
    let gateway = TestGateway::start(&server.config()).await;
    let quoted = format!("\"{SECRET_KEY}\"");
    gateway.edit_config(&server.config().replace(&quoted, "{ env = \"CHELSERU_NO_SUCH\" }"));
    let refused = |status: &Value| {
        status["config"]["last_error"].as_str().is_some_and(|error| {
            error.contains("files.s3.secret_key") && error.contains("CHELSERU_NO_SUCH is not set")
        })
    };
    gateway.wait_for("the refusal", refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_hangs_answers_in_time_and_leaves_no_copy_behind() {
    let Some(server) = BucketServer::start() else { return };
    let street = Street::open(&server.config()).await;
    let file = street.upload(1, "a.png", &png(100, 100)).await.body;
    let link = street.send(1, &file).await;
    server.hang();
    let started = Instant::now();
    let (got, sent, login) =
        tokio::join!(street.ask(2, "GET", &link, Value::Null), street.upload(1, "b.bin", b"bytes"), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            street.gateway.login("09120000002").await;
            started.elapsed()
        });
    for answer in [got, sent] {
        assert_eq!((answer.status, answer.header("x-error-code")), (503, "files_away"), "{answer:?}");
    }
    assert!(login < Duration::from_secs(14), "a login waits for no bucket: {login:?}");
    assert_eq!(server.objects().len(), 2, "the copy was made, though nobody heard of it");
    server.set(Mode::Serve);
    until_objects(&server, &street.gateway, 1).await;
    assert_eq!(street.on_disk(), 0);
    assert_eq!(street.ask(2, "GET", &link, Value::Null).await.status, 200);
}

/// Logs a number in at a gateway that is a process of its own.
async fn login(served: &Served, number: &str) -> Login {
    let (client, url) = (chelseru_tests::client(), &served.url);
    let sent =
        Answer::of(client.post(format!("{url}/otp/send/")).json(&json!({"mobile_number": number}))).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let inbox = client.get(format!("{}/sandbox/inbox/?mobile_number={number}", served.operator_url));
    let inbox = Answer::of(inbox).await;
    let code = chelseru_tests::code_in(inbox.body["results"][0]["text"].as_str().expect("a text"));
    let body = json!({"mobile_number": number, "code": code});
    Answer::of(client.post(format!("{url}/authenticate/")).json(&body)).await.login()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_killed_between_copy_and_record_leaves_neither() {
    let Some(server) = BucketServer::start() else { return };
    let dir = folder(&server.config());
    let served = Served::start(dir.path());
    let owner = login(&served, "09120000001").await;
    login(&served, "09120000002").await;
    let client = chelseru_tests::client();
    let url = served.url.clone();
    let make = client.post(format!("{url}/chat/chatrooms/")).bearer_auth(&owner.access);
    let room = Answer::of(make.json(&json!({"user_id": 2}))).await.body["id"].clone();
    let content = vec![5; 3000];
    let metadata = format!("chatroom {}", crate::chat_uploads::base64_of(&room.to_string()));
    let begin = client.post(format!("{url}/message/file/tus/")).bearer_auth(&owner.access);
    let begin = begin.header("tus-resumable", "1.0.0").header("upload-length", "3000");
    let begun = Answer::of(begin.header("upload-metadata", metadata)).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    let path = begun.header("location").trim_start_matches(&url).to_owned();

    server.hang();
    let piece = client.patch(format!("{url}{path}")).bearer_auth(&owner.access).body(content.clone());
    let piece = piece.header("tus-resumable", "1.0.0").header("upload-offset", "0");
    let piece = piece.header("content-type", "application/offset+octet-stream");
    let form = format!(
        "--x\r\nContent-Disposition: form-data; name=\"chatroom\"\r\n\r\n{room}\r\n--x\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nhello\r\n--x--\r\n"
    );
    let form = client.post(format!("{url}/message/file/upload/")).bearer_auth(&owner.access).body(form);
    let form = form.header("content-type", "multipart/form-data; boundary=x");
    let sending = [tokio::spawn(piece.send()), tokio::spawn(form.send())];
    crate::chat_files::until(|| server.objects().len() == 2).await;
    served.kill();
    for sent in sending {
        assert!(sent.await.expect("no panic").is_err(), "neither was answered");
    }

    server.set(Mode::Serve);
    let served = Served::start(dir.path());
    assert_eq!(server.objects(), Vec::<String>::new(), "copies without records are withdrawn");
    // The resumable upload has its bytes again, and goes on where it was.
    let head = client.get(format!("{}{path}", served.url)).bearer_auth(&owner.access);
    let told = Answer::of(head.header("tus-resumable", "1.0.0")).await;
    assert_eq!((told.status, &told.body["offset"]), (200, &json!(3000)), "{told:?}");
    assert_eq!(told.body["file"]["size"], 3000, "{told:?}");
    assert_eq!(server.objects().len(), 1);
    assert!(server.object(&server.objects()[0]) == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_settles_files_whose_record_was_stored() {
    let Some(server) = BucketServer::start() else { return };
    let mut street = Street::open(&server.config()).await;
    let picture = png(640, 480);
    let file = street.upload(1, "a.png", &picture).await.body;
    let link = street.send(1, &file).await;
    let link = link.split_once("/media/").map(|(_, rest)| format!("/media/{rest}")).expect("a link");
    let before = server.objects();
    let name = link.rsplit('/').next().expect("a name");
    let (users, room, clock) = (street.users.clone(), street.room, street.clock.clone());
    let dir = street.gateway.stop().await;
    // The state after a crash between record and end. The second one comes from a gateway with a folder.
    let incoming = dir.path().join("data/uploads/incoming");
    std::fs::write(incoming.join(format!("2026-11-27_{name}")), &picture).expect("a file");
    std::fs::write(incoming.join(format!("{name}.thumbnail")), server.object(&before[1])).expect("a file");
    std::fs::write(incoming.join("2026-11-27_0123.bin"), b"without a record").expect("a file");
    street = Street { gateway: TestGateway::start_in(dir, clock.clone()).await, clock, users, room };
    assert_eq!((street.on_disk(), server.objects()), (0, before));
    assert!(street.get(2, &link, &[]).await.bytes().await.expect("bytes") == picture);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_account_leaves_no_object() {
    let Some(server) = BucketServer::start() else { return };
    let street = Street::open(&server.config()).await;
    let file = street.upload(1, "a.png", &png(640, 480)).await.body;
    street.send(1, &file).await;
    assert_eq!(street.upload(2, "b.bin", b"of somebody else").await.status, 201);
    assert_eq!(server.objects().len(), 3);
    let sent = street.gateway.post("/otp/send/", json!({"mobile_number": "09120000001"})).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let code = street.gateway.sandbox_code("09120000001").await;
    let erased = street.ask(1, "DELETE", "/me/", json!({"code": code})).await;
    assert!(erased.status < 300, "{erased:?}");
    crate::chat_files::until(|| server.objects().len() == 1).await;
}

/// A configuration with one key of the bucket changed.
fn with(server: &BucketServer, from: &str, to: &str) -> tempfile::TempDir {
    let config = server.config();
    assert!(config.contains(from), "{config}");
    folder(&config.replace(from, to))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_refuses_refuses_the_start_and_says_why() {
    let Some(server) = BucketServer::start() else { return };
    for (from, to, reason) in [
        (SECRET_KEY, "another-secret", "files.s3.secret_key does not belong to the access key"),
        (ACCESS_KEY, "somebody", "does not know files.s3.access_key"),
        (&*format!("\"{BUCKET}\""), "\"no-such-bucket\"", "there is no bucket \"no-such-bucket\""),
    ] {
        let dir = with(&server, from, to);
        let file = dir.path().join("config.toml");
        let checked = cli::check_file(&file).await.err().expect("refused");
        assert!(checked.contains("config.toml:") && checked.contains(": files.s3: "), "{checked}");
        assert!(
            checked.contains(reason) && !checked.contains(to) | (to == "\"no-such-bucket\""),
            "{checked}"
        );
        let served = process::run(dir.path(), &["serve"]);
        let said = String::from_utf8_lossy(&served.stderr).into_owned();
        assert!(!served.status.success() && said.contains(reason), "{said}");
        let doctor = process::run(dir.path(), &["doctor"]);
        let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert!(!doctor.status.success() && said.contains(reason), "{said}");
    }
    assert_eq!(server.objects(), Vec::<String>::new(), "no probe stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_at_the_start_is_a_warning() {
    let Some(mut server) = BucketServer::start() else { return };
    let dir = folder(&server.config());
    server.stop();
    let report = cli::check_file(&dir.path().join("config.toml")).await.expect("accepted");
    let warned =
        report.warnings.iter().any(|one| one.contains("files.s3") && one.contains("is not reachable"));
    assert!(warned, "{:?}", report.warnings);
    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    gateway.login("09120000001").await;
    let doctor = async || {
        let asked = process::run(gateway.dir.path(), &["doctor"]);
        String::from_utf8_lossy(&asked.stdout).into_owned()
    };
    let said = doctor().await;
    assert!(said.lines().any(|line| line.starts_with("bad") && line.contains("is not reachable")), "{said}");
    server.restart();
    let said = doctor().await;
    assert!(said.lines().any(|line| line.starts_with("ok") && line.contains(&server.endpoint())), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_bucket_waits_for_a_restart() {
    let Some(server) = BucketServer::start() else { return };
    let street = Street::open(&server.config()).await;
    street.gateway.edit_config(&server.config().replace("\"shop\"", "\"shop2\""));
    let waits = |status: &Value| status["config"]["restart_keys"] == json!(["files.s3"]);
    street.gateway.wait_for("the edit", waits).await;
    assert_eq!(street.upload(1, "a.bin", b"bytes").await.status, 201);
    assert!(server.objects()[0].starts_with("shop/"), "{:?}", server.objects());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_names_the_bucket_and_copies_none_of_its_files() {
    let Some(server) = BucketServer::start() else { return };
    let street = Street::open(&server.config()).await;
    assert_eq!(street.upload(1, "a.bin", b"bytes").await.status, 201);
    street.begin(1, 100).await;
    let dir = street.gateway.stop().await;
    let at = dir.path();
    let run = |arguments: &[&str]| {
        let output = process::run(at, arguments);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{text}");
        text
    };
    let bucket = format!("{}/{BUCKET}/shop/", server.endpoint());
    let text = run(&["backup", "copy"]);
    assert!(text.contains("does not hold uploaded files") && text.contains(&bucket), "{text}");
    assert!(at.join("copy/master.key").exists() && !at.join("copy/uploads").exists());
    let manifest = std::fs::read(at.join("copy/manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&manifest).expect("JSON");
    assert_eq!(manifest["bucket"], json!(bucket));
    let text = run(&["backup", "verify", "copy"]);
    assert!(text.contains(&format!("they were in {bucket}")), "{text}");
    if !chelseru_tests::store::is_postgres() {
        std::fs::rename(at.join("data"), at.join("before")).expect("moved");
        let text = run(&["restore", "copy"]);
        assert!(text.contains(&format!("Uploaded files are in {bucket}, as they were")), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_copies_its_files_into_the_bucket_and_takes_them_back_when_it_is_killed() {
    let Some(server) = BucketServer::start() else { return };
    let dir = import::new_folder();
    let at = dir.path();
    let config = std::fs::read_to_string(at.join("config.toml")).expect("a file");
    std::fs::write(at.join("config.toml"), format!("{config}{}", server.config())).expect("a file");
    let database = import::original().join("db.sqlite3");
    // It tries the bucket with three requests. The first copies are made, and it is killed before it hears so.
    server.set(Mode::HangAfter(server.asked() + 3));
    let media = import::original().join("media");
    let source = format!("sqlite:{}", database.display());
    let mut command = std::process::Command::new(process::binary());
    command.args(["import", "django", &source, "--unit", "IRT", "--allow-debt", "--media"]).arg(&media);
    let mut child = command.current_dir(at).spawn().expect("the command starts");
    let is_copy = |object: &String| object.contains("/chat_files/");
    crate::chat_files::until(|| server.objects().iter().any(is_copy)).await;
    child.kill().expect("killed");
    child.wait().expect("ended");
    // The next start takes them back.
    server.set(Mode::Serve);
    Served::start(at).kill();
    assert!(server.objects().is_empty() && !at.join("data/import.part").exists(), "{:?}", server.objects());

    let (done, text, report) = import::import(at, &database, &["--allow-debt"]);
    assert!(done, "{text}");
    let (_, here) = import::rows(&report, "drfchelseru_attachfile");
    assert_eq!(server.objects().len() as u64, here, "{:?}", server.objects());
    assert!(
        here > 0 && !at.join("data/uploads/chat_files").exists() && !at.join("data/import.part").exists()
    );
}
