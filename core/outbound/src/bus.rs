//! Notes between gateways over a Valkey or Redis server: [`Bus`] by publish and subscribe.
//!
//! One connection publishes what waits, in batches; another one is subscribed to a channel that every gateway hears and
//! to those of the rooms that are watched here. Rooms share [`SHARDS`] channels, so that a gateway hears little of what
//! it does not show and a room costs no subscription of its own. Sharded publish and subscribe (SPUBLISH) would spread
//! channels over a cluster's servers; with one server it does nothing, so plain channels are used, which both have.
//!
//! The bus counts as up while its own notes come back. A connection that is silent is made anew. What waits for a
//! server that is away is dropped: a receiver that needs it reads it from the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use chelseru_domain::bus::{Bus, NodeId, Note};
use chelseru_domain::chat::RoomId;
use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, TlsCertificates};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{MissedTickBehavior, timeout};

/// Channels of rooms.
const SHARDS: usize = 256;
/// Notes that wait to be sent, and as many that wait to be taken: some MiB.
const QUEUE_MAX: usize = 16_384;
/// Notes sent in one step.
const STEP: usize = 512;
/// Between two notes that only say that this gateway is there.
const BEAT: Duration = Duration::from_millis(200);
/// Without an own note for so long, the bus is down.
const SILENCE_MAX: Duration = Duration::from_millis(700);
/// Without any for so long, the connection is made anew.
const SILENCE_END: Duration = Duration::from_secs(2);
/// For a connection, and for the answer to what is sent.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(200);
/// How long a new watcher waits for its room's channel.
const READY_WAIT: Duration = Duration::from_secs(1);

/// How a certificate begins in PEM (RFC 7468).
const PEM_HEAD: &str = "-----BEGIN CERTIFICATE-----";

/// Notes of other gateways, with their senders.
pub type Notes = mpsc::Receiver<(NodeId, Note)>;

/// A bus over a server.
pub struct RedisBus {
    me: NodeId,
    queue: mpsc::Sender<Note>,
    wanted: Mutex<[u32; SHARDS]>,
    /// Which channels are wanted changed.
    changed: Notify,
    /// The channels of rooms that are subscribed to.
    active: watch::Sender<[bool; SHARDS]>,
    started: Instant,
    /// When an own note came back, in milliseconds since the start, plus one; 0: never.
    echoed_at: AtomicU64,
    dropped: AtomicU64,
    /// Before the names of channels: two deployments may use one server.
    prefix: String,
}

/// The server of a bus.
pub struct BusServer<'a> {
    pub url: &'a str,
    /// Accepted authorities in PEM for `rediss://`; `None` for those of the system.
    pub authorities: Option<&'a [u8]>,
}

/// Why a server is refused before anything is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum NoServer {
    #[error(
        "bus.url is no address of a Valkey or Redis server: {0}; write redis://HOST:PORT/, or rediss:// for TLS"
    )]
    Address(String),
    #[error("bus.ca_file holds no certificates in PEM: {0}")]
    Authorities(String),
}

impl RedisBus {
    /// A bus that connects in the background, and the notes of the other gateways. `deployment` is the same for all
    /// gateways that share a store, and different for others. Must be called in a runtime; its tasks end when the
    /// receiver is dropped.
    ///
    /// # Errors
    ///
    /// [`NoServer`]; without a connection there is no error but a bus that is down.
    pub fn open(
        server: &BusServer<'_>,
        me: NodeId,
        deployment: &str,
    ) -> Result<(Arc<RedisBus>, Notes), NoServer> {
        let client = client(server)?;
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let (notes, taken) = mpsc::channel(QUEUE_MAX);
        let bus = Arc::new(RedisBus {
            me,
            queue,
            wanted: Mutex::new([0; SHARDS]),
            changed: Notify::new(),
            active: watch::Sender::new([false; SHARDS]),
            started: Instant::now(),
            echoed_at: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            prefix: format!("chelseru:{deployment}:"),
        });
        tokio::spawn(publish(Arc::clone(&bus), client.clone(), waiting, notes.clone()));
        tokio::spawn(listen(Arc::clone(&bus), client, notes));
        Ok((bus, taken))
    }

    /// Notes that found no place, or no server.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn all(&self) -> String {
        format!("{}all", self.prefix)
    }

    fn shard(&self, shard: usize) -> String {
        format!("{}room:{shard}", self.prefix)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn wanted(&self) -> [bool; SHARDS] {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner).map(|rooms| rooms > 0)
    }

    fn count(&self, room: RoomId, change: impl FnOnce(u32) -> u32) {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let rooms = &mut wanted[shard_of(room)];
        let was_wanted = *rooms > 0;
        *rooms = change(*rooms);
        if (*rooms > 0) != was_wanted {
            self.changed.notify_one();
        }
    }

    fn drop_notes(&self, count: usize) {
        let dropped = self.dropped.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
        if dropped.is_power_of_two() {
            tracing::warn!(
                dropped,
                "notes to other gateways were dropped; what they need they read from the store"
            );
        }
    }
}

