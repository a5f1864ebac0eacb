//! A chart of the processor time of a put on each server.
//!
//! Its background is white, so that it looks the same on a page of any colour.

use anyhow::{Context as _, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::results::{CONNECTIONS, EVENT_BYTES, Figure, Load, Results};
use crate::server::Server;
use crate::spread::Spread;

// The dimensions of the chart, in pixels.
const WIDTH: i32 = 860;
const MARGIN: i32 = 16;
const TITLE_HEIGHT: i32 = 44;
const CAPTION_HEIGHT: i32 = 40;
const ROW_HEIGHT: i32 = 26;
const BAR_HEIGHT: i32 = 18;
/// The left end of the bars; the names are to the left of it.
const BARS_LEFT: i32 = 280;
/// The right end of the longest bar; the numbers are to the right of it.
const BARS_RIGHT: i32 = 740;
const TITLE_SIZE: i32 = 20;
const TEXT_SIZE: i32 = 17;

const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
/// The colours of our own server, of the native twin, and of all others.
const OURS: RGBColor = RGBColor(0xd0, 0x5a, 0x1e);
const TWIN: RGBColor = RGBColor(0x4f, 0x7f, 0xa8);
const OTHERS: RGBColor = RGBColor(0xad, 0xb3, 0xba);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// The bars for one size of events.
struct Group {
    event_bytes: usize,
    bars: Vec<(Server, Spread)>,
}

/// The chart as SVG.
pub(crate) fn svg(results: &Results) -> Result<String> {
    let groups = EVENT_BYTES.map(|event_bytes| Group::of(results, event_bytes));
    let heights = groups.iter().map(Group::height);
    let height = TITLE_HEIGHT + heights.sum::<i32>() + MARGIN;
    let mut svg = String::new();
    let size = (WIDTH.unsigned_abs(), height.unsigned_abs());
    let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    draw(&area, &groups).context("cannot draw the chart")?;
    // Ends the text.
    drop(area);
    Ok(svg)
}

impl Group {
    fn of(results: &Results, event_bytes: usize) -> Self {
        let load = Load::of_events(event_bytes);
        let bar = |server| Some((server, results.spread(server, load, Figure::Cpu)?));
        let bars = Server::COMPARED.into_iter().filter_map(bar).collect();
        Self { event_bytes, bars }
    }

    fn height(&self) -> i32 {
        CAPTION_HEIGHT + ROW_HEIGHT * self.bars.len() as i32
    }
}

fn draw(area: &Area<'_>, groups: &[Group]) -> Result<()> {
    let longest = groups.iter().flat_map(|group| &group.bars);
    let longest = longest.map(|(_, spread)| spread.greatest);
    let scale = f64::from(BARS_RIGHT - BARS_LEFT) / longest.fold(f64::MIN_POSITIVE, f64::max);
    let title = format!("Processor time of the server per put, in µs; {CONNECTIONS} connections");
    area.fill(&WHITE)?;
    text(
        area,
        &title,
        TITLE_SIZE,
        HPos::Left,
        (MARGIN, TITLE_HEIGHT / 2),
    )?;
    let mut top = TITLE_HEIGHT;
    for group in groups {
        let caption = format!("Events of {} bytes", group.event_bytes);
        let middle = top + CAPTION_HEIGHT / 2;
        text(area, &caption, TITLE_SIZE, HPos::Left, (MARGIN, middle))?;
        for (row, (server, spread)) in (0..).zip(&group.bars) {
            let middle = top + CAPTION_HEIGHT + ROW_HEIGHT * row + ROW_HEIGHT / 2;
            draw_bar(area, *server, spread, scale, middle)?;
        }
        top += group.height();
    }
    area.present()?;
    Ok(())
}

/// Draws a bar up to the median, with a line from the minimum to the maximum.
fn draw_bar(
    area: &Area<'_>,
    server: Server,
    spread: &Spread,
    scale: f64,
    middle: i32,
) -> Result<()> {
    let x = |value: f64| BARS_LEFT + (value * scale).round() as i32;
    let color = match server {
        Server::PeerDiscard
        | Server::PeerTls
        | Server::NodeDropIn
        | Server::PeerFresh
        | Server::PeerComposed
        | Server::PeerSqlite => OURS,
        Server::TwinDiscard | Server::TwinSqlite => TWIN,
        _ => OTHERS,
    };
    let corners = [
        (BARS_LEFT, middle - BAR_HEIGHT / 2),
        (x(spread.median), middle + BAR_HEIGHT / 2),
    ];
    area.draw(&Rectangle::new(corners, color.filled()))?;
    let range = [(x(spread.least), middle), (x(spread.greatest), middle)];
    area.draw(&PathElement::new(range, INK))?;
    let beside = |x: i32| (x, middle);
    text(
        area,
        server.name(),
        TEXT_SIZE,
        HPos::Right,
        beside(BARS_LEFT - 8),
    )?;
    let number = format!("{:.1}", spread.median);
    text(
        area,
        &number,
        TEXT_SIZE,
        HPos::Left,
        beside(x(spread.greatest) + 8),
    )
}

/// Writes text that is vertically centred at `at`, and begins or ends there.
fn text(area: &Area<'_>, text: &str, size: i32, side: HPos, at: (i32, i32)) -> Result<()> {
    let style = TextStyle::from(("sans-serif", size).into_font())
        .color(&INK)
        .pos(Pos::new(side, VPos::Center));
    area.draw_text(text, &style, at)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::svg;
    use crate::results::{Figure, Load, Results};
    use crate::server::Server;

    #[test]
    fn each_measurement_has_a_bar() {
        let mut results = Results::default();
        let load = Load::of_events(4096);
        results.add(Server::PeerDiscard, load, Figure::Cpu, 10.0);
        results.add(Server::Node, load, Figure::Cpu, 20.0);
        let svg = svg(&results).expect("is drawn");
        for text in [Server::PeerDiscard.name(), Server::Node.name(), "20.0"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert!(!svg.contains(Server::Wasmtime.name()));
        assert!(svg.trim_end().ends_with("</svg>"));
    }
}
