//! One open socket: a task that reads, writes and waits.
//!
//! One task replaces a reader and a writer. It reads and writes only what is possible without waiting, so it can be
//! dropped at any point, and an idle socket is one small task without buffers. Each round takes the queue, writes what
//! the connection accepts (all waiting frames with one call), reads once, and then waits for whichever comes first.
//!
//! Reading continues while a message cannot be written. Reading stops while the store is behind and has changes of this
//! socket, or while the limit of waiting changes is reached; the client's connection then fills up.
//!
//! A close frame is sent once: ours when the gateway closes, otherwise the answer to the client's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use chelseru_domain::share::Share;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::act;
use crate::close::Close;
use crate::codec::{self, Incoming, Opcode};
use crate::frames::About;
use crate::hub::Hub;
use crate::intake::{Intake, Received};
use crate::peer::{CatchUp, Peer};
use crate::place::Place;
use crate::request;
use crate::watch::{Step, gap_chunk};

/// Bytes read at once; one buffer for all sockets of a thread.
const READ_BYTES: usize = 16 * 1024;

/// Chunks written with one call.
const WRITE_CHUNKS: usize = 32;

/// Changes that wait for the store's writer when it counts as behind: a fraction of a millisecond of its work.
const BEHIND: usize = 64;

/// Messages or edits read from the store at once for one socket.
const PAGE: u64 = 100;

/// Turns of reading from the store or the queue, and writing, in one round.
const STEPS: u32 = 8;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// What the frames of a socket are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Chat,
    /// Sends back what comes, for tests of the protocol.
    Echo,
}

impl Place {
    /// Serves the socket in a task of its own, once its connection is upgraded.
    ///
    /// A client's message has at most `bytes_max` bytes.
    pub fn serve<F>(self, upgraded: F, purpose: Purpose, bytes_max: usize)
    where
        F: Future<Output = Option<Transport>> + Send + 'static,
    {
        let tasks = self.sockets.tasks.clone();
        tasks.spawn(async move {
            if let Some(transport) = upgraded.await {
                serve(self, transport, purpose, bytes_max).await;
            }
        });
    }
}

/// A connection after its handshake.
pub struct Transport {
    pub stream: TcpStream,
    /// Read with the handshake, and not part of it.
    pub read: Bytes,
    /// The connection's place among its address's, for as long as the socket is open.
    pub held: Option<Arc<Share>>,
}

async fn serve(place: Place, transport: Transport, purpose: Purpose, bytes_max: usize) {
    let Transport { stream, read, held: _held } = transport;
    let stash = read.to_vec();
    // It keeps the buffer of the handshake, 8 KiB, even when nothing is left in it.
    drop(read);
    let rate = (purpose == Purpose::Chat).then_some(place.peer.limits.frames_per_second_max);
    // Moved by its pointer: a future keeps room for each place that a value was moved from.
    let socket = Box::new(Socket {
        stream,
        intake: Intake::new(bytes_max, rate, place.sockets.hub.now_ms()),
        stash,
        writing: VecDeque::new(),
        written: 0,
        catch_ups: Vec::new(),
        purpose,
        closing: Closing::Open,
        place,
    });
    if let Err(error) = socket.run().await {
        tracing::debug!(%error, "a socket ended");
    }
}

struct Socket {
    stream: TcpStream,
    intake: Intake,
    /// Read and not decoded, because too many changes wait.
    stash: Vec<u8>,
    writing: VecDeque<Bytes>,
    /// Bytes of the first chunk that are written.
    written: usize,
    catch_ups: Vec<CatchUp>,
    purpose: Purpose,
    closing: Closing,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    Open,
    /// Our close frame is the last thing in `writing`.
    Sending,
    /// It is written; the client's answer, or the end, is waited for.
    Sent,
}

