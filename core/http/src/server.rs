//! The listeners: accept connections, limit them, and end them gracefully.
//!
//! Every limit that hyper leaves open is set here: concurrent connections, time for a request's head (which is
//! also how long a kept-alive connection may idle), number and size of headers, time for a reply (`timed`). Bodies are
//! limited where they are read (`fields`). When the gateway stops, the listener closes first, connections that were
//! made before and requests in flight are served to their end, and what is left after the grace time is dropped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{Api, From};
use crate::descriptors::{Use, is_set_aside};
use crate::drain::{
    self, BODY_PATIENCE, HALF_PATIENCE, LINGER, Progress, REST_PATIENCE, REST_PATIENCE_SHORT, Replied,
};
use crate::reply_body::ReplyBody;
use crate::request::Door;
use crate::timed::Timed;

/// How long a client that was refused early may go on sending before its connection is closed.
const DISCARD_TIME: Duration = Duration::from_secs(1);
/// How much it may send meanwhile. What is on its way in both kernels' buffers is mostly less.
const DISCARD_BYTES: usize = 1024 * 1024;
/// Pause after the first failed accept; doubled up to a second while accepting fails (no file descriptors).
const ACCEPT_RETRY_MIN: Duration = Duration::from_millis(10);
const ACCEPT_RETRY_MAX: Duration = Duration::from_secs(1);

/// From the moment in which a listener refuses until no processor is making a connection of it any more.
const HANDSHAKE_TIME: Duration = Duration::from_millis(1);

/// Connections to the operators' listener: a scraper, a supervisor, a console and some commands.
const OPERATOR_CONNECTIONS_MAX: usize = 256;

/// A socket that is listened on.
pub enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

/// Where a connection over a unix socket is from, for the log.
const LOCAL_PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

impl Listener {
    async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Replies are written whole, so waiting to fill a segment would only delay them.
                let _ = stream.set_nodelay(true);
                Ok((Stream::Tcp(stream), peer))
            }
            #[cfg(unix)]
            Listener::Unix(listener) => Ok((Stream::Unix(listener.accept().await?.0), LOCAL_PEER)),
        }
    }

    /// Closes the listener. Returns the connections that were made and that nobody has taken: closing alone would
    /// reset them, and a proxy that has sent a request on one of them may not send it anywhere else.
    async fn close(self) -> Vec<(Stream, SocketAddr)> {
        match self {
            Listener::Tcp(listener) => {
                let Ok(listener) = listener.into_std() else { return Vec::new() };
                if let Err(error) = refuse(&listener) {
                    tracing::debug!(%error, "the listener closes without refusing first");
                }
                tokio::time::sleep(HANDSHAKE_TIME).await;
                let taken = std::iter::from_fn(|| taken(|| listener.accept()));
                let stream = |(stream, peer): (std::net::TcpStream, SocketAddr)| {
                    accept_all(&stream);
                    stream.set_nonblocking(true).ok()?;
                    let _ = stream.set_nodelay(true);
                    Some((Stream::Tcp(TcpStream::from_std(stream).ok()?), peer))
                };
                taken.filter_map(stream).collect()
            }
            #[cfg(unix)]
            Listener::Unix(listener) => {
                let Ok(listener) = listener.into_std() else { return Vec::new() };
                let taken = std::iter::from_fn(|| taken(|| listener.accept()));
                let stream = |(stream, _): (std::os::unix::net::UnixStream, _)| {
                    stream.set_nonblocking(true).ok()?;
                    Some((Stream::Unix(tokio::net::UnixStream::from_std(stream).ok()?), LOCAL_PEER))
                };
                taken.filter_map(stream).collect()
            }
        }
    }
}

/// The next connection that waits. One that its client has given up is passed over.
fn taken<T>(accept: impl Fn() -> io::Result<T>) -> Option<T> {
    loop {
        match accept() {
            Ok(connection) => return Some(connection),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return None,
        }
    }
}

/// Lets no further connection be made. A client that tries finds the port closed a moment later.
///
/// The socket drops every packet that comes for it: `BPF_RET | BPF_K` of no byte. Source: `linux/bpf_common.h`.
#[cfg(target_os = "linux")]
fn refuse(listener: &std::net::TcpListener) -> io::Result<()> {
    socket2::SockRef::from(listener).attach_filter(&[socket2::SockFilter::new(0x06, 0, 0, 0)])
}

