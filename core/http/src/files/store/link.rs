//! Signed links: a member's own, for a short while, where no header can be sent (`<img src>`).
//!
//! The signature is over file, user and end, with a key of its own. It says who asks, as a token would; whether that
//! user may have the file is decided when the link is used, so a kick or a ban acts on links too.

use chelseru_domain::chat::StoredFile;
use chelseru_domain::clock::Timestamp;
use chelseru_domain::ids::UserId;

use super::FileStore;

impl FileStore {
    /// The query of a link that serves until `expires`, in Unix seconds.
    pub fn sign(&self, file: &StoredFile, user: UserId, expires: u64) -> String {
        let signature = self.signature(&file.name, user, expires).to_hex();
        format!("user={user}&expires={expires}&signature={signature}")
    }

    /// Who asks by a link's query; `None` when it was not signed so, or is over.
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
        // A name holds no space.
        blake3::keyed_hash(self.key.expose(), format!("{name} {user} {expires}").as_bytes())
    }
}
