//! Limits of the system for a running server, and its state as the system reports it.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::Peer;

impl Peer {
    /// Limits the size of the server's files from now on; `None` removes the limit.
    pub fn limit_file_size(&self, bytes: Option<u64>) {
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(self.pid(), Resource::Fsize, limit).expect("sets the limit");
    }

    /// Limits the number of files that the server may open beside those that it has open; `None` removes the
    /// limit.
    pub fn limit_open_files(&self, files: Option<u64>) {
        // The upper limit is inherited, and not everyone may raise it.
        let own = getrlimit(Resource::Nofile);
        let limit = Rlimit {
            current: files.or(own.current),
            maximum: own.maximum,
        };
        prlimit(self.pid(), Resource::Nofile, limit).expect("sets the limit");
    }

    /// The number of open files and connections of the server.
    pub fn open_files(&self) -> u64 {
        fs::read_dir(self.proc("fd")).expect("lists").count() as u64
    }

    /// Whether all threads of the server are stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        let tasks = fs::read_dir(self.proc("task")).expect("lists");
        let mut states = tasks.map(|task| {
            let stat = task.expect("lists").path().join("stat");
            let stat = fs::read_to_string(stat).expect("reads");
            // Its name, in brackets, may contain anything.
            let (_, rest) = stat.rsplit_once(") ").expect("has a name");
            rest.starts_with('T')
        });
        states.all(|is_stopped| is_stopped)
    }

    /// Whether the server has ended, and was not waited for yet.
    pub fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(self.proc("stat")).expect("reads");
        // Its name, in brackets, may contain anything.
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        state.expect("has a name").starts_with('Z')
    }

    fn proc(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.id()))
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.id()).ok().and_then(Pid::from_raw)
    }
}
