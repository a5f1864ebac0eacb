//! The environment variables of flags: which of them apply, and which are ignored or unknown.
//!
//! Their values are not logged, since they may be secrets.

use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::{Arg, Command};

/// The prefix of all variables of this program.
const PREFIX: &str = "ALLDATA_PEER_";

/// Kubernetes sets variables for each Service. For a Service `alldata-peer`, `ALLDATA_PEER_PORT` is a URL,
/// while the flag has a number. These are the suffix of such names, and the prefixes of such URLs.
const PORT: &str = "_PORT";
const URLS: [&str; 3] = ["tcp://", "udp://", "sctp://"];

/// Other names of these variables: they end with one of these suffixes; or have the name of a port after
/// this infix; or have a number, a protocol and one of these suffixes after this one.
const SERVICE_ENDS: [&str; 2] = ["_SERVICE_HOST", "_SERVICE_PORT"];
const NAMED_PORT: &str = "_SERVICE_PORT_";
const NUMBERED_PORT: &str = "_PORT_";
const PROTOCOLS: [&str; 3] = ["_TCP", "_UDP", "_SCTP"];
const PROTOCOL_ENDS: [&str; 4] = ["", "_PROTO", "_PORT", "_ADDR"];

/// The variables of sink components, which the host passes on with `--env`.
const COMPONENT_VARIABLES: [&str; 5] = [
    "ALLDATA_PEER_DIRECTORY",
    "ALLDATA_PEER_FORWARD_URL",
    "ALLDATA_PEER_FORWARD_TIMEOUT_MS",
    "ALLDATA_PEER_FORWARD_TOKEN",
    "ALLDATA_PEER_KEYVALUE_BUCKET",
];

/// The variables that are ignored, to be logged once the log is started.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct IgnoredVariables {
    /// Variables that Kubernetes sets for a Service with the name of this program.
    service_links: BTreeSet<String>,
    unknown: BTreeSet<String>,
}

/// Ignores the variable of a flag if it is empty, or set by Kubernetes for a Service.
pub(crate) fn prepare(command: Command) -> Command {
    command
        .mut_args(|flag| match flag.get_env() {
            Some(name) if is_ignored(name) => flag.env(Resettable::Reset),
            _ => flag,
        })
        .mut_subcommands(prepare)
}

impl IgnoredVariables {
    /// Finds the ignored variables, given the flags of `command`.
    pub(crate) fn find(command: &Command) -> Self {
        let mut known = BTreeSet::new();
        add_variables(command, &mut known);
        known.extend(COMPONENT_VARIABLES.map(OsString::from));
        let mut ignored = Self::default();
        for (name, value) in env::vars_os() {
            let text = name.to_string_lossy().into_owned();
            if !text.starts_with(PREFIX) || value.is_empty() {
                continue;
            }
            if is_service_link(&text, &value) {
                ignored.service_links.insert(text);
            } else if !known.contains(&name) {
                ignored.unknown.insert(text);
            }
        }
        ignored
    }

    /// Logs the names of the variables.
    pub(crate) fn log(&self, is_server: bool) {
        let names = |names: &BTreeSet<String>| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            names.join(", ").escape_debug().to_string()
        };
        if is_server && !self.service_links.is_empty() {
            tracing::info!(
                "ignored, since Kubernetes sets them for a Service (enableServiceLinks): {}",
                names(&self.service_links)
            );
        }
        if !self.unknown.is_empty() {
            tracing::warn!(
                "unknown environment variables, which have no effect: {}",
                names(&self.unknown)
            );
        }
    }
}

fn is_ignored(name: &OsStr) -> bool {
    let is_ignored =
        |value: OsString| value.is_empty() || is_service_link(&name.to_string_lossy(), &value);
    env::var_os(name).is_some_and(is_ignored)
}

/// Whether Kubernetes sets this variable for a Service whose name starts like this program.
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let is_url = |start: &str| value.as_encoded_bytes().starts_with(start.as_bytes());
    name.ends_with(PORT) && URLS.iter().any(|start| is_url(start))
        || SERVICE_ENDS.iter().any(|end| name.ends_with(end))
        || name.contains(NAMED_PORT)
        || name
            .split(NUMBERED_PORT)
            .skip(1)
            .any(is_number_and_protocol)
}

/// Whether a text has a form such as `8080_TCP` or `8080_TCP_ADDR`.
fn is_number_and_protocol(text: &str) -> bool {
    let rest = text.trim_start_matches(|char: char| char.is_ascii_digit());
    let mut protocols = PROTOCOLS.iter();
    let is_protocol = protocols.any(|protocol| {
        let end = rest.strip_prefix(protocol);
        end.is_some_and(|end| PROTOCOL_ENDS.contains(&end))
    });
    rest.len() < text.len() && is_protocol
}

fn add_variables(command: &Command, known: &mut BTreeSet<OsString>) {
    known.extend(
        command
            .get_arguments()
            .filter_map(Arg::get_env)
            .map(OsStr::to_owned),
    );
    for command in command.get_subcommands() {
        add_variables(command, known);
    }
}
