//! Connections of the npm package on Node.js: the number and the order of responses, and the end of a connection.

use std::io::Write as _;
use std::thread;

use rustix::process::Signal;

use crate::javascript_peer::{serve_both_ways, serve_by};
use crate::support::{Connection, JavaScriptPeer, Post, Runtime, can_make, wait_until};

/// How many requests of a connection are worked on at once.
const MAX_PIPELINED: usize = 64;

/// The most requests of a connection to which responses are due.
const MAX_DUE: usize = 4096;

/// The most bytes that Node reads at once: all requests in them are parsed.
const READ_BYTES: usize = 65_536;

/// Timers of 2 s never end: those of a body that is drained, and of a connection that is closed.
const ENDLESS_DRAIN: &str = "
    const { setTimeout } = globalThis;
    globalThis.setTimeout = (call, ms, ...rest) => setTimeout(call, ms === 2000 ? 3_600_000 : ms, ...rest);
";

/// A store that answers on SIGUSR2, but `early` at once. `count` is answered with the number of the puts that have begun,
/// `most` with the most requests that were due at once. `close` closes the server.
const WAITING: &str = "
    const released = new Promise((resolve) => process.once('SIGUSR2', resolve));
    let [begun, due, most] = [0, 0, 0];
    const server = serve({ async put(key) {
      if (key === 'count') throw PutError.rejected(`${begun}`);
      if (key === 'most') throw PutError.rejected(`${most}`);
      if (key === 'close') return void server.close(() => console.log(`closed after ${begun}`));
      begun += 1;
      if (key !== 'early') await released;
    } });
    server.on('request', (incoming, outgoing) => {
      due += 1;
      most = Math.max(most, due);
      outgoing.once('finish', () => { due -= 1; });
      if (incoming.url === '/last') console.log('the last has come');
    });
";

/// The number that the store answers with.
fn ask_number(connection: &mut Connection, key: &str) -> usize {
    let detail = connection.ask(&Post::put(key, "1")).detail(422);
    detail.parse().expect("is a number")
}

fn puts(keys: &[&str]) -> Vec<u8> {
    let puts = keys.iter().map(|key| Post::put(key, "1").bytes());
    puts.collect::<Vec<_>>().concat()
}

/// A connection that is destroyed while the client sends is reset, and the client may lose its response by that.
#[test]
fn bytes_after_a_malformed_request_do_not_reset_the_connection() {
    let connect = "CONNECT peer:80 HTTP/1.1\r\nHost: peer:80\r\n\r\n";
    for (request, status) in [("POST / HTTP/1.1\r\nHo st: a\r\n\r\n", 400), (connect, 405)] {
        for process in serve_both_ways(&format!("{ENDLESS_DRAIN} serve(memory());")) {
            let address = process.address("listening");
            let mut other = Connection::open(address);
            let mut client = Connection::open(address);
            client.send(request).answer().assert_problem(status);
            // The second is answered by a reset where the first has ended the connection, and the third then fails.
            for _ in 0..3 {
                client.send("POST / HTTP/1.1\r\n");
                other.ask(&Post::put("key1", "1")).assert_created();
            }
            assert_eq!(client.finish().rest(), b"");
        }
    }
}

#[test]
fn last_response_of_a_closed_server_has_connection_close() {
    for process in serve_both_ways(WAITING) {
        let address = process.address("listening");
        let mut other = Connection::open(address);
        let mut client = Connection::open(address);
        client.send(puts(&["first", "early", "second"]));
        wait_until("all have begun", || ask_number(&mut other, "count") == 3);
        let answer = other.ask(&Post::put("close", "1"));
        answer.assert_created();
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(other.rest(), b"");
        // Neither put nor answered.
        client.send(Post::put("behind", "1").target("/last").bytes());
        process.output_line("the last has come");
        process.signal(Signal::USR2);
        for connection in ["keep-alive", "keep-alive", "close"] {
            let answer = client.answer();
            answer.assert_created();
            assert_eq!(answer.header("connection"), Some(connection));
        }
        assert_eq!(client.rest(), b"");
        assert_eq!(process.output_line("closed"), "closed after 3");
    }
}

