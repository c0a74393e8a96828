//! Operators look for users.

use chelseru_store::StoreError;

use super::Identity;
use crate::ids::UserId;
use crate::login::account::UserView;
use crate::login::user_index::{UserQuery, fits};
use crate::operator::role::{Permit, UserRead};

/// One page of found users, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersFound {
    pub users: Vec<UserView>,
    /// The next page has users with smaller numbers.
    pub next: Option<UserId>,
}

impl Identity {
    /// The users that fit a query, newest first, at most `limit` with numbers below `before`.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn users_find(
        &self,
        _permit: &Permit<UserRead>,
        query: &UserQuery,
        mut before: Option<UserId>,
        limit: usize,
    ) -> Result<UsersFound, StoreError> {
        let mut users: Vec<UserView> = Vec::new();
        loop {
            let (ids, next) = self.index.find(&self.store, query, before, limit - users.len()).await?;
            for id in ids {
                users.extend(self.user(id).await?.filter(|user| fits(query, user)));
            }
            if next.is_none() || users.len() >= limit {
                return Ok(UsersFound { users, next });
            }
            before = next;
        }
    }
}
