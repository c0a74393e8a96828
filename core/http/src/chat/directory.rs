//! `users/` and `contacts/...`: finding people by number or name.
//!
//! The domain decides who is found (`chelseru_domain::chat`, `directory`). An unknown person and one that may not be
//! found give the same answer.

use std::sync::Arc;

use chelseru_domain::PhoneNumber;
use chelseru_domain::chat::{Finder, LOOKUP_MAX};
use chelseru_domain::login::identity::Caller;
use http::StatusCode;
use serde_json::{Value, json};

use super::Chat;
use super::failure::{failure, no_user};
use super::json::{PersonJson, UserJson};
use crate::fields::Fields;
use crate::files::shown::Shown;
use crate::reply::{Failure, Reply};
use crate::request::{Access, Request};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/users/",
        name: "User List",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "user_find",
            call: call!(find),
            about: About {
                summary: "Find a user by the whole number or the whole user name",
                parameters: &[
                    Field("mobile_number", Is::MayText, "A mobile number."),
                    Field("username", Is::MayText, "A user name, of an account without a number."),
                ],
                fields: &[],
                answers: &[
                    (200, "FoundUsers"),
                    (403, "`chat.directory` is off."),
                    (429, "Too many look-ups today."),
                ],
            },
        }],
    },
    Route {
        path: "/contacts/lookup/",
        name: "Contact Lookup",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Post,
            id: "contact_lookup",
            call: call!(lookup),
            about: About {
                summary: "Find the users of up to 500 numbers, and keep the numbers as the caller's contacts",
                parameters: &[],
                fields: &[Field("mobile_numbers", Is::MayList, "Mobile numbers, at most 500.")],
                answers: &[
                    (200, "FoundContacts"),
                    (403, "`chat.directory` is off."),
                    (409, "Too many contacts."),
                    (429, "Too many look-ups today."),
                ],
            },
        }],
    },
    Route {
        path: "/contacts/",
        name: "Contact List",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Delete,
            id: "contact_forget",
            call: call!(forget),
            about: About {
                summary: "Forget the caller's contacts",
                parameters: &[],
                fields: &[],
                answers: &[(204, "Done.")],
            },
        }],
    },
];

const INVALID_NUMBER: &str = "A valid mobile number is required.";

/// `GET users/`: by `mobile_number`, or else by `username`.
async fn find(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let by = match (request.query("mobile_number"), request.query("username")) {
        (Some(number), _) => match PhoneNumber::parse(&number) {
            Ok(number) => Finder::Number(number),
            Err(_) => return Err(Failure::field("mobile_number", INVALID_NUMBER)),
        },
        (None, Some(name)) if !name.is_empty() => Finder::Username(name),
        (None, _) => return Err(Failure::field("mobile_number", "This field is required.")),
    };
    let found = chat.chat.find(request.caller.user_id, &by).await;
    let found = found.map_err(|error| failure(&request, error, no_user))?;
    let found: Vec<UserJson> = found.into_iter().map(UserJson::from).collect();
    let mut files = Shown::to(&chat.files, &request, request.caller);
    let loaded = files.load_avatars(found.iter().filter_map(|user| user.avatar).collect()).await;
    loaded.map_err(|error| failure(&request, error, no_user))?;
    let results: Vec<_> = found.iter().map(|user| PersonJson::of(user, &files)).collect();
    let left = chat.chat.lookups_left(request.caller.user_id);
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})).with_left(left))
}

/// `POST contacts/lookup/`: each number that finds somebody, as it was sent.
async fn lookup(chat: Arc<Chat>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let (texts, numbers) = numbers(&mut fields).into_iter().unzip();
    fields.finish()?;
    let (texts, numbers): (Vec<String>, Vec<PhoneNumber>) = (texts, numbers);
    let found = chat.chat.lookup(caller.user_id, numbers).await;
    let found = found.map_err(|error| failure(&context, error, no_user))?;
    let found: Vec<Option<UserJson>> = found.into_iter().map(|user| user.map(UserJson::from)).collect();
    let mut files = Shown::to(&chat.files, &context, caller);
    let loaded = files.load_avatars(found.iter().flatten().filter_map(|user| user.avatar).collect()).await;
    loaded.map_err(|error| failure(&context, error, no_user))?;
    let shown = |user: &Option<UserJson>| user.as_ref().map(|user| json!(PersonJson::of(user, &files)));
    let results: Vec<Value> = texts
        .into_iter()
        .zip(&found)
        .filter_map(|(text, user)| Some(json!({"mobile_number": text, "user": shown(user)?})))
        .collect();
    let left = chat.chat.lookups_left(caller.user_id);
    Ok(Reply::json(StatusCode::OK, &json!({"results": results})).with_left(left))
}

/// `DELETE contacts/`.
async fn forget(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let forgotten = chat.chat.contacts_forget(request.caller.user_id).await;
    forgotten.map_err(|error| failure(&request, error, no_user))?;
    Ok(Reply::empty())
}

/// The numbers of the body. An address book has landlines and foreign numbers, which find nobody and are no error.
fn numbers(fields: &mut Fields) -> Vec<(String, PhoneNumber)> {
    const LIST: &str = "Must be a list of at most 500 mobile numbers.";
    let numbers = match fields.value("mobile_numbers") {
        Some(Value::Array(numbers)) if numbers.len() <= LOOKUP_MAX => numbers.clone(),
        _ => {
            fields.refuse("mobile_numbers", LIST);
            return Vec::new();
        }
    };
    let mut found = Vec::with_capacity(numbers.len());
    for number in numbers {
        let text = match number {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            _ => {
                fields.refuse("mobile_numbers", LIST);
                return Vec::new();
            }
        };
        if let Ok(number) = PhoneNumber::parse(&text) {
            found.push((text, number));
        }
    }
    found
}
