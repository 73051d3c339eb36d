//! What a server counts of itself on `/metrics`: pie, and llama.cpp's server with `--metrics`.

use std::ops::{Add, Sub};
use std::time::Duration;

use crate::client::{ClientOptions, fetch};
use crate::telemetry::prometheus;

/// What a server has counted: since it began, or as a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Tokens that passes drew.
    pub generated: f64,
    /// Rows that the model computed: tokens given to passes, but for those that a cache of prefixes had.
    pub computed: f64,
    /// Batches that the model computed.
    pub batches: f64,
    /// Passes of programs; of pie only.
    pub passes: Option<f64>,
    /// Seconds in which the model computed; of pie only.
    pub model_seconds: Option<f64>,
    /// Processor seconds of programs, and of the server for them; of pie only.
    pub program_seconds: Option<f64>,
}

impl Counters {
    /// Asks the server; `None` where it does not count, or its page is another.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn fetch(options: &ClientOptions) -> anyhow::Result<Option<Self>> {
        let fetched = fetch(options, "GET", "/metrics", None, Duration::from_secs(30));
        let fetched = fetched.map_err(|failure| anyhow::anyhow!("/metrics: {}", failure.message))?;
        Ok(Self::read(&String::from_utf8_lossy(&fetched.body)))
    }

    fn read(page: &str) -> Option<Self> {
        let sum = |name, label| prometheus::sum(page, name, label);
        if let Some(computed) = sum("pie_rows_total", "source=\"computed\"") {
            return Some(Self {
                generated: sum("pie_generated_tokens_total", "")?,
                computed,
                batches: sum("pie_batches_total", "")?,
                passes: Some(sum("pie_passes_total", "outcome=\"completed\"")?),
                model_seconds: Some(sum("pie_engine_step_seconds_sum", "")?),
                program_seconds: Some(sum("pie_program_cpu_seconds_total", "").unwrap_or(0.0)),
            });
        }
        // Each drawn token but the last of an answer is a row of a batch, so this is one row too many for each answer.
        let generated = sum("llamacpp:tokens_predicted_total", "")?;
        Some(Self {
            generated,
            computed: sum("llamacpp:prompt_tokens_total", "")? + generated,
            batches: sum("llamacpp:n_decode_total", "")?,
            ..Self::default()
        })
    }
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        let less = |after: Option<f64>, before: Option<f64>| Some(after? - before?);
        Self {
            generated: self.generated - before.generated,
            computed: self.computed - before.computed,
            batches: self.batches - before.batches,
            passes: less(self.passes, before.passes),
            model_seconds: less(self.model_seconds, before.model_seconds),
            program_seconds: less(self.program_seconds, before.program_seconds),
        }
    }
}

impl Add for Counters {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let sum = |a: Option<f64>, b: Option<f64>| Some(a? + b?);
        Self {
            generated: self.generated + other.generated,
            computed: self.computed + other.computed,
            batches: self.batches + other.batches,
            passes: sum(self.passes, other.passes),
            model_seconds: sum(self.model_seconds, other.model_seconds),
            program_seconds: sum(self.program_seconds, other.program_seconds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_pie_is_summed_over_models() {
        let page = "pie_rows_total{model=\"x\",source=\"computed\"} 5\npie_rows_total{model=\"y\",source=\"computed\"} 2\n\
                    pie_rows_total{model=\"x\",source=\"cached\"} 9\npie_generated_tokens_total{model=\"x\"} 3\n\
                    pie_batches_total{model=\"x\",outcome=\"completed\"} 4\n\
                    pie_passes_total{model=\"x\",outcome=\"completed\"} 4\npie_passes_total{model=\"x\",outcome=\"failed\"} 1\n\
                    pie_engine_step_seconds_sum{model=\"x\"} 0.5\npie_program_cpu_seconds_total{program=\"p\"} 0.25\n";
        let counters = Counters::read(page).unwrap();
        let expected = Counters {
            generated: 3.0,
            computed: 7.0,
            batches: 4.0,
            passes: Some(4.0),
            model_seconds: Some(0.5),
            program_seconds: Some(0.25),
        };
        assert_eq!(counters, expected);
        assert_eq!(
            counters - counters,
            Counters {
                passes: Some(0.0),
                model_seconds: Some(0.0),
                program_seconds: Some(0.0),
                ..Counters::default()
            }
        );
        assert_eq!((counters - counters) + counters, counters);
    }

    #[test]
    fn the_page_of_llama_cpp_has_fewer_and_another_has_none() {
        let page = "# TYPE llamacpp:prompt_tokens_total counter\nllamacpp:prompt_tokens_total 40\n\
                    llamacpp:tokens_predicted_total 10\nllamacpp:n_decode_total 12\n";
        let counters = Counters::read(page).unwrap();
        assert_eq!((counters.computed, counters.batches, counters.model_seconds), (50.0, 12.0, None));
        assert_eq!(Counters::read("vllm:num_requests_running 1\n"), None);
    }
}
