//! A clock that goes backwards, under load and between two servers of one store.
//!
//! Only the time of day: the monotonic clock of a system never goes backwards.

use std::fs;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use rusqlite::Connection as Database;
use rustix::process::Signal;

use super::{History, Load, Outcome, RoundCounts, Rounds, conclude};
use crate::support::{Peer, PeerBuilder, can_make};

/// The library directories of Debian, one for each architecture.
const LIBRARIES: &str = "/usr/lib";

/// The library that gives a program another time, below such a directory.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The most seconds by which the clock goes back in one step: in all never to before 1970, since HTTP dates
/// can't express that.
const MAX_STEP_SECONDS: i64 = 4 * 365 * 24 * 60 * 60;

#[test]
fn set_back_loses_nothing() {
    let library = library();
    let reason = "there is no libfaketime: sudo apt-get install libfaketime";
    if can_make("clock", library.is_none().then_some(reason)) {
        let library = library.expect("was found");
        Rounds::of("clock", 3).play(|rng| round(&library, rng));
    }
}

fn round(library: &Path, rng: &mut Rng) -> RoundCounts {
    let mut history = History::default();
    let mut clock = FakeClock::start(library);
    let mut peer = clock.given_to(Peer::builder()).start();
    let kills = rng.usize(1..=2);
    for phase in 0..=kills {
        let load = Load::of_own_keys(&format!("{phase}"), rng.usize(2..=8));
        let clients = history.start_clients(peer.address(), &load, rng);
        for _ in 0..rng.usize(1..=3) {
            clients.forget_outcomes();
            clients.wait_for_answers(rng.usize(50..150));
            clock.go_back(rng);
        }
        clients.forget_outcomes();
        clients.wait_for_answers(50);
        if phase == kills {
            history.add(clients);
            break;
        }
        let (_, next) = peer.end(Signal::KILL);
        history.add_ended(clients);
        clock.go_back(rng);
        peer = clock.given_to(next).start();
        history.read(&peer);
    }
    assert_eq!(
        steps_back(&peer.file("alldata.db")),
        clock.steps_back,
        "the clock was another"
    );
    for outcome in [Outcome::Refused, Outcome::Unknown] {
        assert_eq!(history.count(outcome), 0, "{outcome:?}");
    }
    conclude(history, &peer, rng)
}

/// The time of day that a server sees.
struct FakeClock<'a> {
    library: &'a Path,
    directory: tempfile::TempDir,
    offset_seconds: i64,
    steps_back: u64,
}

impl<'a> FakeClock<'a> {
    fn start(library: &'a Path) -> Self {
        let clock = Self {
            library,
            directory: tempfile::tempdir().expect("makes a directory"),
            offset_seconds: 0,
            steps_back: 0,
        };
        clock.write();
        clock
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }

    /// Sets the time, atomically.
    fn write(&self) {
        let new = self.directory.path().join("new");
        fs::write(&new, format!("{:+}\n", self.offset_seconds)).expect("writes");
        fs::rename(new, self.file()).expect("moves");
    }

    fn go_back(&mut self, rng: &mut Rng) {
        self.offset_seconds -= rng.i64(3600..MAX_STEP_SECONDS);
        self.steps_back += 1;
        self.write();
    }

    fn given_to(&self, builder: PeerBuilder) -> PeerBuilder {
        let text = |path: &Path| path.to_str().expect("is text").to_owned();
        builder
            .own_env("LD_PRELOAD", &text(self.library))
            .own_env("FAKETIME_TIMESTAMP_FILE", &text(&self.file()))
            .own_env("FAKETIME_NO_CACHE", "1")
            .own_env("DONT_FAKE_MONOTONIC", "1")
    }
}

/// The number of events with a much earlier time than the event stored before them.
fn steps_back(path: &Path) -> u64 {
    let database = Database::open(path).expect("opens");
    let sql = "SELECT count(*) FROM events AS one JOIN events AS next ON next.rowid = one.rowid + 1
               WHERE next.received_ms < one.received_ms - 1000000";
    let count = database.query_row(sql, (), |row| row.get::<_, i64>(0));
    count.expect("counts").unsigned_abs()
}

fn library() -> Option<PathBuf> {
    let folders = fs::read_dir(LIBRARIES).ok()?.flatten();
    let mut files = folders.map(|folder| folder.path().join(LIBRARY));
    files.find(|file| file.exists())
}
