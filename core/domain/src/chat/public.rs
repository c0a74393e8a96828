//! The public view of a user: one function, for replies and frames.
//!
//! The user name of a login by code, `G0-0912...`, contains its phone number. Others see the account's id in its place:
//! `G0-17`. Names of that form cannot be registered, so no user can impersonate another. Mail address, password, flags
//! and phone number are not in the view, so no route or frame of chat can show them.

use chelseru_store::User;

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
}

impl PublicUser {
    #[must_use]
    pub fn of(user: &User) -> PublicUser {
        PublicUser {
            id: user.id,
            username: match names_a_number(user) {
                false => name_as_seen(&user.username).into_owned(),
                true => format!("G{}-{}", user.group, user.id),
            },
            first_name: name_as_seen(&user.first_name).into_owned(),
            last_name: name_as_seen(&user.last_name).into_owned(),
        }
    }

    /// As a stranger sees the user: who may not learn first and last names by counting through the numbers.
    #[must_use]
    pub fn unnamed(self) -> PublicUser {
        PublicUser { first_name: String::new(), last_name: String::new(), ..self }
    }

    /// Of a removed account, whose messages remain.
    #[must_use]
    pub fn gone(id: UserId) -> PublicUser {
        PublicUser { id, username: String::new(), first_name: String::new(), last_name: String::new() }
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
