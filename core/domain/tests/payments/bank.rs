//! A bank with books of its own and faults that are ordered.

use chelseru_domain::money::payment::gateway::RedirectMethod;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chelseru_domain::clock::ManualClock;
use chelseru_domain::money::payment::gateway::{
    Callback, Claim, GatewayError, GatewayRules, Listed, NewPayment, PaymentGateway, PaymentGateways, Reason,
    StoredPayment, Unconfirmed, Verdict,
};
use chelseru_domain::{Clock, Timestamp};
use chelseru_store::{PaymentClaim, PaymentReceipt, PaymentStart, Redirect};

pub(crate) const WINDOW: Duration = Duration::from_secs(15 * 60);
pub(crate) const REVERSE: Duration = Duration::from_secs(30 * 60);
pub(crate) const RETURN: Duration = Duration::from_secs(10 * 60);

/// What goes wrong with the next request, once each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Refused,
    /// Not reached.
    Down,
    /// The request never arrives, and nobody learns that.
    LostRequest,
    /// Carried out, and the answer is lost.
    LostAnswer,
    /// Paid, but nothing final yet.
    Processing,
    /// Confirmed with another amount.
    WrongAmount,
    /// Asked too often; says for how many seconds to wait.
    Throttled(u64),
    /// The process dies before the request arrives.
    CrashBefore,
    /// The process dies after the request was carried out.
    CrashAfter,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Money {
    /// The payer is at the bank.
    Waiting,
    Cancelled,
    Paid(Timestamp),
    /// Paid and confirmed: the shop's.
    Confirmed,
    /// Paid, never confirmed, given back.
    Returned,
    /// Paid, confirmed, given back because the shop asked.
    Reversed,
}

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) local_id: u64,
    pub(crate) amount: u64,
    pub(crate) money: Money,
    pub(crate) receipt: u64,
    /// A lie was told about it.
    pub(crate) lied: bool,
}

pub(crate) struct Bank {
    name: String,
    clock: Arc<ManualClock>,
    pub(crate) rules: Mutex<GatewayRules>,
    pub(crate) sessions: Mutex<BTreeMap<String, Session>>,
    pub(crate) faults: Mutex<VecDeque<Fault>>,
    pub(crate) crash: tokio::sync::Notify,
    pub(crate) questions: AtomicUsize,
    /// How often its list was read.
    pub(crate) lists: AtomicUsize,
    /// What else its list has: another application's.
    pub(crate) foreign: Mutex<Vec<Listed>>,
    /// The callback address of the last payment that was made known.
    pub(crate) callback_url: Mutex<String>,
    /// Answers nothing, as long as it is set.
    pub(crate) down: AtomicBool,
    pub(crate) same_receipt: Mutex<Option<u64>>,
    /// Knows a payment by its receipt only.
    pub(crate) needs_receipt: AtomicBool,
    /// What a question about a receipt that is not the payment's ends with, instead of a denied claim.
    pub(crate) chokes_with: Mutex<Option<GatewayError>>,
}

impl Bank {
    pub(crate) fn new(name: &str, clock: Arc<ManualClock>) -> Arc<Bank> {
        let rules = GatewayRules {
            amount_min: 1000,
            amount_max: 1_000_000_000,
            unit_rial: 1,
            window: WINDOW,
            unconfirmed: Unconfirmed::ReturnedAfter(RETURN),
            lists_unverified: false,
            reverse_within: Some(REVERSE),
        };
        Arc::new(Bank {
            name: name.to_owned(),
            clock,
            rules: Mutex::new(rules),
            sessions: Mutex::default(),
            faults: Mutex::default(),
            crash: tokio::sync::Notify::new(),
            questions: AtomicUsize::new(0),
            lists: AtomicUsize::new(0),
            foreign: Mutex::default(),
            callback_url: Mutex::default(),
            down: AtomicBool::new(false),
            same_receipt: Mutex::default(),
            needs_receipt: AtomicBool::default(),
            chokes_with: Mutex::default(),
        })
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.faults.lock().unwrap().push_back(fault);
    }

