//! Postings, from one engine to the other: each is posted again, so balances and hashes are computed and not copied.
//!
//! On the way to PostgreSQL a user's postings follow each other in the user's chain and keep their numbers. Wallets and
//! shared accounts are written once, at the end: rows that each posting changed would grow by a version each, which
//! one transaction cannot remove. They are in memory until then, about a hundred bytes for each wallet.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::try_join_all;

use super::{Leg, Purse, stripe_of};
use crate::engine::moving::{Records, Rows};
use crate::engine::postgres::sql::{Args, Sql};
use crate::engine::postgres::value::{At, Columns, int};
use crate::engine::sled::error;
use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::decode;
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, record};
use crate::money::ledger::sled::{Head, block_records, post};
use crate::money::ledger::{Account, Posted, Posting};
use crate::money::payment::Payment;
use crate::{PaymentId, StoreError, UserId};

/// The wallet is stored with its first posting, which refers to it, and gets its values at the end.
const WALLET: &str = "insert into wallet (user_id, postings, hash) values ($1, 1, $2)";

const WALLET_ENDS: &str = "update wallet set available = $2, held = $3, debt = $4, postings = $5, hash = $6
    where user_id = $1";

const SHARE: &str = "insert into ledger_share (account, stripe, balance) values ($1, $2, $3)";

const POST: &str = "
    with posting as (
        insert into ledger_posting (number, key, user_id, place, at, previous_hash, hash)
        values ($1, $2, $3, $4, $5, $6, $7)
    )
    insert into ledger_entry (posting, leg, account, amount, balance)
    select $1, entry.leg, entry.account, entry.amount, entry.balance
    from unnest($8::text[], $9::bigint[], $10::bigint[]) with ordinality as entry (account, amount, balance, leg)";

/// Rows sent together.
const TOGETHER: usize = 512;

/// What is written at the end.
#[derive(Default)]
struct Ends {
    purses: HashMap<UserId, Purse>,
    shares: BTreeMap<(String, i16), i64>,
}

/// A posting in its user's chain.
struct Chained {
    user: UserId,
    posting: Posting,
    legs: Vec<Leg>,
    before: [u8; 32],
    place: i64,
    hash: [u8; 32],
}

pub(crate) async fn to_postgres(rows: &Rows<'_>) -> Result<(), StoreError> {
    let mut ends = Ends::default();
    let mut count = rows.count("postings");
    // The first versions stored each posting under a key of its own.
    for prefix in [keys::POSTINGS, keys::POSTING_BLOCKS] {
        let mut last = None;
        loop {
            let chunk = rows.chunk(prefix, last)?;
            let Some((key, _)) = chunk.last() else { break };
            last = Some(key.clone());
            let mut chained = Vec::new();
            for (_, value) in &chunk {
                for posting in postings(prefix, value)? {
                    let place = chained.len();
                    chained.push(ends.chain(rows.sled, posting).map_err(|error| count.error(place, error))?);
                }
            }
            let wallets = chained.iter().filter(|chained| chained.place == 1);
            try_join_all(wallets.map(|chained| begin(rows.sql, chained))).await?;
            try_join_all(chained.iter().map(|chained| write(rows.sql, chained))).await?;
            count.add(chained.len());
        }
    }
    let purses: Vec<_> = ends.purses.into_iter().collect();
    for some in purses.chunks(TOGETHER) {
        try_join_all(some.iter().map(|(user, purse)| end(rows.sql, *user, purse))).await?;
    }
    for ((account, stripe), balance) in &ends.shares {
        rows.sql.run(SHARE, &[account, stripe, balance]).await?;
    }
    let head: Option<Head> = rows.sled.record(keys::LEDGER_HEAD)?;
    rows.sequence_at("ledger_posting_number", head.unwrap_or_default().number).await
}

fn postings(prefix: &[u8], value: &[u8]) -> Result<Vec<Posting>, StoreError> {
    if prefix == keys::POSTINGS {
        return Ok(vec![decode(value)?]);
    }
    block_records(value).map(|record| decode(record?.1)).collect()
}

