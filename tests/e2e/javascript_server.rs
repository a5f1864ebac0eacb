//! A server by the npm package, with a store that can be read at an address of its own.
//!
//! That address has the event of a key at `/?key=KEY`, and all events at `/`, as lines of JSON.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;

use crate::request_table::Platform;
use crate::support::{Connection, JavaScriptPeer, Output, Post, Runtime, serve_by_workerd};

/// A server, and the directory of its store.
pub(crate) struct JavaScriptServer {
    pub(crate) address: SocketAddr,
    events: SocketAddr,
    pub(crate) process: JavaScriptPeer,
    start: fn(&Path) -> Started,
    directory: Arc<TempDir>,
}

/// A process, its address, and that of its events.
type Started = (JavaScriptPeer, SocketAddr, SocketAddr);

/// Shows the events of `store` at an address of their own. It has `get` and `entries`, which may be asynchronous.
const EVENTS: &str = "
import http from 'node:http';
const say = (name, port) => console.log(`${name} on 127.0.0.1:${port}`);
const events = http.createServer(async (request, response) => {
  const key = new URL(request.url, 'http://localhost').searchParams.get('key');
  if (key !== null) {
    const event = await store.get(key);
    response.statusCode = event === undefined ? 404 : 200;
    return response.end(event);
  }
  let lines = '';
  for await (const [key, event] of store.entries()) lines += `{\"key\":${JSON.stringify(key)},\"event\":${event}}\\n`;
  response.end(lines);
});
await new Promise((resolve) => events.listen(0, '127.0.0.1', resolve));
say('events', events.address().port);
";

const MEMORY: &str = "
import { createServer, memory, peer } from 'alldata-peer-server-http';
const store = memory();
";

const NODE_SQLITE: &str = "
import { createServer, peer, sqlite } from 'alldata-peer-server-http';
import { DatabaseSync } from 'node:sqlite';
const store = sqlite(new DatabaseSync(`${process.argv[2]}/events.db`));
";

const BETTER_SQLITE: &str = "
import { createServer, peer, sqlite } from 'alldata-peer-server-http';
import { createRequire } from 'node:module';
const Database = createRequire(`${process.argv[3]}/package.json`)('better-sqlite3');
const store = sqlite(new Database(`${process.argv[2]}/events.db`));
";

const BUN_SQLITE: &str = "
import { createServer, peer, sqlite } from 'alldata-peer-server-http';
import { Database } from 'bun:sqlite';
const store = sqlite(new Database(`${process.argv[2]}/events.db`));
";

const DENO_KV: &str = "
import { denoKv, peer } from 'alldata-peer-server-http';
const store = denoKv(await Deno.openKv(`${Deno.args[0]}/events.db`));
";

const BY_NODE: &str = "
const server = createServer(peer(store));
server.listen(0, '127.0.0.1', () => say('listening', server.address().port));
";

/// By a handler that is not the one of `peer`, which gets a `Request`.
const BY_NODE_WITH_REQUESTS: &str = "
const handler = peer(store);
const server = createServer((request) => handler(request));
server.listen(0, '127.0.0.1', () => say('listening', server.address().port));
";

const BY_DENO: &str = "
const onListen = ({ port }) => say('listening', port);
Deno.serve({ hostname: '127.0.0.1', port: 0, onListen }, peer(store));
";

const BY_BUN: &str = "
const server = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: peer(store) });
say('listening', server.port);
";

impl JavaScriptServer {
    /// On the Node.js of the system, with its store in memory.
    pub(crate) fn node() -> Self {
        Self::start(|_| run_by(BY_NODE))
    }

    /// The same, with a handler that gets each request as a `Request`.
    pub(crate) fn node_with_requests() -> Self {
        Self::start(|_| run_by(BY_NODE_WITH_REQUESTS))
    }

    pub(crate) fn deno() -> Self {
        Self::start(|directory| run_on(Runtime::Deno, "deno.mjs", directory, MEMORY, BY_DENO))
    }

