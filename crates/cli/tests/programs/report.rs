//! What a run said, and the values in its report.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{Arguments, On};

/// What the runs of a row said, in order.
pub(crate) struct Runs {
    pub(crate) on: On,
    pub(crate) runs: Vec<Run>,
}

pub(crate) struct Run {
    pub(crate) arguments: Arguments,
    /// All of stdout.
    pub(crate) said: String,
    /// Its last line, where that is JSON.
    pub(crate) report: Value,
}

impl Runs {
    pub(crate) fn report(&self, run: usize) -> &Value {
        &self.runs[run].report
    }
}

impl Run {
    pub(crate) fn integer(&self, key: &str) -> Result<u64> {
        integer(&self.report, key)
    }

    /// Tokens computed over all passes.
    pub(crate) fn computed(&self) -> Result<u64> {
        integer(&self.report["work"], "computed")
    }

    pub(crate) fn passes(&self) -> Result<u64> {
        integer(&self.report["work"], "passes")
    }

    pub(crate) fn number(&self, key: &str) -> Result<f64> {
        self.report[key].as_f64().with_context(|| format!("`{key}` is no number"))
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str> {
        self.report[key].as_str().with_context(|| format!("`{key}` is no text"))
    }

    pub(crate) fn holds(&self, key: &str) -> Result<()> {
        ensure!(self.report[key] == json!(true), "`{key}` is not true");
        Ok(())
    }
}

pub(crate) fn integer(report: &Value, key: &str) -> Result<u64> {
    report[key].as_u64().with_context(|| format!("`{key}` is no count"))
}

pub(crate) fn texts(value: &Value) -> Result<Vec<&str>> {
    let items = value.as_array().context("not a list")?;
    items.iter().map(|item| item.as_str().context("not a text")).collect()
}

pub(crate) fn positive(value: &Value) -> Result<bool> {
    value.as_f64().map(|value| value > 0.0).with_context(|| format!("{value} is no number"))
}
