//! Time per output token, the same way for a program and for a client: what a longer answer takes more than a short one,
//! by the tokens that it has more. So launch, prompt and connection do not count.

use crate::commands::paper::api::Api;
use crate::commands::paper::measure::{Measured, at_once};
use crate::commands::paper::pie::Pie;
use crate::commands::paper::progress::Steps;
use crate::commands::paper::workloads::{Case, text};

/// Tokens of the short and of the long answer.
const TOKENS: [usize; 2] = [8, 64];

/// What answers.
#[derive(Clone, Copy)]
pub(super) enum Side<'a> {
    /// `text-completion`.
    Pie(&'a Pie),
    /// The client.
    Api(&'a Api),
}

impl Side<'_> {
    fn name(self) -> &'static str {
        match self {
            Side::Pie(_) => "a program",
            Side::Api(_) => "/v1/completions",
        }
    }

    fn run(self, number: usize, tokens: usize) -> anyhow::Result<()> {
        let case = Case { number, full: true };
        match self {
            Side::Pie(pie) => pie.launch(text::WORKLOAD.program, &text::arguments(case, tokens)).map(drop),
            Side::Api(api) => text::baseline(api, case, tokens),
        }
    }

    fn tokens(self) -> anyhow::Result<f64> {
        Ok(match self {
            Side::Pie(pie) => pie.counters()?.generated,
            Side::Api(api) => api.counts().output_tokens as f64,
        })
    }
}

/// Milliseconds of a token, with so many answers at once.
pub(super) fn measure(
    side: Side<'_>,
    at_a_time: usize,
    repeats: usize,
    steps: &Steps,
) -> anyhow::Result<Measured> {
    let seconds = at_once(at_a_time, |number| side.run(number, TOKENS[0]))?;
    steps.done(format_args!("{}: first run {seconds:.2} s", side.name()));
    let mut values = Vec::new();
    for _ in 0..repeats {
        let (mut seconds, mut drawn) = ([0.0; 2], [0.0; 2]);
        for (index, tokens) in TOKENS.into_iter().enumerate() {
            let before = side.tokens()?;
            seconds[index] = at_once(at_a_time, |number| side.run(number, tokens))?;
            drawn[index] = side.tokens()? - before;
        }
        let more = (drawn[1] - drawn[0]) / at_a_time as f64;
        anyhow::ensure!(
            more >= 1.0,
            "answers of {} tokens at most have {:.0} tokens, those of {} have {:.0}: the model ends too early for a time per token",
            TOKENS[1],
            drawn[1] / at_a_time as f64,
            TOKENS[0],
            drawn[0] / at_a_time as f64
        );
        let millis = (seconds[1] - seconds[0]) * 1e3 / more;
        steps.done(format_args!("{}: {millis:.2} ms of a token", side.name()));
        values.push(millis);
    }
    Ok(Measured::new(values))
}
