//! A chart of a server over time: one panel for each measure, with the kills across all.
//!
//! Each panel begins at zero, so that small changes look small. Its background is white, so that it looks the
//! same on a page of any colour.

use anyhow::{Context as _, Result};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::soak::Soaked;
use crate::soak::flatness::Measure;
use crate::soak::samples::{Sample, lives, rates};

// The dimensions of the chart, in pixels.
const WIDTH: u32 = 860;
const TITLE_HEIGHT: u32 = 52;
const PANEL_HEIGHT: u32 = 150;
const CAPTION_HEIGHT: u32 = 26;
const TIME_HEIGHT: u32 = 46;
const MARGIN: u32 = 16;
const SCALE_WIDTH: u32 = 58;
const TITLE_SIZE: u32 = 20;
const CAPTION_SIZE: u32 = 16;
const TEXT_SIZE: u32 = 14;

/// The height of a panel, relative to its largest value.
const HEADROOM: f64 = 1.15;

/// The approximate number of grid lines across a panel, and down it.
const SCALE_LINES: usize = 6;
const TIME_LINES: usize = 10;

const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
const GRID: RGBColor = RGBColor(0xe6, 0xe8, 0xea);
const LINE: RGBColor = RGBColor(0x2b, 0x6c, 0xa3);
const KILL: RGBColor = RGBColor(0xd0, 0x5a, 0x1e);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One measure over time; a line for each life.
struct Panel {
    caption: &'static str,
    lines: Vec<Vec<(f64, f64)>>,
}

/// The chart as SVG.
pub(crate) fn svg(soaked: &Soaked) -> Result<String> {
    let panels = panels(&soaked.samples);
    let height = TITLE_HEIGHT + PANEL_HEIGHT * panels.len() as u32 + TIME_HEIGHT;
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
    draw(&area, soaked, &panels).context("cannot draw the chart")?;
    // Ends the text.
    drop(area);
    Ok(svg)
}

fn panels(samples: &[Sample]) -> Vec<Panel> {
    let measured = Measure::ALL.map(|measure| {
        let value = |sample: &Sample| (sample.seconds, measure.of(sample));
        Panel {
            caption: measure.name(),
            lines: lives(samples)
                .map(|life| life.iter().map(value).collect())
                .collect(),
        }
    });
    let rates = Panel {
        caption: "puts answered with 201, per second",
        lines: lives(samples).map(rates).collect(),
    };
    measured.into_iter().chain([rates]).collect()
}

fn draw(area: &Area<'_>, soaked: &Soaked, panels: &[Panel]) -> Result<()> {
    area.fill(&WHITE)?;
    draw_title(area, soaked)?;
    let mut rest = area.margin(TITLE_HEIGHT, 0, 0, 0);
    for (index, panel) in panels.iter().enumerate() {
        let is_last = index + 1 == panels.len();
        let height = PANEL_HEIGHT + if is_last { TIME_HEIGHT } else { 0 };
        let (top, below) = rest.split_vertically(height);
        draw_panel(&top, soaked, panel, is_last)?;
        rest = below;
    }
    area.present()?;
    Ok(())
}

fn draw_title(area: &Area<'_>, soaked: &Soaked) -> Result<()> {
    let title = format!(
        "alldata-peer, sqlite: {:.0} s at half of its highest rate",
        soaked.seconds
    );
    let legend = match soaked.kills.len() {
        0 => "never killed".to_owned(),
        kills => format!("| SIGKILL and restart: {kills}"),
    };
    let middle = (TITLE_HEIGHT / 2) as i32;
    let left = MARGIN as i32;
    let right = (WIDTH - MARGIN) as i32;
    area.draw_text(&title, &style(TITLE_SIZE, &INK, HPos::Left), (left, middle))?;
    area.draw_text(
        &legend,
        &style(CAPTION_SIZE, &KILL, HPos::Right),
        (right, middle),
    )?;
    Ok(())
}

fn draw_panel(area: &Area<'_>, soaked: &Soaked, panel: &Panel, has_time: bool) -> Result<()> {
    let points = || panel.lines.iter().flatten();
    let greatest = points().map(|(_, value)| *value).fold(1.0, f64::max) * HEADROOM;
    let caption_middle = (CAPTION_HEIGHT / 2) as i32;
    area.draw_text(
        panel.caption,
        &style(CAPTION_SIZE, &INK, HPos::Left),
        (MARGIN as i32, caption_middle),
    )?;
    let mut chart = ChartBuilder::on(area)
        .margin_top(CAPTION_HEIGHT)
        .margin_right(MARGIN)
        .margin_bottom(if has_time { 0 } else { MARGIN })
        .set_label_area_size(LabelAreaPosition::Left, SCALE_WIDTH)
        .set_label_area_size(
            LabelAreaPosition::Bottom,
            if has_time { TIME_HEIGHT } else { 0 },
        )
        .build_cartesian_2d(0.0..soaked.seconds, 0.0..greatest)?;
    let mut mesh = chart.configure_mesh();
    mesh.light_line_style(WHITE.mix(0.0))
        .bold_line_style(GRID)
        .axis_style(INK)
        .label_style(("sans-serif", TEXT_SIZE).into_font().color(&INK))
        .axis_desc_style(("sans-serif", CAPTION_SIZE).into_font().color(&INK))
        .y_labels(SCALE_LINES)
        .x_labels(TIME_LINES)
        .y_label_formatter(&|value| format!("{value:.0}"))
        .x_label_formatter(&|value| format!("{value:.0}"));
    if has_time {
        mesh.x_desc("time under load, s");
    }
    mesh.draw()?;
    for kill in &soaked.kills {
        let line = [(kill.seconds, 0.0), (kill.seconds, greatest)];
        chart.draw_series([PathElement::new(line, KILL.mix(0.6))])?;
    }
    let lines = panel.lines.iter();
    chart.draw_series(lines.map(|line| PathElement::new(line.clone(), LINE.stroke_width(2))))?;
    Ok(())
}

/// Text that is vertically centred at its position, and begins or ends there.
fn style(size: u32, color: &RGBColor, side: HPos) -> TextStyle<'_> {
    TextStyle::from(("sans-serif", size).into_font())
        .color(color)
        .pos(Pos::new(side, VPos::Center))
}

#[cfg(test)]
mod tests {
    use super::svg;
    use crate::soak::report::tests::soaked;

    #[test]
    fn there_is_a_panel_for_each_measure_and_a_line_for_each_kill() {
        let svg = svg(&soaked(0)).expect("is drawn");
        for text in [
            "resident memory, MB",
            "open file descriptors",
            "threads",
            "puts answered with 201, per second",
            "time under load, s",
            "| SIGKILL and restart: 1",
        ] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
        assert_eq!(svg.matches("#D05A1E").count(), 4 + 1, "{svg}");
        assert!(svg.trim_end().ends_with("</svg>"));
    }
}
