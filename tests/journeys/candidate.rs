//! One candidate: `check`, `serve` and a running gateway refuse a broken file with the same text, and a refusal
//! changes nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chelseru::config::{Config, Log, LogLevel};
use chelseru::server::{Server, ServerOptions};
use chelseru::{cli, logging};
use chelseru_domain::clock::SystemClock;
use chelseru_domain::operator::audit::AuditQuery;
use chelseru_tests::{TestGateway, process, replace};
use serde_json::{Value, json};

/// A broken file and its messages; `FILE` stands for the file's name, `...` for the rest of a line.
struct Case {
    name: &'static str,
    text: &'static str,
    expected: &'static [&'static str],
}

const fn case(name: &'static str, text: &'static str, expected: &'static [&'static str]) -> Case {
    Case { name, text, expected }
}

const KAVENEGAR: &str =
    "[sms]\nservice = \"KAVENEGAR_COM\"\n[provider.KAVENEGAR_COM.settings]\napi_key = \"test-key\"\n";

/// Mistakes of shape: syntax, unknown keys, wrong types.
const SHAPES: &[Case] = &[
    case("no value", "[auth]\notp_length =\n", &["FILE:2: auth.otp_length: has no value ..."]),
    case("an open header", "[auth\notp_length = 6\n", &["FILE:1: auth: is not TOML: ..."]),
    case("no pair", "[auth]\nnonsense\n", &["FILE:2: auth: is not TOML: ..."]),
    case(
        "an open text",
        "[auth]\notp_text = \"{code}\n",
        &["FILE:2: auth.otp_text = \"{code}: is not TOML: ..."],
    ),
    case(
        "an unknown key",
        "[auth]\notp_lenght = 6\n",
        &[
            "FILE:2: auth.otp_lenght = 6: is not a key of [auth]; did you mean `otp_length`? known are `otp_length`, ...",
        ],
    ),
    case(
        "an unknown section",
        "[oauth]\n",
        &["FILE:1: oauth: is not a section of this file; did you mean `auth`? known are `auth`, ..."],
    ),
    case(
        "a key of another section",
        "[server]\notp_length = 6\n",
        &["FILE:2: server.otp_length = 6: is not a key of [server]; it belongs in [auth]; known are ..."],
    ),
    case(
        "a setting outside of settings",
        "[provider.KAVENEGAR_COM]\napi_key = \"s3cret\"\n",
        &[
            "FILE:2: provider.KAVENEGAR_COM.api_key: is not a key of [provider.KAVENEGAR_COM]; settings of the plugin belong in [provider.KAVENEGAR_COM.settings]; known are ...",
        ],
    ),
    case(
        "a text for a number",
        "[auth]\notp_length = \"six\"\n",
        &["FILE:2: auth.otp_length = \"six\": must be a whole number"],
    ),
    case(
        "a number in quotes",
        "[auth]\notp_length = \"8\"\n",
        &["FILE:2: auth.otp_length = \"8\": must be a whole number; write 8"],
    ),
    case(
        "a fraction",
        "[auth]\notp_length = 6.0\n",
        &["FILE:2: auth.otp_length = 6.0: must be a whole number; write 6"],
    ),
    case(
        "Persian digits in quotes",
        "[auth]\notp_length = \"۸\"\n",
        &["FILE:2: auth.otp_length = \"۸\": must be a whole number; write 8"],
    ),
    case(
        "Persian digits",
        "[auth]\notp_length = ۸\n",
        &["FILE:2: auth.otp_length = ۸: has digits that are not 0 to 9; write 8"],
    ),
    case(
        "Arabic digits",
        "[auth]\notp_length = ٨\n",
        &["FILE:2: auth.otp_length = ٨: has digits that are not 0 to 9; write 8"],
    ),
    case(
        "smart quotes",
        "[auth]\notp_text = “{code}”\n",
        &["FILE:2: auth.otp_text = “{code}”: has the quotation mark “; write straight ones: \"{code}\""],
    ),
    case(
        "smart quotes around a secret",
        "[provider.KAVENEGAR_COM.settings]\napi_key = “s3cret”\n",
        &["FILE:2: provider.KAVENEGAR_COM.settings.api_key: has the quotation mark “; write straight ones"],
    ),
    case(
        "a number too large for its kind",
        "[auth]\notp_length = 300\n",
        &["FILE:2: auth.otp_length = 300: must be a whole number from 0 to 255"],
    ),
    case(
        "a negative number",
        "[sms]\nkeep_days = -1\n",
        &["FILE:2: sms.keep_days = -1: must be a whole number, 0 or more"],
    ),
    case(
        "an unknown word",
        "[log]\nlevel = \"loud\"\n",
        &["FILE:2: log.level = \"loud\": must be one of ..."],
    ),
    case(
        "a duplicate key",
        "[auth]\notp_length = 5\notp_length = 6\n",
        &["FILE:3: auth.otp_length = 6: duplicate key, first set on line 2; remove one of the two"],
    ),
    case(
        "a duplicate table",
        "[auth]\n[sms]\n[auth]\n",
        &["FILE:3: auth: duplicate key, first set on line 1; remove one of the two"],
    ),
    case(
        "a missing url",
        "[webhooks.endpoints.shop]\nsecret = \"x\"\n",
        &["FILE:1: webhooks.endpoints.shop: has no `url`, which is required"],
    ),
    case(
        "a text for a list",
        "[server]\ntrusted_proxies = \"10.0.0.0/8\"\n",
        &[
            "FILE:2: server.trusted_proxies = \"10.0.0.0/8\": must be a list in square brackets; write [\"10.0.0.0/8\"]",
        ],
    ),
    case(
        "an address without a port",
        "[server]\nlisten = \"127.0.0.1\"\n",
        &["FILE:2: server.listen = \"127.0.0.1\": must be an address and a port, such as \"127.0.0.1:8000\""],
    ),
    case(
        "two mistakes",
        "[auth]\notp_length = \"6\"\n[log]\nlevle = \"info\"\n",
        &[
            "FILE:2: auth.otp_length = \"6\": must be a whole number; write 6",
            "FILE:4: log.levle: is not a key of [log]; did you mean `level`? known are `level`, `format`",
        ],
    ),
];

