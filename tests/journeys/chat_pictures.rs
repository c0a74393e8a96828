//! Pictures in chat: shown without a second request, with a thumbnail that is made, counted and removed with the file.

use chelseru_domain::files::FILE_OVERHEAD_BYTES;
use chelseru_domain::ids::UserId;
use chelseru_tests::socket::Socket;
use chelseru_tests::{Answer, TestGateway};
use image::{ImageFormat, RgbImage};
use serde_json::{Value, json};

use crate::chat_files::Street;

/// A picture of one color.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let picture = RgbImage::from_pixel(width, height, image::Rgb([30, 30, 200]));
    picture.write_to(&mut bytes, ImageFormat::Png).expect("encoded");
    bytes.into_inner()
}

impl Street {
    /// Uploads a picture and sends it; returns the message.
    async fn picture(&self, content: &[u8]) -> Value {
        let file = self.upload(1, "cat.png", content).await;
        assert_eq!(file.status, 201, "{file:?}");
        let body = json!({"chat_room": self.room, "message_type": "image", "attach_id": file.body["id"]});
        let sent = self.ask(1, "POST", "/chat/messages/", body).await;
        assert_eq!(sent.status, 201, "{sent:?}");
        sent.body
    }

    /// The bytes at an address; a path is one of the gateway's host. User 0 sends no token.
    async fn bytes(&self, user: usize, address: &str) -> (u16, Vec<u8>) {
        let host = self.gateway.url.trim_end_matches("/drfchelseru");
        let address = if address.starts_with('/') { format!("{host}{address}") } else { address.to_owned() };
        let got = self.request(user, "GET", &address).send().await.expect("an answer");
        (got.status().as_u16(), got.bytes().await.expect("bytes").to_vec())
    }