/// A connection that was being made when [`refuse`] came has the listener's filter.
#[cfg(target_os = "linux")]
fn accept_all(stream: &std::net::TcpStream) {
    // Nearly all have none, which is the error.
    let _ = socket2::SockRef::from(stream).detach_filter();
}

#[cfg(not(target_os = "linux"))]
fn refuse(_: &std::net::TcpListener) -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn accept_all(_: &std::net::TcpStream) {}

/// An accepted connection.
enum Stream {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

#[cfg(unix)]
impl std::os::fd::AsRawFd for Stream {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        match self {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// Serves a listener until `stop` is cancelled, then drains.
pub async fn serve(listener: Listener, door: Door, api: Arc<Api>, stop: CancellationToken) {
    let limits = api.server().clone();
    let connections_max = match door {
        Door::Public => limits.connections_max as usize,
        Door::Operator => OPERATOR_CONNECTIONS_MAX,
    };
    let connections = Arc::new(Semaphore::new(connections_max));
    let write_timeout = Duration::from_secs(limits.write_timeout_seconds);
    let tracker = TaskTracker::new();
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits.header_read_timeout_seconds))
        .max_headers(limits.headers_max)
        .max_buf_size(limits.header_bytes_max)
        .keep_alive(true);

    let begin = |stream: Stream, peer: SocketAddr, permit: OwnedSemaphorePermit| {
        let (api, stop) = (api.clone(), stop.clone());
        let place = match door {
            Door::Public => api.place(peer.ip()),
            Door::Operator => Ok(None),
        };
        // The address has its share already; a closed connection costs nobody anything.
        let Ok(place) = place else { return };
        let from = From { door, peer, place };
        let connection = Connection { from, write_timeout, permit, api, stop };
        match stream {
            Stream::Tcp(stream) => tracker.spawn(connection.serve(stream, builder.clone())),
            #[cfg(unix)]
            Stream::Unix(stream) => tracker.spawn(connection.serve(stream, builder.clone())),
        };
    };
    loop {
        let (stream, peer, permit) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = accept(&listener, door, &connections) => accepted,
        };
        begin(stream, peer, permit);
    }
    for (stream, peer) in listener.close().await {
        if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
            begin(stream, peer, permit);
        }
    }
    tracker.close();
    let grace = Duration::from_secs(limits.shutdown_timeout_seconds);
    if tokio::time::timeout(grace, tracker.wait()).await.is_err() {
        tracing::warn!(
            connections = tracker.len(),
            "connections still open after the grace time are dropped"
        );
    }
}

/// Waits for a permit, then for a client. Cancel-safe: an accepted stream is returned at once.
async fn accept(
    listener: &Listener,
    door: Door,
    connections: &Arc<Semaphore>,
) -> (Stream, SocketAddr, OwnedSemaphorePermit) {
    let permit = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
    let of = match door {
        Door::Public => Use::Connection,
        Door::Operator => Use::Operator,
    };
    let mut pause = ACCEPT_RETRY_MIN;
    loop {
        match listener.accept().await {
            Ok((stream, _)) if is_set_aside(&stream, of) => {
                tracing::warn!("a connection is refused: the file descriptors are nearly used up");
                drop(stream);
                // Whoever comes at once finds the same.
                tokio::time::sleep(ACCEPT_RETRY_MIN).await;
            }
            Ok((stream, peer)) => return (stream, peer, permit),
            Err(error) => {
                tracing::warn!(%error, pause_ms = pause.as_millis() as u64, "accepting a connection failed");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_RETRY_MAX);
            }
        }
    }
}

/// Ends when the client has let the gateway wait for [`HALF_PATIENCE`] from now on, or for the rest of a body for
/// [`BODY_PATIENCE`].
async fn silence(progress: &Progress) {
    let since = Instant::now();
    loop {
        tokio::time::sleep(HALF_PATIENCE / 4).await;
        let Some(silent) = progress.silent_for() else { continue };
        let waited = since.elapsed();
        if silent.min(waited) >= HALF_PATIENCE || waited >= BODY_PATIENCE {
            return;
        }
    }
}

