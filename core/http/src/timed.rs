//! A connection whose peer must read: writing to it fails when it does not.
//!
//! hyper waits for a client's window for ever. Here the wait begins when the connection is full. It is granted
//! `write_timeout`, and a second more for every [`BYTES_PER_SECOND_MIN`] bytes that the client takes, never more than
//! `write_timeout` ahead. The wait ends when everything was handed to the connection. So a client that takes a byte
//! now and then does not hold its place either.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// A client that reads slower than this is dropped. Below the slowest mobile network (GPRS has 2 to 5 kB a second).
pub(crate) const BYTES_PER_SECOND_MIN: u64 = 1024;

pub(crate) struct Timed<S> {
    stream: S,
    timeout: Duration,
    /// Runs while the connection is full.
    wait: Option<Pin<Box<Sleep>>>,
}

impl<S> Timed<S> {
    pub(crate) fn new(stream: S, timeout: Duration) -> Timed<S> {
        Timed { stream, timeout, wait: None }
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Pending => {
                let timeout = self.timeout;
                let wait = self.wait.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + timeout)));
                match wait.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Poll::Pending => Poll::Pending,
                }
            }
            Poll::Ready(Ok(bytes)) => {
                if let Some(wait) = &mut self.wait {
                    let until = prolonged(wait.deadline(), Instant::now() + self.timeout, bytes);
                    wait.as_mut().reset(until);
                }
                Poll::Ready(Ok(bytes))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

/// When a wait ends once the client took some bytes: later, and not after `latest`.
fn prolonged(deadline: Instant, latest: Instant, bytes: usize) -> Instant {
    let earned = Duration::from_millis((bytes as u64).saturating_mul(1000) / BYTES_PER_SECOND_MIN);
    (deadline + earned).min(latest)
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.wrote(context, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.wrote(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when nothing is left to write.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.wait = None;
        Pin::new(&mut this.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_dropped() {
        let (stream, _client) = duplex(1);
        let written = Timed::new(stream, Duration::from_millis(50)).write_all(&[0; 2]).await;
        assert_eq!(written.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
    }

    #[tokio::test]
    async fn a_client_that_reads_is_waited_for_and_an_end_of_writing_ends_the_wait() {
        let (stream, mut client) = duplex(1);
        let mut stream = Timed::new(stream, Duration::from_secs(3600));
        let read = tokio::spawn(async move {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.map(|bytes| (bytes, client))
        });
        stream.write_all(&[0; 100]).await.expect("written");
        stream.flush().await.expect("flushed");
        assert!(stream.wait.is_none());
        drop(stream);
        assert_eq!(read.await.expect("no panic").expect("read").0, 100);
    }

    #[test]
    fn a_wait_is_prolonged_by_what_the_client_takes_and_never_past_the_timeout() {
        let (second, now) = (Duration::from_secs(1), Instant::now());
        let latest = now + 30 * second;
        let rate = BYTES_PER_SECOND_MIN as usize;
        assert_eq!(prolonged(now + second, latest, rate), now + 2 * second);
        assert_eq!(
            prolonged(now + second, latest, rate / 2),
            now + second * 3 / 2,
            "slower than time passes"
        );
        assert_eq!(prolonged(now + 29 * second, latest, rate), latest);
        assert_eq!(prolonged(now + 29 * second, latest, usize::MAX), latest);
    }
}
