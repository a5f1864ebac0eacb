//! Programs with a deadline.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::DEADLINE;

/// The variable with the directory of the compile cache.
pub const COMPILE_CACHE: &str = "ALLDATA_PEER_COMPILE_CACHE";

/// The program under test, which cargo builds before its integration tests, beside their directory.
pub fn program_path() -> &'static str {
    static PATH: LazyLock<String> = LazyLock::new(|| {
        let test = env::current_exe().expect("has a path");
        let profile = test.parent().and_then(Path::parent);
        let program = profile.expect("is in deps/").join("alldata-peer");
        assert!(program.is_file(), "{} is not built", program.display());
        program.into_os_string().into_string().expect("is text")
    });
    &PATH
}

/// A directory below the target directory, for files that are kept from one run to the next.
pub fn scratch() -> PathBuf {
    let directory = target().join("tmp");
    fs::create_dir_all(&directory).expect("makes a directory");
    directory
}

/// The compile cache of servers in tests, unless a test sets another one: so that they start quickly, and use
/// no directory of the user.
pub fn compile_cache() -> (&'static str, PathBuf) {
    (COMPILE_CACHE, scratch().join("compile-cache"))
}

/// A command line that begins with the program under test.
pub fn program() -> Command {
    let mut command = Command::new(program_path());
    command.envs([compile_cache()]);
    command
}

/// The target directory.
pub fn target() -> PathBuf {
    let program = Path::new(program_path());
    let target = program.parent().and_then(Path::parent);
    target
        .expect("the program is in a profile's directory")
        .to_owned()
}

/// The output of a program that has ended.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program to its end.
pub fn run(arguments: &[&str]) -> Output {
    run_with_input(arguments, "")
}

/// The command line of a server on a free port with this sink.
pub fn serve(sink: &str) -> [&str; 5] {
    let listen = "--hostname=127.0.0.1";
    ["serve", listen, "--port=0", "--sink", sink]
}

/// Runs the program to its end with `input` on its standard input.
pub fn run_with_input(arguments: &[&str], input: &str) -> Output {
    finish(program().args(arguments), input, DEADLINE)
}

/// Runs the program to its end by another program, which executes it.
pub fn run_by(launcher: &[&str], arguments: &[&str]) -> Output {
    let (launcher, words) = launcher.split_first().expect("has words");
    let mut command = Command::new(launcher);
    command
        .args(words)
        .arg(program_path())
        .envs([compile_cache()]);
    finish(command.args(arguments), "", DEADLINE)
}

/// Runs the program on a terminal, by another program, with a variable set or not, and returns its output.
pub fn run_on_terminal(
    launcher: &str,
    arguments: &str,
    variable: &str,
    value: Option<&str>,
) -> String {
    let mut command = Command::new("script");
    let program = program_path();
    let line = format!("{launcher} '{program}' {arguments}");
    command.args(["-qec", &line, "/dev/null"]);
    command.envs([compile_cache()]).env("TERM", "xterm");
    match value {
        Some(value) => command.env(variable, value),
        None => command.env_remove(variable),
    };
    finish(&mut command, "", DEADLINE).stdout
}

impl Output {
    /// Runs the program to its end with these variables in its environment.
    pub fn with_environment(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = program();
        let variables = variables.iter().copied();
        finish(command.args(arguments).envs(variables), "", DEADLINE)
    }

    /// Asserts that the program succeeded, and returns its standard output.
    #[track_caller]
    pub fn assert_ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.stderr, "", "{self:?}");
        &self.stdout
    }

    /// The events in the lines of an export, by key, with their exact texts.
    #[track_caller]
    pub fn events(&self) -> BTreeMap<String, String> {
        self.lines_of_events().into_iter().collect()
    }

    /// Key and event of each line of an export, with their exact texts.
    #[track_caller]
    pub fn lines_of_events(&self) -> Vec<(String, String)> {
        let lines = self.assert_ok().lines();
        let events = lines.map(|line| {
            let line: Line<'_> = serde_json::from_str(line).expect("is an event with its key");
            (line.key, line.event.get().to_owned())
        });
        events.collect()
    }

    /// Asserts that the program failed with this exit code and one sentence, and returns that.
    #[track_caller]
    pub fn assert_failed(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        assert!(!self.stderr.contains("backtrace"), "{self:?}");
        let (sentence, rest) = self.stderr.split_once('\n').expect("is a line");
        assert!(sentence.starts_with("error: "), "{self:?}");
        // On wrong usage, a hint at the help may follow.
        assert!(code == 2 || rest.is_empty(), "{self:?}");
        assert!(!rest.contains("error"), "{self:?}");
        sentence
    }
}

/// A line of NDJSON, as in an export.
#[derive(Deserialize)]
struct Line<'a> {
    key: String,
    #[serde(borrow)]
    event: &'a RawValue,
}

/// Runs a program to its end, which has to come within `deadline`.
pub fn finish(command: &mut Command, input: &str, deadline: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut stdin = child.stdin.take().expect("is piped");
    // The program may end without reading it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let id = child.id();
    let output = within_deadline(id, deadline, move || child.wait_with_output()).expect("is read");
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("is text"),
        stderr: String::from_utf8(output.stderr).expect("is text"),
    }
}

/// Waits for a program to end, and kills it at the deadline.
pub fn wait(mut child: Child) -> ExitStatus {
    let id = child.id();
    within_deadline(id, DEADLINE, move || child.wait()).expect("is waited for")
}

fn within_deadline<T: Send + 'static>(
    id: u32,
    deadline: Duration,
    wait: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(wait()));
    receiver.recv_timeout(deadline).unwrap_or_else(|_| {
        kill(id, rustix::process::Signal::KILL);
        panic!("the program did not end in time");
    })
}

/// Sends a signal to a process of a test.
pub fn kill(id: u32, signal: rustix::process::Signal) {
    let id = i32::try_from(id)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(id.expect("is a process"), signal).expect("is sent");
}
