//! One provider entry that takes payments.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chelseru_domain::money::payment::gateway::{
    Callback, Claim, GatewayError, GatewayRules, Listed, NewPayment, PaymentClaim, PaymentGateway,
    PaymentStart, Redirect, RedirectMethod, StoredPayment, Verdict,
};
use chelseru_plugin_host::Provider;

use super::words::{call_error, cut, paid, provider_error, reason, stored};
use crate::bindings::payment::{functions, http as wit_http, payment_gateway as wit};
use crate::border::{NAME_MAX, STATE_MAX, URL_MAX};
use crate::facts;

/// Fields of a form.
const FIELDS_MAX: usize = 50;

/// One provider entry that takes payments.
pub(super) struct PluginPaymentGateway {
    name: String,
    provider: Arc<Provider>,
    rules: GatewayRules,
}

impl PluginPaymentGateway {
    pub(super) async fn load(name: &str, provider: &Arc<Provider>) -> Result<PluginPaymentGateway, String> {
        let rules = match provider.facts::<GatewayRules>() {
            Some(rules) => *rules,
            None => facts::payment_rules(provider).await?,
        };
        Ok(PluginPaymentGateway { name: name.to_owned(), provider: provider.clone(), rules })
    }
}

#[async_trait]
impl PaymentGateway for PluginPaymentGateway {
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
            wit::Redirect::Get(url) => Redirect { method: RedirectMethod::Get, url, fields: Vec::new() },
            wit::Redirect::Post((url, fields)) => {
                let fields = fields.into_iter().map(|field| (field.name, field.value)).collect();
                Redirect { method: RedirectMethod::Post, url, fields }
            }
        };
        let long = |text: &String| text.len() > URL_MAX;
        let fits = (1..=NAME_MAX).contains(&started.reference.len())
            && started.state.len() <= STATE_MAX
            && !long(&redirect.url)
            && chelseru_config::payment_parts(&redirect.url).is_some()
            && redirect.fields.len() <= FIELDS_MAX
            && !redirect.fields.iter().any(|(name, value)| long(name) || long(value));
        if !fits {
            return Err(GatewayError::Unknown("the plugin's answer exceeds a limit".to_owned()));
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
            wit::Verdict::Failed(rejection) => Ok(Verdict::Failed(reason(rejection))),
            wit::Verdict::ClaimDenied(rejection) => Ok(Verdict::ClaimDenied(reason(rejection))),
            wit::Verdict::Pending(seconds) => {
                Ok(Verdict::Pending(seconds.map(|seconds| Duration::from_secs(seconds.into()))))
            }
            wit::Verdict::Mismatch(field) => Ok(Verdict::Mismatch(field)),
            wit::Verdict::UnknownReference => Ok(Verdict::UnknownReference),
        }
    }

    async fn list_unverified(&self) -> Result<Vec<Listed>, GatewayError> {
        let (answer,) = self.provider.call(functions::LIST_UNVERIFIED, ()).await.map_err(call_error)?;
        // A reference that exceeded its limit was emptied, and is none of ours.
        let items = answer.map_err(provider_error)?.into_iter().filter(|item| !item.reference.is_empty());
        Ok(items.map(|item| Listed { reference: item.reference, amount: item.amount_rial }).collect())
    }

    async fn reverse(&self, payment: StoredPayment, receipt_number: String) -> Result<(), GatewayError> {
        let asked = self.provider.call(functions::REVERSE, (stored(payment), receipt_number)).await;
        let (answer,) = asked.map_err(call_error)?;
        answer.map_err(provider_error)
    }
}
