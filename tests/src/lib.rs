//! The test harness of journeys and benches: a whole gateway in this process, on a free port, in its own folder.
//!
//! [`TestGateway::start`] takes the text of a configuration and returns when the gateway listens. Dropping it stops the
//! gateway and removes the folder. A test that passes a `ManualClock` moves the time itself.
//! Plugins come from the plugins workspace; `cargo xtask test` builds them first.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru::app::App;
use chelseru::config::{Config, Log, LogLevel};
use chelseru::logging;
use chelseru::server::{Server, ServerOptions};
use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::login::method::{ByPassword, LoginMethods};
use chelseru_domain::operator::role::{self, Act, Permit};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub mod browser;
pub mod bucket;
pub mod bus;
pub mod certificate;
pub mod chromium;
mod code;
pub mod django;
#[cfg(unix)]
pub mod faults;
pub mod hostile;
pub mod nginx;
pub mod process;
pub mod socket;
mod spec;
pub mod store;

/// For accounts that a test makes by itself.
pub const BY_PASSWORD: ByPassword = match LoginMethods::Both.by_password() {
    Ok(by) => by,
    Err(_) => panic!("both methods"),
};

/// Longest wait for something that must happen. Far above what it takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The permission of a command on the gateway's machine.
pub fn machine<A: Act>() -> Permit<A> {
    role::Operator::of_this_machine().permit().expect("a command may do everything")
}

/// A gateway in this process.
pub struct TestGateway {
    /// Base address of the API, without a slash at the end.
    pub url: String,
    /// Base address of the operators' routes, without a slash at the end.
    pub operator_url: String,
    pub dir: tempfile::TempDir,
    pub client: reqwest::Client,
    /// The application, for what no route offers.
    pub app: Arc<App>,
    stop: CancellationToken,
    task: Option<JoinHandle<Result<(), String>>>,
}

/// The tokens of a login.
#[derive(Debug, Clone)]
pub struct Login {
    pub access: String,
    pub refresh: String,
}

impl TestGateway {
    /// Starts a gateway with the given configuration on a free port, with every built plugin installed.
    pub async fn start(config: &str) -> TestGateway {
        TestGateway::start_at(config, Arc::new(SystemClock)).await
    }

    pub async fn start_at(config: &str, clock: Arc<dyn Clock>) -> TestGateway {
        let dir = folder(config);
        TestGateway::start_in(dir, clock).await
    }

    /// Starts a gateway in a prepared folder.
    pub async fn start_in(dir: tempfile::TempDir, clock: Arc<dyn Clock>) -> TestGateway {
        let file = dir.path().join("config.toml");
        let log = logging::start(&Log { level: LogLevel::Warn, ..Log::default() }).keeping_level();
        let until = Instant::now() + PATIENCE;
        let server = loop {
            let loaded = Config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
            let options = ServerOptions {
                clock: clock.clone(),
                print_sandbox: false,
                test_routes: true,
                ..ServerOptions::default()
            };
            match Server::open(loaded, log.clone(), options).await {
                Ok(server) => break server,
                // The previous server releases the store with its last task.
                Err(reason) if reason.contains("in use by another") && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(reason) => panic!("{reason}"),
            }
        };
        let (url, operator_url, stop) = (server.url(), server.operator_url(), server.stop_token());
        let app = server.app().clone();
        let task = tokio::spawn(server.run());
        TestGateway { url, operator_url, dir, client: client(), app, stop, task: Some(task) }
    }

    /// The address of a path on the listener that serves it.
    pub fn at(&self, path: &str) -> String {
        let base = if is_operators(path) { &self.operator_url } else { &self.url };
        format!("{base}{path}")
    }

    pub fn config_file(&self) -> PathBuf {
        self.dir.path().join("config.toml")
    }

    /// Compiles a plugin before it is installed, so that installing it takes no time.
    pub fn compile(&self, plugin: &[u8]) {
        compile(self.dir.path(), plugin);
    }

