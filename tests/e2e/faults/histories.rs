//! Random histories: many clients, few keys and kills, checked against the model of write-once.
//!
//! The history runs against a [`Subject`], whose store is read only by public means.

use std::net::SocketAddr;

use fastrand::Rng;
use rustix::process::Signal;
use tempfile::TempDir;

use super::model::Outcome;
use super::{Clients, History, Load, RoundCounts, Rounds};
use crate::support::{EventFiles, Peer, PeerBuilder, run};

/// One store, and one or more servers that put into it.
pub(crate) trait Store {
    fn addresses(&self) -> Vec<SocketAddr>;

    /// All stored events, including duplicates.
    fn events(&self) -> Vec<(String, String)>;

    /// Asserts that the store reports no damage.
    fn verify(&self);
}

/// A store whose servers can be killed.
pub(crate) trait Subject: Store {
    /// Kills a server, and returns when it has ended.
    fn kill(&mut self, server: usize);

    /// Starts a server that was killed, on the same store.
    fn restart(&mut self, server: usize);

    /// Whether the store can be read while its only server is killed.
    fn is_read_without_server(&self) -> bool {
        true
    }
}

/// A server with a store in its directory.
impl Store for Peer {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.address()]
    }

    fn events(&self) -> Vec<(String, String)> {
        run(&["export", "--store", &self.store()]).lines_of_events()
    }

    fn verify(&self) {
        run(&["verify", "--store", &self.store()]).assert_ok();
    }
}

/// Plays a history with some kills, and asserts that the model allows it.
pub(crate) fn play<S: Subject>(subject: &mut S, rng: &mut Rng) -> RoundCounts {
    let mut history = History::default();
    for phase in 0..rng.usize(2..=3) {
        let load = Load::of_few_keys(&format!("{phase}"), rng.usize(2..=8), rng.usize(1..=4));
        let mut all_clients = Vec::new();
        for address in subject.addresses() {
            all_clients.push(history.start_clients(address, &load, rng));
        }
        let victim = rng.usize(..all_clients.len());
        all_clients[victim].wait_for_answers(rng.usize(1..200));
        if rng.bool() {
            history.read(subject);
        }
        Clients::run_for_a_while(rng);
        subject.kill(victim);
        history.add_ended(all_clients.remove(victim));
        if rng.bool() && subject.is_read_without_server() {
            history.read(subject);
        }
        for clients in all_clients {
            // The other server of the store, if there is one, continues.
            clients.forget_outcomes();
            clients.wait_for_answers(20);
            history.add(clients);
        }
        subject.restart(victim);
        history.read(subject);
    }
    conclude(history, &*subject, rng)
}

/// Asserts that all servers respond again, that the store is undamaged, and that the model allows the history.
pub(crate) fn conclude(mut history: History, store: &dyn Store, rng: &mut Rng) -> RoundCounts {
    for (server, address) in store.addresses().into_iter().enumerate() {
        let load = Load::of_own_keys(&format!("last-{server}"), 2);
        let clients = history.start_clients(address, &load, rng);
        clients.wait_for_outcomes(10, Outcome::Acknowledged);
        history.add(clients);
    }
    history.read(store);
    store.verify();
    history.check()
}

#[test]
fn sqlite() {
    Rounds::of("histories::sqlite", 3).play(|rng| play(&mut SqliteServers::start(1), rng));
}

#[test]
fn two_servers() {
    Rounds::of("histories::two_servers", 3).play(|rng| play(&mut SqliteServers::start(2), rng));
}

#[test]
fn directory() {
    Rounds::of("histories::directory", 3).play(|rng| play(&mut DirectoryServer::start(), rng));
}

/// Servers that share one SQLite file.
struct SqliteServers {
    peers: Vec<Peer>,
    directory: TempDir,
}

impl SqliteServers {
    fn start(servers: usize) -> Self {
        let directory = tempfile::tempdir().expect("makes a directory");
        let mut subject = Self {
            peers: Vec::new(),
            directory,
        };
        for _ in 0..servers {
            let peer = subject.serve().start();
            subject.peers.push(peer);
        }
        subject
    }

    fn store(&self) -> String {
        format!(
            "sqlite:{}",
            self.directory.path().join("alldata.db").display()
        )
    }

    fn serve(&self) -> PeerBuilder {
        Peer::builder().sink(&self.store())
    }
}

impl Subject for SqliteServers {
    fn kill(&mut self, server: usize) {
        let peer = &mut self.peers[server];
        peer.signal(Signal::KILL);
        assert_eq!(peer.wait().code(), None, "it ended before the kill");
    }

    fn restart(&mut self, server: usize) {
        self.peers[server] = self.serve().start();
    }
}

impl Store for SqliteServers {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.peers.iter().map(Peer::address).collect()
    }

    fn events(&self) -> Vec<(String, String)> {
        run(&["export", "--store", &self.store()]).lines_of_events()
    }

    fn verify(&self) {
        run(&["verify", "--store", &self.store()]).assert_ok();
    }
}

/// A server whose component stores events in files.
struct DirectoryServer {
    peer: Peer,
    files: EventFiles,
}

impl DirectoryServer {
    fn start() -> Self {
        let files = EventFiles::new();
        let peer = files.serve().start();
        Self { peer, files }
    }
}

impl Subject for DirectoryServer {
    fn kill(&mut self, _: usize) {
        self.peer.signal(Signal::KILL);
        assert_eq!(self.peer.wait().code(), None, "it ended before the kill");
    }

    fn restart(&mut self, _: usize) {
        self.peer = self.files.serve().start();
    }
}

impl Store for DirectoryServer {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.peer.address()]
    }

    fn events(&self) -> Vec<(String, String)> {
        let files = self.files.files().into_iter();
        let events = files.map(|(path, bytes)| {
            // The keys of histories are file names without encoding.
            let key = path.file_name().expect("has a name").to_string_lossy();
            assert_eq!(self.files.place(&key), self.files.root().join(&path));
            let text = String::from_utf8(bytes).expect("is text");
            (key.into_owned(), text)
        });
        events.collect()
    }

    /// Reading has shown that each visible file is complete.
    fn verify(&self) {}
}
