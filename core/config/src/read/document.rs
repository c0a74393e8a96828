//! Positions of keys and values in a file.

use std::ops::Range;

use toml_edit::TableLike;

pub(super) type Document = toml_edit::Document<String>;

/// Returns `None` when the text is not TOML.
pub(super) fn parse(text: &str) -> Option<Document> {
    Document::parse(text.to_owned()).ok()
}

/// A key, as deep as it was found.
#[derive(Debug, Default)]
pub(super) struct Place {
    pub(super) path: Vec<String>,
    /// Offset of the key's first character.
    pub(super) start: Option<usize>,
    /// The value's text; `None` for a table with a header of its own.
    pub(super) value: Option<Range<usize>>,
}

impl Place {
    /// The dotted key.
    pub(super) fn key(&self) -> String {
        self.path.join(".")
    }
}

/// Finds the key whose name or value covers an offset.
pub(super) fn at(document: &Document, offset: usize) -> Place {
    let mut place = Place::default();
    descend(document.as_table(), offset, &mut place);
    place
}

/// Returns true when the offset lies in this table or below it.
fn descend(table: &dyn TableLike, offset: usize, place: &mut Place) -> bool {
    for (name, _) in table.iter() {
        let Some((key, item)) = table.get_key_value(name) else { continue };
        place.path.push(name.to_owned());
        if let Some(below) = item.as_table_like()
            && descend(below, offset, place)
        {
            return true;
        }
        let within = |span: Option<Range<usize>>| span.is_some_and(|span| span.contains(&offset));
        if within(key.span()) || within(item.span()) {
            place.start = key.span().map(|span| span.start).or(Some(offset));
            place.value = item.as_value().and_then(toml_edit::Value::span);
            return true;
        }
        place.path.pop();
    }
    false
}

/// The start of a dotted key, and whether the whole key exists; otherwise the start of its nearest table.
pub(super) fn find(document: &Document, key: &str) -> (Option<usize>, bool) {
    let mut table: Option<&dyn TableLike> = Some(document.as_table());
    let mut start = None;
    for part in key.split('.') {
        let Some((name, item)) = table.and_then(|table| table.get_key_value(part)) else {
            return (start, false);
        };
        start = name.span().or_else(|| item.span()).map(|span| span.start).or(start);
        table = item.as_table_like();
    }
    (start, true)
}