    pub fn plugins_dir(&self) -> PathBuf {
        self.dir.path().join("data/plugins")
    }

    /// Replaces the configuration as an editor does: writes aside, then renames.
    pub fn edit_config(&self, text: &str) {
        let text = store::kept(listening_anywhere(text), &self.config_file());
        replace(&self.config_file(), text.as_bytes());
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.client.post(self.at(path)).json(&body)).await
    }

    pub async fn get(&self, path: &str, access: Option<&str>) -> Answer {
        let request = self.client.get(self.at(path));
        Answer::of(match access {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
        .await
    }

    pub async fn status(&self) -> Value {
        self.get("/status/", None).await.body
    }

    /// The status of one provider entry.
    pub async fn provider(&self, name: &str) -> Value {
        let status = self.status().await;
        let providers = status["providers"].as_array().cloned().unwrap_or_default();
        providers.into_iter().find(|provider| provider["name"] == name).unwrap_or(Value::Null)
    }

    /// Waits until the status satisfies `wanted`. Panics with the last status after [`PATIENCE`].
    pub async fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.status().await;
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < until, "{what} did not come; last status: {status:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The newest code that the sandbox received for a number.
    pub async fn sandbox_code(&self, number: &str) -> String {
        let inbox = self.get(&format!("/sandbox/inbox/?mobile_number={number}"), None).await;
        code_in(inbox.body["results"][0]["text"].as_str().unwrap_or_else(|| panic!("no message: {inbox:?}")))
    }

    /// Logs a number in through the sandbox.
    pub async fn login(&self, number: &str) -> Login {
        let sent = self.post("/otp/send/", json!({"mobile_number": number})).await;
        assert_eq!(sent.status, 200, "{sent:?}");
        let code = self.sandbox_code(number).await;
        let answer = self.post("/authenticate/", json!({"mobile_number": number, "code": code})).await;
        answer.login()
    }

    /// Stops the gateway gracefully and returns its folder.
    pub async fn stop(mut self) -> tempfile::TempDir {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            let ended = task.await.expect("the gateway ends without a panic");
            ended.expect("everything is stored when the gateway ends");
        }
        let empty = tempfile::tempdir().expect("a folder");
        std::mem::replace(&mut self.dir, empty)
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A reply and its body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    /// `Null` when the body is empty or not JSON.
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// Sends a request. Panics without a reply, and like [`Answer::try_of`].
    pub async fn of(request: reqwest::RequestBuilder) -> Answer {
        Answer::try_of(request).await.unwrap_or_else(|error| panic!("no answer: {error:?}"))
    }

    /// Sends a request. Panics when a gateway's reply does not match the OpenAPI document.
    pub async fn try_of(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
        let (client, request) = request.build_split();
        let request = request?;
        let (method, url) = (request.method().clone(), request.url().clone());
        let response = client.execute(request).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let answer = Answer { status, headers, body, text };
        if let Some(problem) = spec::problem(&method, &url, &answer) {
            panic!("{method} {}: {problem}; the answer: {}", url.path(), answer.text);
        }
        Ok(answer)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    pub fn login(&self) -> Login {
        assert_eq!(self.status, 200, "{self:?}");
        let token =
            |key: &str| self.body[key].as_str().unwrap_or_else(|| panic!("no {key}: {self:?}")).to_owned();
        Login { access: token("access"), refresh: token("refresh") }
    }
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .expect("a client without options that can fail")
}

/// The digits of a message.
pub fn code_in(text: &str) -> String {
    let code: String = text.chars().filter(char::is_ascii_digit).collect();
    assert!(!code.is_empty(), "no code in {text:?}");
    code
}

/// A folder with a configuration (on a free port) and every built plugin installed.
pub fn folder(config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let plugins = dir.path().join("data/plugins");
    std::fs::create_dir_all(&plugins).expect("a folder");
    for (name, path) in built_plugins() {
        std::fs::copy(&path, plugins.join(name)).expect("a plugin is copied");
    }
    code::install(&dir.path().join("data/cache"));
    let config = store::chosen(listening_anywhere(config));
    std::fs::write(dir.path().join("config.toml"), config).expect("a file");
    dir
}

/// Compiles a plugin for a gateway in a folder, so that loading it takes no time.
pub fn compile(dir: &Path, plugin: &[u8]) {
    code::compile(&dir.join("data/cache"), plugin.to_owned());
}

/// Opens the shield, because tests request many codes from one machine. A test of the shield has its own table.
const OPEN_SHIELD: &str = "
[sms.shield]
number_gap_seconds = 0
number_per_hour_max = 1000
number_per_day_max = 1000
address_per_hour_max = 10000000
network_per_hour_max = 10000000
prefix_per_hour_max = 10000000
total_per_hour_max = 10000000
ratio_percent_min = 0
";

/// Adds `listen` on free ports, an open shield, open allowances and no questions about credit, unless the
/// configuration has its own.
fn listening_anywhere(config: &str) -> String {
    let shield = if config.contains("[sms.shield]") { "" } else { OPEN_SHIELD };
    let listen = "listen = \"127.0.0.1:0\"";
    let credit = if config.contains("[sms.credit]") { "" } else { NO_CREDIT };
    let config = format!("{config}\n{shield}{credit}");
    let payments = "payments_per_hour_max = 10000000";
    let keys = [("server", listen), ("operator", listen), ("chat", OPEN_CHAT), ("payment", payments)];
    keys.iter().fold(config, |config, (section, keys)| {
        let head = format!("[{section}]");
        let Some(at) = config.find(&head) else { return format!("{config}\n{head}\n{keys}\n") };
        let (before, own) = config.split_at(at + head.len());
        let name = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let there: Vec<String> = own.split("\n[").next().unwrap_or(own).lines().map(name).collect();
        let missing = keys.lines().filter(|line| !there.contains(&name(line)));
        let added: String = missing.map(|line| format!("\n{line}")).collect();
        format!("{before}{added}{own}")
    })
}

/// Opens the allowances of chat, because tests send as fast as they can, and admits strangers, because most tests are
/// of what members do. A test of them has its own.
const OPEN_CHAT: &str = "messages_per_minute_max = 1000000000
messages_per_day_max = 1000000000
bytes_per_minute_max = 1099511627776
bytes_per_day_max = 1099511627776
rooms_per_hour_max = 1000000000
requests_per_hour_max = 1000000000
strangers = \"admit\"";

/// Asks no provider for its credit, because tests count and disturb requests. A test of the credit has its own table.
const NO_CREDIT: &str = "
[sms.credit]
minutes = 0
";

/// Whether the operators' listener serves a path under the base path.
pub fn is_operators(path: &str) -> bool {
    let first = path.trim_start_matches('/').split(['/', '?']).next().unwrap_or_default();
    ["status", "metrics", "live", "ready", "operator", "sandbox"].contains(&first)
}

/// Replaces a file as editors and installers do: writes aside, then renames.
pub fn replace(path: &Path, bytes: &[u8]) {
    let aside = path.with_extension("aside");
    std::fs::write(&aside, bytes).expect("a file");
    std::fs::rename(&aside, path).expect("renamed");
}

/// File name and path of each built plugin, from the folder that `cargo xtask test` names, or from the folder where
/// `cargo xtask plugins` builds them.
pub fn built_plugins() -> Vec<(String, PathBuf)> {
    let folder = match std::env::var_os("CHELSERU_PLUGINS_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => root().join("plugins/target/wasm32-wasip2/release"),
    };
    let entries = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask plugins` first", folder.display()));
    let wasm = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?.replace('_', "-");
        name.ends_with(".wasm").then_some((name, path))
    };
    let plugins: Vec<_> = entries.filter_map(wasm).collect();
    assert!(!plugins.is_empty(), "{} holds no plugin; run `cargo xtask plugins` first", folder.display());
    plugins
}

/// The root of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_owned()
}
