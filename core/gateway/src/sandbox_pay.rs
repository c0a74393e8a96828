//! `SANDBOX_PAY`: a virtual bank, so that a newcomer can pay at once.
//!
//! Its page is served by this gateway to clients on this machine only: pay, cancel, or pay and lose the callback. It
//! keeps its books in memory, bounded; after a restart it knows nothing and says so, as a bank whose session ended.
//! It is no plugin, because a plugin has no state and calls no host of its own machine, and a bank is nothing but
//! state. It answers as Zarinpal does: `Authority` and `Status` in the query.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chelseru_domain::payment::gateway::{
    Callback, Claim, GatewayError, GatewayRules, NewPayment, PaymentGateway, Reason, StoredPayment,
    Unconfirmed, Verdict,
};
use chelseru_store::{PaymentClaim, PaymentReceipt, PaymentStart, Redirect};

use crate::config::SANDBOX_PAY;

/// Sessions kept; the oldest goes first.
const SESSIONS_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Money {
    Waiting,
    Paid,
    Cancelled,
    /// Paid, and given back by the shop.
    Reversed,
}

#[derive(Debug, Clone)]
pub struct Session {
    /// Rial.
    pub amount: u64,
    pub callback_url: String,
    pub money: Money,
}

/// The virtual bank.
pub struct SandboxBank {
    /// Path of the page of a session, without its last part.
    page: String,
    /// By reference; a reference begins with a number that rises.
    sessions: Mutex<BTreeMap<String, Session>>,
}

impl SandboxBank {
    pub fn new(base_path: &str) -> SandboxBank {
        SandboxBank { page: format!("{base_path}/sandbox/pay/"), sessions: Mutex::default() }
    }

    pub fn session(&self, reference: &str) -> Option<Session> {
        self.lock().get(reference).cloned()
    }

    /// The payer decides. False when he did before, or there is no such session.
    pub fn decide(&self, reference: &str, money: Money) -> bool {
        match self.lock().get_mut(reference) {
            Some(session) if session.money == Money::Waiting => {
                session.money = money;
                true
            }
            _ => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PaymentGateway for SandboxBank {
    fn name(&self) -> &str {
        SANDBOX_PAY
    }

    fn plugin(&self) -> &str {
        "sandbox-pay"
    }

    fn digest(&self) -> &str {
        "built-in"
    }

    fn rules(&self) -> GatewayRules {
        GatewayRules {
            amount_min: 1000,
            amount_max: 1_000_000_000_000,
            unit_rial: 1,
            window: Duration::from_secs(15 * 60),
            unconfirmed: Unconfirmed::ReturnedAfter(Duration::from_secs(15 * 60)),
            lists_unverified: true,
            reverse_within: Some(Duration::from_secs(30 * 60)),
        }
    }

    async fn create(&self, payment: NewPayment) -> Result<PaymentStart, GatewayError> {
        let reference = format!("S{}", uuid::Uuid::now_v7().simple());
        let session =
            Session { amount: payment.amount, callback_url: payment.callback_url, money: Money::Waiting };
        let mut sessions = self.lock();
        if sessions.len() >= SESSIONS_MAX {
            sessions.pop_first();
        }
        sessions.insert(reference.clone(), session);
        // A path: the one who answers the client knows by which name this machine was called.
        let redirect =
            Redirect { post: false, url: format!("{}{reference}/", self.page), fields: Vec::new() };
        Ok(PaymentStart { reference, redirect, state: Vec::new(), message: "Success".to_owned() })
    }

    async fn decode(&self, callback: &Callback) -> Result<Option<Claim>, GatewayError> {
        let pairs = || {
            form_urlencoded::parse(callback.query.as_bytes()).chain(form_urlencoded::parse(&callback.body))
        };
        let field =
            |name: &str| pairs().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        let reference = field("authority").filter(|reference| self.lock().contains_key(reference.as_ref()));
        let status = field("status").unwrap_or_default();
        if callback.method == "GET" && status.is_empty() {
            return Ok(None);
        }
        let cancelled = status.eq_ignore_ascii_case("NOK");
        Ok(reference.map(|reference| Claim {
            reference: reference.into_owned(),
            claim: PaymentClaim { cancelled, receipt: None, data: Vec::new() },
        }))
    }

    async fn verify(&self, payment: StoredPayment, _: Option<PaymentClaim>) -> Result<Verdict, GatewayError> {
        let Some(session) = self.session(&payment.reference) else { return Ok(Verdict::UnknownReference) };
        let reason = || Reason { code: "-51".to_owned(), text: "not paid".to_owned() };
        Ok(match session.money {
            Money::Waiting => Verdict::NotPaid(reason()),
            Money::Cancelled | Money::Reversed => Verdict::Cancelled(reason()),
            Money::Paid => {
                let receipt = PaymentReceipt {
                    number: payment.local_id.to_string(),
                    card_pan: "603799******0000".to_owned(),
                    card_hash: String::new(),
                    fee_rial: Some(0),
                    code: "100".to_owned(),
                    message: "Paid".to_owned(),
                };
                Verdict::Paid { receipt, amount: Some(session.amount), before: false }
            }
        })
    }

    async fn list_unverified(&self) -> Result<Vec<String>, GatewayError> {
        let sessions = self.lock();
        let paid = sessions.iter().rev().filter(|(_, session)| session.money == Money::Paid);
        Ok(paid.take(100).map(|(reference, _)| reference.clone()).collect())
    }

    async fn reverse(&self, payment: StoredPayment, _: String) -> Result<(), GatewayError> {
        match self.lock().get_mut(&payment.reference) {
            Some(session) if matches!(session.money, Money::Paid | Money::Reversed) => {
                session.money = Money::Reversed;
                Ok(())
            }
            // After a restart the bank has forgotten everything.
            _ => Err(GatewayError::Refused(Reason { code: "-61".to_owned(), text: "not paid".to_owned() })),
        }
    }
}
