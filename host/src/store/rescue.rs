//! What is left of a store that was removed or cut off under a server: a copy beside its path.
//!
//! Never overwrites a file, and never decides that a store is lost.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::location::{beside, bytes_in};
use super::{StoreReader, open, store_error};
use crate::error::Error;

/// What the name of a copy ends with that stands for a database which is gone.
const OF_DATABASE: &str = ".rescued";

/// What the name of a copy ends with whose events belong into the database beside it.
const OF_WAL: &str = ".rescued-wal";

/// What the name of a copy ends with some of whose events have others in the store.
const OF_CONFLICTS: &str = ".rescued-conflicts";

/// What the name of a WAL ends with that a copy of its database stands for.
const OF_OLD_WAL: &str = ".rescued-old-wal";

/// What is added to the name of a copy until it is whole.
const PARTIAL: &str = ".partial";

/// How many copies there may be beside one store: each is of another accident, and somebody should
/// have looked at them by then.
const MAX_COPIES: u32 = 16;

/// What the files of a store may be done with, and by whom.
#[derive(Debug, Clone)]
pub(super) struct Modes {
    directory: Option<Permissions>,
    database: Option<Permissions>,
}

impl Modes {
    pub(super) fn of(database: &Path) -> Self {
        let mode = |path: &Path| fs::metadata(path).ok().map(|found| found.permissions());
        Self {
            directory: database.parent().and_then(mode),
            database: mode(database),
        }
    }
}

/// What a copy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To stand for a database that is gone.
    Database,
    /// To be put into the database, which lacks what its WAL had.
    Wal,
}

/// Copies all that a connection still reads into a new file beside the path of its database, which has
/// its name once it is whole. Events that were damaged before are copied as they are, or not taken.
pub(super) fn rescue(
    connection: &Connection,
    database: &Path,
    modes: &Modes,
    purpose: Purpose,
    takes_damaged: bool,
) -> Result<PathBuf, Error> {
    make_directory(database, modes)?;
    let partial = make_partial(database, modes)?;
    let named = write_copy(connection, &partial, takes_damaged)
        .and_then(|()| name_copy(&partial, database, purpose));
    // Half a copy is none, and a whole one has another name by now.
    let _ = fs::remove_file(&partial);
    let copy = named?;
    sync_directory(&copy).map_err(file_error(&copy, "sync"))?;
    Ok(copy)
}

fn write_copy(connection: &Connection, copy: &Path, takes_damaged: bool) -> Result<(), Error> {
    let fail = store_error(copy, "write");
    let vacuum = connection.prepare("VACUUM INTO ?1");
    vacuum
        .and_then(|mut vacuum| vacuum.execute([path_as_text(copy)]))
        .map_err(&fail)?;
    let found = StoreReader::open(copy)?.verify(|_| {})?;
    let damaged = found.damaged.len();
    if !found.structure.is_empty() || damaged > 0 && !takes_damaged {
        return Err(Error::StoreFormat {
            path: copy.to_owned(),
            reason: format!("{damaged} of its events are damaged"),
        });
    }
    if damaged > 0 {
        tracing::error!(
            "{damaged} events were damaged in the store, and are in its copy too: `alldata-peer verify` lists them"
        );
    }
    let synced = File::open(copy).and_then(|file| file.sync_all());
    synced.map_err(file_error(copy, "sync"))
}

/// Puts the events of a copy into the store that it is a copy of, and removes it. Where the store has
/// other events under some of its keys by now, which stay, the copy is kept under another name.
pub(super) fn merge(connection: &Connection, database: &Path, copy: &Path) -> Result<(), Error> {
    if bytes_in(copy) == 0 {
        tracing::warn!("{} is gone, and nothing was read of it", copy.display());
        return Ok(());
    }
    let fail = store_error(copy, "read");
    connection
        .execute("ATTACH DATABASE ?1 AS rescued", [path_as_text(copy)])
        .map_err(&fail)?;
    let copied = copy_events(connection);
    if copied.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").map_err(&fail)?;
    }
    let detached = connection.execute_batch("DETACH DATABASE rescued");
    let conflicts = copied.and_then(|conflicts| detached.map(|()| conflicts));
    let conflicts = conflicts.map_err(&fail)?;
    if conflicts > 0 {
        let kept = set_aside(copy, database, OF_CONFLICTS)?;
        tracing::error!(
            "{conflicts} acknowledged events that were rescued have others under their keys in the store {} by now: they are kept in {}",
            database.display(),
            kept.display()
        );
        return Ok(());
    }
    fs::remove_file(copy).map_err(file_error(copy, "remove"))?;
    tracing::warn!(
        "what was rescued in {} is in the store {} again",
        copy.display(),
        database.display()
    );
    Ok(())
}

