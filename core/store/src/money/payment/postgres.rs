//! The operations of this folder, in PostgreSQL statements.
//!
//! A step locks the payment's row, judges it, and stores it; settling then locks the payer's row in `wallet`. Two new
//! payments of one order wait for each other at a lock named after the user and the order, because until the first one
//! is stored there is no row to lock.

pub(crate) mod row;

use futures_util::future::try_join;

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Text, int};
use crate::money::ledger::postgres::post;
use crate::money::ledger::{Posted, payment_key};
use crate::money::once::{Subject, postgres as once};
use crate::money::order::postgres as order;
use crate::money::outbox::EventBody;
use crate::money::outbox::postgres::emit;
use crate::money::payment::postgres::row::{payment_columns, put};
use crate::money::payment::rules::Claimed;
use crate::money::payment::{
    CheckedLater, KeptClaim, PayMode, Payment, PaymentAsked, PaymentClaim, PaymentCreated, PaymentDraft,
    PaymentReceipt, PaymentRefusal, PaymentSettled, PaymentStart, PaymentState, PaymentStep,
};
use crate::{Due, PaymentId, StoreError, Timestamp, UserId};

const GET: &str = concat!("select ", payment_columns!(), " from payment where id = $1");

const GET_LOCKED: &str = concat!("select ", payment_columns!(), " from payment where id = $1 for update");

/// Two numbers, whose locks never meet those of one number: a client chooses the name, and a hash can be inverted. With
/// one number, a chosen name was the key of a lock of the engine.
const ORDER_LOCK: &str = "select pg_advisory_xact_lock(hashint8($1), hashtext($2))";

/// The newest paid payment of an order, if that counts, else the newest open one.
const OF_ORDER: &str = concat!(
    "select ",
    payment_columns!(),
    " from payment where user_id = $1 and order_name = $2
        and (state in ('created', 'pending') or (state = 'paid' and $3))
      order by state = 'paid' desc, id desc limit 1"
);

const NEXT: &str = "select nextval(pg_get_serial_sequence('payment', 'id'))";

const NAME: &str = "insert into payment_reference (gateway, reference, payment_id) values ($1, $2, $3) on conflict do nothing";

const RECEIPT: &str =
    "insert into payment_receipt (gateway, number, payment_id) values ($1, $2, $3) on conflict do nothing";

const RECEIPT_BACK: &str =
    "delete from payment_receipt where gateway = $1 and number = $2 and payment_id = $3";

/// The two-part keys are apart from the one-part keys of the engine's own locks.
const RECEIPT_LOCK: &str = "select pg_advisory_xact_lock(hashtext('receipt'), hashtext($1))";

const BY_RECEIPT: &str = concat!(
    "select ",
    payment_columns!(),
    " from payment join payment_receipt used on used.payment_id = payment.id
      where used.number = $1 and used.gateway <> $2"
);

const BY_REFERENCE: &str = concat!(
    "select ",
    payment_columns!(),
    " from payment join payment_reference named on named.payment_id = payment.id
      where named.gateway = $1 and named.reference = $2"
);

const BY_REFERENCE_LOCKED: &str = concat!(
    "select ",
    payment_columns!(),
    " from payment join payment_reference named on named.payment_id = payment.id
      where named.gateway = $1 and named.reference = $2 for update of payment"
);

const OF_USER: &str = concat!(
    "select ",
    payment_columns!(),
    " from payment where (user_id, id) >= ($1, 0) and (user_id, id) < ($1, $2)
      order by user_id desc, id desc limit $3"
);

const DUE: &str = concat!(
    "select ",
    payment_columns!(),
    " from payment where gateway = $1 and check_at between $2 and $3
        and (state in ('created', 'pending') or late_question)
      order by check_at, id limit $4"
);

const OPEN: &str = "
    select count(*) from (
        select from payment where gateway = $1 and (state in ('created', 'pending') or late_question) limit $2
    ) as open";

/// One look-up per gateway, however many payments each has.
const OPEN_GATEWAYS: &str = "
    with recursive names (name) as (
        select min(gateway) from payment where state in ('created', 'pending') or late_question
        union all
        select (select min(gateway) from payment
            where gateway > name and (state in ('created', 'pending') or late_question))
        from names where name is not null
    )
    select name from names where name is not null order by name collate \"C\"";

/// A payment, locked until the change ends.
pub(crate) async fn get_locked(sql: &Sql, id: PaymentId) -> Result<Option<Payment>, StoreError> {
    sql.found(GET_LOCKED, &[&int(id.0)]).await?.as_ref().map(row::read).transpose()
}

impl Postgres {
    /// Locks the name of the order; a key of the client is unique.
    pub(crate) async fn payment_create(&self, draft: PaymentDraft) -> Result<PaymentCreated, StoreError> {
        self.change(draft, |sql, draft| Box::pin(create(sql, draft))).await
    }

