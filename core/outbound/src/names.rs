//! The interfaces of `wit/v0.1` that a plugin may export.

pub const SMS_TEXT: &str = "sms-text";
pub const SMS_TEMPLATE: &str = "sms-template";
pub const SMS_STATUS: &str = "sms-status";
pub const SMS_CREDIT: &str = "sms-credit";
pub const SMS_PUSH: &str = "sms-push";

pub const PAYMENT: &str = "payment-gateway";
pub const PAYMENT_UNVERIFIED: &str = "payment-unverified";
pub const PAYMENT_REVERSE: &str = "payment-reverse";
