//! Passwords: which are accepted, and how they are stored.
//!
//! A password has 8 to 128 characters of any kind and is not a common one; there are no other rules (NIST SP 800-63B,
//! section 3.1.1: length and a blocklist, no rules of composition). It is stored as Argon2id with 19 MiB, 2 passes and
//! 1 lane (OWASP Password Storage Cheat Sheet) in the PHC text form. That form names its own cost, so the cost can rise
//! later without a migration.
//!
//! A password is hashed in Unicode's form NFC, so that keyboards that write `é` in one or in two characters open the
//! same account. A text that is not in this form is compared as typed too, for hashes from before this rule.
//!
//! One hash takes tens of milliseconds and 19 MiB. Hashing runs on the blocking pool with a limit on concurrent hashes
//! and a bounded queue; when the queue is full the result is [`HashError::Busy`], at once. Operators have places of
//! their own in the queue ([`OPERATOR_PLACES`]), so clients cannot fill it against them. Invariants: no `Debug` text
//! contains a password; a check against an unknown account costs as much as one against a known account.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use icu_normalizer::ComposingNormalizerBorrowed;
use tokio::sync::Semaphore;

use crate::Range;
use crate::login::account::look_alike;
use crate::share::{Share, ShareLimits, Shares};

mod common;
mod imported;

pub use imported::{ForeignHash, ITERATIONS_MAX, django_hash};

/// Characters of a new password.
pub const CHARS_MIN: usize = 8;
pub const CHARS_MAX: usize = 128;

/// Hashes that run at once, each with 19 MiB and one core.
pub const HASHES_RUNNING: Range<usize> = Range::new(1, 64, 2);
/// Hashes that wait for their turn; one more is [`HashError::Busy`].
pub const HASHES_WAITING: Range<usize> = Range::new(0, 4096, 64);

/// Percent of the running and waiting hashes that one network may cause, and one address.
const NETWORK_PERCENT: u64 = 50;
const ADDRESS_PERCENT: u64 = 25;

/// Places of operators, beside those of clients. They wait for their turn behind the hashes that came before, and hold
/// no memory meanwhile.
const OPERATOR_PLACES: ShareLimits = ShareLimits { total: 8, network: 8, address: 4 };

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    /// In NFC.
    text: String,
    /// As typed, when that differs.
    typed: Option<String>,
}

