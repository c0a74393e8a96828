//! Messages, webhooks, API keys, the audit log, operators and the overview.

use chelseru_store::{
    ApiKey, EventFilter, EventId, EventReport, Rights, SmsFilter, SmsOwner, SmsPage, SmsRange, SmsRecord,
    SmsStatus, StoreError,
};
use serde_json::Value;
use std::collections::BTreeMap;

use super::Desk;
use crate::login::user_index::UserQuery;
use crate::operator::api_key::{ApiKeyError, NewApiKey};
use crate::operator::audit::{AuditEvent, AuditKind, AuditPage, AuditQuery};
use crate::operator::console::OperatorView;
use crate::operator::role::{
    ApiKeyCreate, ApiKeyRead, ApiKeyRevoke, AuditExport, AuditRead, MessageRead, MessageResend, OperatorRead,
    OverviewRead, Permit, ProviderTest, Reason, UserRead, WebhookPause, WebhookRead, WebhookReplay,
    WebhookTest,
};
use crate::operator::webhook::Pause;
use crate::sms::queue::{SmsRequest, SubmitError, Submitted};
use crate::{PhoneNumber, sms};

/// Records that the filters of one page of messages may read.
const MESSAGES_LOOKED_MAX: usize = 5000;
/// Entries of one exported file of the audit log.
const AUDIT_EXPORT_MAX: usize = 10_000;
/// Superusers that the list of operators shows.
const SUPERUSERS_MAX: usize = 200;
/// Dead events replayed at once.
const REPLAY_MAX: usize = 10_000;

/// Which messages to list.
#[derive(Debug, Clone)]
pub struct MessageQuery {
    pub filter: SmsFilter,
    pub range: SmsRange,
}

/// Why a message is not sent again.
#[derive(Debug, thiserror::Error)]
pub enum ResendError {
    #[error("there is no such message")]
    Missing,
    /// A code's text is not stored, and the next code replaces it.
    #[error("a one-time code cannot be sent again")]
    Code,
    #[error("the message is still being sent")]
    Running,
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl From<StoreError> for ResendError {
    fn from(error: StoreError) -> ResendError {
        ResendError::Submit(SubmitError::Store(error))
    }
}

impl Desk {
    /// Everything that `status/` answers.
    pub async fn overview(&self, _permit: &Permit<OverviewRead>) -> Value {
        self.services.overview.status().await
    }

    /// # Errors
    ///
    /// Those of the store.
    pub async fn messages(
        &self,
        _permit: &Permit<MessageRead>,
        query: &MessageQuery,
        limit: usize,
    ) -> Result<SmsPage, StoreError> {
        self.services.sms.queue().page(&query.filter, query.range, limit, MESSAGES_LOOKED_MAX).await
    }

    /// # Errors
    ///
    /// Those of the store.
    pub async fn message(
        &self,
        _permit: &Permit<MessageRead>,
        id: u64,
    ) -> Result<Option<SmsRecord>, StoreError> {
        self.services.sms.queue().get(id).await
    }

    /// Sends a notice once more, as a new message of the gateway's own. Returns its id.
    ///
    /// # Errors
    ///
    /// See [`ResendError`]; nothing was stored then.
    pub async fn message_resend(
        &self,
        permit: &Permit<MessageResend>,
        id: u64,
        reason: &Reason,
    ) -> Result<u64, ResendError> {
        let route = &self.services.sms;
        let message = route.queue().get(id).await?.ok_or(ResendError::Missing)?;
        if matches!(message.status, SmsStatus::Queued | SmsStatus::Sending) {
            return Err(ResendError::Running);
        }
        let body = sms::body_of(&message.content).ok_or(ResendError::Code)?;
        let to = PhoneNumber::parse(&message.number).map_err(|_| ResendError::Missing)?;
        let owner = SmsOwner::Gateway;
        let request = SmsRequest { to, body, owner, idempotency: None, daily_cap: None, wait: false };
        let Submitted::New(sent) = route.submit(request).await? else { return Err(ResendError::Missing) };
        let event = AuditEvent::by(permit.operator(), AuditKind::MessageResent);
        let event = event.subject(format!("message {}", sent.id)).change(format!("message {id}"), "queued");
        self.audit().record(event.reason(reason));
        Ok(sent.id)
    }

    /// Sends a message by one provider, with a record like any other. The queue retries what fails for a transient
    /// reason, with all providers. Must run to its end once begun. Returns the message's id.
    ///
    /// # Errors
    ///
    /// [`ResendError::Missing`] without such a provider; see [`ResendError`].
    pub async fn provider_test(
        &self,
        permit: &Permit<ProviderTest>,
        name: &str,
        to: PhoneNumber,
        text: String,
        reason: &Reason,
    ) -> Result<u64, ResendError> {
        let route = self.services.sms.only(name).ok_or(ResendError::Missing)?;
        let (body, owner) = (sms::SmsBody::Text { text }, SmsOwner::Gateway);
        let request = SmsRequest { to, body, owner, idempotency: None, daily_cap: None, wait: true };
        let Submitted::New(sent) = route.submit(request).await? else { return Err(ResendError::Missing) };
        let event = AuditEvent::by(permit.operator(), AuditKind::MessageResent).subject(name);
        self.audit().record(event.change("", format!("test message {}", sent.id)).reason(reason));
        Ok(sent.id)
    }

    /// Events and their deliveries, newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn events(
        &self,
        _permit: &Permit<WebhookRead>,
        before: Option<EventId>,
        which: EventFilter,
        limit: usize,
    ) -> Result<Vec<EventReport>, StoreError> {
        self.services.webhooks.list(before, which, limit).await
    }

