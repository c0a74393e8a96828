//! The key map of money: every key starts with `$` and a second byte for its kind.
//!
//! | bytes | rest of the key | value |
//! |---|---|---|
//! | `$b` | number of the block u64 | postings: see `ledger` |
//! | `$p` | number u64 | posting, as the first versions stored it |
//! | `$k` | posting key | u64: the posting's number |
//! | `$a` | account | balance |
//! | `$h` | | number and hash of the last posting |
//! | `$P` | payment | payment |
//! | `$u` | user, payment | nothing: a user's payments |
//! | `$o` | user, order | two u64: the open and the paid payment of an order, 0 for none |
//! | `$O` | order, NUL, payment | nothing: the payments of all orders of this name |
//! | `$m` | amount u64, payment | nothing: payments by amount |
//! | `$t` | state, gateway, NUL, payment | nothing: ended payments by state |
//! | `$T` | hour u64 | two u64: the least and the largest payment made in it |
//! | `$G` | gateway | nothing: gateways that ever had a payment |
//! | `$g` | gateway, NUL, payment | nothing: the open payments of a gateway |
//! | `$r` | gateway, NUL, reference | u64: the payment a gateway calls so |
//! | `$x` | gateway, NUL, receipt number | u64: the payment it was used for |
//! | `$d` | gateway, NUL, instant, payment | nothing: when to look at an open payment next |
//! | `$f` | payment, number u32 | refund |
//! | `$F` | position u64 | payment and number: refunds in the order in which they were booked |
//! | `$y` | user, position u64 | the same, of a user's payments |
//! | `$j` | state u8, position u64 | the same, of refunds in this state |
//! | `$v` | payment | reversal |
//! | `$V` | payment | nothing: reversals that are open |
//! | `$R` | payment | nothing: reversals that are refused, until the staff decides |
//! | `$s` | spend | spend |
//! | `$S` | user, spend | nothing: a user's spends |
//! | `$q` | user, order | u64: the spend of an order that is held or captured |
//! | `$H` | instant, spend | nothing: when a hold expires |
//! | `$c` | number | correction |
//! | `$i` | user, 32 bytes | idempotency record |
//! | `$e` | event | event |
//! | `$n` | event | nothing: events that were not routed yet |
//! | `$E` | | nothing: events are wanted |
//! | `$l` | provider of messages | nothing: its credit was reported as low |
//! | `$w` | event, endpoint | delivery |
//! | `$W` | endpoint, NUL, instant, event | nothing: when to try a delivery next |
//! | `$D` | event, endpoint | nothing: deliveries that were given up |
//!
//! A gateway's name contains no NUL (configured names are words), so keys of two gateways never overlap.

use sled::IVec;

use crate::{EventId, PaymentId, SpendId, Timestamp, UserId};

pub(crate) const PAYMENT_SEQUENCE: &[u8] = b"mseq-payment";
pub(crate) const CORRECTION_SEQUENCE: &[u8] = b"mseq-correction";
/// How far the indexes of payments are built.
pub(crate) const INDEXES: &[u8] = b"mindexes-money";
/// From the first payment on, from the first refund on, and built: the positions that migrations write, and that of a
/// new store.
pub(crate) const INDEXES_NONE: &[u8] = b"p\0\0\0\0\0\0\0\0";
pub(crate) const INDEXES_REFUNDS: &[u8] = b"r\0\0\0\0\0\0\0\0";
pub(crate) const INDEXES_ALL: &[u8] = b"a";

/// The indexes of refunds are built up to this payment.
pub(crate) fn indexes_from_refunds(id: PaymentId) -> IVec {
    joined(b"r", &[&id.0.to_be_bytes()])
}

pub(crate) const GATEWAYS: &[u8] = b"$G";
pub(crate) const HOLDS_DUE: &[u8] = b"$H";
pub(crate) const CORRECTIONS: &[u8] = b"$c";
pub(crate) const SPEND_SEQUENCE: &[u8] = b"mseq-spend";

pub(crate) const POSTING_BLOCKS: &[u8] = b"$b";
pub(crate) const POSTINGS: &[u8] = b"$p";
pub(crate) const POSTING_KEYS: &[u8] = b"$k";
pub(crate) const ACCOUNTS: &[u8] = b"$a";
pub(crate) const LEDGER_HEAD: &[u8] = b"$h";
pub(crate) const PAYMENTS: &[u8] = b"$P";
pub(crate) const SPENDS: &[u8] = b"$s";
pub(crate) const IDEMPOTENCY: &[u8] = b"$i";
pub(crate) const EVENT_SEQUENCE: &[u8] = b"mseq-event";
pub(crate) const EVENTS: &[u8] = b"$e";
pub(crate) const EVENTS_NEW: &[u8] = b"$n";
pub(crate) const EVENTS_WANTED: &[u8] = b"$E";
pub(crate) const DELIVERIES_DEAD: &[u8] = b"$D";

/// Most endpoints one event may have had.
pub(crate) const ENDPOINTS_MAX: usize = 1000;

