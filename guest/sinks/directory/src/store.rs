//! A write-once store of files: never overwrites and never deletes an event.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use alldata_peer_sink_common::compare::{is_same, max_bytes};
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags};
use wasip2::random::random::get_random_u64;

use crate::event_path::EventPath;

/// The directory where files are written before they are linked to their paths.
const TEMPORARIES: &str = "tmp";

/// The bytes of a file that are read or written at once: platforms have buffers for these.
const CHUNK_BYTES: usize = 64 * 1024;

/// How many names to try for a temporary: one is enough where random numbers are.
const MAX_NAME_TRIES: usize = 8;

/// Why an event was not acknowledged.
pub(crate) enum PutFailure {
    /// The key holds a different event.
    Conflict,
    /// The disk is full.
    Full(String),
    /// The event is stored, but may not survive a loss of power.
    NotSynced(String),
    /// Anything else.
    Broken(String),
}

impl PutFailure {
    /// The failure of an operation on a path.
    pub(crate) fn broken(operation: &str, path: &str, error: ErrorCode) -> Self {
        let reason = format!("cannot {operation} {path:?}: {}", error.name());
        match error {
            ErrorCode::InsufficientSpace | ErrorCode::Quota => Self::Full(reason),
            _ => Self::Broken(reason),
        }
    }
}

/// Stores `event` at `path`, unless an event is there.
pub(crate) fn put(root: &Descriptor, path: &EventPath, event: &str) -> Result<(), PutFailure> {
    let directories = enter(root, &path.directories)?;
    let directory = directories.last().unwrap_or(root);
    let put = match holds(directory, &path.file, event) {
        Ok(false) => add(root, directory, &path.file, event),
        held => held.map(|_| ()),
    };
    if !matches!(put, Ok(()) | Err(PutFailure::Conflict)) {
        return put;
    }
    // Also where an event was there before, the same or not: the put that stored it may not have synced
    // yet, and this response must hold after a loss of power.
    for directory in directories.iter().rev().chain([root]) {
        directory.sync().map_err(|error| {
            PutFailure::NotSynced(format!("cannot sync a directory: {}", error.name()))
        })?;
    }
    put
}

/// Opens nested directories, and creates those that are missing.
fn enter(root: &Descriptor, names: &[String]) -> Result<Vec<Descriptor>, PutFailure> {
    let mut directories: Vec<Descriptor> = Vec::with_capacity(names.len());
    for name in names {
        let parent = directories.last().unwrap_or(root);
        let directory = match open_directory(parent, name) {
            Err(ErrorCode::NoEntry) => {
                let created = create_directory(parent, name);
                created.map_err(|error| PutFailure::broken("create", name, error))?;
                open_directory(parent, name)
            }
            opened => opened,
        };
        directories.push(directory.map_err(|error| PutFailure::broken("open", name, error))?);
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

/// Creates a directory, unless another put has just created it.
fn create_directory(parent: &Descriptor, name: &str) -> Result<(), ErrorCode> {
    match parent.create_directory_at(name) {
        Err(ErrorCode::Exist) => Ok(()),
        created => created,
    }
}

/// Whether a file holds the same event; a different one is a conflict.
fn holds(directory: &Descriptor, name: &str, event: &str) -> Result<bool, PutFailure> {
    let opened = directory.open_at(
        PathFlags::empty(),
        name,
        OpenFlags::empty(),
        DescriptorFlags::READ,
    );
    let file = match opened {
        Ok(file) => file,
        Err(ErrorCode::NoEntry) => return Ok(false),
        Err(error) => return Err(PutFailure::broken("open", name, error)),
    };
    let held =
        read(&file, max_bytes(event)).map_err(|error| PutFailure::broken("read", name, error))?;
    match is_same(&held, event) {
        true => Ok(true),
        false => Err(PutFailure::Conflict),
    }
}

/// Adds a file with `event`: written and synced under a temporary name, then linked to its own, unless
/// another put was first.
fn add(
    root: &Descriptor,
    directory: &Descriptor,
    name: &str,
    event: &str,
) -> Result<(), PutFailure> {
    let broken = |operation| move |error| PutFailure::broken(operation, TEMPORARIES, error);
    create_directory(root, TEMPORARIES).map_err(broken("create"))?;
    let temporaries = open_directory(root, TEMPORARIES).map_err(broken("open"))?;
    let (file, temporary) = create_temporary(&temporaries).map_err(broken("create a file in"))?;
    let written = write(&file, event.as_bytes()).map_err(broken("write a file in"));
    let linked = written.and_then(|()| {
        let flags = PathFlags::empty();
        match temporaries.link_at(flags, &temporary, directory, name) {
            Ok(()) => Ok(true),
            Err(ErrorCode::Exist) => holds(directory, name, event),
            Err(error) => Err(PutFailure::broken("link", name, error)),
        }
    });
    // One that stays does no harm.
    let _ = temporaries.unlink_file_at(&temporary);
    match linked? {
        true => Ok(()),
        false => Err(PutFailure::Broken(format!("{name:?} is there, and is not"))),
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
