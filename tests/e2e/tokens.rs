//! Tokens: who may put, the refusal of all others, and their file.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{Answer, Connection, Output, Peer, PeerBuilder, Post, serve, wait_until};

const ALICE: &str = "alice-0123456789abcdef0123456789abcdef";
const BOB: &str = "Bob+/~._-0123456789abcdef0123456789==";

/// A file of tokens in a directory of its own.
struct Tokens(TempDir);

impl Tokens {
    fn new(text: &str) -> Self {
        let this = Self(tempfile::tempdir().expect("makes a directory"));
        this.write(text);
        this
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("tokens")
    }

    /// Replaces the file as a whole.
    fn write(&self, text: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, text).expect("writes");
        fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("is set");
        fs::rename(new, self.path()).expect("renames");
    }

    fn argument(&self) -> [String; 2] {
        ["--token-file".to_owned(), self.path().display().to_string()]
    }

    fn peer(&self) -> PeerBuilder {
        Peer::builder().arguments(&self.argument().each_ref().map(String::as_str))
    }

    /// The output of a server that does not start with this file.
    #[track_caller]
    fn error(&self) -> String {
        let [flag, path] = self.argument();
        let arguments = [&serve("memory:")[..], &[&flag, &path]].concat();
        let output = Output::with_environment(&arguments, &[("RUST_LOG", "trace")]);
        assert_eq!(output.code, Some(1), "{output:?}");
        output.stderr
    }
}

fn two_tokens() -> Tokens {
    Tokens::new(&format!("# Clients\n\nalice:{ALICE}\n  bob : {BOB} \n"))
}

fn put(key: &str, credentials: &str) -> Post {
    Post::put(key, "1").header(&format!("Authorization: {credentials}"))
}

/// Holds that this is a 401 with this challenge.
#[track_caller]
fn assert_unauthorized(answer: &Answer, error: &str) {
    answer.assert_is(401, "Unauthorized", "no", false);
    let challenge = format!("Bearer realm=\"alldata-peer\"{error}");
    assert_eq!(answer.header("www-authenticate"), Some(&*challenge));
}

const INVALID: &str = ", error=\"invalid_token\"";

#[test]
fn valid_token_may_put_and_others_get_401() {
    let tokens = two_tokens();
    let peer = tokens.peer().start();
    let mut connection = peer.connect();
    for (key, credentials) in [
        ("key1", format!("Bearer {ALICE}")),
        ("key2", format!("bearer   {BOB}")),
        ("key3", format!("BEARER {BOB} ")),
    ] {
        connection.ask(&put(key, &credentials)).assert_created();
    }
    assert_unauthorized(&connection.ask(&Post::put("no", "1")), "");
    for credentials in ["Basic YWxpY2U6YWxpY2U=", "Bearerx y", "Digest a=b"] {
        assert_unauthorized(&connection.ask(&put("no", credentials)), "");
    }
    for credentials in [
        "Bearer",
        "Bearer x",
        &format!("Bearer {}", &ALICE[..ALICE.len() - 1]),
        &format!("Bearer {ALICE}x"),
        &format!("Bearer {ALICE} {BOB}"),
        &format!("Bearer {}", ALICE.to_uppercase()),
        "Bearer alice",
        "Bearer \u{e9}",
    ] {
        assert_unauthorized(&connection.ask(&put("no", credentials)), INVALID);
    }
    let twice = put("no", &format!("Bearer {ALICE}"));
    let twice = twice.header(&format!("Authorization: Bearer {ALICE}"));
    assert_unauthorized(&connection.ask(&twice), INVALID);
    connection
        .ask(&put("key4", &format!("Bearer {ALICE}")))
        .assert_created();
    assert_eq!(peer.stored().lines().count(), 4);
}

#[test]
fn every_method_and_path_needs_token() {
    let peer = two_tokens().peer().start();
    let mut connection = peer.connect();
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "X"] {
        for target in ["/", "/_put", "/healthz?a=b"] {
            let post = Post::put("no", "1").method(method).target(target);
            assert_unauthorized(&connection.ask(&post), "");
        }
    }
    let head = Post::new("").method("HEAD").bytes();
    assert_eq!(connection.send(head).answer_to_head().status, 401);
    let authorized = put("no", &format!("Bearer {ALICE}")).method("GET");
    connection.ask(&authorized).assert_problem(405);
}

