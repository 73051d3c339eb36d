//! A map of numbers: rows and columns, further from the page's colour for more.

use super::Theme;
use super::bars::short;
use super::frame::{Anchor, Area, Frame, LEFT, RIGHT, fitting};

/// A map of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Heat {
    /// What the columns are.
    pub x_label: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Name and values of each row, one for each column; `None` leaves a gap.
    pub rows: Vec<(String, Vec<Option<f64>>)>,
}

/// Names stand left of the map, and need more room than numbers.
const NAMES: f64 = 150.0;

impl Heat {
    pub(super) fn draw(&self, frame: &mut Frame, area: Area, theme: Theme) {
        let all = || self.rows.iter().flat_map(|(_, values)| values.iter().flatten().copied());
        let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
        frame.x_label(area, &self.x_label);
        if all().count() == 0 {
            frame.nothing(area);
        }
        let left = LEFT + NAMES - 80.0;
        let wide = (RIGHT - left) / self.columns.len().max(1) as f64;
        let tall = (area.bottom - area.top) / self.rows.len().max(1) as f64;
        frame.x_names(area, &self.columns, left);
        // Blues: on a light page from a light to a dark one, on a dark page the other way.
        let (least, most) = match theme {
            Theme::Light => ([222.0, 235.0, 247.0], [8.0, 69.0, 148.0]),
            Theme::Dark => ([24.0, 44.0, 74.0], [158.0, 202.0, 245.0]),
        };
        for (row, (name, values)) in self.rows.iter().enumerate() {
            let y = area.top + row as f64 * tall;
            let name = fitting(name, 13.0, NAMES - 16.0);
            frame.text((left - 8.0, y + tall / 2.0 + 4.5), 13.0, Anchor::End, &name);
            for (column, value) in values.iter().enumerate() {
                let Some(value) = *value else { continue };
                let part = if high > low { (value - low) / (high - low) } else { 0.5 };
                let [red, green, blue] =
                    [0, 1, 2].map(|index| (least[index] + (most[index] - least[index]) * part) as u8);
                let x = left + column as f64 * wide;
                frame.put(format_args!(
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{tall:.1}\" fill=\"rgb({red},{green},{blue})\"/>"
                ));
                // Green is most of what the eye takes for bright.
                let colour = if green > 140 { "#1a1a1a" } else { "#ffffff" };
                let middle = (x + wide / 2.0, y + tall / 2.0 + 5.0);
                frame.coloured(middle, 15.0, Anchor::Middle, &short(value), colour);
            }
        }
    }
}
