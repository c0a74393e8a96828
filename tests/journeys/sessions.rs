//! The life of sessions: refreshed, repeated, stolen, listed, ended, expired.

use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::clock::{Clock, ManualClock, SystemClock};
use chelseru_domain::ids::{SessionId, UserId};
use chelseru_domain::login::identity::SessionsEnded;
use chelseru_tests::{Answer, Login, TestGateway};
use serde_json::{Value, json};

async fn refresh(gateway: &TestGateway, token: &str) -> Answer {
    gateway.post("/token/refresh/", json!({"refresh": token})).await
}

async fn delete(gateway: &TestGateway, path: &str, access: &str) -> Answer {
    Answer::of(gateway.client.delete(gateway.at(path)).bearer_auth(access)).await
}

async fn logout(gateway: &TestGateway, access: &str) -> Answer {
    Answer::of(gateway.client.post(gateway.at("/logout/")).bearer_auth(access)).await
}

/// Returns true when an access token is accepted.
async fn opens(gateway: &TestGateway, login: &Login) -> bool {
    let answer = gateway.get("/sessions/", Some(&login.access)).await;
    assert!([200, 401].contains(&answer.status), "{answer:?}");
    answer.status == 200
}

async fn clocked(config: &str) -> (TestGateway, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    (TestGateway::start_at(config, clock.clone()).await, clock)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_rotates_and_a_repeat_after_a_lost_answer_works() {
    let gateway = TestGateway::start("").await;
    let first = gateway.login("09120001001").await;
    let second = refresh(&gateway, &first.refresh).await.login();
    assert_ne!(first.refresh, second.refresh);
    assert!(opens(&gateway, &second).await);
    // After a lost answer, the same token gets the same successor.
    let again = refresh(&gateway, &first.refresh).await.login();
    assert_eq!(again.refresh, second.refresh);
    let third = refresh(&gateway, &again.refresh).await.login();
    assert!(opens(&gateway, &third).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_refresh_token_ends_the_session() {
    let gateway = TestGateway::start("").await;
    let first = gateway.login("09120001002").await;
    let second = refresh(&gateway, &first.refresh).await.login();
    let third = refresh(&gateway, &second.refresh).await.login();
    let stolen = refresh(&gateway, &first.refresh).await;
    assert_eq!((stolen.status, &stolen.body["code"]), (401, &json!("token_not_valid")), "{stolen:?}");
    assert_eq!(refresh(&gateway, &third.refresh).await.status, 401);
    assert!(!opens(&gateway, &third).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_stays_good_until_its_successor_is_used() {
    let (gateway, clock) = clocked("").await;
    let first = gateway.login("09120001013").await;
    // The answer is lost: the phone is offline for most of a day, and repeats with what it has.
    let lost = refresh(&gateway, &first.refresh).await.login();
    clock.advance(Duration::from_secs(23 * 3600));
    let second = refresh(&gateway, &first.refresh).await.login();
    assert_eq!(second.refresh, lost.refresh);
    assert!(opens(&gateway, &second).await);
    let third = refresh(&gateway, &second.refresh).await.login();
    assert!(opens(&gateway, &third).await);
    // The successor was used, so whoever repeats now holds a copy.
    assert_eq!(refresh(&gateway, &first.refresh).await.status, 401);
    assert!(!opens(&gateway, &third).await);
    assert_eq!(refresh(&gateway, &third.refresh).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_refresh_token_may_be_repeated_for_the_configured_time_only() {
    let (gateway, clock) = clocked("[auth]\nrefresh_repeat_seconds = 10\n").await;
    let first = gateway.login("09120001003").await;
    let second = refresh(&gateway, &first.refresh).await.login();
    clock.advance(Duration::from_secs(10));
    refresh(&gateway, &first.refresh).await.login();
    clock.advance(Duration::from_secs(1));
    assert_eq!(refresh(&gateway, &first.refresh).await.status, 401);
    assert_eq!(refresh(&gateway, &second.refresh).await.status, 401, "the session has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_parallel_refreshes_leave_the_user_logged_in() {
    let gateway = TestGateway::start("").await;
    let login = gateway.login("09120001004").await;
    let answers = futures_util::future::join_all((0..20).map(|_| refresh(&gateway, &login.refresh))).await;
    let logins: Vec<Login> = answers.iter().map(Answer::login).collect();
    assert!(logins.iter().all(|login| login.refresh == logins[0].refresh));
    for login in &logins {
        assert!(opens(&gateway, login).await);
    }
    refresh(&gateway, &logins[19].refresh).await.login();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_survives_a_restart() {
    let gateway = TestGateway::start("").await;
    let first = gateway.login("09120001005").await;
    let second = refresh(&gateway, &first.refresh).await.login();
    let dir = gateway.stop().await;
    let gateway = TestGateway::start_in(dir, Arc::new(SystemClock)).await;
    assert_eq!(refresh(&gateway, &first.refresh).await.login().refresh, second.refresh);
    refresh(&gateway, &second.refresh).await.login();
    assert_eq!(refresh(&gateway, &first.refresh).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_refreshed_and_verified_in_the_words_of_the_originals_library() {
    let gateway = TestGateway::start("").await;
    let login = gateway.login("09120001006").await;
    for (path, field) in [("/token/refresh/", "refresh"), ("/token/verify/", "token")] {
        let missing = gateway.post(path, json!({})).await;
        assert_eq!((missing.status, missing.body), (400, json!({field: ["This field is required."]})));
        let garbage = gateway.post(path, json!({field: "x.y.z"})).await;
        assert_eq!((garbage.status, &garbage.body["detail"]), (401, &json!("Token is invalid")));
        assert_eq!(garbage.header("www-authenticate"), "Bearer realm=\"api\"");
        assert_eq!(gateway.get(path, None).await.status, 405);
    }
    let wrong = refresh(&gateway, &login.access).await;
    assert_eq!((wrong.status, &wrong.body["detail"]), (401, &json!("Token has wrong type")));
    for token in [&login.access, &login.refresh] {
        let good = gateway.post("/token/verify/", json!({"token": token})).await;
        assert_eq!((good.status, good.body), (200, json!({})));
    }
    // Many clients send an expired access token along; it must not matter.
    let request = gateway.client.post(gateway.at("/token/refresh/")).bearer_auth("expired.or.broken");
    let answer = Answer::of(request.json(&json!({"refresh": login.refresh}))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_ends_this_session_and_its_tokens() {
    let gateway = TestGateway::start("").await;
    let (here, there) = (gateway.login("09120001007").await, gateway.login("09120001007").await);
    let mut ended = gateway.app.live().identity.sessions_ended();
    let answer = logout(&gateway, &here.access).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(ended.try_recv().expect("announced"), SessionsEnded::One(UserId(1), SessionId(1)));
    assert!(!opens(&gateway, &here).await);
    assert!(opens(&gateway, &there).await);
    assert_eq!(refresh(&gateway, &here.refresh).await.status, 401);
    for token in [&here.access, &here.refresh] {
        assert_eq!(gateway.post("/token/verify/", json!({"token": token})).await.status, 401);
    }
    assert_eq!(logout(&gateway, &here.access).await.status, 401);
    assert_eq!(Answer::of(gateway.client.post(gateway.at("/logout/"))).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_ends_own_sessions_and_no_others() {
    let gateway = TestGateway::start("").await;
    let logins = [
        gateway.login("09120001008").await,
        gateway.login("09120001008").await,
        gateway.login("09120001008").await,
    ];
    let other = gateway.login("09120001009").await;
    let mut ended = gateway.app.live().identity.sessions_ended();

    for path in ["/sessions/4/", "/sessions/99/", "/sessions/abc/", "/sessions/18446744073709551616/"] {
        let answer = delete(&gateway, path, &logins[0].access).await;
        assert_eq!((answer.status, &answer.body["code"]), (404, &json!("not_found")), "{path}");
    }
    assert!(opens(&gateway, &other).await);
    assert!(ended.try_recv().is_err());

    let gone = delete(&gateway, "/sessions/2/", &logins[0].access).await;
    assert_eq!((gone.status, gone.text.as_str()), (204, ""));
    assert_eq!(ended.try_recv().expect("announced"), SessionsEnded::One(UserId(1), SessionId(2)));
    assert!(!opens(&gateway, &logins[1]).await);
    assert_eq!(delete(&gateway, "/sessions/2/", &logins[0].access).await.status, 404);

    let again = gateway.login("09120001008").await;
    let rest = delete(&gateway, "/sessions/", &logins[0].access).await;
    assert_eq!((rest.status, rest.body), (200, json!({"ended": 2})));
    assert!(opens(&gateway, &logins[0]).await);
    assert!(!opens(&gateway, &logins[2]).await && !opens(&gateway, &again).await);
    assert!(opens(&gateway, &other).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_out_of_place_is_announced_and_refused() {
    let gateway = TestGateway::start("[auth]\nsessions_per_user_max = 1\n").await;
    let first = gateway.login("09120001010").await;
    let mut ended = gateway.app.live().identity.sessions_ended();
    let second = gateway.login("09120001010").await;
    assert_eq!(ended.try_recv().expect("announced"), SessionsEnded::One(UserId(1), SessionId(1)));
    assert!(!opens(&gateway, &first).await && opens(&gateway, &second).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_it_idles_and_when_it_is_too_old() {
    let config = "[auth]\nrefresh_token_seconds = 1000\nsession_absolute_seconds = 2500\n";
    let (gateway, clock) = clocked(config).await;
    let idle = gateway.login("09120001011").await;
    clock.advance(Duration::from_secs(1000));
    let answer = refresh(&gateway, &idle.refresh).await;
    assert_eq!((answer.status, &answer.body["detail"]), (401, &json!("Token is expired")));

    let mut login = gateway.login("09120001011").await;
    for _ in 0..3 {
        clock.advance(Duration::from_secs(800));
        login = refresh(&gateway, &login.refresh).await.login();
    }
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&login.refresh).expect("a token").claims;
    let seconds = claims["exp"].as_u64().expect("exp") - claims["iat"].as_u64().expect("iat");
    assert!((99..=100).contains(&seconds), "the last refresh lives to the session's end: {seconds}");
    clock.advance(Duration::from_secs(100));
    assert_eq!(refresh(&gateway, &login.refresh).await.status, 401);
    assert!(!opens(&gateway, &login).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_subscribers_and_shortens_what_is_refreshed_next() {
    let gateway = TestGateway::start("").await;
    let login = gateway.login("09120001012").await;
    let mut ended = gateway.app.live().identity.sessions_ended();
    gateway.edit_config("[auth]\nrefresh_token_seconds = 400\n");
    gateway.wait_for("the reload", |status| status["config"]["generation"] == 2).await;
    let next = refresh(&gateway, &login.refresh).await.login();
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&next.refresh).expect("a token").claims;
    assert!(claims["exp"].as_u64() <= claims["iat"].as_u64().map(|iat| iat + 400));
    assert_eq!(logout(&gateway, &next.access).await.status, 200);
    assert!(ended.try_recv().is_ok());
}