#[test]
fn refusal_comes_before_the_body() {
    let peer = two_tokens().peer().start();
    let large = Post::new("x".repeat(100_000));
    // The body is read after the response, and the connection serves the next request.
    let mut connection = peer.connect();
    assert_unauthorized(&connection.send(large.head()).answer(), "");
    let body = large.bytes().split_off(large.head().len());
    let next = put("key1", &format!("Bearer {ALICE}"));
    connection.send(body).ask(&next).assert_created();
    // The response to a body over the limit is the same.
    let huge = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";
    assert_unauthorized(&peer.connect().send(huge).answer(), "");
    // The client may send the body or not, so the connection ends.
    let expecting = large.header("Expect: 100-continue");
    let mut connection = peer.connect();
    connection.send(expecting.head());
    let answer = connection.any_answer(false);
    assert_unauthorized(&answer, "");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(connection.rest(), b"");
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n";
    let mut connection = peer.connect();
    assert_unauthorized(&connection.send(chunked).answer(), "");
    assert_eq!(connection.rest(), b"");
}

#[test]
fn changed_file_takes_effect_and_unreadable_one_keeps_old_tokens() {
    let tokens = two_tokens();
    let peer = tokens.peer().start();
    let status = |connection: &mut Connection, token: &str| {
        connection
            .ask(&put("key1", &format!("Bearer {token}")))
            .status
    };
    let mut connection = peer.connect();
    assert_eq!(status(&mut connection, ALICE), 201);
    let new = "new0123456789abcdef0123456789abcdef";
    tokens.write(&format!("alice:{new}\n"));
    // Also on a connection that is open.
    wait_until("the new token is valid", || {
        status(&mut connection, new) == 201
    });
    assert_eq!(status(&mut connection, ALICE), 401);
    peer.log_line("tokens read again");
    fs::remove_file(tokens.path()).expect("removes");
    let line = peer.log_line("tokens not read again");
    assert!(
        line.contains("ERROR") && line.contains("--token-file"),
        "{line}"
    );
    assert_eq!(status(&mut connection, new), 201);
    tokens.write(&format!("bob:{BOB}\n"));
    peer.signal(Signal::HUP);
    peer.log_line("tokens read again");
    assert_eq!(status(&mut connection, BOB), 201);
    assert_eq!(status(&mut connection, new), 401);
}

#[test]
fn removed_token_is_revoked_though_another_line_is_invalid() {
    let tokens = two_tokens();
    let peer = tokens.peer().start();
    let mut connection = peer.connect();
    let mut status = |token: &str| {
        let put = put("key1", &format!("Bearer {token}"));
        connection.ask(&put).status
    };
    assert_eq!([status(ALICE), status(BOB)], [201, 201]);
    let mut change = |text: &str, reason: &str, statuses: [u16; 2]| {
        tokens.write(text);
        let line = peer.log_line("the token file is invalid");
        assert!(line.contains("ERROR") && line.contains(reason), "{line}");
        assert_eq!([status(ALICE), status(BOB)], statuses, "{text}");
        peer.log_line("tokens read again");
    };
    let bob_and = |other: &str| format!("bob:{BOB}\n{other}\n");
    change(&bob_and("alice"), "line 2 is not NAME:TOKEN", [401, 201]);
    let repeated = bob_and(&format!("alice:{BOB}\nalice:{ALICE}"));
    change(&repeated, "lines 1 and 2 have the same", [201, 201]);
    change("", "it has no token", [401, 401]);
    tokens.write(&format!("alice:{ALICE}\n"));
    peer.log_line("tokens read again");
    assert_eq!([status(ALICE), status(BOB)], [201, 401]);
}

