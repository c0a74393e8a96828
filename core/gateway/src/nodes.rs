//! This gateway among others that share the store: who is there, who does what, and the bus between them.
//!
//! A task that must not run twice runs where its lease is held ([`Nodes::holds`]). A lease is renewed every two seconds
//! (`neighbours`) and counts here for less time than in the store, so that a gateway that was paused or cannot reach
//! the store has stopped before another one begins. Work in one step may end after its lease; every step is right
//! twice. A gateway that is alone holds every lease and asks nobody.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chelseru_domain::bus::{Bus, NodeId, Note, ToOthers};
use chelseru_domain::chat::Others;
use chelseru_domain::ids::UserId;
use chelseru_domain::operator::Meter;
use chelseru_domain::secret::{KeyUse, MasterKey};
use chelseru_outbound::bus::{BusServer, Notes, RedisBus};
use chelseru_plugin_host::{ProviderStatus, Registry};
use chelseru_store::{Node, NodeFacts, Store, StoreError, Task, host_name};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::config::BusPlace;
use crate::edits::EditStatus;
use crate::operator::metrics::Metrics;

/// How long a lease is held in the store.
const LEASE: Duration = Duration::from_secs(12);
/// How long it counts here, from before it was asked for.
const LEASE_HERE: Duration = Duration::from_secs(9);
/// A gateway that was not seen for so long is not told of.
const SEEN: Duration = Duration::from_secs(15);
/// How long the other gateways are waited for that were asked who is connected there.
const ANSWER_MAX: Duration = Duration::from_millis(200);
/// How often it is asked whether a lease is held.
const LOOK: Duration = Duration::from_millis(500);

/// This gateway among the others.
pub(crate) struct Nodes {
    /// `None`: it is alone.
    bus: Option<Arc<RedisBus>>,
    state: Mutex<State>,
    /// Running questions about sockets, with whoever waits for their answers.
    asks: Mutex<HashMap<u64, mpsc::UnboundedSender<Vec<UserId>>>>,
}

#[derive(Default)]
struct State {
    held: Vec<Task>,
    until: Option<Instant>,
    nodes: Vec<Node>,
}

/// What a gateway says of itself at its start.
pub(crate) fn facts(name: String, config: &crate::config::Config, generation: u64) -> NodeFacts {
    let mut value = serde_json::to_value(config).unwrap_or_default();
    without_machine(&mut value, &mut Vec::new());
    NodeFacts { name, generation, config: digest(&value.to_string()), components: String::new(), edit: 0 }
}

/// Removes the keys of the machine.
fn without_machine(value: &mut Value, path: &mut Vec<String>) {
    let Value::Object(table) = value else { return };
    table.retain(|key, value| {
        path.push(key.clone());
        let stays = !chelseru_config::is_of_machine(path);
        if stays {
            without_machine(value, path);
        }
        path.pop();
        stays
    });
}

/// Names the components that serve.
pub(crate) fn components(registry: &Registry) -> String {
    let status = registry.status();
    let one = |entry: &ProviderStatus| format!("{} {}\n", entry.name, entry.blake3.as_deref().unwrap_or("-"));
    digest(&status.iter().map(one).collect::<String>())
}

fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..16].to_owned()
}

/// The name of this machine, with an address.
pub(crate) fn name(listen: std::net::SocketAddr) -> String {
    format!("{} {listen}", host_name())
}

