//! Errors on the command line: the exit code, and the flag, file or address that each names.

use std::fs;
use std::net::TcpListener;

use crate::command_line::{SERVE, directory};
use crate::support::{Output, Peer, run};

#[test]
fn wrong_usage_is_exit_code_2() {
    let cases: [&[&str]; 16] = [
        &["serve", "--colour", "red"],
        &["serve", "extra"],
        &["serve", "--port", "65536"],
        &["serve", "--port", "-1"],
        &["serve", "--port", "http"],
        &["serve", "--max-body", "0"],
        &["serve", "--max-body", "16777217"],
        &["serve", "--sink-timeout", "0"],
        &["serve", "--max-concurrent-requests", "0"],
        &["serve", "--log-format", "xml"],
        &["dance"],
        &["get"],
        &["get", "key1", "--store", "alldata.db"],
        &["export", "--store", "memory:"],
        &["put", "key1"],
        &["component"],
    ];
    for arguments in cases {
        run(arguments).assert_failed(2);
    }
}

#[test]
fn unknown_sink_is_wrong_usage_and_lists_the_sinks() {
    for url in [
        "sqlite:",
        "ndjson:",
        "http:",
        "http://",
        "http:///_put",
        "memory:a",
    ] {
        let output = run(&[&SERVE[..], &["--sink", url]].concat());
        assert!(output.assert_failed(2).contains(url), "{output:?}");
    }
    for url in ["", "alldata.db", "cloud:", "ftp://localhost/"] {
        let output = run(&[&SERVE[..], &["--sink", url]].concat());
        let sentence = output.assert_failed(2);
        for scheme in ["sqlite:", "memory:", "ndjson:", "http:", "discard:"] {
            assert!(sentence.contains(scheme), "{url:?}: {sentence}");
        }
    }
}

#[test]
fn unopenable_store_is_named() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let text = path("text");
    fs::write(&text, "This is no component.\n").expect("is written");
    let cases = [
        (
            "--sink",
            format!("sqlite:{}", path("none/a.db")),
            path("none/a.db"),
        ),
        ("--sink", format!("sqlite:{}", path("")), path("")),
        (
            "--sink",
            format!("ndjson:{}", path("none/a")),
            path("none/a"),
        ),
        ("--sink", format!("ndjson:{}", path("")), path("")),
        ("--component", path("none.wasm"), path("none.wasm")),
        ("--component", path(""), path("")),
        ("--component", text.clone(), text),
    ];
    for (flag, value, named) in &cases {
        let mut arguments = [&SERVE[..], &[flag, value]].concat();
        if *flag != "--sink" {
            arguments.extend(["--sink", "discard:"]);
        }
        let output = run(&arguments);
        let sentence = output.assert_failed(1);
        assert!(sentence.contains(named), "{flag} {value}: {sentence}");
    }
}

#[test]
fn core_module_is_refused() {
    let directory = directory();
    let file = directory.path().join("module.wasm");
    let module = wat::parse_str("(module (func (export \"handle\")))").expect("parses");
    let component = wat::parse_str("(component)").expect("parses");
    for bytes in [module, component] {
        fs::write(&file, bytes).expect("is written");
        let file = file.to_str().expect("is text");
        let flags = ["--sink", "discard:", "--component", file];
        let output = run(&[&SERVE[..], &flags].concat());
        assert!(output.assert_failed(1).contains(file), "{output:?}");
    }
}

#[test]
fn unresolvable_hostname_is_named() {
    let flags = ["--hostname", "nothing.invalid", "--sink", "discard:"];
    let output = run(&[&["serve", "--port", "0"], &flags[..]].concat());
    let sentence = output.assert_failed(1);
    assert!(sentence.contains("nothing.invalid"), "{sentence}");
}

#[test]
fn busy_port_is_named() {
    let other = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = other.local_addr().expect("is bound");
    let port = address.port().to_string();
    let arguments = ["serve", "--hostname", "127.0.0.1", "--sink", "discard:"];
    let output = run(&[&arguments[..], &["--port", &port]].concat());
    let sentence = output.assert_failed(1);
    assert!(sentence.contains(&address.to_string()), "{sentence}");
    // The same with the port in the environment.
    let variables = [("ALLDATA_PEER_PORT", port.as_str())];
    let output = Output::with_environment(&arguments, &variables);
    let sentence = output.assert_failed(1);
    assert!(sentence.contains(&address.to_string()), "{sentence}");
}

#[test]
fn unwritable_output_is_named() {
    let directory = directory();
    let file = directory.path().join("none/out").display().to_string();
    let output = run(&["component", "-o", &file]);
    assert!(output.assert_failed(1).contains(&file), "{output:?}");
    let peer = Peer::start();
    let output = run(&["export", "-o", &file, "--store", &peer.store()]);
    assert!(output.assert_failed(1).contains(&file), "{output:?}");
    let output = run(&["import", &file, "--store", &peer.store()]);
    assert!(output.assert_failed(1).contains(&file), "{output:?}");
}
