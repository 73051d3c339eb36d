//! One measurement from plan to report, as every command does it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;

use super::progress::Bar;
use crate::client::{self, ClientOptions, Silent, Stop};
use crate::dataset::{Message, Prompt, Sample};
use crate::metrics::{Limits, Slo, Summary, SummaryOptions, steady_state, verdict};
use crate::report::{Context, Report};
use crate::workload::{Arrival, Limit, Plan};

/// Waits until the server answers a request, for so long.
///
/// # Errors
/// What it answered last.
pub fn wait_until_ready(
    sample: &Sample,
    options: &Arc<ClientOptions>,
    timeout: Duration,
) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let records = warm_up(std::slice::from_ref(sample), 1, options)?;
        let Some(failure) = records.first().and_then(|record| record.failure()) else { return Ok(()) };
        if start.elapsed() >= timeout {
            let (class, message) = (failure.class.name(), &failure.message);
            bail!("{} did not answer a first request: {class}: {message}", options.address);
        }
        std::thread::sleep(Duration::from_secs(1).min(timeout));
    }
}

/// Sends these samples with so many at once, outside of the measurement.
///
/// # Errors
/// See [`client::run`].
pub fn warm_up(
    samples: &[Sample],
    concurrency: usize,
    options: &Arc<ClientOptions>,
) -> anyhow::Result<Vec<crate::record::Record>> {
    let samples = samples.iter().map(backwards);
    let arrival = Arrival::closed(concurrency.max(1), 0.0)?;
    let plan = Arc::new(Plan::new(samples.collect(), &arrival, None, Limit::NONE, 0)?);
    let options = Arc::new(ClientOptions { abandon: None, ..ClientOptions::clone(options) });
    Ok(client::run(&plan, &options, &Silent, &Stop::default())?.records)
}

/// A sample as long as this one that begins with other tokens: a warm-up must not put what is measured into the
/// server's prefix cache. It is of no session, since a warm-up is no conversation.
fn backwards(sample: &Sample) -> Sample {
    let reversed = |text: &str| text.split_whitespace().rev().collect::<Vec<_>>().join(" ");
    let prompt = match &sample.prompt {
        Prompt::Text(text) => Prompt::Text(reversed(text)),
        Prompt::Tokens(ids) => Prompt::Tokens(ids.iter().rev().copied().collect()),
        Prompt::Chat(messages) => Prompt::Chat(
            messages
                .iter()
                .map(|message| Message { content: reversed(&message.content), ..message.clone() })
                .collect(),
        ),
    };
    Sample { prompt, session: None, turn: 0, ..sample.clone() }
}

/// Carries out a plan and makes its report.
///
/// # Errors
/// See [`client::run`].
pub fn measure(
    plan: &Arc<Plan>,
    options: &Arc<ClientOptions>,
    context: Context,
    slos: &[Slo],
    stop: &Stop,
    quiet: bool,
) -> anyhow::Result<Report> {
    let bar = Bar::new(plan.requests.len(), quiet);
    let run = client::run(plan, options, &bar, stop);
    bar.finish();
    let run = run?;
    let summary_options = SummaryOptions { window: None, slos: slos.to_vec() };
    let summary = Summary::new(&run, &summary_options);
    // 0.95 is the share that vLLM's client takes for full.
    let window = if plan.users > 0 { steady_state(&run.records, 0.95) } else { None };
    let steady = window.map(|window| {
        Summary::new(&run, &SummaryOptions { window: Some(window), ..summary_options.clone() })
    });
    let verdict = verdict(&run, &Limits::default());
    Ok(Report { context, plan: Arc::clone(plan), run, summary, verdict, steady, telemetry: None })
}