    fn next_fault(&self) -> Option<Fault> {
        self.faults.lock().unwrap().pop_front()
    }

    /// The payer tries once more in a session that the bank called cancelled, and pays; says whether.
    pub(crate) fn pay_again(&self, reference: &str) -> bool {
        let now = self.clock.now();
        let mut sessions = self.sessions.lock().unwrap();
        let session = sessions.get_mut(reference).unwrap();
        let pays = session.money == Money::Cancelled;
        if pays {
            session.money = Money::Paid(now);
        }
        pays
    }

    /// The receipt that the bank's page would put into the callback.
    pub(crate) fn receipt(&self, reference: &str) -> String {
        self.sessions.lock().unwrap()[reference].receipt.to_string()
    }

    /// The payer pays, if the bank's page still takes money; says whether.
    pub(crate) fn pay(&self, reference: &str) -> bool {
        let now = self.clock.now();
        let mut sessions = self.sessions.lock().unwrap();
        let session = sessions.get_mut(reference).unwrap();
        let pays = session.money == Money::Waiting;
        if pays {
            session.money = Money::Paid(now);
        }
        pays
    }

    pub(crate) fn cancel(&self, reference: &str) {
        let mut sessions = self.sessions.lock().unwrap();
        let session = sessions.get_mut(reference).unwrap();
        if session.money == Money::Waiting {
            session.money = Money::Cancelled;
        }
    }

    pub(crate) fn money(&self, reference: &str) -> Money {
        self.tick();
        self.sessions.lock().unwrap()[reference].money
    }

    /// Gives back what was not confirmed in time.
    pub(crate) fn tick(&self) {
        let now = self.clock.now();
        let Unconfirmed::ReturnedAfter(after) = self.rules.lock().unwrap().unconfirmed else { return };
        for session in self.sessions.lock().unwrap().values_mut() {
            if let Money::Paid(at) = session.money
                && at.plus(after) <= now
            {
                session.money = Money::Returned;
            }
        }
    }

    async fn die(&self) -> ! {
        self.crash.notify_one();
        std::future::pending().await
    }

    fn answer(&self, question: &StoredPayment, claim: Option<&PaymentClaim>) -> Verdict {
        self.tick();
        let mut sessions = self.sessions.lock().unwrap();
        let Some(session) = sessions.get_mut(&question.reference) else { return Verdict::UnknownReference };
        if self.needs_receipt.load(Ordering::SeqCst) && claim.is_none_or(|claim| claim.receipt.is_none()) {
            return Verdict::NotPaid(Reason::default());
        }
        if let Some(receipt) = claim.and_then(|claim| claim.receipt.as_ref())
            && *receipt != session.receipt.to_string()
        {
            return Verdict::ClaimDenied(Reason { code: "133".into(), ..Reason::default() });
        }
        if session.amount != question.amount {
            return Verdict::Mismatch("amount".into());
        }
        let before = session.money == Money::Confirmed;
        match session.money {
            Money::Waiting => Verdict::NotPaid(Reason::default()),
            Money::Returned | Money::Reversed => {
                Verdict::Failed(Reason { code: "back".into(), ..Reason::default() })
            }
            Money::Cancelled => Verdict::Cancelled(Reason::default()),
            Money::Paid(_) | Money::Confirmed => {
                session.money = Money::Confirmed;
                let number = self.same_receipt.lock().unwrap().unwrap_or(session.receipt).to_string();
                let receipt = PaymentReceipt {
                    number,
                    card_pan: "603799******1234".into(),
                    card_hash: String::new(),
                    fee_rial: None,
                    code: if before { "101" } else { "100" }.into(),
                    message: "Paid".into(),
                };
                Verdict::Paid { receipt, amount: Some(session.amount), before }
            }
        }
    }
}

#[async_trait]
impl PaymentGateway for Bank {
    fn name(&self) -> &str {
        &self.name
    }

    fn plugin(&self) -> &str {
        "bank"
    }

    fn digest(&self) -> &str {
        "digest"
    }

