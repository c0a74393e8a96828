//! A disk that fails, fills up, or does not answer.

use chelseru_tests::faults::{EIO, ENOSPC, Fault};
use chelseru_tests::{TestGateway, folder};

use super::*;

/// `EMFILE`: too many open files.
const EMFILE: i64 = 24;

/// Lines of a log at a level.
fn lines(log: &Path, level: &str) -> Vec<String> {
    let text = std::fs::read_to_string(log).expect("a log");
    text.lines().filter(|line| line.contains(level)).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_write_nothing_is_served_until_a_restart() {
    for (fault, errno) in [(Fault::Write, ENOSPC), (Fault::Sync, EIO)] {
        let dir = folder("");
        let tools = tempfile::tempdir().expect("a folder");
        let Some(faults) = Faults::new(tools.path(), &dir.path().join("data/db")) else { return };
        let log = tools.path().join("log");
        let mut town = Town::in_gateway(serve_with(&faults, dir.path(), &log)).await;
        let paid = town.post("/payment/create/", json!({"amount": 1000})).await;
        assert_eq!(paid.status, 200, "{paid:?}");
        assert_eq!(town.say("kept").await.status, 201);

        faults.set(fault, errno);
        let refused = town.say("refused").await;
        assert_eq!((refused.status, refused.header("x-error-code")), (503, "store_failed"), "{refused:?}");
        assert!(faults.get(Fault::Hits) > 0);
        // The space is back, but memory may hold what was refused: nothing is read, nothing is written.
        faults.set(fault, 0);
        let path = format!("/chat/messages/?chat_room={}", town.room);
        for answer in [town.get("/sessions/").await, town.get(&path).await, town.get("/wallet/").await] {
            assert_eq!((answer.status, answer.header("x-error-code")), (503, "store_failed"), "{answer:?}");
        }
        for answer in [
            town.say("again").await,
            town.post("/otp/send/", json!({"mobile_number": "09120000003"})).await,
            town.post("/payment/create/", json!({"amount": 1000})).await,
        ] {
            assert_eq!((answer.status, answer.header("x-error-code")), (503, "store_failed"), "{answer:?}");
        }
        let health = town.get("/health/").await;
        assert_eq!((health.status, &health.body["status"]), (503, &json!("store_failed")));
        assert_eq!(town.ready().await, (503, "store_failed".to_owned()));
        assert_eq!(town.metric("chelseru_store_healthy").await, Some(0.0));

        // A flood of requests is no flood of lines.
        let flood = (0..500).map(|_| town.get("/sessions/"));
        for answer in futures_util::future::join_all(flood).await {
            assert_eq!(answer.status, 503);
        }
        town.served.terminate();
        let status = town.served.ended().await;
        assert!(!status.success(), "{status}");
        let errors = lines(&log, "ERROR");
        assert!(errors.len() < 20, "{} lines: {errors:#?}", errors.len());
        assert!(errors.iter().any(|line| line.contains("the store failed")), "{errors:#?}");
        let text = std::fs::read_to_string(&log).expect("a log");
        assert!(text.contains("os error") && !text.contains("panicked"), "{text}");

        let town = town.again(serve_with(&faults, dir.path(), &log));
        let said = town.said().await;
        // What was answered is there. What was refused may have reached the disk before the error, then for good.
        assert!(said.contains(&"kept".to_owned()) && !said.contains(&"again".to_owned()), "{said:?}");
        assert_eq!(town.said().await, said);
        assert_eq!(town.say("after").await.status, 201);
        town.served.kill();
        check_ledger(dir.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_made_stops_no_change() {
    let dir = folder("");
    let tools = tempfile::tempdir().expect("a folder");
    let Some(faults) = Faults::new(tools.path(), &dir.path().join("data/db")) else { return };
    let mut town = Town::in_gateway(serve_with(&faults, dir.path(), &tools.path().join("log"))).await;
    faults.set(Fault::Create, EMFILE);
    // Messages at the text limit: the engine once wrote these to files of their own.
    for n in 0..60 {
        let text = ["😀", "ش", "a"][n % 3].repeat(4096);
        assert_eq!(town.say(&text).await.status, 201);
    }
    assert_eq!(town.get("/health/").await.status, 200);
    assert_eq!(faults.get(Fault::Hits), 0, "the engine makes files while it serves");
    town.served.terminate();
    assert!(town.served.ended().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_does_not_answer_is_seen_and_ends_the_process() {
    let dir = folder("");
    let tools = tempfile::tempdir().expect("a folder");
    let Some(faults) = Faults::new(tools.path(), &dir.path().join("data/db")) else { return };
    let log = tools.path().join("log");
    let mut town = Town::in_gateway(serve_with(&faults, dir.path(), &log)).await;
    faults.set(Fault::Stuck, 1);
    let waiting = say_aside(&town, "waits");
    wait_until("a stuck write", async || faults.get(Fault::Stalled) > 0).await;
    assert_eq!(town.get("/health/").await.status, 200);
    // Not the test waits, the gateway's clock jumps.
    faults.set(Fault::SteadyAhead, 20);
    let health = town.get("/health/").await;
    assert_eq!((health.status, &health.body["status"]), (503, &json!("store_stalled")));
    assert_eq!(town.ready().await, (503, "store_stalled".to_owned()));
    assert!(town.metric("chelseru_store_oldest_waiting_seconds").await >= Some(20.0));
    assert_eq!(town.metric("chelseru_store_healthy").await, Some(0.0));
    // What is only read still answers.
    assert_eq!(town.get("/sessions/").await.status, 200);
    faults.set(Fault::SteadyAhead, 100);
    let status = town.served.ended().await;
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(waiting.await.expect("no panic").is_err(), "a change that is not on the disk was answered");
    assert!(lines(&log, "ERROR").iter().any(|line| line.contains("the process exits")));
}

/// Sends a message whose answer is not waited for.
fn say_aside(town: &Town, text: &str) -> tokio::task::JoinHandle<reqwest::Result<reqwest::Response>> {
    let request = town.client.post(town.url("/chat/messages/")).bearer_auth(&town.access);
    let body = json!({"chat_room": town.room, "text": text, "message_type": "text"});
    tokio::spawn(request.json(&body).send())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_disk_that_does_not_answer() {
    let dir = folder("[server]\nshutdown_timeout_seconds = 1\n");
    let tools = tempfile::tempdir().expect("a folder");
    let Some(faults) = Faults::new(tools.path(), &dir.path().join("data/db")) else { return };
    let log = tools.path().join("log");
    let mut town = Town::in_gateway(serve_with(&faults, dir.path(), &log)).await;
    faults.set(Fault::Stuck, 1);
    let waiting = say_aside(&town, "waits");
    wait_until("a stuck write", async || faults.get(Fault::Stalled) > 0).await;
    town.served.terminate();
    let status = town.served.ended().await;
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(waiting.await.expect("no panic").is_err(), "a change that is not on the disk was answered");
    faults.set(Fault::Stuck, 0);
    let town = town.again(serve_with(&faults, dir.path(), &log));
    assert_eq!(town.say("after").await.status, 201);
}

/// A gateway whose store lies on a file system of its own with so many MiB, and the store's folder as this process sees
/// it. `None`, and a line on standard error, where that is not possible.
fn serve_on_small_disk(dir: &Path, mib: u64) -> Option<(Served, std::path::PathBuf)> {
    use std::io::Write as _;
    let database = dir.join("data/db");
    std::fs::create_dir_all(&database).expect("a folder");
    let mount = format!("mount -t tmpfs -o size={mib}m,mode=700 tmpfs \"$1\"");
    let inside = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command.arg(process::binary()).arg(&database);
        command
    };
    if !inside(&mount).output().is_ok_and(|output| output.status.success()) {
        let _ = writeln!(std::io::stderr(), "skipped: a full disk needs a user name space with a mount");
        return None;
    }
    let served = Served::start_command(dir, inside(&format!("{mount} && exec \"$0\" serve")));
    let inside = format!("/proc/{}/root{}", served.child.id(), database.display());
    Some((served, inside.into()))
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_logins_and_payments_go_on_and_space_brings_the_rest_back() {
    const MIB: u64 = 1 << 20;
    let dir = folder("");
    let Some((served, database)) = serve_on_small_disk(dir.path(), 64) else { return };
    let mut town = Town::in_gateway(served).await;
    assert_eq!(town.say("before").await.status, 201);
    let filler = std::fs::File::create(database.join("filler")).expect("a file");
    let leave_free = |bytes: u64| {
        filler.set_len(0).expect("emptied");
        let asked = Command::new("stat").args(["--file-system", "--format=%a %S"]).arg(&database).output();
        let text = String::from_utf8(asked.expect("stat starts").stdout).expect("text");
        let (blocks, size) = text.trim().split_once(' ').expect("two numbers");
        let free = blocks.parse::<u64>().expect("a number") * size.parse::<u64>().expect("a number");
        assert!(free < 1 << 30, "not the small disk");
        let zeros = vec![0; free.saturating_sub(bytes) as usize];
        std::os::unix::fs::FileExt::write_all_at(&filler, &zeros, 0).expect("written");
    };
    let full = |answer: &Answer| (answer.status, answer.header("x-error-code").to_owned());
    let storage_full = (507, "storage_full".to_owned());

    // A quarter of a small disk is the reserve.
    leave_free(8 * MIB);
    // Until the gateway looks at the disk again, it stores.
    wait_until("a refusal", async || town.say("soon refused").await.status == 507).await;
    let stored = town.said().await;
    let refused = town.say("refused").await;
    assert_eq!(full(&refused), storage_full, "{refused:?}");
    assert_eq!(refused.header("retry-after"), "60");
    assert_eq!(full(&upload(&town).await), storage_full);
    assert_eq!(full(&begin_upload(&town).await), storage_full);
    town.login("09120000003").await;
    let paid = town.post("/payment/create/", json!({"amount": 1000})).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    assert_eq!(town.get("/health/").await.status, 200);

    // Below an eighth of the reserve nothing is stored, and nothing breaks.
    leave_free(MIB);
    wait_until("health to fall", async || town.get("/health/").await.status == 503).await;
    assert_eq!(town.get("/health/").await.body["status"], "storage_full");
    assert_eq!(town.ready().await, (503, "storage_full".to_owned()));
    for answer in [
        town.post("/payment/create/", json!({"amount": 1000})).await,
        town.post("/otp/send/", json!({"mobile_number": "09120000004"})).await,
        town.say("refused").await,
    ] {
        assert_eq!(full(&answer), storage_full, "{answer:?}");
    }
    assert_eq!(town.said().await, stored);

    filler.set_len(0).expect("emptied");
    wait_until("health to come back", async || town.get("/health/").await.status == 200).await;
    assert_eq!(town.say("after").await.status, 201);
    assert_eq!(upload(&town).await.status, 201);
    town.login("09120000005").await;
    let said = town.said().await;
    assert!(said.contains(&"after".to_owned()) && said.len() == stored.len() + 1, "{said:?}");
    assert!(stored.iter().all(|text| said.contains(text) && text != "refused"), "{said:?}");
    town.served.terminate();
    assert!(town.served.ended().await.success());
}

pub(super) async fn upload(town: &Town) -> Answer {
    let body = format!(
        "--x\r\nContent-Disposition: form-data; name=\"chatroom\"\r\n\r\n{}\r\n--x\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nsomething\r\n--x--\r\n",
        town.room
    );
    let request = town.client.post(town.url("/message/file/upload/")).bearer_auth(&town.access);
    Answer::of(request.header("content-type", "multipart/form-data; boundary=x").body(body)).await
}

pub(super) async fn begin_upload(town: &Town) -> Answer {
    use base64::Engine as _;
    let room = base64::engine::general_purpose::STANDARD.encode(town.room.to_string());
    let request = town.client.post(town.url("/message/file/tus/")).bearer_auth(&town.access);
    let request = request.header("tus-resumable", "1.0.0").header("upload-length", "9");
    Answer::of(request.header("upload-metadata", format!("chatroom {room}"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_record_is_refused_is_taken_back() {
    let dir = folder("[data]\nchanges_waiting_max = 8\n");
    let tools = tempfile::tempdir().expect("a folder");
    let Some(faults) = Faults::new(tools.path(), &dir.path().join("data/db")) else { return };
    let town = Town::in_gateway(serve_with(&faults, dir.path(), &tools.path().join("log"))).await;
    let begun = begin_upload(&town).await;
    let id = begun.header("location").trim_end_matches('/').rsplit('/').next().expect("an id").to_owned();
    let left = || {
        let files = std::fs::read_dir(dir.path().join("data/uploads/incoming")).expect("a folder");
        let mut names: Vec<_> =
            files.map(|file| file.expect("a file").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    };
    let of_upload = [format!("{id}.json"), format!("{id}.part")];
    assert_eq!(left(), of_upload);

    // The writer waits for the disk until the queue is full, and then longer.
    faults.set(Fault::Stuck, 1);
    let waiting: Vec<_> = (0..12).map(|n| say_aside(&town, &format!("waits {n}"))).collect();
    wait_until("a full queue", async || waiting.iter().any(tokio::task::JoinHandle::is_finished)).await;
    let busy = |answer: &Answer| (answer.status, answer.header("x-error-code").to_owned());
    let refused = upload(&town).await;
    assert_eq!(busy(&refused), (503, "busy".to_owned()), "{refused:?}");
    assert_eq!(left(), of_upload);
    let patch = async |offset: &str, body: &'static str| {
        let request = town.client.patch(town.url(&format!("/message/file/tus/{id}/")));
        let request = request.header("tus-resumable", "1.0.0").header("upload-offset", offset);
        let request = request.header("content-type", "application/offset+octet-stream");
        Answer::of(request.bearer_auth(&town.access).body(body)).await
    };
    let refused = patch("0", "something").await;
    assert_eq!(busy(&refused), (503, "busy".to_owned()), "{refused:?}");
    assert_eq!(left(), of_upload);

    faults.set(Fault::Stuck, 0);
    for answer in waiting {
        assert!(answer.await.expect("no panic").is_ok());
    }
    let completed = patch("9", "").await;
    assert_eq!((completed.status, completed.header("upload-offset")), (204, "9"), "{completed:?}");
    assert!(!completed.header("upload-file-id").is_empty(), "{completed:?}");
    assert_eq!(left(), of_upload[..1]);
    assert_eq!(upload(&town).await.status, 201);
}

/// The reserve alone, on any machine: more is asked for than the disk has.
#[tokio::test(flavor = "multi_thread")]
async fn below_the_reserve_uploads_and_messages_are_refused_and_logins_are_not() {
    let gateway = TestGateway::start("[data]\ndisk_reserve_mib = 1073741824\n").await;
    let access = gateway.login("09120000001").await.access;
    gateway.login("09120000002").await;
    let post = |path: &str, body: Value| {
        Answer::of(gateway.client.post(gateway.at(path)).bearer_auth(&access).json(&body))
    };
    let room = post("/chat/chatrooms/", json!({"users": [2]})).await;
    assert_eq!(room.status, 201, "{room:?}");
    let message = json!({"chat_room": room.body["id"], "text": "x", "message_type": "text"});
    let refused = post("/chat/messages/", message).await;
    assert_eq!((refused.status, refused.header("x-error-code")), (507, "storage_full"), "{refused:?}");
    assert_eq!(post("/payment/create/", json!({"amount": 1000})).await.status, 200);
    assert_eq!(gateway.get("/health/", None).await.status, 200);
}
