//! Deliveries of two gateways beside one. Each has the same share of a core, so that on a machine of few cores the
//! database, the bus and the clients still find time, and two gateways have twice the time of one.

use std::path::PathBuf;

use chelseru_postgres_server::Server;
use chelseru_tests::bus::BusServer;
use chelseru_tests::process::Served;

use super::{room_of_two, share_a_key, token};
use crate::chat::client::{Job, Outcome, run};
use crate::measure::median;

/// A gateway's part of one core.
const SHARE: f64 = 0.3;
/// Length of the time of which a gateway has its share. Short, so that it never stands still for long.
const PERIOD_MICROS: u32 = 10_000;
const RUNS: usize = 3;
const SOCKETS: usize = 100;

pub(super) async fn spread(server: &'static Server, bus: &BusServer) {
    let (Some(first), Some(second)) = (Quota::new("chelseru-first"), Quota::new("chelseru-second")) else {
        return println!(
            "skipped: two gateways beside one need a control group for each, which root may make"
        );
    };
    server.make("bench_spread", "template1");
    let config = format!(
        "[auth]\naccess_token_seconds = 86400\n[log]\nlevel = \"error\"\n\
         [chat]\nstrangers = \"admit\"\nframes_per_second_max = 1000000\nsockets_per_user_max = 10000\n\
         messages_per_minute_max = 1000000000\nmessages_per_day_max = 1000000000\n\
         bytes_per_minute_max = 1000000000000\nbytes_per_day_max = 1000000000000\n\
         [store]\nengine = \"postgres\"\nurl = \"{}\"\nconnections_max = 8\n[bus]\nurl = \"{}\"\n",
        server.url("bench_spread"),
        bus.url()
    );
    let dirs = [(); 2].map(|()| chelseru_tests::folder(&config));
    let one = Served::start(dirs[0].path());
    share_a_key(&dirs);
    let two = Served::start(dirs[1].path());
    let client = chelseru_tests::client();
    let tokens = [token(&client, &one, "09120000001").await, token(&client, &one, "09120000002").await];
    let room = room_of_two(&client, &one, &tokens[0]).await;
    first.hold(one.child.id());
    second.hold(two.child.id());
    let address = |served: &Served| format!("{}/chat/{room}/?token={}", served.url, tokens[0]);
    let (mut alone, mut together, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let by_one = deliveries(vec![address(&one); SOCKETS]).await.deliveries;
        let halves = (0..SOCKETS).map(|socket| address(if socket % 2 == 0 { &one } else { &two }));
        let by_two = deliveries(halves.collect()).await.deliveries;
        alone.push(by_one);
        together.push(by_two);
        ratios.push(by_two / by_one);
    }
    println!(
        "{:.0} deliveries/s of two gateways, {:.0} of one, to {SOCKETS} sockets, each gateway with {SHARE} of a core; \
         ratio {:.2}; reach: 1.60",
        median(together),
        median(alone),
        median(ratios)
    );
}

async fn deliveries(addresses: Vec<String>) -> Outcome {
    // Every 25th of them sends: sockets 0 and 50 are at the first gateway, 25 and 75 at the second one.
    let job = Job { addresses, sender_every: 25, window: 64, rate: 0.0, text_bytes: 100, seconds: 4.0 };
    tokio::task::spawn_blocking(move || run(&job)).await.expect("no panic")
}

/// A bound on the processor time of processes, by a control group of Linux. It ends when no process is in it.
struct Quota(PathBuf);

impl Quota {
    /// `None` where the machine does not allow it.
    fn new(name: &str) -> Option<Quota> {
        let quota = (f64::from(PERIOD_MICROS) * SHARE) as u32;
        // The first version has a folder for each resource.
        for (root, bounds) in [
            (
                "/sys/fs/cgroup/cpu",
                [("cpu.cfs_period_us", PERIOD_MICROS.to_string()), ("cpu.cfs_quota_us", quota.to_string())]
                    .to_vec(),
            ),
            ("/sys/fs/cgroup", [("cpu.max", format!("{quota} {PERIOD_MICROS}"))].to_vec()),
        ] {
            let group = Quota(PathBuf::from(root).join(name));
            let _ = std::fs::remove_dir(&group.0);
            if std::fs::create_dir(&group.0).is_ok()
                && bounds.iter().all(|(file, bound)| std::fs::write(group.0.join(file), bound).is_ok())
            {
                return Some(group);
            }
        }
        None
    }

    fn hold(&self, process: u32) {
        std::fs::write(self.0.join("cgroup.procs"), process.to_string()).expect("the group takes a process");
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}
