//! Percent and form encoding, both ways, without a URL library (code size is paid on every load).
//!
//! Encoding is strict (only RFC 3986 unreserved characters stay), decoding is lenient: a broken escape stays as
//! it is and bytes that are not UTF-8 are replaced, because providers' callbacks are what they are.

use std::borrow::Cow;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

fn push_encoded(out: &mut String, text: &str, space: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b' ' => out.push_str(space),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

/// One path segment: everything but RFC 3986 unreserved characters is escaped, the slash too.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    push_encoded(&mut out, text, "%20");
    out
}

/// `application/x-www-form-urlencoded`: UTF-8, a space as `+`.
pub fn form(pairs: &[(&str, &str)]) -> String {
    // At worst every byte becomes three.
    let mut out =
        String::with_capacity(pairs.iter().map(|(key, value)| 3 * (key.len() + value.len()) + 2).sum());
    for (key, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        push_encoded(&mut out, key, "+");
        out.push('=');
        push_encoded(&mut out, value, "+");
    }
    out
}

/// Decodes a query string or form body into its pairs, in order; a key without `=` has an empty value.
pub fn form_decode(text: &str) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = bytes.get(at + 1).zip(bytes.get(at + 2)).and_then(|(high, low)| {
            let (high, low) = (char::from(*high).to_digit(16)?, char::from(*low).to_digit(16)?);
            u8::try_from(high * 16 + low).ok()
        });
        match (byte, escaped) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
            }
            (b'+', _) => {
                out.push(b' ');
                at += 1;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    match String::from_utf8_lossy(&out) {
        Cow::Borrowed(valid) => valid.to_owned(),
        Cow::Owned(repaired) => repaired,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_cannot_leave_its_place_in_the_path() {
        assert_eq!(segment("a/b?c#d e%"), "a%2Fb%3Fc%23d%20e%25");
        assert_eq!(segment("AZaz09-._~"), "AZaz09-._~");
    }

    #[test]
    fn form_pairs_survive_a_round_trip() {
        let pairs = [("receptor", "0912,0913"), ("message", "کد: 12 & 3 = a+b\n"), ("empty", "")];
        let encoded = form(&pairs);
        assert!(encoded.starts_with("receptor=0912%2C0913&message=%DA%A9"), "{encoded}");
        assert!(encoded.is_ascii() && !encoded.contains(' '));
        let decoded = form_decode(&encoded);
        assert_eq!(decoded, pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn broken_escapes_and_bytes_do_not_lose_the_rest() {
        let decoded = form_decode("a=%&b=%4&c=%zz&d=%FFx&e&&=f&g=%2");
        let expected =
            [("a", "%"), ("b", "%4"), ("c", "%zz"), ("d", "\u{fffd}x"), ("e", ""), ("", "f"), ("g", "%2")];
        assert_eq!(decoded, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
