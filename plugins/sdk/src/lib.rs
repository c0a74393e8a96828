//! Write a chelseru provider plugin in one file.
//!
//! A plugin maps one provider's protocol: it turns a message into requests and the answers into typed
//! results. It keeps no state, retries nothing and chooses no route; the gateway does. This is a whole one:
//!
//! ```
//! use chelseru_plugin_sdk::http::Request;
//! use chelseru_plugin_sdk::sms::{Accepted, Limits, text};
//! use chelseru_plugin_sdk::{Context, Description, Error, Plugin, Setting, SmsText, export_sms, number};
//!
//! /// The provider "Acme": one POST, answered by `ok ID` or by `error CODE`.
//! pub struct Acme;
//!
//! impl Plugin for Acme {
//!     fn describe() -> Description {
//!         Description::new("acme", env!("CARGO_PKG_VERSION"), "Acme SMS.")
//!             .setting(Setting::secret("api_key", "From acme.example, page API."))
//!             .base_url("https://api.acme.example", 10_000)
//!     }
//! }
//!
//! impl SmsText for Acme {
//!     const TEXT_LIMITS: Limits = Limits { recipients_max: 1, characters_max: 0, deduplicates: false };
//!
//!     fn send_text(context: &dyn Context, message: text::Message) -> Result<Vec<text::Receipt>, Error> {
//!         let (url, key) = (context.base_url()?, context.required("api_key")?);
//!         let one = |number: &str| -> Result<Accepted, Error> {
//!             let to = number::national(number).ok_or_else(|| Error::invalid_recipient("", "not an Iranian number"))?;
//!             let answer = Request::post([&url, "/send"].concat())
//!                 .header("authorization", &key)
//!                 .form(&[("to", &to), ("text", &message.text)])
//!                 .hand_over(context)?;
//!             match answer.text().trim().split_once(' ') {
//!                 Some(("ok", id)) => Ok(Accepted { message_id: id.to_owned(), duplicate: false, cost_rial: None }),
//!                 Some(("error", "7")) => Err(Error::insufficient_credit(7, "no credit")),
//!                 Some(("error", code)) => Err(Error::rejected(code, "refused")),
//!                 _ => Err(answer.unclear()), // Neither: it may have been sent. The gateway will not repeat it.
//!             }
//!         };
//!         let receipts = message.recipients.iter();
//!         Ok(receipts.map(|r| text::Receipt { number: r.number.clone(), outcome: one(&r.number) }).collect())
//!     }
//! }
//!
//! export_sms!(Acme: text);
//!
//! # fn main() {
//! // A native unit test needs no gateway:
//! let script = chelseru_plugin_sdk::testing::Script::for_plugin::<Acme>().setting("api_key", "k").reply(200, "ok 17");
//! let recipients = vec![chelseru_plugin_sdk::sms::Recipient { number: "+989121234567".to_owned(), local_id: 1 }];
//! let message = text::Message { recipients, text: "Hello".to_owned(), sender: None };
//! let receipts = Acme::send_text(&script, message).unwrap();
//! assert_eq!(receipts[0].outcome.as_ref().unwrap().message_id, "17");
//! assert_eq!(script.form(0)[0], ("to".to_owned(), "09121234567".to_owned()));
//! # }
//! ```
//!
//! Its `Cargo.toml` has `crate-type = ["cdylib", "rlib"]` under `[lib]` and this crate as a dependency (a path or
//! git dependency on the gateway's repository: the interfaces in `wit/v0.1` must lie beside it as they do
//! there; the plugin itself needs no WIT). A release profile with `lto = "fat"` and `panic = "abort"`, and the
//! linker flags `-zstack-size=32768` and `--initial-memory=65536`, make a component smaller and its calls faster:
//! memory that grows during a call costs more than the call. Then
//!
//! ```text
//! cargo build --release --target wasm32-wasip2          # NAME.wasm is the component: copy it to data/plugins/
//! cargo test --target host-tuple                        # native unit tests
//! ```
//!
//! Reading order: [`context`] (settings), [`http`] (requests), [`error`], [`number`], [`json`], [`encode`],
//! [`describe`], [`testing`]. Not here: anything about one provider.
//!
//! Rules that keep a plugin fast and safe: no `std::collections::HashMap` (its random seed is drawn anew in the
//! fresh instance of every call), no panics on a provider's answer, no secret, code or number in an error.

pub mod callback;
pub mod context;
pub mod describe;
pub mod encode;
pub mod error;
pub mod http;
pub mod json;
pub mod number;
pub mod testing;
#[doc(hidden)]
pub mod wit;

