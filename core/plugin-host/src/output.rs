//! A guest's standard output and error, on their way to the log.
//!
//! Both streams of a call share one budget; output above it is dropped, and one line reports that. A line goes out
//! when it ends, when it grows past `LINE_BYTES_MAX`, or with the call. Each line passes the border (see `text`),
//! because a plugin's debug print is the likeliest place for a key to leak. The stream always accepts: a guest that
//! floods is neither slowed down nor informed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::text::Border;

/// Longest line in the log, in bytes before escaping.
const LINE_BYTES_MAX: usize = 1024;

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
    out: Vec<u8>,
    err: Vec<u8>,
}

impl GuestOutput {
    pub(crate) fn new(provider: Arc<str>, border: Arc<Border>, limit: usize) -> Arc<GuestOutput> {
        let state = Mutex::new(State { left: limit, cut: false, out: Vec::new(), err: Vec::new() });
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
        let line = match stream {
            Stream::Out => &mut state.out,
            Stream::Err => &mut state.err,
        };
        for piece in taken.split_inclusive(|b| *b == b'\n') {
            for part in piece.chunks(LINE_BYTES_MAX) {
                if line.len() + part.len() > LINE_BYTES_MAX {
                    self.emit(stream, line);
                }
                line.extend_from_slice(part);
            }
            if line.ends_with(b"\n") {
                self.emit(stream, line);
            }
        }
        if taken.len() < bytes.len() && !state.cut {
            state.cut = true;
            self.emit(Stream::Out, &mut state.out);
            self.emit(Stream::Err, &mut state.err);
            tracing::warn!(
                target: "plugin",
                { plugin.id = %self.provider },
                "output cut after {} bytes in one call",
                self.limit
            );
        }
    }

    fn emit(&self, stream: Stream, line: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end();
        if !text.is_empty() {
            let shown = self.border.line(text, LINE_BYTES_MAX);
            let stream = if stream == Stream::Out { "stdout" } else { "stderr" };
            tracing::info!(target: "plugin", { plugin.id = %self.provider, stream }, "{shown}");
        }
        line.clear();
    }
}

impl Drop for GuestOutput {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (mut out, mut err) = (std::mem::take(&mut state.out), std::mem::take(&mut state.err));
        self.emit(Stream::Out, &mut out);
        self.emit(Stream::Err, &mut err);
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
    fn a_line_without_end_does_not_grow() {
        let output = GuestOutput::new("x".into(), Arc::default(), 1 << 20);
        for _ in 0..100 {
            output.write(Stream::Out, &[b'a'; 700]);
            assert!(output.state().out.len() <= LINE_BYTES_MAX);
        }
    }
}
