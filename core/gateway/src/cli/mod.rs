//! The command line: `chelseru serve | check | doctor | plugin ... | apikey ... | user ... | ledger ... |
//! webhooks ... | backup | restore | import ...`.
//!
//! Exit status: 0 success, 1 failure (the reason is on standard error), 2 usage error. Results go to standard output,
//! everything else to standard error.

#[macro_use]
mod out;

mod apikey;
mod ask;
mod backup;
mod check;
mod compiler;
mod conformance;
mod doctor;
mod find;
mod import;
mod ledger;
mod load;
mod manager;
mod plugin;
mod scaffold;
mod serve;
mod user;
mod webhooks;

use std::path::PathBuf;
use std::process::ExitCode;

use chelseru_outbound::plugins::COMPILE_COMMAND;
use clap::{Parser, Subcommand};

pub use check::{Report, check_file};

use crate::keys::Accepted;

/// How long work that cannot be cancelled may continue after a command is done.
const RUNTIME_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

const AFTER_HELP: &str = "\
Examples:
  chelseru serve                          serve with ./config.toml
  chelseru check --config /etc/chelseru/config.toml
  chelseru plugin list                    the plugins of the running gateway, and refused ones
  chelseru user create-superuser root     make an account with all rights and print its password
  chelseru plugin inspect kavenegar       show a plugin's settings, hosts and abilities

Exit status: 0 success, 1 failure, 2 usage error.
Relative paths inside the configuration are relative to its file; the data folder is data/ beside it.";

/// A self-hosted gateway for phone login, SMS, payments and chat. SMS providers and payment gateways are WebAssembly
/// plugins, selected in the configuration file and replaceable while the gateway serves.
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
    /// Run the gateway. Refuses to start on a configuration that `check` rejects.
    ///
    /// Watches the configuration file and the plugins folder and applies changes without dropping a request. A wrong
    /// change is refused, and the running configuration stays. SIGINT or SIGTERM stops the gateway gracefully, after
    /// the requests in flight.
    Serve {
        /// Start on an empty store although a key exists. Everything stored before is lost.
        #[arg(long)]
        accept_new_store: bool,
        /// Start with a key other than the store's, or with a new one. Logs everybody out.
        #[arg(long)]
        accept_new_key: bool,
    },
    /// Check the configuration and every plugin it uses, without serving.
    ///
    /// Reports every problem with file, line, key, found value and accepted values. A damaged component is a warning
    /// and `degraded`: a gateway starts with its last good version, or without it.
    Check,
    /// Examine the running gateway and its machine: what is wrong, and the cure of each.
    ///
    /// Disk, backups, clock, open files, permissions, providers, callbacks, webhooks, operators. Without a running
    /// gateway, examines the machine only. Exit status 1 when something is bad.
    Doctor {
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// List, inspect, test and create plugins.
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Create, list and revoke API keys, with or without a running gateway.
    #[command(subcommand)]
    Apikey(ApiKeyCommand),
    /// Verify the ledger.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// List and replay webhook deliveries.
    #[command(subcommand)]
    Webhooks(WebhooksCommand),
    /// Write the store, the key, the plugins and the uploaded files into a new folder.
    ///
    /// A running gateway is asked to write the backup and keeps serving. The store is exported to the data folder's
    /// disk first and needs free space there; one on PostgreSQL is copied there first and needs twice as much. The
    /// backup holds the key and every phone number: protect it like the data folder. It does not hold the
    /// configuration. It can be restored into either engine.
    #[command(args_conflicts_with_subcommands = true)]
    Backup {
        /// A folder that does not exist yet, outside the data folder.
        #[arg(required = true)]
        folder: Option<PathBuf>,
        #[command(subcommand)]
        action: Option<BackupAction>,
    },
    /// Fill the data folder and the database of this configuration from a backup, and verify the balances.
    ///
    /// The store goes to the engine that the configuration names, whichever it comes from. The data folder must hold
    /// neither store nor key: stop the gateway and move the folder away first. A database must be empty; it is filled
    /// in one transaction.
    Restore {
        /// A folder written by `chelseru backup`.
        folder: PathBuf,
    },
    /// Compile one plugin from standard input to standard output, within limits. For the gateway itself.
    #[command(name = COMPILE_COMMAND, hide = true)]
    CompilePlugin,
    /// Import the data of another program into an empty store.
    #[command(subcommand)]
    Import(ImportCommand),
    /// Print the OpenAPI document of the clients' routes, as served at `openapi.json`.
    Openapi {
        /// Print that of the operators' routes instead.
        #[arg(long)]
        operators: bool,
    },
    /// Manage accounts.
    ///
    /// Opens the store when no gateway runs. Otherwise the running gateway makes the change, which takes effect at
    /// once. USER is a user name, a phone number or an account number.
    #[command(subcommand)]
    User(user::Arguments),
    /// Find payments in the running gateway.
    #[command(subcommand)]
    Payment(find::PaymentCommand),
    /// Find sessions in the running gateway.
    #[command(subcommand)]
    Session(find::SessionCommand),
}