/// Returns under how many keys the store has other events, which stay.
fn copy_events(connection: &Connection) -> rusqlite::Result<i64> {
    connection.execute_batch(
        "BEGIN IMMEDIATE;
         INSERT OR IGNORE INTO main.events SELECT * FROM rescued.events",
    )?;
    let sql = "SELECT count(*) FROM rescued.events AS copy JOIN main.events AS held USING (key)
               WHERE copy.digest <> held.digest";
    let conflicts = connection.query_row(sql, (), |row| row.get(0))?;
    connection.execute_batch("COMMIT")?;
    Ok(conflicts)
}

/// Makes the copy of a store the store itself, where that is not there any more.
pub(super) fn adopt(database: &Path) -> Result<(), Error> {
    let copies = copies_of(database, OF_DATABASE);
    let [copy, others @ ..] = &copies[..] else {
        return Ok(());
    };
    if bytes_in(database) > 0 {
        tracing::warn!(
            "{} may have events that are not in the store: `alldata-peer export` and `import` copy them, then remove it",
            copy.display()
        );
        return Ok(());
    }
    if !others.is_empty() {
        return Err(Error::StoreFormat {
            path: database.to_owned(),
            reason: format!(
                "it is missing, and there are {} copies of what it had, from {}: rename the right one",
                copies.len(),
                copy.display()
            ),
        });
    }
    let wal = beside(database, "-wal");
    if bytes_in(&wal) > 0 {
        // The copy has what is in an older one, which would be of another moment beside it.
        if is_later(&wal, copy) {
            return Err(Error::StoreFormat {
                path: database.to_owned(),
                reason: format!(
                    "it is missing, and its WAL is later than {}: put the database back that the WAL belongs to",
                    copy.display()
                ),
            });
        }
        set_aside(&wal, database, OF_OLD_WAL)?;
    }
    match fs::rename(copy, database) {
        Ok(()) => {}
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::NotFound && database.exists() => return Ok(()),
        Err(error) => return Err(file_error(copy, "rename")(error)),
    }
    sync_directory(database).map_err(file_error(database, "sync"))?;
    tracing::warn!(
        "the store {} was missing: it is {} now, which was rescued when it was removed or cut off",
        database.display(),
        copy.display()
    );
    Ok(())
}

/// Whether the structure of a store is whole and it has a key, read anew.
pub(super) fn is_whole(path: &Path, key: Option<&str>) -> rusqlite::Result<bool> {
    match check(path, key) {
        Err(error) if is_damage(&error) => Ok(false),
        result => result,
    }
}

fn check(path: &Path, key: Option<&str>) -> rusqlite::Result<bool> {
    let connection = match open(path, OpenFlags::SQLITE_OPEN_READ_WRITE) {
        Err(Error::Store { source, .. }) => return Err(source.0),
        // That it can't be opened now says nothing of what is in it.
        Err(_) => {
            let closed = ffi::Error::new(ffi::SQLITE_CANTOPEN);
            return Err(rusqlite::Error::SqliteFailure(closed, None));
        }
        Ok(connection) => connection,
    };
    let check = connection.query_row("PRAGMA quick_check(1)", (), |row| row.get::<_, String>(0))?;
    let has_key = match key {
        None => true,
        Some(key) => {
            let sql = "SELECT EXISTS (SELECT 1 FROM events WHERE key = ?1)";
            connection.query_row(sql, [key], |row| row.get(0))?
        }
    };
    Ok(check == "ok" && has_key)
}

/// Whether an error says that what is in the files is wrong, not that they could not be read.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    let is_cut_off = (error.sqlite_error())
        .is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHORT_READ);
    is_cut_off
        || matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        )
}

/// The copies of what a WAL had that are beside a database.
pub(super) fn copies_of_wal(database: &Path) -> Vec<PathBuf> {
    copies_of(database, OF_WAL)
}

fn copies_of(database: &Path, suffix: &str) -> Vec<PathBuf> {
    let paths = (1..=MAX_COPIES).map(|number| numbered(database, suffix, number));
    paths.filter(|path| path.exists()).collect()
}

fn numbered(database: &Path, suffix: &str, number: u32) -> PathBuf {
    match number {
        1 => beside(database, suffix),
        _ => beside(database, &format!("{suffix}-{number}")),
    }
}

