//! Validation of every string that a plugin returns.
//!
//! Every type that a plugin function returns is destructured field by field, so a field added to the interfaces does
//! not compile here without a rule. A provider's texts and codes are escaped, masked and cut. Ids, references,
//! addresses and states are kept exactly or emptied, because a changed one would mean something else. The meaning of
//! an emptied field is decided where the value is used.

use chelseru_plugin_host::{Border, GuestData};

use crate::bindings::{payment, sms_credit, sms_status, sms_text, sms_types, types};

/// Bytes of a provider's message id.
pub(crate) const MESSAGE_ID_MAX: usize = 128;
/// Bytes of a payment's reference, a receipt number and a card's hash.
pub(crate) const NAME_MAX: usize = 512;
/// Bytes of a plugin's own state, and of its data from a callback.
pub(crate) const STATE_MAX: usize = 4096;
/// Bytes of a payer's redirect address, and of each form field.
pub(crate) const URL_MAX: usize = 4096;

/// The error of the interfaces, which each kind of plugin has as its own type.
macro_rules! error {
    ($types:path) => {
        const _: () = {
            use $types as types;

            impl GuestData for types::Rejection {
                fn pass(&mut self, border: &Border) {
                    let types::Rejection { code, text, field } = self;
                    border.code(code);
                    border.text(text);
                    if let Some(field) = field {
                        border.code(field);
                    }
                }
            }

            impl GuestData for types::Error {
                fn pass(&mut self, border: &Border) {
                    use types::Error as E;
                    match self {
                        E::InvalidRecipient(rejection)
                        | E::InvalidMessage(rejection)
                        | E::InvalidTemplate(rejection)
                        | E::Unauthorized(rejection)
                        | E::InsufficientCredit(rejection)
                        | E::Rejected(rejection) => rejection.pass(border),
                        E::Unavailable(text)
                        | E::UnknownOutcome(text)
                        | E::BrokeDown(text)
                        | E::Misconfigured(text) => border.text(text),
                        E::Throttled(seconds) => seconds.pass(border),
                    }
                }
            }
        };
    };
}
error!(types);
error!(payment::types);

impl GuestData for sms_types::Accepted {
    fn pass(&mut self, border: &Border) {
        let sms_types::Accepted { message_id, duplicate: _, cost_rial: _ } = self;
        border.id(message_id, MESSAGE_ID_MAX);
    }
}

impl GuestData for sms_types::Limits {
    fn pass(&mut self, _: &Border) {
        let sms_types::Limits { recipients_max: _, characters_max: _, deduplicates: _ } = self;
    }
}

impl GuestData for sms_types::Report {
    fn pass(&mut self, border: &Border) {
        let sms_types::Report { message_id, state: _, detail } = self;
        border.id(message_id, MESSAGE_ID_MAX);
        border.text(detail);
    }
}

impl GuestData for sms_text::Receipt {
    fn pass(&mut self, border: &Border) {
        let sms_text::Receipt { number, outcome } = self;
        border.exact(number, MESSAGE_ID_MAX);
        outcome.pass(border);
    }
}

impl GuestData for sms_credit::Credit {
    fn pass(&mut self, _: &Border) {
        match self {
            sms_credit::Credit::Rial(_) | sms_credit::Credit::Messages(_) => {}
        }
    }
}

impl GuestData for sms_status::Limits {
    fn pass(&mut self, _: &Border) {
        let sms_status::Limits { ids_max: _, age_seconds_max: _ } = self;
    }
}

mod payments {
    use super::payment::payment_gateway::{Claim, Field, Redirect, Started, Verdict};
    use super::payment::payment_types::{Receipt, Rules};
    use super::payment::payment_unverified::Unverified;
    use super::{Border, GuestData, NAME_MAX, STATE_MAX, URL_MAX};

    impl GuestData for Rules {
        fn pass(&mut self, border: &Border) {
            let Rules {
                amount_min: _,
                amount_max: _,
                unit_rial: _,
                window_seconds: _,
                unconfirmed: _,
                reverse_seconds: _,
                already_code,
            } = self;
            border.code(already_code);
        }
    }

    impl GuestData for Started {
        fn pass(&mut self, border: &Border) {
            let Started { reference, redirect, state, message } = self;
            border.id(reference, NAME_MAX);
            redirect.pass(border);
            border.text(message);
            // A state above its limit fails the call, because an empty one would be another state.
            if state.len() > STATE_MAX {
                reference.clear();
                state.clear();
            }
        }
    }

