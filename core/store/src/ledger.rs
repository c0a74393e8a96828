//! The ledger: double entry in whole rial, appended to and never changed.
//!
//! A posting moves money between accounts and sums to zero. It has a unique key (`payment:7`), so that what it
//! stands for happens at most once. Each posting carries the hash of the one before it, and each of its entries
//! the account's balance after it and the number of the posting that moved the account before: the history of an
//! account is a list that is walked backwards, without an index of its own. Balances are kept beside the postings
//! and are provable from them: [`Store::ledger_verify`] recomputes everything and names the first difference.
//!
//! Postings are kept in blocks of [`BLOCK_POSTINGS`], because the engine's work is per key and not per byte: the
//! number of the first one, then each posting's length (u32, big-endian) and its record. A posting with a key of
//! its own is from a version before blocks and read where it is.
//!
//! Invariants: a user's wallet and held money are never negative; arithmetic that would overflow refuses the
//! posting; a refused posting writes nothing. Posting is a part of larger changes (see `payment` and `spend`), so
//! that a state and the money it stands for change together or not at all.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::outbox::{EventBody, emit};
use crate::payment::{PayMode, Payment, PaymentState};
use crate::record::{Record, decode, decode_u64, encode, encode_u64};
use crate::spend::{Spend, SpendState};
use crate::txn::Txn;
use crate::{PaymentId, SpendId, Store, StoreError, Timestamp, UserId, error, money_keys as keys};

/// Postings under one key: some kilobytes, which a lone posting has to write again.
const BLOCK_POSTINGS: u64 = 16;

/// Where money is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Account {
    /// What a user can spend. Never negative.
    Wallet(UserId),
    /// What is set aside of a user's money until it is captured or voided. Never negative.
    Held(UserId),
    /// What the shop earned.
    Merchant,
    /// What a gateway took from payers and owes to the shop, counted downwards: the other side of every payment.
    Gateway(String),
}

impl Account {
    fn bytes(&self) -> Vec<u8> {
        let (tag, rest): (u8, &[u8]) = match self {
            Account::Wallet(user) => (b'w', &user.0.to_be_bytes()),
            Account::Held(user) => (b'h', &user.0.to_be_bytes()),
            Account::Merchant => (b'm', &[]),
            Account::Gateway(name) => (b'g', name.as_bytes()),
        };
        let mut bytes = vec![tag];
        bytes.extend_from_slice(rest);
        bytes
    }

    fn may_be_negative(&self) -> bool {
        matches!(self, Account::Merchant | Account::Gateway(_))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Wallet(user) => write!(f, "wallet of user {user}"),
            Account::Held(user) => write!(f, "held money of user {user}"),
            Account::Merchant => f.write_str("merchant"),
            Account::Gateway(name) => write!(f, "gateway {name}"),
        }
    }
}

/// One account's part in a posting. Amounts are rial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub account: Account,
    /// Positive: to the account. Never 0.
    pub amount: i64,
    /// The account's balance with this entry.
    pub balance: i64,
    /// The posting that moved the account before; 0 when this is the first.
    pub previous: u64,
}

/// One movement of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Posting {
    /// From 1, without a gap.
    pub number: u64,
    /// What it stands for: `payment:7`, `spend:3`. Unique.
    pub key: String,
    pub at: Timestamp,
    pub entries: Vec<Entry>,
    /// The hash of the posting before it; zeros for the first.
    pub previous_hash: [u8; 32],
    /// BLAKE3 over everything above.
    pub hash: [u8; 32],
}

impl Record for Posting {
    const KIND: &'static str = "posting";
    const SCHEMA: u8 = 1;
}

impl Posting {
    /// Rial that it moved to an account; negative when it took them.
    fn moved(&self, account: &Account) -> i64 {
        let own = self.entries.iter().find(|entry| entry.account == *account);
        own.map_or(0, |entry| entry.amount)
    }

    fn computed_hash(&self) -> [u8; 32] {
        let hashed = (self.number, &self.key, self.at, &self.entries, self.previous_hash);
        let bytes = postcard::to_stdvec(&hashed)
            .expect("postings are plain data, which postcard writes to a growing buffer");
        *blake3::hash(&bytes).as_bytes()
    }
}

