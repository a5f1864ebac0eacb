//! End-to-end tests: the real program and the library, over real sockets.
//!
//! Every wait has a deadline and waits for a condition. Ports are free ones, read back.

mod support;

mod bad_guests;
mod command_line;
mod component;
mod connections;
mod differences;
mod durability;
mod embedding;
mod protocol;
mod sinks;
mod store_commands;
mod store_faults;
