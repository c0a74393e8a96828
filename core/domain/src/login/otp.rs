//! One-time codes: created, sent, and hashed for the store.
//!
//! A code comes from the operating system's randomness. All codes are equally likely and keep their leading zeros. A
//! code leaves this module only in a message; the store gets HMAC-SHA256 over number and code, with a key that is not
//! in the store. Invariants: a number has at most one valid code per purpose; a code that was certainly not sent does
//! not make the user wait; a code that may have been sent stays valid. Guesses are handled by
//! [`crate::login::identity`].
//!
//! Guesses are counted by number and address, so a stranger's wrong guesses burn the stranger's chance and not the
//! owner's. Three counts bound what one code stands: `attempts_max` (5) of the address that asked for it, 5 of the
//! addresses from which the account was used before, and [`OtpRules::others_max`] (20) of all other addresses together.
//! So all addresses together have at most 30 guesses at one code: with six digits 30 / 1,000,000. A number gets at most
//! 20 codes a day ([`crate::sms::shield`]), so a stranger with any number of addresses opens one given account with a
//! chance of 600 / 1,000,000 a day. Shorter codes have fewer guesses for others: a code of four digits 15 in all.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_store::{ChallengeDraft, ChallengeOpened, Store, StoreError};
use hmac::Mac;

use crate::ids::{LocalIds, UserId};
use crate::login::group::Group;
use crate::login::method::{ByCode, ByPassword};
use crate::phone::{ascii_digit, is_separator};
use crate::secret::{MacKey, SubKey};
use crate::share::network;
use crate::sms::{Disposition, SmsBody, SmsClass, SmsError, SmsMessage, SmsPort};
use crate::{Checked, Clock, PhoneNumber, Range, RuleError, Rules};

/// Placeholder for the code in [`OtpRules::text`].
pub const CODE_PLACEHOLDER: &str = "{code}";

/// The message when nothing else is configured.
pub const TEXT_DEFAULT: &str = "Your code: {code}";

pub const LENGTH_DIGITS: Range<u8> = Range::new(4, 10, 6);
pub const TTL_SECS: Range<u64> = Range::new(1, 600, 240);
/// Guesses at a code from one address.
pub const ATTEMPTS: Range<u32> = Range::new(1, 10, 5);
pub const TEXT_CHARS_MAX: usize = 300;
/// Time for sending a code over all providers.
pub const SEND_TIMEOUT_SECS: Range<u64> = Range::new(1, 60, 20);

/// The provider's name in results for test numbers, to which nothing is sent.
pub const TEST_NUMBER: &str = "test number";

/// Length, lifetime and sending of codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtpRules {
    /// See [`LENGTH_DIGITS`].
    pub length: u8,
    /// From sending to refusal: see [`TTL_SECS`].
    pub ttl: Duration,
    /// See [`ATTEMPTS`].
    pub attempts_max: u32,
    /// Minimum time between two codes, at most `ttl`. Default `None`: until the first code expires, as in the original.
    pub resend_after: Option<Duration>,
    /// The message, with `{code}` in it, at most [`TEXT_CHARS_MAX`] characters.
    pub text: String,
    /// Logical name of a template to send instead; a provider without it sends the text.
    pub template: Option<String>,
    /// See [`SEND_TIMEOUT_SECS`].
    pub send_timeout: Duration,
    /// The site that codes are for. The message then ends with `@domain #code`, which phones fill in on that site
    /// (WebOTP, the origin-bound one-time codes of the WICG). Default `None`.
    pub domain: Option<String>,
    /// Numbers in canonical form with a fixed code. Nothing is sent to them. For trials and for the reviewers of
    /// application stores. Default none.
    pub test_numbers: BTreeMap<String, String>,
}

impl Default for OtpRules {
    fn default() -> Self {
        OtpRules {
            length: LENGTH_DIGITS.default,
            ttl: TTL_SECS.default_secs(),
            attempts_max: ATTEMPTS.default,
            resend_after: None,
            text: TEXT_DEFAULT.to_owned(),
            template: None,
            send_timeout: SEND_TIMEOUT_SECS.default_secs(),
            domain: None,
            test_numbers: BTreeMap::new(),
        }
    }
}