/// Values that are not accepted.
const VALUES: &[Case] = &[
    case(
        "a bucket without its table",
        "[files]\nstore = \"s3\"\n",
        &["FILE:2: files.store = \"s3\": needs [files.s3] with endpoint, bucket, access_key and secret_key"],
    ),
    case(
        "a table of a bucket that nothing uses",
        "[files.s3]\nbucket = \"chelseru\"\n",
        &[
            "FILE:1: files.store = \"folder\": leaves [files.s3] unused: set store = \"s3\", or remove the table",
        ],
    ),
    case(
        "half a bucket",
        "[files]\nstore = \"s3\"\n[files.s3]\nendpoint = \"s3.example.com\"\nsecret_key = \"s3cret\"\nprefix = \"/a\"\n",
        &[
            "FILE:3: files.s3.bucket = \"\": must be the name of a bucket: ...",
            "FILE:3: files.s3.access_key = nothing: must be a text, ...",
            "FILE:4: files.s3.endpoint = \"s3.example.com\": must be http:// or https:// and a host, ...",
            "FILE:6: files.s3.prefix = \"/a\": must be empty, or parts of ...",
        ],
    ),
    case("a code too short", "[auth]\notp_length = 3\n", &["FILE:2: auth.otp_length = 3: must be 4 to 10"]),
    case(
        "a trial bank on a public listener",
        "[server]\nlisten = \"0.0.0.0:8000\"\n",
        &[
            "FILE:2: server.listen = \"0.0.0.0:8000\": is public while sms.service names SANDBOX_SMS, which is for trials: ...",
        ],
    ),
    case(
        "a trial bank beside public operators",
        "[operator]\nlisten = \"0.0.0.0:8001\"\n[server]\nlisten = \"127.0.0.1:0\"\n",
        &["FILE:2: operator.listen = \"0.0.0.0:8001\": is public while sms.service names SANDBOX_SMS, ..."],
    ),
    case(
        "one address for both listeners",
        "[server]\nlisten = \"127.0.0.1:8000\"\n[operator]\nlisten = \"127.0.0.1:8000\"\n",
        &["FILE:4: operator.listen = \"127.0.0.1:8000\": must not be server.listen"],
    ),
    case(
        "operators nowhere",
        "[operator]\nlisten = \"here\"\n",
        &[
            "FILE:2: operator.listen = \"here\": must be an address and a port, such as \"127.0.0.1:8001\", or ...",
        ],
    ),
    case(
        "links with a path",
        "[server]\npublic_url = \"https://example.com/x\"\n",
        &["FILE:2: server.public_url = \"https://example.com/x\": must be scheme and host, ..."],
    ),
    case(
        "two values",
        "[plugins]\nmemory_mib = 65\n[audit]\nrecords_max = 1\n",
        &[
            "FILE:2: plugins.memory_mib = 65: must be 1 to 64",
            "FILE:4: audit.records_max = 1: must be 1000 to 10000000",
        ],
    ),
    case(
        "a text without a code",
        "[auth]\notp_text = \"hello\"\n",
        &["FILE:2: auth.otp_text = \"hello\": must contain {code}, where the code goes"],
    ),
    case(
        "a base path with a slash at its end",
        "[server]\nbase_path = \"/a/\"\n",
        &["FILE:2: server.base_path = \"/a/\": must be empty or start with a slash, ..."],
    ),
    case(
        "a proxy by name",
        "[server]\ntrusted_proxies = [\"proxy\"]\n",
        &["FILE:2: server.trusted_proxies = \"proxy\": must hold networks ..."],
    ),
    case(
        "an origin with a path",
        "[chat]\norigins = [\"https://a.example/x\"]\n",
        &["FILE:2: chat.origins = \"https://a.example/x\": must hold origins ..."],
    ),
    case(
        "a pattern as an origin",
        "[server]\norigins = [\"https://*.example\"]\n",
        &["FILE:2: server.origins = \"https://*.example\": must hold origins ..."],
    ),
    case(
        "no SMS provider",
        "[sms]\nservice = []\n",
        &["FILE:2: sms.service = []: must name at least one of ..."],
    ),
    case(
        "an unknown SMS provider",
        "[sms]\nservice = \"KAVENEGAR\"\n",
        &[
            "FILE:2: sms.service = \"KAVENEGAR\": is not a provider; add [provider.NAME] with its plugin, or name another: accepted are KAVENEGAR_COM, ...",
        ],
    ),
    case(
        "a payment gateway for messages",
        "[sms]\nservice = \"ZARINPAL_COM\"\n",
        &[
            "FILE:2: sms.service = \"ZARINPAL_COM\": is a payment gateway; name it in payment.gateway; here accepted are ...",
        ],
    ),
    case(
        "an SMS provider for payments",
        "[payment]\ngateway = \"KAVENEGAR_COM\"\n",
        &[
            "FILE:2: payment.gateway = \"KAVENEGAR_COM\": is an SMS provider; name it in sms.service; here accepted are ...",
        ],
    ),
    case(
        "an entry without a plugin",
        "[provider.MY_SMS]\n",
        &[
            "FILE:1: provider.MY_SMS = an entry without `plugin`: needs a plugin (a file in the plugins folder, without .wasm); add plugin = \"my-sms\"",
        ],
    ),
    case(
        "a callback that is no address",
        "[payment]\ncallback_url = \"shop.example\"\n",
        &[
            "FILE:2: payment.callback_url = \"shop.example\": must be an absolute http or https address, or \"\"",
        ],
    ),
    case(
        "a template without a table",
        "[auth]\notp_template = \"login\"\n",
        &["FILE:2: auth.otp_template = \"login\": has no table [sms.templates.login]; ..."],
    ),
    case(
        "an unknown kind of event",
        "[webhooks.endpoints.shop]\nurl = \"https://shop.example/\"\nsecret = { env = \"CHELSERU_NOT_SET\" }\nevents = [\"payment.payed\"]\n",
        &[
            "FILE:4: webhooks.endpoints.shop.events = \"payment.payed\": is not an event kind; accepted are ...",
        ],
    ),
    case(
        "a setting whose variable is not set",
        "[provider.KAVENEGAR_COM.settings]\napi_key = { env = \"CHELSERU_NOT_SET\" }\n",
        &[
            "FILE:2: provider.KAVENEGAR_COM.settings.api_key = env CHELSERU_NOT_SET: the environment variable CHELSERU_NOT_SET is not set (or not text)",
        ],
    ),
];

