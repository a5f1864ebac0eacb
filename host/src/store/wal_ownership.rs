//! Whether the WAL beside a database was written for that database.
//!
//! SQLite applies each WAL whose checksums are right to the database beside it. Where one of the two files
//! was replaced, that overwrites pages of one store with those of another. A store only ever gains events,
//! so a WAL that belongs to it leaves each event of the database where it is.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Statement};

use super::event::RawEvent;
use super::immutable::open_immutable;
use super::integrity::is_corruption;
use super::open_for_write::CHECKPOINT_NOT_ON_CLOSE;
use super::schema::{APPLICATION_ID, format_error, open};
use super::side_files::{beside, bytes_in};
use super::wal_pages::{RowId, WalPages};
use crate::error::Error;

/// How many events of the database, and how many of the WAL, are looked up. Of a WAL that does not belong to
/// its database, hardly any are found; of one that does, all but those that somebody deleted by hand.
const MAX_LOOKUPS: usize = 256;

/// How many of the newest rows of the database are read to find one that is intact: more than a page has.
const MAX_NEWEST: usize = 256;

/// The byte of a database that no page holds: SQLite locks it.
const PENDING_BYTE: u64 = 0x4000_0000;

/// Refuses a database beside a WAL that does not belong to it. Changes neither of them.
pub(super) fn check_wal(database: &Path) -> Result<(), Error> {
    let wal = beside(database, "-wal");
    if bytes_in(&wal) == 0 || bytes_in(database) == 0 {
        return Ok(());
    }
    match mismatch(database, &wal) {
        Ok(Some(reason)) => {
            let wal = wal.display();
            let reason = format!(
                "{wal} is not the WAL of this database, or older than it ({reason}), so one of the two files was replaced: put the right one back. Move {wal} away only if it is the wrong one, since it may have acknowledged events. If events were deleted by hand and it is the right one, `sqlite3 {} 'PRAGMA wal_checkpoint(TRUNCATE)'` applies it",
                database.display()
            );
            Err(format_error(database, reason))
        }
        // Who opens the store next meets what keeps it from being read.
        Ok(None) | Err(_) => Ok(()),
    }
}

/// Why a WAL can't belong to a database; `None` where it may.
fn mismatch(database: &Path, wal: &Path) -> Result<Option<String>, Error> {
    let Ok(Some(pages)) = WalPages::read(wal) else {
        return Ok(None);
    };
    let alone = open_immutable(database)?;
    let page_bytes = alone.pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0));
    let Ok(page_bytes) = page_bytes else {
        return Ok(None);
    };
    if page_bytes != pages.page_bytes {
        let reason = format!(
            "its pages have {} bytes, those of the database {page_bytes}",
            pages.page_bytes
        );
        return Ok(Some(reason));
    }
    if let Some(page) = missing_page(database, &pages) {
        return Ok(Some(format!("page {page} is in neither of them")));
    }
    let newest = newest_intact(&alone).unwrap_or_default();
    let others = sample(&alone).unwrap_or_default();
    let is_store_alone = is_store(&alone);
    let both = open(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let kept = both.set_db_config(CHECKPOINT_NOT_ON_CLOSE, true);
    if kept.is_err() {
        return Ok(None);
    }
    if !is_store_alone && !is_store(&both) {
        return Ok(None);
    }
    // A WAL that was written before the last checkpoint takes the newest events away.
    let mut lost = lost_events(&both, newest, |_| true);
    if let Ok(None) = lost {
        let is_intact = |event: &RowId| intact_key(&alone, event.rowid).is_some();
        lost = lost_events(&both, others, is_intact);
    }
    if let Ok(None) = lost {
        // The frames of a WAL have checksums.
        lost = lost_events(&both, pages.first_rows(MAX_LOOKUPS), |_| true);
    }
    Ok(lost.unwrap_or_default())
}

/// Whether a database is a store; not if it is that of another program, which is told later.
fn is_store(database: &Connection) -> bool {
    let id = database.pragma_query_value(None, "application_id", |row| row.get::<_, i32>(0));
    id.is_ok_and(|id| id == APPLICATION_ID)
}