/// A line of a user's wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalletEntry {
    /// The posting's number, which also names the line.
    pub number: u64,
    pub key: String,
    pub at: Timestamp,
    /// Rial; negative when it went out.
    pub amount: i64,
    /// Rial, with this line.
    pub balance: i64,
}

/// What a user has, in rial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalletBalance {
    pub available: u64,
    pub held: u64,
}

/// What a whole check of the ledger found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerReport {
    pub postings: u64,
    pub accounts: u64,
    pub payments: u64,
    /// What all users together have, held money included, in rial.
    pub users_total: i64,
    /// The hash of the last posting: keep it elsewhere, and a later check can show that nothing before it changed.
    pub head: [u8; 32],
    /// The first thing that is not as the rest says it must be.
    pub difference: Option<String>,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
struct AccountRecord {
    balance: i64,
    /// The last posting that moved it.
    last: u64,
}

impl Record for AccountRecord {
    const KIND: &'static str = "account";
    const SCHEMA: u8 = 1;
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default)]
struct Head {
    number: u64,
    hash: [u8; 32],
}

impl Record for Head {
    const KIND: &'static str = "ledger head";
    const SCHEMA: u8 = 1;
}

/// What became of a posting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Posted {
    /// The balance of the first leg's account follows.
    Done { balance: i64 },
    /// A posting with this key was made before; nothing was done.
    Before,
    /// An account that may not be negative would be; it has this much. Nothing was done.
    Overdraft { available: u64 },
    /// A balance would leave 64 bits. Nothing was done.
    TooLarge,
}

/// Makes a posting within a change, once per key.
///
/// # Panics
///
/// When the legs do not sum to zero, name an account twice or move nothing: a defect, which undoes the change.
pub(crate) fn post(
    txn: &mut Txn,
    key: String,
    legs: &[(Account, i64)],
    at: Timestamp,
) -> Result<Posted, StoreError> {
    let sum: i128 = legs.iter().map(|(_, amount)| i128::from(*amount)).sum();
    assert!(sum == 0 && legs.len() >= 2, "a posting is balanced");
    assert!(legs.iter().all(|(_, amount)| *amount != 0), "a leg moves something");
    assert!(
        legs.iter()
            .enumerate()
            .all(|(at, (account, _))| legs[..at].iter().all(|(other, _)| other != account)),
        "a posting names an account once"
    );

    let posting_key = keys::posting_key(&key);
    if txn.get(&posting_key)?.is_some() {
        return Ok(Posted::Before);
    }
    let head: Head = txn.get_record(keys::LEDGER_HEAD)?.unwrap_or_default();
    let number = head.number + 1;
    let mut entries = Vec::with_capacity(legs.len());
    for (account, amount) in legs {
        let record: AccountRecord = txn.get_record(&keys::account(&account.bytes()))?.unwrap_or_default();
        let Some(balance) = record.balance.checked_add(*amount) else { return Ok(Posted::TooLarge) };
        if balance < 0 && *amount < 0 && !account.may_be_negative() {
            return Ok(Posted::Overdraft { available: u64::try_from(record.balance).unwrap_or(0) });
        }
        entries.push(Entry { account: account.clone(), amount: *amount, balance, previous: record.last });
    }

    // Nothing was written so far; from here on nothing is refused.
    for entry in &entries {
        let record = AccountRecord { balance: entry.balance, last: number };
        txn.put_record(keys::account(&entry.account.bytes()), &record);
    }
    let balance = entries[0].balance;
    let mut posting = Posting { number, key, at, entries, previous_hash: head.hash, hash: [0; 32] };
    posting.hash = posting.computed_hash();
    block_append(txn, &posting)?;
    txn.put(posting_key, encode_u64(number));
    txn.put_record(keys::LEDGER_HEAD.into(), &Head { number, hash: posting.hash });
    for Entry { account, amount, balance, .. } in &posting.entries {
        if let Account::Wallet(user) = *account {
            let (amount, balance, posting) = (*amount, *balance, posting.key.clone());
            emit(txn, at, EventBody::WalletChanged { user, amount, balance, posting })?;
        }
    }
    Ok(Posted::Done { balance })
}

