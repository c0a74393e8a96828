//! The operations of this folder, in sled statements.

use crate::engine::sled::keys::money as keys;
use crate::engine::sled::record::{decode, decode_u64};
use crate::engine::sled::txn::Txn;
use crate::engine::sled::{Sled, error};
use crate::money::find::{PaymentQuery, PaymentsFound};
use crate::money::order::sled as order;
use crate::money::payment::{Payment, PaymentState};
use crate::money::reversal::{Reversal, ReversalState};
use crate::money::spend::{Spend, SpendState};
use crate::{PaymentId, SpendId, StoreError, Timestamp};

/// States in which a payment is in the index of states. Open payments are in their gateway's own index.
const ENDS: [PaymentState; 5] = [
    PaymentState::Paid,
    PaymentState::Failed,
    PaymentState::Cancelled,
    PaymentState::Expired,
    PaymentState::Refunded,
];

/// Hours with payments at each end of a time that are looked at: what a clock may have been wrong by.
const HOURS_LOOKED_AT: usize = 72;
/// Records that one step of building the indexes covers.
const BUILD_STEP: usize = 500;
/// Records after which the log says how far building is.
const BUILD_SAID: u64 = 50_000;

/// Enters a new payment into every index of what never changes.
pub(crate) fn enter(txn: &mut Txn, payment: &Payment) -> Result<(), StoreError> {
    let id = payment.id;
    txn.put(keys::amount(payment.amount, id), sled::IVec::default());
    if !payment.order.is_empty() {
        txn.put(keys::ordered(&payment.order, id), sled::IVec::default());
    }
    let gateway = keys::gateway(&payment.gateway);
    if txn.get(&gateway)?.is_none() {
        txn.put(gateway, sled::IVec::default());
    }
    let hour = keys::hour(payment.created_at);
    let (first, last) = match txn.get(&hour)? {
        Some(bytes) => {
            let (first, last) = range_read(&bytes)?;
            (first.min(id.0), last.max(id.0))
        }
        None => (id.0, id.0),
    };
    txn.put(hour, [first.to_be_bytes(), last.to_be_bytes()].concat().into());
    Ok(())
}

fn range_read(bytes: &[u8]) -> Result<(u64, u64), StoreError> {
    let (first, last) = bytes.split_at_checked(8).unwrap_or((bytes, &[]));
    Ok((decode_u64("hour", first)?, decode_u64("hour", last)?))
}

/// Moves a payment in the index of states, after its state changed from `before`.
pub(crate) fn move_state(txn: &mut Txn, payment: &Payment, before: PaymentState) {
    if !before.is_open() {
        txn.delete(keys::in_state(before as u8, &payment.gateway, payment.id));
    }
    if !payment.state.is_open() {
        txn.put(keys::in_state(payment.state as u8, &payment.gateway, payment.id), sled::IVec::default());
    }
}

/// Payments in the order of their numbers, as an index has them: the largest number that is not above another.
enum Set {
    /// Those whose keys begin so and end in the number.
    Prefix(Vec<u8>),
    Any(Vec<Set>),
    /// These, in any order.
    Numbers(Vec<u64>),
}

impl Set {
    fn at_most(&self, sled: &Sled, id: u64) -> Result<Option<u64>, StoreError> {
        match self {
            Set::Prefix(prefix) => {
                let first = [prefix.as_slice(), &0u64.to_be_bytes()].concat();
                let last = [prefix.as_slice(), &id.to_be_bytes()].concat();
                let entry = sled.tree.range(first..=last).next_back().transpose().map_err(error::read)?;
                Ok(entry.and_then(|(key, _)| keys::last_number(&key)))
            }
            Set::Any(sets) => {
                let mut most = None;
                for set in sets {
                    most = most.max(set.at_most(sled, id)?);
                }
                Ok(most)
            }
            Set::Numbers(numbers) => Ok(numbers.iter().copied().filter(|number| *number <= id).max()),
        }
    }
}

