//! Rust types generated from the provider interfaces (`wit/v0.1`), and the functions the gateway calls.

#![allow(missing_docs, clippy::all, unreachable_pub)]

wasmtime::component::bindgen!({
    path: "../../wit/v0.1",
    world: "sms-all",
    additional_derives: [Clone],
});

pub use self::chelseru::provider::{http, sms_types, types};
pub use self::exports::chelseru::provider::{sms_credit, sms_push, sms_status, sms_template, sms_text};

/// The called functions of SMS plugins: see [`chelseru_plugin_host::Kind::functions`].
pub mod functions {
    use chelseru_plugin_host::{AnyFunction, Function};

    use super::{sms_credit, sms_push, sms_status, sms_template, sms_text, sms_types, types};
    use crate::names::{SMS_CREDIT, SMS_PUSH, SMS_STATUS, SMS_TEMPLATE, SMS_TEXT};

    type Answer<T> = (Result<T, types::Error>,);

    pub const ALL: &[&dyn AnyFunction] = &[
        &SEND_TEXT,
        &TEXT_LIMITS,
        &SEND_TEMPLATE,
        &CHECK_TEMPLATE,
        &TEMPLATE_LIMITS,
        &GET_STATUS,
        &STATUS_LIMITS,
        &GET_CREDIT,
        &PARSE_PUSH,
    ];

    pub const SEND_TEXT: Function<(sms_text::Message,), Answer<Vec<sms_text::Receipt>>> =
        Function::new(SMS_TEXT, "send");
    pub const TEXT_LIMITS: Function<(), (sms_types::Limits,)> = Function::new(SMS_TEXT, "get-limits");
    pub const SEND_TEMPLATE: Function<(sms_template::Message,), Answer<sms_types::Accepted>> =
        Function::new(SMS_TEMPLATE, "send");
    pub const CHECK_TEMPLATE: Function<(sms_template::Message,), Answer<()>> =
        Function::new(SMS_TEMPLATE, "check");
    pub const TEMPLATE_LIMITS: Function<(), (sms_types::Limits,)> = Function::new(SMS_TEMPLATE, "get-limits");
    pub const GET_STATUS: Function<(Vec<String>,), Answer<Vec<sms_types::Report>>> =
        Function::new(SMS_STATUS, "get");
    pub const STATUS_LIMITS: Function<(), (sms_status::Limits,)> = Function::new(SMS_STATUS, "get-limits");
    pub const GET_CREDIT: Function<(), Answer<sms_credit::Credit>> = Function::new(SMS_CREDIT, "get");
    pub const PARSE_PUSH: Function<(sms_push::Delivery,), (Result<Vec<sms_types::Report>, String>,)> =
        Function::new(SMS_PUSH, "parse");
}

/// Types of payment providers. Shared interface types exist once per kind, so no value crosses from one kind to
/// another.
pub mod payment {
    wasmtime::component::bindgen!({
        path: "../../wit/v0.1",
        world: "payment-all",
        additional_derives: [Clone],
    });

    pub use self::chelseru::provider::{http, payment_types, types};
    pub use self::exports::chelseru::provider::{payment_gateway, payment_unverified};

    /// The called functions of payment plugins.
    pub mod functions {
        use chelseru_plugin_host::{AnyFunction, Function};

        use super::payment_gateway::{Callback, Claim, Order, Started, Verdict};
        use super::payment_types::{Rules, Stored};
        use super::payment_unverified::Unverified;
        use super::types::Error;
        use crate::names::{PAYMENT, PAYMENT_REVERSE, PAYMENT_UNVERIFIED};

        pub const ALL: &[&dyn AnyFunction] =
            &[&GET_RULES, &CREATE, &DECODE_CALLBACK, &VERIFY, &LIST_UNVERIFIED, &REVERSE];

        pub const GET_RULES: Function<(), (Rules,)> = Function::new(PAYMENT, "get-rules");
        pub const CREATE: Function<(Order,), (Result<Started, Error>,)> = Function::new(PAYMENT, "create");
        pub const DECODE_CALLBACK: Function<(Callback,), (Option<Claim>,)> =
            Function::new(PAYMENT, "decode-callback");
        pub const VERIFY: Function<(Stored, Option<Claim>), (Result<Verdict, Error>,)> =
            Function::new(PAYMENT, "verify");
        pub const LIST_UNVERIFIED: Function<(), (Result<Vec<Unverified>, Error>,)> =
            Function::new(PAYMENT_UNVERIFIED, "list-unverified");
        pub const REVERSE: Function<(Stored, String), (Result<(), Error>,)> =
            Function::new(PAYMENT_REVERSE, "reverse");
    }
}
