//! The body of a reply: bytes, a file read while it is sent, or pieces that come later.
//!
//! Nearly every reply is small and complete. A file is read by a separate task, at most two pieces ahead of the
//! client. The connection drops a client that does not read (`timed`), which ends the task, and with it the reading.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use chelseru_domain::files::place::Pieces;
use futures_util::StreamExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

const PIECES_AHEAD: usize = 2;

/// The part sent after the head.
#[derive(Debug)]
pub enum ReplyBody {
    /// `None` once it was sent.
    Whole(Option<Bytes>),
    File(Box<FileBody>),
    /// Ends when its sender is dropped.
    Stream(mpsc::Receiver<Bytes>),
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
    /// Sends these pieces, which have `bytes` bytes together. Fewer end the connection.
    pub fn new(mut read: Pieces, bytes: u64) -> FileBody {
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        tokio::spawn(async move {
            while let Some(piece) = read.next().await {
                let failed = piece.is_err();
                // The client is gone. Dropping the sender ends the body early, which ends the connection.
                if sender.send(piece).await.is_err() || failed {
                    return;
                }
            }
        });
        FileBody { pieces, left: bytes }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            ReplyBody::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            ReplyBody::Stream(pieces) => {
                pieces.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
            }
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
            ReplyBody::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            ReplyBody::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            ReplyBody::File(file) => file.left,
            ReplyBody::Stream(_) => return SizeHint::default(),
        })
    }
}
