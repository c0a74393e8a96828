//! `chelseru serve`.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::manager;
use crate::app::App;
use crate::config::{Config, OperatorListen};
use crate::keys::Accepted;
use crate::logging;
use crate::operator::store_watch;
use crate::server::{self, Server, ServerOptions};

pub(crate) async fn serve(config_file: &Path, accepted: Accepted) -> Result<(), String> {
    let loaded = super::load::load(config_file)?;
    let log = logging::start(&loaded.config.log);
    raise_open_files();
    let options =
        ServerOptions { accepted, compiler: super::compiler::compiler(), ..ServerOptions::default() };
    let server = Server::open(loaded, log.clone(), options).await?;
    let no_thread = |error| format!("no thread can start: {error}");
    store_watch::watch(server.app().store.clone(), log).map_err(no_thread)?;
    let config = server.app().live().config.clone();
    let urls = Urls::of(&server);
    print_welcome(&config, &urls, config_file);
    manager::ready(&format!("serves on {}/", urls.public));
    manager::watch();
    let patience = server::stop_patience(&config.server) + super::RUNTIME_PATIENCE;
    stop_on_signal(server.stop_token(), patience).map_err(no_thread)?;
    reload_on_hangup(server.app().clone());
    server.run().await
}

/// Stops the server at a signal, and ends the process when it has not stopped after `patience`. A thread of its own:
/// the runtime's threads may hang with the disk.
fn stop_on_signal(stop: CancellationToken, patience: Duration) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(stop_signal());
        tracing::info!(
            "stopping: no new connections, requests in flight finish; a second signal stops at once"
        );
        manager::stopping();
        stop.cancel();
        // What was answered is durable. The outcome of the rest is unknown to its clients, as after a crash.
        match runtime.block_on(async { tokio::time::timeout(patience, stop_signal()).await }) {
            Ok(()) => tracing::warn!("a second signal: the process exits at once"),
            Err(_) => tracing::error!("the gateway did not stop in time; the process exits"),
        }
        std::process::exit(1);
    })?;
    Ok(())
}

/// Raises the limit of open files to the hard limit. `machine` warns when that is too low.
#[cfg(unix)]
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files cannot be raised");
        }
    }
}

#[cfg(not(unix))]
fn raise_open_files() {}

/// The base addresses that a newcomer is shown.
struct Urls {
    public: String,
    /// With what `curl` needs before it.
    operator: String,
}

impl Urls {
    fn of(server: &Server) -> Urls {
        let operator = server.operator_url();
        Urls {
            public: server.url(),
            operator: match &server.app().door.address {
                OperatorListen::Tcp(_) => operator,
                OperatorListen::Unix(path) => format!("--unix-socket {} {operator}", path.display()),
            },
        }
    }
}

fn print_welcome(config: &Config, Urls { public: url, operator }: &Urls, config_file: &Path) {
    let mut out = std::io::stdout().lock();
    let providers = config.sms.service.names().join(", ");
    let text = if config.sandbox_selected() {
        format!(
            "\
chelseru serves on {url}/ and operators on {operator}/ with SMS by {providers}.

Log in with a phone number:
  curl -s {url}/otp/send/ -d mobile_number=09120000000
  curl -s {operator}/sandbox/inbox/     # the sandbox shows the message with the code
  curl -s {url}/authenticate/ -d mobile_number=09120000000 -d code=CODE

Next: {operator}/status/ shows what is loaded. Edit {config}; saving it applies it.
README.md has a tour. Ctrl-C stops.
",
            config = config_file.display()
        )
    } else {
        format!(
            "chelseru serves on {url}/ and operators on {operator}/ with SMS by {providers}; {operator}/status/ shows \
             what is loaded.\n"
        )
    };
    // Standard output may be closed; serving continues.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Reads the configuration again on SIGHUP, as when the file is saved.
#[cfg(unix)]
fn reload_on_hangup(app: Arc<App>) {
    use tokio::signal::unix::{SignalKind, signal};
    tokio::spawn(async move {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP: reading the configuration again");
            app.reload_asked.notify_one();
        }
    });
}

#[cfg(not(unix))]
fn reload_on_hangup(_: Arc<App>) {}

async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            },
            Err(_) => {
                let _ = tokio::signal::ctrl_c().await;
            }
        }
    }
    #[cfg(not(unix))]
    let _ = tokio::signal::ctrl_c().await;
}
