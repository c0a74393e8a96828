//! Bodies that banks, panels and payers' browsers push: one form, whatever form they came in.
//!
//! Plugins read queries, URL-encoded forms and JSON. Senders also use multipart, call JSON a text or a form, and begin
//! it with a byte order mark. Nothing is judged here: what is neither stays as it came.

use bytes::Bytes;
use serde::de::IgnoredAny;

use crate::fields::{multipart_fields, without_mark};
use crate::reply::Failure;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A pushed body with the type that it has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pushed {
    pub(crate) content_type: String,
    pub(crate) body: Bytes,
}

impl Pushed {
    /// # Errors
    ///
    /// 400 for a multipart body that cannot be read.
    pub(crate) async fn read(content_type: &str, body: Bytes) -> Result<Pushed, Failure> {
        let body = without_mark(body);
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if essence == "multipart/form-data" {
            let fields = multipart_fields(content_type, body).await?;
            let mut form = form_urlencoded::Serializer::new(String::new());
            for (name, value) in fields {
                form.append_pair(&name, value.as_str().unwrap_or_default());
            }
            return Ok(Pushed { content_type: FORM.to_owned(), body: form.finish().into() });
        }
        let content_type = match essence.as_str() {
            JSON => content_type.to_owned(),
            _ if is_json_object(&body) => JSON.to_owned(),
            "" | "text/plain" if !body.is_empty() => FORM.to_owned(),
            _ => content_type.to_owned(),
        };
        Ok(Pushed { content_type, body })
    }
}

fn is_json_object(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_form_becomes_a_form_or_json() {
        let multipart = "--x\r\nContent-Disposition: form-data; name=\"Authority\"\r\n\r\nA 1\r\n\
                         --x\r\nContent-Disposition: form-data; name=\"Authority\"\r\n\r\n\r\n\
                         --x\r\nContent-Disposition: form-data; name=\"Status\"\r\n\r\nOK\r\n--x--\r\n";
        for (content_type, body, becomes, content) in [
            (JSON, "\u{feff}{\"a\":1}", JSON, "{\"a\":1}"),
            ("application/json; charset=utf-8", "{}", "application/json; charset=utf-8", "{}"),
            ("text/plain", " {\"a\":1}", JSON, " {\"a\":1}"),
            ("", "\u{feff}{\"a\":1}", JSON, "{\"a\":1}"),
            (FORM, "{\"a\":1}", JSON, "{\"a\":1}"),
            (FORM, "{=1", FORM, "{=1"),
            (FORM, "\u{feff}a=1", FORM, "a=1"),
            ("text/plain", "a=1", FORM, "a=1"),
            ("", "", "", ""),
            ("text/xml", "<a/>", "text/xml", "<a/>"),
            ("Multipart/Form-Data; boundary=x", multipart, FORM, "Authority=A+1&Authority=&Status=OK"),
        ] {
            let pushed = Pushed::read(content_type, Bytes::from(body)).await.expect("read");
            let expected = Pushed { content_type: becomes.to_owned(), body: content.into() };
            assert_eq!(pushed, expected, "{content_type} {body}");
        }
        assert!(Pushed::read("multipart/form-data", Bytes::from("x")).await.is_err(), "no boundary");
    }
}
