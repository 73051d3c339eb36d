//! Stages: each a rate and how long it lasts. Ends after the last.

use super::{Spec, thinned};

pub(super) const SPEC: Spec = Spec {
    name: "steps",
    form: "steps:RATExSECS,RATExSECS,..",
    about: "Poisson in stages, such as a spike; ends after the last one",
    first: "",
    values: &[],
    rate: |_| None,
    moments: |values, asked, rng| {
        super::series::in_stages(&values.list, asked.count, |count, highest, end, rate| {
            thinned(count, highest, Some(end), rng, rate)
        })
    },
};
