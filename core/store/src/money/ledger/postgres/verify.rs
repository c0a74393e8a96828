//! Verification of the ledger: every chain is recomputed and compared with the stored balances, then the payments,
//! refunds, corrections and spends are compared with their postings. All of it sees one moment.

use std::collections::BTreeMap;

use super::{Leg, Purse, hash};
use crate::engine::postgres::Postgres;
use crate::engine::postgres::sql::Sql;
use crate::engine::postgres::value::{Columns, int};
use crate::money::ledger::{Account, LedgerReport};
use crate::{StoreError, Timestamp, UserId};

/// Postings that one statement reads.
const PAGE: i64 = 2000;

/// Each wallet's row comes with each of its postings.
const PAGE_OF_POSTINGS: &str = "
    select posting.number, posting.key, posting.user_id, posting.place, posting.at, posting.previous_hash,
        posting.hash as own_hash, wallet.available, wallet.held, wallet.debt, wallet.postings, wallet.hash,
        array(select account from ledger_entry entry where entry.posting = posting.number order by leg) as accounts,
        array(select amount from ledger_entry entry where entry.posting = posting.number order by leg) as amounts,
        array(select balance from ledger_entry entry where entry.posting = posting.number order by leg) as balances
    from ledger_posting posting join wallet on wallet.user_id = posting.user_id
    where (posting.user_id, posting.place) > ($1, $2)
    order by posting.user_id, posting.place limit $3";

const SHARES: &str = "select account, sum(balance)::text as balance from ledger_share group by account";

const COUNTS: &str = "
    select (select count(*) from wallet) as wallets, (select count(*) from payment) as payments,
        (select count(*) from ledger_posting) as postings";

/// Each finds the first difference of one kind, as a sentence.
const CHECKS: &[&str] = &[
    "select 'payment ' || payment.id || case when posting.number is null then ' is paid without a credit'
            else ': ' || payment.amount || ' rial are paid, but ' || coalesce(entry.amount, 0) || ' credited' end
     from payment
     left join ledger_posting posting on posting.key = 'payment:' || payment.id
     left join ledger_entry entry on entry.posting = posting.number
        and entry.account = case payment.mode when 'charge' then 'wallet:' || payment.user_id else 'merchant' end
     where payment.state in ('paid', 'refunded') and not payment.imported
        and entry.amount is distinct from payment.amount
     order by payment.id limit 1",
    "select posting.key || ' is credited without being paid' from ledger_posting posting
     where posting.key like 'payment:%' and not exists (
        select from payment where posting.key = 'payment:' || payment.id
            and payment.state in ('paid', 'refunded') and not payment.imported)
     order by posting.number limit 1",
    "select 'refund ' || refund.number || ' of payment ' || refund.payment_id || case
            when posted.number is null then ' has no posting'
            else ' was taken back otherwise' end
     from refund
     left join ledger_posting posted on posted.key = 'refund:' || refund.payment_id || ':' || refund.number
     left join ledger_posting undone on undone.key = 'refund-undone:' || refund.payment_id || ':' || refund.number
     left join ledger_posting moved on moved.key = 'refund-moved:' || refund.payment_id || ':' || refund.number
     where posted.number is null or (undone.number is not null) <> (refund.state = 'undone')
        or (undone.number is not null and moved.number is not null)
        or exists (select from ledger_entry entry
            where entry.posting in (posted.number, undone.number, moved.number)
                and abs(entry.amount) <> refund.amount)
     order by refund.payment_id, refund.number limit 1",
    "select 'payment ' || payment.id || ': ' || payment.refunded || ' rial are stored as refunded in '
            || payment.refunds || ' refunds, but ' || coalesce(booked.amount, 0) || ' were posted in '
            || coalesce(booked.count, 0)
     from payment left join (
        select payment_id, sum(amount) filter (where state <> 'undone') as amount, count(*) as count
        from refund group by payment_id) booked on booked.payment_id = payment.id
     where not payment.imported and (payment.refunded <> coalesce(booked.amount, 0)
        or payment.refunds <> coalesce(booked.count, 0))
     order by payment.id limit 1",
    "select posting.key || ' is posted, but no refund has it' from ledger_posting posting
     where posting.key ~ '^refund(-undone|-moved)?:' and not exists (
        select from refund where refund.payment_id || ':' || refund.number = split_part(posting.key, ':', 2)
            || ':' || split_part(posting.key, ':', 3))
     order by posting.number limit 1",
    "select 'correction ' || correction.number || ': ' || correction.amount || ' rial by its record, '
            || coalesce(entry.amount, 0) || ' moved'
     from correction
     left join ledger_posting posting on posting.key = 'correction:' || correction.number
     left join ledger_entry entry on entry.posting = posting.number
        and entry.account = 'wallet:' || correction.user_id
     where entry.amount is distinct from correction.amount order by correction.number limit 1",
    "select posting.key || ' is posted, but not stored' from ledger_posting posting
     where posting.key like 'correction:%'
        and not exists (select from correction where posting.key = 'correction:' || correction.number)
     order by posting.number limit 1",
    "select 'spend ' || spend.id || case when posting.number is null then ' has no posting'
            else ': ' || spend.amount || ' rial are stored, but ' || -coalesce(entry.amount, 0) || ' were posted' end
     from spend
     left join ledger_posting posting on posting.key = 'spend:' || spend.id
     left join ledger_entry entry on entry.posting = posting.number and entry.account = 'wallet:' || spend.user_id
     where entry.amount is distinct from -spend.amount order by spend.id limit 1",
    "select 'spend ' || spend.id || ': ' || spend.captured || ' rial are stored as captured, but '
            || coalesce(entry.amount, 0) || ' were posted'
     from spend
     left join ledger_posting posting
        on posting.key = case when spend.hold then 'capture:' else 'spend:' end || spend.id
     left join ledger_entry entry on entry.posting = posting.number and entry.account = 'merchant'
     where coalesce(entry.amount, 0) <> spend.captured order by spend.id limit 1",
    "select 'spend ' || spend.id || ': ' || spend.state || ', but ' || coalesce(entry.amount, 0)
            || ' rial were returned'
     from spend
     left join ledger_posting posting on posting.key = 'void:' || spend.id
     left join ledger_entry entry on entry.posting = posting.number and entry.account = 'wallet:' || spend.user_id
     where coalesce(entry.amount, 0)
        <> case when spend.state in ('voided', 'expired') then spend.amount else 0 end
     order by spend.id limit 1",
    "select posting.key || ' is posted, but no spend has it' from ledger_posting posting
     where posting.key ~ '^(spend|capture|void):'
        and not exists (select from spend where spend.id::text = split_part(posting.key, ':', 2))
     order by posting.number limit 1",
    "select 'held money of user ' || wallet.user_id || ': ' || wallet.held || ' rial, but its open holds sum to '
            || coalesce(open.amount, 0)
     from wallet left join (select user_id, sum(amount) as amount from spend where state = 'held' group by user_id)
        open on open.user_id = wallet.user_id
     where wallet.held <> coalesce(open.amount, 0) order by wallet.user_id limit 1",
];

