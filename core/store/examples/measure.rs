//! Measures a store that the process before left: how long it takes to open, and what it takes in memory.
//!
//! `cargo run --release -p chelseru-store --example measure -- FOLDER CACHE_MIB RECORDS BYTES [walk | kill]`
//!
//! Opens the store in the folder, writes so many records of so many bytes, reads all of them, and prints the memory
//! beyond that of an empty store. With `walk` the records are blocks of words of one room, at most 32 KiB each, which
//! are read four times in walks of four that begin anywhere; it also prints how long a walk took. With `kill` the
//! process ends without closing the store, so that the next run measures recovery; it then runs with 0 records. Linux
//! only.

use std::time::Instant;

use chelseru_store::chat::{ImportedRoom, Room, RoomId, RoomKind, RoomStatus, WordBlock};
use chelseru_store::{Durability, Store, StoreError, StoreOptions, Timestamp, UserId};
use tokio::task::JoinSet;

/// The program's own allocator: what is measured is the program's memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MIB: u64 = 1 << 20;
const ROOM: RoomId = RoomId(1);
/// Changes that wait at once.
const CALLERS: usize = 512;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, numbers @ ..] = arguments.as_slice() else { return Err("FOLDER is missing".into()) };
    let number = |at: usize| -> Result<u64, Box<dyn std::error::Error>> {
        Ok(numbers.get(at).ok_or("CACHE_MIB, RECORDS and BYTES are needed")?.parse()?)
    };
    let (cache_mib, records, bytes) = (number(0)?, number(1)?, number(2)?);
    let options = StoreOptions {
        cache_bytes: cache_mib * MIB,
        durability: Durability::Process,
        ..StoreOptions::default()
    };
    let start = Instant::now();
    let store = Store::open(folder, options)?;
    println!("opened in {} ms", start.elapsed().as_millis());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
    let walks = numbers.get(3).is_some_and(|word| word == "walk");
    let empty = in_memory()?;
    match walks {
        true => runtime.block_on(write_blocks(&store, records, bytes))?,
        false => runtime.block_on(write(&store, records, bytes)),
    }
    let written = in_memory()?;
    match walks {
        true => runtime.block_on(walk(&store, records))?,
        false => runtime.block_on(read(&store, records))?,
    }
    let read = in_memory()?;
    let beyond = |bytes: u64| bytes.saturating_sub(empty) / MIB;
    println!(
        "an empty store takes {} MiB; {} more after writing, {} after reading",
        empty / MIB,
        beyond(written),
        beyond(read)
    );
    if numbers.get(3).is_some_and(|word| word == "kill") {
        std::process::abort();
    }
    store.close();
    Ok(())
}

async fn write(store: &Store, records: u64, bytes: u64) {
    let mut tasks = JoinSet::new();
    for n in 0..records {
        let (store, value) = (store.clone(), vec![n as u8; bytes as usize]);
        tasks.spawn(async move { store.probe_put(&key(n), &value).await });
        while tasks.len() >= CALLERS {
            tasks.join_next().await;
        }
    }
    tasks.join_all().await;
}

async fn read(store: &Store, records: u64) -> Result<(), StoreError> {
    for n in 0..records {
        store.probe_get(&key(n)).await?;
    }
    Ok(())
}

/// Each block is of one message.
async fn write_blocks(store: &Store, records: u64, bytes: u64) -> Result<(), StoreError> {
    let at = Timestamp::from_secs(1);
    let room = Room {
        id: ROOM,
        kind: RoomKind::Group,
        owner: UserId(1),
        name: None,
        descriptions: None,
        avatar: None,
        status: RoomStatus::Open,
        organization: None,
        created_at: at,
        updated_at: at,
        members: 0,
        bans: 0,
        revision: 0,
        changes: 0,
    };
    let room = ImportedRoom { room, members: Vec::new(), bans: Vec::new(), pair_with: None };
    store.import_rooms(vec![room]).await?;
    let mut tasks = JoinSet::new();
    for n in 1..=records {
        let block = WordBlock { first: n, last: n, bytes: vec![n as u8; bytes as usize] };
        let store = store.clone();
        tasks.spawn(async move { store.chat_word_block_put(ROOM, block, 0).await });
        while tasks.len() >= CALLERS {
            tasks.join_next().await;
        }
    }
    tasks.join_all().await;
    Ok(())
}

async fn walk(store: &Store, records: u64) -> Result<(), StoreError> {
    let mut took = Vec::new();
    for n in 0..records {
        let below = 5 + u64::from_be_bytes(key(n)) % records.saturating_sub(4).max(1);
        let (mut sum, started) = (0, Instant::now());
        store.chat_word_blocks(ROOM, below, 4, &mut |block| sum += block.bytes.len()).await?;
        took.push(started.elapsed());
        std::hint::black_box(sum);
    }
    took.sort_unstable();
    let at = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or_default();
    println!(
        "a walk of four takes {:?} (1%), {:?} (10%), {:?} (50%), {:?} (90%)",
        at(1),
        at(10),
        at(50),
        at(90)
    );
    Ok(())
}

/// Spread over the whole store, so that every change and every read meets another of the engine's pages.
fn key(n: u64) -> [u8; 8] {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn in_memory() -> Result<u64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
