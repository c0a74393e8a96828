//! A guest's standard output and error, on their way to the log.
//!
//! Both streams of a call share one budget; output above it is dropped, and one line reports that. A line goes out
//! when it ends or with the call, and never in parts. Each passes the border as a whole (see `text`) and is cut
//! afterwards, because a plugin's debug print is the likeliest place for a key to leak, and half of one is not
//! recognised. So the end of a line is left out where the budget cut it. A call has `LINES_MAX` lines; one more says
//! how many there were beyond. The stream always accepts: a guest that floods is neither slowed down nor informed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::text::Border;

/// Characters of one line in the log.
const LINE_CHARS_MAX: usize = 1024;
/// Lines in the log of one call. A budget of 4 KiB would have room for 2,000.
const LINES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// What one call has printed and may still print.
pub(crate) struct GuestOutput {
    provider: Arc<str>,
    border: Arc<Border>,
    limit: usize,
    state: Mutex<State>,
}

struct State {
    left: usize,
    cut: bool,
    /// The lines that have not ended, at most the budget long together.
    out: Vec<u8>,
    err: Vec<u8>,
    /// Lines so far, those beyond `LINES_MAX` included.
    lines: usize,
}

impl GuestOutput {
    pub(crate) fn new(provider: Arc<str>, border: Arc<Border>, limit: usize) -> Arc<GuestOutput> {
        let state = State { left: limit, cut: false, out: Vec::new(), err: Vec::new(), lines: 0 };
        let state = Mutex::new(state);
        Arc::new(GuestOutput { provider, border, limit, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic inside the lock leaves at worst a half-written log line.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut guard = self.state();
        let state = &mut *guard;
        let taken = &bytes[..bytes.len().min(state.left)];
        state.left -= taken.len();
        for piece in taken.split_inclusive(|b| *b == b'\n') {
            state.line(stream).extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.emit(state, stream, true);
            }
        }
        if taken.len() < bytes.len() && !state.cut {
            state.cut = true;
            // Also of the other stream: what it prints from here on is dropped.
            self.emit(state, Stream::Out, false);
            self.emit(state, Stream::Err, false);
            tracing::warn!(
                target: "plugin",
                { plugin.id = %self.provider },
                "output cut after {} bytes in one call",
                self.limit
            );
        }
    }

    fn emit(&self, state: &mut State, stream: Stream, is_whole: bool) {
        let line = std::mem::take(state.line(stream));
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        state.lines += 1;
        if state.lines <= LINES_MAX {
            let shown = self.border.line(text, LINE_CHARS_MAX, is_whole);
            let stream = if stream == Stream::Out { "stdout" } else { "stderr" };
            tracing::info!(target: "plugin", { plugin.id = %self.provider, stream }, "{shown}");
        }
    }

    fn end(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        self.emit(state, Stream::Out, true);
        self.emit(state, Stream::Err, true);
        if state.lines > LINES_MAX {
            tracing::warn!(
                target: "plugin",
                { plugin.id = %self.provider },
                "output of {} lines in one call, {} dropped",
                state.lines,
                state.lines - LINES_MAX
            );
        }
    }
}

impl State {
    fn line(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        }
    }
}

impl Drop for GuestOutput {
    fn drop(&mut self) {
        self.end();
    }
}

/// One of the two streams, as WASI wants it.
#[derive(Clone)]
pub(crate) struct GuestStream {
    pub(crate) output: Arc<GuestOutput>,
    pub(crate) stream: Stream,
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        // Only WASI 0.3 asks for this form, and it is not linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    /// Also bounds what the host allocates for `write-zeroes`.
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(4096)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::Lines;

    const SECRET: &str = "s3cret-key-of-ours";
    const NUMBER: &str = "09121234567";

    /// What the log shows of a call that prints this.
    fn printed(limit: usize, text: &str) -> Vec<String> {
        let border = Border::new(&[SECRET.to_owned()]);
        Lines::of(|| {
            let output = GuestOutput::new("x".into(), Arc::new(border), limit);
            // As a guest prints: a few bytes at once.
            for part in text.as_bytes().chunks(700) {
                output.write(Stream::Out, part);
            }
        })
    }

