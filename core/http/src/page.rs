//! Pagination by cursor.
//!
//! A cursor is base64 of `p=<position>`, with a leading `r=1&` for the way back, in the original's manner. A position
//! belongs to its list: an entry's number, a message's number in its room. Clients take cursors from `next` and
//! `previous` and treat them as opaque.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use serde::Serialize;

use crate::reply::{Failure, Reply};
use crate::request::Context;
use crate::route::{Field, Is};

/// The cursor parameter of every paginated list.
pub(crate) const CURSOR: Field = Field("cursor", Is::MayText, "From `next` or `previous` of another page.");

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// Forwards from a position.
    Next(u64),
    /// Backwards from a position.
    Previous(u64),
}

impl Cursor {
    fn read(text: &str) -> Option<Cursor> {
        let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
        match text.strip_prefix("r=1&") {
            Some(rest) => rest.strip_prefix("p=")?.parse().ok().map(Cursor::Previous),
            None => text.strip_prefix("p=")?.parse().ok().map(Cursor::Next),
        }
    }

    fn write(self) -> String {
        STANDARD.encode(match self {
            Cursor::Next(position) => format!("p={position}"),
            Cursor::Previous(position) => format!("r=1&p={position}"),
        })
    }
}

/// Where the requested page begins; `None` for the first one.
///
/// # Errors
///
/// 404 for an invalid cursor.
pub(crate) fn cursor(context: &Context) -> Result<Option<Cursor>, Failure> {
    context.query("cursor").map(|text| Cursor::read(&text).ok_or_else(invalid_cursor)).transpose()
}

/// The same for a list that pages forwards only.
///
/// # Errors
///
/// 404 for an invalid or a backward cursor.
pub(crate) fn start(context: &Context) -> Result<Option<u64>, Failure> {
    match cursor(context)? {
        None => Ok(None),
        Some(Cursor::Next(position)) => Ok(Some(position)),
        Some(Cursor::Previous(_)) => Err(invalid_cursor()),
    }
}

fn invalid_cursor() -> Failure {
    Failure::detail(StatusCode::NOT_FOUND, "invalid_cursor", "Invalid cursor")
}

/// One page.
pub(crate) fn page<T: Serialize>(
    context: &Context,
    next: Option<Cursor>,
    previous: Option<Cursor>,
    results: &[T],
) -> Reply {
    #[derive(Serialize)]
    struct Page<'a, T> {
        next: Option<String>,
        previous: Option<String>,
        results: &'a [T],
    }
    let link = |cursor: Option<Cursor>| cursor.map(|cursor| link(context, cursor));
    Reply::json(StatusCode::OK, &Page { next: link(next), previous: link(previous), results })
}

/// This request's address with another cursor. Other parameters stay; keys are in alphabetical order.
pub(crate) fn link(context: &Context, cursor: Cursor) -> String {
    let mut pairs: Vec<(String, String)> = form_urlencoded::parse(context.query_text().as_bytes())
        .into_owned()
        .filter(|(name, _)| name != "cursor")
        .collect();
    pairs.push(("cursor".to_owned(), cursor.write()));
    pairs.sort_by(|one, other| one.0.cmp(&other.0));
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("{}{}?{query}", context.origin(), context.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        for cursor in [Cursor::Next(0), Cursor::Next(31), Cursor::Previous(u64::MAX)] {
            assert_eq!(Cursor::read(&cursor.write()), Some(cursor));
        }
        assert_eq!(Cursor::read(&STANDARD.encode("r=1&p=31")), Some(Cursor::Previous(31)));
        let texts =
            ["p=", "p=-1", "p=not-a-date", "q=1", "r=1&p", "r=0&p=1"].map(|text| STANDARD.encode(text));
        for wrong in ["", "!", "31", "p=1", "%%%"].into_iter().chain(texts.iter().map(String::as_str)) {
            assert_eq!(Cursor::read(wrong), None, "{wrong}");
        }
    }
}
