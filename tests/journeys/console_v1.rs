//! `operator/v1/`: what the console's pages do, by programs, with the rights of their key.

use chelseru_domain::operator::api_key::ApiKeys;
use chelseru_tests::{Answer, TestGateway, process};
use serde_json::{Value, json};

use super::payments::{NUMBER, Shop};

/// A program with a key for operators.
pub(crate) struct Program<'a> {
    gateway: &'a TestGateway,
    token: String,
}

impl Program<'_> {
    pub(crate) async fn of<'a>(gateway: &'a TestGateway, scope: &str) -> Program<'a> {
        let keys = ApiKeys::new(gateway.app.store.clone(), gateway.app.clock.clone());
        let token = keys.create(scope, scope, None).await.expect("a key").token;
        Program { gateway, token }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = self.gateway.client.get(self.gateway.at(&format!("/operator/v1{path}")));
        Answer::of(request.header("authorization", format!("Api-Key {}", self.token))).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_with(path, body, &[]).await
    }

    pub(crate) async fn post_with(&self, path: &str, body: Value, headers: &[(&str, &str)]) -> Answer {
        let request = self.gateway.client.post(self.gateway.at(&format!("/operator/v1{path}"))).json(&body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::of(request.header("authorization", format!("Api-Key {}", self.token))).await
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        Answer::of(request.header("authorization", format!("Api-Key {}", self.token))).await
    }

    pub(crate) async fn count(&self, path: &str) -> usize {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body["results"].as_array().unwrap_or_else(|| panic!("{path}: {answer:?}")).len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_the_filters_of_the_console() {
    let shop = Shop::open("").await;
    shop.charge(1000).await;
    shop.create(json!({"amount": 500, "order_id": "o-2", "pay_mode": 2})).await;
    let program = Program::of(&shop.gateway, "operator:support").await;
    for (path, found) in [
        ("/users/", 1),
        ("/users/?search=0912", 1),
        ("/users/?search=nobody", 0),
        ("/users/?state=disabled", 0),
        ("/users/?rights=none&from=2020-01-01", 1),
        ("/users/?until=1380/01/01", 0),
        ("/sessions/", 1),
        ("/sessions/?address=10.", 0),
        ("/sessions/?user=09121234567", 1),
        ("/sessions/?before=1-0", 0),
        ("/messages/?mobile_number=09121234567", 1),
        ("/messages/?status=failed", 0),
        // The code's text is not stored.
        ("/messages/?text=code", 0),
        ("/messages/?until=1380/01/01", 0),
        ("/payments/", 2),
        ("/payments/?state=paid", 1),
        ("/payments/?order=o-2", 1),
        ("/payments/?user=09121234567&amount_min=10000", 1),
        ("/payments/?amount_max=1", 0),
        ("/rooms/", 0),
        ("/rooms/?member=09121234567&status=open", 0),
    ] {
        assert_eq!(program.count(path).await, found, "{path}");
    }
    for path in [
        "/users/?from=x",
        "/users/?state=x",
        "/sessions/?user=nobody",
        "/sessions/?before=x",
        "/messages/?mobile_number=x",
        "/payments/?state=x",
        "/payments/?amount_min=x",
        "/rooms/?status=x",
    ] {
        let answer = program.get(path).await;
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
    }
    let wallet = program.get("/wallets/1/").await;
    assert_eq!((wallet.status, &wallet.body["balance_rial"]), (200, &json!(10_000)), "{wallet:?}");
    for path in ["/wallets/99/", "/users/99/", "/payments/99/", "/messages/99/"] {
        assert_eq!(program.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acts_need_a_role_and_a_reason() {
    let shop = Shop::open("").await;
    let lost = shop.create(json!({"amount": 1000})).await;
    shop.decide(&lost, "pay_lost").await;
    let viewer = Program::of(&shop.gateway, "operator:viewer").await;
    let support = Program::of(&shop.gateway, "operator:support").await;
    let admin = Program::of(&shop.gateway, "operator:admin").await;
    let why = json!({"reason": "asked for it"});
    for path in [
        "/users/1/disable/",
        "/users/1/sessions/end/",
        "/users/1/lift/",
        "/users/1/reset-link/",
        "/users/1/erase/",
        "/messages/1/again/",
        "/payments/1/ask/",
        "/rooms/1/change/",
    ] {
        assert_eq!(viewer.post(path, why.clone()).await.status, 403, "{path}");
    }
    assert_eq!(support.post("/users/1/erase/", why.clone()).await.status, 403);
    for path in ["/users/1/lift/", "/users/1/sessions/end/", "/users/1/reset-link/"] {
        assert_eq!(support.post(path, json!({"reason": " "})).await.status, 400, "{path}");
    }
    let asked = support.post(&format!("/payments/{}/ask/", lost["id"]), json!({})).await;
    assert_eq!((asked.status, &asked.body["state"]), (200, &json!("paid")), "{asked:?}");
    let lifted = support.post("/users/1/lift/", why.clone()).await;
    assert_eq!((lifted.status, &lifted.body["lifted"]), (200, &json!(true)), "{lifted:?}");
    let link = support.post("/users/1/reset-link/", why.clone()).await;
    assert!(link.body["token"].is_string(), "{link:?}");
    let code = support.get("/messages/").await.body["results"][0]["id"].clone();
    let again = support.post(&format!("/messages/{code}/again/"), why.clone()).await;
    assert_eq!((again.status, &again.body["code"]), (409, &json!("message_not_sent_again")), "{again:?}");

    let wrong = support.post("/users/1/sessions/end/", json!({"reason": "x", "session": "x"})).await;
    assert_eq!(wrong.status, 400, "{wrong:?}");
    let ended = support.post("/users/1/sessions/end/", why.clone()).await;
    assert_eq!(ended.body, json!({"ended": 1}), "{ended:?}");
    assert_eq!(shop.get("/me/").await.status, 401);
    let kept = admin.post("/users/1/erase/", why.clone()).await;
    assert_eq!((kept.status, &kept.body["code"]), (409, &json!("account_in_use")), "{kept:?}");
    let erased = admin.post("/users/1/erase/", json!({"reason": "asked", "forfeit": true})).await;
    assert_eq!(erased.status, 204, "{erased:?}");
    assert_eq!(admin.get("/users/1/").await.status, 404);
    shop.gateway.app.live().identity.audit().flush().await;
    let log = admin.get("/audit/?event=user_erased_by_staff").await;
    assert_eq!(log.body["results"][0]["reason"], "asked", "{log:?}");
    assert!(log.body["results"][0]["detail"].as_str().is_some_and(|text| text.contains("operator API")));
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_changed_by_programs() {
    let gateway = TestGateway::start("[chat]\nstrangers = \"admit\"\n").await;
    let (owner, member) = (gateway.login(NUMBER).await, gateway.login("09121234568").await);
    let body = json!({"users": [2], "name": "Chess club"});
    let request = gateway.client.post(gateway.at("/chat/chatrooms/")).bearer_auth(&owner.access);
    let room = Answer::of(request.json(&body)).await.body["id"].clone();
    let program = Program::of(&gateway, "operator:support").await;
    let listed = program.get("/rooms/?name=chess").await;
    assert_eq!(listed.body["results"][0]["members"], 2, "{listed:?}");
    let path = format!("/rooms/{room}/change/");
    let act = async |body: Value| program.post(&path, body).await;
    for wrong in [
        json!({"act": "explode", "reason": "x"}),
        json!({"act": "ban", "reason": "x"}),
        json!({"act": "delete_message", "seq": "x", "reason": "x"}),
        json!({"act": "close"}),
    ] {
        assert_eq!(act(wrong.clone()).await.status, 400, "{wrong}");
    }
    let owner_stays = act(json!({"act": "remove", "user": 1, "reason": "x"})).await;
    assert_eq!((owner_stays.status, &owner_stays.body["code"]), (409, &json!("room_refuses")));
    assert_eq!(act(json!({"act": "delete_message", "seq": 1, "reason": "x"})).await.status, 404);
    let rooms = gateway.get("/chat/chatrooms/", Some(&member.access)).await;
    assert_eq!(rooms.body.as_array().map(Vec::len), Some(1), "{rooms:?}");
    assert_eq!(act(json!({"act": "remove", "user": 2, "reason": "insults"})).await.status, 204);
    let rooms = gateway.get("/chat/chatrooms/", Some(&member.access)).await;
    assert_eq!(rooms.body, json!([]), "{rooms:?}");
    assert_eq!(act(json!({"act": "close", "reason": "quarrel"})).await.status, 204);
    assert_eq!(program.count("/rooms/?status=closed").await, 1);
    assert_eq!(act(json!({"act": "delete", "reason": "spam"})).await.status, 204);
    assert_eq!(program.count("/rooms/").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_asks_the_same_routes() {
    let shop = Shop::open("").await;
    shop.charge(1000).await;
    let run = |arguments: &[&str]| {
        let output = process::run(shop.gateway.dir.path(), arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let users = run(&["user", "list", "--search", "0912"]);
    assert!(users.contains(NUMBER), "{users}");
    assert!(!run(&["user", "list", "--search", "nobody"]).contains(NUMBER));
    let payments = run(&["payment", "list", "--state", "paid"]);
    assert!(payments.contains("paid") && payments.lines().count() == 2, "{payments}");
    let one = run(&["payment", "list", "--user", NUMBER, "--json"]);
    assert!(one.contains("\"amount_rial\":10000"), "{one}");
    assert_eq!(run(&["payment", "list", "--state", "failed"]).lines().count(), 1);
    let sessions = run(&["session", "list", "--user", NUMBER]);
    assert!(sessions.contains("127.0.0.1") && sessions.lines().count() == 2, "{sessions}");
    let wrong = process::run(shop.gateway.dir.path(), &["payment", "list", "--state", "x"]);
    assert!(!wrong.status.success());
}
