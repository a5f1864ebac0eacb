//! End-to-end tests: the real program and the library, over real sockets.
//!
//! Every wait has a deadline and waits for a condition. Ports are free ones, read back.

mod support;

mod accepting;
mod bad_guests;
mod both_ways;
mod command_line;
mod compile_cache;
mod component;
mod compose;
mod composed_serve;
mod conflicts;
mod connection_limits;
mod connections;
mod crowds;
mod differences;
mod directory_faults;
mod directory_sink;
mod durability;
mod embedding;
mod environment;
mod floods;
mod foreign_files;
mod forward_order;
mod forward_sink;
mod forward_trouble;
mod framing;
mod hostile;
mod idle;
mod import_lines;
mod instances;
mod isolation;
mod javascript_sink;
mod keyvalue_races;
mod keyvalue_sinks;
mod limits;
#[cfg(target_os = "linux")]
mod memory;
mod nats;
mod ndjson_files;
mod output_files;
mod pace;
mod passwords;
mod platforms;
mod protocol;
mod put_command;
mod put_handler;
mod refusals;
mod request_heads;
mod request_table;
mod serve_connection;
mod signals;
mod sinks;
mod startup;
mod store_commands;
mod store_faults;
mod store_files;
mod store_readers;
mod store_start;
mod store_wal;
mod store_wal_files;
mod torture;
mod trailers;
mod worlds;
