//! The operations of this folder, in sled statements.

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{Record, decode};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::money::ledger::Account;
use crate::money::ledger::sled::{Posted, capture_key, post, signed, spend_key, void_key};
use crate::money::once::sled as once;
use crate::money::once::sled::Subject;
use crate::money::outbox::EventBody;
use crate::money::outbox::sled::emit;
use crate::money::spend::{Spend, SpendDraft, SpendEnded, SpendMade, SpendState};
use crate::{SpendId, StoreError, Timestamp, UserId};

impl Record for Spend {
    const KIND: &'static str = "spend";
    const SCHEMA: u8 = 1;
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

    pub(crate) async fn spend_void(&self, id: SpendId, now: Timestamp) -> Result<SpendEnded, StoreError> {
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