fn block_append(txn: &mut Txn, posting: &Posting) -> Result<(), StoreError> {
    let key = keys::posting_block(posting.number / BLOCK_POSTINGS);
    let record = encode(posting);
    let length = u32::try_from(record.len()).expect("a posting has a few legs and a short key");
    let before = txn.get(&key)?;
    let before: &[u8] = before.as_deref().unwrap_or(&[]);
    let mut block = Vec::with_capacity(before.len() + 12 + record.len());
    if before.is_empty() {
        block.extend_from_slice(&posting.number.to_be_bytes());
    }
    block.extend_from_slice(before);
    block.extend_from_slice(&length.to_be_bytes());
    block.extend_from_slice(&record);
    txn.put(key, block.into());
    Ok(())
}

/// The records of a block with the numbers of their places.
fn block_records(block: &[u8]) -> impl Iterator<Item = Result<(u64, &[u8]), StoreError>> {
    let first = block.split_first_chunk::<8>();
    let (mut number, mut rest) = first.map_or((0, block), |(first, rest)| (u64::from_be_bytes(*first), rest));
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = rest
            .split_first_chunk::<4>()
            .and_then(|(length, rest)| rest.split_at_checked(u32::from_be_bytes(*length) as usize));
        let Some((record, after)) = record else {
            rest = &[];
            let reason = format!("it ends within posting {number}");
            return Some(Err(StoreError::Record { kind: "posting block", reason }));
        };
        let place = number;
        (number, rest) = (number.wrapping_add(1), after);
        Some(Ok((place, record)))
    })
}

/// An amount as a leg; amounts are checked when they come in.
///
/// # Panics
///
/// Beyond 63 bits: a defect, because no amount of that size is accepted.
pub(crate) fn signed(amount: u64) -> i64 {
    i64::try_from(amount).expect("amounts were checked to fit")
}

