//! Finding payments: for staff who know a user, an order, a receipt, an amount or a day.
//!
//! Each attribute has an index whose entries end in the payment's number, so all of them give payments in one order,
//! newest first. A query walks the indexes of its attributes in step and jumps over what is not in all of them; it
//! never walks the payments. Ranges of amounts have no index and are checked on what the others leave. A call looks at
//! a bounded number of entries and says where to go on.
//!
//! A store of a version without these indexes gets them when it is opened: in steps, each one durable with its
//! position, so that an interrupted start goes on where it stopped.

pub(crate) mod postgres;
pub(crate) mod sled;

use crate::engine::{Engine, boxed, on_engine};
use crate::money::payment::{Payment, PaymentState};
use crate::{PaymentId, Store, StoreError, Timestamp, UserId};

/// What payments must have to be found. Nothing set: all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PaymentQuery {
    pub id: Option<PaymentId>,
    /// What its gateway calls it, from its beginning on.
    pub reference: Option<String>,
    /// The gateway's number of its receipt.
    pub receipt: Option<String>,
    pub user: Option<UserId>,
    /// The client's name of what is paid for. Not empty.
    pub order: Option<String>,
    pub gateway: Option<String>,
    pub state: Option<PaymentState>,
    /// Rial, exactly.
    pub amount: Option<u64>,
    /// Rial, both included.
    pub amount_min: Option<u64>,
    pub amount_max: Option<u64>,
    /// Made at this instant or later.
    pub from: Option<Timestamp>,
    /// Made before this instant.
    pub until: Option<Timestamp>,
}

impl PaymentQuery {
    /// Whether a payment is one that the query asks for, as far as its record says. The names of its gateway, which
    /// belong to one payment each, are looked up.
    pub(crate) fn matches(&self, payment: &Payment) -> bool {
        self.user.is_none_or(|user| payment.user == user)
            && self.order.as_ref().is_none_or(|order| payment.order == *order)
            && self.gateway.as_ref().is_none_or(|gateway| payment.gateway == *gateway)
            && self.state.is_none_or(|state| payment.state == state)
            && self.amount.is_none_or(|amount| payment.amount == amount)
            && self.amount_min.is_none_or(|least| payment.amount >= least)
            && self.amount_max.is_none_or(|most| payment.amount <= most)
            && self.from.is_none_or(|from| payment.created_at >= from)
            && self.until.is_none_or(|until| payment.created_at < until)
    }
}

/// A part of what a query finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentsFound {
    /// Newest first.
    pub payments: Vec<Payment>,
    /// There may be more: go on before this one.
    pub next: Option<PaymentId>,
}

impl Store {
    /// Payments that a query finds, newest first, those before `before`: at most `limit`, and looking at no more than
    /// `looks` index entries.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    #[boxed]
    pub async fn payments_find(
        &self,
        query: &PaymentQuery,
        before: Option<PaymentId>,
        limit: usize,
        looks: usize,
    ) -> Result<PaymentsFound, StoreError> {
        on_engine!(self, read payments_find(query, before, limit, looks))
    }
}
