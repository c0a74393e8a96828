//! Uploaded files of two gateways over one database: in a shared folder, and in a bucket.

use std::path::Path;

use chelseru_tests::bucket::BucketServer;
use chelseru_tests::{Answer, TestGateway, process};
use serde_json::{Value, json};

use crate::chat_files::{fed_by_hand, until};
use crate::chat_pictures::png;
use crate::chat_uploads::base64_of;
use crate::nodes::{Pair, Two};

impl Pair {
    async fn upload(&self, at: &TestGateway, user: usize, content: &[u8]) -> Value {
        let head = format!(
            "--x\r\nContent-Disposition: form-data; name=\"chatroom\"\r\n\r\n{}\r\n--x\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"cat.png\"\r\n\r\n",
            self.room
        );
        let body = [head.as_bytes(), content, b"\r\n--x--\r\n"].concat();
        let request = at.client.post(at.at("/message/file/upload/")).bearer_auth(&self.users[user].access);
        let request = request.header("content-type", "multipart/form-data; boundary=x");
        let kept = Answer::of(request.body(body)).await;
        assert_eq!(kept.status, 201, "{kept:?}");
        let body = json!({"chat_room": self.room, "message_type": "image", "attach_id": kept.body["id"]});
        let sent = at.client.post(at.at("/chat/messages/")).bearer_auth(&self.users[user].access);
        let sent = Answer::of(sent.json(&body)).await;
        assert_eq!(sent.status, 201, "{sent:?}");
        kept.body
    }

