//! Spending from a wallet: at once, or held first and then captured or voided.
//!
//! A spend moves Held -> Captured | Voided, or is Captured from the start, never back. Invariants: the state and the
//! money change together; a hold is captured once, for its amount or less, and what is not captured goes back in
//! the same posting; no spend takes more than the wallet has.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{error, keys::money as keys};
use crate::money::ledger::{Account, Posted, capture_key, post, signed, spend_key, void_key};
use crate::money::once::{self, Once, Subject};
use crate::money::outbox::{EventBody, emit};
use crate::{Store, StoreError, Timestamp, UserId};

/// The public number of a spend, from 1. Knowing it gives no right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SpendId(pub u64);

impl fmt::Display for SpendId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SpendState {
    Held,
    Captured,
    Voided,
}

#[derive(Debug, Clone)]
pub struct SpendDraft {
    pub user: UserId,
    /// Rial, 1 to 2^63 - 1.
    pub amount: u64,
    /// Set aside only, until it is captured or voided.
    pub hold: bool,
    /// The client's name of what is paid for; may be empty.
    pub order: String,
    pub description: String,
    pub now: Timestamp,
    pub once: Option<Once>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    pub id: SpendId,
    pub user: UserId,
    pub state: SpendState,
    /// It began as a hold.
    pub hold: bool,
    /// Rial that left the wallet when it was made.
    pub amount: u64,
    /// Rial of it that went to the merchant.
    pub captured: u64,
    /// What the wallet had left when it was made.
    pub balance: u64,
    pub order: String,
    pub description: String,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

impl Record for Spend {
    const KIND: &'static str = "spend";
    const SCHEMA: u8 = 1;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpendMade {
    Done(Spend),
    /// The same request was made before with this idempotency key.
    Repeated(Spend),
    /// The idempotency key was used for another request.
    KeyReused,
    /// The wallet has only this much.
    Overdraft {
        available: u64,
    },
    TooLarge,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpendEnded {
    /// By this call, or by an earlier one that asked for the same.
    Done(Spend),
    /// It ended otherwise before. As it is now.
    Was(Spend),
    /// Only this much is held.
    TooMuch {
        held: u64,
    },
    TooLarge,
    Missing,
}

impl Store {
    /// Takes money out of a wallet, or sets it aside.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn spend_create(&self, draft: SpendDraft) -> Result<SpendMade, StoreError> {
        self.change(move |txn| create(txn, draft)).await
    }

    /// Gives held money to the merchant: all of it, or `amount` of it with the rest going back.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn spend_capture(
        &self,
        id: SpendId,
        amount: Option<u64>,
        now: Timestamp,
    ) -> Result<SpendEnded, StoreError> {
        self.change(move |txn| {
            let Some(mut spend) = txn.get_record::<Spend>(&keys::spend(id))? else {
                return Ok(SpendEnded::Missing);
            };
            let captured = amount.unwrap_or(spend.amount);
            if spend.state != SpendState::Held {
                let same = spend.hold && spend.state == SpendState::Captured && spend.captured == captured;
                return Ok(if same { SpendEnded::Done(spend) } else { SpendEnded::Was(spend) });
            }
            if captured > spend.amount || captured == 0 {
                return Ok(SpendEnded::TooMuch { held: spend.amount });
            }
            let rest = spend.amount - captured;
            let mut legs = vec![
                (Account::Held(spend.user), -signed(spend.amount)),
                (Account::Merchant, signed(captured)),
            ];
            if rest > 0 {
                legs.push((Account::Wallet(spend.user), signed(rest)));
            }
            if post(txn, capture_key(id), &legs, now)? == Posted::TooLarge {
                return Ok(SpendEnded::TooLarge);
            }
            spend.captured = captured;
            end(txn, &mut spend, SpendState::Captured, now);
            emit(txn, now, EventBody::captured(&spend))?;
            Ok(SpendEnded::Done(spend))
        })
        .await
    }