impl Password {
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let typed = text.into();
        match normalized(&typed) {
            Cow::Borrowed(_) => Password { text: typed, typed: None },
            Cow::Owned(text) => Password { text, typed: Some(typed) },
        }
    }

    /// Whether this is the password of a stored text.
    fn matches(&self, kept: &str) -> Result<bool, HashError> {
        for text in [Some(&self.text), self.typed.as_ref()].into_iter().flatten() {
            if check(text, kept)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Why this password is refused for an account with this user name; empty when it is accepted.
    #[must_use]
    pub fn faults(&self, username: &str) -> Vec<PasswordFault> {
        let mut faults = Vec::new();
        let characters = self.text.chars().count();
        if characters < CHARS_MIN {
            faults.push(PasswordFault::TooShort);
        }
        if characters > CHARS_MAX {
            faults.push(PasswordFault::TooLong);
            return faults;
        }
        if self.text.eq_ignore_ascii_case(username) || look_alike(&self.text) == look_alike(username) {
            faults.push(PasswordFault::LikeUsername);
        }
        if common::is_common(&self.text) {
            faults.push(PasswordFault::Common);
        }
        faults
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Why a password is refused. The first and last texts are the original's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordFault {
    #[error("This password is too short. It must contain at least {} characters.", CHARS_MIN)]
    TooShort,
    #[error("This password is too long. It must contain at most {} characters.", CHARS_MAX)]
    TooLong,
    #[error("The password is too similar to the username.")]
    LikeUsername,
    #[error("This password is too common.")]
    Common,
}

#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// Too many hashes wait. A retry after a second can help.
    #[error("too many passwords wait to be hashed")]
    Busy,
    #[error("no randomness from the operating system")]
    Randomness(#[source] std::io::Error),
    /// A stored hash is damaged, or memory ran out.
    #[error("a password could not be hashed: {0}")]
    Failed(String),
}

/// Limits on running and waiting hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashLimits {
    /// See [`HASHES_RUNNING`].
    pub running_max: usize,
    /// See [`HASHES_WAITING`].
    pub waiting_max: usize,
}

impl Default for HashLimits {
    fn default() -> Self {
        HashLimits { running_max: HASHES_RUNNING.default, waiting_max: HASHES_WAITING.default }
    }
}

/// The pool that hashes; clones share it.
#[derive(Clone)]
pub struct PasswordHashes {
    turns: Arc<Semaphore>,
    /// Running and waiting, of which one address has a share.
    places: Arc<Shares>,
    /// The same of operators.
    operator_places: Arc<Shares>,
    done: Arc<AtomicU64>,
    limits: HashLimits,
}

impl PasswordHashes {
    #[must_use]
    pub fn new(limits: HashLimits) -> Self {
        let turns = Arc::new(Semaphore::new(limits.running_max.max(1)));
        let total = (limits.running_max + limits.waiting_max) as u64;
        let places = Shares::new(ShareLimits::percent(total, NETWORK_PERCENT, ADDRESS_PERCENT));
        let operator_places = Shares::new(OPERATOR_PLACES);
        PasswordHashes { turns, places, operator_places, done: Arc::default(), limits }
    }

    #[must_use]
    pub fn limits(&self) -> HashLimits {
        self.limits
    }

    /// Hashes begun. For metrics, and for tests of how much work a reply takes.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The stored text of a password.
    ///
    /// # Errors
    ///
    /// See [`HashError`].
    pub async fn hash(&self, password: &Password, from: Option<IpAddr>) -> Result<String, HashError> {
        self.hash_at(self.enter(from)?, password).await
    }

    /// [`PasswordHashes::hash`] for an operator on the gateway's machine.
    ///
    /// # Errors
    ///
    /// See [`HashError`].
    pub async fn hash_as_operator(&self, password: &Password) -> Result<String, HashError> {
        self.hash_at(self.enter_as_operator(None)?, password).await
    }

    async fn hash_at(&self, place: HashPlace, password: &Password) -> Result<String, HashError> {
        let password = password.clone();
        self.run(place, move || hash_now(&password)).await
    }

    /// A place among those that wait, for a client at an address. Taken before a guess is counted, so that a full queue
    /// is no wrong guess.
    ///
    /// # Errors
    ///
    /// [`HashError::Busy`]: the queue, or the share of the address, is full.
    pub fn enter(&self, from: Option<IpAddr>) -> Result<HashPlace, HashError> {
        place(&self.places, from)
    }

    /// [`PasswordHashes::enter`] for an operator, or a visitor of the operators' listener.
    ///
    /// # Errors
    ///
    /// [`HashError::Busy`]: the operators' places, or those of the address, are taken.
    pub fn enter_as_operator(&self, from: Option<IpAddr>) -> Result<HashPlace, HashError> {
        place(&self.operator_places, from)
    }

    /// Whether a password matches its stored text. Without a text (unknown account, or no password) the result is
    /// false, after the same amount of work.
    ///
    /// # Errors
    ///
    /// See [`HashError`].
    pub async fn verify(
        &self,
        place: HashPlace,
        password: &Password,
        kept: Option<String>,
    ) -> Result<bool, HashError> {
        let password = password.clone();
        self.run(place, move || {
            let known = kept.is_some();
            Ok(password.matches(kept.as_deref().unwrap_or(DECOY))? && known)
        })
        .await
    }

    /// The text to keep in the place of one that was imported, for a password that was found right. `None` when the
    /// kept one is up to date, and when the queue is full: the login goes on, and the next one tries again.
    ///
    /// # Errors
    ///
    /// [`HashError::Failed`].
    pub async fn renewed(
        &self,
        password: &Password,
        kept: &str,
        from: Option<IpAddr>,
    ) -> Result<Option<String>, HashError> {
        if !imported::is_imported(kept) {
            return Ok(None);
        }
        match self.hash(password, from).await {
            Ok(hash) => Ok(Some(hash)),
            Err(HashError::Busy) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Runs one hash when its turn comes. The work holds the turn, not the caller: a caller that goes away does not let
    /// more hashes run than allowed.
    async fn run<T: Send + 'static>(
        &self,
        place: HashPlace,
        work: impl FnOnce() -> Result<T, HashError> + Send + 'static,
    ) -> Result<T, HashError> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| HashError::Busy)?;
        self.done.fetch_add(1, Ordering::Relaxed);
        let done = tokio::task::spawn_blocking(move || {
            let _held = (turn, place);
            work()
        });
        done.await.map_err(|error| HashError::Failed(error.to_string()))?
    }
}