    impl GuestData for Redirect {
        fn pass(&mut self, border: &Border) {
            match self {
                Redirect::Get(url) => border.exact(url, URL_MAX),
                Redirect::Post((url, fields)) => {
                    let whole = |field: &Field| field.name.len() <= URL_MAX && field.value.len() <= URL_MAX;
                    if !fields.iter().all(whole) {
                        // A form without one of its values would be another form.
                        url.clear();
                    }
                    border.exact(url, URL_MAX);
                    fields.pass(border);
                }
            }
        }
    }

    impl GuestData for Field {
        fn pass(&mut self, border: &Border) {
            let Field { name, value } = self;
            border.exact(name, URL_MAX);
            border.exact(value, URL_MAX);
        }
    }

    impl GuestData for Claim {
        fn pass(&mut self, border: &Border) {
            let Claim { reference, cancelled: _, receipt, data } = self;
            border.id(reference, NAME_MAX);
            if let Some(receipt) = receipt {
                border.id(receipt, NAME_MAX);
            }
            if data.len() > STATE_MAX {
                reference.clear();
                data.clear();
            }
        }
    }

    impl GuestData for Receipt {
        fn pass(&mut self, border: &Border) {
            let Receipt { number, card_pan, card_hash, fee_rial: _, amount_rial: _, code, text } = self;
            border.id(number, NAME_MAX);
            border.text(card_pan);
            border.id(card_hash, NAME_MAX);
            border.code(code);
            border.text(text);
        }
    }

    impl GuestData for Verdict {
        fn pass(&mut self, border: &Border) {
            match self {
                Verdict::Paid(receipt) | Verdict::PaidBefore(receipt) => receipt.pass(border),
                Verdict::NotPaid(rejection)
                | Verdict::Cancelled(rejection)
                | Verdict::Failed(rejection)
                | Verdict::ClaimDenied(rejection) => rejection.pass(border),
                Verdict::Pending(seconds) => seconds.pass(border),
                Verdict::Mismatch(field) => border.code(field),
                Verdict::UnknownReference => {}
            }
        }
    }

    impl GuestData for Unverified {
        fn pass(&mut self, border: &Border) {
            let Unverified { reference, amount_rial: _ } = self;
            border.id(reference, NAME_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed<T: GuestData>(mut value: T) -> T {
        value.pass(&Border::default());
        value
    }

    #[test]
    fn what_a_provider_says_is_cut_and_escaped_and_a_message_id_is_whole_or_empty() {
        let (code, text) = ("\u{1b}[31m".repeat(100), "x\n".repeat(500_000));
        let rejection = types::Rejection { field: Some(code.clone()), code, text };
        let types::Error::Rejected(rejection) = passed(types::Error::Rejected(rejection)) else { panic!() };
        assert!(rejection.code.chars().count() <= 65 && rejection.code.starts_with("\\u{1b}[31m"));
        assert_eq!(rejection.field.as_ref(), Some(&rejection.code));
        assert!(rejection.text.chars().count() <= 301 && rejection.text.starts_with("x\\nx"));
        let accepted =
            |id: String| passed(sms_types::Accepted { message_id: id, duplicate: false, cost_rial: None });
        assert_eq!(accepted("8792343001".to_owned()).message_id, "8792343001");
        assert_eq!(accepted("1".repeat(MESSAGE_ID_MAX)).message_id.len(), MESSAGE_ID_MAX);
        assert_eq!(accepted("1".repeat(MESSAGE_ID_MAX + 1)).message_id, "");
    }

    #[test]
    fn a_payment_that_breaks_a_bound_has_no_reference_or_no_address() {
        use payment::payment_gateway::{Field, Redirect, Started};
        let started = |state: usize, value: usize| {
            let field = Field { name: "token".to_owned(), value: "v".repeat(value) };
            passed(Started {
                reference: "A1".to_owned(),
                redirect: Redirect::Post(("https://bank.example/pay".to_owned(), vec![field])),
                state: vec![0; state],
                message: "ok".to_owned(),
            })
        };
        let url = |started: &Started| match &started.redirect {
            Redirect::Get(url) | Redirect::Post((url, _)) => url.clone(),
        };
        let good = started(STATE_MAX, URL_MAX);
        assert_eq!((good.reference.as_str(), url(&good).as_str()), ("A1", "https://bank.example/pay"));
        assert_eq!(started(STATE_MAX + 1, 1).reference, "");
        assert_eq!(url(&started(0, URL_MAX + 1)), "");
    }
}
