//! Orders: what pays what a user bought, so that nobody pays twice.
//!
//! An order is the client's name of what is paid for, and belongs to a user. It is paid by a payment, or by a spend
//! from the wallet. A payment that charges the wallet and the spend of what it charged belong together, so these two
//! are no double; a payment that only pays (`PayMode::Direct`) and a spend are.

pub(crate) mod postgres;
pub(crate) mod sled;
