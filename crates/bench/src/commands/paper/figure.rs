//! A figure as SVG: bars of several series beside each other, or lines over a number.

use std::fmt::Write as _;

/// The values of one series, with smallest and largest.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Median, smallest and largest; `None` where nothing was measured.
    pub values: Vec<Option<[f64; 3]>>,
}

/// What is on the other axis.
#[derive(Clone, Debug, PartialEq)]
pub enum Over {
    /// Groups of bars, by name.
    Groups(Vec<String>),
    /// Points of lines, at these numbers, with the name of the axis.
    Numbers(Vec<f64>, String),
}

/// One plot of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// What is on the axis of values, with its unit.
    pub axis: String,
    /// The other axis.
    pub over: Over,
    /// What is drawn.
    pub series: Vec<Series>,
}

/// Plots one above the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Above all.
    pub title: String,
    /// The plots.
    pub plots: Vec<Plot>,
}

/// Distinct also to those who see no red or no green, in this order (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];
const WIDTH: f64 = 960.0;
const PLOT_HEIGHT: f64 = 330.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 36.0;
const BOTTOM: f64 = 62.0;

impl Figure {
    /// The file.
    pub fn svg(&self) -> String {
        let height = 36.0 + PLOT_HEIGHT * self.plots.len() as f64;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        label(&mut out, WIDTH / 2.0, 24.0, "middle", 16, &self.title);
        for (number, plot) in self.plots.iter().enumerate() {
            let _ = writeln!(out, "<g transform=\"translate(0 {})\">", 36.0 + PLOT_HEIGHT * number as f64);
            plot.draw(&mut out);
            out += "</g>\n";
        }
        out + "</svg>\n"
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn label(out: &mut String, x: f64, y: f64, anchor: &str, size: u32, text: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{}</text>",
        escaped(text)
    );
}

fn line(out: &mut String, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], colour: &str, width: f64) {
    let _ = writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
    );
}

/// A round step that cuts the range into four to eight parts.
fn step(max: f64) -> f64 {
    let rough = max / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [5.0, 2.0, 1.0].map(|factor| factor * power);
    steps.into_iter().find(|step| *step <= rough).unwrap_or(power)
}

impl Plot {
    fn draw(&self, out: &mut String) {
        let values = self.series.iter().flat_map(|series| &series.values).flatten();
        let max = values.map(|value| value[2]).fold(0.0, f64::max);
        // Nothing but zeros still has an axis.
        let max = if max > 0.0 { max * 1.05 } else { 1.0 };
        let (bottom, height) = (PLOT_HEIGHT - BOTTOM, PLOT_HEIGHT - BOTTOM - TOP);
        let y = |value: f64| bottom - value / max * height;
        let step = step(max);
        let digits = (-step.log10().floor()).max(0.0) as usize;
        let mut tick = 0.0;
        while tick <= max {
            line(out, [LEFT, y(tick)], [WIDTH - RIGHT, y(tick)], "#dddddd", 1.0);
            label(out, LEFT - 6.0, y(tick) + 4.0, "end", 12, &format!("{tick:.digits$}"));
            tick += step;
        }
        line(out, [LEFT, bottom], [WIDTH - RIGHT, bottom], "black", 1.0);
        let middle = (TOP + bottom) / 2.0;
        let _ = writeln!(
            out,
            "<text transform=\"translate(18 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(&self.axis)
        );
        self.legend(out);
        match &self.over {
            Over::Groups(names) => self.bars(out, names, y),
            Over::Numbers(at, name) => self.lines(out, at, name, y),
        }
    }

