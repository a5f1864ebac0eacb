//! Reads which pages a WAL holds, as SQLite does when it recovers one.
//!
//! Never opens a database.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind};
use std::path::Path;

use super::file_id::read_at;
use super::wal_size::{FRAME_HEADER_BYTES, WAL_HEADER_BYTES};

/// What a WAL begins with, but for the last bit, which tells the byte order of its checksums.
const MAGIC: u32 = 0x377f_0682;

/// The sizes in bytes that pages may have.
const PAGE_BYTES: std::ops::RangeInclusive<u32> = 512..=65_536;

/// SQLite's serial type of a digest: a BLOB of 32 bytes.
const DIGEST: u64 = 12 + 2 * 32;

/// The type of a page that holds rows of a table.
const TABLE_LEAF: u8 = 13;

/// The committed pages of a WAL.
#[derive(Debug)]
pub(super) struct WalPages {
    file: File,
    pub(super) page_bytes: u32,
    /// The size of the database in pages after the last commit.
    pub(super) database_pages: u32,
    /// Where the last version of each page is in the file.
    places: HashMap<u32, u64>,
}

/// A row of the table of events.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowId {
    pub(super) rowid: i64,
    pub(super) key: String,
}

impl WalPages {
    /// Reads a WAL. `None` of one from which SQLite would recover nothing.
    pub(super) fn read(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let mut reader = BufReader::new(&file);
        let mut header = [0; WAL_HEADER_BYTES];
        if !fill(&mut reader, &mut header)? {
            return Ok(None);
        }
        let (magic, page_bytes) = (number_at(&header, 0), number_at(&header, 8));
        let mut checksum = Checksum::new(magic & 1 == 1);
        checksum.add(&header[..24]);
        if magic & !1 != MAGIC || !checksum.is_at(&header, 24) || !PAGE_BYTES.contains(&page_bytes)
        {
            return Ok(None);
        }
        let salt = &header[16..24];
        let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes as usize];
        let mut place = WAL_HEADER_BYTES as u64;
        let (mut places, mut uncommitted) = (HashMap::new(), Vec::new());
        let mut database_pages = 0;
        while fill(&mut reader, &mut frame)? {
            checksum.add(&frame[..8]);
            checksum.add(&frame[FRAME_HEADER_BYTES..]);
            if frame[8..16] != *salt || !checksum.is_at(&frame, 16) {
                break;
            }
            let page = number_at(&frame, 0);
            if page == 0 {
                break;
            }
            uncommitted.push((page, place + FRAME_HEADER_BYTES as u64));
            let after_commit = number_at(&frame, 4);
            if after_commit > 0 {
                database_pages = after_commit;
                places.extend(uncommitted.drain(..));
            }
            place += frame.len() as u64;
        }
        Ok((database_pages > 0).then_some(Self {
            file,
            page_bytes,
            database_pages,
            places,
        }))
    }

    /// Whether it has a page, the first of which is 1.
    pub(super) fn has(&self, page: u32) -> bool {
        self.places.contains_key(&page)
    }

    /// The first row of each page that has rows, of so many pages at the most.
    pub(super) fn first_rows(&self, max_rows: usize) -> impl Iterator<Item = RowId> {
        let mut bytes = vec![0; self.page_bytes as usize];
        // The first page has the schema.
        let pages = self.places.iter();
        let pages = pages.filter(|(page, _)| (2..=self.database_pages).contains(*page));
        let rows = pages.filter_map(move |(_, place)| {
            read_at(&self.file, &mut bytes, *place).ok()?;
            first_row(&bytes)
        });
        rows.take(max_rows)
    }
}

/// The first row of a page, if it is one of the table of events and its key is all on the page: a key, then
/// a digest, or, in version 1 of the schema, a key, an event and a digest.
fn first_row(page: &[u8]) -> Option<RowId> {
    let cells = u16::from_be_bytes(page.get(3..5)?.try_into().ok()?);
    if page[0] != TABLE_LEAF || cells == 0 {
        return None;
    }
    let cell = u16::from_be_bytes(page.get(8..10)?.try_into().ok()?);
    let mut rest = page.get(usize::from(cell)..)?;
    let _payload_bytes = varint(&mut rest)?;
    let rowid = varint(&mut rest)?.cast_signed();
    let record = rest;
    let header_bytes = usize::try_from(varint(&mut rest)?).ok()?;
    let kind = varint(&mut rest)?;
    let key_bytes = text_bytes(kind)?;
    let second = varint(&mut rest)?;
    let is_event = second == DIGEST || text_bytes(second).is_some() && varint(&mut rest)? == DIGEST;
    if !is_event {
        return None;
    }
    let key = record.get(header_bytes..)?;
    let key = key.get(..usize::try_from(key_bytes).ok()?)?;
    let key = String::from_utf8(key.to_vec()).ok()?;
    Some(RowId { rowid, key })
}