#[derive(Subcommand)]
enum ImportCommand {
    /// Import users, wallets, payments, rooms, messages and files of django-chelseru 3.1.2.
    ///
    /// Stop the old server first. The source is only read. The store must be empty, and an import that is cut off
    /// leaves it empty. The report on standard output says what was imported, what was not and why, and whether the
    /// money adds up.
    Django(import::Arguments),
}

#[derive(Subcommand)]
enum BackupAction {
    /// Verify that every file of a backup exists unaltered.
    Verify {
        /// A folder written by `chelseru backup`.
        folder: PathBuf,
    },
}

#[derive(Subcommand)]
enum ApiKeyCommand {
    /// Create a key and print it. It is stored as a hash and never shown again.
    Create {
        /// What the key may do: sms, or operator:viewer, operator:support, operator:finance, operator:admin.
        #[arg(long)]
        scope: String,
        /// A name for people.
        #[arg(long, default_value = "")]
        name: String,
        /// Messages per day (UTC). Default: no limit.
        #[arg(long)]
        daily_cap: Option<u64>,
    },
    /// List keys, revoked ones included.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a key. Its next request is refused.
    Revoke {
        /// The key's number, as `list` shows it.
        id: u64,
    },
}

#[derive(Subcommand)]
enum WebhooksCommand {
    /// Generate a signing secret and print it. Nothing is stored.
    Secret,
    /// List the newest events and the state of their deliveries.
    List {
        /// Only events with a failed delivery.
        #[arg(long)]
        dead: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Send a test event to one endpoint.
    Test {
        /// The endpoint's name.
        endpoint: String,
    },
    /// Deliver an event again, or every event with a failed delivery.
    Replay {
        /// The event's id, as `list` shows it.
        #[arg(required_unless_present = "dead", conflicts_with = "dead")]
        event: Option<String>,
        /// Every event with a failed delivery.
        #[arg(long)]
        dead: bool,
        /// Deliver to this endpoint only.
        #[arg(long)]
        endpoint: Option<String>,
    },
}

#[derive(Subcommand)]
enum LedgerCommand {
    /// Recompute every balance from every posting, and report the first difference. The gateway must not run.
    Verify,
}

#[derive(Subcommand)]
enum PluginCommand {
    /// List provider entries: state, version, digest, generation, last error.
    ///
    /// Asks the gateway that runs with this configuration. When none runs, loads the plugins and shows what would
    /// serve.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Create a crate that builds into a working plugin, to be adapted to a provider.
    New {
        /// The plugin's name, as used in the configuration: `my-provider`.
        name: String,
        #[arg(long, value_enum)]
        kind: scaffold::TemplateKind,
        /// The folder to create. It must not exist. Default: the plugin's name, in the current folder.
        #[arg(long, value_name = "PATH")]
        folder: Option<PathBuf>,
        /// The SDK's folder. Default: plugins/sdk of the repository that contains the current folder.
        #[arg(long, value_name = "PATH")]
        sdk: Option<PathBuf>,
    },
    /// Test a component against what real providers answer: silence, web pages, truncated and malformed bodies.
    ///
    /// Nothing leaves this machine. Every call must end with a typed error: no trap, no success, no secret in a text.
    Test {
        /// The component file.
        file: PathBuf,
        /// A setting's value, KEY=VALUE, when the kit's own does not suit the plugin. May be repeated.
        #[arg(long = "set", value_name = "KEY=VALUE")]
        settings: Vec<String>,
    },
    /// Install a component in the place of the one of its name.
    ///
    /// The gateway that runs with this configuration checks it and lets the providers that use it take it over; what
    /// they refuse is taken back. Gateways that share its store take it, too. When none runs, it is checked and put
    /// into the plugins folder. `operator/v1` and the console can put the one before back.
    Install {
        /// The component file.
        file: PathBuf,
        /// The component's name, as used in the configuration. Default: the file's name.
        #[arg(long)]
        name: Option<String>,
        /// Why, for the audit log.
        #[arg(long, default_value = "chelseru plugin install")]
        reason: String,
    },
    /// Show a plugin's settings, the hosts it asks for, and its abilities.
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
    if matches!(cli.command, Command::CompilePlugin) {
        // Before the runtime: its threads would share the limits.
        return chelseru_plugin_host::compile_main();
    }
    crate::private::own_files_only();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(format!("the async runtime cannot start: {error}")),
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
            Command::Backup { .. } => Err("name the folder to write the backup to".to_owned()),
            Command::Restore { folder } => backup::restore(&cli.config, folder).await,
            Command::CompilePlugin => Ok(()),
            Command::Import(ImportCommand::Django(arguments)) => import::django(&cli.config, arguments).await,
            Command::Openapi { operators } => openapi(&cli.config, *operators),
            Command::Check => check::check(&cli.config).await,
            Command::Doctor { json } => doctor::run(&cli.config, *json).await,
            Command::Ledger(LedgerCommand::Verify) => ledger::verify(&cli.config).await,
            Command::Webhooks(WebhooksCommand::Secret) => webhooks::secret(),
            Command::Webhooks(WebhooksCommand::Test { endpoint }) => {
                webhooks::test(&cli.config, endpoint).await
            }
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
            Command::Plugin(PluginCommand::Install { file, name, reason }) => {
                plugin::install(&cli.config, file, name.as_deref(), reason).await
            }
            Command::Plugin(PluginCommand::Inspect { plugin, json }) => {
                plugin::inspect(&cli.config, plugin, *json).await
            }
            Command::Apikey(ApiKeyCommand::Create { scope, name, daily_cap }) => {
                apikey::create(&cli.config, scope, name, *daily_cap).await
            }
            Command::Apikey(ApiKeyCommand::List { json }) => apikey::list(&cli.config, *json).await,
            Command::Apikey(ApiKeyCommand::Revoke { id }) => apikey::revoke(&cli.config, *id).await,
            Command::Payment(find::PaymentCommand::List(wanted)) => find::payments(&cli.config, wanted).await,
            Command::Session(find::SessionCommand::List(wanted)) => find::sessions(&cli.config, wanted).await,
            Command::User(user::Arguments::List { search: Some(search), json }) => {
                find::users(&cli.config, search, *json).await
            }
            Command::User(arguments) => user::run(&cli.config, arguments).await,
        }
    });
    // A thread that is blocked by the disk must not delay the exit.
    runtime.shutdown_timeout(RUNTIME_PATIENCE);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => failed(reason),
    }
}

fn openapi(config: &std::path::Path, operators: bool) -> Result<(), String> {
    use crate::http::openapi::{Audience, document};

    let loaded = load::load(config)?;
    let audience = if operators { Audience::Operators } else { Audience::Clients };
    say!("{:#}", document(&loaded.config.server, audience));
    Ok(())
}

fn failed(reason: String) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::FAILURE
}
