//! `chelseru user ...`: opens the store when no gateway runs, and asks the running gateway otherwise.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::login::account::Rights;
use chelseru_domain::login::identity::RESET_TOKEN_HOURS;
use chelseru_domain::operator::console::{Console, ConsoleKeys, LINK_TTL};
use chelseru_domain::operator::role::{ROLES, role_name};
use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use http::{Method, StatusCode};
use serde_json::Value;

use super::ask::{TIMEOUT, exchange};
use crate::config::rules::tokens;
use crate::config::{self, Loaded, OperatorListen};
use crate::database::{self, Refused};
use crate::door::OperatorDoor;
use crate::http::console::LINK_PATH;
use crate::http::operator::users::{self, RightsName, UserCommand};
use crate::http::reachable;
use crate::keys;
use crate::login::Services;

/// Length of a generated password: 20 characters of 32 different ones are 100 bits.
const MADE_CHARS: usize = 20;
const MADE_ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";

#[derive(Subcommand)]
pub(crate) enum Arguments {
    /// Create an account with all rights. Prints a generated password last, unless one is given.
    CreateSuperuser {
        username: String,
        #[arg(long, default_value = "")]
        email: String,
        /// Read the password from standard input instead of generating one.
        #[arg(long)]
        password_stdin: bool,
    },
    /// List accounts.
    List {
        /// Only accounts with these parts of a number, a name or a mail address; asks the running gateway.
        #[arg(long)]
        search: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show one account.
    Show {
        /// A user name, a phone number, or an account number.
        user: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Disable an account. Its sessions end at once, and it cannot log in.
    Disable { user: String },
    /// Enable a disabled account.
    Enable { user: String },
    /// Set the rights of an account, including accounts of the login by code.
    SetRights {
        user: String,
        #[arg(value_parser = PossibleValuesParser::new(RightsName::ALL).try_map(|name| name.parse::<RightsName>()))]
        rights: RightsName,
    },
    /// Print a token with which a user sets a new password once, at `POST password/reset/`.
    ResetLink {
        user: String,
        /// Lifetime of the token, 1 to 168.
        #[arg(long, default_value_t = RESET_TOKEN_HOURS.default)]
        hours: u64,
        /// Address of the application's page; prints a link to it that ends in `#token=...`.
        #[arg(long)]
        page: Option<String>,
    },
    /// Print a one-time link to the console, for a first login or without the second factor.
    ConsoleLink { user: String },
    /// Give an account a role of the console: viewer, support, finance or admin; `none` takes it.
    SetRole {
        user: String,
        #[arg(value_parser = PossibleValuesParser::new(ROLES.map(role_name).into_iter().chain(["none"])))]
        role: String,
    },
    /// Set an account's password and end its sessions. Prints a generated password last, unless one is given.
    SetPassword {
        user: String,
        /// Read the password from standard input instead of generating one.
        #[arg(long)]
        password_stdin: bool,
    },
}

pub(crate) async fn run(config_file: &Path, arguments: &Arguments) -> Result<(), String> {
    let loaded = super::load::load(config_file)?;
    let accounts = Accounts::open(&loaded, config_file).await?;
    let result = carry_out(&accounts, arguments).await;
    accounts.close().await;
    result
}

async fn carry_out(accounts: &Accounts, arguments: &Arguments) -> Result<(), String> {
    match arguments {
        Arguments::CreateSuperuser { username, email, password_stdin } => {
            let (password, made) = password(*password_stdin)?;
            let (username, email) = (username.clone(), email.clone());
            let command = UserCommand::CreateSuperuser { username, email, password: password.clone() };
            let user = accounts.run(command).await?;
            print_done(&user, "was created with all rights", made.then_some(password));
        }
        Arguments::List { json, .. } => list(accounts, *json).await?,
        Arguments::Show { user, json } => {
            let user = accounts.run(UserCommand::Show { user: user.clone() }).await?;
            match json {
                true => say!("{user:#}"),
                false => show(&user),
            }
        }
        Arguments::Disable { user } => {
            let user = accounts.run(UserCommand::Disable { user: user.clone() }).await?;
            print_done(&user, "is disabled; its sessions have ended", None);
        }
        Arguments::Enable { user } => {
            let user = accounts.run(UserCommand::Enable { user: user.clone() }).await?;
            print_done(&user, "is enabled", None);
        }
        Arguments::SetRights { user, rights } => {
            let user = accounts.run(UserCommand::SetRights { user: user.clone(), rights: *rights }).await?;
            let what = format!("now has the rights {}", Rights::from(*rights).as_str());
            print_done(&user, &what, None);
        }
        Arguments::ResetLink { user, hours, page } => {
            let made = accounts.run(UserCommand::ResetLink { user: user.clone(), hours: *hours }).await?;
            let text = |name: &str| made[name].as_str().unwrap_or("").to_owned();
            say!("user {} can set a new password once, until {}", text("username"), text("expires_at"));
            match page {
                // Behind `#`, because browsers send that part to no server.
                Some(page) => say!("link: {page}#token={}", text("token")),
                None => say!("token: {}", text("token")),
            }
        }
        Arguments::ConsoleLink { user } => {
            let made = accounts.run(UserCommand::ConsoleLink { user: user.clone() }).await?;
            let text = |name: &str| made[name].as_str().unwrap_or("").to_owned();
            let minutes = LINK_TTL.as_secs() / 60;
            say!("user {} can open the console once, within {minutes} minutes", text("username"));
            // Opening it shows a button, so that a preview or a prefetch uses nothing up. Queries are not logged.
            say!("link: {}?token={}", accounts.console_url(), text("token"));
        }
        Arguments::SetRole { user, role } => {
            let command = UserCommand::SetRole { user: user.clone(), role: role.clone() };
            let user = accounts.run(command).await?;
            print_done(&user, &format!("has the role {role} in the console"), None);
        }
        Arguments::SetPassword { user, password_stdin } => {
            let (password, made) = password(*password_stdin)?;
            let command = UserCommand::SetPassword { user: user.clone(), password: password.clone() };
            let user = accounts.run(command).await?;
            let what = "has a new password; its sessions have ended";
            print_done(&user, what, made.then_some(password));
        }
    }
    Ok(())
}

/// Prints page by page, so a million accounts need the memory of one page.
async fn list(accounts: &Accounts, json: bool) -> Result<(), String> {
    let mut after = None;
    if !json {
        say!("{:>8}  {:<32}  {:<13}  {:<8}  RIGHTS", "ID", "USERNAME", "NUMBER", "STATE");
    }
    loop {
        let page = accounts.run(UserCommand::List { after }).await?;
        let Some(last) = page.as_array().and_then(|users| users.last()) else { return Ok(()) };
        let next = last["id"].as_u64();
        for user in page.as_array().into_iter().flatten() {
            if json {
                say!("{user}");
                continue;
            }
            let text = |key: &str| user[key].as_str().unwrap_or("").to_owned();
            let flag = |key: &str| user[key] == true;
            let state = if flag("is_active") { "on" } else { "off" };
            let rights = match (flag("is_superuser"), flag("is_staff")) {
                (true, _) => "superuser",
                (false, true) => "staff",
                _ => "",
            };
            let (name, number) = (text("username"), text("mobile_number"));
            say!("{:>8}  {name:<32}  {number:<13}  {state:<8}  {rights}", user["id"]);
        }
        if next.is_none() || next == after {
            return Ok(());
        }
        after = next;
    }
}

fn show(user: &Value) {
    for (key, value) in user.as_object().into_iter().flatten() {
        match value {
            Value::String(text) => say!("{key}: {text}"),
            other => say!("{key}: {other}"),
        }
    }
}

fn print_done(user: &Value, what: &str, secret: Option<String>) {
    let name = user["username"].as_str().unwrap_or("");
    match secret {
        None => say!("user {name} {what}"),
        Some(secret) => say!("user {name} {what}\npassword: {secret}"),
    }
}

/// A password, and whether it was generated here.
fn password(from_stdin: bool) -> Result<(String, bool), String> {
    if from_stdin {
        let mut text = String::new();
        // A password has at most 128 characters of at most 4 bytes each.
        std::io::stdin()
            .take(1024)
            .read_to_string(&mut text)
            .map_err(|error| format!("standard input: {error}"))?;
        return Ok((text.trim_end_matches(['\r', '\n']).to_owned(), false));
    }
    let mut random = [0; MADE_CHARS];
    getrandom::fill(&mut random).map_err(|error| format!("no randomness for a password: {error}"))?;
    let letter = |byte: &u8| char::from(MADE_ALPHABET[usize::from(byte % 32)]);
    Ok((random.iter().map(letter).collect(), true))
}

/// The accounts: in the store, or behind a running gateway.
enum Accounts {
    Store {
        store: chelseru_store::Store,
        services: Box<Services>,
        console: Box<Console>,
        listen: OperatorListen,
    },
    Gateway(OperatorDoor),
}

impl Accounts {
    async fn open(loaded: &Loaded, config_file: &Path) -> Result<Accounts, String> {
        let data_dir = config::data_dir(&loaded.config, config_file);
        match database::open_for_command(loaded, &data_dir).await {
            Ok(store) => {
                let (key, _) = keys::of_store(&data_dir, &store, keys::Accepted::default()).await?;
                let clock: Arc<dyn Clock> = Arc::new(SystemClock);
                let tokens = tokens(loaded, &key).map_err(|problems| problems.to_string())?;
                let services = Services::new(&loaded.config, tokens, &store, &key, &clock, Arc::default())?;
                let console = Console::new(
                    store.clone(),
                    clock,
                    services.identity.clone(),
                    Arc::new(ConsoleKeys::new(&key)),
                );
                let listen = loaded.config.operator.listen.clone();
                let (services, console) = (Box::new(services), Box::new(console));
                Ok(Accounts::Store { store, services, console, listen })
            }
            Err(Refused::InUse(_)) => match OperatorDoor::find_soon(&data_dir).await {
                Ok(door) => Ok(Accounts::Gateway(door)),
                Err(reason) => Err(format!(
                    "a gateway uses {} but cannot be reached ({reason}); stop it and retry",
                    data_dir.display()
                )),
            },
            Err(Refused::Other(reason)) => Err(reason),
        }
    }

    async fn run(&self, command: UserCommand) -> Result<Value, String> {
        match self {
            Accounts::Store { services, console, .. } => {
                users::run(&services.identity, console, command).await
            }
            Accounts::Gateway(door) => ask(door, &command)
                .await
                .map_err(|reason| format!("through the gateway at {}: {reason}", door.address)),
        }
    }

    /// Where a browser on this machine enters a link.
    fn console_url(&self) -> String {
        let address = match self {
            Accounts::Store { listen, .. } => listen,
            Accounts::Gateway(door) => &door.address,
        };
        match address {
            OperatorListen::Tcp(address) => format!("http://{}{LINK_PATH}", reachable(*address)),
            OperatorListen::Unix(_) => format!("http://localhost{LINK_PATH}"),
        }
    }

    async fn close(self) {
        if let Accounts::Store { store, services, console, .. } = self {
            drop(console);
            services.audit_close().await;
            store.close();
        }
    }
}

async fn ask(door: &OperatorDoor, command: &UserCommand) -> Result<Value, String> {
    let body = serde_json::to_value(command).map_err(|error| error.to_string())?;
    let (address, token) = (&door.address, Some(door.token.as_str()));
    let path = "/operator/users/";
    let (status, answer) =
        exchange(address, &door.base_path, Method::POST, path, token, Some(body), TIMEOUT).await?;
    match (status, answer["error"].as_str()) {
        (StatusCode::OK, _) => Ok(answer),
        (_, Some(reason)) => Err(reason.to_owned()),
        (StatusCode::NOT_FOUND, None) => Err("it refused this command's token; stop it and retry".to_owned()),
        (status, None) => Err(format!("it answered {status}")),
    }
}
