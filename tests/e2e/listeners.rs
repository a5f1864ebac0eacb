//! Where a server listens: several TCP addresses, Unix sockets, and listeners of an embedder.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use alldata_peer_server_http::sinks::DiscardSink;
use alldata_peer_server_http::{Limits, LocalAddress, PeerListener, PeerServer};
use rustix::process::Signal;

use crate::certificates::Authority;
use crate::support::{DEADLINE, Output, Peer, PeerBuilder, Post, run, wait_until};
use crate::tls_client::{SERVER_NAME, TlsClient};

/// Sends a request over a Unix socket, and returns its status line.
fn status(path: &Path, post: &Post) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(&post.bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[track_caller]
fn assert_created(path: &Path) {
    let status = status(path, &Post::put("key1", "1")).expect("is answered");
    assert_eq!(status, "HTTP/1.1 201 Created");
}

/// A server that listens on these addresses only.
fn listening_on(addresses: &[&str]) -> PeerBuilder {
    let flags = addresses.iter().flat_map(|address| ["--listen", address]);
    Peer::from_environment(&[]).arguments(&flags.collect::<Vec<_>>())
}

#[test]
fn several_addresses_are_on_one_line_and_serve() {
    let addresses = ["127.0.0.1:0", "unix:peer.sock", "[::1]:0", "localhost:0"];
    let mut peer = listening_on(&addresses).start();
    let line = peer.listening().to_owned();
    let addresses: Vec<&str> = line
        .trim_start_matches("listening on ")
        .split(", ")
        .collect();
    assert!(addresses.len() >= 4, "{line}");
    assert_eq!(addresses[1], "unix:peer.sock");
    assert!(addresses[2].starts_with("http://[::1]:"), "{line}");
    for address in addresses
        .iter()
        .filter_map(|address| address.strip_prefix("http://"))
    {
        let address = address.parse().expect("is an address");
        Post::put("key1", "1").send_to(address).assert_created();
    }
    assert_created(&peer.file("peer.sock"));
    let logged = peer.log_line("serving");
    assert!(logged.contains("unix:peer.sock"), "{logged}");
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert!(peer.rest_of_stdout().is_empty());
}

#[test]
fn socket_file_has_its_mode_and_is_removed_at_the_end() {
    for (address, mode) in [("unix:peer.sock", 0o600), ("unix:peer.sock|0660", 0o660)] {
        let mut peer = listening_on(&[address]).start();
        assert_eq!(peer.listening(), "listening on unix:peer.sock");
        let path = peer.file("peer.sock");
        let found = fs::metadata(&path).expect("is there").permissions().mode() & 0o777;
        assert_eq!(found, mode, "{address}");
        assert_created(&path);
        peer.signal(Signal::TERM);
        assert_eq!(peer.wait().code(), Some(0));
        assert!(!path.exists(), "the socket is not removed");
    }
}

#[test]
fn socket_of_killed_server_is_replaced() {
    let peer = listening_on(&["unix:peer.sock"]).start();
    let (_, builder) = peer.end(Signal::KILL);
    let peer = builder_on(builder, "unix:peer.sock").start();
    peer.log_line("replacing a Unix socket");
    assert_created(&peer.file("peer.sock"));
}

/// The builder of a server that is started again, with an address besides its own.
fn builder_on(builder: PeerBuilder, address: &str) -> PeerBuilder {
    builder.only(&["serve", "--listen", address])
}

#[test]
fn socket_in_use_is_refused_and_kept() {
    let peer = listening_on(&["unix:peer.sock"]).start();
    let path = peer.file("peer.sock");
    let output = serve_on(&path);
    let sentence = output.assert_failed(1);
    assert!(
        sentence.contains("another process listens on it"),
        "{sentence}"
    );
    assert!(sentence.contains("peer.sock"), "{sentence}");
    assert_created(&path);
}

#[test]
fn lock_of_another_process_does_not_keep_server_from_starting() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let locked = fs::File::open(directory.path()).expect("opens");
    locked.lock().expect("locks");
    let builder = listening_on(&["unix:peer.sock"]).directory(directory);
    let peer = builder.start();
    peer.log_line("continuing without the lock");
    assert_created(&peer.file("peer.sock"));
}

