//! p99 of health/ and of another plugin's calls beside plugins that misbehave, and beside a bare program of the load.
//!
//! Each line is a point of the promise that no plugin hurts the gateway: guests that compute, return to the host again
//! and again or answer with megabytes; components that compile for long, are refused, replaced, copied slowly, or are
//! no plugins at all. Both neighbours are asked over HTTP: `health/`, and `otp/send/`, which calls the sandbox's plugin
//! and commits. The same load without the gateway shows what it does to anybody: as many threads that only compute, or
//! the same files in a folder that nobody watches, on the disk to which calls commit. What the machine does by itself
//! shows when both are asked alone twice.

use std::any::Any;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chelseru_plugin_host::{Host, Limits, Provider};
use chelseru_tests::hostile::{ATTACKS, Attack, Attacking, COMPILES_FOR_LONG};
use chelseru_tests::process::Served;
use chelseru_tests::{TestGateway, folder};

use crate::kit::{self, Scripted};
use crate::measure::{Connection, median, micros, percentile, runtime, sorted};

const ROUNDS: usize = 7;
/// Requests of each neighbour that a p99 is taken of, at most.
const HEALTH: usize = 20_000;
const CALLS: usize = 1000;
/// And how long they are asked for at most. A neighbour that is held up answers few.
const ASKING: Duration = Duration::from_secs(3);
/// Callers of a guest that misbehaves.
const CALLERS: usize = 12;
/// From the end of a call to the same caller's next one: what the guest does is measured, not how often it is asked.
const NEXT_CALL: Duration = Duration::from_millis(100);
/// From the start of what goes on to the first request beside it, and from its end to the first one alone.
const SETTLE: Duration = Duration::from_millis(500);
/// What p99 may grow by.
const REACH: f64 = 1.2;

/// A load: threads, and their step back (`nice`).
type Load = (usize, u32);
/// Of the compiler's child on two cores.
const COMPILER: Load = (1, 10);

/// The same load without the gateway: what two busy cores, or one disk, do to anybody.
struct Bare<'a> {
    name: String,
    start: Box<dyn Fn() -> Box<dyn Any> + 'a>,
}

impl Bare<'_> {
    fn threads((threads, step): Load) -> Bare<'static> {
        let name = format!("{threads} bare threads of nice {step}");
        Bare { name, start: Box::new(move || Box::new(Threads::start((threads, step)))) }
    }

    /// The files of an attack in a folder that nobody watches.
    fn files<'a>(attack: Attack, folder: &'a Path, good: &'a [u8]) -> Bare<'a> {
        let start = move || Box::new(Files(Some(Attacking::start(attack, folder, good)))) as Box<dyn Any>;
        Bare { name: "the same files elsewhere".to_owned(), start: Box::new(start) }
    }
}

struct Files(Option<Attacking>);

impl Drop for Files {
    fn drop(&mut self) {
        self.0.take().expect("it ends once").end();
    }
}

/// As many threads of nothing but computing, in processes of their own.
struct Threads(Vec<Child>);

