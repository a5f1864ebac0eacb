//! A file system of a server's own, which a test can make small, fill, and make read-only.
//!
//! It is in a mount namespace that only the server has, and ends with it. Other processes do not see the mount.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{finish, program_path, run_by, serve};
use super::{DEADLINE, Output, Peer, PeerBuilder};

/// The mount point, in the directory of the server.
const DISK: &str = "disk";

/// Why no server can have a file system of its own here.
pub fn no_own_disk() -> Option<&'static str> {
    let (launcher, words) = UNSHARE.split_first().expect("has words");
    let mut command = Command::new(launcher);
    let script = "mount -t tmpfs none .";
    command.args(words).args(["sh", "-c", script]);
    let directory = tempfile::tempdir().expect("makes a directory");
    let output = command.current_dir(directory.path()).output();
    let can = output.is_ok_and(|output| output.status.success());
    (!can).then_some("this machine lets nobody mount in a namespace of its own")
}

/// The command that gives a program a mount namespace: root keeps its user, others become root in a user
/// namespace.
const UNSHARE: [&str; 3] = ["unshare", "--mount", "--map-root-user"];

/// The command that lets another program enter it.
const ENTER: [&str; 4] = ["nsenter", "--user", "--mount", "--preserve-credentials"];

impl PeerBuilder {
    /// Gives the server a file system of this many KiB for its store.
    pub fn on_own_disk(self, kibibytes: u64) -> Self {
        let mount = format!("mount -t tmpfs -o size={kibibytes}k none {DISK}");
        let script = format!("mkdir -p {DISK} && {mount} && exec \"$0\" \"$@\"");
        let launcher = [&UNSHARE[..], &["sh", "-c", &script]].concat();
        self.launched_by(&launcher)
            .sink(&format!("sqlite:{DISK}/alldata.db"))
    }
}

/// Starts the program with a store on a read-only file system that has the files of a directory. It has to end
/// by itself.
pub fn serve_on_read_only_disk(files: &Path) -> Output {
    on_read_only_disk(files, |store| serve(store).map(str::to_owned).to_vec())
}

/// Runs a command on such a store to its end.
pub fn run_on_read_only_disk(files: &Path, command: &[&str]) -> Output {
    on_read_only_disk(files, |store| {
        let words = [command, &["--store", store]].concat();
        words.into_iter().map(str::to_owned).collect()
    })
}

fn on_read_only_disk(files: &Path, arguments: impl FnOnce(&str) -> Vec<String>) -> Output {
    let place = tempfile::tempdir().expect("makes a directory");
    let (files, place) = (files.display(), place.path().display());
    let mount = format!("mount -t tmpfs none {place} && cp -a {files}/. {place}");
    let script = format!("{mount} && mount -o remount,ro {place} && exec \"$0\" \"$@\"");
    let launcher = [&UNSHARE[..], &["sh", "-c", &script]].concat();
    let arguments = arguments(&format!("sqlite:{place}/alldata.db"));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run_by(&launcher, &arguments)
}

impl Peer {
    /// A file on the server's own file system, by its path there.
    pub fn file_on_disk(&self, name: &str) -> PathBuf {
        self.file(DISK).join(name)
    }

    /// Remounts the file system with these options, unless it is busy.
    pub fn remount(&self, options: &str) -> Result<(), String> {
        let options = format!("remount,{options}");
        let disk = self.file(DISK);
        let mut mount = self.entering("mount");
        let output = finish(mount.args(["-o", &options]).arg(disk), "", DEADLINE);
        match output.code {
            Some(0) => Ok(()),
            _ => Err(output.stderr),
        }
    }

    /// Mounts another file system over the server's own, or unmounts it.
    pub fn cover_disk(&self, is_covered: bool) {
        let disk = self.file(DISK);
        let output = match is_covered {
            true => {
                let mut mount = self.entering("mount");
                finish(mount.args(["-t", "tmpfs", "none"]).arg(disk), "", DEADLINE)
            }
            false => finish(self.entering("umount").arg(disk), "", DEADLINE),
        };
        assert_eq!(output.code, Some(0), "{output:?}");
    }

    /// Runs the program in the namespace of the server.
    pub fn run_on_disk(&self, command: &str) -> Output {
        let store = format!("sqlite:{}", self.file_on_disk("alldata.db").display());
        let mut program = self.entering(program_path());
        finish(program.args([command, "--store", &store]), "", DEADLINE)
    }

    /// Runs a shell script in the namespace of the server, whatever its result.
    pub fn run_beside(&self, script: &str) {
        finish(self.entering("sh").args(["-c", script]), "", DEADLINE);
    }

    fn entering(&self, program: &str) -> Command {
        let (enter, words) = ENTER.split_first().expect("has words");
        let mut command = Command::new(enter);
        command
            .args(words)
            .args(["--target", &self.id().to_string(), program]);
        command
    }
}
