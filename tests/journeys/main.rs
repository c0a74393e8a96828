//! Journeys: whole gateways, real sockets, real plugins.

mod cli;
mod contract;
mod crash;
mod limits;
mod login;
mod password;
mod payments;
mod reload;
mod sessions;
mod sms;
