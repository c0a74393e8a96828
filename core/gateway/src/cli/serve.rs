//! `chelseru serve`.

use std::io::Write;
use std::path::Path;

use crate::config::Config;
use crate::logging;
use crate::server::{Server, ServerOptions};

pub(crate) async fn serve(config_file: &Path) -> Result<(), String> {
    let loaded = super::load::load(config_file)?;
    let log = logging::start(&loaded.config.log);
    let server = Server::open(loaded, log, ServerOptions::default()).await?;
    let config = server.app().live().config.clone();
    print_welcome(&config, &server.url(), config_file);
    let stop = server.stop_token();
    tokio::spawn(async move {
        stop_signal().await;
        tracing::info!("stopping: no new connections, requests in flight finish");
        stop.cancel();
    });
    server.run().await;
    Ok(())
}

fn print_welcome(config: &Config, url: &str, config_file: &Path) {
    let mut out = std::io::stdout().lock();
    let providers = config.sms.service.names().join(", ");
    let text = if config.sandbox_selected() {
        format!(
            "\
chelseru serves on {url}/ with SMS by {providers}.

Log a number in:
  curl -s {url}/otp/send/ -d mobile_number=09120000000
  curl -s {url}/sandbox/inbox/     # the sandbox shows what it would send: read the code
  curl -s {url}/authenticate/ -d mobile_number=09120000000 -d code=CODE

Next: {url}/status/ says what is loaded; edit {config} (it is read again when you save it);
README.md takes a tour. Ctrl-C stops.
",
            config = config_file.display()
        )
    } else {
        format!("chelseru serves on {url}/ with SMS by {providers}; {url}/status/ says what is loaded.\n")
    };
    // Nobody may be reading; serving goes on.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

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