impl OtpRules {
    /// # Errors
    ///
    /// The first rule that is out of its range.
    pub fn check(&self) -> Result<(), RuleError> {
        LENGTH_DIGITS.check("length", self.length)?;
        TTL_SECS.check_secs("ttl", self.ttl)?;
        ATTEMPTS.check("attempts_max", self.attempts_max)?;
        if let Some(resend_after) = self.resend_after.filter(|gap| *gap > self.ttl) {
            return Err(RuleError::new("resend_after", format!("{resend_after:?}"), "at most ttl"));
        }
        if !self.text.contains(CODE_PLACEHOLDER) {
            return Err(RuleError::new("text", "a text without it", "a text with {code} in it"));
        }
        let characters = self.text.chars().count();
        if characters > TEXT_CHARS_MAX {
            let accepted = format!("at most {TEXT_CHARS_MAX} characters");
            return Err(RuleError::new("text", format!("{characters} characters"), accepted));
        }
        SEND_TIMEOUT_SECS.check_secs("send_timeout", self.send_timeout)?;
        if let Some(domain) = self.domain.as_ref().filter(|domain| !domain_fits(domain)) {
            return Err(RuleError::new("domain", domain, "a host's name such as example.com"));
        }
        let digits = |code: &String| {
            code.len() == usize::from(self.length) && code.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !self.test_numbers.values().all(digits) {
            return Err(RuleError::new(
                "test_numbers",
                "another code",
                "codes of as many digits as `length`",
            ));
        }
        Ok(())
    }
}

impl OtpRules {
    /// From a code to the next one for the same number.
    #[must_use]
    pub fn resend_gap(&self) -> Duration {
        self.resend_after.unwrap_or(self.ttl)
    }

    /// Guesses at one code of all addresses together that neither asked for it nor are known. More of them could guess
    /// a short code, fewer would let a handful of addresses use them up against a user who changed networks.
    #[must_use]
    pub fn others_max(&self) -> u32 {
        let times = match self.length {
            ..=4 => 1,
            5 => 2,
            _ => 4,
        };
        self.attempts_max * times
    }
}

impl Rules for OtpRules {
    fn check(&self) -> Result<(), RuleError> {
        OtpRules::check(self)
    }
}

/// Whether a text is a host name: letters, digits, hyphens and dots.
#[must_use]
pub fn domain_fits(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    text.len() <= 100 && text.split('.').all(label)
}

/// What a code is for. A number has one valid code of each purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Login,
    PasswordReset,
    /// To give the number to this account.
    AddNumber(UserId),
}

impl Purpose {
    fn label(self) -> &'static str {
        match self {
            Purpose::Login => "login",
            Purpose::PasswordReset => "password-reset",
            Purpose::AddNumber(_) => "add-number",
        }
    }

    /// The key of the number's challenge in the store.
    pub(crate) fn challenge(self, number: &PhoneNumber) -> String {
        match self {
            Purpose::Login => number.e164().to_owned(),
            // No number contains a slash.
            Purpose::PasswordReset => format!("{}/reset", number.e164()),
            Purpose::AddNumber(user) => format!("{}/add-{user}", number.e164()),
        }
    }
}

/// A code was handed to a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub expires_in: Duration,
    /// The provider that took the message, for the log.
    pub provider: String,
}

