//! Files inside other replies: their facts with links that open them.
//!
//! Links are signed for the reply's reader. The session is read once for a reply, and only when a file is shown.

use std::collections::HashMap;

use chelseru_domain::chat::{ChatError, FileId, StoredFile};
use chelseru_domain::clock::{Timestamp, rest_format};
use chelseru_domain::login::identity::Caller;
use chelseru_sockets::file_facts;
use serde_json::Value;

use super::Files;
use crate::request::Context;

/// The files of one reply, each read once.
pub(crate) struct Shown<'a> {
    files: &'a Files,
    context: &'a Context,
    reader: Caller,
    signs: Option<Signs>,
    known: HashMap<FileId, Option<ShownFile>>,
}

struct ShownFile {
    address: String,
    facts: Value,
}

/// What the reader's links are signed with.
#[derive(Clone, Copy)]
pub(crate) struct Signs {
    reader: Caller,
    binding: u64,
    expires: u64,
}

impl Signs {
    /// `None` when the session has ended.
    pub(crate) async fn of(files: &Files, reader: Caller) -> Result<Option<Signs>, ChatError> {
        let expires = files.clock.now().as_secs() + files.limits.link_seconds;
        let binding = files.identity.session_binding(&reader).await?;
        Ok(binding.map(|binding| Signs { reader, binding, expires }))
    }

    /// Adds links that the reader's session opens.
    pub(crate) fn facts(&self, files: &Files, context: &Context, file: &StoredFile) -> Value {
        let signed = files.store.sign(file, &self.reader, self.binding, self.expires);
        let mut facts = file_facts(file, &format!("{}?{signed}", context.address(&file.path())));
        facts["link_expires_at"] = rest_format(Timestamp::from_secs(self.expires)).into();
        facts
    }
}

impl<'a> Shown<'a> {
    pub(crate) fn to(files: &'a Files, context: &'a Context, reader: Caller) -> Shown<'a> {
        Shown { files, context, reader, signs: None, known: HashMap::new() }
    }

    /// Reads files that the reader may have.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub(crate) async fn load(&mut self, ids: impl IntoIterator<Item = FileId>) -> Result<(), ChatError> {
        for id in ids {
            if self.known.contains_key(&id) {
                continue;
            }
            let shown = match self.files.chat.file(id).await? {
                Some(file) => Some(self.shown(&file).await?),
                None => None,
            };
            self.known.insert(id, shown);
        }
        Ok(())
    }

    /// Reads the pictures of accounts whose names the reply shows. What the reader may not have is left out.
    ///
    /// # Errors
    ///
    /// [`ChatError::Store`].
    pub(crate) async fn load_avatars(&mut self, ids: Vec<FileId>) -> Result<(), ChatError> {
        for id in ids {
            if self.known.contains_key(&id) {
                continue;
            }
            let shown = match self.files.chat.avatar_for(id, self.reader.user_id).await? {
                Some(file) => Some(self.shown(&file).await?),
                None => None,
            };
            self.known.insert(id, shown);
        }
        Ok(())
    }

    async fn shown(&mut self, file: &StoredFile) -> Result<ShownFile, ChatError> {
        if self.signs.is_none() {
            self.signs = Signs::of(self.files, self.reader).await?;
        }
        let address = self.context.address(&file.path());
        // A session that ended since the token was checked opens nothing.
        let facts = match &self.signs {
            Some(signs) => signs.facts(self.files, self.context, file),
            None => file_facts(file, &address),
        };
        Ok(ShownFile { address, facts })
    }

    /// A loaded file.
    pub(crate) fn get(&self, id: Option<FileId>) -> Option<&Value> {
        Some(&self.known.get(&id?)?.as_ref()?.facts)
    }

    /// The address of a loaded file, without a signature.
    pub(crate) fn address(&self, id: Option<FileId>) -> Option<&str> {
        Some(&self.known.get(&id?)?.as_ref()?.address)
    }
}
