//! `pie-bench serve`: measure a server under a load, with the flags of `vllm bench serve`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::flags::{DatasetFlags, LoadFlags, OutputFlags, TargetFlags, first_model};
use super::{interrupt, session};
use crate::client::Stop;
use crate::report::{Context, Report, files, terminal, vllm};

/// What is measured.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ServeFlags {
    #[command(flatten)]
    target: TargetFlags,
    #[command(flatten)]
    dataset: DatasetFlags,
    #[command(flatten)]
    load: LoadFlags,
    #[command(flatten)]
    output: OutputFlags,
    /// Requests before the measurement.
    #[arg(long, default_value_t = 0)]
    num_warmups: usize,
    /// Seconds to wait for the server's first answer; 0 does not ask before.
    #[arg(long, default_value_t = 600.0, value_name = "SECS")]
    ready_check_timeout_sec: f64,
    /// Taken for scripts that have it; code of a model is never run here.
    #[arg(long, hide = true)]
    trust_remote_code: bool,
    /// Taken for scripts that have it.
    #[arg(long, hide = true)]
    tokenizer_mode: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  pie-bench serve --model m --dataset-name random --random-input-len 512 --random-output-len 64 --request-rate 4
  pie-bench serve --dataset-name sharegpt --dataset-path ShareGPT.json --max-concurrency 16 --save-result
  pie-bench serve --dataset-name mooncake --dataset-path trace.jsonl --arrival trace:10 --goodput ttft:500 tpot:50";

/// Measures, prints the report and writes what was asked for.
///
/// # Errors
/// When nothing could be measured.
pub fn run(flags: ServeFlags) -> anyhow::Result<ExitCode> {
    let mut options = flags.target.options()?;
    options.seed = flags.dataset.seed;
    options.keep_text = flags.output.save_detailed;
    let (tokens, tokenizer) = flags.dataset.tokens(flags.target.model.as_deref())?;
    if options.model.is_none() && !options.api.is_template() {
        options.model = Some(first_model(&options)?);
    }
    let dataset = flags.dataset.load(&tokens)?;
    let plan = Arc::new(flags.load.plan(dataset.samples, flags.dataset.seed)?);
    let options = Arc::new(options);
    if flags.ready_check_timeout_sec > 0.0 {
        let timeout = Duration::try_from_secs_f64(flags.ready_check_timeout_sec)?;
        session::wait_until_ready(&plan.samples[plan.requests[0].sample], &options, timeout)?;
    }
    if flags.num_warmups > 0 {
        let samples: Vec<_> = plan.samples.iter().cycle().take(flags.num_warmups).cloned().collect();
        session::warm_up(&samples, flags.load.max_concurrency.unwrap_or(8), &options)?;
    }
    let context = Context {
        backend: flags.target.backend.clone(),
        url: format!("{}{}", options.address, options.route.as_deref().unwrap_or(options.api.route())),
        label: flags.output.label.clone(),
        model: flags.target.model.clone().or_else(|| options.model.clone()).unwrap_or_default(),
        tokenizer: tokenizer.or_else(|| flags.target.model.clone()),
        dataset: flags.dataset.dataset_name.clone(),
        token_source: tokens.source(),
        num_prompts: flags.dataset.num_prompts,
        request_rate: flags.load.request_rate,
        burstiness: flags.load.burstiness,
        max_concurrency: flags.load.max_concurrency,
        ramp: flags.load.ramp()?,
        seed: flags.dataset.seed,
        metadata: flags.output.metadata.clone(),
        command: super::command_line(),
        notes: dataset.notes,
        percentile_metrics: flags.output.percentile_metrics.clone(),
        percentiles: flags.output.metric_percentiles.clone(),
    };
    let stop = Stop::default();
    interrupt::watch(&stop)?;
    let report =
        session::measure(&plan, &options, context, &flags.output.goodput, &stop, flags.output.quiet)?;
    print!("{}", terminal::text(&report));
    write(&flags.output, &report)?;
    Ok(if report.summary.completed == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write(flags: &OutputFlags, report: &Report) -> anyhow::Result<()> {
    if !flags.save_result && !flags.append_result {
        return Ok(());
    }
    let name = flags.result_filename.clone().unwrap_or_else(|| vllm::file_name(report));
    let path: PathBuf = flags.result_dir.clone().unwrap_or_default().join(name);
    let object = serde_json::to_string(&vllm::object(report, flags.save_detailed))?;
    if flags.append_result {
        files::append_line(&path, &object)?;
    } else {
        files::write(&path, object.as_bytes())?;
    }
    println!("Written: {}", path.display());
    Ok(())
}
