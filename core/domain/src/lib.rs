//! The gateway's rules: who may log in, with which code, for how long; how a message finds a provider.
//!
//! Everything here is plain code over the store and two ports: [`sms::SmsPort`] sends messages, [`clock::Clock`]
//! tells the time. Nothing here knows HTTP, WebSocket, WASM or sled; the gateway converts at its edge and writes
//! its answers from the typed outcomes. Invariants: the client's word changes no right; a missing check fails
//! closed; codes, tokens, keys and full phone numbers never reach a `Debug` or `Display` text.
//!
//! One folder per feature: `login`, `sms`, `money`, `chat`, `files`, `operator`. What they share stands beside them: `clock`,
//! `ids` and `phone` (words), `secret` (keys).

pub mod clock;
pub mod ids;
pub mod phone;
pub mod range;
pub mod secret;

mod error;
pub mod idempotency;

pub mod login;
pub mod sms;

pub mod money;

pub mod chat;
pub mod files;

pub mod operator;

pub use login::{account, group, identity, otp, password, token, user_agent};
pub use money::{payment, wallet};
pub use operator::{api_key, audit, webhook};

pub use clock::{Clock, Timestamp};
pub use error::RuleError;
pub use phone::PhoneNumber;
pub use range::Range;

pub use chelseru_store::{StoreError, UserChange};
