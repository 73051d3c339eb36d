//! `constant`: one mean rate, and one length of prompts and answers or none.

use super::process::{self, Series};
use super::{Making, Spec};
use crate::commands::aibrix::rows::Group;

pub(super) const SPEC: Spec = Spec { name: "constant", make };

fn make(making: &mut Making<'_>) -> anyhow::Result<Vec<Group>> {
    let key = |name: &str| format!("workload_configs.constant.{name}");
    let config = making.config;
    let rate = config.positive(&key("target_qps"))?;
    let intervals = (making.duration_ms()? / making.interval_ms()?).ceil() as usize;
    let lengths = |name: &str| -> anyhow::Result<Option<Vec<f64>>> {
        Ok(config.optional_number(&key(name))?.map(|length| vec![length.max(1.0); intervals]))
    };
    let series = Series {
        interval_ms: making.interval_ms()?,
        rates: vec![rate; intervals],
        input: lengths("target_prompt_len")?,
        output: lengths("target_completion_len")?,
        sessions: config.count(&key("max_concurrent_sessions"))?.max(1) as usize,
    };
    process::fill(making, series)
}
