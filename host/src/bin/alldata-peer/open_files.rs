//! Raises the limit of open files of the process (`RLIMIT_NOFILE`), and limits the connections by it.

/// How many files are reserved for other uses than connections: the store with its WAL, the standard
/// streams, the runtime. Otherwise many clients could keep the store from working.
#[cfg(unix)]
const OTHER_FILES: u32 = 64;

/// Raises the soft limit to the hard limit, and returns how many connections fit, up to `connections`.
#[cfg(unix)]
pub(crate) fn raise_nofile_limit(connections: u32) -> u32 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::info!(%error, "cannot raise the limit of open files");
            current
        }
    };
    let files = files.map_or(u32::MAX, |files| u32::try_from(files).unwrap_or(u32::MAX));
    let max_connections = connections.min(files.saturating_sub(OTHER_FILES)).max(1);
    if max_connections < connections {
        tracing::warn!(
            files,
            connections = max_connections,
            "fewer connections than configured: the limit of open files is too low"
        );
    }
    max_connections
}

/// Other systems have no such limit.
#[cfg(not(unix))]
pub(crate) fn raise_nofile_limit(connections: u32) -> u32 {
    connections
}
