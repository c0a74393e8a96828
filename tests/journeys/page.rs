//! A page of another origin in a real Chromium: two people log in, meet, chat over a broken network, send a picture,
//! are blocked and log out. The page is `tests/browser/`, and it needs nothing but the quick start's client.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chelseru_tests::chromium::{Chromium, Page};
use chelseru_tests::{PATIENCE, TestGateway, root};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::quickstart::Network;

/// Serves the page on a port of its own; returns its origin.
async fn site() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    if client.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
                let (kind, file) = match path {
                    "/" => ("text/html", "tests/browser/index.html"),
                    "/page.mjs" => ("text/javascript", "tests/browser/page.mjs"),
                    "/quickstart.mjs" => ("text/javascript", "examples/javascript/quickstart.mjs"),
                    _ => ("text/plain", ""),
                };
                let body = std::fs::read(root().join(file)).unwrap_or_default();
                let status = if body.is_empty() { "404 Not Found" } else { "200 OK" };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = client.write_all(&[answer.as_bytes(), &body].concat()).await;
            });
        }
    });
    origin
}

/// Waits for a text of an output.
async fn shows(page: &mut Page, id: &str, text: &str) {
    page.until(&format!("document.getElementById({id:?}).textContent === {text:?}")).await;
}

async fn submits(page: &mut Page, form: &str, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        page.fill(&format!("#{form} [name={name}]"), value).await;
    }
    page.click(&format!("#{form} button")).await;
}

/// Waits until the messages, without pictures, are these.
async fn lists(page: &mut Page, messages: &[&str]) {
    let texts = "[...document.querySelectorAll('#messages li')].map(item => item.firstChild.textContent)";
    let expected = serde_json::to_string(messages).expect("texts");
    page.until(&format!("JSON.stringify({texts}) === {expected:?}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_meet_and_chat_in_a_browser_on_another_origin() {
    let Some(chromium) = Chromium::start().await else { return };
    let origin = site().await;
    let config = format!(
        "[server]\norigins = [{origin:?}]\n[chat]\nstrangers = \"ask\"\n[auth]\n\
         otp_test_numbers = {{ \"09120000001\" = \"482913\", \"09120000002\" = \"482914\" }}\n"
    );
    let gateway = Arc::new(TestGateway::start(&config).await);
    let network = Network::to(&gateway).await;
    let mut sara = chromium.page(&format!("{origin}/?base={}", gateway.url)).await;
    let mut reza = chromium.page(&format!("{origin}/?base={}", network.url)).await;

    submits(&mut sara, "login", &[("number", "09120000001"), ("code", "482910")]).await;
    shows(&mut sara, "error", "otp_wrong").await;
    submits(&mut sara, "login", &[("number", "09120000001"), ("code", "482913")]).await;
    shows(&mut sara, "state", "logged in as 1").await;
    submits(&mut reza, "login", &[("number", "09120000002"), ("code", "482914")]).await;
    shows(&mut reza, "state", "logged in as 2").await;

    submits(&mut sara, "meet", &[("peer", "2")]).await;
    shows(&mut sara, "state", "room 1").await;
    submits(&mut sara, "say", &[("text", "hello")]).await;
    lists(&mut sara, &["1 1: hello"]).await;
    reza.click("#accept").await;
    shows(&mut reza, "state", "room 1").await;
    lists(&mut reza, &["1 1: hello"]).await;
    submits(&mut reza, "say", &[("text", "سلام")]).await;
    lists(&mut sara, &["1 1: hello", "2 2: سلام"]).await;

    // Reza's network is gone for a while. What he missed comes once, in its order.
    network.set_open(false);
    for (text, count) in [("one", 3), ("two", 4)] {
        submits(&mut sara, "say", &[("text", text)]).await;
        sara.until(&format!("document.querySelectorAll('#messages li').length === {count}")).await;
    }
    let until = Instant::now() + PATIENCE;
    while network.refused.load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < until, "the page does not try again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    network.set_open(true);
    lists(&mut reza, &["1 1: hello", "2 2: سلام", "3 1: one", "4 1: two"]).await;

    // A picture, with progress. The sender shows it by its link, the receiver by the frame's path.
    sara.click("#picture").await;
    shows(&mut sara, "state", "sent 640x480").await;
    let progress = sara.eval("document.getElementById('progress').textContent").await;
    let (loaded, total) = progress.as_str().and_then(|text| text.split_once(" of ")).expect("progress");
    assert!(loaded == total && total.parse::<u64>().is_ok_and(|bytes| bytes > 100_000), "{progress}");
    for page in [&mut sara, &mut reza] {
        let end =
            "document.querySelector('#messages li:last-child').textContent.endsWith(' noise.png 320x240')";
        page.until(end).await;
    }

    submits(&mut reza, "block", &[("user", "1")]).await;
    shows(&mut reza, "state", "blocked 1").await;
    submits(&mut sara, "say", &[("text", "still there?")]).await;
    sara.until("document.getElementById('error').textContent === 'banned'").await;
    for page in [&mut sara, &mut reza] {
        page.click("#logout").await;
        shows(page, "state", "logged out 401").await;
    }
}
