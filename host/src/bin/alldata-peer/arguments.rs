//! The command line: its commands, flags and defaults.

#[cfg(feature = "admin")]
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use alldata_peer_server_http::{DEFAULT_PORT, ListenAddress};
use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::access::Access;
use crate::limits::Limits;
use crate::proxies::Proxies;
use crate::units::{self, Timeout};
use crate::version;

/// The default time-out of `put`: longer than the default sink time-out of a peer.
const DEFAULT_PUT_TIMEOUT: Duration = Duration::from_secs(60);

/// The default time-out of `health`: a server that is alive responds in milliseconds.
const DEFAULT_HEALTH_TIMEOUT: Duration = Duration::from_secs(5);

/// An AllData peer server: receives events over HTTP and stores them
#[derive(Debug, Parser)]
#[command(name = "alldata-peer", version, long_version = version::long())]
pub(crate) struct Arguments {
    /// Format of the log on standard error. RUST_LOG sets its level
    #[arg(
        long,
        global = true,
        env = "ALLDATA_PEER_LOG_FORMAT",
        default_value = "text"
    )]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Text lines
    Text,
    /// One JSON object per line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Receive events over HTTP until SIGINT or SIGTERM
    Serve(Box<Serve>),
    /// Print the event under a key
    Get(Get),
    /// Write events as lines of JSON, sorted by key; those of nats: in the order of their puts
    Export(Export),
    /// Put lines of JSON into a store
    Import(Import),
    /// Check every event of a store against its digest
    Verify(Verify),
    /// Put one event to a peer
    Put(Put),
    /// Ask a server whether it is ready; exits with 0 if it is
    Health(Health),
    /// Write the WebAssembly component to a file, alone or with a sink
    Component(Component),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man {
        /// Directory for the pages of the program and of each command
        #[arg(long, short, value_name = "DIRECTORY")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// TOML file with the names of these flags as keys; a flag and its variable override it
    #[arg(long, env = "ALLDATA_PEER_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Check the configuration, the component and the sink, and exit; listens on no address
    #[arg(long)]
    pub(crate) check: bool,
    /// Host name or IP address to listen on [default: any IPv4 address]
    #[arg(long, env = "ALLDATA_PEER_HOSTNAME")]
    pub(crate) hostname: Option<String>,
    /// Port to listen on; with 0 the system chooses a free one
    #[arg(long, env = "ALLDATA_PEER_PORT", default_value_t = DEFAULT_PORT)]
    pub(crate) port: u16,
    /// Address to listen on instead of --hostname and --port: HOST:PORT (IPv6 in brackets), unix:PATH
    /// or unix:PATH|MODE (0600 by default). May be repeated; the variable has them separated by commas
    #[arg(
        long,
        env = "ALLDATA_PEER_LISTEN",
        value_name = "ADDRESS",
        value_delimiter = ',',
        conflicts_with_all = ["hostname", "port"]
    )]
    pub(crate) listen: Vec<ListenAddress>,
    /// Where events go: sqlite:PATH, nats://HOST:PORT,…/STREAM, memory:, ndjson:PATH, ndjson:-
    /// (standard output), http(s)://HOST:PORT/PATH or discard: [default: sqlite:alldata.db]
    // The value may contain a password.
    #[arg(
        long,
        env = "ALLDATA_PEER_SINK",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) sink: Option<String>,
    /// Check the structure of the whole store at the start; takes some seconds per GB
    #[arg(long, env = "ALLDATA_PEER_VERIFY_STORE", value_parser = BoolishValueParser::new())]
    pub(crate) verify_store: bool,
    /// Address and port to listen on for operators: a page, /metrics, /readyz, /livez. One that is not a
    /// loopback address needs --token-file or --tls-client-ca [default: none]
    #[cfg(feature = "admin")]
    #[arg(long, env = "ALLDATA_PEER_ADMIN_LISTEN", value_name = "ADDR:PORT")]
    pub(crate) admin_listen: Option<SocketAddr>,
    /// Show the beginning of the last events on the page for operators, not only their keys and sizes
    #[cfg(feature = "admin")]
    #[arg(long, env = "ALLDATA_PEER_ADMIN_SHOW_EVENTS", value_parser = BoolishValueParser::new())]
    pub(crate) admin_show_events: bool,
    /// File to append a line of JSON to for each request, or - for standard output; reopened on SIGHUP
    /// [default: none]
    #[arg(long, env = "ALLDATA_PEER_ACCESS_LOG", value_name = "FILE")]
    pub(crate) access_log: Option<PathBuf>,
    /// WebAssembly component to run instead of the built-in one
    #[arg(long, env = "ALLDATA_PEER_COMPONENT", value_name = "FILE")]
    pub(crate) component: Option<PathBuf>,
    /// Directory for compiled components, which the next start loads; no other user may write to it
    #[arg(long, env = "ALLDATA_PEER_COMPILE_CACHE", value_name = "DIRECTORY")]
    pub(crate) compile_cache: Option<PathBuf>,
    /// Environment variable for --component; without a value, that of this program
    #[arg(long, value_name = "NAME[=VALUE]", requires = "component", value_parser = parse_variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Directory that --component may read and write; NAME is its name in the component
    #[arg(long, value_name = "PATH[::NAME]", requires = "component", value_parser = parse_directory)]
    pub(crate) dir: Vec<(PathBuf, String)>,
    #[command(flatten)]
    pub(crate) access: Access,
    #[command(flatten)]
    pub(crate) proxies: Proxies,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// The limits that differ from their defaults, for the log
    #[arg(skip)]
    pub(crate) changed_limits: String,
    /// The configuration file, if it has a password and other users can read it
    #[arg(skip)]
    pub(crate) exposed_file: Option<PathBuf>,
}

