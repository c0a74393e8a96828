//! Pictures of accounts: shown wherever the name is, to whoever may see it, and gone with the account.

use chelseru_domain::files::FILE_OVERHEAD_BYTES;
use chelseru_tests::socket::Socket;
use chelseru_tests::{Answer, TestGateway};
use serde_json::{Value, json};

use crate::chat_files::Street;
use crate::chat_pictures::png;

impl Street {
    pub(crate) async fn put_avatar(&self, user: usize, content: &[u8]) -> Answer {
        let head = "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"me.png\"\r\n\r\n";
        let body = [head.as_bytes(), content, b"\r\n--x--\r\n"].concat();
        let request = self.request(user, "PUT", "/me/avatar/");
        Answer::of(request.header("content-type", "multipart/form-data; boundary=x").body(body)).await
    }

    /// Sets a picture; returns its address.
    async fn avatar(&self, user: usize, content: &[u8]) -> String {
        let set = self.put_avatar(user, content).await;
        assert_eq!(set.status, 200, "{set:?}");
        set.body["avatar"].as_str().expect("an address").to_owned()
    }

    /// The status of a picture's address for a user. User 0 sends no token.
    async fn look(&self, user: usize, address: &str) -> u16 {
        let host = self.gateway.url.trim_end_matches("/drfchelseru");
        let address = if address.starts_with('/') { format!("{host}{address}") } else { address.to_owned() };
        self.request(user, "GET", &address).send().await.expect("an answer").status().as_u16()
    }

    async fn say(&self, user: usize, text: &str) -> Value {
        let sent =
            self.ask(user, "POST", "/chat/messages/", json!({"chat_room": self.room, "text": text})).await;
        assert_eq!(sent.status, 201, "{sent:?}");
        sent.body
    }

    async fn read(&self, user: usize, path: &str) -> Value {
        let got = self.ask(user, "GET", path, Value::Null).await;
        assert_eq!(got.status, 200, "{got:?}");
        got.body
    }
}

