//! What fails: which operations, on which files, how often, and with which error.
//!
//! Never knows what became of a file by that.

use std::ffi::c_int;

use fastrand::Rng;
use rusqlite::ffi;

/// What fails, now and then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trouble {
    pub(crate) operations: &'static [Operation],
    /// On which files: all where there are none.
    pub(crate) roles: &'static [Role],
    /// One of so many operations fails.
    pub(crate) one_in: u32,
    /// How many fail before there is no trouble any more.
    pub(crate) times: u64,
}

/// What SQLite does to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Access,
    Delete,
    Lock,
    Open,
    Read,
    ShmLock,
    ShmMap,
    Size,
    Sync,
    Truncate,
    Write,
}

/// What a file is to SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Database,
    Journal,
    Log,
}

impl Role {
    pub(crate) fn of(name: &str) -> Self {
        match name {
            _ if name.ends_with("-wal") => Self::Log,
            _ if name.ends_with("-journal") => Self::Journal,
            _ => Self::Database,
        }
    }
}

impl Trouble {
    pub(crate) fn meets(&mut self, operation: Operation, role: Role, random: &mut Rng) -> bool {
        let is_met = self.times > 0
            && self.operations.contains(&operation)
            && (self.roles.is_empty() || self.roles.contains(&role))
            && random.u32(..self.one_in) == 0;
        self.times -= u64::from(is_met);
        is_met
    }
}

impl Operation {
    /// What SQLite is told.
    pub(crate) fn failure(self, random: &mut Rng) -> c_int {
        match self {
            Self::Access => ffi::SQLITE_IOERR_ACCESS,
            Self::Delete => ffi::SQLITE_IOERR_DELETE,
            Self::Lock => ffi::SQLITE_IOERR_LOCK,
            Self::Open => ffi::SQLITE_CANTOPEN,
            Self::Read => ffi::SQLITE_IOERR_READ,
            Self::ShmLock => ffi::SQLITE_IOERR_SHMLOCK,
            Self::ShmMap => ffi::SQLITE_IOERR_SHMMAP,
            Self::Size => ffi::SQLITE_IOERR_FSTAT,
            Self::Sync => ffi::SQLITE_IOERR_FSYNC,
            Self::Truncate => ffi::SQLITE_IOERR_TRUNCATE,
            Self::Write if random.bool() => ffi::SQLITE_FULL,
            Self::Write => ffi::SQLITE_IOERR_WRITE,
        }
    }
}
