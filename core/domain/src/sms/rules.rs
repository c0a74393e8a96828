//! The rules of sending, and when a provider is polled for the delivery of a message.

use std::time::Duration;

use crate::Range;

/// When a provider is polled for delivery, counted from the previous answer.
pub(super) const POLL_AFTER: [Duration; 6] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(12 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];

/// How long until an unsent message expires.
pub const NOTICE_LIFETIME_SECS: Range<u64> = Range::new(60, 86_400, 3600);
/// Time of one round over the providers.
pub const ROUND_SECS: Range<u64> = Range::new(1, 60, 20);
/// Before the second round; doubles with each further one.
pub const RETRY_SECS: Range<u64> = Range::new(1, 3600, 5);
/// The longest time between two rounds.
pub const RETRY_LONGEST_SECS: Range<u64> = Range::new(1, 3600, 300);
/// How long a code is retried while its caller waits; 0: one round only.
pub const OTP_RETRY_SECS: Range<u64> = Range::new(0, 30, 5);
/// Waiting messages sent at once.
pub const WORKERS: Range<usize> = Range::new(1, 1024, 32);
/// Queued messages.
pub const QUEUE_MESSAGES: Range<u64> = Range::new(1, 10_000_000, 200_000);
/// Idempotency keys kept.
pub const IDEMPOTENCY_KEYS: Range<u64> = Range::new(1, 10_000_000, 100_000);
/// How long a message's record is kept.
pub const KEEP_DAYS: Range<u64> = Range::new(1, 3650, 30);

/// How messages are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmsRules {
    /// See [`NOTICE_LIFETIME_SECS`].
    pub notice_lifetime: Duration,
    /// See [`ROUND_SECS`].
    pub round_timeout: Duration,
    /// See [`RETRY_SECS`].
    pub retry_min: Duration,
    /// See [`RETRY_LONGEST_SECS`].
    pub retry_max: Duration,
    /// How long a code that no provider took is retried while its caller waits; never past the message's own deadline.
    /// See [`OTP_RETRY_SECS`].
    pub otp_retry: Duration,
    /// See [`WORKERS`].
    pub workers_max: usize,
    /// See [`QUEUE_MESSAGES`].
    pub queue_max: u64,
    /// See [`IDEMPOTENCY_KEYS`].
    pub idempotency_keys_max: u64,
    /// Wait before a provider is first polled for delivery. Default 1 min.
    pub poll_first: Duration,
}

impl Default for SmsRules {
    fn default() -> Self {
        SmsRules {
            notice_lifetime: NOTICE_LIFETIME_SECS.default_secs(),
            round_timeout: ROUND_SECS.default_secs(),
            retry_min: RETRY_SECS.default_secs(),
            retry_max: RETRY_LONGEST_SECS.default_secs(),
            otp_retry: OTP_RETRY_SECS.default_secs(),
            workers_max: WORKERS.default,
            queue_max: QUEUE_MESSAGES.default,
            idempotency_keys_max: IDEMPOTENCY_KEYS.default,
            poll_first: POLL_AFTER[0],
        }
    }
}
