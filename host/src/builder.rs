//! The settings of a server, their defaults, and what they may be.
//!
//! Reads no environment, and no file but a component's, or what was kept of compiling one.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use alldata_peer_guest::decode::MAX_BODY_BYTES;
use tokio_util::task::TaskTracker;

use crate::body::{BodyBudget, BodyLimits};
use crate::engine::open_cache;
use crate::error::Error;
use crate::guest::Source;
use crate::handler::Handler;
use crate::instances::Lending;
use crate::listener;
use crate::local::Local;
use crate::server::PeerServer;
use crate::sink::{self, BoxSink, PutError, PutSink};
use crate::sinks::DiscardSink;
use crate::world::{Directory, World};

/// The port that a server listens on unless it is told another one.
pub const DEFAULT_PORT: u16 = 8080;

/// The largest body in bytes, and what a lower setting may not exceed: the built-in component's
/// own limit.
pub const DEFAULT_MAX_BODY_BYTES: u64 = MAX_BODY_BYTES as u64;

/// How many bytes all bodies that are in flight may have together: more than all
/// ordinary events that are in flight, or 16 of the largest, which take three times as much memory,
/// and with a composed component up to eight times.
pub const DEFAULT_MAX_BODIES_BYTES: u64 = 256 * 1024 * 1024;

/// How long a body may take to arrive as a whole: at the largest size, 4.5 Mbit/s.
pub const DEFAULT_BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a sink may take for a put.
pub const DEFAULT_SINK_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a closing server waits for what is in flight: longer than a sink may take.
pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(35);

/// How many requests are handled at a time. Each waits for the sink, not for a processor, so the
/// number is much larger than that of the cores; its price is address space and some memory.
pub const DEFAULT_MAX_IN_FLIGHT: u32 = 1024;

/// The most requests that may be handled at a time: what an engine's pool can address.
pub const MAX_IN_FLIGHT: u32 = 4096;

/// How many requests one instance of the guest handles before it is replaced. It keeps no state
/// between them, so this only bounds what a leak could cost.
pub const DEFAULT_INSTANCE_REUSE: u32 = 1_000_000;

/// A server in the making; see [`PeerServer::builder`].
#[derive(Debug)]
#[must_use = "a server starts with `listen`"]
pub struct PeerServerBuilder {
    hostname: Option<String>,
    port: u16,
    sink: Option<BoxSink>,
    component: Source,
    compile_cache: Option<PathBuf>,
    world: World,
    max_body_bytes: u64,
    max_bodies_bytes: u64,
    body_timeout: Duration,
    sink_timeout: Duration,
    drain_timeout: Duration,
    max_in_flight: u32,
    instance_reuse: u32,
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
            max_body_bytes: DEFAULT_MAX_BODY_BYTES,
            max_bodies_bytes: DEFAULT_MAX_BODIES_BYTES,
            body_timeout: DEFAULT_BODY_TIMEOUT,
            sink_timeout: DEFAULT_SINK_TIMEOUT,
            drain_timeout: DEFAULT_DRAIN_TIMEOUT,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            instance_reuse: DEFAULT_INSTANCE_REUSE,
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
        self.sink = Some(sink.boxed());
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
    /// imports no more than the built-in one does, is called through that, and may call nothing but
    /// `put-sink` then.
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
    /// them again. Not given: none. Whoever can write there can have this process run any code.
    pub fn compile_cache(mut self, directory: impl Into<PathBuf>) -> Self {
        self.compile_cache = Some(directory.into());
        self
    }

    /// The largest body in bytes: 1 to [`DEFAULT_MAX_BODY_BYTES`]. A larger one is answered
    /// with 413.
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// How many bytes all bodies that are in flight may have together,
    /// [`DEFAULT_MAX_BODIES_BYTES`] unless given. One that goes beyond is answered with 503, or
    /// with 413 where it does so alone.
    pub fn max_bodies_bytes(mut self, bytes: u64) -> Self {
        self.max_bodies_bytes = bytes;
        self
    }

    /// How long a body may take to arrive as a whole, [`DEFAULT_BODY_TIMEOUT`] unless given. A
    /// slower one is answered with 408.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout = timeout;
        self
    }

    /// How long the sink may take for a put, [`DEFAULT_SINK_TIMEOUT`] unless given. A slower one
    /// is answered with 504.
    pub fn sink_timeout(mut self, timeout: Duration) -> Self {
        self.sink_timeout = timeout;
        self
    }

    /// How long [`PeerServer::close`] waits for what is in flight, [`DEFAULT_DRAIN_TIMEOUT`]
    /// unless given.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// How many requests guests handle at a time, 1 to [`MAX_IN_FLIGHT`] and
    /// [`DEFAULT_MAX_IN_FLIGHT`] unless given. Those beyond are answered with 503.
    pub fn max_in_flight(mut self, requests: u32) -> Self {
        self.max_in_flight = requests;
        self
    }

    /// How many requests one instance of the guest handles before it is replaced,
    /// [`DEFAULT_INSTANCE_REUSE`] unless given; 1 is a fresh instance for every request. One
    /// that trapped is always replaced.
    pub fn instance_reuse(mut self, requests: u32) -> Self {
        self.instance_reuse = requests;
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
        check(
            "max_body_bytes",
            self.max_body_bytes,
            DEFAULT_MAX_BODY_BYTES,
        )?;
        check("max_bodies_bytes", self.max_bodies_bytes, u64::MAX)?;
        check(
            "max_in_flight",
            self.max_in_flight.into(),
            MAX_IN_FLIGHT.into(),
        )?;
        check(
            "instance_reuse",
            self.instance_reuse.into(),
            u32::MAX.into(),
        )?;
        if self.sink.is_none() && matches!(self.component, Source::BuiltIn) {
            return Err(Error::NoSink);
        }
        let cache = self.compile_cache.as_deref().map(|directory| {
            open_cache(directory).map_err(|error| Error::CompileCache {
                directory: directory.to_owned(),
                source: error.into(),
            })
        });
        let (component, world) = (self.component, self.world);
        let guest = component.compile(self.max_in_flight, cache.transpose()?, world);
        let guest = guest.await?;
        let needs_sink = guest.needs_sink();
        // One with its own reads the body, and then does what the server's sink would do.
        let request_time = self.body_timeout.saturating_add(self.sink_timeout);
        let request_time = (!needs_sink).then_some(request_time);
        let sink = match (self.sink, needs_sink) {
            (Some(sink), true) => sink,
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
        let listeners = listener::bind(self.hostname.as_deref(), self.port).await?;
        let lending = Lending {
            sink: sink.clone(),
            sink_timeout: self.sink_timeout,
            reuse: self.instance_reuse,
            max_in_flight: self.max_in_flight,
        };
        let handler = Handler {
            guests: guest.lend(lending),
            body_limits: BodyLimits {
                bytes: self.max_body_bytes.min(self.max_bodies_bytes),
                time: self.body_timeout,
            },
            request_time,
            body_budget: Local::new(BodyBudget::new(self.max_bodies_bytes)),
            tasks: Local::new(TaskTracker::new()),
        };
        Ok(PeerServer::start(
            self.hostname,
            listeners,
            handler,
            sink,
            self.drain_timeout,
        ))
    }
}

/// Holds a setting between 1 and `most`.
fn check(setting: &'static str, value: u64, most: u64) -> Result<(), Error> {
    if (1..=most).contains(&value) {
        return Ok(());
    }
    Err(Error::Setting {
        setting,
        value: value.to_string(),
        expected: format!("1 to {most}"),
    })
}
