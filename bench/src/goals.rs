//! Performance goals, and whether they were reached. A missed goal is reported, and fails nothing.

use crate::results::{CONNECTIONS, EVENT_BYTES, Figure, Load, Results};
use crate::server::Server;
use crate::spread::Spread;
use crate::{conflicts, largest, latency, nats, startup, sweep, transfer, waiting};

/// A goal with its measured value.
pub(crate) struct Goal {
    pub(crate) what: String,
    /// `None` if it was not measured.
    pub(crate) measured: Option<Spread>,
    pub(crate) limit: Limit,
}

/// The bound of a goal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

/// The largest processor time of one server's put, relative to another server.
const CPU: [(Server, Server, f64); 8] = [
    (Server::PeerDiscard, Server::TwinDiscard, CPU_OF_TWIN),
    (Server::PeerSqlite, Server::TwinSqlite, 1.07),
    (Server::PeerDiscard, Server::Node, 0.5),
    (Server::PeerDiscard, Server::WasmtimeReuse, 0.25),
    (Server::PeerDiscard, Server::Wasmtime, 0.08),
    (Server::PeerFresh, Server::Wasmtime, 0.4),
    (Server::PeerComposed, Server::TwinDiscard, 2.0),
    (Server::PeerComposed, Server::WasmtimeReuse, 0.5),
];

/// The largest processor time of a put, relative to the native twin: with all connections busy and with one, and at a
/// rate that both can serve.
const CPU_OF_TWIN: f64 = 1.15;
const CPU_OF_TWIN_AT_RATE: f64 = 1.3;

/// The largest processor time of a put of the largest event, relative to the native twin, and the most memory for it,
/// relative to its size.
const CPU_OF_LARGEST: f64 = 1.3;
const MEMORY_OF_LARGEST: f64 = 2.2;

/// The fewest puts per second of a durable server, relative to its native twin.
const RATE: f64 = 0.97;

/// The largest processor time of a durable put, relative to a key-value store, and the fewest puts per second.
const KEY_VALUE: [(Server, f64, f64); 2] = [(Server::Etcd, 0.07, 8.5), (Server::Redis, 0.5, 1.5)];

/// The fewest puts per second of a peer, relative to NATS without a peer, and to that at the leader.
const RATE_OF_NATS: f64 = 0.8;
const RATE_OF_NATS_AT_LEADER: f64 = 0.9;

/// The largest p99 latency, relative to the native twin, at a rate that both can serve.
const P99: f64 = 2.0;

/// The most memory with all connections busy, in MB.
const MEMORY_MB: f64 = 20.0;

/// The most memory for each further put that waits, in KiB.
const MEMORY_OF_PUT_KIB: f64 = 64.0;

/// The most time to the first 201, in milliseconds.
const START_MILLIS: f64 = 15.0;
const COLD_START_MILLIS: f64 = 80.0;

/// The largest cost of a conflict with the largest stored event, relative to the smallest.
const CONFLICT: f64 = 1.5;

/// The fewest events per second of a command that reads or writes a whole store.
const TRANSFER: [(&str, Figure, f64); 3] = [
    ("import", Figure::ImportRate, 400_000.0),
    ("export", Figure::ExportRate, 1_000_000.0),
    ("verify", Figure::VerifyRate, 1_000_000.0),
];

/// The largest cost of a put, relative to the smallest, over all numbers of connections from [`FEWEST_BUSY`], or of earlier
/// puts.
pub(crate) const FLAT: f64 = 1.1;

/// The fewest connections that keep a server busy: with one, it sleeps between two puts.
pub(crate) const FEWEST_BUSY: usize = 8;

