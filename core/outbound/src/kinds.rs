//! The kinds of plugin that the gateway loads.

use chelseru_plugin_host::Kind;

use crate::bindings::{functions, payment};
use crate::names::{
    PAYMENT, PAYMENT_REVERSE, PAYMENT_UNVERIFIED, SMS_CREDIT, SMS_PUSH, SMS_STATUS, SMS_TEMPLATE, SMS_TEXT,
};

/// The kinds of plugin that are loaded.
pub const KINDS: &[Kind] = &[SMS_KIND, PAYMENT_KIND];

/// Plugins that send messages.
pub const SMS_KIND: Kind = Kind {
    name: "sms",
    package: "chelseru:provider",
    versions: &[(0, 1)],
    any_of: &[SMS_TEXT, SMS_TEMPLATE],
    optional: &[SMS_STATUS, SMS_CREDIT, SMS_PUSH],
    functions: functions::ALL,
};

/// Plugins that take payments.
pub const PAYMENT_KIND: Kind = Kind {
    name: "payment",
    package: "chelseru:provider",
    versions: &[(0, 1)],
    any_of: &[PAYMENT],
    optional: &[
        PAYMENT_UNVERIFIED,
        "payment-settle",
        PAYMENT_REVERSE,
        "payment-refund",
        "payment-inquiry",
        "payment-fee",
    ],
    functions: payment::functions::ALL,
};
