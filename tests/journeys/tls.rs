//! TLS to the database and to the bus, with an authority of the test's own.

use std::path::Path;
use std::time::Instant;

use chelseru_postgres_server::{Server, server};
use chelseru_tests::bus::BusServer;
use chelseru_tests::certificate::Authority;
use chelseru_tests::process::Served;
use chelseru_tests::{Answer, PATIENCE, TestGateway, client, folder, process, store};

/// The name of this machine that certificates have, and an address that they have not.
const NAMED: &str = "localhost";
const UNNAMED: &str = "127.0.0.1";

fn on(url: &str) -> String {
    format!("[store]\nengine = \"postgres\"\nurl = \"{url}\"\nconnections_max = 4\n")
}

/// The address of a server's database over TCP.
fn url(server: &Server, host: &str, tls: &str) -> String {
    format!("postgres://owner:pass-word@{host}:{}/postgres?{tls}", server.port())
}

fn trusting(file: &Path) -> String {
    format!("sslmode=verify-full&sslrootcert={}", file.display())
}

/// What `serve` says when it refuses.
fn refusal(config: &str) -> String {
    let dir = folder(config);
    let output = process::run(dir.path(), &["serve"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(!text.contains("pass-word"), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_reached_over_tls_and_nothing_else_is_trusted() {
    let Some(authority) = Authority::new() else { return };
    let certificate = authority.sign(NAMED);
    let Some(trusted) = Server::with_tls(&certificate.pem, &certificate.key) else { return };
    let Some(plain) = server() else { return };

    let gateway = TestGateway::start(&on(&url(&trusted, NAMED, &trusting(&authority.file())))).await;
    gateway.login("09120000001").await;
    let encrypted = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid)
        where application_name = 'chelseru' and ";
    assert!(trusted.count(format!("{encrypted} ssl")) > 1, "the pool and the lock");
    assert_eq!(trusted.count(format!("{encrypted} not ssl")), 0);
    gateway.stop().await;

    let stranger = Authority::new().expect("the command is there");
    let unreadable = authority.file().with_extension("key");
    for (what, address, words) in [
        ("another authority", url(&trusted, NAMED, &trusting(&stranger.file())), "set sslrootcert=FILE"),
        ("the system's authorities", url(&trusted, NAMED, "sslmode=require"), "an authority of this system"),
        ("another name", url(&trusted, UNNAMED, &trusting(&authority.file())), "is for another host"),
        ("no TLS", url(plain, NAMED, &trusting(&authority.file())), "set ssl = on"),
        ("no certificates", url(&trusted, NAMED, &trusting(&unreadable)), "it holds no certificate"),
        ("no file", url(&trusted, NAMED, "sslmode=require&sslrootcert=/no/such.pem"), "/no/such.pem"),
    ] {
        let text = refusal(&on(&address));
        assert!(text.contains(words) && text.lines().count() <= 3, "{what}: {text}");
    }
}

/// Waits until a gateway's log has these words.
async fn wait_for_log(log: &Path, words: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        if text.contains(words) {
            return;
        }
        assert!(Instant::now() < until, "{words:?} is not in {text}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bus_is_reached_over_tls_and_nothing_else_is_trusted() {
    let Some(authority) = Authority::new() else { return };
    let Some(bus) = BusServer::start_with_tls(&authority.sign(NAMED)) else { return };
    let Some(plain) = BusServer::start() else { return };
    let stranger = Authority::new().expect("the command is there");
    let config = |url: &str, authority: &Authority| {
        let database = store::database()?;
        let file = authority.file();
        Some(format!("{}[bus]\nurl = \"{url}\"\nca_file = \"{}\"\n", on(&database), file.display()))
    };
    let Some(good) = config(&bus.url_at(NAMED), &authority) else { return };
    let gateway = TestGateway::start(&good).await;
    gateway.wait_for("the bus", |status| status["gateways"]["bus"]["up"] == true).await;
    gateway.stop().await;

    // A bus that is not there is no reason not to serve; the log says what to set.
    let no_tls = plain.url_at(NAMED).replace("redis://", "rediss://");
    for (what, url, authority, words) in [
        ("another authority", bus.url_at(NAMED), &stranger, "set bus.ca_file"),
        ("another name", bus.url_at(UNNAMED), &authority, "use the host name"),
        ("no TLS", no_tls, &authority, "speaks no TLS"),
    ] {
        let dir = folder(&config(&url, authority).expect("a database"));
        let log = dir.path().join("log");
        let served = Served::start_logging(dir.path(), &log);
        wait_for_log(&log, words).await;
        let ready = Answer::of(client().get(format!("{}/ready/", served.operator_url))).await;
        assert_eq!((ready.status, &ready.body["status"]), (200, &"degraded".into()), "{what}");
    }
}
