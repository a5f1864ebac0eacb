//! SIGKILL of the npm package at any moment, on the platforms and with the stores that keep events on a disk.

use std::net::SocketAddr;

use fastrand::Rng;

use super::histories::{Store, Subject, play};
use super::{Clients, History, Load, RoundCounts, Rounds, conclude};
use crate::javascript_server::JavaScriptServer;
use crate::support::{Runtime, can_make};

/// The number of connections under load.
const CLIENTS: usize = 32;

#[test]
fn workerd() {
    let start = JavaScriptServer::workerd;
    lose_nothing("javascript::workerd", Runtime::Workerd, start);
}

#[test]
fn node_sqlite() {
    let start = JavaScriptServer::node_sqlite;
    lose_nothing("javascript::node_sqlite", Runtime::Node, start);
}

#[test]
fn better_sqlite() {
    let start = JavaScriptServer::better_sqlite;
    lose_nothing("javascript::better_sqlite", Runtime::Node, start);
}

#[test]
fn deno_sqlite() {
    let start = JavaScriptServer::deno_sqlite;
    lose_nothing("javascript::deno_sqlite", Runtime::Deno, start);
}

#[test]
fn bun_sqlite() {
    let start = JavaScriptServer::bun_sqlite;
    lose_nothing("javascript::bun_sqlite", Runtime::Bun, start);
}

#[test]
fn deno_kv() {
    let start = JavaScriptServer::deno_kv;
    lose_nothing("javascript::deno_kv", Runtime::Deno, start);
}

#[track_caller]
fn lose_nothing(fault: &'static str, runtime: Runtime, start: fn() -> JavaScriptServer) {
    if can_make(fault, runtime.missing()) {
        Rounds::of(fault, 2).play(|rng| {
            let mut counts = round(start(), rng);
            counts += play(&mut start(), rng);
            counts
        });
    }
}

/// Two processes with one file: a key is written once by both, and one starts while the other writes.
#[test]
fn node_sqlite_twice() {
    let fault = "javascript::node_sqlite_twice";
    if can_make(fault, Runtime::Node.missing()) {
        let start = JavaScriptServer::node_sqlite;
        Rounds::of(fault, 2).play(|rng| play(&mut Servers::start(start), rng));
    }
}

/// Kills a server with many clients that mostly put keys of their own.
fn round(mut server: JavaScriptServer, rng: &mut Rng) -> RoundCounts {
    let mut history = History::default();
    for kill in 0..2 {
        let load = Load::of_own_keys(&format!("put-{kill}"), CLIENTS);
        let clients = history.start_clients(server.address, &load, rng);
        clients.wait_for_answers(rng.usize(CLIENTS..600));
        Clients::run_for_a_while(rng);
        server.process.kill();
        history.add_ended(clients);
        server.restart();
        history.read(&server);
    }
    conclude(history, &server, rng)
}

/// Servers that share one store.
struct Servers(Vec<JavaScriptServer>);

impl Servers {
    fn start(start: fn() -> JavaScriptServer) -> Self {
        let first = start();
        let second = first.start_another();
        Self(vec![first, second])
    }
}

impl Store for Servers {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|server| server.address).collect()
    }

    /// By the last server, since the other one may be killed.
    fn events(&self) -> Vec<(String, String)> {
        self.0.last().expect("is there").events()
    }

    /// Reading has shown that each event is complete.
    fn verify(&self) {}
}

impl Subject for Servers {
    fn kill(&mut self, server: usize) {
        self.0[server].process.kill();
        // The one that can be read is the last.
        self.0.swap(0, server);
    }

    fn restart(&mut self, _: usize) {
        self.0[0].restart();
    }
}

impl Store for JavaScriptServer {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.address]
    }

    fn events(&self) -> Vec<(String, String)> {
        self.events()
    }

    /// Reading has shown that each event is complete.
    fn verify(&self) {}
}

impl Subject for JavaScriptServer {
    fn kill(&mut self, _: usize) {
        self.process.kill();
    }

    fn restart(&mut self, _: usize) {
        self.restart();
    }

    fn is_read_without_server(&self) -> bool {
        false
    }
}
