//! The bridge from the domain's payment port to plugins and to the built-in bank, and the task that settles what is
//! left open.
//!
//! [`Gateways`] is every entry that takes payments, the selected one first. Rules are asked of a plugin once, when
//! it is loaded, and checked; a plugin whose rules make no sense is refused like one that does not load. Invariant:
//! a call that failed after one of its HTTP requests may have left is an unknown outcome, whatever the plugin or
//! the host says about it.
//!
//! Not here: what an answer means for a payment (`chelseru-domain::payment`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chelseru_domain::payment::gateway::{
    Callback, Claim, GatewayError, GatewayRules, NewPayment, PaymentGateway, PaymentGateways, Reason,
    StoredPayment, Unconfirmed, Verdict,
};
use chelseru_plugin_host::{CallError, Kind, Provider};
use chelseru_store::{PaymentClaim, PaymentReceipt, PaymentStart, Redirect, Store, StoreError};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::bindings::payment::{functions, http as wit_http, payment_gateway as wit, payment_types, types};
use crate::border::{NAME_MAX, STATE_MAX, URL_MAX};
use crate::config::{Config, SANDBOX_PAY};
use crate::providers::Providers;
use crate::sandbox_pay::SandboxBank;

pub const PAYMENT: &str = "payment-gateway";
pub const PAYMENT_UNVERIFIED: &str = "payment-unverified";
pub const PAYMENT_REVERSE: &str = "payment-reverse";

/// The kind of plugin that takes payments.
pub const KIND: Kind = Kind {
    name: "payment",
    package: "chelseru:provider",
    versions: &[(0, 1)],
    any_of: &[PAYMENT],
    optional: &[
        PAYMENT_UNVERIFIED,
        "payment-settle",
        PAYMENT_REVERSE,
        "payment-refund",
        "payment-inquiry",
        "payment-fee",
    ],
    functions: functions::ALL,
};

/// Fields of a form.
const FIELDS_MAX: usize = 50;
/// Characters of a provider's words.
const TEXT_MAX: usize = 300;
/// The task of reversals among those of gateways; no gateway's name has brackets.
const REVERSALS: &str = "(reversals)";
/// Open payments of a gateway that are counted, for a refusal and for the status.
const COUNT_MAX: usize = 10_000;

/// Every entry that takes payments, the selected one first.
pub struct Gateways(Vec<Arc<dyn PaymentGateway>>);

impl Gateways {
    /// Builds the bridge to every loaded payment plugin, and asks each for its rules.
    ///
    /// Errors: a sentence, when the rules of one make no sense.
    pub async fn load(
        config: &Config,
        providers: &Providers,
        sandbox: &Arc<SandboxBank>,
    ) -> Result<Gateways, String> {
        let mut all: Vec<Arc<dyn PaymentGateway>> = Vec::new();
        for (name, provider) in providers {
            if provider.plugin().kind() == KIND.name {
                let gateway = PluginGateway::load(name, provider).await;
                all.push(Arc::new(gateway.map_err(|reason| format!("provider.{name}: {reason}"))?));
            }
        }
        // Always there, so that what was begun in it can end; selected only when the configuration says so.
        all.push(sandbox.clone());
        all.sort_by_key(|gateway| gateway.name() != config.payment.gateway);
        Ok(Gateways(all))
    }

    /// Whether every gateway with open payments is still there, by name and plugin.
    ///
    /// Errors: a sentence that names the gateway and the count of its open payments.
    pub fn keeps_open_payments(&self, before: &Gateways, store: &Store) -> Result<(), String> {
        let mut open = store.payments_open_gateways().map_err(|error| error.to_string())?;
        let reversals = store.reversals_open(COUNT_MAX).map_err(|error| error.to_string())?;
        for reversal in &reversals {
            if !open.contains(&reversal.gateway) {
                open.push(reversal.gateway.clone());
            }
        }
        for name in open {
            let plugin =
                |gateways: &Gateways| gateways.by_name(&name).map(|gateway| gateway.plugin().to_owned());
            let (Some(old), new) = (plugin(before), plugin(self)) else { continue };
            if new.as_ref() == Some(&old) {
                continue;
            }
            let count = store.payments_open(&name, COUNT_MAX).map_err(|error| error.to_string())?;
            let reversed = reversals.iter().filter(|reversal| reversal.gateway == name).count();
            let change = match new {
                None => "cannot be removed".to_owned(),
                Some(new) => format!("cannot change its plugin from {old} to {new}"),
            };
            let reversals = match reversed {
                0 => String::new(),
                reversed => format!(" and {reversed} to give back"),
            };
            return Err(format!("provider.{name}: {change} while it has {count} open payments{reversals}"));
        }
        Ok(())
    }
}

