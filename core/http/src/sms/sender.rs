//! Who may send and look at messages: an API key with the scope `sms`, or staff.

use std::fmt::Display;

use chelseru_domain::sms::SmsOwner;
use http::{StatusCode, header};

use super::Sms;
use crate::reply::Failure;
use crate::request::{Context, Sender, no_credentials};
use crate::staff::{permission_denied, require_staff};

/// A caller who may send, and what the caller may see.
pub(crate) struct Admitted {
    /// Staff act for the gateway, and see every message.
    pub(crate) owner: SmsOwner,
    pub(crate) daily_cap: Option<u64>,
    /// The owner of idempotency keys: two staff members share none.
    pub(crate) who: String,
}

impl Sms {
    /// Admits callers who may send. Rights are read each time, so that their removal acts at once.
    ///
    /// # Errors
    ///
    /// 401 without a valid key or token, 403 without the right.
    pub(crate) async fn admit(&self, context: &Context, caller: &Sender) -> Result<Admitted, Failure> {
        let mut words = context.header(header::AUTHORIZATION).split_ascii_whitespace();
        if let (Some("Api-Key"), Some(token), None) = (words.next(), words.next(), words.next()) {
            return self.admit_key(context, token).await;
        }
        let user = caller.0.as_ref().ok_or_else(no_credentials)?.user_id;
        require_staff(&self.identity, user, context).await?;
        Ok(Admitted { owner: SmsOwner::Gateway, daily_cap: None, who: format!("user:{user}") })
    }

    async fn admit_key(&self, context: &Context, token: &str) -> Result<Admitted, Failure> {
        match self.api_keys.verify(token).await.map_err(|error| failed(context, &error))? {
            Some(key) if key.scope == "sms" => Ok(Admitted {
                owner: SmsOwner::ApiKey(key.id),
                daily_cap: key.daily_cap,
                who: format!("key:{}", key.id),
            }),
            Some(_) => Err(permission_denied()),
            None => {
                let text = "The API key is not valid.";
                Err(Failure::detail(StatusCode::UNAUTHORIZED, "api_key_not_valid", text).challenge())
            }
        }
    }
}

fn failed(context: &Context, error: &dyn Display) -> Failure {
    tracing::error!(request.id = %context.id, %error, "an API key could not be looked up");
    Failure::internal()
}
