//! The first line of the log of `serve`: version, store, component, addresses and the limits that differ
//! from their defaults.

use std::ffi::OsStr;
use std::fs;
use std::path;

use alldata_peer_server_http::{BUILT_IN_COMPONENT, PeerServer, sinks};
use clap::{ArgMatches, Command};

use crate::arguments::Serve;
use crate::{limits, units};

/// Logs the configuration of `server`. `sink` is its URL, if it has one.
pub(crate) fn log(server: &PeerServer, arguments: &Serve, sink: Option<&str>) {
    let (component, bytes) = component(arguments);
    let sink = sink.map(sinks::describe_url);
    let addresses: Vec<String> = server
        .listen_addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    if let Some(file) = &arguments.exposed_file {
        tracing::warn!(
            "the configuration file {} has a password, and other users can read it: chmod o-r, or set \
             ALLDATA_PEER_SINK instead",
            file.display()
        );
    }
    let config = arguments.config.as_ref();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        sink = sink.as_deref().unwrap_or("that of the component"),
        component,
        component_bytes = bytes,
        addresses = addresses.join(", "),
        limits = arguments.changed_limits,
        config = config.map(|file| file.display().to_string()),
        "serving"
    );
}

/// The component, and its size if it is known.
fn component(arguments: &Serve) -> (String, Option<u64>) {
    let Some(file) = &arguments.component else {
        return ("built-in".to_owned(), Some(BUILT_IN_COMPONENT.len() as u64));
    };
    let bytes = fs::metadata(file).map(|file| file.len()).ok();
    let file = path::absolute(file).unwrap_or_else(|_| file.clone());
    (file.display().to_string(), bytes)
}

/// The limits that differ from their defaults, in the form of command-line flags.
pub(crate) fn changed_limits(command: &Command, matches: &ArgMatches) -> String {
    let Some((name, matches)) = matches.subcommand() else {
        return String::new();
    };
    let command = command.find_subcommand(name);
    let limits = command
        .into_iter()
        .flat_map(Command::get_arguments)
        .filter(|argument| argument.get_help_heading() == Some(limits::HEADING));
    let changed = limits.filter_map(|limit| {
        let value = matches.get_raw(limit.get_id().as_str())?.next_back()?;
        let default = limit.get_default_values().first();
        let names = limit.get_value_names().unwrap_or_default();
        let is_time = names.iter().any(|name| name == units::TIME);
        let is_default = |default: &OsStr| {
            let (default, value) = (default.to_string_lossy(), value.to_string_lossy());
            units::are_same(&default, &value, is_time)
        };
        let is_changed = default.is_none_or(|default| !is_default(default));
        is_changed.then(|| Some(format!("--{}={}", limit.get_long()?, value.display())))?
    });
    let changed: Vec<String> = changed.collect();
    if changed.is_empty() {
        "defaults".to_owned()
    } else {
        changed.join(" ")
    }
}
