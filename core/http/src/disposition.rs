//! `Content-Disposition` of a part of a form: the field's name, and the file's name in any form that clients send.
//!
//! RFC 6266 and RFC 5987 (`filename*`), the escapes of browsers (`%22`), encoded words of mail libraries (RFC 2047),
//! and raw bytes in windows-1256, in which old Persian programs write. A name in none of these is an error of its own:
//! a file that silently loses its name is found by its owner only later.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use encoding_rs::{Encoding, UTF_8, WINDOWS_1256};
use http::{HeaderMap, header};

/// A part's names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Disposition {
    /// The field's name; `""` when it has none.
    pub(crate) name: String,
    /// `None` when the part is no file.
    pub(crate) file: Option<Result<String, Unreadable>>,
}

/// A file's name in an unknown charset, or in none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl Disposition {
    pub(crate) fn of(headers: &HeaderMap) -> Disposition {
        let raw = headers.get(header::CONTENT_DISPOSITION).map_or(&b""[..], |value| value.as_bytes());
        let parameters = parameters(raw);
        let value = |wanted: &str| {
            let found = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.as_slice())
        };
        let extended = value("filename*").map(extended);
        let file = match (extended, value("filename")) {
            (Some(Ok(name)), _) => Some(Ok(name)),
            // The simple form is there for programs that cannot read the other one.
            (_, Some(simple)) => Some(file_name(simple)),
            (extended, None) => extended,
        };
        let name = value("name").map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
        Disposition { name, file }
    }
}

/// The text of a file's name that came as bytes.
pub(crate) fn file_name(bytes: &[u8]) -> Result<String, Unreadable> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.contains("=?") => encoded_words(text),
        // Browsers write a quote so.
        Ok(text) => Ok(text.replace("%22", "\"")),
        Err(_) => decode(WINDOWS_1256, bytes),
    }
}

/// Names and values of a header's parameters. Quoted values lose their quotes.
fn parameters(raw: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = raw;
    while !rest.is_empty() {
        let at = rest.iter().position(|byte| b"=;".contains(byte)).unwrap_or(rest.len());
        let name = String::from_utf8_lossy(&rest[..at]).trim().to_owned();
        if rest.get(at) != Some(&b'=') {
            // The kind, such as `form-data`.
            rest = rest.get(at + 1..).unwrap_or_default();
            continue;
        }
        let (value, left) = value(rest[at + 1..].trim_ascii_start());
        found.push((name, value));
        let next = left.iter().position(|byte| *byte == b';').map_or(left.len(), |at| at + 1);
        rest = &left[next..];
    }
    found
}

/// A value and what follows it.
fn value(raw: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some(quoted) = raw.strip_prefix(b"\"") else {
        let end = raw.iter().position(|byte| *byte == b';').unwrap_or(raw.len());
        return (raw[..end].trim_ascii_end().to_vec(), &raw[end..]);
    };
    let (mut value, mut at) = (Vec::new(), 0);
    while let Some(&byte) = quoted.get(at) {
        match (byte, quoted.get(at + 1)) {
            (b'"', _) => return (value, &quoted[at + 1..]),
            // Other backslashes are those of a path: old browsers send `C:\photos\me.png`.
            (b'\\', Some(b'"')) => {
                value.push(b'"');
                at += 1;
            }
            (byte, _) => value.push(byte),
        }
        at += 1;
    }
    (value, &[])
}

/// RFC 5987: `charset'language'percent-encoded`.
fn extended(raw: &[u8]) -> Result<String, Unreadable> {
    let mut parts = raw.splitn(3, |byte| *byte == b'\'');
    let (Some(charset), Some(_), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Unreadable);
    };
    let encoding = Encoding::for_label(charset).ok_or(Unreadable)?;
    decode(encoding, &escapes(value, b'%').ok_or(Unreadable)?)
}

/// RFC 2047: words `=?charset?B or Q?text?=`. White space between two of them is not part of the name.
fn encoded_words(text: &str) -> Result<String, Unreadable> {
    let mut name = String::new();
    let mut rest = text;
    while let Some((before, word)) = rest.split_once("=?") {
        if name.is_empty() || !before.trim().is_empty() {
            name.push_str(before);
        }
        let mut parts = word.splitn(3, '?');
        let (Some(charset), Some(kind), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Unreadable);
        };
        let (value, after) = value.split_once("?=").ok_or(Unreadable)?;
        let bytes = match kind {
            "B" | "b" => STANDARD.decode(value).map_err(|_| Unreadable)?,
            "Q" | "q" => escapes(value.replace('_', " ").as_bytes(), b'=').ok_or(Unreadable)?,
            _ => return Err(Unreadable),
        };
        // A language may follow the charset (RFC 2231).
        let charset = charset.split('*').next().unwrap_or_default();
        let encoding = Encoding::for_label(charset.as_bytes()).ok_or(Unreadable)?;
        name.push_str(&decode(encoding, &bytes)?);
        rest = after;
    }
    Ok(name + rest)
}

