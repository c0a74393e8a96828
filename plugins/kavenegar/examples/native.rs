//! Times the mapping of one text compiled natively: what a call costs without component and sandbox. Prints
//! nanoseconds per call, median of several runs. `cargo xtask bench plugin-call` runs it beside the component.

use std::hint::black_box;
use std::time::Instant;

use chelseru_plugin_sdk::http::{HttpError, HttpRequest, HttpResponse};
use chelseru_plugin_sdk::sms::{Recipient, text};
use chelseru_plugin_sdk::{Context, SmsText};
use kavenegar::Kavenegar;

const CALLS: u32 = 20_000;
const RUNS: usize = 7;

/// Answers every request with the bytes it was given.
struct Stub {
    answer: Vec<u8>,
}

impl Context for Stub {
    fn setting(&self, key: &str) -> Option<String> {
        match key {
            "api_key" => Some("0123456789abcdef".to_owned()),
            "base_url" => Some("https://api.kavenegar.com".to_owned()),
            "request_timeout_ms" => Some("10000".to_owned()),
            _ => None,
        }
    }

    fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        black_box(request);
        Ok(HttpResponse { status: 200, headers: Vec::new(), body: self.answer.clone() })
    }
}

fn main() {
    let answer = std::env::args().nth(1).expect("the provider's answer as the first argument");
    let stub = Stub { answer: answer.into_bytes() };
    let call = || {
        let recipient = Recipient { number: "+989121234567".to_owned(), local_id: 1_767_256_200_000_001 };
        let message =
            text::Message { recipients: vec![recipient], text: "Your code: 482913".to_owned(), sender: None };
        black_box(Kavenegar::send_text(&stub, black_box(message))).expect("the stub accepts everything");
    };
    let mut runs: Vec<f64> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            (0..CALLS).for_each(|_| call());
            started.elapsed().as_nanos() as f64 / f64::from(CALLS)
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    println!("{:.0}", runs[RUNS / 2]);
}