impl Sled {
    pub(crate) fn payments_find(
        &self,
        query: &PaymentQuery,
        before: Option<PaymentId>,
        limit: usize,
        looks: usize,
    ) -> Result<PaymentsFound, StoreError> {
        let mut found = PaymentsFound { payments: Vec::new(), next: None };
        let sets = self.sets(query)?;
        let (first, last) = self.made_between(query.from, query.until)?;
        let before = before.map_or(u64::MAX, |before| before.0);
        let Some(mut at) = before.checked_sub(1).map(|at| at.min(last)) else { return Ok(found) };
        let mut left = looks;
        'payments: while at >= first && at > 0 {
            if found.payments.len() == limit || left == 0 {
                found.next = Some(PaymentId(at + 1));
                break;
            }
            left -= 1;
            for set in &sets {
                match set.at_most(self, at)? {
                    None => break 'payments,
                    Some(id) if id < at => {
                        at = id;
                        continue 'payments;
                    }
                    Some(_) => {}
                }
            }
            let payment = self.payment_read(PaymentId(at))?;
            found.payments.extend(payment.filter(|payment| query.matches(payment)));
            at -= 1;
        }
        Ok(found)
    }

    /// The indexes that a query walks; without any, the payments themselves.
    fn sets(&self, query: &PaymentQuery) -> Result<Vec<Set>, StoreError> {
        let mut sets = Vec::new();
        // What names few payments first: the others then are asked about these only.
        sets.extend(query.id.map(|id| Set::Numbers(vec![id.0])));
        if let Some(name) = &query.reference {
            sets.push(self.named(query, |gateway| keys::reference(gateway, name))?);
        }
        if let Some(number) = &query.receipt {
            sets.push(self.named(query, |gateway| keys::receipt(gateway, number))?);
        }
        if let Some(order) = &query.order {
            sets.push(Set::Prefix(keys::ordered_as(order)));
        }
        if let Some(user) = query.user {
            sets.push(Set::Prefix(keys::payments_of(user)));
        }
        if let Some(amount) = query.amount {
            sets.push(Set::Prefix(keys::amounts(amount)));
        }
        if query.state.is_some() || query.gateway.is_some() {
            let gateways = self.gateways_of(query)?;
            sets.push(Set::Any(gateways.iter().flat_map(|name| in_states(name, query.state)).collect()));
        }
        if sets.is_empty() {
            sets.push(Set::Prefix(keys::PAYMENTS.to_vec()));
        }
        Ok(sets)
    }

    /// The payments that a gateway's name leads to, at each gateway that the query allows.
    fn named<K: AsRef<[u8]>>(
        &self,
        query: &PaymentQuery,
        key: impl Fn(&str) -> K,
    ) -> Result<Set, StoreError> {
        let mut numbers = Vec::new();
        for gateway in self.gateways_of(query)? {
            let number = self.tree.get(key(&gateway)).map_err(error::read)?;
            numbers.extend(number.map(|bytes| decode_u64("reference", &bytes)).transpose()?);
        }
        Ok(Set::Numbers(numbers))
    }

    fn gateways_of(&self, query: &PaymentQuery) -> Result<Vec<String>, StoreError> {
        query.gateway.as_ref().map_or_else(|| self.gateways(), |gateway| Ok(vec![gateway.clone()]))
    }

    /// The numbers of the first and the last payment that may have been made in a time.
    fn made_between(
        &self,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<(u64, u64), StoreError> {
        if from.is_none() && until.is_none() {
            return Ok((1, u64::MAX));
        }
        // The first hour tells the least number and the last hour the largest one, unless the clock was turned back.
        // Then hours overlap, so those near both ends count.
        let from = keys::hour(from.unwrap_or_default());
        let until = keys::hour(until.unwrap_or(Timestamp::from_micros(u64::MAX)));
        let (mut first, mut last) = (u64::MAX, 0);
        for entry in self.tree.range(from.clone()..=until.clone()).take(HOURS_LOOKED_AT) {
            first = first.min(range_read(&entry.map_err(error::read)?.1)?.0);
        }
        for entry in self.tree.range(from..=until).rev().take(HOURS_LOOKED_AT) {
            last = last.max(range_read(&entry.map_err(error::read)?.1)?.1);
        }
        Ok((first, last))
    }

    fn gateways(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for entry in self.tree.scan_prefix(keys::GATEWAYS) {
            let (key, _) = entry.map_err(error::read)?;
            names.push(String::from_utf8_lossy(&key[keys::GATEWAYS.len()..]).into_owned());
        }
        Ok(names)
    }

    fn payment_read(&self, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        self.record(&keys::payment(id))
    }
}

fn in_states(gateway: &str, state: Option<PaymentState>) -> Vec<Set> {
    let open = || Set::Prefix(keys::open_of(gateway).to_vec());
    match state {
        Some(state) if state.is_open() => vec![open()],
        Some(state) => vec![Set::Prefix(keys::in_state_of(state as u8, gateway))],
        None => {
            let ended = ENDS.iter().map(|state| Set::Prefix(keys::in_state_of(*state as u8, gateway)));
            std::iter::once(open()).chain(ended).collect()
        }
    }
}