    /// Locks the name of the order.
    pub(crate) async fn payment_known(
        &self,
        asked: PaymentAsked,
    ) -> Result<Option<PaymentCreated>, StoreError> {
        let known = self.change(asked, |sql, asked| Box::pin(known(sql, asked))).await?;
        Ok(match known {
            Known::Answer(answer) => Some(answer),
            Known::Nothing { .. } => None,
        })
    }

    /// Locks the payment's row; a reference is unique.
    pub(crate) async fn payment_started(
        &self,
        id: PaymentId,
        start: PaymentStart,
        check_at: Timestamp,
        now: Timestamp,
    ) -> Result<PaymentStep, StoreError> {
        self.change(start, move |sql, start| Box::pin(started(sql, id, start, check_at, now))).await
    }

    /// Locks the payment's row.
    pub(crate) async fn payment_claimed(
        &self,
        id: PaymentId,
        claim: Option<KeptClaim>,
        asking: Option<Timestamp>,
    ) -> Result<PaymentStep, StoreError> {
        self.step(id, move |payment| {
            if !payment.takes_claims() {
                return Stepped::Was;
            }
            match payment.claimed(claim.clone(), asking) {
                Claimed::Nothing => return Stepped::Unchanged,
                Claimed::Record => {}
                Claimed::Recheck(at) => payment.check_at = at,
            }
            Stepped::Changed
        })
        .await
    }

    /// Locks the payment's row.
    pub(crate) async fn payment_late_answered(&self, id: PaymentId) -> Result<PaymentStep, StoreError> {
        self.step(id, |payment| match std::mem::take(&mut payment.late_question) {
            true => Stepped::Changed,
            false => Stepped::Was,
        })
        .await
    }

    /// Locks the payment's row.
    pub(crate) async fn payment_claims_denied(
        &self,
        id: PaymentId,
        denied: Vec<PaymentClaim>,
    ) -> Result<PaymentStep, StoreError> {
        self.step(id, move |payment| {
            payment.claims.retain(|kept| !denied.contains(&kept.claim));
            Stepped::Changed
        })
        .await
    }

    /// Locks the payment's row; what no payment of ours has is reported each time.
    pub(crate) async fn payment_uncredited(
        &self,
        gateway: String,
        reference: String,
        listed: Option<u64>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change((gateway, reference), move |sql, (gateway, reference)| {
            Box::pin(async move {
                let row = sql.found(BY_REFERENCE_LOCKED, &[&Text(gateway), &Text(reference)]).await?;
                let known = row.as_ref().map(row::read).transpose()?;
                if known.as_ref().is_some_and(|payment| payment.uncredited) {
                    return Ok(false);
                }
                let body = EventBody::uncredited(gateway, reference, listed, known.as_ref());
                emit(sql, now, &body).await?;
                if let Some(mut payment) = known {
                    payment.uncredited = true;
                    put(sql, &payment).await?;
                }
                Ok(true)
            })
        })
        .await
    }

    /// Locks the payment's row, then the payer's in `wallet`; a receipt's number is unique.
    pub(crate) async fn payment_settle(
        &self,
        id: PaymentId,
        receipt: PaymentReceipt,
        claim: Option<PaymentClaim>,
        now: Timestamp,
    ) -> Result<PaymentSettled, StoreError> {
        self.change((receipt, claim), move |sql, (receipt, claim)| {
            Box::pin(settle(sql, id, receipt, claim.as_ref(), now))
        })
        .await
    }

    /// Locks the payment's row.
    pub(crate) async fn payment_end(
        &self,
        id: PaymentId,
        state: PaymentState,
        reason: String,
        refusal: Option<PaymentRefusal>,
        now: Timestamp,
    ) -> Result<PaymentStep, StoreError> {
        self.change((reason, refusal), move |sql, (reason, refusal)| {
            Box::pin(async move {
                assert!(
                    matches!(state, PaymentState::Failed | PaymentState::Cancelled | PaymentState::Expired),
                    "an end without money"
                );
                let Some(mut payment) = get_locked(sql, id).await? else { return Ok(PaymentStep::Missing) };
                if !payment.state.is_open() {
                    return Ok(PaymentStep::Was(payment));
                }
                payment.refusal.clone_from(refusal);
                end(sql, &mut payment, state, reason, now).await?;
                Ok(PaymentStep::Done(payment))
            })
        })
        .await
    }

    /// Locks the payment's row.
    pub(crate) async fn payment_check_later(
        &self,
        id: PaymentId,
        checked: CheckedLater,
    ) -> Result<PaymentStep, StoreError> {
        self.step(id, move |payment| {
            if !payment.state.is_open() && !payment.late_question {
                return Stepped::Was;
            }
            payment.unanswered(&checked);
            payment.check_at = checked.at;
            Stepped::Changed
        })
        .await
    }

