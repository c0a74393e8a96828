//! The console in a real browser: the login with a second factor, every page in both languages held against axe-core,
//! and the keys.
//!
//! axe-core 4.14.1 (npm `axe-core`, `axe.min.js`, MPL-2.0) lies in `tests/browser/axe`; a test holds its hash. It is
//! evaluated by the DevTools protocol, because the console's policy lets no page load it. Screenshots of each page are
//! written under `target/console/`.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chelseru_tests::browser::Browser;
use chelseru_tests::chromium::{Chromium, Page};
use serde_json::{Value, json};

use super::console::code;
use super::payments::Shop;

const AXE: &str = include_str!("../browser/axe/axe.min.js");

const CONFIG: &str = "[sms]\nservice = [\"FIRST\", \"SECOND\"]\n[provider.FIRST]\nplugin = \"sandbox-sms\"\n\
                      [provider.SECOND]\nplugin = \"sandbox-sms\"\n[chat]\nstrangers = \"admit\"\n";

/// Each page, by the name of its picture.
const PAGES: [(&str, &str); 27] = [
    ("overview", "/console/"),
    ("users", "/console/users/"),
    ("users-wrong", "/console/users/?from=x&q=ali"),
    ("user", "/console/users/1/"),
    ("sessions", "/console/sessions/"),
    ("payments", "/console/payments/"),
    ("payment", "/console/payments/PAYMENT/"),
    ("wallets", "/console/wallets/"),
    ("wallet", "/console/wallets/1/"),
    ("messages", "/console/messages/"),
    ("rooms", "/console/rooms/"),
    ("room", "/console/rooms/1/"),
    ("room-messages", "/console/rooms/1/messages/"),
    ("organizations", "/console/organizations/"),
    ("files", "/console/files/"),
    ("webhooks", "/console/webhooks/"),
    ("providers", "/console/providers/"),
    ("provider", "/console/providers/FIRST/"),
    ("components", "/console/components/"),
    ("ledger", "/console/ledger/"),
    ("config", "/console/config/"),
    ("backups", "/console/backups/"),
    ("keys", "/console/keys/"),
    ("me", "/console/me/"),
    ("factor", "/console/me/factor/"),
    ("operators", "/console/operators/"),
    ("audit", "/console/audit/"),
];

/// A shop with a payment, a room and a message, and an operator with a second factor; the factor's secret.
pub(crate) async fn furnished() -> (Shop, Value, String) {
    let shop = Shop::open(CONFIG).await;
    let payment = shop.charge(1000).await["id"].clone();
    shop.gateway.login("09121234568").await;
    let made = shop.post("/chat/chatrooms/", json!({"users": [2], "name": "Chess club"})).await;
    assert!(made.status < 300, "{made:?}");
    let text = json!({"chat_room": made.body["id"], "text": "سلام", "message_type": "text"});
    assert!(shop.post("/chat/messages/", text).await.status < 300);
    let mut browser = Browser::of(&shop.gateway, "root").await;
    let setup = browser.get("/console/me/factor/").await;
    let secret = setup.html.split_once("class=\"code\">").expect("a secret").1;
    let secret = secret.split('<').next().expect("text").to_owned();
    let done = browser.submit(&setup, "/console/me/factor/", &[("code", &code(&secret))]).await;
    let recovery = done.html.split_once("<code dir=\"ltr\">").expect("a code").1;
    let recovery = recovery.split('<').next().expect("text").to_owned();
    (shop, payment, recovery)
}

pub(crate) fn origin(shop: &Shop) -> String {
    Browser::new(&shop.gateway).at("")
}

/// Logs in as a person does, in a language.
pub(crate) async fn enter(page: &mut Page, origin: &str, language: &str, recovery: &str) {
    page.go(&format!("{origin}/console/login/?language={language}")).await;
    page.fill("#username", "root").await;
    page.fill("#password", "kavir darya 7").await;
    page.fill("#code", recovery).await;
    page.click("main button").await;
    page.until("location.pathname === '/console/'").await;
    page.until("document.readyState === 'complete'").await;
}

/// Faults that axe-core calls serious or critical.
async fn faults(page: &mut Page) -> Vec<String> {
    page.eval(&format!("{AXE}; 0")).await;
    let found = page
        .eval(
            "axe.run(document, {resultTypes: ['violations']}).then(run => run.violations\
             .filter(one => ['serious', 'critical'].includes(one.impact))\
             .map(one => one.id + ': ' + one.nodes.slice(0, 3).map(node => node.html).join(' | ')))",
        )
        .await;
    let faults = found.as_array().unwrap_or_else(|| panic!("{found}"));
    faults.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Holds that a page is as wide as its window; what is wider scrolls inside.
async fn fits(page: &mut Page, name: &str) {
    let wide = page.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth").await;
    assert!(wide.as_i64().unwrap_or(1) <= 0, "{name} is {wide} too wide");
}

async fn picture(page: &mut Page, name: &str) {
    let taken = page.call("Page.captureScreenshot", json!({"format": "png"})).await;
    let bytes = STANDARD.decode(taken["data"].as_str().expect("a picture")).expect("base64");
    let folder = target().join("console");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(format!("{name}.png")), bytes).expect("written");
}

/// The folder of the build, in which this test's program lies.
fn target() -> PathBuf {
    let program = std::env::current_exe().expect("a path");
    program.ancestors().nth(3).expect("target").to_owned()
}

