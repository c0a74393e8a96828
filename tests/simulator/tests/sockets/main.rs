//! The simulator over real sockets, one module for each provider and one for faults and the control API.
//!
//! One test program, because the modules share a client and a link takes longer than the tests.

mod client;

mod faults;
mod kavenegar;
mod meli_payamak;
mod parsian_webco;