impl Socket {
    async fn run(mut self: Box<Self>) -> io::Result<()> {
        loop {
            self.peer().begin_round();
            if self.peer().is_dead() {
                return Ok(());
            }
            if self.peer().is_closing() {
                self.take_queue().await;
            }
            let blocked = self.write_and_catch_up().await?;
            if self.closing == Closing::Sending && self.writing.is_empty() {
                self.closing = Closing::Sent;
                // Nothing but the client's answer may follow.
                self.stream.shutdown().await?;
            }
            if !self.stash.is_empty() && !self.peer().is_busy() {
                let stash = std::mem::take(&mut self.stash);
                self.feed(&stash);
            } else if self.turn(blocked).await? {
                return Ok(());
            }
            // A busy socket yields to others.
            tokio::task::consume_budget().await;
        }
    }

    fn peer(&self) -> &Arc<Peer> {
        &self.place.peer
    }

    fn hub(&self) -> &Hub {
        &self.place.sockets.hub
    }

    /// Moves queued frames to where they are written; false when the queue is empty. Called only when everything
    /// before them is written, or the socket closes: until then they stay where they are counted.
    async fn take_queue(&mut self) -> bool {
        if self.closing != Closing::Open {
            return false;
        }
        let now_ms = self.hub().now_ms();
        let unread_due = self.peer().unread_due(now_ms);
        let queue = self.peer().take_queue(unread_due);
        let any = !queue.chunks.is_empty() || !queue.catch_ups.is_empty() || !queue.unread.is_empty();
        queue.catch_ups.iter().for_each(|catch_up| catch_up.join(&mut self.catch_ups));
        if queue.close == Some(Close::SLOW) {
            // A half-written frame must be finished; the rest comes again after the resume.
            self.writing.truncate(usize::from(self.written > 0));
        }
        self.writing.extend(queue.chunks);
        if !queue.unread.is_empty() {
            self.peer().unread_at.store(now_ms, Ordering::Relaxed);
            let unread = Box::pin(act::unread(&self.place, &queue.unread)).await;
            self.writing.extend(unread);
        }
        if let Some(close) = queue.close {
            self.begin_closing(close, now_ms);
            return true;
        }
        any
    }

    fn begin_closing(&mut self, close: Close, now_ms: u64) {
        if !close.reason.is_empty() {
            self.place
                .sockets
                .meter
                .counter("chelseru_chat_closes_total", &[("reason", close.reason)])
                .increment();
        }
        self.catch_ups = Vec::new();
        self.stash = Vec::new();
        self.writing.push_back(codec::close_frame(close));
        self.closing = Closing::Sending;
        self.peer().closing_at.store(now_ms, Ordering::Relaxed);
    }

    /// Writes until the connection is full or nothing is left; true when it is full.
    async fn write_and_catch_up(&mut self) -> io::Result<bool> {
        let mut steps = 0;
        loop {
            if self.write()? {
                return Ok(true);
            }
            // What asks the store is in a box: an idle socket keeps no room for it.
            let more =
                self.take_queue().await || (!self.catch_ups.is_empty() && Box::pin(self.catch_up()).await);
            if !more {
                return Ok(false);
            }
            // A long gap is read in several rounds, so that other sockets get their turn.
            steps += 1;
            if steps == STEPS {
                self.peer().signal();
                return Ok(false);
            }
        }
    }

