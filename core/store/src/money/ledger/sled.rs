//! The operations of this folder, in sled statements.

mod verify;

use serde::{Deserialize, Serialize};

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{Record, decode, decode_u64, encode, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::money::ledger::{Account, Entry, Posted, Posting, WalletBalance, WalletEntry, check_legs, signed};
use crate::money::outbox::EventBody;
use crate::money::outbox::sled::emit;
use crate::{StoreError, Timestamp, UserId};

/// Postings under one key: some kilobytes, rewritten by each lone posting.
const BLOCK_POSTINGS: u64 = 16;

impl Account {
    fn bytes(&self) -> Vec<u8> {
        let (tag, rest): (u8, &[u8]) = match self {
            Account::Wallet(user) => (b'w', &user.0.to_be_bytes()),
            Account::Held(user) => (b'h', &user.0.to_be_bytes()),
            Account::Merchant => (b'm', &[]),
            Account::Gateway(name) => (b'g', name.as_bytes()),
            Account::Import => (b'i', &[]),
            Account::Debt(user) => (b'd', &user.0.to_be_bytes()),
        };
        let mut bytes = vec![tag];
        bytes.extend_from_slice(rest);
        bytes
    }
}

impl Record for Posting {
    const KIND: &'static str = "posting";
    const SCHEMA: u8 = 1;
}

impl Posting {
    fn computed_hash(&self) -> [u8; 32] {
        let hashed = (self.number, &self.key, self.at, &self.entries, self.previous_hash);
        let bytes = postcard::to_stdvec(&hashed)
            .expect("postings are plain data, which postcard writes to a growing buffer");
        *blake3::hash(&bytes).as_bytes()
    }
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct AccountRecord {
    pub(crate) balance: i64,
    /// The last posting that moved it.
    pub(crate) last: u64,
}

impl Record for AccountRecord {
    const KIND: &'static str = "account";
    const SCHEMA: u8 = 1;
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Head {
    pub(crate) number: u64,
    pub(crate) hash: [u8; 32],
}

impl Record for Head {
    const KIND: &'static str = "ledger head";
    const SCHEMA: u8 = 1;
}

/// Makes a posting within a change, once per key. `order` is the client's name of what it is for; it goes into the
/// event.
///
/// # Panics
///
/// When the legs do not sum to zero, name an account twice or move nothing. This is a defect; the change is rolled
/// back.
pub(crate) fn post(
    txn: &mut Txn,
    key: String,
    legs: &[(Account, i64)],
    order: &str,
    at: Timestamp,
) -> Result<Posted, StoreError> {
    check_legs(legs);
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

    // Nothing is written so far; from here on nothing is refused.
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
            let order = order.to_owned();
            emit(txn, at, EventBody::WalletChanged { user, amount, balance, posting, order })?;
        }
    }
    Ok(Posted::Done { balance })
}

/// An account's balance within a change.
pub(crate) fn balance(txn: &Txn, account: &Account) -> Result<i64, StoreError> {
    let record: Option<AccountRecord> = txn.get_record(&keys::account(&account.bytes()))?;
    Ok(record.unwrap_or_default().balance)
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

/// The records of a block with their posting numbers.
pub(crate) fn block_records(block: &[u8]) -> impl Iterator<Item = Result<(u64, &[u8]), StoreError>> {
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
            let reason = format!("it is truncated in posting {number}");
            return Some(Err(StoreError::Record { kind: "posting block", reason }));
        };
        let place = number;
        (number, rest) = (number.wrapping_add(1), after);
        Some(Ok((place, record)))
    })
}

impl Sled {
    pub(crate) fn wallet_balance(&self, user: UserId) -> Result<WalletBalance, StoreError> {
        let balance = |account: Account| -> Result<u64, StoreError> {
            Ok(u64::try_from(self.account_record(&account)?.balance).unwrap_or(0))
        };
        Ok(WalletBalance { available: balance(Account::Wallet(user))?, held: balance(Account::Held(user))? })
    }

    pub(crate) fn account_balance(&self, account: &Account) -> Result<i64, StoreError> {
        Ok(self.account_record(account)?.balance)
    }

    pub(crate) fn wallet_entries(
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
            let held = |entry: &Entry| entry.account == Account::Held(user) && entry.amount > 0;
            let is_hold = posting.entries.iter().any(held);
            lines.push(WalletEntry {
                number: posting.number,
                is_hold,
                key: posting.key,
                at: posting.at,
                amount,
                balance,
            });
        }
        Ok((lines, (next != 0).then_some(next)))
    }

    pub(crate) fn posting_by_key(&self, key: &str) -> Result<Option<Posting>, StoreError> {
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

    pub(crate) async fn ledger_probe(
        &self,
        key: String,
        user: UserId,
        amount: u64,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.change(move |txn| {
            let amount = signed(amount);
            let legs = [(Account::Wallet(user), amount), (Account::Merchant, -amount)];
            Ok(matches!(post(txn, key, &legs, "", at)?, Posted::Done { .. }))
        })
        .await
    }

    fn account_record(&self, account: &Account) -> Result<AccountRecord, StoreError> {
        let bytes = self.tree.get(keys::account(&account.bytes())).map_err(error::read)?;
        bytes.map_or(Ok(AccountRecord::default()), |bytes| decode(&bytes))
    }
}