/// Mistakes that only preparing finds: keys, secrets, plugins.
const PREPARED: &[Case] = &[
    case(
        "a key file that is not there",
        "[auth]\ntoken_key = { file = \"absent.pem\" }\n",
        &["FILE:2: auth.token_key = file absent.pem: the file ..."],
    ),
    case(
        "an unknown kind of key",
        "[auth]\ntoken_key = \"rs256-1\"\n",
        &["FILE:2: auth.token_key = text: ..."],
    ),
    case(
        "two keys that cannot be",
        "[auth]\ntoken_key = \"x\"\ntoken_keys_old = [\"y\"]\n",
        &["FILE:2: auth.token_key = text: ...", "FILE:3: auth.token_keys_old = text: ..."],
    ),
    case(
        "a webhook's secret that is not set",
        "[webhooks.endpoints.shop]\nurl = \"https://shop.example/\"\nsecret = { env = \"CHELSERU_NOT_SET\" }\n",
        &[
            "FILE:3: webhooks.endpoints.shop.secret = env CHELSERU_NOT_SET: the environment variable CHELSERU_NOT_SET is not set (or not text)",
        ],
    ),
    case(
        "a webhook's secret that is none",
        "[webhooks.endpoints.shop]\nurl = \"https://shop.example/\"\nsecret = \"s3cret\"\n",
        &[
            "FILE:3: webhooks.endpoints.shop.secret = text: must be whsec_ and Base64 of 24 to 64 bytes; `chelseru webhooks secret` makes one",
        ],
    ),
    case(
        "a webhook at a private address",
        "[webhooks.endpoints.shop]\nurl = \"http://127.0.0.1:9/\"\nsecret = \"whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw\"\n",
        &["FILE:2: webhooks.endpoints.shop.url = \"http://127.0.0.1:9/\": ..."],
    ),
    case(
        "a plugin that is not there",
        "[provider.MINE]\nplugin = \"absent\"\n",
        &["FILE:1: provider.MINE: plugin \"absent.wasm\": no such file; ..."],
    ),
    case(
        "a plugin of another kind",
        "[provider.MINE]\nplugin = \"zarinpal\"\nkind = \"sms\"\n",
        &["FILE:1: provider.MINE: plugin \"zarinpal.wasm\": ..."],
    ),
    case(
        "a missing setting",
        "[provider.KAVENEGAR_COM]\n",
        &[
            "FILE:1: provider.KAVENEGAR_COM.settings.api_key: is required ...",
            "    [provider.KAVENEGAR_COM.settings]",
            "    api_key = { env = \"KAVENEGAR_COM_API_KEY\" }",
        ],
    ),
    case(
        "a missing setting of a table that is there",
        "[provider.KAVENEGAR_COM.settings]\nsender = \"1\"\n",
        &[
            "FILE:1: provider.KAVENEGAR_COM.settings.api_key: is required ...",
            "    [provider.KAVENEGAR_COM.settings]",
            "    api_key = { env = \"KAVENEGAR_COM_API_KEY\" }",
        ],
    ),
    case(
        "an unknown setting",
        "[provider.KAVENEGAR_COM.settings]\napi_key = \"x\"\nsenders = \"1\"\n",
        &[
            "FILE:3: provider.KAVENEGAR_COM.settings.senders: setting \"senders\" is unknown, accepted are: ...",
        ],
    ),
    case(
        "a host that is not granted",
        "[provider.KAVENEGAR_COM]\nhosts = [\"other.example\"]\n[provider.KAVENEGAR_COM.settings]\napi_key = \"x\"\n",
        &[
            "FILE:2: provider.KAVENEGAR_COM.hosts: host \"api.kavenegar.com\" is not granted, granted are: other.example",
            "FILE:3: provider.KAVENEGAR_COM.settings.base_url: setting \"base_url\": host \"api.kavenegar.com:443\" is not granted, ...",
        ],
    ),
    case(
        "a key and a plugin",
        "[auth]\ntoken_key = \"x\"\n[provider.MINE]\nplugin = \"absent\"\n",
        &["FILE:2: auth.token_key = text: ...", "FILE:3: provider.MINE: plugin \"absent.wasm\": ..."],
    ),
];

