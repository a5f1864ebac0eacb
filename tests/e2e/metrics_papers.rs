//! The metrics against what is written about them: the formats by promtool, the table of the documentation, the alert
//! rules and the dashboard.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::certificates::Authority;
use crate::support::admin::{get, get_with};
use crate::support::{Peer, can_make};
use crate::tls_client::tls_peer;

/// The metrics that only the sink `nats:` has.
pub(crate) const OF_NATS: &str = "alldata_peer_nats_";

/// A file of the project.
pub(crate) fn file(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(file(path)).expect("reads")
}

/// The type of each family of a scrape.
fn types(metrics: &str) -> BTreeMap<String, String> {
    let lines = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let types = lines.filter_map(|line| line.split_once(' '));
    types
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

/// The metrics in the table of the documentation, with their types.
fn documented() -> BTreeMap<String, String> {
    let text = read("docs/operations.md");
    let (_, table) = text
        .split_once("| metric | type | meaning |")
        .expect("is there");
    let rows = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| `"));
    let rows = rows.map(|row| {
        let (name, rest) = row.split_once("` | ").expect("has a type");
        let (kind, _) = rest.split_once(" |").expect("has a meaning");
        (name.to_owned(), kind.to_owned())
    });
    rows.collect()
}

#[test]
fn table_of_metrics_is_that_of_a_scrape() {
    let peer = tls_peer(&Authority::new("authority")).admin().start();
    let scraped = types(&get(peer.admin(), "/metrics").text());
    let mut documented = documented();
    documented.retain(|name, _| !name.starts_with(OF_NATS));
    assert_eq!(documented, scraped);
}

/// The names of metrics in a text, without what a histogram adds.
pub(crate) fn named(text: &str) -> BTreeSet<String> {
    let is_part = |char: char| char.is_ascii_alphanumeric() || char == '_';
    let words = text.split(|char| !is_part(char));
    let words =
        words.filter(|word| word.starts_with("alldata_peer_") || word.starts_with("process_"));
    let stem = |word: &str| {
        let mut suffixes = ["_bucket", "_sum", "_count"].into_iter();
        let stem = suffixes.find_map(|suffix| word.strip_suffix(suffix));
        stem.unwrap_or(word).to_owned()
    };
    words.map(stem).collect()
}

#[test]
fn rules_and_dashboard_use_metrics_that_exist() {
    let documented = documented();
    for path in [
        "deploy/prometheus/alldata-peer.rules.yml",
        "deploy/prometheus/dashboard.json",
    ] {
        let named = named(&read(path));
        assert!(named.len() > 5, "{path}: {named:?}");
        let unknown = named.iter().filter(|name| !documented.contains_key(*name));
        assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&String>::new(), "{path}");
    }
    let dashboard: Value =
        serde_json::from_str(&read("deploy/prometheus/dashboard.json")).expect("is JSON");
    assert!(dashboard["panels"].as_array().expect("has some").len() > 5);
}

#[test]
fn promtool_accepts_rules_and_configuration() {
    if !has_promtool() {
        return;
    }
    for (command, path) in [
        ("rules", "deploy/prometheus/alldata-peer.rules.yml"),
        ("config", "deploy/prometheus/prometheus.yml"),
    ] {
        assert_passes(&["check", command, &file(path).display().to_string()], "");
    }
}

#[test]
fn each_alert_is_raised_when_it_has_to_be() {
    let tests = read("deploy/prometheus/alldata-peer.rules.test.yml");
    for line in read("deploy/prometheus/alldata-peer.rules.yml").lines() {
        if let Some((_, alert)) = line.split_once("- alert: ") {
            assert!(
                tests.contains(&format!("- alertname: {alert}\n")),
                "{alert}"
            );
        }
    }
    if has_promtool() {
        let path = file("deploy/prometheus/alldata-peer.rules.test.yml");
        assert_passes(&["test", "rules", &path.display().to_string()], "");
    }
}

/// Whether promtool can be run; if not, the test is skipped.
fn has_promtool() -> bool {
    let tool = Command::new("promtool").arg("--version").output();
    let missing = "there is no promtool: sudo apt-get install prometheus";
    can_make("checking with promtool", tool.is_err().then_some(missing))
}

/// Holds that promtool finds nothing wrong.
#[track_caller]
fn assert_passes(arguments: &[&str], input: &str) {
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut pipe = promtool.stdin.take().expect("is piped");
    pipe.write_all(input.as_bytes()).expect("is read");
    drop(pipe);
    let output = promtool.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.is_empty(),
        "{said}\n{input}"
    );
}

#[test]
fn promtool_accepts_prometheus_format() {
    if !has_promtool() {
        return;
    }
    let peer = Peer::builder().admin().start();
    peer.put("key1", "1").assert_created();
    let metrics = get(peer.admin(), "/metrics").text();
    assert_passes(&["check", "metrics"], &metrics);
}

/// It parses the samples strictly, to make a database of them, for which they need a time.
#[test]
fn promtool_accepts_open_metrics_format() {
    if !has_promtool() {
        return;
    }
    let peer = Peer::builder().admin().start();
    peer.put("key1", "1").assert_created();
    let accept = "Accept: application/openmetrics-text\r\n";
    let metrics = get_with(peer.admin(), "/metrics", accept).text();
    let timed: String = metrics
        .lines()
        .map(|line| match line.starts_with('#') {
            true => format!("{line}\n"),
            false => format!("{line} 1700000000\n"),
        })
        .collect();
    let input = peer.file("metrics.txt");
    fs::write(&input, timed).expect("writes");
    let (input, output) = (input.display().to_string(), peer.file("blocks"));
    let output = output.display().to_string();
    assert_passes(
        &["tsdb", "create-blocks-from", "openmetrics", &input, &output],
        "",
    );
}
