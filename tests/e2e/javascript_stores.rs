//! The stores of the npm package that keep events on a disk: what is acknowledged is synced.
//!
//! That nothing is lost is in `faults::javascript`.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::javascript_server::JavaScriptServer;
use crate::request_table::{self, Platform as _};
use crate::support::{JavaScriptPeer, Lines, Post, Runtime, can_make, wait_until};

/// The number of puts, one after the other, of which each has to be synced.
const PUTS: usize = 20;

#[test]
fn workerd_syncs_each_put() {
    syncs_each_put(Runtime::Workerd, JavaScriptServer::workerd);
}

#[test]
fn node_sqlite_syncs_each_put() {
    syncs_each_put(Runtime::Node, JavaScriptServer::node_sqlite);
}

#[test]
fn better_sqlite_syncs_each_put() {
    syncs_each_put(Runtime::Node, JavaScriptServer::better_sqlite);
}

#[test]
fn deno_sqlite_syncs_each_put() {
    syncs_each_put(Runtime::Deno, JavaScriptServer::deno_sqlite);
}

#[test]
fn bun_sqlite_syncs_each_put() {
    syncs_each_put(Runtime::Bun, JavaScriptServer::bun_sqlite);
}

#[test]
fn deno_kv_syncs_each_put() {
    syncs_each_put(Runtime::Deno, JavaScriptServer::deno_kv);
}

#[test]
fn node_sqlite_answers_the_table_of_requests() {
    hold(Runtime::Node, JavaScriptServer::node_sqlite);
}

#[test]
fn better_sqlite_answers_the_table_of_requests() {
    hold(Runtime::Node, JavaScriptServer::better_sqlite);
}

#[test]
fn deno_sqlite_answers_the_table_of_requests() {
    hold(Runtime::Deno, JavaScriptServer::deno_sqlite);
}

#[test]
fn bun_sqlite_answers_the_table_of_requests() {
    hold(Runtime::Bun, JavaScriptServer::bun_sqlite);
}

#[track_caller]
fn hold(runtime: Runtime, start: fn() -> JavaScriptServer) {
    if can_make("a store in JavaScript", runtime.missing()) {
        request_table::hold(&start());
    }
}

/// Deno KV takes values of up to 64 KiB, and keys of up to 2048 bytes, in which U+0000 takes two.
#[test]
fn deno_kv_refuses_larger_events_for_good() {
    if !can_make("Deno KV", Runtime::Deno.missing()) {
        return;
    }
    let server = JavaScriptServer::deno_kv();
    let mut connection = server.connect();
    let event = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    connection
        .ask(&Post::put("most", &event(65_536)))
        .assert_created();
    assert_eq!(server.stored("most"), Some(event(65_536)));
    let answer = connection.ask(&Post::put("more", &event(65_537)));
    let detail = answer.assert_is(422, "Unprocessable Content", "no", false);
    assert!(detail.contains("65536"), "{detail}");
    let key = "\\u0000".repeat(1024);
    let answer = connection.ask(&Post::new(format!("{{\"key\":\"{key}\",\"event\":1}}")));
    answer.assert_is(422, "Unprocessable Content", "no", false);
    let longest = "k".repeat(1024);
    connection.ask(&Post::put(&longest, "1")).assert_created();
    for (event, status) in [("[1]", 201), ("[1.0]", 201), ("[2]", 409)] {
        assert_eq!(connection.ask(&Post::put("once", event)).status, status);
    }
    assert_eq!(server.stored("once").as_deref(), Some("[1]"));
}

/// A row of a Durable Object has at most 2 MB. A client that is still sending reads its response, too.
#[test]
fn durable_object_refuses_larger_events_for_good() {
    if !can_make("workerd", Runtime::Workerd.missing()) {
        return;
    }
    let server = JavaScriptServer::workerd();
    let event = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    let put = |length: usize| Post::put("key", &event(length));
    let answer = put(1_999_898).send_to(server.address);
    let detail = answer.assert_is(422, "Unprocessable Content", "no", false);
    assert!(detail.contains("1999900"), "{detail}");
    put(1_999_897).send_to(server.address).assert_created();
    assert_eq!(server.stored("key"), Some(event(1_999_897)));
    // More than the Worker reads, and than the buffers of two sockets hold.
    let large = put(5_000_000).bytes();
    let parts: Vec<&[u8]> = large.chunks(65_536).collect();
    for (post, status) in [
        (put(5_000_000), 413),
        (Post::chunks(&parts), 413),
        (put(5_000_000).method("PUT"), 405),
    ] {
        post.send_to(server.address).assert_problem(status);
    }
}

