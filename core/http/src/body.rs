//! Request bodies that are read whole: within a size, a time, and a share of the memory for all of them.
//!
//! The first [`FREE_BYTES`] of a body are not counted, so logins go on while somebody fills the memory with large
//! bodies; the connections bound what these take (`server.connections_max` times as much). The rest of a body is held
//! in a share of `server.bodies_bytes_max` until its request is answered.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chelseru_domain::share::Share;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Body;

use crate::reply::Failure;

/// The beginning of a body that takes no share. A login takes under 200 bytes.
pub(crate) const FREE_BYTES: u64 = 4096;

/// The part of the memory for bodies that one network may hold, and one address.
pub(crate) const NETWORK_PERCENT: u64 = 50;
pub(crate) const ADDRESS_PERCENT: u64 = 25;

/// The bounds of one body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyBounds {
    pub(crate) bytes_max: usize,
    pub(crate) timeout: Duration,
}

/// Reads a body. `memory` grows with it.
///
/// Failures: 413 past `bytes_max`, at once when the client announces more; 408 past `timeout`; 503 when the memory for
/// bodies is full.
pub(crate) async fn read_bytes<B>(body: B, bounds: BodyBounds, memory: &mut Share) -> Result<Bytes, Failure>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > bounds.bytes_max as u64 {
        return Err(too_large(bounds.bytes_max));
    }
    tokio::time::timeout(bounds.timeout, collect(body, bounds.bytes_max, memory)).await.unwrap_or_else(|_| {
        let text = format!("The request body did not arrive within {} seconds.", bounds.timeout.as_secs());
        Err(Failure::detail(StatusCode::REQUEST_TIMEOUT, "body_timeout", text))
    })
}

async fn collect<B>(mut body: B, bytes_max: usize, memory: &mut Share) -> Result<Bytes, Failure>
where
    B: Body<Data = Bytes> + Unpin,
{
    // Most bodies are one piece, which is not copied. Pieces are joined at once: a list of them would cost a client one
    // byte and the gateway many times as much.
    let (mut first, mut whole, mut counted) = (Bytes::new(), BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            let text = "The request body could not be read.";
            Failure::detail(StatusCode::BAD_REQUEST, "body_unreadable", text)
        })?;
        let Ok(piece) = frame.into_data() else { continue };
        let bytes = first.len() + whole.len() + piece.len();
        if bytes > bytes_max {
            return Err(too_large(bytes_max));
        }
        let wanted = (bytes as u64).saturating_sub(FREE_BYTES);
        memory.grow(wanted - counted).map_err(|_| memory_full())?;
        counted = wanted;
        if whole.is_empty() && first.is_empty() {
            first = piece;
            continue;
        }
        if whole.is_empty() {
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// Counts the memory of the lists in a parsed body; as of the body itself, the beginning is not counted.
///
/// Failure: 503 when the memory for bodies is full.
pub(crate) fn hold_lists(list_bytes: u64, memory: &mut Share) -> Result<(), Failure> {
    memory.grow(list_bytes.saturating_sub(FREE_BYTES)).map_err(|_| memory_full())
}

fn too_large(bytes_max: usize) -> Failure {
    let text = format!("The request body may have at most {bytes_max} bytes.");
    Failure::detail(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", text)
}

fn memory_full() -> Failure {
    let text = "Too many large requests are being read; try again.";
    Failure::detail(StatusCode::SERVICE_UNAVAILABLE, "bodies_full", text).retry_after(2)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::IpAddr;
    use std::sync::Arc;

    use chelseru_domain::share::{ShareLimits, Shares};
    use futures_util::stream;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    const BOUNDS: BodyBounds = BodyBounds { bytes_max: 10_000, timeout: Duration::from_secs(60) };

    fn shares(address: u64) -> Arc<Shares> {
        Shares::new(ShareLimits { total: 8000, network: 8000, address })
    }

    fn share(shares: &Arc<Shares>, last: u8) -> Share {
        shares.take(IpAddr::from([192, 0, 2, last]), 0).expect("nothing yet")
    }

    async fn read(bytes: usize, memory: &mut Share) -> Result<usize, &'static str> {
        let body = Full::new(Bytes::from(vec![b'x'; bytes]));
        read_bytes(body, BOUNDS, memory).await.map(|read| read.len()).map_err(|failure| failure.code)
    }

    #[tokio::test]
    async fn a_body_at_the_limit_passes_and_one_byte_more_is_refused() {
        let shares = shares(8000);
        assert_eq!(read(10_000, &mut share(&shares, 1)).await, Ok(10_000));
        assert_eq!(read(10_001, &mut share(&shares, 1)).await, Err("body_too_large"));
        assert_eq!(shares.total(), 0, "given back with the request");
    }

    #[tokio::test]
    async fn bodies_are_held_in_shares_and_small_ones_take_none() {
        let shares = shares(4000);
        let mut held = share(&shares, 1);
        let most = 4000 + FREE_BYTES as usize;
        assert_eq!(read(most, &mut held).await, Ok(most));
        assert_eq!(shares.total(), 4000);
        assert_eq!(read(FREE_BYTES as usize + 1, &mut share(&shares, 1)).await, Err("bodies_full"));
        assert_eq!(read(FREE_BYTES as usize, &mut share(&shares, 1)).await, Ok(FREE_BYTES as usize));
        let mut other = share(&shares, 2);
        assert_eq!(read(most, &mut other).await, Ok(most), "another address has a share of its own");
        assert_eq!(read(FREE_BYTES as usize + 1, &mut share(&shares, 3)).await, Err("bodies_full"), "all");
        drop(held);
        assert_eq!(read(most, &mut share(&shares, 3)).await, Ok(most));
    }

    #[test]
    fn the_lists_of_a_body_are_held_in_its_share() {
        let shares = shares(4000);
        let mut memory = share(&shares, 1);
        for (list_bytes, total) in
            [(0, Some(0)), (FREE_BYTES, Some(0)), (FREE_BYTES + 4000, Some(4000)), (FREE_BYTES + 1, None)]
        {
            let held = hold_lists(list_bytes, &mut memory).map(|()| shares.total());
            assert_eq!(held.map_err(|failure| failure.code), total.ok_or("bodies_full"), "{list_bytes}");
        }
        drop(memory);
        assert_eq!(shares.total(), 0, "given back with the request");
    }

    #[tokio::test]
    async fn pieces_are_joined_and_counted_as_they_come() {
        let shares = shares(8000);
        let pieces = (0..6000).map(|_| Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))));
        let mut memory = share(&shares, 1);
        let read = read_bytes(StreamBody::new(stream::iter(pieces)), BOUNDS, &mut memory).await;
        assert_eq!(read.map_err(|failure| failure.code), Ok(Bytes::from(vec![b'x'; 6000])));
        assert_eq!(shares.total(), 6000 - FREE_BYTES);
    }
}