/// How far building is: payments first, then spends, then the refunds of payments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Built {
    Payments(u64),
    Spends(u64),
    Refunds(u64),
    All,
}

impl Built {
    fn read(bytes: Option<&[u8]>) -> Result<Built, StoreError> {
        match bytes {
            None => Ok(Built::Payments(0)),
            Some(keys::INDEXES_ALL) => Ok(Built::All),
            Some([b'p', number @ ..]) => Ok(Built::Payments(decode_u64("index position", number)?)),
            Some([b'r', number @ ..]) => Ok(Built::Refunds(decode_u64("index position", number)?)),
            Some([b's', number @ ..]) => Ok(Built::Spends(decode_u64("index position", number)?)),
            Some(other) => Err(StoreError::Record {
                kind: "index position",
                reason: format!("{} bytes that are none", other.len()),
            }),
        }
    }

    fn write(self) -> sled::IVec {
        let with = |kind: u8, number: u64| [&[kind][..], &number.to_be_bytes()].concat().into();
        match self {
            Built::Payments(number) => with(b'p', number),
            Built::Spends(number) => with(b's', number),
            Built::Refunds(number) => keys::indexes_from_refunds(PaymentId(number)),
            Built::All => keys::INDEXES_ALL.into(),
        }
    }
}

impl Sled {
    /// Builds the indexes of a store that was written without them, in steps. Each step is one change with its
    /// position.
    pub(crate) fn indexes_build(&self) -> Result<(), StoreError> {
        let mut done = 0;
        loop {
            let position = self.tree.get(keys::INDEXES).map_err(error::read)?;
            let step = match Built::read(position.as_deref())? {
                Built::All if done > 0 => {
                    tracing::info!(records = done, "the indexes of payments are built");
                    return Ok(());
                }
                Built::All => return Ok(()),
                Built::Payments(from) => self.build_payments(from)?,
                Built::Spends(from) => self.build_spends(from)?,
                Built::Refunds(from) => self.build_refunds(from)?,
            };
            if step > 0 && (done == 0 || done / BUILD_SAID != (done + step) / BUILD_SAID) {
                tracing::info!(records = done, "building the indexes of payments");
            }
            done += step;
        }
    }

    fn build_payments(&self, from: u64) -> Result<u64, StoreError> {
        let mut payments: Vec<Payment> = Vec::new();
        for entry in self.tree.range(keys::payment(PaymentId(from))..keys::payments_end()).take(BUILD_STEP) {
            payments.push(decode(&entry.map_err(error::read)?.1)?);
        }
        let count = payments.len() as u64;
        let next = match payments.last() {
            Some(last) => Built::Payments(last.id.0 + 1),
            None => Built::Spends(0),
        };
        self.change_blocking(move |txn| {
            for payment in &payments {
                enter(txn, payment)?;
                move_state(txn, payment, PaymentState::Created);
                if payment.state == PaymentState::Paid {
                    order::paid(txn, payment, true)?;
                }
            }
            txn.put(keys::INDEXES.into(), next.write());
            Ok(())
        })?;
        Ok(count)
    }

    fn build_spends(&self, from: u64) -> Result<u64, StoreError> {
        let mut spends: Vec<Spend> = Vec::new();
        for entry in self.tree.range(keys::spend(SpendId(from))..keys::spends_end()).take(BUILD_STEP) {
            spends.push(decode(&entry.map_err(error::read)?.1)?);
        }
        let count = spends.len() as u64;
        let next = spends.last().map_or(Built::Refunds(0), |last| Built::Spends(last.id.0 + 1));
        let mut refused = Vec::new();
        if next == Built::Refunds(0) {
            for entry in self.tree.scan_prefix(keys::REVERSALS) {
                let reversal: Reversal = decode(&entry.map_err(error::read)?.1)?;
                refused
                    .extend(matches!(reversal.state, ReversalState::Refused(_)).then_some(reversal.payment));
            }
        }
        self.change_blocking(move |txn| {
            for payment in refused {
                txn.put(keys::reversal_refused(payment), sled::IVec::default());
            }
            let taken = |spend: &&Spend| matches!(spend.state, SpendState::Held | SpendState::Captured);
            for spend in spends.iter().filter(taken).filter(|spend| !spend.order.is_empty()) {
                let id = spend.id.0.to_be_bytes();
                txn.put(keys::spend_order(spend.user, &spend.order), id.as_slice().into());
            }
            txn.put(keys::INDEXES.into(), next.write());
            Ok(())
        })?;
        Ok(count)
    }
}
