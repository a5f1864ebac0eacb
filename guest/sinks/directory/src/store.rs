//! A write-once store of files.
//!
//! Never overwrites and never deletes an event. Knows nothing of names for keys, nor of the
//! interface that events come through.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use alldata_peer_sink_common::held::{is_same, max_bytes};
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip2::random::random::get_random_u64;

use crate::place::Place;

/// Where files are written before they are linked to their places.
const TEMPORARIES: &str = "tmp";

/// How much of a file is read or written at once, in bytes: what platforms have room for.
const CHUNK_BYTES: usize = 64 * 1024;

/// How many names to try for a temporary: one is enough where random numbers are.
const MAX_NAME_TRIES: usize = 8;

/// Why an event was not acknowledged.
pub(crate) enum Failure {
    /// The key holds a different event.
    Conflict,
    /// There is no room for the event.
    Full(String),
    /// The event is there, but may not outlast a loss of power.
    NotSynced(String),
    /// Anything else.
    Broken(String),
}

impl Failure {
    /// What was tried, on what, and what became of it.
    pub(crate) fn broken(operation: &str, path: &str, error: ErrorCode) -> Self {
        let reason = format!("cannot {operation} {path:?}: {}", error.name());
        match error {
            ErrorCode::InsufficientSpace | ErrorCode::Quota => Self::Full(reason),
            _ => Self::Broken(reason),
        }
    }
}

/// Stores `event` at `place`, unless an event is there.
pub(crate) fn put(root: &Descriptor, place: &Place, event: &str) -> Result<(), Failure> {
    let directories = enter(root, &place.directories)?;
    let directory = directories.last().unwrap_or(root);
    let put = match is_held(directory, &place.file, event) {
        Ok(false) => add(root, directory, &place.file, event),
        held => held.map(|_| ()),
    };
    if !matches!(put, Ok(()) | Err(Failure::Conflict)) {
        return put;
    }
    // Also where an event was there before, the same or not: whoever put it may not have come so
    // far, and what a client is told must not be undone.
    for directory in directories.iter().rev().chain([root]) {
        directory.sync().map_err(|error| {
            Failure::NotSynced(format!("cannot sync a directory: {}", error.name()))
        })?;
    }
    put
}

/// Opens nested directories, and creates those that are missing.
fn enter(root: &Descriptor, names: &[String]) -> Result<Vec<Descriptor>, Failure> {
    let mut directories: Vec<Descriptor> = Vec::with_capacity(names.len());
    for name in names {
        let parent = directories.last().unwrap_or(root);
        let directory = match open_directory(parent, name) {
            Err(ErrorCode::NoEntry) => {
                let created = create_directory(parent, name);
                created.map_err(|error| Failure::broken("create", name, error))?;
                open_directory(parent, name)
            }
            opened => opened,
        };
        directories.push(directory.map_err(|error| Failure::broken("open", name, error))?);
    }
    Ok(directories)
}

fn open_directory(parent: &Descriptor, name: &str) -> Result<Descriptor, ErrorCode> {
    parent.open_at(
        PathFlags::empty(),
        name,
        OpenFlags::DIRECTORY,
        DescriptorFlags::READ,
    )
}

/// Creates a directory, unless somebody else just did.
fn create_directory(parent: &Descriptor, name: &str) -> Result<(), ErrorCode> {
    match parent.create_directory_at(name) {
        Err(ErrorCode::Exist) => Ok(()),
        created => created,
    }
}

/// Whether a file holds the same event; a different one is a conflict.
fn is_held(directory: &Descriptor, name: &str, event: &str) -> Result<bool, Failure> {
    let opened = directory.open_at(
        PathFlags::empty(),
        name,
        OpenFlags::empty(),
        DescriptorFlags::READ,
    );
    let file = match opened {
        Ok(file) => file,
        Err(ErrorCode::NoEntry) => return Ok(false),
        Err(error) => return Err(Failure::broken("open", name, error)),
    };
    let held =
        read(&file, max_bytes(event)).map_err(|error| Failure::broken("read", name, error))?;
    match is_same(&held, event) {
        true => Ok(true),
        false => Err(Failure::Conflict),
    }
}

/// Adds a file that holds `event`: first under a name of its own, then, whole and synced, under
/// its place's, where it may meet one that came first.
fn add(root: &Descriptor, directory: &Descriptor, name: &str, event: &str) -> Result<(), Failure> {
    let broken = |operation| move |error| Failure::broken(operation, TEMPORARIES, error);
    create_directory(root, TEMPORARIES).map_err(broken("create"))?;
    let temporaries = open_directory(root, TEMPORARIES).map_err(broken("open"))?;
    let (file, temporary) = create_temporary(&temporaries).map_err(broken("create a file in"))?;
    let written = write(&file, event.as_bytes()).map_err(broken("write a file in"));
    let linked = written.and_then(|()| {
        let flags = PathFlags::empty();
        match temporaries.link_at(flags, &temporary, directory, name) {
            Ok(()) => Ok(true),
            Err(ErrorCode::Exist) => is_held(directory, name, event),
            Err(error) => Err(Failure::broken("link", name, error)),
        }
    });
    // One that stays is in nobody's way.
    let _ = temporaries.unlink_file_at(&temporary);
    match linked? {
        true => Ok(()),
        false => Err(Failure::Broken(format!("{name:?} is there, and is not"))),
    }
}

/// A new file, and its name.
fn create_temporary(temporaries: &Descriptor) -> Result<(Descriptor, String), ErrorCode> {
    for _ in 0..MAX_NAME_TRIES {
        let name = format!("{:016x}", get_random_u64());
        let created = temporaries.open_at(
            PathFlags::empty(),
            &name,
            OpenFlags::CREATE | OpenFlags::EXCLUSIVE,
            DescriptorFlags::WRITE,
        );
        match created {
            Err(ErrorCode::Exist) => {}
            created => return Ok((created?, name)),
        }
    }
    Err(ErrorCode::Exist)
}

/// Writes a file to the disk.
fn write(file: &Descriptor, bytes: &[u8]) -> Result<(), ErrorCode> {
    let mut written = 0;
    while written < bytes.len() {
        let end = bytes.len().min(written + CHUNK_BYTES);
        match file.write(&bytes[written..end], written as u64)? {
            0 => return Err(ErrorCode::Io),
            // No more than was given.
            more => written += more as usize,
        }
    }
    file.sync()
}

/// The whole file, or more than `max_bytes` of one that is longer.
fn read(file: &Descriptor, max_bytes: usize) -> Result<Vec<u8>, ErrorCode> {
    let mut bytes = Vec::new();
    while bytes.len() <= max_bytes {
        let (chunk, is_end) = file.read(CHUNK_BYTES as u64, bytes.len() as u64)?;
        bytes.extend_from_slice(&chunk);
        if is_end || chunk.is_empty() {
            break;
        }
    }
    Ok(bytes)
}
