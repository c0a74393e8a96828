//! Payments, wallets and events, from one engine to the other. For postings see `ledger/postgres/moving.rs`.

use crate::engine::moving::{Part, Records, Rows, column, row};
use crate::engine::postgres::change::Running;
use crate::engine::postgres::value::{At, Columns, Json, int};
use crate::engine::sled::error;
use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{decode, decode_u64, encode, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::money::correction::{Correction, postgres as correction};
use crate::money::import::sled as import;
use crate::money::ledger::postgres::moving as ledger;
use crate::money::once::sled::Kept;
use crate::money::outbox::{Delivery, DeliveryState, Event, postgres as outbox};
use crate::money::payment::Payment;
use crate::money::payment::postgres::row as payment_row;
use crate::money::payment::postgres::row::payment_columns;
use crate::money::refund::{Refund, postgres as refund, sled as sled_refund};
use crate::money::reversal::{Reversal, ReversalState, postgres as reversal};
use crate::money::spend::{Spend, SpendState, postgres as spend};
use crate::{EventId, PaymentId, StoreError, UserId};

pub(crate) const PART: Part = Part {
    keys: &[
        keys::POSTING_BLOCKS,
        keys::POSTINGS,
        keys::POSTING_KEYS,
        keys::ACCOUNTS,
        keys::LEDGER_HEAD,
        keys::PAYMENTS,
        b"$u",
        b"$o",
        b"$O",
        b"$m",
        b"$t",
        b"$T",
        keys::GATEWAYS,
        b"$g",
        REFERENCES,
        RECEIPTS,
        b"$d",
        REFUNDS,
        keys::REFUND_POSITIONS,
        b"$y",
        b"$j",
        keys::REVERSALS,
        keys::REVERSALS_OPEN,
        keys::REVERSALS_REFUSED,
        keys::SPENDS,
        b"$S",
        b"$q",
        keys::HOLDS_DUE,
        keys::CORRECTIONS,
        keys::IDEMPOTENCY,
        keys::EVENTS,
        keys::EVENTS_NEW,
        keys::EVENTS_WANTED,
        CREDIT_LOW,
        DELIVERIES,
        b"$W",
        keys::DELIVERIES_DEAD,
        keys::PAYMENT_SEQUENCE,
        keys::SPEND_SEQUENCE,
        keys::CORRECTION_SEQUENCE,
        keys::EVENT_SEQUENCE,
        keys::INDEXES,
    ],
    tables: &[
        "wallet",
        "ledger_posting",
        "ledger_entry",
        "ledger_share",
        "payment",
        "payment_reference",
        "payment_receipt",
        "refund",
        "reversal",
        "spend",
        "correction",
        "idempotency",
        "outbox",
        "event",
        "delivery",
        "credit_low",
    ],
    to_postgres,
    to_sled,
};

const REFERENCES: &[u8] = b"$r";
const RECEIPTS: &[u8] = b"$x";
const REFUNDS: &[u8] = b"$f";
const DELIVERIES: &[u8] = b"$w";
const CREDIT_LOW: &[u8] = b"$l";

/// Sequences, by both names.
const SEQUENCES: [(&str, &[u8]); 4] = [
    ("payment_id_seq", keys::PAYMENT_SEQUENCE),
    ("spend_id_seq", keys::SPEND_SEQUENCE),
    ("correction_number_seq", keys::CORRECTION_SEQUENCE),
    ("event_id_seq", keys::EVENT_SEQUENCE),
];

/// What follows a kind's two bytes.
fn rest(key: &[u8]) -> &[u8] {
    key.get(2..).unwrap_or_default()
}

/// The gateway in a key, and the name behind it.
fn named(key: &[u8]) -> Result<(&str, &str), StoreError> {
    let damaged = || StoreError::Record { kind: "key", reason: "it is not a gateway and a name".to_owned() };
    let text = std::str::from_utf8(rest(key)).map_err(|_| damaged())?;
    text.split_once('\0').ok_or_else(damaged)
}

fn to_postgres<'a>(rows: &'a Rows<'a>) -> Running<'a, ()> {
    Box::pin(async move {
        ledger::to_postgres(rows).await?;
        payments(rows).await?;
        refunds(rows).await?;
        wallets(rows).await?;
        events(rows).await?;
        for (name, key) in SEQUENCES {
            rows.sequence(name, key).await?;
        }
        Ok(())
    })
}

async fn payments(rows: &Rows<'_>) -> Result<(), StoreError> {
    let payment = |_: &[u8], value: &[u8]| Ok(Some(decode::<Payment>(value)?));
    rows.each("payments", keys::PAYMENTS, payment, |sql, payment| Box::pin(payment_row::put(sql, payment)))
        .await?;
    let name = |key: &[u8], value: &[u8]| {
        let (gateway, name) = named(key)?;
        Ok(Some(row![column(gateway), column(name), int(decode_u64("reference", value)?)]))
    };
    let reference = "insert into payment_reference (gateway, reference, payment_id) values ($1, $2, $3)";
    rows.insert("references of payments", REFERENCES, reference, name).await?;
    let receipt = "insert into payment_receipt (gateway, number, payment_id) values ($1, $2, $3)";
    rows.insert("receipts", RECEIPTS, receipt, name).await
}

async fn refunds(rows: &Rows<'_>) -> Result<(), StoreError> {
    let sled = rows.sled;
    let payer = |id: PaymentId| -> Result<UserId, StoreError> {
        let payment: Option<Payment> = sled.record(&keys::payment(id))?;
        let missing = || StoreError::Record { kind: "refund", reason: format!("payment {id} is missing") };
        payment.map(|payment| payment.user).ok_or_else(missing)
    };
    let refund =
        "insert into refund (payment_id, number, user_id, position, amount, target, state, ordered_by, note,
            at, undone_by, undone_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    rows.insert("refunds", REFUNDS, refund, |_, value| {
        let refund: Refund = decode(value)?;
        let user = payer(refund.payment)?;
        Ok(Some(row![
            int(refund.payment.0),
            i64::from(refund.number),
            int(user.0),
            int(refund.position),
            int(refund.amount),
            refund.to.column(),
            refund.state.column(),
            int(refund.by.0),
            column(&refund.note),
            At(refund.at),
            refund.undone.map(|undone| int(undone.by.0)),
            refund.undone.map(|undone| At(undone.at)),
        ]))
    })
    .await?;
    let reversal = |_: &[u8], value: &[u8]| Ok(Some(decode::<Reversal>(value)?));
    rows.each("reversals", keys::REVERSALS, reversal, |sql, reversal| Box::pin(reversal::put(sql, reversal)))
        .await
}

async fn wallets(rows: &Rows<'_>) -> Result<(), StoreError> {
    let spend = |_: &[u8], value: &[u8]| Ok(Some(decode::<Spend>(value)?));
    rows.each("spends", keys::SPENDS, spend, |sql, spend| Box::pin(spend::insert(sql, spend))).await?;
    let correction = |_: &[u8], value: &[u8]| Ok(Some(decode::<Correction>(value)?));
    rows.each("corrections", keys::CORRECTIONS, correction, |sql, correction| {
        Box::pin(correction::insert(sql, correction))
    })
    .await?;
    let once =
        "insert into idempotency (user_id, key, request, subject, keep_until) values ($1, $2, $3, $4, $5)";
    rows.insert("idempotency keys", keys::IDEMPOTENCY, once, |key, value| {
        let Kept { keep_until, request, subject } = decode(value)?;
        let (user, key) = rest(key).split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let user = int(u64::from_be_bytes(*user));
        Ok(Some(row![user, key.to_vec(), request.to_vec(), int(subject), At(keep_until)]))
    })
    .await
}

async fn events(rows: &Rows<'_>) -> Result<(), StoreError> {
    let sled = rows.sled;
    let event = "insert into event (id, at, kind, body, routed) values ($1, $2, $3, $4, $5)";
    rows.insert("events", keys::EVENTS, event, |_, value| {
        let Event { id, at, body } = decode(value)?;
        let is_new = sled.tree.contains_key(keys::event_new(id)).map_err(error::read)?;
        Ok(Some(row![int(id.0), At(at), body.kind(), Json(body), !is_new]))
    })
    .await?;
    let delivery = "insert into delivery (event_id, endpoint, state, attempts, due_at, error)
        values ($1, $2, $3, $4, $5, $6)";
    rows.insert("deliveries of events", DELIVERIES, delivery, |key, value| {
        let Some((id, endpoint)) = keys::delivery_parts(key) else { return Ok(None) };
        let Delivery { state, attempts, due_at, error } = decode(value)?;
        let (state, attempts) = (state.column(), i64::from(attempts));
        Ok(Some(row![int(id.0), column(&endpoint), state, attempts, At(due_at), column(&error)]))
    })
    .await?;
    let low = "insert into credit_low (provider) values ($1)";
    rows.insert("low credits", CREDIT_LOW, low, |key, _| {
        Ok(Some(row![column(&String::from_utf8_lossy(rest(key)))]))
    })
    .await?;
    rows.insert("events", keys::EVENTS_WANTED, "update outbox set wanted = $1", |_, _| Ok(Some(row![true])))
        .await
}

fn to_sled<'a>(records: &'a Records<'a>) -> Running<'a, ()> {
    Box::pin(async move {
        ledger::to_sled(records).await?;
        payments_back(records).await?;
        refunds_back(records).await?;
        wallets_back(records).await?;
        events_back(records).await?;
        for (name, key) in SEQUENCES {
            records.sequence(name, key).await?;
        }
        Ok(())
    })
}

async fn payments_back(records: &Records<'_>) -> Result<(), StoreError> {
    records
        .put(
            "references of payments",
            "select gateway, reference, payment_id from payment_reference",
            |row| {
                let key = keys::reference(&row.text("gateway"), &row.text("reference"));
                Ok([(key, encode_u64(row.uint("payment_id")))])
            },
        )
        .await?;
    records
        .put("receipts", "select gateway, number, payment_id from payment_receipt", |row| {
            let key = keys::receipt(&row.text("gateway"), &row.text("number"));
            Ok([(key, encode_u64(row.uint("payment_id")))])
        })
        .await?;
    let payments = concat!("select ", payment_columns!(), " from payment order by id");
    records
        .each("payments", payments, |row| {
            let record = payment_row::read(row)?;
            Ok(move |txn: &mut Txn| import::put(txn, &record))
        })
        .await
}

async fn refunds_back(records: &Records<'_>) -> Result<(), StoreError> {
    records
        .each("refunds", refund::ALL, |row| {
            let (refund, user) = (refund::read(row), UserId(row.uint("user_id")));
            Ok(move |txn: &mut Txn| {
                sled_refund::enter_at(txn, &refund, user);
                Ok(())
            })
        })
        .await?;
    records
        .put("reversals", reversal::ALL, |row| {
            let reversal = reversal::read(row);
            let id = reversal.payment;
            let index = match reversal.state {
                ReversalState::Open => Some(keys::reversal_open(id)),
                ReversalState::Refused(_) => Some(keys::reversal_refused(id)),
                ReversalState::Done => None,
            };
            let index = index.map(|key| (key, sled::IVec::default()));
            Ok(std::iter::once((keys::reversal(id), encode(&reversal))).chain(index))
        })
        .await
}

async fn wallets_back(records: &Records<'_>) -> Result<(), StoreError> {
    records
        .put("spends", spend::ALL, |row| {
            let spend = spend::read(row);
            let mut entries = vec![
                (keys::spend(spend.id), encode(&spend)),
                (keys::spend_of(spend.user, spend.id), sled::IVec::default()),
            ];
            if let (SpendState::Held, Some(at)) = (spend.state, spend.expires_at) {
                entries.push((keys::hold_due(at, spend.id), sled::IVec::default()));
            }
            if !spend.order.is_empty() && matches!(spend.state, SpendState::Held | SpendState::Captured) {
                entries.push((keys::spend_order(spend.user, &spend.order), encode_u64(spend.id.0)));
            }
            Ok(entries)
        })
        .await?;
    records
        .put("corrections", correction::ALL, |row| {
            let correction = correction::read(row);
            Ok([(keys::correction(correction.number), encode(&correction))])
        })
        .await?;
    let once = "select user_id, key, request, subject, keep_until from idempotency order by user_id, key";
    records
        .put("idempotency keys", once, |row| {
            let (keep_until, request) = (row.at("keep_until"), row.bytes("request"));
            let kept = Kept { keep_until, request, subject: row.uint("subject") };
            Ok([(keys::idempotency(UserId(row.uint("user_id")), &row.bytes("key")), encode(&kept))])
        })
        .await
}

async fn events_back(records: &Records<'_>) -> Result<(), StoreError> {
    records
        .put("events", "select id, at, body, routed from event order by id", |row| {
            let event = outbox::event(row)?;
            let new =
                (!row.get::<_, bool>("routed")).then(|| (keys::event_new(event.id), sled::IVec::default()));
            Ok(std::iter::once((keys::event(event.id), encode(&event))).chain(new))
        })
        .await?;
    let deliveries = "select event_id, endpoint, state, attempts, due_at, error from delivery
        order by event_id, endpoint";
    records
        .put("deliveries of events", deliveries, |row| {
            let (id, endpoint) = (EventId(row.uint("event_id")), row.text("endpoint"));
            let delivery = outbox::delivery(row);
            let index = match delivery.state {
                DeliveryState::Pending => Some(keys::delivery_due(&endpoint, delivery.due_at, id)),
                DeliveryState::Dead => Some(keys::delivery_dead(id, &endpoint)),
                DeliveryState::Delivered => None,
            };
            let index = index.map(|key| (key, sled::IVec::default()));
            Ok(std::iter::once((keys::delivery(id, &endpoint), encode(&delivery))).chain(index))
        })
        .await?;
    records
        .put("low credits", "select provider from credit_low", |row| {
            Ok([(keys::credit_low(&row.text("provider")), sled::IVec::default())])
        })
        .await?;
    records
        .put("events", "select from outbox where wanted", |_| {
            Ok([(keys::EVENTS_WANTED.into(), sled::IVec::default())])
        })
        .await
}
