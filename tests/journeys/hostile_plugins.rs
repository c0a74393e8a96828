//! Components and files that would hurt a gateway: compiling that does not end, pipes, huge files, copies that take
//! their time. The gateway answers, the other plugins do not notice, and a stop is a stop.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chelseru_domain::clock::SystemClock;
use chelseru_domain::operator::audit::AuditQuery;
use chelseru_plugin_host::CALL_ERRORS;
use chelseru_simulator::Simulator;
use chelseru_tests::hostile::{ATTACKS, Attacking, COMPILES_FOR_LONG, changed, heavy, section, slow};
use chelseru_tests::{Answer, PATIENCE, TestGateway, client, folder, is_operators, process, replace};
use serde_json::{Value, json};

/// An entry that no message uses, so that its plugin may come and go.
const MINE: &str = "[provider.MINE]\nplugin = \"mine\"\nkind = \"sms\"\n";

/// How long a compilation of a good plugin may take: it steps back behind everything else on a busy machine.
const COMPILE_PATIENCE: Duration = PATIENCE.saturating_mul(5);

/// A gateway as a process, whose compiler is a child of it.
struct Process {
    served: process::Served,
    dir: tempfile::TempDir,
    client: reqwest::Client,
}

impl Process {
    /// Starts one in which `MINE` has a good plugin.
    fn start(config: &str) -> Process {
        let dir = folder(&format!("{MINE}{config}"));
        let plugins = dir.path().join("data/plugins");
        fs::copy(plugins.join("sandbox-sms.wasm"), plugins.join("mine.wasm")).expect("copied");
        Process::start_in(dir)
    }

    fn start_in(dir: tempfile::TempDir) -> Process {
        Process { served: process::Served::start(dir.path()), dir, client: client() }
    }

    fn plugin(&self, name: &str) -> PathBuf {
        self.dir.path().join("data/plugins").join(name)
    }

    async fn get(&self, path: &str) -> Answer {
        let base = if is_operators(path) { &self.served.operator_url } else { &self.served.url };
        Answer::of(self.client.get(format!("{base}{path}"))).await
    }

