//! Listens on TCP addresses and Unix sockets, and accepts connections.
//!
//! An error of `accept` is logged and retried after a pause.

use std::io::{self, ErrorKind};
use std::net::{self, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

use crate::error::Error;
use crate::server::bind::{Bound, bind};
use crate::server::listen_address::{ListenAddress, LocalAddress};
use crate::server::stream::Stream;
#[cfg(unix)]
use crate::server::unix_socket::{self, SocketFile};
use crate::util::log_limiter::LogLimiter;

/// How many connections the system queues until they are accepted: enough for a burst of new clients.
const BACKLOG: u32 = 1024;

/// The pause after an error of `accept`, so that a persistent one, such as too many open files, does not
/// keep a processor busy.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening socket, with its actual address.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: Socket,
    pub(crate) address: LocalAddress,
    /// The file of a Unix socket that the server has made.
    #[cfg(unix)]
    file: Option<SocketFile>,
    /// Whether the connections that are not accepted at the close are left to another process.
    leaves_queue: bool,
    failing: LogLimiter,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// A listener that was made elsewhere, for [`listen_on`](crate::PeerServerBuilder::listen_on): of TCP or of
/// Unix sockets, of the standard library or of Tokio.
#[derive(Debug)]
pub struct PeerListener {
    given: Given,
    leaves_queue: bool,
}

#[derive(Debug)]
enum Given {
    Tcp(TcpListener),
    StdTcp(net::TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
    #[cfg(unix)]
    StdUnix(std::os::unix::net::UnixListener),
}

/// What a server is asked to listen on.
#[derive(Debug)]
pub(crate) enum Listen {
    Address(ListenAddress),
    Listener(PeerListener),
}

/// A socket of a server before it serves.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// No other process can listen on it.
    Bound(Bound),
    Listening(Listener),
}

/// Binds the TCP addresses, so that no other process can listen on them. Unix sockets listen at once: until
/// the server accepts, their clients wait.
pub(crate) async fn prepare(listen: Vec<Listen>) -> Result<Vec<Prepared>, Error> {
    let mut prepared = Vec::new();
    for listen in listen {
        match listen {
            Listen::Address(ListenAddress::Tcp { host, port }) => {
                let bound = bind(Some(&host), port).await?;
                prepared.extend(bound.into_iter().map(Prepared::Bound));
            }
            #[cfg(unix)]
            Listen::Address(ListenAddress::Unix { path, mode }) => {
                let listening = unix_socket::listen(&path, mode, BACKLOG).await;
                let (socket, file) = listening.map_err(|source| Error::ListenUnix {
                    path: path.clone(),
                    source,
                })?;
                prepared.push(Prepared::Listening(Listener {
                    file: Some(file),
                    ..Listener::new(Socket::Unix(socket), LocalAddress::Unix(path))
                }));
            }
            #[cfg(not(unix))]
            Listen::Address(ListenAddress::Unix { path, .. }) => {
                let source = ErrorKind::Unsupported.into();
                return Err(Error::ListenUnix { path, source });
            }
            Listen::Listener(PeerListener {
                given,
                leaves_queue,
            }) => {
                let listener = given.into_listener();
                let listener = listener.map_err(|source| Error::Listener { source })?;
                prepared.push(Prepared::Listening(Listener {
                    leaves_queue,
                    ..listener
                }));
            }
        }
    }
    Ok(prepared)
}

/// Listens on bound addresses.
pub(crate) fn listen(prepared: Vec<Prepared>) -> Result<Vec<Listener>, Error> {
    let listen = |prepared| match prepared {
        Prepared::Listening(listener) => Ok(listener),
        Prepared::Bound(Bound { socket, address }) => {
            let socket = socket.listen(BACKLOG);
            let socket = socket.map_err(|source| Error::Listen { address, source })?;
            let address = LocalAddress::Tcp(address);
            Ok(Listener::new(Socket::Tcp(socket), address))
        }
    };
    prepared.into_iter().map(listen).collect()
}

impl Given {
    fn into_listener(self) -> io::Result<Listener> {
        let socket = match self {
            Self::Tcp(listener) => Socket::Tcp(listener),
            Self::StdTcp(listener) => {
                listener.set_nonblocking(true)?;
                Socket::Tcp(TcpListener::from_std(listener)?)
            }
            #[cfg(unix)]
            Self::Unix(listener) => Socket::Unix(listener),
            #[cfg(unix)]
            Self::StdUnix(listener) => {
                listener.set_nonblocking(true)?;
                Socket::Unix(UnixListener::from_std(listener)?)
            }
        };
        let address = match &socket {
            Socket::Tcp(listener) => LocalAddress::Tcp(listener.local_addr()?),
            #[cfg(unix)]
            Socket::Unix(listener) => LocalAddress::Unix(unix_socket::path_of(listener)?),
        };
        Ok(Listener::new(socket, address))
    }
}

impl PeerListener {
    /// Leaves the connections that are not accepted yet when the server closes to the next process that has this
    /// listener, as with socket activation. Otherwise the server accepts and serves them.
    #[must_use]
    pub fn leave_queue(mut self) -> Self {
        self.leaves_queue = true;
        self
    }
}

impl From<Given> for PeerListener {
    fn from(given: Given) -> Self {
        Self {
            given,
            leaves_queue: false,
        }
    }
}

impl From<TcpListener> for PeerListener {
    fn from(listener: TcpListener) -> Self {
        Given::Tcp(listener).into()
    }
}

impl From<net::TcpListener> for PeerListener {
    fn from(listener: net::TcpListener) -> Self {
        Given::StdTcp(listener).into()
    }
}

#[cfg(unix)]
impl From<UnixListener> for PeerListener {
    fn from(listener: UnixListener) -> Self {
        Given::Unix(listener).into()
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::UnixListener> for PeerListener {
    fn from(listener: std::os::unix::net::UnixListener) -> Self {
        Given::StdUnix(listener).into()
    }
}

impl Listener {
    fn new(socket: Socket, address: LocalAddress) -> Self {
        Self {
            socket,
            address,
            #[cfg(unix)]
            file: None,
            leaves_queue: false,
            failing: LogLimiter::default(),
        }
    }

    /// The next connection, and the address of its client unless it uses a Unix socket.
    pub(crate) async fn accept(&mut self) -> (Stream, Option<SocketAddr>) {
        let mut failures: u64 = 0;
        loop {
            match self.socket.accept().await {
                Ok(accepted) => {
                    if failures > 0 {
                        tracing::info!(failures, "accepting connections again");
                    }
                    return accepted;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {
                    tracing::debug!(%error, "a client closed its connection before it was accepted");
                }
                Err(error) => {
                    failures += 1;
                    if let Some(suppressed) = self.failing.check(&error.to_string()) {
                        tracing::warn!(%error, suppressed, "cannot accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Stops listening, and returns the connections in the queue of the system: to their clients they are
    /// established, and they may have sent a request.
    pub(crate) fn close(self) -> Vec<(Stream, Option<SocketAddr>)> {
        // Before the last of them: a client that finds no file tries another server.
        #[cfg(unix)]
        drop(self.file);
        let mut queued = Vec::new();
        if self.leaves_queue {
            return queued;
        }
        match self.socket.into_std() {
            Ok(mut accept) => {
                while queued.len() < BACKLOG as usize {
                    match accept() {
                        Ok(accepted) => queued.push(accepted),
                        Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => {
                            tracing::warn!(%error, "cannot accept the last connections");
                            break;
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot accept the last connections"),
        }
        queued
    }
}

/// Accepts a connection without waiting.
type Accept = Box<dyn FnMut() -> io::Result<(Stream, Option<SocketAddr>)> + Send>;

impl Socket {
    async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::Tcp(without_delay(stream)), Some(peer)))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let (stream, _unnamed) = listener.accept().await?;
                Ok((Stream::Unix(stream), None))
            }
        }
    }

    /// The socket without the runtime, which may not have been notified of the last connections yet.
    fn into_std(self) -> io::Result<Accept> {
        match self {
            Self::Tcp(listener) => {
                let listener = listener.into_std()?;
                Ok(Box::new(move || {
                    let (stream, peer) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    let stream = without_delay(TcpStream::from_std(stream)?);
                    Ok((Stream::Tcp(stream), Some(peer)))
                }))
            }
            #[cfg(unix)]
            Self::Unix(listener) => {
                let listener = listener.into_std()?;
                Ok(Box::new(move || {
                    let (stream, _unnamed) = listener.accept()?;
                    stream.set_nonblocking(true)?;
                    Ok((Stream::Unix(UnixStream::from_std(stream)?), None))
                }))
            }
        }
    }
}

/// Responses are small and complete: waiting to fill a packet only delays them.
fn without_delay(stream: TcpStream) -> TcpStream {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    stream
}