impl Ends {
    /// Appends a posting to the chain of the user whose money it moved.
    fn chain(&mut self, sled: &Sled, posting: Posting) -> Result<Chained, StoreError> {
        let user = owner(sled, &posting)?;
        let refused =
            |why: &str| StoreError::Record { kind: "posting", reason: format!("{}: {why}", posting.key) };
        let own = |account: &Account| match account {
            Account::Wallet(owner) | Account::Held(owner) | Account::Debt(owner) => *owner == user,
            Account::Merchant | Account::Gateway(_) | Account::Import => true,
        };
        if !posting.entries.iter().all(|entry| own(&entry.account)) {
            return Err(refused("it moves the money of several users"));
        }
        let legs: Vec<_> =
            posting.entries.iter().map(|entry| (entry.account.clone(), entry.amount)).collect();
        let purse = self.purses.entry(user).or_default();
        let before = purse.hash;
        let taken = purse.take(user, &posting.key, &legs, posting.at);
        let legs = taken.map_err(|_| refused("it overdraws an account"))?;
        let (place, hash) = (purse.postings, purse.hash);
        for leg in legs.iter().filter(|leg| leg.balance.is_none()) {
            let share = self.shares.entry((leg.account.clone(), stripe_of(user))).or_default();
            *share = share.checked_add(leg.amount).ok_or_else(|| refused("a balance exceeds 64 bits"))?;
        }
        Ok(Chained { user, posting, legs, before, place, hash })
    }
}

/// The user in whose chain a posting belongs. One that moves no user's money is of a payment, which has a payer.
fn owner(sled: &Sled, posting: &Posting) -> Result<UserId, StoreError> {
    let user = posting.entries.iter().find_map(|entry| match entry.account {
        Account::Wallet(user) | Account::Held(user) | Account::Debt(user) => Some(user),
        Account::Merchant | Account::Gateway(_) | Account::Import => None,
    });
    if let Some(user) = user {
        return Ok(user);
    }
    let mut parts = posting.key.split(':');
    let id = match parts.next() {
        Some("payment" | "refund" | "refund-undone" | "refund-moved") => {
            parts.next().and_then(|id| id.parse().ok())
        }
        _ => None,
    };
    let payment = match id {
        Some(id) => sled.tree.get(keys::payment(PaymentId(id))).map_err(error::read)?,
        None => None,
    };
    let payment: Option<Payment> = payment.map(|bytes| record::decode(&bytes)).transpose()?;
    payment.map(|payment| payment.user).ok_or_else(|| StoreError::Record {
        kind: "posting",
        reason: format!("{}: it is of no user", posting.key),
    })
}

async fn begin(sql: &Sql, chained: &Chained) -> Result<(), StoreError> {
    sql.run(WALLET, &[&int(chained.user.0), &chained.hash.as_slice()]).await.map(drop)
}

async fn write(sql: &Sql, chained: &Chained) -> Result<(), StoreError> {
    let Chained { user, posting, legs, before, place, hash } = chained;
    let accounts: Vec<&str> = legs.iter().map(|leg| leg.account.as_str()).collect();
    let amounts: Vec<i64> = legs.iter().map(|leg| leg.amount).collect();
    let balances: Vec<Option<i64>> = legs.iter().map(|leg| leg.balance).collect();
    let args: Args<'_> = &[
        &int(posting.number),
        &posting.key,
        &int(user.0),
        place,
        &At(posting.at),
        &before.as_slice(),
        &hash.as_slice(),
        &accounts,
        &amounts,
        &balances,
    ];
    sql.run(POST, args).await.map(drop)
}

async fn end(sql: &Sql, user: UserId, purse: &Purse) -> Result<(), StoreError> {
    let Purse { available, held, debt, postings, hash } = purse;
    let args: Args<'_> = &[&int(user.0), available, held, debt, postings, &hash.as_slice()];
    sql.run(WALLET_ENDS, args).await.map(drop)
}

pub(crate) async fn to_sled(records: &Records<'_>) -> Result<(), StoreError> {
    let postings = "select posting.key, posting.at,
            array(select account from ledger_entry entry where entry.posting = posting.number order by leg) as accounts,
            array(select amount from ledger_entry entry where entry.posting = posting.number order by leg) as amounts
        from ledger_posting posting order by posting.number";
    records
        .each("postings", postings, |row| {
            let (key, at): (String, _) = (row.get("key"), row.at("at"));
            let (accounts, amounts): (Vec<String>, Vec<i64>) = (row.get("accounts"), row.get("amounts"));
            let refused = |why: String| StoreError::Record { kind: "posting", reason: why };
            let mut legs = Vec::with_capacity(accounts.len());
            for (name, amount) in accounts.iter().zip(amounts) {
                let account = Account::from_column(name)
                    .ok_or_else(|| refused(format!("{key}: {name} is no account")))?;
                legs.push((account, amount));
            }
            if legs.iter().map(|(_, amount)| i128::from(*amount)).sum::<i128>() != 0 || legs.len() < 2 {
                return Err(refused(format!("{key}: its entries do not sum to zero")));
            }
            Ok(move |txn: &mut Txn| match post(txn, key.clone(), &legs, "", at)? {
                Posted::Done { .. } => Ok(()),
                other => Err(StoreError::Record { kind: "posting", reason: format!("{key}: {other:?}") }),
            })
        })
        .await
}
