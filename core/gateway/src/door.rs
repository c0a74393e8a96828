//! How commands on this machine reach a running gateway.
//!
//! At every start the gateway writes `data/operator.token`, readable by its owner only, with a new token and the
//! address it listens on. A reader of that file can read the store beside it, too, so the token grants nothing more.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chelseru_http::server::Listener;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::config::OperatorListen;

pub(crate) const TOKEN_FILE: &str = "operator.token";

/// The address and token of a running gateway.
pub struct OperatorDoor {
    pub address: OperatorListen,
    pub base_path: String,
    pub token: String,
}

/// A gateway that starts has the store a moment before it listens.
const FOUND_MAX: Duration = Duration::from_secs(10);
const FOUND_STEP: Duration = Duration::from_millis(50);

impl OperatorDoor {
    /// Generates a token and writes it for commands on this machine.
    ///
    /// Errors: a text for the operator.
    pub fn open(data_dir: &Path, address: OperatorListen, base_path: &str) -> Result<OperatorDoor, String> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| format!("no randomness for a token: {error}"))?;
        let token = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let door = OperatorDoor { address, base_path: base_path.to_owned(), token };
        let path = token_file(data_dir);
        let text =
            json!({"address": door.address.to_string(), "base_path": door.base_path, "token": door.token});
        write_private(&path, text.to_string().as_bytes())
            .map_err(|error| format!("{}: cannot be written: {error}", path.display()))?;
        Ok(door)
    }

    /// [`OperatorDoor::find`] for a gateway that has the store open, and may still be starting.
    ///
    /// Errors: a text for the operator, after 10 s.
    pub(crate) async fn find_soon(data_dir: &Path) -> Result<OperatorDoor, String> {
        let until = tokio::time::Instant::now() + FOUND_MAX;
        loop {
            match OperatorDoor::find(data_dir) {
                Err(_) if tokio::time::Instant::now() < until => tokio::time::sleep(FOUND_STEP).await,
                found => return found,
            }
        }
    }

    /// Reads the file that the gateway wrote.
    ///
    /// Errors: a text for the operator.
    pub fn find(data_dir: &Path) -> Result<OperatorDoor, String> {
        let path = token_file(data_dir);
        let fault = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|error| fault(&error))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| fault(&error))?;
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        let (Some(address), Some(base_path), Some(token)) =
            (text("address"), text("base_path"), text("token"))
        else {
            return Err(fault(&"does not name the gateway's address"));
        };
        let address = OperatorListen::try_from(address).map_err(|_| fault(&"holds an invalid address"))?;
        Ok(OperatorDoor { address, base_path, token })
    }
}

/// Opens the operators' listener.
///
/// A socket in the file system is for its owner alone; one that a gateway left behind is replaced. A relative path is
/// relative to the configuration file. Returns where it listens, with the port that it got.
///
/// Errors: a text for the operator.
pub(crate) async fn listen(
    wanted: &OperatorListen,
    config_file: &Path,
) -> Result<(Listener, OperatorListen), String> {
    let fault = |error: std::io::Error| format!("operator.listen = {wanted}: cannot be listened on: {error}");
    match wanted {
        OperatorListen::Tcp(address) => {
            let listener = TcpListener::bind(address).await.map_err(fault)?;
            let address = listener.local_addr().map_err(fault)?;
            Ok((Listener::Tcp(listener), OperatorListen::Tcp(address)))
        }
        #[cfg(unix)]
        OperatorListen::Unix(path) => {
            let path = std::path::absolute(config_file.parent().unwrap_or(Path::new("")).join(path));
            let path = path.map_err(fault)?;
            let listener = bind_unix(&path).map_err(fault)?;
            Ok((Listener::Unix(listener), OperatorListen::Unix(path)))
        }
        #[cfg(not(unix))]
        OperatorListen::Unix(_) => Err(fault(std::io::ErrorKind::Unsupported.into())),
    }
}

#[cfg(unix)]
fn bind_unix(path: &Path) -> std::io::Result<tokio::net::UnixListener> {
    use std::os::unix::fs::{FileTypeExt, PermissionsExt};

    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(std::io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = tokio::net::UnixListener::bind(path)?;
    // To connect takes the right to write, which no usual umask leaves to others meanwhile.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join(TOKEN_FILE)
}

/// Writes to a second file and renames it, so a reader never finds a partial one.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;

    let aside = path.with_extension("new");
    // An old file may have other permissions.
    match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    crate::private::make_file(&aside)?.write_all(bytes)?;
    std::fs::rename(&aside, path)
}
