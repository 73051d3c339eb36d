//! What is written of a run: for people, and in the formats of other tools.
//!
//! A format is a file of this folder. All are made of the same [`Report`], so they cannot disagree.

pub mod chart;
pub mod csv;
pub mod dataset_stats;
pub mod files;
pub mod html;
pub mod json;
pub mod llmd;
pub mod markdown;
pub mod sglang;
pub mod terminal;
pub mod timeline;
pub mod vllm;
mod write;

pub use write::{Files, Named, OutputError, write_all};

use std::sync::Arc;

use crate::client::Run;
use crate::metrics::{Summary, Verdict};
use crate::workload::Plan;

/// What a run was, for its report.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// What is spoken, in the user's word: `openai`, `openai-chat`, ...
    pub backend: String,
    /// The whole address that was asked.
    pub url: String,
    /// The user's name of the run.
    pub label: Option<String>,
    /// The model that was named.
    pub model: String,
    /// The tokenizer that was named.
    pub tokenizer: Option<String>,
    /// Name of the dataset.
    pub dataset: String,
    /// How tokens were counted before the run.
    pub token_source: String,
    /// Requests that were asked for.
    pub num_prompts: usize,
    /// Requests a second; infinity for all at once.
    pub request_rate: f64,
    /// Shape of gamma gaps.
    pub burstiness: f64,
    /// Bound on requests under way.
    pub max_concurrency: Option<usize>,
    /// How the rate rises: strategy, from, to.
    pub ramp: Option<(String, f64, f64)>,
    /// Where random numbers started.
    pub seed: u64,
    /// The user's own keys and values.
    pub metadata: Vec<(String, String)>,
    /// What the user typed.
    pub command: String,
    /// What a reader should know.
    pub notes: Vec<String>,
    /// Names of the figures to report percentiles of.
    pub percentile_metrics: Vec<String>,
    /// The percentiles, 0 to 100.
    pub percentiles: Vec<f64>,
}

/// A run with all that is said of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it was.
    pub context: Context,
    /// What was to be done.
    pub plan: Arc<Plan>,
    /// What was done.
    pub run: Run,
    /// Its figures.
    pub summary: Summary,
    /// Whether they are the server's.
    pub verdict: Verdict,
    /// The part of a closed loop in which it was full, with its figures.
    pub steady: Option<Summary>,
    /// What the server and the machine told meanwhile.
    pub telemetry: Option<crate::telemetry::Telemetry>,
}

impl Report {
    /// When the run began, in seconds since 1970.
    pub fn started_unix(&self) -> f64 {
        self.run.clock.unix_secs(self.summary.window.start)
    }
}
