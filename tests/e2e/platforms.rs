//! The composed component on the platforms that it is made for, and our own host with each sink, checked with
//! one table of requests.

use crate::request_table::hold_with;
use crate::support::{EventFiles, Jco, Peer, Post, Wasmtime, composed, handler_only_file};

/// The name of the directory as the component sees it.
const EVENTS: &str = "/events";

#[test]
fn our_host() {
    let peer = Peer::start();
    hold_with(|| peer.connect(), |key| peer.kept(key));
}

#[test]
fn our_host_through_wasi_http() {
    let component = handler_only_file().to_str().expect("is text");
    let peer = Peer::builder().arguments(&["--component", component]);
    let peer = peer.start();
    hold_with(|| peer.connect(), |key| peer.kept(key));
}

#[test]
fn our_host_with_the_sink_forward() {
    let store = Peer::start();
    let url = format!("ALLDATA_PEER_FORWARD_URL={}", store.url());
    let peer = Peer::composed_with("forward").env(&url).start();
    hold_with(|| peer.connect(), |key| store.kept(key));
}

#[test]
fn our_host_with_the_sink_directory() {
    let events = EventFiles::new();
    let peer = events.serve().start();
    hold_with(|| peer.connect(), |key| events.held(key));
}

#[test]
fn wasmtime_serve_with_the_sink_forward() {
    hold_wasmtime_with_forward(Wasmtime::V48);
}

#[test]
fn wasmtime_serve_with_the_sink_directory() {
    hold_wasmtime_with_directory(Wasmtime::V48);
}

#[test]
fn wasmtime_49_serve_with_the_sink_forward() {
    hold_wasmtime_with_forward(Wasmtime::V49);
}

#[test]
fn wasmtime_49_serve_with_the_sink_directory() {
    hold_wasmtime_with_directory(Wasmtime::V49);
}

#[track_caller]
fn hold_wasmtime_with_forward(version: Wasmtime) {
    if !version.can_start() {
        return;
    }
    let (component, store) = (composed("forward"), Peer::start());
    let variables = [("ALLDATA_PEER_FORWARD_URL", &*store.url())];
    let server = version.serve(component, &variables, None);
    hold_with(|| server.connect(), |key| store.kept(key));
}

#[track_caller]
fn hold_wasmtime_with_directory(version: Wasmtime) {
    if !version.can_start() {
        return;
    }
    let (component, events) = (composed("directory"), EventFiles::new());
    let variables = [("ALLDATA_PEER_DIRECTORY", EVENTS)];
    let shared = Some((events.root(), EVENTS));
    let server = version.serve(component, &variables, shared);
    hold_with(|| server.connect(), |key| events.held(key));
}

#[test]
fn jco_serve_with_the_sink_forward() {
    let (component, store) = (composed("forward"), Peer::start());
    let url = store.url();
    let server = Jco::serve(component, &[("ALLDATA_PEER_FORWARD_URL", &url)], None);
    hold_with(|| server.connect(), |key| store.kept(key));
}

#[test]
fn jco_serve_with_the_sink_directory() {
    let (component, events) = (composed("directory"), EventFiles::new());
    let variables = [("ALLDATA_PEER_DIRECTORY", Jco::DIRECTORY)];
    let server = Jco::serve(component, &variables, Some(events.root()));
    hold_with(|| server.connect(), |key| events.held(key));
}

/// A failing sink ends with a response and a line in the log, also on a platform that turns many failures into
/// its own end.
#[test]
fn sink_without_settings_says_so_on_every_platform() {
    if !Wasmtime::V48.can_start() {
        return;
    }
    let component = composed("forward");
    let reason = "ALLDATA_PEER_FORWARD_URL is not set";
    let ours = Peer::composed_with("forward").start();
    let wasmtime = Wasmtime::V48.serve(component, &[], None);
    let jco = Jco::serve(component, &[], None);
    for _ in 0..2 {
        for mut connection in [ours.connect(), wasmtime.connect(), jco.connect()] {
            let answer = connection.ask(&Post::put("key1", "1"));
            answer.assert_is(500, "Internal Server Error", "unknown", true);
        }
        for line in [
            ours.log_line(reason),
            wasmtime.log_line(reason),
            jco.log_line(reason),
        ] {
            assert!(line.contains("alldata-peer sink forward: "), "{line}");
        }
    }
}
