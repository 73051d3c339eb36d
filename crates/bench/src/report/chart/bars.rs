//! Groups of bars.

use super::Theme;
use super::frame::{Anchor, BOTTOM, COLOURS, Frame, LEFT, RIGHT, height};
use super::scale::Scale;

/// A chart of bars: a group for each category, in it a bar for each series.
#[derive(Clone, Debug)]
pub struct Bars {
    /// Its title.
    pub title: String,
    /// What the left axis is, with its unit.
    pub y_label: String,
    /// What the groups are; empty for nothing to say.
    pub x_label: String,
    /// Names of the groups.
    pub groups: Vec<String>,
    /// Name and values of each series, one for each group; `None` leaves a gap.
    pub series: Vec<(String, Vec<Option<f64>>)>,
}

/// A number above a bar, with three digits that matter.
pub(super) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v == 0.0 => "0".into(),
        _ => format!("{value:.2}"),
    }
}

impl Bars {
    /// The chart as SVG.
    pub fn svg(&self, theme: Theme) -> String {
        let all = || self.series.iter().flat_map(|(_, values)| values.iter().flatten());
        // A tenth is left for the number above the highest bar.
        let scale = Scale::new(all().copied().fold(0.0, f64::max) * 1.1);
        let mut frame = Frame::new(&self.title, theme);
        frame.legend(self.series.iter().map(|(name, _)| name.as_str()));
        frame.y_axis(&scale, &self.y_label);
        frame.x_label(&self.x_label);
        if all().count() == 0 {
            frame.nothing();
        }
        let room = (RIGHT - LEFT) / self.groups.len().max(1) as f64;
        let bar = (room * 0.8 / self.series.len().max(1) as f64).min(90.0);
        for (group, name) in self.groups.iter().enumerate() {
            let middle = LEFT + (group as f64 + 0.5) * room;
            frame.text((middle, BOTTOM + 20.0), 13.0, Anchor::Middle, name);
            let start = middle - bar * self.series.len() as f64 / 2.0;
            for (index, (_, values)) in self.series.iter().enumerate() {
                let Some(value) = values.get(group).copied().flatten() else { continue };
                let (x, y) = (start + index as f64 * bar, height(scale.share(value)));
                let (tall, wide, colour) = (BOTTOM - y, bar * 0.92, COLOURS[index % COLOURS.len()]);
                frame.put(format_args!(
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\" fill=\"{colour}\"/>"
                ));
                if bar >= 24.0 {
                    frame.text((x + wide / 2.0, y - 5.0), 12.0, Anchor::Middle, &short(value));
                }
            }
        }
        frame.finish()
    }
}