/// Bytes of which some are escaped as two hexadecimal digits.
fn escapes(raw: &[u8], sign: u8) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        if byte == sign {
            let digits = std::str::from_utf8(raw.get(at + 1..at + 3)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            bytes.push(byte);
            at += 1;
        }
    }
    Some(bytes)
}

fn decode(encoding: &'static Encoding, bytes: &[u8]) -> Result<String, Unreadable> {
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes).ok_or(Unreadable)?;
    // A name in one charset that claims another is full of these.
    let controls = text.chars().any(|character| ('\u{80}'..='\u{9f}').contains(&character));
    if controls && encoding != UTF_8 { Err(Unreadable) } else { Ok(text.into_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(raw: &[u8]) -> Disposition {
        let mut headers = HeaderMap::new();
        let value = http::HeaderValue::from_bytes(raw).expect("a header value");
        headers.insert(header::CONTENT_DISPOSITION, value);
        Disposition::of(&headers)
    }

    #[test]
    fn a_files_name_is_read_in_every_form_that_clients_send() {
        for (raw, expected) in [
            (&b"form-data; name=\"file\"; filename=\"a b.png\""[..], "a b.png"),
            (b"form-data; Name=file; FileName=a.png", "a.png"),
            (b"form-data;name=\"file\";filename=\"a;b=c.png\"", "a;b=c.png"),
            ("form-data; name=\"file\"; filename=\"گزارش.pdf\"".as_bytes(), "گزارش.pdf"),
            // Browsers, curl.
            (b"form-data; name=\"file\"; filename=\"a%22b.png\"", "a\"b.png"),
            (b"form-data; name=\"file\"; filename=\"a\\\"b.png\"", "a\"b.png"),
            (b"form-data; name=\"file\"; filename=\"C:\\photos\\me.png\"", "C:\\photos\\me.png"),
            // RFC 5987, and what takes precedence.
            (b"form-data; name=\"file\"; filename=\"x\"; filename*=UTF-8''%DA%AF%D8%B2.pdf", "گز.pdf"),
            (b"form-data; name=\"file\"; filename*=utf-8'fa'%D8%B3.pdf; filename=\"x\"", "س.pdf"),
            (b"form-data; name=\"file\"; filename*=windows-1256''%D3%E1%C7%E3.pdf", "سلام.pdf"),
            (b"form-data; name=\"file\"; filename*=nonsense''%D3; filename=\"x.pdf\"", "x.pdf"),
            // Raw windows-1256.
            (b"form-data; name=\"file\"; filename=\"\xd3\xe1\xc7\xe3.pdf\"", "سلام.pdf"),
            // Encoded words.
            (b"form-data; name=\"file\"; filename=\"=?UTF-8?B?2LPZhNin2YU=?=.pdf\"", "سلام.pdf"),
            (b"form-data; name=\"file\"; filename=\"=?utf-8?Q?=D8=B3_1?= =?utf-8?q?2?=.pdf\"", "س 12.pdf"),
            (b"form-data; name=\"file\"; filename=\"=?windows-1256?B?0+HH4w==?=\"", "سلام"),
        ] {
            let read = of(raw);
            let shown = String::from_utf8_lossy(raw);
            assert_eq!((read.name.as_str(), read.file), ("file", Some(Ok(expected.to_owned()))), "{shown}");
        }
    }

    #[test]
    fn an_unreadable_name_is_an_error_and_a_missing_one_is_no_file() {
        for raw in [
            &b"form-data; name=\"file\"; filename*=UTF-8''%D8"[..],
            b"form-data; name=\"file\"; filename*=UTF-8''%zz",
            b"form-data; name=\"file\"; filename*=nonsense''a",
            b"form-data; name=\"file\"; filename*=a",
            b"form-data; name=\"file\"; filename=\"=?nonsense?B?YQ==?=\"",
            b"form-data; name=\"file\"; filename=\"=?utf-8?B?***?=\"",
            b"form-data; name=\"file\"; filename=\"=?utf-8?X?a?=\"",
        ] {
            assert_eq!(of(raw).file, Some(Err(Unreadable)), "{}", String::from_utf8_lossy(raw));
        }
        assert_eq!(of(b"form-data; name=\"text\""), Disposition { name: "text".into(), file: None });
        assert_eq!(of(b"form-data"), Disposition { name: String::new(), file: None });
        assert_eq!(of(b"form-data; filename=\"\"").file, Some(Ok(String::new())));
        assert_eq!(of(b"=;=;;\"").file, None);
    }
}
