//! What a gateway goes through: a disk that fails, fills or hangs, few file descriptors, a clock that jumps, a stop.
//!
//! Each gateway is a process of its own. Faults are injected into it (`chelseru_tests::faults`) or made with a small
//! file system of its own; where the machine allows neither, a line on standard error says what was not tested.

#[cfg(target_os = "linux")]
mod clock;
#[cfg(target_os = "linux")]
mod descriptors;
#[cfg(target_os = "linux")]
mod disk;
mod numbers;
#[cfg(target_os = "linux")]
mod restore;
mod stop;
#[cfg(target_os = "linux")]
mod uploads;

use std::path::Path;
#[cfg(target_os = "linux")]
use std::process::Command;

use chelseru_tests::faults::Faults;
use chelseru_tests::process::{self, Served};
use chelseru_tests::{Answer, code_in};
use serde_json::{Value, json};

/// A gateway with somebody logged in and a room.
struct Town {
    served: Served,
    client: reqwest::Client,
    access: String,
    room: u64,
}

impl Town {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.served.url)
    }

    fn operator_url(&self, path: &str) -> String {
        format!("{}{path}", self.served.operator_url)
    }

    /// Settles in a gateway that was just started.
    async fn in_gateway(served: Served) -> Town {
        let client = chelseru_tests::client();
        let mut town = Town { served, client, access: String::new(), room: 0 };
        town.access = town.login("09120000001").await;
        town.login("09120000002").await;
        let made = town.post("/chat/chatrooms/", json!({"users": [2]})).await;
        town.room = made.body["id"].as_u64().unwrap_or_else(|| panic!("no room: {made:?}"));
        town
    }

    /// The same people in a gateway that was started again.
    fn again(self, served: Served) -> Town {
        Town { served, ..self }
    }

    async fn try_post(&self, path: &str, body: Value) -> reqwest::Result<Answer> {
        let request = self.client.post(self.url(path)).json(&body);
        let request = if self.access.is_empty() { request } else { request.bearer_auth(&self.access) };
        Answer::try_of(request).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.try_post(path, body).await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
    }

    async fn get(&self, path: &str) -> Answer {
        let request = self.client.get(self.url(path));
        Answer::of(if self.access.is_empty() { request } else { request.bearer_auth(&self.access) }).await
    }

    async fn login(&self, number: &str) -> String {
        let sent =
            Answer::of(self.client.post(self.url("/otp/send/")).json(&json!({"mobile_number": number})))
                .await;
        assert_eq!(sent.status, 200, "{sent:?}");
        self.authenticate(number, &self.code(number).await).await.login().access
    }

    async fn code(&self, number: &str) -> String {
        let inbox = self.client.get(self.operator_url(&format!("/sandbox/inbox/?mobile_number={number}")));
        code_in(Answer::of(inbox).await.body["results"][0]["text"].as_str().expect("a message"))
    }

    async fn authenticate(&self, number: &str, code: &str) -> Answer {
        let body = json!({"mobile_number": number, "code": code});
        Answer::of(self.client.post(self.url("/authenticate/")).json(&body)).await
    }

    async fn say(&self, text: &str) -> Answer {
        let body = json!({"chat_room": self.room, "text": text, "message_type": "text"});
        self.post("/chat/messages/", body).await
    }

    /// The texts of the room.
    async fn said(&self) -> Vec<String> {
        let page = self.get(&format!("/chat/messages/?chat_room={}", self.room)).await;
        assert_eq!(page.status, 200, "{page:?}");
        let results = page.body["results"].as_array().or(page.body.as_array()).cloned().expect("a page");
        results.iter().map(|message| message["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Status and word of `ready/`.
    async fn ready(&self) -> (u16, String) {
        let answer = Answer::of(self.client.get(self.operator_url("/ready/"))).await;
        (answer.status, answer.body["status"].as_str().unwrap_or_default().to_owned())
    }

    /// One metric without labels.
    async fn metric(&self, name: &str) -> Option<f64> {
        let request = self.client.get(self.operator_url("/metrics/"));
        let text = Answer::of(request).await.text;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    }
}

/// Waits for a condition.
async fn wait_until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
    while !holds().await {
        assert!(std::time::Instant::now() < until, "{what} did not come");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Starts a gateway with faults, its log in a file.
#[cfg(target_os = "linux")]
fn serve_with(faults: &Faults, dir: &Path, log: &Path) -> Served {
    let mut command = Command::new(process::binary());
    command.arg("serve").stderr(std::fs::File::create(log).expect("a file"));
    faults.preload(&mut command);
    Served::start_command(dir, command)
}

/// Proves the ledger of a gateway that has ended.
fn check_ledger(dir: &Path) {
    let output = process::run(dir, &["ledger", "verify"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
