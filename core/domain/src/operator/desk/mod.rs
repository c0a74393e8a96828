//! Everything that the console and the operator API do, behind permits.
//!
//! The edge has this one handle and no service beside it, and every operation takes the [`Permit`] of its act: nothing
//! reaches a user, a message or money without a role that includes it. What touches a person or money takes a
//! [`Reason`] and leaves an audit record with actor, target, before and after.
//!
//! Not here: logins of operators (`console`) and the rules of the features, which keep their own operations. Reading
//! order: `users`, `sessions`, `money`, `rooms`, `files`, `house`, `records`.

mod files;
mod house;
mod money;
mod records;
mod rooms;
mod sessions;
mod users;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

pub use files::FileQuery;
pub use money::{Corrected, CorrectionOrder, PaymentFile, RefundOrder};
pub use records::{MessageQuery, ResendError};
pub use rooms::{
    ListedRoom, Looked, OrganizationAct, RoomAct, RoomQuery, RoomSeen, WrittenMessage, status_name,
};
pub use sessions::{SessionPlace, SessionQuery, SessionsFound};
pub use users::{CodeStanding, UserFile};

#[cfg(doc)]
use super::role::{Permit, Reason};
use crate::Clock;
use crate::chat::ChatService;
use crate::login::identity::Identity;
use crate::money::alone::AloneMax;
use crate::money::payment::Payments;
use crate::money::payment::gateway::PaymentGateways;
use crate::money::wallet::Wallets;
use crate::operator::Overview;
use crate::operator::api_key::ApiKeys;
use crate::operator::console::Console;
use crate::operator::house::House;
use crate::operator::webhook::Webhooks;
use crate::sms::queue::SmsRoute;
use crate::sms::shield::{Shield, ShieldRules};

/// The services behind the desk, under one configuration.
pub struct Desk {
    pub(super) services: DeskServices,
}

pub struct DeskServices {
    pub console: Arc<Console>,
    pub identity: Arc<Identity>,
    pub payments: Arc<Payments>,
    pub wallets: Arc<Wallets>,
    /// What one operator corrects alone.
    pub correction_alone: AloneMax,
    pub gateways: Arc<dyn PaymentGateways>,
    pub webhooks: Webhooks,
    /// Names of the configured webhook endpoints.
    pub endpoints: BTreeSet<String>,
    pub api_keys: ApiKeys,
    pub sms: Arc<SmsRoute>,
    pub chat: Arc<ChatService>,
    pub shield: Arc<Shield>,
    pub shield_rules: ShieldRules,
    pub overview: Arc<dyn Overview>,
    pub house: Arc<dyn House>,
    pub clock: Arc<dyn Clock>,
    /// Work that outlives its request.
    pub detached: TaskTracker,
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
