//! Metrics as tables for people: one of the models, one of the programs, one of the routes.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{HumanBytes, HumanCount};
use metrics::{Distribution, Family, Sample, Value};

/// All tables, one after the other.
pub(crate) fn tables(families: &[Family]) -> String {
    let metrics = Metrics(families.iter().map(|family| (&family.name[..], &family.samples[..])).collect());
    let tables = [models(&metrics), programs(&metrics), routes(&metrics)];
    let tables = tables.into_iter().flatten().map(|table| table.to_string());
    let text = tables.chain([server(&metrics)]).collect::<Vec<_>>().join("\n\n");
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// The samples of each metric by its name.
struct Metrics<'a>(BTreeMap<&'a str, &'a [Sample]>);

/// The labels that a sample must have.
type Labels<'a> = &'a [(&'a str, &'a str)];

impl<'a> Metrics<'a> {
    fn samples(&self, name: &str) -> &'a [Sample] {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The different values of a label, as they come.
    fn labels(&self, name: &str, label: &str) -> Vec<&'a str> {
        let mut found = Vec::new();
        for value in self.samples(name).iter().filter_map(|sample| sample.labels.get(label)) {
            if !found.contains(&value.as_str()) {
                found.push(value.as_str());
            }
        }
        found
    }

    fn find(&self, name: &str, labels: Labels<'_>) -> Option<&'a Value> {
        let has = |sample: &&Sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value))
        };
        self.samples(name).iter().find(has).map(|sample| &sample.value)
    }

    fn number(&self, name: &str, labels: Labels<'_>) -> Option<f64> {
        match self.find(name, labels)? {
            Value::Number(number) => Some(*number),
            Value::Distribution(_) => None,
        }
    }

    fn distribution(&self, name: &str, labels: Labels<'_>) -> Option<&'a Distribution> {
        match self.find(name, labels)? {
            Value::Distribution(distribution) => Some(distribution),
            Value::Number(_) => None,
        }
    }

    /// A count, or a dash where it is not known.
    fn count(&self, name: &str, labels: Labels<'_>) -> String {
        self.number(name, labels).map_or("–".to_string(), count)
    }

    /// The middle and the slow end of times.
    fn times(&self, name: &str, labels: Labels<'_>) -> String {
        let quantiles = self.distribution(name, labels).and_then(|times| {
            Some(format!("{} / {}", time(times.quantile(0.5)?), time(times.quantile(0.95)?)))
        });
        quantiles.unwrap_or("–".to_string())
    }
}

/// A row for each fact, a column for each model.
fn models(metrics: &Metrics<'_>) -> Option<Table> {
    let models = metrics.labels("pie_engine_up", "model");
    let mut table = table(&[&["model"], &models[..]].concat());
    let mut row = |what: &str, cell: &dyn Fn(&str) -> String| {
        let cells = models.iter().map(|model| cell(model));
        table.add_row([what.to_string()].into_iter().chain(cells).collect::<Vec<_>>());
    };
    let of = |name: &'static str| move |model: &str| metrics.count(name, &[("model", model)]);
    let by = |name: &'static str, label: &'static str, value: &'static str, model: &str| {
        metrics.count(name, &[("model", model), (label, value)])
    };
    let share = |part: Option<f64>, all: Option<f64>| match (part, all) {
        (Some(part), Some(all)) if all > 0.0 => {
            format!("{} of {} ({:.0} %)", count(part), count(all), 100.0 * part / all)
        }
        (Some(part), _) => count(part),
        _ => "–".to_string(),
    };
    row("engine", &|model| match metrics.number("pie_engine_up", &[("model", model)]) {
        Some(0.0) => "dead".to_string(),
        _ => "works".to_string(),
    });
    row("passes running", &of("pie_passes_running"));
    row("passes waiting", &of("pie_passes_waiting"));
    row("… for pages", &of("pie_passes_blocked"));
    row("prompt tokens", &of("pie_prompt_tokens_total"));
    row("generated tokens", &of("pie_generated_tokens_total"));
    let times = |name: &'static str| move |model: &str| metrics.times(name, &[("model", model)]);
    row("first token, p50 / p95", &times("pie_time_to_first_token_seconds"));
    row("between tokens", &times("pie_inter_token_latency_seconds"));
    row("whole inferlet", &times("pie_inferlet_latency_seconds"));
    row("engine step", &times("pie_engine_step_seconds"));
    row("rows of a batch, mean", &|model| {
        let rows = metrics.distribution("pie_batch_rows", &[("model", model)]);
        rows.and_then(Distribution::mean).map_or("–".to_string(), |mean| format!("{mean:.1}"))
    });
    row("contexts", &of("pie_contexts"));
    row("saved contexts", &of("pie_snapshots"));
    row("pages used", &|model| {
        let used = metrics.number("pie_kv_pages", &[("model", model), ("state", "used")]);
        share(used, metrics.number("pie_kv_pages_pool", &[("model", model)]))
    });
    row("pages cached", &|model| by("pie_kv_pages", "state", "cached", model));
    row("pages free", &|model| by("pie_kv_pages", "state", "free", model));
    row("pages shared", &of("pie_kv_pages_shared"));
    row("pages spilled", &of("pie_kv_pages_spilled"));
    row("found in prefix cache", &|model| {
        let found = metrics.number("pie_prefix_found_tokens_total", &[("model", model)]);
        share(found, metrics.number("pie_prefix_asked_tokens_total", &[("model", model)]))
    });
    row("suspensions", &of("pie_suspensions_total"));
    row("restores", &of("pie_restores_total"));
    (!models.is_empty()).then_some(table)
}

