//! What one configuration serves: a slice per feature, with its services and configured rules.
//!
//! A reload builds a new generation and swaps it in at once. A request takes one generation at its start and keeps it,
//! so it never sees two configurations.

use std::sync::Arc;

use chelseru_config::Origins;

use crate::chat::Chat;
use crate::console::Console;
use crate::files::Files;
use crate::login::Login;
use crate::money::Money;
use crate::operator::Operator;
use crate::personal::Personal;
use crate::sms::Sms;

/// All slices of one configuration.
pub struct Generation {
    pub login: Arc<Login>,
    pub sms: Arc<Sms>,
    pub money: Arc<Money>,
    pub chat: Arc<Chat>,
    pub files: Arc<Files>,
    pub operator: Arc<Operator>,
    pub personal: Arc<Personal>,
    pub console: Arc<Console>,
    /// Web pages that may call from another site.
    pub origins: Origins,
}

/// Gives the generation that serves now.
pub trait Generations: Send + Sync {
    fn current(&self) -> Arc<Generation>;
}

/// A feature's part of a generation.
pub(crate) trait Slice: Send + Sync + Sized + 'static {
    fn of(generation: &Generation) -> Arc<Self>;
}

macro_rules! slices {
    ($($slice:ident $field:ident),+) => {
        $(impl Slice for $slice {
            fn of(generation: &Generation) -> Arc<Self> {
                generation.$field.clone()
            }
        })+
    };
}

slices!(
    Login login, Sms sms, Money money, Chat chat, Files files, Operator operator, Personal personal, Console console
);
