//! Providers and configuration change under 200 requests a second, and nothing fails.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chelseru::app::App;
use chelseru::config::{Config, Log, LogLevel};
use chelseru::logging;
use chelseru::server::{Server, ServerOptions};
use chelseru_simulator::{Fault, Simulator};
use chelseru_store::{Store, StoreOptions};
use chelseru_tests::{PATIENCE, TestGateway, process, replace};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

const CONFIG: &str = r#"
[sms]
service = "KAVENEGAR_COM"
[provider.KAVENEGAR_COM]
hosts = ["SIMULATOR"]
[provider.KAVENEGAR_COM.settings]
api_key = "test-key"
base_url = "http://SIMULATOR"
"#;

fn config(simulator: &Simulator) -> String {
    CONFIG.replace("SIMULATOR", &simulator.addr.to_string())
}

/// Requests 200 codes a second for new numbers, or as many as the machine answers, until stopped.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    task: JoinHandle<Vec<String>>,
}

/// Requests of a load in flight at once.
const LOAD_REQUESTS_MAX: usize = 32;

static NUMBER: AtomicU64 = AtomicU64::new(0);

impl Load {
    fn start(gateway: &TestGateway) -> Load {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (client, url) = (gateway.client.clone(), gateway.at("/otp/send/"));
        let task = tokio::spawn({
            let (stop, sent) = (stop.clone(), sent.clone());
            async move {
                let mut interval = tokio::time::interval(Duration::from_millis(5));
                let (mut requests, mut failures) = (JoinSet::new(), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    interval.tick().await;
                    let number = format!("0935{:07}", NUMBER.fetch_add(1, Ordering::Relaxed));
                    let request = client.post(&url).json(&json!({"mobile_number": number}));
                    requests.spawn(async move {
                        match chelseru_tests::Answer::try_of(request).await {
                            Ok(answer) if answer.status == 200 => None,
                            other => Some(format!("{other:?}")),
                        }
                    });
                    sent.fetch_add(1, Ordering::Relaxed);
                    // A slow machine gets fewer requests instead of a backlog.
                    if requests.len() >= LOAD_REQUESTS_MAX
                        && let Some(done) = requests.join_next().await
                    {
                        failures.extend(done.expect("no panic"));
                    }
                    while let Some(Ok(done)) = requests.try_join_next() {
                        failures.extend(done);
                    }
                }
                while let Some(done) = requests.join_next().await {
                    failures.extend(done.expect("no panic"));
                }
                failures
            }
        });
        Load { stop, sent, task }
    }

