//! Rooms, organisations and sessions at the console: found, read and changed by operators who are in no room.

use chelseru_domain::operator::role::Role;
use chelseru_tests::browser::{Browser, Shown};
use chelseru_tests::{Answer, Login, TestGateway};
use serde_json::{Value, json};

use super::console::with_role;

/// A gateway with an owner, a member and their group with two messages.
struct Group {
    gateway: TestGateway,
    owner: Login,
    member: Login,
    room: u64,
}

impl Group {
    async fn open() -> Group {
        let gateway = TestGateway::start("[chat]\nstrangers = \"admit\"\n").await;
        let (owner, member) = (gateway.login("09121234567").await, gateway.login("09121234568").await);
        let group = Group { gateway, owner, member, room: 0 };
        let body = json!({"users": [2], "name": "Chess club"});
        let made = group.post(&group.owner, "/chat/chatrooms/", body).await;
        let room = made["id"].as_u64().unwrap_or_else(|| panic!("{made}"));
        let group = Group { room, ..group };
        for text in ["علي is here", "hello <b>all</b>"] {
            let body = json!({"chat_room": room, "text": text, "message_type": "text"});
            group.post(&group.owner, "/chat/messages/", body).await;
        }
        group
    }

    async fn post(&self, login: &Login, path: &str, body: Value) -> Value {
        let request = self.gateway.client.post(self.gateway.at(path)).bearer_auth(&login.access);
        let answer = Answer::of(request.json(&body)).await;
        assert!(answer.status < 300, "{path}: {answer:?}");
        answer.body
    }

    async fn messages(&self, login: &Login) -> Answer {
        let path = format!("/chat/messages/?chat_room={}", self.room);
        self.gateway.get(&path, Some(&login.access)).await
    }
}