    async fn newest(&self, user: usize) -> Value {
        let path = format!("/chat/messages/?chat_room={}", self.room);
        self.ask(user, "GET", &path, Value::Null).await.body["results"][0].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_shows_its_picture_without_a_second_request() {
    let street = Street::open("").await;
    let picture = png(640, 480);
    let sent = street.picture(&picture).await;
    for message in [&sent, &street.newest(2).await] {
        let file = &message["file"];
        assert_eq!(file["id"], message["file_id"], "{file}");
        assert_eq!((&file["name"], &file["content_type"]), (&json!("cat.png"), &json!("image/png")));
        assert_eq!((&file["width"], &file["height"]), (&json!(640), &json!(480)));
        assert_eq!(file["size"], picture.len());
        let (status, bytes) = street.bytes(0, file["link"].as_str().expect("a link")).await;
        assert_eq!((status, bytes == picture), (200, true), "the link needs no token");
        let thumbnail = &file["thumbnail"];
        assert_eq!((&thumbnail["width"], &thumbnail["height"]), (&json!(320), &json!(240)));
        let (status, bytes) = street.bytes(0, thumbnail["link"].as_str().expect("a link")).await;
        assert_eq!((status, json!(bytes.len())), (200, thumbnail["size"].clone()));
        assert_eq!(image::guess_format(&bytes).expect("a picture"), ImageFormat::Jpeg);
    }
    // Each reader has links of their own, which end with the membership.
    let link = street.newest(2).await["file"]["link"].as_str().expect("a link").to_owned();
    assert!(link.contains("user=2&"), "{link}");
    let member = format!("/chat/chatrooms/{}/members/2/", street.room);
    assert_eq!(street.ask(1, "DELETE", &member, Value::Null).await.status, 204);
    assert_eq!(street.bytes(0, &link).await.0, 404);
    let words = json!({"chat_room": street.room, "text": "no file"});
    let plain = street.ask(1, "POST", "/chat/messages/", words).await.body;
    assert_eq!((&plain["file"], &plain["file_id"]), (&Value::Null, &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_rooms_and_rooms_show_their_pictures() {
    let street = Street::open("").await;
    street.picture(&png(640, 480)).await;
    let avatar = street.upload(1, "face.png", &png(400, 400)).await.body["id"].clone();
    let path = format!("/chat/chatrooms/{}/", street.room);
    let room = street.ask(1, "PATCH", &path, json!({"avatar": avatar})).await.body;
    let listed = street.ask(1, "GET", "/chat/chatrooms/", Value::Null).await.body[0].clone();
    for room in [room, listed] {
        assert_eq!((&room["avatar_file"]["id"], &room["avatar_file"]["width"]), (&avatar, &json!(400)));
        let link = room["avatar_file"]["link"].as_str().expect("a link");
        assert!(link.starts_with(room["avatar"].as_str().expect("an address")), "{room}");
        assert_eq!(street.bytes(0, link).await.0, 200);
        assert_eq!(room["last_message"]["file"]["height"], 480, "{room}");
    }
    let room = street.ask(1, "PATCH", &path, json!({"avatar": null})).await.body;
    assert_eq!((&room["avatar"], &room["avatar_file"]), (&Value::Null, &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn open_sockets_see_a_rooms_new_picture() {
    let street = Street::open("").await;
    let address = format!("/chat/{}/?events=1&token={}", street.room, street.users[1].access);
    let mut socket = Socket::open(&street.gateway.at(&address), &[]).await.expect("open");
    socket.json_of("subscribed").await;
    let avatar = street.upload(1, "face.png", &png(400, 400)).await.body["id"].clone();
    let path = format!("/chat/chatrooms/{}/", street.room);
    for (change, expected) in [
        (json!({"name": "tea"}), Value::Null),
        (json!({"avatar": avatar}), avatar.clone()),
        (json!({"name": "coffee"}), avatar.clone()),
        (json!({"avatar": null}), Value::Null),
    ] {
        assert_eq!(street.ask(1, "PATCH", &path, change).await.status, 200);
        let frame = socket.json_of("room_updated").await;
        assert_eq!(frame["avatar_file"]["id"], expected, "{frame}");
        assert!(frame.get("avatar_file").is_some(), "{frame}");
        if let Some(link) = frame["avatar_file"]["link"].as_str() {
            assert_eq!(street.bytes(2, link).await.0, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_shows_its_picture_to_all_alike_and_nothing_new_to_old_clients() {
    let street = Street::open("").await;
    let open = async |query: &str| {
        let path = format!("/chat/{}/?token={}{query}", street.room, street.users[1].access);
        Socket::open(&street.gateway.at(&path), &[]).await.unwrap_or_else(|refusal| panic!("{refusal:?}"))
    };
    let (mut old, mut new) = (open("").await, open("&events=1").await);
    let sent = street.picture(&png(640, 480)).await;
    let frame = new.json_of("chat_message").await;
    assert_eq!(frame["file"]["link"], frame["file_url"]);
    assert_eq!((&frame["file"]["id"], &frame["file"]["height"]), (&sent["file_id"], &json!(480)));
    let thumbnail = frame["file"]["thumbnail"]["link"].as_str().expect("a link");
    assert_eq!(street.bytes(2, thumbnail).await.0, 200);
    assert_eq!(street.bytes(0, thumbnail).await.0, 401, "its reader is known by the token only");
    let plain = old.json_of("chat_message").await;
    assert!(plain.get("file").is_none() && plain["file_url"] == frame["file_url"], "{plain}");
    // An edit shows it, and so does what a returning client missed.
    let path = format!("/chat/messages/{}/?chat_room={}", sent["id"], street.room);
    assert_eq!(street.ask(1, "PATCH", &path, json!({"text": "a cat"})).await.status, 200);
    assert_eq!(new.json_of("message_edited").await["file"], frame["file"]);
    let mut back = open("&since=0").await;
    assert_eq!(back.json_of("chat_message").await["file"], frame["file"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thumbnail_is_counted_and_removed_with_its_file() {
    let mut street = Street::open("").await;
    let store = street.gateway.app.store.clone();
    let used = async || store.chat_file_bytes(UserId(1)).await.expect("read");
    let sent = street.picture(&png(640, 480)).await;
    let held =
        sent["file"]["size"].as_u64().expect("bytes") + sent["file"]["thumbnail"]["size"].as_u64().unwrap();
    assert_eq!((used().await, street.on_disk()), (held + FILE_OVERHEAD_BYTES, 2));
    drop(store);
    // A stop between the record and the move: the next start moves both.
    let path =
        sent["file_url"].as_str().expect("a link").rsplit_once("/media/").expect("a path").1.to_owned();
    let data = street.gateway.dir.path().join("data");
    let name = path.rsplit('/').next().expect("a name");
    for suffix in ["", ".thumbnail"] {
        let incoming = data.join("uploads/incoming").join(format!("{name}{suffix}"));
        std::fs::rename(data.join(format!("{path}{suffix}")), incoming).expect("moved");
    }
    std::fs::write(data.join("uploads/incoming/lost.thumbnail"), b"x").expect("written");
    let (users, room, clock) = (street.users.clone(), street.room, street.clock.clone());
    let dir = street.gateway.stop().await;
    street = Street { gateway: TestGateway::start_in(dir, clock.clone()).await, clock, users, room };
    let thumbnail = street.newest(2).await["file"]["thumbnail"]["link"].as_str().expect("a link").to_owned();
    assert_eq!((street.bytes(0, &thumbnail).await.0, street.on_disk()), (200, 2));
    let path = format!("/chat/messages/{}/?chat_room={}", sent["id"], street.room);
    assert_eq!(street.ask(1, "DELETE", &path, Value::Null).await.status, 204);
    street.pass(25 * 3600).await;
    assert_eq!(street.collected().await, 0);
    let store = street.gateway.app.store.clone();
    assert_eq!(store.chat_file_bytes(UserId(1)).await.expect("read"), 0);
    assert_eq!(store.chat_file_total().await.expect("read"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_pictures_are_files_without_a_thumbnail() {
    let street = Street::open("[files]\nthumbnail_memory_bytes_max = 1000000\n").await;
    // A few bytes that claim to be a picture of 17 gigapixels, half a picture, a picture of too many pixels.
    let mut bomb = png(640, 480);
    bomb[16..24].copy_from_slice(&[0, 2, 0, 0, 0, 2, 0, 0]);
    let half = png(640, 480)[..300].to_vec();
    let too_large = png(640, 521);
    for (what, content) in [("bomb", bomb), ("half", half), ("too large", too_large)] {
        let sent = street.picture(&content).await;
        assert_eq!(sent["file"]["thumbnail"], Value::Null, "{what}: {sent}");
        let link = sent["file"]["link"].as_str().expect("a link");
        assert_eq!(street.bytes(0, link).await, (200, content), "{what}");
        let refused = Answer::of(street.request(0, "GET", &format!("{link}&thumbnail=1"))).await;
        assert_eq!((refused.status, refused.header("x-error-code")), (404, "no_thumbnail"), "{what}");
    }
    assert_ne!(street.picture(&png(640, 520)).await["file"]["thumbnail"], Value::Null, "at the limit");
    let text = street.upload(1, "notes.png", b"no picture").await.body;
    assert_eq!((&text["content_type"], &text["width"]), (&json!("text/plain"), &Value::Null));
    let off = Street::open("[files]\nthumbnail_memory_bytes_max = 0\n").await;
    let file = off.picture(&png(640, 480)).await["file"].clone();
    assert_eq!((&file["width"], &file["thumbnail"]), (&json!(640), &Value::Null));
}
