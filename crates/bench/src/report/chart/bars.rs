//! Groups of bars.

use super::Reading;
use super::frame::{Anchor, Area, COLOURS, Frame, LEFT, RIGHT, text_width};
use super::scale::Scale;

/// A plot of bars: a group for each category, in it a bar for each series.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// What the left axis is, with its unit.
    pub y_label: String,
    /// What the groups are; empty for nothing to say.
    pub x_label: String,
    /// Names of the groups.
    pub groups: Vec<String>,
    /// Name and values of each series, one for each group; `None` leaves a gap.
    pub series: Vec<(String, Vec<Option<Reading>>)>,
    /// A value to compare with: a dashed line across all groups.
    pub reference: Option<f64>,
}

/// A number above a bar, with three digits that matter; a whole one has none behind the point.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v.fract() == 0.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v < 0.01 => format!("{value:.1e}"),
        _ => format!("{value:.2}"),
    }
}

impl Bars {
    pub(super) fn draw(&self, frame: &mut Frame, area: Area) {
        let all = || self.series.iter().flat_map(|(_, values)| values.iter().flatten());
        let highest = all().map(|reading| reading.top()).fold(self.reference.unwrap_or(0.0), f64::max);
        // A tenth is left for the number above the highest bar.
        let scale = Scale::new(highest * 1.1);
        frame.legend(area, self.series.iter().map(|(name, _)| name.as_str()));
        frame.y_axis(area, &scale, &self.y_label);
        frame.x_names(area, &self.groups, LEFT);
        frame.x_label(area, &self.x_label);
        if all().count() == 0 {
            frame.nothing(area);
        }
        let room = (RIGHT - LEFT) / self.groups.len().max(1) as f64;
        let bar = (room * 0.8 / self.series.len().max(1) as f64).min(90.0);
        for group in 0..self.groups.len() {
            let middle = LEFT + (group as f64 + 0.5) * room;
            let start = middle - bar * self.series.len() as f64 / 2.0;
            for (index, (_, values)) in self.series.iter().enumerate() {
                let Some(reading) = values.get(group).copied().flatten() else { continue };
                let (x, y) = (start + index as f64 * bar, area.height(scale.share(reading.value)));
                let (tall, wide, colour) = (area.bottom - y, bar * 0.92, COLOURS[index % COLOURS.len()]);
                frame.put(format_args!(
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\" fill=\"{colour}\"/>"
                ));
                if let Some((low, high)) = reading.spread {
                    let ends = [low, high].map(|end| area.height(scale.share(end)));
                    frame.whisker(x + wide / 2.0, (ends[0], ends[1]), None);
                }
                let number = short(reading.value);
                if text_width(&number, 12.0) <= bar + 2.0 {
                    let above = area.height(scale.share(reading.top())) - 5.0;
                    frame.text((x + wide / 2.0, above), 12.0, Anchor::Middle, &number);
                }
            }
        }
        if let Some(value) = self.reference {
            frame.reference(area.height(scale.share(value)));
        }
    }
}
