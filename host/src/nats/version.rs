//! Which versions of servers events are put into.
//!
//! Readers take any: what an old server has must be got out of it.

use std::fmt;

use async_nats::ServerInfo;

use super::url::NatsUrl;

/// The oldest version that events are put into: the oldest that held in each round that it was measured in. Of
/// older ones, 2.9.10 was seen to lose acknowledged events on one replica after a pause of the leader
/// (SIGSTOP for 8 s under load, 2 of 8 tries), and to take no more events after a change of the leader,
/// and a stream on 2.10.26 to have no leader for a minute and more after all its servers were killed. See
/// docs/nats.md for what was measured of which version.
const MIN_VERSION: Version = Version::release(2, 11, 11);

/// The version to take.
const ADVISED_VERSION: &str = "2.15.1";

/// A version of nats-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    numbers: [u32; 3],
    /// One that comes before the release of these numbers is older than that.
    is_release: bool,
}

impl Version {
    pub(super) const fn release(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            numbers: [major, minor, patch],
            is_release: true,
        }
    }

    /// The version of a server as it tells it. `None` for what is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (text, _build) = text.split_once('+').unwrap_or((text, ""));
        let (numbers, before) = match text.split_once('-') {
            Some((numbers, before)) => (numbers, Some(before)),
            None => (text, None),
        };
        let mut parts = numbers.split('.').map(|part| part.parse().ok());
        let mut next = || parts.next().flatten();
        let numbers = [next()?, next()?, next()?];
        let is_whole = parts.next().is_none();
        is_whole.then_some(Self {
            numbers,
            is_release: before.is_none(),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(formatter, "{major}.{minor}.{patch}")
    }
}

/// Why nothing is put into a stream while one of its servers is this one.
pub(super) fn fault(server: &ServerInfo) -> Option<String> {
    fault_of(&server.server_name, &server.version)
}

/// The same of a server by its name and version.
pub(super) fn fault_of(name: &str, version: &str) -> Option<String> {
    let is_old = Version::parse(version).is_none_or(|version| version < MIN_VERSION);
    is_old.then(|| {
        format!(
            "the server {name:?} has version {version:?}, but must have {MIN_VERSION} or newer: older ones have lost \
             acknowledged events when the leader of a stream paused, or stood still after it changed. Take nats-server {ADVISED_VERSION}"
        )
    })
}

/// A fault that is left, unless the URL insists on such servers, which is told each time.
pub(super) fn unless_insisted(fault: Option<String>, url: &NatsUrl) -> Option<String> {
    match fault {
        Some(fault) if url.unsafe_version => {
            tracing::warn!(stream = %url, "events may be lost, since unsafe_version=true is given: {fault}");
            None
        }
        Some(fault) => Some(format!("{fault}, or insist with unsafe_version=true")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{MIN_VERSION, Version, fault_of};

    #[test]
    fn versions_have_an_order() {
        let ordered = [
            "2.9.10",
            "2.10.0-beta.5",
            "2.10.0",
            "2.10.5",
            "2.11.11-RC.1",
            "2.11.11",
            "v2.11.11",
            "2.11.11+ds1",
            "2.11.12-dev",
            "2.11.12",
            "2.15.1",
            "3.0.0",
        ];
        let parsed = ordered.map(|version| Version::parse(version).expect(version));
        assert!(parsed.is_sorted());
        assert!(parsed[4] < MIN_VERSION && parsed[5] == MIN_VERSION);
        assert_eq!(parsed[5], parsed[7]);
    }

    #[test]
    fn texts_that_are_no_version_are_refused() {
        for text in [
            "",
            "dev",
            "2",
            "2.10",
            "2.10.",
            "2.10.x",
            "2.11.11.1",
            "-2.11.11",
            "2.10.99999999999",
            "²",
        ] {
            assert_eq!(Version::parse(text), None, "{text}");
            assert!(fault_of("node", text).is_some(), "{text}");
        }
    }

    #[test]
    fn old_servers_are_refused_with_the_reason() {
        for version in ["2.9.10", "2.11.11-RC.1", "2.10.0"] {
            let fault = fault_of("node1", version).expect(version);
            for told in [
                "\"node1\"",
                version,
                "2.11.11",
                "lost acknowledged",
                "2.15.1",
            ] {
                assert!(fault.contains(told), "{fault}");
            }
        }
        for version in ["2.11.11", "2.12.0-dev", "2.15.1", "10.0.0"] {
            assert_eq!(fault_of("node1", version), None);
        }
    }
}
