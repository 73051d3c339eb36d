//! What is reported, and where it is written.

use std::path::PathBuf;

use clap::Args;

use super::key_value;
use crate::metrics::Slo;

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
    /// Show no progress.
    #[arg(long, alias = "disable-tqdm")]
    pub quiet: bool,
}
