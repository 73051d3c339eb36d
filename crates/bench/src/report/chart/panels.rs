//! Panels over each other with one lower axis, each with points or a line: what changes with time.

use super::Theme;
use super::frame::{Anchor, COLOURS, Frame, LEFT, RIGHT};
use super::scale::Scale;

/// A panel.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What its left axis is, with its unit.
    pub y_label: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
    /// Whether they are joined, from left to right.
    pub joined: bool,
}

/// Panels with one lower axis. All axes begin at zero.
#[derive(Clone, Debug)]
pub struct Panels {
    /// The title above them.
    pub title: String,
    /// What the lower axis is, with its unit.
    pub x_label: String,
    /// The panels, the first on top.
    pub panels: Vec<Panel>,
}

/// Above the first panel, of a panel, between two, and below the last.
const TOP: f64 = 56.0;
const PANEL: f64 = 130.0;
const GAP: f64 = 22.0;
const FOOT: f64 = 56.0;

impl Panels {
    /// The chart as SVG.
    pub fn svg(&self, theme: Theme) -> String {
        let begin = |index: usize| TOP + index as f64 * (PANEL + GAP);
        let end = begin(self.panels.len()) - GAP;
        let mut frame = Frame::page(&self.title, theme, end + FOOT);
        let all = self.panels.iter().flat_map(|panel| &panel.points);
        let x_scale = Scale::new(all.map(|point| point.0).fold(0.0, f64::max));
        let x = |value: f64| LEFT + x_scale.share(value).clamp(0.0, 1.0) * (RIGHT - LEFT);
        for &mark in &x_scale.marks {
            frame.text((x(mark), end + 20.0), 13.0, Anchor::Middle, &x_scale.text(mark));
        }
        frame.text(((LEFT + RIGHT) / 2.0, end + 42.0), 15.0, Anchor::Middle, &self.x_label);
        for (index, panel) in self.panels.iter().enumerate() {
            let (top, bottom) = (begin(index), begin(index) + PANEL);
            let scale = Scale::new(panel.points.iter().map(|point| point.1).fold(0.0, f64::max));
            let y = |value: f64| bottom - scale.share(value).clamp(0.0, 1.0) * PANEL;
            for &mark in &x_scale.marks {
                frame.rule((x(mark), top), (x(mark), bottom));
            }
            // A panel is low: every second mark has its number.
            for (place, &mark) in scale.marks.iter().enumerate() {
                frame.rule((LEFT, y(mark)), (RIGHT, y(mark)));
                if place % 2 == 0 {
                    frame.text((LEFT - 8.0, y(mark) + 4.0), 11.0, Anchor::End, &scale.text(mark));
                }
            }
            frame.upwards((top + bottom) / 2.0, 13.0, &panel.y_label);
            let colour = COLOURS[index % COLOURS.len()];
            if panel.points.is_empty() {
                frame.text(((LEFT + RIGHT) / 2.0, (top + bottom) / 2.0), 14.0, Anchor::Middle, "no values");
            }
            let mut points = panel.points.clone();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            if panel.joined {
                let path: Vec<String> =
                    points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
                let path = path.join(" ");
                frame.put(format_args!(
                    "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\" stroke-linejoin=\"round\"/>"
                ));
            }
            let radius = if panel.joined { 2.0 } else { 2.5 };
            for (at, value) in points {
                let (x, y) = (x(at), y(value));
                frame.put(format_args!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{colour}\"/>"
                ));
            }
        }
        frame.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_within_its_panel() {
        let panel = |value: f64, joined| Panel {
            y_label: "y".into(),
            points: vec![(0.0, 0.0), (9.0, value), (4.0, value / 2.0)],
            joined,
        };
        let empty = Panel { y_label: "none".into(), points: Vec::new(), joined: true };
        let panels = vec![panel(1.0, true), panel(7000.0, false), empty];
        let svg = Panels { title: "t".into(), x_label: "x".into(), panels }.svg(Theme::Light);
        let places: Vec<f64> =
            svg.split("cy=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse().unwrap()).collect();
        assert_eq!(places.len(), 6);
        for (index, y) in places.iter().enumerate() {
            let top = TOP + (index / 3) as f64 * (PANEL + GAP);
            assert!((top..=top + PANEL).contains(y), "point {index} at {y}");
        }
        assert!(svg.contains("no values"));
    }
}