fn client(server: &BusServer<'_>) -> Result<Client, NoServer> {
    let no_address = |error: redis::RedisError| NoServer::Address(error.to_string());
    let info = server.url.into_connection_info().map_err(no_address)?;
    match server.authorities {
        None => Client::open(info).map_err(no_address),
        // The library takes a file without any, and then trusts nobody.
        Some(pem) if !String::from_utf8_lossy(pem).contains(PEM_HEAD) => {
            Err(NoServer::Authorities(format!("it lacks {PEM_HEAD}")))
        }
        Some(pem) => {
            let trusted = TlsCertificates { client_tls: None, root_cert: Some(pem.to_vec()) };
            Client::build_with_tls(info, trusted).map_err(|error| NoServer::Authorities(error.to_string()))
        }
    }
}

fn is_tls(client: &Client) -> bool {
    matches!(client.get_connection_info().addr(), ConnectionAddr::TcpTls { .. })
}

/// One sentence: why the server is not reached, and what to do where that is known.
fn reason(error: &redis::RedisError) -> String {
    let text = error.to_string();
    // The library keeps the text of what happened inside TLS, and no type.
    let authority = "set bus.ca_file to the certificate of the authority that signed the server's";
    let cure = [
        ("UnknownIssuer", authority),
        ("BadSignature", authority),
        ("not valid for name", "use the host name that the server's certificate has in bus.url"),
        ("expired", "renew the certificate of the server"),
        ("NOAUTH", "bus.url needs the password: redis://USER:PASSWORD@HOST:PORT/"),
        ("WRONGPASS", "check the user and the password in bus.url"),
    ];
    let cure = cure.iter().find(|(sign, _)| text.contains(sign));
    cure.map_or_else(|| text.clone(), |(_, cure)| format!("{text}; {cure}"))
}

#[async_trait]
impl Bus for RedisBus {
    fn send(&self, note: Note) {
        if self.queue.try_send(note).is_err() {
            self.drop_notes(1);
        }
    }

    fn is_up(&self) -> bool {
        let echoed_at = self.echoed_at.load(Ordering::Relaxed);
        echoed_at > 0 && u128::from(self.now_ms() - echoed_at) < SILENCE_MAX.as_millis()
    }

    fn enter(&self, room: RoomId) {
        self.count(room, |rooms| rooms.saturating_add(1));
    }

    fn leave(&self, room: RoomId) {
        self.count(room, |rooms| rooms.saturating_sub(1));
    }

    async fn ready(&self, room: RoomId) {
        let shard = shard_of(room);
        let mut active = self.active.subscribe();
        if active.borrow()[shard] || !self.is_up() {
            return;
        }
        let _ = timeout(READY_WAIT, active.wait_for(|active| active[shard])).await;
    }
}

fn shard_of(room: RoomId) -> usize {
    usize::try_from(room.0 % SHARDS as u64).unwrap_or(0)
}

/// A note as it is sent: 16 bytes of its sender, then JSON.
fn written(me: NodeId, note: &Note) -> Option<Vec<u8>> {
    let mut bytes = me.0.to_be_bytes().to_vec();
    serde_json::to_writer(&mut bytes, note).ok()?;
    Some(bytes)
}

/// The sender, and the note unless it is the own one or of another version.
fn read(bytes: &[u8]) -> Option<(NodeId, &[u8])> {
    let (sender, note) = bytes.split_first_chunk::<16>()?;
    Some((NodeId(u128::from_be_bytes(*sender)), note))
}

/// Sends what waits until nobody wants the notes of others.
async fn publish(
    bus: Arc<RedisBus>,
    client: Client,
    mut waiting: mpsc::Receiver<Note>,
    notes: mpsc::Sender<(NodeId, Note)>,
) {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWER_WAIT))
        .set_response_timeout(Some(ANSWER_WAIT));
    let mut connection: Option<MultiplexedConnection> = None;
    let mut sending = Vec::with_capacity(STEP);
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            received = waiting.recv_many(&mut sending, STEP) => if received == 0 { return },
            _ = beat.tick() => sending.push(Note::Here),
            () = notes.closed() => return,
        }
        if connection.is_none() {
            connection = client.get_multiplexed_async_connection_with_config(&config).await.ok();
        }
        let Some(open) = &mut connection else {
            bus.drop_notes(sending.drain(..).filter(|note| *note != Note::Here).count());
            tokio::time::sleep(RETRY).await;
            continue;
        };
        let count = sending.len();
        let mut step = redis::pipe();
        for note in sending.drain(..) {
            let Some(bytes) = written(bus.me, &note) else { continue };
            let channel = note.room().map_or_else(|| bus.all(), |room| bus.shard(shard_of(room)));
            step.cmd("PUBLISH").arg(channel).arg(bytes).ignore();
        }
        if let Err(error) = step.query_async::<()>(open).await {
            tracing::debug!(%error, "notes could not be sent");
            bus.drop_notes(count);
            connection = None;
        }
    }
}

