//! A line of spans for each of many things over one axis of time, coloured by what kind each span is.

use super::Theme;
use super::frame::{Area, Frame, width};
use super::scale::Scale;

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// When it begins.
    pub from: f64,
    /// When it ends.
    pub to: f64,
    /// What it is: an index of [`Timeline::kinds`].
    pub kind: usize,
}

/// Lines of spans. The axis begins at zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    /// The title above them.
    pub title: String,
    /// What the lower axis is, with its unit.
    pub x_label: String,
    /// Names of the kinds, six at most.
    pub kinds: Vec<String>,
    /// The spans of each line, the first on top.
    pub rows: Vec<Vec<Span>>,
}

/// The height of a line: so that about forty fill a page, and never less than can be seen.
const ROW: (f64, f64) = (3.0, 14.0);

impl Timeline {
    /// The chart as SVG.
    pub fn svg(&self, theme: Theme) -> String {
        let row = (600.0 / self.rows.len().max(1) as f64).clamp(ROW.0, ROW.1);
        let (area, height) = Area::of_height(row * self.rows.len().max(4) as f64);
        let mut frame = Frame::page(&self.title, theme, height);
        let all = || self.rows.iter().flatten();
        let scale = Scale::new(all().map(|span| span.to).fold(0.0, f64::max));
        // Blue, green, orange, red: of the colours that people who see few tell apart.
        let colours = ["#0072b2", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#999999"];
        frame.legend_of(area, self.kinds.iter().map(String::as_str).zip(colours));
        frame.x_axis(area, &scale, &self.x_label);
        if all().count() == 0 {
            frame.nothing(area);
        }
        for (index, spans) in self.rows.iter().enumerate() {
            let y = area.top + index as f64 * row;
            for span in spans {
                let (from, to) = (width(scale.share(span.from)), width(scale.share(span.to)));
                let (wide, tall) = ((to - from).max(0.2), (row - 1.0).max(2.0));
                let colour = colours[span.kind % colours.len()];
                frame.put(format_args!(
                    "<rect x=\"{from:.2}\" y=\"{y:.1}\" width=\"{wide:.2}\" height=\"{tall:.1}\" fill=\"{colour}\"/>"
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
    fn spans_are_where_their_times_are() {
        let span = |from, to, kind| Span { from, to, kind };
        let rows = vec![vec![span(0.0, 1.0, 0), span(1.0, 2.0, 1)], vec![span(1.0, 2.0, 0)], Vec::new()];
        let kinds = vec!["wait".into(), "work".into()];
        let chart = Timeline { title: "t".into(), x_label: "x".into(), kinds, rows };
        let svg = chart.svg(Theme::Dark);
        let rects: Vec<&str> = svg.split("<rect x=\"").skip(1).collect();
        // Two of the legend, then three spans.
        let x = |index: usize| rects[index].split('"').next().unwrap().parse::<f64>().unwrap();
        assert_eq!(rects.len(), 5);
        assert!(x(2) < x(3) && (x(3) - x(4)).abs() < 0.01, "{rects:?}");
        assert!(Timeline { rows: Vec::new(), ..chart }.svg(Theme::Light).contains("no values"));
    }
}
