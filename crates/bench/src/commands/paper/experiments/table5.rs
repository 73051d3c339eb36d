//! Table 5: throughput by batching strategy. A pie is started for each.

use serde_json::json;

use super::Outcome;
use crate::commands::paper::measure::{Measured, at_once};
use crate::commands::paper::progress::Steps;
use crate::commands::paper::setting::Setting;
use crate::commands::paper::table::Table;
use crate::commands::paper::workloads::{Case, text};
use crate::report::chart::{Bars, Figure, Plot};

/// Strategy, and requests a second in the paper.
const STRATEGIES: [(&str, Option<f64>); 5] = [
    ("eager", Some(5.61)),
    ("k", Some(30.09)),
    ("t", Some(78.11)),
    ("kort", None),
    ("adaptive", Some(84.85)),
];

pub(super) fn run(setting: &Setting) -> anyhow::Result<Outcome> {
    let workload = text::WORKLOAD;
    let count = setting.size(workload.instances);
    let mut measured = Vec::new();
    let wanted = setting.wanted(&STRATEGIES, |(name, _)| name)?;
    let steps = Steps::new(wanted.len() * (1 + setting.repeats));
    for (strategy, paper) in wanted {
        let pie = setting.servers.start(&setting.servers.models[0], Some(strategy))?;
        let work = |number: usize| {
            let case = Case { number, full: setting.is_full() };
            pie.launch(workload.program, &(workload.arguments)(case)).map(drop)
        };
        steps.done(format_args!("{strategy}: first run {:.2} s", at_once(1, work)?));
        let rates = (0..setting.repeats).map(|_| {
            let seconds = at_once(count, work)?;
            steps.done(format_args!("{strategy}: {count} at once {seconds:.2} s"));
            Ok(count as f64 / seconds)
        });
        measured.push((strategy, paper, Measured::new(rates.collect::<anyhow::Result<Vec<f64>>>()?)));
    }
    let best = measured.iter().map(|(.., rate)| rate.median()).fold(0.0, f64::max);
    let mut table =
        Table::new(["strategy", "requests/s", "of the best", "paper, requests/s", "paper, of the best"]);
    for (strategy, paper, rate) in &measured {
        table.row([
            (*strategy).to_string(),
            rate.text(2),
            format!("{:.2}", rate.median() / best),
            paper.map_or("-".into(), |paper| format!("{paper:.2}")),
            paper.map_or("-".into(), |paper| format!("{:.2}", paper / 84.85)),
        ]);
    }
    let values = measured.iter().map(|(.., rate)| rate.reading()).collect();
    let plot = Plot::Bars(Bars {
        y_label: "requests/s".into(),
        x_label: String::new(),
        groups: measured.iter().map(|(name, ..)| (*name).to_string()).collect(),
        series: vec![(format!("{count} text completions at once"), values)],
        reference: None,
    });
    let title = "Table 5: batching strategies";
    let data = measured.iter().map(|(name, paper, rate)| {
        json!({ "strategy": name, "requests": count, "requests_per_s": rate.json(), "paper": paper })
    });
    Ok(Outcome {
        title: title.into(),
        tables: vec![table],
        figure: Some(Figure::of(title, plot)),
        notes: vec![format!(
            "{count} text completions of 64 tokens at once; k = 8, t = 16 ms, as in the paper's settings"
        )],
        data: json!(data.collect::<Vec<_>>()),
    })
}
