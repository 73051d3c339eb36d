//! Gaps uniform between zero and twice the mean.

use super::Spec;
use super::parameters::RATE;

pub(super) const SPEC: Spec = Spec {
    name: "uniform",
    form: "uniform:RATE",
    about: "gaps uniform between 0 and 2 / RATE",
    first: "rate",
    values: &[("rate", None, RATE)],
    rate: |values| Some(values.get("rate")),
    moments: |values, asked, rng| {
        let mut at = 0.0;
        let mut next = || {
            at += rng.f64() * 2.0 / values.get("rate");
            at
        };
        (0..asked.count).map(|_| next()).collect()
    },
};
