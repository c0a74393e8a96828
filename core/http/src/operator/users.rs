//! Account commands of operators, for the command line and for the running gateway.
//!
//! Only one process can open the store. `chelseru user ...` therefore opens it when no gateway runs, and otherwise
//! asks the gateway on `operator/users/`. A command through the gateway takes effect at once: sessions end, sockets
//! close.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::clock::rest_format;
use chelseru_domain::ids::UserId;
use chelseru_domain::login::account::{Rights, UserView, email_fits};
use chelseru_domain::login::identity::{
    Identity, MadeResetToken, PasswordError, RESET_TOKEN_HOURS, RegisterError, ResetTokenError,
};
use chelseru_domain::login::password::Password;
use chelseru_domain::operator::console::{Console, Opened};
use chelseru_domain::operator::role::{self, Act, Permit, Reason};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Operator;
use crate::fields::Fields;
use crate::login::me::user_json;
use crate::reply::{Failure, Reply};
use crate::request::{Access, ByOperator, Request};
use crate::route::{About, Answer, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/operator/users/",
    name: "Operator Users",
    access: Access::Operator,
    kind: Kind::Plain,
    operations: &[Operation {
        verb: Verb::Post,
        id: "operator_users",
        call: call!(command),
        about: About {
            summary: "Run a command of chelseru user",
            parameters: &[],
            fields: &[],
            answers: &[
                (200, "Account|Account[]|ResetToken"),
                (403, "The token of the data folder is missing or wrong."),
            ],
        },
    }],
}];

/// `POST operator/users/`: a command of `chelseru user`, from this machine and with the token of the data folder.
async fn command(operator: Arc<Operator>, request: Request<ByOperator, Fields>) -> Answer {
    if !operator.token.is_known(&request) {
        let text = "The operator token is missing or wrong.";
        return Err(Failure::error(StatusCode::FORBIDDEN, "operator_token_wrong", text));
    }
    let refuse = |reason: String| Failure::error(StatusCode::BAD_REQUEST, "operator_command_refused", reason);
    let command: UserCommand =
        serde_json::from_value(request.body.into_object()).map_err(|error| refuse(error.to_string()))?;
    let console = &operator.console;
    let done = run(&operator.identity, console, command).await.map_err(refuse)?;
    Ok(Reply::json(StatusCode::OK, &done))
}

/// A command. `user` is a user name, a phone number or an account number, looked up in this order.
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
    /// Makes the token of a one-time link to the console.
    ConsoleLink {
        user: String,
    },
    /// Gives an account a role of the console; `none` takes it.
    SetRole {
        user: String,
        role: String,
    },
    /// Makes the token with which a user sets a new password once.
    ResetLink {
        user: String,
        hours: u64,
    },
}

/// The rights of an account, as operators write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RightsName {
    None,
    /// The routes for staff.
    Staff,
    /// Everything.
    Superuser,
}

impl RightsName {
    /// Every name, as operators write it.
    pub const ALL: [&str; 3] = ["none", "staff", "superuser"];
}

impl FromStr for RightsName {
    type Err = String;

