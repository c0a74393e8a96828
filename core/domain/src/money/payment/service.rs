//! Shared by the parts of [`Payments`]: the store, the clock, and the remembered state of gateways.

use std::sync::Arc;

use chelseru_store::{Payment, PaymentId, Store, StoreError};
use tokio::sync::{RwLock, RwLockWriteGuard};

use super::flight::{Flights, Holds, Refused, Unasked};
use super::lists::Lists;
use super::scan::Scans;
use crate::Clock;
use crate::ids::UserId;
use crate::rate::{Board, Rates};

/// Creates, confirms and settles payments.
pub struct Payments {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) flights: Flights,
    pub(super) unasked: Unasked,
    pub(super) holds: Holds,
    pub(super) lists: Lists,
    pub(super) refused: Refused,
    pub(super) scans: Scans,
    /// Payments begun by each user.
    pub(super) begun: Rates<UserId>,
    /// Held while a payment is stored, against a change of the gateways meanwhile.
    pub(super) beginning: RwLock<()>,
}

impl Payments {
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        let (flights, holds, lists) = (Flights::default(), Holds::default(), Lists::default());
        let (refused, scans, begun) = (Refused::default(), Scans::default(), Rates::default());
        let (unasked, beginning) = (Unasked::default(), RwLock::default());
        Payments { store, clock, flights, unasked, holds, lists, refused, scans, begun, beginning }
    }

    /// Waits until no payment is being stored, and lets none begin until the guard is dropped. Whoever removes a
    /// gateway counts its open payments meanwhile: one that was chosen before would be stored unseen.
    pub async fn pause_beginning(&self) -> RwLockWriteGuard<'_, ()> {
        self.beginning.write().await
    }

    /// Lets the other gateways hear what is counted here. They share the store.
    pub fn share_counts(&self, board: &Arc<Board>) {
        self.unasked.share();
        board.join("payments", &self.begun);
        board.join("scans", &self.scans.0);
    }

    /// A gateway's component, settings or grants changed: it may be asked at once.
    pub fn gateway_changed(&self, gateway: &str) {
        self.holds.forget(gateway);
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn get(&self, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        self.store.payment_get(id).await
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn list(
        &self,
        user: UserId,
        before: Option<PaymentId>,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        self.store.payments_of(user, before, limit).await
    }
}
