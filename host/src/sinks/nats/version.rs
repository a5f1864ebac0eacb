//! The versions of nats-server that peers put events into.
//!
//! Commands that read accept any version, so that events can be exported from an old server.

use std::fmt;

use async_nats::ServerInfo;

use super::url::NatsUrl;

/// The oldest supported version: the oldest that lost nothing in each fault round that was measured. Of older ones, 2.9.10 was seen to lose acknowledged events on one replica after a pause of the leader
/// (SIGSTOP for 8 s under load, 2 of 8 tries), and to take no more events after a change of the leader,
/// and a stream on 2.10.26 to have no leader for a minute and more after all its servers were killed. See
/// docs/nats.md for the measurements.
const MIN_VERSION: Version = Version::release(2, 11, 11);

/// The version that messages recommend.
const RECOMMENDED_VERSION: &str = "2.15.1";

/// A version of nats-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    numbers: [u32; 3],
    /// A pre-release is older than the release of the same numbers.
    is_release: bool,
}

impl Version {
    pub(super) const fn release(major: u32, minor: u32, patch: u32) -> Self {
        Self {
            numbers: [major, minor, patch],
            is_release: true,
        }
    }

    /// Parses the version that a server reports. `None` if it is none.
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

/// The reason why nothing is put into a stream on this server, if its version is not supported.
pub(super) fn unsupported(server: &ServerInfo) -> Option<String> {
    unsupported_version(&server.server_name, &server.version)
}

/// The same for the name and the version of a server.
pub(super) fn unsupported_version(name: &str, version: &str) -> Option<String> {
    let is_old = Version::parse(version).is_none_or(|version| version < MIN_VERSION);
    is_old.then(|| {
        format!(
            "the server {name:?} has version {version:?}, but must have {MIN_VERSION} or newer: older ones have lost \
             acknowledged events when the leader of a stream paused, or stalled after it changed. Take nats-server {RECOMMENDED_VERSION}"
        )
    })
}

/// The reason `fault` not to use a server, unless the URL allows unsupported versions: then it is logged instead.
pub(super) fn unless_allowed(fault: Option<String>, url: &NatsUrl) -> Option<String> {
    match fault {
        Some(fault) if url.unsafe_version => {
            tracing::warn!(stream = %url, "events may be lost, since unsafe_version=true is given: {fault}");
            None
        }
        Some(fault) => Some(format!("{fault}, or allow it with unsafe_version=true")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{MIN_VERSION, Version, unsupported_version};

    #[test]
    fn versions_are_ordered() {
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
            assert!(unsupported_version("node", text).is_some(), "{text}");
        }
    }

    #[test]
    fn old_servers_are_refused_with_the_reason() {
        for version in ["2.9.10", "2.11.11-RC.1", "2.10.0"] {
            let fault = unsupported_version("node1", version).expect(version);
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
            assert_eq!(unsupported_version("node1", version), None);
        }
    }
}
