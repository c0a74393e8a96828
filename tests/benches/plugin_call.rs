//! A Kavenegar send in a fresh instance, in a kept instance, and compiled natively.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_outbound::bindings::{functions, sms_text, sms_types, types};
use chelseru_outbound::kinds::KINDS;
use chelseru_plugin_host::{
    Binding, Host, HostOptions, HttpError, HttpRequest, HttpResponse, Limits, Provider, Transport,
};
use chelseru_tests::{built_plugins, root};

use crate::measure::{cpu_seconds, median, micros, percentile, runtime};

const ANSWER: &str = r#"{"return":{"status":200,"message":"ok"},"entries":[{"messageid":8792343001,"message":"Your code: 482913","status":1,"statustext":"queued","sender":"10004346","receptor":"09121234567","date":1767256200,"cost":1200}]}"#;
const CALLS: u32 = 4_000;
const RUNS: usize = 5;
/// Calls of one kept instance before it is replaced.
const HELD_CALLS: u32 = 100;

/// Answers immediately, in this process.
struct Stub;

#[async_trait::async_trait]
impl Transport for Stub {
    async fn send(&self, _request: HttpRequest) -> Result<HttpResponse, HttpError> {
        Ok(HttpResponse { status: 200, headers: Vec::new(), body: ANSWER.as_bytes().to_vec() })
    }
}

type Answer = (Result<Vec<sms_text::Receipt>, types::Error>,);

fn message() -> sms_text::Message {
    let recipient =
        sms_types::Recipient { number: "+989121234567".to_owned(), local_id: 1_767_256_200_000_001 };
    sms_text::Message { recipients: vec![recipient], text: "Your code: 482913".to_owned(), sender: None }
}

async fn provider() -> Arc<Provider> {
    let host = Host::new(HostOptions::default()).expect("a host");
    let (_, path) =
        built_plugins().into_iter().find(|(name, _)| name == "kavenegar.wasm").expect("the plugin is built");
    let plugin = host.load(std::fs::read(path).expect("read"), KINDS).await.expect("loaded");
    let limits = Limits {
        // The kept instance makes many calls, and its limits count all of them.
        http_requests_max: 2 * HELD_CALLS,
        host_call_bytes_max: 16 * 1024 * 1024,
        output_bytes_max: 16 * 1024 * 1024,
        ..Limits::default()
    };
    let binding = Binding {
        name: "KAVENEGAR_COM".into(),
        settings: [("api_key".to_owned(), "0123456789abcdef".into())].into(),
        hosts: None,
        limits,
    };
    Arc::new(Provider::bind(&host, plugin, binding).expect("bound").with_transport(Arc::new(Stub)))
}

fn accepted(answer: Answer) {
    let receipts = answer.0.expect("the stub accepts everything");
    assert!(receipts.len() == 1 && receipts[0].outcome.is_ok());
}

async fn fresh(provider: &Provider) -> Duration {
    let started = Instant::now();
    let answer: Answer = provider.call(functions::SEND_TEXT, (message(),)).await.expect("a call");
    let took = started.elapsed();
    accepted(answer);
    took
}

async fn held(provider: Arc<Provider>, calls: u32) -> Vec<Duration> {
    let mut samples = Vec::new();
    for _ in 0..calls / HELD_CALLS {
        let mut held = provider.hold().await.expect("an instance");
        for _ in 0..HELD_CALLS {
            let started = Instant::now();
            let answer: Answer = held.call(functions::SEND_TEXT, (message(),)).await.expect("a call");
            samples.push(started.elapsed());
            accepted(answer);
        }
    }
    samples
}

fn native() -> f64 {
    let host = Command::new("rustc").args(["--print", "host-tuple"]).output().expect("rustc");
    let host = String::from_utf8(host.stdout).expect("text");
    let output = Command::new("cargo")
        .args(["run", "--release", "--quiet", "--package", "kavenegar", "--example", "native"])
        .args(["--target", host.trim(), "--", ANSWER])
        .current_dir(root().join("plugins"))
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().parse::<f64>().expect("a number") / 1000.0
}

fn p50(mut samples: Vec<Duration>) -> f64 {
    samples.sort();
    micros(percentile(&samples, 0.5))
}

pub(crate) fn run() {
    let native = native();
    let runtime = runtime();
    let provider = runtime.block_on(provider());
    // Runs on a worker thread, like requests.
    let on_worker = |provider: Arc<Provider>, calls: u32| async move {
        tokio::spawn(async move {
            let mut samples = Vec::with_capacity(calls as usize);
            for _ in 0..calls {
                samples.push(fresh(&provider).await);
            }
            samples
        })
        .await
        .expect("no panic")
    };
    runtime.block_on(on_worker(provider.clone(), 500));
    let fresh =
        median((0..RUNS).map(|_| p50(runtime.block_on(on_worker(provider.clone(), CALLS)))).collect());
    let kept =
        |provider: Arc<Provider>| async move { tokio::spawn(held(provider, CALLS)).await.expect("no panic") };
    let held = median((0..RUNS).map(|_| p50(runtime.block_on(kept(provider.clone())))).collect());
    println!("native mapping      {native:7.2} µs");
    println!("kept instance, p50  {held:7.2} µs   {:.1}x native", held / native);
    println!("fresh instance, p50 {fresh:7.2} µs   {:.1}x native; reach: at most 40 µs", fresh / native);

    let mut alone = 0.0;
    for callers in [1_u32, 4, 16, 64] {
        let per_call = median(
            (0..RUNS)
                .map(|_| {
                    let each = (CALLS * 2).div_ceil(callers);
                    let before = cpu_seconds();
                    runtime.block_on(async {
                        let tasks: Vec<_> =
                            (0..callers).map(|_| tokio::spawn(on_worker(provider.clone(), each))).collect();
                        for task in tasks {
                            task.await.expect("no panic");
                        }
                    });
                    (cpu_seconds() - before) * 1e6 / f64::from(each * callers)
                })
                .collect(),
        );
        if callers == 1 {
            alone = per_call;
        }
        println!(
            "{callers:3} callers          {per_call:7.2} µs of CPU a call   {:.2}x of one caller; reach: 1.3x",
            per_call / alone
        );
    }
}
