//! `azure`: the moments and lengths of a trace of Azure, with prompts of such lengths out of the dataset. Requests of
//! one interval are sent together at its begin.

use super::process::push;
use super::select::Selector;
use super::{Making, Spec};
use crate::commands::aibrix::rows::{self, Group};
use crate::dataset::azure;

pub(super) const SPEC: Spec = Spec { name: "azure", make };

/// Half of the first window about a length: these traces are matched more closely than made-up ones.
const WINDOW: f64 = 0.1;

fn make(making: &mut Making<'_>) -> anyhow::Result<Vec<Group>> {
    let kind = making.config.text("workload_configs.azure.trace_type")?;
    anyhow::ensure!(
        matches!(kind.as_str(), "conv" | "code"),
        "`workload_configs.azure.trace_type`: found `{kind}`, expected conv or code"
    );
    let (_, lines) = azure::read(&making.config.path("workload_configs.azure.trace_path")?, usize::MAX)?;
    let prompts = rows::read_prompts(&making.config.path("dataset_file")?)?;
    let mut selector = Selector::new(prompts, making.tokens, 1, &mut making.rng)?.by_length(WINDOW);
    let (duration, interval) = (making.duration_ms()?, making.interval_ms()?);
    let mut groups = Vec::new();
    for line in lines {
        let millis = line.at.millis();
        if millis > duration {
            break;
        }
        let begin = (millis / interval).floor() * interval;
        let (input, output) = (f64::from(line.input), f64::from(line.output));
        if let Some(request) = selector.next(Some(input), Some(output), &mut making.rng) {
            push(&mut groups, begin as u64, request);
        }
    }
    making.notes.extend(selector.note());
    Ok(groups)
}
