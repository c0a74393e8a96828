//! One row and its values.

use chelseru_domain::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;

use super::schema::Query;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
}

/// A row of a query. The readers of values name table and row when a value is not what it must be.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) query: &'a Query,
    pub(crate) values: Vec<Value>,
}

impl Row<'_> {
    /// Where the row is, for people.
    pub(crate) fn place(&self) -> String {
        match self.query.columns.iter().position(|column| *column == "id").and_then(|at| self.values.get(at))
        {
            Some(Value::Integer(id)) => format!("{} {id}", self.query.table),
            Some(Value::Text(id)) => format!("{} {id}", self.query.table),
            _ => self.query.table.to_owned(),
        }
    }

    pub(crate) fn value(&self, column: &str) -> &Value {
        let at = self.query.place_of(column).expect("a query asks for what is read");
        &self.values[at]
    }

    fn wrong(&self, column: &str, accepted: &str) -> String {
        let found = match self.value(column) {
            Value::Null => "NULL".to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Real(number) => number.to_string(),
            Value::Text(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
        };
        format!("{}: {column} is {found}, which is no {accepted}", self.place())
    }

    pub(crate) fn maybe_integer(&self, column: &str) -> Result<Option<i64>, String> {
        match self.value(column) {
            Value::Null => Ok(None),
            Value::Integer(number) => Ok(Some(*number)),
            Value::Text(text) => text.parse().map(Some).map_err(|_| self.wrong(column, "whole number")),
            Value::Real(_) => Err(self.wrong(column, "whole number")),
        }
    }

    pub(crate) fn integer(&self, column: &str) -> Result<i64, String> {
        self.maybe_integer(column)?.ok_or_else(|| self.wrong(column, "whole number"))
    }

    /// A row's number: from 1.
    pub(crate) fn id(&self, column: &str) -> Result<u64, String> {
        self.maybe_id(column)?.ok_or_else(|| self.wrong(column, "number of a row"))
    }

    pub(crate) fn maybe_id(&self, column: &str) -> Result<Option<u64>, String> {
        let Some(number) = self.maybe_integer(column)? else { return Ok(None) };
        match u64::try_from(number) {
            Ok(id) if id > 0 => Ok(Some(id)),
            _ => Err(self.wrong(column, "number of a row")),
        }
    }

    pub(crate) fn maybe_text(&self, column: &str) -> Option<String> {
        match self.value(column) {
            Value::Null => None,
            Value::Integer(number) => Some(number.to_string()),
            Value::Real(number) => Some(number.to_string()),
            Value::Text(text) => Some(text.clone()),
        }
    }

    pub(crate) fn text(&self, column: &str) -> Result<String, String> {
        self.maybe_text(column).ok_or_else(|| self.wrong(column, "text"))
    }

    pub(crate) fn flag(&self, column: &str) -> Result<bool, String> {
        match self.value(column) {
            Value::Integer(0) => Ok(false),
            Value::Integer(1) => Ok(true),
            Value::Text(text) if text == "false" => Ok(false),
            Value::Text(text) if text == "true" => Ok(true),
            _ => Err(self.wrong(column, "truth value")),
        }
    }

    /// A number as decimal text.
    pub(crate) fn decimal(&self, column: &str) -> Result<String, String> {
        self.text(column)
    }

    pub(crate) fn maybe_real(&self, column: &str) -> Result<Option<f64>, String> {
        let number = match self.value(column) {
            Value::Null => return Ok(None),
            Value::Integer(number) => *number as f64,
            Value::Real(number) => *number,
            Value::Text(text) => text.parse().map_err(|_| self.wrong(column, "number"))?,
        };
        match number.is_finite() {
            true => Ok(Some(number)),
            false => Err(self.wrong(column, "number")),
        }
    }

    pub(crate) fn time(&self, column: &str, zone: &TimeZone) -> Result<Timestamp, String> {
        self.maybe_time(column, zone)?.ok_or_else(|| self.wrong(column, "time"))
    }

    pub(crate) fn maybe_time(&self, column: &str, zone: &TimeZone) -> Result<Option<Timestamp>, String> {
        match self.value(column) {
            Value::Null => Ok(None),
            Value::Text(text) => {
                parse_time(text, zone).map(Some).ok_or_else(|| self.wrong(column, "time since 1970"))
            }
            _ => Err(self.wrong(column, "time")),
        }
    }
}

/// Reads a time as databases and `dumpdata` write it. One without an offset is a time of the zone.
fn parse_time(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    let has_offset = text.get(10..).is_some_and(|time| time.contains(['+', '-', 'Z', 'z']));
    let instant = match has_offset {
        // PostgreSQL writes "+00", which is read as "+00:00".
        true => {
            let short = text.len() > 3 && matches!(text.as_bytes()[text.len() - 3], b'+' | b'-');
            let whole = if short { format!("{text}:00") } else { text.to_owned() };
            whole.parse::<jiff::Timestamp>().ok()?
        }
        false => text.parse::<civil::DateTime>().ok()?.to_zoned(zone.clone()).ok()?.timestamp(),
    };
    u64::try_from(instant.as_microsecond()).ok().map(Timestamp::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_database_are_read() {
        let tehran = TimeZone::get("Asia/Tehran").expect("a zone");
        let micros = |text: &str, zone: &TimeZone| parse_time(text, zone).map(Timestamp::as_micros);
        let expected = Some(1_795_708_304_240_363);
        for text in [
            "2026-11-26 15:51:44.240363",
            "2026-11-26T15:51:44.240363",
            "2026-11-26 15:51:44.240363+00",
            "2026-11-26 15:51:44.240363+00:00",
            "2026-11-26T15:51:44.240363Z",
            "2026-11-26 19:21:44.240363+03:30",
        ] {
            assert_eq!(micros(text, &TimeZone::UTC), expected, "{text}");
        }
        assert_eq!(micros("2026-11-26 19:21:44.240363", &tehran), expected);
        // Iran had summer time until 2022.
        assert_eq!(micros("2022-07-01 12:00:00", &tehran), micros("2022-07-01 07:30:00", &TimeZone::UTC));
        assert_eq!(micros("2026-07-01 12:00:00", &tehran), micros("2026-07-01 08:30:00", &TimeZone::UTC));
        for text in ["", "yesterday", "2026-13-01 00:00:00", "1969-12-31 23:59:59"] {
            assert_eq!(micros(text, &TimeZone::UTC), None, "{text}");
        }
    }
}
