//! Equal gaps; the first request at once.

use super::Spec;
use super::parameters::RATE;

pub(super) const SPEC: Spec = Spec {
    name: "constant",
    form: "constant:RATE",
    about: "equal gaps",
    first: "rate",
    values: &[("rate", None, RATE)],
    rate: |values| Some(values.get("rate")),
    moments: |values, asked, _| (0..asked.count).map(|index| index as f64 / values.get("rate")).collect(),
};