fn rows(shown: &Shown) -> usize {
    shown.html.split_once("<tbody>").map_or(0, |(_, rows)| rows.matches("<tr>").count())
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_found_and_members_removed_and_banned() {
    let group = Group::open().await;
    let mut browser = with_role(&group.gateway, "helper", Role::Support).await;
    for (query, found) in [
        ("", 1),
        ("?q=CHESS", 1),
        ("?q=poker", 0),
        ("?member=09121234568", 1),
        ("?member=helper", 0),
        ("?status=open", 1),
        ("?status=closed", 0),
        ("?organization=9", 0),
        ("?before=1", 0),
    ] {
        let list = browser.get(&format!("/console/rooms/{query}")).await;
        let first = list.html.split_once("<table>").map_or(0, |_| rows(&list));
        assert_eq!((list.status, first), (200, found), "{query}: {}", list.html);
    }
    assert_eq!(browser.get("/console/rooms/?status=x").await.status, 400);
    assert_eq!(browser.get("/console/rooms/?member=nobody").await.status, 400);
    assert_eq!(browser.get("/console/rooms/99/").await.status, 404);

    let path = format!("/console/rooms/{}/", group.room);
    let page = browser.get(&path).await;
    assert!(page.has("Chess club"), "{}", page.html);
    let member = format!("{path}member/");
    let act = |user, act, name| [("user", user), ("act", act), ("reason", "insults"), ("confirm", name)];
    for (user, what) in [("09121234567", "remove"), ("helper", "remove"), ("nobody", "ban")] {
        let named = if user == "09121234567" { "G0-09121234567" } else { user };
        let refused = browser.submit(&page, &member, &act(user, what, named)).await;
        assert_eq!(refused.status, 400, "{user} {what}: {}", refused.html);
    }
    assert_eq!(group.messages(&group.member).await.status, 200);
    let name = "G0-09121234568";
    for wrong in ["", "09121234568", "G0-09121234567"] {
        let unnamed = browser.submit(&page, &member, &act("09121234568", "ban", wrong)).await;
        assert!(unnamed.status == 400 && unnamed.has(name), "the form says whom it means: {}", unnamed.html);
    }
    assert_eq!(group.messages(&group.member).await.status, 200);
    let banned = browser.submit(&page, &member, &act("09121234568", "ban", name)).await;
    assert!(banned.address.ends_with("?done=1"), "{}", banned.html);
    assert_eq!(group.messages(&group.member).await.status, 403, "banned");
    let freed = browser.submit(&page, &member, &act("09121234568", "unban", name)).await;
    assert!(freed.address.ends_with("?done=1"), "{}", freed.html);

    group.gateway.app.live().identity.audit().flush().await;
    let log = browser.get("/console/audit/?event=room_changed").await;
    assert!(log.has("not banned → banned") && log.has("insults"), "{}", log.html);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_closed_read_and_deleted_with_a_record_of_each() {
    let group = Group::open().await;
    let mut viewer = with_role(&group.gateway, "viewer", Role::Viewer).await;
    let path = format!("/console/rooms/{}/", group.room);
    let texts = format!("{path}messages/");
    let page = viewer.get(&path).await;
    assert!(page.status == 200 && !page.has("<textarea"), "a viewer acts on nothing: {}", page.html);
    assert_eq!(viewer.get(&texts).await.status, 403, "and reads nobody's messages");

    let mut browser = with_role(&group.gateway, "helper", Role::Support).await;
    let all = browser.get(&texts).await;
    assert_eq!(rows(&all), 2, "{}", all.html);
    assert!(all.has("hello &#60;b&#62;all&#60;/b&#62;") && !all.has("<b>all"), "{}", all.html);
    // Both forms of the letter are one in a search.
    let found = browser.get(&format!("{texts}?q=%D8%B9%D9%84%DB%8C")).await;
    assert_eq!(rows(&found), 1, "{}", found.html);
    let delete = format!("{texts}delete/");
    for wrong in [[("reason", ""), ("confirm", "1")], [("reason", "an insult"), ("confirm", "2")]] {
        assert_eq!(browser.submit(&found, &delete, &wrong).await.status, 400);
    }
    let done = browser.submit(&found, &delete, &[("reason", "an insult"), ("confirm", "1")]).await;
    assert!(done.address.ends_with("?done=1") && rows(&done) == 1, "{}", done.html);
    let seen = group.messages(&group.member).await;
    assert!(!seen.body.to_string().contains("is here"), "{seen:?}");

    let page = browser.get(&path).await;
    let close = format!("{path}status/");
    let number = group.room.to_string();
    let unnamed = [("status", "closed"), ("reason", "quarrel")];
    assert_eq!(browser.submit(&page, &close, &unnamed).await.status, 400);
    let named = [unnamed[0], unnamed[1], ("confirm", &*number)];
    let closed = browser.submit(&page, &close, &named).await;
    assert!(closed.address.ends_with("?done=1"), "{}", closed.html);
    let body = json!({"chat_room": group.room, "text": "x", "message_type": "text"});
    let request = group.gateway.client.post(group.gateway.at("/chat/messages/"));
    let refused = Answer::of(request.bearer_auth(&group.owner.access).json(&body)).await;
    assert_eq!(refused.status, 403, "even the owner: {refused:?}");

    let delete = format!("{path}delete/");
    let unnamed = [("reason", "spam"), ("confirm", "1234")];
    assert_eq!(browser.submit(&page, &delete, &unnamed).await.status, 400);
    let gone = browser.submit(&page, &delete, &[("reason", "spam"), ("confirm", &number)]).await;
    assert_eq!(gone.address, "/console/rooms/?done=1", "{}", gone.html);
    assert_eq!(browser.get(&path).await.status, 404);
    let room = format!("/chat/chatrooms/{}/", group.room);
    assert_eq!(group.gateway.get(&room, Some(&group.owner.access)).await.status, 404);
    group.gateway.app.live().identity.audit().flush().await;
    for (event, text) in [
        ("room_changed", "there → deleted"),
        ("room_changed", "open → closed"),
        ("room_changed", "an insult"),
        ("room_messages_read", "room"),
    ] {
        let log = browser.get(&format!("/console/audit/?event={event}")).await;
        assert!(log.has(text), "{event} {text}: {}", log.html);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn organisations_lead_to_their_rooms() {
    let group = Group::open().await;
    let body = json!({"name": "City library", "uname": "library"});
    let made = group.post(&group.owner, "/chat/organizations/", body).await;
    let id = made["id"].as_u64().unwrap_or_else(|| panic!("{made}"));
    let mut browser = Browser::of(&group.gateway, "root").await;
    for (query, found) in
        [("", 1), ("?q=LIBR", 1), ("?q=x", 0), ("?owner=09121234567", 1), ("?owner=root", 0)]
    {
        let list = browser.get(&format!("/console/organizations/{query}")).await;
        assert_eq!((list.status, rows(&list)), (200, found), "{query}: {}", list.html);
    }
    let rooms = browser.get(&format!("/console/rooms/?organization={id}")).await;
    assert_eq!((rooms.status, rows(&rooms)), (200, 0), "{}", rooms.html);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_found_by_user_address_and_device() {
    let group = Group::open().await;
    let mut browser = Browser::of(&group.gateway, "root").await;
    for (query, found) in [
        ("", 2),
        ("?address=127.0", 2),
        ("?address=10.", 0),
        ("?user=09121234568", 1),
        ("?user=root", 0),
        ("?device=no-such-device", 0),
        ("?before=2-0", 1),
    ] {
        let list = browser.get(&format!("/console/sessions/{query}")).await;
        assert_eq!((list.status, rows(&list)), (200, found), "{query}: {}", list.html);
    }
    assert_eq!(browser.get("/console/sessions/?user=nobody").await.status, 400);
    let list = browser.get("/console/sessions/?user=09121234568").await;
    let end = "/console/users/2/sessions/end/";
    let ended = browser.submit(&list, end, &[("reason", "stolen")]).await;
    assert_eq!(ended.address, "/console/sessions/?done=1", "{}", ended.html);
    assert_eq!(group.gateway.get("/me/", Some(&group.member.access)).await.status, 401);
    assert_eq!(group.gateway.get("/me/", Some(&group.owner.access)).await.status, 200);
}
