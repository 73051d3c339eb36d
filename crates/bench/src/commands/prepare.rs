//! What `serve`, `sweep`, `slo` and `replay` do before they measure: flags to options, samples and a context.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::flags::{DatasetFlags, LoadFlags, OutputFlags, Refused, TargetFlags, first_model};
use super::{lengths, session};
use crate::client::{ClientOptions, Stop, fetch};
use crate::dataset::Sample;
use crate::report::{Context, Report};
use crate::telemetry::{Watch, Watcher};
use crate::workload::Plan;

/// The flags of every command that measures a server.
#[derive(Clone, Debug, Args)]
pub struct MeasureFlags {
    /// Which server, and how it is asked.
    #[command(flatten)]
    pub target: TargetFlags,
    /// What is asked.
    #[command(flatten)]
    pub dataset: DatasetFlags,
    /// When requests are sent.
    #[command(flatten)]
    pub load: LoadFlags,
    /// What is reported.
    #[command(flatten)]
    pub output: OutputFlags,
    /// Requests before the measurement.
    #[arg(long, default_value_t = 0)]
    pub num_warmups: usize,
    /// Seconds to wait for the server's first answer; 0 does not ask before.
    #[arg(long, default_value_t = 600.0, value_name = "SECS")]
    pub ready_check_timeout_sec: f64,
    /// Read the server's metrics every so many seconds, and at the beginning and the end; 0 for never.
    #[arg(long, default_value_t = 0.0, value_name = "SECS", help_heading = "Telemetry")]
    pub telemetry_interval: f64,
    /// The route of the server's metrics.
    #[arg(long, default_value = "/metrics", help_heading = "Telemetry")]
    pub metrics_route: String,
    /// The server's process, where it is on this machine: its memory and CPU.
    #[arg(long, value_name = "PID", help_heading = "Telemetry")]
    pub server_pid: Option<u32>,
    /// Let the server's /tokenize count some of the prompts, and measure only if they have the lengths that they should.
    #[arg(long)]
    pub check_lengths: bool,
    /// Look at the GPUs of this machine (NVIDIA's, by NVML).
    #[arg(long, help_heading = "Telemetry")]
    pub gpu: bool,
    /// Taken for scripts that have it; code of a model is never run here.
    #[arg(long, hide = true)]
    trust_remote_code: bool,
    /// Taken for scripts that have it.
    #[arg(long, hide = true)]
    tokenizer_mode: Option<String>,
    #[command(flatten)]
    refused: Refused,
}

/// What is measured.
pub struct Prepared {
    /// How the server is asked.
    pub options: Arc<ClientOptions>,
    /// What is asked.
    pub samples: Vec<Sample>,
    /// What the report says of it.
    pub context: Context,
    flags: MeasureFlags,
}

impl MeasureFlags {
    /// Reads the dataset, waits for the server and warms it up.
    ///
    /// # Errors
    /// What is wrong with a flag or a file, or that the server does not answer.
    pub fn prepare(mut self) -> anyhow::Result<Prepared> {
        self.load = self.load.for_dataset(&self.dataset.dataset_name);
        let mut options = self.target.options()?;
        options.seed = self.dataset.seed;
        options.keep_text = self.output.save_detailed;
        let (tokens, tokenizer) = self.dataset.tokens(self.target.model.as_deref())?;
        if options.model.is_none() && !options.api.is_users() {
            options.model = Some(first_model(&options)?);
        }
        let mut dataset = self.dataset.load(&tokens)?;
        self.target.assign_adapters(&mut dataset.samples, self.dataset.seed);
        // What is wrong with the load is said before the server is waited for.
        self.load.plan(dataset.samples.clone(), self.dataset.seed)?;
        let options = Arc::new(options);
        if self.ready_check_timeout_sec > 0.0 {
            let timeout = Duration::try_from_secs_f64(self.ready_check_timeout_sec)?;
            session::wait_until_ready(&dataset.samples[0], &options, timeout)?;
        }
        if self.check_lengths {
            dataset.notes.push(lengths::check(&dataset.samples, &options)?);
        }
        if self.num_warmups > 0 {
            let samples: Vec<_> = dataset.samples.iter().cycle().take(self.num_warmups).cloned().collect();
            session::warm_up(&samples, self.load.max_concurrency.unwrap_or(8), &options)?;
        }
        let route = options.route.as_deref().unwrap_or(options.api.route());
        let context = Context {
            backend: match &self.target.program {
                Some(program) => format!("program {program}"),
                None => self.target.backend.clone(),
            },
            url: format!("{}{}", options.address, route),
            label: self.output.label.clone(),
            model: self.target.model.clone().or_else(|| options.model.clone()).unwrap_or_default(),
            tokenizer: tokenizer.or_else(|| self.target.model.clone()),
            dataset: self.dataset.dataset_name.clone(),
            token_source: tokens.source(),
            num_prompts: self.dataset.num_prompts,
            request_rate: self.load.request_rate,
            burstiness: self.load.burstiness,
            max_concurrency: self.load.max_concurrency,
            ramp: self.load.ramp()?,
            seed: self.dataset.seed,
            metadata: self.output.metadata.clone(),
            command: super::command_line(),
            notes: dataset.notes,
            percentile_metrics: self.output.percentile_metrics.clone(),
            percentiles: self.output.metric_percentiles.clone(),
        };
        Ok(Prepared { options, samples: dataset.samples, context, flags: self })
    }
}

