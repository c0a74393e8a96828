//! `chat/organizations/...`: what owns rooms; a user owns it.

use chelseru_domain::chat::{ChatError, OrganizationId};
use http::StatusCode;
use serde_json::Value;

use super::json::organization_json;
use super::{failure, room};
use crate::http::fields::{Fields, Text};
use crate::http::payment::path_number;
use crate::http::reply::{Failure, Reply};
use crate::http::{Context, not_found};

const NAME: Text = Text { chars_max: 100 };
const UNAME: Text = Text { chars_max: 45 };

/// `GET chat/organizations/`: the caller's own.
pub(crate) fn list(context: &Context) -> Result<Reply, Failure> {
    let owned = context.app.chat.organizations(context.user()?.user_id);
    let owned = owned.map_err(|error| failure(context, error, not_found))?;
    let owned: Vec<Value> = owned.iter().map(organization_json).collect();
    Ok(Reply::json(StatusCode::OK, &owned))
}

/// `POST chat/organizations/`: `name`, and `uname`, which nobody else has.
pub(crate) async fn create(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let user = context.user()?.user_id;
    let name = fields.required("name", NAME);
    let uname = fields.required("uname", UNAME);
    let uname = checked(uname, &mut fields);
    fields.finish()?;
    let (Some(name), Some(uname)) = (name, uname) else { return Err(Failure::internal()) };
    let made = context.app.chat.organization_create(user, name, uname).await;
    let organization = made.map_err(|error| failure(&context, error, not_found))?;
    Ok(Reply::json(StatusCode::CREATED, &organization_json(&organization)))
}

/// `PUT` and `PATCH chat/organizations/{id}/`: `name` and `uname`; what is absent stays.
pub(crate) async fn update(context: Context, mut fields: Fields) -> Result<Reply, Failure> {
    let (id, user) = (OrganizationId(context.path_id()?), context.user()?.user_id);
    let name = if fields.value("name").is_some() { fields.required("name", NAME) } else { None };
    let uname = if fields.value("uname").is_some() { fields.required("uname", UNAME) } else { None };
    let uname = checked(uname, &mut fields);
    fields.finish()?;
    let changed = context.app.chat.organization_update(user, id, name, uname).await;
    let organization = changed.map_err(|error| failure_of_path(&context, error))?;
    Ok(Reply::json(StatusCode::OK, &organization_json(&organization)))
}

/// `DELETE chat/organizations/{id}/`: refused while it has rooms.
pub(crate) async fn delete(context: Context) -> Result<Reply, Failure> {
    let (id, user) = (OrganizationId(context.path_id()?), context.user()?.user_id);
    let removed = context.app.chat.organization_remove(user, id).await;
    removed.map_err(|error| failure_of_path(&context, error))?;
    Ok(Reply::empty())
}

/// `GET chat/organizations/{id}/chatrooms/`: those of its rooms that the caller is in, which for the owner are all.
pub(crate) fn rooms(context: &Context) -> Result<Reply, Failure> {
    let id = path_number(context, "organizations").map(OrganizationId).ok_or_else(not_found)?;
    let rooms = context.app.chat.organization_rooms(context.user()?.user_id, id);
    room::listed(context, rooms.map_err(|error| failure_of_path(context, error))?)
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

/// The organization that is missing is the path's, not a field's.
fn failure_of_path(context: &Context, error: ChatError) -> Failure {
    match error {
        ChatError::OrganizationMissing => not_found(),
        error => failure(context, error, not_found),
    }
}

/// `GET chat/organizations/{id}/`: the owner's.
pub(crate) fn get(context: &Context) -> Result<Reply, Failure> {
    let id = OrganizationId(context.path_id()?);
    let user = context.user()?.user_id;
    let found = context.app.chat.organization(id).map_err(|error| failure(context, error, not_found))?;
    let found = found.filter(|organization| organization.owner == user).ok_or_else(not_found)?;
    Ok(Reply::json(StatusCode::OK, &organization_json(&found)))
}
