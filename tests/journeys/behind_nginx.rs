//! The gateway behind a real nginx: who gets what of the whole public surface, and that no path leads to the operators'
//! listener. Each journey runs once behind a stock `location /` block and once behind one that forwards addresses.
//! The operations come from the gateway's own document, so a new route is covered without a change here.

use std::collections::BTreeMap;

use chelseru::config::Server;
use chelseru::http::openapi::{Audience, document};
use chelseru_domain::login::password::Password;
use chelseru_tests::nginx::{FORWARDING, Nginx, STOCK};
use chelseru_tests::socket::Socket;
use chelseru_tests::{Answer, Login, PATIENCE, TestGateway, is_operators};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// In everything that only its owner may see.
const MARK: &str = "only-the-owners-7f3a";

const BASE: &str = "/drfchelseru";

const CONFIG: &str = "[auth]\nmethod = [\"OTP\", \"PASSWD\"]\n";
const TRUSTED: &str = "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n";

/// A gateway, and nginx before it. `None` where nginx is missing.
async fn open(directives: &str, config: &str) -> Option<(TestGateway, Nginx)> {
    let gateway = TestGateway::start(&format!("{CONFIG}{config}")).await;
    let upstream = gateway.url.trim_start_matches("http://").trim_end_matches(BASE).to_owned();
    let nginx = Nginx::start(&upstream, directives).await?;
    Some((gateway, nginx))
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    Anonymous,
    Owner,
    Other,
    Staff,
}

/// A street of four callers, one of whom owns one thing of each kind.
struct Street {
    gateway: TestGateway,
    nginx: Nginx,
    owner: Login,
    other: Login,
    staff: Login,
    /// The values of parameters in paths, by the start of the path under the base path. The longest start wins.
    things: BTreeMap<&'static str, Vec<(&'static str, String)>>,
}

impl Street {
    async fn open(directives: &str, config: &str) -> Option<Street> {
        let (gateway, nginx) = open(directives, config).await?;
        let owner = gateway.login("09120000001").await;
        let other = gateway.login("09120000002").await;
        let password = Password::new("kavir darya 7");
        gateway
            .app
            .live()
            .identity
            .superuser_create(&chelseru_tests::machine(), "root", &password, "")
            .await
            .expect("made");
        let body = json!({"username": "root", "password": "kavir darya 7"});
        let staff = gateway.post("/login/", body).await.login();
        let mut street = Street { gateway, nginx, owner, other, staff, things: BTreeMap::new() };
        street.furnish().await;
        Some(street)
    }

    fn token(&self, caller: Caller) -> Option<&str> {
        match caller {
            Caller::Anonymous => None,
            Caller::Owner => Some(&self.owner.access),
            Caller::Other => Some(&self.other.access),
            Caller::Staff => Some(&self.staff.access),
        }
    }

