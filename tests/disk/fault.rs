//! Faults: which operations fail, on which files, how often, and with which error. Their effect on a file is in
//! `content`.

use std::ffi::c_int;

use fastrand::Rng;
use rusqlite::ffi;

/// The operations that fail for a while.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) operations: &'static [Operation],
    /// The files: all if empty.
    pub(crate) roles: &'static [Role],
    /// One in this many operations fails.
    pub(crate) one_in: u32,
    /// The number of failures after which operations succeed again.
    pub(crate) times: u64,
}

/// An operation of SQLite on a file.
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

/// The role of a file for SQLite.
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

impl Fault {
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
    /// The error that SQLite gets.
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
