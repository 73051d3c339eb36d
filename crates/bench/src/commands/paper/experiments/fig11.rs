//! Figure 11: passes for each token of an answer, by the server's own counters.

use serde_json::json;

use super::Outcome;
use crate::commands::paper::progress::Steps;
use crate::commands::paper::setting::Setting;
use crate::commands::paper::table::Table;
use crate::commands::paper::workloads::{AGENTS, Case, TASKS, Workload};
use crate::report::chart::{Bars, Figure, Plot, Reading};

/// What the paper's text has, in calls of its inference layer.
fn paper(name: &str) -> Option<f64> {
    match name {
        "text" => Some(1.6),
        "beam" => Some(17.0),
        _ => None,
    }
}

pub(super) fn run(setting: &Setting) -> anyhow::Result<Outcome> {
    let all: Vec<Workload> = TASKS.iter().chain(&AGENTS).copied().collect();
    let pie = setting.servers.pie()?;
    let mut table = Table::new([
        "workload",
        "passes",
        "tokens drawn",
        "passes for each",
        "rows computed for each",
        "paper, calls for each",
    ]);
    let (mut names, mut values, mut data) = (Vec::new(), Vec::new(), Vec::new());
    let wanted = setting.wanted(&all, |workload| workload.name)?;
    let steps = Steps::new(wanted.len());
    for workload in wanted {
        let case = Case { number: 0, full: setting.is_full() };
        let before = pie.counters()?;
        pie.launch(workload.program, &(workload.arguments)(case))?;
        let done = pie.counters()? - before;
        let (passes, rows, tokens) = (done.passes.unwrap_or(0.0), done.computed, done.generated);
        // A search looks at probabilities and draws nothing, so its passes are told without a ratio.
        let each = (tokens > 0.0).then(|| passes / tokens);
        table.row([
            workload.name.into(),
            format!("{passes:.0}"),
            format!("{tokens:.0}"),
            each.map_or("-".into(), |each| format!("{each:.2}")),
            each.map_or("-".into(), |_| format!("{:.2}", rows / tokens)),
            paper(workload.name).map_or("-".into(), |paper| format!("{paper:.1}")),
        ]);
        steps.done(format_args!("{}: {passes:.0} passes", workload.name));
        names.push(workload.name.to_string());
        values.push(each.map(Reading::from));
        data.push(json!({ "workload": workload.name, "passes": passes, "drawn_tokens": tokens, "rows_computed": rows }));
    }
    let title = "Figure 11: passes for each token of an answer";
    let plot = Plot::Bars(Bars {
        y_label: "passes for each token".into(),
        x_label: String::new(),
        groups: names,
        series: vec![("pie".into(), values)],
        reference: None,
    });
    Ok(Outcome {
        title: title.into(),
        tables: vec![table],
        figure: Some(Figure::of(title, plot)),
        notes: vec![
            "a pass embeds, computes and draws, which are calls of their own in the paper's API; calls of the control layer are not counted by the server".into(),
            "one instance of each; the server must have nothing else to do".into(),
        ],
        data: json!(data),
    })
}
