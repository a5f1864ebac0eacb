//! SIGHUP: a file of `ndjson:` that was moved away is replaced by a new one, and the service manager is notified.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};

use crate::balancers::{configuration, program, replace};
use crate::load::{Load, assert_same};
use crate::ndjson_files::{NAME, read, start};
use crate::support::{DEADLINE, Peer, can_make, wait_until};

const FIRST: &str = "{\"key\":\"key1\",\"event\":1}\n";
const SECOND: &str = "{\"key\":\"key2\",\"event\":2}\n";

/// The load while files are rotated, and how often that is.
const CONNECTIONS: usize = 4;
const PUTS: usize = 400;
const ROTATIONS: usize = 5;

/// The signals of a storm.
const STORM: usize = 500;

#[test]
fn moved_file_is_replaced_by_a_new_one() {
    let mut peer = start();
    let (path, old) = (peer.file(NAME), peer.file("old"));
    fs::rename(&path, &old).expect("moves");
    peer.signal(Signal::HUP);
    peer.log_line("events.ndjson is a new file");
    peer.put("key2", "2").assert_created();
    assert_eq!((&*read(&old), &*read(&path)), (FIRST, SECOND));
    // The old file is none of the server's any more.
    fs::remove_file(&old).expect("removes");
    peer.put("key3", "3").assert_created();
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
}

/// As by the directive `create` of logrotate.
#[test]
fn file_that_was_created_for_it_is_used() {
    let peer = start();
    fs::rename(peer.file(NAME), peer.file("old")).expect("moves");
    fs::write(peer.file(NAME), "").expect("creates");
    peer.signal(Signal::HUP);
    peer.log_line("events.ndjson is a new file");
    peer.put("key2", "2").assert_created();
    assert_eq!(read(&peer.file("old")), FIRST);
    assert_eq!(read(&peer.file(NAME)), SECOND);
}

#[test]
fn file_in_its_place_stays_open() {
    let peer = start();
    peer.signal(Signal::HUP);
    peer.log_line("the file of the sink is at its path");
    peer.put("key2", "2").assert_created();
    assert_eq!(read(&peer.file(NAME)), [FIRST, SECOND].concat());
}

/// Each put of the load gets 201, also those between the move and the signal.
#[test]
fn rotation_under_load_fails_and_loses_no_put() {
    let peer = start();
    let (path, directory) = (peer.file(NAME), peer.file("dir"));
    let mut load = Load::start(peer.address(), "rotated", CONNECTIONS, PUTS);
    for number in 0..ROTATIONS {
        load.wait_for(PUTS / 2);
        fs::rename(&path, directory.join(format!("old{number}"))).expect("moves");
        peer.signal(Signal::HUP);
        peer.log_line("events.ndjson is a new file");
    }
    let mut acknowledged = load.finish();
    acknowledged.insert("key1".to_owned(), "1".to_owned());
    let mut stored = BTreeMap::new();
    let mut used = 0;
    for entry in fs::read_dir(&directory).expect("lists") {
        let text = read(&entry.expect("is read").path());
        used += usize::from(!text.is_empty());
        for line in text.lines() {
            let event = line.strip_prefix("{\"key\":\"").expect("is a put");
            let (key, event) = event.split_once("\",\"event\":").expect("has an event");
            let event = event.strip_suffix('}').expect("is whole").to_owned();
            assert_eq!(stored.insert(key.to_owned(), event), None, "{key}");
        }
    }
    assert_same(&stored, &acknowledged);
    assert!(used > 2, "{used} files are not empty");
}

/// With the configuration in `deploy/`: only the file, its user and the command are others.
#[test]
fn logrotate_rotates_the_file() {
    let found = program("logrotate", "--version");
    let missing = found.is_none().then_some("there is no logrotate");
    if !can_make("rotation by logrotate", missing) {
        return;
    }
    let peer = start();
    let signal = format!("kill -HUP {}", peer.id());
    let text = configuration("logrotate/alldata-peer");
    let path = peer.file(NAME).display().to_string();
    let text = replace(&text, "/var/lib/alldata-peer/events.ndjson", &path);
    let text = replace(&text, "systemctl reload alldata-peer.service", &signal);
    let text = replace(&text, "    su alldata-peer alldata-peer\n", "");
    fs::write(peer.file("logrotate.conf"), text).expect("writes");
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(peer.file("logrotate.conf"), mode).expect("sets a mode");
    let output = Command::new(found.expect("is there"))
        .args(["--force", "--state"])
        .args([peer.file("state"), peer.file("logrotate.conf")])
        .output()
        .expect("runs");
    assert!(output.status.success(), "{output:?}");
    peer.put("key2", "2").assert_created();
    assert_eq!(read(&peer.file(NAME)), SECOND);
    let files = fs::read_dir(peer.file("dir")).expect("lists");
    let mut files: Vec<_> = files.map(|file| file.expect("is read").path()).collect();
    files.retain(|file| *file != peer.file(NAME));
    assert_eq!(files.len(), 1, "{files:?}");
    assert_eq!(read(&files[0]), FIRST);
}

