//! What a payer's browser sees: the way to a bank that takes a form, and the result on the way back.

use std::time::Duration;

use chelseru_simulator::{Back, Simulator};
use chelseru_tests::Answer;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::payments::Shop;

const FORM: &str = "[sandbox]\nform = true\n";
/// What browsers send.
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

fn browser(request: RequestBuilder) -> RequestBuilder {
    request.header("accept", BROWSER)
}

fn text<'a>(details: &'a Value, name: &str) -> &'a str {
    details[name].as_str().unwrap_or_else(|| panic!("{name} of {details}"))
}

/// The attributes of the elements that begin so.
fn elements(page: &str, start: &str) -> Vec<String> {
    page.split(start).skip(1).map(|rest| rest.split('>').next().unwrap_or_default().to_owned()).collect()
}

fn attribute(element: &str, name: &str) -> String {
    let value = element.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
    value.unwrap_or_else(|| panic!("{name} in {element}")).replace("&#38;", "&").replace("&amp;", "&")
}

/// As a browser without scripts does it: opens the address, presses the button, decides, returns.
#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_takes_a_form_is_reached_by_opening_an_address() {
    let shop = Shop::open(FORM).await;
    let details = shop.create(json!({"amount": 1000, "order_id": "o-1"})).await;
    let client = &shop.gateway.client;
    let url = text(&details, "gateway_url");
    assert!(url.starts_with(&shop.gateway.at(&format!("/payment/{}/go/?key=", details["id"]))), "{url}");
    assert_eq!(details["gateway_method"], "GET");
    let reference = text(&details, "authority");
    assert_eq!(details["gateway_fields"], json!([{"name": "Token", "value": reference}]), "they stay");

    let page = Answer::of(browser(client.get(url))).await;
    assert_eq!(page.status, 200, "{page:?}");
    assert_eq!(page.header("referrer-policy"), "origin", "the bank compares the site");
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'sha256-"), "{policy}");
    assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let form = &elements(&page.text, "<form")[0];
    assert_eq!(attribute(form, "action"), text(&details, "gateway_form_url"));
    assert_eq!(attribute(form, "method"), "post");
    assert!(page.text.contains("<button type=\"submit\">"), "{}", page.text);
    let fields: Vec<_> = elements(&page.text, "<input")
        .iter()
        .map(|input| (attribute(input, "name"), attribute(input, "value")))
        .collect();

    let bank = text(&details, "gateway_form_url");
    assert_eq!(Answer::of(client.get(bank)).await.status, 405, "the bank wants a form");
    assert_eq!(Answer::of(client.post(bank).form(&fields)).await.status, 403, "and a referrer");
    let origin = url.split("/drfchelseru").next().expect("an origin");
    let arrived = Answer::of(client.post(bank).header("referer", format!("{origin}/")).form(&fields)).await;
    assert!(arrived.status == 200 && arrived.text.contains("10000 rial"), "{arrived:?}");
    let back = Answer::of(client.post(bank).form(&[("action", "pay")])).await;
    let result = Answer::of(browser(client.get(back.header("location")))).await;
    assert!(
        result.text.contains("پرداخت انجام شد") && result.text.contains("Payment completed"),
        "{result:?}"
    );
    assert_eq!(shop.balance().await, 1000);
    // Pressing "back" leads to no second form.
    let again = Answer::of(browser(client.get(url))).await;
    assert!(again.status == 200 && !again.text.contains("<form"), "{again:?}");
    shop.check_ledger().await;
}

const SAMAN: &str = r#"
[payment]
gateway = "SEP_SHAPARAK_IR"
reconcile_seconds = 1
[provider.SEP_SHAPARAK_IR]
hosts = ["SIMULATOR"]
[provider.SEP_SHAPARAK_IR.settings]
terminal = 2001
base_url = "http://SIMULATOR"
payer_url = "http://SIMULATOR"
"#;

