//! Parses the command line, the environment variables of flags, and the configuration file.

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::arguments::{Arguments, Command};
use crate::config::{CommandLine, ConfigError};
use crate::{environment, startup};

/// The arguments of this process. On wrong usage it ends the process.
pub(crate) fn parse() -> Result<Arguments, ConfigError> {
    let mut command = environment::prepare(Arguments::command());
    let line = CommandLine::read(&command)?;
    let matches = command
        .try_get_matches_from_mut(line.words)
        .unwrap_or_else(|error| error.exit());
    let arguments = Arguments::from_arg_matches(&matches);
    let mut arguments = arguments.unwrap_or_else(|error| error.format(&mut command).exit());
    if let Command::Serve(serve) = &mut arguments.command {
        serve.changed_limits = startup::changed_limits(&command, &matches);
        serve.exposed_file = line.exposed_file;
    }
    Ok(arguments)
}
