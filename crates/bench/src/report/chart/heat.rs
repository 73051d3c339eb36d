//! A map of numbers: rows and columns, darker for more.

use super::Theme;
use super::bars::short;
use super::frame::{Anchor, BOTTOM, Frame, LEFT, RIGHT, TOP};

/// A map of numbers.
#[derive(Clone, Debug)]
pub struct Heat {
    /// Its title.
    pub title: String,
    /// What the columns are.
    pub x_label: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Name and values of each row, one for each column; `None` leaves a gap.
    pub rows: Vec<(String, Vec<Option<f64>>)>,
}

/// Names of rows longer than this are cut.
const NAME_CHARS: usize = 20;

impl Heat {
    /// The chart as SVG.
    pub fn svg(&self, theme: Theme) -> String {
        let all = || self.rows.iter().flat_map(|(_, values)| values.iter().flatten().copied());
        let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
        let mut frame = Frame::new(&self.title, theme);
        frame.x_label(&self.x_label);
        if all().count() == 0 {
            frame.nothing();
        }
        // Names stand left of the map, and need more room than numbers.
        let left = LEFT + 70.0;
        let wide = (RIGHT - left) / self.columns.len().max(1) as f64;
        let tall = (BOTTOM - TOP) / self.rows.len().max(1) as f64;
        for (column, name) in self.columns.iter().enumerate() {
            let middle = left + (column as f64 + 0.5) * wide;
            frame.text((middle, BOTTOM + 20.0), 13.0, Anchor::Middle, name);
        }
        for (row, (name, values)) in self.rows.iter().enumerate() {
            let y = TOP + row as f64 * tall;
            let name: String = name.chars().take(NAME_CHARS).collect();
            frame.text((left - 8.0, y + tall / 2.0 + 4.5), 13.0, Anchor::End, &name);
            for (column, value) in values.iter().enumerate() {
                let Some(value) = *value else { continue };
                let part = if high > low { (value - low) / (high - low) } else { 0.5 };
                // From a light to a dark blue.
                let mix = |from: f64, to: f64| (from + (to - from) * part) as u8;
                let (red, green, blue) = (mix(222.0, 8.0), mix(235.0, 69.0), mix(247.0, 148.0));
                let x = left + column as f64 * wide;
                frame.put(format_args!(
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\" fill=\"rgb({red},{green},{blue})\"/>"
                ));
                let colour = if part > 0.5 { "#ffffff" } else { "#1a1a1a" };
                frame.coloured(
                    (x + wide / 2.0, y + tall / 2.0 + 5.0),
                    15.0,
                    Anchor::Middle,
                    &short(value),
                    colour,
                );
            }
        }
        frame.finish()
    }
}
