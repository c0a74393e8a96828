//! Uploaded files of two gateways over one database: in a shared folder, and in a bucket.

use std::path::Path;

use chelseru_tests::bucket::BucketServer;
use chelseru_tests::{Answer, TestGateway, process};
use serde_json::{Value, json};

use crate::chat_pictures::png;
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
    let link = |dir: &Path| {
        std::os::unix::fs::symlink(shared.path(), dir.join("data/uploads")).expect("a link");
    };
    let Some(two) = Two::start_with("", link).await else { return };
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
