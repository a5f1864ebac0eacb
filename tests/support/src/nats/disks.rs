//! Disks that can lose power: unsynced data is lost then, as the kernel implements it.
//!
//! Each is an ext4 file system in a file, on a loop device, in a mount namespace of its own, which ends with
//! its processes. The loss of power is ext4's shutdown without a flush of its journal, as in file system tests:
//! dirty pages and the running transaction are dropped. Data that the kernel has already written stays, as on a
//! real machine. Only for root.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The size of each disk in MiB. The file is sparse.
const DISK_MEBIBYTES: u64 = 512;

/// The call that shuts a file system down, on any directory in it: `EXT4_IOC_SHUTDOWN` with
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`, on all of them before anything else.
const SHUT_DOWN: &str = "import fcntl, os, struct, sys
disks = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
for disk in disks:
    fcntl.ioctl(disk, 0x8004587d, struct.pack('I', 2))";

/// Disks that can be mounted, stopped and mounted again.
pub struct Disks {
    /// A process that only keeps the namespace, until its standard input ends.
    holder: Child,
    directory: TempDir,
    count: usize,
}

/// Why no disk can lose power on this machine.
pub fn no_disks() -> Option<&'static str> {
    let missing = "no disk can lose power: that takes root, loop devices, mkfs.ext4 and python3";
    let Ok(disks) = Disks::try_mount(1) else {
        return Some(missing);
    };
    disks.try_stop(&[0]).is_err().then_some(missing)
}

impl Disks {
    pub fn mount(count: usize) -> Self {
        Self::try_mount(count).expect("mounts disks")
    }

    fn try_mount(count: usize) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "echo held && exec cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let command = command.stderr(Stdio::null());
        let mut holder = command.spawn().map_err(|error| error.to_string())?;
        // Until then it is in the namespace of this process.
        let mut output = holder.stdout.take().expect("is piped");
        let is_held = output.read_exact(&mut [0; 5]);
        let disks = Self {
            holder,
            directory,
            count,
        };
        is_held.map_err(|error| error.to_string())?;
        for disk in 0..count {
            let file = File::create(disks.image(disk)).map_err(|error| error.to_string())?;
            let size = file.set_len(DISK_MEBIBYTES << 20);
            size.map_err(|error| error.to_string())?;
            let mut command = Command::new("mkfs.ext4");
            command.args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]);
            run(command.arg(disks.image(disk)))?;
            disks.mount_one(disk)?;
        }
        Ok(disks)
    }

    /// The mount point of a disk, within the namespace.
    pub fn path(&self, disk: usize) -> PathBuf {
        self.directory.path().join(format!("disk{disk}"))
    }

    fn image(&self, disk: usize) -> PathBuf {
        self.path(disk).with_extension("image")
    }

    /// The command that starts a program in the namespace, with the same process id.
    pub fn launcher(&self) -> Vec<String> {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        vec!["nsenter".to_owned(), namespace]
    }

    /// Writes everything to the disks, as the kernel does by itself after half a minute.
    pub fn sync(&self) {
        let disks = (0..self.count).map(|disk| self.path(disk));
        run(self.entering("sync").arg("--file-system").args(disks)).expect("is synced");
    }

    /// Cuts the power of disks. From now on nothing is written to them.
    pub fn stop(&self, disks: &[usize]) {
        self.try_stop(disks).expect("is shut down");
    }

    fn try_stop(&self, disks: &[usize]) -> Result<(), String> {
        let mut command = self.entering("python3");
        command.args(["-c", SHUT_DOWN]);
        run(command.args(disks.iter().map(|disk| self.path(*disk))))
    }

    /// Mounts stopped disks with their contents. No process may use them until then.
    pub fn mount_again(&self, disks: &[usize]) {
        for disk in disks {
            let unmounted = run(self.entering("umount").arg(self.path(*disk)));
            let mounted = unmounted.and_then(|()| self.mount_one(*disk));
            mounted.expect("is mounted again");
        }
    }

    fn mount_one(&self, disk: usize) -> Result<(), String> {
        let path = self.path(disk);
        if !Path::is_dir(&path) {
            std::fs::create_dir(&path).map_err(|error| error.to_string())?;
        }
        let mut command = self.entering("mount");
        run(command.args(["-o", "loop"]).arg(self.image(disk)).arg(path))
    }

    fn entering(&self, program: &str) -> Command {
        let launcher = self.launcher();
        let mut command = Command::new(&launcher[0]);
        command.args(&launcher[1..]).arg(program);
        command
    }
}

impl Drop for Disks {
    /// The disks are unmounted when the last process of the namespace has ended.
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{command:?}: {said}"))
        }
    }
}