/// The size of a text of this serial type; `None` for other types.
fn text_bytes(kind: u64) -> Option<u64> {
    Some(kind.checked_sub(13).filter(|bytes| bytes % 2 == 0)? / 2)
}

/// Takes a number of SQLite's variable length off the beginning.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..9 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        if place == 8 {
            return Some(number << 8 | u64::from(*first));
        }
        number = number << 7 | u64::from(first & 0x7f);
        if first & 0x80 == 0 {
            break;
        }
    }
    Some(number)
}

fn number_at(bytes: &[u8], place: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[place..place + 4]);
    u32::from_be_bytes(number)
}

/// Fills a buffer; `false` at the end of the file.
fn fill(reader: &mut impl io::Read, bytes: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        result => result.map(|()| true),
    }
}

/// The checksum of all that is in a WAL up to a frame.
struct Checksum {
    is_big_endian: bool,
    sums: [u32; 2],
}

impl Checksum {
    fn new(is_big_endian: bool) -> Self {
        Self {
            is_big_endian,
            sums: [0; 2],
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let word = |bytes: &[u8]| {
            let word = number_at(bytes, 0);
            if self.is_big_endian {
                word
            } else {
                word.swap_bytes()
            }
        };
        let [mut first, mut second] = self.sums;
        for pair in bytes.chunks_exact(8) {
            first = first.wrapping_add(word(&pair[..4])).wrapping_add(second);
            second = second.wrapping_add(word(&pair[4..])).wrapping_add(first);
        }
        self.sums = [first, second];
    }

    fn is_at(&self, bytes: &[u8], place: usize) -> bool {
        self.sums == [number_at(bytes, place), number_at(bytes, place + 4)]
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rusqlite::Connection;

    use super::{RowId, WalPages};
    use crate::store::schema::SCHEMA;

    #[test]
    fn committed_pages_and_their_rows_are_read() {
        let directory = tempfile::tempdir().expect("makes a directory");
        let path = directory.path().join("s.db");
        let wal = directory.path().join("s.db-wal");
        let store = Connection::open(&path).expect("opens");
        let mode = store.query_row("PRAGMA journal_mode = WAL", (), |_| Ok(()));
        mode.expect("is set");
        store.execute_batch(SCHEMA).expect("makes the table");
        for number in 0..300 {
            let sql = "INSERT INTO events (key, event, digest, received_ms) VALUES (?1, ?2, zeroblob(32), 0)";
            let row = (format!("key{number}"), "x".repeat(100));
            store.execute(sql, row).expect("inserts");
        }
        let pages = WalPages::read(&wal).expect("reads").expect("has commits");
        assert_eq!(pages.page_bytes, 4096);
        let count: u32 = store
            .query_row("PRAGMA page_count", (), |row| row.get(0))
            .expect("is told");
        assert_eq!(pages.database_pages, count);
        assert!((1..=count).all(|page| pages.has(page)) && !pages.has(count + 1));
        let rows: Vec<_> = pages.first_rows(1000).collect();
        assert!(rows.len() > 3);
        for RowId { rowid, key } in rows {
            assert_eq!(key, format!("key{}", rowid - 1));
        }
        let mut bytes = fs::read(&wal).expect("reads");
        // Of a frame that is torn, and those behind it, nothing counts.
        let torn = directory.path().join("torn");
        let end = bytes.len();
        bytes[end - 10] ^= 1;
        fs::write(&torn, &bytes).expect("writes");
        assert!(WalPages::read(&torn).expect("reads").is_some());
        bytes[50] ^= 1;
        fs::write(&torn, &bytes).expect("writes");
        assert!(WalPages::read(&torn).expect("reads").is_none());
        fs::write(&torn, "no WAL").expect("writes");
        assert!(WalPages::read(&torn).expect("reads").is_none());
    }
}
