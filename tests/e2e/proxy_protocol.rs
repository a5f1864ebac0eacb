//! The PROXY protocol: the address that it tells, and connections that do not speak it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::balancers::program;
use crate::certificates::Authority;
use crate::support::admin::scrape;
use crate::support::{Connection, Peer, PeerBuilder, Post, can_make, wait_until};
use crate::tls_client::{TlsClient, tls_peer};

const ENABLED: [&str; 2] = ["--trusted-proxy=127.0.0.1", "--proxy-protocol"];

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n";

/// A header of version 2 of a client with this last byte of its address.
fn v2(client: u8) -> Vec<u8> {
    let addresses = [192, 0, 2, client, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &addresses[..]].concat()
}

/// A server that writes its access log to standard output.
fn logging(peer: PeerBuilder) -> PeerBuilder {
    peer.arguments(&["--access-log", "-", "--sink=memory:"])
}

fn peer() -> PeerBuilder {
    logging(Peer::builder()).arguments(&ENABLED)
}

#[track_caller]
fn logged_address(peer: &Peer) -> Value {
    let line: Value = serde_json::from_str(&peer.stdout_line()).expect("is JSON");
    line["address"].clone()
}

/// A connection that begins with these bytes.
fn connect(address: SocketAddr, header: &[u8]) -> Connection {
    let mut connection = Connection::open(address);
    connection.send(header);
    connection
}