    /// Asks for a code, which the sandbox's plugin sends.
    async fn call_a_plugin(&self) {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = format!("0936{:07}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let request = self.client.post(format!("{}/otp/send/", self.served.url));
        let sent = Answer::of(request.json(&json!({"mobile_number": number}))).await;
        assert_eq!(sent.status, 200, "{sent:?}");
    }

    async fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + COMPILE_PATIENCE;
        loop {
            let status = self.get("/status/").await.body;
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < until, "{what} did not come; last status: {status:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The process ids of its compilers.
    fn compilers(&self) -> BTreeSet<u32> {
        let parent = format!("PPid:\t{}\n", self.served.child.id());
        let ids = fs::read_dir("/proc").expect("proc").flatten();
        let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let status = |id: u32| fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        ids.filter(|id| {
            let status = status(*id);
            status.contains(&parent) && !status.contains("State:\tZ")
        })
        .collect()
    }

    /// The one compiler of a compilation that status shows. Its bytes are read and hashed before it starts.
    async fn compiler(&self) -> BTreeSet<u32> {
        let until = Instant::now() + COMPILE_PATIENCE;
        loop {
            let compilers = self.compilers();
            if compilers.len() == 1 {
                return compilers;
            }
            assert!(compilers.is_empty(), "{compilers:?}");
            assert!(Instant::now() < until, "no compiler was started");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends SIGTERM and waits for the end. Returns the folder.
    async fn terminate(mut self) -> tempfile::TempDir {
        let id = self.served.child.id().to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
        assert!(sent.success());
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.served.child.try_wait().expect("it is a child") {
                break status;
            }
            assert!(Instant::now() < until, "it does not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert!(status.success(), "{status}");
        self.dir
    }
}

fn mine(status: &Value) -> &Value {
    let providers = status["providers"].as_array().expect("a list");
    providers.iter().find(|provider| provider["name"] == "MINE").expect("an entry")
}

async fn gone(compilers: &BTreeSet<u32>) {
    let until = Instant::now() + PATIENCE;
    for id in compilers {
        let status = || fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        while status().contains("chelseru") && !status().contains("State:\tZ") {
            assert!(Instant::now() < until, "compiler {id} lives on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compilation_is_shown_overtaken_bounded_and_dies_with_the_gateway() {
    let gateway = Process::start("[plugins]\ncompile_seconds = 3600\n");
    let good = fs::read(gateway.plugin("mine.wasm")).expect("a plugin");
    let compiling = |status: &Value| status["plugins"]["compiling"] == json!(["MINE"]);

    replace(&gateway.plugin("mine.wasm"), &slow());
    let status = gateway.wait_for("a compilation", compiling).await;
    assert_eq!((&mine(&status)["state"], &mine(&status)["compiling"]), (&json!("serving"), &json!(true)));
    gateway.call_a_plugin().await;
    assert_eq!(gateway.get("/health/").await.status, 200);
    let first = gateway.compiler().await;

    // A newer edit does not wait for it.
    replace(&gateway.plugin("mine.wasm"), &changed(&good, b'a'));
    let overtaken = |status: &Value| mine(status)["generation"] == 2 && !compiling(status);
    gateway.wait_for("the newer plugin", overtaken).await;
    gone(&first).await;

    // A stop does not wait for it either, and it does not go on alone.
    replace(&gateway.plugin("mine.wasm"), &slow());
    gateway.wait_for("a compilation", compiling).await;
    let second = gateway.compiler().await;
    let dir = gateway.terminate().await;
    gone(&second).await;

    // The next start is not stopped by it: what served last serves.
    let config = dir.path().join("config.toml");
    let text = fs::read_to_string(&config).expect("read").replace("= 3600", "= 1");
    fs::write(&config, text).expect("written");
    let gateway = Process::start_in(dir);
    let status = gateway.get("/status/").await.body;
    assert_eq!(status["plugins"]["serving_old"], json!(["MINE"]), "{status:#}");
    let error = mine(&status)["last_error"].as_str().expect("a reason");
    assert!(error.contains("takes more than 1 s of CPU"), "{error}");
    gateway.call_a_plugin().await;

    // Nor is the one after that, which does not try it again.
    let gateway = Process::start_in(gateway.terminate().await);
    let status = gateway.get("/status/").await.body;
    let error = mine(&status)["last_error"].as_str().expect("a reason");
    assert!(error.contains("more than 1 s of CPU; it is tried again when"), "{error}");
    assert_eq!(mine(&status)["state"], "serving-old");
}

#[tokio::test(flavor = "multi_thread")]
async fn compiling_past_its_memory_ends_the_compiler_and_nothing_else() {
    let gateway = Process::start("[plugins]\ncompile_memory_mib = 128\nplugin_bytes_max = 67108864\n");
    replace(&gateway.plugin("mine.wasm"), &heavy(60 << 20));
    let status = gateway.wait_for("a refusal", |status| mine(status)["state"] == "serving-old").await;
    let error = mine(&status)["last_error"].as_str().expect("a reason");
    assert!(error.contains("takes more than 128 MiB of memory"), "{error}");
    gateway.call_a_plugin().await;
    assert_eq!(gateway.compilers(), BTreeSet::new());

    // One byte more than a component may have is refused before it is read.
    replace(&gateway.plugin("mine.wasm"), &vec![0; 67108865]);
    let refused = |status: &Value| {
        mine(status)["last_error"].as_str().is_some_and(|error| error.contains("67108865 bytes are more"))
    };
    gateway.wait_for("a refusal by size", refused).await;

    // A component as large as those of interpreted languages loads where the operator allows it.
    let mut large = fs::read(gateway.plugin("sandbox-sms.wasm")).expect("a plugin");
    let mut padding = vec![1, b'p'];
    padding.resize(18 << 20, 0);
    section(&mut large, 0, &padding);
    replace(&gateway.plugin("mine.wasm"), &large);
    let status = gateway.wait_for("the large plugin", |status| mine(status)["generation"] == 2).await;
    assert_eq!((&mine(&status)["state"], &mine(&status)["last_error"]), (&json!("serving"), &Value::Null));
}

/// Calls of each neighbour while something goes on in the plugins folder.
const CALLS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn health_and_other_plugins_do_not_notice_what_happens_in_the_plugins_folder() {
    let gateway = Process::start("[plugins]\ncompile_seconds = 3600\n");
    let good = fs::read(gateway.plugin("mine.wasm")).expect("a plugin");
    let plugins = gateway.dir.path().join("data/plugins");
    for (number, (what, attack)) in ATTACKS.into_iter().enumerate() {
        let attack = Attacking::start(attack, &plugins, &good);
        // A good component compiles within its calls; the one that takes minutes holds nobody up.
        let is_long = what == COMPILES_FOR_LONG;
        if is_long {
            gateway
                .wait_for("a compilation", |status| status["plugins"]["compiling"] == json!(["MINE"]))
                .await;
        }
        for _ in 0..CALLS {
            assert_eq!(gateway.get("/health/").await.status, 200, "beside {what}");
            gateway.call_a_plugin().await;
        }
        let status = gateway.get("/status/").await.body;
        assert!(!is_long || status["plugins"]["compiling"] == json!(["MINE"]), "beside {what}: {status:#}");
        attack.end();
        // What serves now is known again before the next one.
        replace(&plugins.join("mine.wasm"), &changed(&good, number as u8));
        let serves = |status: &Value| {
            mine(status)["state"] == "serving" && status["plugins"]["compiling"] == json!([])
        };
        gateway.wait_for("the plugin again", serves).await;
    }
}

/// The value of a metric's first line with these labels.
fn metric(text: &str, name: &str, labels: &str) -> Option<f64> {
    let line = format!("{name}{{{labels}}} ");
    text.lines().find_map(|found| found.strip_prefix(&line)?.parse().ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_the_list_and_the_audit_log_say_how_each_plugin_does() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let config = format!(
        "[sms]\nservice = \"KAVENEGAR_COM\"\n\
         [provider.KAVENEGAR_COM]\nhosts = [\"{at}\"]\n\
         [provider.KAVENEGAR_COM.settings]\napi_key = \"test-key\"\nbase_url = \"http://{at}\"\n{MINE}",
        at = simulator.addr
    );
    let dir = folder(&config);
    let plugins = dir.path().join("data/plugins");
    fs::copy(plugins.join("sandbox-sms.wasm"), plugins.join("mine.wasm")).expect("copied");
    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    for number in ["09361000001", "09361000002", "09361000003"] {
        let sent = gateway.post("/otp/send/", json!({"mobile_number": number})).await;
        assert_eq!(sent.status, 200, "{sent:?}");
    }
    replace(&plugins.join("mine.wasm"), b"\0asm");
    gateway.wait_for("a refusal", |status| mine(status)["state"] == "serving-old").await;

    let text = gateway.get("/metrics/", None).await.text;
    let value = |name: &str, labels: &str| {
        metric(&text, name, labels).unwrap_or_else(|| panic!("no {name}{{{labels}}} in {text}"))
    };
    let of = |name: &str| value(name, "provider=\"KAVENEGAR_COM\"");
    assert!(of("chelseru_plugin_calls_total") >= 3.0);
    for kind in CALL_ERRORS {
        let labels = format!("kind=\"{kind}\",provider=\"KAVENEGAR_COM\"");
        assert_eq!(value("chelseru_plugin_call_errors_total", &labels), 0.0);
    }
    let (p50, p99) = (of("chelseru_plugin_call_seconds_p50"), of("chelseru_plugin_call_seconds_p99"));
    assert!(p50 > 0.0 && p99 >= p50, "{p50} {p99}");
    assert!(of("chelseru_plugin_cpu_seconds") > 0.0);
    // The page that it began with (plugins/.cargo/config.toml) and its tables: growing costs more than a message.
    assert!((65_536.0..131_072.0).contains(&of("chelseru_plugin_memory_bytes_max")));
    assert!(of("chelseru_plugin_http_requests_total") >= 3.0);
    assert!(of("chelseru_plugin_http_bytes_out_total") > 0.0);
    assert_eq!(of("chelseru_plugin_lookups_refused_total"), 0.0, "every lookup had a place");
    assert!(of("chelseru_plugin_http_bytes_in_total") > 0.0);
    assert!(of("chelseru_plugin_compile_seconds") >= 0.0);
    assert_eq!(of("chelseru_plugin_calls_in_flight"), 0.0);
    assert_eq!(of("chelseru_plugin_reload_failures_total"), 0.0);
    assert_eq!(value("chelseru_plugin_reload_failures_total", "provider=\"MINE\""), 1.0);
    assert_eq!(gateway.get("/ready/", None).await.body, json!({"status": "degraded"}));
    for (name, expected) in [("failed", 0.0), ("serving_old", 1.0), ("compiling", 0.0)] {
        assert_eq!(value("chelseru_plugins", &format!("state=\"{name}\"")), expected, "{name}");
    }

    let list = tokio::task::block_in_place(|| process::run(gateway.dir.path(), &["plugin", "list"]));
    let list = String::from_utf8(list.stdout).expect("text");
    let heads =
        ["CALLS", "ERRORS", "P50 ms", "P99 ms", "CPU s", "MEMORY KiB", "REQUESTS", "OUT KiB", "IN KiB"];
    for word in heads.into_iter().chain(["COMPILE ms", "REFUSED", "KAVENEGAR_COM"]) {
        assert!(list.contains(word), "{word}: {list}");
    }
    assert!(list.contains("MINE: last error: plugin \"mine.wasm\": not a valid component"), "{list}");

    gateway.app.live().identity.audit().flush().await;
    let query = AuditQuery { event: Some("plugin_refused".to_owned()), limit: 1, ..AuditQuery::default() };
    let refused = gateway.app.live().identity.audit().page(query).await.expect("read").entries;
    let told = (&refused[0].draft.subject, &refused[0].draft.detail);
    assert!(told.0 == "MINE" && told.1.contains("not a valid component"), "{told:?}");
}
