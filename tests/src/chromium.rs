//! A real Chromium without a window, driven by the DevTools protocol.
//!
//! `CHELSERU_CHROMIUM` names the program; otherwise the usual names are tried. A machine without it skips these
//! journeys with one line. Each [`Page`] has a profile of its own, so two pages are two people.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::PATIENCE;
use crate::socket::Socket;

/// A running Chromium. Dropping it kills it.
pub struct Chromium {
    child: Child,
    /// Host, port and path of its DevTools.
    address: String,
    _profile: tempfile::TempDir,
}

/// A page in a profile of its own.
pub struct Page {
    devtools: Socket,
    session: String,
    last_id: u64,
    /// What the page wrote to its console, for a failure.
    console: Vec<String>,
}

impl Chromium {
    /// Starts Chromium; `None` where it is missing or cannot run.
    ///
    /// # Panics
    ///
    /// When the program cannot be executed.
    pub async fn start() -> Option<Chromium> {
        let Some(program) = program() else {
            eprintln!("skipped: no Chromium on this machine (package chromium, or CHELSERU_CHROMIUM)");
            return None;
        };
        let profile = tempfile::tempdir().expect("a folder");
        let child = Command::new(&program)
            .args(["--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu"])
            // The journeys open pages of their own only. Containers have neither namespaces nor much of /dev/shm.
            .args(["--no-sandbox", "--disable-dev-shm-usage", "--disable-extensions", "--mute-audio"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Chromium starts");
        let mut chromium = Chromium { child, address: String::new(), _profile: profile };
        let port = chromium._profile.path().join("DevToolsActivePort");
        let until = Instant::now() + PATIENCE;
        while chromium.address.is_empty() {
            // A container may forbid what it needs, such as processes of its own.
            let ended = chromium.child.try_wait().expect("a child");
            if ended.is_some() || Instant::now() > until {
                eprintln!("skipped: {} does not start here: {ended:?}", program.display());
                return None;
            }
            // Port and path, each on a line.
            let told = std::fs::read_to_string(&port).unwrap_or_default();
            if let Some((port, path)) = told.split_once('\n').filter(|(_, path)| !path.is_empty()) {
                chromium.address = format!("http://127.0.0.1:{port}{}", path.trim());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(chromium)
    }

    /// Opens an address in a profile of its own.
    ///
    /// # Panics
    ///
    /// When Chromium refuses.
    pub async fn page(&self, address: &str) -> Page {
        let devtools = Socket::open(&self.address, &[]).await.expect("DevTools answer");
        let mut page = Page { devtools, session: String::new(), last_id: 0, console: Vec::new() };
        let profile = page.call("Target.createBrowserContext", json!({})).await["browserContextId"].clone();
        let target = json!({"url": "about:blank", "browserContextId": profile});
        let target = page.call("Target.createTarget", target).await["targetId"].clone();
        let attach = json!({"targetId": target, "flatten": true});
        let attached = page.call("Target.attachToTarget", attach).await;
        page.session = attached["sessionId"].as_str().expect("a session").to_owned();
        page.call("Runtime.enable", json!({})).await;
        page.call("Page.enable", json!({})).await;
        page.go(address).await;
        page
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Page {
    /// Opens an address and waits until it is loaded.
    ///
    /// # Panics
    ///
    /// When it cannot be opened.
    pub async fn go(&mut self, address: &str) {
        let gone = self.call("Page.navigate", json!({"url": address})).await;
        assert_eq!(gone.get("errorText"), None, "{address}: {gone}");
        self.until(&format!(
            "document.readyState === 'complete' && location.href !== 'about:blank' || {address:?} === 'about:blank'"
        ))
        .await;
    }

    /// The value of a JavaScript expression, of a promise its result.
    ///
    /// # Panics
    ///
    /// When it throws.
    pub async fn eval(&mut self, expression: &str) -> Value {
        let mut answer = self.evaluated(expression).await;
        let failed = answer.get("exceptionDetails");
        assert!(failed.is_none(), "{expression}: {failed:?}\nconsole: {:#?}", self.console);
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true. An exception counts as not yet.
    ///
    /// # Panics
    ///
    /// When it does not become true in time.
    pub async fn until(&mut self, expression: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.evaluated(&format!("Boolean({expression})")).await;
            if answer["result"]["value"] == true {
                return;
            }
            if Instant::now() > until {
                let seen = self.evaluated("document.body && document.body.innerText").await;
                panic!(
                    "{expression}: {answer}\npage: {}\nconsole: {:#?}",
                    seen["result"]["value"], self.console
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The accessible text of the page.
    ///
    /// # Panics
    ///
    /// When the page throws.
    pub async fn text(&mut self) -> String {
        self.eval("document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    /// Clicks the first element of a CSS selector, which must be there.
    ///
    /// # Panics
    ///
    /// Without such an element.
    pub async fn click(&mut self, selector: &str) {
        self.eval(&format!("document.querySelector({}).click()", json!(selector))).await;
    }

    /// Fills the first field of a CSS selector.
    ///
    /// # Panics
    ///
    /// Without such a field.
    pub async fn fill(&mut self, selector: &str, value: &str) {
        let (selector, value) = (json!(selector), json!(value));
        self.eval(&format!(
            "(field => {{ field.value = {value}; field.dispatchEvent(new Event('input', {{bubbles: true}})); \
             field.dispatchEvent(new Event('change', {{bubbles: true}})); }})(document.querySelector({selector}))"
        ))
        .await;
    }

    async fn evaluated(&mut self, expression: &str) -> Value {
        let what = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        // The page may be between two documents.
        match self.try_call("Runtime.evaluate", what).await {
            Ok(answer) => answer,
            Err(error) => json!({"exceptionDetails": error}),
        }
    }

    /// A command of the DevTools protocol; returns its result.
    ///
    /// # Panics
    ///
    /// When it is refused.
    pub async fn call(&mut self, method: &str, parameters: Value) -> Value {
        let answer = self.try_call(method, parameters).await;
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn try_call(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.last_id += 1;
        let mut command = json!({"id": self.last_id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            command["sessionId"] = self.session.as_str().into();
        }
        self.devtools.send(&command).await;
        loop {
            let mut answer = self.devtools.json().await;
            if answer["id"] == self.last_id {
                return match answer.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(answer["result"].take()),
                };
            }
            if answer["method"] == "Runtime.consoleAPICalled" || answer["method"] == "Runtime.exceptionThrown"
            {
                self.console.push(answer["params"].to_string());
            }
        }
    }
}

fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("CHELSERU_CHROMIUM").filter(|named| !named.is_empty()) {
        return Some(named.into());
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}
