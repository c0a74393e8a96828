//! The bank behind the stand-in payment gateways: sessions, what their payers did, and what was confirmed.
//!
//! What payers do is `payer`'s; the gateways' modules do the rest. Invariant: money is confirmed in the same step in which an answer that says so is made, so that a cut
//! connection leaves it confirmed here. Bounded: past the bound the oldest session is forgotten.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

/// What became of a session's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Paid {
    /// The payer is at the bank.
    Waiting,
    Cancelled,
    /// Paid, not confirmed by the shop.
    Unverified,
    Verified,
    /// Paid, never confirmed by the shop, and given back.
    Returned,
}

/// A payment at a stand-in gateway.
#[derive(Clone, Debug, Serialize)]
pub struct Session {
    pub provider: &'static str,
    /// The gateway's name of it: authority, payment code.
    pub reference: String,
    /// In the gateway's own unit, as the request named it.
    pub amount: u64,
    pub callback_url: String,
    /// The shop's name of it, where the gateway takes one.
    pub client_ref: String,
    /// Receipt number.
    pub receipt: u64,
    pub paid: Paid,
    /// Agreed on when it was opened: the shop may have it given back.
    pub reversible: bool,
    /// Whose it is: the merchant id or token, which is shown nowhere.
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

    /// Opens a session; `name` makes its reference from a number that rises.
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

    /// Oldest first.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.order.iter().filter_map(|reference| self.sessions.get(reference))
    }
}