#[test]
fn address_of_header_is_that_of_the_client() {
    let peer = peer().start();
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (header, expected) in [
        (V1, "192.0.2.1"),
        (&v2(7), "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (local, "127.0.0.1"),
    ] {
        let mut connection = connect(peer.address(), header);
        for field in ["X-Nothing: 1", "X-Forwarded-For: 9.9.9.9"] {
            connection
                .ask(&Post::put("key1", "1").header(field))
                .assert_created();
            // Only the connection of the proxy itself is trusted.
            let is_proxy = header == local && field.contains("9.9.9.9");
            let expected = if is_proxy { "9.9.9.9" } else { expected };
            assert_eq!(logged_address(&peer), expected);
        }
    }
    // Header and request in one packet, and byte for byte.
    let put = Post::put("key1", "1").bytes();
    connect(peer.address(), &[&v2(8), &put[..]].concat())
        .answer()
        .assert_created();
    assert_eq!(logged_address(&peer), "192.0.2.8");
    let mut slow = peer.connect();
    for byte in [V1, &put].concat() {
        slow.send([byte]);
    }
    slow.answer().assert_created();
    assert_eq!(logged_address(&peer), "192.0.2.1");
}

#[test]
fn trusted_proxy_of_a_trusted_proxy_is_believed() {
    let trusted = ["--trusted-proxy=127.0.0.1,192.0.2.0/24", "--proxy-protocol"];
    let peer = logging(Peer::builder()).arguments(&trusted).start();
    let mut connection = connect(peer.address(), &v2(7));
    let put = Post::put("key1", "1").header("X-Forwarded-For: 9.9.9.9, 198.51.100.1");
    connection.ask(&put).assert_created();
    assert_eq!(logged_address(&peer), "198.51.100.1");
}

#[test]
fn connection_without_valid_header_is_closed() {
    let peer = peer().admin().start();
    let mut malformed = v2(1);
    malformed[12] = 0x31;
    let put = Post::put("key1", "1").bytes();
    let all = [
        &put[..],
        b"PROXY TCP4 192.0.2.1\r\n",
        &malformed,
        b"\x16\x03\x01\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ];
    for bytes in all {
        let rest = connect(peer.address(), bytes).rest();
        assert_eq!(rest, b"", "{}", bytes.escape_ascii());
    }
    peer.log_line("does not begin with a header of the PROXY protocol");
    let invalid = || scrape(peer.admin()).value("alldata_peer_proxy_headers_invalid_total");
    assert_eq!(invalid(), all.len() as f64);
    // As health checks do.
    assert_eq!(peer.connect().finish().rest(), b"");
    assert_eq!(invalid(), all.len() as f64);
    connect(peer.address(), V1)
        .ask(&Post::put("key1", "1"))
        .assert_created();
    let stored = scrape(peer.admin());
    let stored = stored.value("alldata_peer_requests_total{outcome=\"stored\",status=\"201\"}");
    assert_eq!(stored, 1.0);
}

#[test]
fn header_that_does_not_arrive_ends_its_connection() {
    let peer = peer().arguments(&["--header-read-timeout=1s"]).start();
    for part in [&V1[..20], &v2(1)[..14], &v2(1)[..20], b""] {
        assert_eq!(connect(peer.address(), part).rest(), b"");
    }
    peer.log_line("did not arrive in time");
}

#[test]
fn header_of_untrusted_client_is_not_read() {
    for arguments in [
        &["--trusted-proxy=127.0.0.1"][..],
        &["--trusted-proxy=10.0.0.0/8", "--proxy-protocol"],
    ] {
        let peer = logging(Peer::builder()).arguments(arguments).start();
        peer.put("key1", "1").assert_created();
        assert_eq!(logged_address(&peer), "127.0.0.1");
        for header in [V1, &v2(1)] {
            let mut connection = connect(peer.address(), header);
            connection
                .send(Post::put("key1", "1").bytes())
                .answer()
                .assert_problem(400);
            assert_eq!(logged_address(&peer), "127.0.0.1");
        }
    }
}

#[test]
fn header_precedes_the_tls_handshake() {
    let authority = Authority::new("authority");
    let peer = logging(tls_peer(&authority)).arguments(&ENABLED).start();
    let client = TlsClient::new(&authority);
    let stream = client
        .stream_after(peer.address(), &v2(7))
        .expect("shakes hands");
    Connection::on(stream)
        .ask(&Post::put("key1", "1"))
        .assert_created();
    assert_eq!(logged_address(&peer), "192.0.2.7");
    client
        .stream(peer.address())
        .map(drop)
        .expect_err("there is no header");
}

#[test]
fn connections_count_for_the_address_of_the_client() {
    let limit = ["--max-connections-per-address=1"];
    let peer = peer().arguments(&limit).start();
    let put = Post::put("key1", "1");
    let mut first = connect(peer.address(), &v2(1));
    first.ask(&put).assert_created();
    let mut second = connect(peer.address(), &v2(2));
    second.ask(&put).assert_created();
    assert_eq!(connect(peer.address(), &v2(1)).rest(), b"");
    first.ask(&put).assert_created();
    drop(first);
    // Its end is seen in a moment.
    wait_until("the address may connect again", || {
        connect(peer.address(), &[v2(1), put.bytes()].concat())
            .answer_or_end()
            .is_some()
    });

    // Without the PROXY protocol a connection of a proxy is one of many clients.
    let arguments = [
        "--trusted-proxy=127.0.0.1",
        "--max-connections-per-address=1",
    ];
    let peer = Peer::builder().arguments(&arguments).start();
    let mut connections = [peer.connect(), peer.connect(), peer.connect()];
    for connection in &mut connections {
        connection.ask(&put).assert_created();
    }
}

#[test]
fn connection_without_header_does_not_delay_the_shutdown() {
    let mut peer = peer().arguments(&["--header-read-timeout=1h"]).start();
    let mut silent = peer.connect();
    let mut begun = connect(peer.address(), &V1[..20]);
    connect(peer.address(), V1)
        .ask(&Post::put("key1", "1"))
        .assert_created();
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert_eq!((silent.rest(), begun.rest()), (Vec::new(), Vec::new()));
}

/// A proxy, which is killed when dropped.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a proxy of this configuration that listens on this Unix socket; `None` if it is missing.
fn start(name: &str, arguments: &[&str], configuration: &str, directory: &Path) -> Option<Proxy> {
    let found = program(name, "-v");
    let missing = found.is_none().then(|| format!("there is no {name}"));
    can_make("a proxy that speaks the PROXY protocol", missing.as_deref());
    let path = directory.join("configuration");
    fs::write(&path, configuration).expect("writes");
    let mut command = Command::new(found?);
    let command = command.args(arguments).arg(&path);
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let proxy = Proxy(process.expect("starts"));
    let socket = directory.join("front");
    wait_until("it listens", || UnixStream::connect(&socket).is_ok());
    Some(proxy)
}

/// The clients of the proxies are on Unix sockets, and tell their addresses by the PROXY protocol themselves.
#[test]
fn haproxy_tells_the_address_in_both_versions() {
    for version in ["send-proxy", "send-proxy-v2"] {
        let peer = peer().start();
        let directory = tempfile::tempdir().expect("makes a directory");
        let (socket, address) = (directory.path().join("front"), peer.address());
        let configuration = format!(
            "defaults\n mode tcp\n timeout connect 60s\n timeout client 60s\n timeout server 60s\n\
             listen front\n bind unix@{} accept-proxy\n server peer {address} {version}\n",
            socket.display()
        );
        let Some(_proxy) = start("haproxy", &["-db", "-f"], &configuration, directory.path())
        else {
            return;
        };
        let mut connection = Connection::open_unix(&socket);
        connection
            .send(V1)
            .ask(&Post::put("key1", "1"))
            .assert_created();
        assert_eq!(logged_address(&peer), "192.0.2.1");
    }
}

#[test]
fn nginx_tells_the_address_in_the_field() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let (socket, work) = (directory.path().join("front"), directory.path().display());
    let listen = format!("listen unix:{} proxy_protocol;", socket.display());
    let by_field = logging(Peer::builder()).arguments(&ENABLED[..1]).start();
    let address = by_field.address();
    let configuration = format!(
        "daemon off; master_process off; pid {work}/pid; error_log /dev/null;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {work}; proxy_temp_path {work};\n\
         fastcgi_temp_path {work}; uwsgi_temp_path {work}; scgi_temp_path {work};\n\
         server {{ {listen} set_real_ip_from unix:; real_ip_header proxy_protocol;\n\
         location / {{ proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_pass http://{address}; }} }} }}\n"
    );
    let Some(_proxy) = start("nginx", &["-c"], &configuration, directory.path()) else {
        return;
    };
    let forged = Post::put("key1", "1").header("X-Forwarded-For: 9.9.9.9");
    let mut connection = Connection::open_unix(&socket);
    connection.send(V1).ask(&forged).assert_created();
    assert_eq!(logged_address(&by_field), "192.0.2.1");
}
