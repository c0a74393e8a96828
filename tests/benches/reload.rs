//! Time from a saved plugin file to its code serving, and a cold start with a warm cache.

use std::time::{Duration, Instant};

use chelseru_tests::{TestGateway, built_plugins, folder, process::Served, replace};

use crate::measure::{percentile, runtime};

const RELOADS: u32 = 40;
const STARTS: usize = 15;

/// The component with an added custom section: new code for the host, with the same behaviour.
fn variant(bytes: &[u8], number: u32) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    // Section id 0, size, name length, name, content (source: WebAssembly core specification, custom section).
    changed.extend([0, 9, 4]);
    changed.extend(b"save");
    changed.extend(number.to_le_bytes());
    changed
}

pub(crate) fn run() {
    let runtime = runtime();
    for (file, bytes) in
        built_plugins().into_iter().map(|(name, path)| (name, std::fs::read(path).expect("a built plugin")))
    {
        let entry = file.trim_end_matches(".wasm").to_uppercase();
        let settings = match file.as_str() {
            "kavenegar.wasm" => "api_key = \"x\"",
            "parsian-webco.wasm" => "api_key = \"x\"",
            "meli-payamak.wasm" => "username = \"x\"\npassword = \"x\"\nsender = \"5000\"",
            "payping.wasm" => "api_key = \"x\"",
            "saman-sep.wasm" => "terminal = 2001",
            "zarinpal.wasm" => "merchant_id = \"00000000-0000-0000-0000-000000000000\"",
            _ => "",
        };
        let plugin = file.trim_end_matches(".wasm");
        let config =
            format!("[provider.{entry}]\nplugin = \"{plugin}\"\n[provider.{entry}.settings]\n{settings}\n");
        let mut times: Vec<Duration> = runtime.block_on(async {
            let gateway = TestGateway::start(&config).await;
            let path = gateway.plugins_dir().join(&file);
            let mut times = Vec::new();
            for number in 0..RELOADS {
                let before =
                    gateway.app.registry.get(&entry).expect("it serves").plugin().digest().to_owned();
                let changed = variant(&bytes, number);
                let saved = Instant::now();
                replace(&path, &changed);
                while gateway.app.registry.get(&entry).expect("it serves").plugin().digest() == before {
                    assert!(saved.elapsed() < chelseru_tests::PATIENCE, "{file} was not reloaded");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                times.push(saved.elapsed());
            }
            times
        });
        times.sort();
        println!(
            "{file}: saved to serving p50 {:.0} ms, p99 {:.0} ms ({RELOADS} reloads, {} KiB); reach: p99 300 ms",
            percentile(&times, 0.5).as_secs_f64() * 1e3,
            percentile(&times, 0.99).as_secs_f64() * 1e3,
            bytes.len() / 1024
        );
    }

    let dir = folder("[log]\nlevel = \"error\"\n");
    // The first start fills the cache and creates the database.
    drop(Served::start(dir.path()));
    let mut starts: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let started = Instant::now();
            let served = Served::start(dir.path());
            let took = started.elapsed();
            served.kill();
            took
        })
        .collect();
    starts.sort();
    println!(
        "start with warm cache: p50 {:.0} ms, slowest of {STARTS} {:.0} ms; reach: 150 ms",
        percentile(&starts, 0.5).as_secs_f64() * 1e3,
        starts[STARTS - 1].as_secs_f64() * 1e3
    );
}
