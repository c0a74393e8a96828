//! Durable changes a second with 64 callers, beside bare sled with one flush per batch.

use std::time::{Duration, Instant};

use chelseru_store::{Durability, Store, StoreOptions};

use crate::measure::{median, runtime};

const CALLERS: usize = 64;
const RUNS: usize = 5;
const RUN_TIME: Duration = Duration::from_secs(2);

/// Changes a second through the store, and the mean batch size.
fn store(runtime: &tokio::runtime::Runtime, durability: Durability) -> (f64, f64) {
    let dir = tempfile::tempdir().expect("a folder");
    let store =
        Store::open(dir.path(), StoreOptions { durability, ..StoreOptions::default() }).expect("open");
    let started = Instant::now();
    let changes: u64 = runtime.block_on(async {
        let callers: Vec<_> = (0..CALLERS as u64)
            .map(|caller| {
                let store = store.clone();
                tokio::spawn(async move {
                    let mut done = 0_u64;
                    while started.elapsed() < RUN_TIME {
                        store.probe_put(&key(caller, done), &[7; 100]).await.expect("stored");
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let mut sum = 0;
        for caller in callers {
            sum += caller.await.expect("no panic");
        }
        sum
    });
    let rate = changes as f64 / started.elapsed().as_secs_f64();
    let stats = store.commit_stats();
    (rate, stats.changes as f64 / stats.batches.max(1) as f64)
}

/// The same bytes by sled alone: one flush per batch.
pub(crate) fn bare(batch_size: usize, durability: Durability) -> f64 {
    let dir = tempfile::tempdir().expect("a folder");
    let db = sled::Config::new().path(dir.path()).flush_every_ms(None).open().expect("open");
    let file = std::fs::File::open(dir.path().join("db")).expect("sled's file");
    let started = Instant::now();
    let mut changes = 0_u64;
    while started.elapsed() < RUN_TIME {
        let mut batch = sled::Batch::default();
        for _ in 0..batch_size {
            batch.insert(
                key(changes % CALLERS as u64, changes / CALLERS as u64).as_slice(),
                [7_u8; 100].as_slice(),
            );
            changes += 1;
        }
        db.apply_batch(batch).expect("applied");
        db.flush().expect("flushed");
        if durability == Durability::Disk {
            file.sync_data().expect("synced");
        }
    }
    changes as f64 / started.elapsed().as_secs_f64()
}

fn key(caller: u64, number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&caller.to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn run() {
    let runtime = runtime();
    for (durability, what) in
        [(Durability::Process, "flush"), (Durability::Disk, "flush and fdatasync (the default)")]
    {
        let (mut ratios, mut rates, mut bares, mut sizes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let (rate, size) = store(&runtime, durability);
            let bare = bare(size.round().max(1.0) as usize, durability);
            ratios.push(rate / bare);
            rates.push(rate);
            bares.push(bare);
            sizes.push(size);
        }
        println!(
            "{what}: {:.0} changes/s in batches of {:.1}; bare sled {:.0}/s; ratio {:.2}; reach: 0.70",
            median(rates),
            median(sizes),
            median(bares),
            median(ratios)
        );
    }
}
