//! The operations of this folder, in PostgreSQL statements.
//!
//! **One chain per user.** Each posting is made for one user, whose row in `wallet` holds the balances and the end of
//! the user's chain of hashes. [`post`] locks that row, so the postings of one user follow each other, and those of two
//! users do not wait for each other. Accounts that many users' postings move (merchant, gateways, import) are sums over
//! [`STRIPES`] rows, chosen by the user. So nothing in the database is written by every payment.
//!
//! A posting is read by its key; the account's balance after it and its previous posting are computed for accounts
//! that do not store them.

pub(crate) mod moving;
mod verify;

use futures_util::future::try_join;

use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{At, Columns, int, uint};
use crate::money::ledger::{Account, Entry, Posted, Posting, WalletBalance, WalletEntry, check_legs, signed};
use crate::money::outbox::EventBody;
use crate::money::outbox::postgres::emit;
use crate::{StoreError, Timestamp, UserId};

/// Rows of a shared account.
const STRIPES: u64 = 64;

const WALLET_LOCKED: &str =
    "select available, held, debt, postings, hash from wallet where user_id = $1 for update";

const BEFORE: &str = "select exists(select from ledger_posting where key = $1)";

/// The new wallet's `place` is unique in the user's chain: of two first postings one runs again.
const POST: &str = "
    with purse as (
        insert into wallet (user_id, available, held, debt, postings, hash) values ($1, $2, $3, $4, $5, $6)
        on conflict (user_id) do update set available = excluded.available, held = excluded.held,
            debt = excluded.debt, postings = excluded.postings, hash = excluded.hash
    ), shares as (
        insert into ledger_share (account, stripe, balance)
        select account, $7, amount from unnest($8::text[], $9::bigint[]) as shared (account, amount)
        order by account
        on conflict (account, stripe) do update set balance = ledger_share.balance + excluded.balance
    ), posting as (
        insert into ledger_posting (number, key, user_id, place, at, previous_hash, hash)
        values (nextval('ledger_posting_number'), $10, $1, $5, $11, $12, $6)
        returning number
    )
    insert into ledger_entry (posting, leg, account, amount, balance)
    select posting.number, entry.leg, entry.account, entry.amount, entry.balance
    from posting, unnest($13::text[], $14::bigint[], $15::bigint[]) with ordinality
        as entry (account, amount, balance, leg)";

impl Account {
    /// Its name in the tables.
    pub(super) fn column(&self) -> String {
        match self {
            Account::Wallet(user) => format!("wallet:{user}"),
            Account::Held(user) => format!("held:{user}"),
            Account::Debt(user) => format!("debt:{user}"),
            Account::Merchant => "merchant".to_owned(),
            Account::Import => "import".to_owned(),
            Account::Gateway(name) => format!("gateway:{name}"),
        }
    }

    fn from_column(column: &str) -> Option<Account> {
        match column.split_once(':') {
            None if column == "merchant" => Some(Account::Merchant),
            None if column == "import" => Some(Account::Import),
            Some(("gateway", name)) => Some(Account::Gateway(name.to_owned())),
            Some(("wallet", user)) => user.parse().ok().map(|user| Account::Wallet(UserId(user))),
            Some(("held", user)) => user.parse().ok().map(|user| Account::Held(UserId(user))),
            Some(("debt", user)) => user.parse().ok().map(|user| Account::Debt(UserId(user))),
            _ => None,
        }
    }

    fn is_shared(&self) -> bool {
        matches!(self, Account::Merchant | Account::Import | Account::Gateway(_))
    }
}

/// A row of `wallet`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Purse {
    available: i64,
    held: i64,
    debt: i64,
    postings: i64,
    hash: [u8; 32],
}

impl Purse {
    fn read(row: &tokio_postgres::Row) -> Purse {
        Purse {
            available: row.get("available"),
            held: row.get("held"),
            debt: row.get("debt"),
            postings: row.get("postings"),
            hash: row.bytes("hash"),
        }
    }

    /// Moves the user's money and appends a posting to the chain. `Err` holds why it is refused.
    fn take(
        &mut self,
        user: UserId,
        key: &str,
        legs: &[(Account, i64)],
        at: Timestamp,
    ) -> Result<Vec<Leg>, Posted> {
        let mut entries = Vec::with_capacity(legs.len());
        for (account, amount) in legs {
            let column = account.column();
            if account.is_shared() {
                entries.push(Leg { account: column, amount: *amount, balance: None });
                continue;
            }
            let balance = self.balance(user, account);
            let available = u64::try_from(*balance).unwrap_or(0);
            let Some(sum) = balance.checked_add(*amount) else { return Err(Posted::TooLarge) };
            if sum < 0 && *amount < 0 && !account.may_be_negative() {
                return Err(Posted::Overdraft { available });
            }
            *balance = sum;
            entries.push(Leg { account: column, amount: *amount, balance: Some(sum) });
        }
        self.postings += 1;
        self.hash = hash(user, self.postings, key, at, &entries, self.hash);
        Ok(entries)
    }

