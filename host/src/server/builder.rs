//! The builder of a server: its address, its component, its sink and its limits.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use crate::component::compile_cache::CompileCache;
use crate::component::compiled_component::CompiledComponent;
use crate::component::loaded_component::ComponentSource;
use crate::component::wasi::{Directory, WasiConfig};
use crate::error::Error;
use crate::limits::Limits;
use crate::server::access_log::AccessLog;
use crate::server::assemble::assemble;
use crate::server::auth::Authorizer;
use crate::server::bind;
use crate::server::listen_address::ListenAddress;
use crate::server::listener::{self, Listen, PeerListener, Prepared};
use crate::server::monitor::Monitor;
use crate::server::peer_server::PeerServer;
use crate::server::reload_source::Source;
use crate::server::reloader::Reloader;
use crate::server::sink_source::{self, Sink};
#[cfg(feature = "tls")]
use crate::server::tls_acceptor::TlsAcceptor;
use crate::server::transport::{self, Transport};
use crate::server::trusted_proxies::TrustedProxies;
use crate::sink::{self, BoxSink, PutError, PutSink};
#[cfg(feature = "tls")]
use crate::util::tls::TlsConfig;

/// The default port.
pub const DEFAULT_PORT: u16 = 8080;

/// Configures a server; see [`PeerServer::builder`].
#[derive(Debug)]
#[must_use = "a server starts with `listen` or `build`"]
pub struct PeerServerBuilder {
    hostname: Option<String>,
    port: u16,
    /// In place of the host name and the port.
    listen: Vec<Listen>,
    sink: Option<Sink>,
    component: ComponentSource,
    compile_cache: Option<PathBuf>,
    wasi: WasiConfig,
    limits: Limits,
    monitor: Monitor,
    transport: Transport,
    authorizer: Option<SharedAuthorizer>,
    access_log: Option<AccessLog>,
    proxies: TrustedProxies,
}

/// An authorizer, without a text of its own.
struct SharedAuthorizer(Arc<dyn Authorizer>);

impl fmt::Debug for SharedAuthorizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Authorizer")
    }
}

impl Default for PeerServerBuilder {
    fn default() -> Self {
        Self {
            hostname: None,
            port: DEFAULT_PORT,
            listen: Vec::new(),
            sink: None,
            component: ComponentSource::BuiltIn,
            compile_cache: None,
            wasi: WasiConfig::default(),
            limits: Limits::default(),
            monitor: Monitor::default(),
            transport: Transport::default(),
            authorizer: None,
            access_log: None,
            proxies: TrustedProxies::default(),
        }
    }
}

impl PeerServer {
    /// A builder with defaults for everything but the sink.
    pub fn builder() -> PeerServerBuilder {
        PeerServerBuilder::default()
    }
}

