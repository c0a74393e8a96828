//! Two bare servers with fastwebsockets frames. They send each message to all sockets of its room and store nothing.
//! Server A writes every frame separately. Server B joins all waiting frames of a socket into one write.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

type Rooms = Arc<Mutex<HashMap<String, Arc<Mutex<Vec<UnboundedSender<Bytes>>>>>>>;

/// Starts a server on a free port. Its rooms are paths. Payloads have the length of the gateway's payloads.
pub(crate) async fn start(joined: bool, payload_bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let rooms = Rooms::default();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, rooms.clone(), joined, payload_bytes));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, rooms: Rooms, joined: bool, payload_bytes: usize) {
    stream.set_nodelay(true).expect("a socket");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let path = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or("/").to_owned();
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(answer.as_bytes()).await.expect("sent");

    let (reader, writer) = stream.into_split();
    let (sender, queue) = unbounded_channel();
    let room = rooms.lock().expect("no panic").entry(path).or_default().clone();
    room.lock().expect("no panic").push(sender);
    tokio::spawn(write(queue, writer, joined));

    let mut socket = WebSocket::after_handshake(tokio::io::join(reader, tokio::io::sink()), Role::Server);
    while let Ok(frame) = socket.read_frame().await {
        if frame.opcode != OpCode::Text {
            continue;
        }
        let text = std::str::from_utf8(&frame.payload).unwrap_or("");
        let message = text.split('"').nth(3).unwrap_or("");
        let mut payload = format!("{{\"type\":\"chat_message\",\"message\":\"{message}\",\"rest\":\"");
        payload.extend(std::iter::repeat_n('.', payload_bytes.saturating_sub(payload.len() + 2)));
        payload.push_str("\"}");
        let mut encoded = Vec::new();
        let len = Frame::text(Payload::Borrowed(payload.as_bytes())).write(&mut encoded).len();
        encoded.truncate(len);
        let encoded = Bytes::from(encoded);
        for sender in room.lock().expect("no panic").iter() {
            let _ = sender.send(encoded.clone());
        }
    }
}

async fn write(
    mut queue: UnboundedReceiver<Bytes>,
    mut writer: tokio::net::tcp::OwnedWriteHalf,
    joined: bool,
) {
    let mut out = Vec::new();
    while let Some(frame) = queue.recv().await {
        let written = if joined {
            out.clear();
            out.extend_from_slice(&frame);
            while let Ok(frame) = queue.try_recv() {
                out.extend_from_slice(&frame);
            }
            writer.write_all(&out).await
        } else {
            writer.write_all(&frame).await
        };
        if written.is_err() {
            return;
        }
    }
}
