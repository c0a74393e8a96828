//! What candidates are prepared with, and what outlives them.
//!
//! [`Ground`] is enough to prepare a candidate: plugin host, master key, sandbox bank. `check` has no more.
//! [`Standing`] is what a running server adds (queue, sockets, services, log) and what a candidate takes over.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chelseru_domain::chat::ChatService;
use chelseru_domain::secret::MasterKey;
use chelseru_domain::sms::queue::SmsQueue;
use chelseru_outbound::money::SandboxBank;
use chelseru_outbound::plugins;
use chelseru_outbound::sms::{Gates, Reports, SandboxInbox};
use chelseru_plugin_host::{Compiler, Registry};
use chelseru_sockets::Sockets;

use crate::config::{self, Config};
use crate::generation::Shared;
use crate::logging::LogHandle;
use crate::nodes::Nodes;
use crate::operator::metrics::Metrics;
use crate::{keys, owner, private};

/// The parts needed to prepare a candidate.
pub(crate) struct Ground {
    pub(crate) registry: Arc<Registry>,
    pub(crate) data_dir: PathBuf,
    pub(crate) plugins_dir: PathBuf,
    pub(crate) key: MasterKey,
    /// The key was generated in this start and is not stored yet.
    pub(crate) key_made: bool,
    pub(crate) bank: Arc<SandboxBank>,
}

impl Ground {
    /// Creates a missing data folder, and a missing key; the key is stored once the store is open (see
    /// [`keys::pair`]).
    ///
    /// Errors: a text for the operator.
    pub(crate) fn open(config: &Config, config_file: &Path, compiler: Compiler) -> Result<Ground, String> {
        let data_dir = config::data_dir(config, config_file);
        owner::refuse_root(&data_dir)?;
        let made = |path: &Path, result: std::io::Result<()>| {
            result.map_err(|error| format!("{}: cannot be created: {error}", path.display()))
        };
        made(&data_dir, private::make_dir(&data_dir))?;
        let plugins_dir = data_dir.join(plugins::PLUGINS_DIR);
        made(&plugins_dir, std::fs::create_dir_all(&plugins_dir))?;
        private::tighten(&data_dir).map_err(|error| {
            let data_dir = data_dir.display();
            format!("{data_dir}: is open to other users and cannot be closed to them: {error}; run chmod -R go= on it")
        })?;
        let (key, key_made) = keys::load(&data_dir)?;
        let registry = plugins::registry(config, &data_dir, compiler)?.with_keeping();
        Ok(Ground::new(config, data_dir, registry, key, key_made))
    }

    /// Creates nothing. A missing key is replaced by one that is never stored.
    ///
    /// Errors: a text for the operator.
    pub(crate) fn look(config: &Config, config_file: &Path, compiler: Compiler) -> Result<Ground, String> {
        let data_dir = config::data_dir(config, config_file);
        owner::refuse_root(&data_dir)?;
        let key = keys::read(&data_dir)?.unwrap_or(MasterKey::from_bytes([0; 32]));
        let registry = plugins::registry(config, &data_dir, compiler)?;
        Ok(Ground::new(config, data_dir, registry, key, false))
    }

    fn new(config: &Config, data_dir: PathBuf, registry: Registry, key: MasterKey, key_made: bool) -> Ground {
        let plugins_dir = data_dir.join(plugins::PLUGINS_DIR);
        let bank = Arc::new(SandboxBank::new(&config.server.base_path));
        Ground { registry: Arc::new(registry), data_dir, plugins_dir, key, key_made, bank }
    }
}

/// The parts that outlive configurations and that a candidate takes over.
pub(crate) struct Standing {
    pub(crate) registry: Arc<Registry>,
    pub(crate) log: LogHandle,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) inbox: Arc<SandboxInbox>,
    pub(crate) reports: Arc<Reports>,
    pub(crate) chat: Arc<ChatService>,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) sms_queue: SmsQueue,
    pub(crate) gates: Gates,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) shared: Shared,
}
