//! A browser without JavaScript, for the console: cookies, forms, redirects.

use std::collections::BTreeMap;

use chelseru_domain::login::password::Password;
use reqwest::header;

use crate::{TestGateway, machine};

/// What a browser shows after its redirects.
#[derive(Debug)]
pub struct Shown {
    pub status: u16,
    pub headers: header::HeaderMap,
    /// Path and query.
    pub address: String,
    pub html: String,
}

impl Shown {
    /// Whether the page has a text, as it is escaped.
    #[must_use]
    pub fn has(&self, text: &str) -> bool {
        self.html.contains(text)
    }

    /// The hidden fields of the form with this action.
    ///
    /// # Panics
    ///
    /// Without such a form.
    #[must_use]
    pub fn hidden(&self, action: &str) -> BTreeMap<String, String> {
        let start = format!("action=\"{action}\"");
        let at = self.html.find(&start).unwrap_or_else(|| panic!("no form {action}: {}", self.html));
        let form = &self.html[at..];
        let form = &form[..form.find("</form>").unwrap_or(form.len())];
        let mut fields = BTreeMap::new();
        for input in form.split("<input type=\"hidden\" ").skip(1) {
            let value = |name: &str| {
                let rest = input.split_once(&format!("{name}=\""))?.1;
                Some(unescaped(rest.split_once('"')?.0))
            };
            if let (Some(name), Some(value)) = (value("name"), value("value")) {
                fields.insert(name, value);
            }
        }
        fields
    }
}

/// A text without the escapes of the console's templates.
fn unescaped(text: &str) -> String {
    let pairs = [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")];
    pairs.into_iter().fold(text.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

/// A browser at the operators' listener of a gateway.
pub struct Browser {
    client: reqwest::Client,
    /// Scheme, host and port.
    origin: String,
    pub cookie: Option<String>,
}

impl Browser {
    #[must_use]
    pub fn new(gateway: &TestGateway) -> Browser {
        let (scheme, rest) = gateway.operator_url.split_once("://").expect("an address");
        let host = rest.split('/').next().unwrap_or(rest);
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build();
        let client = client.expect("a client");
        Browser { client, origin: format!("{scheme}://{host}"), cookie: None }
    }

    /// A browser in which an account is logged in, by a one-time link. Makes a superuser when there is none of the
    /// name.
    ///
    /// # Panics
    ///
    /// When the console refuses.
    pub async fn of(gateway: &TestGateway, name: &str) -> Browser {
        let live = gateway.app.live();
        if live.identity.user_find(name).await.expect("read").is_none() {
            let password = Password::new("kavir darya 7");
            live.identity.superuser_create(&machine(), name, &password, "").await.expect("made");
        }
        let user = live.identity.user_find(name).await.expect("read").expect("made");
        let logins = live.generation.console.desk.console();
        let link = logins.link_make(&machine(), user.id).await.expect("made").expect("an operator");
        let mut browser = Browser::new(gateway);
        let page = browser.get(&format!("/console/link/?token={}", link.token)).await;
        let fields = page.hidden("/console/link/");
        let shown = browser.post("/console/link/", fields).await;
        assert_eq!((shown.status, shown.address.as_str()), (200, "/console/me/"), "{}", shown.html);
        browser
    }

    pub async fn get(&mut self, path: &str) -> Shown {
        let request = self.client.get(format!("{}{path}", self.origin));
        self.send(path, request).await
    }

    /// Submits a form as a browser does.
    pub async fn post(&mut self, path: &str, fields: BTreeMap<String, String>) -> Shown {
        let request = self.client.post(format!("{}{path}", self.origin)).form(&fields);
        let request = request.header(header::ORIGIN, &self.origin).header("sec-fetch-site", "same-origin");
        self.send(path, request).await
    }

    /// Submits the form with this action on a page, with these fields besides the hidden ones.
    pub async fn submit(&mut self, page: &Shown, action: &str, fields: &[(&str, &str)]) -> Shown {
        let mut all = page.hidden(action);
        all.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self.post(action, all).await
    }

    /// A request as it is, with the cookie and without following redirects.
    ///
    /// # Panics
    ///
    /// Without an answer.
    pub async fn raw(&self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let request = match &self.cookie {
            Some(cookie) => request.header(header::COOKIE, cookie),
            None => request,
        };
        request.send().await.expect("an answer")
    }

    /// The address of a path.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    #[must_use]
    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    async fn send(&mut self, path: &str, request: reqwest::RequestBuilder) -> Shown {
        let (mut address, mut answer) = (path.to_owned(), self.raw(request).await);
        for _ in 0..5 {
            self.keep(&answer);
            let Some(location) = answer.headers().get(header::LOCATION) else { break };
            address = location.to_str().expect("text").to_owned();
            assert!(address.starts_with('/'), "leads elsewhere: {address}");
            answer = self.raw(self.client.get(format!("{}{address}", self.origin))).await;
        }
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Shown { status, headers, address, html: answer.text().await.expect("a page") }
    }

    fn keep(&mut self, answer: &reqwest::Response) {
        for set in answer.headers().get_all(header::SET_COOKIE) {
            let text = set.to_str().expect("text");
            let pair = text.split(';').next().unwrap_or_default();
            self.cookie = (!pair.ends_with('=')).then(|| pair.to_owned());
        }
    }
}
