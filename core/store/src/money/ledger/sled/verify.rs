//! Verification of the ledger: everything is recomputed from the postings and compared with the stored data.

use std::collections::{BTreeMap, HashMap};

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{decode, decode_u64};
use crate::engine::sled::{Sled, error};
use crate::money::correction::Correction;
use crate::money::ledger::sled::{AccountRecord, Head, block_records};
use crate::money::ledger::{
    Account, LedgerReport, Posting, capture_key, correction_key, payment_key, refund_key, refund_moved_key,
    refund_undone_key, signed, spend_key, void_key,
};
use crate::money::payment::{PayMode, Payment, PaymentState};
use crate::money::spend::{Spend, SpendState};
use crate::{PaymentId, SpendId, StoreError, UserId};

impl Sled {
    pub(crate) fn ledger_verify(&self) -> Result<LedgerReport, StoreError> {
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

    fn recompute(&self, report: &mut LedgerReport) -> Result<(), Stop> {
        let accounts = self.recompute_postings(report)?;
        self.recompute_accounts(report, &accounts)?;
        let mut credited = 0;
        self.recompute_payments(report, &mut credited)?;
        self.recompute_corrections()?;
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

    /// Verifies the next posting and books it.
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
            return differs(format!("{name}: stores the number {}", posting.number));
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
                    "the {account} is stored with {} rial, but its postings sum to {}",
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
                "{} accounts are stored, but postings name {}",
                report.accounts,
                accounts.len()
            ));
        }
        Ok(())
    }

    /// Each paid payment has exactly one credit, and each credit its payment.
    fn recompute_payments(&self, report: &mut LedgerReport, credited: &mut u64) -> Result<(), Stop> {
        let (mut refunds_noted, mut undone_noted, mut moved_noted) = (0, 0, 0);
        for entry in self.tree.scan_prefix(keys::PAYMENTS) {
            let (key, value) = entry.map_err(error::read)?;
            let payment: Payment = decode(&value)?;
            report.payments += 1;
            let id = PaymentId(keys::last_number(&key).unwrap_or(0));
            let posting = self.posting_by_key(&payment_key(id))?;
            let paid = matches!(payment.state, PaymentState::Paid | PaymentState::Refunded);
            // The money of an imported payment is inside its user's opening balance.
            let settled = paid && !payment.imported;
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
                        return differs(format!(
                            "payment {id}: {paid} rial are paid, but {credited} credited"
                        ));
                    }
                }
                None => {}
            }
            *credited += u64::from(settled);
            refunds_noted += u64::from(payment.refunds);
            let mut refunded = 0u64;
            for number in 1..=payment.refunds {
                let moved = |key: String| -> Result<Option<u64>, StoreError> {
                    let posting = self.posting_by_key(&key)?;
                    Ok(posting.and_then(|p| p.entries.iter().map(|entry| entry.amount.unsigned_abs()).max()))
                };
                let Some(amount) = moved(refund_key(id, number))? else {
                    return differs(format!("refund {number} of payment {id} has no posting"));
                };
                refunded = refunded.saturating_add(amount);
                let later = [moved(refund_undone_key(id, number))?, moved(refund_moved_key(id, number))?];
                match later {
                    [None, None] => {}
                    [Some(undone), None] if undone == amount => {
                        refunded -= amount;
                        undone_noted += 1;
                    }
                    [None, Some(went)] if went == amount => moved_noted += 1,
                    _ => return differs(format!("refund {number} of payment {id} was taken back otherwise")),
                }
            }
            // The money of an imported one is inside its user's opening balance, returned or not.
            let posted = if payment.imported { payment.refunded } else { refunded };
            if posted != payment.refunded || refunded > payment.amount {
                return differs(format!(
                    "payment {id}: {} rial are stored as refunded, but {refunded} were posted",
                    payment.refunded
                ));
            }
        }
        let refunds = self.posting_keys("refund:")?;
        if refunds != refunds_noted {
            return differs(format!("{refunds} refunds are posted, but {refunds_noted} are stored"));
        }
        for (kind, noted) in [("refund-undone:", undone_noted), ("refund-moved:", moved_noted)] {
            let posted = self.posting_keys(kind)?;
            if posted != noted {
                return differs(format!("{posted} postings are {kind}, {noted} refunds have one"));
            }
        }
        let credits = self.posting_keys("payment:")?;
        if credits != *credited {
            return differs(format!("{credits} payments are credited, but {credited} are paid"));
        }
        Ok(())
    }

    /// Each correction has its posting, and each posting of one its correction.
    fn recompute_corrections(&self) -> Result<(), Stop> {
        let mut noted = 0;
        for entry in self.tree.scan_prefix(keys::CORRECTIONS) {
            let (_, value) = entry.map_err(error::read)?;
            let correction: Correction = decode(&value)?;
            noted += 1;
            let posting = self.posting_by_key(&correction_key(correction.number))?;
            let moved = posting.map_or(0, |posting| posting.moved(&Account::Wallet(correction.user)));
            if moved != correction.amount {
                let (number, amount) = (correction.number, correction.amount);
                return differs(format!("correction {number}: {amount} rial by its record, {moved} moved"));
            }
        }
        let posted = self.posting_keys("correction:")?;
        if posted != noted {
            return differs(format!("{posted} corrections are posted, {noted} are noted"));
        }
        Ok(())
    }

    /// Sums each user's open holds. Each spend has exactly the postings of its state.
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
                return differs(format!(
                    "spend {id}: {} rial are stored, but {taken} were posted",
                    spend.amount
                ));
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
                            "spend {id}: {noted} rial are stored as captured, but {captured} were posted"
                        ));
                    }
                }
                SpendState::Voided | SpendState::Expired => {
                    voids += 1;
                    let posting = self.posting_by_key(&void_key(id))?;
                    let back = posting.map_or(0, |posting| posting.moved(&Account::Wallet(spend.user)));
                    if back != signed(spend.amount) {
                        return differs(format!("spend {id}: voided, but {back} rial were returned"));
                    }
                }
            }
        }
        for (kind, known) in [("spend:", spends), ("capture:", captures), ("void:", voids)] {
            let posted = self.posting_keys(kind)?;
            if posted != known {
                return differs(format!("{posted} postings are {kind}, but {known} spends have one"));
            }
        }
        Ok(held)
    }

    /// Counts posting keys of a kind.
    fn posting_keys(&self, kind: &str) -> Result<u64, Stop> {
        let mut count = 0;
        for entry in self.tree.scan_prefix(keys::posting_key(kind)) {
            entry.map_err(error::read)?;
            count += 1;
        }
        Ok(count)
    }
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
