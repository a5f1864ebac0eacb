//! Why a transaction of a store's writer failed, and whether its connection can be used again.

use rusqlite::ErrorCode;

use crate::error::{Error, file_size_limit};

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Store(Error),
    #[error("{0}{limit}", limit = file_size_limit(.0))]
    Sqlite(rusqlite::Error),
    #[error("{0} while the server has it open")]
    Changed(String),
    #[error("the WAL has reached its limit")]
    WalFull,
}

impl WriteError {
    /// What was committed may be stored, whatever kept it from being looked at.
    pub(super) fn after_commit(self) -> Self {
        match self {
            Self::Sqlite(error) => Self::Changed(format!("the WAL can't be looked at: {error}")),
            other => other,
        }
    }
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// Whether a connection is better opened anew after this error. A full disk is none: what could
/// be written when there is room again needs no new connection.
pub(super) fn needs_reconnect(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::SystemIoFailure
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
        )
    )
}
