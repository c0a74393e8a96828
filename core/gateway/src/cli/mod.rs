//! The command line: `chelseru serve | check | plugin ... | apikey ... | user ... | ledger ... | webhooks ... |
//! backup | restore`.
//!
//! Exit status: 0 done, 1 failed (the reason on standard error), 2 used wrongly. Results go to standard
//! output, everything else to standard error.

mod apikey;
mod ask;
mod backup;
mod check;
mod conformance;
mod ledger;
mod load;
mod plugin;
mod scaffold;
mod serve;
mod user;
mod webhooks;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use check::{Report, check_file};

use crate::keys::Accepted;

/// How long work that cannot be dropped may go on after a command is done.
const RUNTIME_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

const AFTER_HELP: &str = "\
Examples:
  chelseru serve                          serve with ./config.toml
  chelseru check --config /etc/chelseru/config.toml
  chelseru plugin list                    what the running gateway serves, and what it refused
  chelseru user create-superuser root     an account with all rights; its password is printed last
  chelseru plugin inspect kavenegar       a plugin's settings, hosts and abilities

Exit status: 0 done, 1 failed, 2 used wrongly.
Relative paths inside the configuration are relative to its file; the data folder is data/ beside it.";

/// A self-hosted gateway for phone login, SMS, payments and chat. Every SMS provider is a WebAssembly plugin
/// that is chosen in the configuration file and can be replaced while the gateway serves.
#[derive(Parser)]
#[command(name = "chelseru", version, after_help = AFTER_HELP, subcommand_required = true)]
struct Cli {
    /// The configuration file.
    #[arg(long, global = true, value_name = "PATH", default_value = "config.toml", env = "CHELSERU_CONFIG")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve. Refuses to start on a configuration that `check` rejects.
    ///
    /// Watches the configuration file and the plugins folder: what can change live, changes without a dropped
    /// request; what is wrong is refused, and the old one keeps serving. SIGINT or SIGTERM ends it after the
    /// requests in flight.
    Serve {
        /// Start on an empty store although there is a key: go on without everything that was stored.
        #[arg(long)]
        accept_new_store: bool,
        /// Start with another key than the store's, or with a new one. Logs everybody out.
        #[arg(long)]
        accept_new_key: bool,
    },
    /// Check the configuration and every plugin it uses, without serving.
    ///
    /// Reports every problem with file, line, key, the value found and what is accepted.
    Check,
    /// Look at plugins, test them, and make new ones.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Make, list and revoke API keys. Works while a gateway runs, and while none does.
    #[command(subcommand)]
    Apikey(ApiKeyCommand),
    /// Look at the money.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Look after the messages that tell others of payments and wallets.
    #[command(subcommand)]
    Webhooks(WebhooksCommand),
    /// Write the store, the key, the plugins and the uploaded files into a new folder.
    ///
    /// Works while a gateway runs, which is asked to do it; changes go on meanwhile. The store is written to the data
    /// folder's disk first and needs room there. The folder holds the key and every number: keep it like the data
    /// folder. The configuration is not in it.
    #[command(args_conflicts_with_subcommands = true)]
    Backup {
        /// A folder that does not exist yet, outside of the data folder.
        #[arg(required = true)]
        folder: Option<PathBuf>,
        #[command(subcommand)]
        action: Option<BackupAction>,
    },
    /// Fill the data folder of this configuration from a backup, and prove the balances.
    ///
    /// The data folder must have neither store nor key: stop the gateway and move it away first.
    Restore {
        /// What `chelseru backup` wrote.
        folder: PathBuf,
    },
    /// Print the OpenAPI document of every route, as `openapi.json` serves it.
    Openapi,
    /// Look after accounts.
    ///
    /// Works on the store when no gateway runs; when one does, it is asked to do it, and the change takes effect
    /// there at once. USER is a user name, a phone number or an account's number.
    #[command(subcommand)]
    User(user::Arguments),
}

#[derive(Subcommand)]
enum BackupAction {
    /// Check a backup: that every file is there and unaltered.
    Verify {
        /// What `chelseru backup` wrote.
        folder: PathBuf,
    },
}

#[derive(Subcommand)]
enum ApiKeyCommand {
    /// Make a key and print it. It is stored as a hash and never shown again.
    Create {
        /// What the key is for: sms.
        #[arg(long)]
        scope: String,
        /// A name for people.
        #[arg(long, default_value = "")]
        name: String,
        /// Messages a day (UTC); without it there is no cap.
        #[arg(long)]
        daily_cap: Option<u64>,
    },
    /// List keys, revoked ones included.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End a key, from its next request on.
    Revoke {
        /// The key's number, as `list` shows it.
        id: u64,
    },
}

