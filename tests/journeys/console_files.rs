//! Uploaded files at the console and for programs: found by each filter, and removed with what shows them.

use chelseru_domain::operator::role::Role;
use serde_json::{Value, json};

use super::chat_files::{Street, until};
use super::chat_pictures::png;
use super::console::with_role;
use super::console_v1::Program;

fn rows(html: &str) -> usize {
    html.split_once("<tbody>").map_or(0, |(_, rows)| rows.matches("<tr>").count())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_found_and_removed_with_what_shows_them() {
    let street = Street::open("[chat]\nstrangers = \"admit\"\n").await;
    let sent = street.upload(1, "گربه <b>.png", &png(3, 2)).await.body;
    let link = street.send(1, &sent).await;
    let unsent = street.upload(2, "notes.txt", b"a note").await.body;
    assert!(sent["id"].is_u64() && unsent["id"].is_u64(), "{sent} {unsent}");

    let mut viewer = with_role(&street.gateway, "viewer", Role::Viewer).await;
    assert_eq!(viewer.get("/console/files/").await.status, 403, "titles are what people wrote");
    assert!(!viewer.get("/console/").await.has("/console/files/"), "not in the menu");
    let mut browser = with_role(&street.gateway, "helper", Role::Support).await;
    let room = street.room.to_string();
    for (query, found) in [
        (String::new(), 2),
        ("?kind=image".into(), 1),
        ("?kind=text".into(), 1),
        ("?kind=video".into(), 0),
        ("?user=09120000002".into(), 1),
        ("?user=helper".into(), 0),
        (format!("?room={room}"), 2),
        ("?room=99".into(), 0),
        ("?bytes=7".into(), 1),
        ("?bytes=%DB%B7".into(), 1),
        ("?q=%DA%AF%D8%B1%D8%A8%D9%87".into(), 1),
        ("?until=1380/01/01".into(), 0),
        ("?from=1380/01/01&kind=text".into(), 1),
        (format!("?before={}", unsent["id"]), 1),
    ] {
        let list = browser.get(&format!("/console/files/{query}")).await;
        assert_eq!((list.status, rows(&list.html)), (200, found), "{query}: {}", list.html);
        assert!(!list.has("<b>.png"), "{query}: escaped");
    }
    for wrong in ["?kind=x", "?user=nobody", "?bytes=x", "?room=x", "?from=x"] {
        assert_eq!(browser.get(&format!("/console/files/{wrong}")).await.status, 400, "{wrong}");
    }

    // The file that a message shows goes with it.
    let page = browser.get("/console/files/?kind=image").await;
    let (id, remove) = (sent["id"].to_string(), "/console/files/remove/");
    for wrong in [[("reason", ""), ("confirm", &*id)], [("reason", "an insult"), ("confirm", "0")]] {
        assert_eq!(browser.submit(&page, remove, &wrong).await.status, 400);
    }
    assert_eq!(street.ask(2, "GET", &link, Value::Null).await.status, 200);
    let done = browser.submit(&page, remove, &[("reason", "an insult"), ("confirm", &id)]).await;
    assert!(done.address.ends_with("?done=1"), "{}", done.html);
    let messages = street.ask(2, "GET", &format!("/chat/messages/?chat_room={room}"), Value::Null).await;
    assert!(!messages.text.contains(".png"), "{messages:?}");
    assert_eq!(browser.submit(&page, remove, &[("reason", "again"), ("confirm", &id)]).await.status, 404);

    // Programs see and do the same; a file that nothing shows is removed by itself.
    let program = Program::of(&street.gateway, "operator:support").await;
    let listed = program.get("/files/?kind=text/").await;
    let one = &listed.body["results"][0];
    assert_eq!((&one["id"], &one["user"], &one["message"]), (&unsent["id"], &json!(2), &Value::Null));
    assert_eq!(program.get("/files/?user=nobody").await.status, 400);
    let path = format!("/files/{}/remove/", unsent["id"]);
    assert_eq!(program.post(&path, json!({})).await.status, 400, "a reason is asked for");
    assert_eq!(program.post(&path, json!({"reason": "spam"})).await.status, 204);
    assert_eq!(program.post(&path, json!({"reason": "spam"})).await.status, 404);
    assert_eq!(program.count("/files/").await, 0);
    street.collected().await;
    until(|| street.on_disk() == 0).await;
    street.gateway.app.live().identity.audit().flush().await;
    let log = browser.get("/console/audit/?event=room_changed").await;
    assert!(log.has("there → removed") && log.has("an insult") && log.has("spam"), "{}", log.html);
    let log = browser.get("/console/audit/?event=room_messages_read").await;
    assert!(log.has("files"), "{}", log.html);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_an_account_is_listed_without_a_room_and_removed() {
    let street = Street::open("").await;
    for size in [10, 20] {
        assert_eq!(street.put_avatar(1, &png(size, size)).await.status, 200);
    }
    let me = street.ask(1, "GET", "/me/", Value::Null).await.body;
    let mut browser = with_role(&street.gateway, "helper", Role::Support).await;
    let user = browser.get("/console/users/1/").await;
    assert!(user.has("/console/files/?user=1"), "{}", user.html);
    assert!(!browser.get("/console/users/2/").await.has("/console/files/?user=2"));
    let page = browser.get("/console/files/?user=1").await;
    assert_eq!(rows(&page.html), 1, "the former one is about to be removed: {}", page.html);
    let program = Program::of(&street.gateway, "operator:support").await;
    let listed = program.get("/files/").await.body["results"][0].clone();
    assert_eq!(
        (&listed["id"], &listed["room"], &listed["avatar"]),
        (&me["avatar_id"], &Value::Null, &json!(true))
    );
    let id = me["avatar_id"].to_string();
    let done =
        browser.submit(&page, "/console/files/remove/", &[("reason", "an insult"), ("confirm", &id)]).await;
    assert!(done.address.ends_with("?done=1"), "{}", done.html);
    let me = street.ask(1, "GET", "/me/", Value::Null).await.body;
    assert_eq!((&me["avatar"], &me["avatar_id"]), (&Value::Null, &Value::Null));
    assert_eq!(program.post(&format!("/files/{id}/remove/"), json!({"reason": "again"})).await.status, 404);
    assert_eq!(street.collected().await, 0);
    street.gateway.app.live().identity.audit().flush().await;
    assert!(browser.get("/console/audit/?event=room_changed").await.has("picture of user 1"));
}
