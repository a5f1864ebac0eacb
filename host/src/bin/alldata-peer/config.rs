//! The configuration file of `serve` (`--config`): TOML whose keys are the long flags.
//!
//! Each key becomes a flag in front of those of the command line, so that a value is parsed and checked in
//! the same way wherever it stands. A key is left out if its flag or its variable is given.

use std::any::TypeId;
use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::units::{Bytes, Timeout};

/// The command that has a configuration file.
const SERVE: &str = "serve";

/// The flag that names the file.
const CONFIG: &str = "config";

/// Flags that choose an action or the file itself: they are not keys.
const NOT_KEYS: [&str; 4] = [CONFIG, "check", "help", "version"];

/// The size of a file that is read, in bytes: a thousand times the example in `deploy/`.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {reason}", path.display())]
    Invalid {
        path: PathBuf,
        line: usize,
        reason: String,
    },
}

/// The command line of this process, with the flags of its configuration file.
#[derive(Debug, Default)]
pub(crate) struct CommandLine {
    pub(crate) words: Vec<OsString>,
    /// A configuration file that other users can read, and that has a URL with a password.
    pub(crate) exposed_file: Option<PathBuf>,
}

/// A key of the file that is in effect, as the words of its flag.
struct Entry {
    line: usize,
    words: Vec<OsString>,
}

impl CommandLine {
    /// Reads the command line, and the configuration file that it or the environment names. The variables of
    /// `command` are those that apply.
    pub(crate) fn read(command: &Command) -> Result<Self, ConfigError> {
        let words: Vec<OsString> = env::args_os().collect();
        let mut parser = without_variables(command.clone()).ignore_errors(true);
        parser.build();
        // An error is reported when all words are parsed.
        let matches = parser.try_get_matches_from_mut(&words).ok();
        let given = matches.as_ref().and_then(|matches| matches.subcommand());
        let (Some((SERVE, given)), Some(serve)) = (given, command.find_subcommand(SERVE)) else {
            return Ok(Self::of(words));
        };
        let path = given.get_one::<PathBuf>(CONFIG).cloned();
        let variable = || Some(PathBuf::from(variable_of(argument(serve, CONFIG)?)?));
        let Some(path) = path.or_else(variable) else {
            return Ok(Self::of(words));
        };
        let file = ConfigFile::read(path, command)?;
        let flags = file.flags(given)?;
        let exposed = flags.iter().any(is_secret) && is_readable_by_others(&file.path);
        let serve = words.iter().position(|word| word == SERVE);
        let (before, after) = words.split_at(serve.map_or(words.len(), |position| position + 1));
        Ok(Self {
            words: [before, &flags, after].concat(),
            exposed_file: exposed.then_some(file.path),
        })
    }

    fn of(words: Vec<OsString>) -> Self {
        Self {
            words,
            exposed_file: None,
        }
    }
}

struct ConfigFile {
    path: PathBuf,
    text: String,
    /// The whole command, with the flags of all commands in each, and its variables.
    command: Command,
}

impl ConfigFile {
    fn read(path: PathBuf, command: &Command) -> Result<Self, ConfigError> {
        let mut text = String::new();
        let read = File::open(&path).and_then(|file| {
            let bytes = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
            if bytes as u64 > MAX_FILE_BYTES {
                let limit = format!("it has more than {}", Bytes(MAX_FILE_BYTES));
                return Err(io::Error::other(limit));
            }
            Ok(())
        });
        if let Err(source) = read {
            return Err(ConfigError::Read { path, source });
        }
        let mut command = command.clone();
        command.build();
        Ok(Self {
            path,
            text,
            command,
        })
    }