    /// Gives held money back.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn spend_void(&self, id: SpendId, now: Timestamp) -> Result<SpendEnded, StoreError> {
        self.change(move |txn| {
            let Some(mut spend) = txn.get_record::<Spend>(&keys::spend(id))? else {
                return Ok(SpendEnded::Missing);
            };
            match spend.state {
                SpendState::Held => {}
                SpendState::Voided => return Ok(SpendEnded::Done(spend)),
                SpendState::Captured => return Ok(SpendEnded::Was(spend)),
            }
            let amount = signed(spend.amount);
            let legs = [(Account::Wallet(spend.user), amount), (Account::Held(spend.user), -amount)];
            if post(txn, void_key(id), &legs, now)? == Posted::TooLarge {
                return Ok(SpendEnded::TooLarge);
            }
            end(txn, &mut spend, SpendState::Voided, now);
            Ok(SpendEnded::Done(spend))
        })
        .await
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn spend_get(&self, id: SpendId) -> Result<Option<Spend>, StoreError> {
        let bytes = self.tree.get(keys::spend(id)).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    /// A user's spends, newest first, at most `limit`; with `before`, those that are older than it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub fn spends_of(
        &self,
        user: UserId,
        before: Option<SpendId>,
        limit: usize,
    ) -> Result<Vec<Spend>, StoreError> {
        let first = keys::spend_of(user, SpendId(0));
        let entries = match before {
            Some(before) => self.tree.range(first..keys::spend_of(user, before)),
            None => self.tree.range(first..=keys::spend_of(user, SpendId(u64::MAX))),
        };
        let mut spends = Vec::new();
        for entry in entries.rev().take(limit) {
            let (key, _) = entry.map_err(error::read)?;
            if let Some(id) = keys::last_number(&key) {
                spends.extend(self.spend_get(SpendId(id))?);
            }
        }
        Ok(spends)
    }
}

fn create(txn: &mut Txn, draft: SpendDraft) -> Result<SpendMade, StoreError> {
    assert!((1..=i64::MAX as u64).contains(&draft.amount), "amounts are checked when they come in");
    let SpendDraft { user, amount, hold, order, description, now, once } = draft;
    if let Some(once) = &once {
        match once::look(txn, user, once, now)? {
            Subject::New => {}
            Subject::Known(id) => {
                if let Some(spend) = txn.get_record(&keys::spend(SpendId(id)))? {
                    return Ok(SpendMade::Repeated(spend));
                }
            }
            Subject::Other => return Ok(SpendMade::KeyReused),
        }
    }
    let id = SpendId(txn.peek_next(keys::SPEND_SEQUENCE)?);
    let to = if hold { Account::Held(user) } else { Account::Merchant };
    let legs = [(Account::Wallet(user), -signed(amount)), (to, signed(amount))];
    let balance = match post(txn, spend_key(id), &legs, now)? {
        Posted::Done { balance } => u64::try_from(balance).unwrap_or(0),
        Posted::Overdraft { available } => return Ok(SpendMade::Overdraft { available }),
        Posted::TooLarge => return Ok(SpendMade::TooLarge),
        Posted::Before => panic!("spends are numbered in the same change"),
    };
    txn.next(keys::SPEND_SEQUENCE)?;
    let spend = Spend {
        id,
        user,
        state: if hold { SpendState::Held } else { SpendState::Captured },
        hold,
        amount,
        captured: if hold { 0 } else { amount },
        balance,
        order,
        description,
        created_at: now,
        ended_at: (!hold).then_some(now),
    };
    txn.put_record(keys::spend(id), &spend);
    txn.put(keys::spend_of(user, id), sled::IVec::default());
    if let Some(once) = once {
        once::keep(txn, user, &once, id.0);
    }
    Ok(SpendMade::Done(spend))
}

fn end(txn: &mut Txn, spend: &mut Spend, state: SpendState, now: Timestamp) {
    spend.state = state;
    spend.ended_at = Some(now);
    txn.put_record(keys::spend(spend.id), spend);
}
