//! Translation between the domain's payment types and those of the interfaces.

use std::time::Duration;

use chelseru_domain::money::payment::gateway::{
    GatewayError, PaymentReceipt, Reason, StoredPayment, Verdict,
};
use chelseru_plugin_host::CallError;

use crate::bindings::payment::{payment_types, types};
use crate::border::NAME_MAX;

/// Characters kept of a provider's text.
const TEXT_MAX: usize = 300;

pub(super) fn stored(payment: StoredPayment) -> payment_types::Stored {
    payment_types::Stored {
        local_id: payment.local_id,
        reference: payment.reference,
        amount_rial: payment.amount,
        order: payment.order,
        state: payment.state,
    }
}

pub(super) fn paid(receipt: payment_types::Receipt, before: bool) -> Result<Verdict, GatewayError> {
    if receipt.number.len() > NAME_MAX {
        return Err(GatewayError::Unknown("the plugin's receipt exceeds a limit".to_owned()));
    }
    let amount = receipt.amount_rial;
    let receipt = PaymentReceipt {
        number: receipt.number,
        card_pan: cut(&receipt.card_pan),
        card_hash: cut(&receipt.card_hash),
        fee_rial: receipt.fee_rial,
        code: cut(&receipt.code),
        message: cut(&receipt.text),
    };
    Ok(Verdict::Paid { receipt, amount, before })
}

pub(super) fn reason(rejection: types::Rejection) -> Reason {
    let field = rejection.field.map(|field| cut(&field));
    Reason { code: cut(&rejection.code), text: cut(&rejection.text), field }
}

pub(super) fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// An error reported by the plugin.
pub(super) fn provider_error(error: types::Error) -> GatewayError {
    match error {
        types::Error::Unauthorized(rejection) => GatewayError::Unauthorized(reason(rejection)),
        types::Error::InvalidRecipient(rejection)
        | types::Error::InvalidMessage(rejection)
        | types::Error::InvalidTemplate(rejection)
        | types::Error::InsufficientCredit(rejection)
        | types::Error::Rejected(rejection) => GatewayError::Refused(reason(rejection)),
        types::Error::Throttled(seconds) => {
            GatewayError::Throttled(seconds.map(|seconds| Duration::from_secs(seconds.into())))
        }
        types::Error::Unavailable(text) | types::Error::Misconfigured(text) => {
            GatewayError::Unavailable(cut(&text))
        }
        types::Error::UnknownOutcome(text) | types::Error::BrokeDown(text) => {
            GatewayError::Unknown(cut(&text))
        }
    }
}

/// An error of the host for a call without an answer.
pub(super) fn call_error(error: CallError) -> GatewayError {
    if error.may_have_sent() {
        GatewayError::Unknown(error.to_string())
    } else {
        GatewayError::Unavailable(error.to_string())
    }
}