    fn from_str(text: &str) -> Result<RightsName, String> {
        match text {
            "none" => Ok(RightsName::None),
            "staff" => Ok(RightsName::Staff),
            "superuser" => Ok(RightsName::Superuser),
            _ => Err(format!("{text:?} is not a set of rights; accepted: {}", RightsName::ALL.join(", "))),
        }
    }
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

/// Runs a command of this machine, whose user could read the store anyway. Errors: a text for the operator.
pub async fn run(identity: &Identity, console: &Console, command: UserCommand) -> Result<Value, String> {
    let machine = role::Operator::of_this_machine();
    let reason = Reason::of_command();
    match command {
        UserCommand::CreateSuperuser { username, email, password } => {
            if !email.is_empty() && !email_fits(&email) {
                return Err(format!("{email:?} is not a mail address"));
            }
            let made = identity
                .superuser_create(&permit(&machine)?, &username, &Password::new(password), &email)
                .await;
            made.map(|user| user_json(&user)).map_err(|error| match error {
                RegisterError::Username(fault) => fault.to_string(),
                RegisterError::Password(faults) => sentences(&faults),
                other => other.to_string(),
            })
        }
        UserCommand::List { after } => {
            let users = identity.users(after.map(UserId)).await.map_err(|error| error.to_string())?;
            Ok(Value::Array(users.iter().map(user_json).collect()))
        }
        UserCommand::Show { user } => Ok(user_json(&find(identity, &user).await?)),
        UserCommand::Disable { user } => set_active(identity, &machine, &user, false).await,
        UserCommand::Enable { user } => set_active(identity, &machine, &user, true).await,
        UserCommand::SetRights { user, rights } => {
            let user = find(identity, &user).await?;
            let changed = identity.user_set_rights(&permit(&machine)?, user.id, rights.into(), &reason).await;
            Ok(user_json(&changed.map_err(|error| error.to_string())?))
        }
        UserCommand::SetPassword { user, password } => {
            let user = find(identity, &user).await?;
            identity.password_override(&permit(&machine)?, user.id, &Password::new(password)).await.map_err(
                |error| match error {
                    PasswordError::Faults(faults) => sentences(&faults),
                    other => other.to_string(),
                },
            )?;
            Ok(user_json(&find(identity, &user.id.to_string()).await?))
        }
        UserCommand::ConsoleLink { user } => {
            let user = find(identity, &user).await?;
            let made = console.link_make(&permit(&machine)?, user.id).await;
            let made = made.map_err(|error| error.to_string())?;
            let Opened { token, expires_at } = made.ok_or_else(|| {
                format!("user {} is no operator; `chelseru user set-role` gives a role", user.username)
            })?;
            Ok(json!({
                "username": user.username, "token": token, "expires_at": rest_format(expires_at),
            }))
        }
        UserCommand::SetRole { user, role } => {
            let user = find(identity, &user).await?;
            let role = match role.as_str() {
                "none" => None,
                name => Some(role::role_of(name).ok_or_else(|| format!("{name:?} is no role"))?),
            };
            let set = console.role_set(&permit(&machine)?, user.id, role, &reason).await;
            set.map_err(|error| error.to_string())?;
            Ok(user_json(&user))
        }
        UserCommand::ResetLink { user, hours } => {
            RESET_TOKEN_HOURS.check("hours", hours).map_err(|error| error.to_string())?;
            let user = find(identity, &user).await?;
            let ttl = Duration::from_secs(hours * 60 * 60);
            let made = identity.reset_token_make(&permit(&machine)?, user.id, ttl, &reason).await;
            let MadeResetToken { token, expires_at } = made.map_err(|error| match error {
                ResetTokenError::NoAccount => format!("user {} is disabled", user.username),
                other => other.to_string(),
            })?;
            Ok(json!({
                "username": user.username, "token": token, "expires_at": rest_format(expires_at),
            }))
        }
    }
}

async fn set_active(
    identity: &Identity,
    machine: &role::Operator,
    user: &str,
    active: bool,
) -> Result<Value, String> {
    let user = find(identity, user).await?;
    let reason = Reason::of_command();
    let changed = identity.user_set_active(&permit(machine)?, user.id, active, &reason).await;
    changed.map(|user| user_json(&user)).map_err(|error| error.to_string())
}

fn permit<A: Act>(machine: &role::Operator) -> Result<Permit<A>, String> {
    machine.permit().map_err(|refused| refused.to_string())
}

async fn find(identity: &Identity, text: &str) -> Result<UserView, String> {
    let found = identity.user_find(text).await.map_err(|error| error.to_string())?;
    found.ok_or_else(|| format!("no user {text:?}; `chelseru user list` shows all"))
}

fn sentences(faults: &[impl ToString]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
