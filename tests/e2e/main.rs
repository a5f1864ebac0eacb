//! End-to-end tests: the real program and the library, over real sockets.
//!
//! Every wait has a deadline and waits for a condition. Ports are free ones, read back.

mod support;

mod bad_guests;
mod command_line;
mod component;
mod compose;
mod composed_serve;
mod connections;
mod differences;
mod directory_faults;
mod directory_sink;
mod durability;
mod embedding;
mod forward_order;
mod forward_sink;
mod forward_trouble;
mod javascript_sink;
mod keyvalue_races;
mod keyvalue_sinks;
mod platforms;
mod protocol;
mod request_table;
mod sinks;
mod store_commands;
mod store_faults;
mod worlds;
