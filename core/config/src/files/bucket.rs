//! `[files.s3]`: the bucket that keeps uploaded files.

use serde::{Deserialize, Serialize};

use super::{Files, FilesStore};
use crate::read::Checker;
use crate::{Loaded, Problems, SettingSource, url};

/// Characters of a prefix. A name of an object has at most 1024 bytes, and ours take 90 after the prefix.
const PREFIX_CHARS_MAX: usize = 512;

/// `[files.s3]`: read at start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// The store's address without a path, such as `https://s3.example.com`.
    pub endpoint: String,
    /// The bucket, which exists already.
    pub bucket: String,
    /// The region that requests are signed for. Stores without regions take any.
    pub region: String,
    /// Begins the name of every object; `shop/` or empty. A missing slash at its end is added.
    pub prefix: String,
    pub access_key: Option<SettingSource>,
    pub secret_key: Option<SettingSource>,
    /// true: the bucket is the first part of the path. false: it is the first part of the host.
    pub path_style: bool,
}

impl Default for S3 {
    fn default() -> Self {
        S3 {
            endpoint: String::new(),
            bucket: String::new(),
            region: "us-east-1".to_owned(),
            prefix: String::new(),
            access_key: None,
            secret_key: None,
            path_style: true,
        }
    }
}

impl S3 {
    /// The prefix, empty or with a slash at its end.
    fn whole_prefix(&self) -> String {
        match self.prefix.trim_end_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        }
    }

    /// The bucket as operators read it, without the keys: `https://s3.example.com/bucket/prefix/`.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("{}/{}/{}", self.endpoint.trim_end_matches('/'), self.bucket, self.whole_prefix())
    }
}

impl Files {
    /// The bucket that keeps the files, if one does.
    #[must_use]
    pub fn bucket(&self) -> Option<&S3> {
        self.s3.as_ref().filter(|_| self.store == FilesStore::S3)
    }
}

/// A checked choice of `files.store`.
#[derive(Clone, PartialEq, Eq)]
pub enum FilesPlace {
    /// In the data folder.
    Folder,
    Bucket(BucketPlace),
}

/// A bucket with the keys to it: not for logs.
#[derive(Clone, PartialEq, Eq)]
pub struct BucketPlace {
    /// Scheme, host and port.
    pub endpoint: String,
    pub bucket: String,
    pub region: String,
    /// Empty, or with a slash at its end.
    pub prefix: String,
    pub access_key: String,
    pub secret_key: String,
    pub path_style: bool,
    /// As [`S3::shown`].
    pub shown: String,
}

impl Loaded {
    /// Where uploaded files are kept.
    ///
    /// # Errors
    ///
    /// The source of a key is missing.
    pub fn files_place(&self) -> Result<FilesPlace, Problems> {
        let Some(s3) = self.config.files.bucket() else { return Ok(FilesPlace::Folder) };
        let mut problems = Vec::new();
        let mut read = |key: &str, source: &Option<SettingSource>| {
            let value = source.as_ref().map(|source| self.resolve(source)).transpose();
            value.unwrap_or_else(|what| {
                problems.push(self.source.problem(key, source.as_ref().map(|one| format!("{one:?}")), what));
                None
            })
        };
        let access_key = read("files.s3.access_key", &s3.access_key).unwrap_or_default();
        let secret_key = read("files.s3.secret_key", &s3.secret_key).unwrap_or_default();
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(FilesPlace::Bucket(BucketPlace {
            endpoint: s3.endpoint.trim_end_matches('/').to_owned(),
            bucket: s3.bucket.clone(),
            region: s3.region.clone(),
            prefix: s3.whole_prefix(),
            access_key,
            secret_key,
            path_style: s3.path_style,
            shown: s3.shown(),
        }))
    }
}

