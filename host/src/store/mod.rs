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
mod schema;
mod side_files;
mod start_check;
mod store_error;
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

pub(crate) use database_file::{check_appendable, check_store_path};
pub use database_file::{database_role, is_locked_by_another, writable_target};
pub use event::Event;
pub(crate) use location::path_of_url;
pub use location::sqlite_path;
pub(crate) use open_for_write::remove_new_on_error;
pub use reader::{StoreReader, Verification};
pub(crate) use removed_file::is_hidden;
pub(crate) use rescue::FileRescue;
pub use schema::{APPLICATION_ID, SCHEMA_VERSION, digest};
pub use wal_size::{DEFAULT_MAX_WAL_BYTES, MIN_MAX_WAL_BYTES};
pub(crate) use writer::{InsertOutcome, StoreWriter, StoredEvent};