    /// The balance of one of the user's accounts.
    ///
    /// # Panics
    ///
    /// For an account of somebody else: a defect, because a posting moves one user's money.
    fn balance(&mut self, user: UserId, account: &Account) -> &mut i64 {
        match account {
            Account::Wallet(owner) if *owner == user => &mut self.available,
            Account::Held(owner) if *owner == user => &mut self.held,
            Account::Debt(owner) if *owner == user => &mut self.debt,
            other => panic!("the {other} in a posting of user {user}"),
        }
    }
}

/// An entry as it is hashed and stored.
#[derive(serde::Serialize)]
struct Leg {
    account: String,
    amount: i64,
    /// None for shared accounts.
    balance: Option<i64>,
}

/// The hash of a posting. The number is not in it, because the database gives it.
fn hash(user: UserId, place: i64, key: &str, at: Timestamp, legs: &[Leg], previous: [u8; 32]) -> [u8; 32] {
    let bytes = postcard::to_stdvec(&(user, place, key, at, legs, previous))
        .expect("postings are plain data, which postcard writes to a growing buffer");
    *blake3::hash(&bytes).as_bytes()
}

/// Makes a posting of a user within a change, once per key. `order` is the client's name of what it is for; it goes
/// into the event. Locks the user's row in `wallet`.
///
/// # Panics
///
/// When the legs do not sum to zero, name an account twice, move nothing or move another user's money: a defect.
pub(crate) async fn post(
    sql: &Sql,
    user: UserId,
    key: &str,
    legs: &[(Account, i64)],
    order: &str,
    at: Timestamp,
) -> Result<Posted, StoreError> {
    check_legs(legs);
    let user_id = int(user.0);
    let (locked, posted) = try_join(sql.found(WALLET_LOCKED, &[&user_id]), sql.row(BEFORE, &[&key])).await?;
    if posted.get(0) {
        return Ok(Posted::Before);
    }
    let before = locked.as_ref().map(Purse::read).unwrap_or_default();
    let mut purse = before;
    let entries = match purse.take(user, key, legs, at) {
        Ok(entries) => entries,
        Err(refused) => return Ok(refused),
    };
    let (shared, moved): (Vec<String>, Vec<i64>) = entries
        .iter()
        .filter(|leg| leg.balance.is_none())
        .map(|leg| (leg.account.clone(), leg.amount))
        .unzip();
    let balance = entries[0].balance.unwrap_or(0);
    let written = write(sql, user, key, at, &before, &purse, &entries, (&shared, &moved));
    let said = async {
        for (account, amount) in legs {
            if let Account::Wallet(user) = *account {
                let (balance, posting, order) = (purse.available, key.to_owned(), order.to_owned());
                let body = EventBody::WalletChanged { user, amount: *amount, balance, posting, order };
                emit(sql, at, &body).await?;
            }
        }
        Ok(())
    };
    try_join(written, said).await?;
    Ok(Posted::Done { balance })
}

#[expect(clippy::too_many_arguments, reason = "the columns of one statement")]
async fn write(
    sql: &Sql,
    user: UserId,
    key: &str,
    at: Timestamp,
    before: &Purse,
    purse: &Purse,
    entries: &[Leg],
    (shared, moved): (&[String], &[i64]),
) -> Result<(), StoreError> {
    let stripe = stripe_of(user);
    let accounts: Vec<&str> = entries.iter().map(|entry| entry.account.as_str()).collect();
    let amounts: Vec<i64> = entries.iter().map(|entry| entry.amount).collect();
    let balances: Vec<Option<i64>> = entries.iter().map(|entry| entry.balance).collect();
    sql.run(
        POST,
        &[
            &int(user.0),
            &purse.available,
            &purse.held,
            &purse.debt,
            &purse.postings,
            &purse.hash.as_slice(),
            &stripe,
            &shared,
            &moved,
            &key,
            &At(at),
            &before.hash.as_slice(),
            &accounts,
            &amounts,
            &balances,
        ],
    )
    .await?;
    Ok(())
}

/// The row of a shared account that a user's postings move.
fn stripe_of(user: UserId) -> i16 {
    i16::try_from(user.0 % STRIPES).expect("it is below the number of stripes")
}

/// What a user has, within a change. Locks the user's row in `wallet`.
pub(crate) async fn balance_locked(sql: &Sql, user: UserId) -> Result<WalletBalance, StoreError> {
    let row = sql.found(WALLET_LOCKED, &[&int(user.0)]).await?;
    let purse = row.as_ref().map(Purse::read).unwrap_or_default();
    Ok(WalletBalance { available: uint(purse.available), held: uint(purse.held) })
}

