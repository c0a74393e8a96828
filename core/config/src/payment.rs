//! `[payment]`: the gateway of new payments, the unit of amounts, and the addresses payers may be sent to.

use chelseru_domain::money::payment::{PAYMENTS_PER_HOUR, RECONCILE_SECS};
use chelseru_domain::money::wallet::HOLD_DAYS;
use serde::{Deserialize, Serialize};

use crate::read::Checker;
use crate::url::{parts as payment_parts, prefix_problem};
use crate::{Config, ProviderKind, SANDBOX_PAY};

/// `[payment]`. An edit applies to new payments; open ones stay with their gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Payment {
    /// A provider entry's name, or `SANDBOX_PAY`. Empty: no payments are taken.
    pub gateway: String,
    /// Unit of all amounts in the API.
    pub currency: Unit,
    /// Where the bank returns payers when a client names no `callback_url`. Empty: `payment/verify/` under
    /// `server.public_url`, or under `server.listen` when only this machine reaches it.
    pub callback_url: String,
    /// Allowed prefixes of `callback_url` and `frontend_callback_url`.
    pub callback_urls: Vec<String>,
    /// Users who may capture and void holds and refund payments, besides staff accounts.
    pub staff_users: Vec<u64>,
    /// The most that one person corrects alone in a wallet within 24 hours, in `currency`; what exceeds it waits for a
    /// second operator. 0: any.
    pub correction_alone_max: u64,
    /// Refuse a payment, and a spend, of an order that is paid. `false` for shops whose order ids repeat.
    pub unique_orders: bool,
    /// Days after which held money that nobody captured goes back to its wallet, 1 to 365. An edit applies to new
    /// holds.
    pub hold_days: u64,
    /// Payments one user may begin in an hour; one more answers 429. 1 to 10000000.
    pub payments_per_hour_max: u64,
    /// Interval in seconds at which due payments are checked: 1 to 60.
    pub reconcile_seconds: u64,
}

impl Default for Payment {
    fn default() -> Self {
        Payment {
            gateway: SANDBOX_PAY.into(),
            currency: Unit::Irt,
            callback_url: String::new(),
            callback_urls: Vec::new(),
            staff_users: Vec::new(),
            correction_alone_max: 0,
            unique_orders: true,
            hold_days: HOLD_DAYS.default,
            payments_per_hour_max: PAYMENTS_PER_HOUR.default,
            reconcile_seconds: RECONCILE_SECS.default,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Toman.
    #[serde(rename = "IRT")]
    Irt,
    /// Rial.
    #[serde(rename = "IRR")]
    Irr,
}

/// Most addresses in `callback_urls`.
const CALLBACK_URLS_MAX: usize = 100;

impl Checker<'_> {
    pub(crate) fn check_payment(&mut self, config: &Config) {
        let payment = &config.payment;
        let gateway = &payment.gateway;
        let accepted = || format!("accepted are {}", config.names_of(ProviderKind::Payment, gateway));
        if config.kind_said(gateway) == Some(ProviderKind::Sms) {
            let text = "is an SMS provider; name it in sms.service";
            self.refuse("payment.gateway", format!("{gateway:?}"), &format!("{text}; here {}", accepted()));
        } else if !gateway.is_empty() && gateway != SANDBOX_PAY && config.plugin_of(gateway).is_none() {
            let text = "is not a payment gateway; add [provider.NAME] with its plugin, or name another";
            self.refuse("payment.gateway", format!("{gateway:?}"), &format!("{text}: {}", accepted()));
        }
        if config.provider.contains_key(SANDBOX_PAY) {
            self.refuse(
                &format!("provider.{}", SANDBOX_PAY),
                "a table".into(),
                "is built in; choose another name for this entry",
            );
        }
        self.rule("payment.hold_days", payment.hold_days, HOLD_DAYS);
        self.rule("payment.payments_per_hour_max", payment.payments_per_hour_max, PAYMENTS_PER_HOUR);
        self.rule("payment.reconcile_seconds", payment.reconcile_seconds, RECONCILE_SECS);
        let callback_url = &payment.callback_url;
        let is_address = payment_parts(callback_url).is_some() && !callback_url.contains(['#', '*']);
        if !callback_url.is_empty() && !is_address {
            self.refuse(
                "payment.callback_url",
                format!("{callback_url:?}"),
                "must be an absolute http or https address, or \"\"",
            );
        }
        if payment.callback_urls.len() > CALLBACK_URLS_MAX {
            self.refuse(
                "payment.callback_urls",
                format!("{} addresses", payment.callback_urls.len()),
                &format!("must hold at most {}", CALLBACK_URLS_MAX),
            );
        }
        for url in &payment.callback_urls {
            if let Some(problem) = prefix_problem(url) {
                self.refuse("payment.callback_urls", format!("{url:?}"), problem);
            }
        }
    }
}
