//! What the runtime tells of itself: its metrics.
//!
//! The names with `vllm:` are those of vLLM (`vllm/v1/metrics/loggers.py`) for the same facts, which its dashboards and
//! the inference gateways of Kubernetes read. They stand beside the rows whose numbers they repeat.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Family, Kind, Row, Samples, Value};
use scheduler::Stats;

use crate::tallies::{OUTCOMES, Tally};
use crate::{Runtime, ServedModel};

/// For an engine to answer, which it does between two batches. One that is later has no numbers on the page.
const PATIENCE: Duration = Duration::from_secs(2);

/// The numbers of one moment.
pub struct Reading {
    models: Vec<OfModel>,
    programs: Vec<Arc<Tally>>,
}

struct OfModel {
    model: Arc<ServedModel>,
    /// Its number among the models, as vLLM numbers engines.
    number: usize,
    /// None when the engine is dead or late.
    engine: Option<Stats>,
    /// Inferlets that wait for their turn; all are on the page of the first model, which most of them will ask.
    waiting: u64,
}

impl Reading {
    /// A sample for each model.
    fn models(&self, read: impl Fn(&OfModel) -> Option<Value>) -> Samples {
        let of_model = |of: &OfModel| Some((vec![of.model.name.clone()], read(of)?));
        self.models.iter().filter_map(of_model).collect()
    }

    /// A sample for each model whose engine answers.
    fn engines(&self, read: impl Fn(&Stats) -> Value) -> Samples {
        self.models(|of| of.engine.as_ref().map(&read))
    }

