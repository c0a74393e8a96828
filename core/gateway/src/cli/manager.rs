//! What systemd is told about `chelseru serve` with `Type=notify`. Nobody else is told anything.

use std::time::Duration;

/// It serves; the text is shown by `systemctl status`.
pub(crate) fn ready(status: &str) {
    tell(&format!("READY=1\nSTATUS={status}"));
}

/// It stops: requests in flight finish.
pub(crate) fn stopping() {
    tell("STOPPING=1\nSTATUS=finishing requests in flight");
}

/// Tells a watchdog (`WatchdogSec=`) that the runtime turns, twice in the time after which it would end the process.
pub(crate) fn watch() {
    let Some(patience) = watchdog() else { return };
    tokio::spawn(async move {
        let mut times = tokio::time::interval(patience / 2);
        loop {
            times.tick().await;
            tell("WATCHDOG=1");
        }
    });
}

#[cfg(target_os = "linux")]
fn tell(state: &str) {
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Custom(state)]) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

#[cfg(target_os = "linux")]
fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero())
}

#[cfg(not(target_os = "linux"))]
fn tell(_: &str) {}

#[cfg(not(target_os = "linux"))]
fn watchdog() -> Option<Duration> {
    None
}
