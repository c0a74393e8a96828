//! Organisations.

pub(crate) mod sled;

pub(crate) use sled::owned;
pub use sled::{OrganizationChanged, OrganizationMade, OrganizationRemoved};
