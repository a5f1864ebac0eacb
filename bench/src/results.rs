//! All results: the values of all rounds for each server, load and figure.

use std::fmt::Write as _;

use crate::server::Server;
use crate::spread::Spread;

/// The load of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// The size of an event in bytes.
    pub(crate) event_bytes: usize,
    /// The number of open connections, each of which waits for one response at a time.
    pub(crate) connections: usize,
}

/// The sizes of events in comparisons, in bytes: a small one, and one of a page.
pub(crate) const EVENT_BYTES: [usize; 2] = [100, 4096];

/// The number of connections in comparisons.
pub(crate) const CONNECTIONS: usize = 64;

impl Load {
    /// The load of comparisons.
    pub(crate) fn of_events(event_bytes: usize) -> Self {
        Self {
            event_bytes,
            connections: CONNECTIONS,
        }
    }

    /// The smallest events, on this number of connections.
    pub(crate) fn on_connections(connections: usize) -> Self {
        Self {
            event_bytes: EVENT_BYTES[0],
            connections,
        }
    }
}

/// A measured figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// The processor time of the server's process for each put.
    Cpu,
    Rate,
    P50,
    P99,
    /// The peak resident memory.
    PeakMemory,
    Memory,
    /// The latency at a rate of puts that both servers can serve.
    P99AtRate,
    /// [`Self::Cpu`] at that rate.
    CpuAtRate,
    /// That rate, as it was achieved.
    RateReached,
    /// [`Self::Cpu`], by the number of connections.
    CpuInSweep,
    /// The time from the start of the process to its first 201.
    Start,
    /// The same without compiled components from before.
    ColdStart,
    /// Memory for each further put that waits.
    MemoryOfPut,
    /// [`Self::Cpu`] of a put under a key that has an event of another value.
    CpuOfConflict,
    RateOfConflicts,
    /// [`Self::Cpu`] of a put of the stored event itself.
    CpuOfSameBytes,
    RateOfSameBytes,
    /// [`Self::Cpu`] of a put of the same value in another spelling.
    CpuOfSameValue,
    RateOfSameValues,
    /// [`Self::Cpu`] of a put of the largest event, in milliseconds.
    CpuOfLargest,
    /// The memory that puts of it take, relative to its size.
    MemoryOfLargest,
    /// Events per second of a command that reads or writes a whole store.
    ImportRate,
    ExportRate,
    VerifyRate,
}

impl Figure {
    /// The name and the unit.
    pub(crate) fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Cpu => ("CPU per put", "µs"),
            Self::Rate => ("puts per second", "1/s"),
            Self::P50 => ("p50", "ms"),
            Self::P99 => ("p99", "ms"),
            Self::PeakMemory => ("peak memory", "MB"),
            Self::Memory => ("memory", "MB"),
            Self::P99AtRate => ("p99 at a fixed rate", "ms"),
            Self::CpuAtRate => ("CPU per put at a fixed rate", "µs"),
            Self::RateReached => ("fixed rate", "1/s"),
            Self::CpuInSweep => ("CPU per put in the sweep", "µs"),
            Self::Start => ("start to first 201", "ms"),
            Self::ColdStart => ("cold start to first 201", "ms"),
            Self::MemoryOfPut => ("memory per waiting put", "KiB"),
            Self::CpuOfConflict => ("CPU, small event of another value", "µs"),
            Self::RateOfConflicts => ("its rate", "1/s"),
            Self::CpuOfSameBytes => ("CPU, the same bytes", "µs"),
            Self::RateOfSameBytes => ("their rate", "1/s"),
            Self::CpuOfSameValue => ("CPU, the same value", "µs"),
            Self::RateOfSameValues => ("rate of those", "1/s"),
            Self::CpuOfLargest => ("CPU per put of the largest event", "ms"),
            Self::MemoryOfLargest => ("memory relative to its size", "times"),
            Self::ImportRate => ("events per second, import", "1/s"),
            Self::ExportRate => ("export", "1/s"),
            Self::VerifyRate => ("verify", "1/s"),
        }
    }
}

/// The values of one figure, in the order of the rounds.
#[derive(Debug)]
struct Series {
    server: Server,
    load: Load,
    figure: Figure,
    values: Vec<f64>,
}

/// All series.
#[derive(Debug, Default)]
pub(crate) struct Results(Vec<Series>);

impl Results {
    /// Adds the value of one more round.
    pub(crate) fn add(&mut self, server: Server, load: Load, figure: Figure, value: f64) {
        match self.0.iter_mut().find(|it| it.is(server, load, figure)) {
            Some(series) => series.values.push(value),
            None => self.0.push(Series {
                server,
                load,
                figure,
                values: vec![value],
            }),
        }
    }

    /// The values of all rounds; empty if the figure was not measured.
    pub(crate) fn values(&self, server: Server, load: Load, figure: Figure) -> &[f64] {
        let series = self.0.iter().find(|it| it.is(server, load, figure));
        series.map_or(&[], |series| &series.values)
    }

    pub(crate) fn spread(&self, server: Server, load: Load, figure: Figure) -> Option<Spread> {
        Spread::of(self.values(server, load, figure))
    }

    /// All series as CSV.
    pub(crate) fn csv(&self) -> String {
        let mut csv =
            "server,event_bytes,connections,figure,unit,rounds,median,least,greatest\n".to_owned();
        for series in &self.0 {
            let Some(spread) = Spread::of(&series.values) else {
                continue;
            };
            let (figure, unit) = series.figure.name();
            let _ = writeln!(
                csv,
                "\"{}\",{},{},\"{figure}\",{unit},{},{:.3},{:.3},{:.3}",
                series.server.name(),
                series.load.event_bytes,
                series.load.connections,
                series.values.len(),
                spread.median,
                spread.least,
                spread.greatest,
            );
        }
        csv
    }
}

impl Series {
    fn is(&self, server: Server, load: Load, figure: Figure) -> bool {
        (self.server, self.load, self.figure) == (server, load, figure)
    }
}

#[cfg(test)]
mod tests {
    use super::{Figure, Load, Results};
    use crate::server::Server;

    #[test]
    fn values_of_the_same_figure_are_one_row() {
        let mut results = Results::default();
        let (small, large) = (Load::of_events(100), Load::of_events(4096));
        results.add(Server::Node, small, Figure::Cpu, 2.0);
        results.add(Server::Node, large, Figure::Cpu, 5.0);
        results.add(Server::Node, small, Figure::Cpu, 1.0);
        assert_eq!(results.values(Server::Node, small, Figure::Cpu), [2.0, 1.0]);
        assert_eq!(results.spread(Server::Wasmtime, small, Figure::Cpu), None);
        let rows: Vec<String> = results.csv().lines().skip(1).map(String::from).collect();
        assert_eq!(
            rows,
            [
                "\"the original on Node\",100,64,\"CPU per put\",µs,2,1.500,1.000,2.000",
                "\"the original on Node\",4096,64,\"CPU per put\",µs,1,5.000,5.000,5.000",
            ]
        );
    }
}
