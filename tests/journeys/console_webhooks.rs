//! Webhook endpoints at the console: a paused one gets nothing, also after a restart, and everything once it resumes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_domain::clock::SystemClock;
use chelseru_domain::operator::role::Role;
use chelseru_tests::browser::{Browser, Shown};
use chelseru_tests::{PATIENCE, TestGateway};

use super::console::with_role;
use super::payments::Shop;
use super::webhooks::Receiver;

/// Two endpoints; the second shows that a round over both is done.
fn two(first: &Receiver, second: &Receiver) -> String {
    format!("{}{}", first.granted(), second.granted().replace("endpoints.shop]", "endpoints.other]"))
}

async fn act(browser: &mut Browser, page: &Shown, act: &str, endpoint: &str, reason: &str) -> Shown {
    let fields = [("endpoint", endpoint), ("reason", reason)];
    browser.submit(page, &format!("/console/webhooks/{act}/"), &fields).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_endpoint_waits_over_a_restart_and_loses_nothing() {
    let (paused, other) = (Receiver::start(&[]).await, Receiver::start(&[]).await);
    let shop = Shop::open(&two(&paused, &other)).await;
    let mut browser = Browser::of(&shop.gateway, "root").await;
    let page = browser.get("/console/webhooks/").await;
    assert!(!page.has("/console/webhooks/resume/"), "nothing to resume");
    assert_eq!(act(&mut browser, &page, "pause", "shop", "").await.status, 400, "without a reason");
    assert_eq!(act(&mut browser, &page, "pause", "nobody", "x").await.status, 400);
    let done = act(&mut browser, &page, "pause", "shop", "their server moves").await;
    assert_eq!(done.address, "/console/webhooks/?done=1", "{}", done.html);
    assert!(done.has("their server moves") && done.has("state bad"), "{}", done.html);
    assert_eq!(act(&mut browser, &page, "pause", "shop", "twice").await.status, 400, "paused already");
    shop.charge(1000).await;
    other.wait_for(1).await;
    let (Shop { gateway, .. }, config) = (shop, two(&paused, &other));
    let dir = gateway.stop().await;
    assert!(config.contains("other"));
    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    let login = gateway.login(super::payments::NUMBER).await;
    let shop = Shop { gateway, login };
    shop.charge(2000).await;
    other.wait_for(2).await;
    assert_eq!(paused.messages.lock().expect("no panic").len(), 0, "it is paused over a restart");
    let overview = Browser::of(&shop.gateway, "root").await.get("/console/").await;
    assert!(overview.has("متوقف: \u{2068}shop\u{2069}"), "{}", overview.html);

    let mut viewer = with_role(&shop.gateway, "viewer", Role::Viewer).await;
    let page = viewer.get("/console/webhooks/").await;
    assert!(page.has("their server moves") && !page.has("/console/webhooks/resume/"));
    let mut form = page.hidden("/console/logout/");
    form.extend([("endpoint".into(), "shop".into()), ("reason".into(), "x".into())]);
    assert_eq!(viewer.post("/console/webhooks/resume/", form).await.status, 403);

    let mut browser = Browser::of(&shop.gateway, "root").await;
    let page = browser.get("/console/webhooks/").await;
    let done = act(&mut browser, &page, "resume", "shop", "it moved").await;
    assert_eq!(done.address, "/console/webhooks/?done=1", "{}", done.html);
    let told = paused.wait_for(2).await;
    let mut ids: Vec<&str> = told.iter().map(|message| message.id.as_str()).collect();
    let others = other.wait_for(2).await;
    let mut expected: Vec<&str> = others.iter().map(|message| message.id.as_str()).collect();
    ids.sort_unstable();
    expected.sort_unstable();
    assert_eq!(ids, expected, "every event of the pause arrives");
    let until = Instant::now() + PATIENCE;
    loop {
        shop.gateway.app.live().identity.audit().flush().await;
        let log = browser.get("/console/audit/?event=webhook_paused").await;
        if log.has("their server moves") && log.has("it moved") {
            break;
        }
        assert!(Instant::now() < until, "{}", log.html);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