impl Store {
    /// What a user has: two look-ups, however long the history.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn wallet_balance(&self, user: UserId) -> Result<WalletBalance, StoreError> {
        let balance = |account: Account| -> Result<u64, StoreError> {
            Ok(u64::try_from(self.account_record(&account)?.balance).unwrap_or(0))
        };
        Ok(WalletBalance { available: balance(Account::Wallet(user))?, held: balance(Account::Held(user))? })
    }

    /// An account's balance in rial; 0 for one that was never used.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn account_balance(&self, account: &Account) -> Result<i64, StoreError> {
        Ok(self.account_record(account)?.balance)
    }

    /// The lines of a user's wallet, newest first, at most `limit`; with `from`, those from this posting on
    /// backwards. A `from` that never moved this wallet gives none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn wallet_entries(
        &self,
        user: UserId,
        from: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<WalletEntry>, Option<u64>), StoreError> {
        let wallet = Account::Wallet(user);
        let mut next = match from {
            Some(number) => number,
            None => self.account_record(&wallet)?.last,
        };
        let mut lines = Vec::new();
        while next != 0 && lines.len() < limit {
            let Some(posting) = self.posting(next)? else { return Ok((lines, None)) };
            let Some(entry) = posting.entries.iter().find(|entry| entry.account == wallet) else {
                return Ok((lines, None));
            };
            next = entry.previous;
            let (amount, balance) = (entry.amount, entry.balance);
            lines.push(WalletEntry {
                number: posting.number,
                key: posting.key,
                at: posting.at,
                amount,
                balance,
            });
        }
        Ok((lines, (next != 0).then_some(next)))
    }

    /// A posting by its key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn posting_by_key(&self, key: &str) -> Result<Option<Posting>, StoreError> {
        let Some(bytes) = self.tree.get(keys::posting_key(key)).map_err(error::read)? else {
            return Ok(None);
        };
        self.posting(decode_u64("posting key", &bytes)?)
    }

    fn posting(&self, number: u64) -> Result<Option<Posting>, StoreError> {
        if let Some(block) =
            self.tree.get(keys::posting_block(number / BLOCK_POSTINGS)).map_err(error::read)?
        {
            for record in block_records(&block) {
                let (place, record) = record?;
                if place == number {
                    return decode(record).map(Some);
                }
            }
        }
        let bytes = self.tree.get(keys::posting(number)).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    /// Makes one posting from the merchant to a user's wallet, for measuring the ledger alone; false when the key
    /// was used before.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn ledger_probe(
        &self,
        key: String,
        user: UserId,
        amount: u64,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let amount = signed(amount);
            let legs = [(Account::Wallet(user), amount), (Account::Merchant, -amount)];
            Ok(matches!(post(txn, key, &legs, at)?, Posted::Done { .. }))
        })
        .await
    }

    /// Recomputes the whole ledger and compares it with everything that is kept beside it: the chain of hashes,
    /// the balance of each account, the keys, the payments and the spends. Reads everything; meant for a store
    /// that nothing else writes to meanwhile.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`]. What cannot be understood is the report's difference.
    pub fn ledger_verify(&self) -> Result<LedgerReport, StoreError> {
        let mut report = LedgerReport {
            postings: 0,
            accounts: 0,
            payments: 0,
            users_total: 0,
            head: [0; 32],
            difference: None,
        };
        match self.recompute(&mut report) {
            Ok(()) => Ok(report),
            Err(Stop::Difference(text)) => {
                report.difference = Some(text);
                Ok(report)
            }
            Err(Stop::Store(StoreError::Record { kind, reason })) => {
                report.difference = Some(format!("a {kind} record is not readable: {reason}"));
                Ok(report)
            }
            Err(Stop::Store(error)) => Err(error),
        }
    }

    fn account_record(&self, account: &Account) -> Result<AccountRecord, StoreError> {
        let bytes = self.tree.get(keys::account(&account.bytes())).map_err(error::read)?;
        bytes.map_or(Ok(AccountRecord::default()), |bytes| decode(&bytes))
    }

    fn recompute(&self, report: &mut LedgerReport) -> Result<(), Stop> {
        let accounts = self.recompute_postings(report)?;
        self.recompute_accounts(report, &accounts)?;
        let mut credited = 0;
        self.recompute_payments(report, &mut credited)?;
        let held = self.recompute_spends()?;
        for (user, held) in held {
            let account = Account::Held(user);
            let balance = accounts.get(&account).map_or(0, |record| record.balance);
            if balance != held {
                return differs(format!("{account}: {balance} rial, but its open holds sum to {held}"));
            }
        }
        Ok(())
    }

    fn recompute_postings(
        &self,
        report: &mut LedgerReport,
    ) -> Result<BTreeMap<Account, AccountRecord>, Stop> {
        let mut accounts: BTreeMap<Account, AccountRecord> = BTreeMap::new();
        for entry in self.tree.scan_prefix(keys::POSTINGS) {
            let (key, record) = entry.map_err(error::read)?;
            self.recompute_posting(report, &mut accounts, keys::last_number(&key), &record)?;
        }
        for entry in self.tree.scan_prefix(keys::POSTING_BLOCKS) {
            let (_, block) = entry.map_err(error::read)?;
            for record in block_records(&block) {
                let (place, record) = record?;
                self.recompute_posting(report, &mut accounts, Some(place), record)?;
            }
        }
        let head = self.tree.get(keys::LEDGER_HEAD).map_err(error::read)?;
        let head: Head = head.map_or(Ok(Head::default()), |bytes| decode(&bytes))?;
        if head != (Head { number: report.postings, hash: report.head }) {
            return differs(format!("the last posting should be {}, found {}", head.number, report.postings));
        }
        let mut known_keys = 0;
        for entry in self.tree.scan_prefix(keys::POSTING_KEYS) {
            entry.map_err(error::read)?;
            known_keys += 1;
        }
        if known_keys != report.postings {
            return differs(format!("{known_keys} posting keys for {} postings", report.postings));
        }
        Ok(accounts)
    }

    /// Checks the posting that follows those the report counts, and books it.
    fn recompute_posting(
        &self,
        report: &mut LedgerReport,
        accounts: &mut BTreeMap<Account, AccountRecord>,
        place: Option<u64>,
        record: &[u8],
    ) -> Result<(), Stop> {
        let number = report.postings + 1;
        if place != Some(number) {
            return differs(format!("posting {number} is missing"));
        }
        let posting: Posting = decode(record)?;
        let name = format!("posting {number} ({})", posting.key);
        if posting.number != number {
            return differs(format!("{name}: calls itself {}", posting.number));
        }
        if posting.previous_hash != report.head {
            return differs(format!("{name}: does not follow the posting before it"));
        }
        if posting.hash != posting.computed_hash() {
            return differs(format!("{name}: its hash is not that of its content"));
        }
        let sum: i128 = posting.entries.iter().map(|entry| i128::from(entry.amount)).sum();
        if sum != 0 {
            return differs(format!("{name}: its entries sum to {sum} rial"));
        }
        for entry in &posting.entries {
            let record = accounts.entry(entry.account.clone()).or_default();
            if entry.previous != record.last {
                return differs(format!(
                    "{name}: the {} was moved by posting {} before, not {}",
                    entry.account, record.last, entry.previous
                ));
            }
            let balance = record.balance.checked_add(entry.amount);
            if balance != Some(entry.balance) {
                return differs(format!(
                    "{name}: the {} has {} rial after it, not {}",
                    entry.account,
                    balance.unwrap_or(i64::MAX),
                    entry.balance
                ));
            }
            if entry.balance < 0 && !entry.account.may_be_negative() {
                return differs(format!("{name}: the {} is negative", entry.account));
            }
            *record = AccountRecord { balance: entry.balance, last: number };
        }
        let stored = self.tree.get(keys::posting_key(&posting.key)).map_err(error::read)?;
        if stored.map(|bytes| decode_u64("posting key", &bytes)).transpose()? != Some(number) {
            return differs(format!("{name}: its key does not lead to it"));
        }
        report.postings = number;
        report.head = posting.hash;
        Ok(())
    }

    fn recompute_accounts(
        &self,
        report: &mut LedgerReport,
        accounts: &BTreeMap<Account, AccountRecord>,
    ) -> Result<(), Stop> {
        for (account, recomputed) in accounts {
            let kept = self.account_record(account)?;
            if kept != *recomputed {
                return differs(format!(
                    "the {account} is kept with {} rial, its postings sum to {}",
                    kept.balance, recomputed.balance
                ));
            }
            if !account.may_be_negative() {
                report.users_total += recomputed.balance;
            }
        }
        for entry in self.tree.scan_prefix(keys::ACCOUNTS) {
            entry.map_err(error::read)?;
            report.accounts += 1;
        }
        if report.accounts != accounts.len() as u64 {
            return differs(format!(
                "{} accounts are kept, postings name {}",
                report.accounts,
                accounts.len()
            ));
        }
        Ok(())
    }

    /// Each paid payment has its one credit, and each credit its payment.
    fn recompute_payments(&self, report: &mut LedgerReport, credited: &mut u64) -> Result<(), Stop> {
        let mut refunds_noted = 0;
        for entry in self.tree.scan_prefix(keys::PAYMENTS) {
            let (key, value) = entry.map_err(error::read)?;
            let payment: Payment = decode(&value)?;
            report.payments += 1;
            let id = PaymentId(keys::last_number(&key).unwrap_or(0));
            let posting = self.posting_by_key(&payment_key(id))?;
            let settled = matches!(payment.state, PaymentState::Paid | PaymentState::Refunded);
            match posting {
                None if settled => return differs(format!("payment {id} is paid without a credit")),
                Some(_) if !settled => {
                    return differs(format!("payment {id} is credited without being paid"));
                }
                Some(posting) => {
                    let to = match payment.mode {
                        PayMode::Charge => Account::Wallet(payment.user),
                        PayMode::Direct => Account::Merchant,
                    };
                    let credited = posting.moved(&to);
                    if credited != signed(payment.amount) {
                        let paid = payment.amount;
                        return differs(format!("payment {id}: {paid} rial are paid, {credited} credited"));
                    }
                }
                None => {}
            }
            *credited += u64::from(settled);
            refunds_noted += u64::from(payment.refunds);
            let mut refunded = 0u64;
            for number in 1..=payment.refunds {
                let posting = self.posting_by_key(&refund_key(id, number))?;
                let amount =
                    posting.and_then(|p| p.entries.iter().map(|entry| entry.amount.unsigned_abs()).max());
                let Some(amount) = amount else {
                    return differs(format!("refund {number} of payment {id} has no posting"));
                };
                refunded = refunded.saturating_add(amount);
            }
            if refunded != payment.refunded || refunded > payment.amount {
                return differs(format!(
                    "payment {id}: {} rial are noted as refunded, {refunded} were",
                    payment.refunded
                ));
            }
        }
        let refunds = self.posting_keys("refund:")?;
        if refunds != refunds_noted {
            return differs(format!("{refunds} refunds are posted, {refunds_noted} are noted"));
        }
        let credits = self.posting_keys("payment:")?;
        if credits != *credited {
            return differs(format!("{credits} payments are credited, {credited} are paid"));
        }
        Ok(())
    }

    /// What each user's open holds sum to; each spend has the postings its state tells of, and they no others.
    fn recompute_spends(&self) -> Result<HashMap<UserId, i64>, Stop> {
        let mut held: HashMap<UserId, i64> = HashMap::new();
        let (mut spends, mut captures, mut voids) = (0, 0, 0);
        for entry in self.tree.scan_prefix(keys::SPENDS) {
            let (key, value) = entry.map_err(error::read)?;
            let spend: Spend = decode(&value)?;
            let id = SpendId(keys::last_number(&key).unwrap_or(0));
            spends += 1;
            let Some(posting) = self.posting_by_key(&spend_key(id))? else {
                return differs(format!("spend {id} has no posting"));
            };
            let taken = -posting.moved(&Account::Wallet(spend.user));
            if taken != signed(spend.amount) {
                return differs(format!("spend {id}: {} rial by its record, {taken} taken", spend.amount));
            }
            match spend.state {
                SpendState::Held => *held.entry(spend.user).or_default() += signed(spend.amount),
                SpendState::Captured => {
                    let posting = match spend.hold {
                        true => self.posting_by_key(&capture_key(id))?,
                        false => Some(posting),
                    };
                    captures += u64::from(spend.hold);
                    let captured = posting.map_or(0, |posting| posting.moved(&Account::Merchant));
                    if captured != signed(spend.captured) {
                        let noted = spend.captured;
                        return differs(format!(
                            "spend {id}: {noted} rial are noted as captured, {captured} were"
                        ));
                    }
                }
                SpendState::Voided => {
                    voids += 1;
                    let posting = self.posting_by_key(&void_key(id))?;
                    let back = posting.map_or(0, |posting| posting.moved(&Account::Wallet(spend.user)));
                    if back != signed(spend.amount) {
                        return differs(format!("spend {id}: voided, and {back} rial went back"));
                    }
                }
            }
        }
        for (kind, known) in [("spend:", spends), ("capture:", captures), ("void:", voids)] {
            let posted = self.posting_keys(kind)?;
            if posted != known {
                return differs(format!("{posted} postings are {kind}, {known} spends tell of one"));
            }
        }
        Ok(held)
    }

    /// How many posting keys begin so.
    fn posting_keys(&self, kind: &str) -> Result<u64, Stop> {
        let mut count = 0;
        for entry in self.tree.scan_prefix(keys::posting_key(kind)) {
            entry.map_err(error::read)?;
            count += 1;
        }
        Ok(count)
    }
}

pub(crate) fn payment_key(id: PaymentId) -> String {
    format!("payment:{id}")
}

pub(crate) fn refund_key(id: PaymentId, number: u32) -> String {
    format!("refund:{id}:{number}")
}

pub(crate) fn spend_key(id: SpendId) -> String {
    format!("spend:{id}")
}

pub(crate) fn capture_key(id: SpendId) -> String {
    format!("capture:{id}")
}

pub(crate) fn void_key(id: SpendId) -> String {
    format!("void:{id}")
}

/// Why recomputing ended early.
enum Stop {
    Difference(String),
    Store(StoreError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Stop::Store(error)
    }
}

fn differs<T>(text: String) -> Result<T, Stop> {
    Err(Stop::Difference(text))
}
