//! The second factor: six digits of an authenticator (RFC 6238, SHA-1, 30 s), and recovery codes.
//!
//! The secret is stored sealed with a key of the data folder, bound to its account. A secret that is being set up is
//! not stored: the operator's form carries it, sealed in the same way.

use chelseru_store::{ConsoleProof, OperatorChange, SecondFactor, StoreError};
use totp_rs::{Algorithm, Builder, Secret, Totp};

use super::{Console, Seat};
use crate::ids::UserId;
use crate::operator::audit::{AuditEvent, AuditKind};
use crate::phone::ascii_digit;

/// Bytes of a secret. Source: RFC 4226, section 4, R6: 160 bits are recommended.
const SECRET_BYTES: usize = 20;
/// Recovery codes of an operator, and characters of one: 50 random bits.
pub(super) const RECOVERY_CODES: usize = 10;
const RECOVERY_CHARS: usize = 10;
/// No `0`, `1`, `l` and `o`, because a code is written down.
const RECOVERY_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// A second factor that is being set up.
pub struct FactorDraft {
    /// For typing into an authenticator: Base32.
    pub secret: String,
    /// The secret for the form that confirms it.
    pub sealed: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum FactorError {
    /// The code is not one of the new secret, or the form is not this operator's.
    #[error("the code is wrong")]
    Wrong,
    /// The operator has a second factor; only a link replaces it.
    #[error("there is a second factor")]
    Exists,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("no randomness from the operating system")]
    Randomness(#[source] std::io::Error),
}

impl Console {
    /// Makes a secret for a new second factor. Nothing is stored until it is confirmed.
    ///
    /// # Errors
    ///
    /// [`FactorError::Randomness`].
    pub fn factor_begin(&self, seat: &Seat) -> Result<FactorDraft, FactorError> {
        let mut secret = [0; SECRET_BYTES];
        fill(&mut secret)?;
        self.factor_draft(seat.user.id, &secret)
    }

    /// The draft of a form that comes back.
    ///
    /// # Errors
    ///
    /// [`FactorError::Wrong`] when the form is not this operator's.
    pub fn factor_again(&self, seat: &Seat, sealed: &[u8]) -> Result<FactorDraft, FactorError> {
        let secret = self.unseal(seat.user.id, sealed).ok_or(FactorError::Wrong)?;
        self.factor_draft(seat.user.id, &secret)
    }

    fn factor_draft(&self, user: UserId, secret: &[u8]) -> Result<FactorDraft, FactorError> {
        let sealed = self.seal(user, secret).ok_or_else(|| FactorError::Randomness(sealing()))?;
        Ok(FactorDraft { secret: Secret::from(secret.to_vec()).to_base32(), sealed })
    }

    /// Stores a second factor once a code shows that the authenticator has it. Returns the recovery codes, which are
    /// shown once. An operator who has one replaces it in a session opened by a link only, so that a stolen session
    /// cannot change it.
    ///
    /// # Errors
    ///
    /// See [`FactorError`].
    pub async fn factor_confirm(
        &self,
        seat: &Seat,
        sealed: &[u8],
        code: &str,
    ) -> Result<Vec<String>, FactorError> {
        if seat.has_factor && !seat.session.by_link {
            return Err(FactorError::Exists);
        }
        let user = seat.user.id;
        let secret = self.unseal(user, sealed).ok_or(FactorError::Wrong)?;
        let now = self.clock.now();
        let step = totp(&secret).check(&digits(code), now.as_secs()).ok_or(FactorError::Wrong)?;
        let codes = recovery_codes()?;
        let factor = SecondFactor {
            sealed: self.seal(user, &secret).ok_or_else(|| FactorError::Randomness(sealing()))?,
            step,
            recovery: codes.iter().map(|code| self.recovery_hash(user, code)).collect(),
            since: now,
        };
        self.store.operator_change(user, OperatorChange::Factor(Some(factor))).await?;
        let before = if seat.has_factor { "set" } else { "none" };
        let event = AuditEvent::by(&seat.operator, AuditKind::SecondFactorChanged).user(user);
        self.identity.audit().record(event.change(before, "set"));
        Ok(codes)
    }

    /// What a code proves: a time step of the secret, or a recovery code. The store decides whether it is used.
    pub(super) fn proof_of(&self, user: UserId, factor: &SecondFactor, code: &str) -> Option<ConsoleProof> {
        let secret = self.unseal(user, &factor.sealed)?;
        let code = digits(code);
        if let Some(step) = totp(&secret).check(&code, self.clock.now().as_secs()) {
            return Some(ConsoleProof::Step(step));
        }
        let hash = self.recovery_hash(user, &code);
        factor.recovery.contains(&hash).then_some(ConsoleProof::Recovery(hash))
    }

    fn recovery_hash(&self, user: UserId, code: &str) -> [u8; 32] {
        let plain: String = code.chars().filter(char::is_ascii_alphanumeric).collect();
        self.mac("recovery", format!("{user} {}", plain.to_ascii_lowercase()).as_bytes())
    }

    fn seal(&self, user: UserId, secret: &[u8]) -> Option<Vec<u8>> {
        self.keys.seal.seal(&user.0.to_be_bytes(), secret)
    }

    fn unseal(&self, user: UserId, sealed: &[u8]) -> Option<Vec<u8>> {
        let secret = self.keys.seal.unseal(&user.0.to_be_bytes(), sealed)?;
        (secret.len() == SECRET_BYTES).then_some(secret)
    }
}

fn totp(secret: &[u8]) -> Totp {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(6)
        .with_skew(1)
        .with_step_duration(30)
        .with_secret(secret.to_vec())
        .build_noncompliant()
}

/// A typed code without separators, its digits as ASCII.
fn digits(code: &str) -> String {
    let plain = |character: char| ascii_digit(character).unwrap_or(character);
    code.chars().map(plain).filter(char::is_ascii_alphanumeric).take(32).collect()
}

fn recovery_codes() -> Result<Vec<String>, FactorError> {
    let code = |_| {
        let mut random = [0; RECOVERY_CHARS];
        fill(&mut random)?;
        let letters: String =
            random.iter().map(|byte| char::from(RECOVERY_ALPHABET[usize::from(byte % 32)])).collect();
        let (one, other) = letters.split_at(RECOVERY_CHARS / 2);
        Ok(format!("{one}-{other}"))
    };
    (0..RECOVERY_CODES).map(code).collect()
}

fn fill(bytes: &mut [u8]) -> Result<(), FactorError> {
    getrandom::fill(bytes).map_err(|error| FactorError::Randomness(std::io::Error::other(error)))
}

fn sealing() -> std::io::Error {
    std::io::Error::other("the secret could not be sealed")
}

/// The code of a secret in Base32 at a time: the authenticator of the tests.
#[cfg(test)]
pub(super) fn code_at(secret: &str, seconds: u64) -> Option<String> {
    let secret = Secret::try_from_base32(secret).ok()?;
    Some(totp(secret.as_bytes()).generate(seconds).to_string())
}
