//! Workloads on pie and on the baseline: the latency of one instance, the throughput of many at once, the tokens of
//! both, which tell whether they did the same work, and where the time of many at once goes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Outcome;
use crate::commands::paper::api::Api;
use crate::commands::paper::counters::Counters;
use crate::commands::paper::measure::{Measured, at_once};
use crate::commands::paper::pie::Pie;
use crate::commands::paper::progress::Steps;
use crate::commands::paper::setting::Setting;
use crate::commands::paper::table::Table;
use crate::commands::paper::workloads::{Case, Workload};
use crate::report::chart::{Bars, Figure, Plot};

/// Above this difference of the tokens of both, a row is marked.
const TOKENS_APART: f64 = 0.1;

/// What one server did with a workload.
#[derive(Clone, Debug)]
struct Side {
    /// Seconds of one instance.
    latency: Measured,
    /// Instances a second, of many at once.
    throughput: Measured,
    /// Tokens drawn for one instance.
    output_tokens: f64,
    /// Tokens that one instance gave to the model: computed rows of pie, tokens of prompts of the baseline.
    input_tokens: f64,
    /// Where the time of many at once went.
    spent: Spent,
}

/// What a server did while many ran at once, in all repetitions together.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    /// On the clock.
    seconds: f64,
    /// Instances.
    instances: usize,
    /// What the server counted; `None` where it does not tell.
    counters: Option<Counters>,
}

impl Spent {
    fn add(&mut self, seconds: f64, instances: usize, before: Option<Counters>, after: Option<Counters>) {
        let done = before.zip(after).map(|(before, after)| after - before);
        self.counters = match self.instances {
            0 => done,
            _ => self.counters.zip(done).map(|(sum, done)| sum + done),
        };
        self.seconds += seconds;
        self.instances += instances;
    }

    /// Milliseconds of one instance, rows and batches of one, rows of a batch; then of pie the share of the time in which
    /// the model computed, microseconds of it for a row, and the processor time of programs for an instance in
    /// milliseconds.
    fn figures(&self) -> Option<[Option<f64>; 7]> {
        let counters = self.counters?;
        let each = |sum: f64| sum / self.instances as f64;
        Some([
            Some(each(self.seconds) * 1e3),
            Some(each(counters.computed)),
            Some(each(counters.batches)),
            Some(counters.computed / counters.batches),
            counters.model_seconds.map(|seconds| seconds / self.seconds),
            counters.model_seconds.map(|seconds| seconds * 1e6 / counters.computed),
            counters.program_seconds.map(|seconds| each(seconds) * 1e3),
        ])
    }
}

/// The names of [`Spent::figures`], and their digits.
const FIGURES: [(&str, usize); 7] = [
    ("ms", 1),
    ("rows", 0),
    ("batches", 1),
    ("rows of a batch", 1),
    ("model's share", 2),
    ("us of a row", 0),
    ("programs, ms", 2),
];

/// Where a workload runs.
enum Server<'a> {
    Pie(&'a Pie),
    Baseline(&'a Api),
}

impl Server<'_> {
    fn name(&self) -> &'static str {
        match self {
            Server::Pie(_) => "pie",
            Server::Baseline(_) => "the baseline",
        }
    }

    fn run(&self, workload: &Workload, case: Case) -> anyhow::Result<()> {
        match self {
            Server::Pie(pie) => pie.launch(workload.program, &(workload.arguments)(case)).map(drop),
            Server::Baseline(api) => (workload.baseline)(api, case),
        }
    }

    /// What it has counted of itself so far.
    fn counters(&self) -> anyhow::Result<Option<Counters>> {
        match self {
            Server::Pie(pie) => pie.counters().map(Some),
            Server::Baseline(api) => Ok(api.counters()),
        }
    }

    /// Output and input tokens so far.
    fn tokens(&self) -> anyhow::Result<[f64; 2]> {
        Ok(match self {
            Server::Pie(pie) => {
                let counters = pie.counters()?;
                [counters.generated, counters.computed]
            }
            Server::Baseline(api) => {
                let counts = api.counts();
                [counts.output_tokens as f64, counts.prompt_tokens as f64]
            }
        })
    }
}

