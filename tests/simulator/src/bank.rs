//! The bank behind the simulated payment gateways: sessions, acts of the payers, confirmations.
//!
//! `payer` acts for the payers; the gateways' modules do the rest.
//! Invariant: the step that makes a confirming reply confirms the money, so a cut connection leaves it confirmed.
//! Bounded: past the limit the oldest session is dropped.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

/// State of a session's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Paid {
    /// The payer is at the bank.
    Waiting,
    Cancelled,
    /// Paid, not confirmed by the shop.
    Unverified,
    Verified,
    /// Paid, never confirmed by the shop, and returned.
    Returned,
}

/// A payment at a simulated gateway.
#[derive(Clone, Debug, Serialize)]
pub struct Session {
    pub provider: &'static str,
    /// The gateway's id: authority or payment code.
    pub reference: String,
    /// In the gateway's own unit, as the request named it.
    pub amount: u64,
    pub callback_url: String,
    /// The shop's id, when the gateway accepts one.
    pub client_ref: String,
    /// Receipt number.
    pub receipt: u64,
    pub paid: Paid,
    /// Set when the session was opened: the shop may reverse the payment.
    pub reversible: bool,
    /// Owner: the merchant id or token. Never shown.
    #[serde(skip)]
    pub(crate) account: String,
}

/// Sessions, oldest first.
pub(crate) struct Bank {
    sessions: HashMap<String, Session>,
    order: VecDeque<String>,
    opened: u64,
    sessions_max: usize,
}

impl Bank {
    pub(crate) fn new(sessions_max: usize) -> Self {
        Self {
            sessions: HashMap::new(),
            order: VecDeque::new(),
            opened: 0,
            sessions_max: sessions_max.max(1),
        }
    }

    /// Opens a session. `name` makes its reference from a rising number.
    pub(crate) fn open(&mut self, draft: Session, name: impl FnOnce(u64) -> String) -> &Session {
        if self.order.len() >= self.sessions_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.sessions.remove(&oldest);
        }
        self.opened += 1;
        let reference = name(self.opened);
        self.order.push_back(reference.clone());
        let session = Session { reference: reference.clone(), receipt: 200_000 + self.opened, ..draft };
        self.sessions.entry(reference).insert_entry(session).into_mut()
    }

    pub(crate) fn get(&mut self, provider: &str, reference: &str) -> Option<&mut Session> {
        self.sessions.get_mut(reference).filter(|session| session.provider == provider)
    }

    /// A session of any provider.
    pub(crate) fn find(&self, reference: &str) -> Option<&Session> {
        self.sessions.get(reference)
    }

    /// Oldest first.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.order.iter().filter_map(|reference| self.sessions.get(reference))
    }
}
