//! A server in the making: where it listens, what it runs and where that puts. Its limits are set in
//! `limits`.
//!
//! Reads no environment, and no file but a component's, or what was kept of compiling one.

use std::fmt;
use std::future::Future;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use crate::component::compile_cache::CompileCache;
use crate::component::loaded_component::Source;
use crate::component::pool::Lending;
use crate::component::put_sink::Puts;
use crate::component::wasi::{Directory, World};
use crate::error::Error;
use crate::limits::Limits;
use crate::server::body::{BodyBudget, BodyLimits};
use crate::server::body_reader::FRAMING_BUFFERS;
use crate::server::connection;
use crate::server::listener;
use crate::server::peer_server::PeerServer;
use crate::server::refusal_log::Refusals;
use crate::server::service::Handler;
use crate::sink::{self, BoxSink, PutError, PutSink};
use crate::sinks::DiscardSink;
use crate::util::local::Local;

/// The port that a server listens on unless it is told another one.
pub const DEFAULT_PORT: u16 = 8080;

/// A server in the making; see [`PeerServer::builder`].
#[derive(Debug)]
#[must_use = "a server starts with `listen`"]
pub struct PeerServerBuilder {
    hostname: Option<String>,
    port: u16,
    sink: Option<Sink>,
    component: Source,
    compile_cache: Option<PathBuf>,
    world: World,
    pub(crate) limits: Limits,
}

/// The sink, or what opens it.
enum Sink {
    Opened(BoxSink),
    Unopened(Pin<Box<dyn Future<Output = Result<BoxSink, Error>> + Send>>),
}

impl fmt::Debug for Sink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Opened(_) => "Opened",
            Self::Unopened(_) => "Unopened",
        })
    }
}

impl Default for PeerServerBuilder {
    fn default() -> Self {
        Self {
            hostname: None,
            port: DEFAULT_PORT,
            sink: None,
            component: Source::BuiltIn,
            compile_cache: None,
            world: World::default(),
            limits: Limits::default(),
        }
    }
}

impl PeerServerBuilder {
    /// The host name or IP address to listen on. A name that resolves to several addresses is
    /// listened on at all of them that this machine has. Not given: any IPv4 address.
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = Some(hostname.into());
        self
    }

    /// The TCP port, [`DEFAULT_PORT`] unless given. 0 takes a free one, which
    /// [`PeerServer::port`] tells.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The sink that takes the events.
    pub fn sink(mut self, sink: impl PutSink) -> Self {
        self.sink = Some(Sink::Opened(sink.boxed()));
        self
    }

    /// The sink that takes the events, opened by [`listen`](Self::listen) once it has the port and the
    /// component: a start that fails for one of these leaves no new store behind.
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

    /// A component of your own in place of the built-in one, as the bytes of its binary. It
    /// exports `wasi:http/incoming-handler` 0.2. One that also exports `alldata:peer/put-handler`, and
    /// imports no more than the built-in one does, is called through that, and may call nothing
    /// then: the server puts what it has decoded. One that is composed of several is not.
    ///
    /// Where a component does not import `alldata:peer/put-sink`, because it has a sink of its own,
    /// the server needs none. Such a one has [`body_timeout`](Self::body_timeout) and
    /// [`sink_timeout`](Self::sink_timeout) together for the whole of a request; then its instance
    /// is dropped, and 504 answered.
    ///
    /// A body that goes over a limit ends with an error, and the server answers in the component's
    /// place: so a component may not put before it has read the body to its end. Its own answer has
    /// to be read within a minute.
    pub fn component(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.component = Source::Bytes(bytes.into());
        self
    }

    /// A component of your own in place of the built-in one, from a file.
    pub fn component_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.component = Source::File(path.into());
        self
    }

    /// A variable that a component of your own finds in its environment (`wasi:cli/environment`).
    pub fn component_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.world.variables.push((name.into(), value.into()));
        self
    }

    /// A directory that a component of your own may read and write (`wasi:filesystem`), and its
    /// name there.
    pub fn component_dir(mut self, path: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        let directory = Directory::new(path.into(), name.into());
        self.world.directories.push(directory);
        self
    }

    /// A directory in which compiled components are kept, so that the next start need not compile
    /// them again. It is made if it is not there, for this user alone. One that others may write to
    /// is an error, since what is kept is run. Not given: none.
    pub fn compile_cache(mut self, directory: impl Into<PathBuf>) -> Self {
        self.compile_cache = Some(directory.into());
        self
    }

    /// Starts the server, on the Tokio runtime that this is awaited in. It accepts connections
    /// when this returns.
    ///
    /// # Errors
    ///
    /// When there is no sink, a setting is out of range, the host name does not resolve, an
    /// address can't be listened on, the component can't be used, or there is no keeping it in the
    /// directory for that.
    pub async fn listen(self) -> Result<PeerServer, Error> {
        let limits = self.limits;
        limits.check()?;
        if self.sink.is_none() && matches!(self.component, Source::BuiltIn) {
            return Err(Error::NoSink);
        }
        let cache = self.compile_cache.as_deref().map(CompileCache::open);
        let (component, world) = (self.component, self.world);
        let guest = component.compile(limits, cache.transpose()?, world);
        let guest = guest.await?;
        let needs_sink = guest.needs_sink();
        // One with its own reads the body, and then does what the server's sink would do.
        let request_time = limits.body_timeout.saturating_add(limits.sink_timeout);
        let request_time = (!needs_sink).then_some(request_time);
        let bound = listener::bind(self.hostname.as_deref(), self.port).await?;
        let sink = match (self.sink, needs_sink) {
            (Some(Sink::Opened(sink)), true) => sink,
            (Some(Sink::Unopened(open)), true) => open.await?,
            (None, true) => return Err(Error::NoSink),
            (given, false) => {
                if given.is_some() {
                    tracing::warn!(
                        "the component has a sink of its own, and never calls the server's"
                    );
                }
                DiscardSink.boxed()
            }
        };
        let listeners = listener::listen(bound)?;
        let refusals: Arc<Refusals> = Arc::default();
        let lending = Lending {
            puts: Puts::new(sink.clone(), limits.sink_timeout, Arc::clone(&refusals)),
            limits,
        };
        let max_body_bytes = limits.max_body_bytes.min(limits.max_buffered_bytes);
        let body_budget = BodyBudget::new(limits.max_buffered_bytes, max_body_bytes);
        let handler = Handler {
            guests: guest.lend(lending),
            body_limits: BodyLimits {
                bytes: max_body_bytes,
                framing_bytes: FRAMING_BUFFERS * connection::read_buffer_bytes(&limits) as u64,
                time: limits.body_timeout,
                rate: NonZeroU64::new(limits.min_body_rate),
            },
            request_time,
            body_budget: Local::new(body_budget),
            activity: Arc::default(),
            refusals,
        };
        Ok(PeerServer::start(
            self.hostname,
            listeners,
            handler,
            sink,
            limits,
        ))
    }
}