/// A page that the database has to have after the last commit, and that neither file has.
fn missing_page(database: &Path, pages: &WalPages) -> Option<u32> {
    let page_bytes = u64::from(pages.page_bytes);
    let held = u32::try_from(bytes_in(database) / page_bytes).unwrap_or(u32::MAX);
    let of_lock = u32::try_from(PENDING_BYTE / page_bytes + 1).ok();
    let mut beyond = held.saturating_add(1)..=pages.database_pages;
    beyond.find(|page| !pages.has(*page) && Some(*page) != of_lock)
}

/// The newest event of a database that is intact. A loss of power during a checkpoint can leave a page with sectors of two
/// versions: rows of it have another digest, and the WAL has the whole page.
fn newest_intact(database: &Connection) -> rusqlite::Result<Option<RowId>> {
    let mut below = i64::MAX;
    for _ in 0..MAX_NEWEST {
        let sql = "SELECT max(rowid) FROM events WHERE rowid < ?1";
        let last: Option<i64> = database.query_row(sql, [below], |row| row.get(0))?;
        let Some(rowid) = last else {
            break;
        };
        if let Some(key) = intact_key(database, rowid) {
            return Ok(Some(RowId { rowid, key }));
        }
        below = rowid;
    }
    Ok(None)
}

/// The key of a row that can be read and has the digest of its key and event.
fn intact_key(database: &Connection, rowid: i64) -> Option<String> {
    let sql = "SELECT key, event, digest FROM events WHERE rowid = ?1";
    let mut select = database.prepare_cached(sql).ok()?;
    let row = select.query_row([rowid], RawEvent::read).ok()?;
    row.into_event().ok().map(|event| event.key)
}

/// Some events of a database, in the order of their rows.
fn sample(database: &Connection) -> rusqlite::Result<Vec<RowId>> {
    let last: Option<i64> =
        database.query_row("SELECT max(rowid) FROM events", (), |row| row.get(0))?;
    let Some(last) = last else {
        return Ok(Vec::new());
    };
    let mut select = database.prepare("SELECT rowid, key FROM events WHERE rowid >= ?1 LIMIT 1")?;
    let mut events = Vec::new();
    let count = i64::try_from(MAX_LOOKUPS).unwrap_or(i64::MAX);
    let step = usize::try_from(last / count).unwrap_or(1).max(1);
    for from in (1..last).step_by(step).chain([last]) {
        let event = select.query_row([from], |row| {
            Ok(RowId {
                rowid: row.get(0)?,
                key: row.get(1)?,
            })
        });
        match event {
            Ok(event) if events.last() != Some(&event) => events.push(event),
            Ok(_again) => {}
            // Where a checkpoint was cut short, the database is nothing by itself.
            Err(error) if is_corruption(&error) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(events)
}

/// Tells if most of these events are not where they have to be, without those that do not count.
fn lost_events(
    store: &Connection,
    events: impl IntoIterator<Item = RowId>,
    counts: impl Fn(&RowId) -> bool,
) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT 1 FROM events WHERE rowid = ?1 AND key = ?2";
    let mut select = match store.prepare(sql) {
        Ok(select) => select,
        // Without the table, or what SQLite takes for a database.
        Err(error) if is_corruption(&error) || is_missing_table(&error) => {
            return Ok(Some("with it, the database is no store".to_owned()));
        }
        Err(error) => return Err(error),
    };
    let (mut asked, mut lost) = (0, 0);
    for event in events {
        asked += 1;
        if !has(&mut select, &event)? && counts(&event) {
            lost += 1;
        }
    }
    let is_most = lost * 2 > asked;
    Ok(is_most.then(|| format!("with it, {lost} of {asked} events are not found")))
}

fn has(select: &mut Statement<'_>, event: &RowId) -> rusqlite::Result<bool> {
    let found = select.query_row((event.rowid, &event.key), |_| Ok(()));
    match found.optional() {
        Ok(found) => Ok(found.is_some()),
        Err(error) if is_corruption(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_missing_table(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::Unknown)
}
