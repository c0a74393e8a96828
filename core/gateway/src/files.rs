//! Choosing the place of uploaded files, and trying it: the only part that does.
//!
//! A bucket that refuses this gateway (keys, rights, names) refuses the start, because an operator must act. One that
//! does not answer is a warning: logins, payments and chat need no files, and the bucket may be back in a minute.

use std::path::Path;
use std::sync::Arc;

use chelseru_domain::files::place::{FilePlace, PlaceError};
use chelseru_http::files::store::{FOLDER, Folder};
use chelseru_outbound::bucket::Bucket;

use crate::config::{FilesPlace, Loaded, Problem};

/// The place of a configuration.
pub(crate) struct Chosen {
    pub(crate) place: Arc<dyn FilePlace>,
    pub(crate) is_bucket: bool,
    /// What a finding about it names.
    named: Problem,
}

/// The place that a configuration names. Asks nothing of it.
///
/// Errors: a text for the operator.
pub(crate) fn choose(loaded: &Loaded, data_dir: &Path) -> Result<Chosen, String> {
    let named = loaded.source.problem("files.s3", None, "");
    let (place, is_bucket): (Arc<dyn FilePlace>, bool) =
        match loaded.files_place().map_err(|problems| problems.to_string())? {
            FilesPlace::Folder => (Arc::new(Folder::new(data_dir.join(FOLDER))), false),
            FilesPlace::Bucket(bucket) => {
                let bucket = Bucket::new(&bucket);
                let bucket = bucket.map_err(|message| Problem { message, ..named.clone() }.to_string())?;
                (Arc::new(bucket), true)
            }
        };
    Ok(Chosen { place, is_bucket, named })
}

impl Chosen {
    /// The place, if it is a bucket.
    pub(crate) fn bucket(&self) -> Option<&dyn FilePlace> {
        self.is_bucket.then_some(self.place.as_ref())
    }

    /// Tries a bucket; returns a warning when it does not answer. A folder is tried when it is opened.
    ///
    /// Errors: a text for the operator: the bucket refuses.
    pub(crate) async fn try_out(&self) -> Result<Option<Problem>, String> {
        if !self.is_bucket {
            return Ok(None);
        }
        let named = |message: String| Problem { message, ..self.named.clone() };
        match self.place.probe().await {
            Ok(()) => Ok(None),
            Err(PlaceError::Away(text)) => {
                Ok(Some(named(format!("{text}; until it answers, files are refused with 503"))))
            }
            Err(error) => Err(named(error.to_string()).to_string()),
        }
    }
}
