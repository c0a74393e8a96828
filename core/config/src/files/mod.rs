//! `[files]`: where uploads are kept, and their limits.

mod bucket;

use chelseru_domain::files;
use serde::{Deserialize, Serialize};

use crate::Config;
use crate::read::Checker;

pub use bucket::{BucketPlace, FilesPlace, S3};

/// `store` and `[files.s3]` are read at start. Every other key applies live, to uploads that begin afterwards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    pub store: FilesStore,
    /// The bucket of `store = "s3"`.
    pub s3: Option<S3>,
    /// Bytes of one file; a larger one answers 413. 1 to 4294967296.
    pub file_bytes_max: u64,
    /// Bytes of the picture of an account, if less than `file_bytes_max`; a larger one answers 413. 1 to 33554432.
    pub avatar_bytes_max: u64,
    /// Bytes of all files of one user. 1 to 1099511627776.
    pub user_bytes_max: u64,
    /// Bytes of all files of all users; an upload past it answers 507. 1 to 2^50.
    pub total_bytes_max: u64,
    /// Concurrent uploads; one more answers 503. 1 to 10000.
    pub uploads_max: usize,
    /// Concurrent uploads of one user; one more answers 429. 1 to 1000.
    pub uploads_per_user_max: usize,
    /// Seconds one upload request may take. A silence of `server.body_read_timeout_seconds` ends it earlier. 1 to
    /// 86400.
    pub upload_seconds_max: u64,
    /// Seconds an upload may be slow. Afterwards it needs 2 KiB/s, and may lose its place to a user with fewer uploads
    /// while all places are taken. 1 to 600.
    pub upload_grace_seconds: u64,
    /// Unfinished resumable uploads of one user: 1 to 1000.
    pub resumable_per_user_max: usize,
    /// Hours until an unfinished resumable upload is removed: 1 to 720.
    pub resumable_hours: u64,
    /// Hours until a file that belongs to no message is removed: 1 to 720.
    pub orphan_hours: u64,
    /// Bytes of the pixels of a picture for which a thumbnail is made; 0 makes none. At most one picture is decoded at
    /// a time. 0 to 1073741824.
    pub thumbnail_memory_bytes_max: u64,
    /// Lifetime of a signed link in seconds: 1 to 86400.
    pub link_seconds: u64,
}

/// What keeps the bytes of uploaded files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilesStore {
    /// `uploads/` in `data.dir`.
    Folder,
    /// A bucket of an S3-compatible store.
    S3,
}

impl Default for Files {
    fn default() -> Self {
        Files {
            store: FilesStore::Folder,
            s3: None,
            file_bytes_max: files::FILE_BYTES.default,
            avatar_bytes_max: files::AVATAR_BYTES.default,
            user_bytes_max: files::USER_BYTES.default,
            total_bytes_max: files::TOTAL_BYTES.default,
            uploads_max: files::UPLOADS.default,
            uploads_per_user_max: files::UPLOADS_PER_USER.default,
            upload_seconds_max: files::UPLOAD_SECS.default,
            upload_grace_seconds: files::UPLOAD_GRACE_SECS.default,
            resumable_per_user_max: files::RESUMABLE_PER_USER.default,
            resumable_hours: files::RESUMABLE_HOURS.default,
            orphan_hours: files::ORPHAN_HOURS.default,
            thumbnail_memory_bytes_max: files::THUMBNAIL_MEMORY_BYTES.default,
            link_seconds: files::LINK_SECS.default,
        }
    }
}

impl Checker<'_> {
    pub(crate) fn check_files(&mut self, config: &Config) {
        let files = &config.files;
        self.rule("files.file_bytes_max", files.file_bytes_max, files::FILE_BYTES);
        self.rule("files.avatar_bytes_max", files.avatar_bytes_max, files::AVATAR_BYTES);
        self.rule("files.user_bytes_max", files.user_bytes_max, files::USER_BYTES);
        self.rule("files.total_bytes_max", files.total_bytes_max, files::TOTAL_BYTES);
        self.rule("files.uploads_max", files.uploads_max, files::UPLOADS);
        self.rule("files.uploads_per_user_max", files.uploads_per_user_max, files::UPLOADS_PER_USER);
        self.rule("files.upload_seconds_max", files.upload_seconds_max, files::UPLOAD_SECS);
        self.rule("files.upload_grace_seconds", files.upload_grace_seconds, files::UPLOAD_GRACE_SECS);
        self.rule("files.resumable_per_user_max", files.resumable_per_user_max, files::RESUMABLE_PER_USER);
        self.rule("files.resumable_hours", files.resumable_hours, files::RESUMABLE_HOURS);
        self.rule("files.orphan_hours", files.orphan_hours, files::ORPHAN_HOURS);
        self.rule(
            "files.thumbnail_memory_bytes_max",
            files.thumbnail_memory_bytes_max,
            files::THUMBNAIL_MEMORY_BYTES,
        );
        self.rule("files.link_seconds", files.link_seconds, files::LINK_SECS);
        self.check_bucket(files);
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;

    #[test]
    fn values_of_files_are_checked() {
        let check = |text: &str| Config::parse("config.toml".as_ref(), format!("[files]\n{text}\n"));
        assert!(check("file_bytes_max = 1\norphan_hours = 720").is_ok());
        let Err(problems) = check("file_bytes_max = 0\norphan_hours = 721") else { panic!("refused") };
        let problems = problems.to_string();
        assert!(
            problems.contains("config.toml:2: files.file_bytes_max = 0: must be 1 to 4294967296"),
            "{problems}"
        );
        assert!(problems.contains("config.toml:3: files.orphan_hours = 721: must be 1 to 720"), "{problems}");
    }
}
