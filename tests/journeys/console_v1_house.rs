//! `operator/v1/` of money decisions, webhooks, keys, operators, providers, configuration, backups and the doctor: each
//! answer is held against the document, and each act against its role.

use std::fs;
use std::time::{Duration, Instant};

use chelseru_tests::{PATIENCE, TestGateway};
use serde_json::json;

use super::console_v1::Program;
use super::payments::{NUMBER, Shop};
use super::webhooks::Receiver;

#[tokio::test(flavor = "multi_thread")]
async fn programs_decide_about_money_with_roles_reasons_and_keys() {
    let shop = Shop::open("[payment]\nstaff_users = [1]\ncorrection_alone_max = 1000\n").await;
    let payment = shop.charge(1000).await["id"].clone();
    let finance = Program::of(&shop.gateway, "operator:finance").await;
    let support = Program::of(&shop.gateway, "operator:support").await;
    let refund = format!("/payments/{payment}/refund/");
    let part = json!({"amount": 400, "reason": "half of it broke"});
    assert_eq!(support.post(&refund, part.clone()).await.status, 403);
    assert_eq!(finance.post(&refund, json!({"amount": 400})).await.status, 400, "without a reason");
    let key = [("Idempotency-Key", "r-1")];
    let done = finance.post_with(&refund, part.clone(), &key).await;
    assert_eq!((done.status, &done.body["refund"]["amount"]), (201, &json!(400)), "{done:?}");
    let again = finance.post_with(&refund, part, &key).await;
    assert_eq!((&again.body["refund"], again.header("idempotency-replayed")), (&done.body["refund"], "true"));
    let other = finance.post_with(&refund, json!({"amount": 1, "reason": "half of it broke"}), &key).await;
    assert_eq!(other.status, 422, "{other:?}");
    let much = finance.post(&refund, json!({"amount": 601, "reason": "x"})).await;
    assert_eq!(much.status, 400, "{much:?}");
    assert_eq!(support.count("/refunds/").await, 1);
    assert_eq!(support.count(&format!("/refunds/?payment={payment}&to=payer_outside")).await, 1);
    assert_eq!(support.count("/refunds/?to=wallet").await, 0);
    assert_eq!(support.get("/refunds/?state=x").await.status, 400);
    assert_eq!(support.count("/reversals/").await, 0);
    let decide = format!("/payments/{payment}/reversal/");
    let nothing = finance.post(&decide, json!({"decision": "undo", "reason": "x"})).await;
    assert_eq!(nothing.status, 404, "{nothing:?}");

    let correct = |amount: u64, direction: &str| json!({"amount": amount, "direction": direction, "reason": "goodwill"});
    let path = "/wallets/1/correct/";
    assert_eq!(support.post(path, correct(100, "in")).await.status, 403);
    let key = [("Idempotency-Key", "c-1")];
    let made = finance.post_with(path, correct(100, "in"), &key).await;
    assert_eq!((made.status, &made.body["balance_after"]), (201, &json!(700)), "{made:?}");
    let again = finance.post_with(path, correct(100, "in"), &key).await;
    assert_eq!((&again.body, shop.balance().await), (&made.body, json!(700)));
    assert_eq!(finance.post(path, correct(701, "out")).await.status, 409);
    assert_eq!(finance.post(path, correct(1, "up")).await.status, 400);
    let large = finance.post(path, correct(1001, "in")).await;
    assert_eq!(
        (large.status, large.header("x-error-code")),
        (409, "second_person_required"),
        "a key is nobody"
    );
    assert_eq!(support.count("/corrections/").await, 0);
    let confirm = finance.post("/corrections/5f/confirm/", json!({"reason": "x"})).await;
    assert_eq!(confirm.status, 409, "a key is nobody: {confirm:?}");
    assert_eq!(finance.post("/corrections/5f/withdraw/", json!({"reason": "x"})).await.status, 404);
    assert_eq!(support.count("/wallets/1/entries/").await, 3);
    let held = shop.post("/wallet/spend/", json!({"amount": 100, "hold": true, "order_id": "h"})).await;
    assert!(held.status < 300, "{held:?}");
    assert_eq!(support.count("/holds/").await, 1);

    assert_eq!(support.get("/ledger/").await.body, json!({"state": "never"}));
    assert_eq!(support.post("/ledger/", json!({})).await.status, 403);
    assert_eq!(finance.post("/ledger/", json!({})).await.status, 202);
    let until = Instant::now() + PATIENCE;
    let ledger = loop {
        let ledger = support.get("/ledger/").await.body;
        if ledger["state"] != "running" {
            break ledger;
        }
        assert!(Instant::now() < until, "{ledger}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!((&ledger["state"], &ledger["payments"]), (&json!("verified"), &json!(1)), "{ledger}");
    shop.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_replay_test_and_pause_webhooks() {
    let receiver = Receiver::start(&[]).await;
    let shop = Shop::open(&receiver.granted()).await;
    shop.charge(1000).await;
    receiver.wait_for(1).await;
    let finance = Program::of(&shop.gateway, "operator:finance").await;
    let admin = Program::of(&shop.gateway, "operator:admin").await;
    let events = finance.get("/webhooks/").await;
    let event = events.body["results"][0]["id"].as_str().expect("an event").to_owned();
    assert_eq!(finance.count("/webhooks/?dead=true").await, 0);
    assert_eq!(finance.get("/webhooks/?before=x").await.status, 400);
    assert_eq!(
        finance.count(&format!("/webhooks/?before={event}")).await,
        events.body["results"].as_array().expect("a list").len() - 1
    );
    assert_eq!(finance.post("/webhooks/test/", json!({"endpoint": "shop"})).await.status, 403);
    assert_eq!(admin.post("/webhooks/test/", json!({"endpoint": "nobody"})).await.status, 400);
    assert_eq!(admin.post("/webhooks/test/", json!({"endpoint": "shop"})).await.body, json!({"replayed": 1}));
    receiver.wait_for(2).await;
    let replayed =
        finance.post("/webhooks/replay/", json!({"event": receiver.wait_for(1).await[0].id})).await;
    assert_eq!(replayed.body, json!({"replayed": 1}), "{replayed:?}");
    receiver.wait_for(3).await;
    assert_eq!(finance.post("/webhooks/replay/", json!({"event": "evt_0_9999"})).await.status, 404);
    assert_eq!(finance.post("/webhooks/replay/", json!({})).await.body, json!({"replayed": 0}));

    let why = json!({"reason": "they move"});
    assert_eq!(finance.post("/endpoints/nobody/pause/", why.clone()).await.status, 404);
    assert_eq!(finance.post("/endpoints/shop/pause/", json!({})).await.status, 400);
    assert_eq!(finance.post("/endpoints/shop/pause/", why.clone()).await.status, 204);
    let again = finance.post("/endpoints/shop/pause/", why.clone()).await;
    assert_eq!((again.status, again.header("x-error-code")), (409, "endpoint_state"), "{again:?}");
    let one = finance.get("/endpoints/").await.body["results"][0].clone();
    assert_eq!((&one["paused"], &one["reason"]), (&json!(true), &json!("they move")), "{one}");
    assert_eq!(finance.post("/endpoints/shop/resume/", why.clone()).await.status, 204);
    assert_eq!(finance.post("/endpoints/shop/resume/", why).await.status, 409);
}

const TWO: &str = "[sms]\nservice = [\"FIRST\", \"SECOND\"]\n[provider.FIRST]\nplugin = \"sandbox-sms\"\n\
                   [provider.SECOND]\nplugin = \"sandbox-sms\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn programs_keep_the_house() {
    let gateway = TestGateway::start(TWO).await;
    gateway.login(NUMBER).await;
    let admin = Program::of(&gateway, "operator:admin").await;
    let viewer = Program::of(&gateway, "operator:viewer").await;
    // Keys and operators.
    let key = json!({"scope": "operator:viewer", "name": "report", "reason": "a report"});
    assert_eq!(viewer.post("/keys/", key.clone()).await.status, 403);
    let made = admin.post("/keys/", key).await;
    assert!(made.status == 201 && made.body["token"].is_string(), "{made:?}");
    assert_eq!(admin.post("/keys/", json!({"scope": "x", "reason": "x"})).await.status, 400);
    assert_eq!(viewer.count("/keys/").await, 3);
    let revoke = format!("/keys/{}/revoke/", made.body["id"]);
    assert_eq!(admin.post(&revoke, json!({"reason": "done"})).await.status, 204);
    assert_eq!(admin.post(&revoke, json!({"reason": "done"})).await.status, 404);
    let role = |role: &str| json!({"user": NUMBER, "role": role, "reason": "joined us"});
    assert_eq!(viewer.post("/operators/role/", role("admin")).await.status, 403);
    assert_eq!(admin.post("/operators/role/", role("king")).await.status, 400);
    assert_eq!(admin.post("/operators/role/", role("support")).await.status, 204);
    let one = viewer.get("/operators/").await.body["results"][0].clone();
    assert_eq!((&one["role"], &one["user"]), (&json!("support"), &json!(1)), "{one}");
    let reset = admin.post("/operators/factor/reset/", json!({"user": "1", "reason": "lost phone"})).await;
    assert_eq!(reset.status, 204, "{reset:?}");
    // Providers and the configuration.
    let listed = viewer.get("/providers/").await;
    assert_eq!(listed.body["order"], json!(["FIRST", "SECOND"]), "{listed:?}");
    let place = |place: &str| json!({"place": place, "reason": "cheaper"});
    assert_eq!(admin.post("/providers/OTHER/move/", place("earlier")).await.status, 404);
    assert_eq!(admin.post("/providers/SECOND/move/", place("up")).await.status, 400);
    assert_eq!(admin.post("/providers/SECOND/move/", place("earlier")).await.status, 204);
    assert_eq!(gateway.app.live().config.sms.service.names(), ["SECOND", "FIRST"], "it serves");
    let test = json!({"mobile_number": "09120000001", "text": "hello", "reason": "new account"});
    let sent = admin.post("/providers/FIRST/test/", test.clone()).await;
    assert!(sent.status == 201 && sent.body["id"].is_u64(), "{sent:?}");
    assert_eq!(admin.post("/providers/OTHER/test/", test).await.status, 404);
    let seen = admin.get("/config/").await.body;
    assert_eq!(viewer.get("/config/").await.body["text"], json!(null), "the text is for who may edit it");
    let text = seen["text"].as_str().expect("a text").to_owned();
    let wrong = format!("{text}\n[auth]\notp_lenght = 5\n");
    let refused = admin.post("/config/check/", json!({"text": wrong})).await;
    assert_eq!((refused.status, refused.header("x-error-code")), (409, "config_refused"), "{refused:?}");
    let right = format!("{text}\n[auth]\notp_length = 5\n");
    assert_eq!(admin.post("/config/check/", json!({"text": right})).await.status, 200);
    assert_eq!(viewer.post("/config/check/", json!({"text": right})).await.status, 403);
    let stale = json!({"text": right, "mark": "0123456789abcdef", "reason": "shorter"});
    assert_eq!(admin.post("/config/apply/", stale).await.header("x-error-code"), "config_stale");
    let apply = json!({"text": right, "mark": seen["mark"], "reason": "shorter"});
    assert_eq!(admin.post("/config/apply/", apply).await.status, 204);
    assert_eq!(gateway.app.live().config.auth.otp_length, 5);
    assert!(fs::read_to_string(gateway.config_file()).expect("a file").contains("otp_length = 5"));
    // Backups and health.
    let elsewhere = tempfile::tempdir().expect("a folder");
    let folder = json!({"folder": elsewhere.path().join("monday")});
    assert_eq!(viewer.post("/backups/", folder.clone()).await.status, 403);
    assert_eq!(admin.post("/backups/", json!({"folder": "monday"})).await.status, 400);
    assert_eq!(admin.post("/backups/", folder.clone()).await.status, 201);
    let twice = admin.post("/backups/", folder.clone()).await;
    assert_eq!((twice.status, twice.header("x-error-code")), (400, "house_failed"), "{twice:?}");
    assert_eq!(admin.post("/backups/verify/", folder).await.status, 200);
    gateway.app.live().identity.audit().flush().await;
    assert_eq!(viewer.count("/backups/").await, 1);
    assert!(viewer.count("/doctor/").await >= 10);
    assert!(viewer.get("/overview/").await.body["version"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_rename_and_remove_organizations() {
    let gateway = TestGateway::start("[chat]\nstrangers = \"admit\"\n").await;
    let owner = gateway.login(NUMBER).await;
    let make = async |path: &str, body: serde_json::Value| {
        let request = gateway.client.post(gateway.at(path)).bearer_auth(&owner.access);
        chelseru_tests::Answer::of(request.json(&body)).await
    };
    let made = make("/chat/organizations/", json!({"name": "Chess", "uname": "chess"})).await;
    assert!(made.status < 300, "{made:?}");
    let id = made.body["id"].clone();
    let room = json!({"users": [], "name": "Board", "organization": id});
    assert!(make("/chat/chatrooms/", room).await.status < 300);
    let support = Program::of(&gateway, "operator:support").await;
    assert_eq!(support.count("/organizations/?name=che&owner=1").await, 1);
    assert_eq!(support.count("/organizations/?name=other").await, 0);
    let path = format!("/organizations/{id}/change/");
    let rename =
        |name: &str, uname: &str| json!({"act": "rename", "name": name, "uname": uname, "reason": "rude"});
    assert_eq!(support.post(&path, rename("Chess club", "a b")).await.status, 400);
    assert_eq!(support.post(&path, rename("Chess club", "Club")).await.status, 204);
    let one = support.get("/organizations/").await.body["results"][0].clone();
    assert_eq!((&one["name"], &one["uname"]), (&json!("Chess club"), &json!("club")), "{one}");
    let kept = support.post(&path, json!({"act": "remove", "reason": "spam"})).await;
    assert_eq!((kept.status, kept.header("x-error-code")), (409, "organization_refuses"), "{kept:?}");
    let room = support.get("/rooms/").await.body["results"][0]["id"].clone();
    let gone =
        support.post(&format!("/rooms/{room}/change/"), json!({"act": "delete", "reason": "spam"})).await;
    assert_eq!(gone.status, 204, "{gone:?}");
    assert_eq!(support.post(&path, json!({"act": "remove", "reason": "spam"})).await.status, 204);
    assert_eq!(support.count("/organizations/").await, 0);
    assert_eq!(support.post(&path, json!({"act": "remove", "reason": "spam"})).await.status, 404);
}
