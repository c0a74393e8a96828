//! What the parts of [`Payments`] share: the store, the clock, and one question per payment at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use chelseru_store::{Payment, PaymentId, Store, StoreError};

use crate::ids::UserId;
use crate::{Clock, Timestamp};

/// Makes, confirms and settles payments.
pub struct Payments {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) flights: Flights,
    /// When each gateway's list was last read.
    pub(super) listed: Mutex<HashMap<String, Timestamp>>,
}

impl Payments {
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Payments { store, clock, flights: Flights::default(), listed: Mutex::default() }
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn get(&self, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        self.store.payment_get(id)
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn list(
        &self,
        user: UserId,
        before: Option<PaymentId>,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        self.store.payments_of(user, before, limit)
    }
}

/// One question per payment at a time.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<PaymentId, Weak<tokio::sync::Mutex<()>>>>);

/// Number of entries from which unused ones are removed.
const FLIGHTS_SWEEP: usize = 1024;

impl Flights {
    pub(super) fn of(&self, id: PaymentId) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.len() >= FLIGHTS_SWEEP {
            flights.retain(|_, flight| flight.strong_count() > 0);
        }
        if let Some(flight) = flights.get(&id).and_then(Weak::upgrade) {
            return flight;
        }
        let flight = Arc::new(tokio::sync::Mutex::new(()));
        flights.insert(id, Arc::downgrade(&flight));
        flight
    }
}