#[test]
fn whole_log_at_trace_level_has_names_and_no_token() {
    let tokens = two_tokens();
    let file = tokens.0.path().join("log");
    fs::write(&file, "").expect("writes");
    let log = || fs::read_to_string(&file).expect("reads");
    let peer = tokens.peer().own_env("RUST_LOG", "trace");
    let mut peer = peer.log_to(file.to_str().expect("is text")).start();
    let wrong = "wrong-0123456789abcdef0123456789abcdef";
    for token in [ALICE, BOB, wrong] {
        let field = format!("Authorization: Bearer {token}");
        let mut connection = peer.connect();
        connection.ask(&Post::put("key1", "1").header(&field));
        connection.ask(&Post::put("key1", "2").header(&field));
        connection.send(format!("POST / HTTP/1.1\r\n{field}\r\n\r\n"));
        connection.answer().assert_problem(400);
    }
    let short = &ALICE[..20];
    for (text, reason) in [
        (format!("alice:{short}\n"), "fewer than 32 characters"),
        (
            format!("alice:{ALICE}\nbob:{ALICE}\n"),
            "have the same token",
        ),
    ] {
        tokens.write(&text);
        peer.signal(Signal::HUP);
        wait_until("the error is logged", || log().contains(reason));
    }
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let log = log();
    for token in [short, &BOB[..20], &wrong[..20]] {
        assert!(!log.contains(token), "{log}");
    }
    for name in ["alice", "bob"] {
        let authorized = format!("authorized client=\"{name}\"");
        assert!(log.contains(&authorized), "{log}");
    }
}

#[test]
fn log_names_client_of_refused_put_and_counts_401() {
    let mut peer = two_tokens().peer().start();
    let mut connection = peer.connect();
    let alice = format!("Authorization: Bearer {ALICE}");
    connection
        .ask(&Post::put("key1", "1").header(&alice))
        .assert_created();
    connection
        .ask(&Post::put("key1", "2").header(&alice))
        .assert_problem(409);
    let line = peer.log_line("conflict");
    assert!(line.contains("client=\"alice\""), "{line}");
    assert_unauthorized(&connection.ask(&Post::put("key1", "2")), "");
    let line = peer.log_line("unauthorized");
    let has_flag = line.contains("--token-file");
    assert!(has_flag && !line.contains("client="), "{line}");
    let authorized = Post::put("key1", "1").header(&alice);
    connection.ask(&authorized).assert_created();
    // It is refused before its token is looked at.
    connection.ask(&authorized.host("a b")).assert_problem(400);
    let line = peer.log_line("bad_request");
    assert!(!line.contains("client="), "{line}");
    peer.signal(Signal::TERM);
    peer.wait();
    let log = peer.rest_of_stderr().join("\n");
    assert!(
        log.contains("unauthorized=1") && log.contains("conflict=1"),
        "{log}"
    );
}

#[test]
fn error_of_file_names_line_and_shows_no_token() {
    for (text, reason) in [
        ("# none\n".to_owned(), "it has no token"),
        (
            format!("alice:{ALICE}\n{BOB}\n"),
            "line 2 is not NAME:TOKEN",
        ),
        (format!(":{ALICE}\n"), "line 1 has no name"),
        (
            "\n\nalice:geheim\n".to_owned(),
            "line 3 has fewer than 32 characters",
        ),
        (
            format!("alice:{ALICE}\u{e9}\n"),
            "line 1 has characters other than",
        ),
        (
            format!("a:{ALICE}\nb:{ALICE}\n"),
            "lines 1 and 2 have the same token",
        ),
    ] {
        let tokens = Tokens::new(&text);
        let error = tokens.error();
        assert!(error.contains(reason), "{reason}: {error}");
        let path = tokens.path().display().to_string();
        assert!(
            error.contains(&path) && error.contains("--token-file"),
            "{error}"
        );
        for token in [ALICE, BOB, "geheim"] {
            assert!(!error.contains(token), "{error}");
        }
    }
    let tokens = two_tokens();
    fs::remove_file(tokens.path()).expect("removes");
    assert!(tokens.error().contains("No such file"));
}

#[test]
fn file_that_others_can_read_is_warned_about() {
    for (mode, is_warned) in [(0o644, true), (0o640, false)] {
        let tokens = two_tokens();
        fs::set_permissions(tokens.path(), Permissions::from_mode(mode)).expect("is set");
        let mut peer = tokens.peer().start();
        peer.signal(Signal::TERM);
        peer.wait();
        let log = peer.rest_of_stderr().join("\n");
        assert_eq!(
            log.contains("other users can read the token file"),
            is_warned,
            "{log}"
        );
    }
}
