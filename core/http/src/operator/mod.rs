//! Operator features: accounts, API keys, webhooks, backups, the audit log, status and metrics.
//!
//! Only the operators' listener serves these routes, except `health/`, `openapi.json` and `audit/`. Routes that change
//! something also need the token in the data folder, because a reader of that folder could read the store beside it.
//! Reading order: `users`, `api_key`, `webhook`, `backup`, `audit`, `status`, `ready`, `health`, `inbox`.

pub mod users;

pub mod api_key;

pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod health;
pub(crate) mod inbox;
pub(crate) mod ready;
pub(crate) mod status;
pub mod v1;
pub(crate) mod webhook;

pub(crate) mod shapes;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chelseru_domain::login::identity::Identity;
use chelseru_domain::operator::Overview;
use chelseru_domain::operator::api_key::ApiKeys;
use chelseru_domain::operator::console::Console;
use chelseru_domain::operator::webhook::Webhooks;
use chelseru_domain::sms::Inbox;
use http::HeaderName;
use tokio_util::task::TaskTracker;

use crate::reply::Failure;
use crate::request::{Context, not_found};

/// The slice of operators.
pub struct Operator {
    pub identity: Arc<Identity>,
    pub console: Arc<Console>,
    pub token: OperatorToken,
    pub api_keys: ApiKeys,
    pub webhooks: Webhooks,
    /// Names of the configured webhook endpoints.
    pub endpoints: BTreeSet<String>,
    pub overview: Arc<dyn Overview>,
    pub backups: Arc<dyn Backups>,
    /// The trial provider's messages, while a trial provider is selected.
    pub inbox: Option<Arc<dyn Inbox>>,
    pub documents: Documents,
    /// Work that outlives its client.
    pub detached: TaskTracker,
}

/// What a gateway tells about itself: the two documents, and both for people.
#[derive(Debug)]
pub(crate) struct Texts {
    pub(crate) openapi: Bytes,
    pub(crate) asyncapi: Bytes,
    pub(crate) page: Bytes,
    /// The page's Content-Security-Policy.
    pub(crate) page_policy: String,
}

type MakeTexts = Box<dyn FnOnce() -> Texts + Send>;

/// The texts of a gateway, made once (see [`documents`](crate::openapi::documents)). That takes some 10 ms.
#[derive(Debug, Clone)]
pub struct Documents(Arc<LazyLock<Texts, MakeTexts>>);

/// When the documents are made unless somebody asks before. A start has other work for its cores: on two of them it
/// took some milliseconds longer beside this.
const DOCUMENTS_AFTER: Duration = Duration::from_secs(1);

impl Documents {
    /// Makes them in a thread after [`DOCUMENTS_AFTER`]; who asks before waits until they are made.
    pub(crate) fn begin(make: impl FnOnce() -> Texts + Send + 'static) -> Documents {
        let documents = Documents(Arc::new(LazyLock::new(Box::new(make))));
        let begun = Arc::downgrade(&documents.0);
        let make = move || {
            std::thread::sleep(DOCUMENTS_AFTER);
            // A gateway that is gone needs none.
            if let Some(texts) = begun.upgrade() {
                LazyLock::force(&texts);
            }
        };
        // Without a thread, the first who asks makes them.
        let _ = std::thread::Builder::new().name("documents".to_owned()).spawn(make);
        documents
    }

    pub(crate) fn texts(&self) -> &Texts {
        &self.0
    }
}

/// Writes backups of everything that the gateway stores.
#[async_trait]
pub trait Backups: Send + Sync {
    /// Writes one into a folder that does not exist yet.
    ///
    /// # Errors
    ///
    /// A text for the operator. The partial backup is removed.
    async fn write(&self, folder: &Path) -> Result<Copied, String>;
}

/// Counts of a backup or a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Records of the store.
    pub records: u64,
    /// Files besides the store.
    pub files: u64,
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records, {} files", self.records, self.files)
    }
}

/// The header with the operator token of a command on this machine.
pub const OPERATOR_TOKEN: HeaderName = HeaderName::from_static("x-operator-token");

/// The hash of the token in the data folder.
pub struct OperatorToken(blake3::Hash);

impl OperatorToken {
    pub fn new(token: &str) -> OperatorToken {
        OperatorToken(blake3::hash(token.as_bytes()))
    }

    /// Returns true when a request carries the token. Hashes are compared, in constant time.
    pub(crate) fn is_known(&self, context: &Context) -> bool {
        blake3::hash(context.header(OPERATOR_TOKEN).as_bytes()) == self.0
    }
}

impl Operator {
    /// Checks that the caller knows the operator token.
    ///
    /// # Errors
    ///
    /// 404: without the token the route does not exist.
    pub(crate) fn admit(&self, context: &Context) -> Result<(), Failure> {
        if self.token.is_known(context) { Ok(()) } else { Err(not_found()) }
    }
}
