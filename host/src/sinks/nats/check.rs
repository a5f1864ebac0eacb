//! Checks of the state of a stream, as its leader reports it: whether it is safe to put into.

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::Info;

use super::connection::Connection;
use super::error::nats_error;
use super::settings::{UnsafeSetting, unsafe_settings};
use super::url::NatsUrl;
use super::version::{self, Version};
use crate::error::Error;

/// The first version of servers that refuse new messages at `max_bytes`, and do not delete old ones instead
/// (nats-io/nats-server, issues 4771 and 4775).
const SAFE_BYTES_VERSION: Version = Version::release(2, 10, 5);

/// The metadata entry with the version of the leader, which servers from 2.11 on add.
const LEADER_VERSION: &str = "_nats.ver";

/// Checks that the stream is safe to put into.
///
/// # Errors
///
/// When it could lose or overwrite events.
pub(super) fn check(connection: &Connection, info: &Info, url: &NatsUrl) -> Result<(), Error> {
    if let Some(fault) = leader_fault(info)
        && !url.unsafe_version
    {
        return Err(nats_error(url, "put into")(&fault));
    }
    let mut settings = unsafe_settings(&info.config, url);
    let version = Version::parse(&connection.server().version);
    let is_safe = version.is_some_and(|version| version >= SAFE_BYTES_VERSION);
    if info.config.max_bytes > 0 && !is_safe {
        settings.push(UnsafeSetting {
            setting: "max_bytes",
            found: info.config.max_bytes.to_string(),
            required: format!(
                "-1 on servers before {SAFE_BYTES_VERSION}, which delete old messages to stay below it"
            ),
        });
    }
    match settings.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(Error::UnsafeStream {
            stream: url.to_string(),
            setting: first.setting,
            found: first.found,
            needed: first.required,
        }),
    }
}

/// The reason why nothing is put into the stream, if the version of its leader is known and not supported.
pub(super) fn leader_fault(info: &Info) -> Option<String> {
    let version = info.config.metadata.get(LEADER_VERSION)?;
    version::unsupported_version(leader(info).unwrap_or_default(), version)
}

/// The name of the server that leads the stream, if it has replicas and a leader.
pub(super) fn leader(info: &Info) -> Option<&str> {
    info.cluster.as_ref()?.leader.as_deref()
}

/// Whether the stream does not exist.
pub(super) fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}
