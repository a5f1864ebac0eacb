//! The npm package as `AllDataPeerServer`: the interface and the behaviour of the original module, and where it differs
//! on purpose.

use serde_json::{Value, json};

use crate::support::{Connection, JavaScriptPeer, Post};

/// A server whose listener does what the key says, at once or later, and tells of each put.
const SERVER: &str = "
const AllDataPeerServer = require('alldata-peer-server-http');
const server = new AllDataPeerServer({ hostname: '127.0.0.1', port: 0, putTimeoutMs: 200 });
const waiting = [];
server.on('_put', function (key, event, callback) {
  console.log('put ' + JSON.stringify([key, event]));
  if (key === 'throws') throw new Error('secret');
  if (key === 'throws nothing') throw undefined;
  if (key === 'called, throws') { callback(); throw new Error('secret'); }
  if (key === 'never') return;
  if (key === 'waits') return waiting.push(callback);
  if (key === 'true') return callback(true);
  if (key === 'twice') { callback(); return callback(true); }
  if (key === 'fails') return setImmediate(callback, new Error('secret'));
  if (key === 'at once') return callback();
  setImmediate(callback);
  while (waiting.length > 0) waiting.pop()();
});
server.listen(() => console.log('listening on 127.0.0.1:' + server.address().port));
";

fn serve() -> JavaScriptPeer {
    JavaScriptPeer::run("commonjs", SERVER)
}

/// The key and the event of the next put that the listener got.
fn put(process: &JavaScriptPeer) -> Value {
    let line = process.output_line("put ");
    serde_json::from_str(&line["put ".len()..]).expect("is JSON")
}

fn run(script: &str) -> JavaScriptPeer {
    let script = format!("const AllDataPeerServer = require('alldata-peer-server-http');{script}");
    JavaScriptPeer::run("commonjs", &script)
}

#[test]
fn options_are_properties() {
    let process = run(
        "const all = [undefined, null, {}, { hostname: 'foo' }, { port: 1337 }].map((options) => {
           const { hostname, port, server } = new AllDataPeerServer(options);
           return [hostname, port, server];
         });
         const emitter = require('node:events');
         console.log('all ' + JSON.stringify([all, new AllDataPeerServer() instanceof emitter, AllDataPeerServer.name]));",
    );
    let line = process.output_line("all ");
    let all: Value = serde_json::from_str(&line["all ".len()..]).expect("is JSON");
    let default = json!(["0.0.0.0", 8080, null]);
    let (foo, leet) = (json!(["foo", 8080, null]), json!(["0.0.0.0", 1337, null]));
    let expected = json!([default, default, default, foo, leet]);
    assert_eq!(all, json!([expected, true, "AllDataPeerServer"]));
}

#[test]
fn every_address_is_listened_on_without_a_hostname() {
    let process = run(
        "const server = AllDataPeerServer.listen({ port: 0 }, () => {
           const { address, port } = server.server.address();
           console.log('address ' + address);
           console.log('listening on 127.0.0.1:' + port);
         });
         server.on('_put', (key, event, callback) => callback());",
    );
    assert_eq!(process.output_line("address "), "address 0.0.0.0");
    let mut connection = process.connect();
    connection.ask(&Post::put("key1", "1")).assert_created();
}

#[test]
fn listener_gets_key_and_parsed_event() {
    let process = serve();
    let mut connection = process.connect();
    let event = r#"{"foo": "bar", "baz": 1}"#;
    connection.ask(&Post::put("key1", event)).assert_created();
    assert_eq!(put(&process), json!(["key1", {"foo": "bar", "baz": 1}]));
    // Also an event that is no object, and a number that is rounded.
    connection.ask(&Post::put("key1", "1e400")).assert_created();
    assert_eq!(put(&process), json!(["key1", null]));
    connection
        .ask(&Post::put("key1", "12345678901234567890"))
        .assert_created();
    assert_eq!(
        put(&process),
        json!(["key1", 12_345_678_901_234_567_000_u64])
    );
}

