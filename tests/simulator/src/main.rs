//! `chelseru-simulator`: the simulated providers as a program, until SIGINT or SIGTERM.
//!
//! The first line is the address, so a script can request port 0 and read the port.
//! Exit status: 0 after a signal, 1 when the address cannot be bound, 2 for a usage error.

use std::net::SocketAddr;
use std::process::ExitCode;

use chelseru_simulator::{Limits, Simulator};
use clap::Parser;

/// Simulate SMS providers and payment gateways, with faults on request. Nothing is sent.
#[derive(Parser)]
#[command(version, after_long_help = chelseru_simulator::help())]
struct Arguments {
    /// Listen on this address and port; port 0 takes a free port
    #[arg(long, default_value = "127.0.0.1:9100", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Keep this many requests for /_sim/requests; drop the oldest
    #[arg(long, default_value_t = Limits::default().requests_max, value_name = "COUNT")]
    requests_max: usize,
    /// Keep this many accepted messages for /_sim/messages; drop the oldest
    #[arg(long, default_value_t = Limits::default().messages_max, value_name = "COUNT")]
    messages_max: usize,
}

fn main() -> ExitCode {
    let Arguments { listen, requests_max, messages_max } = Arguments::parse();
    let simulator = match Simulator::start_with(listen, Limits { requests_max, messages_max }) {
        Ok(simulator) => simulator,
        Err(error) => {
            eprintln!("error: cannot listen on {listen}: {error}; give another address with --listen");
            return ExitCode::from(1);
        }
    };
    println!("simulator listens on {}", simulator.url());
    println!("  set a provider's base_url to that address; help: curl {}/_sim/", simulator.url());
    match wait_for_signal() {
        Ok(name) => {
            eprintln!("simulator ends after {name}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: cannot wait for signals: {error}");
            ExitCode::from(1)
        }
    }
}

/// Waits on this thread. The simulator serves on its own thread.
fn wait_for_signal() -> std::io::Result<&'static str> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                result = tokio::signal::ctrl_c() => result.map(|()| "SIGINT"),
                _ = terminate.recv() => Ok("SIGTERM"),
            }
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c().await.map(|()| "an interrupt")
    })
}
