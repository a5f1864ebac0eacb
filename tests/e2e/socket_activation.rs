//! A server under a service manager: listeners that are passed to it, notifications, and restarts.

use std::io::{Read as _, Write as _};
use std::iter;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::support::{Connection, DEADLINE, Peer, PeerBuilder, Post, wait_until};

/// Turns into the program, as systemd does, with standard input as the first passed descriptor.
const ACTIVATE: &str = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";

/// The connections that the load has at a time, and how many puts it makes at least.
const CLIENTS: usize = 4;
const PUTS: usize = 50;

/// A server that is passed this socket.
fn activated(builder: PeerBuilder, socket: impl Into<OwnedFd>) -> PeerBuilder {
    let launcher = ["sh", "-c", ACTIVATE, "sh"];
    builder.launched_by(&launcher).input(socket.into())
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("binds")
}

#[test]
fn passed_tcp_listener_is_used_in_place_of_flags() {
    let listener = listener();
    let address = listener.local_addr().expect("is bound");
    let mut peer = activated(Peer::builder(), listener).start();
    assert_eq!(peer.address(), address);
    peer.log_line("--port have no effect");
    peer.put("key1", "1").assert_created();
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn passed_unix_listener_is_used_and_its_file_kept() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("peer.sock");
    let listener = UnixListener::bind(&path).expect("binds");
    let mut peer = activated(Peer::from_environment(&[]), listener).start();
    let line = format!("listening on unix:{}", path.display());
    assert_eq!(peer.listening(), line);
    let mut stream = UnixStream::connect(&path).expect("connects");
    stream
        .write_all(&Post::put("key1", "1").bytes())
        .expect("writes");
    stream.shutdown(Shutdown::Write).expect("shuts down");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("is answered");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert!(
        path.exists(),
        "the socket of the service manager is removed"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn passed_abstract_socket_is_warned_about() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;

    let name = format!("alldata-peer-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).expect("is a name");
    let listener = UnixListener::bind_addr(&address).expect("binds");
    let peer = activated(Peer::from_environment(&[]), listener).start();
    peer.log_line("every user of this machine can put");
}

#[test]
fn descriptors_for_another_process_are_not_used() {
    let launcher = [
        "sh",
        "-c",
        "export LISTEN_FDS=1 LISTEN_PID=1; exec \"$@\"",
        "sh",
    ];
    let peer = Peer::builder().launched_by(&launcher).start();
    peer.put("key1", "1").assert_created();
}

#[test]
fn descriptor_that_is_no_listener_is_refused() {
    let listener = listener();
    let near = TcpStream::connect(listener.local_addr().expect("is bound")).expect("connects");
    let file = tempfile::tempfile().expect("makes a file");
    for (descriptor, reason) in [
        (OwnedFd::from(near), "Accept=no"),
        (OwnedFd::from(file), "is not a socket"),
    ] {
        let program = Path::new(env!("CARGO_BIN_EXE_alldata-peer"));
        let output = std::process::Command::new("sh")
            .args(["-c", ACTIVATE, "sh"])
            .arg(program)
            .args(["serve", "--sink=memory:"])
            .stdin(descriptor)
            .output()
            .expect("starts");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
    }
}

/// The service manager keeps the socket: while one server ends and the next one starts, connections wait, and none
/// is refused or lost.
#[test]
fn restart_refuses_no_connection() {
    let socket = listener();
    let address = socket.local_addr().expect("is bound");
    let pass = || socket.try_clone().expect("duplicates");
    let (stopped, puts) = (AtomicBool::new(false), AtomicUsize::new(0));
    let put_until_stopped = |client: usize| {
        let mut number = 0;
        while !stopped.load(Ordering::Relaxed) {
            number += 1;
            let put = Post::put(&format!("{client}-{number}"), "1").bytes();
            // A server that ends closes a connection whose request does not arrive for 50 ms.
            let send = || Connection::open(address).try_send(&put).answer_or_end();
            let answer = iter::repeat_with(send).flatten().next();
            answer.expect("the iterator is endless").assert_created();
            puts.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let mut peer = activated(Peer::builder(), pass()).start();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || put_until_stopped(client)))
            .collect();
        for _ in 0..2 {
            let before = puts.load(Ordering::Relaxed);
            let more = || {
                let failed = clients.iter().any(thread::ScopedJoinHandle::is_finished);
                failed || puts.load(Ordering::Relaxed) > before + PUTS
            };
            wait_until("puts are made", more);
            let (status, builder) = peer.end(Signal::TERM);
            assert_eq!(status.code(), Some(0));
            peer = activated(builder, pass()).start();
        }
        stopped.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("every put is acknowledged");
        }
        assert_eq!(peer.stored().lines().count(), puts.load(Ordering::Relaxed));
    });
}

#[test]
fn service_manager_is_notified_of_start_watchdog_and_end() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).expect("binds");
    socket.set_read_timeout(Some(DEADLINE)).expect("sets");
    let next = || {
        let mut buffer = [0; 1024];
        let bytes = socket.recv(&mut buffer).expect("is notified");
        String::from_utf8_lossy(&buffer[..bytes]).into_owned()
    };
    let mut peer = Peer::builder()
        .own_env("NOTIFY_SOCKET", path.to_str().expect("is text"))
        .own_env("WATCHDOG_USEC", "30000")
        .start();
    assert_eq!(next(), format!("READY=1\nSTATUS={}\n", peer.listening()));
    for _ in 0..3 {
        assert_eq!(next(), "WATCHDOG=1\n");
    }
    peer.signal(Signal::TERM);
    let mut last = next();
    while last == "WATCHDOG=1\n" {
        last = next();
    }
    assert!(last.starts_with("STOPPING=1\nSTATUS=closing"), "{last}");
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn server_without_service_manager_is_not_disturbed() {
    // Nobody is there to be notified: that is logged, and no reason to end.
    let mut peer = Peer::builder()
        .own_env("NOTIFY_SOCKET", "/nowhere/notify.sock")
        .start();
    peer.put("key1", "1").assert_created();
    peer.log_line("cannot notify the service manager");
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
}