    fn assert_masked(lines: &[String], what: &str) {
        for whole in [SECRET, NUMBER] {
            for piece in (0..=whole.len() - 6).map(|at| &whole[at..at + 6]) {
                assert!(!lines.iter().any(|line| line.contains(piece)), "{what}: {piece:?} in {lines:?}");
            }
        }
    }

    #[test]
    fn a_secret_and_a_number_are_masked_wherever_they_stand_in_a_line() {
        for offset in 0..=2100 {
            for (first, second) in [(SECRET, NUMBER), (NUMBER, SECRET)] {
                let lines = printed(4096, &format!("{} {first} {second} end", "y".repeat(offset)));
                assert_eq!(lines.len(), 1, "{offset}: {lines:?}");
                assert_masked(&lines, &offset.to_string());
            }
        }
    }

    #[test]
    fn a_secret_and_a_number_at_the_end_of_the_budget_do_not_show() {
        for offset in 0..=420 {
            for (first, second) in [(SECRET, NUMBER), (NUMBER, SECRET)] {
                let text = format!("{} {first} {second} {}", "y".repeat(offset), "z".repeat(420));
                let lines = printed(400, &text);
                assert_eq!(lines[1..], ["output cut after 400 bytes in one call"], "{offset}: {lines:?}");
                assert_masked(&lines, &offset.to_string());
            }
        }
        // The end of the call is no cut.
        let whole = format!("{} end", "y".repeat(396));
        assert_eq!(printed(400, &whole), [whole]);
    }

    #[test]
    fn the_line_of_the_other_stream_is_cut_as_well() {
        for part in 1..SECRET.len() {
            let lines = Lines::of(|| {
                let output =
                    GuestOutput::new("x".into(), Arc::new(Border::new(&[SECRET.to_owned()])), 100 + part);
                output.write(Stream::Err, &SECRET.as_bytes()[..part]);
                output.write(Stream::Out, &[b'z'; 200]);
                output.write(Stream::Err, &SECRET.as_bytes()[part..]);
            });
            assert_masked(&lines, &part.to_string());
            assert!(!lines.iter().any(|line| line.contains("s3c")), "{lines:?}");
        }
    }

    #[test]
    fn a_call_has_so_many_lines_and_one_says_how_many_more_there_were() {
        for count in [LINES_MAX - 1, LINES_MAX] {
            assert_eq!(printed(4096, &"a\n".repeat(count)), vec!["a"; count]);
        }
        for (count, dropped) in [(LINES_MAX + 1, 1), (2048, 1984)] {
            let lines = printed(4096, &"a\n".repeat(count));
            assert_eq!((lines.len(), &lines[LINES_MAX - 1][..]), (LINES_MAX + 1, "a"));
            assert_eq!(lines[LINES_MAX], format!("output of {count} lines in one call, {dropped} dropped"));
        }
        // Empty ones are not shown and do not count.
        assert_eq!(printed(4096, &"\n".repeat(4000)), [""; 0]);
    }

    #[test]
    fn the_budget_is_shared_by_both_streams_and_never_exceeded() {
        let output = GuestOutput::new("x".into(), Arc::default(), 10);
        output.write(Stream::Out, b"123456");
        output.write(Stream::Err, b"789");
        output.write(Stream::Err, b"0");
        let seen = || {
            let state = output.state();
            (state.left, state.cut)
        };
        assert_eq!(seen(), (0, false));
        output.write(Stream::Out, b"x");
        assert_eq!(seen(), (0, true));
    }

    #[test]
    fn lines_without_end_grow_to_the_budget_together() {
        let output = GuestOutput::new("x".into(), Arc::default(), 10_000);
        for _ in 0..100 {
            for stream in [Stream::Out, Stream::Err] {
                output.write(stream, &[b'a'; 700]);
                let state = output.state();
                assert!(state.out.len() + state.err.len() <= 10_000);
            }
        }
    }
}