    pub(crate) fn bun() -> Self {
        Self::start(|directory| run_on(Runtime::Bun, "bun.mjs", directory, MEMORY, BY_BUN))
    }

    /// On the newest Node.js, in a file of node:sqlite.
    pub(crate) fn node_sqlite() -> Self {
        const NAME: &str = "node-sqlite.mjs";
        Self::start(|directory| run_on(Runtime::Node, NAME, directory, NODE_SQLITE, BY_NODE))
    }

    /// On the newest Node.js, in a file of better-sqlite3.
    pub(crate) fn better_sqlite() -> Self {
        const NAME: &str = "better-sqlite.mjs";
        Self::start(|directory| run_on(Runtime::Node, NAME, directory, BETTER_SQLITE, BY_NODE))
    }

    /// On Deno, in a file of node:sqlite.
    pub(crate) fn deno_sqlite() -> Self {
        const NAME: &str = "deno-sqlite.mjs";
        Self::start(|directory| run_on(Runtime::Deno, NAME, directory, NODE_SQLITE, BY_DENO))
    }

    /// On Bun, by its node:http, in a file of bun:sqlite.
    pub(crate) fn bun_sqlite() -> Self {
        const NAME: &str = "bun-sqlite.mjs";
        Self::start(|directory| run_on(Runtime::Bun, NAME, directory, BUN_SQLITE, BY_NODE))
    }

    /// On Deno, in a file of Deno KV.
    pub(crate) fn deno_kv() -> Self {
        const NAME: &str = "deno-kv.mjs";
        Self::start(|directory| run_on(Runtime::Deno, NAME, directory, DENO_KV, BY_DENO))
    }

    /// On workerd, in a Durable Object with SQLite.
    pub(crate) fn workerd() -> Self {
        Self::start(serve_by_workerd)
    }

    fn start(start: fn(&Path) -> Started) -> Self {
        let directory = tempfile::tempdir().expect("makes a directory");
        Self::start_in(Arc::new(directory), start)
    }

    /// Starts another server on the same store.
    pub(crate) fn start_another(&self) -> Self {
        Self::start_in(Arc::clone(&self.directory), self.start)
    }

    fn start_in(directory: Arc<TempDir>, start: fn(&Path) -> Started) -> Self {
        let (process, address, events) = start(directory.path());
        Self {
            address,
            events,
            process,
            start,
            directory,
        }
    }

    /// Starts it again on the same store, once it was killed.
    pub(crate) fn restart(&mut self) {
        let (process, address, events) = (self.start)(self.directory.path());
        (self.process, self.address, self.events) = (process, address, events);
    }

    /// The directory of its store.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// All events, in their exact texts.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let answer = Post::new("").method("GET").send_to(self.events);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let lines = Output {
            code: Some(0),
            stdout: answer.text(),
            stderr: String::new(),
        };
        lines.lines_of_events()
    }
}

impl Platform for JavaScriptServer {
    fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    fn stored(&self, key: &str) -> Option<String> {
        let encode = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        let key: String = key.bytes().map(encode).collect();
        let request = Post::new("").method("GET").target(&format!("/?key={key}"));
        let answer = request.send_to(self.events);
        (answer.status == 200).then(|| answer.text())
    }
}

/// Runs a script on the Node.js of the system, with a store in memory.
fn run_by(serve: &str) -> Started {
    let script = [MEMORY, EVENTS, serve].concat();
    with_addresses(JavaScriptPeer::run("module", &script))
}

/// Runs a script on a runtime: `store` makes a store in a directory, `serve` serves it.
fn run_on(runtime: Runtime, name: &str, directory: &Path, store: &str, serve: &str) -> Started {
    let script = [store, EVENTS, serve].concat();
    let directory = directory.to_str().expect("is text");
    let packages = Runtime::packages().to_str().expect("is text");
    let process = JavaScriptPeer::run_on(runtime, name, &script, &[directory, packages]);
    with_addresses(process)
}

fn with_addresses(process: JavaScriptPeer) -> Started {
    let events = process.address("events");
    let address = process.address("listening");
    (process, address, events)
}