pub use context::{Context, Gateway};
pub use wit::base::chelseru::provider::types::{Error, Rejection};
pub use wit::base::exports::chelseru::provider::plugin::{Description, Setting, SettingKind};

/// The records of the SMS interfaces, by ability.
pub mod sms {
    pub use crate::wit::base::chelseru::provider::sms_types::{Accepted, Limits, Recipient, Report, State};

    /// Plain text messages.
    pub mod text {
        pub use crate::wit::text::exports::chelseru::provider::sms_text::{Message, Receipt};
    }

    /// Messages from a template stored at the provider.
    pub mod template {
        pub use crate::wit::template::exports::chelseru::provider::sms_template::{Message, Value};
    }

    /// Asking what became of messages.
    pub mod status {
        pub use super::{Report, State};
        pub use crate::wit::status::exports::chelseru::provider::sms_status::Limits;
    }

    /// What is left on the account.
    pub mod credit {
        pub use crate::wit::credit::exports::chelseru::provider::sms_credit::Credit;
    }

    /// Delivery reports the provider pushes.
    pub mod push {
        pub use super::Report;
        pub use crate::wit::push::exports::chelseru::provider::sms_push::Delivery;
    }
}

/// The records of the payment interfaces.
pub mod payment {
    pub use crate::wit::base::chelseru::provider::payment_types::{Receipt, Rules, Stored, Unconfirmed};
    pub use crate::wit::payment::exports::chelseru::provider::payment_gateway::{
        Callback, Claim, Field, Order, Redirect, Started, Verdict,
    };
    pub use crate::wit::payment_inquiry::exports::chelseru::provider::payment_inquiry::Standing;
    pub use crate::wit::payment_unverified::exports::chelseru::provider::payment_unverified::Unverified;
}

/// What every plugin must be.
pub trait Plugin {
    /// Describes the plugin. Called once when the component is loaded, without settings or network.
    fn describe() -> Description;
}

/// The ability `text`: plain text messages.
pub trait SmsText: Plugin {
    /// What one call can carry; the gateway splits larger batches.
    const TEXT_LIMITS: sms::Limits;

    /// Sends one text to one or more recipients.
    ///
    /// # Errors
    /// One error for all recipients, or one in each receipt; receipts are in the recipients' order.
    fn send_text(
        context: &dyn Context,
        message: sms::text::Message,
    ) -> Result<Vec<sms::text::Receipt>, Error>;
}

/// The ability `template`: messages from a template that is stored at the provider.
pub trait SmsTemplate: Plugin {
    /// What one call can carry; only `deduplicates` and `characters_max` matter, a call has one recipient.
    const TEMPLATE_LIMITS: sms::Limits;

    /// Checks what can be known without the network.
    ///
    /// # Errors
    /// Whatever [`Self::send_template`] would be refused with, most often `invalid-message`.
    fn check_template(message: &sms::template::Message) -> Result<(), Error>;

    /// Sends one message; the implementation calls [`Self::check_template`] itself where it must hold.
    ///
    /// # Errors
    /// See [`Error`]; `unknown-outcome` whenever the message may have been sent.
    fn send_template(context: &dyn Context, message: sms::template::Message) -> Result<sms::Accepted, Error>;
}

/// The ability `status`: asking what became of messages.
pub trait SmsStatus: Plugin {
    /// How many ids one call takes and how old they may be.
    const STATUS_LIMITS: sms::status::Limits;

    /// [`Self::STATUS_LIMITS`], unless they depend on a setting (one of the provider's APIs takes batches).
    fn status_limits(_context: &dyn Context) -> sms::status::Limits {
        Self::STATUS_LIMITS
    }

    /// One report per id, in their order.
    ///
    /// # Errors
    /// See [`Error`]; a question is never `unknown-outcome`.
    fn status(context: &dyn Context, message_ids: Vec<String>) -> Result<Vec<sms::Report>, Error>;
}

/// The ability `credit`: what is left on the account.
pub trait SmsCredit: Plugin {
    /// The credit now.
    ///
    /// # Errors
    /// See [`Error`]; a question is never `unknown-outcome`.
    fn credit(context: &dyn Context) -> Result<sms::credit::Credit, Error>;
}

/// The ability `push`: reading delivery reports that the provider pushes. A pure function.
pub trait SmsPush: Plugin {
    /// The reports in a delivery; none when it holds none.
    ///
    /// # Errors
    /// Names what is not understood, without numbers or texts of messages.
    fn parse_push(delivery: sms::push::Delivery) -> Result<Vec<sms::Report>, String>;
}