    fn write(&mut self) -> io::Result<bool> {
        while let Some(first) = self.writing.front() {
            let result = if self.writing.len() == 1 {
                self.stream.try_write(&first[self.written..])
            } else {
                let mut slices = [IoSlice::new(&[]); WRITE_CHUNKS];
                let mut count = 0;
                for (slice, chunk) in slices.iter_mut().zip(&self.writing) {
                    let from = if count == 0 { self.written } else { 0 };
                    *slice = IoSlice::new(&chunk[from..]);
                    count += 1;
                }
                self.stream.try_write_vectored(&slices[..count])
            };
            match result {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => self.advance(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // An idle socket holds no buffer.
        if self.writing.capacity() > 0 {
            self.writing = VecDeque::new();
        }
        Ok(false)
    }

    fn advance(&mut self, mut bytes: usize) {
        while let Some(first) = self.writing.front() {
            let left = first.len() - self.written;
            if bytes < left {
                self.written += bytes;
                return;
            }
            bytes -= left;
            self.written = 0;
            self.writing.pop_front();
        }
    }

    /// Reads a page of what a watcher missed, or makes it live. False when nothing is left to do now.
    async fn catch_up(&mut self) -> bool {
        let Some(&catch_up) = self.catch_ups.first() else { return false };
        let hub = Arc::clone(&self.place.sockets.hub);
        let resume_max = self.place.sockets.chat.rules().resume_max;
        let CatchUp { seq, revision, heads, .. } = catch_up;
        let step = if seq < heads.0 || revision < heads.1 {
            let page = PAGE.min(resume_max);
            let to = match seq < heads.0 {
                true => (heads.0.min(seq + page), revision),
                false => (seq, heads.1.min(revision + page)),
            };
            if self.read_gap(catch_up, to).await {
                return true;
            }
            Step::Gone
        } else {
            match hub.rooms.join(&catch_up, self.peer(), resume_max) {
                Step::Joining(to) if self.read_gap(catch_up, to).await => {
                    hub.rooms.go_live(&catch_up, self.peer())
                }
                Step::Joining(_) => Step::Gone,
                step => step,
            }
        };
        match (step, self.catch_ups.first_mut()) {
            (Step::Behind(heads), Some(catch_up)) => catch_up.heads = heads,
            (_, Some(_)) => drop(self.catch_ups.remove(0)),
            (_, None) => {}
        }
        true
    }

    /// Reads what a watcher missed up to a number and a revision. False when it has ended, perhaps because its user was
    /// removed from the room, or when nothing can be read and the socket closes.
    async fn read_gap(&mut self, catch_up: CatchUp, to: (u64, u64)) -> bool {
        let CatchUp { room, seq, revision, .. } = catch_up;
        if !self.hub().rooms.reads(&catch_up, self.peer()) {
            return false;
        }
        match self.place.sockets.chat.gap(room, (seq, revision), to).await {
            // It may have ended while the store was read.
            Ok(_) if !self.hub().rooms.reads(&catch_up, self.peer()) => false,
            Ok(gap) => {
                if let Some(catch_up) = self.catch_ups.first_mut() {
                    (catch_up.seq, catch_up.revision) = to;
                }
                let chunk = gap_chunk(self.peer().opened.form, &gap);
                if !chunk.is_empty() {
                    self.writing.push_back(chunk);
                }
                true
            }
            Err(error) => {
                tracing::error!(%error, room.id = room.0, "a room could not be read for a socket");
                self.catch_ups.clear();
                self.peer().close(Close::INTERNAL);
                false
            }
        }
    }

    /// Whether incoming frames stay in the connection for now: the store is behind and has changes of this socket,
    /// whose end wakes the task. All frames that arrived meanwhile are then read with one call and shown with one
    /// write, so that a message costs less the more of them wait, and the store's queue stays short.
    fn holds(&self) -> bool {
        self.peer().is_waiting() && self.place.sockets.chat.changes_waiting() >= BEHIND
    }

    /// Waits until there is something to read, to write or to take from the queue, and reads once; true when the
    /// client is gone.
    async fn turn(&mut self, blocked: bool) -> io::Result<bool> {
        std::future::poll_fn(|context| {
            let hungry = self.closing != Closing::Open || (self.stash.is_empty() && !self.holds());
            if hungry && let Poll::Ready(read) = self.poll_read(context) {
                return Poll::Ready(read);
            }
            if self.peer().poll_work(context.waker()) {
                return Poll::Ready(Ok(false));
            }
            // The next write returns the error.
            if blocked && self.stream.poll_write_ready(context).is_ready() {
                return Poll::Ready(Ok(false));
            }
            Poll::Pending
        })
        .await
    }

    /// Reads once and decodes. Unlike `try_read`, this needs no second call to learn that nothing
    /// is left.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(context, &mut read)) {
                return Poll::Ready(Err(error));
            }
            let bytes = read.filled();
            if bytes.is_empty() {
                return Poll::Ready(Ok(true));
            }
            // After our close frame, input is discarded until the client is gone.
            if self.closing == Closing::Open {
                self.feed(bytes);
            }
            Poll::Ready(Ok(false))
        })
    }

    /// Decodes bytes from the client and acts on them.
    fn feed(&mut self, mut input: &[u8]) {
        self.peer().heard_at.store(self.hub().now_ms(), Ordering::Relaxed);
        // What arrives while an earlier frame holds up the next ones is kept as it came. Nothing more is read then.
        if self.peer().is_busy() {
            self.stash = input.to_vec();
            return;
        }
        loop {
            let hub = &self.place.sockets.hub;
            let Received { incoming, refused } = match self.intake.next(&mut input, || hub.now_ms()) {
                Ok(Some(received)) => received,
                Ok(None) => return,
                Err(fault) => {
                    self.peer().close(fault);
                    return;
                }
            };
            if self.peer().is_closing() {
                return;
            }
            match incoming {
                Incoming::Text(text) if !refused => self.text(&text),
                Incoming::Binary(payload) if self.purpose == Purpose::Echo => {
                    self.peer().push(codec::frame(Opcode::Binary, &payload), 1);
                }
                incoming @ (Incoming::Text(_) | Incoming::Binary(_)) if refused => {
                    let about = match &incoming {
                        Incoming::Text(text) => request::about_of(text, self.peer().opened),
                        _ => About::default(),
                    };
                    let detail = "Too many frames; this one was ignored.";
                    self.peer().refuse("rate_limited", detail, &about);
                }
                Incoming::Text(_) | Incoming::Binary(_) => {
                    let detail = "A frame must be text.";
                    self.peer().refuse("binary_frame", detail, &About::default());
                }
                Incoming::Ping(payload) if !refused => {
                    self.peer().push(codec::frame(Opcode::Pong, &payload), 1);
                }
                Incoming::Ping(_) | Incoming::Pong => {}
                Incoming::Close(code) => {
                    self.peer().close(Close { code, reason: "" });
                    return;
                }
            }
            if self.peer().is_busy() && !input.is_empty() {
                self.stash = input.to_vec();
                return;
            }
        }
    }

    fn text(&mut self, text: &str) {
        if self.purpose == Purpose::Echo {
            self.peer().push(codec::frame(Opcode::Text, text.as_bytes()), 1);
            return;
        }
        match request::parse(text, self.peer().opened) {
            Ok(parsed) => {
                self.intake.owe(parsed.request.units());
                let Some(mut change) = act::act(&self.place, parsed, text) else { return };
                // The first step hands the change to the store, in the order of the frames. The rest only waits.
                if change.as_mut().now_or_never().is_none() {
                    spawn(Arc::clone(self.peer()), change);
                }
            }
            Err(refused) => {
                self.peer().refuse(refused.code, &refused.detail, &refused.about);
                if self.peer().who().is_none() {
                    self.peer().close(Close::UNAUTHORIZED);
                }
            }
        }
    }
}

/// Finishes a change beside the socket's task.
fn spawn(peer: Arc<Peer>, change: Pin<Box<dyn Future<Output = ()> + Send>>) {
    /// Also counts a change that panicked as ended; the socket would wait for it for ever.
    struct Ends(Arc<Peer>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.change_ended();
        }
    }
    peer.change_begins();
    let ends = Ends(peer);
    tokio::spawn(async move {
        let _ends = ends;
        change.await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_bytes<A, B, C, D, F>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// The task of an idle socket holds this much; connection, peer and subscriptions come on top.
    #[test]
    fn an_idle_socket_is_a_small_task() {
        let bytes = future_bytes(serve as fn(_, _, _, _) -> _);
        println!("the future of a socket: {bytes} bytes; its state: {} bytes", size_of::<Socket>());
        assert!(bytes <= 4096, "{bytes}");
    }
}
