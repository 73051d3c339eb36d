//! Plots one above the other on a page.

use super::frame::{Area, Frame};
use super::{Bars, Heat, Lines, Theme};

/// One plot of a figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Plot {
    /// Groups of bars.
    Bars(Bars),
    /// Lines through points.
    Lines(Lines),
    /// A map of numbers.
    Heat(Heat),
}

/// A page of plots, the first on top.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Above all.
    pub title: String,
    /// The plots.
    pub plots: Vec<Plot>,
}

impl Figure {
    /// A page with one plot.
    pub fn of(title: impl Into<String>, plot: Plot) -> Self {
        Self { title: title.into(), plots: vec![plot] }
    }

    /// The page as SVG.
    pub fn svg(&self, theme: Theme) -> String {
        let (areas, height) = Area::of(self.plots.len());
        let mut frame = Frame::page(&self.title, theme, height);
        for (plot, area) in self.plots.iter().zip(areas) {
            match plot {
                Plot::Bars(bars) => bars.draw(&mut frame, area),
                Plot::Lines(lines) => lines.draw(&mut frame, area),
                Plot::Heat(heat) => heat.draw(&mut frame, area, theme),
            }
        }
        frame.finish()
    }
}
