//! Pages of the console that change by themselves: what their streams send, their bounds, and how they end.

use std::time::{Duration, Instant};

use chelseru_domain::login::account::Rights;
use chelseru_domain::operator::role::Reason;
use chelseru_tests::browser::Browser;
use chelseru_tests::chromium::Chromium;
use chelseru_tests::{PATIENCE, TestGateway, machine};
use serde_json::json;

use super::console_chromium::{enter, furnished, origin};

/// Streams that an operator may have.
const STREAMS: usize = 6;

/// An open stream, read piece by piece.
struct Stream {
    answer: reqwest::Response,
    text: String,
}

impl Stream {
    async fn open(browser: &Browser, path: &str) -> Stream {
        let request = browser.client().get(browser.at(path)).header("accept", "text/event-stream");
        Stream { answer: browser.raw(request).await, text: String::new() }
    }

    /// The next event, as name and data; `None` at the end.
    async fn next(&mut self) -> Option<(String, String)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let lines = |key: &str| {
                    let of = event.lines().filter_map(|line| line.strip_prefix(key));
                    of.collect::<Vec<_>>().join("\n")
                };
                let found = (lines("event: "), lines("data: "));
                self.text = rest.to_owned();
                return Some(found);
            }
            let piece = tokio::time::timeout(PATIENCE, self.answer.chunk()).await.expect("in time");
            // A stop may end the connection, too.
            self.text.push_str(std::str::from_utf8(&piece.ok()??).expect("text"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_sends_a_page_when_it_changed_and_is_no_use_of_the_session() {
    let gateway = TestGateway::start("").await;
    let mut browser = Browser::of(&gateway, "root").await;
    let mut stream = Stream::open(&browser, "/console/messages/").await;
    let header =
        |name: &str| stream.answer.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
    assert_eq!(stream.answer.status(), 200);
    assert_eq!(header("content-type").as_deref(), Some("text/event-stream"));
    assert_eq!(header("x-accel-buffering").as_deref(), Some("no"));
    assert_eq!(header("cache-control").as_deref(), Some("no-store"));
    assert!(header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    let (name, first) = stream.next().await.expect("an event");
    assert!(name == "main" && first.starts_with("<main ") && first.ends_with("</main>"), "{first}");
    assert!(!first.contains("0912***0001"), "{first}");
    gateway.login("09120000001").await;
    let (_, next) = stream.next().await.expect("an event");
    assert!(next.contains("<tbody>") && next != first, "{next}");

    // A page that does not change by itself is sent once.
    let mut still = Stream::open(&browser, "/console/users/").await;
    assert_eq!(still.next().await.expect("an event").0, "main");
    assert_eq!(still.next().await, None);

    // The stream ends with the session, which a logout ends.
    let page = browser.get("/console/messages/").await;
    browser.submit(&page, "/console/logout/", &[]).await;
    loop {
        match stream.next().await.expect("the end is told").0.as_str() {
            "end" => break,
            name => assert_eq!(name, "main"),
        }
    }
    assert_eq!(stream.next().await, None);
    // Without a session there is nothing but the end: a browser's stream follows no redirect.
    let mut none = Stream::open(&browser, "/console/messages/").await;
    assert_eq!(none.next().await, Some(("end".to_owned(), String::new())));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_has_so_many_streams_and_a_right_that_is_taken_ends_them() {
    let gateway = TestGateway::start("").await;
    let browser = Browser::of(&gateway, "root").await;
    let other = Browser::of(&gateway, "second").await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = Stream::open(&browser, "/console/payments/").await;
        assert_eq!(stream.next().await.expect("an event").0, "main");
        streams.push(stream);
    }
    assert_eq!(Stream::open(&browser, "/console/payments/").await.answer.status(), 204, "one more");
    let mut others = Stream::open(&other, "/console/payments/").await;
    assert_eq!(others.next().await.expect("an event").0, "main");
    // A browser that goes away gives its place back.
    streams.pop();
    let until = Instant::now() + PATIENCE;
    while Stream::open(&browser, "/console/payments/").await.answer.status() != 200 {
        assert!(Instant::now() < until, "no place came back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let identity = gateway.app.live().identity.clone();
    let second = identity.user_find("second").await.expect("read").expect("made").id;
    let reason = Reason::of_command();
    identity.user_set_rights(&machine(), second, Rights::None, &reason).await.expect("taken");
    assert_eq!(others.next().await.expect("the end is told").0, "end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_streams_at_once() {
    let gateway = TestGateway::start("[server]\nshutdown_timeout_seconds = 30\n").await;
    let browser = Browser::of(&gateway, "root").await;
    let mut stream = Stream::open(&browser, "/console/").await;
    assert_eq!(stream.next().await.expect("an event").0, "main");
    let begun = Instant::now();
    gateway.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    while stream.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_appears_in_the_browser_without_a_reload_and_nothing_polls() {
    let Some(chromium) = Chromium::start().await else { return };
    let (shop, _, recovery) = furnished().await;
    let origin = origin(&shop);
    let mut page = chromium.page("about:blank").await;
    enter(&mut page, &origin, "en", &recovery).await;
    page.go(&format!("{origin}/console/payments/")).await;
    page.eval("window.mark = 1").await;
    let rows = "document.querySelectorAll('tbody tr').length";
    for more in [2, 3] {
        shop.charge(1000 * more).await;
        let begun = Instant::now();
        page.until(&format!("{rows} === {more}")).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    // Nothing is replaced under somebody who types; it comes afterwards.
    page.eval("document.querySelector('main input').focus()").await;
    shop.charge(9000).await;
    page.until("document.activeElement.matches('main input')").await;
    assert_eq!(page.eval(rows).await, 3);
    page.eval("document.activeElement.blur()").await;
    page.until(&format!("{rows} === 4")).await;
    assert_eq!(page.eval("window.mark").await, 1, "the page was not loaded again");
    let asked = page
        .eval(
            "performance.getEntriesByType('resource')\
             .filter(one => ['fetch', 'xmlhttprequest'].includes(one.initiatorType)).length",
        )
        .await;
    assert_eq!(asked, json!(0), "the page asks for nothing");
}
