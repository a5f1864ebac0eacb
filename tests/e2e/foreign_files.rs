//! Files that belong to a store or to another program: no sink and no output writes to them.
//!
//! Stores whose files change while a server runs are in `store_files`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Output, Peer, run, run_by, run_with_input, serve};

/// Other paths to the files of a store.
const OTHER_NAMES: [&str; 4] = ["link", "hard", "log-link", "log-hard"];

#[test]
fn sink_of_lines_refuses_the_files_of_a_store() {
    let store = Store::new();
    for name in store.names() {
        let sink = format!("ndjson:{name}");
        store.assert_refused(&name, || run(&serve(&sink)));
    }
}

#[test]
fn outputs_refuse_the_files_of_a_store() {
    let store = Store::new();
    for name in store.names() {
        let url = store.url();
        store.assert_refused(&name, || run(&["export", "--store", &url, "-o", &name]));
        store.assert_refused(&name, || run(&["component", "-o", &name]));
    }
}

#[test]
fn standard_output_into_a_store_is_refused() {
    let store = Store::new();
    let path = store.path("e.db");
    let launcher = ["sh", "-c", "exec \"$0\" \"$@\" >> \"$OUTPUT\""];
    for arguments in [
        &["export", "--store", &store.url()][..],
        &["component", "-o", "-"],
        &["get", "a", "--store", &store.url()],
        &serve("ndjson:-"),
    ] {
        let launcher = launcher.map(|word| word.replace("$OUTPUT", &path));
        let launcher = launcher.each_ref().map(String::as_str);
        store.assert_refused("a SQLite database", || run_by(&launcher, arguments));
    }
}

#[test]
fn empty_or_missing_wal_is_refused_by_its_name() {
    let store = Store::new();
    fs::remove_file(store.path("e.db-wal")).expect("removes");
    let hard = store.path("log-hard");
    fs::write(&hard, "").expect("empties");
    for state in ["not there", "empty"] {
        let path = store.path("e.db-wal");
        if state == "empty" {
            fs::hard_link(&hard, &path).expect("links");
        }
        store.assert_refused(state, || run(&serve(&format!("ndjson:{path}"))));
        store.assert_refused(state, || run(&serve(&format!("sqlite:{path}"))));
        let url = store.url();
        store.assert_refused(state, || run(&["export", "--store", &url, "-o", &path]));
    }
    // Under another name, nothing shows to whom an empty file belongs.
    store.assert_refused("hard", || run(&serve(&format!("ndjson:{hard}"))));
}

#[test]
fn place_of_a_moved_store_is_refused_while_its_log_is_there() {
    let store = Store::new();
    fs::rename(store.path("e.db"), store.path("moved.db")).expect("moves");
    let path = store.path("e.db");
    store.assert_refused("moved", || run(&serve(&format!("ndjson:{path}"))));
    store.assert_refused("moved", || run(&["component", "-o", &path]));
}

#[test]
fn refused_command_does_not_disturb_running_server() {
    let peer = Peer::start();
    peer.put("a", "1").assert_created();
    let path = peer.file("alldata.db").display().to_string();
    let output = run(&["export", "--store", &peer.store(), "-o", &path]);
    output.assert_failed(1);
    run(&serve(&format!("ndjson:{path}"))).assert_failed(1);
    peer.put("b", "1").assert_created();
    let store = peer.store();
    let (_, ended) = peer.end(Signal::KILL);
    let exported = run(&["export", "--store", &store]);
    assert_eq!(exported.assert_ok().lines().count(), 2);
    drop(ended);
}

#[test]
fn file_of_a_sink_is_no_output_and_no_store() {
    let peer = Peer::builder().sink("ndjson:events.ndjson").start();
    let other = Peer::start();
    let path = peer.file("events.ndjson").display().to_string();
    for events in 0..2 {
        let output = run(&["export", "--store", &other.store(), "-o", &path]);
        assert!(output.assert_failed(1).contains("locked"), "{output:?}");
        let output = run(&["component", "-o", &path]);
        assert!(output.assert_failed(1).contains("locked"), "{output:?}");
        run(&serve(&format!("sqlite:{path}"))).assert_failed(1);
        peer.put("a", "1").assert_created();
        let text = fs::read_to_string(&path).expect("reads");
        assert_eq!(text.lines().count(), events + 1);
    }
}

