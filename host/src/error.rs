//! What can go wrong while a server is set up or a store is read.
//!
//! Never an answer to a client: those are in `alldata_peer_protocol::outcome`.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An operation that failed, with what it was tried on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A server was built without a sink.
    #[error("the server has no sink: give it one with `sink` or `on_put`")]
    NoSink,
    /// A setting has a value that it can't have.
    #[error("{setting} is {value}, but must be {expected}")]
    Setting {
        /// The name of the setting.
        setting: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        expected: String,
    },
    /// A host name does not resolve to any address.
    #[error("cannot resolve the host name {hostname:?}")]
    Resolve {
        /// The host name.
        hostname: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// An address can't be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A component can't be used.
    #[error("cannot use the component {component}")]
    Component {
        /// Its path, or what it is where it has none.
        component: String,
        /// What the engine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Compiled components can't be kept where they were to be.
    #[error("cannot keep compiled components in {}: {reason}", directory.display())]
    CompileCache {
        /// The directory.
        directory: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The URL of a sink is not one.
    #[error("{url:?} is no sink: {reason}")]
    SinkUrl {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file can't be opened, read or written.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried: `open`, `read`, `write`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file belongs to something else, and is not written to.
    #[error("cannot write to {}: it is {role}", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        role: &'static str,
    },
    /// A store can't be opened or read.
    #[error("cannot {operation} the store {}", path.display())]
    Store {
        /// What was tried.
        operation: &'static str,
        /// The file of the store.
        path: PathBuf,
        /// What SQLite said.
        source: SqliteError,
    },
    /// The file is a database, but not a store of a version that is known here.
    #[error("{} is no store that this version can use: {reason}", path.display())]
    StoreFormat {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: String,
    },
    /// What a store holds under a key is not what was put.
    #[error("the event under the key {key:?} is damaged in the store {}", path.display())]
    DamagedEvent {
        /// The file.
        path: PathBuf,
        /// The key, with U+FFFD for what is no text in it.
        key: String,
    },
    /// A stream of NATS can't be reached, looked at, made or read.
    #[cfg(feature = "nats")]
    #[error("cannot {operation} the stream {stream}")]
    Nats {
        /// What was tried.
        operation: &'static str,
        /// The URL of the stream, without what lets one in.
        stream: String,
        /// What the servers said.
        source: NatsError,
    },
    /// A file that the URL of a stream of NATS names is not what it has to be.
    #[cfg(feature = "nats")]
    #[error("cannot use {}, which is given as {parameter}: {reason}", path.display())]
    NatsFile {
        /// The parameter of the URL.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A stream of NATS has a setting with which it could lose, overwrite or not take events.
    #[cfg(feature = "nats")]
    #[error("the stream {stream} is not safe: its {setting} is {found}, but must be {needed}")]
    UnsafeStream {
        /// The URL of the stream, without what lets one in.
        stream: String,
        /// The name of the setting, as in the JSON of JetStream.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it has to be.
        needed: String,
    },
    /// A stream of NATS has less than it once had, or not all that it has was read.
    #[cfg(feature = "nats")]
    #[error("the stream {stream} is not complete: {reason}")]
    IncompleteStream {
        /// The URL of the stream, without what lets one in.
        stream: String,
        /// What is missing.
        reason: String,
    },
    /// What a stream of NATS holds under a key is not what was put.
    #[cfg(feature = "nats")]
    #[error(
        "the event under the key {key:?} is damaged, or was not put by a peer, in the stream {stream}"
    )]
    DamagedMessage {
        /// The URL of the stream, without what lets one in.
        stream: String,
        /// The key.
        key: String,
    },
    /// A writer's thread can't be started.
    #[error("cannot start a thread for {}", path.display())]
    Thread {
        /// The file that it was to write.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What SQLite said, in one sentence that needs no further cause.
#[derive(Debug, thiserror::Error)]
#[error("{0}{limit}", limit = file_size_limit(.0))]
pub struct SqliteError(pub(crate) rusqlite::Error);

/// What SQLite does not tell of a write that failed: that this process may write no larger files.
#[cfg(unix)]
pub(crate) fn file_size_limit(error: &rusqlite::Error) -> String {
    use rusqlite::ffi::SQLITE_IOERR_WRITE;
    use rustix::process::{Resource, getrlimit};

    let is_write = error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == SQLITE_IOERR_WRITE);
    match getrlimit(Resource::Fsize).current {
        Some(limit) if is_write => {
            format!("; files may have {limit} bytes (`ulimit -f`, LimitFSIZE=)")
        }
        _ => String::new(),
    }
}

#[cfg(not(unix))]
pub(crate) fn file_size_limit(_: &rusqlite::Error) -> String {
    String::new()
}

/// What servers of NATS said, in one sentence that needs no further cause.
#[cfg(feature = "nats")]
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NatsError(pub(crate) String);
