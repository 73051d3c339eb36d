//! What all charts have: a page, a title, axes with marks, a legend.

use std::fmt::Write;

use super::Theme;
use super::scale::Scale;

/// Colours of series, which people who see few colours tell apart (Okabe and Ito).
pub(super) const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999"];

/// The page: 10 x 6 inches.
pub(super) const WIDTH: f64 = 960.0;
pub(super) const HEIGHT: f64 = 576.0;
/// The part within the axes.
pub(super) const LEFT: f64 = 84.0;
pub(super) const RIGHT: f64 = WIDTH - 24.0;
pub(super) const TOP: f64 = 80.0;
pub(super) const BOTTOM: f64 = HEIGHT - 66.0;

/// Which point of a text is where it is put.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A chart under construction.
pub(super) struct Frame {
    out: String,
    text_colour: &'static str,
    grid_colour: &'static str,
}

fn escaped(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    clean.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

impl Frame {
    /// A page with a title.
    pub(super) fn new(title: &str, theme: Theme) -> Self {
        Self::page(title, theme, HEIGHT)
    }

    /// The same with another height.
    pub(super) fn page(title: &str, theme: Theme, height: f64) -> Self {
        let (page, text_colour, grid_colour) = match theme {
            Theme::Light => ("#ffffff", "#1a1a1a", "#d9d9d9"),
            Theme::Dark => ("#16181d", "#e6e6e6", "#3a3f4a"),
        };
        let mut frame = Self { out: String::new(), text_colour, grid_colour };
        frame.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"{page}\"/>"
        ));
        frame.text((WIDTH / 2.0, 34.0), 20.0, Anchor::Middle, title);
        frame
    }

    /// Adds an element.
    pub(super) fn put(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.out, "{element}");
    }

    /// Adds a text whose base line is at `at`.
    pub(super) fn text(&mut self, at: (f64, f64), size: f64, anchor: Anchor, text: &str) {
        let colour = self.text_colour;
        self.coloured(at, size, anchor, text, colour);
    }

    /// The same in a colour.
    pub(super) fn coloured(&mut self, at: (f64, f64), size: f64, anchor: Anchor, text: &str, colour: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let ((x, y), text) = (at, escaped(text));
        self.put(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{text}</text>"
        ));
    }

    /// A line of the grid.
    pub(super) fn rule(&mut self, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2), colour) = (from, to, self.grid_colour);
        self.put(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"1\"/>"
        ));
    }

    /// The left axis.
    pub(super) fn y_axis(&mut self, scale: &Scale, label: &str) {
        for &mark in &scale.marks {
            let y = height(scale.share(mark));
            self.rule((LEFT, y), (RIGHT, y));
            self.text((LEFT - 8.0, y + 4.5), 13.0, Anchor::End, &scale.text(mark));
        }
        self.upwards((TOP + BOTTOM) / 2.0, 15.0, label);
    }

    /// A text at the left edge, read upwards, with its middle at `y`.
    pub(super) fn upwards(&mut self, y: f64, size: f64, text: &str) {
        let (colour, label) = (self.text_colour, escaped(text));
        self.put(format_args!(
            "<text transform=\"translate(22 {y:.1}) rotate(-90)\" font-size=\"{size}\" text-anchor=\"middle\" fill=\"{colour}\">{label}</text>"
        ));
    }

    /// The lower axis with numbers.
    pub(super) fn x_axis(&mut self, scale: &Scale, label: &str) {
        for &mark in &scale.marks {
            let x = width(scale.share(mark));
            self.rule((x, TOP), (x, BOTTOM));
            self.text((x, BOTTOM + 20.0), 13.0, Anchor::Middle, &scale.text(mark));
        }
        self.x_label(label);
    }

    /// The words below the lower axis.
    pub(super) fn x_label(&mut self, label: &str) {
        self.text(((LEFT + RIGHT) / 2.0, HEIGHT - 16.0), 15.0, Anchor::Middle, label);
    }

    /// The names of series with their colours, in one line between title and chart.
    pub(super) fn legend<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        let mut x = LEFT;
        for (index, name) in names.enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            self.put(format_args!(
                "<rect x=\"{x:.1}\" y=\"54\" width=\"14\" height=\"14\" rx=\"2\" fill=\"{colour}\"/>"
            ));
            self.text((x + 20.0, 66.0), 14.0, Anchor::Start, name);
            // The font is proportional; 7.5 is above the mean width of its letters at this size.
            x += 20.0 + 7.5 * name.chars().count() as f64 + 18.0;
        }
    }

    /// Says that there is nothing to show.
    pub(super) fn nothing(&mut self) {
        self.text(((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0), 16.0, Anchor::Middle, "no values");
    }

    /// The whole SVG.
    pub(super) fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}

/// The place of a share of the left axis.
pub(super) fn height(share: f64) -> f64 {
    BOTTOM - share.clamp(0.0, 1.0) * (BOTTOM - TOP)
}

/// The place of a share of the lower axis.
pub(super) fn width(share: f64) -> f64 {
    LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
}
