//! nats-servers with JetStream, one or three, on free ports of the loopback interface.
//!
//! Each has its own store directory, and is killed with its cluster. Two servers are connected through a
//! [`Link`].

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::disks::Disks;
use super::link::Link;
use super::node::{Node, local};

/// The time until servers are ready: they elect a leader, which takes up to 9 s.
const READY_DEADLINE: Duration = Duration::from_secs(60);

/// The interval at which servers are asked whether they are ready.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// The most attempts to find free ports, if another process takes them first.
const MAX_STARTS: usize = 5;

/// A cluster of servers.
pub struct Cluster {
    nodes: Vec<Node>,
    /// The link from each server to each other, by both their numbers.
    links: Vec<((usize, usize), Link)>,
    /// The disks of the stores, unless they are in the directory. Dropped after the servers.
    disks: Option<Disks>,
    _directory: TempDir,
}

/// How servers reach one another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Routing {
    Links,
    Direct,
}

impl Cluster {
    /// Starts `count` servers with these lines in the configuration of each, and waits until they are ready.
    pub fn start(nodes: usize, configuration: &str) -> Self {
        Self::start_over(Routing::Links, None, nodes, configuration)
    }

    /// The same with a disk for each, which can lose power.
    pub fn start_on_disks(nodes: usize, configuration: &str) -> Self {
        let disks = Disks::mount(nodes);
        Self::start_over(Routing::Links, Some(disks), nodes, configuration)
    }

    /// The same without links. Each server tells its clients the addresses of the others.
    pub fn start_unlinked(nodes: usize, configuration: &str) -> Self {
        Self::start_over(Routing::Direct, None, nodes, configuration)
    }

    fn start_over(
        routing: Routing,
        mut disks: Option<Disks>,
        nodes: usize,
        configuration: &str,
    ) -> Self {
        for _ in 1..MAX_STARTS {
            let mut cluster = Self::begin(routing, disks, nodes, configuration);
            if cluster.become_ready() {
                return cluster;
            }
            cluster.nodes.iter_mut().for_each(Node::end);
            disks = cluster.disks.take();
        }
        panic!("no server of NATS starts");
    }

    /// The servers. One whose port is taken ends at once.
    fn begin(routing: Routing, disks: Option<Disks>, nodes: usize, configuration: &str) -> Self {
        let directory = tempfile::tempdir().expect("makes a directory");
        let ports = free_ports(3 * nodes);
        let route_ports = &ports[2 * nodes..];
        let mut links = Vec::new();
        for from in 0..nodes {
            for to in (0..nodes).filter(|to| *to != from) {
                if routing == Routing::Links {
                    links.push(((from, to), Link::to(local(route_ports[to]))));
                }
            }
        }
        let nodes = (0..nodes).map(|number| {
            let (client_port, monitor_port) = (ports[2 * number], ports[2 * number + 1]);
            let mut text = format!(
                "server_name: {}\nlisten: \"127.0.0.1:{client_port}\"\n\
                 http: \"127.0.0.1:{monitor_port}\"\n{configuration}\n",
                name(number)
            );
            if nodes > 1 {
                let link = |to| links.iter().find(|(way, _)| *way == (number, to));
                let address = |to| match link(to) {
                    Some((_, link)) => link.address(),
                    None => local(route_ports[to]),
                };
                let others = (0..ports.len() / 3).filter(|to| *to != number);
                let routes: Vec<String> = others
                    .map(|to| format!("\"nats-route://{}\"", address(to)))
                    .collect();
                // Servers and clients are told no addresses that bypass the links.
                let advertised = match routing {
                    Routing::Links => "advertise: \"127.0.0.1:1\", no_advertise: true, ",
                    Routing::Direct => "",
                };
                text += &format!(
                    "cluster {{ name: events, listen: \"127.0.0.1:{}\", {advertised}routes: [{}] }}\n",
                    route_ports[number],
                    routes.join(", ")
                );
            }
            let file = directory.path().join(format!("node{number}.conf"));
            fs::write(&file, text).expect("writes");
            let store = match &disks {
                Some(disks) => disks.path(number),
                None => directory.path().to_owned(),
            };
            let mut node = Node {
                launcher: disks.as_ref().map_or_else(Vec::new, Disks::launcher),
                configuration: file,
                store: store.join(name(number)),
                client_port,
                monitor_port,
                child: None,
            };
            node.start();
            node
        });
        Self {
            nodes: nodes.collect(),
            links,
            disks,
            _directory: directory,
        }
    }

    fn become_ready(&mut self) -> bool {
        let start = Instant::now();
        while !self.nodes.iter().all(Node::is_ready) {
            if self.nodes.iter_mut().any(Node::has_ended) {
                return false;
            }
            assert!(start.elapsed() < READY_DEADLINE, "they are not ready");
            thread::park_timeout(ASK_AGAIN);
        }
        true
    }

