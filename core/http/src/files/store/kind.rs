//! The type of a file, from its first bytes. Names and declared types come from the client and are not trusted.
//!
//! Only types that a browser shows without running anything are shown inline. All others are sent as attachments, and
//! types a browser could take for a page are sent without their type.

/// First bytes examined.
pub const HEAD_BYTES: usize = 8192;

/// A type by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    pub mime: &'static str,
    pub extension: &'static str,
}

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

impl Kind {
    #[must_use]
    pub fn of(head: &[u8]) -> Kind {
        if let Some(found) = infer::get(head) {
            return Kind { mime: found.mime_type(), extension: found.extension() };
        }
        if is_text(head) {
            return Kind { mime: "text/plain", extension: "txt" };
        }
        Kind { mime: "application/octet-stream", extension: "bin" }
    }
}

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
