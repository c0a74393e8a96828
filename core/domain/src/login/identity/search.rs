//! Operators look for users.

use chelseru_store::StoreError;

use super::Identity;
use crate::ids::UserId;
use crate::login::account::UserView;
use crate::login::user_index::{Candidates, UserQuery, fits};
use crate::operator::role::{Permit, UserRead};

/// One page of found users, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersFound {
    pub users: Vec<UserView>,
    /// The next page has users with smaller numbers.
    pub next: Option<UserId>,
    /// Accounts up to this one were not looked at, because the index has no place for them.
    pub unsearched: Option<UserId>,
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
        if query.is_empty() {
            return self.users_newest(before, limit).await;
        }
        let mut users: Vec<UserView> = Vec::new();
        loop {
            let found = self.index.find(&self.store, query, before, limit - users.len()).await?;
            for id in found.ids {
                users.extend(self.user(id).await?.filter(|user| fits(query, user)));
            }
            let Candidates { next, unsearched, .. } = found;
            if next.is_none() || users.len() >= limit {
                let unsearched = unsearched.filter(|_| next.is_none());
                if let Some(last) = unsearched {
                    // A whole name or number is found without the table.
                    let named = self.user_find(query.text.trim()).await?;
                    let is_outside = |user: &UserView| user.id <= last && query.admits(user);
                    users.extend(named.filter(is_outside));
                }
                return Ok(UsersFound { users, next, unsearched });
            }
            before = next;
        }
    }

    /// Prepares the first search, which would otherwise wait until every account was read.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn users_find_soon(&self, _permit: &Permit<UserRead>) -> Result<(), StoreError> {
        self.index.warm(&self.store).await
    }

    /// Bytes of memory that the search of users takes; `None` while it works.
    #[must_use]
    pub fn search_bytes(&self) -> Option<usize> {
        self.index.bytes()
    }

    async fn users_newest(&self, before: Option<UserId>, limit: usize) -> Result<UsersFound, StoreError> {
        let users = self.store.users_newest(before, limit + 1).await?;
        let next = users.get(limit).and_then(|_| users.get(limit - 1)).map(|user| user.id);
        let mut views = Vec::with_capacity(limit);
        for user in users.into_iter().take(limit) {
            views.extend(self.user_view(Some(user)).await?);
        }
        Ok(UsersFound { users: views, next, unsearched: None })
    }
}
