//! A real nginx in front of a gateway, for journeys of what a proxy changes.
//!
//! `CHELSERU_NGINX` names the program, as `.ci/run` sets it; otherwise the usual places are tried. A machine without
//! nginx skips these journeys with one line.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::certificate::Certificate;

/// The proxy's block for all requests as in nginx's own introduction. It sends HTTP/1.0 and no forwarding headers.
pub const STOCK: &str = "";

/// A proxy that names its client, scheme and host in all common headers, as behind TLS.
pub const FORWARDING: &str = "
    proxy_http_version 1.1;
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto https;
    proxy_set_header X-Forwarded-Host shop.example;
    proxy_set_header Forwarded \"for=$remote_addr;proto=https;host=shop.example\";
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $connection_upgrade;
";

/// A running nginx. Dropping it kills it.
pub struct Nginx {
    child: Child,
    /// Host and port.
    pub address: String,
    _dir: tempfile::TempDir,
}

impl Nginx {
    /// Starts nginx before an address of a gateway (`127.0.0.1:1234`); `None` where it is missing.
    pub async fn start(upstream: &str, directives: &str) -> Option<Nginx> {
        Nginx::balanced(&[upstream], directives).await
    }

    /// Starts nginx before the addresses of several gateways, which it asks in turn.
    pub async fn balanced(upstreams: &[&str], directives: &str) -> Option<Nginx> {
        Nginx::with(|dir, address| configuration(dir, address, upstreams, directives)).await
    }

    /// Starts nginx with a site of the examples, on ports of its own and with another certificate.
    pub async fn of_site(site: &str, certificate: &Certificate) -> Option<Nginx> {
        Nginx::with(|dir, address| site_configuration(dir, address, site, certificate)).await
    }

    /// Starts nginx with a configuration for a folder and an address.
    async fn with(configuration: impl Fn(&Path, &str) -> String) -> Option<Nginx> {
        let program = installed()?;
        let until = Instant::now() + PATIENCE;
        loop {
            // Another process may take the port in between.
            match Nginx::try_start(&program, &configuration).await {
                Ok(nginx) => return Some(nginx),
                Err(reason) => assert!(Instant::now() < until, "nginx does not start: {reason}"),
            }
        }
    }

    async fn try_start(
        program: &Path,
        configuration: impl FnOnce(&Path, &str) -> String,
    ) -> Result<Nginx, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let address = free_address();
        let (pid, log) = (dir.path().join("nginx.pid"), dir.path().join("error.log"));
        let config = dir.path().join("nginx.conf");
        std::fs::write(&config, configuration(dir.path(), &address)).expect("a file");
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .arg("-p")
            .arg(dir.path())
            .arg("-e")
            .arg(&log)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx starts");
        let mut nginx = Nginx { child, address, _dir: dir };
        let until = Instant::now() + PATIENCE;
        // nginx writes its pid once its sockets are bound.
        while !pid.exists() {
            if nginx.child.try_wait().expect("a child").is_some() || Instant::now() > until {
                return Err(std::fs::read_to_string(&log).unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(nginx)
    }

    /// Base address of the API behind it, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}/drfchelseru", self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The configuration of a proxy before some addresses.
fn configuration(dir: &Path, listen: &str, upstreams: &[&str], directives: &str) -> String {
    let servers: String = upstreams.iter().map(|address| format!(" server {address} max_fails=0;")).collect();
    // nginx sends the name as the Host unless told otherwise.
    let upstream = if let [one] = upstreams { one } else { "gateways" };
    let site = format!(
        "client_max_body_size 16m;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    upstream gateways {{{servers} }}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://{upstream};
            {directives}
        }}
    }}"
    );
    around(dir, &site)
}

/// The configuration of a site that listens on the usual ports, of every address.
fn site_configuration(dir: &Path, address: &str, site: &str, certificate: &Certificate) -> String {
    let named = [("fullchain.pem", &certificate.pem), ("privkey.pem", &certificate.key)];
    let mut text: String = site
        .lines()
        .filter(|line| !line.contains("listen [::]"))
        .fold(String::new(), |text, line| text + line + "\n");
    for (name, pem) in named {
        std::fs::write(dir.join(name), pem).expect("a file");
        text = text.replace(
            &format!("/etc/letsencrypt/live/api.example.com/{name}"),
            &dir.join(name).display().to_string(),
        );
    }
    let text = text.replace("listen 443", &format!("listen {address}"));
    around(dir, &text.replace("listen 80;", &format!("listen {};", free_address())))
}

/// The whole configuration: one process, all files in its folder.
fn around(dir: &Path, site: &str) -> String {
    let dir = dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|part| format!("    {part}_temp_path {dir}/{part};\n"))
        .concat();
    format!(
        "daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off;
{temporary}
    {site}
}}
"
    )
}

/// An address of this machine that nobody listens on.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").to_string()
}

/// The program; said in one line where it is missing.
fn installed() -> Option<PathBuf> {
    let program = program();
    if program.is_none() {
        // Not by a macro, whose output the harness would keep for itself.
        let _ = writeln!(
            std::io::stderr(),
            "skipped: no nginx on this machine (package nginx, or CHELSERU_NGINX)"
        );
    }
    program
}

/// The program, if it runs here.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("CHELSERU_NGINX").map(PathBuf::from);
    let usual = ["nginx", "/usr/sbin/nginx", "/usr/local/sbin/nginx"].map(PathBuf::from);
    let runs = |program: &PathBuf| {
        let asked = Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    named.into_iter().chain(usual).find(runs)
}