/// A plugin whose bank wants a form: from `gateway_url` over our page and the bank's to the settled payment. A stranger
/// who names a reference number first changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_plugins_bank_that_takes_a_form_is_paid_end_to_end() {
    let simulator = Simulator::start(([127, 0, 0, 1], 0).into()).expect("a simulator");
    let shop = Shop::open(&SAMAN.replace("SIMULATOR", &simulator.addr.to_string())).await;
    let client = &shop.gateway.client;
    let details = shop.create(json!({"amount": 1000, "order_id": "o-1"})).await;
    let token = text(&details, "authority");
    assert_eq!(
        (text(&details, "gateway_method"), text(&details, "gateway_title")),
        ("GET", "SEP_SHAPARAK_IR")
    );
    assert_eq!(text(&details, "gateway_form_url"), format!("http://{}/OnlinePG/OnlinePG", simulator.addr));

    let page = Answer::of(browser(client.get(text(&details, "gateway_url")))).await;
    assert_eq!((page.status, page.header("referrer-policy")), (200, "origin"), "{page:?}");
    let bank = attribute(&elements(&page.text, "<form")[0], "action");
    let fields: Vec<_> = elements(&page.text, "<input")
        .iter()
        .map(|input| (attribute(input, "name"), attribute(input, "value")))
        .collect();
    assert!(fields.contains(&("Token".to_owned(), token.to_owned())), "{fields:?}");
    assert_eq!(Answer::of(client.get(&bank)).await.status, 405, "the bank wants a form");
    assert_eq!(Answer::of(client.post(&bank).form(&fields)).await.status, 403, "and a referrer");
    let arrived =
        Answer::of(client.post(&bank).header("referer", "http://shop.example/").form(&fields)).await;
    assert!(arrived.status == 200 && arrived.text.contains("Card number"), "{arrived:?}");

    // Somebody guesses references and receipts before the payer has paid.
    let invented = [("Token", token), ("State", "OK"), ("Status", "2"), ("ResNum", "1"), ("RefNum", "999")];
    let answer = Answer::of(client.post(shop.gateway.at("/payment/verify/")).form(&invented)).await;
    assert_eq!((answer.status, &answer.body["details"]["is_pay"]), (200, &json!(0)), "{answer:?}");
    assert_eq!(shop.state(&details).await, "pending");

    assert!(simulator.pay(token));
    let callbacks = simulator.come_back(token, Back::Twice).await.expect("the payer is back");
    assert!(callbacks.iter().all(|callback| callback.status == 200), "{callbacks:?}");
    shop.wait_for_state(&details, "paid").await;
    assert_eq!(shop.balance().await, 1000);
    // The receipt counts for one payment.
    let other = shop.create(json!({"amount": 1000, "order_id": "o-2"})).await;
    let session = simulator.sessions().into_iter().find(|session| session.reference == token).expect("known");
    let receipt = session.receipt.to_string();
    let reused = [("Token", text(&other, "authority")), ("State", "OK"), ("Status", "2"), ("ResNum", "2")];
    let reused = [&reused[..], &[("RefNum", &*receipt)]].concat();
    let answer = Answer::of(client.post(shop.gateway.at("/payment/verify/")).form(&reused)).await;
    assert_eq!(answer.body["details"]["is_pay"], 0, "{answer:?}");
    assert_eq!((shop.state(&other).await, shop.balance().await), ("pending".to_owned(), json!(1000)));
    assert!(simulator.pay(text(&other, "authority")));
    simulator.come_back(text(&other, "authority"), Back::Once).await.expect("the payer is back");
    shop.wait_for_state(&other, "paid").await;
    assert_eq!(shop.balance().await, 2000);
    shop.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_to_the_bank_is_for_those_who_have_its_address() {
    let shop = Shop::open(FORM).await;
    let details = shop.create(json!({"amount": 1000})).await;
    let other = shop.create(json!({"amount": 2000})).await;
    let (url, client) = (text(&details, "gateway_url"), &shop.gateway.client);
    let (address, key) = url.split_once("?key=").expect("a key");
    assert_eq!(key.len(), 32);
    let foreign = text(&other, "gateway_url").split_once("?key=").expect("a key").1.to_owned();
    for wrong in ["", "0", "00000000000000000000000000000000", &foreign, &key[..31]] {
        let refused = Answer::of(client.get(format!("{address}?key={wrong}"))).await;
        assert_eq!((refused.status, refused.header("x-error-code")), (404, "not_found"), "{wrong}");
        let page = Answer::of(browser(client.get(format!("{address}?key={wrong}")))).await;
        assert!(page.status == 404 && page.text.contains("پیدا نشد"), "{page:?}");
    }
    // The key of this page is not the callback's, which shows that the payer was at the bank.
    let mixed =
        format!("/payment/verify/?callback_key={key}&Authority={}&Status=OK", text(&details, "authority"));
    assert_eq!(shop.gateway.get(&mixed, None).await.status, 404);
    // A client that posts the fields wherever gateway_url points gets there as well.
    assert_eq!(Answer::of(client.post(url).form(&[("Token", "x")])).await.status, 200);
    // A bank that takes payers by their address needs no page.
    shop.gateway.edit_config("[sandbox]\nform = false\n");
    let until = std::time::Instant::now() + chelseru_tests::PATIENCE;
    loop {
        let plain = shop.create(json!({"amount": 3000})).await;
        if plain["gateway_form_url"].is_null() {
            assert!(text(&plain, "gateway_url").contains("/sandbox/pay/"), "{plain}");
            break;
        }
        assert!(std::time::Instant::now() < until, "the edit never applies");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_sees_a_page_and_a_program_json() {
    let shop = Shop::open("").await;
    let client = &shop.gateway.client;
    let order = "<script>alert(1)</script>\"'&";
    let details = shop.create(json!({"amount": 1234, "order_id": order})).await;
    let back = shop.decide(&details, "pay").await;
    let url = back.header("location").to_owned();
    let page = Answer::of(browser(client.get(&url))).await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"), "{page:?}");
    assert!(page.text.contains("<html lang=\"fa\" dir=\"rtl\">"), "{}", page.text);
    for part in
        ["پرداخت انجام شد", "1234 تومان (IRT)", "&#60;script&#62;alert(1)&#60;/script&#62;", "Receipt"]
    {
        assert!(page.text.contains(part), "{part}: {}", page.text);
    }
    assert!(!page.text.contains("<script"), "{}", page.text);
    assert_eq!(page.header("cache-control"), "no-store");
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && policy.contains("form-action 'none'"), "{policy}");
    assert!(!policy.contains("script-src"), "{policy}");
    for accept in ["application/json", "*/*", "application/json, text/plain, */*"] {
        let json = Answer::of(client.get(&url).header("accept", accept)).await;
        assert_eq!(json.body["details"]["is_pay"], 1, "{accept}: {json:?}");
    }
    let forced = Answer::of(browser(client.get(format!("{url}&format=json")))).await;
    assert_eq!(forced.body["details"]["is_pay"], 1, "{forced:?}");
    // Somebody who only knows the reference learns the state, on the page as in JSON.
    let bare =
        shop.gateway.at(&format!("/payment/verify/?Authority={}&Status=OK", text(&details, "authority")));
    let stranger = Answer::of(browser(client.get(bare))).await;
    assert!(stranger.text.contains("پرداخت انجام شد"), "{stranger:?}");
    assert!(!stranger.text.contains("1234") && !stranger.text.contains("Receipt"), "{stranger:?}");
    // An error is a page too, with the status and the code of the error.
    let unknown = shop.gateway.at("/payment/verify/?Authority=A0&Status=OK");
    let unknown = Answer::of(browser(client.get(unknown))).await;
    assert_eq!(unknown.header("x-error-code"), "payment_not_found");
    assert!(unknown.status == StatusCode::NOT_FOUND && unknown.text.contains("was not found"), "{unknown:?}");
}