impl Postgres {
    pub(crate) async fn ledger_verify(&self) -> Result<LedgerReport, StoreError> {
        self.snapshot((), |sql, ()| Box::pin(verify(sql))).await
    }
}

async fn verify(sql: &Sql) -> Result<LedgerReport, StoreError> {
    let mut found = Found::default();
    let mut after = (i64::MIN, i64::MIN);
    let mut difference = None;
    while difference.is_none() {
        let rows = sql.rows(PAGE_OF_POSTINGS, &[&after.0, &after.1, &PAGE]).await?;
        let Some(last) = rows.last() else { break };
        after = (last.get("user_id"), last.get("place"));
        difference = rows.iter().find_map(|row| found.posting(row).err());
    }
    let difference = difference.or(found.chain_end().err());
    let counts = sql.row(COUNTS, &[]).await?;
    let mut report = LedgerReport {
        postings: found.postings,
        accounts: found.accounts + found.shared.len() as u64,
        payments: counts.uint("payments"),
        users_total: found.users_total,
        head: *found.heads.finalize().as_bytes(),
        difference,
    };
    if report.difference.is_none() {
        report.difference = rest(sql, &found, counts.uint("wallets"), counts.uint("postings")).await?;
    }
    Ok(report)
}

/// What the chains alone do not tell.
async fn rest(sql: &Sql, found: &Found, wallets: u64, postings: u64) -> Result<Option<String>, StoreError> {
    if wallets != found.wallets || postings != found.postings {
        let (chains, chained) = (found.wallets, found.postings);
        return Ok(Some(format!(
            "{wallets} wallets and {postings} postings are stored, but {chains} chains have {chained}"
        )));
    }
    let mut shares = BTreeMap::new();
    for row in sql.rows(SHARES, &[]).await? {
        let balance: String = row.get("balance");
        shares.insert(row.get::<_, String>("account"), balance);
    }
    for account in found.shared.keys().chain(shares.keys()) {
        let recomputed = found.shared.get(account).copied().unwrap_or(0);
        let kept = shares.get(account).map_or("0", String::as_str);
        if kept != recomputed.to_string() {
            return Ok(Some(format!(
                "the account {account} is stored with {kept} rial, but its postings sum to {recomputed}"
            )));
        }
    }
    for check in CHECKS {
        if let Some(row) = sql.found(check, &[]).await? {
            return Ok(Some(row.get(0)));
        }
    }
    Ok(None)
}

/// What the postings say so far, chain after chain.
#[derive(Default)]
struct Found {
    postings: u64,
    wallets: u64,
    accounts: u64,
    users_total: i64,
    heads: blake3::Hasher,
    shared: BTreeMap<String, i128>,
    chain: Option<Chain>,
}