    fn rules(&self) -> GatewayRules {
        *self.rules.lock().unwrap()
    }

    async fn create(&self, payment: NewPayment) -> Result<PaymentStart, GatewayError> {
        payment.callback_url.clone_into(&mut self.callback_url.lock().unwrap());
        let fault = self.next_fault();
        match fault {
            Some(Fault::Refused) => {
                return Err(GatewayError::Refused(Reason {
                    code: "-9".into(),
                    text: "no".into(),
                    field: Some("amount".into()),
                }));
            }
            Some(Fault::Down) => return Err(GatewayError::Unavailable("down".into())),
            Some(Fault::Throttled(wait)) => return Err(throttled(wait)),
            Some(Fault::LostRequest) => return Err(GatewayError::Unknown("silence".into())),
            Some(Fault::CrashBefore) => self.die().await,
            _ => {}
        }
        let reference = {
            let mut sessions = self.sessions.lock().unwrap();
            let reference = format!("{}-{}", self.name, sessions.len() + 1);
            let receipt = 500 + sessions.len() as u64;
            let (local_id, amount) = (payment.local_id, payment.amount);
            let session = Session { local_id, amount, money: Money::Waiting, receipt, lied: false };
            sessions.insert(reference.clone(), session);
            reference
        };
        match fault {
            Some(Fault::LostAnswer) => return Err(GatewayError::Unknown("silence".into())),
            Some(Fault::CrashAfter) => self.die().await,
            _ => {}
        }
        let redirect = Redirect {
            method: RedirectMethod::Get,
            url: format!("https://bank.example/{reference}"),
            fields: Vec::new(),
        };
        Ok(PaymentStart { reference, redirect, state: b"opaque".to_vec(), message: "Success".into() })
    }

    async fn decode(&self, callback: &Callback) -> Result<Option<Claim>, GatewayError> {
        let pairs = || callback.query.split('&').filter_map(|pair| pair.split_once('='));
        let field = |name: &str| pairs().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
        let Some(reference) = field("reference") else { return Ok(None) };
        if !reference.starts_with(&format!("{}-", self.name)) {
            return Ok(None);
        }
        let cancelled = field("status").as_deref() == Some("NOK");
        let claim = PaymentClaim { cancelled, receipt: field("receipt"), data: Vec::new() };
        Ok(Some(Claim { reference, claim }))
    }

    async fn verify(
        &self,
        question: StoredPayment,
        claim: Option<PaymentClaim>,
    ) -> Result<Verdict, GatewayError> {
        assert_eq!(question.state, b"opaque", "the plugin's state comes back");
        self.questions.fetch_add(1, Ordering::SeqCst);
        // Others get a chance to ask meanwhile.
        tokio::task::yield_now().await;
        if self.down.load(Ordering::SeqCst) {
            return Err(GatewayError::Unknown("silence".into()));
        }
        let answer = || self.answer(&question, claim.as_ref());
        match self.next_fault() {
            None => match (answer(), self.chokes_with.lock().unwrap().clone()) {
                (Verdict::ClaimDenied(_), Some(error)) => Err(error),
                (answer, _) => Ok(answer),
            },
            Some(Fault::Throttled(wait)) => Err(throttled(wait)),
            Some(Fault::Refused | Fault::Down) => Err(GatewayError::Unavailable("down".into())),
            Some(Fault::LostRequest) => Err(GatewayError::Unknown("silence".into())),
            Some(Fault::LostAnswer) => {
                answer();
                Err(GatewayError::Unknown("silence".into()))
            }
            Some(Fault::Processing) => Ok(Verdict::Pending(None)),
            Some(Fault::WrongAmount) => match answer() {
                Verdict::Paid { receipt, before, .. } => {
                    self.sessions.lock().unwrap().get_mut(&question.reference).unwrap().lied = true;
                    Ok(Verdict::Paid { receipt, amount: Some(1), before })
                }
                other => Ok(other),
            },
            Some(Fault::CrashBefore) => self.die().await,
            Some(Fault::CrashAfter) => {
                answer();
                self.die().await
            }
        }
    }

