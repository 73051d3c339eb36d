//! Writes a report in every format that was asked for.

use std::path::{Path, PathBuf};

use super::chart::{ChartError, Format, Theme, render};
use super::{Report, csv, dataset_stats, files, html, json, llmd, markdown, sglang, timeline, vllm};

/// The folder of a file, and its name, or none for the name that vLLM gives it.
pub type Named = (PathBuf, Option<String>);

/// Which files, and where.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// As `vllm bench serve --save-result`: the folder and the name, or none for its own name.
    pub vllm: Option<Named>,
    /// Beside that file: a page with what each request did when, and the milliseconds that tell its chunks apart.
    pub timeline: Option<(Named, [f64; 2])>,
    /// Beside it: the lengths of prompts and answers as pixels.
    pub dataset_stats: Option<Named>,
    /// Whether that is appended as a line.
    pub append: bool,
    /// Whether lists by request are in it.
    pub detailed: bool,
    /// Every figure by its own name.
    pub json: Option<PathBuf>,
    /// A line for each request.
    pub csv: Option<PathBuf>,
    /// A page in Markdown.
    pub markdown: Option<PathBuf>,
    /// A page for browsers.
    pub html: Option<PathBuf>,
    /// The Benchmark Report of llm-d.
    pub llmd: Option<PathBuf>,
    /// The line that SGLang appends.
    pub sglang: Option<PathBuf>,
}

/// A file that could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Not written.
    #[error(transparent)]
    Write(#[from] files::WriteError),
    /// Not drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
}

/// Dots per inch of pixels.
const DPI: u32 = 144;

/// The file that vLLM gives such a run, or that the user names.
fn vllm_path(report: &Report, (folder, name): &Named) -> PathBuf {
    folder.join(name.clone().unwrap_or_else(|| vllm::file_name(report)))
}

/// Makes the text of a file.
type Text = fn(&Report) -> String;

/// A path with the number of a repeated run in front of its extension.
fn numbered(path: &Path, number: Option<u32>) -> PathBuf {
    let Some(number) = number else { return path.into() };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map_or(String::new(), |end| format!(".{}", end.to_string_lossy()));
    path.with_file_name(format!("{stem}-{number}{extension}"))
}

/// Writes all, and returns what was written. `number` is that of a repeated run.
///
/// # Errors
/// The first file that could not be written.
pub fn write_all(report: &Report, wanted: &Files, number: Option<u32>) -> Result<Vec<PathBuf>, OutputError> {
    let mut written = Vec::new();
    if let Some(named) = &wanted.vllm {
        let path = vllm_path(report, named);
        let object = serde_json::Value::Object(vllm::object(report, wanted.detailed)).to_string();
        if wanted.append {
            files::append_line(&path, &object)?;
            written.push(path);
        } else {
            let path = numbered(&path, number);
            files::write(&path, object.as_bytes())?;
            written.push(path);
        }
    }
    if let Some((named, thresholds)) = &wanted.timeline {
        let path = numbered(&vllm_path(report, named).with_extension("timeline.html"), number);
        files::write(&path, timeline::text(report, *thresholds).as_bytes())?;
        written.push(path);
    }
    if let Some(named) = &wanted.dataset_stats {
        let path = numbered(&vllm_path(report, named).with_extension("dataset_stats.png"), number);
        let svg = dataset_stats::figure(report).svg(Theme::Light);
        files::write(&path, &render(&svg, Format::Png, DPI)?)?;
        written.push(path);
    }
    if let Some(path) = &wanted.sglang {
        let object = serde_json::Value::Object(sglang::object(report, wanted.detailed));
        files::append_line(path, &object.to_string())?;
        written.push(path.clone());
    }
    let pages: [(&Option<PathBuf>, Text); 5] = [
        (&wanted.json, |report| format!("{:#}\n", json::object(report))),
        (&wanted.llmd, |report| format!("{:#}\n", llmd::object(report))),
        (&wanted.csv, csv::text),
        (&wanted.markdown, markdown::text),
        (&wanted.html, html::text),
    ];
    for (path, text) in pages {
        if let Some(path) = path {
            let path = numbered(path, number);
            files::write(&path, text(report).as_bytes())?;
            written.push(path);
        }
    }
    Ok(written)
}
