//! A rolling restart: two gateways behind nginx are restarted in turn, and no request fails.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use chelseru_tests::bus::BusServer;
use chelseru_tests::nginx::{FORWARDING, Nginx};
use chelseru_tests::process::Served;
use chelseru_tests::{Answer, client, code_in, folder, store};
use serde_json::json;

use super::nodes::{config, copy_key};

/// Requests at once.
const CLIENTS: usize = 6;

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port()
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn both_gateways_are_restarted_and_no_request_fails() {
    let (Some(bus), Some(database)) = (BusServer::start(), store::database()) else { return };
    let ports = [free_port(), free_port()];
    let dirs = ports.map(|port| {
        folder(&config(&database, &bus.url(), &format!("[server]\nlisten = \"127.0.0.1:{port}\"\n")))
    });
    let first = Served::start(dirs[0].path());
    copy_key(dirs[0].path(), dirs[1].path());
    let mut nodes = [first, Served::start(dirs[1].path())];
    let addresses = ports.map(|port| format!("127.0.0.1:{port}"));
    let Some(nginx) = Nginx::balanced(&addresses.each_ref().map(String::as_str), FORWARDING).await else {
        return;
    };
    let (url, number) = (nginx.url(), "09120000001");
    let client = client();
    let sent = client.post(format!("{url}/otp/send/")).json(&json!({"mobile_number": number}));
    assert_eq!(Answer::of(sent).await.status, 200);
    let code = code(&nodes, number).await;
    let login =
        client.post(format!("{url}/authenticate/")).json(&json!({"mobile_number": number, "code": code}));
    let access = Answer::of(login).await.login().access;
    let room = client.post(format!("{url}/chat/chatrooms/")).bearer_auth(&access);
    let room = Answer::of(room.json(&json!({"users": [], "name": "all"}))).await.body["id"].clone();

    let (done, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let load: Vec<_> = (0..CLIENTS)
        .map(|at| {
            let (client, url, access) = (client.clone(), url.clone(), access.clone());
            let (done, stop, room) = (Arc::clone(&done), Arc::clone(&stop), room.clone());
            tokio::spawn(async move {
                let mut written = 0;
                while !stop.load(Ordering::Relaxed) {
                    let request = if at % 2 == 0 {
                        client.get(format!("{url}/sessions/"))
                    } else {
                        written += 1;
                        let text = format!("{at} {written}");
                        client
                            .post(format!("{url}/chat/messages/"))
                            .json(&json!({"chat_room": room, "text": text}))
                    };
                    let answer = Answer::of(request.bearer_auth(&access)).await;
                    assert!(
                        answer.status < 300,
                        "after {} requests: {answer:?}",
                        done.load(Ordering::Relaxed)
                    );
                    done.fetch_add(1, Ordering::Relaxed);
                }
                written
            })
        })
        .collect();
    for at in [0, 1, 0, 1] {
        progress(&done, 100).await;
        restart(&mut nodes[at], dirs[at].path()).await;
        progress(&done, 100).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for client in load {
        written += client.await.expect("no request fails");
    }
    let newest = client.get(format!("{url}/chat/messages/?chat_room={room}")).bearer_auth(&access);
    let newest = Answer::of(newest).await;
    assert_eq!(newest.status, 200, "{newest:?}");
    let list = client.get(format!("{url}/chat/chatrooms/?page=1")).bearer_auth(&access);
    let list = Answer::of(list).await.body;
    assert_eq!(list["results"][0]["last_seq"], written, "every message once: {list}");
}

/// Restarts a gateway as an operator does.
async fn restart(node: &mut Served, dir: &Path) {
    node.terminate();
    assert!(node.ended().await.success());
    *node = Served::start(dir);
}

/// Waits until the load made so much progress.
async fn progress(done: &AtomicU64, more: u64) {
    let wanted = done.load(Ordering::Relaxed) + more;
    let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
    while done.load(Ordering::Relaxed) < wanted {
        assert!(std::time::Instant::now() < until, "the load stands still");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The code that one of the gateways sent.
async fn code(nodes: &[Served; 2], number: &str) -> String {
    for node in nodes {
        let inbox = client().get(format!("{}/sandbox/inbox/?mobile_number={number}", node.operator_url));
        let messages = Answer::of(inbox).await.body;
        if let Some(text) = messages["results"][0]["text"].as_str() {
            return code_in(text);
        }
    }
    panic!("no code was sent")
}