    /// As [`Reading::engines`], several for each, told apart by a second label.
    fn engines_by<const N: usize>(&self, read: impl Fn(&Stats) -> [(&'static str, u64); N]) -> Samples {
        let of_model = |of: &OfModel| {
            let name = of.model.name.clone();
            let values = of.engine.as_ref().map(&read).into_iter().flatten();
            values.map(move |(label, value)| (vec![name.clone(), label.to_string()], value.into()))
        };
        self.models.iter().flat_map(of_model).collect()
    }

    /// A sample for each model, with vLLM's labels.
    fn vllm(&self, read: impl Fn(&OfModel) -> Option<Value>) -> Samples {
        let of_model = |of: &OfModel| Some((of.vllm_labels(), read(of)?));
        self.models.iter().filter_map(of_model).collect()
    }

    fn programs(&self, read: impl Fn(&Tally) -> Value) -> Samples {
        self.programs.iter().map(|tally| (vec![tally.program.clone()], read(tally))).collect()
    }
}

impl OfModel {
    fn vllm_labels(&self) -> Vec<String> {
        vec![self.model.name.clone(), self.number.to_string()]
    }

    fn engine(&self, read: impl Fn(&Stats) -> u64) -> Option<Value> {
        self.engine.as_ref().map(|stats| read(stats).into())
    }
}

const MODEL: &[&str] = &["model"];
const PROGRAM: &[&str] = &["program"];
const VLLM: &[&str] = &["model_name", "engine"];

use Kind::{Counter, Gauge};

/// All metrics of the runtime.
pub const METRICS: &[Row<Reading>] = &[
    Row {
        name: "pie_engine_up",
        kind: Gauge,
        labels: MODEL,
        help: "1 while the engine of the model takes work, 0 when it is dead",
        read: |r| r.models(|of| Some(u64::from(of.model.engine.alive()).into())),
    },
    Row {
        name: "pie_passes_running",
        kind: Gauge,
        labels: MODEL,
        help: "Passes that the engine is at work on, and those that inferlets just answered are expected to come back with",
        read: |r| r.engines(|stats| stats.active.into()),
    },
    Row {
        name: "pie_passes_waiting",
        kind: Gauge,
        labels: MODEL,
        help: "Passes that the last batch left out and that have not begun",
        read: |r| r.engines(|stats| stats.queued.into()),
    },
    Row {
        name: "pie_passes_blocked",
        kind: Gauge,
        labels: MODEL,
        help: "Passes that lack pages",
        read: |r| r.engines(|stats| stats.blocked.into()),
    },
    Row {
        name: "pie_passes_total",
        kind: Counter,
        labels: &["model", "outcome"],
        help: "Passes answered: with values, with an error, or cancelled",
        read: |r| {
            r.engines_by(|s| [("completed", s.completed), ("failed", s.failed), ("cancelled", s.cancelled)])
        },
    },
    Row {
        name: "pie_prompt_tokens_total",
        kind: Counter,
        labels: MODEL,
        help: "Tokens of prompts: rows of passes that the pass before did not draw, computed or found in the prefix cache",
        read: |r| r.models(|of| Some(of.model.tokens.prompt.load(Ordering::Relaxed).into())),
    },
    Row {
        name: "pie_generated_tokens_total",
        kind: Counter,
        labels: MODEL,
        help: "Tokens that passes drew; a program that guesses ahead draws more than it keeps",
        read: |r| r.models(|of| Some(of.model.tokens.generated.load(Ordering::Relaxed).into())),
    },
    Row {
        name: "pie_rows_total",
        kind: Counter,
        labels: &["model", "source"],
        help: "Rows of passes: computed, or taken from the prefix cache",
        read: |r| r.engines_by(|stats| [("computed", stats.rows_computed), ("cached", stats.rows_cached)]),
    },
    Row {
        name: "pie_time_to_first_token_seconds",
        kind: Kind::Histogram,
        labels: MODEL,
        help: "From the arrival of a request, or the launch of an inferlet without one, to the first token that it draws",
        read: |r| r.models(|of| Some(Value::Distribution(of.model.tokens.first_token.distribution()))),
    },
    Row {
        name: "pie_inter_token_latency_seconds",
        kind: Kind::Histogram,
        labels: MODEL,
        help: "From one drawn token of a context to the next, where no prompt is between them",
        read: |r| r.models(|of| Some(Value::Distribution(of.model.tokens.between_tokens.distribution()))),
    },
    Row {
        name: "pie_inferlet_latency_seconds",
        kind: Kind::Histogram,
        labels: MODEL,
        help: "From the arrival of a request, or the launch of an inferlet without one, to the end of an inferlet that drew tokens",
        read: |r| r.models(|of| Some(Value::Distribution(of.model.tokens.whole.distribution()))),
    },
    Row {
        name: "pie_engine_step_seconds",
        kind: Kind::Histogram,
        labels: MODEL,
        help: "Time that the backend took for a batch",
        read: |r| r.engines(|stats| stats.step_seconds.into()),
    },
    Row {
        name: "pie_batch_rows",
        kind: Kind::Histogram,
        labels: MODEL,
        help: "Rows (tokens) of a batch",
        read: |r| r.engines(|stats| stats.batch_rows.into()),
    },
    Row {
        name: "pie_batches_total",
        kind: Counter,
        labels: &["model", "outcome"],
        help: "Batches that the backend completed or failed",
        read: |r| r.engines_by(|stats| [("completed", stats.batches), ("failed", stats.batches_failed)]),
    },
    Row {
        name: "pie_kv_pages",
        kind: Gauge,
        labels: &["model", "state"],
        help: "Pages of the pool: free, used, or cached, which are given up when others need them",
        read: |r| {
            r.engines_by(|s| [("free", s.pages_free), ("used", s.pages_held), ("cached", s.pages_cached)])
        },
    },
    Row {
        name: "pie_kv_pages_pool",
        kind: Gauge,
        labels: MODEL,
        help: "Pages of the pool: those of all states together",
        read: |r| r.engines(|stats| stats.pages_total.into()),
    },
    Row {
        name: "pie_kv_pages_shared",
        kind: Gauge,
        labels: MODEL,
        help: "Pages with more than one holder",
        read: |r| r.engines(|stats| stats.pages_shared.into()),
    },
    Row {
        name: "pie_kv_pages_spilled",
        kind: Gauge,
        labels: MODEL,
        help: "Pages in host memory",
        read: |r| r.engines(|stats| stats.pages_spilled.into()),
    },
    Row {
        name: "pie_kv_pages_moved_total",
        kind: Counter,
        labels: &["model", "direction"],
        help: "Pages moved out to host memory, or in from there",
        read: |r| r.engines_by(|stats| [("out", stats.pages_moved_out), ("in", stats.pages_moved_in)]),
    },
    Row {
        name: "pie_prefix_asked_tokens_total",
        kind: Counter,
        labels: MODEL,
        help: "Tokens of passes of which the prefix cache could have some",
        read: |r| r.engines(|stats| stats.prefix_rows_asked.into()),
    },
    Row {
        name: "pie_prefix_found_tokens_total",
        kind: Counter,
        labels: MODEL,
        help: "Of those, tokens that it had",
        read: |r| r.engines(|stats| stats.prefix_rows_found.into()),
    },
    Row {
        name: "pie_suspensions_total",
        kind: Counter,
        labels: MODEL,
        help: "Contexts that lost pages to host memory",
        read: |r| r.engines(|stats| stats.suspensions.into()),
    },
    Row {
        name: "pie_restores_total",
        kind: Counter,
        labels: MODEL,
        help: "Passes that brought pages back from host memory",
        read: |r| r.engines(|stats| stats.restores.into()),
    },
    Row {
        name: "pie_contexts",
        kind: Gauge,
        labels: MODEL,
        help: "Contexts that inferlets have",
        read: |r| r.engines(|stats| stats.contexts.into()),
    },
    Row {
        name: "pie_snapshots",
        kind: Gauge,
        labels: MODEL,
        help: "Saved contexts in memory",
        read: |r| r.engines(|stats| stats.snapshots.into()),
    },
    Row {
        name: "pie_inferlets_running",
        kind: Gauge,
        labels: PROGRAM,
        help: "Inferlets that have begun; of programs beyond the first 256, `other` has the sum",
        read: |r| r.programs(|tally| tally.running().into()),
    },
    Row {
        name: "pie_inferlets_waiting",
        kind: Gauge,
        labels: PROGRAM,
        help: "Inferlets that wait for their turn to begin",
        read: |r| r.programs(|tally| tally.waiting().into()),
    },
    Row {
        name: "pie_inferlet_launches_total",
        kind: Counter,
        labels: PROGRAM,
        help: "Inferlets launched: one for each request to a program that answers requests",
        read: |r| r.programs(|tally| tally.launches().into()),
    },
    Row {
        name: "pie_inferlet_ends_total",
        kind: Counter,
        labels: &["program", "outcome"],
        help: "Inferlets that ended: well, with an error of their own, at a limit, by a trap, or killed, as when the client leaves",
        read: |r| {
            let of_program = |tally: &Arc<Tally>| {
                let (program, ends) = (tally.program.clone(), tally.ends());
                let ends = OUTCOMES
                    .iter()
                    .zip(ends)
                    .map(move |(outcome, count)| (vec![program.clone(), outcome.to_string()], count.into()));
                ends.collect::<Samples>()
            };
            r.programs.iter().flat_map(of_program).collect()
        },
    },
    Row {
        name: "pie_program_cpu_seconds_total",
        kind: Counter,
        labels: PROGRAM,
        help: "Processor time of programs, and of the server's work for them; the model's is not counted",
        read: |r| r.programs(|tally| tally.cpu().as_secs_f64().into()),
    },
    Row {
        name: "vllm:num_requests_running",
        kind: Gauge,
        labels: VLLM,
        help: "As pie_passes_running",
        read: |r| r.vllm(|of| of.engine(|stats| stats.active)),
    },
    Row {
        name: "vllm:num_requests_waiting",
        kind: Gauge,
        labels: VLLM,
        help: "As pie_passes_waiting, and of the first model all of pie_inferlets_waiting and pie_http_requests_waiting",
        read: |r| r.vllm(|of| of.engine(|stats| stats.queued + of.waiting)),
    },
    Row {
        name: "vllm:kv_cache_usage_perc",
        kind: Gauge,
        labels: VLLM,
        help: "Pages used, as a part of the pool, from 0 to 1",
        read: |r| r.vllm(|of| of.engine.map(|s| (s.pages_held as f64 / s.pages_total.max(1) as f64).into())),
    },
    Row {
        name: "vllm:cache_config_info",
        kind: Gauge,
        labels: &["model_name", "engine", "block_size", "num_gpu_blocks"],
        help: "Always 1; its labels are the tokens of a page and the pages of the pool",
        read: |r| {
            let info = |of: &OfModel| {
                let limits = of.model.engine.limits();
                let sizes = [limits.page_tokens, limits.pages].map(|size| size.to_string());
                (of.vllm_labels().into_iter().chain(sizes).collect(), 1.0.into())
            };
            r.models.iter().map(info).collect()
        },
    },
    Row {
        name: "vllm:lora_requests_info",
        kind: Gauge,
        labels: &["max_lora", "waiting_lora_adapters", "running_lora_adapters"],
        help: "The time; its labels are the adapters of the server's folder that inferlets have loaded, and how many one may have",
        read: |r| {
            let mut names: Vec<String> = r.models.iter().flat_map(|of| of.model.adapters_loaded()).collect();
            names.sort();
            names.dedup();
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let most = crate::adapters::ADAPTERS.to_string();
            vec![(vec![most, String::new(), names.join(",")], now.as_secs_f64().into())]
        },
    },
    Row {
        name: "vllm:prompt_tokens_total",
        kind: Counter,
        labels: VLLM,
        help: "As pie_prompt_tokens_total",
        read: |r| r.vllm(|of| Some(of.model.tokens.prompt.load(Ordering::Relaxed).into())),
    },
    Row {
        name: "vllm:generation_tokens_total",
        kind: Counter,
        labels: VLLM,
        help: "As pie_generated_tokens_total",
        read: |r| r.vllm(|of| Some(of.model.tokens.generated.load(Ordering::Relaxed).into())),
    },
    Row {
        name: "vllm:time_to_first_token_seconds",
        kind: Kind::Histogram,
        labels: VLLM,
        help: "As pie_time_to_first_token_seconds",
        read: |r| r.vllm(|of| Some(Value::Distribution(of.model.tokens.first_token.distribution()))),
    },
    Row {
        name: "vllm:inter_token_latency_seconds",
        kind: Kind::Histogram,
        labels: VLLM,
        help: "As pie_inter_token_latency_seconds",
        read: |r| r.vllm(|of| Some(Value::Distribution(of.model.tokens.between_tokens.distribution()))),
    },
    Row {
        name: "vllm:e2e_request_latency_seconds",
        kind: Kind::Histogram,
        labels: VLLM,
        help: "As pie_inferlet_latency_seconds",
        read: |r| r.vllm(|of| Some(Value::Distribution(of.model.tokens.whole.distribution()))),
    },
    Row {
        name: "vllm:prefix_cache_queries_total",
        kind: Counter,
        labels: VLLM,
        help: "As pie_prefix_asked_tokens_total",
        read: |r| r.vllm(|of| of.engine(|stats| stats.prefix_rows_asked)),
    },
    Row {
        name: "vllm:prefix_cache_hits_total",
        kind: Counter,
        labels: VLLM,
        help: "As pie_prefix_found_tokens_total",
        read: |r| r.vllm(|of| of.engine(|stats| stats.prefix_rows_found)),
    },
    Row {
        name: "vllm:num_preemptions_total",
        kind: Counter,
        labels: VLLM,
        help: "As pie_suspensions_total",
        read: |r| r.vllm(|of| of.engine(|stats| stats.suspensions)),
    },
];

impl Runtime {
    /// Its metrics: [`METRICS`] as they are now. An engine answers between two batches; the metrics of one that is dead,
    /// or does not answer within two seconds, are left out.
    /// `requests` wait before they become inferlets.
    pub async fn metrics(&self, requests: u32) -> Vec<Family> {
        let programs = self.0.tallies.all();
        let inferlets: u64 = programs.iter().map(|tally| tally.waiting()).sum();
        let waiting = inferlets + u64::from(requests);
        let of_model = async |(number, model): (usize, &Arc<ServedModel>)| {
            let engine = tokio::time::timeout(PATIENCE, model.engine.stats()).await;
            OfModel {
                model: model.clone(),
                number,
                engine: engine.ok().and_then(Result::ok).and_then(Result::ok),
                waiting: if number == 0 { waiting } else { 0 },
            }
        };
        let models = futures::future::join_all(self.0.models.iter().enumerate().map(of_model)).await;
        metrics::collect(METRICS, &Reading { models, programs })
    }
}
