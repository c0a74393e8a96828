//! Wallets: balances, spends and holds.
//!
//! Payments credit a wallet (see [`crate::money::payment`]); spends and refunds debit it. The store enforces the
//! rules of money: no overdraft, each change once. This module decides the rights: a user spends and holds the user's
//! own money. Only staff capture or void a hold, because the shop delivers against it, and only staff refund.

use std::sync::Arc;

use chelseru_store::{
    PaymentId, PaymentRefunded, RefundDraft, RefundTo, SpendDraft, Store, StoreError, WalletBalance,
};
pub use chelseru_store::{Spend, SpendEnded, SpendId, SpendMade, SpendState, WalletEntry};

use crate::Clock;
use crate::idempotency::{Hashes, IdempotencyKey, Kind};
use crate::ids::UserId;
use crate::money::amount::Money;

/// The caller of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    pub user: UserId,
    pub staff: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendRequest {
    pub user: UserId,
    pub amount: Money,
    /// Hold the amount instead of spending it.
    pub hold: bool,
    pub order: String,
    pub description: String,
    pub idempotency_key: Option<IdempotencyKey>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundRequest {
    pub payment: PaymentId,
    /// `None`: everything left.
    pub amount: Option<Money>,
    pub to: RefundTo,
    pub note: String,
    pub idempotency_key: Option<IdempotencyKey>,
}

/// Why an actor's request was refused.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    #[error("only staff may do this")]
    StaffOnly,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Wallets and their changes.
pub struct Wallets {
    store: Store,
    clock: Arc<dyn Clock>,
}

impl Wallets {
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Wallets { store, clock }
    }

    /// Purges expired idempotency records, at most `limit`.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn purge(&self, limit: usize) -> Result<usize, StoreError> {
        Ok(self.store.once_purge(self.clock.now(), limit).await?.removed)
    }

    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn balance(&self, user: UserId) -> Result<WalletBalance, StoreError> {
        self.store.wallet_balance(user).await
    }

    /// A page of a wallet's lines, newest first, and the start of the next page.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn entries(
        &self,
        user: UserId,
        from: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<WalletEntry>, Option<u64>), StoreError> {
        self.store.wallet_entries(user, from, limit).await
    }

    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn spend(&self, request: SpendRequest) -> Result<SpendMade, StoreError> {
        let now = self.clock.now();
        let SpendRequest { user, amount, hold, order, description, idempotency_key } = request;
        let once = idempotency_key.map(|key| {
            let amount = amount.rial().to_be_bytes();
            let parts: [&[u8]; 4] = [&amount, &[u8::from(hold)], order.as_bytes(), description.as_bytes()];
            Hashes::of(Kind::Spend, &key, &parts).once(now)
        });
        let draft = SpendDraft { user, amount: amount.rial(), hold, order, description, now, once };
        self.store.spend_create(draft).await
    }

    /// A spend that the actor may see: the actor's own, or any for staff.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn spend_get(&self, actor: Actor, id: SpendId) -> Result<Option<Spend>, StoreError> {
        Ok(self.store.spend_get(id).await?.filter(|spend| actor.staff || spend.user == actor.user))
    }

    /// Captures a hold, or a part of it, for the merchant.
    ///
    /// # Errors
    ///
    /// See [`WalletError`].
    pub async fn capture(
        &self,
        actor: Actor,
        id: SpendId,
        amount: Option<Money>,
    ) -> Result<SpendEnded, WalletError> {
        staff_only(actor)?;
        Ok(self.store.spend_capture(id, amount.map(Money::rial), self.clock.now()).await?)
    }

    /// Voids a hold: returns the money to its user.
    ///
    /// # Errors
    ///
    /// See [`WalletError`].
    pub async fn void(&self, actor: Actor, id: SpendId) -> Result<SpendEnded, WalletError> {
        staff_only(actor)?;
        Ok(self.store.spend_void(id, self.clock.now()).await?)
    }

    /// Refunds a part or all of a payment.
    ///
    /// # Errors
    ///
    /// See [`WalletError`].
    pub async fn refund(&self, actor: Actor, request: RefundRequest) -> Result<PaymentRefunded, WalletError> {
        staff_only(actor)?;
        let now = self.clock.now();
        let RefundRequest { payment, amount, to, note, idempotency_key } = request;
        let once = idempotency_key.map(|key| {
            let amount = amount.map_or(0, Money::rial).to_be_bytes();
            let to = format!("{to:?}");
            let id = payment.0.to_be_bytes();
            let parts: [&[u8]; 4] = [&id, &amount, to.as_bytes(), note.as_bytes()];
            Hashes::of(Kind::Refund, &key, &parts).once(now)
        });
        let amount = amount.map(Money::rial);
        let draft = RefundDraft { payment, amount, to, by: actor.user, note, now, once };
        Ok(self.store.payment_refund(draft).await?)
    }
}

fn staff_only(actor: Actor) -> Result<(), WalletError> {
    if actor.staff { Ok(()) } else { Err(WalletError::StaffOnly) }
}