fn programs(metrics: &Metrics<'_>) -> Option<Table> {
    const OUTCOMES: [&str; 5] = ["ok", "error", "limit", "trap", "killed"];
    let programs = metrics.labels("pie_inferlet_launches_total", "program");
    let heads = ["program", "running", "waiting", "launched"];
    let mut table = table(&[&heads[..], &OUTCOMES[..], &["cpu"]].concat());
    for program in &programs {
        let of = [("program", *program)];
        let counts = ["pie_inferlets_running", "pie_inferlets_waiting", "pie_inferlet_launches_total"];
        let counts = counts.map(|name| metrics.count(name, &of));
        let end = |outcome| metrics.count("pie_inferlet_ends_total", &[of[0], ("outcome", outcome)]);
        let cpu = metrics.number("pie_program_cpu_seconds_total", &of).map_or("–".to_string(), time);
        let cells = [program.to_string()].into_iter().chain(counts).chain(OUTCOMES.map(end)).chain([cpu]);
        table.add_row(cells.collect::<Vec<_>>());
    }
    (!programs.is_empty()).then_some(table)
}

fn routes(metrics: &Metrics<'_>) -> Option<Table> {
    let name = "pie_http_requests_total";
    let routes = metrics.labels(name, "route");
    let mut table = table(&["route", "requests", "2xx", "4xx", "5xx", "p50 / p95"]);
    for route in &routes {
        let of = |class: Option<char>| {
            let samples = metrics.samples(name).iter();
            let samples =
                samples.filter(|sample| sample.labels.get("route").is_some_and(|found| found == route));
            let samples = samples.filter(|sample| {
                let status = sample.labels.get("status").map_or("", String::as_str);
                class.is_none_or(|class| status.starts_with(class))
            });
            count(
                samples.map(|sample| if let Value::Number(count) = sample.value { count } else { 0.0 }).sum(),
            )
        };
        let times = metrics.times("pie_http_request_seconds", &[("route", route)]);
        table.add_row([route.to_string(), of(None), of(Some('2')), of(Some('4')), of(Some('5')), times]);
    }
    (!routes.is_empty()).then_some(table)
}

fn server(metrics: &Metrics<'_>) -> String {
    let memory = metrics.number("process_resident_memory_bytes", &[]);
    let events = metrics.number("pie_session_event_bytes", &[]);
    let memory = memory.map_or(String::new(), |bytes| format!("; memory: {}", HumanBytes(bytes as u64)));
    format!(
        " requests running: {}; connections: {}, refused: {}{memory}\n sessions connected: {}, away: {}; their \
        inferlets attached: {}, detached: {}; events kept: {}",
        metrics.count("pie_http_requests_running", &[]),
        metrics.count("pie_http_connections", &[]),
        metrics.count("pie_http_connections_refused_total", &[]),
        metrics.count("pie_sessions", &[("state", "connected")]),
        metrics.count("pie_sessions", &[("state", "away")]),
        metrics.count("pie_session_inferlets", &[("state", "attached")]),
        metrics.count("pie_session_inferlets", &[("state", "detached")]),
        events.map_or("–".to_string(), |bytes| HumanBytes(bytes as u64).to_string()),
    )
}

/// A table whose columns but for the first have numbers.
fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(heads.to_vec());
    for column in 1..heads.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn count(number: f64) -> String {
    HumanCount(number as u64).to_string()
}

