//! The runs as a drawing: a panel a measure, a group of bars a server, a bar a
//! number of connections.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::view::{Bench, Run};
use crate::error::CtlError;

/// Wide enough for the longest name below its bars.
const WIDTH: u32 = 1600;
const HEIGHT: u32 = 900;

/// Told apart in print and by those who see fewer colours (Okabe and Ito's).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

struct Panel {
    title: &'static str,
    value: fn(&Run) -> Option<f64>,
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "messages a second",
        value: |run| Some(run.messages_per_second),
    },
    Panel {
        title: "99 % answered within, µs",
        value: |run| Some(run.p99_us),
    },
    Panel {
        title: "processor time a message, µs",
        value: Run::cpu_us,
    },
    Panel {
        title: "memory a connection, KiB",
        value: |run| run.bytes_per_connection().map(|bytes| bytes / 1024.0),
    },
];

/// Draws the runs to a file.
///
/// # Errors
/// [`CtlError::File`]: the file can't be written.
pub(crate) fn draw(bench: &Bench, path: &Path) -> Result<(), CtlError> {
    let mut text = String::new();
    let drawn = {
        let root = SVGBackend::with_string(&mut text, (WIDTH, HEIGHT)).into_drawing_area();
        picture(bench, &root).and_then(|()| root.present())
    };
    let failed = |source| CtlError::File {
        what: "writing",
        path: path.display().to_string(),
        source,
    };
    drawn.map_err(|e| failed(std::io::Error::other(e.to_string())))?;
    std::fs::write(path, text).map_err(failed)
}

fn picture(bench: &Bench, root: &Area<'_>) -> Drawn {
    root.fill(&WHITE)?;
    let title = format!("Echo, messages of {} bytes", bench.size());
    let root = root.titled(&title, ("sans-serif", 24))?;
    for (panel, area) in PANELS.iter().zip(root.split_evenly((2, 2))) {
        draw_panel(bench, panel, &area)?;
    }
    Ok(())
}

fn draw_panel(bench: &Bench, panel: &Panel, area: &Area<'_>) -> Drawn {
    let names = distinct(bench.runs.iter().map(|run| run.against));
    let loads = distinct(bench.runs.iter().map(|run| run.connections));
    let known = bench.runs.iter().filter_map(panel.value);
    let top = known.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    // Room for the legend above the tallest bar.
    let top = top * 1.35;
    let groups = i32::try_from(names.len()).unwrap_or(i32::MAX).max(1);
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(80)
        .build_cartesian_2d((0..groups - 1).into_segmented(), 0.0..top)?;
    let label = |at: &SegmentValue<i32>| match at {
        SegmentValue::CenterOf(at) => usize::try_from(*at)
            .ok()
            .and_then(|at| names.get(at))
            .map_or_else(String::new, |name| (*name).to_owned()),
        _ => String::new(),
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(names.len() + 1)
        .x_label_formatter(&label)
        .x_label_style(("sans-serif", 12))
        .y_label_formatter(&|value| short(*value))
        .draw()?;
    // Bars are drawn in pixels beside the middle of their group: the axis of a
    // segment knows only its ends and its middle.
    let width = chart.plotting_area().dim_in_pixel().0 as f64 / f64::from(groups) * 0.8
        / loads.len().max(1) as f64;
    for (at, load) in loads.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let left = (at as f64 - loads.len() as f64 / 2.0) * width;
        let bars = bench.runs.iter().filter(|run| run.connections == *load);
        let bars = bars.filter_map(|run| {
            let group = names.iter().position(|name| *name == run.against)?;
            let group = i32::try_from(group).ok()?;
            let value = (panel.value)(run)?;
            // Its height in pixels, from where the axis is drawn.
            let middle = SegmentValue::CenterOf(group);
            let foot = chart.backend_coord(&(middle.clone(), 0.0));
            let head = chart.backend_coord(&(middle.clone(), value));
            let bar = Rectangle::new(
                [
                    (left as i32, head.1 - foot.1),
                    ((left + width * 0.92) as i32, 0),
                ],
                colour.filled(),
            );
            Some(EmptyElement::at((middle, 0.0)) + bar)
        });
        chart
            .draw_series(bars.collect::<Vec<_>>())?
            .label(match load {
                1 => "1 connection".to_owned(),
                more => format!("{more} connections"),
            })
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
}

fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found
}

/// A number for an axis: no more digits than tell.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        v if v >= 10.0 || v == 0.0 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}
