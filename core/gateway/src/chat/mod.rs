//! Chat over sockets: the hub that shows to open sockets what was stored.
//!
//! Rules are not here (`chelseru_domain::chat`), nor is chat over plain requests (`crate::http`).

mod hub;

pub use hub::Hub;
