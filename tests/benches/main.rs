//! Runs the benches named on the command line, one after another. `cargo xtask bench` lists them.
//!
//! Every bench prints its numbers beside a bare baseline of the same run, because absolute numbers vary on shared
//! machines. Each figure is the median of several runs. No number fails a bench.

mod auth;
mod chat;
mod commit;
mod console;
mod http;
mod import;
#[path = "../../core/plugin-host/tests/host/kit.rs"]
mod kit;
mod measure;
mod neighbours;
mod payments;
mod payments_staff;
mod plugin_call;
mod recovery;
mod reload;
mod scale;
mod search;
mod sms;

/// The allocator of the `chelseru` command. The baselines use it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("chat-clients") {
        // The process of the chat bench's clients. It prints its outcome only.
        return chat::client::main();
    }
    if std::env::args().nth(1).as_deref() == Some("recovery-fill") {
        // The process that the recovery bench kills.
        return recovery::fill();
    }
    for name in std::env::args().skip(1) {
        println!("== {name}");
        match name.as_str() {
            "auth" => auth::run(),
            "chat" => chat::run(),
            "commit" => commit::run(),
            "console" => console::run(),
            "http" => http::run(),
            "import" => import::run(),
            "neighbours" => neighbours::run(),
            "payments" => payments::run(),
            "plugin-call" => plugin_call::run(),
            "recovery" => recovery::run(),
            "reload" => reload::run(),
            "scale" => scale::run(),
            "search" => search::run(),
            "sms" => sms::run(),
            other => panic!("no bench {other:?}; `cargo xtask bench` lists them"),
        }
    }
}
