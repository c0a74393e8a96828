//! The rules of sending, and when a provider is asked what became of a message.

use std::time::Duration;

/// When a provider is asked what became of a message, counted from the answer before.
pub(super) const POLL_AFTER: [Duration; 6] = [
    Duration::from_secs(60),
    Duration::from_secs(5 * 60),
    Duration::from_secs(30 * 60),
    Duration::from_secs(2 * 60 * 60),
    Duration::from_secs(12 * 60 * 60),
    Duration::from_secs(24 * 60 * 60),
];

/// How messages are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmsRules {
    /// How long a notice is worth sending. Default 1 h.
    pub notice_lifetime: Duration,
    /// Time of one round over the providers. Default 20 s.
    pub round_timeout: Duration,
    /// Before the second round; doubles with each further one. Default 5 s.
    pub retry_min: Duration,
    /// Default 5 min.
    pub retry_max: Duration,
    /// How long a code that no provider took is tried again while its asker waits; never past the message's own
    /// deadline. Zero: one round only. Default 5 s.
    pub otp_retry: Duration,
    /// Waiting messages sent at once. Default 32.
    pub workers_max: usize,
    /// Messages that may wait. Default 200,000.
    pub queue_max: u64,
    /// Idempotency keys remembered. Default 100,000.
    pub idempotency_keys_max: u64,
    /// Before a provider is first asked what became of a message. Default 1 min.
    pub poll_first: Duration,
}

impl Default for SmsRules {
    fn default() -> Self {
        SmsRules {
            notice_lifetime: Duration::from_secs(60 * 60),
            round_timeout: Duration::from_secs(20),
            retry_min: Duration::from_secs(5),
            retry_max: Duration::from_secs(5 * 60),
            otp_retry: Duration::from_secs(5),
            workers_max: 32,
            queue_max: 200_000,
            idempotency_keys_max: 100_000,
            poll_first: POLL_AFTER[0],
        }
    }
}
