//! Killed repeatedly while payments are made and confirmed: each paid payment is credited once, by a later callback
//! or in the background, and the ledger proves it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chelseru_simulator::{Fault, Paid, Simulator};
use chelseru_tests::{Answer, PATIENCE, code_in, folder, process, process::Served};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Rounds of payments and `kill -9`.
const ROUNDS: u64 = 12;
const CLIENTS: usize = 4;
const TOMAN: u64 = 1000;

const CONFIG: &str = r#"
[auth]
access_token_seconds = 86400
[log]
level = "error"
[payment]
gateway = "ZARINPAL_COM"
reconcile_seconds = 1
[provider.ZARINPAL_COM]
hosts = ["SIMULATOR"]
[provider.ZARINPAL_COM.settings]
merchant_id = "00000000-0000-0000-0000-000000000000"
base_url = "http://SIMULATOR"
"#;

/// Makes, pays and confirms payments until the gateway is gone; returns those answered as paid.
async fn pay_until_killed(
    client: reqwest::Client,
    url: String,
    access: String,
    bank: Arc<Simulator>,
    count: Arc<AtomicU64>,
) -> Vec<String> {
    let mut answered = Vec::new();
    loop {
        let create = client.post(format!("{url}/payment/create/")).bearer_auth(&access);
        let create = create.json(&json!({"amount": TOMAN}));
        let Ok(created) = Answer::try_of(create).await else { break };
        assert_eq!(created.status, 200, "{created:?}");
        let authority = created.body["details"]["authority"].as_str().expect("text").to_owned();
        assert!(bank.pay(&authority));
        let back = bank.callback_url(&authority).expect("known to the bank");
        let verify = client.get(format!("{back}&Authority={authority}&Status=OK"));
        let Ok(verified) = Answer::try_of(verify).await else { break };
        assert_eq!(verified.body["details"]["is_pay"], 1, "{verified:?}");
        answered.push(authority);
        count.fetch_add(1, Ordering::Relaxed);
    }
    answered
}

async fn get(client: &reqwest::Client, served: &Served, path: &str, access: &str) -> Value {
    Answer::of(client.get(format!("{}{path}", served.url)).bearer_auth(access)).await.body
}

#[tokio::test(flavor = "multi_thread")]
async fn paid_payments_survive_kill_9_and_are_credited_once() {
    let bank = Arc::new(Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator"));
    let dir = folder(&CONFIG.replace("SIMULATOR", &bank.addr.to_string()));
    let client = chelseru_tests::client();

    let served = Served::start(dir.path());
    let post = |path: &str, body: Value| Answer::of(client.post(format!("{}{path}", served.url)).json(&body));
    post("/otp/send/", json!({"mobile_number": "09121234567"})).await;
    let inbox = client.get(format!("{}/sandbox/inbox/?mobile_number=09121234567", served.operator_url));
    let code = code_in(Answer::of(inbox).await.body["results"][0]["text"].as_str().expect("a message"));
    let login = json!({"mobile_number": "09121234567", "code": code});
    let access = post("/authenticate/", login).await.login().access;
    served.kill();

    let mut answered = BTreeSet::new();
    for round in 0..ROUNDS {
        let served = Served::start(dir.path());
        // The bank does its part and answers late, so a kill leaves it done there and unknown here.
        for call in ["verify", "request"] {
            bank.fault(Fault::delay("zarinpal", 10).method(call).accept(true)).expect("a fault");
        }
        let count = Arc::new(AtomicU64::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (client, access) = (client.clone(), access.clone());
                let paying =
                    pay_until_killed(client, served.url.clone(), access, bank.clone(), count.clone());
                tokio::spawn(paying)
            })
            .collect();
        // Killed at a different moment each round, always under load.
        while count.load(Ordering::Relaxed) <= round % 4 && !clients.iter().all(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(round * 37 % 40)).await;
        served.kill();
        for client in clients {
            answered.extend(client.await.expect("no unexpected answer"));
        }
        bank.faults_clear();
    }

    let paid: Vec<_> = bank.sessions().into_iter().filter(|session| session.paid != Paid::Waiting).collect();
    let unconfirmed = paid.iter().filter(|session| session.paid == Paid::Unverified).count();
    let in_doubt = paid.len() - answered.len();
    assert!(answered.len() > ROUNDS as usize && in_doubt > 0, "{} answered, {in_doubt} not", answered.len());

    let served = Served::start(dir.path());
    // The browser returns for payments that the bank has confirmed; the bank's list covers the others.
    for session in paid.iter().filter(|session| session.paid == Paid::Verified) {
        let path = format!("/payment/verify/?Authority={}&Status=OK", session.reference);
        let verified = get(&client, &served, &path, &access).await;
        assert_eq!(verified["details"]["is_pay"], 1, "{verified}");
    }
    let wanted = paid.len() as u64 * TOMAN;
    let until = Instant::now() + PATIENCE;
    loop {
        let balance = get(&client, &served, "/wallet/", &access).await["balance"].as_u64().expect("whole");
        assert!(balance <= wanted, "{balance} toman for {} payments", paid.len());
        if balance == wanted {
            break;
        }
        assert!(Instant::now() < until, "{balance} of {wanted} toman are credited");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (locked, _) = verify(dir.path());
    assert!(!locked, "the store is the gateway's while it runs");
    served.kill();

    let (right, text) = verify(dir.path());
    assert!(right, "{text}");
    assert!(text.contains(&format!("{} postings", paid.len())), "{text}");
    println!("{} paid, {in_doubt} of them unanswered, {unconfirmed} unconfirmed, {ROUNDS} kills", paid.len());

    // The command also reports an inconsistent ledger.
    let db = sled::Config::new()
        .path(dir.path().join("data/db/sled"))
        .segment_size(1 << 20)
        .open()
        .expect("nobody has it open");
    // The first block: postings 1 to 15.
    db.remove([b"$b", 0_u64.to_be_bytes().as_slice()].concat()).expect("removed").expect("it was there");
    db.flush().expect("flushed");
    drop(db);
    let (right, text) = verify(dir.path());
    let missing = match paid.len() {
        0..16 => "the last posting should be",
        _ => "posting 1 is missing",
    };
    assert!(!right && text.contains(&format!("the ledger is inconsistent: {missing}")), "{text}");
}

/// Runs `chelseru ledger verify`; returns whether it succeeded, and its output.
fn verify(dir: &std::path::Path) -> (bool, String) {
    let output = process::run(dir, &["ledger", "verify"]);
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).expect("text"))
}