impl fmt::Debug for PasswordHashes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PasswordHashes").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A place of one running or waiting hash.
pub struct HashPlace(#[expect(dead_code, reason = "it is held")] Share);

fn place(places: &Arc<Shares>, from: Option<IpAddr>) -> Result<HashPlace, HashError> {
    let from = from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    places.take(from, 1).map(HashPlace).map_err(|_| HashError::Busy)
}

/// The hash that passwords of unknown accounts are compared with. It matches no password and costs the same. It is a
/// constant because the first comparison would take twice as long if it had to be computed.
const DECOY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$Y2hlbHNlcnUgZGVjb3kgc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

fn hash_now(password: &Password) -> Result<String, HashError> {
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| HashError::Randomness(std::io::Error::other(error)))?;
    let hash = hasher().hash_password_with_salt(password.text.as_bytes(), &salt);
    Ok(hash.map_err(|error| HashError::Failed(error.to_string()))?.to_string())
}

fn check(text: &str, kept: &str) -> Result<bool, HashError> {
    if imported::is_imported(kept) {
        let damaged = || HashError::Failed("an imported hash is damaged".to_owned());
        return imported::verify(text, kept).ok_or_else(damaged);
    }
    match hasher().verify_password(text.as_bytes(), kept) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(HashError::Failed(error.to_string())),
    }
}

fn normalized(text: &str) -> Cow<'_, str> {
    ComposingNormalizerBorrowed::new_nfc().normalize(text)
}

