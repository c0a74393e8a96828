//! The login methods that an operator leaves to clients, and the proof that one may be used.
//!
//! Whatever logs a client in takes a proof ([`ByCode`], [`ByPassword`]), which only [`LoginMethods`] gives out, so a
//! forgotten question does not compile. Operators use passwords on their own listener, whatever is left to clients.

/// What is left to clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LoginMethods {
    /// A code by SMS.
    #[default]
    Code,
    /// A user name and password.
    Password,
    Both,
}

/// Codes are left to clients.
#[derive(Debug, Clone, Copy)]
pub struct ByCode(());

/// Passwords are left to clients.
#[derive(Debug, Clone, Copy)]
pub struct ByPassword(());

/// The operator does not leave this method to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("clients may not use this login method")]
pub struct MethodDisabled;

impl LoginMethods {
    /// # Errors
    ///
    /// [`MethodDisabled`].
    pub const fn by_code(self) -> Result<ByCode, MethodDisabled> {
        match self {
            LoginMethods::Code | LoginMethods::Both => Ok(ByCode(())),
            LoginMethods::Password => Err(MethodDisabled),
        }
    }

    /// # Errors
    ///
    /// [`MethodDisabled`].
    pub const fn by_password(self) -> Result<ByPassword, MethodDisabled> {
        match self {
            LoginMethods::Password | LoginMethods::Both => Ok(ByPassword(())),
            LoginMethods::Code => Err(MethodDisabled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_is_not_left_to_clients_gives_no_proof() {
        let given = |methods: LoginMethods| (methods.by_code().is_ok(), methods.by_password().is_ok());
        assert_eq!(given(LoginMethods::Code), (true, false));
        assert_eq!(given(LoginMethods::Password), (false, true));
        assert_eq!(given(LoginMethods::Both), (true, true));
    }
}
