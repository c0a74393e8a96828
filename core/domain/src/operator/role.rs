//! Roles of operators, and the acts that each may do.
//!
//! A domain operation for operators takes a [`Permit`] of its act. Only [`Operator::permit`] makes one, from the one
//! table below, and only a checked login makes an
//! [`Operator`]. A forgotten check therefore does not compile, and a
//! new act needs a decision for every role.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

pub use chelseru_store::OperatorRole as Role;

use crate::ids::UserId;

/// Characters of a reason.
pub const REASON_CHARS_MAX: usize = 500;

/// Every role, from the narrowest.
pub const ROLES: [Role; 4] = [Role::Viewer, Role::Support, Role::Finance, Role::Admin];

/// The stable word of a role.
#[must_use]
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Support => "support",
        Role::Finance => "finance",
        Role::Admin => "admin",
    }
}

/// The role of a word.
#[must_use]
pub fn role_of(name: &str) -> Option<Role> {
    ROLES.into_iter().find(|role| role_name(*role) == name)
}

/// An act of operators.
pub trait Act {
    /// `noun_verb`, in errors and in the audit log.
    const NAME: &'static str;
    /// Who may do it, besides admins.
    const ROLES: &'static [Role];
    /// Whether it touches a person or money, and so needs a reason.
    const REASON: bool;
}

macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident = $text:literal [$($role:ident)*] $($reason:ident)?;)*) => {
        $($(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl Act for $name {
            const NAME: &'static str = $text;
            const ROLES: &'static [Role] = &[$(Role::$role),*];
            const REASON: bool = false $(|| stringify!($reason).len() > 0)?;
        })*

        /// Name, roles besides admins, and need of a reason of every act.
        pub const ACTS: &[(&str, &[Role], bool)] = &[$((
            <$name as Act>::NAME, <$name as Act>::ROLES, <$name as Act>::REASON,
        )),*];
    };
}

acts! {
    /// The overview.
    OverviewRead = "overview_read" [Viewer Support Finance];
    /// Users and their sessions.
    UserRead = "user_read" [Viewer Support Finance];
    /// A list of users to take away.
    UserExport = "user_export" [Support];
    UserSetActive = "user_set_active" [Support] reason;
    UserSetRights = "user_set_rights" [] reason;
    /// Ends sessions of a user.
    SessionEnd = "session_end" [Support] reason;
    /// Takes everything of a user as an archive.
    UserCopy = "user_copy" [Support] reason;
    UserErase = "user_erase" [] reason;
    /// Forgets the codes that count against a number, and a pending one.
    CapLift = "cap_lift" [Support] reason;
    /// A link with which a user sets a new password.
    ResetLinkMake = "reset_link_make" [Support] reason;
    PasswordOverride = "password_override" [] reason;
    SuperuserCreate = "superuser_create" [];
    /// Sent messages, without their texts.
    MessageRead = "message_read" [Viewer Support];
    /// Sends a notice once more.
    MessageResend = "message_resend" [Support] reason;
    /// Payments, refunds and reversals.
    PaymentRead = "payment_read" [Viewer Support Finance];
    PaymentExport = "payment_export" [Finance];
    /// Asks the bank about a payment.
    PaymentAsk = "payment_ask" [Support Finance];
    PaymentRefund = "payment_refund" [Finance] reason;
    /// Settles or undoes a reversal that the gateway refuses.
    ReversalDecide = "reversal_decide" [Finance] reason;
    /// Balances, entries and holds.
    WalletRead = "wallet_read" [Viewer Support Finance];
    WalletCorrect = "wallet_correct" [Finance] reason;
    /// Confirms or withdraws a correction that another operator asked for.
    CorrectionConfirm = "correction_confirm" [Finance] reason;
    /// Recomputes the ledger.
    LedgerVerify = "ledger_verify" [Finance];
    /// Events and their deliveries.
    WebhookRead = "webhook_read" [Viewer Support Finance];
    WebhookReplay = "webhook_replay" [Finance];
    WebhookTest = "webhook_test" [];
    /// Pauses an endpoint, or ends its pause.
    WebhookPause = "webhook_pause" [Finance] reason;
    /// Rooms and organisations with their members, without messages.
    RoomRead = "room_read" [Viewer Support];
    /// What people wrote. Each look is in the audit log.
    RoomMessageRead = "room_message_read" [Support];
    /// Removes members, messages and rooms, bans, and closes.
    RoomChange = "room_change" [Support] reason;
    /// The audit log.
    AuditRead = "audit_read" [Viewer Support Finance];
    AuditExport = "audit_export" [];
    ApiKeyRead = "api_key_read" [Viewer];
    ApiKeyCreate = "api_key_create" [] reason;
    ApiKeyRevoke = "api_key_revoke" [] reason;
    OperatorRead = "operator_read" [Viewer];
    /// Gives, changes or takes a role.
    OperatorSetRole = "operator_set_role" [] reason;
    /// Ends sessions of another operator, or removes a second factor.
    OperatorReset = "operator_reset" [] reason;
    /// A one-time link to the console.
    ConsoleLinkMake = "console_link_make" [];
    BackupRead = "backup_read" [Viewer];
    BackupWrite = "backup_write" [];
    /// The running configuration, without secrets.
    ConfigRead = "config_read" [Viewer];
    ConfigWrite = "config_write" [] reason;
    /// Sends a message through one provider.
    ProviderTest = "provider_test" [] reason;
    /// Replaces a component by another one, or by the one before.
    PluginWrite = "plugin_write" [] reason;
}

