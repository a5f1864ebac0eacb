//! What a panic does to the process before a server listens: it ends it, whichever thread it is on, since a
//! process that goes on and does not listen is started again by nobody.

use std::panic;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::output;

/// What libraries panic with where no thread can be created: Tokio, Rayon and the standard library.
const NO_THREAD: [&str; 3] = [
    "spawn worker thread",
    "ThreadPoolBuildError",
    "failed to spawn thread",
];

/// What is in the text of a panic, as of Tokio's, where no file can be opened.
const NO_FILE: &str = "Too many open files";

/// The exit code of a failure.
const FAILURE: i32 = 1;

/// The exit code of a panic.
const PANIC: i32 = 101;

static IS_SERVER_STARTING: AtomicBool = AtomicBool::new(false);
static IS_SERVING: AtomicBool = AtomicBool::new(false);

/// From now on a lack of threads or of open files is one line and exit code 1, until a server listens.
pub(crate) fn tell_limits() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let is_serving = IS_SERVING.load(Ordering::Relaxed);
        let text = panic.payload_as_str().unwrap_or_default();
        if let Some(limit) = limit(text).filter(|_| !is_serving) {
            output::complain(&format!("error: {limit}"));
            process::exit(FAILURE);
        }
        default(panic);
        if !is_serving && IS_SERVER_STARTING.load(Ordering::Relaxed) {
            process::exit(PANIC);
        }
    }));
}

/// From now on a panic ends the process, until [`server_listens`].
pub(crate) fn server_starts() {
    IS_SERVER_STARTING.store(true, Ordering::Relaxed);
}

/// From now on a panic ends what it happened in.
pub(crate) fn server_listens() {
    IS_SERVING.store(true, Ordering::Relaxed);
}

/// Which limit a panic comes of.
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
