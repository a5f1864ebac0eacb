//! In the place of `service_manager` on systems other than Unix, whose service managers have no such notifications.

use std::convert::Infallible;
use std::future::pending;

pub(crate) fn ready(_status: &str) {}

pub(crate) fn reloading() {}

pub(crate) fn stopping() {}

pub(crate) async fn watch(_is_accepting: impl Fn() -> bool) -> Infallible {
    pending().await
}
