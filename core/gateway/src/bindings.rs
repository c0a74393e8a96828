//! Rust types of the provider interfaces (`wit/v0.1`), generated.

#![allow(missing_docs, clippy::all, unreachable_pub)]

wasmtime::component::bindgen!({
    path: "../../wit/v0.1",
    world: "sms-all",
    additional_derives: [Clone],
});

pub use self::chelseru::provider::{http, sms_types, types};
pub use self::exports::chelseru::provider::{sms_push, sms_status, sms_template, sms_text};

/// Those of payment providers. Their shared types are types of their own: no value crosses from one kind to another.
pub mod payment {
    wasmtime::component::bindgen!({
        path: "../../wit/v0.1",
        world: "payment-all",
        additional_derives: [Clone],
    });

    pub use self::chelseru::provider::{http, payment_types, types};
    pub use self::exports::chelseru::provider::{payment_gateway, payment_unverified};
}