impl Checker<'_> {
    pub(crate) fn check_bucket(&mut self, files: &Files) {
        let s3 = match (files.store, &files.s3) {
            (FilesStore::Folder, None) => return,
            (FilesStore::Folder, Some(_)) => {
                let found = "\"folder\"".to_owned();
                self.refuse(
                    "files.store",
                    found,
                    "leaves [files.s3] unused: set store = \"s3\", or remove the table",
                );
                return;
            }
            (FilesStore::S3, None) => {
                let accepted = "needs [files.s3] with endpoint, bucket, access_key and secret_key";
                self.refuse("files.store", "\"s3\"".to_owned(), accepted);
                return;
            }
            (FilesStore::S3, Some(s3)) => s3,
        };
        self.check_endpoint(s3);
        let word = |text: &str, more: &[u8]| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        let accepted = "must be the name of a bucket: 3 to 63 letters, digits, dots and hyphens";
        let names =
            (3..=63).contains(&s3.bucket.len()) && word(&s3.bucket, b".-") && !s3.bucket.contains("..");
        self.expect(names, "files.s3.bucket", &s3.bucket, accepted);
        let region = (1..=64).contains(&s3.region.len()) && word(&s3.region, b"-_");
        self.expect(region, "files.s3.region", &s3.region, "must be a region, such as us-east-1");
        let parts = || s3.prefix.trim_end_matches('/').split('/');
        let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && word(part, b"-_.");
        let prefix = s3.prefix.is_empty() || (s3.prefix.len() <= PREFIX_CHARS_MAX && parts().all(plain));
        let accepted =
            "must be empty, or parts of letters, digits, -, _ and . with / between them, such as shop/";
        self.expect(prefix, "files.s3.prefix", &s3.prefix, accepted);
        for (key, source) in [("access_key", &s3.access_key), ("secret_key", &s3.secret_key)] {
            let key = format!("files.s3.{key}");
            let accepted = "must be a text, { env = \"NAME\" } or { file = \"path\" }";
            match source {
                None => self.refuse(&key, "nothing".to_owned(), accepted),
                Some(SettingSource::Integer(_) | SettingSource::Boolean(_)) => {
                    self.refuse(&key, format!("{source:?}"), accepted);
                }
                Some(SettingSource::Text(text)) if text.is_empty() => {
                    self.refuse(&key, "an empty text".to_owned(), accepted);
                }
                Some(_) => {}
            }
        }
    }

    fn check_endpoint(&mut self, s3: &S3) {
        let endpoint = s3.endpoint.trim_end_matches('/');
        let accepted =
            "must be http:// or https:// and a host, without a path, such as https://s3.example.com";
        self.expect(url::is_origin(endpoint), "files.s3.endpoint", &s3.endpoint, accepted);
        let host = endpoint.split_once("://").map_or("", |(_, host)| host);
        let is_address = host.starts_with('[')
            || host.split(':').next().unwrap_or_default().parse::<std::net::Ipv4Addr>().is_ok();
        if is_address && !s3.path_style {
            let accepted =
                "needs a host with a name; an address takes the bucket in the path: set it to true";
            self.refuse("files.s3.path_style", "false".to_owned(), accepted);
        }
    }

    fn expect(&mut self, fits: bool, key: &str, found: &str, accepted: &str) {
        if !fits {
            self.refuse(key, format!("{found:?}"), accepted);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Config;

    const WHOLE: &str = "[files]\nstore = \"s3\"\n[files.s3]\nendpoint = \"https://s3.example.com\"\n\
                         bucket = \"chelseru\"\naccess_key = \"me\"\nsecret_key = \"hunter2\"\n";

    fn read(text: &str) -> Result<FilesPlace, String> {
        let loaded =
            Config::parse(Path::new("config.toml"), text.into()).map_err(|error| error.to_string())?;
        loaded.files_place().map_err(|error| error.to_string())
    }

    #[test]
    fn files_are_in_the_data_folder_by_default() {
        assert!(matches!(read(""), Ok(FilesPlace::Folder)));
    }

    #[test]
    fn a_bucket_is_read_whole_and_shown_without_its_keys() {
        let Ok(FilesPlace::Bucket(place)) = read(WHOLE) else { panic!("refused") };
        assert_eq!((&*place.region, &*place.prefix, place.path_style), ("us-east-1", "", true));
        assert_eq!(place.shown, "https://s3.example.com/chelseru/");
        for prefix in ["shop/2", "shop/2/"] {
            let Ok(FilesPlace::Bucket(place)) = read(&format!("{WHOLE}prefix = \"{prefix}\"\n")) else {
                panic!("{prefix} is refused")
            };
            assert_eq!(place.shown, "https://s3.example.com/chelseru/shop/2/");
        }
    }

    #[test]
    fn half_a_bucket_is_refused_at_its_line() {
        let with = |key: &str, value: &str| {
            let lines = WHOLE.lines().map(|line| match line.starts_with(&format!("{key} =")) {
                true => format!("{key} = {value}\n"),
                false => format!("{line}\n"),
            });
            lines.collect::<String>()
        };
        for (text, line, reason) in [
            ("[files]\nstore = \"s3\"\n".to_owned(), 2, "needs [files.s3]"),
            (WHOLE.replace("store = \"s3\"", "store = \"folder\""), 2, "leaves [files.s3] unused"),
            (WHOLE.replace("store = \"s3\"", "store = \"ftp\""), 2, "folder"),
            (with("endpoint", "\"s3.example.com\""), 4, "must be http:// or https://"),
            (with("endpoint", "\"https://s3.example.com/files\""), 4, "without a path"),
            (with("endpoint", "\"https://me:pw@s3.example.com\""), 4, "must be http:// or https://"),
            (with("bucket", "\"a b\""), 5, "must be the name of a bucket"),
            (with("bucket", "\"\""), 5, "must be the name of a bucket"),
            (with("access_key", "7"), 6, "must be a text"),
            (with("secret_key", "{ env = \"CHELSERU_NO_SUCH\" }"), 7, "is not set"),
            (with("secret_key", "\"\""), 7, "must be a text"),
            (format!("{WHOLE}prefix = \"/shop\"\n"), 8, "must be empty, or parts"),
            (format!("{WHOLE}prefix = \"a/../b\"\n"), 8, "must be empty, or parts"),
            (format!("{WHOLE}region = \"\"\n"), 8, "must be a region"),
            (format!("{WHOLE}buckett = \"x\"\n"), 8, "bucket"),
            (
                format!("{}path_style = false\n", with("endpoint", "\"http://127.0.0.1:9000\"")),
                8,
                "set it to true",
            ),
        ] {
            let error = read(&text).err().unwrap_or_else(|| panic!("accepted: {text}"));
            assert!(error.contains(&format!("config.toml:{line}")) && error.contains(reason), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = read(&WHOLE.replace("secret_key = \"hunter2\"\n", "")).err().expect("refused");
        assert!(error.contains("files.s3.secret_key = nothing: must be a text"), "{error}");
    }
}
