//! A Poisson process that switches between a calm and a busy rate (Markov-modulated): bursts that last.

use super::Spec;
use super::parameters::{RATE, SECS};
use crate::draw;

pub(super) const SPEC: Spec = Spec {
    name: "mmpp",
    form: "mmpp:CALM,busy=RATE,calm_secs=SECS,busy_secs=SECS",
    about: "Poisson that switches between two rates, staying in each for so many seconds on average",
    first: "calm",
    values: &[
        ("calm", None, RATE),
        ("busy", None, RATE),
        ("calm_secs", None, SECS),
        ("busy_secs", None, SECS),
    ],
    rate: |values| {
        let (calm, busy) = (values.get("calm_secs"), values.get("busy_secs"));
        Some((values.get("calm") * calm + values.get("busy") * busy) / (calm + busy))
    },
    moments: |values, asked, rng| {
        let stay = [("calm", "calm_secs"), ("busy", "busy_secs")];
        let (mut moments, mut at, mut state) = (Vec::with_capacity(asked.count), 0.0, 0);
        while moments.len() < asked.count {
            let (rate, secs) = stay[state];
            let end = at + draw::exponential(rng, values.get(secs));
            loop {
                let gap = draw::exponential(rng, 1.0 / values.get(rate));
                // Exponential gaps have no memory, so what reaches beyond the switch is drawn again after it.
                if at + gap > end || moments.len() == asked.count {
                    break;
                }
                at += gap;
                moments.push(at);
            }
            (at, state) = (end, 1 - state);
        }
        moments
    },
};
