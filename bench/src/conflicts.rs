//! The cost of puts under a key that already has an event, for small and large stored events.
//!
//! On one connection, one put after the other: only the server's processor time is measured, so that the client
//! does not count.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::results::{Figure, Load, Results};
use crate::running::Running;
use crate::server::Server;
use crate::tools::Tools;

/// The sizes of stored events in bytes: the largest one leaves room for the rest of a body.
pub(crate) const STORED_BYTES: [usize; 3] = [100, 64 * 1024, 16 * 1024 * 1024 - 1024];

/// The approximate number of bytes sent in one measurement, if the event that is sent is large.
const SENT_BYTES: usize = 256 * 1024 * 1024;

/// The most puts of one measurement.
const MAX_PUTS: usize = 5000;

/// The time-out of a response.
const DEADLINE: Duration = Duration::from_secs(30);

/// The number of rounds.
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
            for stored_bytes in STORED_BYTES {
                measure_one(tools, stored_bytes, results)?;
            }
        }
        Ok(())
    }
}

/// The label of the results for a stored event.
pub(crate) fn load(stored_bytes: usize) -> Load {
    Load {
        event_bytes: stored_bytes,
        connections: 1,
    }
}

fn measure_one(tools: &Tools, stored_bytes: usize, results: &mut Results) -> Result<()> {
    let elements = "1,".repeat(stored_bytes / 2 - 1);
    let stored = format!("[{elements}1]");
    // The last element in another spelling.
    let same_value = format!("[{elements}1.0]");
    let running = Server::PeerSqlite.start(tools)?;
    let mut client = Client::connect(&running)?;
    client.put("stored", &stored, 201)?;
    let large = SENT_BYTES / stored_bytes;
    for (figures, event, status, puts) in [
        (
            [Figure::CpuOfConflict, Figure::RateOfConflicts],
            "2",
            409,
            MAX_PUTS,
        ),
        (
            [Figure::CpuOfSameBytes, Figure::RateOfSameBytes],
            &*stored,
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
        // The first put of each kind may have to read the stored event.
        client.put("stored", event, status)?;
        let cpu = running.cpu_seconds()?;
        let start = Instant::now();
        for _ in 0..puts {
            client.put("stored", event, status)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        let cpu = running.cpu_seconds()? - cpu;
        let [cpu_figure, rate_figure] = figures;
        let server = Server::PeerSqlite;
        results.add(
            server,
            load(stored_bytes),
            cpu_figure,
            cpu * 1e6 / puts as f64,
        );
        results.add(
            server,
            load(stored_bytes),
            rate_figure,
            puts as f64 / seconds,
        );
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

    /// Puts an event, and checks the status of the response.
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
