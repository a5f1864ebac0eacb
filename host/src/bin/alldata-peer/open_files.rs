//! Room for connections within the limit of open files of the process.
//!
//! Never takes more than the system's administrator allows.

/// How many files are left for all but connections: the store with its log, the standard streams, the
/// runtime. Without them a crowd of clients could keep the store from working.
#[cfg(unix)]
const OTHER_FILES: u32 = 64;

/// Asks the system for as many files as may be had, and returns how many connections there is room
/// for, up to `connections`.
#[cfg(unix)]
pub(crate) fn make_room(connections: u32) -> u32 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::info!(%error, "the limit of open files stays as it is");
            current
        }
    };
    let files = files.map_or(u32::MAX, |files| u32::try_from(files).unwrap_or(u32::MAX));
    let room = connections.min(files.saturating_sub(OTHER_FILES)).max(1);
    if room < connections {
        tracing::warn!(
            files,
            connections = room,
            "fewer connections at a time than asked for: the limit of open files is too low"
        );
    }
    room
}

/// Elsewhere nobody counts.
#[cfg(not(unix))]
pub(crate) fn make_room(connections: u32) -> u32 {
    connections
}
