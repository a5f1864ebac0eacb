//! The command line: what can be said, and what it means when nothing is said.

use std::path::PathBuf;
use std::time::Duration;

use alldata_peer_server_http::DEFAULT_PORT;
use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::limits::Limits;
use crate::units::{self, Timeout};

/// How long `put` waits for a peer: longer than that waits for its own sink unless told otherwise.
const DEFAULT_ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// An AllData peer server: takes events over HTTP and keeps them.
#[derive(Debug, Parser)]
#[command(name = "alldata-peer", version)]
pub(crate) struct Arguments {
    /// How the log on standard error is written. RUST_LOG says how much of it
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
    /// Lines for people
    Text,
    /// A JSON object a line
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take events over HTTP until SIGINT or SIGTERM
    Serve(Box<Serve>),
    /// Print the event under a key
    Get(Get),
    /// Write events as lines of JSON, in the order of their keys; those of nats: as they were put
    Export(Export),
    /// Put lines of JSON into a store
    Import(Import),
    /// Check every event of a store against its digest
    Verify(Verify),
    /// Put one event to a peer
    Put(Put),
    /// Write the WebAssembly component to a file, alone or with a sink
    Component(Component),
    /// Print the script that completes commands and flags in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man {
        /// Directory to write the page of the program and that of each command to, as files
        #[arg(long, short, value_name = "DIRECTORY")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Host name or IP address to listen on [default: any IPv4 address]
    #[arg(long, env = "ALLDATA_PEER_HOSTNAME")]
    pub(crate) hostname: Option<String>,
    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "ALLDATA_PEER_PORT", default_value_t = DEFAULT_PORT)]
    pub(crate) port: u16,
    /// Where events go: sqlite:PATH, nats://HOST:PORT,…/STREAM, memory:, ndjson:PATH, ndjson:-
    /// (standard output), http://HOST:PORT/PATH or discard: [default: sqlite:alldata.db]
    // The value may have a password in it.
    #[arg(
        long,
        env = "ALLDATA_PEER_SINK",
        hide_env_values = true,
        value_name = "URL"
    )]
    pub(crate) sink: Option<String>,
    /// Check the structure of the whole store before it is served; takes some seconds for each GB
    #[arg(long, env = "ALLDATA_PEER_VERIFY_STORE", value_parser = BoolishValueParser::new())]
    pub(crate) verify_store: bool,
    /// WebAssembly component to run in place of the built-in one
    #[arg(long, env = "ALLDATA_PEER_COMPONENT", value_name = "FILE")]
    pub(crate) component: Option<PathBuf>,
    /// Directory that keeps compiled components for the next start; nobody else may write to it
    #[arg(long, env = "ALLDATA_PEER_COMPILE_CACHE", value_name = "DIRECTORY")]
    pub(crate) compile_cache: Option<PathBuf>,
    /// Variable that --component finds in its environment; without a value, that of this program
    #[arg(long, value_name = "NAME[=VALUE]", requires = "component", value_parser = parse_variable)]
    pub(crate) env: Vec<(String, String)>,
    /// Directory that --component may read and write, and its name there if it is another
    #[arg(long, value_name = "PATH[::NAME]", requires = "component", value_parser = parse_directory)]
    pub(crate) dir: Vec<(PathBuf, String)>,
    #[command(flatten)]
    pub(crate) limits: Limits,
    /// The limits whose values are not the defaults, for the log
    #[arg(skip)]
    pub(crate) changed_limits: String,
}

/// The store that a command works on, which a server may be using meanwhile.
#[derive(Debug, Args)]
pub(crate) struct Store {
    /// The store: sqlite:PATH or nats://HOST:PORT,…/STREAM
    // The value may have a password in it.
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
    /// With nats:, also read what each replica has, and compare all of it, not only how many messages
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
    /// With nats:, also read what each replica has, and compare all of it, not only how many messages
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
    // The value may have a password in it.
    #[arg(
        long,
        env = "ALLDATA_PEER_TO",
        hide_env_values = true,
        value_name = "URL",
        default_value = "http://localhost:8080/_put"
    )]
    pub(crate) to: String,
    /// How long to wait for the peer's answer
    #[arg(
        long,
        env = "ALLDATA_PEER_PUT_TIMEOUT",
        value_name = "TIME",
        default_value_t = Timeout(DEFAULT_ANSWER_TIMEOUT),
        value_parser = units::timeout()
    )]
    pub(crate) timeout: Timeout,
}

#[derive(Debug, Args)]
pub(crate) struct Component {
    /// Compose it with this sink, so that it needs no `put-sink` any more
    #[arg(long, value_name = "NAME")]
    pub(crate) sink: Option<BuiltInSink>,
    /// Compose it with the component in this file, which exports `put-sink`
    #[arg(long, value_name = "FILE", conflicts_with = "sink")]
    pub(crate) plug: Option<PathBuf>,
    /// File to write, or - for standard output
    #[arg(long, short, value_name = "FILE", required_unless_present_any = ["wit", "precompile"])]
    pub(crate) output: Option<PathBuf>,
    /// Compile it for this machine into a directory, the --compile-cache of `serve`, so that a
    /// server starts without compiling
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "wit")]
    pub(crate) precompile: Option<PathBuf>,
    /// Component to compile in place of the one that would be written
    #[arg(value_name = "FILE", requires = "precompile", conflicts_with_all = ["sink", "plug", "output"])]
    pub(crate) file: Option<PathBuf>,
    /// Print the WIT for those who write a sink
    #[arg(long, conflicts_with_all = ["sink", "plug", "output"])]
    pub(crate) wit: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BuiltInSink {
    /// Puts to other peers
    Forward,
    /// Keeps each event in a file of a directory
    Directory,
    /// Keeps events in a key-value store of Spin
    KeyvalueSpin,
    /// Keeps events in a key-value store of wasmCloud
    KeyvalueWasmcloud,
}

/// A variable for a component: its name and its value.
fn parse_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => {
            let value = std::env::var(text);
            let value = value.map_err(|error| format!("no value is given, and here: {error}"))?;
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
    match path.is_empty() || name.is_empty() {
        true => Err("a directory is PATH or PATH::NAME".to_owned()),
        false => Ok((PathBuf::from(path), name.to_owned())),
    }
}
