//! The public view of a user: one function, for replies and frames.
//!
//! The user name of a login by code, `G0-0912...`, contains its phone number. Others see the account's id in its place:
//! `G0-17`. Names of that form cannot be registered, so no user can impersonate another. Mail address, password, flags
//! and phone number are not in the view, so no route or frame of chat can show them.

use std::sync::Arc;

use chelseru_store::User;
use chelseru_store::chat::FileId;
use serde::{Deserialize, Serialize};

use super::note;
use crate::ids::UserId;
use crate::text::name_as_seen;

/// A user as others see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUser {
    pub id: UserId,
    /// The name to show; it may differ from the login name.
    pub username: String,
    pub first_name: String,
    pub last_name: String,
    /// The file of the picture. [`avatar_for`](super::ChatService::avatar_for) tells whether a reader may have it.
    pub avatar: Option<FileId>,
}

/// What frames show of a user beside the number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Face {
    /// [`PublicUser::username`]; empty for a removed account.
    #[serde(with = "note::shared")]
    pub name: Arc<str>,
    /// The path of the picture. Frames are the same for all receivers, so it is in them for blocked ones, too; who may
    /// have the bytes is decided when they are requested.
    #[serde(with = "note::shared_option")]
    pub avatar: Option<Arc<str>>,
}

impl Face {
    #[must_use]
    pub fn of(user: &User) -> Face {
        let avatar = user.avatar.as_ref().map(|avatar| avatar.path.as_str().into());
        Face { name: username(user).into(), avatar }
    }

    /// Of a removed account, whose messages remain.
    #[must_use]
    pub fn gone() -> Face {
        Face { name: Arc::from(""), avatar: None }
    }
}

impl PublicUser {
    #[must_use]
    pub fn of(user: &User) -> PublicUser {
        PublicUser {
            id: user.id,
            username: username(user),
            first_name: name_as_seen(&user.first_name).into_owned(),
            last_name: name_as_seen(&user.last_name).into_owned(),
            avatar: user.avatar.as_ref().map(|avatar| avatar.file),
        }
    }

    /// As a stranger sees the user: who may not learn names and pictures by counting through the numbers.
    #[must_use]
    pub fn unnamed(self) -> PublicUser {
        PublicUser { first_name: String::new(), last_name: String::new(), avatar: None, ..self }
    }

    /// Of a removed account, whose messages remain.
    #[must_use]
    pub fn gone(id: UserId) -> PublicUser {
        PublicUser {
            id,
            username: String::new(),
            first_name: String::new(),
            last_name: String::new(),
            avatar: None,
        }
    }
}

/// The name to show.
fn username(user: &User) -> String {
    match names_a_number(user) {
        false => name_as_seen(&user.username).into_owned(),
        true => format!("G{}-{}", user.group, user.id),
    }
}

/// Whether a user name contains its account's phone number, in canonical or local form.
fn names_a_number(user: &User) -> bool {
    // The last ten digits, which every spelling of an Iranian number has.
    let digits = user.number.len().checked_sub(10).and_then(|start| user.number.get(start..));
    match digits {
        None => !user.number.is_empty(),
        Some(digits) => {
            user.username.contains(digits) || user.username.starts_with(&format!("G{}-", user.group))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::account::username_check;

    fn user(username: &str, number: &str) -> User {
        User {
            id: UserId(17),
            active: true,
            username: username.to_owned(),
            number: number.to_owned(),
            group: 3,
            created_at: crate::Timestamp::default(),
            last_login_at: None,
            first_name: "Sara".to_owned(),
            last_name: String::new(),
            email: "sara@example.com".to_owned(),
            staff: true,
            superuser: false,
            avatar: None,
        }
    }

    #[test]
    fn a_phone_number_is_not_shown_and_the_name_in_its_place_cannot_be_taken() {
        let seen = PublicUser::of(&user("G3-09121234567", "+989121234567"));
        assert_eq!(seen.username, "G3-17");
        assert!(username_check(&seen.username).is_err());
        assert_eq!(PublicUser::of(&user("sara", "")).username, "sara");
        assert_eq!(PublicUser::of(&user("sara", "+989121234567")).username, "sara", "a number added later");
        assert_eq!(PublicUser::of(&user("sara9121234567", "+989121234567")).username, "G3-17");
        assert_eq!(PublicUser::of(&user("G3-09121234567-2", "+989121234567")).username, "G3-17");
    }
}