/// Measures workloads, both servers in turn in each repetition.
///
/// # Errors
/// When a server fails.
pub(super) fn run(setting: &Setting, title: &str, workloads: &[Workload]) -> anyhow::Result<Outcome> {
    let workloads = setting.wanted(workloads, |workload| workload.name)?;
    let pie = setting.servers.pie()?;
    let api = setting.servers.baseline()?;
    let mut servers = vec![Server::Pie(&pie)];
    servers.extend(api.as_ref().map(Server::Baseline));
    // Of each workload and server: a first run, then one instance and many in each repetition.
    let steps = Steps::new(workloads.len() * servers.len() * (1 + 2 * setting.repeats));
    let mut rows = Vec::new();
    for workload in workloads {
        rows.push((workload, measure(setting, &servers, &workload, &steps)?));
    }
    let mut notes = vec![format!(
        "medians of {} [smallest-largest]; latency of one instance in seconds, throughput of N at once in 1/s; \
         ratios are pie to the baseline, and pie to vLLM in the paper; tokens are those drawn for one instance",
        setting.repeats
    )];
    notes.push(
        "second table: of N at once, for one instance; rows are tokens that the model computed, its share is that of the time \
         on the clock, us of a row is the model's time, programs is processor time. A server that does not count on \
         /metrics has no row (llama-server wants --metrics)"
            .into(),
    );
    if let Some(api) = &api {
        notes.push(format!("baseline: {:?} with `{}`", api.dialect(), api.model()));
    }
    for (workload, _) in &rows {
        notes.extend(workload.differs.map(|differs| format!("{}: {differs}", workload.name)));
    }
    let table = table(setting, &rows);
    Ok(Outcome {
        title: title.to_string(),
        tables: vec![table, times(&rows)],
        figure: Some(figure(title, &rows)),
        notes,
        data: json!(
            rows.iter().map(|(workload, sides)| of_row(setting, workload, sides)).collect::<Vec<_>>()
        ),
    })
}

