//! The state of a stream as its leader reports it, for commands that read.

use async_nats::jetstream;
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::Info;

use super::check::leader;
use super::connection::Connection;
use super::error::nats_error;
use super::retry::{NO_QUORUM_ADVICE, Retry, advice, is_transient_lookup};
use super::settings::{UnsafeSetting, unsafe_settings};
use super::url::NatsUrl;
use crate::error::Error;

/// The setting of a stream that is closed for good, which is no fault when it is read.
const SEALED: &str = "sealed";

/// The reason why the state is not known.
enum InfoFailure {
    Refused(GetStreamError),
    NoLeader,
}

/// The state of the stream, retried until there is a leader: without one, other replicas answer with their own state.
pub(super) async fn fetch(connection: &Connection, url: &NatsUrl) -> Result<Info, Error> {
    let info = Retry::of_command().run(
        |failure: &InfoFailure| match failure {
            InfoFailure::Refused(error) => is_transient_lookup(&error.kind()),
            InfoFailure::NoLeader => true,
        },
        || fetch_once(connection, url),
    );
    info.await.map_err(|failure| match failure {
        InfoFailure::NoLeader => {
            let why = format!("it has no leader{NO_QUORUM_ADVICE}");
            nats_error(url, "read")(&why)
        }
        InfoFailure::Refused(error) => match error.kind() {
            GetStreamErrorKind::JetStream(cause) => refused(url, &cause),
            _ => nats_error(url, "read")(&error),
        },
    })
}

async fn fetch_once(connection: &Connection, url: &NatsUrl) -> Result<Info, InfoFailure> {
    let stream = connection.context().get_stream(&url.stream).await;
    let info = stream.map_err(InfoFailure::Refused)?.cached_info().clone();
    if info.cluster.is_some() && leader(&info).is_none() {
        return Err(InfoFailure::NoLeader);
    }
    Ok(info)
}

/// The error of a request that JetStream has refused.
pub(super) fn refused(url: &NatsUrl, error: &jetstream::Error) -> Error {
    let advice = advice(error);
    nats_error(url, "read")(&format!("{error}{advice}"))
}

/// The faults of the stream as a whole: unsafe settings and deleted messages.
pub(super) fn faults(info: &Info, url: &NatsUrl) -> Vec<String> {
    let settings = unsafe_settings(&info.config, url).into_iter();
    let mut faults: Vec<String> = settings
        .filter(|setting| setting.setting != SEALED)
        .map(|setting| {
            let UnsafeSetting {
                setting,
                found,
                required,
            } = setting;
            format!("its {setting} is {found}, but must be {required}")
        })
        .collect();
    faults.extend(deleted(info));
    faults
}

/// A line with the number of deleted messages, if there are any.
pub(super) fn deleted(info: &Info) -> Option<String> {
    let state = &info.state;
    let first = info.config.first_sequence.unwrap_or(1).max(1);
    let numbered = state.last_sequence.saturating_add(1).saturating_sub(first);
    let deleted = numbered.saturating_sub(state.messages);
    (deleted > 0).then(|| format!("{deleted} of {numbered} messages were deleted"))
}
