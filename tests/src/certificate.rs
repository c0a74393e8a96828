//! Authorities and certificates of one test, made by the `openssl` command.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// A private key on this curve is made in no time.
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

static IS_INSTALLED: LazyLock<bool> = LazyLock::new(|| {
    let asked = Command::new("openssl").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_installed = asked.is_ok_and(|status| status.success());
    if !is_installed {
        // Not by a macro, whose output the harness would keep for itself.
        let _ = writeln!(std::io::stderr(), "skipped: journeys of certificates (openssl is not installed)");
    }
    is_installed
});

/// Who signs certificates.
pub struct Authority {
    folder: tempfile::TempDir,
}

/// A server's certificate and its key, in PEM.
pub struct Certificate {
    pub pem: String,
    pub key: String,
}

impl Authority {
    /// `None`, said in one line, where the command is not installed.
    pub fn new() -> Option<Authority> {
        if !*IS_INSTALLED {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let own = ["req", "-x509", "-days", "2", "-subj", "/CN=chelseru tests", "-keyout", "ca.key"];
        let is_authority = ["-out", "ca.pem", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
        openssl(folder.path(), &[&own[..], &KEY, &is_authority].concat());
        Some(Authority { folder })
    }

    /// The authority's own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Signs a certificate of a host.
    pub fn sign(&self, host: &str) -> Certificate {
        let folder = self.folder.path();
        let subject = format!("/CN={host}");
        let ask = ["req", "-subj", &subject, "-keyout", "server.key", "-out", "server.csr"];
        openssl(folder, &[&ask[..], &KEY].concat());
        std::fs::write(folder.join("names"), format!("subjectAltName=DNS:{host}")).expect("a file");
        let sign = ["x509", "-req", "-days", "2", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key"];
        let names = ["-CAcreateserial", "-extfile", "names", "-out", "server.pem"];
        openssl(folder, &[&sign[..], &names].concat());
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("PEM");
        Certificate { pem: read("server.pem"), key: read("server.key") }
    }
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().expect("it starts");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
