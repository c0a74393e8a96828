//! Clients of the chat bench, in a separate process: they open sockets, send within a window or at a pace, and count
//! received frames.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use chelseru_tests::socket::{Socket, frame, frame_len};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The clients' job.
#[derive(Serialize, Deserialize)]
pub(crate) struct Job {
    /// URLs, one socket each.
    pub(crate) addresses: Vec<String>,
    /// Every n-th socket sends, starting with the first.
    pub(crate) sender_every: usize,
    /// Messages in flight per sender; with a pace, messages per write.
    pub(crate) window: u64,
    /// Messages a second of all senders together; 0: as fast as the window allows.
    pub(crate) rate: f64,
    pub(crate) text_bytes: usize,
    pub(crate) seconds: f64,
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Received frames a second, over all sockets.
    pub(crate) deliveries: f64,
    /// Messages a second that returned to their senders.
    pub(crate) messages: f64,
    /// Delivery times in milliseconds; with a pace only.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Runs a job in a separate process.
pub(crate) fn run(job: &Job) -> Outcome {
    let mut child = start(job);
    let output = child.wait_with_output_line();
    serde_json::from_str(&output).unwrap_or_else(|error| panic!("the clients said {output:?}: {error}"))
}

/// The process of a job. Dropping ends it.
pub(crate) struct Clients(std::process::Child);

impl Clients {
    fn wait_with_output_line(&mut self) -> String {
        let mut line = String::new();
        let mut out = std::io::BufReader::new(self.0.stdout.take().expect("piped"));
        std::io::BufRead::read_line(&mut out, &mut line).expect("readable");
        line
    }

