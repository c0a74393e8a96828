//! The real transport against a server on the loopback, which is the address that must be granted by itself.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use chelseru_plugin_host::{
    Egress, EgressOptions, Grants, Host, HostGrant, HostOptions, HttpError, HttpRequest, HttpResponse,
    Limits, Lookup, Method, Provider, Transport, Url,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::kit::*;

/// Answers every connection with the same bytes, once, and closes it.
struct Server {
    port: u16,
    requests: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(answer: Vec<u8>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let requests = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            loop {
                let Ok((mut socket, _)) = listener.accept().await else { return };
                let mut head = vec![0; 4096];
                let mut read = 0;
                while !head[..read].windows(4).any(|w| w == b"\r\n\r\n") {
                    match socket.read(&mut head[read..]).await {
                        Ok(0) | Err(_) => break,
                        Ok(n) => read += n,
                    }
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let _ = socket.write_all(&answer).await;
                let _ = socket.shutdown().await;
            }
        });
        Server { port, requests, task }
    }

    async fn ok(body: &str) -> Server {
        Server::start(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
            .await
    }

    fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn grants(entries: &[String]) -> Vec<HostGrant> {
    entries.iter().map(|e| e.parse().expect("an entry")).collect()
}

async fn get(grants: Grants, url: &str, response_bytes_max: usize) -> Result<HttpResponse, HttpError> {
    // DNS may be slow where there is none: then connecting ends first, as it does by default.
    let options = EgressOptions { connect_timeout: Duration::from_secs(1), ..EgressOptions::default() };
    Egress::new(Arc::new(grants), options)
        .send(HttpRequest {
            method: Method::GET,
            url: Url::parse(url).expect("a URL"),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: Duration::from_secs(10),
            response_bytes_max,
            ignores_body: false,
        })
        .await
}

async fn by_operator(entries: &[String], url: &str) -> Result<HttpResponse, HttpError> {
    get(Grants::by_operator(grants(entries)), url, 1 << 20).await
}

#[tokio::test]
async fn the_loopback_needs_the_operators_grant_of_that_very_address() {
    let server = Server::ok("hello").await;
    let port = server.port;
    let url = format!("http://127.0.0.1:{port}/");
    let answer = by_operator(&[format!("127.0.0.1:{port}")], &url).await.expect("granted");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    assert!(by_operator(&["127.0.0.1".to_owned()], &url).await.is_ok());
    assert_eq!(server.requests(), 2);
    for refused in [
        get(Grants::public_only(grants(&["127.0.0.1".to_owned()])), &url, 1000).await,
        by_operator(&["127.0.0.1:1".to_owned()], &url).await,
        by_operator(&["127.0.0.2".to_owned()], &url).await,
        by_operator(&[], &url).await,
    ] {
        assert!(matches!(refused, Err(HttpError::NotGranted(_))), "{refused:?}");
    }
    assert_eq!(server.requests(), 2);
}

#[tokio::test]
async fn a_name_that_resolves_to_the_loopback_is_refused_after_dns() {
    let server = Server::ok("hello").await;
    let port = server.port;
    let url = format!("http://localhost:{port}/");
    match by_operator(&["localhost".to_owned()], &url).await {
        Err(HttpError::NotGranted(text)) => {
            assert!(text.contains("localhost") && text.contains("not public"), "{text}")
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.requests(), 0);
    let both = [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
    assert_eq!(by_operator(&both, &url).await.map(|a| a.status), Ok(200));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let target = Server::ok("the target").await;
    let head = format!(
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{}/\r\ncontent-length: 5\r\n\r\nmoved",
        target.port
    );
    let server = Server::start(head.into_bytes()).await;
    let answer = by_operator(&["127.0.0.1".to_owned()], &format!("http://127.0.0.1:{}/", server.port))
        .await
        .expect("answers");
    assert_eq!((answer.status, &answer.body[..]), (302, &b"moved"[..]));
    assert_eq!((server.requests(), target.requests()), (1, 0));
}

#[tokio::test]
async fn an_answer_over_the_cap_is_too_large_announced_or_not() {
    let granted = || Grants::by_operator(grants(&["127.0.0.1".to_owned()]));
    let announced = Server::start(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".to_vec()).await;
    let url = format!("http://127.0.0.1:{}/", announced.port);
    // The head counts as well: `content-length` and `1000` are 18 bytes.
    assert_eq!(get(granted(), &url, 1000).await.map(|a| a.status), Err(HttpError::TooLarge(1018)));

    let mut bytes = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    bytes.resize(bytes.len() + 1000, b'x');
    let endless = Server::start(bytes).await;
    let url = format!("http://127.0.0.1:{}/", endless.port);
    assert_eq!(get(granted(), &url, 1000).await.map(|a| a.body.len()), Ok(1000));
    assert!(matches!(get(granted(), &url, 999).await, Err(HttpError::TooLarge(_))));
}

#[tokio::test]
async fn a_refused_connection_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let answer = by_operator(&["127.0.0.1".to_owned()], &format!("http://127.0.0.1:{port}/")).await;
    assert!(matches!(answer, Err(HttpError::NotSent(_))), "{answer:?}");
    let unknown = by_operator(&["no-such-host.invalid".to_owned()], "http://no-such-host.invalid/").await;
    assert!(matches!(unknown, Err(HttpError::NotSent(_))), "{unknown:?}");
    // TLS that never comes to be: nothing of the request was written.
    let plain = Server::ok("not TLS").await;
    let tls = by_operator(&["127.0.0.1".to_owned()], &format!("https://127.0.0.1:{}/", plain.port)).await;
    assert!(matches!(tls, Err(HttpError::NotSent(_))), "{tls:?}");
}

#[tokio::test]
async fn a_connection_cut_after_the_request_is_unanswered() {
    let one = ["127.0.0.1".to_owned()];
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\ncont", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal"]
    {
        let server = Server::start(answer.to_vec()).await;
        let result = by_operator(&one, &format!("http://127.0.0.1:{}/", server.port)).await;
        assert!(matches!(result, Err(HttpError::Unanswered(_))), "{result:?}");
        assert_eq!(server.requests(), 1, "a request is never repeated");
    }
}

#[tokio::test]
async fn no_answer_in_time_is_unanswered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let egress = Egress::new(
        Arc::new(Grants::by_operator(grants(&["127.0.0.1".to_owned()]))),
        EgressOptions::default(),
    );
    let request = HttpRequest {
        method: Method::POST,
        url: Url::parse(&format!("http://127.0.0.1:{port}/")).expect("a URL"),
        headers: vec![("x-a".to_owned(), "b".to_owned())],
        body: b"{}".to_vec(),
        timeout: Duration::from_millis(100),
        response_bytes_max: 1000,
        ignores_body: false,
    };
    assert_eq!(
        egress.send(request).await.map(|a| a.status),
        Err(HttpError::Unanswered("no whole answer in time".to_owned()))
    );
}

#[tokio::test]
async fn headers_that_belong_to_the_transport_are_refused() {
    let egress = Egress::new(
        Arc::new(Grants::by_operator(grants(&["127.0.0.1".to_owned()]))),
        EgressOptions::default(),
    );
    for (name, value) in [
        ("Host", "b.com"),
        ("content-length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("a b", "c"),
        ("x", "a\r\nb"),
    ] {
        let request = HttpRequest {
            method: Method::GET,
            url: Url::parse("http://127.0.0.1:1/").expect("a URL"),
            headers: vec![(name.to_owned(), value.to_owned())],
            body: Vec::new(),
            timeout: Duration::from_secs(1),
            response_bytes_max: 1000,
            ignores_body: false,
        };
        let result = egress.send(request).await;
        assert!(matches!(result, Err(HttpError::InvalidRequest(_))), "{name}: {result:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_reaches_a_granted_server_and_learns_what_went_wrong_otherwise() {
    let server = Server::ok("from outside").await;
    let host = host();
    let plugin = load(&host, &guest(FETCH)).await;
    let address = format!("127.0.0.1:{}", server.port);
    let bind = |hosts: Option<&[&str]>| {
        Provider::bind(&host, plugin.clone(), binding(&[], hosts, Limits::default())).expect("binds")
    };
    let url = format!("http://{address}/");
    assert_eq!(run(&bind(Some(&[&address])), &url).await, Ok("from outside".to_owned()));
    assert_eq!(run(&bind(None), &url).await, Ok("not-granted".to_owned()));
    assert_eq!(
        run(&bind(Some(&["localhost"])), &format!("http://localhost:{}/", server.port)).await,
        Ok("not-granted".to_owned())
    );
    assert_eq!(server.requests(), 1);
}

/// Sends eight requests of a millisecond each, to hosts that differ in their first letter: `http://a.test/`, ...
const SENDS_SHORTLY: &str = "(loop $l
    (i32.store8 (i32.add (local.get $in) (i32.const 7)) (i32.add (i32.const 97) (local.get $i)))
    (call $send (i32.const 0) (local.get $in) (local.get $len) (i32.const 0) (i32.const 0) (i32.const 0)
      (i32.const 0) (i32.const 1) (i32.const 1) (i32.const 768))
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br_if $l (i32.lt_u (local.get $i) (i32.const 8))))
    (call $ret (local.get $in) (local.get $len))";

#[test]
fn lookups_without_an_answer_hold_up_neither_blocking_threads_nor_other_providers() {
    /// Lookups of one provider at once.
    const PLACES: u32 = 4;
    let (release, held) = mpsc::channel::<()>();
    let (held, begun) = (Mutex::new(held), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&begun);
    let lookup = Lookup::new(move |name| {
        if name == "fine.test" {
            return Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]);
        }
        counted.fetch_add(1, Ordering::SeqCst);
        let _ = held.lock().expect("no panic").recv();
        Err(std::io::Error::other("no answer"))
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let host =
            Host::new(HostOptions { calls_max: 32, lookup, ..HostOptions::default() }).expect("a host");
        let plugin = load(&host, &guest(SENDS_SHORTLY)).await;
        let names: Vec<String> = (b'a'..=b'h').map(|letter| format!("{}.test", char::from(letter))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let bind = || Provider::bind(&host, plugin.clone(), binding(&[], Some(&names), Limits::default()));
        let slow = bind().expect("binds");
        let mut calls = 0;
        while calls < 50 || slow.stats().lookups_refused == 0 || begun.load(Ordering::SeqCst) < PLACES {
            assert_eq!(run(&slow, "http://a.test/").await, Ok("http://h.test/".to_owned()));
            calls += 1;
        }
        assert_eq!(begun.load(Ordering::SeqCst), PLACES);

        let patience = Duration::from_secs(60);
        tokio::time::timeout(patience, tokio::task::spawn_blocking(|| ()))
            .await
            .expect("a thread")
            .expect("ends");
        let server = Server::ok("from outside").await;
        let port = server.port;
        let hosts = [format!("fine.test:{port}"), format!("127.0.0.1:{port}")];
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let plugin = load(&host, &guest(FETCH)).await;
        let other =
            Provider::bind(&host, plugin, binding(&[], Some(&hosts), Limits::default())).expect("binds");
        let answer = run(&other, &format!("http://fine.test:{port}/")).await;
        assert_eq!(answer, Ok("from outside".to_owned()));
        assert_eq!(other.stats().lookups_refused, 0);

        // Its places are free again when the lookups return.
        drop(release);
        while begun.load(Ordering::SeqCst) == PLACES {
            assert!(run(&slow, "http://a.test/").await.is_ok());
        }
    });
}
