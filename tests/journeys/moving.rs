//! A gateway moves from the embedded engine to PostgreSQL by a backup, also after a restore that was killed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_domain::clock::SystemClock;
use chelseru_postgres_server::{connected, server};
use chelseru_tests::{PATIENCE, TestGateway, folder, process, store};

use super::payments::Shop;

const CONFIG: &str =
    "[auth]\nmethod = [\"OTP\", \"PASSWD\"]\n[payment]\ncallback_urls = [\"https://shop.example/pay\"]\n";

fn on(address: &str) -> String {
    format!("{CONFIG}[store]\nengine = \"postgres\"\nurl = \"{address}\"\nconnections_max = 4\n")
}

/// A command's output; it succeeds.
fn done(dir: &Path, arguments: &[&str]) -> String {
    let (code, text) = run(dir, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {text}");
    text
}

fn run(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = process::run(dir, arguments);
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// A folder with a configuration, and no data but plugins.
fn prepared(config: &str) -> tempfile::TempDir {
    folder(config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_killed_is_refused_by_name_and_can_be_done_again() {
    let (Some(_), Some(address)) = (server(), store::database()) else { return };
    if store::is_postgres() {
        return;
    }
    let shop = Shop::open(CONFIG).await;
    shop.charge(300).await;
    let dir = shop.gateway.stop().await;
    done(dir.path(), &["backup", "written"]);
    let backup = dir.path().join("written").display().to_string();

    // It waits in the middle: somebody holds a table.
    let holder = connected(address.clone()).await.expect("a client");
    holder.batch_execute("begin; lock table chelseru.account in share mode").await.expect("locked");
    let there = prepared(&on(&address));
    let mut command = Command::new(process::binary());
    command.args(["restore", &backup]).current_dir(there.path()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut restore = command.spawn().expect("it starts");
    let waiting = "select count(*) from pg_locks where not granted and database =
        (select oid from pg_database where datname = current_database())";
    let until = Instant::now() + PATIENCE;
    while holder.query_one(waiting, &[]).await.expect("a row").get::<_, i64>(0) == 0 {
        assert!(Instant::now() < until, "it does not come to the table");
        assert!(restore.try_wait().expect("a child").is_none(), "it ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    restore.kill().expect("killed");
    restore.wait().expect("ended");
    holder.batch_execute("rollback").await.expect("let go");

    let (code, text) = run(there.path(), &["serve"]);
    assert!(
        code == Some(1) && text.contains("was interrupted") && text.contains("empty the database"),
        "{text}"
    );
    let (code, text) = run(there.path(), &["restore", &backup]);
    assert!(code == Some(1) && text.contains("move the folder away first"), "{text}");
    // Nothing came into the database, so a new folder is all it takes.
    let again = prepared(&on(&address));
    let until = Instant::now() + PATIENCE;
    loop {
        // The server may notice the end of the other one a moment later.
        let (code, text) = run(again.path(), &["restore", &backup]);
        if code == Some(0) {
            break;
        }
        assert!(text.contains("another gateway") && Instant::now() < until, "{text}");
    }
    let gateway = TestGateway::start_in(again, Arc::new(SystemClock)).await;
    let wallet = gateway.get("/wallet/", Some(&shop.login.access)).await;
    assert_eq!(wallet.body["balance"], 300, "{wallet:?}");
}
