//! The program `alldata-peer`: an AllData peer server on the command line.
//!
//! Turns flags into calls of the library and errors into one line and an exit code. Everything
//! that is not the command line's own business is in the library.

mod arguments;
mod component;
mod export;
mod import;
mod limits;
mod logging;
mod open_files;
mod output;
mod put;
mod reader;
mod serve;
mod signals;
mod store;

use std::process::ExitCode;

use alldata_peer_server_http::Error;
use clap::Parser as _;

use arguments::{Arguments, Command};

/// The exit code of wrong usage, which is also clap's.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let Arguments {
        log_format,
        command,
    } = Arguments::parse();
    logging::start(log_format);
    let result = match command {
        Command::Serve(arguments) => serve::serve(arguments),
        Command::Get(arguments) => store::get(&arguments),
        Command::Export(arguments) => export::export(&arguments),
        Command::Import(arguments) => import::import(&arguments),
        Command::Verify(arguments) => store::verify(&arguments),
        Command::Put(arguments) => put::put(arguments),
        Command::Component(arguments) => component::component(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("error: {error:#}"));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let is_usage = error.is::<put::NotJson>()
        || error.is::<reader::NotAStore>()
        || error.is::<serve::UnusedSink>()
        || matches!(
            error.downcast_ref(),
            Some(Error::SinkUrl { .. } | Error::Setting { .. })
        );
    if is_usage { USAGE } else { 1 }
}
