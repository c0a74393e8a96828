//! What `core/gateway/OPERATING.md` promises: the service manager, the proxy and the backups of its examples.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chelseru_tests::certificate::Authority;
use chelseru_tests::nginx::Nginx;
use chelseru_tests::process::{self, Served};
use chelseru_tests::{Answer, PATIENCE, TestGateway, folder};
use serde_json::json;

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(path)
}

/// Whether a program can be run; said in one line where it is missing.
fn is_there(program: &str, package: &str) -> bool {
    let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_there = asked.is_ok_and(|status| status.success());
    if !is_there {
        // Not by a macro, whose output the harness would keep for itself.
        let _ = writeln!(std::io::stderr(), "skipped: no {program} on this machine (package {package})");
    }
    is_there
}

/// Waits for a message to the service manager with this line.
fn told(manager: &UnixDatagram, line: &str) -> String {
    let until = Instant::now() + PATIENCE;
    let mut buffer = [0; 1024];
    while Instant::now() < until {
        if let Ok(length) = manager.recv(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|told| told == line) {
                return text;
            }
        }
    }
    panic!("{line} was not told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_manager_is_told_when_it_serves_turns_and_stops() {
    let dir = folder("");
    let socket = dir.path().join("manager");
    let manager = UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
    let mut command = Command::new(process::binary());
    command.arg("serve").env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "200000");
    let mut served = Served::start_command(dir.path(), command);
    let ready = told(&manager, "READY=1");
    assert!(ready.contains(&format!("STATUS=serves on {}/", served.url)), "{ready}");
    told(&manager, "WATCHDOG=1");
    told(&manager, "WATCHDOG=1");
    served.terminate();
    told(&manager, "STOPPING=1");
    assert!(served.ended().await.success());
}

#[test]
fn the_units_are_valid() {
    if !is_there("systemd-analyze", "systemd") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut units = Vec::new();
    for name in ["chelseru.service", "chelseru-backup.service", "chelseru-backup.timer"] {
        let text = std::fs::read_to_string(example(&format!("systemd/{name}"))).expect("a unit");
        // A program that is not there is an error.
        let text = text.replace(
            "/usr/local/bin/chelseru-backup",
            &example("systemd/chelseru-backup").display().to_string(),
        );
        let text = text.replace("/usr/local/bin/chelseru", &process::binary().display().to_string());
        let unit = dir.path().join(name);
        std::fs::write(&unit, text).expect("written");
        units.push(unit);
    }
    let output = Command::new("systemd-analyze").arg("verify").args(&units).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("chelseru")).collect();
    assert!(ours.is_empty(), "{said}");
}