fn hasher() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).expect("constant parameters that a test tried");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(password: &str) -> Vec<PasswordFault> {
        Password::new(password).faults("alice")
    }

    #[test]
    fn eight_to_128_characters_of_any_kind_are_taken() {
        assert_eq!(faults("kq3 vzu"), [PasswordFault::TooShort]);
        assert_eq!(faults("kq3 vzux"), []);
        assert_eq!(faults("رمز من ۸"), []);
        assert_eq!(faults("\u{1F40E}\u{1F50B}\u{1F4CE}\u{2702}\u{1F40E}\u{1F50B}\u{1F4CE}\u{2708}"), []);
        assert_eq!(faults("83019274"), []);
        let long = "staple horse battery ".repeat(7);
        assert_eq!(faults(&long[..128]), []);
        assert_eq!(faults(&long[..129]), [PasswordFault::TooLong]);
        assert_eq!(faults("123"), [PasswordFault::TooShort, PasswordFault::Common]);
        assert_eq!(Password::new("Alice.Lidell").faults("alice.lidell"), [PasswordFault::LikeUsername]);
        assert_eq!(Password::new("عليرضا۱۲۳").faults("علیرضا123"), [PasswordFault::LikeUsername]);
    }

    #[test]
    fn a_password_is_the_same_in_every_unicode_form() {
        let (composed, decomposed) = (Password::new("caf\u{e9} noir 7"), Password::new("cafe\u{301} noir 7"));
        let kept = hash_now(&composed).unwrap();
        assert!(composed.matches(&kept).unwrap() && decomposed.matches(&kept).unwrap());
        assert_eq!(hash_now(&decomposed).map(|kept| composed.matches(&kept).unwrap()).ok(), Some(true));
        assert!(!Password::new("cafe noir 7").matches(&kept).unwrap());
        // A hash from before the rule, of the text as typed.
        let old = Password { text: "cafe\u{301} noir 7".to_owned(), typed: None };
        let old = hash_now(&old).unwrap();
        assert!(decomposed.matches(&old).unwrap() && !composed.matches(&old).unwrap());
    }

    #[tokio::test]
    async fn a_password_is_kept_as_argon2id_at_the_recommended_cost() {
        let hashes = PasswordHashes::new(HashLimits::default());
        let kept = hashes.hash(&Password::new("right horse"), None).await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert_ne!(kept, hashes.hash(&Password::new("right horse"), None).await.unwrap());
        assert!(
            hashes
                .verify(hashes.enter(None).unwrap(), &Password::new("right horse"), Some(kept.clone()))
                .await
                .unwrap()
        );
        assert!(
            !hashes
                .verify(hashes.enter(None).unwrap(), &Password::new("right horsf"), Some(kept))
                .await
                .unwrap()
        );
        assert!(!hashes.verify(hashes.enter(None).unwrap(), &Password::new("nobody's"), None).await.unwrap());
        assert!(
            hashes
                .verify(hashes.enter(None).unwrap(), &Password::new("x"), Some("$argon2id$broken".to_owned()))
                .await
                .is_err()
        );
        assert_eq!(format!("{:?}", Password::new("right horse")), "Password(..)");
    }

    #[tokio::test]
    async fn an_account_that_does_not_exist_costs_as_much() {
        let hashes = PasswordHashes::new(HashLimits { running_max: 1, waiting_max: 1 });
        let kept = hashes.hash(&Password::new("right horse"), None).await.unwrap();
        // The text holds the cost of a comparison: algorithm, version, memory, passes, lanes, and the hash's length.
        let cost = |text: &str| {
            let parts: Vec<String> = text.split('$').map(str::to_owned).collect();
            (parts[..4].to_vec(), parts[5].len())
        };
        assert_eq!(cost(&kept), cost(DECOY));
        // Each makes one hash.
        for kept in [Some(kept), None] {
            let before = hashes.done();
            assert!(
                !hashes
                    .verify(hashes.enter(None).unwrap(), &Password::new("wrong horse"), kept)
                    .await
                    .unwrap()
            );
            assert_eq!(hashes.done(), before + 1);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_hash_more_than_may_wait_is_refused_at_once() {
        let limits = HashLimits { running_max: 1, waiting_max: 2 };
        let hashes = PasswordHashes::new(limits);
        let password = Password::new("right horse");
        let calls = (0..4).map(|_| {
            let (hashes, password) = (hashes.clone(), password.clone());
            async move { hashes.hash(&password, None).await }
        });
        let mut set = tokio::task::JoinSet::new();
        // One after another, so that the order is known.
        for call in calls {
            let present = hashes.places.total();
            set.spawn(call);
            while present < 3 && hashes.places.total() <= present {
                tokio::task::yield_now().await;
            }
        }
        let results = set.join_all().await;
        let busy = results.iter().filter(|result| matches!(result, Err(HashError::Busy))).count();
        assert_eq!((results.len(), busy), (4, 1), "{results:?}");
        assert!(hashes.hash(&password, None).await.is_ok(), "its turn is given back");
        assert_eq!(hashes.places.total(), 0);
    }

    #[tokio::test]
    async fn clients_cannot_take_the_places_of_operators() {
        let hashes = PasswordHashes::new(HashLimits { running_max: 1, waiting_max: 2 });
        let clients: Vec<HashPlace> = (0..3).map(|_| hashes.enter(None).unwrap()).collect();
        assert!(matches!(hashes.enter(None), Err(HashError::Busy)));
        let kept = hashes.hash_as_operator(&Password::new("right horse")).await.unwrap();
        let place = hashes.enter_as_operator(None).unwrap();
        assert!(hashes.verify(place, &Password::new("right horse"), Some(kept)).await.unwrap());
        // They are bounded, too, for all and for one address.
        let (one, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let enter = |from: IpAddr| hashes.enter_as_operator(Some(from));
        let mut operators: Vec<HashPlace> = (0..4).map(|_| enter(one).unwrap()).collect();
        assert!(matches!(enter(one), Err(HashError::Busy)));
        operators.extend((0..4).map(|_| enter(other).unwrap()));
        assert!(matches!(hashes.enter_as_operator(None), Err(HashError::Busy)));
        drop(clients);
        assert!(hashes.enter(None).is_ok(), "operators take none of the clients'");
        drop(operators);
        assert_eq!((hashes.places.total(), hashes.operator_places.total()), (0, 0));
    }
}
