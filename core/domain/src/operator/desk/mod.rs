//! Everything that the console and the operator API do, behind permits.
//!
//! The edge has this one handle and no service beside it, and every operation takes the [`Permit`] of its act: nothing
//! reaches a user, a message or money without a role that includes it. What touches a person or money takes a
//! [`Reason`] and leaves an audit record with actor, target, before and after.
//!
//! Not here: logins of operators (`console`) and the rules of the features, which keep their own operations. Reading
//! order: `users`, `money`, `records`.

mod money;
mod records;
mod users;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use money::{PaymentFile, RefundOrder};
pub use records::MessageQuery;
pub use users::UserFile;

#[cfg(doc)]
use super::role::{Permit, Reason};
use crate::Clock;
use crate::login::identity::Identity;
use crate::money::payment::Payments;
use crate::money::payment::gateway::PaymentGateways;
use crate::money::wallet::Wallets;
use crate::operator::Overview;
use crate::operator::api_key::ApiKeys;
use crate::operator::console::Console;
use crate::operator::webhook::Webhooks;
use crate::sms::queue::SmsQueue;

/// The services behind the desk, under one configuration.
pub struct Desk {
    pub(super) services: DeskServices,
}

pub struct DeskServices {
    pub console: Arc<Console>,
    pub identity: Arc<Identity>,
    pub payments: Arc<Payments>,
    pub wallets: Arc<Wallets>,
    pub gateways: Arc<dyn PaymentGateways>,
    pub webhooks: Webhooks,
    /// Names of the configured webhook endpoints.
    pub endpoints: BTreeSet<String>,
    pub api_keys: ApiKeys,
    pub queue: SmsQueue,
    pub overview: Arc<dyn Overview>,
    pub clock: Arc<dyn Clock>,
}

impl Desk {
    #[must_use]
    pub fn new(services: DeskServices) -> Desk {
        Desk { services }
    }

    /// The logins of the console.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.services.console
    }

    /// The names of the webhook endpoints.
    #[must_use]
    pub fn endpoints(&self) -> &BTreeSet<String> {
        &self.services.endpoints
    }

    fn audit(&self) -> &crate::operator::audit::Audit {
        self.services.identity.audit()
    }
}
