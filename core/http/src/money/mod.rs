//! Money: payments, refunds, wallets and spends.
//!
//! The rules belong to `chelseru_domain::{payment, wallet}`. Other users' payments and spends answer 404. Reading
//! order: `create`, `go`, `verify`, `page`, `payment`, `refund`, `wallet`, `spend`, `staff`, `bank`; `input` has
//! their shared parts.

pub(crate) mod create;
pub(crate) mod verify;

pub(crate) mod go;
pub(crate) mod page;

pub(crate) mod payment;

pub(crate) mod refund;

pub(crate) mod wallet;

pub(crate) mod spend;

pub(crate) mod staff;

pub(crate) mod bank;

pub(crate) mod input;
pub(crate) mod shapes;

use std::sync::Arc;

use chelseru_domain::login::identity::Identity;
use chelseru_domain::money::alone::AloneMax;
use chelseru_domain::money::payment::Payments;
use chelseru_domain::money::payment::gateway::PaymentGateways;
use chelseru_domain::money::wallet::Wallets;
use chelseru_domain::money::{Currency, TestBank};
use tokio_util::task::TaskTracker;

/// The slice of money.
pub struct Money {
    pub payments: Arc<Payments>,
    pub wallets: Arc<Wallets>,
    pub gateways: Arc<dyn PaymentGateways>,
    pub identity: Arc<Identity>,
    /// Currency, allowed addresses, and users who are staff for money besides staff accounts.
    pub rules: chelseru_config::Payment,
    /// The unit of amounts in the API.
    pub currency: Currency,
    /// What one person of the staff may correct alone.
    pub correction_alone: AloneMax,
    /// The virtual bank, while it is the selected gateway.
    pub bank: Option<Arc<dyn TestBank>>,
    /// Work that outlives its client.
    pub detached: TaskTracker,
}
