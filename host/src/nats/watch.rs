//! Looks at the stream now and then: whether it is still there, the same, and safe.
//!
//! A task of its own for as long as its sink lives. Never changes the stream.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::Info;
use tokio::time::{Instant, timeout};

use super::connection::Connection;
use super::health::{Health, Look};
use super::nats_error;
use super::patience::{is_passing, look_may_pass, patiently};
use super::settings::{Unsafe, unsafe_settings, wanted};
use super::url::NatsUrl;
use crate::error::Error;

/// How often to look at a stream that takes events, and at one that does not.
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_IN_TROUBLE: Duration = Duration::from_millis(500);

/// How long a server may hear of no leader until another one is asked: shorter than the replicas take to
/// agree on one, since only the first of many tries need be right.
const MAX_SILENCE: Duration = Duration::from_secs(3);

/// The first version of servers that refuse what is new at `max_bytes` and never delete for it
/// (nats-io/nats-server, issues 4771 and 4775).
const SAFE_BYTES_VERSION: (i64, i64, i64) = (2, 10, 5);

/// What identifies a stream beyond its name: when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity(String);

impl Identity {
    pub(super) fn of(info: &Info) -> Self {
        Self(info.created.to_string())
    }
}

/// Makes the stream if it is not there, and holds that it is safe to put into. Servers that have
/// just been started with this program are given time.
///
/// # Errors
///
/// When it can't be looked at or made, or could lose or overwrite events.
pub(super) async fn prepare(connection: &Connection, url: &NatsUrl) -> Result<Info, Error> {
    let info = patiently(
        |failure: &Failure| failure.may_pass,
        || prepare_now(connection, url),
    );
    let info = info.await.map_err(|failure| failure.error)?;
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
    match connection.context().get_stream(&url.stream).await {
        Ok(stream) => Ok(stream.cached_info().clone()),
        Err(error) if is_missing(&error.kind()) => make(connection, url).await,
        Err(error) => Err(Failure {
            may_pass: look_may_pass(&error.kind()),
            error: nats_error(url, "look at")(&error),
        }),
    }
}

async fn make(connection: &Connection, url: &NatsUrl) -> Result<Info, Failure> {
    let error = match connection.context().create_stream(wanted(url)).await {
        Ok(made) => {
            tracing::info!(stream = %url, replicas = url.replicas, "the stream is made");
            return Ok(made.cached_info().clone());
        }
        Err(error) => error,
    };
    let advice = match needs_cluster(&error.kind()) {
        true => "; a single server takes ?replicas=1",
        false => "",
    };
    Err(Failure {
        may_pass: match error.kind() {
            CreateStreamErrorKind::JetStream(error) => {
                // Another peer was faster, or servers do not know one another yet.
                let codes = [ErrorCode::STREAM_NAME_EXIST, ErrorCode::CLUSTER_NO_PEERS];
                is_passing(&error) || codes.contains(&error.error_code())
            }
            kind => matches!(
                kind,
                CreateStreamErrorKind::TimedOut | CreateStreamErrorKind::JetStreamUnavailable
            ),
        },
        error: nats_error(url, "make")(&format!("{error}{advice}")),
    })
}

fn check(connection: &Connection, info: &Info, url: &NatsUrl) -> Result<(), Error> {
    let mut settings = unsafe_settings(&info.config, url);
    let (major, minor, patch) = SAFE_BYTES_VERSION;
    // What is no version in three numbers would have the client panic.
    let version = connection.client.server_info().version;
    let is_plain = version
        .split(['.', '-'])
        .take(3)
        .filter(|part| part.parse::<u32>().is_ok())
        .count()
        == 3;
    let is_safe = is_plain && connection.client.is_server_compatible(major, minor, patch);
    if info.config.max_bytes > 0 && !is_safe {
        settings.push(Unsafe {
            setting: "max_bytes",
            found: info.config.max_bytes.to_string(),
            needed: format!(
                "-1 on servers before {major}.{minor}.{patch}, which delete what is old to stay below it"
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

/// Looks for as long as anybody waits for that.
pub(super) async fn watch(
    connection: Connection,
    url: NatsUrl,
    identity: Identity,
    health: Arc<Health>,
) {
    let mut last = None;
    let mut silent_since = None;
    loop {
        match health.is_good() {
            true => drop(timeout(PAUSE, health.trouble()).await),
            false => tokio::time::sleep(PAUSE_IN_TROUBLE).await,
        }
        let Some(found) = look(&connection, &url, &identity).await else {
            // Another server may be on the side of the leader.
            let since = *silent_since.get_or_insert_with(Instant::now);
            if connection.is_up() && since.elapsed() >= MAX_SILENCE {
                silent_since = None;
                connection.choose_another().await;
            }
            continue;
        };
        silent_since = None;
        if last.as_ref() != Some(&found) {
            tell(&url, &found, last.is_some());
        }
        health.looked(match &found {
            Ok(()) => Look::Fit,
            Err(_) => Look::Unfit,
        });
        last = Some(found);
    }
}

/// Why a stream is not one to put into, if it is not. `None` where nobody could say.
async fn look(
    connection: &Connection,
    url: &NatsUrl,
    identity: &Identity,
) -> Option<Result<(), String>> {
    match connection.context().get_stream(&url.stream).await {
        Ok(stream) if Identity::of(stream.cached_info()) != *identity => Some(Err(
            "it is another than when this server started, which has to be started again to use it"
                .to_owned(),
        )),
        Ok(stream) => {
            let info = stream.cached_info();
            let fault = check(connection, info, url)
                .err()
                .map(|error| error.to_string());
            // Others than the leader also answer, and what they know is no sign that it takes events.
            match fault {
                None if info.cluster.is_some() && leader(info).is_none() => None,
                fault => Some(fault.map_or(Ok(()), Err)),
            }
        }
        Err(error) if is_missing(&error.kind()) => Some(Err("it is gone".to_owned())),
        Err(_) => None,
    }
}

/// The name of the server that leads the replicas of a stream, where there are any.
pub(super) fn leader(info: &Info) -> Option<&str> {
    info.cluster.as_ref()?.leader.as_deref()
}

fn tell(url: &NatsUrl, found: &Result<(), String>, is_again: bool) {
    match found {
        Ok(()) if is_again => tracing::info!(stream = %url, "the stream is fit to put into again"),
        Ok(()) => {}
        Err(why) => tracing::error!(stream = %url, "the stream takes no events: {why}"),
    }
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn needs_cluster(kind: &CreateStreamErrorKind) -> bool {
    matches!(kind, CreateStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED)
}
