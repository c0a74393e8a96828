//! The simulator over real sockets, one module per provider and one for faults and the control API.
//!
//! All modules are one test program, because they share a client and linking takes longer than the tests.

mod client;

mod faults;
mod kavenegar;
mod meli_payamak;
mod parsian_webco;
