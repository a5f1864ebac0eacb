//! The stream at the start: made where there is none, and held to be one to put into.
//!
//! Never changes a stream that is there.

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_STREAM;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::Info;

use super::connection::Connection;
use super::nats_error;
use super::patience::{Patience, is_passing, look_may_pass};
use super::settings::{Unsafe, unsafe_settings, wanted};
use super::url::NatsUrl;
use super::version::{self, Version};
use crate::error::Error;

/// The first version of servers that refuse what is new at `max_bytes` and never delete for it
/// (nats-io/nats-server, issues 4771 and 4775).
const SAFE_BYTES_VERSION: Version = Version::release(2, 10, 5);

/// The name of the version of the leader among the metadata that servers from 2.11 on show.
const LEADER_VERSION: &str = "_nats.ver";

/// The stream that is expected by an event that no stream takes: no stream has this name.
const NO_STREAM: &str = "*";

/// Makes the stream if it is not there, and holds that it is safe to put into. Servers that have
/// just been started with this program are given time.
///
/// # Errors
///
/// When it can't be looked at or made, or could lose or overwrite events.
pub(super) async fn prepare(
    connection: &Connection,
    url: &NatsUrl,
    patience: Patience,
) -> Result<Info, Error> {
    let info = patience.ask(
        |failure: &Failure| failure.may_pass,
        || prepare_now(connection, url),
    );
    let info = info.await.map_err(|failure| failure.error)?;
    version::unless_insisted(leader_fault(&info), url);
    check(connection, &info, url)?;
    Ok(info)
}

/// Why there is no stream to put into.
struct Failure {
    error: Error,
    /// Whether it may be otherwise in a moment.
    may_pass: bool,
}

async fn prepare_now(connection: &Connection, url: &NatsUrl) -> Result<Info, Failure> {
    match look(connection, url).await {
        Err(error) if error.is_missing => make(connection, url).await,
        Err(error) => Err(error.failure),
        Ok(info) => Ok(info),
    }
}

struct LookError {
    is_missing: bool,
    failure: Failure,
}

async fn look(connection: &Connection, url: &NatsUrl) -> Result<Info, LookError> {
    match connection.context().get_stream(&url.stream).await {
        Ok(stream) => Ok(stream.cached_info().clone()),
        Err(error) => Err(LookError {
            is_missing: is_missing(&error.kind()),
            failure: failure(
                connection,
                url,
                "look at",
                look_may_pass(&error.kind()),
                &error,
            ),
        }),
    }
}

/// What a login may not do does not pass.
fn failure(
    connection: &Connection,
    url: &NatsUrl,
    operation: &'static str,
    may_pass: bool,
    error: &dyn std::fmt::Display,
) -> Failure {
    match connection.denied() {
        Some(denied) => Failure {
            error: nats_error(url, operation)(&format!("{error}; the servers say: {denied}")),
            may_pass: false,
        },
        None => Failure {
            error: nats_error(url, operation)(error),
            may_pass,
        },
    }
}

async fn make(connection: &Connection, url: &NatsUrl) -> Result<Info, Failure> {
    let error = match connection.context().create_stream(wanted(url)).await {
        Ok(_) => {
            // Whichever of those has won that have made it at the same moment.
            let info = look(connection, url).await.map_err(|error| Failure {
                may_pass: true,
                ..error.failure
            })?;
            tracing::info!(stream = %url, replicas = url.replicas, "the stream is made");
            return Ok(info);
        }
        Err(error) => error,
    };
    let advice = match needs_cluster(&error.kind()) {
        true => "; a single server takes ?replicas=1",
        false => "",
    };
    let may_pass = match error.kind() {
        CreateStreamErrorKind::JetStream(error) => {
            // Another peer was faster, or servers do not know one another yet.
            let codes = [ErrorCode::STREAM_NAME_EXIST, ErrorCode::CLUSTER_NO_PEERS];
            is_passing(&error) || codes.contains(&error.error_code())
        }
        CreateStreamErrorKind::TimedOut
        | CreateStreamErrorKind::JetStreamUnavailable
        | CreateStreamErrorKind::Response
        | CreateStreamErrorKind::NotFound
        | CreateStreamErrorKind::ResponseParse => true,
        CreateStreamErrorKind::EmptyStreamName
        | CreateStreamErrorKind::InvalidStreamName
        | CreateStreamErrorKind::DomainAndExternalSet => false,
    };
    let text = format!("{error}{advice}");
    Err(failure(connection, url, "make", may_pass, &text))
}

/// Holds that the stream is safe to put into.
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
        settings.push(Unsafe {
            setting: "max_bytes",
            found: info.config.max_bytes.to_string(),
            needed: format!(
                "-1 on servers before {SAFE_BYTES_VERSION}, which delete what is old to stay below it"
            ),
        });
    }
    match settings.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(Error::UnsafeStream {
            stream: url.to_string(),
            setting: first.setting,
            found: first.found,
            needed: first.needed,
        }),
    }
}

/// What is wrong with the version of the server that leads the stream, as far as it tells.
fn leader_fault(info: &Info) -> Option<String> {
    let version = info.config.metadata.get(LEADER_VERSION)?;
    version::fault_of(leader(info).unwrap_or_default(), version)
}

/// Holds that this login may put. Nothing is stored: the event expects another stream.
///
/// # Errors
///
/// When the servers say that it may not.
pub(super) async fn check_login(connection: &Connection, url: &NatsUrl) -> Result<(), Error> {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_EXPECTED_STREAM, NO_STREAM);
    // It is under no key, whose tokens are percent-encoded.
    let subject = url.prefix.no_key();
    let request = connection
        .client
        .request_with_headers(subject, headers, "".into());
    match (request.await, connection.denied()) {
        (Err(_), Some(denied)) => Err(nats_error(url, "put into")(&format!(
            "the servers say: {denied}"
        ))),
        // A leader that is changing shows nothing of the login.
        (Ok(_), _) | (Err(_), None) => Ok(()),
    }
}

/// The name of the server that leads the replicas of a stream, where there are any.
pub(super) fn leader(info: &Info) -> Option<&str> {
    info.cluster.as_ref()?.leader.as_deref()
}

pub(super) fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn needs_cluster(kind: &CreateStreamErrorKind) -> bool {
    matches!(kind, CreateStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED)
}