/// The first user of a list with this number.
fn of(users: &Value, id: u64) -> &Value {
    users.as_array().expect("a list").iter().find(|user| user["id"] == id).expect("the user")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_shown_wherever_the_name_is() {
    let street = Street::open("").await;
    let me = street.read(1, "/me/").await;
    assert_eq!(
        (&me["avatar"], &me["avatar_file"], &me["avatar_id"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let set = street.put_avatar(1, &png(640, 480)).await;
    let address = set.body["avatar"].as_str().expect("an address");
    let me = street.read(1, "/me/").await;
    assert_eq!((&me["avatar"], &me["avatar_file"]["id"]), (&json!(address), &me["avatar_id"]));
    assert_eq!(
        (&me["avatar_file"]["width"], &me["avatar_file"]["thumbnail"]["width"]),
        (&json!(640), &json!(320))
    );
    // A client may send back what it got, and changes nothing by another value.
    assert_eq!(
        street.ask(1, "PATCH", "/me/", json!({"avatar": address, "first_name": "Sara"})).await.status,
        200
    );
    assert_eq!(street.ask(1, "PATCH", "/me/", json!({"avatar": null})).await.status, 400);

    let sent = street.say(1, "hello").await;
    let room = street.read(2, &format!("/chat/chatrooms/{}/", street.room)).await;
    let listed = street.read(2, "/chat/chatrooms/").await;
    let members = street.read(2, &format!("/chat/chatrooms/{}/members/", street.room)).await;
    let member = street.read(2, &format!("/chat/chatrooms/{}/members/1/", street.room)).await;
    let messages = street.read(2, &format!("/chat/messages/?chat_room={}", street.room)).await;
    let message = street.read(2, &format!("/chat/messages/{}/?chat_room={}", sent["id"], street.room)).await;
    let found = street.read(2, "/chat/search/?q=hello").await;
    for (what, user) in [
        ("post", &sent["sender"]),
        ("room", of(&room["users"], 1)),
        ("newest message", &room["last_message"]["sender"]),
        ("newest message in the list", &listed[0]["last_message"]["sender"]),
        ("members", &members["results"][0]["user"]),
        ("member", &member["user"]),
        ("messages", &messages["results"][0]["sender"]),
        ("message", &message["sender"]),
        ("search", &found["results"][0]["sender"]),
    ] {
        assert_eq!((&user["id"], &user["avatar"]), (&json!(1), &json!(address)), "{what}: {user}");
        let file = &user["avatar_file"];
        for link in [&file["link"], &file["thumbnail"]["link"]] {
            assert_eq!(street.look(0, link.as_str().expect("a link")).await, 200, "{what}: {file}");
        }
    }
    // Where many users are listed they are short.
    assert!(of(&listed[0]["users"], 1).get("avatar").is_none(), "{listed}");
    street.ask(2, "POST", &format!("/chat/chatrooms/{}/read/", street.room), json!({})).await;
    street.avatar(2, &png(20, 20)).await;
    let message = street.read(1, &format!("/chat/messages/{}/?chat_room={}", sent["id"], street.room)).await;
    assert!(of(&message["read_by"], 2).get("avatar").is_none(), "{message}");

    // A pair is shown by the other's picture.
    let pair = street.ask(2, "POST", "/chat/chatrooms/", json!({"user_id": 1})).await.body;
    assert_eq!(of(&pair["users"], 1)["avatar"], address);
    let listed = street.read(2, "/chat/chatrooms/").await;
    let pair =
        listed.as_array().expect("rooms").iter().find(|room| room["is_group"] == false).expect("the pair");
    assert_eq!(of(&pair["users"], 1)["avatar"], address);

    assert_eq!(street.ask(1, "DELETE", "/me/avatar/", Value::Null).await.status, 204);
    assert_eq!(street.ask(1, "DELETE", "/me/avatar/", Value::Null).await.status, 204, "again");
    let me = street.read(1, "/me/").await;
    assert_eq!(
        (&me["avatar"], &me["avatar_file"], &me["first_name"]),
        (&Value::Null, &Value::Null, &json!("Sara"))
    );
    assert_eq!(street.look(1, address).await, 404, "at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_the_name_does_not_see_the_picture() {
    let street = Street::open("[chat]\nstrangers = \"ask\"\n").await;
    let address = street.avatar(1, &png(640, 480)).await;
    assert_eq!(street.look(2, &address).await, 404, "not yet a member");
    let accept = format!("/chat/requests/{}/accept/", street.room);
    assert_eq!(street.ask(2, "POST", &accept, json!({})).await.status, 200);
    for (user, expected) in [(1, 200), (2, 200), (3, 404), (0, 401)] {
        assert_eq!(street.look(user, &address).await, expected, "user {user}");
    }
    // A link is its reader's, and ends with the block, as presence does.
    let path = format!("/chat/chatrooms/{}/members/1/", street.room);
    let link =
        street.read(2, &path).await["user"]["avatar_file"]["link"].as_str().expect("a link").to_owned();
    assert!(link.contains("user=2&"), "{link}");
    assert_eq!(street.look(0, &link).await, 200);
    assert_eq!(street.look(0, &link.replace("user=2&", "user=3&")).await, 401, "signed for another");
    assert_eq!(street.ask(1, "POST", "/chat/blocks/", json!({"user_id": 2})).await.status, 204);
    assert_eq!((street.look(0, &link).await, street.look(2, &address).await), (404, 404));
    let member = street.read(2, &path).await;
    assert_eq!((&member["user"]["avatar"], &member["user"]["avatar_file"]), (&Value::Null, &Value::Null));
    let id = street.read(1, "/me/").await["avatar_id"].clone();
    let facts = format!("/chat/files/{id}/");
    assert_eq!(street.ask(2, "GET", &facts, Value::Null).await.status, 404);
    assert_eq!(street.read(1, &facts).await["chatroom"], Value::Null);
    assert_eq!(street.ask(1, "DELETE", "/chat/blocks/2/", Value::Null).await.status, 204);
    assert_eq!(street.look(0, &link).await, 200);

    // A stranger who was only asked shows no picture; one who asks does.
    let theirs = street.avatar(3, &png(20, 20)).await;
    let pair = street.ask(1, "POST", "/chat/chatrooms/", json!({"user_id": 3})).await.body;
    let asked = of(&pair["users"], 3);
    assert_eq!((&asked["pending"], &asked["avatar"]), (&Value::Null, &Value::Null), "{asked}");
    assert_eq!(street.look(1, &theirs).await, 404);
    street.ask(1, "POST", "/chat/messages/", json!({"chat_room": pair["id"], "text": "hello"})).await;
    let waiting = street.read(3, "/chat/requests/").await;
    let by = &waiting["results"][0]["by"];
    assert_eq!(by["avatar"], address, "{waiting}");
    assert_eq!(street.look(0, by["avatar_file"]["link"].as_str().expect("a link")).await, 200);
    let accept = format!("/chat/requests/{}/accept/", pair["id"]);
    assert_eq!(street.ask(3, "POST", &accept, json!({})).await.status, 200);
    assert_eq!(street.look(1, &theirs).await, 200);
    let pair = street.read(1, &format!("/chat/chatrooms/{}/", pair["id"])).await;
    assert_eq!(of(&pair["users"], 3)["avatar"], theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_shows_pictures_to_acquainted_people_only() {
    for (directory, unacquainted) in [("contacts", 0), ("open", 1)] {
        let street = Street::open(&format!("[chat]\ndirectory = \"{directory}\"\n")).await;
        let address = street.avatar(1, &png(20, 20)).await;
        let found = street.read(3, "/users/?mobile_number=09120000001").await;
        let found = found["results"].as_array().expect("a list");
        assert_eq!(found.len(), unacquainted, "{directory}");
        assert!(
            found.iter().all(|user| user["avatar"].is_null() && user["avatar_file"].is_null()),
            "{found:?}"
        );
        assert_eq!(street.look(3, &address).await, 404);
        if unacquainted > 0 {
            // An open directory keeps no contacts.
            continue;
        }
        // User 1 keeps the number of user 3.
        let known = json!({"mobile_numbers": ["09120000003"]});
        assert_eq!(street.ask(1, "POST", "/contacts/lookup/", known).await.status, 200);
        let found = street.read(3, "/users/?mobile_number=09120000001").await;
        assert_eq!(found["results"][0]["avatar"], address, "{directory}");
        assert_eq!(street.look(3, &address).await, 200);
        let looked = json!({"mobile_numbers": ["09120000001"]});
        let looked = street.ask(3, "POST", "/contacts/lookup/", looked).await.body;
        assert_eq!(looked["results"][0]["user"]["avatar"], address, "{looked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_name_the_picture_of_today_and_old_clients_get_nothing_new() {
    let street = Street::open("").await;
    let open = async |user: usize, query: &str| {
        let path = format!("/chat/{}/?token={}{query}", street.room, street.users[user - 1].access);
        Socket::open(&street.gateway.at(&path), &[]).await.unwrap_or_else(|refusal| panic!("{refusal:?}"))
    };
    let (mut old, mut new) = (open(2, "").await, open(2, "&events=1").await);
    let mut own = open(1, "&events=1").await;
    own.json_of("subscribed").await;
    new.json_of("subscribed").await;
    own.send(&json!({"type": "publish", "message": "none yet"})).await;
    assert!(new.json_of("chat_message").await["sender"].get("avatar").is_none());
    old.json_of("chat_message").await;
    let address = street.avatar(1, &png(20, 20)).await;
    let path = &address[address.find("/media/").expect("a path")..];
    // The socket was open before.
    own.send(&json!({"type": "publish", "message": "one"})).await;
    let frame = new.json_of("chat_message").await;
    assert_eq!(frame["sender"]["avatar"], path, "{frame}");
    assert_eq!(street.look(2, path).await, 200);
    let plain = old.json_of("chat_message").await;
    assert_eq!(plain["sender"].as_object().expect("a user").len(), 2, "{plain}");
    own.send(&json!({"type": "typing", "typing": true})).await;
    assert_eq!(new.json_of("typing").await["user"]["avatar"], path);
    // A request names it, too, and so does what a returning client missed.
    street.say(1, "two").await;
    assert_eq!(new.json_of("chat_message").await["sender"]["avatar"], path);
    let mut back = open(2, "&since=0").await;
    assert_eq!(back.json_of("chat_message").await["sender"]["avatar"], path);
    assert_eq!(street.ask(1, "DELETE", "/me/avatar/", Value::Null).await.status, 204);
    own.send(&json!({"type": "publish", "message": "three"})).await;
    assert!(new.json_of("chat_message").await["sender"].get("avatar").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_picture_is_refused_and_the_former_one_stays() {
    let street =
        Street::open("[files]\navatar_bytes_max = 20000\nthumbnail_memory_bytes_max = 1000000\n").await;
    let address = street.avatar(1, &png(20, 20)).await;
    let mut bomb = png(640, 480);
    bomb[16..24].copy_from_slice(&[0, 2, 0, 0, 0, 2, 0, 0]);
    let on_disk = street.on_disk();
    for (what, content) in [
        ("a page", b"<!DOCTYPE html><script>alert(1)</script>".to_vec()),
        ("a drawing with scripts", b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>".to_vec()),
        ("an animation", b"GIF89a\x40\x01\x02\x00\x00\x00\x00;".to_vec()),
        ("a program", b"\x7fELF\x02\x01\x01".to_vec()),
        ("a bomb", bomb),
        ("half a picture", png(640, 480)[..300].to_vec()),
        ("too many pixels", png(640, 521)),
        ("only a signature", b"\x89PNG\r\n\x1a\n".to_vec()),
        ("nothing", Vec::new()),
    ] {
        let refused = street.put_avatar(1, &content).await;
        assert_eq!(refused.status, 400, "{what}: {refused:?}");
        assert!(refused.body["file"][0].is_string(), "{what}: {refused:?}");
    }
    let large = street.put_avatar(1, &vec![0; 20_001]).await;
    assert_eq!((large.status, large.header("x-error-code")), (413, "file_too_large"));
    let text = street.ask(1, "PUT", "/me/avatar/", json!({"file": "x"})).await;
    assert_eq!((text.status, text.header("x-error-code")), (415, "unsupported_media_type"));
    assert_eq!(street.put_avatar(0, &png(20, 20)).await.status, 401);
    assert_eq!((street.look(2, &address).await, street.on_disk()), (200, on_disk), "nothing is left of them");
    assert_eq!(street.put_avatar(1, &png(640, 520)).await.status, 200, "at the limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_picture_is_counted_until_it_is_collected() {
    let mut street = Street::open("").await;
    let first = street.avatar(1, &png(640, 480)).await;
    let second = street.avatar(1, &png(20, 20)).await;
    assert_eq!((street.look(2, &first).await, street.look(2, &second).await), (404, 200));
    assert_eq!(street.on_disk(), 3, "two pictures and a thumbnail");
    assert_eq!(street.collected().await, 1);
    let store = street.gateway.app.store.clone();
    let bytes = store.chat_file_bytes(chelseru_domain::ids::UserId(1)).await.expect("read");
    assert_eq!(bytes, png(20, 20).len() as u64 + FILE_OVERHEAD_BYTES);
    // It belongs to no room, and stays although no message has it.
    street.pass(48 * 3600).await;
    assert_eq!((street.collected().await, street.look(2, &second).await), (1, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_account_leaves_no_picture() {
    let mut street = Street::open("").await;
    let address = street.avatar(1, &png(640, 480)).await;
    street.say(1, "hello").await;
    let sent = street.gateway.post("/otp/send/", json!({"mobile_number": "09120000001"})).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let code = street.gateway.sandbox_code("09120000001").await;
    assert_eq!(street.ask(1, "DELETE", "/me/", json!({"code": code})).await.status, 204);
    let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
    while street.on_disk() > 0 {
        assert!(std::time::Instant::now() < until, "the picture stays");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(street.look(2, &address).await, 404);
    let messages = street.read(2, &format!("/chat/messages/?chat_room={}", street.room)).await;
    assert_eq!(messages["results"][0]["sender"]["avatar"], Value::Null, "{messages}");
    let (users, room, clock) = (street.users.clone(), street.room, street.clock.clone());
    let dir = street.gateway.stop().await;
    street = Street { gateway: TestGateway::start_in(dir, clock.clone()).await, clock, users, room };
    assert_eq!(street.gateway.app.store.chat_file_total().await.expect("read"), 0);
}
