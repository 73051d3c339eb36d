//! What each figure of a request is. Tools use the same word for different things, so every definition has a name.

use crate::clock::Nanos;
use crate::record::Record;

/// A figure of a request.
pub struct Metric {
    /// Its name in reports.
    pub name: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// Its values for one request, in seconds. None where it has no meaning.
    pub values: fn(&Record) -> Vec<f64>,
}

fn one(value: Option<f64>) -> Vec<f64> {
    value.into_iter().collect()
}

/// Seconds between two moments.
fn span(later: Option<Nanos>, earlier: Nanos) -> Option<f64> {
    later.map(|later| later.since(earlier).secs())
}

/// Every figure in seconds; figures of a request that has them. All but the first lines of each group are service
/// times: they count from when a slot was free.
pub const METRICS: [Metric; 20] = [
    Metric { name: "ttft", about: "time to the first token of any channel", values: |r| one(ttft(r)) },
    Metric {
        name: "ttft_response",
        about: "the same, from when it was meant to be sent",
        values: |r| one(span(r.first_token, r.intended)),
    },
    Metric {
        name: "ttft_content",
        about: "time to the first token of content",
        values: |r| one(span(r.first_content, r.service_start())),
    },
    Metric {
        name: "ttfb",
        about: "time to the first byte of the answer's body",
        values: |r| one(span(r.first_byte, r.service_start())),
    },
    Metric {
        name: "headers",
        about: "time to the head of the answer",
        values: |r| one(span(r.headers, r.service_start())),
    },
    Metric { name: "e2el", about: "time to the last token", values: |r| one(Some(e2el(r))) },
    Metric {
        name: "e2el_response",
        about: "the same, from when it was meant to be sent",
        values: |r| one(Some(last(r).since(r.intended).secs())),
    },
    Metric {
        name: "end",
        about: "time to the end of the answer, with what follows the last token",
        values: |r| one(Some(r.end.since(r.service_start()).secs())),
    },
    Metric {
        name: "tpot",
        about: "(last token - first token) / (tokens - 1), as vLLM, SGLang and MLPerf",
        values: |r| one(TpotDefinition::Vllm.of(r)),
    },
    Metric {
        name: "tpot_sage",
        about: "whole time / tokens, as sageLLM",
        values: |r| one(TpotDefinition::Sage.of(r)),
    },
    Metric {
        name: "tpot_aibrix",
        about: "(end - first content) / tokens, as AIBrix",
        values: |r| one(TpotDefinition::Aibrix.of(r)),
    },
    Metric {
        name: "tpot_inferx",
        about: "(end - first byte) / tokens, as InferX",
        values: |r| one(TpotDefinition::Inferx.of(r)),
    },
    Metric { name: "itl", about: "time between two chunks", values: |r| chunk_gaps(r) },
    Metric {
        name: "itl_token",
        about: "time between two tokens: the gap before a chunk over its tokens",
        values: |r| token_gaps(r),
    },
    Metric {
        name: "ttst",
        about: "time from the first chunk to the second",
        values: |r| chunk_gaps(r).first().copied().into_iter().collect(),
    },
    Metric {
        name: "gap_max",
        about: "longest time between two chunks of an answer",
        values: |r| one(chunk_gaps(r).into_iter().reduce(f64::max)),
    },
    Metric {
        name: "queue",
        about: "time that a request waited for a slot of the client",
        values: |r| one(r.queue_wait().map(Nanos::secs)),
    },
    Metric {
        name: "lag",
        about: "time that the client itself was late",
        values: |r| one(r.schedule_lag().map(Nanos::secs)),
    },
    Metric {
        name: "send",
        about: "time until the request was with the socket, with connecting",
        values: |r| one(span(r.sent, r.service_start())),
    },
    Metric {
        name: "ntpot",
        about: "time to the last token / tokens",
        values: |r| one(per_token(r, e2el(r))),
    },
];

fn last(record: &Record) -> Nanos {
    record.last_token.unwrap_or(record.end)
}

/// Seconds to the first token; an answer in one piece has none.
pub(super) fn ttft(record: &Record) -> Option<f64> {
    span(record.first_token, record.service_start())
}

/// Seconds to the last token.
pub(super) fn e2el(record: &Record) -> f64 {
    last(record).since(record.service_start()).secs()
}

fn per_token(record: &Record, seconds: f64) -> Option<f64> {
    let tokens = record.output_tokens();
    (tokens > 0).then(|| seconds / f64::from(tokens))
}

/// Whose time per output token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TpotDefinition {
    /// `(last token - first token) / (n - 1)`, for `n > 1`.
    Vllm,
    /// `(end - start) / n`, the first token included.
    Sage,
    /// `(end - first content) / n`.
    Aibrix,
    /// `(end - first byte) / n`.
    Inferx,
}

impl TpotDefinition {
    /// Seconds per token of a request.
    pub fn of(self, record: &Record) -> Option<f64> {
        let tokens = record.output_tokens();
        match self {
            Self::Vllm => {
                let decode = span(record.last_token, record.first_token?)?;
                (tokens > 1).then(|| decode / f64::from(tokens - 1))
            }
            Self::Sage => per_token(record, record.end.since(record.service_start()).secs()),
            Self::Aibrix => {
                per_token(record, record.end.since(record.first_content.or(record.first_token)?).secs())
            }
            Self::Inferx => per_token(record, record.end.since(record.first_byte?).secs()),
        }
    }
}

/// Seconds between chunks.
pub(super) fn chunk_gaps(record: &Record) -> Vec<f64> {
    record.chunks.windows(2).map(|pair| pair[1].at.since(pair[0].at).secs()).collect()
}

/// Seconds between tokens: each gap over the tokens that came after it. Where the server does not say how many came
/// with a chunk, those of the answer are spread evenly, and a chunk is one token if they are as many.
pub(super) fn token_gaps(record: &Record) -> Vec<f64> {
    let chunks = &record.chunks;
    let said = chunks.iter().all(|chunk| chunk.tokens > 0);
    let even = f64::from(record.output_tokens()) / chunks.len().max(1) as f64;
    let mut gaps = Vec::with_capacity(chunks.len());
    for pair in chunks.windows(2) {
        let gap = pair[1].at.since(pair[0].at).secs();
        let tokens = if said { f64::from(pair[1].tokens) } else { even.max(1.0) };
        // One value for each token, so that percentiles are over tokens.
        let count = tokens.round().max(1.0) as usize;
        gaps.extend(std::iter::repeat_n(gap / tokens, count));
    }
    gaps
}
