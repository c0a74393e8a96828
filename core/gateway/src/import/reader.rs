//! Reading the source: rows in their order, hashed and counted for those who look on.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::tz::TimeZone;

use super::source::{Query, Row, Source, Value};

/// Between two lines where no terminal shows a bar.
const LINE_ROWS: u64 = 100_000;

/// Table, bar, rows, time left.
const BAR: &str = "{msg:36} {bar:30} {human_pos}/{human_len} {eta}";

pub(super) struct Reader {
    pub(super) source: Source,
    /// The zone of times without one.
    pub(super) zone: TimeZone,
    digest: RefCell<blake3::Hasher>,
    progress: Progress,
}

impl Reader {
    pub(super) fn new(source: Source, zone: TimeZone) -> Reader {
        Reader { source, zone, digest: RefCell::default(), progress: Progress::new() }
    }

    /// Hands out the rows of a query. Returns how many there were.
    ///
    /// Errors: those of reading, which name table and row, and the first one of `each`.
    pub(super) fn each(
        &self,
        query: &Query,
        mut each: impl FnMut(&Row<'_>) -> Result<(), String>,
    ) -> Result<u64, String> {
        self.progress.begin(query.table, self.source.count(query.table)?);
        let mut rows = 0;
        self.digest.borrow_mut().update(query.table.as_bytes());
        self.source.each(query, &mut |row| {
            hash(&mut self.digest.borrow_mut(), row);
            rows += 1;
            self.progress.step(query.table, rows);
            each(row)
        })?;
        self.progress.end();
        Ok(rows)
    }

    /// The hash of every row so far.
    pub(super) fn digest(&self) -> String {
        self.digest.borrow().finalize().to_hex().to_string()
    }
}

fn hash(digest: &mut blake3::Hasher, row: &Row<'_>) {
    for value in &row.values {
        match value {
            Value::Null => digest.update(&[0]),
            Value::Integer(number) => digest.update(&[1]).update(&number.to_le_bytes()),
            Value::Real(number) => digest.update(&[2]).update(&number.to_bits().to_le_bytes()),
            Value::Text(text) => {
                digest.update(&[3]).update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes())
            }
        };
    }
}

/// A bar on a terminal, lines elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(BAR);
            bar.set_style(style.expect("a template that a test tried"));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Progress { bar }
    }

    fn begin(&self, table: &'static str, rows: u64) {
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.set_length(rows);
            bar.set_message(table);
        }
    }

    fn step(&self, table: &str, rows: u64) {
        match &self.bar {
            Some(bar) if rows.is_multiple_of(256) => bar.set_position(rows),
            None if rows.is_multiple_of(LINE_ROWS) => eprintln!("{table}: {rows} rows"),
            _ => {}
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bars_template_is_one() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }
}
