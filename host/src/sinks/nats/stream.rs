//! The stream at the start of a sink: created if it does not exist, and checked.
//!
//! An existing stream is never changed.

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_STREAM;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::CreateStreamErrorKind;
use async_nats::jetstream::stream::Info;

use super::check::{check, is_missing, leader_fault};
use super::connection::Connection;
use super::error::nats_error;
use super::retry::{Retry, is_transient, is_transient_lookup};
use super::settings::desired_config;
use super::url::NatsUrl;
use super::version;
use crate::error::Error;

/// A name that no stream has: a message that expects this stream is never stored.
const NO_STREAM: &str = "*";

/// Creates the stream if it does not exist, and checks that it is safe to put into.
///
/// # Errors
///
/// When its state can't be read, it can't be created, or it could lose or overwrite events.
pub(super) async fn prepare(
    connection: &Connection,
    url: &NatsUrl,
    retry: Retry,
) -> Result<Info, Error> {
    let info = retry.run(
        |failure: &Failure| failure.is_transient,
        || prepare_now(connection, url),
    );
    let info = info.await.map_err(|failure| failure.error)?;
    version::unless_allowed(leader_fault(&info), url);
    check(connection, &info, url)?;
    Ok(info)
}

/// The reason why there is no stream to put into.
struct Failure {
    error: Error,
    /// Whether the same may succeed in a moment.
    is_transient: bool,
}

async fn prepare_now(connection: &Connection, url: &NatsUrl) -> Result<Info, Failure> {
    match fetch_info(connection, url).await {
        Err(error) if error.is_missing => create(connection, url).await,
        Err(error) => Err(error.failure),
        Ok(info) => Ok(info),
    }
}

struct InfoError {
    is_missing: bool,
    failure: Failure,
}

async fn fetch_info(connection: &Connection, url: &NatsUrl) -> Result<Info, InfoError> {
    match connection.context().get_stream(&url.stream).await {
        Ok(stream) => Ok(stream.cached_info().clone()),
        Err(error) => Err(InfoError {
            is_missing: is_missing(&error.kind()),
            failure: failure(
                connection,
                url,
                "read the state of",
                is_transient_lookup(&error.kind()),
                &error,
            ),
        }),
    }
}

/// A permission violation is not transient.
fn failure(
    connection: &Connection,
    url: &NatsUrl,
    operation: &'static str,
    is_transient: bool,
    error: &dyn std::fmt::Display,
) -> Failure {
    match connection.permission_error() {
        Some(permission_error) => Failure {
            error: nats_error(url, operation)(&format!(
                "{error}; the server reports: {permission_error}"
            )),
            is_transient: false,
        },
        None => Failure {
            error: nats_error(url, operation)(error),
            is_transient,
        },
    }
}

async fn create(connection: &Connection, url: &NatsUrl) -> Result<Info, Failure> {
    let error = match connection
        .context()
        .create_stream(desired_config(url))
        .await
    {
        Ok(_) => {
            // Of several peers that create it at the same moment, one wins: read back which.
            let info = fetch_info(connection, url).await.map_err(|error| Failure {
                is_transient: true,
                ..error.failure
            })?;
            tracing::info!(stream = %url, replicas = url.replicas, "stream created");
            return Ok(info);
        }
        Err(error) => error,
    };
    let advice = match needs_cluster(&error.kind()) {
        true => "; a single server takes ?replicas=1",
        false => "",
    };
    let is_transient = match error.kind() {
        CreateStreamErrorKind::JetStream(error) => {
            // Another peer was faster, or the servers are not connected to each other yet.
            let codes = [ErrorCode::STREAM_NAME_EXIST, ErrorCode::CLUSTER_NO_PEERS];
            is_transient(&error) || codes.contains(&error.error_code())
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
    Err(failure(connection, url, "create", is_transient, &text))
}

/// Checks that these credentials may publish. Nothing is stored: the message expects another stream.
///
/// # Errors
///
/// When the server reports a permission violation.
pub(super) async fn check_publish_permission(
    connection: &Connection,
    url: &NatsUrl,
) -> Result<(), Error> {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_EXPECTED_STREAM, NO_STREAM);
    let subject = url.prefix.unused_subject();
    let request = connection
        .client
        .request_with_headers(subject, headers, "".into());
    match (request.await, connection.permission_error()) {
        (Err(_), Some(permission_error)) => Err(nats_error(url, "put into")(&format!(
            "the server reports: {permission_error}"
        ))),
        // No answer, as during an election, tells nothing of the permissions.
        (Ok(_), _) | (Err(_), None) => Ok(()),
    }
}

fn needs_cluster(kind: &CreateStreamErrorKind) -> bool {
    matches!(kind, CreateStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED)
}
