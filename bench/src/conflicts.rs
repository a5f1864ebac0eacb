//! What a put costs whose key is taken, with small and large events held.
//!
//! On one connection, one put after the other: what is measured is the server's processor time, so that
//! whoever sends them does not count.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::results::{Figure, Load, Results};
use crate::server::{Running, Server};
use crate::tools::Tools;

/// The sizes of held events in bytes: the largest one leaves room in a body for what is beside it.
pub(crate) const HELD_BYTES: [usize; 3] = [100, 64 * 1024, 16 * 1024 * 1024 - 1024];

/// How many bytes are sent in one measurement, about, where the event that is sent is large.
const SENT_BYTES: usize = 256 * 1024 * 1024;

/// The most puts of one measurement.
const MAX_PUTS: usize = 5000;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// How often the cost of conflicts is measured.
#[derive(Debug, Args)]
pub(crate) struct Conflicts {
    /// How often conflicts are measured; 0 leaves this out
    #[arg(long, default_value_t = 3)]
    conflict_rounds: u32,
}

impl Conflicts {
    pub(crate) fn measure(&self, tools: &Tools, results: &mut Results) -> Result<()> {
        for round in 1..=self.conflict_rounds {
            eprintln!("round {round} of {}: conflicts", self.conflict_rounds);
            for held_bytes in HELD_BYTES {
                measure_one(tools, held_bytes, results)?;
            }
        }
        Ok(())
    }
}

/// What the results of a held event stand under.
pub(crate) fn load(held_bytes: usize) -> Load {
    Load {
        event_bytes: held_bytes,
        connections: 1,
    }
}

fn measure_one(tools: &Tools, held_bytes: usize, results: &mut Results) -> Result<()> {
    let elements = "1,".repeat(held_bytes / 2 - 1);
    let held = format!("[{elements}1]");
    // The last element in another spelling.
    let same_value = format!("[{elements}1.0]");
    let running = Server::PeerSqlite.start(tools)?;
    let mut client = Client::connect(&running)?;
    client.put("held", &held, 201)?;
    let large = SENT_BYTES / held_bytes;
    for (figures, event, status, puts) in [
        (
            [Figure::CpuOfConflict, Figure::RateOfConflicts],
            "2",
            409,
            MAX_PUTS,
        ),
        (
            [Figure::CpuOfSameBytes, Figure::RateOfSameBytes],
            &*held,
            201,
            large.min(MAX_PUTS),
        ),
        (
            [Figure::CpuOfSameValue, Figure::RateOfSameValues],
            &*same_value,
            201,
            large.min(MAX_PUTS),
        ),
    ] {
        // The first one of a kind may have to read what is held.
        client.put("held", event, status)?;
        let cpu = running.cpu_seconds()?;
        let start = Instant::now();
        for _ in 0..puts {
            client.put("held", event, status)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let cpu = running.cpu_seconds()? - cpu;
        let [cpu_figure, rate_figure] = figures;
        let server = Server::PeerSqlite;
        results.add(
            server,
            load(held_bytes),
            cpu_figure,
            cpu * 1e6 / puts as f64,
        );
        results.add(server, load(held_bytes), rate_figure, puts as f64 / seconds);
    }
    Ok(())
}

/// A connection to a server.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(running: &Running) -> Result<Self> {
        let stream = TcpStream::connect(running.address())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Puts an event, which has to be answered with this status.
    fn put(&mut self, key: &str, event: &str, expected: u16) -> Result<()> {
        let body = format!(r#"{{"key":"{key}","event":{event}}}"#);
        let length = body.len();
        let head =
            format!("POST /_put HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n");
        let stream = self.0.get_mut();
        stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
        let status_line = self.line()?;
        ensure!(
            status_line.starts_with(&format!("HTTP/1.1 {expected}")),
            "it answered {status_line:?}"
        );
        let mut length = 0;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().context("no length")?;
            }
        }
        let mut body = vec![0; length];
        Ok(self.0.read_exact(&mut body)?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}
