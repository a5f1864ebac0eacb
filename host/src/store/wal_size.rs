//! The size of a WAL: when it is logged, and from which limit on puts are refused.

use std::time::Duration;

use rusqlite::Connection;

use super::schema::BUSY_TIMEOUT;
use crate::util::log_limiter::LogLimiter;

/// The size in bytes that a WAL keeps where nothing is in it that has still to be moved to the
/// database: twice what it has when nobody reads for long.
pub(super) const KEPT_WAL_BYTES: u64 = 8 * 1024 * 1024;

/// The size in bytes of a WAL that is told, and again whenever it has doubled: more than any load
/// makes without a reader that holds it.
const LOGGED_WAL_BYTES: u64 = 64 * 1024 * 1024;

/// The size in bytes of a WAL beyond which no put is taken, unless another one is set: some minutes
/// of a fast load beside a long reader, and little beside the store of such a load.
pub const DEFAULT_MAX_WAL_BYTES: u64 = 1024 * 1024 * 1024;

/// The least limit that may be set: what a WAL has when nobody reads for long.
pub const MIN_MAX_WAL_BYTES: u64 = 4 * 1024 * 1024;

/// The size in bytes of a WAL's header.
pub(super) const WAL_HEADER_BYTES: usize = 32;

/// The size in bytes of the header of each page in a WAL.
pub(super) const FRAME_HEADER_BYTES: usize = 24;

/// Where a page of a WAL begins, the first of which is 1.
pub(super) fn frame_offset(page: u64, page_bytes: u64) -> u64 {
    WAL_HEADER_BYTES as u64 + page.saturating_sub(1) * (FRAME_HEADER_BYTES as u64 + page_bytes)
}

/// How many pages a WAL has, and how many of them the database has too.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frames {
    pub(super) written: u64,
    pub(super) checkpointed: u64,
}

impl Frames {
    /// Asks SQLite, and with another mode than `NOOP` has it move what it can.
    pub(super) fn after(connection: &Connection, mode: Mode) -> rusqlite::Result<CheckpointResult> {
        let mut checkpoint = connection.prepare_cached(mode.sql())?;
        checkpoint.query_row((), |row| {
            let number = |column| {
                row.get::<_, i64>(column)
                    .map(|number| number.max(0).unsigned_abs())
            };
            Ok(CheckpointResult {
                is_busy: row.get::<_, i64>(0)? != 0,
                is_known: row.get::<_, i64>(1)? >= 0,
                frames: Self {
                    written: number(1)?,
                    checkpointed: number(2)?,
                },
            })
        })
    }

    /// The size in bytes that the file has at least, with pages of this size.
    pub(super) fn bytes(self, page_bytes: u64) -> u64 {
        match self.written {
            0 => 0,
            written => frame_offset(written + 1, page_bytes),
        }
    }

    pub(super) fn is_all_checkpointed(self) -> bool {
        self.checkpointed == self.written
    }
}

/// A checkpoint that waits for nobody.
pub(super) fn try_checkpoint(
    connection: &Connection,
    mode: Mode,
) -> rusqlite::Result<CheckpointResult> {
    connection.busy_timeout(Duration::ZERO)?;
    let done = Frames::after(connection, mode);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    done
}

/// What a checkpoint came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckpointResult {
    /// Whether somebody held what it needs.
    pub(super) is_busy: bool,
    /// Whether SQLite could tell the frames: it can't while another process is at the WAL.
    pub(super) is_known: bool,
    pub(super) frames: Frames,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Mode {
    Noop,
    Passive,
    Truncate,
}

impl Mode {
    fn sql(self) -> &'static str {
        match self {
            Self::Noop => "PRAGMA wal_checkpoint(NOOP)",
            Self::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
            Self::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
        }
    }
}

/// The limit of a WAL's size, and what was said of it.
#[derive(Debug)]
pub(super) struct WalLimit {
    max_bytes: u64,
    log_at_bytes: u64,
    full: LogLimiter,
}

impl WalLimit {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            max_bytes,
            log_at_bytes: LOGGED_WAL_BYTES,
            full: LogLimiter::default(),
        }
    }

    pub(super) fn is_reached(&self, bytes: u64) -> bool {
        bytes >= self.max_bytes
    }

    /// Says that the limit is reached.
    pub(super) fn log_full(&self, path: &std::path::Path, bytes: u64) {
        if let Some(suppressed) = self.full.check("full") {
            let max = self.max_bytes;
            tracing::warn!(
                suppressed,
                "the WAL of the store {} has {bytes} bytes, and --max-wal is {max}: puts are refused until its longest reader ends",
                path.display()
            );
        }
    }

    /// Says that a WAL has grown, once at each doubling.
    pub(super) fn log_growth(&mut self, path: &std::path::Path, bytes: u64) {
        if bytes < LOGGED_WAL_BYTES {
            self.log_at_bytes = LOGGED_WAL_BYTES;
        } else if bytes >= self.log_at_bytes {
            self.log_at_bytes = bytes.saturating_mul(2);
            tracing::warn!(
                "the WAL of the store {} has grown to {bytes} bytes: a reader prevents a checkpoint",
                path.display()
            );
        }
    }
}