/// Taking payments: what every payment plugin does.
pub trait Payment: Plugin {
    /// How the provider settles, as data.
    fn rules(context: &dyn Context) -> payment::Rules;

    /// Makes a payment known to the provider.
    ///
    /// # Errors
    /// See [`Error`]; `unknown-outcome` whenever the provider may have taken it.
    fn create(context: &dyn Context, order: payment::Order) -> Result<payment::Started, Error>;

    /// Understands a callback, without any request; `None` when it is not this provider's.
    fn decode_callback(callback: &payment::Callback) -> Option<payment::Claim>;

    /// Asks whether a payment is paid, and confirms it when it is.
    ///
    /// # Errors
    /// See [`Error`]: nothing is known then. `unknown-outcome` whenever it may have been confirmed.
    fn verify(
        context: &dyn Context,
        payment: payment::Stored,
        claim: Option<payment::Claim>,
    ) -> Result<payment::Verdict, Error>;
}

/// The ability `unverified`: listing payments that wait for a confirmation.
pub trait PaymentUnverified: Payment {
    /// The newest ones.
    ///
    /// # Errors
    /// See [`Error`]; a question is never `unknown-outcome`.
    fn list_unverified(context: &dyn Context) -> Result<Vec<payment::Unverified>, Error>;
}

/// The ability `reverse`: giving a payment back as a whole.
pub trait PaymentReverse: Payment {
    /// Gives it back.
    ///
    /// # Errors
    /// See [`Error`]; `unknown-outcome` whenever it may have been given back.
    fn reverse(context: &dyn Context, payment: payment::Stored, receipt_number: String) -> Result<(), Error>;
}

/// The ability `inquiry`: asking how a payment stands without confirming it.
pub trait PaymentInquiry: Payment {
    /// How it stands.
    ///
    /// # Errors
    /// See [`Error`]; a question is never `unknown-outcome`.
    fn inquire(context: &dyn Context, payment: payment::Stored) -> Result<payment::Standing, Error>;
}