/// Reads what a client still sends after its last reply, within [`DISCARD_TIME`] and [`DISCARD_BYTES`]. Closing a
/// connection with unread bytes resets it, and a reset may take the reply from a client that was refused early
/// (RFC 9112, 9.6).
async fn discard<S: AsyncRead + Unpin>(mut stream: S) {
    let mut buffer = [0; 4096];
    let read = async {
        let mut left = DISCARD_BYTES;
        while left > 0 {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => left = left.saturating_sub(bytes),
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD_TIME, read).await;
}

/// Handles a request, and settles what becomes of its connection when the body was not read to its end: a small rest is
/// read, and the connection stays; with more, the reply says that the connection closes. Without this word a client, or
/// a proxy, sends its next request on a connection that nobody reads (RFC 9112, 9.6).
///
/// A rest is read while the connection has its place, and no longer than [`REST_PATIENCE`].
async fn exchange(
    request: Request<Incoming>,
    progress: &Progress,
    stop: &CancellationToken,
    handle: impl AsyncFnOnce(Request<drain::Incoming>) -> Response<ReplyBody>,
) -> Response<Replied<ReplyBody>> {
    // Reading would ask the client for the body.
    let is_asked = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let (body, rest) = progress.request(body);
    let mut reply = handle(Request::from_parts(head, body)).await;
    if rest.is_left() && reply.status() != StatusCode::SWITCHING_PROTOCOLS {
        let patience = match reply.status() {
            // The client had its time.
            StatusCode::REQUEST_TIMEOUT => Duration::ZERO,
            // Refused for want of memory or of a place: it may hold neither now.
            StatusCode::SERVICE_UNAVAILABLE => REST_PATIENCE_SHORT,
            _ => REST_PATIENCE,
        };
        let stays = !is_asked
            && tokio::select! {
                biased;
                () = stop.cancelled() => false,
                ended = rest.drained(patience) => ended,
            };
        if !stays {
            reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }
    let place = reply.extensions_mut().remove();
    reply.map(|body| progress.reply(body, place))
}

struct Connection {
    from: From,
    write_timeout: Duration,
    permit: OwnedSemaphorePermit,
    api: Arc<Api>,
    stop: CancellationToken,
}

impl Connection {
    async fn serve<S>(self, stream: S, builder: http1::Builder)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Connection { from, write_timeout, permit, api, stop } = self;
        let from = Arc::new(from);
        let progress = Progress::new();
        let service = service_fn({
            let (progress, stop) = (progress.clone(), stop.clone());
            move |request: Request<Incoming>| {
                let (api, from) = (api.clone(), from.clone());
                let (progress, stop) = (progress.clone(), stop.clone());
                async move {
                    let handle = async |request| api.handle(&from, request).await;
                    Ok::<_, std::convert::Infallible>(exchange(request, &progress, &stop, handle).await)
                }
            }
        });
        let stream = TokioIo::new(Timed::new(stream, write_timeout));
        let mut connection = builder.serve_connection(stream, service).with_upgrades();
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = stop.cancelled() => {
                // A request that is on its way is answered.
                match tokio::time::timeout(LINGER, &mut connection).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        Pin::new(&mut connection).graceful_shutdown();
                        tokio::select! {
                            ended = &mut connection => ended,
                            () = silence(&progress) => Ok(()),
                        }
                    }
                }
            }
        };
        if let Err(error) = ended {
            // A client that disconnects or sends garbage does not concern an operator.
            tracing::debug!(%error, "connection ended");
        }
        if progress.left_unread()
            && let Some(parts) = connection.into_parts()
        {
            discard(parts.io.into_inner()).await;
        }
        drop(permit);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// A connection whose requests get this status, their bodies unread.
    fn connected(status: StatusCode, stop: &CancellationToken) -> DuplexStream {
        let (client, stream) = duplex(256 * 1024);
        let (progress, stop) = (Progress::new(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(async |request| {
                let handle = async |_| {
                    let mut reply = Response::new(ReplyBody::default());
                    *reply.status_mut() = status;
                    reply
                };
                Ok::<_, std::convert::Infallible>(exchange(request, &progress, &stop, handle).await)
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
        });
        client
    }

    /// The next head, in lower case.
    async fn head(client: &mut DuplexStream) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.expect("a head"));
        }
        String::from_utf8(head).expect("a head is text").to_ascii_lowercase()
    }

    fn post(bytes: usize, more: &str) -> String {
        format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {bytes}\r\n{more}\r\n")
    }

    const CLOSE: &str = "\r\nconnection: close\r\n";

    #[tokio::test]
    async fn a_small_body_that_comes_after_its_answer_is_known_leaves_the_connection_usable() {
        let stop = CancellationToken::new();
        for status in [401, 403, 404, 412, 415, 503] {
            let status = StatusCode::from_u16(status).expect("a status");
            let mut client = connected(status, &stop);
            for _ in 0..3 {
                client.write_all(post(5, "").as_bytes()).await.expect("written");
                if status != StatusCode::SERVICE_UNAVAILABLE {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                client.write_all(b"hello").await.expect("written");
                let head = head(&mut client).await;
                assert!(head.starts_with(&format!("http/1.1 {}", status.as_u16())), "{head}");
                assert!(!head.contains(CLOSE), "{head}");
            }
            let chunked = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
            client.write_all(chunked.as_bytes()).await.expect("written");
            assert!(!head(&mut client).await.contains(CLOSE));
        }
    }

    #[tokio::test]
    async fn a_connection_whose_body_is_not_read_says_that_it_closes() {
        let stop = CancellationToken::new();
        let most = 64 * 1024;
        let chunk = format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n", most + 1);
        for (status, request, closes) in [
            (401, [post(most, ""), "x".repeat(most)].concat(), false),
            (401, [post(most + 1, ""), "x".repeat(most + 1)].concat(), true),
            (401, [chunk.clone(), "x".repeat(most + 1)].concat(), true),
            // Announced and not sent.
            (401, post(1 << 30, ""), true),
            (401, post(5, "expect: 100-continue\r\n"), true),
            (408, post(5, ""), true),
            (503, post(5, ""), true),
        ] {
            let mut client = connected(StatusCode::from_u16(status).expect("a status"), &stop);
            let begun = Instant::now();
            client.write_all(request.as_bytes()).await.expect("written");
            let head = head(&mut client).await;
            assert_eq!(head.contains(CLOSE), closes, "{head}");
            assert!(head.starts_with(&format!("http/1.1 {status}")), "not 100: {head}");
            assert!(begun.elapsed() < REST_PATIENCE / 2, "{:?}", begun.elapsed());
            if closes {
                assert_eq!(client.read(&mut [0]).await.expect("closed"), 0);
            }
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_awaited_for_a_moment_only() {
        let stop = CancellationToken::new();
        let mut client = connected(StatusCode::UNAUTHORIZED, &stop);
        let begun = Instant::now();
        client.write_all(post(500, "").as_bytes()).await.expect("written");
        // Bytes that keep coming do not prolong it.
        let (mut read, mut write) = tokio::io::split(client);
        let drips = tokio::spawn(async move {
            while write.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let mut head = vec![0; 12];
        read.read_exact(&mut head).await.expect("a head");
        assert_eq!(head, b"HTTP/1.1 401");
        let awaited = begun.elapsed();
        assert!(awaited >= REST_PATIENCE && awaited < 3 * REST_PATIENCE, "{awaited:?}");
        read.read_to_end(&mut head).await.expect("closed");
        assert!(String::from_utf8_lossy(&head).to_ascii_lowercase().contains(CLOSE));
        drips.abort();
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_a_body_that_nobody_reads() {
        let stop = CancellationToken::new();
        let mut client = connected(StatusCode::UNAUTHORIZED, &stop);
        let begun = Instant::now();
        client.write_all(post(5, "").as_bytes()).await.expect("written");
        tokio::time::sleep(Duration::from_millis(100)).await;
        stop.cancel();
        assert!(head(&mut client).await.contains(CLOSE));
        assert!(begun.elapsed() < REST_PATIENCE / 2, "{:?}", begun.elapsed());
        // Nor afterwards.
        let mut client = connected(StatusCode::UNAUTHORIZED, &stop);
        client.write_all(post(5, "").as_bytes()).await.expect("written");
        assert!(head(&mut client).await.contains(CLOSE));
        assert!(begun.elapsed() < REST_PATIENCE / 2, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn connections_that_nobody_took_are_served_when_the_listener_closes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut clients = Vec::new();
        for _ in 0..20 {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(b"request").await.unwrap();
            clients.push(client);
        }
        drop(clients.pop());
        let waiting = Listener::Tcp(listener).close().await;
        assert!(waiting.len() >= 19, "{}", waiting.len());
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        for (stream, peer) in waiting {
            let Stream::Tcp(mut stream) = stream else { panic!("a TCP listener") };
            let Some(client) =
                clients.iter_mut().find(|client| client.local_addr().is_ok_and(|address| address == peer))
            else {
                continue;
            };
            let mut bytes = [0; 7];
            stream.read_exact(&mut bytes).await.unwrap();
            stream.write_all(b"answers").await.unwrap();
            client.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"answers");
        }
    }
}
