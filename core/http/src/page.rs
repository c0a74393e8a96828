//! Pagination by cursor.
//!
//! A cursor is base64 of `p=<position>`, with a leading `r=1&` for the way back, in the original's manner. A position
//! belongs to its list: an entry's number, a message's number in its room. A list of entries by time has both in its
//! cursors, `t=<microseconds>&p=<position>`, and so goes on whatever becomes of the entry. Clients take cursors from
//! `next` and `previous` and treat them as opaque.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chelseru_domain::clock::Timestamp;
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

/// Where a page of a list by time begins: forwards from this instant, and from this position among its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeCursor {
    pub at: Timestamp,
    pub position: u64,
}

/// A cursor of the original, of whose messages clients still hold pages: entries by the time of their creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OldCursor {
    /// Older than this, or newer when it goes backwards; `None` for the first page.
    pub at: Option<Timestamp>,
    /// Entries to step over.
    pub skip: u64,
    pub backwards: bool,
}

/// Entries that an old cursor may step over; the original had the same bound.
const SKIP_MAX: u64 = 1000;

impl OldCursor {
    /// Reads the query that the original wrote: `p` an instant, `o` a number, `r=1` for the way back.
    fn read(text: &str) -> Option<OldCursor> {
        let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
        let mut old = OldCursor { at: None, skip: 0, backwards: false };
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match &*name {
                "p" => old.at = Some(instant(&value)?),
                "o" => old.skip = value.parse().ok().filter(|skip| *skip <= SKIP_MAX)?,
                "r" if value == "1" => old.backwards = true,
                _ => return None,
            }
        }
        (old.at.is_some() || old.skip > 0).then_some(old)
    }
}

/// An instant as the original writes it: `2026-01-31 12:00:00.123456+00:00`.
fn instant(text: &str) -> Option<Timestamp> {
    let instant: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(instant.as_microsecond()).ok().map(Timestamp::from_micros)
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

impl TimeCursor {
    fn read(text: &str) -> Option<TimeCursor> {
        let text = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
        let (at, position) = text.strip_prefix("t=")?.split_once("&p=")?;
        let at = at.parse().ok().map(Timestamp::from_micros)?;
        Some(TimeCursor { at, position: position.parse().ok()? })
    }

    fn write(self) -> String {
        STANDARD.encode(format!("t={}&p={}", self.at.as_micros(), self.position))
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

/// Where the page that a request asks for began in the original; `None` when its cursor is none of the original's.
pub(crate) fn old_cursor(context: &Context) -> Option<OldCursor> {
    context.query("cursor").and_then(|text| OldCursor::read(&text))
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

/// The same for a list by time.
///
/// # Errors
///
/// 404 for an invalid cursor.
pub(crate) fn start_in_time(context: &Context) -> Result<Option<TimeCursor>, Failure> {
    context.query("cursor").map(|text| TimeCursor::read(&text).ok_or_else(invalid_cursor)).transpose()
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
    let link = |cursor: Option<Cursor>| cursor.map(|cursor| link(context, cursor));
    linked(link(next), link(previous), results)
}

/// One page of a list by time.
pub(crate) fn page_in_time<T: Serialize>(
    context: &Context,
    next: Option<TimeCursor>,
    results: &[T],
) -> Reply {
    linked(next.map(|next| link_to(context, next.write())), None, results)
}

fn linked<T: Serialize>(next: Option<String>, previous: Option<String>, results: &[T]) -> Reply {
    #[derive(Serialize)]
    struct Page<'a, T> {
        next: Option<String>,
        previous: Option<String>,
        results: &'a [T],
    }
    Reply::json(StatusCode::OK, &Page { next, previous, results })
}

/// This request's address with another cursor. Other parameters stay; keys are in alphabetical order.
pub(crate) fn link(context: &Context, cursor: Cursor) -> String {
    link_to(context, cursor.write())
}

fn link_to(context: &Context, cursor: String) -> String {
    let mut pairs: Vec<(String, String)> = form_urlencoded::parse(context.query_text().as_bytes())
        .into_owned()
        .filter(|(name, _)| name != "cursor")
        .collect();
    pairs.push(("cursor".to_owned(), cursor));
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
            assert_eq!(OldCursor::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_cursor_in_time_is_read_as_it_was_written_and_nothing_else_is() {
        let cursor = TimeCursor { at: Timestamp::from_micros(1_769_860_800_123_456), position: 31 };
        assert_eq!(TimeCursor::read(&cursor.write()), Some(cursor));
        assert_eq!(Cursor::read(&cursor.write()), None);
        let texts = ["t=1", "t=&p=1", "t=1&p=", "t=1&p=-1", "t=-1&p=1", "p=1", "p=1&t=1"];
        for wrong in texts.map(|text| STANDARD.encode(text)).iter().map(String::as_str).chain(["", "!"]) {
            assert_eq!(TimeCursor::read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn cursors_of_the_original_are_read() {
        let read = |text: &str| OldCursor::read(&STANDARD.encode(text));
        let at = Some(Timestamp::from_micros(1_769_860_800_123_456));
        let time = "2026-01-31+12%3A00%3A00.123456%2B00%3A00";
        assert_eq!(read(&format!("p={time}")), Some(OldCursor { at, skip: 0, backwards: false }));
        assert_eq!(read(&format!("r=1&p={time}")), Some(OldCursor { at, skip: 0, backwards: true }));
        assert_eq!(read(&format!("o=2&p={time}")), Some(OldCursor { at, skip: 2, backwards: false }));
        assert_eq!(read("o=30"), Some(OldCursor { at: None, skip: 30, backwards: false }));
        for wrong in ["o=1001", "o=-1", "p=2026-01-31", "p=2026-01-31+12%3A00%3A00&x=1", "r=1", ""] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
