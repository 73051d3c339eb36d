//! All at once, or in bursts: `size` requests at the same moment, every `secs` seconds.

use super::Spec;
use super::parameters::SECS;

pub(super) const SPEC: Spec = Spec {
    name: "instant",
    form: "instant[:SIZE,secs=1]",
    about: "all at once; with SIZE, that many at the same moment every `secs` seconds",
    first: "size",
    values: &[("size", Some(f64::MAX), (1.0, f64::MAX)), ("secs", Some(1.0), SECS)],
    rate: |values| (values.get("size") < f64::MAX).then(|| values.get("size") / values.get("secs")),
    moments: |values, asked, _| {
        let burst = |index: usize| (index as f64 / values.get("size").floor()).floor();
        (0..asked.count).map(|index| burst(index) * values.get("secs")).collect()
    },
};
