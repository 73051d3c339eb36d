//! The contracts of three years: bounds on figures, checked for each workload.

use serde_json::{Map, Value, json};

/// A bound: the check's name, the figure, whether it is the highest or the lowest that is allowed, the value.
type Bound = (&'static str, &'static str, Side, f64);

#[derive(Clone, Copy, PartialEq)]
enum Side {
    AtMost,
    AtLeast,
}
use Side::{AtLeast, AtMost};

/// Every contract: the set of workloads that it is for, and its bounds.
const TABLE: [(&str, &[Bound]); 3] = [
    (
        "year1",
        &[
            ("ttft", "avg_ttft_ms", AtMost, 100.0),
            ("tbt", "avg_tbt_ms", AtMost, 20.0),
            ("tpot", "avg_tpot_ms", AtMost, 20.0),
            ("throughput", "avg_throughput_tps", AtLeast, 50.0),
            ("error_rate", "error_rate", AtMost, 0.05),
            ("peak_mem", "peak_mem_mb", AtMost, 32_768.0),
        ],
    ),
    (
        "year2",
        &[
            ("ttft", "avg_ttft_ms", AtMost, 50.0),
            ("tbt", "avg_tbt_ms", AtMost, 10.0),
            ("tpot", "avg_tpot_ms", AtMost, 10.0),
            ("throughput", "avg_throughput_tps", AtLeast, 100.0),
            ("error_rate", "error_rate", AtMost, 0.02),
            ("peak_mem", "peak_mem_mb", AtMost, 24_576.0),
            ("prefix_hit_rate", "prefix_hit_rate", AtLeast, 0.70),
        ],
    ),
    (
        "year3",
        &[
            ("ttft", "avg_ttft_ms", AtMost, 30.0),
            ("tbt", "avg_tbt_ms", AtMost, 5.0),
            ("tpot", "avg_tpot_ms", AtMost, 5.0),
            ("throughput", "avg_throughput_tps", AtLeast, 200.0),
            ("error_rate", "error_rate", AtMost, 0.01),
            ("peak_mem", "peak_mem_mb", AtMost, 16_384.0),
            ("prefix_hit_rate", "prefix_hit_rate", AtLeast, 0.85),
            ("spec_accept_rate", "spec_accept_rate", AtLeast, 0.60),
        ],
    ),
];

/// What the contract of this set says of a record; `None` for a set without one. A figure that was not measured does
/// not hold its bound.
pub(super) fn check(set: &str, record: &Map<String, Value>) -> Option<Value> {
    let (_, bounds) = TABLE.iter().find(|(name, _)| *name == set)?;
    let (mut checks, mut details, mut held) = (Map::new(), Map::new(), 0);
    for (name, figure, side, bound) in *bounds {
        let value = record.get(*figure).and_then(Value::as_f64);
        let holds =
            value.is_some_and(|value| if *side == AtMost { value <= *bound } else { value >= *bound });
        let sign = if *side == AtMost { "<=" } else { ">=" };
        let detail = match value {
            Some(value) => format!("{figure} {value:.3} {sign} {bound}"),
            None => format!("{figure} was not measured, expected {sign} {bound}"),
        };
        checks.insert((*name).into(), json!(holds));
        details.insert((*name).into(), json!(detail));
        held += usize::from(holds);
    }
    let summary = format!("{held} of {} checks hold", bounds.len());
    Some(json!({"checks": checks, "details": details, "passed": held == bounds.len(), "summary": summary}))
}