#[test]
fn socket_that_every_user_may_open_is_warned_about_unless_there_are_tokens() {
    let authority = Authority::new("authority");
    let [certificate, key] = authority.issue(SERVER_NAME).paths();
    let authorities = authority.path();
    let mutual = [
        ["--tls-cert", &certificate],
        ["--tls-key", &key],
        ["--tls-client-ca", &authorities],
    ];
    let mut tokens = tempfile::NamedTempFile::new().expect("makes a file");
    writeln!(tokens, "alice:{}", "a".repeat(32)).expect("writes");
    let tokens = ["--token-file", tokens.path().to_str().expect("is text")];
    for (address, arguments, is_warned) in [
        ("unix:peer.sock|0666", mutual.as_flattened(), true),
        ("unix:peer.sock|0602", &[], true),
        ("unix:peer.sock|0666", &tokens, false),
        ("unix:peer.sock|0660", &[], false),
        ("unix:peer.sock", &[], false),
    ] {
        let mut peer = listening_on(&[address]).arguments(arguments).start();
        peer.signal(Signal::TERM);
        peer.wait();
        let log = peer.rest_of_stderr().join("\n");
        let warns = log.contains("every user of this machine can put");
        assert_eq!(warns, is_warned, "{address} {arguments:?}: {log}");
    }
}

#[test]
fn file_at_the_path_is_never_replaced() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().join("peer.sock");
    fs::write(&path, "mine").expect("writes");
    let output = serve_on(&path);
    let sentence = output.assert_failed(1);
    assert!(sentence.contains("not a socket"), "{sentence}");
    assert_eq!(fs::read_to_string(&path).expect("reads"), "mine");
    let long = directory.path().join("x".repeat(120));
    let output = serve_on(&long);
    assert!(
        output.assert_failed(1).contains("at most 107"),
        "{output:?}"
    );
    let output = serve_on(&directory.path().join("a/b"));
    assert!(
        output.assert_failed(1).contains("No such file"),
        "{output:?}"
    );
}

fn serve_on(path: &Path) -> Output {
    let address = format!("unix:{}", path.display());
    run(&["serve", "--sink=memory:", "--listen", &address])
}

#[test]
fn socket_that_replaced_that_of_the_server_is_not_removed() {
    let mut peer = listening_on(&["unix:peer.sock"]).start();
    let path = peer.file("peer.sock");
    fs::remove_file(&path).expect("removes");
    let _other = UnixListener::bind(&path).expect("binds");
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    assert!(path.exists(), "the socket of another program is removed");
}

#[test]
fn put_over_unix_socket_is_answered_before_the_end() {
    let mut peer = listening_on(&["unix:peer.sock"]).start();
    let path = peer.file("peer.sock");
    let mut stream = UnixStream::connect(&path).expect("connects");
    stream.set_read_timeout(Some(DEADLINE)).expect("sets");
    let bytes = Post::put("key1", "1").bytes();
    let (head, rest) = bytes.split_at(bytes.len() - 1);
    stream.write_all(head).expect("writes");
    // It has come to the server before the signal: another request was answered after it.
    assert_created(&path);
    peer.signal(Signal::TERM);
    wait_until("the server closes its socket", || !path.exists());
    stream.write_all(rest).expect("writes");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("is answered");
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(peer.wait().code(), Some(0));
}

#[test]
fn unix_socket_is_without_tls_beside_tcp_with_it() {
    let authority = Authority::new("authority");
    let addresses = ["--listen", "localhost:0", "--listen", "unix:peer.sock"];
    let [certificate, key] = authority.issue(SERVER_NAME).paths();
    let peer = Peer::from_environment(&[])
        .arguments(&["--tls-cert", &certificate, "--tls-key", &key])
        .arguments(&addresses)
        .start();
    assert!(peer.listening().starts_with("listening on https://"));
    assert!(peer.listening().ends_with(", unix:peer.sock"));
    let mut connection = TlsClient::new(&authority).connect(peer.address());
    connection.ask(&Post::put("key1", "1")).assert_created();
    assert_created(&peer.file("peer.sock"));
}

