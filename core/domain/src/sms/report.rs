//! Delivery reports that providers push.

use async_trait::async_trait;

use super::SmsProgress;

/// A provider's request, as received.
pub struct Delivery {
    pub method: String,
    /// The query, not decoded.
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Why a report was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// No provider of this name serves, or its plugin reads no reports.
    #[error("the provider pushes no reports")]
    NotSupported,
    #[error("the report was not understood: {0}")]
    NotUnderstood(String),
}

/// Reads the delivery reports of providers, each in its own format.
#[async_trait]
pub trait ReportDecoder: Send + Sync {
    /// The provider's message ids in a report, with the delivery state of each message.
    ///
    /// # Errors
    ///
    /// See [`ReportError`].
    async fn decode(
        &self,
        provider: &str,
        delivery: Delivery,
    ) -> Result<Vec<(String, SmsProgress)>, ReportError>;
}