/// The chain that is being read.
struct Chain {
    user: UserId,
    recomputed: Purse,
    /// Of its last posting.
    number: i64,
    stored: Purse,
    accounts: Vec<String>,
}

impl Found {
    /// Verifies the next posting and books it; `Err` is the difference.
    fn posting(&mut self, row: &tokio_postgres::Row) -> Result<(), String> {
        let user = UserId(row.uint("user_id"));
        if self.chain.as_ref().is_none_or(|chain| chain.user != user) {
            self.chain_end()?;
            let (recomputed, stored) = (Purse::default(), Purse::read(row));
            self.wallets += 1;
            self.chain = Some(Chain { user, recomputed, number: 0, stored, accounts: Vec::new() });
        }
        let chain = self.chain.as_mut().expect("it was just begun");
        let (number, key): (i64, String) = (row.get("number"), row.get("key"));
        let name = format!("posting {number} ({key})");
        let place = chain.recomputed.postings + 1;
        if row.get::<_, i64>("place") != place {
            return Err(format!("posting {place} of user {user} is missing before {name}"));
        }
        if number <= chain.number {
            return Err(format!("{name}: follows posting {} of its user", chain.number));
        }
        if row.bytes::<32>("previous_hash") != chain.recomputed.hash {
            return Err(format!("{name}: does not follow the posting before it"));
        }
        let legs = legs(row);
        let at: Timestamp = row.at("at");
        let computed = hash(user, place, &key, at, &legs, chain.recomputed.hash);
        if computed != row.bytes("own_hash") {
            return Err(format!("{name}: its hash is not that of its content"));
        }
        let sum: i128 = legs.iter().map(|leg| i128::from(leg.amount)).sum();
        if sum != 0 || legs.is_empty() {
            return Err(format!("{name}: its {} entries sum to {sum} rial", legs.len()));
        }
        for leg in &legs {
            book(&mut self.shared, chain, leg).map_err(|text| format!("{name}: {text}"))?;
        }
        chain.recomputed.postings = place;
        chain.recomputed.hash = computed;
        chain.number = number;
        self.postings += 1;
        Ok(())
    }

    /// Compares what a whole chain says with its user's row.
    fn chain_end(&mut self) -> Result<(), String> {
        let Some(Chain { user, recomputed, stored, accounts, .. }) = self.chain.take() else { return Ok(()) };
        if (recomputed.postings, recomputed.hash) != (stored.postings, stored.hash) {
            return Err(format!(
                "the last posting of user {user} should be its {}., found {}",
                stored.postings, recomputed.postings
            ));
        }
        if recomputed != stored {
            return Err(format!(
                "the wallet of user {user} is stored with {} rial, {} held and {} of debt, but its postings sum to {}, \
                 {} and {}",
                stored.available,
                stored.held,
                stored.debt,
                recomputed.available,
                recomputed.held,
                recomputed.debt
            ));
        }
        self.accounts += accounts.len() as u64;
        self.users_total += recomputed.available + recomputed.held;
        self.heads.update(&int(user.0).to_be_bytes());
        self.heads.update(&recomputed.hash);
        Ok(())
    }
}

fn legs(row: &tokio_postgres::Row) -> Vec<Leg> {
    let accounts: Vec<String> = row.get("accounts");
    let (amounts, balances): (Vec<i64>, Vec<Option<i64>>) = (row.get("amounts"), row.get("balances"));
    let entries = accounts.into_iter().zip(amounts).zip(balances);
    entries.map(|((account, amount), balance)| Leg { account, amount, balance }).collect()
}

/// Books an entry; `Err` says what is wrong with it.
fn book(shared: &mut BTreeMap<String, i128>, chain: &mut Chain, leg: &Leg) -> Result<(), String> {
    let Some(account) = Account::from_column(&leg.account) else {
        return Err(format!("{} is no account", leg.account));
    };
    if account.is_shared() {
        *shared.entry(leg.account.clone()).or_default() += i128::from(leg.amount);
        return Ok(());
    }
    let (Account::Wallet(owner) | Account::Held(owner) | Account::Debt(owner)) = &account else {
        return Err(format!("{account} is no user's account"));
    };
    if *owner != chain.user {
        return Err(format!("it moves the {account} in the chain of user {}", chain.user));
    }
    if !chain.accounts.contains(&leg.account) {
        chain.accounts.push(leg.account.clone());
    }
    let balance = chain.recomputed.balance(chain.user, &account);
    let sum = balance.checked_add(leg.amount);
    if sum.is_none() || sum != leg.balance {
        return Err(format!(
            "the {account} has {} rial after it, not {}",
            sum.unwrap_or(i64::MAX),
            leg.balance.unwrap_or(0)
        ));
    }
    *balance = sum.unwrap_or(*balance);
    if *balance < 0 && !account.may_be_negative() {
        return Err(format!("the {account} is negative"));
    }
    Ok(())
}
