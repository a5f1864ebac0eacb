//! The npm package as `AllDataPeerServer`: the interface of the original module.

use serde_json::{Value, json};

use crate::support::{JavaScriptPeer, Post};

/// The program of the original's documentation, but with an asynchronous callback.
const DROP_IN: &str = "
const AllDataPeerServer = require('alldata-peer-server-http');
const server = new AllDataPeerServer({ hostname: 'localhost', port: 0 });
server.on('_put', function (key, event, callback) {
  console.log('put ' + JSON.stringify([key, event]));
  if (key === 'throws') throw new Error('secret');
  if (key === 'never') return;
  setImmediate(callback, key === 'fails' ? new Error('secret') : undefined);
});
server.close(function () {
  server.listen(function () {
    const { address, port } = server.address();
    console.log('listening on ' + address + ':' + port);
    const other = AllDataPeerServer.listen({ hostname: address, port }, () => console.log('not listening'));
    other.on('error', (error) => {
      console.log(error.code + ' ' + error.message.includes(address + ':' + port));
      other.close(() => console.log('other closed'));
    });
  });
});
";

#[test]
fn asynchronous_callback_is_answered() {
    let process = JavaScriptPeer::run("commonjs", DROP_IN);
    let mut connection = process.connect();
    process.output_line("EADDRINUSE true");
    process.output_line("other closed");
    let event = r#"{"customer": 1, "action": "€ visit"}"#;
    let body = Post::put("key1", event).bytes();
    let bytes: Vec<&[u8]> = body.chunks(1).collect();
    // Each character of more than one byte is split.
    for byte in bytes {
        connection.send(byte);
    }
    connection.answer().assert_created();
    let line = process.output_line("put ");
    let put: Value = serde_json::from_str(&line["put ".len()..]).expect("is JSON");
    assert_eq!(put, json!(["key1", {"customer": 1, "action": "€ visit"}]));
    for key in ["throws", "fails"] {
        let answer = connection.ask(&Post::put(key, "1"));
        answer.assert_is(500, "Internal Server Error", "unknown", true);
        assert!(!answer.text().contains("secret"), "{}", answer.text());
    }
    let answer = connection.ask(&Post::new("{}"));
    answer.assert_is(400, "Bad Request", "no", false);
    connection.ask(&Post::put("key1", "2")).assert_created();
}

#[test]
fn put_without_a_listener_is_503() {
    let process = JavaScriptPeer::run(
        "commonjs",
        "const AllDataPeerServer = require('alldata-peer-server-http');
         const server = AllDataPeerServer.listen({ hostname: '127.0.0.1', port: 0 }, () => {
           console.log('listening on 127.0.0.1:' + server.address().port);
         });",
    );
    let answer = process.connect().ask(&Post::put("key1", "1"));
    answer.assert_is(503, "Service Unavailable", "no", true);
}

/// A response is sent before the server is closed, and closing twice is fine.
#[test]
fn server_closes_after_the_last_response() {
    let process = JavaScriptPeer::run(
        "commonjs",
        "const AllDataPeerServer = require('alldata-peer-server-http');
         const server = new AllDataPeerServer({ hostname: '127.0.0.1', port: 0 });
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
