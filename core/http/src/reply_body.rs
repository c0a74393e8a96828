//! The body of a reply: bytes, or a file read while it is sent.
//!
//! Nearly every reply is small and complete. A file is read by a separate task, at most two pieces ahead of the
//! client. The connection drops a client that does not read (`timed`), which ends the task.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};
use tokio::sync::mpsc;

/// Bytes read at once.
const PIECE_BYTES: usize = 64 * 1024;
const PIECES_AHEAD: usize = 2;

/// The part sent after the head.
#[derive(Debug)]
pub enum ReplyBody {
    /// `None` once it was sent.
    Whole(Option<Bytes>),
    File(Box<FileBody>),
}

impl ReplyBody {
    pub fn whole(bytes: Bytes) -> ReplyBody {
        ReplyBody::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl Default for ReplyBody {
    fn default() -> Self {
        ReplyBody::Whole(None)
    }
}

/// A part of a file on its way to a client.
#[derive(Debug)]
pub struct FileBody {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
}

impl FileBody {
    /// Sends `bytes` bytes from `start`. A shorter file ends the connection.
    ///
    /// # Errors
    ///
    /// The file cannot be read there.
    pub async fn open(mut file: File, start: u64, bytes: u64) -> io::Result<FileBody> {
        file.seek(SeekFrom::Start(start)).await?;
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        tokio::spawn(async move {
            let mut left = bytes;
            while left > 0 {
                let piece = read_piece(&mut file, left).await;
                let read = piece.as_ref().map_or(0, |piece| piece.len() as u64);
                // The client is gone. Dropping the sender ends the body early, which ends the connection.
                if sender.send(piece).await.is_err() || read == 0 {
                    return;
                }
                left -= read;
            }
        });
        Ok(FileBody { pieces, left: bytes })
    }
}

async fn read_piece(file: &mut File, left: u64) -> io::Result<Bytes> {
    let size = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
    let mut piece = bytes::BytesMut::with_capacity(size);
    while piece.len() < size {
        let room = size - piece.len();
        if file.take(room as u64).read_buf(&mut piece).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(piece.freeze())
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            ReplyBody::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            ReplyBody::File(file) if file.left == 0 => Poll::Ready(None),
            ReplyBody::File(file) => match std::task::ready!(file.pieces.poll_recv(context)) {
                Some(Ok(piece)) => {
                    file.left = file.left.saturating_sub(piece.len() as u64);
                    Poll::Ready(Some(Ok(Frame::data(piece))))
                }
                Some(Err(error)) => Poll::Ready(Some(Err(error))),
                None => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            ReplyBody::Whole(bytes) => bytes.is_none(),
            ReplyBody::File(file) => file.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            ReplyBody::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            ReplyBody::File(file) => file.left,
        })
    }
}
