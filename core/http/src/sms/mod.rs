//! SMS: sending messages, and reading their states.
//!
//! The queue and the states of a message belong to `chelseru_domain::sms`. Reading order: `sender` (who may), `send`,
//! `list`, `report`, `json`.

pub(crate) mod sender;

pub(crate) mod send;

pub(crate) mod list;

pub mod report;

pub(crate) mod json;
pub(crate) mod shapes;

use std::collections::BTreeSet;
use std::sync::Arc;

use chelseru_domain::clock::Clock;
use chelseru_domain::login::identity::Identity;
use chelseru_domain::operator::Meter;
use chelseru_domain::operator::api_key::ApiKeys;
use chelseru_domain::secret::SubKey;
use chelseru_domain::sms::ReportDecoder;
use chelseru_domain::sms::queue::SmsRoute;
use tokio_util::task::TaskTracker;

/// The slice of SMS.
pub struct Sms {
    pub identity: Arc<Identity>,
    pub api_keys: ApiKeys,
    pub route: Arc<SmsRoute>,
    /// Logical names of the configured templates.
    pub templates: BTreeSet<String>,
    /// Provider entries whose message ids the original answered as numbers.
    pub numeric_ids: BTreeSet<String>,
    pub decoder: Arc<dyn ReportDecoder>,
    pub report_secrets: ReportSecrets,
    pub clock: Arc<dyn Clock>,
    pub meter: Arc<dyn Meter>,
    /// Work that outlives its client.
    pub detached: TaskTracker,
}

/// The unguessable parts of the addresses that providers send delivery reports to.
#[derive(Clone)]
pub struct ReportSecrets(SubKey);

impl ReportSecrets {
    pub fn new(key: SubKey) -> ReportSecrets {
        ReportSecrets(key)
    }

    /// The secret of one provider entry.
    pub fn of(&self, provider: &str) -> String {
        let mut hasher = blake3::Hasher::new_keyed(self.0.expose());
        hasher.update(provider.as_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }

    /// Whether a text is the secret of a provider entry. Hashes are compared, in constant time.
    pub(crate) fn fits(&self, provider: &str, text: &str) -> bool {
        blake3::hash(text.as_bytes()) == blake3::hash(self.of(provider).as_bytes())
    }
}