impl Threads {
    fn start((threads, step): Load) -> Threads {
        let spin = || {
            let mut command = Command::new("nice");
            command.args(["-n", &step.to_string(), "sh", "-c", "while :; do :; done"]);
            command.stdin(Stdio::null()).spawn().expect("nice starts")
        };
        Threads((0..threads).map(|_| spin()).collect())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Both neighbours, on one connection.
struct Neighbours {
    connection: Connection,
    base: String,
    number: u64,
}

impl Neighbours {
    fn of(url: &str) -> Neighbours {
        let path = url.trim_start_matches("http://").split_once('/').map_or("", |(_, path)| path);
        Neighbours { connection: Connection::open(url), base: format!("/{path}"), number: 0 }
    }

    /// p99 of `health/` and of a call, in µs.
    fn p99(&mut self) -> [f64; 2] {
        let health = format!("GET {}/health/ HTTP/1.1\r\nhost: localhost\r\n\r\n", self.base);
        let health = self.samples(HEALTH, |_| health.clone());
        let base = self.base.clone();
        let calls = self.samples(CALLS, |number| {
            let body = format!("{{\"mobile_number\": \"0936{number:07}\"}}");
            format!(
                "POST {base}/otp/send/ HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            )
        });
        [health, calls].map(|samples| micros(percentile(&samples, 0.99)))
    }

    /// How long each of some requests took, shortest first.
    fn samples(&mut self, count: usize, request: impl Fn(u64) -> String) -> Vec<Duration> {
        let (begun, mut samples) = (Instant::now(), Vec::with_capacity(count));
        while samples.len() < count && (samples.is_empty() || begun.elapsed() < ASKING) {
            self.number += 1;
            let (request, asked) = (request(self.number), Instant::now());
            self.connection.ask(request.as_bytes());
            samples.push(asked.elapsed());
        }
        sorted(samples.into_iter())
    }

    /// Measures alone, alone again, beside the bare load, and beside what `start` starts, in turns, and prints the
    /// medians.
    fn beside<A>(&mut self, what: &str, bare: &Bare<'_>, start: impl Fn() -> A, end: impl Fn(A)) {
        let mut rounds: [Vec<[f64; 2]>; 4] = Default::default();
        for _ in 0..ROUNDS {
            rounds[0].push(self.p99());
            rounds[3].push(self.p99());
            let load = (bare.start)();
            std::thread::sleep(SETTLE);
            rounds[1].push(self.p99());
            drop(load);
            let attack = start();
            std::thread::sleep(SETTLE);
            rounds[2].push(self.p99());
            end(attack);
            std::thread::sleep(SETTLE);
        }
        println!("{what}:");
        for (index, name) in ["health/", "a call"].into_iter().enumerate() {
            let of = |round: usize| median(rounds[round].iter().map(|p99| p99[index]).collect());
            let ratio = |round: usize| {
                let pairs = rounds[round].iter().zip(&rounds[0]);
                median(pairs.map(|(with, alone)| with[index] / alone[index]).collect())
            };
            println!(
                "  {name:8} p99 alone {:.0} µs, again {:.2}x, beside it {:.0} µs, {:.2}x (reach: {REACH}x); \
                 beside {} {:.0} µs, {:.2}x",
                of(0),
                ratio(3),
                of(2),
                ratio(2),
                bare.name,
                of(1),
                ratio(1)
            );
        }
    }
}

/// Guests that misbehave while they run, by name.
const GUESTS: [(&str, &str, &str); 3] = [
    (
        "10. a guest that loops over http.send",
        "(loop $l (drop (call $fetch (local.get $in) (local.get $len))) (br $l)) (unreachable)",
        "https://a.com/",
    ),
    ("10. a guest that loops", kit::LOOP, ""),
    (
        "12. a guest that answers with 900 KB of escapes",
        "(local.set $i (call $alloc (i32.const 900000)))
         (memory.fill (local.get $i) (i32.const 27) (i32.const 900000))
         (call $ret (local.get $i) (i32.const 900000))",
        "",
    ),
];

/// Calls a guest from as many tasks as [`CALLERS`] until it is dropped.
struct Calling(Vec<tokio::task::JoinHandle<()>>);

impl Calling {
    fn start(runtime: &tokio::runtime::Runtime, provider: &Arc<Provider>, input: &'static str) -> Calling {
        let call = || {
            let provider = Arc::clone(provider);
            runtime.spawn(async move {
                loop {
                    // It ends by a limit or with its text; the neighbours are what is measured.
                    let _ = kit::run(&provider, input).await;
                    tokio::time::sleep(NEXT_CALL).await;
                }
            })
        };
        Calling((0..CALLERS).map(|_| call()).collect())
    }

    fn end(self, runtime: &tokio::runtime::Runtime) {
        for task in self.0 {
            task.abort();
            let _ = runtime.block_on(task);
        }
    }
}

async fn hostile(host: &Host, guest: &'static str) -> Arc<Provider> {
    let plugin = kit::load(host, &kit::guest(guest)).await;
    let binding = kit::binding(&[], Some(&["a.com"]), Limits::default());
    let provider = Provider::bind(host, plugin, binding).expect("binds");
    Arc::new(provider.with_transport(Arc::new(Scripted::default())))
}

pub(crate) fn run() {
    let gateway_runtime = runtime();
    let gateway = gateway_runtime.block_on(TestGateway::start(""));
    let mut neighbours = Neighbours::of(&gateway.url);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for (what, guest, input) in GUESTS {
        let provider = gateway_runtime.block_on(hostile(gateway.app.registry.host(), guest));
        let start = || Calling::start(&gateway_runtime, &provider, input);
        let bare = Bare::threads((cores, 0));
        neighbours.beside(what, &bare, start, |calling| calling.end(&gateway_runtime));
    }
    gateway_runtime.block_on(gateway.stop());

    let mine = "[provider.MINE]\nplugin = \"mine\"\nkind = \"sms\"\n";
    let dir = folder(&format!("{mine}[plugins]\ncompile_seconds = 3600\n[log]\nlevel = \"error\"\n"));
    let plugins = dir.path().join("data/plugins");
    let good = std::fs::read(plugins.join("sandbox-sms.wasm")).expect("a plugin");
    std::fs::write(plugins.join("mine.wasm"), &good).expect("written");
    let elsewhere = folder("");
    let served = Served::start(dir.path());
    let mut neighbours = Neighbours::of(&served.url);
    for ((what, attack), number) in ATTACKS.into_iter().zip([11, 13, 14, 15, 15]) {
        let start = || Attacking::start(attack, &plugins, &good);
        let bare = match what == COMPILES_FOR_LONG {
            true => Bare::threads(COMPILER),
            false => Bare::files(attack, elsewhere.path(), &good),
        };
        neighbours.beside(&format!("{number}. {what}"), &bare, start, |attack| {
            attack.end();
            chelseru_tests::replace(&plugins.join("mine.wasm"), &good);
        });
    }
}