#[derive(Subcommand)]
enum WebhooksCommand {
    /// Make a signing secret and print it. Nothing is stored.
    Secret,
    /// List the newest events and what became of them at each endpoint.
    List {
        /// Only events that were given up at some endpoint.
        #[arg(long)]
        dead: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell an event again, or every one that was given up.
    Replay {
        /// The event's id, as `list` shows it.
        #[arg(required_unless_present = "dead", conflicts_with = "dead")]
        event: Option<String>,
        /// Every event that was given up.
        #[arg(long)]
        dead: bool,
        /// Only to this endpoint.
        #[arg(long)]
        endpoint: Option<String>,
    },
}

#[derive(Subcommand)]
enum LedgerCommand {
    /// Recompute every balance from every posting, and say the first difference. The gateway must not run.
    Verify,
}

#[derive(Subcommand)]
enum PluginCommand {
    /// List provider entries: state, version, digest, generation, last error.
    ///
    /// Asks the gateway that runs with this configuration; when none runs, loads the plugins to say what it
    /// would serve.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a crate that builds into a working plugin, to be changed into your provider's.
    New {
        /// The plugin's name, as the configuration will say it: `my-provider`.
        name: String,
        #[arg(long, value_enum)]
        kind: scaffold::TemplateKind,
        /// Where to; a folder that does not exist yet. Default: one with the plugin's name, here.
        #[arg(long, value_name = "PATH")]
        folder: Option<PathBuf>,
        /// The SDK. Default: plugins/sdk of the repository this is called in.
        #[arg(long, value_name = "PATH")]
        sdk: Option<PathBuf>,
    },
    /// Let a component meet what providers really answer: silence, web pages, cut and broken bodies.
    ///
    /// Nothing leaves this machine. Every call must end with a typed error: no trap, no success, no secret in a text.
    Test {
        /// The component.
        file: PathBuf,
        /// A setting's value, where the kit's own does not suit the plugin; may come several times.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// Show one plugin: its settings, the hosts it asks for, its abilities.
    Inspect {
        /// A file, or a name in the plugins folder: `kavenegar`.
        plugin: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(format!("the runtime cannot start: {error}")),
    };
    let result = runtime.block_on(async {
        match &cli.command {
            Command::Serve { accept_new_store: new_store, accept_new_key: new_key } => {
                serve::serve(&cli.config, Accepted { new_store: *new_store, new_key: *new_key }).await
            }
            Command::Backup { action: Some(BackupAction::Verify { folder }), .. } => {
                backup::verify(folder).await
            }
            Command::Backup { folder: Some(folder), .. } => backup::backup(&cli.config, folder).await,
            Command::Backup { .. } => Err("name the folder of the backup".to_owned()),
            Command::Restore { folder } => backup::restore(&cli.config, folder).await,
            Command::Openapi => openapi(&cli.config),
            Command::Check => check::check(&cli.config).await,
            Command::Ledger(LedgerCommand::Verify) => ledger::verify(&cli.config).await,
            Command::Webhooks(WebhooksCommand::Secret) => webhooks::secret(),
            Command::Webhooks(WebhooksCommand::List { dead, json }) => {
                webhooks::list(&cli.config, *dead, *json).await
            }
            Command::Webhooks(WebhooksCommand::Replay { event, endpoint, .. }) => {
                webhooks::replay(&cli.config, event.as_deref(), endpoint.as_deref()).await
            }
            Command::Plugin(PluginCommand::List { json }) => plugin::list(&cli.config, *json).await,
            Command::Plugin(PluginCommand::New { name, kind, folder, sdk }) => {
                scaffold::new(name, *kind, folder.as_deref(), sdk.as_deref())
            }
            Command::Plugin(PluginCommand::Test { file, settings }) => {
                conformance::test(file, settings).await
            }
            Command::Plugin(PluginCommand::Inspect { plugin, json }) => {
                plugin::inspect(&cli.config, plugin, *json).await
            }
            Command::Apikey(ApiKeyCommand::Create { scope, name, daily_cap }) => {
                apikey::create(&cli.config, scope, name, *daily_cap).await
            }
            Command::Apikey(ApiKeyCommand::List { json }) => apikey::list(&cli.config, *json).await,
            Command::Apikey(ApiKeyCommand::Revoke { id }) => apikey::revoke(&cli.config, *id).await,
            Command::User(arguments) => user::run(&cli.config, arguments).await,
        }
    });
    // A thread that hangs with the disk must not hold the end of the process.
    runtime.shutdown_timeout(RUNTIME_PATIENCE);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => failed(reason),
    }
}

fn openapi(config: &std::path::Path) -> Result<(), String> {
    let loaded = load::load(config)?;
    println!("{:#}", crate::http::openapi::document(&loaded.config.server.base_path));
    Ok(())
}

fn failed(reason: String) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::FAILURE
}
