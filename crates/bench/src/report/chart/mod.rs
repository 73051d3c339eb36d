//! Charts as SVG, PNG and PDF: figures of plots (bars, lines, a map of numbers), and panels and timelines over one axis of time. Each
//! kind of plot is a file of this folder. A chart is an SVG; the other formats are made of it, with a font that the
//! program carries, so a picture is the same on every machine.

mod bars;
mod figure;
mod frame;
mod heat;
mod lines;
mod panels;
mod reading;
mod scale;
mod timeline;

pub use bars::Bars;
pub use figure::{Figure, Plot};
pub use heat::Heat;
pub use lines::{Line, Lines};
pub use panels::{Panel, Panels};
pub use reading::Reading;
pub use timeline::{Span, Timeline};

use std::sync::Arc;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

/// Colours of a chart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Theme {
    /// Dark on white.
    #[default]
    Light,
    /// Light on nearly black.
    Dark,
}

/// How a chart is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Format {
    /// Pixels.
    Png,
    /// A page.
    Pdf,
    /// Shapes, for browsers.
    Svg,
}

impl Format {
    /// The end of a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Pdf => "pdf",
            Self::Svg => "svg",
        }
    }
}

/// A chart that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw a chart as {format}: {why}")]
pub struct ChartError {
    format: &'static str,
    why: String,
}

/// Pixels of an inch in an SVG.
const SVG_DPI: f32 = 96.0;

/// Writes an SVG in a format; `dpi` is for pixels only.
///
/// # Errors
/// [`ChartError`] when it cannot be drawn, for example because so many pixels do not fit into memory.
pub fn render(svg: &str, format: Format, dpi: u32) -> Result<Vec<u8>, ChartError> {
    let failed = |why: String| ChartError { format: format.extension(), why };
    if format == Format::Svg {
        return Ok(svg.as_bytes().to_vec());
    }
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family = fonts.faces().next().and_then(|face| Some(face.families.first()?.0.clone()));
    fonts.set_sans_serif_family(family.unwrap_or_default());
    let options = usvg::Options { fontdb: Arc::new(fonts), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| failed(error.to_string()))?;
    if format == Format::Pdf {
        let (conversion, page) = (svg2pdf::ConversionOptions::default(), svg2pdf::PageOptions::default());
        return svg2pdf::to_pdf(&tree, conversion, page).map_err(|error| failed(error.to_string()));
    }
    let scale = dpi as f32 / SVG_DPI;
    let size = tree.size();
    let (width, height) = ((size.width() * scale).round() as u32, (size.height() * scale).round() as u32);
    let pixels = Pixmap::new(width, height);
    let mut pixels = pixels.ok_or_else(|| failed(format!("{width} x {height} pixels at {dpi} dpi")))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests;
