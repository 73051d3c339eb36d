//! Lines through points.

use super::Reading;
use super::frame::{Area, COLOURS, Frame, width};
use super::scale::Scale;

/// A line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its points; drawn from left to right.
    pub points: Vec<(f64, Reading)>,
}

/// A plot of lines. Both axes begin at zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    /// What the lower axis is, with its unit.
    pub x_label: String,
    /// What the left axis is, with its unit.
    pub y_label: String,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Lines {
    pub(super) fn draw(&self, frame: &mut Frame, area: Area) {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let x_scale = Scale::new(all().map(|point| point.0).fold(0.0, f64::max));
        let y_scale = Scale::new(all().map(|point| point.1.top()).fold(0.0, f64::max));
        frame.legend(area, self.lines.iter().map(|line| line.name.as_str()));
        frame.y_axis(area, &y_scale, &self.y_label);
        frame.x_axis(area, &x_scale, &self.x_label);
        if all().count() == 0 {
            frame.nothing(area);
        }
        for (index, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let mut points = line.points.clone();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            let height = |value: f64| area.height(y_scale.share(value));
            let place = |(x, reading): &(f64, Reading)| (width(x_scale.share(*x)), height(reading.value));
            let path: Vec<String> = points.iter().map(place).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let path = path.join(" ");
            frame.put(format_args!(
                "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>"
            ));
            for point in &points {
                let (x, y) = place(point);
                if let Some((low, high)) = point.1.spread {
                    frame.whisker(x, (height(low), height(high)), Some(colour));
                }
                frame.put(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"));
            }
        }
    }
}
