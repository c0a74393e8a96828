//! Admits staff, with one reply for all other callers. The domain decides who is staff.

use chelseru_domain::ids::UserId;
use chelseru_domain::login::identity::{Area, Identity};
use http::StatusCode;

use crate::reply::Failure;
use crate::request::Context;

/// Admits staff only.
///
/// # Errors
///
/// 403 for everybody else.
pub(crate) async fn require_staff(
    identity: &Identity,
    user: UserId,
    context: &Context,
) -> Result<(), Failure> {
    match identity.is_staff(user, Area::Any).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(permission_denied()),
        Err(error) => {
            tracing::error!(request.id = %context.id, %error, "an account could not be read");
            Err(Failure::internal())
        }
    }
}

/// 403 in the words of the framework below the original.
pub(crate) fn permission_denied() -> Failure {
    let text = "You do not have permission to perform this action.";
    Failure::detail(StatusCode::FORBIDDEN, "permission_denied", text)
}