    fn legend(&self, out: &mut String) {
        let mut x = LEFT + 8.0;
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let _ =
                writeln!(out, "<rect x=\"{x:.1}\" y=\"10\" width=\"12\" height=\"12\" fill=\"{colour}\"/>");
            label(out, x + 17.0, 21.0, "start", 13, &series.name);
            x += 42.0 + 7.2 * series.name.chars().count() as f64;
        }
    }

    fn bars(&self, out: &mut String, names: &[String], y: impl Fn(f64) -> f64) {
        let group = (WIDTH - LEFT - RIGHT) / names.len().max(1) as f64;
        let width = (group * 0.8 / self.series.len().max(1) as f64).min(60.0);
        for (number, name) in names.iter().enumerate() {
            let centre = LEFT + group * (number as f64 + 0.5);
            label(out, centre, y(0.0) + 18.0, "middle", 13, name);
            let first = centre - width * self.series.len() as f64 / 2.0;
            for (index, (series, colour)) in self.series.iter().zip(COLOURS.iter().cycle()).enumerate() {
                let Some([value, low, high]) = series.values.get(number).copied().flatten() else { continue };
                let (x, top) = (first + width * index as f64, y(value));
                let _ = writeln!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>",
                    width - 2.0,
                    y(0.0) - top
                );
                let middle = x + width / 2.0 - 1.0;
                line(out, [middle, y(low)], [middle, y(high)], "black", 1.5);
            }
        }
    }

    fn lines(&self, out: &mut String, at: &[f64], name: &str, y: impl Fn(f64) -> f64) {
        let max = at.iter().copied().fold(0.0, f64::max).max(1.0);
        let x = |number: f64| LEFT + 12.0 + number / max * (WIDTH - LEFT - RIGHT - 24.0);
        let mut free = f64::MIN;
        for number in at {
            // Labels that would meet the one before are left out.
            if x(*number) - free > 30.0 {
                label(out, x(*number), y(0.0) + 18.0, "middle", 12, &format!("{number}"));
                free = x(*number);
            }
            line(out, [x(*number), y(0.0)], [x(*number), y(0.0) + 4.0], "black", 1.0);
        }
        label(out, (LEFT + WIDTH - RIGHT) / 2.0, y(0.0) + 40.0, "middle", 13, name);
        for (series, colour) in self.series.iter().zip(COLOURS.iter().cycle()) {
            let points = at.iter().zip(&series.values);
            let points: Vec<(f64, [f64; 3])> =
                points.filter_map(|(x, value)| Some((*x, (*value)?))).collect();
            for pair in points.windows(2) {
                line(out, [x(pair[0].0), y(pair[0].1[0])], [x(pair[1].0), y(pair[1].1[0])], colour, 2.0);
            }
            for (number, [value, low, high]) in points {
                line(out, [x(number), y(low)], [x(number), y(high)], colour, 1.5);
                let _ = writeln!(
                    out,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/>",
                    x(number),
                    y(value)
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_drawn_and_text_is_escaped() {
        let series = |name: &str, values: &[f64]| Series {
            name: name.into(),
            values: values.iter().map(|value| Some([*value; 3])).collect(),
        };
        let bars = Plot {
            axis: "s".into(),
            over: Over::Groups(vec!["a<b".into(), "c".into()]),
            series: vec![series("one", &[1.0, 2.0]), series("two", &[3.0, 4.0])],
        };
        let lines = Plot {
            axis: "1/s".into(),
            over: Over::Numbers(vec![1.0, 8.0, 16.0], "agents".into()),
            series: vec![series("one", &[1.0, 2.0, 3.0])],
        };
        let svg = Figure { title: "t".into(), plots: vec![bars, lines] }.svg();
        assert!(svg.contains("a&lt;b") && !svg.contains("a<b"));
        // The background, two legends of the bars and one of the lines, four bars.
        assert_eq!(svg.matches("<rect").count(), 1 + 3 + 4);
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn steps_are_round() {
        for (max, expected) in [(1.0, 0.2), (10.0, 2.0), (84.0, 20.0), (0.03, 0.005), (8.0, 2.0)] {
            assert!((step(max) - expected).abs() < 1e-9, "{max}: {}", step(max));
        }
    }
}
