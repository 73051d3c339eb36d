//! What all charts have: a page, a title, areas for plots, axes with marks, a legend.
//!
//! ```text
//! title                          TITLE
//! legend                 \       HEAD
//! the area of a plot      | for each plot
//! names below the axis   /       FOOT
//! ```

use std::fmt::Write;

use super::Theme;
use super::scale::Scale;

/// Colours of series, which people who see few colours tell apart (Okabe and Ito).
pub(super) const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999"];

/// The width of a page: 10 inches.
pub(super) const WIDTH: f64 = 960.0;
/// The part within the axes.
pub(super) const LEFT: f64 = 84.0;
pub(super) const RIGHT: f64 = WIDTH - 24.0;
/// Room for the title, for what is above an area, and for what is below it.
const TITLE: f64 = 46.0;
const HEAD: f64 = 34.0;
const FOOT: f64 = 66.0;
/// The height of an area: alone on a page of 6 inches, and one of several.
const ALONE: f64 = 430.0;
const ONE_OF_SEVERAL: f64 = 250.0;

/// Width of a letter as a share of the font's size: above the mean of the font that is carried along.
const LETTER: f64 = 0.54;

/// How wide a text is.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * LETTER
}

/// A text cut so that it fits.
pub(super) fn fitting(text: &str, size: f64, room: f64) -> String {
    let most = (room / (size * LETTER)).floor().max(1.0) as usize;
    if text.chars().count() <= most {
        return text.to_string();
    }
    let mut short: String = text.chars().take(most - 1).collect();
    short.push('…');
    short
}

/// Where a plot is on its page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) top: f64,
    pub(super) bottom: f64,
}

impl Area {
    /// The areas of so many plots, and the height of their page.
    pub(super) fn of(plots: usize) -> (Vec<Self>, f64) {
        let tall = if plots > 1 { ONE_OF_SEVERAL } else { ALONE };
        let each = HEAD + tall + FOOT;
        let area = |index: usize| {
            let top = TITLE + index as f64 * each + HEAD;
            Self { top, bottom: top + tall }
        };
        ((0..plots).map(area).collect(), TITLE + plots.max(1) as f64 * each)
    }

    /// An area of a height of its own, and the height of its page.
    pub(super) fn of_height(tall: f64) -> (Self, f64) {
        let top = TITLE + HEAD;
        (Self { top, bottom: top + tall }, top + tall + FOOT)
    }

    /// The place of a share of the left axis.
    pub(super) fn height(self, share: f64) -> f64 {
        self.bottom - share.clamp(0.0, 1.0) * (self.bottom - self.top)
    }

    /// Half way up.
    pub(super) fn middle(self) -> f64 {
        (self.top + self.bottom) / 2.0
    }
}

/// The place of a share of the lower axis.
pub(super) fn width(share: f64) -> f64 {
    LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
}

