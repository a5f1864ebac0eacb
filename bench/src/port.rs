//! A port that a server can use again after a kill.
//!
//! It is below the ephemeral ports of the system: one of those could be in use by a client connection when the
//! server needs it again.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result};

/// The range of ephemeral ports.
const HANDED_OUT: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The lowest port: those below belong to well-known services.
const LEAST: u16 = 10_000;

/// The number of ports that are tried.
const TRIES: usize = 100;

/// A port that is free now, and that the system does not assign later.
pub(crate) fn free() -> Result<u16> {
    let text =
        fs::read_to_string(HANDED_OUT).with_context(|| format!("cannot read {HANDED_OUT}"))?;
    let end = first_handed_out(&text).with_context(|| format!("no ports below {text:?}"))?;
    let mut ports = (0..TRIES).map(|_| fastrand::u16(LEAST..end));
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.find(is_free).context("no port is free")
}

/// The first ephemeral port, if there are enough ports below it.
fn first_handed_out(text: &str) -> Option<u16> {
    let first = text.split_whitespace().next()?.parse().ok()?;
    (first > LEAST).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::first_handed_out;

    #[test]
    fn port_is_below_the_ephemeral_ones() {
        assert_eq!(first_handed_out("32768\t60999\n"), Some(32768));
        assert_eq!(first_handed_out("1024\t65535\n"), None);
        assert_eq!(first_handed_out(""), None);
    }
}