pub(crate) fn posting(number: u64) -> IVec {
    joined(POSTINGS, &[&number.to_be_bytes()])
}

pub(crate) fn posting_block(block: u64) -> IVec {
    joined(POSTING_BLOCKS, &[&block.to_be_bytes()])
}

pub(crate) fn posting_key(key: &str) -> IVec {
    joined(POSTING_KEYS, &[key.as_bytes()])
}

pub(crate) fn account(bytes: &[u8]) -> IVec {
    joined(ACCOUNTS, &[bytes])
}

pub(crate) fn payment(id: PaymentId) -> IVec {
    joined(PAYMENTS, &[&id.0.to_be_bytes()])
}

pub(crate) fn payment_of(user: UserId, id: PaymentId) -> IVec {
    joined(b"$u", &[&user.0.to_be_bytes(), &id.0.to_be_bytes()])
}

pub(crate) fn order(user: UserId, order: &str) -> IVec {
    joined(b"$o", &[&user.0.to_be_bytes(), order.as_bytes()])
}

/// What the keys of an order's payments begin with, whoever's they are. An order's name holds no NUL.
pub(crate) fn ordered_as(order: &str) -> Vec<u8> {
    [b"$O", order.as_bytes(), &[0]].concat()
}

pub(crate) fn ordered(order: &str, id: PaymentId) -> IVec {
    joined(b"$O", &[order.as_bytes(), &[0], &id.0.to_be_bytes()])
}

/// What the keys of the payments of one amount begin with.
pub(crate) fn amounts(amount: u64) -> Vec<u8> {
    [b"$m".as_slice(), &amount.to_be_bytes()].concat()
}

pub(crate) fn amount(amount: u64, id: PaymentId) -> IVec {
    joined(b"$m", &[&amount.to_be_bytes(), &id.0.to_be_bytes()])
}

/// What the keys of a user's payments begin with.
pub(crate) fn payments_of(user: UserId) -> Vec<u8> {
    [b"$u".as_slice(), &user.0.to_be_bytes()].concat()
}

/// What the keys of a gateway's payments in one state begin with.
pub(crate) fn in_state_of(state: u8, gateway: &str) -> Vec<u8> {
    [b"$t", [state].as_slice(), gateway.as_bytes(), &[0]].concat()
}

pub(crate) fn in_state(state: u8, gateway: &str, id: PaymentId) -> IVec {
    joined(b"$t", &[&[state], gateway.as_bytes(), &[0], &id.0.to_be_bytes()])
}

pub(crate) fn hour(at: Timestamp) -> IVec {
    joined(b"$T", &[&(at.as_secs() / 3600).to_be_bytes()])
}

pub(crate) fn gateway(name: &str) -> IVec {
    joined(GATEWAYS, &[name.as_bytes()])
}

/// Behind the keys of all payments, and of all spends.
pub(crate) fn payments_end() -> IVec {
    b"$Q".into()
}

pub(crate) fn spends_end() -> IVec {
    b"$t".into()
}

pub(crate) fn spend_order(user: UserId, order: &str) -> IVec {
    joined(b"$q", &[&user.0.to_be_bytes(), order.as_bytes()])
}

pub(crate) fn hold_due(at: Timestamp, id: SpendId) -> IVec {
    joined(HOLDS_DUE, &[&at.as_micros().to_be_bytes(), &id.0.to_be_bytes()])
}

pub(crate) fn correction(number: u64) -> IVec {
    joined(CORRECTIONS, &[&number.to_be_bytes()])
}

pub(crate) fn open(gateway: &str, id: PaymentId) -> IVec {
    joined(b"$g", &[gateway.as_bytes(), &[0], &id.0.to_be_bytes()])
}

/// Prefix of a gateway's open payments.
pub(crate) fn open_of(gateway: &str) -> IVec {
    joined(b"$g", &[gateway.as_bytes(), &[0]])
}

pub(crate) fn reference(gateway: &str, reference: &str) -> IVec {
    joined(b"$r", &[gateway.as_bytes(), &[0], reference.as_bytes()])
}

pub(crate) fn receipt(gateway: &str, number: &str) -> IVec {
    joined(b"$x", &[gateway.as_bytes(), &[0], number.as_bytes()])
}

pub(crate) fn due(gateway: &str, at: Timestamp, id: PaymentId) -> IVec {
    joined(b"$d", &[gateway.as_bytes(), &[0], &at.as_micros().to_be_bytes(), &id.0.to_be_bytes()])
}

pub(crate) fn refund(id: PaymentId, number: u32) -> IVec {
    joined(b"$f", &[&id.0.to_be_bytes(), &number.to_be_bytes()])
}

/// What the keys of all refunds in the order of their positions begin with.
pub(crate) const REFUND_POSITIONS: &[u8] = b"$F";

pub(crate) fn refund_position(position: u64) -> IVec {
    joined(REFUND_POSITIONS, &[&position.to_be_bytes()])
}

