//! The operations of this folder, in PostgreSQL statements.

use crate::StoreError;
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{Text, int};
use crate::money::import::OpeningBalance;
use crate::money::ledger::postgres::post;
use crate::money::ledger::{Account, Posted};
use crate::money::payment::Payment;
use crate::money::payment::postgres::row::put;

const NAME: &str = "insert into payment_reference (gateway, reference, payment_id) values ($1, $2, $3) on conflict do nothing";

const RECEIPT: &str =
    "insert into payment_receipt (gateway, number, payment_id) values ($1, $2, $3) on conflict do nothing";

/// New payments are numbered above imported ones.
const NUMBERED: &str = "
    select setval(pg_get_serial_sequence('payment', 'id'), $1)
    where $1 > (select coalesce(pg_sequence_last_value(pg_get_serial_sequence('payment', 'id')), 0))";

impl Postgres {
    /// Locks the users' rows in `wallet`, in the order of their numbers.
    pub(crate) async fn import_balances(
        &self,
        mut balances: Vec<OpeningBalance>,
    ) -> Result<usize, StoreError> {
        balances.sort_by_key(|balance| balance.user);
        self.change(balances, |sql, balances| {
            Box::pin(async move {
                let mut posted = 0;
                for OpeningBalance { key, user, amount, at } in balances {
                    let account = if *amount < 0 { Account::Debt(*user) } else { Account::Wallet(*user) };
                    let legs = [(account, *amount), (Account::Import, -amount)];
                    match post(sql, *user, key, &legs, "", *at).await? {
                        Posted::Done { .. } => posted += 1,
                        Posted::Before => {}
                        Posted::Overdraft { .. } | Posted::TooLarge => {
                            let reason = format!("{key}: {amount} rial are too much for an account");
                            return Err(StoreError::Record { kind: "opening balance", reason });
                        }
                    }
                }
                Ok(posted)
            })
        })
        .await
    }

    /// An import has the database to itself; ids and names are unique.
    pub(crate) async fn import_payments(&self, payments: Vec<Payment>) -> Result<(), StoreError> {
        self.change(payments, |sql, payments| {
            Box::pin(async move {
                for payment in payments {
                    store(sql, payment).await?;
                }
                if let Some(last) = payments.iter().map(|payment| payment.id.0).max() {
                    sql.rows(NUMBERED, &[&int(last)]).await?;
                }
                Ok(())
            })
        })
        .await
    }
}

async fn store(sql: &Sql, payment: &Payment) -> Result<(), StoreError> {
    put(sql, payment).await?;
    let (gateway, id) = (Text(&payment.gateway), int(payment.id.0));
    if let Some(start) = &payment.start {
        sql.run(NAME, &[&gateway, &Text(&start.reference), &id]).await?;
    }
    if let Some(receipt) = payment.receipt.as_ref().filter(|receipt| !receipt.number.is_empty()) {
        sql.run(RECEIPT, &[&gateway, &Text(&receipt.number), &id]).await?;
    }
    Ok(())
}
