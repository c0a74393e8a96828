//! How commands of this machine reach a running gateway.
//!
//! The gateway writes `data/operator.token` at every start, with a new token and the address it listens on, for its
//! owner's eyes only. Whoever can read it can read the store beside it as well, so it opens nothing more.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub(crate) const TOKEN_FILE: &str = "operator.token";

/// Where a running gateway answers operators, and what it wants to be told.
pub struct OperatorDoor {
    pub address: SocketAddr,
    pub base_path: String,
    pub token: String,
}

impl OperatorDoor {
    /// Makes a new token and writes it for commands on this machine.
    ///
    /// Errors: a text for the operator.
    pub fn open(data_dir: &Path, address: SocketAddr, base_path: &str) -> Result<OperatorDoor, String> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|error| format!("no randomness for a token: {error}"))?;
        let token = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let door = OperatorDoor { address, base_path: base_path.to_owned(), token };
        let path = token_file(data_dir);
        let text = json!({"address": door.address, "base_path": door.base_path, "token": door.token});
        write_private(&path, text.to_string().as_bytes())
            .map_err(|error| format!("{}: cannot be written: {error}", path.display()))?;
        Ok(door)
    }

    /// Reads what the gateway wrote.
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
            return Err(fault(&"does not say where the gateway answers"));
        };
        let mut address: SocketAddr = address.parse().map_err(|_| fault(&"names no address"))?;
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        Ok(OperatorDoor { address, base_path, token })
    }
}

fn token_file(data_dir: &Path) -> PathBuf {
    data_dir.join(TOKEN_FILE)
}

/// Written aside and renamed, so that a reader finds all of it or nothing.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;

    let aside = path.with_extension("new");
    // A leftover may have other permissions.
    match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    crate::private::make_file(&aside)?.write_all(bytes)?;
    std::fs::rename(&aside, path)
}
