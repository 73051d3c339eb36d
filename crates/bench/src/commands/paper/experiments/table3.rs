//! Table 3: where the time of a token goes. The whole is measured from outside, the parts by `bench-call` inside.

use serde_json::{Value, json};

use super::Outcome;
use super::tpot::{Side, measure};
use crate::commands::paper::api::Api;
use crate::commands::paper::measure::Measured;
use crate::commands::paper::progress::Steps;
use crate::commands::paper::setting::Setting;
use crate::commands::paper::table::Table;

/// Inferlets at once in the paper.
const INFERLETS: usize = 32;
/// Passes of each program, and samples of each call.
const ROUNDS: &str = "100";

pub(super) fn run(setting: &Setting) -> anyhow::Result<Outcome> {
    let (pie, api) = (setting.servers.pie()?, setting.servers.baseline()?);
    let count = setting.size(INFERLETS);
    let steps = Steps::new((2 + usize::from(api.is_some())) * (1 + setting.repeats) + 2 * setting.repeats);
    let baseline = api.as_ref().map(|api| measure(Side::Api(api), count, setting.repeats, &steps));
    let baseline = baseline.transpose()?;
    let inferlet = measure(Side::Pie(&pie), count, setting.repeats, &steps)?;
    let own = Api::connect(&pie.url(), setting.servers.api_key.clone())?;
    let route = measure(Side::Api(&own), count, setting.repeats, &steps)?;
    let alone: Vec<Value> =
        repeat(setting, &steps, "one program", || pie.report("bench-call", &["--rounds", ROUNDS]))?;
    let programs = count.max(2).to_string();
    let together: Vec<Value> = repeat(setting, &steps, &format!("{programs} programs"), || {
        pie.report("bench-call", &["--inferlets", &programs, "--rounds", ROUNDS])
    })?;
    let of = |reports: &[Value], value: &dyn Fn(&Value) -> Option<f64>| {
        Measured::new(reports.iter().filter_map(value))
    };
    let forward = |name: &'static str| move |report: &Value| report["forward"][name]["overhead"].as_f64();
    let parts = [
        ("a pass of one program, beyond the model's time", of(&alone, &forward("token")), Some(0.050)),
        (
            "a pass of each of many programs at once",
            of(&together, &|report| report["overhead_each"].as_f64()),
            None,
        ),
        (
            "distributions (32 most probable) in place of a token",
            of(&alone, &|report| Some(forward("top_k_32")(report)? - forward("token")(report)?)),
            Some(0.070),
        ),
        (
            "a call that asks the engine",
            of(&alone, &|report| report["control"]["usage"].as_f64()),
            Some(0.006),
        ),
        (
            "a call that the runtime answers",
            of(&alone, &|report| report["control"]["length"].as_f64()),
            Some(0.001),
        ),
    ];
    let mut table = Table::new(["what", "ms", "paper, ms (8B, 32 inferlets)"]);
    let milliseconds = |measured: &Measured| measured.text(2);
    if let Some(baseline) = &baseline {
        table.row(["a token of the baseline".into(), milliseconds(baseline), "64.06".into()]);
    }
    table.row(["a token of `/v1/completions` of pie".into(), milliseconds(&route), "-".into()]);
    table.row(["a token of an inferlet".into(), milliseconds(&inferlet), "65.59".into()]);
    for (what, micros, paper) in &parts {
        let paper = paper.map_or("-".into(), |paper| format!("{paper:.3}"));
        table.row([(*what).to_string(), micros.map(|value| value / 1e3).text(4), paper]);
    }
    let parts = parts
        .iter()
        .map(|(what, micros, paper)| json!({ "what": what, "us": micros.json(), "paper_ms": paper }));
    Ok(Outcome {
        title: "Table 3: where the time of a token goes".into(),
        tables: vec![table],
        figure: None,
        notes: vec![
            format!("{count} answers at once for whole tokens; parts by `bench-call`, many is {programs}"),
            "the paper's largest parts have no counterpart: sampling and embedding are a part of the pass, as in its \
             baseline (1.320 and 0.070 ms there)"
                .into(),
        ],
        data: json!({
            "at_once": count, "baseline_ms": baseline.map(|baseline| baseline.json()), "route_ms": route.json(),
            "inferlet_ms": inferlet.json(), "parts": parts.collect::<Vec<_>>(),
        }),
    })
}

/// The reports of all repetitions.
pub(super) fn repeat(
    setting: &Setting,
    steps: &Steps,
    what: &str,
    report: impl Fn() -> anyhow::Result<Value>,
) -> anyhow::Result<Vec<Value>> {
    let reports = (1..=setting.repeats).map(|repeat| {
        let report = report()?;
        steps.done(format_args!("{what}, {repeat} of {}", setting.repeats));
        Ok(report)
    });
    reports.collect()
}