    /// Delivers an event again. Returns the number of endpoints.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn event_replay(
        &self,
        permit: &Permit<WebhookReplay>,
        id: EventId,
    ) -> Result<usize, StoreError> {
        let count = self.services.webhooks.replay(id, None).await?;
        let event = AuditEvent::by(permit.operator(), AuditKind::WebhookReplayed);
        self.audit().record(event.subject(format!("event {}", id.0)).change("", count));
        Ok(count)
    }

    /// Delivers every dead event again. Returns their number.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn events_replay_dead(&self, permit: &Permit<WebhookReplay>) -> Result<usize, StoreError> {
        let count = self.services.webhooks.replay_dead(None, REPLAY_MAX).await?;
        let event = AuditEvent::by(permit.operator(), AuditKind::WebhookReplayed);
        self.audit().record(event.subject("all dead events").change("", count));
        Ok(count)
    }

    /// Sends a test event to one endpoint; `None` when there is none of this name.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn event_test(
        &self,
        permit: &Permit<WebhookTest>,
        endpoint: &str,
    ) -> Result<Option<EventId>, StoreError> {
        if !self.services.endpoints.contains(endpoint) {
            return Ok(None);
        }
        let id = self.services.webhooks.test(endpoint.to_owned()).await?;
        let event = AuditEvent::by(permit.operator(), AuditKind::WebhookReplayed);
        self.audit().record(event.subject(endpoint).change("", "test event"));
        Ok(Some(id))
    }

    /// The paused endpoints by name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn endpoints_paused(
        &self,
        _permit: &Permit<WebhookRead>,
    ) -> Result<BTreeMap<String, Pause>, StoreError> {
        self.services.webhooks.paused().await
    }

    /// Pauses an endpoint, or ends its pause. Returns false when it is so already, and for an endpoint that is neither
    /// configured nor paused.
    ///
    /// # Errors
    ///
    /// Any error of a change; see [`StoreError`].
    pub async fn endpoint_pause(
        &self,
        permit: &Permit<WebhookPause>,
        endpoint: &str,
        pause: bool,
        reason: &Reason,
    ) -> Result<bool, StoreError> {
        let by = permit.operator().user().map_or(0, |user| user.0);
        let changed = match pause {
            true if !self.services.endpoints.contains(endpoint) => false,
            true => self.services.webhooks.pause(endpoint, by, reason).await?,
            false => self.services.webhooks.resume(endpoint).await?,
        };
        if changed {
            let event = AuditEvent::by(permit.operator(), AuditKind::WebhookPaused).subject(endpoint);
            let (before, after) = if pause { ("delivering", "paused") } else { ("paused", "delivering") };
            self.audit().record(event.change(before, after).reason(reason));
        }
        Ok(changed)
    }

    /// A page of the audit log.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn audit_page(
        &self,
        _permit: &Permit<AuditRead>,
        query: AuditQuery,
    ) -> Result<AuditPage, StoreError> {
        self.audit().page(query).await
    }

    /// What a query finds in the audit log, to take away: in the log, too.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn audit_export(
        &self,
        permit: &Permit<AuditExport>,
        query: AuditQuery,
    ) -> Result<AuditPage, StoreError> {
        let page = self.audit().page(AuditQuery { limit: AUDIT_EXPORT_MAX, ..query }).await?;
        let event = AuditEvent::by(permit.operator(), AuditKind::ListExported).subject("audit");
        self.audit().record(event.change("", page.entries.len()));
        Ok(page)
    }

    /// Every API key, revoked ones included.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn api_keys(&self, _permit: &Permit<ApiKeyRead>) -> Result<Vec<ApiKey>, StoreError> {
        self.services.api_keys.list().await
    }

    /// # Errors
    ///
    /// See [`ApiKeyError`].
    pub async fn api_key_create(
        &self,
        permit: &Permit<ApiKeyCreate>,
        name: &str,
        scope: &str,
        daily_cap: Option<u64>,
        reason: &Reason,
    ) -> Result<NewApiKey, ApiKeyError> {
        let made = self.services.api_keys.create(name, scope, daily_cap).await?;
        let event = AuditEvent::by(permit.operator(), AuditKind::KeyCreated);
        let event = event.subject(format!("API key {}", made.key.id)).change("", scope);
        self.audit().record(event.reason(reason));
        Ok(made)
    }

    /// Revokes a key; false when it does not exist or is revoked.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn api_key_revoke(
        &self,
        permit: &Permit<ApiKeyRevoke>,
        id: u64,
        reason: &Reason,
    ) -> Result<bool, StoreError> {
        let revoked = self.services.api_keys.revoke(id).await?;
        if revoked {
            let event = AuditEvent::by(permit.operator(), AuditKind::KeyRevoked);
            let event = event.subject(format!("API key {id}")).change("valid", "revoked");
            self.audit().record(event.reason(reason));
        }
        Ok(revoked)
    }

    /// Every operator.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn operators(
        &self,
        permit: &Permit<OperatorRead>,
        users: &Permit<UserRead>,
    ) -> Result<Vec<OperatorView>, StoreError> {
        let query = UserQuery { rights: Some(Rights::Superuser), ..UserQuery::default() };
        let found = self.services.identity.users_find(users, &query, None, SUPERUSERS_MAX).await?;
        self.services.console.operators(permit, found.users).await
    }

    /// The operator of an API key's token; `None` for any other.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn operator_of_key(
        &self,
        token: &str,
        ip: Option<std::net::IpAddr>,
    ) -> Result<Option<super::super::role::Operator>, StoreError> {
        let key = self.services.api_keys.verify(token).await?;
        Ok(key.and_then(|key| crate::operator::console::Console::operator_of_key(&key, ip)))
    }
}