    /// A request of the tus protocol.
    fn tus(
        &self,
        at: &TestGateway,
        user: usize,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> reqwest::RequestBuilder {
        let request = at.client.request(method.parse().expect("a method"), at.at(path));
        let request = request.bearer_auth(&self.users[user].access).header("tus-resumable", "1.0.0");
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    }

    /// Begins an upload and returns its path, which is the same at both gateways.
    async fn begin(&self, at: &TestGateway, user: usize, length: usize) -> String {
        let metadata = format!("chatroom {}", base64_of(&self.room.to_string()));
        let headers = [("upload-length", &*length.to_string()), ("upload-metadata", &*metadata)];
        let begun = Answer::of(self.tus(at, user, "POST", "/message/file/tus/", &headers)).await;
        assert_eq!(begun.status, 201, "{begun:?}");
        begun.header("location").trim_start_matches(&at.url).to_owned()
    }

    fn patch(&self, at: &TestGateway, user: usize, upload: &str, offset: usize) -> reqwest::RequestBuilder {
        let offset = offset.to_string();
        let headers = [("upload-offset", &*offset), ("content-type", "application/offset+octet-stream")];
        self.tus(at, user, "PATCH", upload, &headers)
    }

    async fn piece(
        &self,
        at: &TestGateway,
        user: usize,
        upload: &str,
        (offset, bytes): (usize, &[u8]),
    ) -> Answer {
        Answer::of(self.patch(at, user, upload, offset).body(bytes.to_vec())).await
    }

    async fn head(&self, at: &TestGateway, user: usize, upload: &str) -> (u16, String) {
        let told = Answer::of(self.tus(at, user, "HEAD", upload, &[])).await;
        (told.status, told.header("upload-offset").to_owned())
    }

    /// A file and its thumbnail, as a gateway serves them.
    async fn download(&self, at: &TestGateway, user: usize, file: &Value) -> [(u16, Vec<u8>); 2] {
        let host = at.url.trim_end_matches("/drfchelseru");
        let path = file["file"].as_str().expect("a path");
        let mut got = Vec::new();
        for query in ["", "?thumbnail=1"] {
            let request = at.client.get(format!("{host}{path}{query}")).bearer_auth(&self.users[user].access);
            let answer = request.send().await.expect("an answer");
            got.push((answer.status().as_u16(), answer.bytes().await.expect("bytes").to_vec()));
        }
        got.try_into().expect("two")
    }
}

/// Each gateway takes a file and the other one serves it.
async fn files_of_both(two: &Two) -> (Pair, Value) {
    let pair = two.pair().await;
    let picture = png(640, 480);
    let mut last = Value::Null;
    for (from, to) in [(0, 1), (1, 0)] {
        let file = pair.upload(&two.nodes[from], from, &picture).await;
        let [whole, small] = pair.download(&two.nodes[to], to, &file).await;
        assert!(whole == (200, picture.clone()), "from {from}: {}", whole.0);
        assert_eq!((small.0, &small.1[..3]), (200, &b"\xff\xd8\xff"[..]), "from {from}");
        last = file;
    }
    (pair, last)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_a_bucket_is_served_by_the_other_gateway() {
    let Some(server) = BucketServer::start() else { return };
    let Some(two) = Two::start_with(&server.config(), |_| {}).await else { return };
    files_of_both(&two).await;
    assert_eq!(server.objects().len(), 4);
    for node in &two.nodes {
        assert!(!node.dir.path().join("data/uploads/chat_files").exists());
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_a_shared_folder_is_served_by_the_other_gateway() {
    let shared = tempfile::tempdir().expect("a folder");
    let Some(two) = sharing(shared.path(), "").await else { return };
    let (pair, file) = files_of_both(&two).await;
    let names = std::fs::read_dir(shared.path()).expect("a folder").flatten().map(|entry| entry.file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().expect("UTF-8")).collect();
    names.sort();
    assert_eq!((names.len(), &*names[0]), (3, "chat_files"), "{names:?}");
    assert!(names[1..].iter().all(|name| name.starts_with("incoming-")), "one for each: {names:?}");

    // A backup follows the link, so that it has the files.
    let below = file["file"].as_str().expect("a path").trim_start_matches("/media/");
    let Two { nodes: [first, second], .. } = two;
    let dir = first.dir.path();
    let output = process::run(dir, &["backup", "copy"]);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && dir.join("copy").join(below).exists(), "{text}");

    // One that ends keeps the files of the other one.
    first.stop().await;
    assert_eq!(pair.download(&second, 1, &file).await[0].0, 200);
}

/// Two gateways whose uploads are in one folder.
#[cfg(unix)]
async fn sharing(shared: &Path, config: &str) -> Option<Two> {
    let link = |dir: &Path| {
        std::os::unix::fs::symlink(shared, dir.join("data/uploads")).expect("a link");
    };
    Two::start_with(config, link).await
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_resumable_upload_goes_on_at_either_gateway_over_a_shared_folder() {
    let shared = tempfile::tempdir().expect("a folder");
    let Some(two) = sharing(shared.path(), "[files]\nresumable_per_user_max = 1\n").await else { return };
    let [one, other] = &two.nodes;
    let pair = two.pair().await;
    let content = png(640, 480);
    let (third, half) = (content.len() / 3, content.len() / 2);
    let upload = pair.begin(one, 0, content.len()).await;
    assert_eq!(pair.piece(one, 0, &upload, (0, &content[..third])).await.status, 204);
    assert_eq!(pair.head(other, 1, &upload).await.0, 404, "not theirs");

    // While one gateway receives bytes of it, the other one does not touch it.
    let (sender, body) = fed_by_hand();
    let running = tokio::spawn(Answer::try_of(pair.patch(one, 0, &upload, third).body(body)));
    sender.send(Ok(content[third..half].to_vec())).await.expect("sent");
    let id = upload.trim_end_matches('/').rsplit('/').next().expect("an id");
    let parts = |name: &str| {
        let folders = std::fs::read_dir(shared.path()).expect("a folder").flatten();
        let parts = folders.map(|folder| folder.path().join(name)).filter(|path| path.exists());
        parts.collect::<Vec<_>>()
    };
    let part = parts(&format!("{id}.part")).pop().expect("bytes");
    until(|| std::fs::metadata(&part).expect("a file").len() == half as u64).await;
    let locked = pair.piece(other, 0, &upload, (half, b"x")).await;
    assert_eq!((locked.status, locked.header("x-error-code")), (423, "upload_locked"), "{locked:?}");
    sender.send(Err(std::io::Error::other("cut"))).await.expect("sent");
    assert!(running.await.expect("no panic").is_err());

    // It goes on there, and back; a gateway that it left does not count it.
    until(|| parts(&format!("{id}.json")).len() == 1).await;
    let mut told = pair.head(other, 0, &upload).await;
    while told.0 == 423 {
        told = pair.head(other, 0, &upload).await;
    }
    assert_eq!(told, (200, half.to_string()));
    assert_ne!(parts(&format!("{id}.part")), [part]);
    let next = half + 10;
    assert_eq!(pair.piece(other, 0, &upload, (half, &content[half..next])).await.status, 204);
    let unfinished = pair.begin(one, 0, 5).await;
    assert_eq!(Answer::of(pair.tus(one, 0, "DELETE", &unfinished, &[])).await.status, 204);
    assert_eq!(pair.head(one, 0, &upload).await, (200, next.to_string()));
    let last = pair.piece(other, 0, &upload, (next, &content[next..])).await;
    assert_eq!((last.status, last.header("upload-offset")), (204, &*content.len().to_string()), "{last:?}");
    let told = Answer::of(pair.tus(one, 0, "GET", &upload, &[])).await;
    assert_eq!(told.body["file"]["size"], content.len(), "{told:?}");
    let body = json!({"chat_room": pair.room, "message_type": "image", "attach_id": told.body["file"]["id"]});
    let sent = one.client.post(one.at("/chat/messages/")).bearer_auth(&pair.users[0].access);
    assert_eq!(Answer::of(sent.json(&body)).await.status, 201);
    assert!(pair.download(other, 1, &told.body["file"]).await[0] == (200, content));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_resumable_upload_cannot_be_reached_begins_anew_and_completes() {
    let Some(server) = BucketServer::start() else { return };
    let Some(two) = Two::start_with(&server.config(), |_| {}).await else { return };
    let [one, other] = &two.nodes;
    let pair = two.pair().await;
    let content = png(640, 480);
    let upload = pair.begin(one, 0, content.len()).await;
    assert_eq!(pair.piece(one, 0, &upload, (0, &content[..1000])).await.status, 204);
    // As clients do it: a 409 asks for the offset, a 404 to that is answered by a new upload.
    let elsewhere = pair.piece(other, 0, &upload, (1000, &content[1000..])).await;
    assert_eq!((elsewhere.status, elsewhere.header("x-error-code")), (409, "upload_elsewhere"));
    assert_eq!(pair.head(other, 0, &upload).await.0, 404);
    let anew = pair.begin(other, 0, content.len()).await;
    let last = pair.piece(other, 0, &anew, (0, &content)).await;
    assert_eq!(last.status, 204, "{last:?}");
    assert!(!last.header("upload-file-id").is_empty());
    // At its own gateway the first one is where it was, and an id that nobody gave is no other gateway's.
    assert_eq!(pair.head(one, 0, &upload).await, (200, "1000".to_owned()));
    assert_eq!(pair.piece(one, 0, "/message/file/tus/0123/", (0, b"x")).await.status, 404);
}
