//! A rate that goes from one value to another, in a line or by a constant factor, and stays there.

use super::parameters::{RATE, SECS};
use super::{Spec, thinned};

pub(super) const SPEC: Spec = Spec {
    name: "ramp",
    form: "ramp:FROM,to=RATE,secs=SECS[,exponential=0]",
    about: "Poisson whose rate goes from FROM to `to` within `secs`, and stays there",
    first: "from",
    values: &[
        ("from", None, RATE),
        ("to", None, RATE),
        ("secs", None, SECS),
        ("exponential", Some(0.0), (0.0, 1.0)),
    ],
    rate: |_| None,
    moments: |values, asked, rng| {
        let (from, to, secs) = (values.get("from"), values.get("to"), values.get("secs"));
        let exponential = values.get("exponential") >= 0.5;
        thinned(asked.count, from.max(to), None, rng, |at| {
            let part = (at / secs).min(1.0);
            if exponential { from * (to / from).powf(part) } else { from + (to - from) * part }
        })
    },
};
