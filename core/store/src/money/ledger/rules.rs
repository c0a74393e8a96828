//! What holds for a posting on every engine: its keys, its legs, and which account may be negative.

use crate::money::ledger::{Account, Posting};
use crate::{PaymentId, SpendId};

/// The result of a posting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Posted {
    /// Posted; `balance` is that of the first leg's account.
    Done { balance: i64 },
    /// A posting with this key exists; nothing was done.
    Before,
    /// An account that may not be negative would be; it holds this much. Nothing was done.
    Overdraft { available: u64 },
    /// A balance would overflow 64 bits. Nothing was done.
    TooLarge,
}

impl Account {
    pub(crate) fn may_be_negative(&self) -> bool {
        !matches!(self, Account::Wallet(_) | Account::Held(_))
    }
}

impl Posting {
    /// Rial moved to an account; negative when taken from it.
    pub(crate) fn moved(&self, account: &Account) -> i64 {
        let own = self.entries.iter().find(|entry| entry.account == *account);
        own.map_or(0, |entry| entry.amount)
    }
}

/// # Panics
///
/// When the legs of a posting do not sum to zero, name an account twice or move nothing: a defect.
pub(crate) fn check_legs(legs: &[(Account, i64)]) {
    let sum: i128 = legs.iter().map(|(_, amount)| i128::from(*amount)).sum();
    assert!(sum == 0 && legs.len() >= 2, "a posting is balanced");
    assert!(legs.iter().all(|(_, amount)| *amount != 0), "a leg moves something");
    assert!(
        legs.iter()
            .enumerate()
            .all(|(at, (account, _))| legs[..at].iter().all(|(other, _)| other != account)),
        "a posting names an account once"
    );
}

/// An amount as a leg; amounts are validated on input.
///
/// # Panics
///
/// Beyond 63 bits: a defect, because no such amount is accepted.
pub(crate) fn signed(amount: u64) -> i64 {
    i64::try_from(amount).expect("amounts were checked to fit")
}

pub(crate) fn payment_key(id: PaymentId) -> String {
    format!("payment:{id}")
}

pub(crate) fn refund_key(id: PaymentId, number: u32) -> String {
    format!("refund:{id}:{number}")
}

pub(crate) fn refund_undone_key(id: PaymentId, number: u32) -> String {
    format!("refund-undone:{id}:{number}")
}

pub(crate) fn refund_moved_key(id: PaymentId, number: u32) -> String {
    format!("refund-moved:{id}:{number}")
}

pub(crate) fn correction_key(number: u64) -> String {
    format!("correction:{number}")
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
