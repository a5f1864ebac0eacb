//! The errors of setting up a server and of reading a store.
//!
//! The outcomes of requests are in `alldata_peer_protocol::outcome`.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An operation that failed, with its object.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A server was built without a sink.
    #[error("the server has no sink: set one with `sink` or `on_put`")]
    NoSink,
    /// A setting is out of its range.
    #[error("{setting} is {value}, but must be {expected}")]
    InvalidSetting {
        /// The name of the setting.
        setting: &'static str,
        /// The value.
        value: String,
        /// The range.
        expected: String,
    },
    /// A host name does not resolve to any address.
    #[error("cannot resolve the host name {hostname:?}")]
    Resolve {
        /// The host name.
        hostname: String,
        /// The error of the resolver.
        source: io::Error,
    },
    /// The server cannot listen on an address.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// The listener for operators would be reachable from other machines.
    #[cfg(feature = "admin")]
    #[error(
        "{address} is not a loopback address, and nothing would authenticate operators: set --token-file or --tls-client-ca, or listen on 127.0.0.1"
    )]
    AdminAddress {
        /// The address.
        address: SocketAddr,
    },
    /// The server cannot listen on a Unix socket.
    #[error("cannot listen on unix:{}", path.display())]
    ListenUnix {
        /// The file of the socket.
        path: PathBuf,
        /// The reason, or the error of the system.
        source: io::Error,
    },
    /// A listener that the server was given cannot be used.
    #[error("cannot use a listener")]
    Listener {
        /// The error of the system.
        source: io::Error,
    },
    /// A text is not an address to listen on.
    #[error("{address:?} is not an address to listen on: {reason}")]
    ListenAddress {
        /// The text.
        address: String,
        /// The reason.
        reason: &'static str,
    },
    /// A component cannot be used.
    #[error("cannot use the component {component}")]
    Component {
        /// Its path, or a description of a component without one.
        component: String,
        /// The error of the engine.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Compiled components cannot be stored in a directory.
    #[error("cannot use the compile cache {}: {reason}", directory.display())]
    CompileCache {
        /// The directory.
        directory: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A file with certificates or a private key cannot be used.
    #[cfg(feature = "tls")]
    #[error("cannot use {} as {role}: {reason}", path.display())]
    TlsFile {
        /// What the file is given as, such as `TLS certificate`.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The settings of TLS contradict each other, or a certificate cannot be used.
    #[cfg(feature = "tls")]
    #[error("cannot set up TLS: {reason}")]
    Tls {
        /// The reason.
        reason: String,
    },
    /// A file with tokens cannot be used.
    #[error("cannot use {} as token file (--token-file): {reason}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The access log cannot be opened.
    #[error("cannot open {} as access log (--access-log)", path.display())]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A text is not a trusted proxy.
    #[error(
        "{value:?} is not a trusted proxy: it must be an IP address, a network such as 10.0.0.0/8, or unix (--trusted-proxy)"
    )]
    TrustedProxy {
        /// The text.
        value: String,
    },
    /// The URL of a sink is invalid.
    #[error("{url:?} is not the URL of a sink: {reason}")]
    SinkUrl {
        /// The URL as given.
        url: String,
        /// The reason.
        reason: String,
    },
    /// A file cannot be opened, read or written.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// The operation: `open`, `read` or `write`.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file belongs to a store or to another program, and is not written to.
    #[error("cannot write to {}: it is {role}", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// Its role.
        role: &'static str,
    },
    /// A store cannot be opened or read.
    #[error("cannot {operation} the store {}", path.display())]
    Store {
        /// The operation.
        operation: &'static str,
        /// The file of the store.
        path: PathBuf,
        /// The error of SQLite.
        source: SqliteError,
    },
    /// The file is a database, but not a store of a version that is supported.
    #[error("{} is not a store that this version can use: {reason}", path.display())]
    StoreFormat {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// An event in a store is damaged: its digest does not match.
    #[error("the event under the key {key:?} is damaged in the store {}", path.display())]
    DamagedEvent {
        /// The file.
        path: PathBuf,
        /// The key, with U+FFFD in the place of bytes that are not UTF-8.
        key: String,
    },
    /// A stream of NATS cannot be reached, checked, created or read.
    #[cfg(feature = "nats")]
    #[error("cannot {operation} the stream {stream}")]
    Nats {
        /// The operation.
        operation: &'static str,
        /// The URL of the stream, without credentials.
        stream: String,
        /// The error of the servers.
        source: NatsError,
    },
    /// A file that the URL of a stream of NATS names cannot be used.
    #[cfg(feature = "nats")]
    #[error("cannot use {}, which is given as {parameter}: {reason}", path.display())]
    NatsFile {
        /// The parameter of the URL.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A stream of NATS has a setting with which it could lose, overwrite or refuse events.
    #[cfg(feature = "nats")]
    #[error("the stream {stream} is not safe: its {setting} is {found}, but must be {needed}")]
    UnsafeStream {
        /// The URL of the stream, without credentials.
        stream: String,
        /// The name of the setting, as in the JSON of JetStream.
        setting: &'static str,
        /// The value that was found.
        found: String,
        /// The value that is required.
        needed: String,
    },
    /// A stream of NATS has lost messages, or not all of its messages were read.
    #[cfg(feature = "nats")]
    #[error("the stream {stream} is not complete: {reason}")]
    IncompleteStream {
        /// The URL of the stream, without credentials.
        stream: String,
        /// The difference.
        reason: String,
    },
    /// A message of a stream of NATS is damaged, or was not published by a peer.
    #[cfg(feature = "nats")]
    #[error(
        "the event under the key {key:?} is damaged, or was not put by a peer, in the stream {stream}"
    )]
    DamagedMessage {
        /// The URL of the stream, without credentials.
        stream: String,
        /// The key.
        key: String,
    },
    /// The thread of a writer cannot be started.
    #[error("cannot start a thread for {}", path.display())]
    Thread {
        /// The file of the writer.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

/// An error of SQLite. Its text includes its causes.
#[derive(Debug, thiserror::Error)]
#[error("{0}{limit}", limit = file_size_limit(.0))]
pub struct SqliteError(pub(crate) rusqlite::Error);

/// The file size limit of the process, for a write that failed: SQLite does not report it.
#[cfg(unix)]
pub(crate) fn file_size_limit(error: &rusqlite::Error) -> String {
    use rusqlite::ffi::SQLITE_IOERR_WRITE;
    use rustix::process::{Resource, getrlimit};

    let is_write = error
        .sqlite_error()
        .is_some_and(|error| error.extended_code == SQLITE_IOERR_WRITE);
    match getrlimit(Resource::Fsize).current {
        Some(limit) if is_write => {
            format!("; the file size limit is {limit} bytes (`ulimit -f`, LimitFSIZE=)")
        }
        _ => String::new(),
    }
}

#[cfg(not(unix))]
pub(crate) fn file_size_limit(_: &rusqlite::Error) -> String {
    String::new()
}

/// An error of NATS servers. Its text includes its causes.
#[cfg(feature = "nats")]
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NatsError(pub(crate) String);