fn measure(
    setting: &Setting,
    servers: &[Server<'_>],
    workload: &Workload,
    steps: &Steps,
) -> anyhow::Result<Vec<Side>> {
    let (full, count) = (setting.is_full(), setting.size(workload.instances));
    let mut sides = Vec::new();
    let one = |server: &Server<'_>| at_once(1, |number| server.run(workload, Case { number, full }));
    for server in servers {
        // The first run compiles the program, and fills caches of both.
        let seconds = one(server)?;
        steps.done(format_args!("{} on {}: first run {seconds:.2} s", workload.name, server.name()));
        sides.push((Vec::new(), Vec::new(), server.tokens()?, Spent::default()));
    }
    for repeat in 1..=setting.repeats {
        for (server, side) in servers.iter().zip(&mut sides) {
            let what = format!("{} on {}, {repeat} of {}", workload.name, server.name(), setting.repeats);
            let seconds = one(server)?;
            side.0.push(seconds);
            steps.done(format_args!("{what}: one {seconds:.2} s"));
            let before = server.counters()?;
            let seconds = at_once(count, |number| server.run(workload, Case { number, full }))?;
            side.1.push(seconds);
            side.3.add(seconds, count, before, server.counters()?);
            steps.done(format_args!("{what}: {count} at once {seconds:.2} s"));
        }
    }
    let instances = (setting.repeats * (count + 1)) as f64;
    let done = servers.iter().zip(sides).map(|(server, (latency, seconds, before, spent))| {
        let after = server.tokens()?;
        let [output_tokens, input_tokens] = [0, 1].map(|index| (after[index] - before[index]) / instances);
        let throughput = Measured::new(seconds).map(|seconds| count as f64 / seconds);
        Ok(Side { latency: Measured::new(latency), throughput, output_tokens, input_tokens, spent })
    });
    done.collect()
}

fn table(setting: &Setting, rows: &[(Workload, Vec<Side>)]) -> Table {
    let mut table = Table::new([
        "workload",
        "N",
        "latency pie",
        "baseline",
        "ratio",
        "paper",
        "throughput pie",
        "baseline",
        "ratio",
        "paper",
        "tokens pie",
        "baseline",
    ]);
    for (workload, sides) in rows {
        let (pie, baseline) = (&sides[0], sides.get(1));
        let text =
            |of: fn(&Side) -> &Measured, digits| baseline.map_or("-".into(), |side| of(side).text(digits));
        let ratio = |of: fn(&Side) -> &Measured| {
            baseline.map_or("-".into(), |side| format!("{:.2}", of(pie).median() / of(side).median()))
        };
        let paper = |bars: fn(&Workload) -> Option<[f64; 2]>| {
            bars(workload).map_or("-".into(), |[pie, vllm]| format!("{:.2}", pie / vllm))
        };
        let apart = baseline.is_some_and(|side| {
            let most = pie.output_tokens.max(side.output_tokens);
            // A search draws no tokens in pie, so there is nothing to compare.
            pie.output_tokens > 0.0 && (pie.output_tokens - side.output_tokens).abs() > TOKENS_APART * most
        });
        let mark = if apart { "*" } else { "" };
        let latency: fn(&Side) -> &Measured = |side| &side.latency;
        let throughput: fn(&Side) -> &Measured = |side| &side.throughput;
        table.row([
            workload.name.to_string(),
            setting.size(workload.instances).to_string(),
            pie.latency.text(3),
            text(latency, 3),
            ratio(latency),
            paper(|workload| Some(workload.paper?.latency)),
            pie.throughput.text(2),
            text(throughput, 2),
            ratio(throughput),
            paper(|workload| Some(workload.paper?.throughput)),
            if pie.output_tokens > 0.0 { format!("{:.0}", pie.output_tokens) } else { "-".into() },
            baseline.map_or("-".into(), |side| format!("{:.0}{mark}", side.output_tokens)),
        ]);
    }
    table
}

/// Where the time of many at once went.
fn times(rows: &[(Workload, Vec<Side>)]) -> Table {
    let [a, b, c, d, e, f, g] = FIGURES.map(|(name, _)| name);
    let mut table = Table::new(["workload", "server", a, b, c, d, e, f, g]);
    for (workload, sides) in rows {
        for (side, server) in sides.iter().zip(["pie", "baseline"]) {
            let Some(figures) = side.spent.figures() else { continue };
            let text = |index: usize| {
                figures[index].map_or("-".into(), |figure| format!("{figure:.*}", FIGURES[index].1))
            };
            let [a, b, c, d, e, f, g] = std::array::from_fn(text);
            table.row([workload.name.into(), server.into(), a, b, c, d, e, f, g]);
        }
    }
    table
}

fn figure(title: &str, rows: &[(Workload, Vec<Side>)]) -> Figure {
    let names: Vec<String> = rows.iter().map(|(workload, _)| workload.name.to_string()).collect();
    let sides = rows.first().map_or(0, |(_, sides)| sides.len());
    let plot = |axis: &str, of: fn(&Side) -> &Measured| {
        // As in the paper: the worst latency, the best throughput of a workload is 1.
        let series = (0..sides).map(|index| {
            let value = |(_, sides): &(Workload, Vec<Side>)| {
                let most = sides.iter().map(|side| of(side).median()).fold(0.0, f64::max);
                of(&sides[index]).map(|value| value / most).reading()
            };
            (["pie", "baseline"][index].to_string(), rows.iter().map(value).collect())
        });
        Plot::Bars(Bars {
            y_label: axis.into(),
            x_label: String::new(),
            groups: names.clone(),
            series: series.collect(),
            reference: None,
        })
    };
    let plots = vec![
        plot("latency, worst = 1", |side| &side.latency),
        plot("throughput, best = 1", |side| &side.throughput),
    ];
    Figure { title: title.into(), plots }
}

fn of_row(setting: &Setting, workload: &Workload, sides: &[Side]) -> Value {
    let of = |side: &Side| {
        json!({
            "latency_s": side.latency.json(), "throughput_per_s": side.throughput.json(),
            "output_tokens": side.output_tokens, "input_tokens": side.input_tokens,
            "of_one_at_once": side.spent.figures().map(|figures| {
                FIGURES.iter().zip(figures).map(|((name, _), figure)| (*name, figure)).collect::<BTreeMap<_, _>>()
            }),
        })
    };
    let paper = workload
        .paper
        .map(|bars| json!({ "latency_pie_vllm": bars.latency, "throughput_pie_vllm": bars.throughput }));
    json!({
        "workload": workload.name, "program": workload.program, "instances": setting.size(workload.instances),
        "pie": of(&sides[0]), "baseline": sides.get(1).map(of), "paper": paper, "differs": workload.differs,
    })
}
