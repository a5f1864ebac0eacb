//! Notifies the service manager (`NOTIFY_SOCKET`, as systemd's `Type=notify`) of the state of a server.
//!
//! Without a service manager nothing is sent. An error is logged and has no other effect.

use std::convert::Infallible;
use std::future::pending;

use sd_notify::NotifyState;

/// How many times the watchdog is notified within its time, so that one late notification is not fatal.
const WATCHDOG_TICKS: u32 = 3;

/// The server listens.
pub(crate) fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The server reads its files again, until it is ready.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // In one message, by which the service manager knows the reload that it has asked for.
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "cannot notify the service manager"),
    }
}

/// The server drains.
pub(crate) fn stopping() {
    let status = NotifyState::Status("closing: requests in service are answered");
    notify(&[NotifyState::Stopping, status]);
}

/// Notifies the watchdog of the service manager, if it has one, while the runtime runs tasks and `is_accepting`.
/// The sink is not checked: a restart does not repair a disk.
pub(crate) async fn watch(is_accepting: impl Fn() -> bool) -> Infallible {
    let Some(time) = sd_notify::watchdog_enabled().filter(|time| !time.is_zero()) else {
        return pending().await;
    };
    let mut ticks = tokio::time::interval(time / WATCHDOG_TICKS);
    loop {
        ticks.tick().await;
        // A thread of the runtime has to be free for it.
        let is_scheduled = tokio::spawn(async {}).await.is_ok();
        if is_scheduled && is_accepting() {
            notify(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("a listener has failed: the watchdog is not notified");
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}