/// Does something with the first of the numbered names that is free.
fn with_free_name<T>(
    database: &Path,
    suffix: &str,
    take: impl Fn(&Path) -> io::Result<T>,
) -> Result<(PathBuf, T), Error> {
    for number in 1..=MAX_COPIES {
        let path = numbered(database, suffix, number);
        match take(&path) {
            Ok(taken) => return Ok((path, taken)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(file_error(&path, "make")(error)),
        }
    }
    let error = io::Error::new(ErrorKind::AlreadyExists, "there are too many already");
    Err(file_error(&beside(database, suffix), "make")(error))
}

/// An empty file that only those may read who could read the database.
fn make_partial(database: &Path, modes: &Modes) -> Result<PathBuf, Error> {
    let suffix = format!("{OF_DATABASE}{PARTIAL}");
    let (path, file) = with_free_name(database, &suffix, |path| File::create_new(path))?;
    if let Some(mode) = &modes.database {
        let set = file.set_permissions(mode.clone());
        set.map_err(file_error(&path, "make"))?;
    }
    Ok(path)
}

/// Whether a file was written to after another was. One whose time is not known may have been.
fn is_later(file: &Path, other: &Path) -> bool {
    let time = |path| fs::metadata(path).and_then(|found| found.modified());
    match (time(file), time(other)) {
        (Ok(file), Ok(other)) => file > other,
        _ => true,
    }
}

/// Gives a file another name, which no other has.
fn set_aside(file: &Path, database: &Path, suffix: &str) -> Result<PathBuf, Error> {
    let (aside, ()) = with_free_name(database, suffix, |path| {
        File::create_new(path)?;
        fs::rename(file, path)
    })?;
    Ok(aside)
}

/// Gives a whole copy a name that no other has.
fn name_copy(partial: &Path, database: &Path, purpose: Purpose) -> Result<PathBuf, Error> {
    let suffix = match purpose {
        Purpose::Database => OF_DATABASE,
        Purpose::Wal => OF_WAL,
    };
    let named = with_free_name(database, suffix, |path| {
        match fs::hard_link(partial, path) {
            // A file system without hard links.
            Err(error) if error.kind() != ErrorKind::AlreadyExists && !path.exists() => {
                fs::rename(partial, path)
            }
            result => result,
        }
    });
    named.map(|(path, ())| path)
}

/// Makes the directory anew if that was removed too.
fn make_directory(database: &Path, modes: &Modes) -> Result<(), Error> {
    let Some(directory) = database.parent().filter(|path| !path.exists()) else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).create(directory);
    let set = made.and_then(|()| match &modes.directory {
        Some(mode) => fs::set_permissions(directory, mode.clone()),
        None => Ok(()),
    });
    set.map_err(file_error(directory, "make"))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// A path as SQLite takes it, whatever its bytes.
fn path_as_text(path: &Path) -> ToSqlOutput<'_> {
    #[cfg(unix)]
    let bytes = std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str());
    #[cfg(not(unix))]
    let bytes = path.as_os_str().as_encoded_bytes();
    ToSqlOutput::Borrowed(ValueRef::Text(bytes))
}

fn file_error(path: &Path, operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::File {
        operation,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use rusqlite::Connection;

    use super::{adopt, merge};
    use crate::store::{SCHEMA, digest};

    fn store_of(path: &Path, events: &[(&str, &str)]) -> Connection {
        let store = Connection::open(path).expect("opens");
        store.execute_batch(SCHEMA).expect("makes the table");
        for (key, event) in events {
            let sql = "INSERT INTO events (key, event, digest, received_ms) VALUES (?1, ?2, ?3, 0)";
            let row = (key, event, digest(key, event));
            store.execute(sql, row).expect("inserts");
        }
        store
    }

    fn event_of(store: &Connection, key: &str) -> String {
        let sql = "SELECT event FROM events WHERE key = ?1";
        store.query_row(sql, [key], |row| row.get(0)).expect("has")
    }

    #[test]
    fn merge_keeps_copy_whose_keys_have_other_events() {
        let directory = tempfile::tempdir().expect("makes a directory");
        let database = directory.path().join("s.db");
        let copy = directory.path().join("s.db.rescued-wal");
        let store = store_of(&database, &[("a", "1")]);
        drop(store_of(&copy, &[("a", "2"), ("b", "3")]));
        merge(&store, &database, &copy).expect("merges");
        assert_eq!(event_of(&store, "a"), "1");
        assert_eq!(event_of(&store, "b"), "3");
        assert!(!copy.exists());
        let kept = directory.path().join("s.db.rescued-conflicts");
        assert_eq!(event_of(&Connection::open(kept).expect("opens"), "a"), "2");
        // One that somebody has moved away keeps nobody out.
        merge(&store, &database, &copy).expect("goes on");
    }

    #[test]
    fn copy_is_not_adopted_beside_a_later_wal() {
        let directory = tempfile::tempdir().expect("makes a directory");
        let path = |name: &str| directory.path().join(name);
        drop(store_of(&path("s.db.rescued"), &[("a", "1")]));
        fs::write(path("s.db-wal"), "frames").expect("writes");
        let now = SystemTime::now();
        let set_time = |time| {
            let wal = File::options().write(true).open(path("s.db-wal"));
            wal.expect("opens").set_modified(time).expect("is set");
        };
        set_time(now + Duration::from_secs(3600));
        adopt(&path("s.db")).expect_err("is refused");
        assert!(path("s.db-wal").exists() && !path("s.db").exists());
        set_time(now - Duration::from_secs(3600));
        adopt(&path("s.db")).expect("is adopted");
        let store = Connection::open(path("s.db")).expect("opens");
        assert_eq!(event_of(&store, "a"), "1");
        assert!(path("s.db.rescued-old-wal").exists());
    }
}