    /// A request through nginx. Paths have the base path already.
    fn request(&self, caller: Caller, method: &Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.nginx.address);
        let request = self.gateway.client.request(method.clone(), url).header("tus-resumable", "1.0.0");
        match self.token(caller) {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn make(&self, path: &str, body: Value) -> Value {
        let made =
            Answer::of(self.request(Caller::Owner, &Method::POST, &format!("{BASE}{path}")).json(&body));
        let made = made.await;
        assert!(matches!(made.status, 200 | 201), "{path}: {made:?}");
        made.body
    }

    /// Gives the owner one thing of each kind.
    async fn furnish(&mut self) {
        let number =
            |body: &Value| body["id"].as_u64().unwrap_or_else(|| panic!("no id: {body}")).to_string();
        let room = self.make("/chat/chatrooms/", json!({"users": [], "name": MARK})).await;
        let room = number(&room);
        let text = format!("text {MARK}");
        let message = self.make("/chat/messages/", json!({"chat_room": room, "text": text})).await;
        let organization = self.make("/chat/organizations/", json!({"uname": MARK, "name": MARK})).await;
        let file = self.upload(&room).await;
        let upload = self.begin_upload(&room).await;
        let payment = self.make("/payment/create/", json!({"amount": 5000, "order_id": MARK})).await;
        let payment = &payment["details"];
        let url = payment["gateway_url"].as_str().expect("an address");
        let decided = Answer::of(self.gateway.client.post(url).form(&[("action", "pay")])).await;
        // The bank sends the payer back to the address under which the client reached the gateway.
        Answer::of(self.gateway.client.get(decided.header("location"))).await;
        let spend = json!({"amount": 100, "hold": true, "order_id": MARK});
        let spend = self.make("/wallet/spend/", spend).await;
        let sessions =
            Answer::of(self.request(Caller::Owner, &Method::GET, &format!("{BASE}/sessions/"))).await;
        let session = &sessions.body[0]["id"];
        let media = file["file"].as_str().expect("a path").to_owned();
        let parts: Vec<&str> = media.split('/').collect();
        let media = ["year", "month", "day", "name"].into_iter().zip(parts[4..].iter());
        let owner = "1".to_owned();
        self.things = BTreeMap::from([
            ("/chat/chatrooms/", vec![("id", room.clone()), ("user", owner.clone())]),
            ("/chat/messages/", vec![("id", number(&message))]),
            ("/chat/requests/", vec![("id", room.clone())]),
            ("/chat/organizations/", vec![("id", number(&organization))]),
            ("/chat/files/", vec![("id", number(&file))]),
            ("/chat/{room}/", vec![("room", room)]),
            ("/media/", media.map(|(name, value)| (name, (*value).to_owned())).collect()),
            ("/message/file/tus/", vec![("upload", upload)]),
            ("/message/report/", vec![("provider", "x".to_owned()), ("secret", "x".to_owned())]),
            ("/message/", vec![("id", "1".to_owned())]),
            ("/payment/", vec![("id", number(payment))]),
            ("/staff/payments/", vec![("id", number(payment))]),
            ("/staff/wallets/", vec![("id", owner)]),
            ("/wallet/spend/", vec![("id", number(&spend))]),
            ("/sessions/", vec![("id", session.to_string())]),
            ("/sandbox/pay/", vec![("reference", payment["authority"].as_str().expect("one").to_owned())]),
        ]);
    }

    async fn upload(&self, room: &str) -> Value {
        let body = format!(
            "--x\r\nContent-Disposition: form-data; name=\"chatroom\"\r\n\r\n{room}\r\n--x\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"{MARK}.txt\"\r\n\r\n\
             {MARK}\r\n--x--\r\n"
        );
        let request = self.request(Caller::Owner, &Method::POST, &format!("{BASE}/message/file/upload/"));
        let request = request.header("content-type", "multipart/form-data; boundary=x");
        let kept = Answer::of(request.body(body)).await;
        assert_eq!(kept.status, 201, "{kept:?}");
        kept.body
    }

    async fn begin_upload(&self, room: &str) -> String {
        use base64::Engine;
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let metadata = format!("filename {},chatroom {}", encode(MARK), encode(room));
        let request = self.request(Caller::Owner, &Method::POST, &format!("{BASE}/message/file/tus/"));
        let request = request.header("upload-length", "10").header("upload-metadata", metadata);
        let begun = Answer::of(request).await;
        assert_eq!(begun.status, 201, "{begun:?}");
        let location = begun.header("location").trim_end_matches('/').to_owned();
        location.rsplit('/').next().expect("a name").to_owned()
    }

    /// A path of the document with the owner's things in it.
    fn path(&self, pattern: &str) -> String {
        let under = pattern.strip_prefix(BASE).unwrap_or(pattern);
        let starts = |start: &&&str| under.starts_with(**start);
        let Some(start) = self.things.keys().filter(starts).max_by_key(|start| start.len()) else {
            return pattern.to_owned();
        };
        let path = self.things[start]
            .iter()
            .fold(pattern.to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
        // As in the original, a message is looked for in a room.
        match start.starts_with("/chat/messages/") && path != pattern {
            true => format!("{path}?chat_room={}", self.things["/chat/{room}/"][0].1),
            false => path,
        }
    }

    /// Replaces the tokens of a caller whose session may have ended.
    async fn log_in_again(&mut self, caller: Caller) {
        match caller {
            Caller::Anonymous => {}
            Caller::Owner => self.owner = self.gateway.login("09120000001").await,
            Caller::Other => self.other = self.gateway.login("09120000002").await,
            Caller::Staff => {
                let body = json!({"username": "root", "password": "kavir darya 7"});
                self.staff = self.gateway.post("/login/", body).await.login();
            }
        }
    }

    /// What the owner sees of the own things.
    async fn owned(&self, operations: &[Operation]) -> BTreeMap<String, String> {
        let mut seen = BTreeMap::new();
        for operation in operations.iter().filter(|operation| operation.is_owned_reading()) {
            let path = self.path(&operation.path);
            let answer = Answer::of(self.request(Caller::Owner, &Method::GET, &path)).await;
            assert_eq!(answer.status, 200, "the owner reads {path}: {answer:?}");
            let mut body = answer.body;
            // A signed link changes with every reply, and a use of a session moves its time.
            for changing in ["link", "link_expires_at", "url", "file_url", "last_seen", "last_seen_at"] {
                if let Some(object) = body.as_object_mut() {
                    object.remove(changing);
                }
            }
            seen.insert(path, if body.is_null() { answer.text } else { body.to_string() });
        }
        seen
    }
}

/// An operation of the document.
#[derive(Debug)]
struct Operation {
    method: Method,
    path: String,
    told: Value,
}

impl Operation {
    fn is_operators(&self) -> bool {
        is_operators(self.path.strip_prefix(BASE).unwrap_or(&self.path))
    }

    /// Only callers with a token are answered.
    fn wants_token(&self) -> bool {
        let ways = self.told["security"].as_array();
        ways.is_some_and(|ways| ways.iter().all(|way| way.as_object().is_some_and(|way| !way.is_empty())))
    }

    fn under(&self) -> &str {
        self.path.strip_prefix(BASE).unwrap_or(&self.path)
    }

    fn is_staffs(&self) -> bool {
        self.under().starts_with("/staff/") || self.under() == "/audit/"
    }

    /// Names a thing that belongs to somebody.
    fn is_owned(&self) -> bool {
        self.path.contains('{')
            && !self.is_operators()
            && !self.is_staffs()
            && !["/message/report/", "/message/{id}/", "/chat/{room}/"].contains(&self.under())
            && !self.under().starts_with("/message/report/")
    }

    fn is_money(&self) -> bool {
        ["/payment/{id}/", "/wallet/spend/{id}/"].iter().any(|start| self.under().starts_with(start))
    }

    /// Nobody reads a payment's page without the key in its address.
    fn is_owned_reading(&self) -> bool {
        self.is_owned() && self.method == Method::GET && !self.under().ends_with("/go/")
    }

    /// A body that the operation accepts, as far as the document tells.
    fn body(&self) -> Option<Value> {
        let told = &self.told["requestBody"]["content"]["application/json"]["schema"]["properties"];
        let fields = told.as_object()?;
        let value = |name: &str, schema: &Value| match (name, schema["type"].as_str()) {
            ("mobile_number", _) => json!("09120000009"),
            ("currency", _) => json!("IRT"),
            ("amount", _) => json!(1),
            ("direction", _) => json!("in"),
            ("status", _) => json!(2),
            ("user" | "user_id", _) => json!(2),
            ("users", _) => json!([2]),
            // A place of another thing would be another question.
            ("avatar" | "organization" | "attach_id" | "reply_to" | "message" | "seq", _) => Value::Null,
            (_, Some("integer")) => json!(1),
            (_, Some("boolean")) => json!(false),
            (_, Some("array")) => json!([]),
            _ => json!("taken over"),
        };
        let given = fields.iter().map(|(name, schema)| (name.clone(), value(name, schema)));
        Some(Value::Object(given.filter(|(_, value)| !value.is_null()).collect()))
    }
}

/// Every operation of both listeners. The served document tells only those of the clients.
fn operations() -> Vec<Operation> {
    let document = document(&Server::default(), Audience::Everybody);
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, told) in methods.as_object().expect("methods") {
            let method = method.to_uppercase().parse().expect("a method");
            operations.push(Operation { method, path: path.clone(), told: told.clone() });
        }
    }
    operations
}