/// Tells the server to begin or to end a profile.
fn profile(options: &ClientOptions, route: &str) -> anyhow::Result<()> {
    // What is recorded may be written before the answer.
    let fetched = fetch(options, "POST", route, None, Duration::from_secs(600));
    let fetched = fetched.map_err(|failure| anyhow::anyhow!("--profile: {route}: {}", failure.message))?;
    anyhow::ensure!(
        (200..300).contains(&fetched.status),
        "--profile: {route} has status {}, expected a server that was started with its profiler",
        fetched.status
    );
    Ok(())
}

impl Prepared {
    /// The flags of the load, which a sweep changes from run to run.
    pub fn load(&self) -> LoadFlags {
        self.flags.load.clone()
    }

    /// The flags of the output.
    pub fn output(&self) -> &OutputFlags {
        &self.flags.output
    }

    /// The plan of a load, with the requests that `count` leaves.
    ///
    /// # Errors
    /// See [`LoadFlags::plan`].
    pub fn plan(&self, load: &LoadFlags, count: usize) -> anyhow::Result<Plan> {
        load.plan(self.samples.iter().take(count).cloned().collect(), self.flags.dataset.seed)
    }

    /// Measures a load.
    ///
    /// # Errors
    /// When the run cannot begin.
    pub fn measure(&self, load: &LoadFlags, count: usize, stop: &Stop) -> anyhow::Result<Report> {
        let plan = Arc::new(self.plan(load, count)?);
        let mut context = self.context.clone();
        context.request_rate =
            load.arrival.as_ref().map_or(Some(load.request_rate), |a| a.rate()).unwrap_or(f64::INFINITY);
        context.max_concurrency = load.max_concurrency;
        context.num_prompts = plan.requests.len();
        let interval = Duration::try_from_secs_f64(self.flags.telemetry_interval)?;
        let watches = !interval.is_zero() || self.flags.server_pid.is_some() || self.flags.gpu;
        let watcher = watches.then(|| {
            let watch = Watch {
                metrics_route: (!interval.is_zero()).then(|| self.flags.metrics_route.clone()),
                pid: self.flags.server_pid,
                gpu: self.flags.gpu,
                interval: if interval.is_zero() { Duration::from_secs(1) } else { interval },
            };
            Watcher::start(watch, Arc::clone(&self.options))
        });
        let watcher = watcher.transpose()?;
        let output = &self.flags.output;
        let profiles = self.flags.target.profile;
        if profiles {
            profile(&self.options, "/start_profile")?;
        }
        let report = session::measure(&plan, &self.options, context, &output.goodput, stop, output.quiet);
        if profiles {
            profile(&self.options, "/stop_profile")?;
        }
        let telemetry = watcher.map(Watcher::finish);
        let mut report = report?;
        for note in telemetry.iter().flat_map(|telemetry| &telemetry.notes) {
            report.context.notes.push(format!("telemetry: {note}"));
        }
        report.telemetry = telemetry;
        Ok(report)
    }
}
