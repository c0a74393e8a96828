//! Simulated SMS providers and payment gateways with scripted faults, for tests. Sockets are real; nothing is sent.
//!
//! A [`Simulator`] listens on a loopback address and answers like the documented providers, each under its own path, so
//! a test overrides `base_url` only. Tests in Rust start one in their process and call its methods. The program
//! `chelseru-simulator` offers the same over HTTP under `/_sim/`.
//! Invariants: a message is in [`Simulator::messages`] exactly when a provider would have sent it, and no credential is
//! in [`Simulator::requests`]. [`Limits`] bound everything that is kept.
//!
//! ```
//! use chelseru_simulator::{Fault, Simulator};
//!
//! let simulator = Simulator::start(([127, 0, 0, 1], 0).into())?;
//! simulator.fault(Fault::code("kavenegar", 418).times(1))?; // the next call has no credit left
//! println!("base_url = {:?}", simulator.url());
//! assert_eq!(simulator.accepted("kavenegar"), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Reading order: `server` (the steps of a request), `provider` (the contract of a provider), `kavenegar`, `fault`.

mod server;

mod provider;

mod kavenegar;
mod meli_payamak;
mod parsian_webco;
mod payping;
mod saman_sep;
mod zarinpal;

mod fault;

mod bank;
mod ledger;
mod log;
mod payer;

mod request;

mod control;
mod world;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use bank::{Paid, Session};
pub use fault::{Fault, FaultKind};
pub use kavenegar::{ErrorEntries, KavenegarSettings, LookupEntries};
pub use ledger::Message;
pub use log::Record;
pub use meli_payamak::MeliPayamakSettings;
pub use parsian_webco::ParsianWebcoSettings;
pub use payer::{Act, Back, Callback};
pub use payping::PaypingSettings;
pub use request::Fields;
pub use world::{Limits, Settings};
pub use zarinpal::ZarinpalSettings;

use world::World;

/// A running simulator on its own thread. Dropping it ends it and all its connections.
pub struct Simulator {
    /// Listening address, with the real port when port 0 was requested.
    pub addr: SocketAddr,
    world: Arc<World>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Starts with the default [`Limits`]. Works inside and outside a runtime.
    ///
    /// Errors: the address cannot be bound, or the system refuses a thread.
    pub fn start(addr: SocketAddr) -> io::Result<Self> {
        Self::start_with(addr, Limits::default())
    }

    /// Starts with other limits.
    pub fn start_with(addr: SocketAddr, limits: Limits) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(addr)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let world = Arc::new(World::new(limits));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&world);
        let serve = async move {
            // Registering the socket needs the runtime. A dropped sender means stop, too.
            if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                tokio::select! {
                    _ = server::run(listener, shared) => {}
                    _ = stopped => {}
                }
            }
        };
        let thread =
            std::thread::Builder::new().name("simulator".into()).spawn(move || runtime.block_on(serve))?;
        Ok(Self { addr, world, stop: Some(stop), thread: Some(thread) })
    }

    /// Base address for a provider's `base_url`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Scripts a fault after the waiting ones.
    ///
    /// Errors: an unknown provider or code, or 1,000 faults wait already.
    pub fn fault(&self, fault: Fault) -> Result<(), String> {
        self.world.faults.add(fault)
    }

    /// The waiting faults. A fault with `times(1)` leaves the list when the request that it strikes has arrived.
    pub fn faults(&self) -> Vec<Fault> {
        self.world.faults.waiting()
    }

    /// Ends every delay that runs now, as if its time were over.
    pub fn release(&self) {
        self.world.faults.release();
    }

    /// Drops every waiting fault.
    pub fn faults_clear(&self) {
        self.world.faults.clear();
    }

    /// Changes the providers' behaviour from the next request on.
    pub fn settings(&self, change: impl FnOnce(&mut Settings)) {
        self.world.settings_change(change);
    }

    /// Logged requests since the last reset, oldest first.
    pub fn requests(&self) -> Vec<Record> {
        self.requests_since(0)
    }

    /// Requests after the one with this `seq`.
    pub fn requests_since(&self, seq: u64) -> Vec<Record> {
        self.world.log().since(seq).cloned().collect()
    }

    /// Kept messages, oldest first.
    pub fn messages(&self) -> Vec<Message> {
        self.world.ledger().messages().cloned().collect()
    }

    /// Accepted messages of a provider since the last reset.
    pub fn accepted(&self, provider: &str) -> u64 {
        self.world.ledger().accepted(provider)
    }

    /// Sets a message's delivery state, as status calls answer it; `false` without such a message.
    pub fn status_set(&self, provider: &str, id: &str, status: i64) -> bool {
        let Some(provider) = provider::by_name(provider) else { return false };
        let mut ledger = self.world.ledger();
        ledger.by_id(provider.name(), id).map(|message| message.status = status).is_some()
    }

    /// Payments at the simulated gateways, oldest first.
    pub fn sessions(&self) -> Vec<Session> {
        self.world.bank().sessions().cloned().collect()
    }

    /// The callback address that a shop named for a payment.
    pub fn callback_url(&self, reference: &str) -> Option<String> {
        self.world.bank().find(reference).map(|session| session.callback_url.clone())
    }

    /// The payer pays; `false` when the session does not exist or is already decided.
    pub fn pay(&self, reference: &str) -> bool {
        payer::act(&mut self.world.bank(), reference, Act::Pay)
    }

    /// The payer cancels; `false` when the session does not exist or is already decided.
    pub fn cancel(&self, reference: &str) -> bool {
        payer::act(&mut self.world.bank(), reference, Act::Cancel)
    }

    /// The payer pays after cancelling, in the same session; `false` when he had not cancelled.
    pub fn pay_again(&self, reference: &str) -> bool {
        payer::act(&mut self.world.bank(), reference, Act::PayAgain)
    }

    /// The gateway returns a payment that was never confirmed; `false` when there is none.
    pub fn give_back(&self, reference: &str) -> bool {
        payer::act(&mut self.world.bank(), reference, Act::GiveBack)
    }

    /// The payer's browser returns to the shop, or does not. Returns the shop's replies.
    ///
    /// Errors: the session does not exist, or the shop cannot be reached.
    pub async fn come_back(&self, reference: &str, back: Back) -> Result<Vec<Callback>, String> {
        payer::comes_back(&self.world, reference, back).await
    }

    /// Resets everything: no faults, default settings, empty log, no messages.
    pub fn reset(&self) {
        self.world.reset();
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // Fails when the thread has already ended.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The program's `--help`: the providers and the control API.
pub fn help() -> String {
    control::help()
}
