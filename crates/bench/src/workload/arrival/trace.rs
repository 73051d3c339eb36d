//! The moments that were recorded, faster or slower.

use super::Spec;

pub(super) const SPEC: Spec = Spec {
    name: "trace",
    form: "trace[:SPEED]",
    about: "the moments of the dataset's trace, SPEED times as fast",
    first: "speed",
    values: &[("speed", Some(1.0), (1e-6, 1e6))],
    rate: |_| None,
    moments: |values, asked, _| {
        let mut moments: Vec<f64> = Vec::with_capacity(asked.count);
        for at in asked.recorded {
            // Lines of a trace may be out of order by a little; requests are sent in the order of the file.
            let last = moments.last().copied().unwrap_or(0.0);
            let at = at.map_or(last, |at| at.secs() / values.get("speed"));
            moments.push(at.max(last));
        }
        moments
    },
};
