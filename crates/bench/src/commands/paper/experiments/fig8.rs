//! Figure 8: tasks.

use super::{Outcome, compare};
use crate::commands::paper::setting::Setting;
use crate::commands::paper::workloads::TASKS;

pub(super) fn run(setting: &Setting) -> anyhow::Result<Outcome> {
    compare::run(setting, "Figure 8: tasks", &TASKS)
}