    pub(crate) async fn payment_get(&self, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        let row = self.reader().await?.found(GET, &[&int(id.0)]).await?;
        row.as_ref().map(row::read).transpose()
    }

    pub(crate) async fn payment_by_reference(
        &self,
        gateway: &str,
        reference: &str,
    ) -> Result<Option<Payment>, StoreError> {
        let row = self.reader().await?.found(BY_REFERENCE, &[&Text(gateway), &Text(reference)]).await?;
        row.as_ref().map(row::read).transpose()
    }

    pub(crate) async fn payments_of(
        &self,
        user: UserId,
        before: Option<PaymentId>,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        let before = int(before.map_or(u64::MAX, |before| before.0));
        let rows = self.reader().await?.rows(OF_USER, &[&int(user.0), &before, &int(limit as u64)]).await?;
        rows.iter().map(row::read).collect()
    }

    pub(crate) async fn payments_due(
        &self,
        gateway: &str,
        due: Due,
        limit: usize,
    ) -> Result<Vec<Payment>, StoreError> {
        let (sql, mut payments) = (self.reader().await?, Vec::new());
        for (first, last) in due.spans() {
            let left = int(limit.saturating_sub(payments.len()) as u64);
            for row in sql.rows(DUE, &[&Text(gateway), &At(first), &At(last), &left]).await? {
                payments.push(row::read(&row)?);
            }
        }
        Ok(payments)
    }

