//! Cloudflare's runtime with the Worker of `deploy/cloudflare`, as wrangler bundles it.
//!
//! A second Worker, on a port of its own, shows what is in the store.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::javascript_peer::JavaScriptPeer;
use super::npm_package::installed;
use super::process::finish;
use super::runtime::{self, Runtime};

/// The time for wrangler on a busy machine.
const BUNDLE_DEADLINE: Duration = Duration::from_secs(120);

/// What wrangler bundles, and what the result is run with.
const FILES: [(&str, &str); 4] = [
    (
        "worker.js",
        include_str!("../../../deploy/cloudflare/worker.js"),
    ),
    (
        "wrangler.jsonc",
        include_str!("../../../deploy/cloudflare/wrangler.jsonc"),
    ),
    ("workerd.capnp", CONFIG),
    ("events.js", EVENTS),
];

/// The configuration of workerd, as wrangler makes it of its own. `WASM` is the name of the component's module.
const CONFIG: &str = include_str!("../../runtimes/workerd.capnp");

/// The Worker that shows what is in the store.
const EVENTS: &str = include_str!("../../runtimes/events.js");

/// Starts workerd with its objects in a directory, with the addresses of both Workers: that which takes puts, and
/// that which shows events.
#[must_use]
pub fn serve_by_workerd(objects: &Path) -> (JavaScriptPeer, SocketAddr, SocketAddr) {
    let mut workerd = Command::new(Runtime::Workerd.program().expect("is there"));
    workerd.arg("serve").arg(bundle().join("workerd.capnp"));
    workerd.arg(format!("--directory-path=disk={}", objects.display()));
    let process = JavaScriptPeer::start(workerd.arg("--control-fd=1"));
    let address = |name: &str| {
        let line = process.output_line(&format!("\"socket\":\"{name}\""));
        let line: serde_json::Value = serde_json::from_str(&line).expect("is JSON");
        let port = line["port"].as_u64().map(u16::try_from);
        SocketAddr::from((Ipv4Addr::LOCALHOST, port.expect("is there").expect("fits")))
    };
    let (puts, events) = (address("puts"), address("events"));
    (process, puts, events)
}

/// The directory with the Worker as wrangler bundles it, the Worker that shows events, and their configuration.
fn bundle() -> &'static Path {
    static BUNDLE: OnceLock<PathBuf> = OnceLock::new();
    BUNDLE.get_or_init(|| {
        let directory = installed().join("cloudflare");
        fs::create_dir_all(&directory).expect("makes a directory");
        // Another run of the tests may be bundling. The lock ends with the file.
        let lock = File::create(directory.join("lock")).expect("is created");
        lock.lock().expect("locks");
        let bundle = directory.join("bundle");
        let is_present = |(name, text): &(&str, &str)| {
            fs::read_to_string(directory.join(name)).ok().as_deref() == Some(text)
        };
        if !bundle.join("complete").exists() || !FILES.iter().all(is_present) {
            // It is not there before the first time.
            let _ = fs::remove_dir_all(&bundle);
            for (name, text) in FILES {
                fs::write(directory.join(name), text).expect("is written");
            }
            run_wrangler(&directory);
            let config = CONFIG.replace("WASM", &module_in(&bundle));
            fs::write(bundle.join("workerd.capnp"), config).expect("is written");
            fs::write(bundle.join("events.js"), EVENTS).expect("is written");
            fs::write(bundle.join("complete"), "").expect("is written");
        }
        bundle
    })
}

/// The name of the module of WebAssembly.
fn module_in(bundle: &Path) -> String {
    let names = fs::read_dir(bundle).expect("is there");
    let names = names.map(|entry| entry.expect("is an entry").file_name());
    let names = names.map(|name| name.into_string().expect("is text"));
    let mut modules = names.filter(|name| name.ends_with(".wasm"));
    let module = modules.next().expect("is there");
    assert_eq!(modules.next(), None);
    module
}

fn run_wrangler(directory: &Path) {
    let home = tempfile::tempdir().expect("makes a directory");
    let mut wrangler = Command::new(Runtime::Node.program().expect("is there"));
    wrangler.arg(runtime::installed().join("node_modules/wrangler/bin/wrangler.js"));
    wrangler.args(["deploy", "--dry-run", "--outdir", "bundle"]);
    wrangler.current_dir(directory).env("HOME", home.path());
    wrangler.env("WRANGLER_SEND_METRICS", "false");
    let output = finish(&mut wrangler, "", BUNDLE_DEADLINE);
    assert_eq!(output.code, Some(0), "wrangler: {output:?}");
}