    /// Waits until all running servers are ready.
    pub fn wait(&self) {
        let start = Instant::now();
        let is_done = |node: &Node| node.child.is_none() || node.is_ready();
        while !self.nodes.iter().all(is_done) {
            assert!(start.elapsed() < READY_DEADLINE, "they are not ready");
            thread::park_timeout(ASK_AGAIN);
        }
    }

    /// The number of servers.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// The address of a server for clients.
    pub fn address(&self, node: usize) -> SocketAddr {
        local(self.nodes[node].client_port)
    }

    /// The addresses of all servers, separated by commas.
    pub fn hosts(&self) -> String {
        let addresses = (0..self.nodes.len()).map(|node| self.address(node).to_string());
        addresses.collect::<Vec<_>>().join(",")
    }

    /// The server that leads a stream, by its own report and that of most servers; `None` while there is none,
    /// or while another still reports itself as the leader, as one does for some seconds that was cut off.
    pub fn leader(&self, stream: &str) -> Option<usize> {
        let named: Vec<_> = self.nodes.iter().map(|node| node.leader(stream)).collect();
        let names = |of: usize, leader| named[of] == Some(name(leader));
        let mut leaders = (0..named.len()).filter(|node| names(*node, *node));
        let leader = leaders.next().filter(|_| leaders.next().is_none())?;
        let votes = (0..named.len()).filter(|node| names(*node, leader)).count();
        (2 * votes > named.len()).then_some(leader)
    }

    /// Whether a server has as many messages of a stream as its leader had when it was asked.
    pub fn has_caught_up(&self, node: usize, leader: usize, stream: &str) -> bool {
        let wanted = self.nodes[leader].last_sequence(stream);
        let last = self.nodes[node].last_sequence(stream);
        wanted.is_some() && last >= wanted
    }

    /// Whether a server has, within `deadline`, the messages of a stream that its leader has now. The stream may take
    /// more meanwhile.
    pub fn catches_up(&self, node: usize, stream: &str, deadline: Duration) -> bool {
        let (start, mut wanted) = (Instant::now(), None);
        while start.elapsed() < deadline {
            if wanted.is_none() {
                let leader = self.leader(stream);
                wanted = leader.and_then(|leader| self.nodes[leader].last_sequence(stream));
            }
            if wanted.is_some() && self.nodes[node].last_sequence(stream) >= wanted {
                return true;
            }
            thread::park_timeout(ASK_AGAIN);
        }
        false
    }

    /// The number of clients with this name that are connected to a server.
    pub fn clients(&self, node: usize, name: &str) -> usize {
        let answer = self.nodes[node].ask("/connz").unwrap_or_default();
        answer.matches(&format!("\"name\": \"{name}\"")).count()
    }

    /// Kills a server, and returns when it has ended.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].end();
    }

    /// Starts a server that was killed, on its store.
    pub fn restart(&mut self, node: usize) {
        self.nodes[node].start();
    }

    /// Removes the store of a server that was killed.
    pub fn empty(&self, node: usize) {
        fs::remove_dir_all(&self.nodes[node].store).expect("is removed");
    }

    /// Starts the servers that were killed.
    pub fn restart_killed(&mut self) {
        for node in &mut self.nodes {
            if node.child.is_none() {
                node.start();
            }
        }
    }

    /// Writes all data of the servers to their disks, synced by them or not.
    pub fn sync_disks(&self) {
        self.disks.as_ref().expect("it was started on disks").sync();
    }

    /// Cuts the power of some servers at one moment, and starts them on the contents of their disks.
    pub fn lose_power(&mut self, nodes: &[usize]) {
        let disks = self.disks.take().expect("it was started on disks");
        // A server that ran on after its disk could still acknowledge.
        for node in nodes {
            self.signal(*node, Signal::STOP);
        }
        disks.stop(nodes);
        for node in nodes {
            self.kill(*node);
        }
        disks.mount_again(nodes);
        self.disks = Some(disks);
        for node in nodes {
            self.restart(*node);
        }
    }

    pub fn signal(&self, node: usize, signal: Signal) {
        let child = self.nodes[node].child.as_ref().expect("it runs");
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("is a process"), signal).expect("is sent");
    }

    /// Calls `change` for each link between a server and the others.
    pub fn around(&self, node: usize, change: impl Fn(&Link)) {
        for ((from, to), link) in &self.links {
            if *from == node || *to == node {
                change(link);
            }
        }
    }
}

/// Ports that are free at the moment.
fn free_ports(count: usize) -> Vec<u16> {
    let listen = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
    let listeners: Vec<TcpListener> = (0..count).map(listen).collect();
    let ports = listeners.iter().map(|listener| {
        let address = listener.local_addr().expect("is bound");
        address.port()
    });
    ports.collect()
}

/// The name of a server.
pub fn name(node: usize) -> String {
    format!("node{node}")
}