    pub(crate) async fn payments_open(&self, gateway: &str, limit: usize) -> Result<usize, StoreError> {
        let row = self.reader().await?.row(OPEN, &[&Text(gateway), &int(limit as u64)]).await?;
        Ok(usize::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }

    pub(crate) async fn payments_open_gateways(&self) -> Result<Vec<String>, StoreError> {
        let rows = self.reader().await?.rows(OPEN_GATEWAYS, &[]).await?;
        Ok(rows.iter().map(|row| crate::engine::postgres::value::unescaped(row.get(0))).collect())
    }

    /// A move of one payment that needs nothing but its row.
    async fn step(
        &self,
        id: PaymentId,
        move_on: impl Fn(&mut Payment) -> Stepped + Send + Sync + 'static,
    ) -> Result<PaymentStep, StoreError> {
        self.change(move_on, move |sql, move_on| {
            Box::pin(async move {
                let Some(mut payment) = get_locked(sql, id).await? else { return Ok(PaymentStep::Missing) };
                match move_on(&mut payment) {
                    Stepped::Was => return Ok(PaymentStep::Was(payment)),
                    Stepped::Unchanged => {}
                    Stepped::Changed => put(sql, &payment).await?,
                }
                Ok(PaymentStep::Done(payment))
            })
        })
        .await
    }
}

/// What a move did to the record.
enum Stepped {
    /// It does not start from this state.
    Was,
    Unchanged,
    Changed,
}

/// Whether a request is answered by what is there.
enum Known {
    Answer(PaymentCreated),
    Nothing {
        /// The key's payment was taken by no gateway, so the key begins another one.
        key_failed: bool,
    },
}

async fn known(sql: &Sql, asked: &PaymentAsked) -> Result<Known, StoreError> {
    let PaymentAsked { user, mode, order: name, unique_order, now, once } = asked;
    if !name.is_empty() {
        // Before the key is looked up: the same request beside this one may have begun the order.
        sql.run(ORDER_LOCK, &[&int(user.0), &Text(name)]).await?;
    }
    let mut key_failed = false;
    if let Some(key) = once {
        match once::look(sql, *user, key, *now).await? {
            Subject::New => {}
            Subject::Known(id) => {
                let row = sql.found(GET, &[&int(id)]).await?;
                let known = row.as_ref().map(row::read).transpose()?;
                if let Some(payment) = known.filter(Payment::answers_repeats) {
                    return Ok(Known::Answer(PaymentCreated::Repeated(payment)));
                }
                key_failed = true;
            }
            Subject::Other => return Ok(Known::Answer(PaymentCreated::KeyReused)),
        }
    }
    if name.is_empty() {
        return Ok(Known::Nothing { key_failed });
    }
    let found = sql.found(OF_ORDER, &[&int(user.0), &Text(name), unique_order]).await?;
    let mut payment = found.as_ref().map(row::read).transpose()?;
    if let Some(payment) = payment.take_if(|payment| payment.state == PaymentState::Paid) {
        return Ok(Known::Answer(PaymentCreated::OrderPaid(payment)));
    }
    if *unique_order
        && *mode == PayMode::Direct
        && let Some(spend) = order::spent(sql, *user, name).await?
    {
        return Ok(Known::Answer(PaymentCreated::OrderSpent(spend)));
    }
    Ok(match payment {
        Some(open) => Known::Answer(PaymentCreated::OrderOpen(open)),
        None => Known::Nothing { key_failed },
    })
}

async fn create(sql: &Sql, draft: &PaymentDraft) -> Result<PaymentCreated, StoreError> {
    let user = draft.user;
    match (known(sql, &draft.asked()).await?, &draft.once) {
        (Known::Answer(answer), _) => return Ok(answer),
        (Known::Nothing { key_failed: true }, Some(key)) => once::forget(sql, user, key).await?,
        (Known::Nothing { .. }, _) => {}
    }
    let id = PaymentId(crate::engine::postgres::value::uint(sql.row(NEXT, &[]).await?.get(0)));
    let payment = Payment::created(id, draft.clone());
    put(sql, &payment).await?;
    if let Some(key) = &draft.once {
        once::keep(sql, user, key, id.0).await?;
    }
    Ok(PaymentCreated::Created(payment))
}

async fn started(
    sql: &Sql,
    id: PaymentId,
    start: &PaymentStart,
    check_at: Timestamp,
    now: Timestamp,
) -> Result<PaymentStep, StoreError> {
    let Some(mut payment) = get_locked(sql, id).await? else { return Ok(PaymentStep::Missing) };
    if payment.state != PaymentState::Created {
        return Ok(PaymentStep::Was(payment));
    }
    let name = sql.run(NAME, &[&Text(&payment.gateway), &Text(&start.reference), &int(id.0)]).await?;
    if name == 0 {
        end(sql, &mut payment, PaymentState::Failed, "reference_reused", now).await?;
        return Ok(PaymentStep::Was(payment));
    }
    payment.started(start.clone());
    payment.check_at = check_at;
    put(sql, &payment).await?;
    Ok(PaymentStep::Done(payment))
}

async fn settle(
    sql: &Sql,
    id: PaymentId,
    receipt: &PaymentReceipt,
    claim: Option<&PaymentClaim>,
    now: Timestamp,
) -> Result<PaymentSettled, StoreError> {
    let Some(mut payment) = get_locked(sql, id).await? else { return Ok(PaymentSettled::Missing) };
    let late = payment.may_be_late();
    if payment.state != PaymentState::Pending && !late {
        return Ok(PaymentSettled::Was(payment));
    }
    let (gateway, number) = (payment.gateway.clone(), Text(&receipt.number));
    let used = match receipt.number.is_empty() {
        true => false,
        false => {
            (claim.is_some() && is_used_elsewhere(sql, &payment, &receipt.number).await?)
                || sql.run(RECEIPT, &[&Text(&gateway), &number, &int(id.0)]).await? == 0
        }
    };
    if used {
        if let Some(claim) = claim {
            payment.claims.retain(|kept| kept.claim != *claim);
            put(sql, &payment).await?;
        } else if !late {
            end(sql, &mut payment, PaymentState::Failed, "receipt_reused", now).await?;
        }
        return Ok(PaymentSettled::ReceiptReused(payment));
    }
    match post(sql, payment.user, &payment_key(id), &payment.credit(), &payment.order, now).await? {
        Posted::Done { .. } => {}
        Posted::TooLarge => {
            // Left pending: the gateway may keep or return the money, and a person has to look.
            sql.run(RECEIPT_BACK, &[&Text(&gateway), &number, &int(id.0)]).await?;
            return Ok(PaymentSettled::TooLarge);
        }
        Posted::Before | Posted::Overdraft { .. } => {
            panic!("a pending payment has no posting, and a credit overdraws nothing")
        }
    }
    payment.paid(receipt.clone(), now);
    try_join(put(sql, &payment), emit(sql, now, &EventBody::ended(&payment))).await?;
    Ok(PaymentSettled::Now(payment))
}

/// Whether a receipt's number belongs to a payment of the same provider at an entry of another name. Locks the number:
/// two entries that settle by it at once would not see each other.
async fn is_used_elsewhere(sql: &Sql, payment: &Payment, number: &str) -> Result<bool, StoreError> {
    sql.run(RECEIPT_LOCK, &[&Text(number)]).await?;
    for row in sql.rows(BY_RECEIPT, &[&Text(number), &Text(&payment.gateway)]).await? {
        if row::read(&row)?.shares_receipts(payment) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Ends a payment whose row is locked.
async fn end(
    sql: &Sql,
    payment: &mut Payment,
    state: PaymentState,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    payment.end(state, reason, now);
    try_join(put(sql, payment), emit(sql, now, &EventBody::ended(payment))).await?;
    Ok(())
}