#[test]
fn queued_connection_is_left_to_the_next_process() {
    let runtime = tokio::runtime::Runtime::new().expect("starts a runtime");
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let next = listener.try_clone().expect("duplicates");
    let address = listener.local_addr().expect("is bound");
    let builder = PeerServer::builder().sink(DiscardSink).limits(Limits {
        max_connections: 1,
        drain_timeout: Duration::from_millis(200),
        ..Limits::default()
    });
    let builder = builder.listen_on(PeerListener::from(listener).leave_queue());
    let server = runtime.block_on(builder.listen()).expect("listens");
    let connect = || TcpStream::connect(address).expect("connects");
    // One is served, one waits until that ends, and one is in the queue of the system.
    let mut busy = connect();
    busy.write_all(Post::put("key1", "1").head().as_slice())
        .expect("writes");
    let (_waiting, queued) = (connect(), connect());
    runtime.block_on(server.close());
    let left: Vec<_> = std::iter::from_fn(|| next.accept().ok()).collect();
    let queued = queued.local_addr().expect("is connected");
    assert!(left.iter().any(|(_, client)| *client == queued), "{left:?}");
}

#[test]
fn wrong_addresses_are_wrong_usage() {
    for arguments in [
        &["--listen", "8080"][..],
        &["--listen", "::1:8080"],
        &["--listen", "localhost:http"],
        &["--listen", "unix:"],
        &["--listen", "unix:a|0999"],
        &["--listen", "localhost:0", "--port", "0"],
        &["--listen", "localhost:0", "--hostname", "localhost"],
    ] {
        let output = run(&[&["serve", "--sink=memory:"], arguments].concat());
        assert!(output.assert_failed(2).contains("--listen"), "{output:?}");
    }
}

#[test]
fn addresses_are_read_from_variable() {
    let addresses = ("ALLDATA_PEER_LISTEN", "unix:a.sock,unix:b.sock");
    let peer = Peer::from_environment(&[addresses]).start();
    for name in ["a.sock", "b.sock"] {
        assert_created(&peer.file(name));
    }
}

#[test]
fn embedder_passes_listeners() {
    let runtime = tokio::runtime::Runtime::new().expect("starts a runtime");
    let directory = tempfile::tempdir().expect("makes a directory");
    let paths = ["std.sock", "tokio.sock", "own.sock"].map(|name| directory.path().join(name));
    let server = runtime.block_on(async {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("binds");
        let tokio_tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let unix = UnixListener::bind(&paths[0]).expect("binds");
        let tokio_unix = tokio::net::UnixListener::bind(&paths[1]);
        let own = format!("unix:{}", paths[2].display());
        let limits = Limits {
            // Does not count connections to Unix sockets.
            max_connections_per_address: 2,
            ..Limits::default()
        };
        let builder = PeerServer::builder().sink(DiscardSink).limits(limits);
        let builder = builder.listen_on(tcp).listen_on(tokio_tcp.expect("binds"));
        let builder = builder
            .listen_on(unix)
            .listen_on(tokio_unix.expect("binds"));
        let builder = builder.listen_address(own.parse().expect("is an address"));
        builder.listen().await.expect("listens")
    });
    assert_eq!(server.local_addrs().len(), 2);
    assert_eq!(server.listen_addresses().len(), 5);
    assert_eq!(
        server.listen_addresses()[2],
        LocalAddress::Unix(paths[0].clone())
    );
    for address in server.local_addrs() {
        Post::put("key1", "1").send_to(*address).assert_created();
    }
    let idle = || UnixStream::connect(&paths[0]).expect("connects");
    let _idle = [idle(), idle(), idle()];
    for path in &paths {
        assert_created(path);
    }
    runtime.block_on(server.close());
    // The files of listeners that were made elsewhere are left to whoever made them.
    assert_eq!(paths.map(|path| path.exists()), [true, true, false]);
}
