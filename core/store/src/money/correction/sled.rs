//! The operations of this folder, in sled statements.

use crate::StoreError;
use crate::engine::sled::Sled;
use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::Record;
use crate::engine::sled::txn::Txn;
use crate::money::correction::{Correction, CorrectionDraft, CorrectionMade};
use crate::money::ledger::sled::post;
use crate::money::ledger::{Account, Posted, correction_key};
use crate::money::once::{Subject, sled as once};

impl Record for Correction {
    const KIND: &'static str = "correction";
    const SCHEMA: u8 = 1;
}

impl Sled {
    pub(crate) async fn correction_make(&self, draft: CorrectionDraft) -> Result<CorrectionMade, StoreError> {
        self.change(move |txn| make(txn, draft)).await
    }
}

pub(crate) fn make(txn: &mut Txn, draft: CorrectionDraft) -> Result<CorrectionMade, StoreError> {
    let CorrectionDraft { user, amount, reason, by, now, once } = draft;
    assert!(amount != 0 && amount != i64::MIN, "amounts are checked when they come in");
    if let Some(once) = &once {
        match once::look(txn, by, once, now)? {
            Subject::New => {}
            Subject::Known(number) => {
                if let Some(correction) = txn.get_record(&keys::correction(number))? {
                    return Ok(CorrectionMade::Repeated(correction));
                }
            }
            Subject::Other => return Ok(CorrectionMade::KeyReused),
        }
    }
    let number = txn.peek_next(keys::CORRECTION_SEQUENCE)?;
    let legs = [(Account::Wallet(user), amount), (Account::Merchant, -amount)];
    let balance = match post(txn, correction_key(number), &legs, "", now)? {
        Posted::Done { balance } => u64::try_from(balance).unwrap_or(0),
        Posted::Overdraft { available } => return Ok(CorrectionMade::Overdraft { available }),
        Posted::TooLarge => return Ok(CorrectionMade::TooLarge),
        Posted::Before => panic!("corrections are numbered in the same change"),
    };
    txn.next(keys::CORRECTION_SEQUENCE)?;
    let correction = Correction { number, user, amount, balance, reason, by, at: now };
    txn.put_record(keys::correction(number), &correction);
    if let Some(once) = once {
        once::keep(txn, by, &once, number);
    }
    Ok(CorrectionMade::Done(correction))
}
