//! A request's body in pieces, within the time limit of an upload.

use std::io;
use std::time::Duration;

use crate::drain::Incoming;
use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::time::Instant;

use super::store::Slot;
use crate::reply::Failure;

/// The lowest rate of a body after `files.upload_grace_seconds`. A slower one would block others' uploads;
/// the slowest phones send several times as much.
const BYTES_PER_SECOND_MIN: u64 = 2048;

/// The pieces of a body, limited in the time between two pieces and in total. Exceeding a limit ends with
/// [`io::ErrorKind::TimedOut`], losing the place to another upload with [`io::ErrorKind::Interrupted`].
pub(crate) fn pieces(
    limits: &chelseru_config::Files,
    idle: Duration,
    slot: &Slot,
    body: Incoming,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let start = Instant::now();
    let end = start + Duration::from_secs(limits.upload_seconds_max);
    let (grace, progress) = (Duration::from_secs(limits.upload_grace_seconds), slot.progress.clone());
    futures_util::stream::unfold(Some((body, 0, progress)), move |state| async move {
        let (mut body, received, progress) = state?;
        let paced = start + grace + Duration::from_secs(received / BYTES_PER_SECOND_MIN);
        let until = end.min(Instant::now() + idle).min(paced);
        loop {
            let frame = tokio::select! {
                biased;
                () = progress.displaced.cancelled() => return Some((Err(io::ErrorKind::Interrupted.into()), None)),
                frame = tokio::time::timeout_at(until, body.frame()) => frame,
            };
            return match frame {
                Err(_) => Some((Err(io::ErrorKind::TimedOut.into()), None)),
                Ok(None) => None,
                Ok(Some(Err(error))) => Some((Err(io::Error::other(error)), None)),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(piece) => {
                        let received = received + piece.len() as u64;
                        progress.add(piece.len());
                        Some((Ok(piece), Some((body, received, progress))))
                    }
                    // Trailers have no meaning here.
                    Err(_) => continue,
                },
            };
        }
    })
}

/// The refusal of a body that [`pieces`] ended; `None` for a body that ended itself.
pub(crate) fn cut_off(error: &io::Error) -> Option<Failure> {
    match error.kind() {
        io::ErrorKind::TimedOut => Some(too_slow()),
        io::ErrorKind::Interrupted => {
            let text = "Others wait for a place among the uploads. Please go on later.";
            let failure = Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "upload_displaced", text);
            Some(failure.retry_after(5))
        }
        _ => None,
    }
}

fn too_slow() -> Failure {
    let text = "The request body did not arrive in time.";
    Failure::detail(StatusCode::REQUEST_TIMEOUT, "body_timeout", text)
}