#[test]
fn the_alerts_are_valid() {
    if !is_there("promtool", "prometheus") {
        return;
    }
    let rules = example("prometheus/chelseru.rules.yml");
    let output = Command::new("promtool").args(["check", "rules"]).arg(rules).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_backup_script_keeps_the_newest_and_fails_with_the_backup() {
    let dir = folder("");
    let served = Served::start(dir.path());
    let backups = tempfile::tempdir().expect("a folder");
    // The command finds the gateway where the configuration says it listens.
    let address = served.operator_url.trim_start_matches("http://").split('/').next().expect("an address");
    let asking = format!("[operator]\nlisten = \"{address}\"\n");
    std::fs::write(dir.path().join("config.toml"), asking).expect("a file");
    let run = |keep: &str| {
        Command::new(example("systemd/chelseru-backup"))
            .env("CHELSERU", process::binary())
            .env("BACKUPS", backups.path())
            .env("KEEP", keep)
            .current_dir(dir.path())
            .output()
            .expect("it runs")
    };
    let names = || {
        let entries = std::fs::read_dir(backups.path()).expect("a folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    for old in ["2026-01-02T030405Z", "2026-01-01T030405Z", "2026-01-01T030406Z.part", "mine"] {
        std::fs::create_dir(backups.path().join(old)).expect("a folder");
    }
    let output = run("0");
    assert!(!output.status.success() && names().len() == 4, "{output:?}");
    let output = run("2");
    assert!(output.status.success(), "{output:?}");
    let left = names();
    assert_eq!(left.len(), 3, "{left:?}");
    assert_eq!((&*left[0], &*left[2]), ("2026-01-02T030405Z", "mine"));
    let made = backups.path().join(&left[1]);
    assert!(process::run(dir.path(), &["backup", "verify", made.to_str().expect("a path")]).status.success());

    // A backup that cannot be made removes nothing.
    std::fs::remove_file(dir.path().join("data/operator.token")).expect("the token");
    served.kill();
    std::fs::write(dir.path().join("data/master.key"), "damaged").expect("written");
    let output = run("1");
    assert!(!output.status.success(), "{output:?}");
    assert!(names().starts_with(&left[..2]), "{:?}", names());
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_serves_everything_at_one_name_with_tls() {
    let Some(authority) = Authority::new() else { return };
    let certificate = authority.sign("localhost");
    let gateway = TestGateway::start(
        "[server]\ntrusted_proxies = [\"127.0.0.1\"]\npublic_url = \"https://api.example.com\"\n",
    )
    .await;
    let upstream = gateway.url.trim_start_matches("http://").split('/').next().expect("an address");
    let site = std::fs::read_to_string(example("nginx/chelseru.conf")).expect("the example");
    let Some(nginx) = Nginx::of_site(&site.replace("127.0.0.1:8000", upstream), &certificate).await else {
        return;
    };
    let authority = std::fs::read(authority.file()).expect("a certificate");
    let trusting = || {
        let authority = reqwest::Certificate::from_pem(&authority).expect("PEM");
        reqwest::Client::builder().tls_certs_only([authority])
    };
    let client = trusting().build().expect("a client");
    let port = nginx.address.rsplit(':').next().expect("a port");
    let url = format!("https://localhost:{port}/drfchelseru");

    let number = "09120000001";
    let sent = client.post(format!("{url}/otp/send/")).json(&json!({"mobile_number": number}));
    assert_eq!(Answer::of(sent).await.status, 200);
    let code = gateway.sandbox_code(number).await;
    let login = client
        .post(format!("{url}/authenticate/"))
        .json(&json!({"mobile_number": number, "code": code}))
        .header("x-forwarded-for", "203.0.113.9")
        .header("forwarded", "for=198.51.100.7;host=evil.example");
    let login = Answer::of(login).await.login();
    let as_user = |request: reqwest::RequestBuilder| request.bearer_auth(&login.access);

    // The client's address arrives, and a header that only a proxy may set does not. This client stands where the proxy
    // does, so it counts as another one.
    let sessions = Answer::of(as_user(client.get(format!("{url}/sessions/")))).await;
    assert_eq!(sessions.body[0]["ip_address"], "203.0.113.9", "{sessions:?}");

    // More than nginx's usual megabyte passes, as it comes.
    let room =
        as_user(client.post(format!("{url}/chat/chatrooms/"))).json(&json!({"users": [], "name": "n"}));
    let room = Answer::of(room).await.body["id"].clone();
    let body = format!(
        "--x\r\ncontent-disposition: form-data; name=\"chatroom\"\r\n\r\n{room}\r\n--x\r\ncontent-disposition: \
         form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\n{}\r\n--x--\r\n",
        "a".repeat(3 << 20)
    );
    let upload = as_user(client.post(format!("{url}/message/file/upload/"))).body(body);
    let uploaded = Answer::of(upload.header("content-type", "multipart/form-data; boundary=x")).await;
    assert!(matches!(uploaded.status, 200 | 201), "{uploaded:?}");

    // A socket is upgraded.
    let socket = trusting().http1_only().build().expect("a client");
    let socket = socket
        .get(format!("{url}/ws/?token={}", login.access))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .send()
        .await
        .expect("an answer");
    assert_eq!(socket.status(), 101, "{socket:?}");
    // The operators' routes are at no name.
    let hidden = Answer::of(client.get(format!("{url}/metrics/"))).await;
    assert_eq!(hidden.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_the_configuration_does_not_name_is_told_once() {
    let dir = folder("");
    let log = dir.path().join("log");
    let served = Served::start_logging(dir.path(), &log);
    let said = || std::fs::read_to_string(&log).expect("a log").matches("server.trusted_proxies").count();
    let ask = || chelseru_tests::client().get(format!("{}/health/", served.url));
    assert_eq!(Answer::of(ask()).await.status, 200);
    assert_eq!(said(), 0);
    for _ in 0..3 {
        assert_eq!(Answer::of(ask().header("x-forwarded-for", "203.0.113.9")).await.status, 200);
    }
    assert_eq!(said(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_says_what_it_means() {
    let shop = "[webhooks.endpoints.shop]\nurl = \"https://shop.example/\"\n";
    let secret = format!("secret = \"whsec_{}\"\n", "Y2hlbHNlcnU".repeat(4));
    let gateway = TestGateway::start(&format!("{shop}{secret}")).await;
    gateway.login("09120000001").await;
    // Alerts see these grow, so they are there before anything is counted. Deliveries are looked at every second.
    let until = Instant::now() + PATIENCE;
    let metrics = loop {
        let metrics = gateway.get("/metrics/", None).await.text;
        if metrics.contains("chelseru_webhooks_total{outcome=\"dead\",webhook=\"shop\"} 0") {
            break metrics;
        }
        assert!(Instant::now() < until, "{metrics}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(metrics.contains("chelseru_reversals_refused{gateway=\"SANDBOX_PAY\"} 0"), "{metrics}");
    let names = |kind: &str| {
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(&format!("# {kind} ")));
        lines.filter_map(|line| line.split(' ').next()).collect::<std::collections::BTreeSet<_>>()
    };
    assert!(names("TYPE").len() > 30, "{metrics}");
    assert_eq!(names("TYPE"), names("HELP"));
}
