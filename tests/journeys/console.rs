//! The console in a browser without JavaScript: the way in, forms, roles, hostile texts, and what each page does.

use std::collections::BTreeMap;
use std::sync::Arc;

use chelseru_domain::clock::SystemClock;
use chelseru_domain::login::password::Password;
use chelseru_domain::operator::role::{Reason, Role};
use chelseru_tests::browser::{Browser, Shown};
use chelseru_tests::{Answer, BY_PASSWORD, TestGateway, folder, machine, process};
use serde_json::json;

use super::console_v1::Program;
use super::payments::Shop;

const BOTH: &str = "[auth]\nmethod = [\"OTP\", \"PASSWD\"]\n";
const CODES_ONLY: &str = "[auth]\nmethod = \"OTP\"\n";

/// Gives a new account a role, and logs it in.
pub(crate) async fn with_role(gateway: &TestGateway, name: &str, role: Role) -> Browser {
    let live = gateway.app.live();
    let password = Password::new("kavir darya 7");
    let user = live.identity.register(BY_PASSWORD, name, &password, "", None).await.expect("made");
    let logins = live.generation.console.desk.console();
    logins.role_set(&machine(), user.id, Some(role), &Reason::of_command()).await.expect("set");
    Browser::of(gateway, name).await
}

/// The code that an authenticator shows.
pub(crate) fn code(secret: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let secret = totp_rs::Secret::try_from_base32(secret).expect("a secret");
    let totp = totp_rs::Builder::new().with_secret(secret).build_noncompliant();
    totp.generate(now.as_secs()).to_string()
}

/// The text of the first element that begins so.
fn between<'a>(shown: &'a Shown, start: &str, end: &str) -> &'a str {
    let rest = shown.html.split_once(start).unwrap_or_else(|| panic!("no {start}: {}", shown.html)).1;
    rest.split_once(end).expect("an end").0
}

