//! What a plugin says of itself once, when it is loaded: its limits and rules.
//!
//! Asked before the provider serves and kept with it, so that no message and no payment waits for an answer that never
//! changes, and a moment without a free place is not taken for a plugin without limits. A plugin that cannot be asked,
//! or whose rules make no sense, is refused like one that does not load.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chelseru_domain::money::payment::gateway::{GatewayRules, Unconfirmed};
use chelseru_plugin_host::{CallError, Facts, Function, GuestData, Provider};
use wasmtime::component::{ComponentNamedList, Lift};

use crate::bindings::payment::{functions as payment_functions, payment_types};
use crate::bindings::{functions, sms_status, sms_types};
use crate::kinds::PAYMENT_KIND;
use crate::names::{PAYMENT_REVERSE, PAYMENT_UNVERIFIED, SMS_STATUS, SMS_TEMPLATE, SMS_TEXT};

/// How often a busy host is asked, and how long apart.
const TRIES: u32 = 20;
const TRY_WAIT: Duration = Duration::from_millis(500);

/// The limits of an SMS plugin, by the interfaces that it exports.
pub(crate) struct SmsFacts {
    pub(crate) text: Option<sms_types::Limits>,
    pub(crate) template: Option<sms_types::Limits>,
    pub(crate) status: Option<sms_status::Limits>,
}

/// See [`chelseru_plugin_host::Ask`].
pub(crate) fn ask(provider: &Provider) -> Pin<Box<dyn Future<Output = Result<Facts, String>> + Send + '_>> {
    Box::pin(async move {
        if provider.plugin().kind() == PAYMENT_KIND.name {
            return Ok(Arc::new(payment_rules(provider).await?) as Facts);
        }
        Ok(Arc::new(SmsFacts {
            text: asked(provider, SMS_TEXT, functions::TEXT_LIMITS).await?,
            template: asked(provider, SMS_TEMPLATE, functions::TEMPLATE_LIMITS).await?,
            status: asked(provider, SMS_STATUS, functions::STATUS_LIMITS).await?,
        }) as Facts)
    })
}

async fn asked<R>(
    provider: &Provider,
    interface: &str,
    function: Function<(), (R,)>,
) -> Result<Option<R>, String>
where
    (R,): ComponentNamedList + Lift + GuestData + Send + Sync + 'static,
{
    if !provider.plugin().exports(interface) {
        return Ok(None);
    }
    let mut tries = 0;
    loop {
        tries += 1;
        match provider.call_pure(function, ()).await {
            Ok((answer,)) => return Ok(Some(answer)),
            // Other calls have every place: that says nothing of this plugin.
            Err(CallError::Busy) if tries < TRIES => tokio::time::sleep(TRY_WAIT).await,
            Err(error) => return Err(format!("{function:?}: {error}")),
        }
    }
}

/// The rules of a payment plugin, checked.
pub(crate) async fn payment_rules(provider: &Provider) -> Result<GatewayRules, String> {
    let rules = asked(provider, crate::names::PAYMENT, payment_functions::GET_RULES).await?;
    let rules = rules.ok_or("the plugin has no rules")?;
    let refuse = |what: &str| Err(format!("the plugin's rules are invalid: {what}"));
    if rules.unit_rial == 0 || rules.amount_min == 0 || rules.amount_min > rules.amount_max {
        return refuse("amounts");
    }
    if !(60..=7 * 86_400).contains(&rules.window_seconds) {
        return refuse("window-seconds must be 60 to 604800");
    }
    Ok(GatewayRules {
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
    })
}
