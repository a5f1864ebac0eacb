//! Ends the process on a panic before a server listens, on whichever thread: a service manager would not
//! restart a process that runs but does not listen.

use std::panic;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::output;

/// The texts of panics if no thread can be created: of Tokio, Rayon and the standard library.
const NO_THREAD: [&str; 3] = [
    "spawn worker thread",
    "ThreadPoolBuildError",
    "failed to spawn thread",
];

/// The text in a panic, such as those of Tokio, if no file can be opened.
const NO_FILE: &str = "Too many open files";

/// The exit code of a failure.
const EXIT_FAILURE: i32 = 1;

/// The exit code of a panic.
const EXIT_PANIC: i32 = 101;

static IS_SERVER_STARTING: AtomicBool = AtomicBool::new(false);
static IS_SERVING: AtomicBool = AtomicBool::new(false);

/// Reports a lack of threads or of open files in one line, with exit code 1, until a server listens.
pub(crate) fn report_resource_limits() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let is_serving = IS_SERVING.load(Ordering::Relaxed);
        let text = panic.payload_as_str().unwrap_or_default();
        if let Some(limit) = limit(text).filter(|_| !is_serving) {
            output::report(&format!("error: {limit}"));
            process::exit(EXIT_FAILURE);
        }
        default(panic);
        if !is_serving && IS_SERVER_STARTING.load(Ordering::Relaxed) {
            process::exit(EXIT_PANIC);
        }
    }));
}

/// Makes a panic end the process, until [`server_listens`].
pub(crate) fn server_starts() {
    IS_SERVER_STARTING.store(true, Ordering::Relaxed);
}

/// Makes a panic end only its thread or task.
pub(crate) fn server_listens() {
    IS_SERVING.store(true, Ordering::Relaxed);
}

/// The resource limit that caused a panic, with advice.
fn limit(panic: &str) -> Option<String> {
    let (threads, files) = current_limits();
    if NO_THREAD.iter().any(|start| panic.contains(start)) {
        return Some(format!(
            "no more threads can be created: raise the limit of processes of this user \
             (`ulimit -u`{threads}), TasksMax= of its unit or pids.max of its container"
        ));
    }
    panic
        .contains(NO_FILE)
        .then(|| format!("too many open files: raise `ulimit -n`{files}"))
}

#[cfg(unix)]
fn current_limits() -> (String, String) {
    use rustix::process::{Resource, getrlimit};
    let current = |resource| {
        let limit = getrlimit(resource).current;
        limit.map_or_else(String::new, |limit| format!(", {limit} now"))
    };
    (current(Resource::Nproc), current(Resource::Nofile))
}

#[cfg(not(unix))]
fn current_limits() -> (String, String) {
    Default::default()
}
