//! The type of a file, from its first bytes. Names and declared types come from the client and are not trusted.
//!
//! A file is saved under its uploader's name, whose ending must agree with the content: a program does not download as
//! `holiday.jpg`, nor a picture as `invoice.html`.
//!
//! Only types that a browser shows without running anything are shown inline. All others are sent as attachments, and
//! types a browser could take for a page are sent without their type.

/// First bytes examined.
pub const HEAD_BYTES: usize = 8192;

/// A type by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind<'a> {
    pub mime: &'a str,
    pub extension: &'a str,
}

/// Endings that agree with the content besides its own, by type.
const ALSO: [(&str, &[&str]); 17] = [
    ("image/jpeg", &["jpeg", "jpe", "jfif"]),
    ("image/tiff", &["tiff"]),
    ("image/heif", &["heic", "heif"]),
    ("audio/m4a", &["mp4"]),
    ("audio/ogg", &["oga", "opus"]),
    ("audio/midi", &["midi"]),
    ("video/mp4", &["m4v", "m4a"]),
    ("video/quicktime", &["qt", "mp4"]),
    ("video/mpeg", &["mpeg"]),
    ("video/x-matroska", &["mka", "webm"]),
    ("application/gzip", &["tgz"]),
    ("application/zip", &["docx", "xlsx", "pptx", "odt", "ods", "odp", "epub"]),
    ("application/x-tar", &["tgz"]),
    // As plain text they are harmless.
    ("text/html", &["htm", "xhtml", "txt"]),
    ("text/xml", &["svg", "xhtml", "txt"]),
    ("text/x-shellscript", &["bash", "py", "txt"]),
    // Texts that no program runs when they are opened.
    (
        "text/plain",
        &["csv", "tsv", "md", "log", "json", "yaml", "yml", "toml", "ini", "srt", "vtt", "tex", "ics", "vcf"],
    ),
];

/// Endings that systems run or browsers show as a page. Content of no known type does not bear them.
const ACTIVE: [&str; 36] = [
    "apk", "app", "bat", "cmd", "com", "cpl", "desktop", "dll", "exe", "hta", "htm", "html", "jar", "js",
    "jse", "lnk", "mjs", "msc", "msi", "php", "pif", "ps1", "py", "reg", "scf", "scr", "sh", "svg", "url",
    "vb", "vbe", "vbs", "wsf", "xhtml", "xml", "xsl",
];

/// Types that browsers show or play and never run.
const PASSIVE: [&str; 17] = [
    "image/jpeg",
    "image/png",
    "image/gif",
    "image/webp",
    "image/bmp",
    "image/avif",
    "image/heif",
    "audio/mpeg",
    "audio/m4a",
    "audio/ogg",
    "audio/opus",
    "audio/x-flac",
    "audio/x-wav",
    "audio/aac",
    "video/mp4",
    "video/webm",
    "video/quicktime",
];

impl Kind<'static> {
    #[must_use]
    pub fn of(head: &[u8]) -> Kind<'static> {
        if let Some(found) = infer::get(head) {
            return Kind { mime: found.mime_type(), extension: found.extension() };
        }
        if is_text(head) {
            return Kind { mime: "text/plain", extension: "txt" };
        }
        Kind { mime: UNKNOWN, extension: "bin" }
    }
}