/// Takes notes until nobody wants them.
async fn listen(bus: Arc<RedisBus>, client: Client, notes: mpsc::Sender<(NodeId, Note)>) {
    let mut is_told = false;
    while !notes.is_closed() {
        let subscribed = timeout(ANSWER_WAIT, subscribe(&bus, &client)).await;
        match subscribed {
            Ok(Ok(connection)) => {
                tracing::info!("the bus to other gateways is connected");
                is_told = false;
                take(&bus, connection, &notes).await;
            }
            failed if !is_told => {
                let reason = match failed {
                    Ok(Err(error)) => reason(&error),
                    _ if is_tls(&client) => "it does not answer, as one that speaks no TLS at this port; \
                                             check the port in bus.url, or write redis://"
                        .to_owned(),
                    _ => "it does not answer".to_owned(),
                };
                tracing::error!(reason, "the bus to other gateways cannot be reached; it is tried again");
                is_told = true;
            }
            _ => {}
        }
        bus.active.send_replace([false; SHARDS]);
        tokio::time::sleep(RETRY).await;
    }
}

async fn subscribe(bus: &RedisBus, client: &Client) -> redis::RedisResult<PubSub> {
    let mut connection = client.get_async_pubsub().await?;
    connection.subscribe(bus.all()).await?;
    Ok(connection)
}

/// Takes the notes of one connection until it breaks or falls silent.
async fn take(bus: &RedisBus, connection: PubSub, notes: &mpsc::Sender<(NodeId, Note)>) {
    let (mut sink, mut stream) = connection.split();
    let mut active = [false; SHARDS];
    bus.changed.notify_one();
    loop {
        tokio::select! {
            message = timeout(SILENCE_END, stream.next()) => {
                let Ok(Some(message)) = message else {
                    tracing::warn!("the bus to other gateways fell silent");
                    return;
                };
                let Some((sender, note)) = read(message.get_payload_bytes()) else { continue };
                if sender == bus.me {
                    bus.echoed_at.store(bus.now_ms(), Ordering::Relaxed);
                    continue;
                }
                // What a newer version says and this one does not know is read from the store, too.
                let Ok(note) = serde_json::from_slice(note) else { continue };
                if notes.try_send((sender, note)).is_err() {
                    bus.drop_notes(1);
                }
            }
            () = bus.changed.notified() => {
                let wanted = bus.wanted();
                let names = |differs: &dyn Fn(usize) -> bool| -> Vec<String> {
                    (0..SHARDS).filter(|shard| differs(*shard)).map(|shard| bus.shard(shard)).collect()
                };
                let (more, less) =
                    (names(&|shard| wanted[shard] && !active[shard]), names(&|shard| active[shard] && !wanted[shard]));
                let change = async {
                    if !more.is_empty() {
                        sink.subscribe(&more).await?;
                    }
                    if !less.is_empty() {
                        sink.unsubscribe(&less).await?;
                    }
                    redis::RedisResult::Ok(())
                };
                if !matches!(timeout(ANSWER_WAIT, change).await, Ok(Ok(()))) {
                    return;
                }
                active = wanted;
                bus.active.send_replace(active);
            }
            () = notes.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_as_it_was_sent() {
        let me = NodeId(u128::MAX - 5);
        let note = Note::WhoIsThere { room: RoomId(7) };
        let bytes = written(me, &note).expect("written");
        let (sender, text) = read(&bytes).expect("read");
        assert_eq!((sender, serde_json::from_slice::<Note>(text).expect("a note")), (me, note));
        assert!(read(&bytes[..15]).is_none());
    }

    #[test]
    fn an_address_is_refused_with_what_is_accepted() {
        for wrong in ["", "nowhere", "http://localhost:6379"] {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let _inside = runtime.enter();
            let server = BusServer { url: wrong, authorities: None };
            let refused = RedisBus::open(&server, NodeId(1), "d").err().expect(wrong).to_string();
            assert!(refused.contains("redis://HOST:PORT/"), "{refused}");
        }
    }
    #[test]
    fn authorities_that_are_no_certificates_are_refused() {
        let server = BusServer { url: "rediss://localhost/", authorities: Some(b"no certificate") };
        let refused = client(&server).expect_err("refused").to_string();
        assert!(refused.starts_with("bus.ca_file holds no certificates"), "{refused}");
    }
}
