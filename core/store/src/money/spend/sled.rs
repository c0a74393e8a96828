//! The operations of this folder, in sled statements.

use serde::Deserialize;

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{Record, decode, encode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::money::ledger::sled::{balance, post};
use crate::money::ledger::{Account, Posted, capture_key, spend_key, void_key};
use crate::money::once::{Subject, sled as once};
use crate::money::order::sled as order;
use crate::money::outbox::EventBody;
use crate::money::outbox::sled::emit;
use crate::money::spend::{Spend, SpendDraft, SpendEnded, SpendMade, SpendState};
use crate::{SpendId, StoreError, Timestamp, UserId};

impl Record for Spend {
    const KIND: &'static str = "spend";
    const SCHEMA: u8 = 2;
    const SCHEMA_OLDEST: u8 = 1;

    fn decode_older(_schema: u8, body: &[u8]) -> Result<Self, postcard::Error> {
        // The first shape had no expiry.
        #[derive(Deserialize)]
        struct First {
            id: SpendId,
            user: UserId,
            state: SpendState,
            hold: bool,
            amount: u64,
            captured: u64,
            balance: u64,
            order: String,
            description: String,
            created_at: Timestamp,
            ended_at: Option<Timestamp>,
        }
        let first: First = postcard::from_bytes(body)?;
        Ok(Spend {
            id: first.id,
            user: first.user,
            state: first.state,
            hold: first.hold,
            amount: first.amount,
            captured: first.captured,
            balance: first.balance,
            order: first.order,
            description: first.description,
            created_at: first.created_at,
            ended_at: first.ended_at,
            expires_at: None,
        })
    }
}

impl Sled {
    pub(crate) async fn spend_create(&self, draft: SpendDraft) -> Result<SpendMade, StoreError> {
        self.change(move |txn| create(txn, draft)).await
    }

    pub(crate) async fn spend_capture(
        &self,
        id: SpendId,
        amount: Option<u64>,
        now: Timestamp,
    ) -> Result<SpendEnded, StoreError> {
        self.change(move |txn| {
            let Some(spend) = txn.get_record::<Spend>(&keys::spend(id))? else {
                return Ok(SpendEnded::Missing);
            };
            let (legs, spend) = match spend.capture(amount, now) {
                Ok(capture) => capture,
                Err(ended) => match *ended {
                    SpendEnded::Done(spend, _) => return done(txn, spend),
                    refused => return Ok(refused),
                },
            };
            if post(txn, capture_key(id), &legs, &spend.order, now)? == Posted::TooLarge {
                return Ok(SpendEnded::TooLarge);
            }
            put_ended(txn, &spend);
            emit(txn, now, EventBody::captured(&spend))?;
            done(txn, spend)
        })
        .await
    }

    pub(crate) async fn spend_void(&self, id: SpendId, now: Timestamp) -> Result<SpendEnded, StoreError> {
        self.change(move |txn| {
            let Some(mut spend) = txn.get_record::<Spend>(&keys::spend(id))? else {
                return Ok(SpendEnded::Missing);
            };
            match spend.state {
                SpendState::Held => {}
                SpendState::Voided => return done(txn, spend),
                SpendState::Captured | SpendState::Expired => return Ok(SpendEnded::Was(spend)),
            }
            if !give_back(txn, &mut spend, SpendState::Voided, now)? {
                return Ok(SpendEnded::TooLarge);
            }
            done(txn, spend)
        })
        .await
    }

    pub(crate) async fn holds_expire(&self, now: Timestamp, limit: usize) -> Result<Vec<Spend>, StoreError> {
        let due = keys::hold_due(Timestamp::default(), SpendId(0))..keys::hold_due(now, SpendId(u64::MAX));
        let mut ids = Vec::new();
        for entry in self.tree.range(due).take(limit) {
            ids.extend(keys::last_number(&entry.map_err(error::read)?.0).map(SpendId));
        }
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.change(move |txn| {
            let mut expired = Vec::new();
            for id in ids {
                let spend = txn.get_record::<Spend>(&keys::spend(id))?;
                let Some(mut spend) = spend.filter(|spend| spend.state == SpendState::Held) else { continue };
                if give_back(txn, &mut spend, SpendState::Expired, now)? {
                    emit(txn, now, EventBody::hold_expired(&spend))?;
                    expired.push(spend);
                }
            }
            Ok(expired)
        })
        .await
    }

    pub(crate) fn holds(&self, limit: usize) -> Result<Vec<Spend>, StoreError> {
        let mut spends = Vec::new();
        for entry in self.tree.scan_prefix(keys::HOLDS_DUE).take(limit) {
            let (key, _) = entry.map_err(error::read)?;
            if let Some(id) = keys::last_number(&key) {
                spends.extend(self.spend_get(SpendId(id))?);
            }
        }
        Ok(spends)
    }

    pub(crate) fn spend_get(&self, id: SpendId) -> Result<Option<Spend>, StoreError> {
        let bytes = self.tree.get(keys::spend(id)).map_err(error::read)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    pub(crate) fn spends_of(
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
    let legs = draft.legs();
    let (user, now, once) = (draft.user, draft.now, draft.once.clone());
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
    if draft.unique_order && !draft.order.is_empty() {
        if let Some(spend) = order::spent(txn, user, &draft.order)? {
            return Ok(SpendMade::OrderTaken(spend));
        }
        if let Some(paid) = order::paid_directly(txn, user, &draft.order)? {
            return Ok(SpendMade::OrderPaid(paid));
        }
    }
    let id = SpendId(txn.peek_next(keys::SPEND_SEQUENCE)?);
    let balance = match post(txn, spend_key(id), &legs, &draft.order, now)? {
        Posted::Done { balance } => u64::try_from(balance).unwrap_or(0),
        Posted::Overdraft { available } => return Ok(SpendMade::Overdraft { available }),
        Posted::TooLarge => return Ok(SpendMade::TooLarge),
        Posted::Before => panic!("spends are numbered in the same change"),
    };
    txn.next(keys::SPEND_SEQUENCE)?;
    let spend = Spend::made(id, balance, draft);
    if let Some(at) = spend.expires_at {
        txn.put(keys::hold_due(at, id), sled::IVec::default());
    }
    if !spend.order.is_empty() {
        txn.put(keys::spend_order(user, &spend.order), encode_u64(id.0));
    }
    txn.put_record(keys::spend(id), &spend);
    txn.put(keys::spend_of(user, id), sled::IVec::default());
    if let Some(once) = once {
        once::keep(txn, user, &once, id.0);
    }
    Ok(SpendMade::Done(spend))
}

/// An ended spend, with what its wallet has now.
fn done(txn: &Txn, spend: Spend) -> Result<SpendEnded, StoreError> {
    let balance = balance(txn, &Account::Wallet(spend.user))?;
    Ok(SpendEnded::Done(spend, u64::try_from(balance).unwrap_or(0)))
}

/// Returns held money to its wallet; false when the wallet cannot hold that much.
fn give_back(
    txn: &mut Txn,
    spend: &mut Spend,
    state: SpendState,
    now: Timestamp,
) -> Result<bool, StoreError> {
    if post(txn, void_key(spend.id), &spend.return_legs(), &spend.order, now)? == Posted::TooLarge {
        return Ok(false);
    }
    if !spend.order.is_empty() {
        // The order can be paid again; another spend may have it when orders repeat.
        let order = keys::spend_order(spend.user, &spend.order);
        if txn.get(&order)?.is_some_and(|bytes| *bytes == *encode_u64(spend.id.0)) {
            txn.delete(order);
        }
    }
    spend.end(state, now);
    put_ended(txn, spend);
    Ok(true)
}

fn put_ended(txn: &mut Txn, spend: &Spend) {
    if let Some(at) = spend.expires_at {
        txn.delete(keys::hold_due(at, spend.id));
    }
    txn.put_record(keys::spend(spend.id), spend);
}
