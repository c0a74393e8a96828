//! A clock that jumps ahead for some seconds.

use chelseru_simulator::Simulator;
use chelseru_tests::faults::Fault;
use chelseru_tests::folder;

use super::*;

const DAY: i64 = 86_400;

const CONFIG: &str = r#"
[payment]
gateway = "ZARINPAL_COM"
reconcile_seconds = 1
[provider.ZARINPAL_COM]
hosts = ["SIMULATOR"]
[provider.ZARINPAL_COM.settings]
merchant_id = "00000000-0000-0000-0000-000000000000"
base_url = "http://SIMULATOR"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_a_day_ahead_for_a_while_ends_nothing() {
    let bank = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let dir = folder(&CONFIG.replace("SIMULATOR", &bank.addr.to_string()));
    let tools = tempfile::tempdir().expect("a folder");
    let Some(faults) = Faults::new(tools.path(), &dir.path().join("data/db")) else { return };
    let log = tools.path().join("log");
    let town = Town::in_gateway(serve_with(&faults, dir.path(), &log)).await;
    let create = async || {
        let created = town.post("/payment/create/", json!({"amount": 1000})).await;
        assert_eq!(created.status, 200, "{created:?}");
        created.body["details"].clone()
    };
    let state =
        async |payment: &Value| town.get(&format!("/payment/{}/", payment["id"])).await.body["state"].clone();
    let reference = |payment: &Value| payment["authority"].as_str().expect("text").to_owned();

    let open = create().await;
    let sent =
        Answer::of(town.client.post(town.url("/otp/send/")).json(&json!({"mobile_number": "09120000003"})));
    assert_eq!(sent.await.status, 200);
    let code = town.code("09120000003").await;
    let upload = super::disk::begin_upload(&town).await;
    let upload = upload.header("location").to_owned();

    faults.set(Fault::WallAhead, DAY);
    // A payment that is paid now and confirmed by nobody: once it is found, the open one was looked at as well.
    let later = create().await;
    assert!(bank.pay(&reference(&later)));
    wait_until("a round over the open payments", async || state(&later).await == "paid").await;
    assert_eq!(state(&open).await, "pending", "an open payment ended with the jump");
    assert_eq!(town.get("/sessions/").await.status, 200);
    assert_eq!(town.authenticate("09120000003", &code).await.status, 200);
    // What is made meanwhile is of today, not of tomorrow.
    let fresh = town.login("09120000004").await;
    let head = town.client.head(&upload).bearer_auth(&town.access).header("tus-resumable", "1.0.0");
    assert_eq!(head.send().await.expect("an answer").status(), 200);

    faults.set(Fault::WallAhead, 0);
    assert_eq!(town.get("/sessions/").await.status, 200);
    let sessions = town.client.get(town.url("/sessions/")).bearer_auth(fresh);
    assert_eq!(Answer::of(sessions).await.status, 200);
    assert!(bank.pay(&reference(&open)));
    let back = format!("/payment/verify/?Authority={}&Status=OK", reference(&open));
    assert_eq!(town.get(&back).await.body["details"]["is_pay"], 1);
    let text = std::fs::read_to_string(&log).expect("a log");
    assert!(text.contains("the clock jumped"), "{text}");
    town.served.kill();
    check_ledger(dir.path());
}