#[test]
fn characters_split_over_chunks_are_whole() {
    let process = serve();
    let mut connection = process.connect();
    let body = Post::put("key1", r#"{"customer": 1, "action": "€ visit"}"#).bytes();
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    for byte in bytes {
        connection.send(byte);
    }
    connection.answer().assert_created();
    let event = json!({"customer": 1, "action": "€ visit"});
    assert_eq!(put(&process), json!(["key1", event]));
}

#[test]
fn callback_is_answered_at_once_and_later() {
    let process = serve();
    let mut connection = process.connect();
    for key in ["at once", "later", "twice", "later", "called, throws"] {
        connection.ask(&Post::put(key, "1")).assert_created();
        assert_eq!(put(&process), json!([key, 1]));
    }
    // The listener decides what is stored.
    connection.ask(&Post::put("later", "2")).assert_created();
}

#[test]
fn error_of_the_listener_is_500() {
    let process = serve();
    let mut connection = process.connect();
    for key in ["true", "fails", "throws", "throws nothing"] {
        let answer = connection.ask(&Post::put(key, "1"));
        answer.assert_is(500, "Internal Server Error", "unknown", true);
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
    connection.ask(&Post::put("later", "1")).assert_created();
}

#[test]
fn listener_that_never_calls_back_is_504() {
    let process = serve();
    let mut connection = process.connect();
    let answer = connection.ask(&Post::put("never", "1"));
    answer.assert_is(504, "Gateway Timeout", "unknown", true);
    connection.ask(&Post::put("later", "1")).assert_created();
}

#[test]
fn request_that_is_no_put_is_not_emitted() {
    let process = serve();
    let mut connection = process.connect();
    for method in ["GET", "PUT", "DELETE"] {
        let answer = connection.ask(&Post::put("key1", "1").method(method));
        answer.assert_is(405, "Method Not Allowed", "no", false);
        assert_eq!(answer.header("allow"), Some("POST"));
    }
    let bodies: [&[u8]; 10] = [
        b"",
        b"{foo: 'bar', baz: 1}",
        b"{\"key\":\"k\",\"event\":\"\xFF\"}",
        b"{\"key\":\"k\",\"event\":1",
        b"{}",
        b"[]",
        b"1",
        b"{\"key\":\"k\"}",
        b"{\"event\":1}",
        b"{\"key\":1,\"event\":1}",
    ];
    for body in bodies {
        let answer = connection.ask(&Post::new(body));
        answer.assert_is(400, "Bad Request", "no", false);
    }
    // The first put that the listener hears of.
    connection.ask(&Post::put("heard", "1")).assert_created();
    assert_eq!(put(&process), json!(["heard", 1]));
}

#[test]
fn body_over_the_limit_is_413() {
    let process = serve();
    let large = vec![b'x'; 16 * 1024 * 1024 + 1];
    let answer = process.connect().ask(&Post::new(large));
    answer.assert_is(413, "Content Too Large", "no", false);
}

/// The client leaves while the listener works; what it calls back then harms nobody.
#[test]
fn client_that_has_gone_harms_no_other() {
    let process = serve();
    let address = process.address("listening");
    let mut gone = Connection::open(address);
    gone.send(Post::put("waits", "1").bytes());
    assert_eq!(put(&process), json!(["waits", 1]));
    drop(gone);
    for _ in 0..2 {
        let post = Post::put("later", "1");
        post.send_to(address).assert_created();
    }
}

#[test]
fn put_without_a_listener_is_503() {
    let process = run(
        "const server = AllDataPeerServer.listen({ hostname: '127.0.0.1', port: 0 }, () => {
           console.log('listening on 127.0.0.1:' + server.address().port);
         });",
    );
    let answer = process.connect().ask(&Post::put("key1", "1"));
    answer.assert_is(503, "Service Unavailable", "no", true);
}

#[test]
fn busy_port_is_an_error_event() {
    let process = run(
        "const first = AllDataPeerServer.listen({ hostname: '127.0.0.1', port: 0 }, () => {
           const { port } = first.address();
           const second = AllDataPeerServer.listen({ hostname: '127.0.0.1', port }, () => console.log('listens'));
           second.on('error', (error) => {
             console.log([error.code, error.message.includes('127.0.0.1:' + port), second.address()].join(' '));
             first.close(() => second.listen(() => console.log('second on 127.0.0.1:' + port)));
             second.on('_put', (key, event, callback) => callback());
           });
         });",
    );
    let line = process.output_line("EADDRINUSE");
    assert_eq!(line, "EADDRINUSE true ");
    // It may listen once the port is free.
    let address = process.address("second");
    Post::put("key1", "1").send_to(address).assert_created();
}

#[test]
fn server_may_be_closed_at_any_time() {
    let process = run(
        "const server = new AllDataPeerServer({ hostname: '127.0.0.1', port: 0 });
         server.close(() => {
           console.log('closed before ' + server.server);
           server.listen(() => {
             console.log('listens ' + server.server.listening);
             server.close(() => server.close(() => {
               console.log('closed twice');
               server.listen(() => console.log('listening on 127.0.0.1:' + server.address().port));
             }));
           });
         });
         server.on('_put', (key, event, callback) => callback());",
    );
    assert_eq!(process.output_line("closed"), "closed before null");
    assert_eq!(process.output_line("listens"), "listens true");
    process.output_line("closed twice");
    let mut connection = process.connect();
    connection.ask(&Post::put("key1", "1")).assert_created();
}

/// A response is sent before the server is closed.
#[test]
fn server_closes_after_the_last_response() {
    let process = run(
        "const server = new AllDataPeerServer({ hostname: '127.0.0.1', port: 0 });
         server.on('_put', (key, event, callback) => {
           server.close(() => server.close(() => console.log('closed twice')));
           setImmediate(callback);
         });
         server.listen(() => console.log('listening on 127.0.0.1:' + server.address().port));",
    );
    let mut connection = process.connect();
    connection.ask(&Post::put("key1", "1")).assert_created();
    process.output_line("closed twice");
    assert_eq!(connection.rest(), b"");
}
