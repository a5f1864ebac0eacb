//! HAProxy and nginx before two peers, with their configurations in `deploy/`: only the addresses are others.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::load::{Events, exported};
use crate::support::admin::scrape;
use crate::support::{Answer, Connection, Peer, Post, ScriptedPeer, can_make, wait_until};

/// The connections that the load has at a time, and how many puts are made before and after a fault at least.
const CLIENTS: usize = 4;
const PUTS: usize = 100;

/// More than the two that are needed to reach each peer.
const SOME: usize = 10;

/// A load balancer, which listens on a Unix socket; killed when dropped.
struct Balancer {
    process: Child,
    directory: TempDir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    HaProxy,
    Nginx,
}

/// A configuration of the project.
pub(crate) fn configuration(path: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy")).join(path);
    fs::read_to_string(path).expect("reads")
}

/// Replaces what has to be there.
#[track_caller]
pub(crate) fn replace(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in:\n{text}");
    text.replace(from, to)
}

/// The path of a program on Debian, where some are in the search path of root only, if it can be run with this
/// argument.
pub(crate) fn program(name: &str, argument: &str) -> Option<String> {
    let paths = [name.to_owned(), format!("/usr/sbin/{name}")];
    paths.into_iter().find(|path| {
        let mut command = Command::new(path);
        command
            .arg(argument)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

impl Balancer {
    /// A load balancer before two peers; `None` if it is missing.
    fn before(kind: Kind, peers: [&Peer; 2]) -> Option<Self> {
        Self::edited(kind, peers, ["", ""])
    }

    /// With another text in its configuration: the first is replaced by the second.
    fn edited(kind: Kind, peers: [&Peer; 2], [from, to]: [&str; 2]) -> Option<Self> {
        let name = match kind {
            Kind::HaProxy => "haproxy",
            Kind::Nginx => "nginx",
        };
        let found = program(name, "-v");
        let missing = found.is_none().then(|| format!("there is no {name}"));
        can_make("a load balancer before two peers", missing.as_deref());
        let mut command = Command::new(found?);
        let directory = tempfile::tempdir().expect("makes a directory");
        let path = directory.path().join("configuration");
        let text = match kind {
            Kind::HaProxy => haproxy(&directory, peers),
            Kind::Nginx => nginx(&directory, peers),
        };
        fs::write(&path, replace(&text, from, to)).expect("writes");
        match kind {
            Kind::HaProxy => command.args(["-db", "-f"]).arg(&path),
            Kind::Nginx => command.arg("-c").arg(&path),
        };
        // Both warn of what is not theirs alone, such as the user that they run as.
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process = process.expect("starts");
        let balancer = Self { process, directory };
        wait_until("it listens", || {
            UnixStream::connect(balancer.socket()).is_ok()
        });
        Some(balancer)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("puts")
    }

    fn put(&self, key: &str) -> Answer {
        Connection::open_unix(&self.socket()).ask(&Post::put(key, "1"))
    }

    /// Whether HAProxy passes puts to the first and to the second peer.
    fn is_up(&self) -> [bool; 2] {
        let mut stream = UnixStream::connect(self.directory.path().join("admin")).expect("is open");
        stream
            .write_all(b"show servers state peers\n")
            .expect("asks");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("is answered");
        ["peer1", "peer2"].map(|name| {
            let mut rows = answer.lines().map(|line| line.split(' '));
            let state = rows.find_map(|mut row| {
                row.nth(3).filter(|server| *server == name)?;
                row.nth(1)
            });
            // 2 is SRV_ST_RUNNING.
            state.unwrap_or_else(|| panic!("no {name}: {answer}")) == "2"
        })
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn haproxy(directory: &TempDir, peers: [&Peer; 2]) -> String {
    let path = directory.path().display();
    let mut text = configuration("haproxy/haproxy.cfg");
    text = replace(&text, "bind :8080", &format!("bind unix@{path}/puts"));
    text = replace(&text, "/run/haproxy/admin.sock", &format!("{path}/admin"));
    for (number, peer) in (1..).zip(peers) {
        let (puts, admin) = (peer.address(), peer.admin().port());
        let from = format!("127.0.0.1:808{number} port 909{number}");
        text = replace(&text, &from, &format!("{puts} port {admin}"));
    }
    text
}

fn nginx(directory: &TempDir, peers: [&Peer; 2]) -> String {
    let path = directory.path().display();
    let mut text = configuration("nginx/alldata-peer.conf");
    text = replace(&text, "listen 8080;", &format!("listen unix:{path}/puts;"));
    for (number, peer) in (1..).zip(peers) {
        let from = format!("127.0.0.1:808{number}");
        text = replace(&text, &from, &peer.address().to_string());
    }
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|of| format!("{of}_temp_path {path}/{of};"))
        .concat();
    format!(
        "daemon off; master_process off; pid {path}/pid; error_log {path}/error;
        events {{}}
        http {{ {temporary} {text} }}"
    )
}

/// Puts from several connections at once while a test runs.
#[derive(Default)]
struct Load {
    is_over: AtomicBool,
    puts: AtomicUsize,
    acknowledged: Mutex<BTreeSet<String>>,
    failed: Mutex<Vec<String>>,
}

impl Load {
    /// Loads a balancer while `fault` is made, which is given a function that waits for some puts.
    fn run<T>(balancer: &Balancer, fault: impl FnOnce(&dyn Fn()) -> T) -> (Self, T) {
        let load = Self::default();
        let made = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let load = &load;
                    scope.spawn(move || load.put_until_over(client, balancer))
                })
                .collect();
            let wait = || {
                let before = load.puts.load(Ordering::Relaxed);
                wait_until("puts are made", || {
                    let failed = clients.iter().any(thread::ScopedJoinHandle::is_finished);
                    failed || load.puts.load(Ordering::Relaxed) >= before + PUTS
                });
            };
            let made = fault(&wait);
            load.is_over.store(true, Ordering::Relaxed);
            made
        });
        (load, made)
    }

    fn put_until_over(&self, client: usize, balancer: &Balancer) {
        let mut connection = Connection::open_unix(&balancer.socket());
        for number in 0.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let key = format!("key{client}-{number}");
            connection.try_send(Post::put(&key, "1").bytes());
            match connection.answer_or_end() {
                Some(answer) if answer.status == 201 => {
                    self.acknowledged.lock().expect("is whole").insert(key);
                }
                answer => {
                    let status = answer.map(|answer| answer.status);
                    let mut failed = self.failed.lock().expect("is whole");
                    failed.push(format!("{key}: {status:?}"));
                    connection = Connection::open_unix(&balancer.socket());
                }
            }
            self.puts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A put that was with the killed peer is sent again to the other one.
fn killed_peer_loses_no_put(kind: Kind) {
    let [first, second] = [(); 2].map(|()| Peer::builder().admin().start());
    let Some(balancer) = Balancer::before(kind, [&first, &second]) else {
        return;
    };
    let (load, builder) = Load::run(&balancer, |wait| {
        wait();
        let (_, builder) = first.end(Signal::KILL);
        wait();
        builder
    });
    assert_eq!(*load.failed.lock().expect("is whole"), Vec::<String>::new());
    // As after a restart of the machine.
    let first = builder.start();
    let stores = [&first, &second].map(|peer| exported(&peer.store()));
    for store in &stores {
        assert!(!store.is_empty(), "only one of the peers was put to");
    }
    for key in load.acknowledged.lock().expect("is whole").iter() {
        assert!(stores.iter().any(|store| store.contains_key(key)), "{key}");
    }
}

/// From its first signal on, also before a check has found it.
fn draining_peer_gets_no_put(kind: Kind) {
    let other = ScriptedPeer::start(|exchange| {
        exchange.read_body();
    });
    let mut first = Peer::builder().admin().sink(&other.url()).start();
    let second = Peer::builder().admin().start();
    let Some(balancer) = Balancer::before(kind, [&first, &second]) else {
        return;
    };
    let mut in_flight = first.connect();
    in_flight.send(Post::put("in_flight", "1").bytes());
    let mut put = other.request();
    first.signal(Signal::TERM);
    wait_until("it accepts no more", || {
        Connection::try_open(first.address()).is_none()
    });
    for number in 0..SOME {
        balancer.put(&format!("key{number}")).assert_created();
    }
    assert_eq!(exported(&second.store()).len(), SOME);
    if kind == Kind::HaProxy {
        wait_until("the check finds it", || balancer.is_up() == [false, true]);
    }
    put.answer("201 Created", "", "");
    in_flight.answer().assert_created();
    assert_eq!(first.wait().code(), Some(0));
}

/// A peer that can't take a put for the time being.
fn peer_that_is_not_ready_gets_no_put(kind: Kind) {
    let other = ScriptedPeer::start(|exchange| {
        exchange.read_body();
    });
    let first = Peer::builder().admin().sink(&other.url());
    let first = first.arguments(&["--max-concurrent-requests", "1"]).start();
    let second = Peer::builder().admin().start();
    let Some(balancer) = Balancer::before(kind, [&first, &second]) else {
        return;
    };
    let mut in_flight = first.connect();
    in_flight.send(Post::put("in_flight", "1").bytes());
    let mut put = other.request();
    if kind == Kind::HaProxy {
        wait_until("the check finds it", || balancer.is_up() == [false, true]);
    }
    for number in 0..SOME {
        balancer.put(&format!("key{number}")).assert_created();
    }
    assert_eq!(exported(&second.store()).len(), SOME);
    let refused = "alldata_peer_requests_total{outcome=\"too_many_in_flight\",status=\"503\"}";
    let metrics = scrape(first.admin());
    let refused = metrics.0.get(refused).copied();
    match kind {
        Kind::HaProxy => assert_eq!(refused.unwrap_or_default(), 0.0),
        // One put, after which it is left out for 5 s.
        Kind::Nginx => assert!(refused.unwrap_or_default() >= 1.0, "{metrics:?}"),
    }
    put.answer("201 Created", "", "");
    in_flight.answer().assert_created();
    if kind == Kind::HaProxy {
        wait_until("it is back", || balancer.is_up() == [true, true]);
    }
}

/// Larger than the buffers of both.
#[test]
fn large_put_passes() {
    let [first, second] = [(); 2].map(|()| Peer::builder().admin().start());
    let event = format!("\"{}\"", "x".repeat(4 << 20));
    for (kind, key) in [(Kind::HaProxy, "haproxy"), (Kind::Nginx, "nginx")] {
        let Some(balancer) = Balancer::before(kind, [&first, &second]) else {
            continue;
        };
        let mut connection = Connection::open_unix(&balancer.socket());
        connection.ask(&Post::put(key, &event)).assert_created();
        let stores = [&first, &second].map(|peer| exported(&peer.store()));
        let is_whole = |store: &Events| store.get(key) == Some(&event);
        assert!(stores.iter().any(is_whole), "{key} is not stored unchanged");
    }
}

/// HAProxy reads a request before it sends it: the peer can't end one that does not come.
#[test]
fn slow_request_is_ended_by_haproxy() {
    let [first, second] = [(); 2].map(|()| Peer::builder().admin().start());
    let timeout = ["http-request 30s", "http-request 500ms"];
    let Some(balancer) = Balancer::edited(Kind::HaProxy, [&first, &second], timeout) else {
        return;
    };
    let head = "POST /_put HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n";
    for part in [head.to_owned(), format!("{head}\r\n{{")] {
        let mut connection = Connection::open_unix(&balancer.socket());
        assert_eq!(connection.send(part).answer().status, 408);
        assert_eq!(connection.rest(), b"");
    }
    balancer.put("key1").assert_created();
}

/// So that one client can't fill the disk of nginx.
#[test]
fn body_that_no_peer_takes_is_refused_by_nginx() {
    let [first, second] = [(); 2].map(|()| Peer::builder().admin().start());
    let Some(balancer) = Balancer::before(Kind::Nginx, [&first, &second]) else {
        return;
    };
    let mut connection = Connection::open_unix(&balancer.socket());
    let head = "POST /_put HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n";
    let answer = connection.send(head).answer();
    assert_eq!(answer.status, 413);
    assert!(answer.text().contains("nginx"), "{}", answer.text());
    // The peer says why.
    let mut connection = Connection::open_unix(&balancer.socket());
    let answer = connection.ask(&Post::new(vec![b' '; (16 << 20) + 1]));
    answer.assert_problem(413);
}

#[test]
fn killed_peer_loses_no_put_through_haproxy() {
    killed_peer_loses_no_put(Kind::HaProxy);
}

#[test]
fn killed_peer_loses_no_put_through_nginx() {
    killed_peer_loses_no_put(Kind::Nginx);
}

#[test]
fn draining_peer_gets_no_put_from_haproxy() {
    draining_peer_gets_no_put(Kind::HaProxy);
}

#[test]
fn draining_peer_gets_no_put_from_nginx() {
    draining_peer_gets_no_put(Kind::Nginx);
}

#[test]
fn peer_that_is_not_ready_gets_no_put_from_haproxy() {
    peer_that_is_not_ready_gets_no_put(Kind::HaProxy);
}

#[test]
fn peer_that_is_not_ready_gets_no_put_from_nginx() {
    peer_that_is_not_ready_gets_no_put(Kind::Nginx);
}
