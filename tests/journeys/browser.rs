//! Pages of other sites: preflights, and what a page may read of an answer.

use chelseru::http::openapi::{Audience, document};
use chelseru_tests::socket::Socket;
use chelseru_tests::{Answer, TestGateway};
use reqwest::Method;
use serde_json::json;

const APP: &str = "https://app.example";

/// What a browser asks before a call that a form could not make.
async fn preflight(gateway: &TestGateway, path: &str, origin: &str) -> Answer {
    let request = gateway.client.request(Method::OPTIONS, gateway.at(path));
    Answer::of(
        request
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "DELETE")
            .header("Access-Control-Request-Headers", "authorization,content-type,x-trace"),
    )
    .await
}

async fn get(gateway: &TestGateway, path: &str, origin: Option<&str>) -> Answer {
    let request = gateway.client.get(gateway.at(path));
    Answer::of(match origin {
        Some(origin) => request.header("Origin", origin),
        None => request,
    })
    .await
}

fn varies_by_origin(answer: &Answer) -> bool {
    answer.headers.get_all("vary").iter().any(|value| value == "Origin")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preflight_is_answered_before_credentials_on_every_route() {
    let gateway = TestGateway::start(&format!("[server]\norigins = [\"{APP}\"]\n")).await;
    let server = chelseru::config::Server { base_path: String::new(), ..Default::default() };
    let document = document(&server, Audience::Clients);
    let public = document["paths"].as_object().expect("paths").keys();
    // One that does not exist: the page reads its 404.
    for path in public.map(String::as_str).chain(["/no/such/route/"]) {
        let path = path.replace(['{', '}'], "");
        let answer = preflight(&gateway, &path, APP).await;
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{path}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), APP, "{path}");
        assert_eq!(answer.header("access-control-allow-credentials"), "true", "{path}");
        assert!(answer.header("access-control-allow-methods").contains("DELETE"), "{path}");
        assert_eq!(answer.header("access-control-allow-headers"), "authorization,content-type,x-trace");
        assert!(varies_by_origin(&answer), "{path}: {answer:?}");
        let refused = preflight(&gateway, &path, "https://evil.example").await;
        assert_eq!((refused.status, refused.header("x-error-code")), (403, "origin_refused"), "{path}");
        assert_eq!(refused.header("access-control-allow-origin"), "", "{path}");
    }
    // Without the preflight's header it is the original's OPTIONS.
    let request = gateway.client.request(Method::OPTIONS, gateway.at("/sessions/")).header("Origin", APP);
    let answer = Answer::of(request).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (401, APP));
    // No page calls the operators' listener.
    let answer = preflight(&gateway, "/status/", APP).await;
    assert_eq!(answer.header("access-control-allow-origin"), "", "{answer:?}");
    let answer = get(&gateway, "/status/", Some(APP)).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_page_reads_every_answer_and_others_none() {
    let gateway = TestGateway::start(&format!(
        "[server]\norigins = [\"{APP}\", \"null\", \"capacitor://localhost\"]\n"
    ))
    .await;
    for (path, status) in [("/health/", 200), ("/sessions/", 401), ("/sessions", 301), ("/nothing/", 404)] {
        for origin in [APP, "null", "capacitor://localhost"] {
            let answer = get(&gateway, path, Some(origin)).await;
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, origin));
            let exposed = answer.header("access-control-expose-headers").to_ascii_lowercase();
            for name in ["x-error-code", "x-request-id", "retry-after", "location", "etag", "content-range"] {
                assert!(exposed.split(", ").any(|known| known == name), "{name}: {exposed}");
            }
            assert!(exposed.contains("upload-offset") && exposed.contains("tus-resumable"), "{exposed}");
        }
        for origin in [
            Some("https://evil.example"),
            Some("https://app.example.evil.example"),
            Some("http://app.example"),
            Some("*"),
            None,
        ] {
            let answer = get(&gateway, path, origin).await;
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, ""));
            assert!(varies_by_origin(&answer), "a cache keeps the answers apart: {path} {origin:?}");
        }
    }
    // A page's call itself, with a token, which no other page may read.
    let login = gateway.login("09120000000").await;
    let request = gateway.client.get(gateway.at("/sessions/")).bearer_auth(&login.access);
    let answer = Answer::of(request.header("Origin", APP)).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, APP));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_word_for_all_pages_admits_none_with_credentials() {
    let gateway = TestGateway::start(&format!("[server]\norigins = [\"*\", \"{APP}\"]\n")).await;
    for (origin, allowed, credentials) in [(APP, APP, "true"), ("https://other.example", "*", "")] {
        for answer in
            [get(&gateway, "/health/", Some(origin)).await, preflight(&gateway, "/sessions/", origin).await]
        {
            assert_eq!(answer.header("access-control-allow-origin"), allowed, "{answer:?}");
            assert_eq!(answer.header("access-control-allow-credentials"), credentials, "{answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn origins_apply_live_and_sockets_follow_them() {
    let gateway = TestGateway::start("").await;
    let answer = preflight(&gateway, "/sessions/", APP).await;
    assert_eq!(answer.status, 401, "no page is admitted, so it is the original's OPTIONS");
    assert!(!varies_by_origin(&answer) && answer.header("access-control-allow-origin").is_empty());

    let login = gateway.login("09120000000").await;
    let at = format!("{}?token={}", gateway.at("/ws/"), login.access);
    let open = async |origin: &str| {
        let opened = Socket::open(&at, &[("Origin", origin)]).await;
        opened.map_or_else(|refusal| refusal.status, |_| 101)
    };
    assert_eq!(open("https://evil.example").await, 101, "a page needs a token anyway");

    gateway.edit_config(&format!("[server]\norigins = [\"{APP}\"]\n"));
    gateway.wait_for("the new origins", |status| status["config"]["generation"] == 2).await;
    let status = gateway.status().await;
    assert_eq!(status["config"]["restart_keys"], json!([]), "{status}");
    assert_eq!(preflight(&gateway, "/sessions/", APP).await.status, 204);
    assert_eq!((open(APP).await, open("https://evil.example").await), (101, 403));

    // Sockets may have a list of their own.
    let own = format!("[server]\norigins = [\"{APP}\"]\n[chat]\norigins = [\"https://chat.example\"]\n");
    gateway.edit_config(&own);
    gateway.wait_for("the sockets' own origins", |status| status["config"]["generation"] == 3).await;
    assert_eq!((open(APP).await, open("https://chat.example").await), (403, 101));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_and_the_documents_need_no_login_and_no_internet() {
    let gateway = TestGateway::start("").await;
    let page = gateway.client.get(gateway.at("/docs/")).send().await.expect("an answer");
    assert_eq!(page.status(), 200);
    let header = |name: &str| page.headers()[name].to_str().expect("ASCII").to_owned();
    assert!(header("content-type").starts_with("text/html"));
    assert!(header("content-security-policy").starts_with("default-src 'none'; style-src 'sha256-"));
    let page = page.text().await.expect("a page");
    for link in ["openapi.json", "asyncapi.json"] {
        assert!(page.contains(&format!("href=\"../{link}\"")), "{link}");
        let document = get(&gateway, &format!("/{link}"), None).await;
        assert_eq!(document.status, 200);
        assert!(document.body["info"]["title"].is_string(), "{link}");
    }
}
