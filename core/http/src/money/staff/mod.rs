//! `staff/...`: money as the staff sees it: any payment, any wallet, and what a person has to decide.
//!
//! Staff only; everybody else gets 403. What changes money is in the audit log. Reading order: `find` (payments),
//! `refunds`, `decide` (one payment), `wallet`.

pub(crate) mod decide;
pub(crate) mod find;
pub(crate) mod refunds;
pub(crate) mod wallet;

use chelseru_domain::login::identity::Caller;
use chelseru_domain::money::wallet::{Actor, Role};
use chelseru_domain::operator::audit::{AuditEvent, AuditKind};

use super::Money;
use super::input::actor;
use crate::reply::Failure;
use crate::request::Context;
use crate::staff::permission_denied;

/// The caller, who is staff.
async fn staff(money: &Money, context: &Context, caller: &Caller) -> Result<Actor, Failure> {
    let actor = actor(money, context, caller).await?;
    match actor.role {
        Role::Staff => Ok(actor),
        Role::Customer => Err(permission_denied()),
    }
}

/// Writes into the audit log what a member of the staff did with money.
fn record(money: &Money, context: &Context, actor: Actor, subject: String, detail: String) {
    let event = AuditEvent::new(AuditKind::MoneyDecided);
    let event = AuditEvent { user: Some(actor.user), ip: Some(context.client), subject, detail, ..event };
    money.identity.audit().record(event);
}
