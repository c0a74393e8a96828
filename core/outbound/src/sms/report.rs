//! Delivery reports that providers push, read by the provider's own plugin.

use std::sync::Arc;

use async_trait::async_trait;
use chelseru_domain::sms::{Delivery, ReportDecoder, ReportError, SmsProgress};
use chelseru_plugin_host::Registry;

use super::words::report;
use crate::bindings::{functions, http, sms_push};
use crate::names::SMS_PUSH;

/// Reads reports with the plugins that serve now.
pub struct Reports(Arc<Registry>);

impl Reports {
    pub fn new(registry: Arc<Registry>) -> Reports {
        Reports(registry)
    }

    /// Returns true when the provider's plugin reads pushed reports.
    pub fn reads(&self, provider: &str) -> bool {
        self.0.get(provider).is_some_and(|provider| provider.plugin().exports(SMS_PUSH))
    }
}

#[async_trait]
impl ReportDecoder for Reports {
    async fn decode(
        &self,
        provider: &str,
        delivery: Delivery,
    ) -> Result<Vec<(String, SmsProgress)>, ReportError> {
        let provider = self.0.get(provider).filter(|provider| provider.plugin().exports(SMS_PUSH));
        let Some(provider) = provider else { return Err(ReportError::NotSupported) };
        let Delivery { method, query, headers, body } = delivery;
        let headers = headers.into_iter().map(|(name, value)| http::Header { name, value }).collect();
        let delivery = sms_push::Delivery { method, query, headers, body };
        match provider.call_pure(functions::PARSE_PUSH, (delivery,)).await {
            Ok((Ok(reports),)) => Ok(reports.into_iter().map(report).collect()),
            Ok((Err(what),)) => Err(ReportError::NotUnderstood(what)),
            Err(error) => Err(ReportError::NotUnderstood(error.code().to_owned())),
        }
    }
}