/// The store of a command; a server may use it at the same time.
#[derive(Debug, Args)]
pub(crate) struct Store {
    /// The store: sqlite:PATH or nats://HOST:PORT,…/STREAM
    // The value may contain a password.
    #[arg(
        long = "store",
        env = "ALLDATA_PEER_STORE",
        hide_env_values = true,
        value_name = "URL",
        default_value = "sqlite:alldata.db"
    )]
    pub(crate) url: String,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The key
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) store: Store,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// First key to write
    #[arg(long, value_name = "KEY")]
    pub(crate) from: Option<String>,
    /// Last key to write
    #[arg(long, value_name = "KEY")]
    pub(crate) to: Option<String>,
    /// File to write [default: standard output]
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "-",
        hide_default_value = true
    )]
    pub(crate) output: PathBuf,
    /// With nats:, also read all messages of each replica and compare them, not only their numbers
    #[arg(long)]
    pub(crate) all_replicas: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// File to read, or - for standard input
    #[arg(value_name = "FILE")]
    pub(crate) input: PathBuf,
    #[command(flatten)]
    pub(crate) store: Store,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// With nats:, also read all messages of each replica and compare them, not only their numbers
    #[arg(long)]
    pub(crate) all_replicas: bool,
    #[command(flatten)]
    pub(crate) store: Store,
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The key
    pub(crate) key: String,
    /// The event as JSON text, or - to read it from standard input
    pub(crate) event: String,
    /// The peer
    // The value may contain a password.
    #[arg(
        long,
        env = "ALLDATA_PEER_TO",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://localhost:8080/_put"
    )]
    pub(crate) to: String,
    /// How long to wait for the response of the peer
    #[arg(
        long,
        env = "ALLDATA_PEER_PUT_TIMEOUT",
        value_name = "TIME",
        default_value_t = Timeout(DEFAULT_PUT_TIMEOUT),
        value_parser = units::timeout()
    )]
    pub(crate) timeout: Timeout,
}

#[derive(Debug, Args)]
pub(crate) struct Health {
    /// The URL of /readyz or /livez at --admin-listen, as http://127.0.0.1:9090/readyz
    // The value may contain a password.
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// How long to wait for the response
    #[arg(
        long,
        value_name = "TIME",
        default_value_t = Timeout(DEFAULT_HEALTH_TIMEOUT),
        value_parser = units::timeout()
    )]
    pub(crate) timeout: Timeout,
}

#[derive(Debug, Args)]
pub(crate) struct Component {
    /// Version of WASI that the component is made for; only some sinks are there for 0.3
    #[arg(long, value_name = "VERSION", default_value = "0.2")]
    pub(crate) wasi: Wasi,
    /// Compose the component with this sink, so that it no longer imports `put-sink`
    #[arg(long, value_name = "NAME")]
    pub(crate) sink: Option<BuiltInSink>,
    /// Compose the component with the one in this file, which exports `put-sink`
    #[arg(long, value_name = "FILE", conflicts_with = "sink")]
    pub(crate) plug: Option<PathBuf>,
    /// File to write, or - for standard output
    #[arg(long, short, value_name = "FILE", required_unless_present_any = ["digest", "precompile", "wit"])]
    pub(crate) output: Option<PathBuf>,
    /// Compile the component for this machine into a directory, the --compile-cache of `serve`, so that a
    /// server starts without compiling
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "wit")]
    pub(crate) precompile: Option<PathBuf>,
    /// Component to compile instead of the one that would be written
    #[arg(value_name = "FILE", requires = "precompile", conflicts_with_all = ["sink", "plug", "output"])]
    pub(crate) file: Option<PathBuf>,
    /// Print the WIT for authors of sinks
    #[arg(long, conflicts_with_all = ["sink", "plug", "output"])]
    pub(crate) wit: bool,
    /// Print the SHA-256 digests of the component, alone and with each sink, as `sha256sum --check` reads them
    #[arg(long, conflicts_with_all = ["sink", "plug", "output", "precompile", "wit"])]
    pub(crate) digest: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wasi {
    /// WASI 0.2, which all platforms have
    #[value(name = "0.2")]
    V0_2,
    /// WASI 0.3, with which one instance can serve several requests at a time
    #[value(name = "0.3")]
    V0_3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BuiltInSink {
    /// Forwards puts to other peers
    Forward,
    /// Stores each event in a file of a directory
    Directory,
    /// Stores events in a key-value store of Spin
    KeyvalueSpin,
    /// Stores events in a key-value store of wasmCloud
    KeyvalueWasmcloud,
}

/// A variable for a component: its name and its value.
fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => {
            let value = std::env::var(text);
            let value = value.map_err(|error| {
                format!("it has no value, and this program has none for it: {error}")
            })?;
            (text, value)
        }
    };
    match name {
        "" => Err("the name is missing".to_owned()),
        name => Ok((name.to_owned(), value)),
    }
}

/// A directory for a component, and its name there.
fn parse_directory(text: &str) -> Result<(PathBuf, String), String> {
    let (path, name) = text.split_once("::").unwrap_or((text, text));
    if path.is_empty() || name.is_empty() {
        return Err("a directory is PATH or PATH::NAME".to_owned());
    }
    Ok((PathBuf::from(path), name.to_owned()))
}
