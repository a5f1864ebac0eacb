//! The load generator wrk: as many puts as a server can serve.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::results::Load;
use crate::running::Running;
use crate::tools::Tools;

/// Makes the puts, each under a key of its own.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/put.lua");

/// Two threads make more puts than any server here can serve. One would not be enough for the native twin,
/// which would then not be at its limit.
const THREADS: usize = 2;

/// The time-out of a response, so that a missing one is an error.
const TIMEOUT: &str = "30s";

/// The result of a run of wrk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Report {
    pub(crate) puts: u64,
    pub(crate) puts_per_second: f64,
    pub(crate) p50_millis: f64,
    pub(crate) p99_millis: f64,
}

/// Loads a server for some seconds, at least one.
///
/// # Errors
///
/// If a response was no success, or did not arrive.
pub(crate) fn run(tools: &Tools, running: &Running, load: Load, seconds: u64) -> Result<Report> {
    let output = Command::new(&tools.wrk)
        .arg(format!("--threads={}", THREADS.min(load.connections)))
        .arg(format!("--connections={}", load.connections))
        .arg(format!("--duration={seconds}s"))
        .args(["--timeout", TIMEOUT, "--latency", "--script", SCRIPT])
        .args([&*running.url(), "--"])
        .args([&*load.event_bytes.to_string(), running.interface().name()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "wrk failed: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    parse(&text)
}

fn parse(text: &str) -> Result<Report> {
    for trouble in ["Socket errors:", "Non-2xx or 3xx responses:"] {
        ensure!(!text.contains(trouble), "not every put succeeded: {text}");
    }
    parse_figures(text).with_context(|| format!("wrk reports something else: {text}"))
}

fn parse_figures(text: &str) -> Option<Report> {
    let after = |name: &str| {
        let rest = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(name))?;
        Some(rest.trim())
    };
    let (puts, _) = text
        .lines()
        .find_map(|line| line.split_once(" requests in "))?;
    Some(Report {
        puts: puts.trim().parse().ok()?,
        puts_per_second: after("Requests/sec:")?.parse().ok()?,
        p50_millis: parse_millis(after("50%")?)?,
        p99_millis: parse_millis(after("99%")?)?,
    })
}

/// A time with its unit, such as `621.00us`.
fn parse_millis(text: &str) -> Option<f64> {
    // The longer units first: each ends with the shortest.
    let units = [("us", 1e-3), ("ms", 1.0), ("m", 60e3), ("s", 1e3)];
    let (number, unit) = units
        .iter()
        .find_map(|(name, millis)| Some((text.strip_suffix(name)?, millis)))?;
    Some(number.parse::<f64>().ok()? * unit)
}

#[cfg(test)]
mod tests {
    use super::{Report, parse, parse_millis};

    const OUTPUT: &str = "\
Running 3s test @ http://127.0.0.1:8080/_put
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   748.65us  410.06us  15.95ms   89.21%
    Req/Sec    85.93k     4.32k   92.17k    70.00%
  Latency Distribution
     50%  706.00us
     75%    0.87ms
     90%    1.05ms
     99%    1.91ms
  256464 requests in 3.00s, 21.77MB read
Requests/sec:  85483.78
Transfer/sec:      7.26MB
";

    #[test]
    fn report_is_parsed() {
        let report = Report {
            puts: 256_464,
            puts_per_second: 85_483.78,
            p50_millis: 0.706,
            p99_millis: 1.91,
        };
        assert_eq!(parse(OUTPUT).expect("is a report"), report);
        assert!(parse(&OUTPUT.replace("99%", "98%")).is_err());
    }

    #[test]
    fn failure_is_an_error() {
        for trouble in [
            "  Socket errors: connect 0, read 64, write 0, timeout 0\nRequests/sec:",
            "  Non-2xx or 3xx responses: 12\nRequests/sec:",
        ] {
            let output = OUTPUT.replace("Requests/sec:", trouble);
            assert!(parse(&output).is_err(), "{output}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, millis) in [
            ("621.00us", Some(0.621)),
            ("1.37ms", Some(1.37)),
            ("2.00s", Some(2000.0)),
            ("1.50m", Some(90_000.0)),
            ("7", None),
        ] {
            assert_eq!(parse_millis(text), millis, "{text}");
        }
    }
}