#[test]
fn file_with_a_lock_of_fcntl_is_no_output_no_sink_and_no_store() {
    use rustix::fs::{FlockOperation, fcntl_lock};

    let directory = tempfile::tempdir().expect("makes a directory");
    for (kind, content) in [
        (FlockOperation::LockExclusive, "theirs\n"),
        (FlockOperation::LockShared, "theirs\n"),
        (FlockOperation::LockExclusive, ""),
    ] {
        let path = directory.path().join("file");
        fs::write(&path, content).expect("writes");
        let options = File::options().read(true).write(true).open(&path);
        let locked = options.expect("opens");
        fcntl_lock(&locked, kind).expect("locks");
        let path = path.display().to_string();
        let (lines, store) = (format!("ndjson:{path}"), format!("sqlite:{path}"));
        for arguments in [
            &["component", "-o", &path][..],
            &serve(&lines),
            &serve(&store),
        ] {
            // A file that is no database is no store, locked or not.
            let refused = run(arguments);
            let sentence = refused.assert_failed(1);
            let is_told = sentence.contains("locked") || sentence.contains("not a database");
            assert!(is_told, "{arguments:?}: {sentence}");
        }
        assert_eq!(fs::read_to_string(&path).expect("reads"), content);
        drop(locked);
    }
}

#[test]
fn store_is_no_input_of_an_import() {
    let store = Store::new();
    let (path, url) = (store.path("e.db"), store.url());
    let other = format!("sqlite:{}", store.path("other.db"));
    for target in [&url, &other] {
        store.assert_refused("a store", || run(&["import", &path, "--store", target]));
    }
    let empty = store.path("empty");
    File::create(&empty).expect("makes");
    let url = format!("sqlite:{empty}");
    store.assert_refused("itself", || run(&["import", &empty, "--store", &url]));
}

/// A store with one event in its WAL, and other names of its files.
struct Store(TempDir);

impl Store {
    fn new() -> Self {
        let store = Self(tempfile::tempdir().expect("makes a directory"));
        let line = "{\"key\":\"a\",\"event\":1}\n";
        run_with_input(&["import", "-", "--store", &store.url()], line).assert_ok();
        // The files that a killed server leaves.
        let peer = Peer::start();
        peer.put("a", "1").assert_created();
        let path = peer.file("alldata.db");
        let (_, ended) = peer.end(Signal::KILL);
        for suffix in ["", "-wal", "-shm"] {
            let from = format!("{}{suffix}", path.display());
            fs::copy(from, store.path(&format!("e.db{suffix}"))).expect("copies");
        }
        drop(ended);
        for (name, file) in OTHER_NAMES
            .iter()
            .zip(["e.db", "e.db", "e.db-wal", "e.db-wal"])
        {
            let (name, file) = (store.path(name), store.path(file));
            let linked = match name.ends_with("hard") {
                true => fs::hard_link(file, name),
                false => symlink(file, name),
            };
            linked.expect("links");
        }
        store
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn url(&self) -> String {
        format!("sqlite:{}", self.path("e.db"))
    }

    /// All names of its files, and one that it may have later.
    fn names(&self) -> Vec<String> {
        let own = ["e.db", "e.db-wal", "e.db-shm", "e.db-journal"];
        own.iter()
            .chain(&OTHER_NAMES)
            .map(|name| self.path(name))
            .collect()
    }

    /// The entries of its directory with the bytes of the files; no bytes for a dangling link.
    fn files(&self) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
        let files = fs::read_dir(self.0.path()).expect("lists");
        let paths = files.map(|file| file.expect("lists").path());
        // Readers of a store write to its `-shm`.
        let paths = paths.filter(|path| !path.ends_with("e.db-shm"));
        paths
            .map(|path| (path.clone(), fs::read(path).ok()))
            .collect()
    }

    /// Asserts that a command fails with one sentence and changes nothing.
    #[track_caller]
    fn assert_refused(&self, what: &str, command: impl FnOnce() -> Output) {
        let before = self.files();
        let output = command();
        assert_eq!(output.code, Some(1), "{what}: {output:?}");
        // A reader may have warned about the links before.
        let last = output.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: "), "{what}: {output:?}");
        assert!(self.files() == before, "{what}: something changed");
    }
}
