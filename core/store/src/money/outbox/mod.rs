//! The outbox.

pub(crate) mod sled;

pub(crate) use sled::emit;
pub use sled::{Attempt, Delivery, DeliveryState, Event, EventBody, EventId, EventReport, PaymentFacts};
