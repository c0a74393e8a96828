//! Fields that several routes of chat take.

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

/// A whole number of a field: a JSON number or text of digits. `None` when it is absent or null; what is neither is
/// a field error.
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

/// The user of the field `user_id`, or of `user`, as the original's own document has it.
pub(crate) fn named_user(fields: &mut Fields) -> Option<UserId> {
    let user_id = whole_number(fields, "user_id");
    let user = whole_number(fields, "user");
    user_id.or(user).map(UserId)
}