const WALLET: &str = "select available, held, debt, postings, hash from wallet where user_id = $1";

const SHARED: &str = "
    select greatest(least(coalesce(sum(balance), 0), 9223372036854775807), -9223372036854775808)::bigint
    from ledger_share where account = $1";

/// One line more than asked for says where to go on.
const LINES: &str = "
    select posting.number, posting.key, posting.at, entry.amount, entry.balance,
        exists(select from ledger_entry held
            where held.posting = entry.posting and held.account = $2 and held.amount > 0) as is_hold
    from ledger_entry entry join ledger_posting posting on posting.number = entry.posting
    where (entry.account, entry.posting) >= ($1, 0) and (entry.account, entry.posting) <= ($1, $3)
    order by entry.account desc, entry.posting desc limit $4";

/// Balances and previous postings that are not stored follow from the entries in the order of their numbers.
const POSTING: &str = "
    select posting.number, posting.key, posting.at, posting.previous_hash, posting.hash, entry.account, entry.amount,
        coalesce(entry.balance, (select greatest(least(sum(other.amount), 9223372036854775807),
            -9223372036854775808)::bigint from ledger_entry other
            where other.account = entry.account and other.posting <= entry.posting)) as balance,
        coalesce((select max(other.posting) from ledger_entry other
            where other.account = entry.account and other.posting < entry.posting), 0) as previous
    from ledger_posting posting join ledger_entry entry on entry.posting = posting.number
    where posting.key = $1 order by entry.leg";

impl Postgres {
    pub(crate) async fn wallet_balance(&self, user: UserId) -> Result<WalletBalance, StoreError> {
        let row = self.reader().await?.found(WALLET, &[&int(user.0)]).await?;
        let purse = row.as_ref().map(Purse::read).unwrap_or_default();
        Ok(WalletBalance { available: uint(purse.available), held: uint(purse.held) })
    }

    pub(crate) async fn account_balance(&self, account: &Account) -> Result<i64, StoreError> {
        let sql = self.reader().await?;
        let (Account::Wallet(user) | Account::Held(user) | Account::Debt(user)) = account else {
            return Ok(sql.row(SHARED, &[&account.column()]).await?.get(0));
        };
        let row = sql.found(WALLET, &[&int(user.0)]).await?;
        let mut purse = row.as_ref().map(Purse::read).unwrap_or_default();
        Ok(*purse.balance(*user, account))
    }

    pub(crate) async fn wallet_entries(
        &self,
        user: UserId,
        from: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<WalletEntry>, Option<u64>), StoreError> {
        let (wallet, held) = (Account::Wallet(user).column(), Account::Held(user).column());
        let (first, taken) = (int(from.unwrap_or(u64::MAX)), int(limit as u64 + 1));
        let rows = self.reader().await?.rows(LINES, &[&wallet, &held, &first, &taken]).await?;
        let mut lines: Vec<WalletEntry> = rows
            .iter()
            .map(|row| WalletEntry {
                number: row.uint("number"),
                key: row.get("key"),
                is_hold: row.get("is_hold"),
                at: row.at("at"),
                amount: row.get("amount"),
                balance: row.get("balance"),
            })
            .collect();
        if from.is_some() && from != lines.first().map(|line| line.number) {
            return Ok((Vec::new(), None));
        }
        let next = (lines.len() > limit).then(|| lines.remove(limit).number);
        Ok((lines, next))
    }

    pub(crate) async fn posting_by_key(&self, key: &str) -> Result<Option<Posting>, StoreError> {
        let rows = self.reader().await?.rows(POSTING, &[&key]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let entries = rows.iter().map(|row| {
            let account = Account::from_column(row.get("account")).ok_or_else(|| StoreError::Record {
                kind: "ledger entry",
                reason: "its account is none".to_owned(),
            })?;
            let (amount, balance) = (row.get("amount"), row.get("balance"));
            Ok(Entry { account, amount, balance, previous: row.uint("previous") })
        });
        Ok(Some(Posting {
            number: row.uint("number"),
            key: row.get("key"),
            at: row.at("at"),
            entries: entries.collect::<Result<_, StoreError>>()?,
            previous_hash: row.bytes("previous_hash"),
            hash: row.bytes("hash"),
        }))
    }

    /// Locks the user's row in `wallet`.
    pub(crate) async fn ledger_probe(
        &self,
        key: String,
        user: UserId,
        amount: u64,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change((key, user, amount, at), |sql, (key, user, amount, at)| {
            Box::pin(async move {
                let amount = signed(*amount);
                let legs = [(Account::Wallet(*user), amount), (Account::Merchant, -amount)];
                Ok(matches!(post(sql, *user, key, &legs, "", *at).await?, Posted::Done { .. }))
            })
        })
        .await
    }
}
