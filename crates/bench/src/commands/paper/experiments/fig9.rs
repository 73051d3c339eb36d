//! Figure 9: launches at once, from within by a program that launches, and over one session by this client.

use anyhow::Context;
use serde_json::json;

use super::Outcome;
use crate::commands::paper::measure::Measured;
use crate::commands::paper::progress::Steps;
use crate::commands::paper::session::{Launched, Session};
use crate::commands::paper::setting::Setting;
use crate::commands::paper::table::Table;
use crate::report::chart::{Figure, Line, Lines, Plot, Reading};

const SIZES: [usize; 10] = [1, 8, 16, 32, 64, 128, 256, 512, 768, 896];
/// A program that does nothing, unless it is told to launch others.
const PROGRAM: &str = "bench-spawn";

pub(super) fn run(setting: &Setting) -> anyhow::Result<Outcome> {
    let pie = setting.servers.pie()?;
    // What is launched is small, so the sizes are the paper's on any machine; a smaller scale has smaller ones.
    let sizes: Vec<usize> =
        SIZES.into_iter().filter(|size| *size as f64 <= 896.0 * (setting.scale * 16.0).min(1.0)).collect();
    let session = Session::open(&pie)?;
    let (mut within, mut answered, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    let steps = Steps::new(sizes.len() * (1 + setting.repeats));
    for &size in &sizes {
        let rounds = setting.repeats.to_string();
        let report = pie.report(PROGRAM, &["--launches", &size.to_string(), "--rounds", &rounds])?;
        let value =
            |name: &str| report[name].as_f64().with_context(|| format!("`{PROGRAM}` gives no `{name}`"));
        within.push([value("median")? / 1e3, value("min")? / 1e3, value("max")? / 1e3]);
        steps.done(format_args!("{size} from within"));
        // Once unmeasured: the server keeps as many instances at hand as were in use.
        session.launches(PROGRAM, size)?;
        let runs = (0..setting.repeats).map(|_| {
            let launched = session.launches(PROGRAM, size)?;
            steps.done(format_args!("{size} over a session: {:.1} ms", launched.ended * 1e3));
            Ok(launched)
        });
        let runs: Vec<Launched> = runs.collect::<anyhow::Result<_>>()?;
        answered.push(Measured::new(runs.iter().map(|run| run.answered * 1e3)));
        ended.push(Measured::new(runs.iter().map(|run| run.ended * 1e3)));
    }
    let mut table = Table::new([
        "launches",
        "within, ms",
        "of each, us",
        "over a session, ms",
        "until answered, ms",
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
            ended[index].text(2),
            answered[index].text(2),
            warm.into(),
            cold.into(),
        ]);
    }
    let from_within = within.iter().map(|[value, low, high]| Some(Reading::between(*value, *low, *high)));
    let lines = vec![
        line("within", &sizes, from_within),
        line("over a session", &sizes, ended.iter().map(Measured::reading)),
        line("over a session, until answered", &sizes, answered.iter().map(Measured::reading)),
    ];
    let title = "Figure 9: launches at once";
    let (x_label, y_label) = ("launches at once".into(), "ms until all have ended".into());
    let plot = Plot::Lines(Lines { x_label, y_label, lines });
    let data = sizes.iter().enumerate().map(|(index, size)| {
        let [median, min, max] = within[index];
        json!({ "launches": size, "within_ms": { "median": median, "min": min, "max": max },
                "over_session_ms": ended[index].json(), "until_answered_ms": answered[index].json() })
    });
    Ok(Outcome {
        title: title.into(),
        tables: vec![table],
        figure: Some(Figure::of(title, plot)),
        notes: vec![
            "the time is until the last program has ended, the paper's until the reply to the last launch, as \"until answered\"".into(),
            "over a session the launches are calls on one connection, as an application makes them".into(),
            "a program is compiled once and kept on disk, so there is no cold launch with its upload".into(),
        ],
        data: json!(data.collect::<Vec<_>>()),
    })
}

fn line(name: &str, sizes: &[usize], readings: impl Iterator<Item = Option<Reading>>) -> Line {
    let points = sizes.iter().zip(readings);
    Line {
        name: name.into(),
        points: points.filter_map(|(size, reading)| Some((*size as f64, reading?))).collect(),
    }
}
