//! Money at the console beyond refunds: reversals that a gateway refuses, corrections, and the ledger.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_domain::operator::role::Role;
use chelseru_simulator::Fault;
use chelseru_tests::browser::{Browser, Shown};
use serde_json::{Value, json};

use super::console::with_role;
use super::gateways::{Street, authority, is_pay};
use super::payments::Shop;

/// A paid payment whose reversal the gateway refused.
async fn refused(street: &Street) -> Value {
    let details = street.create(5000).await;
    street.simulator.pay(authority(&details));
    assert_eq!(is_pay(&street.zarinpal_back(&details, "OK").await), 1);
    street.simulator.fault(Fault::code("zarinpal", -60).method("reverse").times(1)).expect("a fault");
    let path = format!("/payment/{}/refund/", details["id"]);
    let answer = street.shop.post(&path, json!({"to": "reverse"})).await;
    assert_eq!(answer.body["payment"]["reversal"]["state"], "refused", "{answer:?}");
    details
}

async fn decide(browser: &mut Browser, page: &Shown, id: &str, decision: &str, confirm: &str) -> Shown {
    let fields = [("decision", decision), ("reason", "the bank wrote"), ("confirm", confirm)];
    browser.submit(page, &format!("/console/payments/{id}/reversal/"), &fields).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_reversal_is_asked_again_undone_or_settled() {
    let street = Street::open("ZARINPAL_COM").await;
    let mut browser = Browser::of(&street.shop.gateway, "root").await;
    for (decision, state, balance) in
        [("retry", "refunded", 0), ("undo", "paid", 5000), ("paid_outside", "refunded", 5000)]
    {
        let details = refused(&street).await;
        let id = details["id"].to_string();
        let path = format!("/console/payments/{id}/");
        let list = browser.get("/console/payments/").await;
        assert!(list.has("refused: -60"), "the stuck reversal is on the first page: {}", list.html);
        let page = browser.get(&path).await;
        assert!(page.has("refused: -60"), "{}", page.html);
        let unnamed = decide(&mut browser, &page, &id, decision, "0").await;
        assert_eq!(unnamed.status, 400, "{decision} without the payment's number");
        let unknown = decide(&mut browser, &page, &id, "forget", &id).await;
        assert_eq!(unknown.status, 400, "{}", unknown.html);
        let wallet = decide(&mut browser, &page, &id, "wallet", &id).await;
        assert_eq!(wallet.status, 400, "the payment charged the wallet, so undoing is the way there");
        assert!(browser.get(&path).await.has("refused: -60"), "nothing happened yet");
        let done = decide(&mut browser, &page, &id, decision, &id).await;
        assert_eq!(done.address, format!("{path}?done=1"), "{decision}: {}", done.html);
        assert!(!done.has("refused: -60"), "{decision}: {}", done.html);
        assert_eq!(street.shop.state(&details).await, state, "{decision}");
        assert_eq!(street.shop.balance().await, balance, "{decision}");
        // It is decided once: the old page's form finds nothing to decide.
        let again = decide(&mut browser, &page, &id, decision, &id).await;
        assert_eq!(again.status, 404, "{decision}: {}", again.html);
    }
    street.shop.gateway.app.live().identity.audit().flush().await;
    let log = browser.get("/console/audit/?event=money_decided").await;
    for text in ["AskAgain", "Undo", "PaidOutside", "the bank wrote"] {
        assert!(log.has(text), "{text}: {}", log.html);
    }
    street.shop.check_ledger().await;
}

async fn correct(browser: &mut Browser, amount: &str, direction: &str) -> Shown {
    let page = browser.get("/console/wallets/1/").await;
    let name = page.html.split_once("<a href=\"/console/users/1/\"><bdi dir=\"auto\">").expect("a name").1;
    let name = name.split('<').next().expect("text").to_owned();
    let fields = [
        ("direction", direction),
        ("amount", amount),
        ("reason", "goodwill of the shop"),
        ("confirm", &*name),
    ];
    browser.submit(&page, "/console/wallets/1/correct/", &fields).await
}

const CONFIRM: [(&str, &str); 2] = [("reason", "agreed"), ("confirm", "1")];

#[tokio::test(flavor = "multi_thread")]
async fn a_large_correction_waits_for_another_operator() {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let config = "[payment]\nstaff_users = [1]\ncorrection_alone_max = 1000\n";
    let shop = Shop::open_at(config, clock.clone()).await;
    let mut first = with_role(&shop.gateway, "first", Role::Finance).await;
    let mut second = with_role(&shop.gateway, "second", Role::Finance).await;
    let alone = correct(&mut first, "1000", "in").await;
    assert_eq!(alone.address, "/console/wallets/1/?done=1", "{}", alone.html);
    assert_eq!(shop.balance().await, 1000);

    let asked = correct(&mut first, "1001", "in").await;
    assert!(asked.address.starts_with("/console/corrections/"), "{}", asked.html);
    assert!(asked.has("goodwill of the shop") && asked.has("۱٬۰۰۱ تومان"), "{}", asked.html);
    let path = asked.address.replace("?done=1", "");
    let confirm = format!("{path}confirm/");
    assert_eq!(shop.balance().await, 1000, "nothing is posted yet");
    assert!(!asked.has(&confirm), "who asked is offered no confirmation");
    let mut own = asked.hidden("/console/logout/");
    own.extend(CONFIRM.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(first.post(&confirm, own).await.status, 400, "and gets none");
    let mut viewer = with_role(&shop.gateway, "viewer", Role::Viewer).await;
    let seen = viewer.get(&path).await;
    assert!(seen.status == 200 && !seen.has(&confirm), "{}", seen.html);
    let list = second.get("/console/wallets/").await;
    assert!(list.has(&path), "{}", list.html);
    let page = second.get(&path).await;
    assert_eq!(second.submit(&page, &confirm, &[("reason", ""), ("confirm", "1")]).await.status, 400);
    assert_eq!(second.submit(&page, &confirm, &[("reason", "agreed"), ("confirm", "2")]).await.status, 400);
    assert_eq!(shop.balance().await, 1000);
    let done = second.submit(&page, &confirm, &CONFIRM).await;
    assert_eq!(done.address, "/console/wallets/1/?done=1", "{}", done.html);
    assert_eq!(shop.balance().await, 2001);
    assert_eq!(second.submit(&page, &confirm, &CONFIRM).await.status, 404, "once");
    assert_eq!(shop.balance().await, 2001);

    // What the wallet does not hold is refused when it is confirmed, and waits on.
    let asked = correct(&mut first, "5000", "out").await;
    let path = asked.address.replace("?done=1", "");
    let page = second.get(&path).await;
    let refused = second.submit(&page, &format!("{path}confirm/"), &CONFIRM).await;
    assert!(refused.status == 400 && refused.has("موجودی کافی نیست."), "{}", refused.html);
    let withdrawn = second.submit(&page, &format!("{path}withdraw/"), &[("reason", "a typing error")]).await;
    assert_eq!(withdrawn.address, "/console/wallets/1/?done=1", "{}", withdrawn.html);
    assert_eq!(second.get(&path).await.status, 404);

    // The client's API for staff knows the same bound, and the store keeps what waits.
    let body = json!({"amount": 1001, "direction": "in", "reason": "me"});
    let staff = shop.post("/staff/wallets/1/correct/", body).await;
    assert_eq!((staff.status, staff.header("x-error-code")), (409, "second_person_required"), "{staff:?}");
    let asked = correct(&mut first, "3000", "in").await;
    let path = asked.address.replace("?done=1", "");
    clock.advance(Duration::from_secs(24 * 60 * 60));
    let mut late = Browser::of(&shop.gateway, "root").await;
    assert_eq!(late.get(&path).await.status, 404, "its time is over");
    shop.gateway.app.live().identity.audit().flush().await;
    let log = late.get("/console/audit/?event=money_decided").await;
    for text in ["asked for by user", "agreed", "a typing error", "withdrawn", "expired"] {
        assert!(log.has(text), "{text}: {}", log.html);
    }
    shop.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_a_correction_count_once() {
    let shop = Shop::open("[payment]\nstaff_users = [1]\ncorrection_alone_max = 1000\n").await;
    for round in 0..6 {
        let key = format!("c-{round}");
        let copies =
            (0..6).map(|_| {
                let body = json!({"amount": 1000, "direction": "in", "reason": "goodwill"});
                let (shop, key) = (&shop, key.clone());
                async move {
                    shop.post_with("/staff/wallets/1/correct/", body, &[("Idempotency-Key", &key)]).await
                }
            });
        let answers = futures_util::future::join_all(copies).await;
        let wanted = if round == 0 { 201 } else { 409 };
        assert!(answers.iter().all(|answer| answer.status == wanted), "round {round}: {answers:?}");
    }
    assert_eq!(shop.balance().await, 1000);
    shop.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_that_goes_away_asked_for_is_on_record() {
    use tokio::io::AsyncWriteExt;

    const TRIES: u64 = 40;
    let shop = Shop::open("[payment]\nstaff_users = [1]\n").await;
    let address = reqwest::Url::parse(&shop.gateway.at("/")).expect("an address");
    let place = format!("{}:{}", address.host_str().expect("a host"), address.port().expect("a port"));
    let path = reqwest::Url::parse(&shop.gateway.at("/staff/wallets/1/correct/")).expect("an address");
    for try_ in 0..TRIES {
        let body = r#"{"amount": 1, "direction": "in", "reason": "goodwill"}"#;
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: {place}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            path.path(),
            shop.login.access,
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(&place).await.expect("connected");
        stream.write_all(format!("{head}{body}").as_bytes()).await.expect("sent");
        tokio::time::sleep(Duration::from_micros(150 * try_)).await;
        drop(stream);
    }
    // What was begun ends, and what ended is told of.
    let recorded = async || {
        shop.gateway.app.live().identity.audit().flush().await;
        let finance = super::console_v1::Program::of(&shop.gateway, "operator:finance").await;
        finance.count("/audit/?event=money_decided&limit=100").await as u64
    };
    let started = std::time::Instant::now();
    loop {
        let (before, found) = (shop.balance().await, recorded().await);
        if before == shop.balance().await && before == found && found > 0 {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{before} toman, {found} records");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    shop.check_ledger().await;
}
