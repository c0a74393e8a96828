//! `[files]`: the bounds of what users upload.

use serde::{Deserialize, Serialize};

use crate::Config;
use crate::read::Checker;

/// All of it applies live, to what is uploaded from then on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// Bytes of one file; a larger one is answered 413. 1 to 4294967296.
    pub file_bytes_max: u64,
    /// Bytes that the files of one user may have together. 1 to 1099511627776.
    pub user_bytes_max: u64,
    /// Bytes that the files of all users may have together; an upload past it is answered 507. 1 to 2^50.
    pub total_bytes_max: u64,
    /// Uploads that are received at once; one more is answered 503. 1 to 10000.
    pub uploads_max: usize,
    /// Those of one user; one more is answered 429. 1 to 1000.
    pub uploads_per_user_max: usize,
    /// Seconds one request may take to bring a file. In between, `server.body_read_timeout_seconds` without a byte
    /// end it. 1 to 86400.
    pub upload_seconds_max: u64,
    /// Resumable uploads that a user may have begun: 1 to 1000.
    pub resumable_per_user_max: usize,
    /// Hours after which a resumable upload is given up: 1 to 720.
    pub resumable_hours: u64,
    /// Hours after which a file that no message has is removed: 1 to 720.
    pub orphan_hours: u64,
    /// Seconds for which a signed link serves: 1 to 86400.
    pub link_seconds: u64,
}

impl Default for Files {
    fn default() -> Self {
        Files {
            file_bytes_max: 20 * 1024 * 1024,
            user_bytes_max: 1024 * 1024 * 1024,
            total_bytes_max: 50 * 1024 * 1024 * 1024,
            uploads_max: 64,
            uploads_per_user_max: 4,
            upload_seconds_max: 600,
            resumable_per_user_max: 10,
            resumable_hours: 24,
            orphan_hours: 24,
            link_seconds: 300,
        }
    }
}

impl Files {
    /// Each number: key, value, least and greatest.
    fn ranges(&self) -> [(&'static str, u64, u64, u64); 10] {
        [
            ("files.file_bytes_max", self.file_bytes_max, 1, 1 << 32),
            ("files.user_bytes_max", self.user_bytes_max, 1, 1 << 40),
            ("files.total_bytes_max", self.total_bytes_max, 1, 1 << 50),
            ("files.uploads_max", self.uploads_max as u64, 1, 10_000),
            ("files.uploads_per_user_max", self.uploads_per_user_max as u64, 1, 1000),
            ("files.upload_seconds_max", self.upload_seconds_max, 1, 86_400),
            ("files.resumable_per_user_max", self.resumable_per_user_max as u64, 1, 1000),
            ("files.resumable_hours", self.resumable_hours, 1, 720),
            ("files.orphan_hours", self.orphan_hours, 1, 720),
            ("files.link_seconds", self.link_seconds, 1, 86_400),
        ]
    }
}

impl Checker<'_> {
    pub(crate) fn check_files(&mut self, config: &Config) {
        for (key, value, least, greatest) in config.files.ranges() {
            self.range(key, value, least, greatest);
        }
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
