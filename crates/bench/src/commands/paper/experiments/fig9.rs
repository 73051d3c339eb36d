//! Figure 9: launches at once, from within by a program that launches, and over HTTP by as many clients.

use anyhow::Context;
use serde_json::json;

use super::Outcome;
use crate::commands::paper::measure::{Measured, at_once};
use crate::commands::paper::progress::Steps;
use crate::commands::paper::setting::Setting;
use crate::commands::paper::table::Table;
use crate::report::chart::{Figure, Line, Lines, Plot, Reading};

const SIZES: [usize; 10] = [1, 8, 16, 32, 64, 128, 256, 512, 768, 896];
/// Clients at once, each with a thread and a connection here: more would measure this program.
const CLIENTS: usize = 256;

pub(super) fn run(setting: &Setting) -> anyhow::Result<Outcome> {
    let pie = setting.servers.pie()?;
    // What is launched is small, so the sizes are the paper's on any machine; a smaller scale has smaller ones.
    let sizes: Vec<usize> =
        SIZES.into_iter().filter(|size| *size as f64 <= 896.0 * (setting.scale * 16.0).min(1.0)).collect();
    let (mut within, mut over) = (Vec::new(), Vec::new());
    let by_clients = sizes.iter().filter(|size| **size <= CLIENTS).count();
    let steps = Steps::new(sizes.len() + by_clients * setting.repeats);
    for &size in &sizes {
        let rounds = setting.repeats.to_string();
        let report = pie.report("bench-spawn", &["--launches", &size.to_string(), "--rounds", &rounds])?;
        let value =
            |name: &str| report[name].as_f64().with_context(|| format!("`bench-spawn` gives no `{name}`"));
        within.push([value("median")? / 1e3, value("min")? / 1e3, value("max")? / 1e3]);
        steps.done(format_args!("{size} from within"));
        over.push(if size <= CLIENTS {
            let launch = |_| pie.launch("bench-spawn", &[]).map(drop);
            let millis = (0..setting.repeats).map(|_| {
                let seconds = at_once(size, launch)?;
                steps.done(format_args!("{size} over HTTP: {:.1} ms", seconds * 1e3));
                Ok(seconds * 1e3)
            });
            Some(Measured::new(millis.collect::<anyhow::Result<Vec<f64>>>()?))
        } else {
            None
        });
    }
    let mut table = Table::new([
        "launches",
        "within, ms",
        "of each, us",
        "over HTTP, ms",
        "paper, warm, ms",
        "paper, cold, ms",
    ]);
    for (index, size) in sizes.iter().enumerate() {
        let [median, low, high] = within[index];
        // The paper's text has the two ends of its curves.
        let (warm, cold) = match size {
            1 => ("10", "35"),
            896 => ("50", "81"),
            _ => ("-", "-"),
        };
        table.row([
            size.to_string(),
            format!("{median:.2} [{low:.2}-{high:.2}]"),
            format!("{:.0}", median * 1e3 / *size as f64),
            over[index].as_ref().map_or("-".into(), |over| over.text(2)),
            warm.into(),
            cold.into(),
        ]);
    }
    let at = || sizes.iter().map(|size| *size as f64);
    let from_within = within.iter().map(|[value, low, high]| Reading::between(*value, *low, *high));
    let from_outside = over.iter().map(|over| over.as_ref().and_then(Measured::reading));
    let lines = vec![
        Line { name: "within".into(), points: at().zip(from_within).collect() },
        Line {
            name: "over HTTP".into(),
            points: at().zip(from_outside).filter_map(|(size, reading)| Some((size, reading?))).collect(),
        },
    ];
    let title = "Figure 9: launches at once";
    let (x_label, y_label) = ("launches at once".into(), "ms until all have ended".into());
    let plot = Plot::Lines(Lines { x_label, y_label, lines });
    let data = sizes.iter().zip(within.iter().zip(&over)).map(|(size, (within, over))| {
        json!({ "launches": size, "within_ms": { "median": within[0], "min": within[1], "max": within[2] },
                "over_http_ms": over.as_ref().map(Measured::json) })
    });
    Ok(Outcome {
        title: title.into(),
        tables: vec![table],
        figure: Some(Figure::of(title, plot)),
        notes: vec![
            "the time is until the last program has ended, the paper's until the reply to the last launch".into(),
            "over HTTP each launch is a request with a connection of its own and two inferlets, `launch-server` and the program".into(),
            "a program is compiled once and kept on disk, so there is no cold launch with its upload".into(),
        ],
        data: json!(data.collect::<Vec<_>>()),
    })
}
