//! A program of `host/examples/`, run as a user would run it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use super::DEADLINE;
use super::lines::Lines;
use super::process::{finish, kill, program_path, target, wait};

/// The time for building the examples.
const BUILD_DEADLINE: Duration = Duration::from_secs(1800);

/// A running example, killed when dropped.
pub struct Example {
    /// `None` after it was waited for.
    child: Option<Child>,
    stdout: Lines,
    stderr: Lines,
}

impl Example {
    pub fn start<A: AsRef<OsStr>>(name: &str, arguments: &[A]) -> Self {
        let mut child = Command::new(program(name))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let stdout = Lines::of(child.stdout.take().expect("is piped"));
        let stderr = Lines::of(child.stderr.take().expect("is piped"));
        Self {
            child: Some(child),
            stdout,
            stderr,
        }
    }

    /// The next line on standard output.
    #[track_caller]
    pub fn line(&self) -> String {
        self.stdout.next(DEADLINE)
    }

    /// The rest of the next line on standard output, which begins with `start`.
    #[track_caller]
    pub fn line_after(&self, start: &str) -> String {
        let line = self.line();
        let rest = line.strip_prefix(start);
        rest.unwrap_or_else(|| panic!("not {start:?}: {line:?}"))
            .to_owned()
    }

    /// Waits for a line on standard error that contains `text`.
    #[track_caller]
    pub fn error_line(&self, text: &str) -> String {
        self.stderr.with(text)
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(self) -> ExitStatus {
        self.end(Signal::INT)
    }

    pub fn end(self, signal: Signal) -> ExitStatus {
        kill(self.child.as_ref().expect("is running").id(), signal);
        self.wait()
    }

    /// Waits until the example ends.
    pub fn wait(mut self) -> ExitStatus {
        wait(self.child.take().expect("is running"))
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The path of an example. `cargo test` builds all of them, but not if it is asked for one test file.
fn program(name: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let directory = Path::new(program_path()).with_file_name("examples");
    let program = directory.join(name);
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    if !is_current(&program) {
        build();
    }
    program
}

/// Whether none of the source files of a program is newer.
fn is_current(program: &Path) -> bool {
    let modified = |path: &Path| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    let Ok(sources) = fs::read_to_string(program.with_extension("d")) else {
        return false;
    };
    let sources = sources.split_once(": ").map_or("", |(_, sources)| sources);
    let built = modified(program);
    let mut sources = sources.split_whitespace();
    built.is_some() && sources.all(|source| modified(Path::new(source)) <= built)
}

fn build() {
    let profile = target_profile();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--locked", "--examples", "--manifest-path"])
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../host/Cargo.toml"
        ))
        .args(["--profile", &profile, "--target-dir"])
        .arg(target());
    let output = finish(&mut cargo, "", BUILD_DEADLINE);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
}

/// The profile of the tests, by the name of its directory.
fn target_profile() -> String {
    let directory = Path::new(program_path()).parent().and_then(Path::file_name);
    match directory.and_then(OsStr::to_str) {
        Some("debug") => "dev".to_owned(),
        profile => profile.expect("is a profile").to_owned(),
    }
}
