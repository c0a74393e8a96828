//! Password hashes of the original: PBKDF2 in Django's text form, `pbkdf2_sha256$<iterations>$<salt>$<base64>`.
//!
//! They are verified at whatever cost they name, up to [`ITERATIONS_MAX`], and replaced with Argon2id at the next
//! login, when the password is known. Verifying one takes longer than comparing the decoy of an unknown account, so
//! the time reveals that an imported account exists and was not used since; registering reveals its name anyway.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Iterations that are accepted. Django 5.2 makes a million, which takes a quarter of a second of one core; a hash
/// above the limit would hold a core for seconds at each guess.
pub const ITERATIONS_MAX: u32 = 10_000_000;

/// Why a stored password cannot be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForeignHash {
    #[error("made by a hasher other than PBKDF2")]
    OtherHasher,
    #[error("is not a whole PBKDF2 hash")]
    Malformed,
    #[error("has more than {} iterations", ITERATIONS_MAX)]
    TooCostly,
}

/// What Django keeps of a password: a hash that can be verified, or `None` for an account that has no password (`''`,
/// or `!` and anything).
///
/// # Errors
///
/// See [`ForeignHash`].
pub fn django_hash(stored: &str) -> Result<Option<String>, ForeignHash> {
    if stored.is_empty() || stored.starts_with('!') {
        return Ok(None);
    }
    if !is_imported(stored) {
        return Err(ForeignHash::OtherHasher);
    }
    let hash = Pbkdf2::parse(stored).ok_or(ForeignHash::Malformed)?;
    if hash.iterations.get() > ITERATIONS_MAX {
        return Err(ForeignHash::TooCostly);
    }
    Ok(Some(stored.to_owned()))
}

/// Whether a kept text is a hash of the original.
pub(crate) fn is_imported(kept: &str) -> bool {
    kept.starts_with("pbkdf2_sha256$") || kept.starts_with("pbkdf2_sha1$")
}

/// Whether a password matches a kept text for which [`is_imported`] holds. `None` when the text is damaged.
pub(crate) fn verify(password: &str, kept: &str) -> Option<bool> {
    let hash = Pbkdf2::parse(kept).filter(|hash| hash.iterations.get() <= ITERATIONS_MAX)?;
    let salt = hash.salt.as_bytes();
    Some(pbkdf2::verify(hash.algorithm, hash.iterations, salt, password.as_bytes(), &hash.hash).is_ok())
}

struct Pbkdf2<'a> {
    algorithm: pbkdf2::Algorithm,
    iterations: NonZeroU32,
    salt: &'a str,
    hash: Vec<u8>,
}

impl<'a> Pbkdf2<'a> {
    fn parse(text: &'a str) -> Option<Pbkdf2<'a>> {
        let mut parts = text.split('$');
        let (algorithm, bytes) = match parts.next()? {
            "pbkdf2_sha256" => (pbkdf2::PBKDF2_HMAC_SHA256, 32),
            "pbkdf2_sha1" => (pbkdf2::PBKDF2_HMAC_SHA1, 20),
            _ => return None,
        };
        let iterations = parts.next()?.parse().ok()?;
        let salt = parts.next().filter(|salt| !salt.is_empty())?;
        let hash = STANDARD.decode(parts.next()?).ok().filter(|hash| hash.len() == bytes)?;
        parts.next().is_none().then_some(Pbkdf2 { algorithm, iterations, salt, hash })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `make_password("S3cret-pass-9", salt)` of Django 5.2 with 1,000 iterations, computed by Python's hashlib.
    const SHA256: &str = "pbkdf2_sha256$1000$seasalt$xQtJ3asOP4IyPbNMDnN8OEujvjg3rXScYA2Qn+uuPnI=";
    const SHA1: &str = "pbkdf2_sha1$1000$seasalt$nIBqsqpX76/mnu4SzhTeCPmw43E=";

    #[test]
    fn djangos_hashes_are_verified() {
        for kept in [SHA256, SHA1] {
            assert_eq!(verify("S3cret-pass-9", kept), Some(true), "{kept}");
            assert_eq!(verify("S3cret-pass-8", kept), Some(false), "{kept}");
            assert_eq!(django_hash(kept), Ok(Some(kept.to_owned())));
        }
    }

    #[test]
    fn no_password_other_hashers_and_damage_are_told_apart() {
        for nothing in ["", "!", "!jd8sZ0"] {
            assert_eq!(django_hash(nothing), Ok(None));
        }
        for other in
            ["argon2$argon2id$v=19$m=102400,t=2,p=8$c2FsdA$aGFzaA", "bcrypt_sha256$$2b$12$x", "md5$a$b"]
        {
            assert_eq!(django_hash(other), Err(ForeignHash::OtherHasher));
        }
        let damaged = [
            "pbkdf2_sha256$1000$seasalt",
            "pbkdf2_sha256$0$seasalt$aaaa",
            "pbkdf2_sha256$x$seasalt$aaaa",
            "pbkdf2_sha256$1000$$aaaa",
            "pbkdf2_sha256$1000$seasalt$aGFzaA==",
            "pbkdf2_sha256$99999999999$seasalt$aGFzaA==",
        ];
        for damaged in damaged {
            assert_eq!(django_hash(damaged), Err(ForeignHash::Malformed), "{damaged}");
            assert_eq!(verify("x", damaged), None);
        }
        let costly = SHA256.replace("$1000$", "$10000001$");
        assert_eq!(django_hash(&costly), Err(ForeignHash::TooCostly));
        assert!(django_hash(&SHA256.replace("$1000$", "$10000000$")).is_ok());
    }
}
