//! Stands between a store and its database, and cuts the connection around a COMMIT, or stands still.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use chelseru_postgres_server::on_runtime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// Where the next commit's connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Cut {
    Nowhere,
    /// The server never sees the commit.
    Before,
    /// The server has committed, and its answer is lost.
    After,
    /// The server gets the commit, and the connection is gone at the same moment.
    Within,
    /// Nothing passes from the commit on, and nothing is closed, as when a server stands still.
    Silent,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    cut: Arc<AtomicUsize>,
    /// Where new connections lead.
    socket: Arc<Mutex<PathBuf>>,
    still: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) fn new(socket: PathBuf) -> Proxy {
        let cut = Arc::new(AtomicUsize::new(Cut::Nowhere as usize));
        let socket = Arc::new(Mutex::new(socket));
        let (seen, leads_to) = (Arc::clone(&cut), Arc::clone(&socket));
        let (still, stands) = watch::channel(false);
        let port = on_runtime(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    let socket = leads_to.lock().unwrap().clone();
                    tokio::spawn(between(client, socket, Arc::clone(&seen), stands.clone()));
                }
            });
            port
        });
        Proxy { port, cut, socket, still }
    }

    /// Whether nothing passes on any connection, and none is closed. Connections are taken.
    pub(crate) fn stand_still(&self, still: bool) {
        self.still.send_replace(still);
    }

    /// Lets new connections lead to another server.
    pub(crate) fn lead_to(&self, socket: PathBuf) {
        *self.socket.lock().unwrap() = socket;
    }

    /// Cuts the connection of the next commit.
    pub(crate) fn cut_next(&self, cut: Cut) {
        self.cut.store(cut as usize, Ordering::SeqCst);
    }

    /// Whether the cut was made.
    pub(crate) fn has_cut(&self) -> bool {
        self.cut.load(Ordering::SeqCst) == Cut::Nowhere as usize
    }
}

/// What the server answers to a commit.
const COMMITTED: &[u8] = b"COMMIT\0";

/// Forwards in both directions until one side ends, or the cut is due.
async fn between(
    client: TcpStream,
    socket: PathBuf,
    cut: Arc<AtomicUsize>,
    mut stands: watch::Receiver<bool>,
) {
    let Ok(server) = UnixStream::connect(socket).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (silence, silent) = watch::channel(false);
    let (told, mut answered) = tokio::sync::mpsc::channel::<()>(1);
    let mut answers_stand = stands.clone();
    let answers = tokio::spawn(async move {
        let mut bytes = vec![0; 8192];
        while let Ok(read @ 1..) = from_server.read(&mut bytes).await {
            if answers_stand.wait_for(|still| !still).await.is_err() {
                break;
            }
            if *silent.borrow() {
                // Answers to what was sent with the commit come before its own.
                if bytes[..read].windows(COMMITTED.len()).any(|window| window == COMMITTED) {
                    let _ = told.try_send(());
                }
            } else if to_client.write_all(&bytes[..read]).await.is_err() {
                break;
            }
        }
    });
    let mut first = true;
    while let Some(message) = message(&mut from_client, first).await {
        first = false;
        if stands.wait_for(|still| !still).await.is_err() {
            break;
        }
        let due = if is_commit(&message) { cut.swap(Cut::Nowhere as usize, Ordering::SeqCst) } else { 0 };
        if due == Cut::Before as usize {
            break;
        }
        if due == Cut::Silent as usize {
            let mut rest = vec![0; 8192];
            while let Ok(1..) = from_client.read(&mut rest).await {}
            break;
        }
        silence.send_replace(due == Cut::After as usize);
        if to_server.write_all(&message).await.is_err() || due == Cut::Within as usize {
            break;
        }
        if due == Cut::After as usize {
            answered.recv().await;
            break;
        }
    }
    answers.abort();
}

fn is_commit(message: &[u8]) -> bool {
    message.first() == Some(&b'Q') && message.get(5..) == Some(b"commit\0")
}

/// One message of the client: a kind, a length that counts itself, and the rest. The first one has no kind.
async fn message(from: &mut (impl AsyncReadExt + Unpin), first: bool) -> Option<Vec<u8>> {
    let head = if first { 4 } else { 5 };
    let mut message = vec![0; head];
    from.read_exact(&mut message).await.ok()?;
    let length = u32::from_be_bytes(*message.last_chunk::<4>()?);
    let rest = usize::try_from(length).ok()?.checked_sub(4)?;
    message.resize(head + rest, 0);
    from.read_exact(&mut message[head..]).await.ok()?;
    Some(message)
}
