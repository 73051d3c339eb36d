//! Figure 6: agents.

use super::{Outcome, compare};
use crate::commands::paper::setting::Setting;
use crate::commands::paper::workloads::AGENTS;

pub(super) fn run(setting: &Setting) -> anyhow::Result<Outcome> {
    compare::run(setting, "Figure 6: agents", &AGENTS)
}