impl PaymentGateways for Gateways {
    fn selected(&self) -> Option<Arc<dyn PaymentGateway>> {
        self.0.first().cloned()
    }

    fn by_name(&self, name: &str) -> Option<Arc<dyn PaymentGateway>> {
        self.0.iter().find(|gateway| gateway.name() == name).cloned()
    }

    fn all(&self) -> Vec<Arc<dyn PaymentGateway>> {
        self.0.clone()
    }
}

/// Settles what is due until the gateway stops: one task per gateway with open payments, so that one that answers
/// slowly or not at all holds up its own payments only. What a round began goes on when the stop comes.
pub async fn reconcile(app: Arc<App>, stop: CancellationToken) {
    let mut running: HashMap<String, JoinHandle<()>> = HashMap::new();
    while !stop.is_cancelled() {
        running.retain(|_, task| !task.is_finished());
        match app.payments.open_gateways() {
            Ok(names) => {
                for name in names {
                    let start = || tokio::spawn(reconcile_gateway(app.clone(), name.clone(), stop.clone()));
                    running.entry(name.clone()).or_insert_with(start);
                }
            }
            Err(error) => tracing::error!(%error, "open payments could not be read"),
        }
        running.entry(REVERSALS.to_owned()).or_insert_with(|| tokio::spawn(reverse_due(app.clone())));
        let wait = Duration::from_secs(app.live().config.payment.reconcile_seconds);
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    for (_, task) in running {
        // One that panicked was reported by the panic itself; its payments are still due.
        let _ = task.await;
    }
}

/// Asks once about every reversal that is due.
async fn reverse_due(app: Arc<App>) {
    let live = app.live();
    if let Err(error) = app.payments.reverse_due(live.gateways.as_ref()).await {
        tracing::error!(%error, "open reversals could not be read");
    }
}

/// Rounds over one gateway's open payments while more are due than one takes.
async fn reconcile_gateway(app: Arc<App>, name: String, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let live = app.live();
        match app.payments.reconcile_gateway(live.gateways.as_ref(), &name).await {
            Ok(round) if round.more && round.settled + round.ended > 0 => {}
            Ok(_) => return,
            Err(error) => {
                tracing::error!(plugin.id = %name, %error, "open payments could not be read");
                return;
            }
        }
    }
}

/// How many open payments each gateway has that has some, loaded or not; each counted up to [`COUNT_MAX`].
pub fn open_payments(store: &Store) -> Result<BTreeMap<String, usize>, StoreError> {
    let counted = |name: String| Ok((name.clone(), store.payments_open(&name, COUNT_MAX)?));
    store.payments_open_gateways()?.into_iter().map(counted).collect()
}

/// What `status/` says of payments: the selected gateway, how many are open at each, and how many are to be given back;
/// null when the store cannot be read.
pub(crate) fn status(app: &App) -> Value {
    let reversals = app.store.reversals_open(COUNT_MAX).ok().map(|open| open.len());
    json!({
        "gateway": app.live().config.payment.gateway,
        "open": open_payments(&app.store).ok(),
        "reversals": reversals,
    })
}

/// Sets the gauges of payments; called when metrics are read.
pub(crate) fn measure(app: &App) {
    // What cannot be read keeps its last value: none would be a false all-clear.
    let Ok(open) = open_payments(&app.store) else { return };
    let loaded = app.live().gateways.all();
    let idle = loaded.iter().map(|gateway| gateway.name()).filter(|name| !open.contains_key(*name));
    for (name, count) in
        idle.map(|name| (name, 0)).chain(open.iter().map(|(name, count)| (name.as_str(), *count)))
    {
        app.metrics.gauge("chelseru_payments_open", Some(("gateway", name)), count as f64);
    }
}

/// Says at start which open payments have no gateway.
pub fn warn_of_orphans(gateways: &Gateways, store: &Store) {
    for (name, count) in open_payments(store).unwrap_or_default() {
        if gateways.by_name(&name).is_none() {
            tracing::error!(plugin.id = %name, count, "open payments wait for a gateway that is not configured");
        }
    }
    for reversal in store.reversals_open(COUNT_MAX).unwrap_or_default() {
        if gateways.by_name(&reversal.gateway).is_none() {
            tracing::error!(plugin.id = %reversal.gateway, payment.id = reversal.payment.0, "a payment waits to be given back by a gateway that is not configured");
        }
    }
}

