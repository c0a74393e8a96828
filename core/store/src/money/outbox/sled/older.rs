//! Events as earlier versions wrote them.

use serde::Deserialize;

use crate::money::outbox::{Event, EventBody, PaymentFacts};
use crate::money::payment::{Currency, PayMode, PaymentState};
use crate::{EventId, PaymentId, SpendId, Timestamp, UserId};

/// The first shape: payments without their gateway's name of them, wallets without an order.
#[derive(Deserialize)]
struct First {
    id: EventId,
    at: Timestamp,
    body: Body,
}

#[derive(Deserialize)]
enum Body {
    PaymentEnded(Facts),
    PaymentRefunded { payment: Facts, amount: u64, number: u32 },
    WalletChanged { user: UserId, amount: i64, balance: i64, posting: String },
    SpendCaptured { spend: SpendId, user: UserId, held: u64, captured: u64, order: String },
    PaymentUncredited { gateway: String, reference: String, listed: Option<u64>, payment: Option<Facts> },
}

#[derive(Deserialize)]
struct Facts {
    id: PaymentId,
    user: UserId,
    state: PaymentState,
    reason: String,
    amount: u64,
    refunded: u64,
    currency: Currency,
    mode: PayMode,
    order: String,
    gateway: String,
    receipt: Option<String>,
}

pub(super) fn first(record: &[u8]) -> Result<Event, postcard::Error> {
    let First { id, at, body } = postcard::from_bytes(record)?;
    let body = match body {
        Body::PaymentEnded(payment) => EventBody::PaymentEnded(facts(payment)),
        Body::PaymentRefunded { payment, amount, number } => {
            EventBody::PaymentRefunded { payment: facts(payment), amount, number }
        }
        Body::WalletChanged { user, amount, balance, posting } => {
            EventBody::WalletChanged { user, amount, balance, posting, order: String::new() }
        }
        Body::SpendCaptured { spend, user, held, captured, order } => {
            EventBody::SpendCaptured { spend, user, held, captured, order }
        }
        Body::PaymentUncredited { gateway, reference, listed, payment } => {
            EventBody::PaymentUncredited { gateway, reference, listed, payment: payment.map(facts) }
        }
    };
    Ok(Event { id, at, body })
}

fn facts(facts: Facts) -> PaymentFacts {
    PaymentFacts {
        id: facts.id,
        user: facts.user,
        state: facts.state,
        reason: facts.reason,
        amount: facts.amount,
        refunded: facts.refunded,
        currency: facts.currency,
        mode: facts.mode,
        order: facts.order,
        gateway: facts.gateway,
        reference: None,
        receipt: facts.receipt,
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::sled::record::decode;
    use crate::money::outbox::{Event, EventBody};
    use crate::{EventId, Timestamp, UserId};

    /// The bytes of an event from before: a wallet that got 5 rial.
    #[test]
    fn an_event_of_the_first_version_is_read() {
        let posting = b"payment:1";
        let mut bytes = vec![1, 3, 64, 2, 7, 10, 20, posting.len() as u8];
        bytes.extend_from_slice(posting);
        let event: Event = decode(&bytes).expect("readable");
        let (user, posting) = (UserId(7), "payment:1".to_owned());
        let body = EventBody::WalletChanged { user, amount: 5, balance: 10, posting, order: String::new() };
        assert_eq!(event, Event { id: EventId(3), at: Timestamp::from_micros(64), body });
    }
}
