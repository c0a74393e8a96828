//! Signed links: one member's, short-lived, for places where no header can be sent (`<img src>`).
//!
//! The signature covers file, user and expiry, with a key of its own. It identifies the user like a token. Permission
//! is checked when the link is used, so a kick or a ban affects links, too.

use chelseru_domain::chat::StoredFile;
use chelseru_domain::clock::Timestamp;
use chelseru_domain::ids::UserId;

use super::FileStore;

impl FileStore {
    /// The query of a link that is valid until `expires`, in Unix seconds.
    pub fn sign(&self, file: &StoredFile, user: UserId, expires: u64) -> String {
        let signature = self.signature(&file.name, user, expires).to_hex();
        format!("user={user}&expires={expires}&signature={signature}")
    }

    /// The user of a link's query; `None` for a wrong signature or an expired link.
    pub fn signer(&self, file: &StoredFile, query: &str, now: Timestamp) -> Option<UserId> {
        let value = |name: &str| {
            form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
        };
        let user = UserId(value("user")?.parse().ok()?);
        let expires = value("expires")?.parse().ok()?;
        let signature = blake3::Hash::from_hex(value("signature")?.as_bytes()).ok()?;
        // Compared in constant time.
        let fits = signature == self.signature(&file.name, user, expires);
        (fits && now.as_secs() < expires).then_some(user)
    }

    fn signature(&self, name: &str, user: UserId, expires: u64) -> blake3::Hash {
        // A file name contains no space.
        blake3::keyed_hash(self.key.expose(), format!("{name} {user} {expires}").as_bytes())
    }
}