/// Two keys that differ after U+0000 are two, also where a module cuts off what it reads.
#[test]
fn keys_with_nul_characters_are_kept_apart() {
    for (runtime, start) in [
        (Runtime::Node, JavaScriptServer::node_sqlite as fn() -> _),
        (Runtime::Node, JavaScriptServer::better_sqlite),
        (Runtime::Deno, JavaScriptServer::deno_sqlite),
        (Runtime::Bun, JavaScriptServer::bun_sqlite),
        (Runtime::Deno, JavaScriptServer::deno_kv),
        (Runtime::Workerd, JavaScriptServer::workerd),
    ] {
        if !can_make("a store in JavaScript", runtime.missing()) {
            continue;
        }
        let server = start();
        for (key, event) in [
            ("a\\u0000b", "1"),
            ("a\\u0000c", "2"),
            ("\\ufeffa", "3"),
            ("a", "4"),
        ] {
            let body = format!("{{\"key\":\"{key}\",\"event\":{event}}}");
            Post::new(body).send_to(server.address).assert_created();
        }
        let mut events = server.events();
        events.sort();
        let expected = [("a", "4"), ("a\0b", "1"), ("a\0c", "2"), ("\u{feff}a", "3")];
        let expected = expected.map(|(key, event)| (key.to_owned(), event.to_owned()));
        assert_eq!(events, expected, "{runtime:?}");
    }
}

/// After a sync that failed nothing is acknowledged: a later one could succeed without what the first was to write.
#[test]
fn failed_sync_ends_acknowledgements_until_restart() {
    if !can_trace(Runtime::Node) {
        return;
    }
    let mut server = JavaScriptServer::node_sqlite();
    let mut connection = server.connect();
    connection.ask(&Post::put("before", "1")).assert_created();
    let fail = "inject=fsync,fdatasync:error=EIO";
    let mut strace = trace(server.process.id(), &["-e", fail, "-o", "/dev/null"]);
    // strace may not have stopped each thread yet: a put before that is synced.
    let mut failed = 0;
    wait_until("a sync fails", || {
        failed += 1;
        let answer = connection.ask(&Post::put(&format!("failed{failed}"), "1"));
        if answer.status != 201 {
            answer.assert_is(500, "Internal Server Error", "unknown", true);
        }
        answer.status != 201
    });
    let failed = format!("failed{failed}");
    server.process.log_line("A put failed");
    strace.kill().expect("is sent");
    strace.wait().expect("ends");
    for key in [&*failed, "after"] {
        let answer = connection.ask(&Post::put(key, "1"));
        answer.assert_is(503, "Service Unavailable", "no", true);
    }
    server.process.kill();
    server.restart();
    // Now it is in the database itself, which SQLite has synced.
    let file = fs::read(server.directory().join("events.db")).expect("reads");
    let is_there = |bytes| bytes == failed.as_bytes();
    assert!(file.windows(failed.len()).any(is_there));
    for key in ["before", &*failed, "after"] {
        let post = Post::put(key, "1");
        post.send_to(server.address).assert_created();
    }
}

/// What a killed process has written, and not synced, is read as stored: so it is synced before a put is answered, in
/// the database and not in the WAL.
#[test]
fn opening_syncs_what_a_killed_process_left() {
    if !can_trace(Runtime::Node) {
        return;
    }
    let directory = tempfile::tempdir().expect("makes a directory");
    let path = directory.path().to_str().expect("is text");
    let script = "
        import { sqlite } from 'alldata-peer-server-http';
        import { DatabaseSync } from 'node:sqlite';
        const keepAlive = setInterval(() => {}, 1000);
        process.once('SIGUSR1', async () => {
          const store = sqlite(new DatabaseSync(`${process.argv[2]}/events.db`));
          console.log('opened');
          await store.put(process.argv[3], '1');
          console.log('stored');
        });
        console.log('ready');";
    for key in ["key1", "key2"] {
        let mut process = JavaScriptPeer::run_on(Runtime::Node, "open.mjs", script, &[path, key]);
        process.output_line("ready");
        let log = tempfile::NamedTempFile::new().expect("is created");
        let to = log.path().to_str().expect("is text");
        let mut strace = trace(
            process.id(),
            &["-y", "-e", "trace=fsync,fdatasync,write,writev", "-o", to],
        );
        process.signal(Signal::USR1);
        process.output_line("stored");
        process.kill();
        strace.wait().expect("ends with the process");
        let log = fs::read_to_string(log.path()).expect("reads");
        let opened = log.find("\"opened").expect("is there");
        assert!(is_synced(&log[..opened], "events.db>"), "{log}");
    }
}

/// The same for stores that are not opened by the package: they sync it before they acknowledge an event that is there.
#[test]
fn repeated_put_syncs_what_a_killed_process_left() {
    for (runtime, start) in [
        (Runtime::Workerd, JavaScriptServer::workerd as fn() -> _),
        (Runtime::Deno, JavaScriptServer::deno_kv),
    ] {
        if can_trace(runtime) {
            repeated_put_is_synced(start());
        }
    }
}