    async fn list_unverified(&self) -> Result<Vec<Listed>, GatewayError> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.tick();
        let sessions = self.sessions.lock().unwrap();
        let paid = sessions.iter().filter(|(_, session)| matches!(session.money, Money::Paid(_)));
        let listed = |(reference, session): (&String, &Session)| Listed {
            reference: reference.clone(),
            amount: Some(session.amount),
        };
        let mut listed: Vec<Listed> = paid.map(listed).collect();
        listed.extend(self.foreign.lock().unwrap().iter().cloned());
        Ok(listed)
    }

    async fn reverse(&self, question: StoredPayment, receipt_number: String) -> Result<(), GatewayError> {
        assert_eq!(question.state, b"opaque", "the plugin's state comes back");
        self.questions.fetch_add(1, Ordering::SeqCst);
        let fault = self.next_fault();
        // What was given back before is never refused: a plugin asks what became of it.
        let before = self.sessions.lock().unwrap()[&question.reference].money == Money::Reversed;
        match fault {
            Some(Fault::Refused) if !before => {
                return Err(GatewayError::Refused(Reason {
                    code: "-60".into(),
                    text: "no".into(),
                    field: None,
                }));
            }
            Some(Fault::Down) => return Err(GatewayError::Unavailable("down".into())),
            Some(Fault::Throttled(wait)) => return Err(throttled(wait)),
            Some(Fault::LostRequest) => return Err(GatewayError::Unknown("silence".into())),
            Some(Fault::CrashBefore) => self.die().await,
            _ => {}
        }
        {
            let mut sessions = self.sessions.lock().unwrap();
            let session = sessions.get_mut(&question.reference).expect("only what is known");
            let same = self.same_receipt.lock().unwrap().unwrap_or(session.receipt);
            assert_eq!(receipt_number, same.to_string(), "the receipt that was stored");
            match session.money {
                Money::Confirmed => session.money = Money::Reversed,
                // It was done before: the same answer.
                Money::Reversed => {}
                _ => {
                    return Err(GatewayError::Refused(Reason {
                        code: "-61".into(),
                        text: "no".into(),
                        field: None,
                    }));
                }
            }
        }
        match fault {
            Some(Fault::LostAnswer) => Err(GatewayError::Unknown("silence".into())),
            Some(Fault::CrashAfter) => self.die().await,
            _ => Ok(()),
        }
    }
}

fn throttled(seconds: u64) -> GatewayError {
    GatewayError::Throttled(Some(Duration::from_secs(seconds)))
}

/// The configured banks; which one is selected can change.
pub(crate) struct Banks {
    all: Mutex<Vec<Arc<Bank>>>,
    first: Arc<Bank>,
}

impl Banks {
    pub(crate) fn of(all: Vec<Arc<Bank>>) -> Banks {
        Banks { first: all[0].clone(), all: Mutex::new(all) }
    }

    /// The bank that was selected at first.
    pub(crate) fn first(&self) -> &Arc<Bank> {
        &self.first
    }

    pub(crate) fn named(&self, name: &str) -> Arc<Bank> {
        self.all.lock().unwrap().iter().find(|bank| bank.name == name).unwrap().clone()
    }

    pub(crate) fn select_next(&self) {
        self.all.lock().unwrap().rotate_left(1);
    }

    pub(crate) fn remove_all(&self) {
        self.all.lock().unwrap().clear();
    }
}

impl PaymentGateways for Banks {
    fn selected(&self) -> Option<Arc<dyn PaymentGateway>> {
        self.all().into_iter().next()
    }

    fn by_name(&self, name: &str) -> Option<Arc<dyn PaymentGateway>> {
        self.all().into_iter().find(|bank| bank.name() == name)
    }

    fn all(&self) -> Vec<Arc<dyn PaymentGateway>> {
        self.all.lock().unwrap().iter().map(|bank| bank.clone() as Arc<dyn PaymentGateway>).collect()
    }
}
