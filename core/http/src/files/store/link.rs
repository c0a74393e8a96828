//! Signed links: one session's, short-lived, for places where no header can be sent (`<img src>`).
//!
//! The signature covers file, user, session, the session's random part and expiry, with a key of its own. It identifies
//! the caller like a token, so the link ends with the session that made it. Permission is checked when the link is
//! used, so a kick or a ban affects links, too.

use chelseru_domain::chat::StoredFile;
use chelseru_domain::clock::Timestamp;
use chelseru_domain::ids::{SessionId, UserId};
use chelseru_domain::login::identity::Caller;

use super::FileStore;

/// The maker of a link as its query names it. [`FileStore::is_signed`] tells whether that is true.
pub struct SignedBy {
    pub caller: Caller,
    expires: u64,
    signature: blake3::Hash,
}

impl SignedBy {
    /// Reads a link's query; `None` for an unsigned or an expired link.
    pub fn read(query: &str, now: Timestamp) -> Option<SignedBy> {
        let value = |name: &str| {
            form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
        };
        let user_id = UserId(value("user")?.parse().ok()?);
        let session_id = SessionId(value("session")?.parse().ok()?);
        let expires = value("expires")?.parse().ok()?;
        let signature = blake3::Hash::from_hex(value("signature")?.as_bytes()).ok()?;
        let caller = Caller { user_id, session_id };
        (now.as_secs() < expires).then_some(SignedBy { caller, expires, signature })
    }
}

impl FileStore {
    /// The query of a link that is valid until `expires`, in Unix seconds, and while the session is. `binding` is the
    /// session's random part.
    pub fn sign(&self, file: &StoredFile, caller: &Caller, binding: u64, expires: u64) -> String {
        let signature = self.signature(&file.name, caller, binding, expires).to_hex();
        let Caller { user_id, session_id } = caller;
        format!("user={user_id}&session={session_id}&expires={expires}&signature={signature}")
    }

    /// Whether a session whose random part is `binding` made this link. Compared in constant time.
    pub fn is_signed(&self, file: &StoredFile, by: &SignedBy, binding: u64) -> bool {
        by.signature == self.signature(&file.name, &by.caller, binding, by.expires)
    }

    fn signature(&self, name: &str, caller: &Caller, binding: u64, expires: u64) -> blake3::Hash {
        let Caller { user_id, session_id } = caller;
        // A file name contains no space.
        let signed = format!("{name} {user_id} {session_id} {binding} {expires}");
        blake3::keyed_hash(self.key.expose(), signed.as_bytes())
    }
}