impl Limit {
    fn is_reached(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl Goal {
    /// Whether the median reaches the goal, in a word.
    pub(crate) fn verdict(&self) -> &'static str {
        match self.measured {
            None => "not measured",
            Some(spread) if self.limit.is_reached(spread.median) => "reached",
            Some(_) => "missed",
        }
    }
}

/// All goals.
pub(crate) fn all(results: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    for load in EVENT_BYTES.map(Load::of_events) {
        let ratio = |server, of, figure| {
            let (value, of) = (
                results.values(server, load, figure),
                results.values(of, load, figure),
            );
            Spread::of_ratios(value, of)
        };
        let bytes = load.event_bytes;
        goals.extend(CPU.map(|(server, of, most)| Goal {
            what: format!(
                "CPU per put, {bytes} bytes: {} / {}",
                server.name(),
                of.name()
            ),
            measured: ratio(server, of, Figure::Cpu),
            limit: Limit::AtMost(most),
        }));
        goals.push(Goal {
            what: format!(
                "puts/s, {bytes} bytes: {} / its twin",
                Server::PeerSqlite.name()
            ),
            measured: ratio(Server::PeerSqlite, Server::TwinSqlite, Figure::Rate),
            limit: Limit::AtLeast(RATE),
        });
    }
    goals.extend(key_value(results));
    goals.extend(one_load(results));
    goals.extend(largest_event(results));
    goals.push(Goal {
        what: format!("CPU per put, dearest / cheapest number of connections from {FEWEST_BUSY}"),
        measured: flatness(results, Server::PeerDiscard),
        limit: Limit::AtMost(FLAT),
    });
    goals.push(Goal {
        what: "CPU per conflict: largest / smallest stored event".to_owned(),
        measured: conflict_ratio(results),
        limit: Limit::AtMost(CONFLICT),
    });
    goals.extend(TRANSFER.map(|(command, figure, least)| Goal {
        what: format!("events/s: {command}"),
        measured: results.spread(Server::PeerSqlite, transfer::load(), figure),
        limit: Limit::AtLeast(least),
    }));
    goals.extend(nats::LAYOUTS.into_iter().flat_map(|layout| {
        let [peer, _, alone, at_leader] = layout.servers();
        let goals = [(alone, RATE_OF_NATS), (at_leader, RATE_OF_NATS_AT_LEADER)];
        goals.map(|(alone, least)| {
            let [of_peer, of_alone] =
                [peer, alone].map(|server| results.values(server, nats::load(), Figure::Rate));
            Goal {
                what: format!("puts/s: {} / {}", peer.name(), alone.name()),
                measured: Spread::of_ratios(of_peer, of_alone),
                limit: Limit::AtLeast(least),
            }
        })
    }));
    goals
}

/// The goals compared with key-value stores.
fn key_value(results: &Results) -> impl Iterator<Item = Goal> {
    let load = Load::of_events(EVENT_BYTES[0]);
    KEY_VALUE.into_iter().flat_map(move |(store, most, least)| {
        [
            ("CPU per put", Figure::Cpu, Limit::AtMost(most)),
            ("puts/s", Figure::Rate, Limit::AtLeast(least)),
        ]
        .map(|(what, figure, limit)| {
            let [ours, theirs] =
                [Server::PeerSqlite, store].map(|server| results.values(server, load, figure));
            Goal {
                what: format!(
                    "{what}, {} bytes: {} / {}",
                    load.event_bytes,
                    Server::PeerSqlite.name(),
                    store.name()
                ),
                measured: Spread::of_ratios(ours, theirs),
                limit,
            }
        })
    })
}

/// The goals for puts of the largest event.
fn largest_event(results: &Results) -> [Goal; 2] {
    let load = largest::load();
    let [twin, peer] =
        largest::SERVERS.map(|server| results.values(server, load, Figure::CpuOfLargest));
    [
        Goal {
            what: "CPU per put, the largest event: alldata-peer / native twin".to_owned(),
            measured: Spread::of_ratios(peer, twin),
            limit: Limit::AtMost(CPU_OF_LARGEST),
        },
        Goal {
            what: "memory for the largest event, relative to its size".to_owned(),
            measured: results.spread(Server::PeerDiscard, load, Figure::MemoryOfLargest),
            limit: Limit::AtMost(MEMORY_OF_LARGEST),
        },
    ]
}

/// The goals for a single load.
fn one_load(results: &Results) -> [Goal; 7] {
    let small = Load::of_events(EVENT_BYTES[0]);
    let at_rate = |figure| {
        let [twin, peer] = latency::SERVERS.map(|server| results.values(server, small, figure));
        Spread::of_ratios(peer, twin)
    };
    let [twin, peer] = sweep::SERVERS
        .map(|server| results.values(server, Load::on_connections(1), Figure::CpuInSweep));
    let on_one_connection = Spread::of_ratios(peer, twin);
    let peer = |load, figure| results.spread(Server::PeerDiscard, load, figure);
    let goal = |what: &str, measured, most| Goal {
        what: what.to_owned(),
        measured,
        limit: Limit::AtMost(most),
    };
    [
        goal(
            "p99 at half of the highest rate: alldata-peer / native twin",
            at_rate(Figure::P99AtRate),
            P99,
        ),
        goal(
            "CPU per put at that rate: alldata-peer / native twin",
            at_rate(Figure::CpuAtRate),
            CPU_OF_TWIN_AT_RATE,
        ),
        goal(
            "CPU per put, 1 connection: alldata-peer / native twin",
            on_one_connection,
            CPU_OF_TWIN,
        ),
        goal(
            &format!("peak memory in MB, {CONNECTIONS} connections"),
            peer(small, Figure::PeakMemory),
            MEMORY_MB,
        ),
        goal(
            "memory in KiB for each further put that waits",
            results.spread(Server::SlowSink, waiting::load(), Figure::MemoryOfPut),
            MEMORY_OF_PUT_KIB,
        ),
        goal(
            "start to first 201 in ms, compiled before",
            peer(startup::load(), Figure::Start),
            START_MILLIS,
        ),
        goal(
            "start to first 201 in ms, nothing compiled before",
            peer(startup::load(), Figure::ColdStart),
            COLD_START_MILLIS,
        ),
    ]
}

/// The cost of a conflict with the largest stored event, relative to the smallest.
fn conflict_ratio(results: &Results) -> Option<Spread> {
    let [small, _, large] = conflicts::STORED_BYTES.map(conflicts::load);
    let values = |load| results.values(Server::PeerSqlite, load, Figure::CpuOfConflict);
    Spread::of_ratios(values(large), values(small))
}

/// The cost of a put with the most expensive number of connections, relative to the cheapest, from [`FEWEST_BUSY`] on.
pub(crate) fn flatness(results: &Results, server: Server) -> Option<Spread> {
    let busy = sweep::CONNECTIONS
        .into_iter()
        .filter(|connections| *connections >= FEWEST_BUSY);
    let medians: Option<Vec<f64>> = busy
        .map(|connections| {
            let load = Load::on_connections(connections);
            let spread = results.spread(server, load, Figure::CpuInSweep)?;
            Some(spread.median)
        })
        .collect();
    let medians = Spread::of(&medians?)?;
    Spread::of(&[medians.greatest / medians.least])
}

#[cfg(test)]
mod tests {
    use super::{Limit, all};
    use crate::results::{Figure, Load, Results};
    use crate::server::Server;