#[track_caller]
fn repeated_put_is_synced(mut server: JavaScriptServer) {
    let post = Post::put("key1", "1");
    post.send_to(server.address).assert_created();
    server.process.kill();
    for _ in 0..2 {
        server.restart();
        let log = tempfile::NamedTempFile::new().expect("is created");
        let to = log.path().to_str().expect("is text");
        let calls = "trace=fsync,fdatasync,write,writev,sendto";
        let mut strace = trace(server.process.id(), &["-y", "-e", calls, "-o", to]);
        post.send_to(server.address).assert_created();
        server.process.kill();
        strace.wait().expect("ends with the process");
        let log = fs::read_to_string(log.path()).expect("reads");
        let response = log.find("201 Created").expect("is there");
        assert!(is_synced(&log[..response], "-wal>"), "{log}");
    }
}

/// Whether a log of strace has a sync of a file whose path ends with this.
fn is_synced(log: &str, path_end: &str) -> bool {
    let mut syncs = log.lines().filter(|line| line.contains("sync("));
    syncs.any(|line| line.contains(path_end))
}

#[test]
fn put_during_a_transaction_of_another_program_is_503() {
    if !can_make("node:sqlite", Runtime::Node.missing()) {
        return;
    }
    let directory = tempfile::tempdir().expect("makes a directory");
    let script = "
        import { createServer, peer, sqlite } from 'alldata-peer-server-http';
        import { DatabaseSync } from 'node:sqlite';
        const file = `${process.argv[2]}/events.db`;
        const server = createServer(peer(sqlite(new DatabaseSync(file))));
        const other = new DatabaseSync(file);
        other.exec('BEGIN IMMEDIATE');
        process.once('SIGUSR1', () => { other.exec('ROLLBACK'); console.log('rolled back'); });
        try { sqlite(new DatabaseSync(':memory:')); } catch (error) { console.log(error.message); }
        server.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));";
    let path = directory.path().to_str().expect("is text");
    let process = JavaScriptPeer::run_on(Runtime::Node, "busy.mjs", script, &[path]);
    process.output_line("the store needs a file");
    let mut connection = process.connect();
    let answer = connection.ask(&Post::put("key1", "1"));
    answer.assert_is(503, "Service Unavailable", "no", true);
    process.signal(Signal::USR1);
    process.output_line("rolled back");
    connection.ask(&Post::put("key1", "2")).assert_created();
}

/// Each response is written after a sync that has begun after the response to the put before.
#[track_caller]
fn syncs_each_put(runtime: Runtime, start: fn() -> JavaScriptServer) {
    if !can_trace(runtime) {
        return;
    }
    let server = start();
    let mut connection = server.connect();
    // What is done once is done now.
    connection.ask(&Post::put("first", "1")).assert_created();
    let log = tempfile::NamedTempFile::new().expect("is created");
    let path = log.path().to_str().expect("is text");
    let calls = "trace=fsync,fdatasync,write,writev,sendto,sendmsg";
    let mut strace = trace(server.process.id(), &["-e", calls, "-o", path]);
    let mut put = |key: &str| connection.ask(&Post::put(key, "1")).assert_created();
    // strace may not have stopped each thread yet: puts before that are not in its log.
    let mut untraced = 0;
    wait_until("a put is traced", || {
        untraced += 1;
        put(&format!("untraced{untraced}"));
        let log = fs::read_to_string(log.path()).expect("reads");
        log.contains("sync(") && log.contains("201 Created")
    });
    for number in 1..=PUTS {
        put(&format!("key{number}"));
    }
    drop(server);
    strace.wait().expect("ends with the server");
    let log = fs::read_to_string(log.path()).expect("reads");
    let mut before: Vec<&str> = log.split("201 Created").collect();
    // What comes after the last response.
    before.pop();
    assert!(before.len() > PUTS, "{log}");
    for puts in &before[before.len() - PUTS..] {
        assert!(has_returned_from_sync(puts), "{log}");
    }
}

/// Whether a sync has begun and ended in this part of a log of strace, in which a call that another thread interrupts
/// has two lines.
fn has_returned_from_sync(log: &str) -> bool {
    let Some(begin) = log.find("sync(") else {
        return false;
    };
    log[begin..].lines().any(|line| {
        let is_end = line.contains("sync(") || line.contains("sync resumed>");
        is_end && line.ends_with("= 0")
    })
}

fn can_trace(runtime: Runtime) -> bool {
    let strace = Command::new("strace").arg("--version").output();
    let strace = strace.err().map(|_| "there is no strace");
    can_make("tracing syncs", runtime.missing().or(strace))
}

/// Attaches strace to all threads of a process.
fn trace(process: u32, arguments: &[&str]) -> Child {
    let mut command = Command::new("strace");
    command.arg("-f").args(arguments);
    command.arg(format!("--attach={process}"));
    let mut strace = command.stderr(Stdio::piped()).spawn().expect("starts");
    // One line for all threads.
    Lines::of(strace.stderr.take().expect("is piped")).with("attached");
    strace
}