#[test]
fn axe_core_is_the_recorded_file() {
    use sha2::{Digest, Sha256};

    let hash: String = Sha256::digest(AXE).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c");
    assert!(include_str!("../browser/axe/LICENSE").contains("Mozilla Public License"));
}

async fn key(page: &mut Page, name: &str) {
    let text = match name {
        "Enter" => "\r",
        "Tab" => "",
        text => text,
    };
    let code = if name == "Enter" { 13 } else { 0 };
    let down = json!({"type": "keyDown", "key": name, "text": text, "windowsVirtualKeyCode": code});
    page.call("Input.dispatchKeyEvent", down).await;
    page.call("Input.dispatchKeyEvent", json!({"type": "keyUp", "key": name})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible_in_both_languages() {
    let Some(chromium) = Chromium::start().await else { return };
    let (shop, payment, recovery) = furnished().await;
    let origin = origin(&shop);
    let mut page = chromium.page("about:blank").await;
    page.go(&format!("{origin}/console/login/")).await;
    let door = faults(&mut page).await;
    assert!(door.is_empty(), "the login: {door:#?}");
    picture(&mut page, "fa-login").await;
    enter(&mut page, &origin, "fa", &recovery).await;
    let mut all = Vec::new();
    for language in ["fa", "en"] {
        if language == "en" {
            page.click("form[action='/console/me/language/'] button").await;
            page.until("document.documentElement.lang === 'en' && document.readyState === 'complete'").await;
        }
        for (name, path) in PAGES {
            page.go(&format!("{origin}{}", path.replace("PAYMENT", &payment.to_string()))).await;
            page.until(&format!("document.documentElement.lang === '{language}'")).await;
            let found = faults(&mut page).await;
            all.extend(found.into_iter().map(|fault| format!("{language} {name}: {fault}")));
            fits(&mut page, &format!("{language} {name}")).await;
            picture(&mut page, &format!("{language}-{name}")).await;
        }
    }
    assert!(all.is_empty(), "{all:#?}");
}

/// The narrowest window that the console promises to fit.
#[tokio::test(flavor = "multi_thread")]
async fn no_page_is_wider_than_360_pixels() {
    let Some(chromium) = Chromium::start().await else { return };
    let (shop, payment, recovery) = furnished().await;
    let origin = origin(&shop);
    let mut page = chromium.page("about:blank").await;
    let narrow = json!({"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": false});
    page.call("Emulation.setDeviceMetricsOverride", narrow).await;
    page.go(&format!("{origin}/console/login/")).await;
    fits(&mut page, "the login").await;
    enter(&mut page, &origin, "fa", &recovery).await;
    for language in ["fa", "en"] {
        if language == "en" {
            page.click("form[action='/console/me/language/'] button").await;
            page.until("document.documentElement.lang === 'en' && document.readyState === 'complete'").await;
        }
        for (name, path) in PAGES {
            page.go(&format!("{origin}{}", path.replace("PAYMENT", &payment.to_string()))).await;
            assert_eq!(page.eval("innerWidth").await, 360, "{name}");
            // Forms are closed until somebody opens one.
            page.eval("document.querySelectorAll('details').forEach(one => one.open = true)").await;
            fits(&mut page, &format!("{language} {name}")).await;
            picture(&mut page, &format!("{language}-{name}-360")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_searches_opens_and_goes() {
    let Some(chromium) = Chromium::start().await else { return };
    let (shop, _, recovery) = furnished().await;
    let origin = origin(&shop);
    let mut page = chromium.page("about:blank").await;
    enter(&mut page, &origin, "en", &recovery).await;
    key(&mut page, "?").await;
    page.until("document.getElementById('keys').open").await;
    page.click("#keys button").await;
    page.until("!document.getElementById('keys').open").await;
    for name in ["g", "u"] {
        key(&mut page, name).await;
    }
    page.until("location.pathname === '/console/users/' && document.readyState === 'complete'").await;
    key(&mut page, "/").await;
    page.until("document.activeElement.name === 'q'").await;
    for digit in "1234568".chars() {
        key(&mut page, &digit.to_string()).await;
    }
    key(&mut page, "Enter").await;
    page.until("location.search.includes('q=1234568') && document.readyState === 'complete'").await;
    assert_eq!(page.eval("document.querySelectorAll('tbody tr').length").await, 1);
    key(&mut page, "j").await;
    page.until("document.activeElement.matches('tbody a')").await;
    key(&mut page, "Enter").await;
    page.until("location.pathname === '/console/users/2/'").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_acts_without_javascript() {
    let Some(chromium) = Chromium::start().await else { return };
    let (shop, _, recovery) = furnished().await;
    let origin = origin(&shop);
    let mut page = chromium.page("about:blank").await;
    page.call("Emulation.setScriptExecutionDisabled", json!({"value": true})).await;
    enter(&mut page, &origin, "en", &recovery).await;
    page.go(&format!("{origin}/console/users/2/")).await;
    let form = "form[action='/console/users/2/active/']";
    page.eval(&format!("document.querySelector(\"{form}\").closest('details').open = true")).await;
    page.fill(&format!("{form} [name=reason]"), "lost phone").await;
    page.fill(&format!("{form} [name=confirm]"), "G0-09121234568").await;
    page.click(&format!("{form} button")).await;
    page.until("location.search.includes('done=1') && document.readyState === 'complete'").await;
    let text = page.text().await;
    assert!(text.contains("Done.") && text.contains("Disabled"), "{text}");
}
