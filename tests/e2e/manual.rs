//! The output of `completions` and `man`: each command and each flag of the help is in it.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Output, run};

const COMMANDS: [&str; 10] = [
    "completions",
    "component",
    "export",
    "get",
    "health",
    "import",
    "man",
    "put",
    "serve",
    "verify",
];

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(&["completions", shell]);
        let script = output.assert_ok();
        for word in COMMANDS
            .into_iter()
            .chain(["max-connections", "precompile"])
        {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    run(&["completions", "tcsh"]).assert_failed(2);
    run(&["completions"]).assert_failed(2);
}

#[test]
fn bash_completes_commands_and_flags() {
    let script = run(&["completions", "bash"]);
    let test = format!(
        "{}\ncomplete -p alldata-peer >/dev/null || exit 1\n\
         COMP_WORDS=(alldata-peer serve --max-conn) COMP_CWORD=2\n\
         _alldata-peer alldata-peer --max-conn serve && echo \"${{COMPREPLY[@]}}\"",
        script.assert_ok()
    );
    let output = Command::new("bash").args(["-c", &test]).output();
    let output = output.expect("bash starts");
    let replies = String::from_utf8(output.stdout).expect("is text");
    assert_eq!(
        replies.trim(),
        "--max-connections --max-connections-per-address",
        "{:?}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn manual_pages_name_all_flags_and_no_value_of_the_environment() {
    let directory = TempDir::new().expect("makes a directory");
    let path = directory.path().to_str().expect("is text");
    let variables = [
        ("ALLDATA_PEER_SINK", "http://user:secret@localhost/"),
        ("ALLDATA_PEER_HOSTNAME", "secret"),
    ];
    Output::with_environment(&["man", "--output", path], &variables).assert_ok();
    let read = |name: &str| fs::read_to_string(directory.path().join(name)).expect("is there");
    for command in COMMANDS {
        let page = read(&format!("alldata-peer-{command}.1"));
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
        assert!(!page.contains("secret"), "{page}");
    }
    let serve = read("alldata-peer-serve.1");
    for word in ["max\\-connections", "ALLDATA_PEER_MAX_CONNECTIONS"] {
        assert!(serve.contains(word), "{word}: {serve}");
    }
    let whole = run(&["man"]);
    assert_eq!(whole.assert_ok().trim(), read("alldata-peer.1").trim());
    run(&["man", "--output", "/nowhere"]).assert_failed(1);
}
