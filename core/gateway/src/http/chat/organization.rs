//! `chat/organizations/...`: what owns rooms; a user owns it.

use chelseru_domain::chat::OrganizationId;
use http::StatusCode;
use serde_json::Value;

use super::failure;
use super::json::organization_json;
use crate::http::fields::{Fields, Text};
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
    if let Some(uname) = &uname
        && !uname.chars().all(|character| character.is_ascii_alphanumeric() || "_-.".contains(character))
    {
        fields.refuse("uname", "Must be ASCII letters, digits and _ - . only.");
    }
    fields.finish()?;
    let (Some(name), Some(uname)) = (name, uname) else { return Err(Failure::internal()) };
    let made = context.app.chat.organization_create(user, name, uname.to_ascii_lowercase()).await;
    let organization = made.map_err(|error| failure(&context, error, not_found))?;
    Ok(Reply::json(StatusCode::CREATED, &organization_json(&organization)))
}

/// `GET chat/organizations/{id}/`: the owner's.
pub(crate) fn get(context: &Context) -> Result<Reply, Failure> {
    let id = OrganizationId(context.path_id()?);
    let user = context.user()?.user_id;
    let found = context.app.chat.organization(id).map_err(|error| failure(context, error, not_found))?;
    let found = found.filter(|organization| organization.owner == user).ok_or_else(not_found)?;
    Ok(Reply::json(StatusCode::OK, &organization_json(&found)))
}