#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A valid code was sent. The next one is available after this time.
    #[error("a code is pending")]
    Pending { retry_after: Duration },
    /// No provider certainly took the message. The next code is available at once.
    #[error(transparent)]
    Sms(SmsError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no randomness. Nothing changed.
    #[error("no randomness from the operating system")]
    Randomness(#[source] std::io::Error),
}

/// Creates and sends codes.
pub struct OtpService {
    store: Store,
    clock: Arc<dyn Clock>,
    rules: OtpRules,
    pepper: MacKey,
    ids: Arc<LocalIds>,
}

impl OtpService {
    /// # Errors
    ///
    /// The first rule that is out of its range.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        rules: OtpRules,
        pepper: SubKey,
    ) -> Result<Self, RuleError> {
        rules.check()?;
        Ok(OtpService { store, clock, rules, pepper: MacKey::new(&pepper), ids: Arc::default() })
    }

    /// The same service with other rules. Message ids continue.
    ///
    /// # Errors
    ///
    /// The first rule that is out of its range.
    pub fn with_rules(&self, rules: OtpRules) -> Result<Self, RuleError> {
        Checked::new(rules).map(|rules| self.under(rules))
    }

    /// [`OtpService::with_rules`] with rules that were checked before.
    #[must_use]
    pub fn under(&self, rules: Checked<OtpRules>) -> Self {
        let rules = rules.into_inner();
        let (store, clock, pepper) = (self.store.clone(), Arc::clone(&self.clock), self.pepper.clone());
        OtpService { store, clock, rules, pepper, ids: Arc::clone(&self.ids) }
    }

    /// Shares the source of message ids with all other messages.
    #[must_use]
    pub fn with_ids(mut self, ids: Arc<LocalIds>) -> Self {
        self.ids = ids;
        self
    }

    #[must_use]
    pub fn rules(&self) -> &OtpRules {
        &self.rules
    }

    /// Whether a code is pending, in which case [`OtpService::send`] sends none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Read`], [`StoreError::Record`].
    pub async fn is_pending(
        &self,
        purpose: Purpose,
        number: &PhoneNumber,
        from: IpAddr,
    ) -> Result<bool, StoreError> {
        let challenge = purpose.challenge(number);
        self.store.challenge_pending(&challenge, self.guesser(from), self.clock.now()).await
    }

    /// Opens a challenge for a login and sends its code.
    ///
    /// Cancellation: must run to completion once begun. A dropped call leaves a code pending that may not have been
    /// sent. Callers spawn it, so that it outlives the client's connection.
    ///
    /// # Errors
    ///
    /// See [`SendError`]. The challenge is dropped when the message was certainly not sent. When that is unknown, its
    /// code stays valid and another one is available at once.
    pub async fn send(
        &self,
        _by: ByCode,
        number: &PhoneNumber,
        from: IpAddr,
        sms: &dyn SmsPort,
    ) -> Result<Sent, SendError> {
        self.send_for(Purpose::Login, number, from, sms).await
    }

    /// [`OtpService::send`] whose traces do not tell whether the number has an account: without one, and when no
    /// provider takes the message, the same challenge stays open as after a code that was sent.
    ///
    /// # Errors
    ///
    /// As for [`OtpService::send`]. Callers reply before they have the result.
    pub async fn send_alike(
        &self,
        _by: ByCode,
        number: &PhoneNumber,
        account: bool,
        from: IpAddr,
        sms: &dyn SmsPort,
    ) -> Result<Option<Sent>, SendError> {
        let (id, code) = self.open(Purpose::Login, number, from).await?;
        if !account {
            return Ok(None);
        }
        self.deliver(number, id, &code, sms).await.map(Some).map_err(SendError::Sms)
    }

    /// [`OtpService::send`] for a code that gives the number to an account. It is sent whether or not another account
    /// has the number, so that only the number's owner learns of that account.
    ///
    /// # Errors
    ///
    /// As for [`OtpService::send`].
    pub async fn send_to_add(
        &self,
        number: &PhoneNumber,
        user: UserId,
        from: IpAddr,
        sms: &dyn SmsPort,
    ) -> Result<Sent, SendError> {
        self.send_for(Purpose::AddNumber(user), number, from, sms).await
    }

    /// [`OtpService::send`] for a code that resets the password of the number's account in a group. Without such an
    /// account (`None`) it makes the same store changes and sends nothing, so that neither the store nor the next guess
    /// reveals which case it was.
    ///
    /// # Errors
    ///
    /// As for [`OtpService::send`]. Callers reply before they have the result, so the reply reveals nothing either.
    pub async fn send_reset(
        &self,
        _by: ByPassword,
        number: &PhoneNumber,
        group: Group,
        from: IpAddr,
        sms: &dyn SmsPort,
    ) -> Result<Option<Sent>, SendError> {
        if self.store.user_by_identity(group.number(), number.e164()).await?.is_some_and(|user| user.active) {
            return self.send_for(Purpose::PasswordReset, number, from, sms).await.map(Some);
        }
        self.open(Purpose::PasswordReset, number, from).await.map(|_| None)
    }

    async fn send_for(
        &self,
        purpose: Purpose,
        number: &PhoneNumber,
        from: IpAddr,
        sms: &dyn SmsPort,
    ) -> Result<Sent, SendError> {
        let (id, code) = self.open(purpose, number, from).await?;
        match self.deliver(number, id, &code, sms).await {
            Ok(sent) => Ok(sent),
            Err(error) => {
                let challenge = purpose.challenge(number);
                let undone = match (error.disposition(), purpose) {
                    (Disposition::Final | Disposition::TryNext, Purpose::Login | Purpose::AddNumber(_)) => {
                        self.store.challenge_release(&challenge, id).await
                    }
                    // Keep the challenge: the next guess would otherwise take less work and reveal that a message was
                    // tried, so that the number has an account.
                    (Disposition::Unknown, _) | (_, Purpose::PasswordReset) => {
                        self.store.challenge_allow_resend(&challenge, id, self.clock.now()).await
                    }
                };
                if let Err(store_error) = undone {
                    // The caller gets the SMS error; the code that stays pending only delays a retry.
                    tracing::warn!(error = %store_error, phone = %number, "a code that was not sent stays pending");
                }
                Err(SendError::Sms(error))
            }
        }
    }

    async fn deliver(
        &self,
        number: &PhoneNumber,
        id: u64,
        code: &str,
        sms: &dyn SmsPort,
    ) -> Result<Sent, SmsError> {
        let expires_in = self.rules.ttl;
        if self.rules.test_numbers.contains_key(number.e164()) {
            tracing::warn!(phone = %number, "a test number was given its fixed code; nothing was sent");
            return Ok(Sent { expires_in, provider: TEST_NUMBER.to_owned() });
        }
        let receipt = sms.send(self.message(number, id, code)).await?;
        Ok(Sent { expires_in, provider: receipt.provider })
    }

    /// Opens a challenge. Returns its id and its code.
    async fn open(
        &self,
        purpose: Purpose,
        number: &PhoneNumber,
        from: IpAddr,
    ) -> Result<(u64, String), SendError> {
        let code = match self.rules.test_numbers.get(number.e164()) {
            Some(code) => code.clone(),
            None => random_code(self.rules.length).map_err(SendError::Randomness)?,
        };
        let now = self.clock.now();
        let id = self.ids.next(now);
        let opened = self
            .store
            .challenge_open(ChallengeDraft {
                number: purpose.challenge(number),
                id,
                mac: self.mac(purpose, number, &code),
                created_at: now,
                expires_at: now.plus(self.rules.ttl),
                attempts_max: self.rules.attempts_max,
                others_max: self.rules.others_max(),
                from: self.guesser(from),
                resend_at: now.plus(self.rules.resend_gap()),
            })
            .await?;
        match opened {
            ChallengeOpened::Opened => Ok((id, code)),
            ChallengeOpened::Pending { retry_at } => {
                Err(SendError::Pending { retry_after: retry_at.since(now) })
            }
        }
    }

    /// The MAC that the store keeps and compares guesses with. Digits of all scripts are equal and separators are
    /// ignored, because people copy codes from messages.
    pub(crate) fn mac(&self, purpose: Purpose, number: &PhoneNumber, code: &str) -> [u8; 32] {
        let mut mac = self.pepper.begin();
        // Neither a number nor a label contains a NUL, so different inputs are different bytes.
        mac.update(purpose.label().as_bytes());
        mac.update(b"\0");
        mac.update(number.e164().as_bytes());
        mac.update(b"\0");
        for character in code.chars().filter(|character| !is_separator(*character)) {
            let mut utf8 = [0; 4];
            mac.update(ascii_digit(character).unwrap_or(character).encode_utf8(&mut utf8).as_bytes());
        }
        mac.finalize().into_bytes().into()
    }

    /// What guesses from an address are counted under: a keyed hash, of the network for IPv6, where one subscriber has
    /// a /64.
    pub(crate) fn guesser(&self, from: IpAddr) -> u64 {
        let from = from.to_canonical();
        let from = if from.is_ipv6() { network(from) } else { from };
        let mac = self.labelled_mac("guesser", &from.to_string());
        u64::from_le_bytes(*mac.first_chunk().expect("a MAC has 32 bytes"))
    }

    /// A keyed MAC of a text for another use than codes. The label must differ from those of [`Purpose`].
    pub(crate) fn labelled_mac(&self, label: &'static str, text: &str) -> [u8; 32] {
        let mut mac = self.pepper.begin();
        mac.update(label.as_bytes());
        mac.update(b"\0");
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().into()
    }

    fn message(&self, number: &PhoneNumber, local_id: u64, code: &str) -> SmsMessage {
        let mut text = self.rules.text.replace(CODE_PLACEHOLDER, code);
        if let Some(domain) = &self.rules.domain {
            // The format requires it as the last line.
            text = format!("{}\n\n@{domain} #{code}", text.trim_end());
        }
        let body = match &self.rules.template {
            None => SmsBody::Text { text },
            Some(name) => SmsBody::Template {
                name: name.clone(),
                values: vec![("code".to_owned(), code.to_owned())],
                fallback_text: Some(text),
            },
        };
        SmsMessage {
            to: number.clone(),
            local_id,
            body,
            class: SmsClass::Otp,
            deadline: Instant::now() + self.rules.send_timeout,
        }
    }
}

impl fmt::Debug for OtpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtpService").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// `length` decimal digits, 1 to 19, all combinations equally likely.
fn random_code(length: u8) -> std::io::Result<String> {
    let codes = 10u64.pow(u32::from(length));
    // Numbers above the last whole multiple would favour low codes, so they are drawn again (once in 1.8e9 draws for
    // ten digits).
    let fair = u64::MAX - u64::MAX % codes;
    loop {
        let drawn = getrandom::u64().map_err(std::io::Error::other)?;
        if drawn < fair {
            return Ok(format!("{:0width$}", drawn % codes, width = usize::from(length)));
        }
    }
}

#[cfg(test)]
mod tests;
