//! The listener of a server for operators, and a scrape of its metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Answer, Connection};

/// The metrics at one time: each sample as it stands in the text, with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Scrape(pub BTreeMap<String, f64>);

/// Asks for a path of a listener for operators.
pub fn get(address: SocketAddr, path: &str) -> Answer {
    get_with(address, path, "")
}

/// The same with further header fields, each with its end of line.
pub fn get_with(address: SocketAddr, path: &str, fields: &str) -> Answer {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n");
    Connection::open(address).send(request).answer()
}

/// Reads the metrics in the text format of Prometheus.
#[track_caller]
pub fn scrape(address: SocketAddr) -> Scrape {
    let answer = get(address, "/metrics");
    assert_eq!(answer.status, 200, "{}", answer.text());
    Scrape::parse(&answer.text())
}

impl Scrape {
    /// The samples of a text.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("has a value");
            (name.to_owned(), value.parse().expect("is a number"))
        });
        Self(samples.collect())
    }

    /// The value of a sample, as `name{label="value"}`.
    #[track_caller]
    pub fn value(&self, sample: &str) -> f64 {
        let value = self.0.get(sample);
        *value.unwrap_or_else(|| panic!("no sample {sample}: {:#?}", self.0.keys()))
    }

    /// The samples with another value than before, with the difference, but those whose names start with one of
    /// `ignored`.
    pub fn changes_since(&self, before: &Self, ignored: &[&str]) -> BTreeMap<String, f64> {
        let is_ignored = |name: &str| ignored.iter().any(|prefix| name.starts_with(prefix));
        let changes = self.0.iter().filter(|(name, _)| !is_ignored(name));
        let changes = changes.map(|(name, value)| {
            let before = before.0.get(name).copied().unwrap_or_default();
            (name.clone(), value - before)
        });
        changes.filter(|(_, change)| *change != 0.0).collect()
    }

    /// The names of the families: without labels, and without what a histogram adds to its name.
    pub fn families(&self) -> Vec<String> {
        let names = self.0.keys().map(|sample| {
            let name = sample.split('{').next().expect("is one");
            let suffixes = ["_bucket", "_sum", "_count"];
            let stem = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
            stem.unwrap_or(name).to_owned()
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.dedup();
        names
    }
}
