//! Bars: one picture for each figure, one panel for each load, one bar for each subject.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::{
    report::{Figures, Row},
    zone::Workload,
};

const WIDTH: i32 = 860;
const TITLE: i32 = 44;
const PANEL_TITLE: i32 = 26;
const BAR: i32 = 20;
/// Where bars start: subjects stand before.
const LEFT: i32 = 190;
/// What is left behind the longest bar, for its number.
const RIGHT: i32 = 110;
const OURS: RGBColor = RGBColor(0x1b, 0x6e, 0xc2);
const THEIRS: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);
const BOUND: RGBColor = RGBColor(0xd8, 0xdd, 0xe3);

/// A picture: its file, its title, and the figure it shows.
pub(super) struct Plot {
    pub(super) file: &'static str,
    pub(super) title: &'static str,
    pub(super) value: fn(&Figures) -> Option<f64>,
}

/// What is drawn.
pub(super) const PLOTS: [Plot; 4] = [
    Plot {
        file: "replies.svg",
        title: "Replies per second at saturation",
        value: |figures| Some(figures.replies_per_second),
    },
    Plot {
        file: "efficiency.svg",
        title: "Replies for each second of the server's processor time",
        value: |figures| figures.per_processor_second,
    },
    Plot {
        file: "latency.svg",
        title: "99 % of answers within, at half load, microseconds",
        value: |figures| figures.p99,
    },
    Plot {
        file: "memory.svg",
        title: "Memory of processes and maps, MiB",
        value: |figures| figures.memory.map(super::report::mebibytes),
    },
];

impl Plot {
    /// Draws the rows into `folder`.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub(super) fn draw(&self, folder: &Path, rows: &[Row]) -> Result<()> {
        let panels: Vec<(Workload, Vec<(&Row, f64)>)> = Workload::ALL
            .into_iter()
            .map(|workload| {
                let of = rows.iter().filter(|row| row.workload == workload);
                let bars = of.filter_map(|row| Some((row, (self.value)(&row.figures)?)));
                (workload, bars.collect())
            })
            .filter(|(_, bars): &(_, Vec<_>)| !bars.is_empty())
            .collect();
        let bars: usize = panels.iter().map(|(_, bars)| bars.len()).sum();
        let height =
            TITLE + PANEL_TITLE * i32::try_from(panels.len())? + BAR * i32::try_from(bars)? + BAR;
        let path = folder.join(self.file);
        let size = (u32::try_from(WIDTH)?, u32::try_from(height)?);
        let area = SVGBackend::new(&path, size).into_drawing_area();
        let drawn = (|| {
            area.fill(&WHITE)?;
            area.draw(&Text::new(self.title, (12, 14), font(17)))?;
            let mut top = TITLE;
            for (workload, bars) in &panels {
                area.draw(&Text::new(workload.to_string(), (12, top + 6), font(14)))?;
                top += PANEL_TITLE;
                let longest = bars.iter().map(|(_, value)| *value).fold(0.0, f64::max);
                for (row, value) in bars {
                    let share = if longest > 0.0 { value / longest } else { 0.0 };
                    let length = (share * f64::from(WIDTH - LEFT - RIGHT)).round() as i32;
                    let color = match (row.subject.is_daemon(), row.subject.is_reflector()) {
                        (true, _) => OURS,
                        (_, true) => BOUND,
                        _ => THEIRS,
                    };
                    let corners = [(LEFT, top + 2), (LEFT + length.max(1), top + BAR - 3)];
                    area.draw(&Rectangle::new(corners, color.filled()))?;
                    area.draw(&Text::new(row.subject.to_string(), (24, top + 3), font(12)))?;
                    let number = (LEFT + length + 6, top + 3);
                    area.draw(&Text::new(grouped(*value), number, font(12)))?;
                    top += BAR;
                }
            }
            area.present()
        })();
        drawn.map_err(|error| anyhow!("drawing {}: {error}", path.display()))
    }
}

fn font(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}

/// A number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(grouped(1_234_567.2), "1 234 567");
        assert_eq!(grouped(12.0), "12");
    }
}