    #[test]
    fn limit_itself_reaches_the_goal() {
        assert!(Limit::AtMost(1.3).is_reached(1.3));
        assert!(!Limit::AtMost(1.3).is_reached(1.31));
        assert!(Limit::AtLeast(0.9).is_reached(0.9));
        assert!(!Limit::AtLeast(0.9).is_reached(0.89));
    }

    #[test]
    fn goals_are_judged_by_the_ratios_of_rounds() {
        let mut results = Results::default();
        let load = Load::of_events(100);
        for (twin, peer) in [(7.0, 8.0), (14.0, 15.0), (7.0, 14.0)] {
            results.add(Server::TwinDiscard, load, Figure::Cpu, twin);
            results.add(Server::PeerDiscard, load, Figure::Cpu, peer);
        }
        let goals = all(&results);
        let of = |what: &str| goals.iter().find(|goal| goal.what.starts_with(what));
        let goal = of("CPU per put, 100 bytes: alldata-peer, discard / native twin");
        let goal = goal.expect("is a goal");
        assert_eq!(goal.measured.expect("is measured").median, 8.0 / 7.0);
        assert_eq!(goal.verdict(), "reached");
        let goal = of("CPU per put, 4096 bytes").expect("is a goal");
        assert_eq!(goal.verdict(), "not measured");
    }
}
