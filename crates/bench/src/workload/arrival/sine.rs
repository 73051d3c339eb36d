//! A rate that swings, as over a day.

use super::parameters::{RATE, SECS};
use super::{Spec, thinned};

pub(super) const SPEC: Spec = Spec {
    name: "sine",
    form: "sine:MEAN,swing=RATE,period=SECS",
    about: "Poisson whose rate swings around MEAN by `swing`",
    first: "mean",
    values: &[("mean", None, RATE), ("swing", None, (0.0, 1e9)), ("period", None, SECS)],
    rate: |values| Some(values.get("mean")),
    moments: |values, asked, rng| {
        let (mean, swing, period) = (values.get("mean"), values.get("swing"), values.get("period"));
        thinned(asked.count, mean + swing, None, rng, |at| {
            mean + swing * (std::f64::consts::TAU * at / period).sin()
        })
    },
};
