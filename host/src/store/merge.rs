//! Puts the events of a rescued copy back into the store.
//!
//! Never overwrites one that the store has.

use std::fs;
use std::path::Path;

use rusqlite::Connection;

use super::copies::{OF_CONFLICTS, file_error, set_aside};
use super::location::bytes_in;
use super::rescue::path_as_text;
use super::store_error;
use crate::error::Error;

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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::Connection;

    use super::merge;
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
}
