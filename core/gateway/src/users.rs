//! What operators do with accounts: one list of commands for the command line and for the running gateway.
//!
//! The store is open in one process at a time. `chelseru user ...` therefore works on it directly when no gateway
//! runs, and asks the gateway when one does: on `{base}/operator/users/`, which answers clients on this machine
//! that know the token in `data/operator.token`. The gateway writes that file at every start, with a new token and
//! the address it listens on, for its owner's eyes only; who can read it can read the store beside it as well, so
//! it opens nothing more. A command that goes through the gateway takes effect there at once: sessions end, sockets
//! close.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use chelseru_domain::account::{Rights, UserView, email_fits};
use chelseru_domain::identity::{Identity, PasswordError, RegisterError};
use chelseru_domain::ids::UserId;
use chelseru_domain::password::Password;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::user_json;

pub(crate) const TOKEN_FILE: &str = "operator.token";

/// One thing to do. `user` is a user name, a phone number or an account's number, looked for in this order.
#[derive(Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum UserCommand {
    CreateSuperuser {
        username: String,
        email: String,
        password: String,
    },
    /// One page, of accounts with a number above `after`.
    List {
        after: Option<u64>,
    },
    Show {
        user: String,
    },
    Disable {
        user: String,
    },
    Enable {
        user: String,
    },
    SetRights {
        user: String,
        rights: RightsName,
    },
    SetPassword {
        user: String,
        password: String,
    },
}

/// What an account may do, as operators write it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum RightsName {
    None,
    /// The routes for staff.
    Staff,
    /// Everything.
    Superuser,
}

impl From<RightsName> for Rights {
    fn from(name: RightsName) -> Rights {
        match name {
            RightsName::None => Rights::None,
            RightsName::Staff => Rights::Staff,
            RightsName::Superuser => Rights::Superuser,
        }
    }
}

/// Does it. Errors: a sentence for the operator.
pub async fn run(identity: &Identity, command: UserCommand) -> Result<Value, String> {
    match command {
        UserCommand::CreateSuperuser { username, email, password } => {
            if !email.is_empty() && !email_fits(&email) {
                return Err(format!("{email:?} is no mail address"));
            }
            let made = identity.superuser_create(&username, &Password::new(password), &email).await;
            made.map(|user| user_json(&user)).map_err(|error| match error {
                RegisterError::Username(fault) => fault.to_string(),
                RegisterError::Password(faults) => sentences(&faults),
                other => other.to_string(),
            })
        }
        UserCommand::List { after } => {
            let users = identity.users(after.map(UserId)).map_err(|error| error.to_string())?;
            Ok(Value::Array(users.iter().map(user_json).collect()))
        }
        UserCommand::Show { user } => Ok(user_json(&find(identity, &user)?)),
        UserCommand::Disable { user } => set_active(identity, &user, false).await,
        UserCommand::Enable { user } => set_active(identity, &user, true).await,
        UserCommand::SetRights { user, rights } => {
            let user = find(identity, &user)?;
            let changed = identity.user_set_rights(user.id, rights.into()).await;
            let changed = changed.map_err(|error| error.to_string())?;
            changed.map(|user| user_json(&user)).ok_or_else(|| format!("user {} is gone", user.id))
        }
        UserCommand::SetPassword { user, password } => {
            let user = find(identity, &user)?;
            identity.password_override(user.id, &Password::new(password)).await.map_err(
                |error| match error {
                    PasswordError::Faults(faults) => sentences(&faults),
                    other => other.to_string(),
                },
            )?;
            Ok(user_json(&find(identity, &user.id.to_string())?))
        }
    }
}

async fn set_active(identity: &Identity, user: &str, active: bool) -> Result<Value, String> {
    let user = find(identity, user)?;
    identity.user_set_active(user.id, active).await.map_err(|error| error.to_string())?;
    Ok(user_json(&UserView { active, ..user }))
}

fn find(identity: &Identity, text: &str) -> Result<UserView, String> {
    let found = identity.user_find(text).map_err(|error| error.to_string())?;
    found.ok_or_else(|| format!("there is no user {text:?}; `chelseru user list` shows all"))
}

fn sentences(faults: &[impl ToString]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

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

    /// Whether somebody knows the token; takes the same time whatever they say.
    pub fn knows(&self, token: &str) -> bool {
        // The comparison of two hashes is constant in time.
        blake3::hash(token.as_bytes()) == blake3::hash(self.token.as_bytes())
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
