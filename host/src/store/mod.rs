//! The durable store: one SQLite file, open to anyone who has `sqlite3`.
//!
//! ```sql
//! CREATE TABLE events (
//!     key         TEXT PRIMARY KEY NOT NULL,
//!     digest      BLOB NOT NULL,      -- BLAKE3 of key and event, see `digest`
//!     received_ms INTEGER NOT NULL,   -- when, in milliseconds since 1970 UTC
//!     event       TEXT NOT NULL       -- the JSON text as it was sent
//! ) STRICT;
//! ```
//!
//! The event is the last column, so that what is before it is read without the pages that a large event
//! overflows to. In version 1 of the schema it was the second; such a store can be read, not written to.
//!
//! Rows are added and never changed. Never judges an event.

mod checkpoint_lock;
mod closing;
mod copy_names;
mod database_file;
mod event;
mod fault_state;
mod file_check;
mod file_id;
mod immutable;
mod inspection;
mod integrity;
mod location;
mod merge;
mod open_for_write;
mod open_store;
mod overwritten_mark;
mod promote_copy;
mod reader;
mod recovery;
mod recovery_copy;
mod removed_file;
mod reopen;
mod rescue;
mod side_files;
mod start_check;
mod store_files;
mod wal;
mod wal_generation;
mod wal_ownership;
mod wal_pages;
mod wal_position;
mod wal_size;
mod write_error;
mod writer;
mod writer_connection;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

pub(crate) use database_file::{check_appendable, check_store_path};
pub use database_file::{database_role, is_locked_by_another, writable_target};
pub use event::Event;
pub(crate) use location::path_of_url;
pub use location::sqlite_path;
pub(crate) use open_for_write::remove_new_on_error;
pub use reader::{StoreReader, Verification};
pub(crate) use removed_file::is_hidden;
pub(crate) use rescue::FileRescue;
pub use wal_size::{DEFAULT_MAX_WAL_BYTES, MIN_MAX_WAL_BYTES};
pub(crate) use writer::{InsertOutcome, StoreWriter, StoredEvent};

use crate::error::{Error, SqliteError};
use location::{lack_of_descriptors, open_error, resolve_path};

/// What marks a file as a store, in SQLite's `application_id`: "ADpe" in ASCII.
pub const APPLICATION_ID: i32 = 0x4144_7065;

/// The version of the schema, in SQLite's `user_version`.
pub const SCHEMA_VERSION: i32 = 2;

/// The oldest version of the schema that can be read: it differs in the order of the columns only.
const OLDEST_READABLE_VERSION: i32 = 1;

/// How long to wait for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    CREATE TABLE events (
        key TEXT PRIMARY KEY NOT NULL,
        digest BLOB NOT NULL,
        received_ms INTEGER NOT NULL,
        event TEXT NOT NULL
    ) STRICT;";

/// The digest of an event: BLAKE3 over the number of bytes of the key as 8 bytes little-endian,
/// the key, and the event's text. The number keeps key and event apart.
#[must_use]
pub fn digest(key: impl AsRef<[u8]>, event: impl AsRef<[u8]>) -> [u8; blake3::OUT_LEN] {
    let key = key.as_ref();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(event.as_ref());
    hasher.finalize().into()
}

/// Opens a file as a database, whatever is in it.
fn open(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // SQLite gives names such as `:memory:` and `file:…` a meaning of their own; an absolute path
    // has none.
    let connection = Connection::open_with_flags(resolve_path(path)?, flags)
        .map_err(|error| open_error(path, error))?;
    connection
        .busy_timeout(BUSY_TIMEOUT)
        .map_err(store_error(path, "open"))?;
    Ok(connection)
}

/// Checks that a database is a store that can be read.
fn check_readable(connection: &Connection, path: &Path) -> Result<(), Error> {
    let version = read_version(connection, path)?;
    if (OLDEST_READABLE_VERSION..=SCHEMA_VERSION).contains(&version) {
        return Ok(());
    }
    let reason = format!("its schema has version {version}, and this is version {SCHEMA_VERSION}");
    Err(format_error(path, reason))
}

/// Checks that a database is a store that can be written to.
fn check_format(connection: &Connection, path: &Path) -> Result<(), Error> {
    let version = read_version(connection, path)?;
    let reason = match version {
        SCHEMA_VERSION => return Ok(()),
        OLDEST_READABLE_VERSION..SCHEMA_VERSION => format!(
            "its schema has version {version}, which can be read but not written to: `alldata-peer export` \
             it, and `import` that into a new store"
        ),
        _ => format!("its schema has version {version}, and this is version {SCHEMA_VERSION}"),
    };
    Err(format_error(path, reason))
}

/// The version of the schema of a store.
fn read_version(connection: &Connection, path: &Path) -> Result<i32, Error> {
    let fail = store_error(path, "open");
    let pragma = |name: &str| {
        connection
            .pragma_query_value(None, name, |row| row.get::<_, i32>(0))
            .map_err(|error| open_error(path, error))
    };
    let (application_id, version) = (pragma("application_id")?, pragma("user_version")?);
    let reason = match (application_id, version) {
        (APPLICATION_ID, version) => return Ok(version),
        (0, 0) if is_empty(connection).map_err(&fail)? => "it is empty",
        _ => "it is a database of another program",
    };
    Err(format_error(path, reason.to_owned()))
}

fn format_error(path: &Path, reason: String) -> Error {
    Error::StoreFormat {
        path: path.to_owned(),
        reason,
    }
}

/// Whether a database has nothing in it, not even a table.
fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)";
    connection.query_row(sql, (), |row| row.get(0))
}

/// Makes an [`Error`] of an error of SQLite.
fn store_error(path: &Path, operation: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |source| match lack_of_descriptors(&source) {
        Some(source) => Error::File {
            operation,
            path: path.to_owned(),
            source,
        },
        None => Error::Store {
            operation,
            path: path.to_owned(),
            source: SqliteError(source),
        },
    }
}
