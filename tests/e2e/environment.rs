//! The variables of flags: empty ones, those that Kubernetes sets, and misspelled ones.

use rustix::process::Signal;

use crate::support::{Output, Peer, run, serve};

/// The variables that Kubernetes sets beside a Service `alldata-peer` with a port named `http`.
const SERVICE_LINKS: [(&str, &str); 8] = [
    ("ALLDATA_PEER_PORT", "tcp://10.96.0.10:8080"),
    ("ALLDATA_PEER_PORT_8080_TCP", "tcp://10.96.0.10:8080"),
    ("ALLDATA_PEER_PORT_8080_TCP_ADDR", "10.96.0.10"),
    ("ALLDATA_PEER_PORT_8080_TCP_PORT", "8080"),
    ("ALLDATA_PEER_PORT_8080_TCP_PROTO", "tcp"),
    ("ALLDATA_PEER_SERVICE_HOST", "10.96.0.10"),
    ("ALLDATA_PEER_SERVICE_PORT", "8080"),
    ("ALLDATA_PEER_SERVICE_PORT_HTTP", "8080"),
];

#[test]
fn service_links_of_kubernetes_are_ignored_and_named() {
    let mut builder = Peer::builder().sink("memory:");
    // The flag on the command line wins, so this only shows that the variable is ignored.
    for (name, value) in SERVICE_LINKS {
        builder = builder.own_env(name, value);
    }
    let mut peer = builder.start();
    let line = peer.log_line("Kubernetes");
    for (name, _) in SERVICE_LINKS {
        assert!(line.contains(name), "{name}: {line}");
    }
    assert!(!line.contains("10.96"), "{line}");
    peer.put("key1", "1").assert_created();
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let rest = peer.rest_of_stderr().join("\n");
    assert!(!rest.contains("ALLDATA_PEER"), "{rest}");
    // The same for every command.
    let output = Output::with_environment(&["component", "--wit"], &SERVICE_LINKS);
    assert!(output.assert_ok().contains("put-sink"));
}

#[test]
fn service_link_as_port_keeps_the_default() {
    // Wrong usage is reported after the variables.
    let serve = ["serve", "--sink", "no-sink:"];
    let output = Output::with_environment(&serve, &SERVICE_LINKS);
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("no-sink:"), "{output:?}");
    // A variable that only resembles one of Kubernetes is not ignored.
    for (name, value) in [
        ("ALLDATA_PEER_PORT", "http://10.96.0.10"),
        ("ALLDATA_PEER_PORT", "tcp"),
        ("ALLDATA_PEER_SINK", "tcp://10.96.0.10:8080"),
    ] {
        let output = Output::with_environment(&["serve"], &[(name, value)]);
        output.assert_failed(2);
    }
}

#[test]
fn empty_variable_counts_as_unset() {
    let help = run(&["serve", "--help"]);
    let words = help
        .assert_ok()
        .split(|char: char| !char.is_ascii_uppercase() && char != '_');
    let mut names: Vec<&str> = words
        .filter(|word| word.starts_with("ALLDATA_PEER_"))
        .collect();
    names.extend([
        "ALLDATA_PEER_LOG_FORMAT",
        "ALLDATA_PEER_STORE",
        "ALLDATA_PEER_TO",
    ]);
    assert!(names.len() > 20, "{names:?}");
    let mut builder = Peer::builder();
    for name in &names {
        builder = builder.own_env(name, "");
    }
    let peer = builder.start();
    peer.put("key1", "1").assert_created();
    // The sink is the default one, in the directory of the server.
    assert!(peer.file("alldata.db").exists());
    let variables: Vec<(&str, &str)> = names.iter().map(|name| (*name, "")).collect();
    let commands: [&[&str]; 3] = [
        &["get", "key1", "--store", &peer.store()],
        &["put", "key1", "1", "--to", &peer.url()],
        &["component", "--wit"],
    ];
    for command in commands {
        Output::with_environment(command, &variables).assert_ok();
    }
    let output = Output::with_environment(&["get", "key1"], &[("ALLDATA_PEER_STORE", "")]);
    assert!(output.assert_failed(1).contains("alldata.db"), "{output:?}");
}

#[test]
fn unknown_variables_are_named_in_one_warning() {
    let builder = Peer::builder()
        .own_env("ALLDATA_PEER_SNIK", "geheim")
        .own_env("ALLDATA_PEER_MAX_BODYS", "1")
        .own_env("ALLDATA_PEER_REMOTE_PORT", "80")
        .own_env("ALLDATA_PEER_DIRECTORY", "/events")
        .own_env("ALLDATA_PEER_EMPTY", "");
    let mut peer = builder.start();
    let line = peer.log_line("unknown");
    for name in ["SNIK", "MAX_BODYS", "REMOTE_PORT"] {
        assert!(line.contains(&format!("ALLDATA_PEER_{name}")), "{line}");
    }
    for text in ["geheim", "DIRECTORY", "EMPTY", "COMPILE_CACHE"] {
        assert!(!line.contains(text), "{line}");
    }
    peer.signal(Signal::TERM);
    assert_eq!(peer.wait().code(), Some(0));
    let rest = peer.rest_of_stderr().join("\n");
    assert!(!rest.contains("unknown"), "{rest}");
    let output =
        Output::with_environment(&["component", "--wit"], &[("ALLDATA_PEER_\u{1b}[31m", "1")]);
    assert_eq!(output.code, Some(0));
    assert!(output.stderr.contains("unknown"), "{output:?}");
    assert!(!output.stderr.contains("\u{1b}[31m"), "{output:?}");
}

#[test]
fn boolean_variable_accepts_usual_words() {
    for value in ["0", "false", "no", "off", "1", "true", "yes", "on"] {
        let peer = Peer::builder()
            .own_env("ALLDATA_PEER_VERIFY_STORE", value)
            .start();
        peer.put("key1", "1").assert_created();
    }
    let wrong = [("ALLDATA_PEER_VERIFY_STORE", "banana")];
    Output::with_environment(&serve("memory:"), &wrong).assert_failed(2);
}
