//! Finds the root of the store among the directories that the platform has opened.
//!
//! Never creates it: a misspelled name is an error, not a second store.

use alloc::format;

use alldata_peer_sink_common::env;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};

use crate::store::PutFailure;

const VARIABLE: &str = "ALLDATA_PEER_DIRECTORY";

/// Opens the root of the store.
pub(crate) fn open_root() -> Result<Descriptor, PutFailure> {
    let path = env::read(VARIABLE).ok_or_else(|| {
        PutFailure::Broken(format!(
            "{VARIABLE} is not set: it names the directory to keep events in"
        ))
    })?;
    let opened = get_directories().into_iter().filter_map(|(root, name)| {
        let below = below(&name, &path)?;
        Some((name.len(), root, below))
    });
    // The longest name is the closest directory.
    let (_, root, below) = opened.max_by_key(|(length, ..)| *length).ok_or_else(|| {
        PutFailure::Broken(format!(
            "{VARIABLE} is {path:?}, which is in no directory that the platform has opened"
        ))
    })?;
    // Also where it is the opened directory itself: not every platform syncs that.
    let opened = root.open_at(
        PathFlags::SYMLINK_FOLLOW,
        below,
        OpenFlags::DIRECTORY,
        DescriptorFlags::READ,
    );
    opened.map_err(|error| PutFailure::broken("open", &path, error))
}

/// The path of `path` below the directory `root`, `.` where they are the same.
fn below<'a>(root: &str, path: &'a str) -> Option<&'a str> {
    let (root, path) = (trim(root), trim(path));
    let rest = match root {
        _ if root == path => ".",
        // The root of everything, and the working directory.
        "" => path.strip_prefix('/')?,
        "." if path.starts_with('/') => return None,
        "." => path,
        _ => path.strip_prefix(root)?.strip_prefix('/')?,
    };
    Some(rest)
}

/// A path without the parts that do not change it.
fn trim(path: &str) -> &str {
    let path = path.strip_prefix("./").unwrap_or(path);
    path.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn path_is_found_below_its_directory() {
        for (root, path, rest) in [
            ("/events", "/events", Some(".")),
            ("/events/", "/events", Some(".")),
            ("/events", "/events/", Some(".")),
            ("/events", "/events/a/b", Some("a/b")),
            ("events", "events", Some(".")),
            ("events", "./events/a", Some("a")),
            ("/", "/events", Some("events")),
            ("/", "/", Some(".")),
            (".", "events/a", Some("events/a")),
            (".", ".", Some(".")),
            ("/events", "/events2", None),
            ("/events", "events", None),
            ("/events/a", "/events", None),
            (".", "/events", None),
            ("/", "events", None),
        ] {
            assert_eq!(below(root, path), rest, "{root} {path}");
        }
    }
}