/// Seconds, with three digits and a unit that fits.
fn time(seconds: f64) -> String {
    match seconds {
        seconds if seconds >= 100.0 => format!("{seconds:.0} s"),
        seconds if seconds >= 1.0 => format!("{seconds:.1} s"),
        seconds if seconds >= 0.1 => format!("{:.0} ms", seconds * 1e3),
        seconds if seconds >= 1e-3 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{:.0} µs", seconds * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use metrics::{Histogram, Kind, SECONDS};

    use super::*;

    /// A metric with samples whose labels are written as `a=b,c=d`.
    fn family(name: &str, samples: &[(&str, f64)]) -> Family {
        let sample = |(labels, number): &(&str, f64)| Sample {
            labels: labels
                .split(',')
                .filter_map(|label| label.split_once('='))
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect::<BTreeMap<_, _>>(),
            value: Value::Number(*number),
        };
        let samples = samples.iter().map(sample).collect();
        Family { name: name.to_string(), kind: Kind::Gauge, help: String::new(), samples }
    }

    fn times(name: &str, labels: &str, seconds: &[f64]) -> Family {
        let mut histogram = Histogram::new(SECONDS);
        seconds.iter().for_each(|seconds| histogram.observe(*seconds));
        let mut family = family(name, &[(labels, 0.0)]);
        family.samples[0].value = histogram.into();
        family
    }

    #[test]
    fn the_tables_of_a_server_at_work() {
        let families = [
            family("pie_engine_up", &[("model=small", 1.0), ("model=large", 0.0)]),
            family("pie_passes_running", &[("model=small", 3.0)]),
            family("pie_generated_tokens_total", &[("model=small", 1_234_567.0), ("model=large", 0.0)]),
            times("pie_inter_token_latency_seconds", "model=small", &[0.004, 0.004, 0.004, 0.02]),
            family("pie_kv_pages", &[("model=small,state=used", 30.0), ("model=small,state=free", 70.0)]),
            family("pie_kv_pages_pool", &[("model=small", 100.0)]),
            family("pie_inferlet_launches_total", &[("program=api-chat", 12.0)]),
            family("pie_inferlets_running", &[("program=api-chat", 2.0)]),
            family("pie_inferlet_ends_total", &[("program=api-chat,outcome=ok", 9.0)]),
            family("pie_program_cpu_seconds_total", &[("program=api-chat", 0.0123)]),
            family(
                "pie_http_requests_total",
                &[
                    ("route=/v1/chat/completions,status=200", 9.0),
                    ("route=/v1/chat/completions,status=404", 1.0),
                ],
            ),
            family("pie_http_requests_running", &[("", 2.0)]),
            family("pie_http_connections", &[("", 3.0)]),
            family("pie_sessions", &[("state=connected", 2.0), ("state=away", 1.0)]),
            family("pie_session_inferlets", &[("state=attached", 4.0), ("state=detached", 5.0)]),
            family("pie_session_event_bytes", &[("", 2048.0)]),
            family("process_resident_memory_bytes", &[("", f64::from(3 << 20))]),
        ];
        let expected = r" model                              small  large
 engine                             works   dead
 passes running                         3      –
 passes waiting                         –      –
 … for pages                            –      –
 prompt tokens                          –      –
 generated tokens               1,234,567      0
 first token, p50 / p95                 –      –
 between tokens          4.2 ms / 22.0 ms      –
 whole inferlet                         –      –
 engine step                            –      –
 rows of a batch, mean                  –      –
 contexts                               –      –
 saved contexts                         –      –
 pages used              30 of 100 (30 %)      –
 pages cached                           –      –
 pages free                            70      –
 pages shared                           –      –
 pages spilled                          –      –
 found in prefix cache                  –      –
 suspensions                            –      –
 restores                               –      –

 program   running  waiting  launched  ok  error  limit  trap  killed      cpu
 api-chat        2        –        12   9      –      –     –       –  12.3 ms

 route                 requests  2xx  4xx  5xx  p50 / p95
 /v1/chat/completions        10    9    1    0          –

 requests running: 2; connections: 3, refused: –; memory: 3.00 MiB
 sessions connected: 2, away: 1; their inferlets attached: 4, detached: 5; events kept: 2.00 KiB";
        let found = tables(&families);
        assert_eq!(found, expected, "\n{found}");
        // Models are being loaded.
        assert!(tables(&families[11..]).starts_with(" requests running: 2;"));
    }
}
