//! Tracks the progress of each connection's request, so a stop waits for requests but not for incomplete ones.
//!
//! A connection waits (for a request, or for the rest of a head), reads a body, or answers. When the gateway stops,
//! answering connections may finish. Waiting ones, and those that read without receiving, are closed after
//! [`HALF_PATIENCE`], those that still receive a body after [`BODY_PATIENCE`].
//!
//! A body may be answered before it was read. hyper closes its connection then, and says so to the client only when it
//! knows before it writes the head. So a body that is not read to its end comes back as a [`Rest`].

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use chelseru_domain::share::Share;
use http_body_util::BodyExt;
use hyper::body::{Body, Buf, Frame, SizeHint};

/// How long an incomplete request is awaited after the stop, or after its last piece.
pub(crate) const HALF_PATIENCE: Duration = Duration::from_secs(1);
/// How long an incomplete body whose pieces keep coming is read after the stop.
pub(crate) const BODY_PATIENCE: Duration = Duration::from_secs(5);
/// How long an idle connection stays open after the stop, so a request in transit is answered.
pub(crate) const LINGER: Duration = Duration::from_millis(300);
/// The rest of an unread body that is read and dropped, so that its connection stays. A form has less.
const REST_BYTES: u64 = 64 * 1024;
/// How long such a rest is awaited. The client is not answered meanwhile.
pub(crate) const REST_PATIENCE: Duration = Duration::from_secs(1);
/// The same, when the gateway is short of something: for what has arrived already.
pub(crate) const REST_PATIENCE_SHORT: Duration = Duration::from_millis(10);

const ANSWERING: u64 = u64::MAX;

/// Shared by a connection with its request and reply.
#[derive(Clone)]
pub(crate) struct Progress {
    start: Instant,
    /// Milliseconds from `start` to the client's last activity, or [`ANSWERING`].
    at: Arc<AtomicU64>,
    /// The last request was answered before its body was read to the end.
    unread: Arc<AtomicBool>,
}

impl Progress {
    pub(crate) fn new() -> Progress {
        Progress { start: Instant::now(), at: Arc::default(), unread: Arc::default() }
    }

    /// Whether the client may still be sending a body that nobody reads.
    pub(crate) fn left_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// How long the client has been silent; `None` while the gateway answers.
    pub(crate) fn silent_for(&self) -> Option<Duration> {
        let at = self.at.load(Ordering::Relaxed);
        (at != ANSWERING).then(|| self.start.elapsed().saturating_sub(Duration::from_millis(at)))
    }

    fn heard(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(ANSWERING - 1);
        self.at.store(now, Ordering::Relaxed);
    }

    fn answering(&self) {
        self.at.store(ANSWERING, Ordering::Relaxed);
    }

    /// Wraps a request's body, which is read from now on.
    pub(crate) fn request<B: Body>(&self, body: B) -> (Requested<B>, Rest<B>) {
        let ended = body.is_end_stream();
        if ended {
            self.answering()
        } else {
            self.heard()
        }
        let rest = Rest { body: Arc::default(), progress: self.clone() };
        (Requested { body: Some(body), ended, rest: rest.body.clone(), progress: self.clone() }, rest)
    }

    /// A reply's body, with whose end the connection waits again, and gives the place of its client back.
    pub(crate) fn reply<B>(&self, body: B, place: Option<Arc<Share>>) -> Replied<B> {
        self.answering();
        Replied { body, progress: self.clone(), _place: place }
    }
}

/// The body of a served request.
pub(crate) type Incoming = Requested<hyper::body::Incoming>;

pub(crate) struct Requested<B> {
    /// There until it is dropped.
    body: Option<B>,
    /// The end was read, or there is none to come.
    ended: bool,
    /// Where the body goes when its end was not read.
    rest: Arc<Mutex<Option<B>>>,
    progress: Progress,
}

impl<B: Body + Unpin> Body for Requested<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(_))) if !body.is_end_stream() => this.progress.heard(),
            Poll::Ready(_) => {
                this.ended = true;
                this.progress.answering();
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::new, Body::size_hint)
    }
}

impl<B> Drop for Requested<B> {
    fn drop(&mut self) {
        // The handler does not need the rest of the body.
        self.progress.unread.store(!self.ended, Ordering::Relaxed);
        self.progress.answering();
        if !self.ended {
            *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = self.body.take();
        }
    }
}

/// What a request's handler leaves of its body.
pub(crate) struct Rest<B> {
    body: Arc<Mutex<Option<B>>>,
    progress: Progress,
}

impl<B: Body + Unpin> Rest<B> {
    /// Whether the handler left something.
    pub(crate) fn is_left(&self) -> bool {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Reads and drops what is left, at most [`REST_BYTES`] and for as long as `patience`. False when there is more; it
    /// is not read any more.
    pub(crate) async fn drained(self, patience: Duration) -> bool {
        let left = self.body.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = left else { return true };
        if body.size_hint().lower() > REST_BYTES {
            return false;
        }
        let read = async {
            let mut bytes = 0;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                bytes += frame.data_ref().map_or(0, |data| data.remaining() as u64);
                if bytes > REST_BYTES {
                    return false;
                }
            }
            true
        };
        let ended = tokio::time::timeout(patience, read).await.unwrap_or(false);
        self.progress.unread.store(!ended, Ordering::Relaxed);
        ended
    }
}

pub(crate) struct Replied<B> {
    body: B,
    progress: Progress,
    _place: Option<Arc<Share>>,
}

impl<B: Body + Unpin> Body for Replied<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Replied<B> {
    fn drop(&mut self) {
        self.progress.heard();
    }
}
