//! The operations of this folder, in PostgreSQL statements.

use tokio_postgres::Row;

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, Text, int};
use crate::money::correction::{Correction, CorrectionDraft, CorrectionMade};
use crate::money::ledger::postgres::{balance_locked, post};
use crate::money::ledger::{Account, Posted, correction_key};
use crate::money::once::{Subject, postgres as once};
use crate::{StoreError, UserId};

const NEXT: &str = "select nextval(pg_get_serial_sequence('correction', 'number'))";

const INSERT: &str = "
    insert into correction (number, user_id, amount, balance, reason, ordered_by, at)
    values ($1, $2, $3, $4, $5, $6, $7)";

pub(crate) const ALL: &str =
    "select number, user_id, amount, balance, reason, ordered_by, at from correction order by number";

const GET: &str =
    "select number, user_id, amount, balance, reason, ordered_by, at from correction where number = $1";

pub(crate) fn read(row: &Row) -> Correction {
    Correction {
        number: row.uint("number"),
        user: UserId(row.uint("user_id")),
        amount: row.get("amount"),
        balance: row.uint("balance"),
        reason: row.text("reason"),
        by: UserId(row.uint("ordered_by")),
        at: row.at("at"),
    }
}

impl Postgres {
    /// Locks the user's row in `wallet`; a key of the client is unique.
    pub(crate) async fn correction_make(&self, draft: CorrectionDraft) -> Result<CorrectionMade, StoreError> {
        self.change(draft, |sql, draft| Box::pin(make(sql, draft))).await
    }
}

pub(crate) async fn make(sql: &Sql, draft: &CorrectionDraft) -> Result<CorrectionMade, StoreError> {
    let CorrectionDraft { user, amount, by, now, .. } = *draft;
    assert!(amount != 0 && amount != i64::MIN, "amounts are checked when they come in");
    // Before the key is looked up: the same request beside this one may have taken the last rial.
    balance_locked(sql, user).await?;
    if let Some(key) = &draft.once {
        match once::look(sql, by, key, now).await? {
            Subject::New => {}
            Subject::Known(number) => {
                if let Some(row) = sql.found(GET, &[&int(number)]).await? {
                    return Ok(CorrectionMade::Repeated(read(&row)));
                }
                once::forget(sql, by, key).await?;
            }
            Subject::Other => return Ok(CorrectionMade::KeyReused),
        }
    }
    let number: i64 = sql.row(NEXT, &[]).await?.get(0);
    let number = number.unsigned_abs();
    let legs = [(Account::Wallet(user), amount), (Account::Merchant, -amount)];
    let balance = match post(sql, user, &correction_key(number), &legs, "", now).await? {
        Posted::Done { balance } => u64::try_from(balance).unwrap_or(0),
        Posted::Overdraft { available } => return Ok(CorrectionMade::Overdraft { available }),
        Posted::TooLarge => return Ok(CorrectionMade::TooLarge),
        Posted::Before => panic!("numbers of corrections are given once"),
    };
    let reason = draft.reason.clone();
    let correction = Correction { number, user, amount, balance, reason, by, at: now };
    insert(sql, &correction).await?;
    if let Some(key) = &draft.once {
        once::keep(sql, by, key, number).await?;
    }
    Ok(CorrectionMade::Done(correction))
}

pub(crate) async fn insert(sql: &Sql, correction: &Correction) -> Result<(), StoreError> {
    let Correction { number, user, amount, balance, reason, by, at } = correction;
    let args: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
        &[&int(*number), &int(user.0), amount, &int(*balance), &Text(reason), &int(by.0), &At(*at)];
    sql.run(INSERT, args).await.map(drop)
}
