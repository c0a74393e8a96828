//! Killed repeatedly: answered changes survive, and no code works twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chelseru_tests::{Answer, code_in, folder, process::Served};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// Rounds of load and `kill -9`.
const ROUNDS: u32 = 50;
/// Concurrent clients.
const CLIENTS: u32 = 8;

/// An answered login: its number, code and access token.
struct Answered {
    number: String,
    code: String,
    access: String,
}

/// Logs new numbers in until the gateway is gone.
async fn log_in_until_killed(
    client: reqwest::Client,
    (url, operator_url): (String, String),
    (round, who): (u32, u32),
    count: Arc<AtomicU32>,
) -> Vec<Answered> {
    let mut answered = Vec::new();
    for n in 0.. {
        let number = format!("09{:02}{:02}{:05}", 10 + round % 60, who, n);
        let post = |path: &str, body: Value| Answer::try_of(client.post(format!("{url}{path}")).json(&body));
        let Ok(sent) = post("/otp/send/", json!({"mobile_number": number})).await else { break };
        assert_eq!(sent.status, 200, "{sent:?}");
        let inbox = client.get(format!("{operator_url}/sandbox/inbox/?mobile_number={number}"));
        let Ok(inbox) = Answer::try_of(inbox).await else { break };
        let code = code_in(inbox.body["results"][0]["text"].as_str().expect("a message"));
        let Ok(login) = post("/authenticate/", json!({"mobile_number": number, "code": code})).await else {
            break;
        };
        answered.push(Answered { number, code, access: login.login().access });
        count.fetch_add(1, Ordering::Relaxed);
    }
    answered
}

#[tokio::test(flavor = "multi_thread")]
async fn answered_logins_survive_kill_9_and_no_code_works_twice() {
    // Tokens stay valid until the final check of the first login.
    let dir = folder("[auth]\naccess_token_seconds = 86400\n[log]\nlevel = \"error\"\n");
    let client = chelseru_tests::client();
    let mut answered: Vec<Answered> = Vec::new();
    for round in 0..ROUNDS {
        let served = Served::start(dir.path());
        let count = Arc::new(AtomicU32::new(0));
        let log_in = |who| {
            let urls = (served.url.clone(), served.operator_url.clone());
            tokio::spawn(log_in_until_killed(client.clone(), urls, (round, who), count.clone()))
        };
        let clients: Vec<_> = (0..CLIENTS).map(log_in).collect();
        // Killed at a different moment each round, always under load.
        while count.load(Ordering::Relaxed) <= round % CLIENTS && !clients.iter().all(JoinHandle::is_finished)
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(u64::from(round * 37 % 40))).await;
        served.kill();
        for done in clients {
            answered.extend(done.await.expect("no unexpected answer"));
        }
    }
    assert!(answered.len() > ROUNDS as usize, "only {} logins were answered", answered.len());

    let served = Served::start(dir.path());
    for login in &answered {
        let sessions = client.get(format!("{}/sessions/", served.url)).bearer_auth(&login.access);
        let sessions = Answer::of(sessions).await;
        assert_eq!(sessions.status, 200, "the session of {} is lost: {sessions:?}", login.number);
        assert_eq!(sessions.body.as_array().map(Vec::len), Some(1), "{}: {sessions:?}", login.number);
        let again = json!({"mobile_number": login.number, "code": login.code});
        let again = Answer::of(client.post(format!("{}/authenticate/", served.url)).json(&again)).await;
        assert_eq!(again.status, 401, "the code of {} worked twice", login.number);
    }
    println!("{} logins over {ROUNDS} kills", answered.len());
}
