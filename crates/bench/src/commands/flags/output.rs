//! What is reported, and where it is written.

use std::path::PathBuf;

use clap::Args;

use super::key_value;
use crate::metrics::Slo;
use crate::report::Files;

/// What is reported.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputFlags {
    /// Promises to count, as METRIC:MILLISECONDS: ttft:200 tpot:50 e2el:5000.
    #[arg(long, num_args = 1.., value_name = "METRIC:MS")]
    pub goodput: Vec<Slo>,
    /// Write a file as `vllm bench serve` does.
    #[arg(long)]
    pub save_result: bool,
    /// With lists by request in it.
    #[arg(long)]
    pub save_detailed: bool,
    /// Append the result as a line to its file.
    #[arg(long)]
    pub append_result: bool,
    /// Folder of that file.
    #[arg(long)]
    pub result_dir: Option<PathBuf>,
    /// Its name; made of label, rate, model and date by default.
    #[arg(long)]
    pub result_filename: Option<String>,
    /// Keys and values to write with it.
    #[arg(long, num_args = 1.., value_parser = key_value, value_name = "NAME=VALUE")]
    pub metadata: Vec<(String, String)>,
    /// Name of the run, in front of the file's name.
    #[arg(long)]
    pub label: Option<String>,
    /// Figures to write percentiles of: ttft, tpot, itl, e2el, client_queue_time, e2el_including_client_queue.
    #[arg(long, default_value = "ttft,tpot,itl", value_delimiter = ',')]
    pub percentile_metrics: Vec<String>,
    /// The percentiles.
    #[arg(long, default_value = "99", value_delimiter = ',')]
    pub metric_percentiles: Vec<f64>,
    /// Write a page with what each request did when, beside the result and under its name.
    #[arg(long)]
    pub plot_timeline: bool,
    /// Milliseconds between chunks that tell good, middling and bad ones apart there.
    #[arg(long, default_value = "25,50", value_parser = thresholds, value_name = "MS,MS")]
    pub timeline_itl_thresholds: [f64; 2],
    /// Draw the lengths of prompts and answers, beside the result and under its name.
    #[arg(long)]
    pub plot_dataset_stats: bool,
    /// Show no progress.
    #[arg(long, alias = "disable-tqdm")]
    pub quiet: bool,
    /// Write every figure under its own name, for `compare` and `gate`.
    #[arg(long, value_name = "FILE")]
    pub output_json: Option<PathBuf>,
    /// Write a line for each request.
    #[arg(long, value_name = "FILE")]
    pub output_csv: Option<PathBuf>,
    /// Write a page in Markdown.
    #[arg(long, value_name = "FILE")]
    pub output_markdown: Option<PathBuf>,
    /// Write a page for browsers, with everything in it.
    #[arg(long, value_name = "FILE")]
    pub output_html: Option<PathBuf>,
    /// Write the Benchmark Report 0.2.1 of llm-d, as JSON.
    #[arg(long, value_name = "FILE")]
    pub output_llmd: Option<PathBuf>,
    /// Append a line as SGLang's bench_serving does.
    #[arg(long, value_name = "FILE")]
    pub output_sglang: Option<PathBuf>,
}

/// Reads two rising milliseconds.
fn thresholds(text: &str) -> Result<[f64; 2], String> {
    let wrong = || format!("found `{text}`, expected two rising numbers of milliseconds, such as 25,50");
    let (low, high) = text.split_once(',').ok_or_else(wrong)?;
    let both = low.trim().parse::<f64>().ok().zip(high.trim().parse::<f64>().ok());
    let both = both.filter(|(low, high)| *low > 0.0 && low < high && high.is_finite());
    both.map(|(low, high)| [low, high]).ok_or_else(wrong)
}

impl OutputFlags {
    /// The files that are wanted.
    pub fn files(&self) -> Files {
        let folder = self.result_dir.clone().unwrap_or_default();
        let beside = || (folder.clone(), self.result_filename.clone());
        let wants_vllm = self.save_result || self.append_result;
        Files {
            vllm: wants_vllm.then(beside),
            timeline: self.plot_timeline.then(|| (beside(), self.timeline_itl_thresholds)),
            dataset_stats: self.plot_dataset_stats.then(beside),
            append: self.append_result,
            detailed: self.save_detailed,
            json: self.output_json.clone(),
            csv: self.output_csv.clone(),
            markdown: self.output_markdown.clone(),
            html: self.output_html.clone(),
            llmd: self.output_llmd.clone(),
            sglang: self.output_sglang.clone(),
        }
    }
}