fn cases() -> impl Iterator<Item = &'static Case> {
    SHAPES.iter().chain(VALUES).chain(PREPARED)
}

/// Compares a refusal with the expected messages, line by line.
fn is_expected(found: &str, expected: &[&str], file: &Path) -> bool {
    let found: Vec<String> =
        found.lines().map(|line| line.replace(&file.display().to_string(), "FILE")).collect();
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| match expected.strip_suffix("...") {
            Some(start) => found.starts_with(start),
            None => found == expected,
        })
}

async fn serve(file: &Path) -> Result<(), String> {
    let loaded = Config::load(file).map_err(|problems| problems.to_string())?;
    let log = logging::start(&Log { level: LogLevel::Warn, ..Log::default() });
    let clock = Arc::new(SystemClock);
    let options = ServerOptions { clock, print_sandbox: false, ..ServerOptions::default() };
    Server::open(loaded, log, options).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_serve_refuse_every_broken_file_with_the_same_text() {
    assert!(cases().count() >= 40, "{} cases", cases().count());
    let dir = chelseru_tests::folder("");
    let file = dir.path().join("config.toml");
    let mut wrong = Vec::new();
    for case in cases() {
        std::fs::write(&file, case.text).expect("a file");
        let checked = cli::check_file(&file).await.err().unwrap_or_default();
        let served = serve(&file).await.err().unwrap_or_default();
        if checked != served {
            wrong.push(format!("{}: check says\n{checked}\nand serve says\n{served}", case.name));
        }
        if !is_expected(&checked, case.expected, &file) {
            wrong.push(format!("{}: expected {:#?}, found\n{checked}", case.name, case.expected));
        }
        assert!(!checked.contains("s3cret"), "{}: {checked}", case.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// A component that was cut while it was copied.
fn cut(gateway_dir: &Path, plugin: &str, as_name: &str) {
    let folder = gateway_dir.join("data/plugins");
    let bytes = std::fs::read(folder.join(format!("{plugin}.wasm"))).expect("a plugin");
    replace(&folder.join(format!("{as_name}.wasm")), &bytes[..bytes.len() / 2]);
}

const MINE: &str = "[provider.MINE]\nplugin = \"mine\"\nkind = \"sms\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_component_degrades_check_and_start_alike_and_stops_neither() {
    let dir = chelseru_tests::folder(MINE);
    cut(dir.path(), "sandbox-sms", "mine");
    let file = dir.path().join("config.toml");
    let report = cli::check_file(&file).await.expect("accepted");
    let warned = |report: &cli::Report, word: &str| {
        report.warnings.iter().any(|w| w.contains("provider.MINE") && w.contains(word))
    };
    assert!(report.degraded && warned(&report, "degraded: nothing serves"), "{:?}", report.warnings);

    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    let status = gateway.status().await;
    assert_eq!(status["plugins"]["degraded"], true, "{status}");
    assert_eq!(status["plugins"]["failed"], json!(["MINE"]), "{status}");
    let mine = gateway.provider("MINE").await;
    let error = mine["last_error"].as_str().unwrap_or_default();
    assert!(mine["state"] == "failed" && error.contains("not a valid component"), "{mine}");
    gateway.login("09121234567").await;
    let live = gateway.app.live();
    live.identity.audit().flush().await;
    let query = AuditQuery { event: Some("plugin_refused".to_owned()), limit: 9, ..AuditQuery::default() };
    let refused = live.identity.audit().page(query).await.expect("read").entries;
    let [entry] = refused.as_slice() else { panic!("{refused:?}") };
    let told = (&entry.draft.subject, &entry.draft.detail);
    assert!(told.0 == "MINE" && told.1.contains("not a valid component"), "{told:?}");
    drop(live);

    // An edit of something else is taken: what was down before is no news.
    gateway.edit_config(&format!("{MINE}[log]\nlevel = \"error\"\n"));
    gateway.wait_for("the edit", |status| status["config"]["generation"] == 2).await;
    assert_eq!(gateway.provider("MINE").await["state"], "failed");

    // The copy is repeated, whole this time.
    let folder = gateway.dir.path().join("data/plugins");
    let whole = std::fs::read(folder.join("sandbox-sms.wasm")).expect("a plugin");
    replace(&folder.join("mine.wasm"), &whole);
    let mended = gateway.wait_for("the plugin", |status| status["plugins"]["degraded"] == false).await;
    assert_eq!(mended["plugins"]["failed"], json!([]), "{mended}");
    // Its bytes are kept a moment after it serves.
    let kept = gateway.dir.path().join("data/cache/kept");
    while std::fs::read_dir(&kept).map_or(0, |files| files.count()) < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    // While it serves, an edit in which it would be replaced by a damaged one is refused, and the old one serves on.
    cut(gateway.dir.path(), "sandbox-sms", "mine");
    gateway.wait_for("a refusal", |status| status["plugins"]["serving_old"] == json!(["MINE"])).await;
    cut(gateway.dir.path(), "sandbox-sms", "other");
    gateway.edit_config(&MINE.replace("\"mine\"", "\"other\""));
    let refused =
        gateway.wait_for("a refusal of the edit", |status| status["config"]["last_error"].is_string()).await;
    assert_eq!(refused["config"]["generation"], 2, "{refused}");
    assert!(gateway.app.registry.get("MINE").is_some(), "the old one serves");
    gateway.edit_config(MINE);
    gateway.wait_for("the edit", |status| status["config"]["generation"] == 3).await;

    // The next start serves the last good bytes, and `check` says so.
    let dir = gateway.stop().await;
    let report = cli::check_file(&dir.path().join("config.toml")).await.expect("accepted");
    assert!(report.degraded && warned(&report, "its last good version serves"), "{:?}", report.warnings);
    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    assert_eq!(gateway.provider("MINE").await["state"], "serving-old");
    assert!(gateway.app.registry.get("MINE").is_some(), "its last good bytes serve");
    assert_eq!(gateway.status().await["plugins"]["serving_old"], json!(["MINE"]));
    gateway.login("09121234567").await;
}

/// The status without its changing parts.
async fn lasting(gateway: &TestGateway) -> Value {
    let mut status = gateway.status().await;
    status["uptime_seconds"].take();
    status["config"]["last_error"].take();
    // Minutes pass meanwhile.
    status["trends"].take();
    status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_edit_changes_nothing_of_what_serves() {
    let gateway = TestGateway::start(KAVENEGAR).await;
    let file = gateway.config_file();
    let valid = std::fs::read_to_string(&file).expect("read");
    let (live, providers, before) =
        (gateway.app.live(), gateway.app.registry.snapshot(), lasting(&gateway).await);
    // Without its mistake, the same edit would change providers, level, rules and endpoints.
    let secret = "whsec_MDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAw";
    let changes = format!(
        "[webhooks.endpoints.extra]\nurl = \"https://extra.example/\"\nsecret = \"{secret}\"\n\
         [provider.SECOND]\nplugin = \"sandbox-sms\"\n"
    );
    let mut wrong = Vec::new();
    for case in cases() {
        let text = format!("{}{changes}# {}\n", case.text, case.name);
        replace(&file, text.as_bytes());
        let name = format!("a refusal of {}", case.name);
        let said = |status: &Value| status["config"]["last_error"].as_str().unwrap_or_default().to_owned();
        let status = gateway.wait_for(&name, |status| !said(status).is_empty()).await;
        if !is_expected(&said(&status), case.expected, &file) {
            wrong.push(format!("{}: expected {:#?}, found\n{}", case.name, case.expected, said(&status)));
        }
        assert!(Arc::ptr_eq(&live, &gateway.app.live()), "{}: another configuration serves", case.name);
        assert!(Arc::ptr_eq(&providers, &gateway.app.registry.snapshot()), "{}: other providers", case.name);
        assert_eq!(lasting(&gateway).await, before, "{}", case.name);
        gateway.app.reload_status().last_error = None;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));

    // The domain's own limit of a text, beside valid changes of providers and level.
    let long =
        format!("[auth]\notp_text = \"{{code}} {}\"\n[log]\nlevel = \"error\"\n{changes}", "x".repeat(300));
    replace(&file, long.as_bytes());
    let refused = |status: &Value| {
        status["config"]["last_error"].as_str().is_some_and(|said| said.contains("auth.otp_text"))
    };
    gateway.wait_for("a refusal of the text", refused).await;
    assert!(
        Arc::ptr_eq(&live, &gateway.app.live()) && Arc::ptr_eq(&providers, &gateway.app.registry.snapshot())
    );
    assert_eq!(lasting(&gateway).await, before);

    // A valid edit is still applied.
    replace(&file, format!("{valid}\n{changes}").as_bytes());
    gateway.wait_for("the edit", |status| status["config"]["generation"] == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_of_a_running_gateway_warns_of_no_port_of_its_own() {
    let gateway = TestGateway::start("").await;
    let address = gateway.url.trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    let file = gateway.dir.path().join("asking.toml");
    std::fs::write(&file, format!("[server]\nlisten = \"{address}\"\n")).expect("a file");
    let report = cli::check_file(&file).await.expect("accepted");
    assert!(
        !report.warnings.iter().any(|warning| warning.contains("server.listen")),
        "{:?}",
        report.warnings
    );

    let elsewhere = chelseru_tests::folder("");
    let file = elsewhere.path().join("config.toml");
    std::fs::write(&file, format!("[server]\nlisten = \"{address}\"\n")).expect("a file");
    let report = cli::check_file(&file).await.expect("accepted");
    assert!(
        report.warnings.iter().any(|warning| warning.contains("cannot listen now")),
        "{:?}",
        report.warnings
    );
}

#[test]
fn the_program_refuses_a_broken_file_in_both_commands() {
    let dir = chelseru_tests::folder("");
    for case in [&SHAPES[4], &VALUES[0], &PREPARED[1]] {
        std::fs::write(dir.path().join("config.toml"), case.text).expect("a file");
        let said = |command: &str| {
            let output = process::run(dir.path(), &[command]);
            assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
            String::from_utf8(output.stderr).expect("text").trim().to_owned()
        };
        let (checked, served) = (said("check"), said("serve"));
        assert!(is_expected(&checked, case.expected, Path::new("config.toml")), "{}: {checked}", case.name);
        assert!(served.ends_with(&checked), "{}: {served}", case.name);
    }
}
