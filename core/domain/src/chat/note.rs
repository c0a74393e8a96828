//! How shared parts of events are written in notes to other gateways.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serializer};

/// A shared text.
pub(super) mod shared {
    use super::*;

    pub(in crate::chat) fn serialize<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(in crate::chat) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
        Ok(String::deserialize(from)?.into())
    }
}

/// A shared text, if any.
pub(super) mod shared_option {
    use super::*;

    pub(in crate::chat) fn serialize<S: Serializer>(
        text: &Option<Arc<str>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&text.as_deref(), to)
    }

    pub(in crate::chat) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Arc<str>>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(Arc::from))
    }
}

/// A shared file, if any.
pub(super) mod shared_file {
    use super::*;
    use crate::chat::StoredFile;

    pub(in crate::chat) fn serialize<S: Serializer>(
        file: &Option<Arc<StoredFile>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        serde::Serialize::serialize(&file.as_deref(), to)
    }

    pub(in crate::chat) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Arc<StoredFile>>, D::Error> {
        Ok(Option::<StoredFile>::deserialize(from)?.map(Arc::new))
    }
}