impl<'a> Kind<'a> {
    /// The kind of a stored file, whose name ends as its content was when it came.
    #[must_use]
    pub fn stored(mime: &'a str, name: &'a str) -> Kind<'a> {
        Kind { mime, extension: name.rsplit_once('.').map_or("", |(_, extension)| extension) }
    }

    /// A file name whose ending agrees with the content: the uploader's, or that with the right ending after it. At
    /// most so many characters.
    #[must_use]
    pub fn named(&self, name: &str, chars_max: usize) -> String {
        // Systems ignore dots and white space at the end.
        let name = name.trim_end_matches(|character: char| character == '.' || character.is_whitespace());
        if name.is_empty() || self.agrees(name) {
            return name.to_owned();
        }
        let kept = chars_max.saturating_sub(self.extension.len() + 1);
        let stem: String = name.chars().take(kept).collect();
        format!("{stem}.{}", self.extension)
    }

    fn agrees(&self, name: &str) -> bool {
        let ending = name.rsplit_once('.').map_or(String::new(), |(_, ending)| ending.to_lowercase());
        if self.mime == UNKNOWN {
            return !ACTIVE.contains(&ending.as_str());
        }
        let also = ALSO.iter().find(|(mime, _)| *mime == self.mime).map_or(&[][..], |(_, also)| also);
        ending == self.extension || also.contains(&ending.as_str())
    }
}

/// The type of content that is of no known type.
const UNKNOWN: &str = "application/octet-stream";

/// Returns true when a browser may show the type inline.
#[must_use]
pub fn is_passive(mime: &str) -> bool {
    PASSIVE.contains(&mime)
}

/// The type to send. Pages, scripts and similar types are sent as bytes.
#[must_use]
pub fn sent_as(mime: &str) -> &str {
    let active = ["html", "xml", "svg", "script", "shell", "text/"];
    if active.iter().any(|word| mime.contains(word)) { "application/octet-stream" } else { mime }
}

/// UTF-8 without control characters; the last character may be cut off.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.chars().any(|character| character.is_control() && !"\t\r\n\u{c}".contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        assert_eq!(Kind::of(png), Kind { mime: "image/png", extension: "png" });
        assert_eq!(Kind::of("سلام".as_bytes()).mime, "text/plain");
        assert_eq!(Kind::of(&"سلام".as_bytes()[..3]).mime, "text/plain");
        assert_eq!(Kind::of(b"\0\x01\x02").mime, "application/octet-stream");
        assert_eq!(Kind::of(b"<!DOCTYPE html><html>").mime, "text/html");
    }

    #[test]
    fn a_name_ends_as_its_content_is() {
        let png = Kind { mime: "image/png", extension: "png" };
        let text = Kind { mime: "text/plain", extension: "txt" };
        let program = Kind { mime: "application/vnd.microsoft.portable-executable", extension: "exe" };
        let unknown = Kind { mime: UNKNOWN, extension: "bin" };
        for (kind, name, expected) in [
            (png, "a.png", "a.png"),
            (png, "a.PNG", "a.PNG"),
            (png, "a.html", "a.html.png"),
            (png, "a", "a.png"),
            (png, "a.png.exe. ", "a.png.exe.png"),
            (png, "", ""),
            (program, "holiday.jpg", "holiday.jpg.exe"),
            (program, "setup.exe", "setup.exe"),
            (text, "notes.md", "notes.md"),
            (text, "run.bat", "run.bat.txt"),
            (unknown, "data.dat", "data.dat"),
            (unknown, "گزارش", "گزارش"),
            (unknown, "a.HTML", "a.HTML.bin"),
        ] {
            assert_eq!(kind.named(name, 150), expected, "{name}");
            assert_eq!(kind.named(expected, 150), expected, "once is enough");
        }
        assert_eq!(png.named(&"n".repeat(150), 150), format!("{}.png", "n".repeat(146)));
        assert!(ACTIVE.is_sorted());
    }

    #[test]
    fn only_what_runs_nothing_is_shown_in_place() {
        assert!(is_passive("image/png"));
        for mime in ["text/html", "image/svg+xml", "application/xml", "text/plain", "application/pdf"] {
            assert!(!is_passive(mime), "{mime}");
        }
        for mime in ["text/html", "image/svg+xml", "text/xml", "text/x-shellscript"] {
            assert_eq!(sent_as(mime), "application/octet-stream");
        }
        assert_eq!(sent_as("application/zip"), "application/zip");
    }
}
