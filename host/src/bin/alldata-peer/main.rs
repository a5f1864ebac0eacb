//! The program `alldata-peer`: an AllData peer server on the command line.
//!
//! Maps flags to calls of the library, and errors to one line and an exit code.

mod access;
mod access_log;
#[cfg(unix)]
mod activation;
#[cfg(feature = "admin")]
mod admin;
mod allocator;
mod arguments;
mod atomic_file;
mod built_in;
mod check;
mod component;
mod config;
mod environment;
mod exit_code;
mod export;
mod get;
mod health;
mod import;
mod limits;
mod lines;
mod logging;
mod manual;
mod open_files;
#[cfg_attr(not(feature = "otlp"), path = "no_otlp.rs")]
mod otlp;
mod output;
mod panics;
mod parse;
mod progress;
mod proxies;
mod put;
mod reader;
mod serve;
#[cfg_attr(not(unix), path = "no_service_manager.rs")]
mod service_manager;
mod signals;
mod startup;
mod units;
mod verify;
mod version;

use std::process::ExitCode;

use clap::CommandFactory as _;

use arguments::{Arguments, Command};
use environment::IgnoredVariables;

fn main() -> ExitCode {
    allocator::return_large_allocations();
    panics::report_resource_limits();
    let ignored = IgnoredVariables::find(&Arguments::command());
    let Arguments {
        log_format,
        command,
    } = match parse::parse() {
        Ok(arguments) => arguments,
        Err(error) => return fail(&error.into()),
    };
    let is_server = matches!(command, Command::Serve(_));
    let traces = match logging::start(log_format, is_server) {
        Ok(traces) => traces,
        Err(error) => return fail(&error),
    };
    ignored.log(is_server);
    if let Err(error) = signals::ignore_file_size_signal() {
        tracing::warn!(%error, "cannot ignore SIGXFSZ: a file that exceeds the file size limit ends this process");
    }
    let result = match command {
        Command::Serve(arguments) if arguments.check => check::check(*arguments),
        Command::Serve(arguments) => serve::serve(*arguments),
        Command::Get(arguments) => get::get(&arguments),
        Command::Export(arguments) => export::export(&arguments),
        Command::Import(arguments) => import::import(&arguments),
        Command::Verify(arguments) => verify::verify(&arguments),
        Command::Put(arguments) => put::put(arguments),
        Command::Health(arguments) => health::health(&arguments),
        Command::Component(arguments) => component::component(&arguments),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { output } => manual::man(output.as_deref()),
    };
    traces.flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Reports an error, and returns its exit code.
fn fail(error: &anyhow::Error) -> ExitCode {
    output::report(&format!("error: {error:#}"));
    ExitCode::from(exit_code::of(error))
}
