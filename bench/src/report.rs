//! The results as tables in Markdown.

use crate::goals::{self, Limit};
use crate::nats::Layout;
use crate::results::{CONNECTIONS, EVENT_BYTES, Figure, Load, Results};
use crate::server::Server;
use crate::spread::Spread;
use crate::{conflicts, largest, latency, nats, startup, sweep, transfer};

/// The text of a cell without a measurement.
const NOTHING: &str = "–";

/// A figure in a column, with its number of decimals.
type Column = (Figure, usize);

/// The whole report. Figures are medians, with the minimum and the maximum in parentheses.
pub(crate) fn markdown(results: &Results) -> String {
    let mut sections: Vec<String> = EVENT_BYTES.map(|bytes| compared(results, bytes)).into();
    sections.extend([
        goals(results),
        at_rate(results),
        in_sweep(results),
        starts(results),
        conflicts(results),
        largest(results),
        transfers(results),
        through_nats(results),
    ]);
    sections.join("\n")
}

fn compared(results: &Results, event_bytes: usize) -> String {
    let columns = [
        (Figure::Cpu, 2),
        (Figure::Rate, 0),
        (Figure::P50, 2),
        (Figure::P99, 2),
        (Figure::PeakMemory, 1),
        (Figure::Memory, 1),
    ];
    format!(
        "## Events of {event_bytes} bytes, {CONNECTIONS} connections\n\n{}",
        by_server(
            results,
            &Server::COMPARED,
            Load::of_events(event_bytes),
            &columns
        )
    )
}

fn goals(results: &Results) -> String {
    let rows = goals::all(results).into_iter().map(|goal| {
        let limit = match goal.limit {
            Limit::AtMost(most) => format!("at most {most}"),
            Limit::AtLeast(least) => format!("at least {least}"),
        };
        let verdict = goal.verdict().to_owned();
        // Rates are large, and all other figures are small.
        let digits = match goal.measured {
            Some(measured) if measured.median >= 1000.0 => 0,
            _ => 2,
        };
        vec![goal.what, cell(goal.measured, digits), limit, verdict]
    });
    let header = ["figure", "measured", "goal", ""].map(String::from);
    format!("## Goals\n\n{}", table(&header, rows))
}

fn at_rate(results: &Results) -> String {
    let load = Load::of_events(EVENT_BYTES[0]);
    let columns = [
        (Figure::RateReached, 0),
        (Figure::CpuAtRate, 2),
        (Figure::P99AtRate, 2),
    ];
    format!(
        "## At half of the highest rate\n\n{}",
        by_server(results, &latency::SERVERS, load, &columns)
    )
}

fn in_sweep(results: &Results) -> String {
    let rows = sweep::SERVERS.map(|server| {
        let cells = sweep::CONNECTIONS.map(|connections| {
            let load = Load::on_connections(connections);
            cell(results.spread(server, load, Figure::CpuInSweep), 2)
        });
        let flatness = goals::flatness(results, server).map(|spread| spread.median);
        let flatness = flatness.map_or(NOTHING.to_owned(), |ratio| format!("{ratio:.2}"));
        let name = [server.name().to_owned()];
        name.into_iter().chain(cells).chain([flatness]).collect()
    });
    let mut header = vec!["connections".to_owned()];
    header.extend(sweep::CONNECTIONS.map(|connections| connections.to_string()));
    header.push(format!("dearest / cheapest, from {}", goals::FEWEST_BUSY));
    format!(
        "## CPU per put in µs, from 1 connection to many\n\n{}",
        table(&header, rows)
    )
}

fn starts(results: &Results) -> String {
    let columns = [(Figure::Start, 1), (Figure::ColdStart, 1)];
    format!(
        "## Start\n\n{}",
        by_server(results, &startup::SERVERS, startup::load(), &columns)
    )
}

fn conflicts(results: &Results) -> String {
    let columns = [
        (Figure::CpuOfConflict, 1),
        (Figure::RateOfConflicts, 0),
        (Figure::CpuOfSameBytes, 1),
        (Figure::RateOfSameBytes, 0),
        (Figure::CpuOfSameValue, 1),
        (Figure::RateOfSameValues, 0),
    ];
    let mut header = vec!["bytes stored".to_owned()];
    header.extend(columns.iter().map(|(figure, _)| {
        let (name, unit) = figure.name();
        format!("{name}, {unit}")
    }));
    let rows = conflicts::STORED_BYTES.map(|bytes| {
        let spread = |figure| results.spread(Server::PeerSqlite, conflicts::load(bytes), figure);
        let cells = columns.map(|(figure, digits)| cell(spread(figure), digits));
        [bytes.to_string()].into_iter().chain(cells).collect()
    });
    format!(
        "## Puts under a key that has an event, 1 connection\n\n{}",
        table(&header, rows)
    )
}

fn largest(results: &Results) -> String {
    let load = largest::load();
    let columns = [(Figure::CpuOfLargest, 1), (Figure::MemoryOfLargest, 2)];
    format!(
        "## Events of {} bytes, 1 connection\n\n{}",
        load.event_bytes,
        by_server(results, &largest::SERVERS, load, &columns)
    )
}

fn transfers(results: &Results) -> String {
    let (load, columns) = (
        transfer::load(),
        transfer::FIGURES.map(|figure| (figure, 0)),
    );
    format!(
        "## Commands for a whole store, events of {} bytes\n\n{}",
        load.event_bytes,
        by_server(results, &[Server::PeerSqlite], load, &columns)
    )
}

fn through_nats(results: &Results) -> String {
    let load = nats::load();
    let servers = nats::LAYOUTS.map(Layout::servers).concat();
    let columns = [
        (Figure::Rate, 0),
        (Figure::Cpu, 2),
        (Figure::P50, 2),
        (Figure::P99, 2),
    ];
    format!(
        "## Three servers of NATS, {} puts in flight\n\n{}",
        load.connections,
        by_server(results, &servers, load, &columns)
    )
}

/// A table with a row for each server.
fn by_server(results: &Results, servers: &[Server], load: Load, columns: &[Column]) -> String {
    let mut header = vec!["server".to_owned()];
    header.extend(columns.iter().map(|(figure, _)| {
        let (name, unit) = figure.name();
        format!("{name}, {unit}")
    }));
    let rows = servers.iter().map(|server| {
        let mut row = vec![server.name().to_owned()];
        row.extend(
            columns
                .iter()
                .map(|(figure, digits)| cell(results.spread(*server, load, *figure), *digits)),
        );
        row
    });
    table(&header, rows)
}

fn cell(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or(NOTHING.to_owned(), |spread| format!("{spread:.digits$}"))
}

/// A table in Markdown, with the first column aligned left and all others right.
pub(crate) fn table(header: &[String], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rule = format!("| --- |{}\n", " ---: |".repeat(header.len() - 1));
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rows: String = rows.into_iter().map(|row| line(&row)).collect();
    format!("{}{rule}{rows}", line(header))
}

#[cfg(test)]
mod tests {
    use super::markdown;
    use crate::results::{Figure, Load, Results};
    use crate::server::Server;

    #[test]
    fn each_figure_is_in_its_row() {
        let mut results = Results::default();
        for cpu in [7.0, 6.5, 9.0] {
            results.add(Server::TwinDiscard, Load::of_events(100), Figure::Cpu, cpu);
        }
        let text = markdown(&results);
        let row = "| native twin, discard | 7.00 (6.50–9.00) | – | – | – | – | – |\n";
        assert!(text.contains(row), "{text}");
    }
}