#[test]
fn removed_file_is_copied_and_replaced() {
    let peer = start();
    fs::remove_file(peer.file(NAME)).expect("removes");
    peer.signal(Signal::HUP);
    peer.log_line("events.ndjson is a new file");
    peer.put("key2", "2").assert_created();
    assert_eq!(read(&peer.file(&format!("{NAME}.rescued"))), FIRST);
    assert_eq!(read(&peer.file(NAME)), SECOND);
}

/// What it had may be lost.
#[test]
fn truncated_file_is_not_accepted() {
    let peer = start();
    fs::write(peer.file(NAME), "").expect("truncates");
    peer.signal(Signal::HUP);
    let line = peer.log_line("the file of the sink is not reopened");
    assert!(line.contains("it was truncated"), "{line}");
    peer.put("key2", "2").assert_problem(500);
    assert_eq!(read(&peer.file(NAME)), "");
}

/// As where the moved file was emptied in place.
#[test]
fn moved_file_without_its_events_is_not_given_up() {
    let peer = start();
    let (path, old) = (peer.file(NAME), peer.file("old"));
    fs::rename(&path, &old).expect("moves");
    fs::write(&old, "").expect("truncates");
    peer.signal(Signal::HUP);
    peer.log_line("the file of the sink is not reopened");
    peer.put("key2", "2").assert_problem(500);
    assert!(!path.exists());
}

#[test]
fn file_that_cannot_be_made_is_tried_again() {
    let peer = start();
    fs::rename(peer.file("dir"), peer.file("aside")).expect("moves");
    peer.signal(Signal::HUP);
    let line = peer.log_line("the file of the sink is not reopened");
    assert!(line.contains("dir does not exist"), "{line}");
    peer.put("key2", "2").assert_problem(500);
    fs::create_dir(peer.file("dir")).expect("makes a directory");
    peer.log_line("events.ndjson is a new file");
    peer.put("key2", "2").assert_created();
    assert_eq!(read(&peer.file("aside/events.ndjson")), FIRST);
}

/// A stand-in for a service manager, which receives the notifications.
struct ServiceManager {
    socket: UnixDatagram,
    directory: tempfile::TempDir,
}

impl ServiceManager {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("makes a directory");
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("binds");
        socket.set_read_timeout(Some(DEADLINE)).expect("sets");
        Self { socket, directory }
    }

    /// A server that notifies it.
    fn start(&self) -> Peer {
        let path = self.directory.path().join("notify");
        let peer = Peer::builder()
            .sink("ndjson:events.ndjson")
            .own_env("NOTIFY_SOCKET", path.to_str().expect("is text"))
            .start();
        assert_eq!(self.next(), ready(&peer));
        peer
    }

    fn next(&self) -> String {
        let mut buffer = [0; 1024];
        let bytes = self.socket.recv(&mut buffer).expect("is notified");
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    }

    /// Asserts that a reload begins, and returns its time in microseconds.
    #[track_caller]
    fn reloading(&self) -> i64 {
        let message = self.next();
        let time = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        let time = time.unwrap_or_else(|| panic!("{message}"));
        time.trim_end().parse().expect("is a time")
    }
}

fn ready(peer: &Peer) -> String {
    format!("READY=1\nSTATUS={}\n", peer.listening())
}

fn monotonic_microseconds() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

/// As `Type=notify-reload` of systemd 253 wants it: it knows by the time which reload is meant.
#[test]
fn service_manager_is_notified_of_reload() {
    let manager = ServiceManager::new();
    let peer = manager.start();
    for _ in 0..2 {
        let before = monotonic_microseconds();
        peer.signal(Signal::HUP);
        assert!(manager.reloading() >= before);
        assert_eq!(manager.next(), ready(&peer));
    }
}

/// A server without files to reload is ready again all the same.
#[test]
fn service_manager_is_notified_without_files_too() {
    let manager = ServiceManager::new();
    let path = manager.directory.path().join("notify");
    let peer = Peer::builder()
        .own_env("NOTIFY_SOCKET", path.to_str().expect("is text"))
        .start();
    assert_eq!(manager.next(), ready(&peer));
    peer.signal(Signal::HUP);
    manager.reloading();
    assert_eq!(manager.next(), ready(&peer));
}

#[test]
fn signal_storm_under_load_ends_ready() {
    let manager = ServiceManager::new();
    let mut peer = manager.start();
    let mut load = Load::start(peer.address(), "stormy", CONNECTIONS, PUTS);
    load.wait_for(1);
    for _ in 0..STORM {
        peer.signal(Signal::HUP);
    }
    // The last signal is served: at or after it a reload begins.
    let last = monotonic_microseconds();
    peer.signal(Signal::HUP);
    let mut begun = 0;
    wait_until("the last signal is served", || {
        begun = manager.reloading();
        assert_eq!(manager.next(), ready(&peer));
        begun >= last
    });
    assert_eq!(load.finish().len(), CONNECTIONS * PUTS);
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
}
