//! The gateway's rules: who may log in, with which code, for how long; how a message finds a provider.
//!
//! Everything here is plain code over the store and two ports: [`sms::SmsPort`] sends messages, [`clock::Clock`]
//! tells the time. Nothing here knows HTTP, WebSocket, WASM or sled; the gateway converts at its edge and writes
//! its answers from the typed outcomes. Invariants: the client's word changes no right; a missing check fails
//! closed; codes, tokens, keys and full phone numbers never reach a `Debug` or `Display` text.
//!
//! Reading order: `phone` and `clock` (words), `secret` (keys), `otp` (codes), `identity` (login and the check of
//! every request), `token`, `sms` (the port), `sms::route` (failover); `money`, `payment`, `wallet`, `webhook`; `chat`.

pub mod clock;
pub mod ids;
pub mod phone;
pub mod secret;

pub mod otp;

pub mod account;
pub mod audit;
pub mod password;

pub mod identity;

pub mod chat;

pub mod token;

pub mod group;
pub mod user_agent;

pub mod api_key;
pub mod sms;

pub mod money;

pub mod payment;

pub mod wallet;

pub mod webhook;

mod error;
mod last_seen;

pub use clock::{Clock, Timestamp};
pub use error::RuleError;
pub use phone::PhoneNumber;

pub use chelseru_store::{StoreError, UserChange};
