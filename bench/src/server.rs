//! The compared servers, and how each is started.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::interface::Interface;
use crate::key_value;
use crate::running::Running;
use crate::tools::{Certificate, Tools};

/// The documented behaviour of the original on Node.
const NODE_SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node/server.js");

/// The npm package, with the original's interface.
const DROP_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/node/drop-in.mjs");

/// The file name of the store in its directory.
pub(crate) const STORE: &str = "store.db";

/// A server that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    TwinDiscard,
    PeerDiscard,
    /// The same over TLS.
    PeerTls,
    Node,
    /// The npm package with the interface of the original.
    NodeDropIn,
    WasmtimeReuse,
    Wasmtime,
    /// The component for WASI 0.3, whose instances serve several requests.
    WasmtimeWasi03,
    PeerFresh,
    /// The component that `wasmtime serve` runs, called through `wasi:http`.
    PeerComposed,
    TwinSqlite,
    PeerSqlite,
    /// etcd, by transactions that create keys.
    Etcd,
    /// Redis with webdis in front of it, by `SETNX`.
    Redis,
    /// The library with a sink that never completes a put.
    SlowSink,
    /// The sink `nats:`.
    PeerNats,
    TwinNats,
    /// A stream without a peer, to which the benchmark itself publishes.
    NatsAlone,
    /// The same, connected to the server that leads the stream, as a peer is.
    NatsAloneAtLeader,
    /// These four, with the nats-servers on processors of their own.
    PeerNatsSeparateCores,
    TwinNatsSeparateCores,
    NatsAloneSeparateCores,
    NatsAloneAtLeaderSeparateCores,
}