/// Those behind are neither put nor answered.
#[test]
fn closed_server_answers_the_requests_that_it_works_on() {
    for process in serve_both_ways(WAITING) {
        let address = process.address("listening");
        let mut other = Connection::open(address);
        let mut client = Connection::open(address);
        client.send(Post::put("key1", "1").bytes().repeat(3 * MAX_PIPELINED));
        wait_until("some have begun", || {
            ask_number(&mut other, "count") == MAX_PIPELINED
        });
        other.ask(&Post::put("close", "1")).assert_created();
        process.signal(Signal::USR2);
        for number in 1..=MAX_PIPELINED {
            let answer = client.answer();
            answer.assert_created();
            let is_last = number == MAX_PIPELINED;
            assert_eq!(answer.header("connection") == Some("close"), is_last);
        }
        assert_eq!(client.rest(), b"");
        let line = process.output_line("closed");
        assert_eq!(line, format!("closed after {MAX_PIPELINED}"));
    }
}

/// The refusal has `Connection: close`, after which a client sends the next request again.
#[test]
fn put_behind_a_refused_body_is_not_put() {
    for process in serve_both_ways(WAITING) {
        let address = process.address("listening");
        let mut client = Connection::open(address);
        let refused = Post::new(vec![b'x'; 1_000_000]).method("PUT");
        let behind = Post::put("early", "1").target("/last");
        client.send([refused.bytes(), behind.bytes()].concat());
        let answer = client.answer();
        answer.assert_problem(405);
        assert_eq!(answer.header("connection"), Some("close"));
        process.output_line("the last has come");
        let mut other = Connection::open(address);
        assert_eq!(ask_number(&mut other, "count"), 0);
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn requests_are_not_read_while_responses_are_due() {
    const PUTS: usize = 20_000;
    for process in serve_both_ways(WAITING) {
        let address = process.address("listening");
        let put = Post::put("key1", "1").bytes();
        let most = MAX_PIPELINED + READ_BYTES / put.len() + 1;
        let socket = Connection::try_socket(address).expect("connects");
        let mut sender = socket.try_clone().expect("is cloned");
        let sending = thread::spawn(move || sender.write_all(&put.repeat(PUTS)));
        let mut other = Connection::open(address);
        wait_until("some have begun", || {
            ask_number(&mut other, "count") >= MAX_PIPELINED
        });
        // What has arrived by then is read before these.
        for _ in 0..100 {
            assert_eq!(ask_number(&mut other, "count"), MAX_PIPELINED);
        }
        process.signal(Signal::USR2);
        let mut client = Connection::on(socket);
        for _ in 0..PUTS {
            client.answer().assert_created();
        }
        sending.join().expect("ends").expect("sends");
        assert_eq!(ask_number(&mut other, "count"), PUTS);
        let were_due = ask_number(&mut other, "most");
        assert!(were_due <= most + 1, "{were_due} were due at once");
    }
}

/// Node goes on to measure the time of a header section of which a part was read, and reports it once.
#[test]
fn time_without_reading_is_not_of_the_header_section() {
    const WAITING_PUTS: usize = MAX_PIPELINED + 1;
    let put = Post::put("key1", "1").bytes();
    let (part, rest) = put.split_at(20);
    for is_late in [false, true] {
        // The client has no limit after the report, or the same one again.
        let timeout_ms = if is_late { 100 } else { 3_600_000 };
        let script = format!(
            "const released = new Promise((resolve) => process.once('SIGUSR2', resolve));
             const server = serve({{ put: () => released }});
             server.headersTimeout = 100;
             server.once('clientError', ({{ code }}) => {{
               server.headersTimeout = {timeout_ms};
               console.log(`reported ${{code}}`);
             }});"
        );
        for process in serve_both_ways(&script) {
            let mut client = process.connect();
            client.send([&*put.repeat(WAITING_PUTS), part].concat());
            let line = process.output_line("reported");
            assert_eq!(line, "reported ERR_HTTP_REQUEST_TIMEOUT");
            if !is_late {
                client.send(rest);
            }
            process.signal(Signal::USR2);
            for _ in 0..WAITING_PUTS {
                client.answer().assert_created();
            }
            if is_late {
                client.answer().assert_problem(408);
                assert_eq!(client.rest(), b"");
            } else {
                client.answer().assert_created();
            }
        }
    }
}

/// Reading is not stopped there: the last of a bounded number of responses ends the connection.
#[test]
fn connection_on_bun_ends_with_the_last_of_many_responses() {
    /// Twice as many as may be due.
    const PUTS: usize = 8192;
    if !can_make("a platform of JavaScript", Runtime::Bun.missing()) {
        return;
    }
    let script = "
        import { createServer, peer, PutError } from 'alldata-peer-server-http';
        const released = new Promise((resolve) => process.once('SIGUSR2', resolve));
        let [begun, now, most] = [0, 0, 0];
        const server = createServer(peer({ async put(key) {
          if (key === 'count') throw PutError.rejected(`${begun}`);
          if (key === 'most') throw PutError.rejected(`${most}`);
          begun += 1;
          now += 1;
          most = Math.max(most, now);
          await released;
          now -= 1;
        } }));
        server.on('request', ({ url }) => { if (url === '/last') console.log('the last has come'); });
        server.listen(0, '127.0.0.1', () => console.log(`listening on 127.0.0.1:${server.address().port}`));";
    let process = JavaScriptPeer::run_on(Runtime::Bun, "bun-pipelining.mjs", script, &[]);
    let address = process.address("listening");
    let mut other = Connection::open(address);
    let mut client = Connection::open(address);
    client.send(Post::put("key1", "1").bytes().repeat(PUTS));
    client.send(Post::put("key1", "1").target("/last").bytes());
    process.output_line("the last has come");
    assert_eq!(ask_number(&mut other, "count"), MAX_PIPELINED);
    process.signal(Signal::USR2);
    let mut answers = 0;
    loop {
        let answer = client.answer();
        answer.assert_created();
        answers += 1;
        if answer.header("connection") == Some("close") {
            break;
        }
    }
    assert_eq!(client.rest(), b"");
    // Each put is answered, and no other is made.
    assert_eq!(answers, MAX_DUE);
    assert_eq!(ask_number(&mut other, "count"), answers);
    assert_eq!(ask_number(&mut other, "most"), MAX_PIPELINED);
}

#[test]
fn response_without_a_body_does_not_wait_for_the_body_of_its_request() {
    let requests = [("HEAD", 405), ("POST", 204)];
    let no_content = "async () => new Response(null, { status: 204 })";
    let script = format!("{ENDLESS_DRAIN} serve(memory());");
    let [by_peer, by_another] = serve_both_ways(&script);
    let by_none = serve_by(no_content, &script);
    for (process, (method, status)) in [
        (by_peer, requests[0]),
        (by_another, requests[0]),
        (by_none, requests[1]),
    ] {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
        let mut connection = process.connect();
        let answer = connection.send(head).answer_to_head();
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(connection.send("0123456789").rest(), b"");
    }
}

/// Also where the body would be drained before the response.
#[test]
fn refusal_by_the_header_section_comes_without_100_continue() {
    let options = "{ maxBodyBytes: 1000, maxDrainedBytes: 1_000_000 }";
    for process in serve_both_ways(&format!("{ENDLESS_DRAIN} serve(memory(), {options});")) {
        let address = process.address("listening");
        let large = Post::new(vec![b'x'; 1001]).header("Expect: 100-continue");
        let coded = Post::put("key1", "1").header("Expect: 100-continue");
        for (post, status) in [
            (large.clone(), 413),
            (large.method("PUT"), 405),
            (coded.header("Content-Encoding: gzip"), 415),
        ] {
            let mut connection = Connection::open(address);
            let answer = connection.send(post.head()).any_answer(false);
            answer.assert_problem(status);
        }
        // One that is not refused gets it.
        let put = Post::put("key1", "1").header("Expect: 100-continue");
        let mut connection = Connection::open(address);
        let answer = connection.send(put.head()).any_answer(false);
        assert_eq!(answer.status, 100);
        let body = &put.bytes()[put.head().len()..];
        connection.send(body).answer().assert_created();
    }
}
