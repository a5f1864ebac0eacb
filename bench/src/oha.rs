//! The load generator oha: puts at a fixed rate.
//!
//! It measures the latency of a put from its scheduled time, so that a server that stalls is charged for all
//! the puts that had to wait (coordinated omission).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::results::Load;

/// The errors of puts in flight when oha stops. No other error is allowed.
const STOPPED: &str = "aborted due to deadline";

/// The result of a run of oha.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Report {
    pub(crate) puts: u64,
    pub(crate) puts_per_second: f64,
    pub(crate) p99_millis: f64,
}

/// Puts `rate` events per second, all under one key.
///
/// # Errors
///
/// If a response was not 201, or did not arrive.
pub(crate) fn run(
    oha: &Path,
    address: SocketAddr,
    load: Load,
    rate: f64,
    seconds: u64,
) -> Result<Report> {
    let note = "x".repeat(load.event_bytes - r#"{"note":""}"#.len());
    let body = format!(r#"{{"key":"20130927T005240652508858176","event":{{"note":"{note}"}}}}"#);
    let output = Command::new(oha)
        .args(["--no-tui", "--output-format", "json", "-m", "POST"])
        .args(["-d", &body, "-c", &load.connections.to_string()])
        .args(["-q", &format!("{rate:.0}"), "-z", &format!("{seconds}s")])
        .args(["--latency-correction", &format!("http://{address}/_put")])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "oha failed: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    parse(&text)
}

/// The part of oha's report that is used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Json {
    summary: Summary,
    latency_percentiles: BTreeMap<String, Option<f64>>,
    status_code_distribution: BTreeMap<u16, u64>,
    error_distribution: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    requests_per_sec: f64,
}

fn parse(text: &str) -> Result<Report> {
    let report: Json = serde_json::from_str(text)
        .with_context(|| format!("oha reports something else: {text}"))?;
    let is_success = report.status_code_distribution.keys().eq([&201]);
    let mut errors = report.error_distribution.keys();
    ensure!(
        is_success && errors.all(|error| error == STOPPED),
        "not every put succeeded: {text}"
    );
    let p99_seconds = report.latency_percentiles.get("p99").copied().flatten();
    Ok(Report {
        puts: report.status_code_distribution.values().sum(),
        puts_per_second: report.summary.requests_per_sec,
        p99_millis: p99_seconds.context("oha reports no p99")? * 1e3,
    })
}

#[cfg(test)]
mod tests {
    use super::{Report, parse};

    const OUTPUT: &str = r#"{
        "summary": { "successRate": 1.0, "total": 2.0016, "requestsPerSec": 19969.87, "totalData": 0 },
        "latencyPercentiles": { "p50": 0.000224365, "p99": 0.0005, "p99.9": 0.001564817 },
        "firstBytePercentiles": { "p50": null, "p99": null },
        "statusCodeDistribution": { "201": 39972 },
        "errorDistribution": { "aborted due to deadline": 3 }
    }"#;

    #[test]
    fn report_is_parsed() {
        let report = Report {
            puts: 39_972,
            puts_per_second: 19_969.87,
            p99_millis: 0.5,
        };
        assert_eq!(parse(OUTPUT).expect("is a report"), report);
    }

    #[test]
    fn failure_is_an_error() {
        for (text, other) in [
            (r#""201": 39972"#, r#""201": 39972, "503": 1"#),
            (r#""201": 39972"#, ""),
            ("aborted due to deadline", "connection closed"),
            (r#""p99": 0.0005, "#, ""),
        ] {
            let output = OUTPUT.replace(text, other);
            assert!(parse(&output).is_err(), "{output}");
        }
    }
}
