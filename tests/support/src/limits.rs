//! Limits of the system for a server that runs, and what the system tells of it.
//!
//! Never ends the server.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::Peer;

impl Peer {
    /// From now on no file of the server grows beyond so many bytes; `None` lifts that.
    pub fn limit_file_size(&self, bytes: Option<u64>) {
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        prlimit(self.pid(), Resource::Fsize, limit).expect("sets the limit");
    }

    /// From now on the server has no more files open than so many, beside those that it has already;
    /// `None` lifts that.
    pub fn limit_open_files(&self, files: Option<u64>) {
        // It has the limits of the test, the upper one of which is not everybody's to set.
        let own = getrlimit(Resource::Nofile);
        let limit = Rlimit {
            current: files.or(own.current),
            maximum: own.maximum,
        };
        prlimit(self.pid(), Resource::Nofile, limit).expect("sets the limit");
    }

    /// How many files and connections the server has open.
    pub fn open_files(&self) -> u64 {
        fs::read_dir(self.proc("fd")).expect("lists").count() as u64
    }

    /// Whether all threads of the server are stopped by a signal.
    pub fn is_stopped(&self) -> bool {
        let tasks = fs::read_dir(self.proc("task")).expect("lists");
        let mut states = tasks.map(|task| {
            let stat = task.expect("lists").path().join("stat");
            let stat = fs::read_to_string(stat).expect("reads");
            // Its name, in brackets, may have anything in it.
            let (_, rest) = stat.rsplit_once(") ").expect("has a name");
            rest.starts_with('T')
        });
        states.all(|is_stopped| is_stopped)
    }

    /// Whether the server has ended, and was not waited for yet.
    pub fn has_ended(&self) -> bool {
        let stat = fs::read_to_string(self.proc("stat")).expect("reads");
        // Its name, in brackets, may have anything in it.
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
