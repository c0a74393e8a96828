//! Who is staff: one decision, and one answer for everybody else.

use chelseru_domain::StoreError;
use chelseru_domain::identity::Identity;
use chelseru_domain::ids::UserId;
use http::StatusCode;

use crate::reply::Failure;
use crate::request::Context;

/// Whether a user is staff. The rights are read from the account each time, so that taking them away works at once.
///
/// # Errors
///
/// The store did not answer.
pub(crate) async fn is_staff(identity: &Identity, user: UserId) -> Result<bool, StoreError> {
    let account = identity.user(user)?;
    Ok(account.is_some_and(|account| account.active && (account.staff || account.superuser)))
}

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
    match is_staff(identity, user).await {
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