/// How an operator proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A session of the console, by its number.
    Session(u64),
    /// An API key, by its number.
    ApiKey(u64),
    /// The token in the data folder.
    Machine,
}

/// A person or program that may act on the gateway. Only a checked login makes one.
#[derive(Debug, Clone)]
pub struct Operator {
    /// `None` for a command on the gateway's machine and for an API key.
    user: Option<UserId>,
    role: Role,
    proof: Proof,
    ip: Option<IpAddr>,
}

impl Operator {
    pub(super) fn new(user: Option<UserId>, role: Role, proof: Proof, ip: Option<IpAddr>) -> Operator {
        Operator { user, role, proof, ip }
    }

    /// The operator of a command on the gateway's machine. The caller has checked that it may read the data folder,
    /// beside which every right is already held.
    #[must_use]
    pub fn of_this_machine() -> Operator {
        Operator { user: None, role: Role::Admin, proof: Proof::Machine, ip: None }
    }

    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        self.user
    }

    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    #[must_use]
    pub fn proof(&self) -> Proof {
        self.proof
    }

    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// Whether this operator may do an act.
    #[must_use]
    pub fn may<A: Act>(&self) -> bool {
        self.role == Role::Admin || A::ROLES.contains(&self.role)
    }

    /// The permission for an act.
    ///
    /// # Errors
    ///
    /// [`Forbidden`] when the role does not include it.
    pub fn permit<A: Act>(&self) -> Result<Permit<A>, Forbidden> {
        match self.may::<A>() {
            true => Ok(Permit { operator: self.clone(), act: PhantomData }),
            false => Err(Forbidden { act: A::NAME, role: self.role }),
        }
    }
}

/// The role does not include an act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forbidden {
    pub act: &'static str,
    pub role: Role,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the role {} does not include {}", role_name(self.role), self.act)
    }
}

impl std::error::Error for Forbidden {}

/// The permission of one operator for one act.
pub struct Permit<A> {
    operator: Operator,
    act: PhantomData<fn() -> A>,
}

impl<A: Act> Permit<A> {
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }
}

/// Why an operator acts, in the operator's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

impl Reason {
    /// # Errors
    ///
    /// A text is required, with at most [`REASON_CHARS_MAX`] characters.
    pub fn new(text: &str) -> Result<Reason, ReasonMissing> {
        let text = crate::text::name_as_seen(text.trim()).into_owned();
        if text.is_empty() || text.chars().count() > REASON_CHARS_MAX {
            return Err(ReasonMissing);
        }
        Ok(Reason(text))
    }

