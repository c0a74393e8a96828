//! `DELETE me/` and `staff/users/{id}/erase/`: erasing an account.
//!
//! The account is closed when the reply is sent; its traces are removed within moments. A user proves the account with
//! a fresh login code or the password. What would lose money is refused with a name of its own.

use std::sync::Arc;

use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::{Caller, EraseError, PasswordError, Proof};
use chelseru_domain::login::password::Password;
use chelseru_domain::login::token::TokenError;
use http::StatusCode;

use super::Login;
use super::failure::token_failure;
use super::password::password_failure;
use crate::fields::{Fields, Text};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};
use crate::staff::require_staff;

const FORFEIT: Field = Field("forfeit", Is::MayBool, "True gives up what the wallet holds.");

/// The document's text about erasing the own account, for the row of `me/`.
pub(super) const ABOUT: About = About {
    summary: "Erase the caller's account for good",
    parameters: &[],
    fields: &[
        Field("code", Is::MayText, "A login code that was sent to the account's number; or the password."),
        Field("password", Is::MayText, "The account's password; or a code."),
        FORFEIT,
    ],
    answers: &[
        (204, "The account is closed; its traces are removed within moments."),
        (401, "Wrong code."),
        (403, "Login by password is disabled."),
        (409, "The account has rights, an open payment, held money or a balance; see `code`."),
        (429, "Too many wrong passwords."),
    ],
};

pub(crate) const ROUTES: &[Route] = &[Route {
    path: "/staff/users/{id}/erase/",
    name: "Staff User Erase",
    access: Access::User,
    kind: Kind::Plain,
    operations: &[Operation {
        verb: Verb::Post,
        id: "staff_user_erase",
        call: call!(erase_other),
        about: About {
            summary: "Erase an account for good; staff only",
            parameters: &[],
            fields: &[FORFEIT],
            answers: &[
                (204, "The account is closed; its traces are removed within moments."),
                (403, "Not staff."),
                (404, "No such account."),
                (409, "The account has rights, an open payment, held money or a balance; see `code`."),
            ],
        },
    }],
}];

const CODE: Text = Text { chars_max: 32 };

/// `DELETE me/`.
pub(super) async fn erase(login: Arc<Login>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let code = fields.given("code", CODE);
    let password = fields.value("password").is_some_and(|value| !value.is_null());
    let password = password.then(|| fields.required_as_typed("password")).flatten().map(Password::new);
    let forfeit = fields.flag("forfeit", false);
    fields.finish()?;
    let proof = match (&code, &password) {
        (Some(code), None) => Proof::Code(code),
        (None, Some(password)) => Proof::Password(login.methods.by_password()?, password),
        (None, None) => return Err(Failure::field("code", "Send a fresh login code, or the password.")),
        (Some(_), Some(_)) => return Err(Failure::field("code", "Send either this field or `password`.")),
    };
    let erased = login.identity.erase(&caller, proof, forfeit, Some(context.client)).await;
    erased.map(|()| Reply::empty()).map_err(|error| match error {
        EraseError::Missing => token_failure(TokenError::UserNotFound),
        other => failure(&context, other),
    })
}

/// `POST staff/users/{id}/erase/`.
async fn erase_other(login: Arc<Login>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    require_staff(&login.identity, caller.user_id, &context).await?;
    let user = UserId(context.id("id")?);
    let forfeit = fields.flag("forfeit", false);
    fields.finish()?;
    let erased = login.identity.erase_by_staff(user, Some(caller.user_id), forfeit).await;
    erased.map(|()| Reply::empty()).map_err(|error| failure(&context, error))
}

fn failure(context: &Context, error: EraseError) -> Failure {
    let conflict = |code, text: String| Failure::detail(StatusCode::CONFLICT, code, text);
    match error {
        EraseError::Missing => not_found(),
        EraseError::WrongCode => {
            let text = "The code sent to this mobile number was not found.";
            Failure::error(StatusCode::UNAUTHORIZED, "otp_wrong", text)
        }
        EraseError::Password(PasswordError::Wrong) => Failure::field("password", "The password is wrong."),
        EraseError::Password(error) => password_failure(context, error, Failure::internal),
        EraseError::HasRights => {
            let text = "An account with staff rights is not erased. An operator takes the rights first.";
            conflict("account_has_rights", text.to_owned())
        }
        EraseError::PaymentOpen(payment) => {
            let text = format!("Payment {payment} is open. Wait until it is paid or has ended.");
            conflict("account_has_open_payment", text)
        }
        EraseError::Held(rial) => {
            let text = format!("{rial} rial of the wallet are held for an order. Wait until the hold ends.");
            conflict("account_has_hold", text)
        }
        EraseError::Balance(rial) => {
            let text = format!(
                "The wallet holds {rial} rial. Spend them, or send `forfeit` as true to give them up."
            );
            conflict("account_has_balance", text)
        }
        EraseError::Store(error) => {
            tracing::error!(request.id = %context.id, %error, "an account could not be erased");
            Failure::internal()
        }
    }
}
