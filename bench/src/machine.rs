//! The machine and the versions of a measurement.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::tools::Tools;

/// A line for each property that affects the figures.
pub(crate) fn describe(tools: &Tools) -> String {
    let unknown = || "unknown".to_owned();
    let run = |program: &str, arguments: &[&str]| {
        first_line(Path::new(program), arguments).unwrap_or_else(unknown)
    };
    let version = |program: &Option<PathBuf>| match program {
        Some(path) => first_line(path, &["--version"]).unwrap_or_else(unknown),
        None => "not there".to_owned(),
    };
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let processor = proc_field("cpuinfo", "model name").unwrap_or_else(unknown);
    let memory = proc_field("meminfo", "MemTotal").unwrap_or_else(unknown);
    // Its version is in the first line of its usage.
    let wrk = first_line(&tools.wrk, &["-v"]).unwrap_or_else(unknown);
    let wrk = wrk.split(" [").next().unwrap_or_default();
    [
        ("date", run("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        ("processor", format!("{cores} cores of {processor}")),
        ("memory", memory),
        ("kernel", run("uname", &["-sr"])),
        ("commit", run("git", &["describe", "--always", "--dirty"])),
        ("rustc", run("rustc", &["--version"])),
        ("node", version(&tools.node)),
        ("wasmtime", version(&tools.wasmtime)),
        ("wrk", wrk.to_owned()),
        ("oha", version(&tools.oha)),
        ("etcd", version(&tools.etcd)),
        ("redis", version(&tools.redis)),
    ]
    .map(|(name, value)| format!("* {name}: {value}\n"))
    .concat()
}

/// The first line of a program's output, if it exists and prints one.
fn first_line(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next()?.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// A field of a file in `/proc`.
fn proc_field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new("/proc").join(file)).ok()?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(field, _)| field.trim() == name)?;
    Some(value.trim().to_owned())
}
