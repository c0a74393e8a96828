//! A request's body in pieces, within the time limit of an upload.

use std::io;
use std::time::Duration;

use crate::drain::Incoming;
use bytes::Bytes;
use futures_util::Stream;
use http::StatusCode;
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::reply::Failure;

/// The lowest rate of a body after [`SLOW_START`]. A slower one would block others' uploads;
/// the slowest phones send several times as much.
const BYTES_PER_SECOND_MIN: u64 = 2048;
const SLOW_START: Duration = Duration::from_secs(30);

/// The pieces of a body, limited in the time between two pieces and in total. Exceeding a limit ends with
/// [`io::ErrorKind::TimedOut`].
pub(crate) fn pieces(
    limits: &chelseru_config::Files,
    idle: Duration,
    body: Incoming,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let start = Instant::now();
    let end = start + Duration::from_secs(limits.upload_seconds_max);
    futures_util::stream::unfold(Some((body, 0)), move |state| async move {
        let (mut body, received) = state?;
        let paced = start + SLOW_START + Duration::from_secs(received / BYTES_PER_SECOND_MIN);
        let until = end.min(Instant::now() + idle).min(paced);
        loop {
            return match tokio::time::timeout_at(until, body.frame()).await {
                Err(_) => Some((Err(io::ErrorKind::TimedOut.into()), None)),
                Ok(None) => None,
                Ok(Some(Err(error))) => Some((Err(io::Error::other(error)), None)),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(piece) => {
                        let received = received + piece.len() as u64;
                        Some((Ok(piece), Some((body, received))))
                    }
                    // Trailers have no meaning here.
                    Err(_) => continue,
                },
            };
        }
    })
}

pub(crate) fn too_slow() -> Failure {
    let text = "The request body did not arrive in time.";
    Failure::detail(StatusCode::REQUEST_TIMEOUT, "body_timeout", text)
}
