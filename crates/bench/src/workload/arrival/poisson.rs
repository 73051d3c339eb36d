//! Independent arrivals: exponential gaps.

use super::Spec;
use super::parameters::RATE;
use crate::draw;

pub(super) const SPEC: Spec = Spec {
    name: "poisson",
    form: "poisson:RATE",
    about: "independent users: exponential gaps",
    first: "rate",
    values: &[("rate", None, RATE)],
    rate: |values| Some(values.get("rate")),
    moments: |values, asked, rng| {
        let mut at = 0.0;
        let mut next = || {
            at += draw::exponential(rng, 1.0 / values.get("rate"));
            at
        };
        (0..asked.count).map(|_| next()).collect()
    },
};
