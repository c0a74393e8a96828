//! What operators do to people and messages at the console, and that each act does what its page says.

use std::collections::BTreeMap;

use chelseru_domain::login::password::Password;
use chelseru_domain::operator::api_key::ApiKeys;
use chelseru_tests::browser::Browser;
use chelseru_tests::{Answer, BY_PASSWORD, PATIENCE, TestGateway, machine};
use serde_json::json;
use tokio::time::Instant;

use super::payments::{NUMBER, Shop};

#[tokio::test(flavor = "multi_thread")]
async fn a_cap_on_codes_is_shown_and_lifted() {
    let gateway = TestGateway::start("[sms.shield]\nnumber_per_hour_max = 1\n").await;
    gateway.login("09121234567").await;
    let user = gateway.app.live().identity.user_find("09121234567").await.expect("read").expect("there").id;
    let send = async || {
        let body = json!({"mobile_number": "09121234567"});
        Answer::of(gateway.client.post(gateway.at("/otp/send/")).json(&body)).await
    };
    let refused = send().await;
    assert_eq!(refused.status, 429, "{refused:?}");
    let mut browser = Browser::of(&gateway, "root").await;
    let path = format!("/console/users/{user}/");
    let page = browser.get(&path).await;
    assert!(page.has("سقف ساعت این شماره"), "{}", page.html);
    let lift = format!("{path}lift/");
    assert_eq!(browser.submit(&page, &lift, &[("reason", "")]).await.status, 400);
    assert_eq!(send().await.status, 429, "nothing was lifted without a reason");
    let lifted = browser.submit(&page, &lift, &[("reason", "called us")]).await;
    assert!(lifted.address.ends_with("?done=1") && lifted.has("همین حالا فرستاده می‌شود"), "{}", lifted.html);
    let sent = send().await;
    assert_eq!(sent.status, 200, "{sent:?}");
    // Now a code is pending, and lifting voids it.
    let code = gateway.sandbox_code("09121234567").await;
    let page = browser.get(&path).await;
    assert!(page.has("سقف ساعت") || page.has("یک کد معتبر"), "{}", page.html);
    browser.submit(&page, &lift, &[("reason", "never arrived")]).await;
    let body = json!({"mobile_number": "09121234567", "code": code});
    let old = Answer::of(gateway.client.post(gateway.at("/authenticate/")).json(&body)).await;
    assert!(old.status >= 400, "a lifted code opens nothing: {old:?}");
    gateway.app.live().identity.audit().flush().await;
    let log = browser.get("/console/audit/?event=cap_lifted").await;
    assert!(log.has("called us") && log.has("never arrived"), "{}", log.html);
    assert!(!log.has("09121234567"), "numbers are masked: {}", log.html);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_exported_and_erased_and_money_stands_in_the_way() {
    let shop = Shop::open("").await;
    shop.charge(1000).await;
    let gateway = &shop.gateway;
    let mut browser = Browser::of(gateway, "root").await;
    let user = gateway.app.live().identity.user_find(NUMBER).await.expect("read").expect("there");
    let path = format!("/console/users/{}/", user.id);
    let page = browser.get(&path).await;
    let copy = format!("{path}copy/");
    assert_eq!(browser.submit(&page, &copy, &[("reason", " ")]).await.status, 400);
    let archive = browser.submit(&page, &copy, &[("reason", "asked by mail")]).await;
    assert_eq!(archive.headers["content-type"], "application/zip");
    assert_eq!(archive.headers["cache-control"], "no-store");

    let erase = format!("{path}erase/");
    let form = [("reason", "asked by mail"), ("confirm", &*user.username), ("balance", "keep")];
    let kept = browser.submit(&page, &erase, &form).await;
    assert_eq!(kept.status, 400);
    assert!(kept.has("در کیف پول مانده است: ۱٬۰۰۰ تومان"), "{}", kept.html);
    let unnamed = [("reason", "asked by mail"), ("confirm", "someone"), ("balance", "forfeit")];
    assert_eq!(browser.submit(&page, &erase, &unnamed).await.status, 400);
    let form = [("reason", "asked by mail"), ("confirm", &*user.username), ("balance", "forfeit")];
    let erased = browser.submit(&page, &erase, &form).await;
    assert_eq!(erased.address, "/console/users/?done=1", "{}", erased.html);
    assert_eq!(browser.get(&path).await.status, 404);
    assert_eq!(shop.get("/me/").await.status, 401, "the session ended");
    gateway.app.live().identity.audit().flush().await;
    for event in ["user_exported", "user_erased_by_staff"] {
        let log = browser.get(&format!("/console/audit/?event={event}")).await;
        assert!(log.has("asked by mail"), "{event}: {}", log.html);
    }
    shop.check_ledger().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_session_of_a_user_is_ended() {
    let gateway = TestGateway::start("[auth]\nmethod = [\"OTP\", \"PASSWD\"]\n").await;
    let live = gateway.app.live();
    live.identity
        .register(BY_PASSWORD, "sara", &Password::new("kavir darya 7"), "", None)
        .await
        .expect("made");
    let login = async || {
        let body = json!({"username": "sara", "password": "kavir darya 7"});
        let answer = Answer::of(gateway.client.post(gateway.at("/login/")).json(&body)).await;
        answer.login().access
    };
    let (first, second) = (login().await, login().await);
    let user = live.identity.user_find("sara").await.expect("read").expect("there").id;
    let sessions = live.identity.user_sessions(&machine(), user).await.expect("read");
    let mut browser = Browser::of(&gateway, "root").await;
    let path = format!("/console/users/{user}/");
    let page = browser.get(&path).await;
    let end = format!("{path}sessions/end/");
    let mut form: BTreeMap<String, String> = page.hidden(&end);
    form.insert("session".into(), sessions.last().expect("two").id.to_string());
    form.insert("reason".into(), "stolen".into());
    let done = browser.post(&end, form).await;
    assert_eq!(done.address, format!("{path}?done=1"), "{}", done.html);
    assert_eq!(gateway.get("/me/", Some(&first)).await.status, 401);
    assert_eq!(gateway.get("/me/", Some(&second)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_sent_again_and_a_code_is_not() {
    let gateway = TestGateway::start("").await;
    gateway.login("09121234567").await;
    let keys = ApiKeys::new(gateway.app.store.clone(), gateway.app.clock.clone());
    let made = keys.create("shop", "sms", None).await.expect("made");
    let body = json!({"mobile_number": "09120000001", "message_text": "your parcel is here"});
    let request = gateway.client.post(gateway.at("/message/send/")).json(&body);
    let sent = Answer::of(request.header("authorization", format!("Api-Key {}", made.token))).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    let mut browser = Browser::of(&gateway, "root").await;
    let link = async |browser: &mut Browser, number: &str| {
        let list = browser.get(&format!("/console/messages/?number={number}")).await;
        let rows = list.html.split_once("<tbody>").expect("rows").1;
        let rest = rows.split_once("<a href=\"").expect("a link").1;
        (rest.split('"').next().expect("an address").to_owned(), rows.matches("<tr>").count())
    };
    let (first, _) = link(&mut browser, "09120000001").await;
    let page = browser.get(&first).await;
    let again = format!("{first}again/");
    assert_eq!(browser.submit(&page, &again, &[("reason", "")]).await.status, 400);
    let resent = browser.submit(&page, &again, &[("reason", "the phone was off")]).await;
    assert!(resent.address.ends_with("?done=1") && !resent.address.starts_with(&first), "{}", resent.address);
    assert!(resent.has("your parcel is here"), "{}", resent.html);
    let second = resent.address.replace("?done=1", "");
    let until = Instant::now() + PATIENCE;
    while !browser.get(&second).await.has("state good") {
        assert!(Instant::now() < until, "it was not sent: {}", browser.get(&second).await.html);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(link(&mut browser, "09120000001").await.1, 2);
    gateway.app.live().identity.audit().flush().await;
    assert!(browser.get("/console/audit/?event=message_resent").await.has("the phone was off"));

    let (code, _) = link(&mut browser, "09121234567").await;
    let page = browser.get(&code).await;
    assert!(!page.has("again/"), "no form for a code");
    let mut form = page.hidden("/console/logout/");
    form.insert("reason".into(), "x".into());
    assert_eq!(browser.post(&format!("{code}again/"), form).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_language_of_a_login_is_kept_and_its_way_back_too() {
    let gateway = TestGateway::start("").await;
    let mut browser = Browser::of(&gateway, "root").await;
    let user = gateway.app.live().identity.user_find("root").await.expect("read").expect("there").id;
    let out = browser.get("/console/users/?q=ali").await;
    assert!(out.has("lang=\"fa\""));
    let mut visitor = Browser::new(&gateway);
    let login = visitor.get("/console/users/?q=ali&state=active").await;
    let english = login.html.split_once("<a href=\"?language=en").expect("the other language").1;
    let query = english.split('"').next().expect("an address").replace("&#38;", "&");
    let login = visitor.get(&format!("/console/login/?language=en{query}")).await;
    assert!(login.has("lang=\"en\""));
    assert_eq!(login.hidden("/console/login/")["then"], "/console/users/?q=ali&state=active");

    let live = gateway.app.live();
    let logins = live.generation.console.desk.console();
    let enter = async |language: &str| {
        let link = logins.link_make(&machine(), user).await.expect("made").expect("an operator");
        let mut browser = Browser::new(&gateway);
        let page = browser.get(&format!("/console/link/?token={}{language}", link.token)).await;
        browser.submit(&page, "/console/link/", &[]).await
    };
    // A language that nobody asked for replaces none that is kept.
    assert!(enter("&language=en").await.has("<html lang=\"en\""));
    assert!(enter("").await.has("<html lang=\"en\""));
    assert!(enter("&language=fa").await.has("<html lang=\"fa\""));
    let mut browser = Browser::of(&gateway, "root").await;
    let page = browser.get("/console/users/?q=ali&state=active&done=1").await;
    let switched = browser.submit(&page, "/console/me/language/", &[]).await;
    assert_eq!(switched.address, "/console/users/?q=ali&state=active");
    assert!(switched.has("lang=\"en\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_the_cookie_belongs_to_this_host_only() {
    let gateway = TestGateway::start("[server]\ntrusted_proxies = [\"127.0.0.1\"]\n").await;
    let mut browser = Browser::of(&gateway, "root").await;
    let live = gateway.app.live();
    let user = live.identity.user_find("root").await.expect("read").expect("there").id;
    let logins = live.generation.console.desk.console();
    let link = logins.link_make(&machine(), user).await.expect("made").expect("an operator");
    let visitor = Browser::new(&gateway);
    let request = visitor.client().post(visitor.at("/console/link/")).form(&[("token", link.token)]);
    let answer = visitor.raw(request.header("x-forwarded-proto", "https")).await;
    let set = answer.headers()["set-cookie"].to_str().expect("text").to_owned();
    assert!(set.starts_with("__Host-chelseru_console="), "{set}");
    assert!(set.ends_with("; Path=/; Secure; HttpOnly; SameSite=Strict"), "{set}");
    let cookie = set.split(';').next().expect("a pair").to_owned();
    let (_, token) = cookie.split_once('=').expect("a pair");
    let status = async |cookie: &str, proto: &str| {
        let request = visitor.client().get(visitor.at("/console/users/"));
        let request = request.header("cookie", cookie).header("x-forwarded-proto", proto);
        visitor.raw(request).await.status().as_u16()
    };
    assert_eq!(status(&cookie, "https").await, 200);
    assert_eq!(status(&cookie, "http").await, 303, "not without TLS");
    let unmarked = format!("chelseru_console={token}");
    assert_eq!(status(&unmarked, "https").await, 303, "a neighbouring site can set this one");
    assert_eq!(browser.get("/console/users/").await.status, 200);
}
