//! The bindings generated from `wit/v0.1`: one world per ability, so that a plugin exports what it has.
//!
//! Each world is generated once, here, with its export macro left for the plugin crate to call; a plugin
//! therefore needs neither the WIT files nor `wit-bindgen`. The linker unites the worlds a plugin called.
//! Nothing in this module is part of the SDK's stable face: use the names that [`crate`] re-exports.
#![allow(missing_docs, reason = "generated code")]

/// What every plugin has: `http` and `settings` imported, `plugin` exported, and the shared types.
pub mod base {
    wit_bindgen::generate!({
        path: "../../wit/v0.1",
        inline: "package chelseru:sdk-base;
            world sdk-base {
                include chelseru:provider/base@0.1.0;
                import chelseru:provider/types@0.1.0;
                import chelseru:provider/sms-types@0.1.0;
                import chelseru:provider/payment-types@0.1.0;
            }",
        pub_export_macro: true,
        default_bindings_module: "chelseru_plugin_sdk::wit::base",
        additional_derives: [PartialEq, Eq],
        generate_unused_types: true,
        generate_all,
    });
}

macro_rules! ability {
    ($name:ident, $module:literal, $inline:literal, { $($from:literal: $to:path),* $(,)? }) => {
        pub mod $name {
            wit_bindgen::generate!({
                path: "../../wit/v0.1",
                inline: $inline,
                pub_export_macro: true,
                default_bindings_module: $module,
                additional_derives: [PartialEq, Eq],
                generate_unused_types: true,
                with: { $($from: $to),* },
            });
        }
    };
}

ability!(
    text,
    "chelseru_plugin_sdk::wit::text",
    "package chelseru:sdk-text; world sdk-text { export chelseru:provider/sms-text@0.1.0; }",
    {
        "chelseru:provider/types@0.1.0": crate::wit::base::chelseru::provider::types,
        "chelseru:provider/sms-types@0.1.0": crate::wit::base::chelseru::provider::sms_types,
    }
);
ability!(
    template,
    "chelseru_plugin_sdk::wit::template",
    "package chelseru:sdk-template; world sdk-template { export chelseru:provider/sms-template@0.1.0; }",
    {
        "chelseru:provider/types@0.1.0": crate::wit::base::chelseru::provider::types,
        "chelseru:provider/sms-types@0.1.0": crate::wit::base::chelseru::provider::sms_types,
    }
);
ability!(
    status,
    "chelseru_plugin_sdk::wit::status",
    "package chelseru:sdk-status; world sdk-status { export chelseru:provider/sms-status@0.1.0; }",
    {
        "chelseru:provider/types@0.1.0": crate::wit::base::chelseru::provider::types,
        "chelseru:provider/sms-types@0.1.0": crate::wit::base::chelseru::provider::sms_types,
    }
);
ability!(
    credit,
    "chelseru_plugin_sdk::wit::credit",
    "package chelseru:sdk-credit; world sdk-credit { export chelseru:provider/sms-credit@0.1.0; }",
    { "chelseru:provider/types@0.1.0": crate::wit::base::chelseru::provider::types }
);
ability!(
    push,
    "chelseru_plugin_sdk::wit::push",
    "package chelseru:sdk-push; world sdk-push { export chelseru:provider/sms-push@0.1.0; }",
    {
        "chelseru:provider/http@0.1.0": crate::wit::base::chelseru::provider::http,
        "chelseru:provider/sms-types@0.1.0": crate::wit::base::chelseru::provider::sms_types,
    }
);
ability!(
    payment,
    "chelseru_plugin_sdk::wit::payment",
    "package chelseru:sdk-payment; world sdk-payment { export chelseru:provider/payment-gateway@0.1.0; }",
    {
        "chelseru:provider/http@0.1.0": crate::wit::base::chelseru::provider::http,
        "chelseru:provider/types@0.1.0": crate::wit::base::chelseru::provider::types,
        "chelseru:provider/payment-types@0.1.0": crate::wit::base::chelseru::provider::payment_types,
    }
);
ability!(
    payment_unverified,
    "chelseru_plugin_sdk::wit::payment_unverified",
    "package chelseru:sdk-payment-unverified; world sdk-payment-unverified { export chelseru:provider/payment-unverified@0.1.0; }",
    {
        "chelseru:provider/types@0.1.0": crate::wit::base::chelseru::provider::types,
    }
);
ability!(
    payment_reverse,
    "chelseru_plugin_sdk::wit::payment_reverse",
    "package chelseru:sdk-payment-reverse; world sdk-payment-reverse { export chelseru:provider/payment-reverse@0.1.0; }",
    {
        "chelseru:provider/types@0.1.0": crate::wit::base::chelseru::provider::types,
        "chelseru:provider/payment-types@0.1.0": crate::wit::base::chelseru::provider::payment_types,
    }
);
ability!(
    payment_inquiry,
    "chelseru_plugin_sdk::wit::payment_inquiry",
    "package chelseru:sdk-payment-inquiry; world sdk-payment-inquiry { export chelseru:provider/payment-inquiry@0.1.0; }",
    {
        "chelseru:provider/types@0.1.0": crate::wit::base::chelseru::provider::types,
        "chelseru:provider/payment-types@0.1.0": crate::wit::base::chelseru::provider::payment_types,
    }
);
