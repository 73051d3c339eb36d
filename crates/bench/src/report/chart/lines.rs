//! Lines through points.

use super::Theme;
use super::frame::{COLOURS, Frame, height, width};
use super::scale::Scale;

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its points; drawn from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A chart of lines. Both axes begin at zero.
#[derive(Clone, Debug)]
pub struct Lines {
    /// Its title.
    pub title: String,
    /// What the lower axis is, with its unit.
    pub x_label: String,
    /// What the left axis is, with its unit.
    pub y_label: String,
    /// The lines.
    pub lines: Vec<Line>,
}

impl Lines {
    /// The chart as SVG.
    pub fn svg(&self, theme: Theme) -> String {
        let all = || self.lines.iter().flat_map(|line| &line.points);
        let x_scale = Scale::new(all().map(|point| point.0).fold(0.0, f64::max));
        let y_scale = Scale::new(all().map(|point| point.1).fold(0.0, f64::max));
        let mut frame = Frame::new(&self.title, theme);
        frame.legend(self.lines.iter().map(|line| line.name.as_str()));
        frame.y_axis(&y_scale, &self.y_label);
        frame.x_axis(&x_scale, &self.x_label);
        if all().count() == 0 {
            frame.nothing();
        }
        for (index, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let mut points = line.points.clone();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            let place = |point: &(f64, f64)| (width(x_scale.share(point.0)), height(y_scale.share(point.1)));
            let places: Vec<(f64, f64)> = points.iter().map(place).collect();
            let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let path = path.join(" ");
            frame.put(format_args!(
                "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>"
            ));
            for (x, y) in places {
                frame.put(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"));
            }
        }
        frame.finish()
    }
}