fn fields<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_enters_by_link_sets_a_second_factor_and_logs_in_with_it() {
    // Clients may log in by code only; operators use passwords.
    let gateway = TestGateway::start(CODES_ONLY).await;
    let mut browser = Browser::of(&gateway, "root").await;
    let setup = browser.get("/console/me/factor/").await;
    let secret = between(&setup, "class=\"code\">", "<").to_owned();
    let wrong = browser.submit(&setup, "/console/me/factor/", &[("code", "000000")]).await;
    assert_eq!(wrong.status, 400, "{}", wrong.html);
    assert!(wrong.has(&secret), "the same secret is shown again");
    let first = code(&secret);
    let done = browser.submit(&wrong, "/console/me/factor/", &[("code", &first)]).await;
    assert_eq!(done.status, 200, "{}", done.html);
    let recovery = between(&done, "<code dir=\"ltr\">", "<").to_owned();

    let mut other = Browser::new(&gateway);
    let root = other.get("/").await;
    assert!(root.address.starts_with("/console/login/"), "{}", root.address);
    let password = "kavir darya 7";
    for (name, password, code) in [
        ("root", password, ""),
        ("root", password, &*first),
        ("root", "wrong", &*recovery),
        ("nobody", password, &*recovery),
    ] {
        let form = fields([("username", name), ("password", password), ("code", code)]);
        let refused = other.post("/console/login/", form).await;
        assert_eq!(refused.status, 403, "{name} {code}");
        assert!(refused.has("نام، رمز یا کد درست نیست.") && refused.has(&format!("value=\"{name}\"")));
        assert!(!refused.has(password), "a password is never shown");
    }
    let form = fields([
        ("username", "root"),
        ("password", password),
        ("code", &recovery),
        ("then", "/console/users/?q=ali"),
    ]);
    let entered = other.post("/console/login/", form.clone()).await;
    assert_eq!((entered.status, entered.address.as_str()), (200, "/console/users/?q=ali"));
    assert_eq!(other.post("/console/login/", form).await.status, 403, "a recovery code works once");

    let me = other.get("/console/me/").await;
    let out = other.submit(&me, "/console/logout/", &[]).await;
    assert_eq!(out.address, "/console/login/");
    let gone = other.get("/console/users/").await;
    assert!(gone.address.starts_with("/console/login/?then="), "{}", gone.address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_waits_for_a_press_and_works_once() {
    let gateway = TestGateway::start(BOTH).await;
    let live = gateway.app.live();
    let root = live.identity.superuser_create(&machine(), "root", &Password::new("kavir darya 7"), "").await;
    let logins = live.generation.console.desk.console();
    let link = logins.link_make(&machine(), root.expect("made").id).await.expect("made").expect("made");
    let mut browser = Browser::new(&gateway);
    let address = format!("/console/link/?token={}", link.token);
    // Previews and prefetches open it, and nothing happens.
    for _ in 0..3 {
        assert_eq!(browser.get(&address).await.status, 200);
        assert_eq!(browser.cookie, None);
    }
    let form = fields([("token", &*link.token)]);
    assert_eq!(browser.post("/console/link/", form.clone()).await.address, "/console/me/");
    let mut second = Browser::new(&gateway);
    assert_eq!(second.post("/console/link/", form).await.status, 403);
    assert_eq!(second.post("/console/link/", fields([("token", "1-x")])).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_and_headers_are_strict() {
    let gateway = TestGateway::start(BOTH).await;
    let mut browser = Browser::of(&gateway, "root").await;
    let page = browser.get("/console/").await;
    let header = |name: &str| page.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let policy = header("content-security-policy");
    for rule in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!((header("x-frame-options"), header("cache-control")), ("DENY", "no-store"));
    assert_eq!((header("x-content-type-options"), header("referrer-policy")), ("nosniff", "same-origin"));
    for inline in [" style=", "<style", " onclick", "javascript:"] {
        assert!(!page.has(inline), "{inline}");
    }
    assert_eq!(page.html.matches("<script").count(), 1, "only the file");

    // The cookie itself.
    let live = gateway.app.live();
    let logins = live.generation.console.desk.console();
    let user = live.identity.user_find("root").await.expect("read").expect("made");
    let cookie_for = async |forwarded: Option<&str>| {
        let link = logins.link_make(&machine(), user.id).await.expect("made").expect("made");
        let request = browser.client().post(browser.at("/console/link/")).form(&[("token", link.token)]);
        let request = match forwarded {
            Some(proto) => request.header("x-forwarded-proto", proto),
            None => request,
        };
        let answer = Browser::new(&gateway).raw(request).await;
        answer.headers()["set-cookie"].to_str().expect("text").to_owned()
    };
    let plain = cookie_for(None).await;
    assert!(plain.starts_with("chelseru_console="), "{plain}");
    assert!(plain.ends_with("; Path=/console/; HttpOnly; SameSite=Strict"), "{plain}");
    // A proxy that nobody declared changes nothing.
    assert_eq!(cookie_for(Some("https")).await.split('=').next(), Some("chelseru_console"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_acts_with_its_key_and_from_its_site_only() {
    let gateway = TestGateway::start(BOTH).await;
    let mut browser = Browser::of(&gateway, "root").await;
    let live = gateway.app.live();
    let user = live
        .identity
        .register(BY_PASSWORD, "sara", &Password::new("kavir darya 7"), "", None)
        .await
        .expect("made");
    let action = format!("/console/users/{}/active/", user.id);
    let page = browser.get(&format!("/console/users/{}/", user.id)).await;
    let mut form = page.hidden(&action);
    form.extend(fields([("reason", "asked for it"), ("confirm", "sara")]));
    let is_active = async || live.identity.user(user.id).await.expect("read").expect("an account").active;
    let send = async |form: &BTreeMap<String, String>, headers: &[(&str, &str)]| {
        let mut request = browser.client().post(browser.at(&action)).form(form);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        browser.raw(request).await.status().as_u16()
    };
    let own = ("origin", browser.at(""));
    let mut unkeyed = form.clone();
    unkeyed.remove("form_key");
    assert_eq!(send(&unkeyed, &[("origin", &own.1)]).await, 403);
    let mut foreign_key = form.clone();
    let other = Browser::of(&gateway, "root").await;
    let other_page =
        other.raw(other.client().get(other.at("/console/me/"))).await.text().await.expect("html");
    let other_key = other_page.split_once("name=\"form_key\" value=\"").expect("a key").1;
    foreign_key.insert("form_key".into(), other_key.split('"').next().expect("a value").into());
    assert_eq!(send(&foreign_key, &[("origin", &own.1)]).await, 403, "another session's key");
    for headers in [
        [("origin", "https://evil.example"), ("accept", "text/html")],
        [("origin", "null"), ("accept", "text/html")],
        [("sec-fetch-site", "cross-site"), ("accept", "text/html")],
        [("sec-fetch-site", "same-site"), ("origin", &own.1)],
    ] {
        assert_eq!(send(&form, &headers).await, 403, "{headers:?}");
    }
    assert!(is_active().await, "nothing happened");
    // Behind a proxy that changes `Host`, the browser still says that both are one site.
    let behind_proxy = [("origin", "https://console.example"), ("sec-fetch-site", "same-origin")];
    assert_eq!(send(&form, &behind_proxy).await, 303);
    assert!(!is_active().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_decides_whatever_the_page_shows() {
    let gateway = TestGateway::start(BOTH).await;
    let live = gateway.app.live();
    let user = live
        .identity
        .register(BY_PASSWORD, "sara", &Password::new("kavir darya 7"), "", None)
        .await
        .expect("made");
    let mut viewer = with_role(&gateway, "viewer", Role::Viewer).await;
    let path = format!("/console/users/{}/", user.id);
    let page = viewer.get(&path).await;
    assert_eq!(page.status, 200);
    assert!(!page.has("/active/"), "no form that the role does not include");
    let key = page.hidden("/console/logout/")["form_key"].clone();
    for action in ["active/", "rights/", "sessions/end/", "reset/"] {
        let form = fields([("form_key", &*key), ("reason", "x"), ("confirm", "sara"), ("active", "false")]);
        let refused = viewer.post(&format!("{path}{action}"), form).await;
        assert_eq!(refused.status, 403, "{action}");
    }
    assert_eq!(viewer.get("/console/users/export/").await.status, 403);

    // Support acts on users, and never on those with rights.
    let mut support = with_role(&gateway, "helper", Role::Support).await;
    let root = live.identity.superuser_create(&machine(), "root", &Password::new("kavir darya 7"), "").await;
    let root = root.expect("made").id;
    let page = support.get(&format!("/console/users/{root}/")).await;
    let action = format!("/console/users/{root}/active/");
    let refused = support.submit(&page, &action, &[("reason", "x"), ("confirm", "root")]).await;
    assert_eq!(refused.status, 400, "{}", refused.html);
    assert!(live.identity.user(root).await.expect("read").expect("there").active);
    let page = support.get(&path).await;
    let action = format!("{path}active/");
    let done = support.submit(&page, &action, &[("reason", "asked for it"), ("confirm", "sara")]).await;
    assert_eq!((done.status, done.address.as_str()), (200, &*format!("{path}?done=1")));

    // A role that is taken ends the sessions.
    let helper = live.identity.user_find("helper").await.expect("read").expect("there").id;
    let logins = live.generation.console.desk.console();
    logins.role_set(&machine(), helper, None, &Reason::of_command()).await.expect("taken");
    assert!(support.get("/console/").await.address.starts_with("/console/login/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_asks_for_reason_and_name_and_is_in_the_log() {
    let gateway = TestGateway::start(BOTH).await;
    let live = gateway.app.live();
    let user = live
        .identity
        .register(BY_PASSWORD, "sara", &Password::new("kavir darya 7"), "", None)
        .await
        .expect("made");
    let mut browser = Browser::of(&gateway, "root").await;
    let path = format!("/console/users/{}/", user.id);
    let action = format!("{path}active/");
    let page = browser.get(&path).await;
    let refused = browser.submit(&page, &action, &[("reason", "lost phone"), ("confirm", "sar")]).await;
    assert_eq!(refused.status, 400);
    assert!(refused.has(">lost phone</textarea>"), "what was typed is kept: {}", refused.html);
    let refused = browser.submit(&page, &action, &[("reason", " "), ("confirm", "sara")]).await;
    assert_eq!(refused.status, 400);
    let done = browser.submit(&page, &action, &[("reason", "lost phone"), ("confirm", "sara")]).await;
    assert!(done.has("انجام شد."), "{}", done.html);
    live.identity.audit().flush().await;
    let log = browser.get("/console/audit/?event=user_disabled").await;
    for text in ["lost phone", "active → disabled", "user_disabled"] {
        assert!(log.has(text), "{text}: {}", log.html);
    }
    let csv = browser.get("/console/audit/export/?event=user_disabled").await;
    assert!(csv.headers["content-type"].to_str().is_ok_and(|kind| kind.starts_with("text/csv")));
    assert!(csv.has(",active,disabled,lost phone"), "{}", csv.html);
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_found_by_parts_and_filters_in_both_languages() {
    let gateway = TestGateway::start(BOTH).await;
    let live = gateway.app.live();
    for name in ["alireza", "علیرضا", "sara"] {
        live.identity
            .register(BY_PASSWORD, name, &Password::new("kavir darya 7"), "", None)
            .await
            .expect("made");
    }
    gateway.login("09121234567").await;
    let mut browser = Browser::of(&gateway, "root").await;
    let names = |shown: &Shown| {
        let all = ["alireza", "علیرضا", "sara", "G0-09121234567", "root"];
        let rows = shown.html.split_once("<tbody>").map_or("", |(_, rows)| rows);
        all.into_iter().filter(|name| rows.contains(&format!(">{name}<"))).collect::<Vec<_>>()
    };
    for (query, expected) in [
        ("?q=ali", vec!["alireza"]),
        ("?q=%D8%B1%D8%B6%D8%A7", vec!["علیرضا"]),
        // Persian digits, and a country code.
        ("?q=%DB%B1%DB%B2%DB%B3", vec!["G0-09121234567"]),
        ("?q=%2B98912", vec!["G0-09121234567"]),
        ("?rights=superuser", vec!["root"]),
        ("?state=disabled", vec![]),
        ("?q=sara&state=active", vec!["sara"]),
        ("?until=1380/01/01", vec![]),
        ("?from=2020-01-01&q=sara", vec!["sara"]),
    ] {
        let shown = browser.get(&format!("/console/users/{query}")).await;
        assert_eq!((shown.status, names(&shown)), (200, expected), "{query}");
    }
    let wrong = browser.get("/console/users/?from=1405/13/01&q=sara").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.has("value=\"1405/13/01\"") && wrong.has("value=\"sara\""), "what was typed is kept");
    assert!(wrong.has("lang=\"fa\" dir=\"rtl\"") && wrong.has("تاریخ را مانند"));
    let csv = browser.get("/console/users/export/?q=sara").await;
    assert_eq!(csv.html.lines().count(), 2, "{}", csv.html);

    let page = browser.get("/console/users/?q=ali").await;
    let english = browser.submit(&page, "/console/me/language/", &[]).await;
    assert_eq!(english.address, "/console/users/?q=ali");
    assert!(english.has("lang=\"en\" dir=\"ltr\"") && english.has("<h1><bdi dir=\"auto\">Users</bdi></h1>"));
    let wrong = browser.get("/console/users/?from=x").await;
    assert!(wrong.has("Write a date like 1405/09/05 or 2026-11-26."));
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_user_got_no_code_is_on_the_users_page() {
    let gateway = TestGateway::start(BOTH).await;
    gateway.login("09121234567").await;
    let live = gateway.app.live();
    let user = live.identity.user_find("09121234567").await.expect("read").expect("there");
    let mut browser = Browser::of(&gateway, "root").await;
    let page = browser.get(&format!("/console/users/{}/", user.id)).await;
    assert!(page.has("چرا کد نرسید؟") && page.has(">accepted<"), "{}", page.html);
    let list = browser
        .get("/console/messages/?number=%DB%B0%DB%B9%DB%B1%DB%B2%DB%B1%DB%B2%DB%B3%DB%B4%DB%B5%DB%B6%DB%B7")
        .await;
    assert!(list.has("09121234567"), "{}", list.html);
    let rows = Shown { html: between(&list, "<tbody>", "</tbody>").to_owned(), ..list };
    let link = between(&rows, "<a href=\"/console/messages/", "/").to_owned();
    let one = browser.get(&format!("/console/messages/{link}/")).await;
    assert!(one.has("پنهان (کد یک‌بارمصرف)"), "a code is not shown: {}", one.html);
    assert_eq!(browser.get("/console/messages/?number=abc").await.status, 400);
    assert_eq!(browser.get("/console/messages/1/").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_name_changes_nothing() {
    let gateway = TestGateway::start(BOTH).await;
    let login = gateway.login("09121234567").await;
    let hostile = "<img src=x onerror=alert(1)>\u{202e}\u{1b}[31m\"'";
    let request = gateway.client.patch(gateway.at("/me/")).bearer_auth(&login.access);
    let changed = chelseru_tests::Answer::of(
        request.json(&serde_json::json!({"first_name": hostile, "last_name": "\u{2066}&amp;</td>"})),
    )
    .await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let mut browser = Browser::of(&gateway, "root").await;
    for path in ["/console/users/?q=0912", "/console/users/1/", "/console/users/?q=%3Cscript%3E%22%27"] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        for bad in ["<img", "<script>", "\u{202e}", "\u{1b}", "&amp;</td>", "\"'"] {
            assert!(!page.has(bad), "{path} {bad}");
        }
    }
    // A megabyte in any field is refused or cut, and never answered with a megabyte.
    let megabyte = "x".repeat(1_000_000);
    let form = fields([("username", &*megabyte), ("password", &*megabyte), ("code", &*megabyte)]);
    let answer = Browser::new(&gateway).post("/console/login/", form).await;
    assert!(answer.status >= 400 && answer.html.len() < 20_000, "{} {}", answer.status, answer.html.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_found_asked_about_and_refunded_after_a_preview() {
    let shop = Shop::open("[payment]\nstaff_users = [1]\n").await;
    let lost = shop.create(json!({"amount": 1000, "order_id": "o-1"})).await;
    shop.decide(&lost, "pay_lost").await;
    let gateway = &shop.gateway;
    let mut browser = Browser::of(gateway, "root").await;
    let id = lost["id"].as_u64().expect("a number");
    let path = format!("/console/payments/{id}/");
    let rows = |shown: &Shown| shown.html.matches(&format!("href=\"{path}\"")).count();
    for (query, found) in [
        ("", 1),
        ("?order=o-1", 1),
        ("?order=other", 0),
        ("?user=1", 1),
        ("?amount=%DB%B1%DB%B0%DB%B0%DB%B0", 1),
        ("?amount_min=1001", 0),
        ("?state=paid", 0),
        ("?until=1380/01/01", 0),
    ] {
        let list = browser.get(&format!("/console/payments/{query}")).await;
        assert_eq!((list.status, rows(&list)), (200, found), "{query}: {}", list.html);
    }
    for wrong in ["?amount=x", "?user=nobody", "?state=x", "?from=x"] {
        assert_eq!(browser.get(&format!("/console/payments/{wrong}")).await.status, 400, "{wrong}");
    }
    let all = browser.get("/console/payments/?order=o-1").await;
    assert!(all.has("href=\"/console/payments/?order=o-1&#38;sums=1\""), "{}", all.html);
    let summed = browser.get("/console/payments/?order=o-1&sums=1").await;
    assert!(summed.has("۱٬۰۰۰ تومان (۱۰٬۰۰۰ ریال)"), "{}", summed.html);
    let page = browser.get(&path).await;
    let asked = browser.submit(&page, &format!("{path}ask/"), &[]).await;
    assert!(asked.has("state good\"><bdi dir=\"auto\">paid"), "{}", asked.html);

    let refund = format!("{path}refund/");
    let order = [("to", "payer_outside"), ("amount", "۴۰۰"), ("reason", "half of it broke")];
    let preview = browser.submit(&asked, &refund, &order).await;
    assert_eq!(preview.status, 200, "{}", preview.html);
    assert!(preview.has("۴۰۰ تومان (۴٬۰۰۰ ریال)") && preview.has("half of it broke"), "{}", preview.html);
    assert!(browser.get(&path).await.has("name=\"amount\" value=\"\""), "nothing happened yet");
    let number = id.to_string();
    let mut confirmed = order.to_vec();
    confirmed.push(("confirm", "0"));
    assert_eq!(browser.submit(&preview, &refund, &confirmed).await.status, 400, "a wrong number");
    confirmed.pop();
    confirmed.push(("confirm", &number));
    let done = browser.submit(&preview, &refund, &confirmed).await;
    assert!(done.address.ends_with("?done=1"), "{}", done.html);
    let too_much = [("to", "payer_outside"), ("amount", "700"), ("reason", "x"), ("confirm", &*number)];
    assert_eq!(browser.submit(&asked, &refund, &too_much).await.status, 400, "more than is left");
    gateway.app.live().identity.audit().flush().await;
    let log = browser.get("/console/audit/?event=money_decided").await;
    assert!(log.has(&format!("payment {id}")) && log.has("half of it broke"), "{}", log.html);
    let csv = browser.get("/console/payments/export/?order=o-1").await;
    assert!(csv.html.lines().nth(1).is_some_and(|line| line.contains(",10000,4000,o-1,")), "{}", csv.html);
    shop.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_is_corrected_with_a_reason_and_never_below_zero() {
    let shop = Shop::open("").await;
    shop.charge(1000).await;
    let mut browser = Browser::of(&shop.gateway, "root").await;
    let found = browser.get("/console/wallets/?user=1").await;
    assert_eq!(found.address, "/console/wallets/1/");
    assert!(found.has("۱٬۰۰۰ تومان"), "{}", found.html);
    let name = shop.gateway.app.live().identity.user_find("1").await.expect("read").expect("there").username;
    let action = "/console/wallets/1/correct/";
    let correct = |direction, amount| {
        [("direction", direction), ("amount", amount), ("reason", "goodwill"), ("confirm", &*name)]
    };
    let refused = browser.submit(&found, action, &correct("out", "۱۰۰۱")).await;
    assert_eq!(refused.status, 400);
    assert!(refused.has("موجودی کافی نیست.") && refused.has("value=\"۱۰۰۱\""), "{}", refused.html);
    assert_eq!(browser.submit(&found, action, &correct("in", "x")).await.status, 400);
    let done = browser.submit(&found, action, &correct("in", "500")).await;
    assert!(done.has("۱٬۵۰۰ تومان") && done.has(">correction<"), "{}", done.html);
    let mut viewer = with_role(&shop.gateway, "viewer", Role::Viewer).await;
    let page = viewer.get("/console/wallets/1/").await;
    assert!(page.status == 200 && !page.has(action));
    shop.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_operators_are_made_and_taken() {
    let gateway = TestGateway::start(BOTH).await;
    let mut browser = Browser::of(&gateway, "root").await;
    let page = browser.get("/console/keys/").await;
    let create = [("name", "shop"), ("scope", "operator:viewer"), ("daily_cap", ""), ("reason", "a report")];
    let made = browser.submit(&page, "/console/keys/create/", &create).await;
    let token = between(&made, "<code dir=\"ltr\">", "<").to_owned();
    assert!(token.starts_with("ck_"), "{}", made.html);
    assert!(!browser.get("/console/keys/").await.has(&token), "shown once");

    // The key reads as a viewer, and changes nothing.
    let ask = async |method: reqwest::Method, path: &str, auth: &str| {
        let request = gateway.client.request(method, gateway.at(&format!("/operator/v1/{path}")));
        let request = request.header("authorization", auth);
        let request = if path.ends_with("able/") { request.json(&json!({"reason": "x"})) } else { request };
        Answer::of(request).await
    };
    let key = format!("Api-Key {token}");
    let users = ask(reqwest::Method::GET, "users/?search=ROO", &key).await;
    assert_eq!((users.status, &users.body["results"][0]["username"]), (200, &json!("root")), "{users:?}");
    let log = ask(reqwest::Method::GET, "audit/?event=key_created", &key).await;
    assert_eq!(log.status, 200, "{log:?}");
    let refused = ask(reqwest::Method::POST, "users/1/disable/", &key).await;
    assert_eq!((refused.status, refused.header("x-error-code")), (403, "role_forbids"), "{refused:?}");
    for wrong in ["", "Bearer 1-x", "Api-Key ck_1_00", "Basic x"] {
        assert_eq!(ask(reqwest::Method::GET, "users/", wrong).await.status, 401, "{wrong}");
    }
    let page = browser.get("/console/keys/").await;
    let revoke = |name| [("id", "۱"), ("reason", "done"), ("confirm", name)];
    let unnamed = browser.submit(&page, "/console/keys/revoke/", &revoke("1")).await;
    assert!(unnamed.status == 400 && unnamed.has("<bdi>shop</bdi>"), "which key it is: {}", unnamed.html);
    assert_eq!(ask(reqwest::Method::GET, "users/", &key).await.status, 200);
    let gone = browser.submit(&page, "/console/keys/revoke/", &revoke("shop")).await;
    assert!(gone.address.ends_with("?done=1"), "{}", gone.html);
    assert_eq!(ask(reqwest::Method::GET, "users/", &key).await.status, 401);

    let live = gateway.app.live();
    live.identity
        .register(BY_PASSWORD, "sara", &Password::new("kavir darya 7"), "", None)
        .await
        .expect("made");
    let page = browser.get("/console/operators/").await;
    let set = |user, role| [("user", user), ("role", role), ("reason", "joined us"), ("confirm", user)];
    let unnamed = [("user", "sara"), ("role", "support"), ("reason", "joined us")];
    assert_eq!(browser.submit(&page, "/console/operators/role/", &unnamed).await.status, 400);
    assert_eq!(browser.submit(&page, "/console/operators/factor/", &unnamed).await.status, 400);
    let own = browser.submit(&page, "/console/operators/role/", &set("root", "none")).await;
    assert_eq!(own.status, 400);
    let nobody = browser.submit(&page, "/console/operators/role/", &set("nobody", "viewer")).await;
    assert!(nobody.status == 400 && nobody.has("value=\"nobody\""));
    let done = browser.submit(&page, "/console/operators/role/", &set("sara", "support")).await;
    assert!(done.has(">sara<") && done.has("پشتیبانی"), "{}", done.html);
    let link = browser.submit(&page, "/console/operators/link/", &[("user", "sara")]).await;
    let address = between(&link, "<code dir=\"ltr\">", "<").to_owned();
    let mut sara = Browser::new(&gateway);
    let shown = sara.get(&address).await;
    assert_eq!(sara.submit(&shown, "/console/link/", &[]).await.address, "/console/me/");
    // What the role does not include is neither in the menu nor served.
    let page = sara.get("/console/").await;
    assert!(!page.has("href=\"/console/operators/\"") && page.has("href=\"/console/users/\""));
    for path in ["/console/operators/", "/console/keys/", "/console/audit/export/"] {
        assert_eq!(sara.get(path).await.status, 403, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_api_logs_in_with_the_second_factor_and_acts() {
    let gateway = TestGateway::start(CODES_ONLY).await;
    let mut browser = Browser::of(&gateway, "root").await;
    let setup = browser.get("/console/me/factor/").await;
    let secret = between(&setup, "class=\"code\">", "<").to_owned();
    let done = browser.submit(&setup, "/console/me/factor/", &[("code", &*code(&secret))]).await;
    let recovery = between(&done, "<code dir=\"ltr\">", "<").to_owned();
    let path = "/operator/v1/login/";
    let login = |code: &str| json!({"username": "root", "password": "kavir darya 7", "code": code});
    let refused = gateway.post(path, login("000000")).await;
    assert_eq!((refused.status, refused.header("x-error-code")), (403, "operator_login_refused"));
    assert_eq!(gateway.post(path, json!({"username": "root"})).await.status, 400);
    let entered = gateway.post(path, login(&recovery)).await;
    assert_eq!(entered.status, 200, "{entered:?}");
    let token = entered.body["token"].as_str().expect("a token").to_owned();
    gateway.login("09121234567").await;
    let act = async |act: &str, body: serde_json::Value| {
        let request = gateway.client.post(gateway.at(&format!("/operator/v1/users/2/{act}/")));
        Answer::of(request.bearer_auth(&token).json(&body)).await
    };
    assert_eq!(act("disable", json!({})).await.status, 400, "without a reason");
    let disabled = act("disable", json!({"reason": "asked for it"})).await;
    assert_eq!((disabled.status, &disabled.body["is_active"]), (200, &json!(false)), "{disabled:?}");
    assert_eq!(act("enable", json!({"reason": "came back"})).await.body["is_active"], true);
    let request = gateway.client.get(gateway.at("/operator/v1/users/2/")).bearer_auth(&token);
    assert_eq!(Answer::of(request).await.body["mobile_number"], "09121234567");
    // A one-time link for an operator; a key, even an admin's, gets none.
    let link = async |user: &str, auth: &str| {
        let request = gateway.client.post(gateway.at("/operator/v1/operators/link/"));
        Answer::of(request.header("authorization", auth).json(&json!({"user": user}))).await
    };
    let bearer = format!("Bearer {token}");
    assert_eq!(link("2", &bearer).await.status, 400, "no operator");
    let made = link("root", &bearer).await;
    assert_eq!((made.status, &made.body["username"]), (200, &json!("root")), "{made:?}");
    let address = format!("/console/link/?token={}", made.body["token"].as_str().expect("a token"));
    let mut other = Browser::new(&gateway);
    let shown = other.get(&address).await;
    assert_eq!(other.submit(&shown, "/console/link/", &[]).await.address, "/console/me/");
    let program = Program::of(&gateway, "operator:admin").await;
    let refused = program.post("/operators/link/", json!({"user": "root"})).await;
    assert_eq!((refused.status, refused.header("x-error-code")), (403, "role_forbids"), "{refused:?}");
    // The clients' listener has none of it, and no page of the console.
    for path in ["/operator/v1/users/", "/operator/v1/login/"] {
        let answer = gateway.client.get(format!("{}{path}", gateway.url)).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 404, "{path}");
    }
    let public = gateway.url.replace("/drfchelseru", "/console/");
    assert_eq!(gateway.client.get(public).send().await.expect("an answer").status().as_u16(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_prints_a_link_on_a_store_and_through_a_gateway() {
    let dir = folder(BOTH);
    let user = |arguments: &[&str]| {
        let output = process::run(dir.path(), &[&["user"], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    user(&["create-superuser", "root"]);
    let address = |printed: &str| {
        let link = printed.lines().find_map(|line| line.strip_prefix("link: http://")).expect("a link");
        format!("/{}", link.split_once('/').expect("a path").1)
    };
    let made_before = address(&user(&["console-link", "root"]));
    let nobody = process::run(dir.path(), &["user", "set-role", "nobody", "support"]);
    assert_eq!(nobody.status.code(), Some(1));
    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    let enter = async |address: &str| {
        let mut browser = Browser::new(&gateway);
        let page = browser.get(address).await;
        browser.submit(&page, "/console/link/", &[]).await.address
    };
    assert_eq!(enter(&made_before).await, "/console/me/");
    let through = |arguments: &[&str]| {
        let output = process::run(gateway.dir.path(), &[&["user"], arguments].concat());
        (output.status.success(), String::from_utf8(output.stdout).expect("text"))
    };
    let (made, printed) = through(&["console-link", "root"]);
    assert!(made, "{printed}");
    assert_eq!(enter(&address(&printed)).await, "/console/me/");
    let password = Password::new("kavir darya 7");
    gateway.app.live().identity.register(BY_PASSWORD, "sara", &password, "", None).await.expect("made");
    assert!(!through(&["console-link", "sara"]).0, "no operator yet");
    assert!(through(&["set-role", "sara", "support"]).0);
    let (made, printed) = through(&["console-link", "sara"]);
    assert!(made, "{printed}");
    assert_eq!(enter(&address(&printed)).await, "/console/me/");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_of_the_console_is_recorded() {
    // Nothing listens there.
    let endpoint = format!(
        "{BOTH}[webhooks.endpoints.SHOP]\nurl = \"http://127.0.0.1:9/hook\"\nsecret = \"whsec_{}=\"\n\
         hosts = [\"127.0.0.1:9\"]\n",
        "k".repeat(43)
    );
    let gateway = TestGateway::start(&endpoint).await;
    let mut browser = Browser::of(&gateway, "root").await;
    Browser::of(&gateway, "root").await;
    let me = browser.get("/console/me/").await;
    let ended = browser.submit(&me, "/console/me/sessions/end/", &[("session", "")]).await;
    assert!(ended.address.ends_with("?done=1"), "{}", ended.html);
    let setup = browser.get("/console/me/factor/").await;
    let secret = between(&setup, "class=\"code\">", "<").to_owned();
    browser.submit(&setup, "/console/me/factor/", &[("code", &*code(&secret))]).await;
    let wrong = fields([("username", "root"), ("password", "wrong"), ("code", "000000")]);
    Browser::new(&gateway).post("/console/login/", wrong).await;
    with_role(&gateway, "viewer", Role::Viewer).await;
    browser.get("/console/users/export/").await;
    let page = browser.get("/console/webhooks/").await;
    let sent = browser.submit(&page, "/console/webhooks/test/", &[("endpoint", "SHOP")]).await;
    assert!(sent.address.ends_with("?done=1"), "{}", sent.html);
    // The event is listed, shown and sent again.
    let list = browser.get("/console/webhooks/").await;
    let rows = Shown { html: between(&list, "<tbody>", "</tbody>").to_owned(), ..list };
    let event = between(&rows, "<a href=\"/console/webhooks/", "/").to_owned();
    let one = browser.get(&format!("/console/webhooks/{event}/")).await;
    assert!(one.status == 200 && one.has(&event), "{}", one.html);
    assert_eq!(browser.get("/console/webhooks/evt_999999/").await.status, 404);
    let missing = browser.submit(&page, "/console/webhooks/test/", &[("endpoint", "OTHER")]).await;
    assert_eq!(missing.status, 404);

    gateway.app.live().identity.audit().flush().await;
    for event in [
        "console_login",
        "console_login_failed",
        "console_session_ended",
        "console_link_made",
        "second_factor_changed",
        "operator_role_changed",
        "list_exported",
        "webhook_replayed",
    ] {
        let log = browser.get(&format!("/console/audit/?event={event}")).await;
        assert!(log.has("<tbody>"), "{event} was not recorded");
        assert!(!log.has("kavir") && !log.has(&secret), "{event} holds a secret");
    }
}
