//! The output of `export` and `component`: a file that is complete or unchanged, with its mode and its owner,
//! or a pipe or device.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};

use rusqlite::Connection as Database;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::support::{can_make, no_own_disk, run, run_by, run_with_input, wait_until};

const LINE: &str = "{\"key\":\"key1\",\"event\":1}\n";

/// The number of events: exporting them takes long enough for a signal.
const EVENTS: usize = 20_000;

#[test]
fn interrupted_export_leaves_the_file_as_it_was() {
    let store = Store::of(&many_lines());
    let signals = [
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::QUIT,
        Signal::USR1,
        Signal::KILL,
    ];
    for signal in signals.into_iter().filter(|signal| !is_ignored(*signal)) {
        let program = Command::new(env!("CARGO_BIN_EXE_alldata-peer"));
        let status = store.interrupt_export(program, signal);
        assert_eq!(status.signal(), Some(signal.as_raw()));
    }
}

#[test]
fn interrupted_export_without_unnamed_files_removes_its_file() {
    if !can_make("a system without unnamed files", no_own_disk()) {
        return;
    }
    let store = Store::of(&many_lines());
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let mut program = Command::new("unshare");
        // Without `/proc`, an unnamed file can't be given a name.
        let script = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
        program
            .args(["--mount", "--map-root-user", "sh", "-c", script])
            .arg(env!("CARGO_BIN_EXE_alldata-peer"));
        let status = store.interrupt_export(program, signal);
        assert_eq!(status.code(), Some(128 + signal.as_raw()));
    }
}

#[test]
fn failed_output_leaves_the_file_as_it_was() {
    if !can_make("a full disk", no_own_disk()) {
        return;
    }
    let store = Store::of(LINE);
    let script = "mount -t tmpfs -o size=64k none \"$DIR\" && cd \"$DIR\" && echo old > old && \
        ! \"$0\" component -o old && ! \"$0\" component -o new && ls -A && cat old";
    let launcher = ["unshare", "--mount", "--map-root-user", "sh", "-c"];
    let script = script.replace("$DIR", &store.path(""));
    let output = run_by(&[&launcher[..], &[&script]].concat(), &[]);
    assert_eq!(output.stdout, "old\nold\n", "{output:?}");
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(output.stderr.contains("cannot write old"), "{output:?}");
}

#[test]
fn planted_link_is_not_followed() {
    let store = Store::of(LINE);
    let victim = store.path("victim");
    fs::write(&victim, "mine").expect("writes");
    // The last path contains the process id of the shell, which the program takes over.
    let script = "ln -s victim out.$$.partial; exec \"$0\" \"$@\"";
    let script = format!("cd {}; {script}", store.path(""));
    let arguments = ["export", "--store", &store.url(), "-o", "out"];
    run_by(&["sh", "-c", &script], &arguments).assert_ok();
    assert_eq!(fs::read_to_string(&victim).expect("reads"), "mine");
    assert_eq!(fs::read_to_string(store.path("out")).expect("reads"), LINE);
}

#[test]
fn replaced_file_keeps_mode_and_owner() {
    let store = Store::of(LINE);
    let target = store.path("out");
    for mode in [0o600, 0o640, 0o644, 0o666] {
        fs::write(&target, "old").expect("writes");
        fs::set_permissions(&target, Permissions::from_mode(mode)).expect("sets");
        let is_root = geteuid().is_root();
        if is_root {
            chown(&target, Some(1), Some(2)).expect("gives it away");
        }
        store.export(&target);
        let metadata = fs::metadata(&target).expect("is there");
        assert_eq!(metadata.mode() & 0o777, mode);
        if is_root {
            assert_eq!((metadata.uid(), metadata.gid()), (1, 2));
        }
        assert_eq!(fs::read_to_string(&target).expect("reads"), LINE);
    }
}

#[test]
fn new_file_has_the_mode_of_the_umask() {
    let store = Store::of(LINE);
    for (umask, mode) in [("077", 0o600), ("022", 0o644), ("002", 0o664)] {
        let target = store.path(umask);
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        let arguments = ["export", "--store", &store.url(), "-o", &target];
        run_by(&["sh", "-c", &script], &arguments).assert_ok();
        let metadata = fs::metadata(&target).expect("is there");
        assert_eq!(metadata.mode() & 0o777, mode, "{umask}");
    }
}

#[test]
fn dangling_link_is_written_through() {
    let store = Store::of(LINE);
    fs::create_dir(store.path("below")).expect("makes");
    symlink("below/second", store.path("first")).expect("links");
    symlink("target", store.path("below/second")).expect("links");
    store.export(&store.path("first"));
    assert!(Path::new(&store.path("first")).is_symlink());
    assert!(Path::new(&store.path("below/second")).is_symlink());
    let text = fs::read_to_string(store.path("below/target")).expect("reads");
    assert_eq!(text, LINE);
    symlink("none/target", store.path("lost")).expect("links");
    let output = run(&["export", "--store", &store.url(), "-o", &store.path("lost")]);
    output.assert_failed(1);
    assert!(Path::new(&store.path("lost")).is_symlink());
}