    /// Waits for the answers of everything sent; panics unless each was 200.
    async fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.task.await.expect("no panic");
        assert!(failures.is_empty(), "{} requests failed, the first: {}", failures.len(), failures[0]);
        self.sent.load(Ordering::Relaxed)
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The installed Kavenegar plugin with another version and another path: new code of the same shape.
fn changed_plugin(gateway: &TestGateway) -> Vec<u8> {
    let file = gateway.plugins_dir().join("kavenegar.wasm");
    let bytes = std::fs::read(file).expect("installed");
    let changed = patched(&bytes, b"sms/send", b"sms/senX");
    assert!(bytes != changed, "the plugin's code does not hold the path in one piece");
    changed
}

fn patched(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|window| window == from) {
        bytes[at + found..at + found + to.len()].copy_from_slice(to);
        at += found + from.len();
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_the_provider_takes_effect_without_a_failed_request() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let gateway = TestGateway::start(&config(&simulator)).await;
    let load = Load::start(&gateway);
    until("messages by Kavenegar", || simulator.accepted("kavenegar") >= 200).await;

    gateway
        .edit_config(&config(&simulator).replace("service = \"KAVENEGAR_COM\"", "service = \"SANDBOX_SMS\""));
    gateway.wait_for("the sandbox", |status| status["sms"]["service"] == json!(["SANDBOX_SMS"])).await;
    // Requests begun before the change may still be at Kavenegar; later ones are not.
    load.finish().await;
    let before = simulator.accepted("kavenegar");
    let load = Load::start(&gateway);
    until("codes by the sandbox", || load.sent.load(Ordering::Relaxed) >= 100).await;
    load.finish().await;
    assert_eq!(simulator.accepted("kavenegar"), before);

    let load = Load::start(&gateway);
    gateway.edit_config(&config(&simulator));
    gateway.wait_for("Kavenegar", |status| status["sms"]["service"] == json!(["KAVENEGAR_COM"])).await;
    until("messages by Kavenegar again", || simulator.accepted("kavenegar") >= before + 100).await;
    load.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_plugin_serves_the_next_call_and_calls_in_flight_finish_on_the_old() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let patient = config(&simulator).replace("[sms]\n", "[sms]\nround_seconds = 60\n");
    let patient = format!("{patient}[plugins]\nwall_time_seconds = 60\n");
    let gateway = TestGateway::start(&patient).await;
    let load = Load::start(&gateway);
    until("messages", || simulator.accepted("kavenegar") >= 100).await;
    let old = gateway.provider("KAVENEGAR_COM").await;

    let file = gateway.plugins_dir().join("kavenegar.wasm");
    let bytes = std::fs::read(&file).expect("installed");
    let newer = patched(&bytes, b"kavenegar0.1.0", b"kavenegar0.1.1");
    assert!(bytes != newer, "the plugin does not hold its name and version in one piece");
    // No call waits while a slow machine compiles.
    gateway.compile(&newer);

    // The provider holds one call while its plugin is replaced.
    let held_number = "09129999999";
    simulator.fault(Fault::delay("kavenegar", 60_000).number(held_number).times(1)).expect("a fault");
    let held = tokio::spawn({
        let request =
            gateway.client.post(gateway.at("/otp/send/")).json(&json!({"mobile_number": held_number}));
        chelseru_tests::Answer::of(request)
    });
    let asked = |number: &str| {
        let number = number.to_owned();
        let requests = simulator.requests();
        requests
            .into_iter()
            .filter(move |request| format!("{request:?}").contains(&number))
            .collect::<Vec<_>>()
    };
    until("the held call", || simulator.faults().is_empty()).await;
    replace(&file, &newer);
    let generation = |generation: u64| {
        move |status: &Value| {
            let providers = status["providers"].as_array().expect("providers");
            providers.iter().any(|provider| {
                provider["name"] == "KAVENEGAR_COM" && provider["generation"] == json!(generation)
            })
        }
    };
    gateway.wait_for("the new generation", generation(2)).await;
    let new = gateway.provider("KAVENEGAR_COM").await;
    assert_ne!(old["blake3"], new["blake3"]);
    assert_eq!((&new["state"], &new["version"]), (&json!("serving"), &json!("0.1.1")));
    let before = simulator.accepted("kavenegar");
    until("messages by the new plugin", || simulator.accepted("kavenegar") >= before + 100).await;
    assert!(!held.is_finished());
    simulator.release();
    assert_eq!(held.await.expect("no panic").status, 200, "the call in flight finished on the old code");
    load.finish().await;

    // The simulator does not know `senX`: the next call runs the newest code.
    replace(&file, &changed_plugin(&gateway));
    gateway.wait_for("the third generation", generation(3)).await;
    let next = gateway.post("/otp/send/", json!({"mobile_number": "09128888888"})).await;
    assert_ne!(next.status, 200, "{next:?}");
    let on_the_wire = asked("09128888888").iter().map(|request| format!("{request:?}")).collect::<String>();
    assert!(on_the_wire.contains("senX"), "{on_the_wire}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_and_the_old_one_serves_on() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let gateway = TestGateway::start(&config(&simulator)).await;
    let load = Load::start(&gateway);
    let file = gateway.plugins_dir().join("kavenegar.wasm");
    let good = std::fs::read(&file).expect("installed");
    let digest = gateway.provider("KAVENEGAR_COM").await["blake3"].clone();

    let wrong_version =
        patched(&good, b"chelseru:provider/sms-text@0.1.0", b"chelseru:provider/sms-text@0.9.0");
    let empty_component = b"\0asm\x0d\0\x01\0".to_vec();
    for (what, bytes, reason) in [
        ("a truncated file", good[..good.len() / 2].to_vec(), ""),
        ("no component", b"not wasm at all".to_vec(), ""),
        ("a component of another kind", empty_component, "chelseru:provider"),
        ("another version", wrong_version, "0.9"),
    ] {
        let failures =
            gateway.provider("KAVENEGAR_COM").await["reload_failures"].as_u64().expect("a counter");
        replace(&file, &bytes);
        let refused = |status: &Value| {
            let providers = status["providers"].as_array().expect("providers");
            providers.iter().any(|provider| {
                provider["name"] == "KAVENEGAR_COM" && provider["reload_failures"].as_u64() > Some(failures)
            })
        };
        gateway.wait_for(what, refused).await;
        let provider = gateway.provider("KAVENEGAR_COM").await;
        assert_eq!(provider["state"], "serving-old", "{what}: {provider:#}");
        assert_eq!(provider["blake3"], digest, "{what}");
        let error = provider["last_error"].as_str().expect("an error");
        assert!(error.contains(reason), "{what}: {error}");
    }
    replace(&file, &good);
    gateway
        .wait_for("serving again", |status| {
            let providers = status["providers"].as_array().expect("providers");
            providers
                .iter()
                .all(|provider| provider["state"] == "serving" && provider["last_error"].is_null())
        })
        .await;

    let text = config(&simulator);
    for (what, edited, reason) in [
        ("a missing setting", text.replace("api_key = \"test-key\"", ""), "api_key"),
        ("an unknown setting", format!("{text}\nsender_name = \"x\"\n"), "sender_name"),
        (
            "an ungranted host",
            text.replace("base_url = \"http://", "base_url = \"http://other.example/"),
            "other.example",
        ),
        ("an unknown key", format!("{text}\n[nonsense]\n"), "nonsense"),
        ("broken syntax", format!("{text}\n[auth\n"), "config.toml:"),
        (
            "a plugin that is not there",
            text.replace("[provider.KAVENEGAR_COM]", "[provider.KAVENEGAR_COM]\nplugin = \"absent\""),
            "absent",
        ),
    ] {
        let generation = gateway.status().await["config"]["generation"].clone();
        gateway.edit_config(&edited);
        let status = gateway.wait_for(what, |status| !status["config"]["last_error"].is_null()).await;
        let error = status["config"]["last_error"].as_str().expect("an error");
        assert!(error.contains(reason), "{what}: {error}");
        assert_eq!(status["config"]["generation"], generation, "{what}");
        // Each refusal is reverted before the next, so the next one is visible.
        gateway.edit_config(&format!("{text}\n# after {what}\n"));
        gateway.wait_for("the old text", |status| status["config"]["last_error"].is_null()).await;
    }
    assert!(load.finish().await > 0);
    let metrics = gateway.get("/metrics/", None).await.text;
    assert!(metrics.contains("chelseru_reload_failures_total 10"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_file_is_tried_again_when_its_cause_is_gone() {
    let gateway = TestGateway::start("[auth]\notp_length = 6\n").await;
    let refused = async |what: &str, reason: &str| {
        let status = gateway.wait_for(what, |status| !status["config"]["last_error"].is_null()).await;
        let error = status["config"]["last_error"].as_str().expect("an error").to_owned();
        assert!(error.contains(reason), "{what}: {error}");
    };
    let applied = async |what: &str, length: usize| {
        gateway.wait_for(what, |status| status["config"]["last_error"].is_null()).await;
        assert_eq!(gateway.app.live().config.auth.otp_length as usize, length, "{what}");
    };
    // The plugin comes after the file that names it.
    gateway.edit_config(
        "[auth]\notp_length = 7\n[sms]\nservice = \"NEW\"\n[provider.NEW]\nplugin = \"later\"\n",
    );
    refused("a missing plugin", "later.wasm").await;
    let plugins = gateway.plugins_dir();
    std::fs::copy(plugins.join("sandbox-sms.wasm"), plugins.join("later.wasm")).expect("installed");
    applied("the plugin came", 7).await;
    // The value of a key comes, and the file is saved as it was.
    let key = gateway.config_file().with_file_name("key");
    gateway.edit_config(
        "[auth]\notp_length = 8\nlegacy_until = \"2099-01-31\"\nlegacy_secret = { file = \"key\" }\n",
    );
    refused("a missing value", "key cannot be read").await;
    std::fs::write(key, "the secret of another program").expect("written");
    let text = std::fs::read(gateway.config_file()).expect("read");
    std::fs::write(gateway.config_file(), text).expect("saved");
    applied("the value came", 8).await;
    // A pipe in its place stops nobody.
    let file = gateway.config_file().to_owned();
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).expect("moved");
    assert!(std::process::Command::new("mkfifo").arg(&file).status().expect("mkfifo runs").success());
    refused("a pipe", "not a regular file").await;
    std::fs::rename(&aside, &file).expect("moved back");
    applied("the file came back", 8).await;
    gateway.edit_config("[auth]\notp_length = 9\n");
    gateway.wait_for("the next edit", |_| gateway.app.live().config.auth.otp_length == 9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_changes_limits_live_and_names_the_keys_that_wait() {
    let gateway = TestGateway::start("[auth]\notp_length = 6\n").await;
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": "09120000030"})).await.status, 200);
    assert_eq!(gateway.sandbox_code("09120000030").await.len(), 6);
    gateway.edit_config("[auth]\notp_length = 8\n[server]\nbody_bytes_max = 2048\n");
    let status =
        gateway.wait_for("the new configuration", |status| status["config"]["generation"] == json!(2)).await;
    let waiting = status["config"]["restart_keys"].as_array().expect("a list");
    assert!(waiting.contains(&json!("server.body_bytes_max")), "{waiting:?}");
    assert_eq!(gateway.post("/otp/send/", json!({"mobile_number": "09120000031"})).await.status, 200);
    assert_eq!(gateway.sandbox_code("09120000031").await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_emptied_and_written_slowly_is_read_when_it_is_whole() {
    use std::io::Write;

    let gateway = TestGateway::start("[auth]\notp_length = 8\n[log]\nlevel = \"warn\"\n").await;
    let text = std::fs::read_to_string(gateway.config_file()).expect("read");
    let text = text.replace("otp_length = 8", "otp_length = 9");
    let mut file = std::fs::File::create(gateway.config_file()).expect("emptied");
    let half = text.find("9").expect("a digit");
    for part in [&text[..half], &text[half..]] {
        tokio::time::sleep(Duration::from_millis(30)).await;
        file.write_all(part.as_bytes()).expect("written");
        file.sync_all().expect("written");
    }
    let status =
        gateway.wait_for("the whole file", |status| status["config"]["generation"].as_u64() >= Some(2)).await;
    assert_eq!(status["config"]["last_error"], Value::Null);
    assert_eq!(gateway.app.live().config.auth.otp_length, 9);

    // A file emptied for good: the defaults would be a surprise, so the old configuration keeps serving.
    std::fs::write(gateway.config_file(), "").expect("emptied");
    let status = gateway.wait_for("a refusal", |status| !status["config"]["last_error"].is_null()).await;
    assert!(status["config"]["last_error"].as_str().expect("a text").contains("is empty"), "{status:#}");
    assert_eq!(gateway.app.live().config.auth.otp_length, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn plugin_list_asks_the_running_gateway_and_loads_when_none_runs() {
    let dir = chelseru_tests::folder("");
    let served = process::Served::start(dir.path());
    let address = served.url.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    // `plugin list` finds the gateway where the configuration says it listens.
    std::fs::write(dir.path().join("asking.toml"), format!("[server]\nlisten = \"{address}\"\n"))
        .expect("a file");
    let ask = || {
        let output = process::run(dir.path(), &["plugin", "list", "--json", "--config", "asking.toml"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let running = ask();
    assert_eq!(running["running"], true);
    let provider = &running["providers"][0];
    for key in ["name", "kind", "version", "interface_version", "blake3", "generation", "state"] {
        assert!(!provider[key].is_null(), "{key}: {provider:#}");
    }
    assert_eq!(provider["name"], "SANDBOX_SMS");
    served.kill();
    assert_eq!(ask()["running"], false);
}

/// Opens a gateway whose configuration is changed to another length of codes after it was read. `meanwhile` runs beside
/// it.
async fn start_beside_an_edit(dir: &Path, length: u64, meanwhile: impl FnOnce() + Send + 'static) -> Server {
    let file = dir.join("config.toml");
    let loaded = Config::load(&file).unwrap_or_else(|problems| panic!("{problems}"));
    let before = format!("otp_length = {}", loaded.config.auth.otp_length);
    let text = std::fs::read_to_string(&file).expect("read");
    replace(&file, text.replace(&before, &format!("otp_length = {length}")).as_bytes());
    let log = logging::start(&Log { level: LogLevel::Warn, ..Log::default() }).keeping_level();
    let options = ServerOptions { print_sandbox: false, ..ServerOptions::default() };
    let meanwhile = std::thread::spawn(meanwhile);
    let server = Server::open(loaded, log, options).await.expect("it starts");
    meanwhile.join().expect("no panic");
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_while_the_gateway_starts_is_applied() {
    let dir = TestGateway::start("[auth]\notp_length = 6\n").await.stop().await;
    let server = start_beside_an_edit(dir.path(), 8, || {}).await;
    let app = server.app().clone();
    until("the saved configuration", || app.live().config.auth.otp_length == 8).await;
    let digest = |app: &App| app.registry.get("SANDBOX_SMS").expect("it serves").plugin().digest().to_owned();
    let before = digest(&app);
    drop(app);
    server.stop_token().cancel();
    server.run().await.expect("it stops");

    if chelseru_tests::store::is_postgres() {
        return;
    }
    // The plugins are read, and the store is waited for, when one of them is replaced.
    let plugin = dir.path().join("data/plugins/sandbox-sms.wasm");
    let an_empty_section = [0, 5, 4, b't', b'e', b's', b't'];
    let newer = [&std::fs::read(&plugin).expect("installed")[..], &an_empty_section].concat();
    chelseru_tests::compile(dir.path(), &newer);
    let store = Store::open(dir.path().join("data/db"), StoreOptions::default()).expect("a store");
    let server = start_beside_an_edit(dir.path(), 9, move || {
        std::thread::sleep(Duration::from_secs(1));
        replace(&plugin, &newer);
        std::thread::sleep(Duration::from_millis(200));
        drop(store);
    })
    .await;
    let app = server.app().clone();
    until("the saved plugin", || digest(&app) != before).await;
    until("the saved configuration", || app.live().config.auth.otp_length == 9).await;
}
