//! Table 4: time per output token by the size of the model.

use serde_json::json;

use super::Outcome;
use super::tpot::{Side, measure};
use crate::commands::paper::api::Api;
use crate::commands::paper::progress::Steps;
use crate::commands::paper::setting::Setting;
use crate::commands::paper::table::Table;

/// Model, milliseconds of a token of vLLM and of pie in the paper.
const PAPER: [(&str, f64, f64); 3] = [("1B", 16.83, 18.75), ("3B", 30.30, 32.01), ("8B", 64.06, 65.59)];

pub(super) fn run(setting: &Setting) -> anyhow::Result<Outcome> {
    let servers = &setting.servers;
    let mut table = Table::new(["model", "TPOT pie, ms", "baseline, ms", "pie is slower by"]);
    let mut data = Vec::new();
    let sides = servers.models.len() + servers.baselines.len().min(servers.models.len());
    let steps = Steps::new(sides * (1 + setting.repeats));
    for (index, model) in servers.models.iter().enumerate() {
        let pie = match &servers.pie {
            Some(_) => servers.pie()?,
            None => servers.start(model, None)?,
        };
        let api =
            servers.baselines.get(index).map(|url| Api::connect(url, servers.api_key.clone())).transpose()?;
        let own = measure(Side::Pie(&pie), 1, setting.repeats, &steps)?;
        let other =
            api.as_ref().map(|api| measure(Side::Api(api), 1, setting.repeats, &steps)).transpose()?;
        let slower = other.as_ref().map(|other| (own.median() / other.median() - 1.0) * 100.0);
        let name = model.rsplit('/').next().unwrap_or(model).to_string();
        table.row([
            name,
            own.text(2),
            other.as_ref().map_or("-".into(), |other| other.text(2)),
            slower.map_or("-".into(), |percent| format!("{percent:+.1} %")),
        ]);
        data.push(json!({
            "model": model, "pie_ms": own.json(), "baseline_ms": other.map(|other| other.json()),
            "baseline": servers.baselines.get(index),
        }));
    }
    for (model, vllm, pie) in PAPER {
        let slower = format!("{:+.1} %", (pie / vllm - 1.0) * 100.0);
        table.row([
            format!("paper: Llama 3 {model}, vLLM"),
            format!("{pie:.2}"),
            format!("{vllm:.2}"),
            slower,
        ]);
    }
    Ok(Outcome {
        title: "Table 4: time per output token".into(),
        tables: vec![table],
        figure: None,
        notes: vec![
            "one answer at a time; the time of 64 tokens less that of 8, by the tokens between".into(),
        ],
        data: json!(data),
    })
}
