//! Searching messages: Persian spellings, pages, and nothing that the caller may not read.

use serde_json::{Value, json};

use crate::chat_rest::Town;

fn texts(found: &chelseru_tests::Answer) -> Vec<String> {
    let results = found.body["results"].as_array().unwrap_or_else(|| panic!("{found:?}"));
    results.iter().map(|message| message["text"].as_str().unwrap_or_default().to_owned()).collect()
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_found_in_a_room_and_over_all_rooms() {
    let town = Town::build(3, "[chat]\nstrangers = \"admit\"\n").await;
    let room = async |users: Value| {
        town.ask(1, "POST", "/chat/chatrooms/", json!({"users": users})).await.body["id"].clone()
    };
    let post = async |user: u64, room: &Value, text: &str| {
        let sent = town.ask(user, "POST", "/chat/messages/", json!({"chat_room": room, "text": text})).await;
        assert_eq!(sent.status, 201, "{sent:?}");
        sent.body["id"].as_u64().expect("an id")
    };
    let (tea, family) = (room(json!([2])).await, room(json!([2, 3])).await);
    post(1, &tea, "كتاب‌هاي تازه رسید").await;
    post(2, &family, "کتابها را آوردم، شماره ۰۹۱۲").await;
    let last = post(2, &tea, "Hello 0912").await;
    let search = async |user: u64, q: &str, more: &str| {
        town.ask(user, "GET", &format!("/chat/search/?q={}{more}", encoded(q)), Value::Null).await
    };

    let found = search(1, "کتابها", "").await;
    assert_eq!(texts(&found), ["کتابها را آوردم، شماره ۰۹۱۲", "كتاب‌هاي تازه رسید"]);
    assert_eq!(found.body["results"][0]["sender"]["id"], 2);
    assert_eq!(found.body["results"][0]["chat_room"]["id"], family);
    assert_eq!(texts(&search(1, "HELLO", "").await), ["Hello 0912"]);
    let in_tea = format!("&chat_room={tea}");
    assert_eq!(texts(&search(1, "٠٩١٢", &in_tea).await), ["Hello 0912"]);

    // One at a time, newest first, by the links.
    let page = search(1, "0912", "&page_size=1").await;
    assert_eq!(texts(&page), ["Hello 0912"]);
    let next = page.body["next"].as_str().expect("another page");
    let path = &next[next.find("/chat/search/").expect("the route")..];
    let page = town.ask(1, "GET", path, Value::Null).await;
    assert_eq!(texts(&page), ["کتابها را آوردم، شماره ۰۹۱۲"]);
    assert_eq!(page.body["next"], Value::Null);

    // What is edited is found by its new words only; what is deleted by none.
    let message = format!("/chat/messages/{last}/?chat_room={tea}");
    assert_eq!(town.ask(2, "PATCH", &message, json!({"text": "Goodbye"})).await.status, 200);
    assert_eq!(texts(&search(1, "hello", "").await), [""; 0]);
    assert_eq!(texts(&search(1, "goodbye", &in_tea).await), ["Goodbye"]);
    assert_eq!(town.ask(2, "DELETE", &message, Value::Null).await.status, 204);
    assert_eq!(texts(&search(1, "goodbye", &in_tea).await), [""; 0]);

    // A room that is not the caller's is like none, and what was left is out of sight.
    assert_eq!(texts(&search(3, "تازه", "").await), [""; 0]);
    let refused = search(3, "تازه", &in_tea).await;
    assert_eq!((refused.status, refused.header("X-Error-Code")), (404, "room_missing"));
    let leave = format!("/chat/chatrooms/{family}/members/2/");
    assert_eq!(town.ask(2, "DELETE", &leave, Value::Null).await.status, 204);
    assert_eq!(texts(&search(2, "آوردم", "").await), [""; 0]);
    assert_eq!(texts(&search(3, "اوردم", "").await).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_search_is_refused_and_searches_are_counted() {
    let config = "[chat]\nstrangers = \"admit\"\nsearches_per_minute_max = 2\n";
    let town = Town::build(1, config).await;
    let search = async |query: &str| town.ask(1, "GET", &format!("/chat/search/{query}"), Value::Null).await;
    for (query, field) in [
        ("", "q"),
        ("?q=", "q"),
        ("?q=%F0%9F%91%8D", "q"),
        ("?q=a+b+c+d+e+f+g+h+i", "q"),
        ("?q=a&chat_room=abc", "chat_room"),
    ] {
        let refused = search(query).await;
        assert_eq!(refused.status, 400, "{query}");
        assert!(refused.body[field].is_array(), "{query}: {refused:?}");
    }
    assert_eq!(search("?q=a&cursor=nothing").await.header("X-Error-Code"), "invalid_cursor");
    for left in [1, 0] {
        let found = search("?q=a").await;
        assert_eq!((found.status, found.header("RateLimit-Policy")), (200, "\"searches\";q=2;w=60"));
        let limit = found.header("RateLimit");
        assert!(limit.starts_with(&format!("\"searches\";r={left};t=")), "{limit}");
    }
    let refused = search("?q=a").await;
    assert_eq!((refused.status, refused.header("X-Error-Code")), (429, "allowance_used"));
    let wait = refused.header("Retry-After");
    assert_ne!(wait, "");
    assert_eq!(refused.header("RateLimit-Policy"), "\"searches\";q=2;w=60");
    assert_eq!(refused.header("RateLimit"), format!("\"searches\";r=0;t={wait}"));
}