    /// The flags for the keys that neither a flag in `given` nor a variable overrides.
    fn flags(&self, given: &ArgMatches) -> Result<Vec<OsString>, ConfigError> {
        let table = DeTable::parse(&self.text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            self.invalid(self.line(at), error.message().replace('\n', ", "))
        })?;
        let mut keys: Vec<_> = table.get_ref().iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        let mut flags = Vec::new();
        for (key, value) in keys {
            let line = self.line(key.span().start);
            let argument = self.argument(key.get_ref(), line)?;
            let entry = self.entry(argument, line, value)?;
            self.check(&entry)?;
            if !self.is_overridden(argument, given) {
                flags.extend(entry.words);
            }
        }
        Ok(flags)
    }

    fn serve(&self) -> &Command {
        let serve = self.command.find_subcommand(SERVE);
        serve.unwrap_or(&self.command)
    }

    /// The flag of a key.
    fn argument(&self, key: &str, line: usize) -> Result<&Arg, ConfigError> {
        if let Some(argument) = argument(self.serve(), key).filter(|_| !NOT_KEYS.contains(&key)) {
            return Ok(argument);
        }
        // clap knows the most similar flag.
        let similar = match self.parse(&[format!("--{key}").into()]) {
            Err(error) => match error.get(ContextKind::SuggestedArg) {
                Some(ContextValue::String(flag)) => flag.strip_prefix("--").map(str::to_owned),
                _ => None,
            },
            Ok(()) => None,
        };
        let hint = match similar.filter(|similar| !NOT_KEYS.contains(&&**similar)) {
            Some(similar) => format!("did you mean {similar:?}?"),
            None => "the keys are the long flags of `alldata-peer serve`".to_owned(),
        };
        Err(self.invalid(line, format!("unknown key {key:?}: {hint}")))
    }

    /// The words of a flag with the value of its key.
    fn entry(
        &self,
        argument: &Arg,
        line: usize,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<Entry, ConfigError> {
        let flag = format!("--{}", argument.get_long().unwrap_or_default());
        let with_value = |text: &str| OsString::from(format!("{flag}={text}"));
        let wrong = |found: &str, expected: &str| {
            let key = &flag[2..];
            self.invalid(line, format!("{key:?} is {found}, but must be {expected}"))
        };
        let words = match (argument.get_action(), value.get_ref()) {
            (ArgAction::SetTrue, DeValue::Boolean(true)) => vec![OsString::from(&flag)],
            (ArgAction::SetTrue, DeValue::Boolean(false)) => Vec::new(),
            (ArgAction::SetTrue, other) => return Err(wrong(name(other), "true or false")),
            (ArgAction::Append, DeValue::Array(values)) => {
                let texts = values.iter().map(|value| match value.get_ref() {
                    DeValue::String(text) => Ok(with_value(text)),
                    other => Err(wrong(
                        &format!("an array with {}", name(other)),
                        "an array of strings",
                    )),
                });
                texts.collect::<Result<_, _>>()?
            }
            (ArgAction::Append, other) => {
                return Err(wrong(name(other), "an array of strings"));
            }
            (_, value) => match (expected(argument), value) {
                ("a string" | NUMBER_WITH_UNIT, DeValue::String(text)) => vec![with_value(text)],
                ("a number" | NUMBER_WITH_UNIT, DeValue::Integer(number))
                    if number.radix() == 10 =>
                {
                    vec![with_value(number.as_str())]
                }
                (expected, other) => return Err(wrong(name(other), expected)),
            },
        };
        Ok(Entry { line, words })
    }

    /// Checks the value of one key by itself.
    fn check(&self, entry: &Entry) -> Result<(), ConfigError> {
        let Err(error) = self.parse(&entry.words) else {
            return Ok(());
        };
        match error.kind() {
            // Dependencies between flags are checked when all are there.
            ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict => Ok(()),
            _ => {
                let text = error.render().to_string();
                let sentence = text.lines().next().unwrap_or_default();
                let sentence = sentence.trim_start_matches("error: ");
                Err(self.invalid(entry.line, sentence.to_owned()))
            }
        }
    }

    /// Parses flags of `serve`.
    fn parse(&self, flags: &[OsString]) -> Result<(), clap::Error> {
        let command = without_variables(self.command.clone());
        let words = [self.command.get_name(), SERVE].map(OsString::from);
        command
            .try_get_matches_from([&words[..], flags].concat())
            .map(drop)
    }

    /// Whether the flag, or one that excludes it, is given on the command line or by a variable.
    fn is_overridden(&self, argument: &Arg, given: &ArgMatches) -> bool {
        let is_given = |argument: &Arg| {
            let source = given.value_source(argument.get_id().as_str());
            source == Some(ValueSource::CommandLine) || variable_of(argument).is_some()
        };
        let others = self.serve().get_arg_conflicts_with(argument);
        is_given(argument) || others.into_iter().any(is_given)
    }

    /// The number of the line at a position.
    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn invalid(&self, line: usize, reason: String) -> ConfigError {
        ConfigError::Invalid {
            path: self.path.clone(),
            line,
            reason,
        }
    }
}

/// The values of a flag that takes a number of bytes or a time.
const NUMBER_WITH_UNIT: &str = "a number or a string with a unit";

/// The kind of value that a flag takes.
fn expected(argument: &Arg) -> &'static str {
    let is = |types: &[TypeId]| {
        let parsed = argument.get_value_parser().type_id();
        types.iter().any(|known| parsed == *known)
    };
    if is(&[TypeId::of::<Bytes>(), TypeId::of::<Timeout>()]) {
        NUMBER_WITH_UNIT
    } else if is(&[
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
    ]) {
        "a number"
    } else {
        "a string"
    }
}

/// The name of the type of a value.
fn name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The flag with this long name.
fn argument<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let mut arguments = command.get_arguments();
    arguments.find(|argument| argument.get_long() == Some(name))
}

/// The value of the variable of a flag.
fn variable_of(argument: &Arg) -> Option<OsString> {
    argument.get_env().and_then(env::var_os)
}

fn without_variables(command: Command) -> Command {
    command
        .mut_args(|argument| argument.env(Resettable::Reset))
        .mut_subcommands(without_variables)
}

/// Whether a flag has a URL with a password.
fn is_secret(word: &OsString) -> bool {
    let word = word.to_string_lossy();
    let url = word.split_once("://").map(|(_, rest)| rest);
    let authority = url.and_then(|rest| rest.split('/').next());
    authority.is_some_and(|authority| authority.contains('@'))
}

#[cfg(unix)]
fn is_readable_by_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;

    /// The bit of a mode that lets all users read.
    const OTHERS_READ: u32 = 0o004;
    let metadata = std::fs::metadata(path);
    metadata.is_ok_and(|file| file.permissions().mode() & OTHERS_READ != 0)
}

/// Other systems have no such bits.
#[cfg(not(unix))]
fn is_readable_by_others(_: &Path) -> bool {
    false
}
