//! `wasmtime serve` as it comes, from the crate of wasmtime's own program.
//!
//! Never adds to it: what the tests find here is what a user of wasmtime finds.

use std::process::Termination;

use clap::Parser as _;
use wasmtime_cli::commands::ServeCommand;

fn main() -> impl Termination {
    ServeCommand::parse().execute()
}