    /// The reason of a command, which asks for none.
    #[must_use]
    pub fn of_command() -> Reason {
        Reason("a command on the gateway's machine".to_owned())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a reason of 1 to {REASON_CHARS_MAX} characters is required")]
pub struct ReasonMissing;

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(role: Role) -> Operator {
        Operator::new(Some(UserId(1)), role, Proof::Session(1), None)
    }

    /// Every act by every role, as decided: a changed table or a new act changes this list.
    #[test]
    fn every_role_may_do_exactly_its_acts() {
        let letters = [(Role::Viewer, 'v'), (Role::Support, 's'), (Role::Finance, 'f'), (Role::Admin, 'a')];
        let mut found = Vec::new();
        macro_rules! ask {
            ($($act:ident)*) => {$(
                let may: String = letters
                    .iter()
                    .filter(|(role, _)| operator(*role).permit::<$act>().is_ok())
                    .map(|(_, letter)| letter)
                    .collect();
                found.push(format!("{} {may}", $act::NAME));
            )*};
        }
        ask!(OverviewRead UserRead UserExport UserSetActive UserSetRights SessionEnd UserCopy UserErase CapLift
            ResetLinkMake PasswordOverride SuperuserCreate MessageRead MessageResend PaymentRead PaymentExport
            PaymentAsk PaymentRefund ReversalDecide WalletRead WalletCorrect CorrectionConfirm LedgerVerify
            WebhookRead WebhookReplay WebhookTest WebhookPause RoomRead RoomMessageRead RoomChange AuditRead
            AuditExport ApiKeyRead ApiKeyCreate ApiKeyRevoke OperatorRead OperatorSetRole OperatorReset
            ConsoleLinkMake BackupRead BackupWrite ConfigRead ConfigWrite ProviderTest PluginWrite);
        assert_eq!(found.len(), ACTS.len(), "a new act is decided here too");
        let decided = [
            "overview_read vsfa",
            "user_read vsfa",
            "user_export sa",
            "user_set_active sa",
            "user_set_rights a",
            "session_end sa",
            "user_copy sa",
            "user_erase a",
            "cap_lift sa",
            "reset_link_make sa",
            "password_override a",
            "superuser_create a",
            "message_read vsa",
            "message_resend sa",
            "payment_read vsfa",
            "payment_export fa",
            "payment_ask sfa",
            "payment_refund fa",
            "reversal_decide fa",
            "wallet_read vsfa",
            "wallet_correct fa",
            "correction_confirm fa",
            "ledger_verify fa",
            "webhook_read vsfa",
            "webhook_replay fa",
            "webhook_test a",
            "webhook_pause fa",
            "room_read vsa",
            "room_message_read sa",
            "room_change sa",
            "audit_read vsfa",
            "audit_export a",
            "api_key_read va",
            "api_key_create a",
            "api_key_revoke a",
            "operator_read va",
            "operator_set_role a",
            "operator_reset a",
            "console_link_make a",
            "backup_read va",
            "backup_write a",
            "config_read va",
            "config_write a",
            "provider_test a",
            "plugin_write a",
        ];
        assert_eq!(found, decided);
    }

    #[test]
    fn a_viewer_changes_nothing() {
        for (name, roles, reason) in ACTS {
            assert!(!roles.contains(&Role::Viewer) || name.ends_with("_read"), "{name}");
            assert!(!reason || !name.ends_with("_read"), "{name}");
        }
    }

    #[test]
    fn a_refusal_names_act_and_role() {
        let refused = operator(Role::Finance).permit::<UserSetActive>().err();
        assert_eq!(refused, Some(Forbidden { act: "user_set_active", role: Role::Finance }));
        assert_eq!(
            refused.map(|refused| refused.to_string()).as_deref(),
            Some("the role finance does not include user_set_active")
        );
    }

    #[test]
    fn a_reason_is_a_text_that_deceives_nobody() {
        assert_eq!(
            Reason::new("  asked \u{202e}for it ").map(|reason| reason.0),
            Ok("asked for it".to_owned())
        );
        let longest = "x".repeat(REASON_CHARS_MAX);
        assert!(Reason::new(&longest).is_ok());
        for refused in ["", "  ", "\u{200f}", &format!("{longest}x")] {
            assert_eq!(Reason::new(refused), Err(ReasonMissing), "{refused:?}");
        }
    }

    #[test]
    fn roles_have_one_word_each() {
        for role in ROLES {
            assert_eq!(role_of(role_name(role)), Some(role));
        }
        assert_eq!(role_of("root"), None);
    }
}
