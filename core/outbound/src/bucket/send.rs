//! The body of a request to the bucket: bytes, or a part of a file that is read while it is sent.

use std::io::{self, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chelseru_domain::files::place::Part;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use reqwest::Body;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::{Notify, mpsc};

/// Bytes read at once.
const PIECE_BYTES: usize = 128 * 1024;
const PIECES_AHEAD: usize = 2;

/// What a request sends. It can be sent more than once.
pub(super) enum Source<'a> {
    Bytes(Bytes),
    File(&'a Path, Part),
}

impl Source<'_> {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Source::Bytes(bytes) => bytes.len() as u64,
            Source::File(_, part) => part.bytes,
        }
    }

    /// The body of one attempt. `moved` hears of every piece that is taken.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub(super) async fn body(&self, moved: Arc<Notify>) -> io::Result<Body> {
        match self {
            Source::Bytes(bytes) => Ok(bytes.clone().into()),
            Source::File(_, part) if part.bytes == 0 => Ok(Bytes::new().into()),
            Source::File(path, part) => {
                let mut file = File::open(path).await?;
                file.seek(SeekFrom::Start(part.start)).await?;
                let pieces = read_ahead(file, part.bytes).map(move |piece| {
                    moved.notify_one();
                    piece.map(Frame::data)
                });
                Ok(Body::wrap(StreamBody::new(pieces)))
            }
        }
    }
}

/// Reads a file in a task of its own, which ends with the stream.
fn read_ahead(mut file: File, bytes: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + Sync {
    let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
    tokio::spawn(async move {
        let mut left = bytes;
        while left > 0 {
            let piece = read_piece(&mut file, left).await;
            let read = piece.as_ref().map_or(0, |piece| piece.len() as u64);
            if sender.send(piece).await.is_err() || read == 0 {
                return;
            }
            left -= read;
        }
    });
    stream::unfold(pieces, |mut pieces| async move { pieces.recv().await.map(|piece| (piece, pieces)) })
}

async fn read_piece(file: &mut File, left: u64) -> io::Result<Bytes> {
    let size = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
    let mut piece = BytesMut::with_capacity(size);
    while piece.len() < size {
        let room = size - piece.len();
        if file.take(room as u64).read_buf(&mut piece).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(piece.freeze())
}
