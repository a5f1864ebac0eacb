//! `completions` and `man`: shell completions and manual pages of the command line.
//!
//! Generated from the same definitions as the help, independent of the environment.

use std::path::Path;

use anyhow::Result;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::arguments::Arguments;
use crate::output;

/// Prints the completion script of a shell.
pub(crate) fn completions(shell: Shell) -> Result<()> {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    output::write_whole(Path::new(output::STDOUT), &script)
}

/// Prints the manual page of the program, or writes that of the program and of each command to a
/// directory.
pub(crate) fn man(directory: Option<&Path>) -> Result<()> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let Some(directory) = directory else {
        return output::write_whole(Path::new(output::STDOUT), &page(command)?);
    };
    let commands: Vec<Command> = command.get_subcommands().cloned().collect();
    for command in commands.into_iter().chain([command]) {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = directory.join(format!("{name}.1"));
        output::write_whole(&path, &page(command)?)?;
    }
    Ok(())
}

fn page(command: Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    Ok(page)
}
