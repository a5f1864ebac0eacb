//! What the recipes and the workflows in the repository promise, by the program itself.

use std::fs;
use std::path::Path;

use crate::support::{Peer, run};

fn text(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).expect("reads")
}

/// The lists of texts after this name in YAML, where they are written as JSON.
fn lists(yaml: &str, name: &str) -> Vec<Vec<String>> {
    let parts = yaml.split(name).skip(1);
    let lists = parts.map(|part| {
        let (list, _) = part.split_once(']').expect("is a list");
        serde_json::from_str(&format!("{list}]")).expect("is JSON")
    });
    lists.collect()
}

#[test]
fn arguments_and_probes_of_kubernetes_are_those_of_the_program() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let peer = Peer::builder().admin().start();
    let admin = peer.admin().to_string();
    for name in ["nats", "sqlite"] {
        let yaml = text(&format!("deploy/kubernetes/{name}.yaml"));
        // The variables of a service with this name are those of flags.
        assert!(yaml.contains("enableServiceLinks: false"), "{name}");
        let arguments = lists(&yaml, "args: ");
        assert_eq!(arguments.len(), 1, "{name}");
        let file = format!("sqlite:{}/alldata.db", directory.path().display());
        let arguments = arguments[0].iter().map(|argument| {
            let argument = argument.replace("sqlite:/data/alldata.db", &file);
            argument.replace("nats://nats:4222/events", "memory:")
        });
        let mut arguments: Vec<String> = arguments.collect();
        arguments.push("--check".into());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&arguments).assert_ok();
        let probes = lists(&yaml, "command: ");
        assert_eq!(probes.len(), 3, "{name}");
        for probe in &probes {
            let command: Vec<String> = probe
                .iter()
                .map(|word| word.replace("127.0.0.1:9090", &admin))
                .collect();
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            assert_eq!(command[0], "/usr/local/bin/alldata-peer", "{name}");
            run(&command[1..]).assert_ok();
        }
    }
}

/// `cargo binstall` finds a program by the names that the workflow gives to an archive and its folder.
#[test]
fn binstall_takes_the_archives_of_a_release() {
    let manifest: toml::Table = text("host/Cargo.toml").parse().expect("is TOML");
    let binstall = &manifest["package"]["metadata"]["binstall"];
    let value = |name: &str| binstall[name].as_str().expect("is text");
    let workflow = text(".github/workflows/release.yml");
    let name = "alldata-peer-${GITHUB_REF_NAME#v}-${{ matrix.target }}";
    assert!(workflow.contains(&format!("name=\"{name}\"")));
    assert!(workflow.contains("tar -C dist -czf \"dist/$name.tar.gz\" \"$name\""));
    let name = name.replace("${GITHUB_REF_NAME#v}", "{ version }");
    let name = name.replace("${{ matrix.target }}", "{ target }");
    let url = format!("{{ repo }}/releases/download/v{{ version }}/{name}.tar.gz");
    assert_eq!(value("pkg-url"), url);
    assert_eq!(value("bin-dir"), format!("{name}/{{ bin }}"));
    assert_eq!(value("pkg-fmt"), "tgz");
}
