//! Uploaded files.

use crate::http::Context;

/// Where a file is, as its link on this host says: the path of a message's file under the base path.
pub fn path(base_path: &str, file: &str) -> String {
    format!("{base_path}/media/{file}")
}

/// [`path`], with scheme and host.
pub fn url(context: &Context, file: &str) -> String {
    format!("{}{}", context.origin(), path(&context.app.limits.base_path, file))
}
