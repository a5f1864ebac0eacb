//! Limits of the npm package on Node.js: memory for bodies, the time for a header section, and lines of the log, also
//! for values that have no text.

use crate::javascript_peer::serve_both_ways;
use crate::javascript_server::JavaScriptServer;
use crate::request_table::Platform as _;
use crate::support::{JavaScriptPeer, Post};

/// How many bytes a counted byte of a body may take: its buffer is up to twice as large, and the heap grows otherwise.
const MAX_BYTES_EACH: f64 = 20.0;

#[test]
fn body_of_small_chunks_takes_the_memory_that_is_counted() {
    let process = JavaScriptPeer::run(
        "module",
        "import { memory, peer } from 'alldata-peer-server-http';
         import v8 from 'node:v8';
         import vm from 'node:vm';
         v8.setFlagsFromString('--expose-gc');
         const gc = vm.runInNewContext('gc');
         const used = () => {
           gc();
           const { heapUsed, external } = process.memoryUsage();
           return heapUsed + external;
         };
         const BYTES = 100_000;
         const fetch = peer(memory());
         await fetch(new Request('http://a/', { method: 'POST', body: '{' }));
         let sent = 0;
         const before = used();
         await new Promise((resolve) => {
           const pull = (controller) => {
             if (sent === BYTES) {
               resolve();
               return new Promise(() => {});
             }
             sent += 1;
             controller.enqueue(new Uint8Array([32]));
           };
           const body = new ReadableStream({ pull }, { highWaterMark: 0 });
           globalThis.response = fetch(new Request('http://a/', { method: 'POST', body, duplex: 'half' }));
         });
         console.log(`bytes: ${(used() - before) / BYTES}`);
         process.exit();",
    );
    let line = process.output_line("bytes: ");
    let each: f64 = line[7..].parse().expect("is a number");
    assert!(each < MAX_BYTES_EACH, "{line}");
}

#[test]
fn body_in_parts_of_any_size_is_whole() {
    let node = JavaScriptServer::node();
    let event = format!("\"{}\"", "abcdefghij".repeat(500));
    for size in [1, 7, 1000, 4000, 10_000] {
        let key = format!("key{size}");
        let body = format!("{{\"key\":\"{key}\",\"event\":{event}}}");
        let parts: Vec<&[u8]> = body.as_bytes().chunks(size).collect();
        node.connect().ask(&Post::chunks(&parts)).assert_created();
        assert_eq!(node.stored(&key).as_deref(), Some(&*event), "{size}");
    }
}

/// Node checks the time of header sections at intervals, by default of 30 s. The time is shortened here.
#[test]
fn slow_header_section_is_408_soon_after_its_time() {
    let process = JavaScriptPeer::run_after(
        "import http from 'node:http';
         const { createServer } = http;
         http.createServer = (options) => createServer({ ...options, headersTimeout: 100 });",
        "module",
        "import { createServer, memory, peer } from 'alldata-peer-server-http';
         const server = createServer(peer(memory()));
         server.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));",
    );
    let mut connection = process.connect();
    let answer = connection.send("POST / HTTP/1.1\r\nHost: a\r\n").answer();
    answer.assert_is(408, "Request Timeout", "no", true);
    assert_eq!(connection.rest(), b"");
}

/// Also one that comes right after a put.
#[test]
fn connect_is_405() {
    let node = JavaScriptServer::node();
    let connect = "CONNECT peer:80 HTTP/1.1\r\nHost: peer:80\r\n\r\n";
    let mut connection = node.connect();
    connection.send(Post::put("key1", "1").bytes());
    connection.send(connect).answer().assert_created();
    let answer = connection.answer();
    answer.assert_is(405, "Method Not Allowed", "no", false);
    assert_eq!(answer.header("allow"), Some("POST"));
    assert_eq!(connection.rest(), b"");
}

#[test]
fn repeated_failure_is_logged_once_with_its_cause_and_then_with_a_count() {
    let process = JavaScriptPeer::run(
        "module",
        "let now = 0;
         performance.now = () => now;
         const { createServer, peer } = await import('alldata-peer-server-http');
         const put = async (key) => {
           if (key === 'later') now += 5000;
           const cause = new Error('the disk is broken');
           throw new Error(key === 'other' ? 'second reason' : 'first reason', { cause });
         };
         const server = createServer(peer({ put }));
         server.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));",
    );
    let mut connection = process.connect();
    for key in ["a", "b", "c", "other", "later"] {
        let answer = connection.ask(&Post::put(key, "1"));
        answer.assert_problem(500);
    }
    let first = process.log_line("");
    assert!(first.contains("first reason"), "{first}");
    assert!(first.contains("the disk is broken"), "{first}");
    let second = process.log_line("");
    assert!(second.contains("second reason"), "{second}");
    let third = process.log_line("");
    assert!(third.contains("first reason"), "{third}");
    assert!(third.contains("2 times more"), "{third}");
}

/// A store may throw any value.
#[test]
fn thrown_value_that_throws_itself_has_its_response_and_line() {
    const VALUES: &str = "
        const bad = () => { throw new Error('by a getter'); };
        const revoked = Proxy.revocable({}, {});
        revoked.revoke();
        const values = {
          prototype: Object.create(null), text: { toString: bad }, symbol: Symbol('a symbol'), nothing: undefined,
          message: Object.defineProperty(new Error(), 'message', { get: bad }),
          stack: Object.defineProperty(new Error('first part'), 'stack', { get: bad }),
          stack_text: Object.assign(new Error('second part'), { stack: Object.create(null) }),
          code: { get code() { bad(); } }, proxy: revoked.proxy,
          cause: new Error('third part', { cause: Object.create(null) }),
          cause_symbol: new Error('fourth part', { cause: Symbol('inner') }),
          cause_getter: Object.defineProperty(new Error('fifth part'), 'cause', { get: bad }),
          rejected: { code: 'rejected', message: Object.create(null) },
          rejected_getter: { code: 'rejected', get message() { bad(); } },
          unavailable: { code: 'unavailable', retryAfterSeconds: Symbol('later') },
          unavailable_getter: { code: 'unavailable', get retryAfterSeconds() { bad(); } },
        };
        serve({ put(key) { throw values[key]; } });
    ";
    for process in serve_both_ways(VALUES) {
        let mut connection = process.connect();
        for (key, status, line) in [
            ("prototype", 500, "A put failed"),
            ("text", 500, "A put failed"),
            ("symbol", 500, "Symbol(a symbol)"),
            ("nothing", 500, "undefined"),
            ("message", 500, "A put failed"),
            ("stack", 500, "first part"),
            ("stack_text", 500, "second part"),
            ("code", 500, "A put failed"),
            ("proxy", 500, "A put failed"),
            ("cause", 500, "third part: "),
            ("cause_symbol", 500, "fourth part: Symbol(inner)"),
            ("cause_getter", 500, "fifth part"),
            ("rejected", 422, ""),
            ("rejected_getter", 422, ""),
            ("unavailable", 503, ""),
            ("unavailable_getter", 503, ""),
        ] {
            connection.ask(&Post::put(key, "1")).assert_problem(status);
            // The same line is logged once.
            if status == 500 && line != "A put failed" {
                process.log_line(line);
            }
        }
    }
}