/// One provider entry that takes payments.
struct PluginGateway {
    name: String,
    provider: Arc<Provider>,
    rules: GatewayRules,
}

impl PluginGateway {
    async fn load(name: &str, provider: &Arc<Provider>) -> Result<PluginGateway, String> {
        let (rules,) =
            provider.call_pure(functions::GET_RULES, ()).await.map_err(|error| error.to_string())?;
        let refuse = |what: &str| Err(format!("the plugin's rules make no sense: {what}"));
        if rules.unit_rial == 0 || rules.amount_min == 0 || rules.amount_min > rules.amount_max {
            return refuse("amounts");
        }
        if !(60..=7 * 86_400).contains(&rules.window_seconds) {
            return refuse("window-seconds is 60 to 604800");
        }
        let rules = GatewayRules {
            amount_min: rules.amount_min,
            amount_max: rules.amount_max.min(i64::MAX as u64),
            unit_rial: rules.unit_rial,
            window: Duration::from_secs(rules.window_seconds.into()),
            unconfirmed: match rules.unconfirmed {
                payment_types::Unconfirmed::Kept => Unconfirmed::Kept,
                payment_types::Unconfirmed::ReturnedAfter(seconds) => {
                    Unconfirmed::ReturnedAfter(Duration::from_secs(seconds.into()))
                }
            },
            lists_unverified: provider.plugin().exports(PAYMENT_UNVERIFIED),
            reverse_within: (rules.reverse_seconds > 0 && provider.plugin().exports(PAYMENT_REVERSE))
                .then(|| Duration::from_secs(rules.reverse_seconds.into())),
        };
        Ok(PluginGateway { name: name.to_owned(), provider: provider.clone(), rules })
    }
}

#[async_trait]
impl PaymentGateway for PluginGateway {
    fn name(&self) -> &str {
        &self.name
    }

    fn plugin(&self) -> &str {
        &self.provider.plugin().description().name
    }

    fn digest(&self) -> &str {
        self.provider.plugin().digest()
    }

    fn rules(&self) -> GatewayRules {
        self.rules
    }

    async fn create(&self, payment: NewPayment) -> Result<PaymentStart, GatewayError> {
        let order = wit::Order {
            local_id: payment.local_id,
            amount_rial: payment.amount,
            callback_url: payment.callback_url,
            description: payment.description,
            order: payment.order,
            mobile: payment.mobile,
            email: payment.email,
        };
        let (answer,) = self.provider.call(functions::CREATE, (order,)).await.map_err(call_error)?;
        let started = answer.map_err(provider_error)?;
        let redirect = match started.redirect {
            wit::Redirect::Get(url) => Redirect { post: false, url, fields: Vec::new() },
            wit::Redirect::Post((url, fields)) => {
                let fields = fields.into_iter().map(|field| (field.name, field.value)).collect();
                Redirect { post: true, url, fields }
            }
        };
        let long = |text: &String| text.len() > URL_MAX;
        let fits = (1..=NAME_MAX).contains(&started.reference.len())
            && started.state.len() <= STATE_MAX
            && !long(&redirect.url)
            && crate::config::payment_parts(&redirect.url).is_some()
            && redirect.fields.len() <= FIELDS_MAX
            && !redirect.fields.iter().any(|(name, value)| long(name) || long(value));
        if !fits {
            return Err(GatewayError::Unknown("the plugin's answer breaks a bound".to_owned()));
        }
        Ok(PaymentStart {
            reference: started.reference,
            redirect,
            state: started.state,
            message: cut(&started.message),
        })
    }

    async fn decode(&self, callback: &Callback) -> Result<Option<Claim>, GatewayError> {
        let header =
            |(name, value): &(String, String)| wit_http::Header { name: name.clone(), value: value.clone() };
        let callback = wit::Callback {
            method: callback.method.clone(),
            query: callback.query.clone(),
            headers: callback.headers.iter().map(header).collect(),
            body: callback.body.clone(),
        };
        let (claim,) =
            self.provider.call_pure(functions::DECODE_CALLBACK, (callback,)).await.map_err(call_error)?;
        let fits = |claim: &wit::Claim| {
            (1..=NAME_MAX).contains(&claim.reference.len())
                && claim.receipt.as_ref().is_none_or(|receipt| receipt.len() <= NAME_MAX)
                && claim.data.len() <= STATE_MAX
        };
        Ok(claim.filter(fits).map(|claim| Claim {
            reference: claim.reference,
            claim: PaymentClaim { cancelled: claim.cancelled, receipt: claim.receipt, data: claim.data },
        }))
    }