    /// Waits until all sockets are open.
    pub(crate) fn wait_open(&mut self) {
        self.wait_with_output_line();
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn start(job: &Job) -> Clients {
    let mut child = Command::new(std::env::current_exe().expect("the program's own path"))
        .arg("chat-clients")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the clients start");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(serde_json::to_string(job).expect("JSON").as_bytes()).expect("written");
    drop(stdin);
    Clients(child)
}

/// Main function of the clients' process.
pub(crate) fn main() {
    let job: Job = serde_json::from_reader(std::io::stdin()).expect("a job");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.expect("a runtime").block_on(work(job));
    println!("{}", serde_json::to_string(&outcome).expect("JSON"));
}

#[derive(Default)]
struct Counts {
    frames: AtomicU64,
    own: AtomicU64,
    stop: AtomicBool,
    latencies: std::sync::Mutex<Vec<u32>>,
}

async fn work(job: Job) -> Outcome {
    let mut sockets = Vec::with_capacity(job.addresses.len());
    for addresses in job.addresses.chunks(32) {
        let opening = addresses.iter().map(|address| async move {
            Socket::open(address, &[]).await.unwrap_or_else(|refusal| panic!("{refusal:?}"))
        });
        sockets.extend(futures_util::future::join_all(opening).await);
    }
    let counts = Arc::new(Counts::default());
    let started = Instant::now();
    if job.seconds == 0.0 {
        // Stays open and answers pings until the bench ends this process.
        println!("{{}}");
        let _ = std::io::stdout().flush();
        let mut waiting = Vec::new();
        for mut socket in sockets {
            waiting.push(tokio::spawn(async move {
                use chelseru_tests::socket::Event;
                loop {
                    match socket.event_ever().await {
                        Event::Ping(payload) => socket.send_bytes(&frame(0x8a, &payload)).await,
                        Event::Close(..) | Event::End => return,
                        _ => {}
                    }
                }
            }));
        }
        futures_util::future::join_all(waiting).await;
        return Outcome::default();
    }
    let senders = sockets.len().div_ceil(job.sender_every) as f64;
    let job = Arc::new(job);
    for (index, socket) in sockets.into_iter().enumerate() {
        let sends = index % job.sender_every == 0;
        let (reader, writer) = socket.stream.into_split();
        let (job, counts) = (job.clone(), counts.clone());
        if sends && job.rate > 0.0 {
            tokio::spawn(pace(writer, index, senders, job.clone(), started, counts.clone()));
            tokio::spawn(receive(reader, index, None, job, started, counts));
        } else {
            tokio::spawn(receive(reader, index, Some((writer, sends)), job, started, counts));
        }
    }
    let warm = Duration::from_secs_f64(job.seconds / 4.0);
    tokio::time::sleep(warm).await;
    let read = || (counts.frames.load(Ordering::Relaxed) as f64, counts.own.load(Ordering::Relaxed) as f64);
    let (before, at) = (read(), Instant::now());
    counts.latencies.lock().expect("no panic").clear();
    tokio::time::sleep(Duration::from_secs_f64(job.seconds)).await;
    let (after, took) = (read(), at.elapsed().as_secs_f64());
    counts.stop.store(true, Ordering::Relaxed);
    let mut latencies = std::mem::take(&mut *counts.latencies.lock().expect("no panic"));
    latencies.sort_unstable();
    let share = |share: f64| {
        let at = (latencies.len() as f64 * share) as usize;
        latencies.get(at).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    };
    Outcome {
        deliveries: (after.0 - before.0) / took,
        messages: (after.1 - before.1) / took,
        p50_ms: share(0.5),
        p99_ms: share(0.99),
    }
}

fn message(index: usize, micros: u128, bytes: usize) -> Vec<u8> {
    let mut text = format!("s{index}:{micros}:");
    text.extend(std::iter::repeat_n('x', bytes.saturating_sub(text.len())));
    frame(0x81, format!("{{\"message\":\"{text}\"}}").as_bytes())
}

/// Reads without end and counts. A sender sends one message for each that returned.
async fn receive(
    mut reader: OwnedReadHalf,
    index: usize,
    mut writer: Option<(OwnedWriteHalf, bool)>,
    job: Arc<Job>,
    started: Instant,
    counts: Arc<Counts>,
) {
    let own = format!("\"message\":\"s{index}:");
    let mut buffer: Vec<u8> = Vec::with_capacity(256 * 1024);
    let mut sent = 0_u64;
    let mut returned = 0_u64;
    let mut latencies = Vec::new();
    loop {
        if let Some((writer, true)) = &mut writer
            && !counts.stop.load(Ordering::Relaxed)
        {
            let mut out = Vec::new();
            // A message of the round before may return late.
            while sent < returned + job.window {
                out.extend(message(index, 0, job.text_bytes));
                sent += 1;
            }
            if !out.is_empty() && writer.write_all(&out).await.is_err() {
                return;
            }
        }
        match reader.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let now = started.elapsed().as_micros();
        let (mut at, mut frames) = (0, 0);
        while let Some((head, len)) = frame_len(&buffer[at..]) {
            let first = buffer[at];
            let payload = &buffer[at + head..at + head + len];
            at += head + len;
            if first != 0x81 {
                continue;
            }
            frames += 1;
            let beginning = &payload[..payload.len().min(96)];
            if job.rate > 0.0 {
                if let Some(micros) = sent_at(beginning) {
                    latencies.push(u32::try_from(now.saturating_sub(micros)).unwrap_or(u32::MAX));
                }
            } else if matches!(writer, Some((_, true)))
                && beginning.windows(own.len()).any(|window| window == own.as_bytes())
            {
                returned += 1;
                counts.own.fetch_add(1, Ordering::Relaxed);
            }
        }
        buffer.drain(..at);
        counts.frames.fetch_add(frames, Ordering::Relaxed);
        if !latencies.is_empty() {
            counts.latencies.lock().expect("no panic").append(&mut latencies);
        }
    }
}

/// Send time of a paced message: the number between the first two colons of its text.
fn sent_at(beginning: &[u8]) -> Option<u128> {
    let text = std::str::from_utf8(beginning).ok()?;
    let (_, text) = text.split_once("\"message\":\"")?;
    text.split(':').nth(1)?.parse().ok()
}

async fn pace(
    mut writer: OwnedWriteHalf,
    index: usize,
    senders: f64,
    job: Arc<Job>,
    started: Instant,
    counts: Arc<Counts>,
) {
    let gap = Duration::from_secs_f64(senders * job.window as f64 / job.rate);
    // Spreads the senders over time.
    let mut next = tokio::time::Instant::now() + gap.mul_f64((index % 97) as f64 / 97.0);
    while !counts.stop.load(Ordering::Relaxed) {
        tokio::time::sleep_until(next).await;
        next += gap;
        let bytes = message(index, started.elapsed().as_micros(), job.text_bytes);
        if writer.write_all(&bytes.repeat(job.window as usize)).await.is_err() {
            return;
        }
    }
}

/// A field of `/proc/<pid>/status` in KiB.
pub(crate) fn memory_kib(pid: u32, field: &str) -> f64 {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(Path::new(&path)).expect("Linux");
    let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}
