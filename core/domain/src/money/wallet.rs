//! Wallets: balances, spends and holds.
//!
//! Payments credit a wallet (see [`crate::money::payment`]); spends and refunds debit it. The store enforces the
//! rules of money: no overdraft, each change once. This module decides the rights: a user spends and holds the user's
//! own money. Only staff capture or void a hold, because the shop delivers against it, and only staff refund and
//! correct. A hold that nobody captures expires.

use std::sync::Arc;
use std::time::Duration;

pub use chelseru_store::{
    Correction, CorrectionMade, Spend, SpendEnded, SpendId, SpendMade, SpendState, WalletBalance, WalletEntry,
};
use chelseru_store::{
    CorrectionDraft, PaymentId, PaymentRefunded, RefundDraft, RefundTo, SpendDraft, Store, StoreError,
};

use crate::idempotency::{Hashes, IdempotencyKey, Kind};
use crate::ids::UserId;
use crate::money::alone::{AloneMax, Attempt, Counted};
use crate::money::amount::Money;
use crate::{Clock, Range};

/// The caller of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Actor {
    pub user: UserId,
    pub role: Role,
}

/// What a caller may do with money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The user's own money only.
    Customer,
    /// Any user's.
    Staff,
}

impl Actor {
    /// Whether the actor may see what belongs to a user.
    #[must_use]
    pub fn sees(&self, user: UserId) -> bool {
        self.role == Role::Staff || self.user == user
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpendRequest {
    pub user: UserId,
    pub amount: Money,
    /// Hold the amount for so long instead of spending it.
    pub hold_for: Option<Duration>,
    pub order: String,
    /// Refuse an order of the user that a spend was made for.
    pub unique_order: bool,
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

/// A person's correction of a wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrectionRequest {
    pub user: UserId,
    pub amount: Money,
    /// Take the amount from the wallet instead of adding it.
    pub takes: bool,
    pub reason: String,
    pub idempotency_key: Option<IdempotencyKey>,
}

/// How long a hold lasts, in days.
pub const HOLD_DAYS: Range<u64> = Range::new(1, 365, 7);
/// Holds that one round returns.
const EXPIRE_MAX: usize = 1000;

/// Why an actor's request was refused.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    #[error("only staff may do this")]
    StaffOnly,
    /// Nothing was posted; see [`crate::money::correction`].
    #[error("this correction needs a second person")]
    NeedsSecond,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Wallets and their changes.
pub struct Wallets {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
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

    /// A user's spends, newest first, at most `limit`; with `before`, those older than it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn spends(
        &self,
        user: UserId,
        before: Option<SpendId>,
        limit: usize,
    ) -> Result<Vec<Spend>, StoreError> {
        self.store.spends_of(user, before, limit).await
    }

    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn spend(&self, request: SpendRequest) -> Result<SpendMade, StoreError> {
        let now = self.clock.now();
        let SpendRequest { user, amount, hold_for, order, unique_order, description, idempotency_key } =
            request;
        let hold = hold_for.is_some();
        let once = idempotency_key.map(|key| {
            let amount = amount.rial().to_be_bytes();
            let parts: [&[u8]; 4] = [&amount, &[u8::from(hold)], order.as_bytes(), description.as_bytes()];
            Hashes::of(Kind::Spend, &key, &parts).once(now)
        });
        let expires_at = hold_for.map(|time| now.plus(time));
        let amount = amount.rial();
        let draft =
            SpendDraft { user, amount, hold, expires_at, order, unique_order, description, now, once };
        self.store.spend_create(draft).await
    }

    /// Returns held money whose time is over to its wallets, at most [`EXPIRE_MAX`] holds. Returns their number.
    ///
    /// # Errors
    ///
    /// Those of every change: see [`StoreError`].
    pub async fn expire_holds(&self) -> Result<usize, StoreError> {
        let expired = self.store.holds_expire(self.clock.now(), EXPIRE_MAX).await?;
        for spend in &expired {
            tracing::warn!(
                spend.id = spend.id.0,
                user.id = spend.user.0,
                "a hold expired; the money is in the wallet again"
            );
        }
        Ok(expired.len())
    }

    /// The open holds that expire, the next one first, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn holds(&self, limit: usize) -> Result<Vec<Spend>, StoreError> {
        self.store.holds(limit).await
    }

    /// Moves money between a user's wallet and the merchant, for a reason that the ledger keeps. `alone` is what one
    /// person may move within a day.
    ///
    /// # Errors
    ///
    /// See [`WalletError`].
    pub async fn correct(
        &self,
        actor: Actor,
        request: CorrectionRequest,
        alone: AloneMax,
    ) -> Result<CorrectionMade, WalletError> {
        staff_only(actor)?;
        let now = self.clock.now();
        let CorrectionRequest { user, amount: money, takes, reason, idempotency_key } = request;
        let amount = i64::try_from(money.rial()).expect("an amount is below 2^63");
        let amount = if takes { -amount } else { amount };
        let once = idempotency_key.map(|key| {
            let parts: [&[u8]; 3] = [&user.0.to_be_bytes(), &amount.to_be_bytes(), reason.as_bytes()];
            Hashes::of(Kind::Correction, &key, &parts).once(now)
        });
        let attempt = Attempt { by: actor.user, user, amount: money, once: once.as_ref(), now };
        let counted = self.alone_count(attempt, alone).await?;
        if counted == Counted::NeedsSecond {
            return Err(WalletError::NeedsSecond);
        }
        let draft = CorrectionDraft { user, amount, reason, by: actor.user, now, once: once.clone() };
        let made = self.store.correction_make(draft).await?;
        // A repeat stands for the correction that was made, which may be this request's twin that counted nothing.
        let moved = matches!(made, CorrectionMade::Done(_) | CorrectionMade::Repeated(_));
        match counted {
            Counted::Now if !moved => self.alone_take_back(attempt).await?,
            // Its twin counted for both, and may have been refused and taken that back.
            Counted::Already if matches!(made, CorrectionMade::Done(_)) => {
                self.alone_count(attempt, alone.without_bound()).await?;
            }
            _ => {}
        }
        Ok(made)
    }

    /// A spend that the actor may see: the actor's own, or any for staff.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn spend_get(&self, actor: Actor, id: SpendId) -> Result<Option<Spend>, StoreError> {
        Ok(self.store.spend_get(id).await?.filter(|spend| actor.sees(spend.user)))
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
    match actor.role {
        Role::Staff => Ok(()),
        Role::Customer => Err(WalletError::StaffOnly),
    }
}
