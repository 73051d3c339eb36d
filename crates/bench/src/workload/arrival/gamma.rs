//! Gamma gaps: burstier than Poisson for a burstiness below 1, more even above. As in `vllm bench serve`, all moments
//! are scaled so that the last is at `count / rate`, which takes the chance out of the offered rate.

use super::Spec;
use super::parameters::RATE;
use crate::draw;

pub(super) const SPEC: Spec = Spec {
    name: "gamma",
    form: "gamma:RATE[,burstiness=1]",
    about: "gamma gaps: bursts for a burstiness below 1; 1 is Poisson with exactly this mean rate",
    first: "rate",
    values: &[("rate", None, RATE), ("burstiness", Some(1.0), (1e-3, 1e6))],
    rate: |values| Some(values.get("rate")),
    moments: |values, asked, rng| {
        let (rate, burstiness) = (values.get("rate"), values.get("burstiness"));
        let mut at = 0.0;
        let mut moments: Vec<f64> = Vec::with_capacity(asked.count);
        for _ in 0..asked.count {
            at += draw::gamma(rng, burstiness, 1.0 / (rate * burstiness));
            moments.push(at);
        }
        let scale = if at > 0.0 { asked.count as f64 / rate / at } else { 1.0 };
        moments.into_iter().map(|moment| moment * scale).collect()
    },
};
