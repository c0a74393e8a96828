//! `chat/organizations/...`: organizations, which own rooms and belong to a user.

use std::sync::Arc;

use chelseru_domain::chat::{ChatError, OrganizationId};
use chelseru_domain::login::identity::Caller;
use http::StatusCode;
use serde_json::Value;

use super::Chat;
use super::failure::failure;
use super::json::organization_json;
use super::room::listed;
use crate::fields::{Fields, Text};
use crate::reply::{Failure, Reply};
use crate::request::{Access, Context, Request, not_found};
use crate::route::{About, Answer, Field, Is, Kind, Operation, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    Route {
        path: "/chat/organizations/",
        name: "Organization List",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[
            Operation {
                verb: Verb::Get,
                id: "organization_list",
                call: call!(list),
                about: About {
                    summary: "List the caller's organizations",
                    parameters: &[],
                    fields: &[],
                    answers: &[(200, "Organization[]")],
                },
            },
            Operation {
                verb: Verb::Post,
                id: "organization_create",
                call: call!(create),
                about: About {
                    summary: "Create an organization",
                    parameters: &[],
                    fields: &[
                        Field("name", Is::Text, "At most 100 characters."),
                        Field("uname", Is::Text, "Its unique name: at most 45 letters, digits, _ - and ."),
                    ],
                    answers: &[(201, "Organization")],
                },
            },
        ],
    },
    Route {
        path: "/chat/organizations/{id}/",
        name: "Organization Instance",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[
            Operation {
                verb: Verb::Get,
                id: "organization_get",
                call: call!(get),
                about: About {
                    summary: "Get one of the caller's organizations",
                    parameters: &[],
                    fields: &[],
                    answers: &[(200, "Organization")],
                },
            },
            Operation { verb: Verb::Put, id: "organization_update_put", call: call!(update), about: UPDATE },
            Operation { verb: Verb::Patch, id: "organization_update", call: call!(update), about: UPDATE },
            Operation {
                verb: Verb::Delete,
                id: "organization_delete",
                call: call!(delete),
                about: About {
                    summary: "Delete one of the caller's organizations",
                    parameters: &[],
                    fields: &[],
                    answers: &[(204, "Done."), (409, "The organization has rooms.")],
                },
            },
        ],
    },
    Route {
        path: "/chat/organizations/{id}/chatrooms/",
        name: "Organization Chat Room List",
        access: Access::User,
        kind: Kind::Plain,
        operations: &[Operation {
            verb: Verb::Get,
            id: "organization_rooms",
            call: call!(rooms),
            about: About {
                summary: "List an organization's rooms that the caller is in",
                parameters: &[],
                fields: &[],
                answers: &[(200, "Room[]")],
            },
        }],
    },
];

const UPDATE: About = About {
    summary: "Change one of the caller's organizations; absent fields stay",
    parameters: &[],
    fields: &[
        Field("name", Is::MayText, "At most 100 characters."),
        Field("uname", Is::MayText, "Its unique name: at most 45 letters, digits, _ - and ."),
    ],
    answers: &[(200, "Organization")],
};

const NAME: Text = Text { chars_max: 100 };
const UNAME: Text = Text { chars_max: 45 };

/// `GET chat/organizations/`: the caller's own.
async fn list(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let owned = chat.chat.organizations(request.caller.user_id);
    let owned = owned.await.map_err(|error| failure(&request, error, not_found))?;
    let owned: Vec<Value> = owned.iter().map(organization_json).collect();
    Ok(Reply::json(StatusCode::OK, &owned))
}

/// `POST chat/organizations/`: `name`, and `uname`, which nobody else has.
async fn create(chat: Arc<Chat>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let name = fields.required("name", NAME);
    let uname = fields.required("uname", UNAME);
    let uname = checked(uname, &mut fields);
    let (name, uname) = fields.all((name, uname))?;
    let made = chat.chat.organization_create(caller.user_id, name, uname).await;
    let organization = made.map_err(|error| failure(&context, error, not_found))?;
    Ok(Reply::json(StatusCode::CREATED, &organization_json(&organization)))
}

/// `GET chat/organizations/{id}/`: the owner's.
async fn get(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let id = OrganizationId(request.id("id")?);
    let found = chat.chat.organization(id).await.map_err(|error| failure(&request, error, not_found))?;
    let own = found.filter(|organization| organization.owner == request.caller.user_id);
    Ok(Reply::json(StatusCode::OK, &organization_json(&own.ok_or_else(not_found)?)))
}

/// `PUT` and `PATCH chat/organizations/{id}/`: `name` and `uname`; absent fields stay.
async fn update(chat: Arc<Chat>, request: Request<Caller, Fields>) -> Answer {
    let Request { context, caller, body: mut fields } = request;
    let id = OrganizationId(context.id("id")?);
    let name = if fields.value("name").is_some() { fields.required("name", NAME) } else { None };
    let uname = if fields.value("uname").is_some() { fields.required("uname", UNAME) } else { None };
    let uname = checked(uname, &mut fields);
    fields.finish()?;
    let changed = chat.chat.organization_update(caller.user_id, id, name, uname).await;
    let organization = changed.map_err(|error| failure_of_path(&context, error))?;
    Ok(Reply::json(StatusCode::OK, &organization_json(&organization)))
}

/// `DELETE chat/organizations/{id}/`: refused while it has rooms.
async fn delete(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let id = OrganizationId(request.id("id")?);
    let removed = chat.chat.organization_remove(request.caller.user_id, id).await;
    removed.map_err(|error| failure_of_path(&request, error))?;
    Ok(Reply::empty())
}

/// `GET chat/organizations/{id}/chatrooms/`: its rooms that the caller is in; for the owner these are all.
async fn rooms(chat: Arc<Chat>, request: Request<Caller>) -> Answer {
    let id = OrganizationId(request.id("id")?);
    let rooms = chat.chat.organization_rooms(request.caller.user_id, id);
    listed(&chat, &request, request.caller, rooms.await.map_err(|error| failure_of_path(&request, error))?)
        .await
}

/// A unique name in lower case.
fn checked(uname: Option<String>, fields: &mut Fields) -> Option<String> {
    let uname = uname?;
    if !uname.chars().all(|character| character.is_ascii_alphanumeric() || "_-.".contains(character)) {
        fields.refuse("uname", "Must be ASCII letters, digits and _ - . only.");
        return None;
    }
    Some(uname.to_ascii_lowercase())
}

/// A refusal about the path's organization, not about a field.
fn failure_of_path(context: &Context, error: ChatError) -> Failure {
    match error {
        ChatError::OrganizationMissing => not_found(),
        error => failure(context, error, not_found),
    }
}