impl PeerServerBuilder {
    /// The host name or IP address to listen on. If a name resolves to several addresses, the server
    /// listens on all of them that this machine has. Default: all IPv4 addresses.
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = Some(hostname.into());
        self
    }

    /// The TCP port, [`DEFAULT_PORT`] by default. With 0 the system chooses a free port; see
    /// [`PeerServer::port`].
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// An address to listen on, in place of [`hostname`](Self::hostname) and [`port`](Self::port). May be
    /// called several times. The file of a Unix socket is removed when the server stops accepting.
    pub fn listen_address(mut self, address: ListenAddress) -> Self {
        self.listen.push(Listen::Address(address));
        self
    }

    /// A listener of your own, as of TCP or Unix sockets, in place of [`hostname`](Self::hostname) and
    /// [`port`](Self::port). May be called several times, also together with
    /// [`listen_address`](Self::listen_address). The server closes it, but does not remove the file of a Unix
    /// socket.
    pub fn listen_on(mut self, listener: impl Into<PeerListener>) -> Self {
        self.listen.push(Listen::Listener(listener.into()));
        self
    }

    /// The sink for the events.
    pub fn sink(mut self, sink: impl PutSink) -> Self {
        self.sink = Some(Sink::Opened(sink.boxed()));
        self
    }

    /// The sink for the events, opened by [`listen`](Self::listen) or [`build`](Self::build) after the component is
    /// loaded and the port is bound, so that a start that fails for one of these leaves no new store behind.
    pub fn sink_when_bound(
        mut self,
        open: impl Future<Output = Result<BoxSink, Error>> + Send + 'static,
    ) -> Self {
        self.sink = Some(Sink::Unopened(Box::pin(open)));
        self
    }

    /// An async function of key and event as the sink; see [`sink::from_fn`].
    pub fn on_put<F, Fut>(self, put: F) -> Self
    where
        F: Fn(String, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), PutError>> + Send + 'static,
    {
        self.sink(sink::from_fn(put))
    }

    /// A component of your own instead of the built-in one, as the bytes of its binary. It exports
    /// `wasi:http/incoming-handler` 0.2. If it also exports `alldata:peer/protocol`, is not composed of
    /// several components and imports no more than the built-in one does, it is called through that, must not
    /// call its imports then, and the server puts the decoded event.
    ///
    /// A component that does not import `alldata:peer/put-sink` has a sink of its own, and the server needs
    /// none. It may take [`body_timeout`](Limits::body_timeout) and [`sink_timeout`](Limits::sink_timeout)
    /// together for a request; then its instance is dropped, and the response is 504.
    ///
    /// A body that exceeds a limit ends with an error, and the server responds instead of the component, so a
    /// component must not put before it has read the body to its end. The client has to read the response of
    /// the component within a minute.
    pub fn component(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.component = ComponentSource::Bytes(bytes.into());
        self
    }

    /// A component of your own instead of the built-in one, from a file.
    pub fn component_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.component = ComponentSource::File(path.into());
        self
    }

    /// A component of your own instead of the built-in one, which was compiled before, as for other servers. It is not
    /// written to the [`compile_cache`](Self::compile_cache).
    pub fn compiled_component(mut self, component: &CompiledComponent) -> Self {
        self.component = ComponentSource::Compiled(component.clone());
        self
    }

    /// An environment variable for a component of your own (`wasi:cli/environment`).
    pub fn component_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.wasi.variables.push((name.into(), value.into()));
        self
    }

    /// A directory that a component of your own may read and write (`wasi:filesystem`), under `name`.
    pub fn component_dir(mut self, path: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        let directory = Directory::new(path.into(), name.into());
        self.wasi.directories.push(directory);
        self
    }

    /// A directory for compiled components, so that the next start need not compile them. It is created if it
    /// does not exist, for this user alone. A directory that others may write to is an error, since compiled
    /// components are executed. Default: none.
    pub fn compile_cache(mut self, directory: impl Into<PathBuf>) -> Self {
        self.compile_cache = Some(directory.into());
        self
    }

    /// The limits of the server; [`Limits::default`] unless given.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// A monitor that was made before the server, so that it also shows the start. Otherwise the server has
    /// one of its own; see [`PeerServer::monitor`].
    pub fn monitor(mut self, monitor: &Monitor) -> Self {
        self.monitor = monitor.clone();
        self
    }

    /// Has the listeners speak TLS. Connections that are given to
    /// [`serve_connection`](PeerServer::serve_connection) are served as they are.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: TlsConfig) -> Self {
        self.transport.tls = Some(TlsAcceptor::new(config));
        self
    }

    /// Decides who may put, such as a [`TokenFile`](crate::TokenFile). Default: everybody. The response to a request
    /// that it refuses is 401. A component that is called through `wasi:http` does not see the field `Authorization`.
    pub fn authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.authorizer = Some(SharedAuthorizer(Arc::new(authorizer)));
        self
    }

    /// The proxies in front of the server, which tell the addresses of their clients. Default: none.
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Writes a line for each request. Default: none.
    pub fn access_log(mut self, log: AccessLog) -> Self {
        self.access_log = Some(log);
        self
    }

    /// Starts the server, on the Tokio runtime that this is awaited in. It accepts connections when this
    /// returns.
    ///
    /// # Errors
    ///
    /// When there is no sink, a limit is out of its range, the host name does not resolve, an address cannot
    /// be listened on, the component cannot be loaded, or the compile cache cannot be used.
    pub async fn listen(self) -> Result<PeerServer, Error> {
        self.start(true).await
    }

    /// Starts the server without a listener, on the Tokio runtime that this is awaited in. It serves the
    /// connections that are passed to [`PeerServer::serve_connection`], and no others: host name, port, addresses
    /// and listeners are not used.
    ///
    /// # Errors
    ///
    /// When there is no sink, a limit is out of its range, the component cannot be loaded, or the compile
    /// cache cannot be used.
    pub async fn build(self) -> Result<PeerServer, Error> {
        self.start(false).await
    }

    async fn start(self, listens: bool) -> Result<PeerServer, Error> {
        let limits = self.limits;
        limits.check()?;
        if self.sink.is_none() && matches!(self.component, ComponentSource::BuiltIn) {
            return Err(Error::NoSink);
        }
        let cache = self.compile_cache.as_deref().map(CompileCache::open);
        let component = self.component.load(limits, cache.transpose()?, self.wasi);
        let component = component.await?;
        let hostname = self.hostname.filter(|_| listens);
        let bound = if !listens {
            Vec::new()
        } else if self.listen.is_empty() {
            let bound = bind::bind(hostname.as_deref(), self.port).await?;
            bound.into_iter().map(Prepared::Bound).collect()
        } else {
            listener::prepare(self.listen).await?
        };
        let sink = sink_source::open(self.sink, component.needs_sink()).await?;
        let listeners = listener::listen(bound)?;
        let authorizer = self.authorizer.map(|SharedAuthorizer(shared)| shared);
        let (authorizing, log) = (authorizer.clone(), self.access_log.clone());
        let proxies = Some(self.proxies).filter(|proxies| !proxies.proxies.is_empty());
        let context = assemble(limits, component, authorizing, log, proxies, sink.clone());
        let transport = self.transport;
        if authorizer.is_none() {
            transport::warn_if_open(&listeners, transport.authenticates_clients());
        }
        let mut sources = transport.sources(authorizer, &sink);
        let log = self.access_log.filter(AccessLog::is_file);
        sources.extend(log.map(Source::AccessLog));
        let reloader = Reloader::start(sources);
        Ok(PeerServer::start(
            hostname,
            listeners,
            transport,
            reloader,
            context,
            sink,
            self.monitor,
        ))
    }
}