#[test]
fn special_files_are_written_in_place() {
    let store = Store::of(LINE);
    for path in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        // Later output of the shell follows what was written.
        let script = "{ \"$0\" \"$@\" && echo more; } > \"$OUT\" && cat \"$OUT\"";
        let script = script.replace("$OUT", &store.path("out"));
        let arguments = ["export", "--store", &store.url(), "-o", path];
        let output = run_by(&["sh", "-c", &script], &arguments);
        assert_eq!(output.assert_ok(), format!("{LINE}more\n"), "{path}");
    }
    let null = ["export", "--store", &store.url(), "-o", "/dev/null"];
    run(&null).assert_ok();
    assert!(!fs::metadata("/dev/null").expect("is there").is_file());
    let full = ["export", "--store", &store.url(), "-o", "/dev/full"];
    let output = run(&full);
    assert!(output.assert_failed(1).contains("/dev/full"), "{output:?}");
}

#[test]
fn damaged_event_is_not_reported_as_failed_output() {
    let store = Store::of(LINE);
    let database = Database::open(store.path("e.db")).expect("opens");
    let change = "UPDATE events SET event = '2'";
    assert_eq!(database.execute(change, ()), Ok(1));
    drop(database);
    for output in ["-", &store.path("out")] {
        let output = run(&["export", "--store", &store.url(), "-o", output]);
        let sentence = output.assert_failed(1);
        assert!(sentence.contains("key1"), "{sentence}");
        assert!(!sentence.contains("write"), "{sentence}");
    }
    assert!(!Path::new(&store.path("out")).exists());
}

/// A store with these events, in a directory of its own.
struct Store(TempDir);

impl Store {
    fn of(lines: &str) -> Self {
        let store = Self(tempfile::tempdir().expect("makes a directory"));
        let imported = run_with_input(&["import", "-", "--store", &store.url()], lines);
        imported.assert_ok();
        store
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.path("e.db"))
    }

    /// Interrupts an export as soon as it has a file open, and asserts that no other file is there than before.
    #[track_caller]
    fn interrupt_export(&self, mut program: Command, signal: Signal) -> ExitStatus {
        let (directory, target) = (self.path("out"), self.path("out/events.ndjson"));
        fs::create_dir_all(&directory).expect("makes");
        program.args(["export", "--store", &self.url(), "-o", &target]);
        let mut status = ExitStatus::default();
        wait_until("an export is interrupted before its end", || {
            fs::write(&target, "as it was").expect("writes");
            let mut child = program.spawn().expect("starts");
            wait_until("it has a file open there, or has ended", || {
                has_open(&child, &directory) || child.try_wait().expect("is looked at").is_some()
            });
            if child.try_wait().expect("is looked at").is_none() {
                kill_process(Pid::from_child(&child), signal).expect("is sent");
            }
            status = child.wait().expect("is waited for");
            // Unless it was complete before the signal.
            fs::read_to_string(&target).is_ok_and(|text| text == "as it was")
        });
        assert!(!status.success(), "{signal:?}");
        let names = fs::read_dir(&directory).expect("lists").count();
        assert_eq!(names, 1, "{signal:?}");
        status
    }

    #[track_caller]
    fn export(&self, path: &str) {
        run(&["export", "--store", &self.url(), "-o", path]).assert_ok();
    }
}

fn many_lines() -> String {
    let event = "x".repeat(1024);
    let mut lines = String::new();
    for number in 0..EVENTS {
        writeln!(lines, "{{\"key\":\"key{number}\",\"event\":\"{event}\"}}").expect("is written");
    }
    lines
}

/// Whether a signal is ignored by programs started here, as SIGHUP under `nohup`.
fn is_ignored(signal: Signal) -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("reads");
    let mut lines = status.lines();
    let mask = lines.find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.map(|mask| u64::from_str_radix(mask.trim(), 16).expect("is a number"));
    mask.is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}

/// Whether a program has a file open in a directory.
fn has_open(child: &Child, directory: &str) -> bool {
    let files = fs::read_dir(format!("/proc/{}/fd", child.id()));
    let mut files = files.into_iter().flatten().flatten();
    files.any(|file| fs::read_link(file.path()).is_ok_and(|path| path.starts_with(directory)))
}

#[test]
fn output_whose_name_ends_with_a_slash_is_no_file() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = format!("{}/new/", directory.path().display());
    let output = run(&["component", "-o", &path]);
    let sentence = output.assert_failed(1);
    assert!(sentence.contains("directory"), "{sentence}");
    assert_eq!(fs::read_dir(directory.path()).expect("lists").count(), 0);
}