/// A short mark of this machine and its data folder, the same at each start.
pub(crate) fn mark(data_dir: &Path) -> String {
    let folder = std::fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    let hash = blake3::hash(format!("{}:{}", host_name(), folder.display()).as_bytes()).to_hex();
    hash[..12].to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Nodes {
    /// A gateway that is alone.
    pub(crate) fn alone() -> Nodes {
        Nodes { bus: None, state: Mutex::default(), asks: Mutex::default() }
    }

    /// Connects to the bus. Also returns the notes that arrive.
    ///
    /// Errors: a text for the operator when the address is wrong, or its authorities are no certificates.
    pub(crate) fn connect(bus: &BusPlace, key: &MasterKey) -> Result<(Nodes, Notes), String> {
        let me = NodeId(uuid::Uuid::new_v4().as_u128());
        let deployment = blake3::hash(key.derive(KeyUse::Bus).expose()).to_hex();
        let server = BusServer { url: &bus.url, authorities: bus.authorities.as_deref() };
        let opened = RedisBus::open(&server, me, &deployment[..16]);
        let (bus, notes) = opened.map_err(|error| error.to_string())?;
        Ok((Nodes { bus: Some(bus), ..Nodes::alone() }, notes))
    }

    pub(crate) fn bus(&self) -> Option<Arc<dyn Bus>> {
        self.bus.clone().map(|bus| bus as Arc<dyn Bus>)
    }

    /// The same for chat.
    pub(crate) fn others(&self) -> Option<Arc<dyn Others>> {
        Some(Arc::new(ToOthers(self.bus()?)))
    }

    /// Whether other gateways may share the store.
    pub(crate) fn is_shared(&self) -> bool {
        self.bus.is_some()
    }

    /// Whether news arrive from the other gateways; true for one that is alone.
    pub(crate) fn is_connected(&self) -> bool {
        self.bus.as_ref().is_none_or(|bus| bus.is_up())
    }

    /// Those of some users who have a socket at another gateway, as far as those answer at once.
    pub(crate) async fn connected(&self, users: Vec<UserId>) -> HashSet<UserId> {
        let mut found = HashSet::new();
        let Some(bus) = self.bus.as_ref().filter(|bus| bus.is_up() && !users.is_empty()) else {
            return found;
        };
        // One that has just started is not in the list yet.
        let others = self.state().nodes.iter().filter(|node| !node.own).count().max(1);
        let (sender, mut answers) = mpsc::unbounded_channel();
        let ask = getrandom::u64().unwrap_or_default();
        lock(&self.asks).insert(ask, sender);
        bus.send(Note::WhoIsConnected { ask, users });
        let answered = async {
            for _ in 0..others {
                match answers.recv().await {
                    Some(users) => found.extend(users),
                    None => return,
                }
            }
        };
        let _ = tokio::time::timeout(ANSWER_MAX, answered).await;
        lock(&self.asks).remove(&ask);
        found
    }

    /// Takes an answer to [`Nodes::connected`].
    pub(crate) fn answered(&self, ask: u64, users: Vec<UserId>) {
        if let Some(waiting) = lock(&self.asks).get(&ask) {
            let _ = waiting.send(users);
        }
    }

    /// Whether this gateway may do a task now.
    pub(crate) fn holds(&self, task: Task) -> bool {
        if self.bus.is_none() {
            return true;
        }
        let state = self.state();
        state.until.is_some_and(|until| Instant::now() < until) && state.held.contains(&task)
    }

    /// Runs endless work while the task's lease is held here, and drops it when the lease is lost.
    pub(crate) async fn while_held<F: Future<Output = ()>>(&self, task: Task, work: impl Fn() -> F) {
        if self.bus.is_none() {
            return work().await;
        }
        loop {
            while !self.holds(task) {
                tokio::time::sleep(LOOK).await;
            }
            let lost = async {
                while self.holds(task) {
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::select! {
                () = work() => {}
                () = lost => {}
            }
        }
    }

    /// Says that this gateway is there, and renews its leases unless it is `stopping`.
    pub(crate) async fn renew(
        &self,
        store: &Store,
        facts: NodeFacts,
        stopping: bool,
    ) -> Result<(), StoreError> {
        let asked = Instant::now();
        let nodes = store.node_seen(facts, SEEN).await?;
        let held = if stopping { Vec::new() } else { store.leases_renew(LEASE).await? };
        let mut state = self.state();
        for task in held.iter().filter(|task| !state.held.contains(task)) {
            tracing::info!(task = task.as_str(), "this gateway does the task from now on");
        }
        *state = State { held, until: Some(asked + LEASE_HERE), nodes };
        Ok(())
    }

    /// Gives up what this gateway holds.
    pub(crate) async fn leave(&self, store: &Store) {
        if !self.is_shared() {
            return;
        }
        self.state().until = None;
        if let Err(error) = store.node_leave().await {
            tracing::warn!(%error, "this gateway could not give up its tasks; they are free in {LEASE:?}");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The part of `status/` about gateways; null for one that is alone.
    pub(crate) fn status(&self, edits: &EditStatus) -> Value {
        let Some(bus) = &self.bus else { return Value::Null };
        let held = |task: &Task| self.holds(*task).then(|| task.as_str());
        let tasks: Vec<_> = Task::ALL.iter().filter_map(held).collect();
        let nodes = self.state().nodes.clone();
        let own = nodes.iter().find(|node| node.own).map(|node| node.facts.clone());
        let nodes = nodes.iter().map(|node| {
            json!({
                "name": node.facts.name,
                "own": node.own,
                "up_seconds": node.up.as_secs(),
                "seen_seconds_ago": node.silent.as_secs(),
                "generation": node.facts.generation,
                "config": node.facts.config,
                "config_differs": own.as_ref().is_some_and(|own| own.config != node.facts.config),
                "components": node.facts.components,
                "components_differ": own.as_ref().is_some_and(|own| own.components != node.facts.components),
                "edit": node.facts.edit,
            })
        });
        json!({
            "bus": {"up": bus.is_up(), "dropped": bus.dropped()},
            "tasks": tasks,
            "edits": edits,
            "nodes": nodes.collect::<Vec<_>>(),
        })
    }

    /// Sets the gauges of gateways.
    pub(crate) fn measure(&self, metrics: &Metrics) {
        let Some(bus) = &self.bus else { return };
        metrics.gauge("chelseru_bus_up", &[], f64::from(u8::from(bus.is_up())));
        metrics.gauge("chelseru_bus_dropped", &[], bus.dropped() as f64);
        metrics.gauge("chelseru_nodes", &[], self.state().nodes.len() as f64);
        for task in Task::ALL {
            let held = f64::from(u8::from(self.holds(task)));
            metrics.gauge("chelseru_task_held", &[("task", task.as_str())], held);
        }
    }
}
