//! Login: accounts, one-time codes, passwords, tokens and sessions.
//!
//! A person proves a phone number with a code or an account with a password, and gets a session. Its tokens then name
//! the caller of each request. Invariants: the answer to a wrong code or password does not tell whether an account
//! exists; a revoked session opens nothing; no code, password or token reaches a log line or a `Debug` text.
//!
//! Not here: sending the message that carries a code ([`crate::sms`]) and HTTP shapes. Reading order: `account`,
//! `group` and `method` (words), `otp` and `password` (proofs), `token`, then `identity`, which joins them.

pub mod account;
pub mod group;
pub mod method;

pub mod otp;
pub mod password;
pub mod token;

pub mod identity;

mod last_seen;
pub mod user_agent;
pub mod user_index;
