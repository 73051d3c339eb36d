//! Figure 7: what an agent gains by each optimisation that only its own program can make.

use serde_json::json;

use super::Outcome;
use crate::commands::paper::measure::{Measured, at_once};
use crate::commands::paper::progress::Steps;
use crate::commands::paper::setting::Setting;
use crate::commands::paper::table::Table;
use crate::commands::paper::workloads::{Case, react};
use crate::report::chart::{Figure, Line, Lines, Plot};

const PROGRAM: &str = react::WORKLOAD.program;
const SIZES: [usize; 6] = [1, 16, 32, 64, 96, 128];
const TOKENS: usize = 32;

/// A line of the figure.
#[derive(Clone, Copy, Debug)]
struct Variant {
    name: &'static str,
    /// Flags of the program; `None` is the baseline.
    flags: Option<&'static [&'static str]>,
    /// Agents a second in the paper, at its sizes.
    paper: [f64; 6],
}

const VARIANTS: [Variant; 5] = [
    Variant { name: "baseline", flags: None, paper: [0.20, 1.57, 2.91, 4.90, 5.51, 5.47] },
    Variant { name: "pie", flags: Some(&[]), paper: [0.20, 1.96, 3.86, 6.42, 8.0, 8.2] },
    Variant {
        name: "cache",
        flags: Some(&["use-prefix-cache"]),
        paper: [0.20, 2.64, 4.79, 9.13, 12.6, 14.6],
    },
    Variant {
        name: "concurrent",
        flags: Some(&["use-prefix-cache", "concurrent-calls"]),
        paper: [0.24, 2.94, 5.19, 10.15, 14.15, 17.45],
    },
    Variant {
        name: "drop",
        flags: Some(&["use-prefix-cache", "concurrent-calls", "drop-tool-cache"]),
        paper: [0.24, 3.07, 5.6, 10.4, 14.5, 18.93],
    },
];

pub(super) fn run(setting: &Setting) -> anyhow::Result<Outcome> {
    let wanted = setting.wanted(&VARIANTS, |variant| variant.name)?;
    let (pie, api) = (setting.servers.pie()?, setting.servers.baseline()?);
    let sizes = setting.sizes(&SIZES);
    let wanted: Vec<Variant> =
        wanted.into_iter().filter(|variant| variant.flags.is_some() || api.is_some()).collect();
    let steps = Steps::new(wanted.len() * (1 + sizes.len() * setting.repeats));
    let mut lines: Vec<(Variant, Vec<Measured>)> = Vec::new();
    for variant in wanted {
        let work = |number: usize| match (variant.flags, &api) {
            (Some(flags), _) => pie.launch(PROGRAM, &react::arguments(TOKENS, flags)).map(drop),
            (None, Some(api)) => react::baseline(api, Case { number, full: setting.is_full() }, TOKENS),
            (None, None) => Ok(()),
        };
        // The first run compiles the program, saves the prompt of those that cache it, and fills caches.
        steps.done(format_args!("{}: first run {:.2} s", variant.name, at_once(1, work)?));
        let measure = |size: &usize| {
            let rates = (0..setting.repeats).map(|_| {
                let seconds = at_once(*size, work)?;
                steps.done(format_args!("{}: {size} at once {seconds:.2} s", variant.name));
                Ok(*size as f64 / seconds)
            });
            Ok(Measured::new(rates.collect::<anyhow::Result<Vec<f64>>>()?))
        };
        lines.push((variant, sizes.iter().map(measure).collect::<anyhow::Result<_>>()?));
    }
    Ok(outcome(setting, &sizes, &lines))
}

fn outcome(setting: &Setting, sizes: &[usize], lines: &[(Variant, Vec<Measured>)]) -> Outcome {
    let title = "Figure 7: an agent and its optimisations";
    let mut table =
        Table::new(["agents", "variant", "agents/s", "to pie", "paper, to pie", "paper, agents/s"]);
    for (index, size) in sizes.iter().enumerate() {
        let base =
            lines.iter().find(|(variant, _)| variant.name == "pie").map(|(_, rates)| rates[index].median());
        for (variant, rates) in lines {
            // The paper's point that this size stands for; several of its sizes may have become one.
            let at = SIZES.iter().rposition(|paper| setting.size(*paper) == *size).unwrap_or(0);
            let to_pie = base.map_or("-".into(), |base| format!("{:.2}", rates[index].median() / base));
            table.row([
                size.to_string(),
                variant.name.to_string(),
                rates[index].text(2),
                to_pie,
                format!("{:.2}", variant.paper[at] / VARIANTS[1].paper[at]),
                format!("{:.2} (N = {})", variant.paper[at], SIZES[at]),
            ]);
        }
    }
    let line = |(variant, rates): &(Variant, Vec<Measured>)| {
        let points = sizes.iter().zip(rates).filter_map(|(size, rate)| Some((*size as f64, rate.reading()?)));
        Line { name: variant.name.into(), points: points.collect() }
    };
    let plot = Plot::Lines(Lines {
        x_label: "agents at once".into(),
        y_label: "agents/s".into(),
        lines: lines.iter().map(line).collect(),
    });
    let data = lines.iter().map(|(variant, rates)| {
        let rates: Vec<_> = rates.iter().map(Measured::json).collect();
        json!({ "variant": variant.name, "flags": variant.flags, "agents": sizes, "agents_per_s": rates, "paper": variant.paper })
    });
    Outcome {
        title: title.into(),
        tables: vec![table],
        figure: Some(Figure::of(title, plot)),
        notes: vec![
            "each variant has the optimisations of the one before: cache opens a saved prompt, concurrent runs three tools at once, drop frees the description of a tool that is done".into(),
            "both servers keep prefixes that they have computed, so `pie` and `baseline` find the long prompt in a cache, too".into(),
        ],
        data: json!(data.collect::<Vec<_>>()),
    }
}
