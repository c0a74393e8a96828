//! `SANDBOX_PAY`: a virtual bank for trying payments without an account.
//!
//! Its page is served by this gateway to clients on this machine only: pay, cancel, or pay and lose the callback. It
//! keeps its books in memory, bounded; after a restart it knows nothing and says so, as a bank whose session ended.
//! It is no plugin, because a plugin has no state and calls no host of its own machine, and a bank is nothing but
//! state. It answers as Zarinpal does: `Authority` and `Status` in the query.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chelseru_config::SANDBOX_PAY;
use chelseru_domain::money::payment::gateway::{
    Callback, Claim, GatewayError, GatewayRules, Listed, NewPayment, PaymentClaim, PaymentGateway,
    PaymentReceipt, PaymentStart, Reason, Redirect, RedirectMethod, StoredPayment, Unconfirmed, Verdict,
};
use chelseru_domain::money::{BankDecision, BankSession, BankState, TestBank};
use serde_json::Value;

/// Sessions kept; the oldest is dropped first.
const SESSIONS_MAX: usize = 10_000;

/// The virtual bank.
pub struct SandboxBank {
    /// Path of a session's page, without its last part.
    page: String,
    /// By reference, which begins with a rising number.
    sessions: Mutex<BTreeMap<String, BankSession>>,
}

impl SandboxBank {
    pub fn new(base_path: &str) -> SandboxBank {
        let page = format!("{base_path}/sandbox/pay/");
        SandboxBank { page, sessions: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, BankSession>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The virtual bank as one configuration has it.
pub(super) struct SandboxGateway {
    pub(super) bank: Arc<SandboxBank>,
    /// New payers arrive by a form.
    pub(super) by_form: bool,
}

impl TestBank for SandboxBank {
    fn session(&self, reference: &str) -> Option<BankSession> {
        self.lock().get(reference).cloned()
    }

    fn decide(&self, reference: &str, decision: BankDecision) -> bool {
        match self.lock().get_mut(reference) {
            Some(session) if session.state == BankState::Waiting => {
                session.state = match decision {
                    BankDecision::Pay => BankState::Paid,
                    BankDecision::Cancel => BankState::Cancelled,
                };
                true
            }
            _ => false,
        }
    }
}

#[async_trait]
impl PaymentGateway for SandboxGateway {
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
        let session = BankSession {
            amount: payment.amount,
            callback_url: payment.callback_url,
            by_form: self.by_form,
            state: BankState::Waiting,
        };
        let mut sessions = self.bank.lock();
        if sessions.len() >= SESSIONS_MAX {
            sessions.pop_first();
        }
        sessions.insert(reference.clone(), session);
        // A path: the one who answers the client knows by which name this machine was called.
        let url = format!("{}{reference}/", self.bank.page);
        let redirect = if self.by_form {
            let fields = vec![("Token".to_owned(), reference.clone())];
            Redirect { method: RedirectMethod::Post, url, fields }
        } else {
            Redirect { method: RedirectMethod::Get, url, fields: Vec::new() }
        };
        Ok(PaymentStart { reference, redirect, state: Vec::new(), message: "Success".to_owned() })
    }

    async fn decode(&self, callback: &Callback) -> Result<Option<Claim>, GatewayError> {
        let fields = fields(callback);
        let field = |name: &str| {
            let named = fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
            named.map(|(_, value)| value.trim()).find(|value| !value.is_empty()).unwrap_or_default()
        };
        let reference =
            Some(field("authority")).filter(|reference| self.bank.lock().contains_key(*reference));
        let cancelled = field("status").eq_ignore_ascii_case("NOK");
        Ok(reference.map(|reference| Claim {
            reference: reference.to_owned(),
            claim: PaymentClaim { cancelled, receipt: None, data: Vec::new() },
        }))
    }

    async fn verify(&self, payment: StoredPayment, _: Option<PaymentClaim>) -> Result<Verdict, GatewayError> {
        let Some(session) = self.bank.session(&payment.reference) else {
            return Ok(Verdict::UnknownReference);
        };
        let reason = |text: &str| Reason { code: "-51".to_owned(), text: text.to_owned(), field: None };
        Ok(match session.state {
            BankState::Waiting => Verdict::NotPaid(reason("not paid yet")),
            BankState::Cancelled => Verdict::Cancelled(reason("cancelled")),
            BankState::Reversed => Verdict::Failed(reason("reversed")),
            BankState::Paid => {
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

    async fn list_unverified(&self) -> Result<Vec<Listed>, GatewayError> {
        let sessions = self.bank.lock();
        let paid = sessions.iter().rev().filter(|(_, session)| session.state == BankState::Paid);
        let listed = |(reference, session): (&String, &BankSession)| Listed {
            reference: reference.clone(),
            amount: Some(session.amount),
        };
        Ok(paid.take(100).map(listed).collect())
    }

    async fn reverse(&self, payment: StoredPayment, _: String) -> Result<(), GatewayError> {
        match self.bank.lock().get_mut(&payment.reference) {
            Some(session) if matches!(session.state, BankState::Paid | BankState::Reversed) => {
                session.state = BankState::Reversed;
                Ok(())
            }
            // After a restart the bank has lost everything.
            _ => {
                let (code, text) = ("-61".to_owned(), "not paid".to_owned());
                Err(GatewayError::Refused(Reason { code, text, field: None }))
            }
        }
    }
}

/// The fields of a callback's body, a form or a JSON object, and then those of its query.
fn fields(callback: &Callback) -> Vec<(String, String)> {
    let own = |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned());
    let mut fields: Vec<(String, String)> = match serde_json::from_slice(&callback.body) {
        Ok(Value::Object(members)) => {
            members.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned()))).collect()
        }
        _ => form_urlencoded::parse(&callback.body).map(own).collect(),
    };
    fields.extend(form_urlencoded::parse(callback.query.as_bytes()).map(own));
    fields
}