/// Makes the component of a payment provider: `export_payment!(MyPlugin);`, or with the optional abilities the type
/// implements: `export_payment!(MyPlugin: unverified, reverse, inquiry);`.
#[macro_export]
macro_rules! export_payment {
    ($plugin:ty $(: $($ability:ident),+ $(,)?)?) => {
        // Only in a component: the names of the exports are nothing a native linker takes.
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct __Exports;

            impl $crate::wit::base::exports::chelseru::provider::plugin::Guest for __Exports {
                fn describe() -> $crate::Description {
                    <$plugin as $crate::Plugin>::describe()
                }
            }
            $crate::wit::base::export!(__Exports with_types_in $crate::wit::base);

            impl $crate::wit::payment::exports::chelseru::provider::payment_gateway::Guest for __Exports {
                fn get_rules() -> $crate::payment::Rules {
                    <$plugin as $crate::Payment>::rules(&$crate::Gateway)
                }

                fn create(order: $crate::payment::Order) -> Result<$crate::payment::Started, $crate::Error> {
                    <$plugin as $crate::Payment>::create(&$crate::Gateway, order)
                }

                fn decode_callback(callback: $crate::payment::Callback) -> Option<$crate::payment::Claim> {
                    <$plugin as $crate::Payment>::decode_callback(&callback)
                }

                fn verify(
                    payment: $crate::payment::Stored,
                    claim: Option<$crate::payment::Claim>,
                ) -> Result<$crate::payment::Verdict, $crate::Error> {
                    <$plugin as $crate::Payment>::verify(&$crate::Gateway, payment, claim)
                }
            }
            $crate::wit::payment::export!(__Exports with_types_in $crate::wit::payment);

            $($($crate::__export_payment_ability!($plugin, $ability);)+)?
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_payment_ability {
    ($plugin:ty, unverified) => {
        impl $crate::wit::payment_unverified::exports::chelseru::provider::payment_unverified::Guest for __Exports {
            fn list_unverified() -> Result<Vec<$crate::payment::Unverified>, $crate::Error> {
                <$plugin as $crate::PaymentUnverified>::list_unverified(&$crate::Gateway)
            }
        }
        $crate::wit::payment_unverified::export!(__Exports with_types_in $crate::wit::payment_unverified);
    };
    ($plugin:ty, reverse) => {
        impl $crate::wit::payment_reverse::exports::chelseru::provider::payment_reverse::Guest for __Exports {
            fn reverse(payment: $crate::payment::Stored, receipt_number: String) -> Result<(), $crate::Error> {
                <$plugin as $crate::PaymentReverse>::reverse(&$crate::Gateway, payment, receipt_number)
            }
        }
        $crate::wit::payment_reverse::export!(__Exports with_types_in $crate::wit::payment_reverse);
    };
    ($plugin:ty, inquiry) => {
        impl $crate::wit::payment_inquiry::exports::chelseru::provider::payment_inquiry::Guest for __Exports {
            fn inquire(payment: $crate::payment::Stored) -> Result<$crate::payment::Standing, $crate::Error> {
                <$plugin as $crate::PaymentInquiry>::inquire(&$crate::Gateway, payment)
            }
        }
        $crate::wit::payment_inquiry::export!(__Exports with_types_in $crate::wit::payment_inquiry);
    };
    ($plugin:ty, $other:ident) => {
        compile_error!(concat!("unknown ability: ", stringify!($other), "; use unverified, reverse, inquiry"));
    };
}

/// Makes the component: `export_sms!(MyPlugin: text, template, status, credit, push);` with the abilities the
/// type implements. Exactly those are exported; the gateway looks for them.
#[macro_export]
macro_rules! export_sms {
    ($plugin:ty: $($ability:ident),+ $(,)?) => {
        // Only in a component: the names of the exports are nothing a native linker takes.
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct __Exports;

            impl $crate::wit::base::exports::chelseru::provider::plugin::Guest for __Exports {
                fn describe() -> $crate::Description {
                    <$plugin as $crate::Plugin>::describe()
                }
            }
            $crate::wit::base::export!(__Exports with_types_in $crate::wit::base);

            $($crate::__export_sms_ability!($plugin, $ability);)+
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_sms_ability {
    ($plugin:ty, text) => {
        impl $crate::wit::text::exports::chelseru::provider::sms_text::Guest for __Exports {
            fn get_limits() -> $crate::sms::Limits {
                <$plugin as $crate::SmsText>::TEXT_LIMITS
            }

            fn send(message: $crate::sms::text::Message) -> Result<Vec<$crate::sms::text::Receipt>, $crate::Error> {
                <$plugin as $crate::SmsText>::send_text(&$crate::Gateway, message)
            }
        }
        $crate::wit::text::export!(__Exports with_types_in $crate::wit::text);
    };
    ($plugin:ty, template) => {
        impl $crate::wit::template::exports::chelseru::provider::sms_template::Guest for __Exports {
            fn get_limits() -> $crate::sms::Limits {
                <$plugin as $crate::SmsTemplate>::TEMPLATE_LIMITS
            }

            fn check(message: $crate::sms::template::Message) -> Result<(), $crate::Error> {
                <$plugin as $crate::SmsTemplate>::check_template(&message)
            }

            fn send(message: $crate::sms::template::Message) -> Result<$crate::sms::Accepted, $crate::Error> {
                <$plugin as $crate::SmsTemplate>::send_template(&$crate::Gateway, message)
            }
        }
        $crate::wit::template::export!(__Exports with_types_in $crate::wit::template);
    };
    ($plugin:ty, status) => {
        impl $crate::wit::status::exports::chelseru::provider::sms_status::Guest for __Exports {
            fn get_limits() -> $crate::sms::status::Limits {
                <$plugin as $crate::SmsStatus>::status_limits(&$crate::Gateway)
            }

            fn get(message_ids: Vec<String>) -> Result<Vec<$crate::sms::Report>, $crate::Error> {
                <$plugin as $crate::SmsStatus>::status(&$crate::Gateway, message_ids)
            }
        }
        $crate::wit::status::export!(__Exports with_types_in $crate::wit::status);
    };
    ($plugin:ty, credit) => {
        impl $crate::wit::credit::exports::chelseru::provider::sms_credit::Guest for __Exports {
            fn get() -> Result<$crate::sms::credit::Credit, $crate::Error> {
                <$plugin as $crate::SmsCredit>::credit(&$crate::Gateway)
            }
        }
        $crate::wit::credit::export!(__Exports with_types_in $crate::wit::credit);
    };
    ($plugin:ty, push) => {
        impl $crate::wit::push::exports::chelseru::provider::sms_push::Guest for __Exports {
            fn parse(delivery: $crate::sms::push::Delivery) -> Result<Vec<$crate::sms::Report>, String> {
                <$plugin as $crate::SmsPush>::parse_push(delivery)
            }
        }
        $crate::wit::push::export!(__Exports with_types_in $crate::wit::push);
    };
    ($plugin:ty, $other:ident) => {
        compile_error!(concat!("unknown ability: ", stringify!($other), "; use text, template, status, credit, push"));
    };
}