/// Whether a caller may get this status from an operation on the owner's things.
fn fits(operation: &Operation, caller: Caller, status: u16) -> bool {
    // A body may be refused before anybody looks for the thing.
    let unread = operation.method != Method::GET && matches!(status, 400 | 409 | 415);
    let refused = matches!(status, 403 | 404) || unread;
    match caller {
        _ if operation.is_operators() => status == 404,
        Caller::Anonymous if operation.wants_token() => status == 401,
        Caller::Anonymous => status < 500,
        Caller::Other if operation.is_staffs() => refused,
        Caller::Staff if operation.is_staffs() => status < 500 && status != 401 && status != 403,
        // Staff look into payments and end holds; nothing else of a user is open to them.
        Caller::Staff if operation.is_money() => status < 500 && status != 401,
        Caller::Other | Caller::Staff if operation.is_owned() => refused,
        _ => status < 500 && (status != 401 || !operation.wants_token()),
    }
}

/// Asks for everything as one caller, on the owner's things.
async fn sweep(street: &mut Street, caller: Caller, operations: &[Operation]) {
    for operation in operations {
        let path = street.path(&operation.path);
        let mut request = street.request(caller, &operation.method, &path);
        if operation.method == Method::PATCH && path.contains("/tus/") {
            request = request.header("upload-offset", "0");
            request = request.header("content-type", "application/offset+octet-stream").body("0123456789");
        } else if let Some(body) = operation.body() {
            request = request.json(&body);
        }
        let answer = Answer::of(request).await;
        let told = || format!("{caller:?} {} {path}: {answer:?}", operation.method);
        assert!(fits(operation, caller, answer.status), "{}", told());
        let staffs = caller == Caller::Staff && (operation.is_staffs() || operation.is_money());
        assert!(staffs || !answer.text.contains(MARK), "another's: {}", told());
        if answer.status < 300 && (path.contains("/sessions/") || path.contains("/logout/")) {
            street.log_in_again(caller).await;
        }
    }
}

