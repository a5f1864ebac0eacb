//! Makes the rescued copy of a store the store itself at the next start, if there is no other file at its path.
//!
//! Never overwrites a file.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::copy_names::{
    OF_DATABASE, OF_OLD_WAL, copies_of, file_error, give_name, remove_second_names, set_aside,
    sync_directory,
};
use super::file_id::id_at;
use super::side_files::{beside, bytes_in};
use crate::error::Error;

/// Makes the copy of a missing store the store itself.
pub(super) fn promote_copy(database: &Path) -> Result<(), Error> {
    remove_second_names(database);
    let copies = copies_of(database, OF_DATABASE);
    let [copy, others @ ..] = &copies[..] else {
        return Ok(());
    };
    if bytes_in(database) > 0 {
        return refuse_beside_copy(database, &copies);
    }
    if !others.is_empty() {
        return Err(Error::StoreFormat {
            path: database.to_owned(),
            reason: format!(
                "it is missing, and there are {} copies of it, beginning with {}: rename the right one",
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
                    "it is missing, and its WAL is newer than the copy {}: put back the database that the WAL belongs to",
                    copy.display()
                ),
            });
        }
        set_aside(&wal, database, OF_OLD_WAL)?;
    }
    let named = match database.exists() {
        // An empty one.
        true => fs::rename(copy, database),
        false => give_name(copy, database),
    };
    match named {
        Ok(()) => remove_second_names(database),
        // Another process was faster, or somebody has put a store there.
        Err(error)
            if [ErrorKind::NotFound, ErrorKind::AlreadyExists].contains(&error.kind())
                && bytes_in(database) > 0 =>
        {
            return promote_copy(database);
        }
        Err(error) => return Err(file_error(copy, "rename")(error)),
    }
    sync_directory(database).map_err(file_error(database, "sync"))?;
    tracing::warn!(
        "the store {} was missing, and was restored from its copy {}",
        database.display(),
        copy.display()
    );
    Ok(())
}

/// Refuses a database beside a copy of the one that was at its path before: only an operator can decide which of
/// the two is the store.
fn refuse_beside_copy(database: &Path, copies: &[PathBuf]) -> Result<(), Error> {
    let Some(copy) = other_than(database, copies) else {
        remove_second_names(database);
        return Ok(());
    };
    let (copy, path) = (copy.display(), database.display());
    let beside = ["-wal", "-shm"].map(|suffix| beside(database, suffix));
    let beside = beside.iter().filter(|file| file.exists());
    let beside: String = beside
        .map(|file| format!(" and {}", file.display()))
        .collect();
    Err(Error::StoreFormat {
        path: database.to_owned(),
        reason: format!(
            "it was replaced or overwritten while a server had it open, and the events that were acknowledged until then are in {copy}: to use {path} as it is, rename {copy}; to use the copy, move {path}{beside} away"
        ),
    })
}

/// A rescued copy beside a database that is another file.
pub(super) fn copy_beside(database: &Path) -> Option<PathBuf> {
    other_than(database, &copies_of(database, OF_DATABASE)).cloned()
}

/// The first copy that is another file than the database. Another process may have made one of them the store just now.
fn other_than<'a>(database: &Path, copies: &'a [PathBuf]) -> Option<&'a PathBuf> {
    let is_other = |copy: &&PathBuf| copy.exists() && id_at(copy) != id_at(database);
    copies.iter().find(is_other)
}

/// Whether a file is newer than another, or may be since a time is not known.
fn is_later(file: &Path, other: &Path) -> bool {
    let time = |path| fs::metadata(path).and_then(|found| found.modified());
    match (time(file), time(other)) {
        (Ok(file), Ok(other)) => file > other,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use rusqlite::Connection;

    use super::promote_copy;
    use crate::store::digest;
    use crate::store::schema::SCHEMA;

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
    fn copy_is_not_promoted_beside_newer_wal() {
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
        promote_copy(&path("s.db")).expect_err("is refused");
        assert!(path("s.db-wal").exists() && !path("s.db").exists());
        set_time(now - Duration::from_secs(3600));
        promote_copy(&path("s.db")).expect("is adopted");
        let store = Connection::open(path("s.db")).expect("opens");
        assert_eq!(event_of(&store, "a"), "1");
        assert!(path("s.db.rescued-old-wal").exists());
    }
}