impl Server {
    /// The compared servers, in the order of the table.
    pub(crate) const COMPARED: [Self; 14] = [
        Self::TwinDiscard,
        Self::PeerDiscard,
        Self::PeerTls,
        Self::Node,
        Self::NodeDropIn,
        Self::WasmtimeReuse,
        Self::Wasmtime,
        Self::WasmtimeWasi03,
        Self::PeerFresh,
        Self::PeerComposed,
        Self::TwinSqlite,
        Self::PeerSqlite,
        Self::Etcd,
        Self::Redis,
    ];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TwinDiscard => "native twin, discard",
            Self::PeerDiscard => "alldata-peer, discard",
            Self::PeerTls => "alldata-peer, discard over TLS",
            Self::Node => "the original on Node",
            Self::NodeDropIn => "npm package on Node",
            Self::WasmtimeReuse => "wasmtime serve, instances reused",
            Self::Wasmtime => "wasmtime serve, as it comes",
            Self::WasmtimeWasi03 => "wasmtime serve, WASI 0.3",
            Self::PeerFresh => "alldata-peer, fresh instances",
            Self::PeerComposed => "alldata-peer, composed component",
            Self::TwinSqlite => "native twin, sqlite",
            Self::PeerSqlite => "alldata-peer, sqlite",
            Self::Etcd => "etcd",
            Self::Redis => "Redis behind webdis",
            Self::SlowSink => "alldata-peer, embedded",
            Self::PeerNats => "alldata-peer, nats",
            Self::TwinNats => "native twin, nats",
            Self::NatsAlone => "async-nats alone",
            Self::NatsAloneAtLeader => "async-nats alone, at the leader",
            Self::PeerNatsSeparateCores => "alldata-peer, nats on separate cores",
            Self::TwinNatsSeparateCores => "native twin, nats on separate cores",
            Self::NatsAloneSeparateCores => "async-nats alone, nats on separate cores",
            Self::NatsAloneAtLeaderSeparateCores => {
                "async-nats alone, at the leader, nats on separate cores"
            }
        }
    }

    /// Whether its files are on this machine.
    pub(crate) fn is_there(self, tools: &Tools) -> bool {
        match self {
            Self::Node => tools.node.is_some(),
            Self::NodeDropIn => tools.node.is_some() && tools.npm_package.is_some(),
            Self::WasmtimeReuse | Self::Wasmtime | Self::WasmtimeWasi03 => tools.wasmtime.is_some(),
            Self::Etcd => tools.etcd.is_some(),
            Self::Redis => tools.redis.is_some() && tools.webdis.is_some(),
            _ => true,
        }
    }

    /// Starts it with the compiled components of earlier runs.
    pub(crate) fn start(self, tools: &Tools) -> Result<Running> {
        self.start_with_cache(tools, &tools.cache())
    }

    /// Starts it with this directory for compiled components.
    pub(crate) fn start_with_cache(self, tools: &Tools, cache: &Path) -> Result<Running> {
        let store = Arc::new(tempfile::tempdir_in(tools.scratch.path())?);
        let started = match self {
            Self::Etcd => start_etcd(tools, store, cache),
            Self::Redis => start_redis(tools, store, cache),
            _ => {
                let command = self.command(tools, &store.path().join(STORE))?;
                Running::start(command, store, cache)
            }
        };
        started.with_context(|| format!("cannot start {}", self.name()))
    }

    /// Starts `alldata-peer` on this port, possibly with an existing store.
    pub(crate) fn start_peer(tools: &Tools, store: &Arc<TempDir>, port: u16) -> Result<Running> {
        let sink = format!("sqlite:{}", store.path().join(STORE).display());
        let command = serve(tools, &sink, port);
        Running::start(command, Arc::clone(store), &tools.cache())
            .with_context(|| format!("cannot start alldata-peer on port {port}"))
    }

    /// Starts `alldata-peer`, or its twin, with a sink on another server.
    pub(crate) fn start_with_sink(self, tools: &Tools, sink: &str) -> Result<Running> {
        let store = Arc::new(tempfile::tempdir_in(tools.scratch.path())?);
        let command = match self {
            Self::TwinNats | Self::TwinNatsSeparateCores => twin(tools, sink),
            _ => serve(tools, sink, 0),
        };
        Running::start(command, store, &tools.cache())
            .with_context(|| format!("cannot start {} with {sink}", self.name()))
    }

    fn command(self, tools: &Tools, store: &Path) -> Result<Command> {
        let sqlite = format!("sqlite:{}", store.display());
        let peer = |arguments: &[&str]| {
            let mut command = Command::new(&tools.peer);
            command.args(["serve", "--hostname", "127.0.0.1", "--port", "0"]);
            command.args(arguments);
            command
        };
        let composed = || {
            let mut command = peer(&["--component"]);
            command.arg(&tools.composed);
            command
        };
        let node = |arguments: &[&Path]| {
            let program = tools.node.as_ref().context("there is no Node")?;
            let mut command = Command::new(program);
            command.args(arguments);
            anyhow::Ok(command)
        };
        let wasmtime = |arguments: &[&str], component: &Path| {
            let program = tools.wasmtime.as_ref().context("there is no wasmtime")?;
            let mut command = Command::new(program);
            command.args(["serve", "--addr", "127.0.0.1:0"]);
            command.args(arguments).arg(component);
            anyhow::Ok(command)
        };
        Ok(match self {
            Self::TwinDiscard => twin(tools, "discard:"),
            Self::TwinSqlite => twin(tools, &sqlite),
            Self::PeerDiscard => peer(&["--sink", "discard:"]),
            Self::PeerTls => {
                let mut command = peer(&["--sink", "discard:", "--tls-cert"]);
                let Certificate { chain, key } = &tools.certificate;
                command.arg(chain).arg("--tls-key").arg(key);
                command
            }
            Self::PeerFresh => peer(&["--sink", "discard:", "--max-instance-reuse-count", "1"]),
            Self::PeerComposed => composed(),
            Self::PeerSqlite => peer(&["--sink", &sqlite]),
            Self::WasmtimeReuse => {
                wasmtime(&["--max-instance-reuse-count", "1000000"], &tools.composed)?
            }
            Self::Wasmtime => wasmtime(&[], &tools.composed)?,
            Self::WasmtimeWasi03 => wasmtime(&[], &tools.composed_wasi_0_3)?,
            Self::Node => node(&[NODE_SERVER.as_ref()])?,
            Self::NodeDropIn => {
                let package = tools.npm_package.as_ref();
                node(&[
                    DROP_IN.as_ref(),
                    package.context("the package is not built")?,
                ])?
            }
            Self::SlowSink => Command::new(&tools.slow_sink),
            Self::Etcd | Self::Redis => bail!("it is no peer server"),
            Self::PeerNats
            | Self::TwinNats
            | Self::NatsAlone
            | Self::NatsAloneAtLeader
            | Self::PeerNatsSeparateCores
            | Self::TwinNatsSeparateCores
            | Self::NatsAloneSeparateCores
            | Self::NatsAloneAtLeaderSeparateCores => bail!("it needs a stream"),
        })
    }
}

fn start_etcd(tools: &Tools, directory: Arc<TempDir>, cache: &Path) -> Result<Running> {
    let program = tools.etcd.as_ref().context("there is no etcd")?;
    let programs = key_value::etcd(program, directory.path())?;
    Running::start_key_value(programs, Interface::Etcd, directory, cache)
}

fn start_redis(tools: &Tools, directory: Arc<TempDir>, cache: &Path) -> Result<Running> {
    let redis = tools.redis.as_ref().context("there is no Redis")?;
    let webdis = tools.webdis.as_ref().context("there is no webdis")?;
    let programs = key_value::redis(redis, webdis, directory.path())?;
    Running::start_key_value(programs, Interface::Webdis, directory, cache)
}

fn twin(tools: &Tools, sink: &str) -> Command {
    let mut command = Command::new(&tools.twin);
    command.arg(sink);
    command
}

fn serve(tools: &Tools, sink: &str, port: u16) -> Command {
    let mut command = Command::new(&tools.peer);
    command.args(["serve", "--hostname", "127.0.0.1", "--sink", sink]);
    command.args(["--port", &port.to_string()]);
    command
}
