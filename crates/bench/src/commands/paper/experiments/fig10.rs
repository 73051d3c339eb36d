//! Figure 10: what calls cost: those that the control layer answers, and passes beyond the model's own time.

use anyhow::Context;
use serde_json::{Value, json};

use super::Outcome;
use super::table3::repeat;
use crate::commands::paper::measure::Measured;
use crate::commands::paper::progress::Steps;
use crate::commands::paper::setting::Setting;
use crate::commands::paper::table::Table;
use crate::report::chart::{Figure, Line, Lines, Plot};

const SIZES: [usize; 9] = [2, 8, 16, 32, 64, 128, 256, 512, 896];
/// Passes of each program, and samples of each call.
const ROUNDS: &str = "50";
const CONTROL: [(&str, &str); 4] = [
    ("length", "`context.length`"),
    ("fork_and_drop", "`context.fork`, and dropping it"),
    ("truncate", "`context.truncate`"),
    ("usage", "`runtime.usage`, which asks the engine"),
];

pub(super) fn run(setting: &Setting) -> anyhow::Result<Outcome> {
    let pie = setting.servers.pie()?;
    let many: Vec<usize> = setting.sizes(&SIZES).into_iter().filter(|size| *size > 1).collect();
    let steps = Steps::new((1 + many.len()) * setting.repeats);
    let alone = repeat(setting, &steps, "one program", || pie.report("bench-call", &["--rounds", ROUNDS]))?;
    let figures = |reports: &[Value], value: &dyn Fn(&Value) -> Option<f64>| -> anyhow::Result<Measured> {
        let values = reports.iter().map(|report| value(report).context("`bench-call` lacks a figure"));
        Ok(Measured::new(values.collect::<anyhow::Result<Vec<f64>>>()?))
    };
    let mut table = Table::new(["call", "programs", "us", "paper, us"]);
    let mut data = Vec::new();
    for (key, name) in CONTROL {
        let micros = figures(&alone, &|report| report["control"][key].as_f64())?;
        table.row([name.into(), "1".into(), micros.text(2), "below 30".into()]);
        data.push(json!({ "call": key, "programs": 1, "us": micros.json() }));
    }
    let mut sizes = vec![1];
    let mut passes = vec![figures(&alone, &|report| report["forward"]["token"]["overhead"].as_f64())?];
    for size in many {
        let programs = size.to_string();
        let together = repeat(setting, &steps, &format!("{size} programs"), || {
            pie.report("bench-call", &["--inferlets", &programs, "--rounds", ROUNDS])
        })?;
        sizes.push(size);
        passes.push(figures(&together, &|report| report["overhead_each"].as_f64())?);
    }
    for (size, micros) in sizes.iter().zip(&passes) {
        let name = "a pass that draws a token, beyond the model's time";
        table.row([name.into(), size.to_string(), micros.text(2), "10-300".into()]);
        data.push(json!({ "call": "pass", "programs": size, "us": micros.json() }));
    }
    let points = sizes.iter().zip(&passes);
    let points = points.filter_map(|(size, micros)| Some((*size as f64, micros.reading()?))).collect();
    let title = "Figure 10: what calls cost";
    let plot = Plot::Lines(Lines {
        x_label: "programs at once".into(),
        y_label: "us of each pass".into(),
        lines: vec![Line { name: "a pass, beyond the model's time".into(), points }],
    });
    Ok(Outcome {
        title: title.into(),
        tables: vec![table],
        figure: Some(Figure::of(title, plot)),
        notes: vec![
            "of many programs: the time on the clock less the model's, by the number of passes".into(),
            "a small model shows this best: what a call costs does not depend on it, and the model's time does".into(),
        ],
        data: json!(data),
    })
}
