//! Prometheus itself: it scrapes peers, evaluates the alerts, and has data for each panel of the dashboard.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use crate::certificates::Authority;
use crate::metrics_papers::{OF_NATS, file, named, read};
use crate::support::{Connection, Lines, Peer, can_make, wait_until};
use crate::tls_client::tls_peer;

/// How often it scrapes and evaluates here, and the time over which it computes rates.
const INTERVAL: &str = "1s";
const RATE_INTERVAL: &str = "10s";

/// A Prometheus with a directory of its own, killed when dropped.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _log: Lines,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts it with this configuration; `None` if it is missing.
    fn start(configuration: &str) -> Option<Self> {
        let tool = Command::new("prometheus").arg("--version").output();
        let missing = "there is no prometheus: sudo apt-get install prometheus";
        if !can_make("a scrape", tool.is_err().then_some(missing)) {
            return None;
        }
        let directory = tempfile::tempdir().expect("makes a directory");
        let path = directory.path().join("prometheus.yml");
        let global =
            format!("global: {{ evaluation_interval: {INTERVAL}, scrape_interval: {INTERVAL} }}\n");
        fs::write(&path, global + configuration).expect("writes");
        let rules = "deploy/prometheus/alldata-peer.rules.yml";
        let beside = directory.path().join("alldata-peer.rules.yml");
        fs::copy(file(rules), beside).expect("copies");
        let argument = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let mut process = Command::new("prometheus")
            .arg(argument("config.file", &path))
            .arg(argument(
                "storage.tsdb.path",
                &directory.path().join("data"),
            ))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let log = Lines::of(process.stderr.take().expect("is piped"));
        let line = log.with("\"Listening on\"");
        let (_, address) = line.rsplit_once("address=").expect("names it");
        Some(Self {
            address: address.trim().parse().expect("is an address"),
            process,
            _log: log,
            _directory: directory,
        })
    }

    /// The `data` of a path of its interface; null while it starts.
    fn get(&self, path: &str) -> Value {
        let mut connection = Connection::open(self.address);
        // Without a chunked coding.
        connection.send(format!("GET /api/v1/{path} HTTP/1.0\r\n\r\n"));
        let answer = String::from_utf8(connection.rest()).expect("is text");
        let (_, body) = answer.split_once("\r\n\r\n").expect("has a body");
        let mut answer: Value = serde_json::from_str(body).unwrap_or_default();
        assert_ne!(answer["status"], "error", "{path}: {answer}");
        answer["data"].take()
    }

    /// The series of a query, each with its labels and its last value.
    fn query(&self, query: &str) -> Vec<Value> {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let mut data = self.get(&format!("query?query={query}"));
        match data["result"].take() {
            Value::Array(series) => series,
            _ => Vec::new(),
        }
    }

    /// Whether a query has one series, with this value.
    fn has(&self, query: &str, value: &str) -> bool {
        let series = self.query(query);
        series.len() == 1 && series[0]["value"][1] == value
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The configuration of the project, for two peers.
fn configuration(peers: [&Peer; 2]) -> String {
    let mut text = read("deploy/prometheus/prometheus.yml");
    for (from, peer) in ["127.0.0.1:9091\"", "127.0.0.1:9092\""]
        .into_iter()
        .zip(peers)
    {
        assert!(text.contains(from), "{text}");
        text = text.replace(from, &format!("{}\"", peer.admin()));
    }
    text.replace("    scrape_interval: 15s\n", "")
}

/// The expressions of the dashboard, for all peers.
fn dashboard() -> Vec<String> {
    let text = read("deploy/prometheus/dashboard.json");
    let dashboard: Value = serde_json::from_str(&text).expect("is JSON");
    let panels = dashboard["panels"].as_array().expect("has some").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("has some"));
    let expressions = targets.map(|target| {
        let text = target["expr"].as_str().expect("is text");
        let text = text.replace("$instance", ".*");
        text.replace("$__rate_interval", RATE_INTERVAL)
    });
    expressions.collect()
}

#[test]
fn prometheus_has_data_for_rules_and_dashboard() {
    let first = tls_peer(&Authority::new("authority")).admin().start();
    let second = Peer::builder().admin().start();
    let Some(prometheus) = Prometheus::start(&configuration([&first, &second])) else {
        return;
    };
    wait_until("both are up", || {
        prometheus.has("sum(up{job=\"alldata-peer\"})", "2")
    });
    wait_until("the certificate of the first is known", || {
        let expiry = "alldata_peer_tls_certificate_expiry_time_seconds";
        prometheus.has(&format!("count({expiry})"), "1")
    });
    // `increase` does not see the first one of a series that begins with it.
    let conflicts = "alldata_peer_requests_total{outcome=\"conflict\"}";
    wait_until("there are conflicts, of which none is yet", || {
        prometheus.has(&format!("count({conflicts} == 0)"), "2")
    });
    let mut number = 0;
    let mut put = || {
        number += 1;
        second.put(&format!("key{number}"), "1").assert_created();
    };
    for expression in dashboard() {
        wait_until(&expression, || {
            put();
            !prometheus.query(&expression).is_empty()
        });
    }
    for metric in named(&read("deploy/prometheus/alldata-peer.rules.yml")) {
        let is_here = prometheus.has(
            &format!("count(count({metric}) or count({metric}_count))"),
            "1",
        );
        assert!(is_here || metric.starts_with(OF_NATS), "{metric}");
    }
    wait_until("each rule is evaluated", || {
        let rules = prometheus.get("rules")["groups"][0]["rules"].take();
        let rules = rules.as_array().expect("has some").clone();
        assert!(rules.len() > 5, "{rules:?}");
        let failed = rules.iter().find(|rule| rule["health"] == "err");
        assert_eq!(failed, None);
        rules.iter().all(|rule| rule["health"] == "ok")
    });
    second.put("key1", "2").assert_problem(409);
    wait_until("the conflict is told of", || {
        let firing = "ALERTS{alertname=\"AlldataPeerConflicts\",alertstate=\"firing\"}";
        let series = prometheus.query(firing);
        let instance = second.admin().to_string();
        series.len() == 1 && series[0]["metric"]["instance"] == instance
    });
}

#[test]
fn prometheus_scrapes_with_tls_and_a_token() {
    let authority = Authority::new("authority");
    let (tokens, token) = (authority.file("tokens"), authority.file("token"));
    let secret = "0123456789abcdef0123456789abcdef";
    let mut file = fs::File::create(&tokens).expect("makes a file");
    writeln!(file, "prometheus:{secret}").expect("writes");
    fs::write(&token, secret).expect("writes");
    let arguments = ["--admin-listen", "0.0.0.0:0", "--token-file"];
    let peer = tls_peer(&authority)
        .arguments(&arguments)
        .arguments(&[&tokens.display().to_string()])
        .start();
    let (ca, token, port) = (authority.path(), token.display(), peer.admin().port());
    // As the comment in the example.
    let configuration = format!(
        "scrape_configs:
  - job_name: alldata-peer
    scheme: https
    tls_config: {{ ca_file: {ca} }}
    authorization: {{ credentials_file: {token} }}
    static_configs: [{{ targets: ['localhost:{port}'] }}]
"
    );
    let Some(prometheus) = Prometheus::start(&configuration) else {
        return;
    };
    wait_until("it is up", || prometheus.has("up", "1"));
    wait_until("it has metrics", || {
        prometheus.has("alldata_peer_ready", "1")
    });
}