/// What the keys of the refunds of a user's payments begin with.
pub(crate) fn refunds_of(user: UserId) -> Vec<u8> {
    [b"$y".as_slice(), &user.0.to_be_bytes()].concat()
}

/// What the keys of the refunds in a state begin with.
pub(crate) fn refunds_in(state: u8) -> Vec<u8> {
    [b"$j".as_slice(), &[state]].concat()
}

pub(crate) const REVERSALS_OPEN: &[u8] = b"$V";

pub(crate) const REVERSALS: &[u8] = b"$v";
/// Reversals that the gateway refused and nobody decided about.
pub(crate) const REVERSALS_REFUSED: &[u8] = b"$R";

pub(crate) fn reversal_refused(id: PaymentId) -> IVec {
    joined(REVERSALS_REFUSED, &[&id.0.to_be_bytes()])
}

pub(crate) fn reversal(id: PaymentId) -> IVec {
    joined(b"$v", &[&id.0.to_be_bytes()])
}

pub(crate) fn reversal_open(id: PaymentId) -> IVec {
    joined(REVERSALS_OPEN, &[&id.0.to_be_bytes()])
}

/// The payment at the end of a reversal's key.
pub(crate) fn payment_of_reversal(key: &[u8]) -> Option<PaymentId> {
    key.last_chunk::<8>().map(|bytes| PaymentId(u64::from_be_bytes(*bytes)))
}

pub(crate) fn spend(id: SpendId) -> IVec {
    joined(SPENDS, &[&id.0.to_be_bytes()])
}

pub(crate) fn spend_of(user: UserId, id: SpendId) -> IVec {
    joined(b"$S", &[&user.0.to_be_bytes(), &id.0.to_be_bytes()])
}

pub(crate) fn idempotency(user: UserId, key: &[u8; 32]) -> IVec {
    joined(IDEMPOTENCY, &[&user.0.to_be_bytes(), key])
}

/// What the keys of a user's idempotency records begin with.
pub(crate) fn idempotency_of(user: UserId) -> IVec {
    joined(IDEMPOTENCY, &[&user.0.to_be_bytes()])
}

pub(crate) fn event(id: EventId) -> IVec {
    joined(EVENTS, &[&id.0.to_be_bytes()])
}

pub(crate) fn event_new(id: EventId) -> IVec {
    joined(EVENTS_NEW, &[&id.0.to_be_bytes()])
}

pub(crate) fn credit_low(provider: &str) -> IVec {
    joined(b"$l", &[provider.as_bytes()])
}

pub(crate) fn delivery(id: EventId, endpoint: &str) -> IVec {
    joined(b"$w", &[&id.0.to_be_bytes(), endpoint.as_bytes()])
}

pub(crate) fn deliveries_of(id: EventId) -> IVec {
    joined(b"$w", &[&id.0.to_be_bytes()])
}

pub(crate) fn delivery_due(endpoint: &str, at: Timestamp, id: EventId) -> IVec {
    let (at, id) = (at.as_micros().to_be_bytes(), id.0.to_be_bytes());
    joined(b"$W", &[endpoint.as_bytes(), &[0], &at, &id])
}

pub(crate) fn delivery_dead(id: EventId, endpoint: &str) -> IVec {
    joined(DELIVERIES_DEAD, &[&id.0.to_be_bytes(), endpoint.as_bytes()])
}

/// The event and the endpoint in a delivery's key; the endpoint is empty in an event's own key.
pub(crate) fn delivery_parts(key: &[u8]) -> Option<(EventId, String)> {
    let (number, endpoint) = key.get(2..)?.split_first_chunk::<8>()?;
    let endpoint = std::str::from_utf8(endpoint).ok()?;
    Some((EventId(u64::from_be_bytes(*number)), endpoint.to_owned()))
}

/// The number at the end of a key.
pub(crate) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}

fn joined(prefix: &[u8], parts: &[&[u8]]) -> IVec {
    let mut key = Vec::with_capacity(prefix.len() + parts.iter().map(|part| part.len()).sum::<usize>());
    key.extend_from_slice(prefix);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_sort_as_their_keys_do() {
        let numbers = [0, 1, 255, 256, u64::MAX];
        assert!(numbers.map(posting).is_sorted());
        assert!(numbers.map(|n| due("X", Timestamp::from_micros(n), PaymentId(1))).is_sorted());
        assert!(
            due("X", Timestamp::from_micros(1), PaymentId(u64::MAX))
                < due("X", Timestamp::from_micros(2), PaymentId(0))
        );
    }

    #[test]
    fn one_gateways_keys_do_not_mix_with_anothers() {
        assert!(!open("ZARINPAL_COM_2", PaymentId(1)).starts_with(&open_of("ZARINPAL_COM")));
        assert!(open("ZARINPAL_COM", PaymentId(1)).starts_with(&open_of("ZARINPAL_COM")));
        assert_eq!(last_number(&open("X", PaymentId(7))), Some(7));
    }
}
