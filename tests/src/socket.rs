//! A WebSocket client that can misbehave: it sends any bytes that a test wants.

use std::time::Duration;

use base64::Engine as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{PATIENCE, spec};

/// An open socket.
pub struct Socket {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    /// Consumed bytes of `buffer`.
    taken: usize,
    /// Its frames are held against the AsyncAPI document.
    is_chat: bool,
    /// References of sent frames that the document does not allow, and why. The gateway must not accept them.
    undocumented: Vec<(Value, String)>,
    pub protocol: Option<String>,
}

/// A refused handshake.
#[derive(Debug)]
pub struct Refusal {
    pub status: u16,
    pub head: String,
    pub body: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Code and reason; 1005 without a code.
    Close(u16, String),
    /// The connection ended.
    End,
}

impl Socket {
    /// Opens a socket at a full address, `http://host:port/path`.
    ///
    /// # Errors
    ///
    /// The reply, when its status is not 101.
    pub async fn open(address: &str, headers: &[(&str, &str)]) -> Result<Socket, Refusal> {
        Socket::try_open(address, headers).await.expect("the gateway answers")
    }

    /// [`Socket::open`] at a gateway that may be gone.
    ///
    /// # Errors
    ///
    /// Without an answer.
    pub async fn try_open(
        address: &str,
        headers: &[(&str, &str)],
    ) -> std::io::Result<Result<Socket, Refusal>> {
        let rest = address.strip_prefix("http://").expect("a plain address");
        let (host, path) = rest.split_once('/').expect("a path");
        let mut stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        let key = base64::engine::general_purpose::STANDARD.encode([7; 16]);
        let mut head = format!(
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut buffer = Vec::new();
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut buffer)).await;
            if read.map_err(std::io::Error::other)?? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let status: u16 = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let field = |name: &str| {
            let line = head.lines().find(|line| line.to_lowercase().starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        if status != 101 {
            let length: usize = field("content-length:").and_then(|text| text.parse().ok()).unwrap_or(0);
            while buffer.len() < end + length {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            let body = String::from_utf8_lossy(&buffer[end..]).into_owned();
            return Ok(Err(Refusal { status, head, body }));
        }
        assert_eq!(field("sec-websocket-extensions:"), None, "nothing was offered");
        let protocol = field("sec-websocket-protocol:");
        let is_chat = path.contains("/chat/") || path.ends_with("/ws/") || path.contains("/ws/?");
        Ok(Ok(Socket {
            stream,
            buffer: buffer.split_off(end),
            taken: 0,
            is_chat,
            undocumented: Vec::new(),
            protocol,
        }))
    }

    /// Sends a frame of JSON.
    pub async fn send(&mut self, value: &Value) {
        if let Some(problem) = self.is_chat.then(|| spec::client_frame_problem(value)).flatten() {
            let references = ["ref", "client_id"].into_iter().filter_map(|key| value.get(key));
            self.undocumented
                .extend(references.map(|reference| (reference.clone(), format!("{problem}: {value}"))));
        }
        self.send_text(&value.to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send_bytes(&frame(0x81, text.as_bytes())).await;
    }

    /// Sends bytes unchanged. A gateway that has closed the connection does not read them.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next frame of any kind.
    pub async fn event(&mut self) -> Event {
        let event = tokio::time::timeout(PATIENCE, self.event_ever()).await;
        event.unwrap_or_else(|_| panic!("nothing came"))
    }

    /// The next frame, without a time-out. Cancel-safe.
    pub async fn event_ever(&mut self) -> Event {
        loop {
            if let Some((event, len)) = parse(&self.buffer[self.taken..]) {
                self.taken += len;
                if self.taken == self.buffer.len() {
                    self.buffer.clear();
                    self.taken = 0;
                }
                return event;
            }
            self.buffer.drain(..self.taken);
            self.taken = 0;
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return Event::End,
                Ok(_) => {}
            }
        }
    }

    /// The next text frame, as JSON. Answers pings and skips pongs.
    pub async fn json(&mut self) -> Value {
        loop {
            match self.event().await {
                Event::Text(text) => {
                    let frame = serde_json::from_str(&text).expect("JSON");
                    let problem = self.is_chat.then(|| spec::frame_problem(&frame)).flatten();
                    assert_eq!(problem, None, "{frame}");
                    self.check_accepted(&frame);
                    return frame;
                }
                Event::Ping(payload) => self.send_bytes(&frame(0x8a, &payload)).await,
                Event::Pong(_) => {}
                other => panic!("a text was expected, not {other:?}"),
            }
        }
    }

    /// What the gateway carries out, the document must allow.
    fn check_accepted(&self, frame: &Value) {
        if frame["type"] != "ack" {
            return;
        }
        for (reference, problem) in &self.undocumented {
            let is_of = |key: &str| frame.get(key) == Some(reference);
            assert!(!is_of("ref") && !is_of("client_id"), "accepted, and not documented: {problem}");
        }
    }

    /// The next text frame of a type. Skips others.
    pub async fn json_of(&mut self, kind: &str) -> Value {
        loop {
            let value = self.json().await;
            if value["type"] == kind {
                return value;
            }
        }
    }

    /// The code with which the gateway closes. Skips text frames before it.
    pub async fn closed(&mut self) -> u16 {
        loop {
            match self.event().await {
                Event::Close(code, _) => return code,
                Event::End => return 1006,
                _ => {}
            }
        }
    }

    /// Whether only pings and pongs arrive during `wait`.
    pub async fn is_quiet(&mut self, wait: Duration) -> bool {
        let until = tokio::time::Instant::now() + wait;
        loop {
            match tokio::time::timeout_at(until, self.event_ever()).await {
                Err(_) => return true,
                Ok(Event::Ping(_) | Event::Pong(_)) => {}
                Ok(_) => return false,
            }
        }
    }
}

/// A masked client frame from its first byte (final bit, opcode) and payload.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut out = Vec::with_capacity(payload.len() + 14);
    out.push(first);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    let head = out.len();
    out.extend(payload);
    // Journeys send megabytes, and this is not optimised: 16 bytes at a time.
    let word = u128::from_ne_bytes(std::array::from_fn(|index| mask[index % 4]));
    for part in out[head..].chunks_mut(16) {
        let mut bytes = [0; 16];
        bytes[..part.len()].copy_from_slice(part);
        let masked = (u128::from_ne_bytes(bytes) ^ word).to_ne_bytes();
        part.copy_from_slice(&masked[..part.len()]);
    }
    out
}

/// Lengths of head and payload of the first frame in `bytes`; `None` while the frame is incomplete.
pub fn frame_len(bytes: &[u8]) -> Option<(usize, usize)> {
    let (head, len) = match *bytes.get(1)? & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        len => (2, usize::from(len)),
    };
    (bytes.len() >= head + len).then_some((head, len))
}

/// The first frame of the gateway, and its length. Panics unless it is final and unmasked.
fn parse(bytes: &[u8]) -> Option<(Event, usize)> {
    let (head, len) = frame_len(bytes)?;
    assert_eq!(bytes[0] & 0xf0, 0x80, "one whole frame without reserved bits");
    assert_eq!(bytes[1] & 0x80, 0, "a gateway masks nothing");
    let payload = bytes[head..head + len].to_vec();
    let event = match bytes[0] & 0x0f {
        1 => Event::Text(String::from_utf8(payload).expect("text")),
        2 => Event::Binary(payload),
        8 if payload.is_empty() => Event::Close(1005, String::new()),
        8 => Event::Close(
            u16::from_be_bytes([payload[0], payload[1]]),
            String::from_utf8(payload[2..].to_vec()).expect("text"),
        ),
        9 => Event::Ping(payload),
        10 => Event::Pong(payload),
        other => panic!("opcode {other}"),
    };
    Some((event, head + len))
}
