//! A connection whose peer must read, and that lets others have their turn: writing to it fails when the peer does not
//! read, and pauses after [`TURN_BYTES`].
//!
//! hyper waits for a client's window for ever. Here the wait begins when the connection is full. It is granted
//! `write_timeout`, and a second more for every [`BYTES_PER_SECOND_MIN`] bytes that the client takes, never more than
//! `write_timeout` ahead. The wait ends when everything was handed to the connection. So a client that takes a byte
//! now and then does not hold its place either.
//!
//! The kernel takes megabytes of replies at once for a client that pipelines requests and reads nothing. Written in one
//! go, fifty such connections keep every worker thread for tens of milliseconds, and all other clients wait. So a
//! connection goes to the end of the runtime's queue after each turn.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// A client that reads slower than this is dropped. Below the slowest mobile network (GPRS has 2 to 5 kB a second).
pub(crate) const BYTES_PER_SECOND_MIN: u64 = 1024;

/// Bytes that a connection writes before others are served: some tens of microseconds of copying.
const TURN_BYTES: usize = 64 * 1024;

pub(crate) struct Timed<S> {
    stream: S,
    timeout: Duration,
    /// Bytes written in this turn.
    turn: usize,
    /// Runs while the connection is full.
    wait: Option<Pin<Box<Sleep>>>,
}

impl<S> Timed<S> {
    pub(crate) fn new(stream: S, timeout: Duration) -> Timed<S> {
        Timed { stream, timeout, turn: 0, wait: None }
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    /// Whether the turn is over. The task then runs again behind those that wait.
    fn yields(&mut self, context: &Context<'_>) -> bool {
        let over = self.turn >= TURN_BYTES;
        if over {
            self.turn = 0;
            context.waker().wake_by_ref();
        }
        over
    }

    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Pending => {
                self.turn = 0;
                let timeout = self.timeout;
                let wait = self.wait.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + timeout)));
                match wait.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    Poll::Pending => Poll::Pending,
                }
            }
            Poll::Ready(Ok(bytes)) => {
                self.turn = self.turn.saturating_add(bytes);
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

/// The first slices of what is to be written, at most [`TURN_BYTES`] together, and at least one.
fn first_of<'a, 'b>(slices: &'a [IoSlice<'b>]) -> &'a [IoSlice<'b>] {
    let mut bytes = 0;
    let fits = slices.iter().take_while(|slice| {
        bytes += slice.len();
        bytes <= TURN_BYTES
    });
    &slices[..fits.count().max(1).min(slices.len())]
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
        if this.yields(context) {
            return Poll::Pending;
        }
        // A reply in one piece is written in turns, too.
        let bytes = &bytes[..bytes.len().min(TURN_BYTES)];
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.wrote(context, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.yields(context) {
            return Poll::Pending;
        }
        let turn = first_of(slices);
        let polled = match turn.first().filter(|_| turn.len() == 1) {
            Some(one) => Pin::new(&mut this.stream).poll_write(context, &one[..one.len().min(TURN_BYTES)]),
            None => Pin::new(&mut this.stream).poll_write_vectored(context, turn),
        };
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

    /// A peer that takes everything at once.
    struct Greedy(usize);

    impl AsyncWrite for Greedy {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0 += bytes.len();
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let bytes = slices.iter().map(|slice| slice.len()).sum();
            self.0 += bytes;
            Poll::Ready(Ok(bytes))
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Whatever is written and however: never more than a turn at once, then the task runs again behind the others.
    #[test]
    fn a_connection_writes_in_turns() {
        let waker = futures_util::task::noop_waker();
        let mut context = Context::from_waker(&waker);
        let bytes = vec![7; 10 * TURN_BYTES];
        let (small, large) = (&bytes[..100], &bytes[..]);
        let vectored = [&[small; 3][..], &[large][..], &[small, large][..], &[small; 2000][..]];
        for slices in vectored {
            let mut stream = Timed::new(Greedy(0), Duration::from_secs(3600));
            let (mut written, mut pauses) = (0, 0);
            let total: usize = slices.iter().map(|slice| slice.len()).sum();
            let mut left: Vec<&[u8]> = slices.to_vec();
            while written < total {
                let before = stream.stream.0;
                let io: Vec<_> = left.iter().map(|slice| IoSlice::new(slice)).collect();
                match Pin::new(&mut stream).poll_write_vectored(&mut context, &io) {
                    Poll::Pending => {
                        pauses += 1;
                        assert_eq!(stream.stream.0, before);
                        assert!(stream.wait.is_none(), "a pause is no wait for the peer");
                    }
                    Poll::Ready(wrote) => {
                        let mut wrote = wrote.expect("written");
                        assert!(wrote > 0 && wrote <= TURN_BYTES);
                        written += wrote;
                        while wrote > 0 {
                            let now = wrote.min(left[0].len());
                            left[0] = &left[0][now..];
                            wrote -= now;
                            if left[0].is_empty() {
                                left.remove(0);
                            }
                        }
                    }
                }
            }
            // A turn ends a little late when a slice does not fit any more.
            assert!(
                pauses >= (total / TURN_BYTES / 2).saturating_sub(1),
                "{pauses} pauses for {total} bytes"
            );
            assert!(total < TURN_BYTES || pauses > 0);
        }
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
