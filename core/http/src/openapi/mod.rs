//! The OpenAPI 3.1 document of every route, made from the rows beside the handlers.
//!
//! Shapes that several answers share are in each feature's `shapes`, made of the words in `shape`. Sockets have a page
//! of their own (`CHAT.md`), because OpenAPI cannot describe frames. Not here: what is accepted (the handlers decide).

mod document;
pub(crate) mod shape;

pub use document::document;