async fn play_the_surface(directives: &str, config: &str) {
    let Some(mut street) = Street::open(directives, config).await else { return };
    let operations = operations();
    assert!(operations.len() > 80, "{}", operations.len());
    let before = street.owned(&operations).await;
    assert!(before.len() >= 8, "{before:?}");
    assert!(before.values().filter(|body| body.contains(MARK)).count() >= 5, "{before:?}");
    for caller in [Caller::Anonymous, Caller::Other] {
        sweep(&mut street, caller, &operations).await;
        assert_eq!(street.owned(&operations).await, before, "{caller:?} changed something of the owner's");
    }
    // Staff change wallets and payments, which is their work; the rest stays.
    sweep(&mut street, Caller::Staff, &operations).await;
    let is_money = |path: &&String| path.contains("/payment/") || path.contains("/wallet/");
    let after = street.owned(&operations).await;
    for (path, body) in before.iter().filter(|(path, _)| !is_money(path)) {
        assert_eq!(after.get(path), Some(body), "staff changed {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_anothers_things_behind_a_stock_proxy() {
    play_the_surface(STOCK, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_anothers_things_behind_a_forwarding_proxy() {
    play_the_surface(FORWARDING, TRUSTED).await;
}

/// The status of a request as written; 0 when the connection ends without one.
async fn raw(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // Whoever is refused early may see a reset instead of an end.
    let _ = read.expect("the connection ends");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

/// One path in forms that a proxy or a router may read as the same.
fn forms(path: &str, operators: &str) -> Vec<String> {
    let inner = path.strip_prefix(BASE).unwrap_or(path);
    vec![
        path.to_owned(),
        path.trim_end_matches('/').to_owned(),
        format!("/{path}"),
        path.replace('/', "//"),
        format!("{BASE}/./{}", inner.trim_start_matches('/')),
        format!("{BASE}/health/..{inner}"),
        format!("{BASE}/health/%2e%2e{inner}"),
        format!("{BASE}/health/..;{inner}"),
        format!("{BASE}/%2e{inner}"),
        format!("{BASE}{}", inner.to_uppercase()),
        format!("{BASE}%2f{}", inner.trim_start_matches('/')),
        format!("{path}?listener=operator"),
        format!("{path};x"),
        format!("{path}%00"),
        path.replacen('a', "%61", 1),
        path.replacen('s', "%73", 1),
        format!("\\{path}"),
        inner.to_owned(),
        format!("http://{operators}{path}"),
        format!("http://localhost{path}"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_leads_to_the_operators_listener() {
    for (directives, config) in [(STOCK, ""), (FORWARDING, TRUSTED)] {
        let Some((gateway, nginx)) = open(directives, config).await else { return };
        let operators = gateway.operator_url.trim_start_matches("http://").trim_end_matches(BASE).to_owned();
        let public = gateway.url.trim_start_matches("http://").trim_end_matches(BASE).to_owned();
        let token = gateway.app.door.token.clone();
        gateway.post("/otp/send/", json!({"mobile_number": "09120000001"})).await;
        let heads = [
            format!("host: {operators}\r\n"),
            "host: localhost\r\nx-forwarded-for: 127.0.0.1\r\nforwarded: for=127.0.0.1\r\n".to_owned(),
            format!("host: 127.0.0.1\r\nx-real-ip: 127.0.0.1\r\nx-operator-token: {token}\r\n"),
            format!("host: x\r\nx-original-url: {BASE}/status/\r\nx-rewrite-url: {BASE}/status/\r\n"),
        ];
        let mut tried = 0;
        for operation in operations().iter().filter(|operation| operation.is_operators()) {
            let path = operation.path.replace("{reference}", "x");
            // It is there, on the other listener.
            let here = format!(
                "{} {path} HTTP/1.1\r\nhost: {operators}\r\nx-operator-token: {token}\r\n\
                                content-length: 0\r\nconnection: close\r\n\r\n",
                operation.method
            );
            assert_ne!(raw(&operators, &here).await.0, 405, "{path}");
            // The path itself with every head, and its other forms with one.
            let forms = forms(&path, &operators);
            let with_path = heads.iter().map(|head| (&forms[0], head));
            let others = forms[1..].iter().zip(heads.iter().cycle());
            for (form, head) in with_path.chain(others) {
                let request = format!(
                    "{} {form} HTTP/1.1\r\n{head}content-length: 0\r\nconnection: close\r\n\r\n",
                    operation.method
                );
                for address in [&nginx.address, &public] {
                    let (status, answer) = raw(address, &request).await;
                    assert!((400..500).contains(&status), "{request}: {answer}");
                }
                tried += 1;
            }
        }
        assert!(tried > 200, "{tried}");
    }
}

/// A proxy that names its clients: shares, sessions and links are those of the client.
#[tokio::test(flavor = "multi_thread")]
async fn a_forwarding_proxy_names_client_scheme_and_host() {
    let Some((gateway, nginx)) = open(FORWARDING, TRUSTED).await else { return };
    let from = |address: &str| {
        let client = reqwest::Client::builder().no_proxy().local_address(Some(address.parse().expect("one")));
        client.build().expect("a client")
    };
    let log_in = async |client: &reqwest::Client, number: &str| {
        let forged = |request: reqwest::RequestBuilder| request.header("x-forwarded-for", "203.0.113.9");
        let body = json!({"mobile_number": number});
        let sent = Answer::of(forged(client.post(format!("{}/otp/send/", nginx.url()))).json(&body)).await;
        assert_eq!(sent.status, 200, "{sent:?}");
        let body = json!({"mobile_number": number, "code": gateway.sandbox_code(number).await});
        Answer::of(forged(client.post(format!("{}/authenticate/", nginx.url()))).json(&body)).await.login()
    };
    let client = from("127.0.0.7");
    let login = log_in(&client, "09120000001").await;
    let get = |path: &str| client.get(format!("{}{path}", nginx.url())).bearer_auth(&login.access);
    let sessions = Answer::of(get("/sessions/")).await;
    // The proxy passes the client's own header on, which counts for nothing: it stands left of the client's address.
    assert_eq!(sessions.body[0]["ip_address"], "127.0.0.7", "{sessions:?}");
    let root = Answer::of(get("/chat/")).await;
    assert_eq!(root.body["chatrooms"], "https://shop.example/drfchelseru/chat/chatrooms/", "{root:?}");
    let address = format!("{}/ws/?token={}", nginx.url(), login.access);
    let mut socket = Socket::open(&address, &[]).await.expect("nginx passes the handshake");
    socket.send(&json!({"type": "ping"})).await;
    socket.json().await;
}
