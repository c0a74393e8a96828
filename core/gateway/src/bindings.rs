//! Rust types of the provider interfaces (`wit/v0.1`), generated.

#![allow(missing_docs, clippy::all, unreachable_pub)]

wasmtime::component::bindgen!({
    path: "../../wit/v0.1",
    world: "sms-all",
    additional_derives: [Clone],
});

pub use self::chelseru::provider::{http, sms_types, types};
pub use self::exports::chelseru::provider::{sms_push, sms_status, sms_template, sms_text};
