//! Files of `--output-json`, as `compare` and `gate` see them: the report of one load, those of a sweep, or what a
//! search has found.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

/// The report of a load.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    /// The load as it was named.
    pub(super) load: String,
    /// When requests were sent: what tells that two runs had the same load.
    schedule: String,
    /// The report.
    pub(super) report: Value,
}

/// What a file has.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Measured {
    /// One load, or those of a sweep.
    Loads(Vec<Run>),
    /// The highest load at which promises were kept; none where not even the first was.
    Highest(Option<f64>),
}

impl Measured {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is no report.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{shown}`"))?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("`{shown}` is no JSON"))?;
        Self::of(value).with_context(|| format!("`{shown}`"))
    }

    fn of(value: Value) -> anyhow::Result<Self> {
        let version = crate::report::json::VERSION;
        if value["pie_bench"].as_u64() != Some(u64::from(version)) {
            bail!(
                "is no report of this version: expected `\"pie_bench\": {version}`, as --output-json writes it"
            );
        }
        match value["kind"].as_str() {
            None => Ok(Self::Loads(vec![Run::of(&value)?])),
            Some("sweep") => {
                let runs = value["runs"].as_array().context("a sweep without `runs`")?;
                ensure!(!runs.is_empty(), "a sweep that measured no load");
                Ok(Self::Loads(runs.iter().map(Run::of).collect::<anyhow::Result<_>>()?))
            }
            Some("slo") => Ok(Self::Highest(value["passed"].as_f64())),
            Some(kind) => bail!("found the kind `{kind}`, expected a report, a sweep or slo"),
        }
    }

    /// The run with the load of `other`. Two files of one load each are compared whatever the loads were.
    pub(super) fn same_load(&self, other: &Run, alone: bool) -> Option<&Run> {
        match self {
            Self::Loads(runs) if alone && runs.len() == 1 => runs.first(),
            Self::Loads(runs) => runs.iter().find(|run| run.schedule == other.schedule),
            Self::Highest(_) => None,
        }
    }
}

impl Run {
    fn of(report: &Value) -> anyhow::Result<Self> {
        ensure!(report["summary"].is_object(), "a run without `summary`, expected a report of --output-json");
        let schedule = report["schedule"].as_str().unwrap_or_default().to_string();
        let load = report["load"].as_str().map_or_else(|| schedule.clone(), str::to_string);
        Ok(Self { load, schedule, report: report.clone() })
    }
}