    async fn verify(
        &self,
        payment: StoredPayment,
        claim: Option<PaymentClaim>,
    ) -> Result<Verdict, GatewayError> {
        let claim = claim.map(|claim| wit::Claim {
            reference: payment.reference.clone(),
            cancelled: claim.cancelled,
            receipt: claim.receipt,
            data: claim.data,
        });
        let (answer,) =
            self.provider.call(functions::VERIFY, (stored(payment), claim)).await.map_err(call_error)?;
        match answer.map_err(provider_error)? {
            wit::Verdict::Paid(receipt) => paid(receipt, false),
            wit::Verdict::PaidBefore(receipt) => paid(receipt, true),
            wit::Verdict::NotPaid(rejection) => Ok(Verdict::NotPaid(reason(rejection))),
            wit::Verdict::Cancelled(rejection) => Ok(Verdict::Cancelled(reason(rejection))),
            wit::Verdict::Pending(seconds) => {
                Ok(Verdict::Pending(seconds.map(|seconds| Duration::from_secs(seconds.into()))))
            }
            wit::Verdict::Mismatch(field) => Ok(Verdict::Mismatch(field)),
            wit::Verdict::UnknownReference => Ok(Verdict::UnknownReference),
        }
    }

    async fn list_unverified(&self) -> Result<Vec<String>, GatewayError> {
        let (answer,) = self.provider.call(functions::LIST_UNVERIFIED, ()).await.map_err(call_error)?;
        Ok(answer.map_err(provider_error)?.into_iter().map(|item| item.reference).collect())
    }

    async fn reverse(&self, payment: StoredPayment, receipt_number: String) -> Result<(), GatewayError> {
        let asked = self.provider.call(functions::REVERSE, (stored(payment), receipt_number)).await;
        let (answer,) = asked.map_err(call_error)?;
        answer.map_err(provider_error)
    }
}

fn stored(payment: StoredPayment) -> payment_types::Stored {
    payment_types::Stored {
        local_id: payment.local_id,
        reference: payment.reference,
        amount_rial: payment.amount,
        order: payment.order,
        state: payment.state,
    }
}

fn paid(receipt: payment_types::Receipt, before: bool) -> Result<Verdict, GatewayError> {
    if receipt.number.len() > NAME_MAX {
        return Err(GatewayError::Unknown("the plugin's receipt breaks a bound".to_owned()));
    }
    let amount = receipt.amount_rial;
    let receipt = PaymentReceipt {
        number: receipt.number,
        card_pan: cut(&receipt.card_pan),
        card_hash: cut(&receipt.card_hash),
        fee_rial: receipt.fee_rial,
        code: cut(&receipt.code),
        message: cut(&receipt.text),
    };
    Ok(Verdict::Paid { receipt, amount, before })
}

fn reason(rejection: types::Rejection) -> Reason {
    Reason { code: cut(&rejection.code), text: cut(&rejection.text) }
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// What the plugin itself reported.
fn provider_error(error: types::Error) -> GatewayError {
    match error {
        types::Error::Unauthorized(rejection) => GatewayError::Unauthorized(reason(rejection)),
        types::Error::InvalidRecipient(rejection)
        | types::Error::InvalidMessage(rejection)
        | types::Error::InvalidTemplate(rejection)
        | types::Error::InsufficientCredit(rejection)
        | types::Error::Rejected(rejection) => GatewayError::Refused(reason(rejection)),
        types::Error::Throttled(_) => GatewayError::Unavailable("it was asked too often".to_owned()),
        types::Error::Unavailable(text) | types::Error::Misconfigured(text) => {
            GatewayError::Unavailable(cut(&text))
        }
        types::Error::UnknownOutcome(text) | types::Error::BrokeDown(text) => {
            GatewayError::Unknown(cut(&text))
        }
    }
}

/// What the host reported of a call that gave no answer.
fn call_error(error: CallError) -> GatewayError {
    if error.may_have_sent() {
        GatewayError::Unknown(error.to_string())
    } else {
        GatewayError::Unavailable(error.to_string())
    }
}

/// The trial bank's name, for the configuration's check.
pub const BUILT_IN: &str = SANDBOX_PAY;