/// Which point of a text is where it is put.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A page under construction.
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
    /// A page of a height, with a title.
    pub(super) fn page(title: &str, theme: Theme, height: f64) -> Self {
        let (page, text_colour, grid_colour) = match theme {
            Theme::Light => ("#ffffff", "#1a1a1a", "#d9d9d9"),
            Theme::Dark => ("#16181d", "#e6e6e6", "#3a3f4a"),
        };
        let mut frame = Self { out: String::new(), text_colour, grid_colour };
        frame.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"{page}\"/>"
        ));
        frame.text((WIDTH / 2.0, 34.0), 20.0, Anchor::Middle, &fitting(title, 20.0, WIDTH - 40.0));
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
        let colour = self.grid_colour;
        self.line(from, to, colour, 1.0);
    }

    /// A dashed line from left to right, such as that of a value to compare with.
    pub(super) fn reference(&mut self, y: f64) {
        let colour = self.text_colour;
        self.put(format_args!(
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\" stroke=\"{colour}\" stroke-width=\"1\" stroke-dasharray=\"6 4\"/>"
        ));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.put(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" stroke-width=\"{width}\"/>"
        ));
    }

    /// The spread of a value from `low` to `high`, in the colour of texts where `colour` is none.
    pub(super) fn whisker(&mut self, x: f64, (low, high): (f64, f64), colour: Option<&'static str>) {
        let colour = colour.unwrap_or(self.text_colour);
        self.line((x, low), (x, high), colour, 1.5);
        for y in [low, high] {
            self.line((x - 4.0, y), (x + 4.0, y), colour, 1.5);
        }
    }

    /// The left axis.
    pub(super) fn y_axis(&mut self, area: Area, scale: &Scale, label: &str) {
        for &mark in &scale.marks {
            let y = area.height(scale.share(mark));
            self.rule((LEFT, y), (RIGHT, y));
            self.text((LEFT - 8.0, y + 4.5), 13.0, Anchor::End, &scale.text(mark));
        }
        self.upwards(area.middle(), 15.0, &fitting(label, 15.0, area.bottom - area.top + HEAD));
    }

    /// A text at the left edge, read upwards, with its middle at `y`.
    pub(super) fn upwards(&mut self, y: f64, size: f64, text: &str) {
        let (colour, label) = (self.text_colour, escaped(text));
        self.put(format_args!(
            "<text transform=\"translate(22 {y:.1}) rotate(-90)\" font-size=\"{size}\" text-anchor=\"middle\" fill=\"{colour}\">{label}</text>"
        ));
    }

    /// The lower axis with numbers.
    pub(super) fn x_axis(&mut self, area: Area, scale: &Scale, label: &str) {
        for &mark in &scale.marks {
            let x = width(scale.share(mark));
            self.rule((x, area.top), (x, area.bottom));
            self.text((x, area.bottom + 20.0), 13.0, Anchor::Middle, &scale.text(mark));
        }
        self.x_label(area, label);
    }

    /// Names below the lower axis, each in the middle of its room from `left` on. Where one is wider than its room, every
    /// second one is a line lower and has twice the room.
    pub(super) fn x_names(&mut self, area: Area, names: &[String], left: f64) {
        let room = (RIGHT - left) / names.len().max(1) as f64;
        let crowded = names.iter().any(|name| text_width(name, 13.0) > room - 6.0);
        for (index, name) in names.iter().enumerate() {
            let (lower, fits) = if crowded { ((index % 2) as f64 * 15.0, room * 2.0) } else { (0.0, room) };
            let at = (left + (index as f64 + 0.5) * room, area.bottom + 19.0 + lower);
            self.text(at, 13.0, Anchor::Middle, &fitting(name, 13.0, fits - 6.0));
        }
    }

    /// The words below the lower axis.
    pub(super) fn x_label(&mut self, area: Area, label: &str) {
        self.text(((LEFT + RIGHT) / 2.0, area.bottom + 56.0), 15.0, Anchor::Middle, label);
    }

    /// The names of series with their colours, in one line above the area. A single series without a name has none.
    pub(super) fn legend<'a>(&mut self, area: Area, names: impl Iterator<Item = &'a str>) {
        self.legend_of(area, names.zip(COLOURS.into_iter().cycle()));
    }

    /// The same with colours of its own.
    pub(super) fn legend_of<'a>(&mut self, area: Area, names: impl Iterator<Item = (&'a str, &'static str)>) {
        let names: Vec<(&str, &str)> = names.collect();
        if names.iter().all(|(name, _)| name.is_empty()) {
            return;
        }
        let wide = |name: &str| 20.0 + text_width(name, 14.0) + 18.0;
        let all: f64 = names.iter().map(|(name, _)| wide(name)).sum();
        // Names that do not fit together are cut, each to the same room.
        let room =
            if all > RIGHT - LEFT { (RIGHT - LEFT) / names.len() as f64 - 38.0 } else { f64::INFINITY };
        let (mut x, y) = (LEFT, area.top - 26.0);
        for (name, colour) in names {
            let name = fitting(name, 14.0, room.min(WIDTH));
            self.put(format_args!(
                "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"14\" height=\"14\" rx=\"2\" fill=\"{colour}\"/>"
            ));
            self.text((x + 20.0, y + 12.0), 14.0, Anchor::Start, &name);
            x += wide(&name);
        }
    }

    /// Says that there is nothing to show.
    pub(super) fn nothing(&mut self, area: Area) {
        self.text(((LEFT + RIGHT) / 2.0, area.middle()), 16.0, Anchor::Middle, "no values");
    }

    /// The whole SVG.
    pub(super) fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }
}
