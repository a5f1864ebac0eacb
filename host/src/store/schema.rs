//! The format of a store: its schema, its version, and the digest of an event.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::location::{open_error, resolve_path};
use super::store_error::store_error;
use crate::error::Error;

/// What marks a file as a store, in SQLite's `application_id`: "ADpe" in ASCII.
pub const APPLICATION_ID: i32 = 0x4144_7065;

/// The version of the schema, in SQLite's `user_version`.
pub const SCHEMA_VERSION: i32 = 2;

/// The oldest version of the schema that can be read: it differs in the order of the columns only.
const OLDEST_READABLE_VERSION: i32 = 1;

/// How long to wait for another process that writes to the same file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) const SCHEMA: &str = "
    CREATE TABLE events (
        key TEXT PRIMARY KEY NOT NULL,
        digest BLOB NOT NULL,
        received_ms INTEGER NOT NULL,
        event TEXT NOT NULL
    ) STRICT;";

/// The digest of an event: BLAKE3 over the number of bytes of the key as 8 bytes little-endian,
/// the key, and the event's text. The number separates key and event.
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
pub(super) fn open(path: &Path, flags: OpenFlags) -> Result<Connection, Error> {
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
pub(super) fn check_readable(connection: &Connection, path: &Path) -> Result<(), Error> {
    let version = read_version(connection, path)?;
    if (OLDEST_READABLE_VERSION..=SCHEMA_VERSION).contains(&version) {
        return Ok(());
    }
    let reason = format!("its schema has version {version}, and this is version {SCHEMA_VERSION}");
    Err(format_error(path, reason))
}

/// Checks that a database is a store that can be written to.
pub(super) fn check_format(connection: &Connection, path: &Path) -> Result<(), Error> {
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

pub(super) fn format_error(path: &Path, reason: String) -> Error {
    Error::StoreFormat {
        path: path.to_owned(),
        reason,
    }
}

/// Whether a database has nothing in it, not even a table.
pub(super) fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)";
    connection.query_row(sql, (), |row| row.get(0))
}
