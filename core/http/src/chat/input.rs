//! Fields shared by several chat routes.

use chelseru_domain::chat::RoomId;
use chelseru_domain::ids::UserId;
use serde_json::Value;

use crate::fields::Fields;
use crate::reply::Failure;
use crate::request::Context;
use crate::route::{Field, Is};

pub(crate) const USER_ID: Field = Field("user_id", Is::Integer, "A user.");

/// The room of the path.
pub(crate) fn path_room(context: &Context) -> Result<RoomId, Failure> {
    context.id("id").map(RoomId)
}

/// The user of the path.
pub(crate) fn path_user(context: &Context) -> Result<UserId, Failure> {
    context.id("user").map(UserId)
}

/// A whole number in a field: a JSON number or a text of digits. `None` when absent or null; anything else is a field
/// error.
pub(crate) fn whole_number(fields: &mut Fields, name: &'static str) -> Option<u64> {
    let number = match fields.value(name)? {
        Value::Null => return None,
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    if number.is_none() {
        fields.refuse(name, "A valid integer is required.");
    }
    number
}

/// The user in the field `user_id`, or in `user`, as in the original's documentation.
pub(crate) fn named_user(fields: &mut Fields) -> Option<UserId> {
    let user_id = whole_number(fields, "user_id");
    let user = whole_number(fields, "user");
    user_id.or(user).map(UserId)
}
