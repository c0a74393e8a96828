//! Shared by the benches: medians, percentiles, CPU time, and a client for one request after another.

use std::time::Duration;

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    assert!(!values.is_empty(), "a median of nothing");
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value that a share of the sorted samples does not exceed.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    assert!(!sorted.is_empty(), "a percentile of nothing");
    sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)]
}

/// CPU time of this process so far in seconds: all threads, user and system.
pub(crate) fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

pub(crate) fn micros(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1000.0
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

pub(crate) fn sorted(samples: impl Iterator<Item = Duration>) -> Vec<Duration> {
    let mut samples: Vec<_> = samples.collect();
    samples.sort();
    samples
}

/// A kept-alive connection of a blocking client.
pub(crate) struct Connection {
    stream: std::net::TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(url: &str) -> Connection {
        let address = url.trim_start_matches("http://").split('/').next().expect("an address");
        let stream = std::net::TcpStream::connect(address).expect("connected");
        stream.set_nodelay(true).expect("set");
        Connection { stream, buffer: Vec::new() }
    }

    /// Sends a request and returns the body of the reply. Panics unless its status is 200.
    pub(crate) fn ask(&mut self, request: &[u8]) -> String {
        use std::io::{Read, Write};
        self.stream.write_all(request).expect("sent");
        self.buffer.clear();
        let mut chunk = [0; 64 * 1024];
        loop {
            let read = self.stream.read(&mut chunk).expect("answered");
            assert!(read > 0, "cut");
            self.buffer.extend_from_slice(&chunk[..read]);
            let Some(head) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
                continue;
            };
            let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
            assert!(text.starts_with("http/1.1 200"), "{text}");
            let length = text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.expect("a length").parse().expect("a number");
            if self.buffer.len() >= head + 4 + length {
                return String::from_utf8_lossy(&self.buffer[head + 4..]).into_owned();
            }
        }
    }
}
