//! The workloads by name, and those of a file: JSON, or YAML where its name ends in .yaml or .yml.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::dataset::tokens::Tokens;
use crate::dataset::{Prompt, Sample, text};

/// How a file of workloads is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FileFormat {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl FileFormat {
    /// That of a file's name.
    pub(super) fn of(path: &Path) -> Self {
        if is_yaml(path) { Self::Yaml } else { Self::Json }
    }
}

/// A workload: so many requests of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Workload {
    pub(super) name: String,
    /// A word for reports.
    #[serde(default)]
    pub(super) workload_type: String,
    /// What is asked; a made-up text of `prompt_tokens` without it.
    #[serde(default)]
    pub(super) prompt: Option<String>,
    #[serde(default = "prompt_tokens")]
    pub(super) prompt_tokens: u32,
    #[serde(default = "max_tokens")]
    pub(super) max_tokens: u32,
    #[serde(default = "one")]
    pub(super) num_requests: usize,
    /// Whether requests are under way together; as many as `concurrency`, or all.
    #[serde(default)]
    pub(super) concurrent: bool,
    #[serde(default)]
    pub(super) concurrency: Option<usize>,
    #[serde(default)]
    pub(super) temperature: Option<f64>,
    #[serde(default)]
    pub(super) top_p: Option<f64>,
    #[serde(default)]
    pub(super) top_k: Option<i64>,
    #[serde(default)]
    pub(super) repetition_penalty: Option<f64>,
    /// Taken for files that have it: answers are streamed always, or there is no first token to time.
    #[serde(default)]
    pub(super) stream: bool,
    /// Requests before the measurement.
    #[serde(default)]
    pub(super) warmup_rounds: usize,
    /// Members of the body.
    #[serde(default)]
    pub(super) extra_params: Map<String, Value>,
}

fn prompt_tokens() -> u32 {
    64
}

fn max_tokens() -> u32 {
    128
}

fn one() -> usize {
    1
}

/// Name, type, tokens of the prompt, tokens to request, requests, requests at once (1: one after the other).
type Row = (&'static str, &'static str, u32, u32, usize, usize);

/// A set of workloads.
struct Set {
    name: &'static str,
    rows: &'static [Row],
}

/// Every set.
const SETS: [Set; 8] = [
    Set {
        name: "m1",
        rows: &[
            ("short_input", "short", 128, 128, 5, 1),
            ("long_input", "long", 200, 200, 3, 1),
            ("stress_test", "stress", 256, 256, 10, 10),
        ],
    },
    Set {
        name: "year1",
        rows: &[
            ("short_input", "short", 128, 128, 5, 1),
            ("long_input", "long", 2048, 512, 3, 1),
            ("stress_test", "stress", 256, 256, 10, 10),
        ],
    },
    Set {
        name: "year2",
        rows: &[
            ("short_input", "short", 256, 256, 10, 1),
            ("long_input", "long", 8192, 1024, 5, 1),
            ("stress_test", "stress", 512, 512, 50, 50),
        ],
    },
    Set {
        name: "year3",
        rows: &[
            ("short_input", "short", 512, 512, 20, 1),
            ("long_input", "long", 32_768, 2048, 10, 1),
            ("stress_test", "stress", 1024, 1024, 100, 100),
        ],
    },
    Set {
        name: "query",
        rows: &[
            ("Q1", "query", 32, 64, 5, 1),
            ("Q2", "query", 512, 128, 3, 1),
            ("Q3", "query", 128, 256, 3, 1),
            ("Q4", "query", 256, 256, 3, 1),
            ("Q5", "query", 32, 64, 10, 10),
            ("Q6", "query", 512, 256, 10, 10),
            ("Q7", "query", 256, 512, 3, 1),
            ("Q8", "query", 192, 128, 4, 4),
        ],
    },
    Set {
        name: "streaming",
        rows: &[
            ("streaming_short", "streaming", 32, 128, 5, 1),
            ("streaming_long", "streaming", 256, 256, 3, 1),
            ("streaming_concurrent", "streaming", 64, 128, 10, 4),
        ],
    },
    Set {
        name: "batch",
        rows: &[
            ("batch_small", "batch_inference", 16, 32, 20, 8),
            ("batch_medium", "batch_inference", 128, 128, 16, 8),
            ("batch_long", "batch_inference", 512, 256, 8, 4),
        ],
    },
    Set {
        name: "mixed",
        rows: &[
            ("mixed_sampling", "mixed", 32, 64, 10, 2),
            ("mixed_creative", "mixed", 256, 256, 6, 3),
            ("mixed_greedy", "mixed", 48, 128, 8, 4),
        ],
    },
];

/// Names of one workload of a set.
const SINGLE: [(&str, &str); 3] =
    [("short", "short_input"), ("long", "long_input"), ("stress", "stress_test")];

fn workload(row: &Row) -> Workload {
    let (name, kind, prompt_tokens, max_tokens, num_requests, at_once) = *row;
    // Sampling of the mixed set, and warm-ups of the streaming one, as their document has them.
    let (temperature, top_k, repetition_penalty) = match name {
        "mixed_sampling" => (Some(0.7), Some(50), None),
        "mixed_creative" => (Some(0.9), None, Some(1.1)),
        "mixed_greedy" => (Some(0.0), None, None),
        _ => (None, None, None),
    };
    let warmup_rounds = match name {
        "streaming_short" | "streaming_long" => 1,
        "streaming_concurrent" => 2,
        _ => 0,
    };
    Workload {
        name: name.into(),
        workload_type: kind.into(),
        prompt: None,
        prompt_tokens,
        max_tokens,
        num_requests,
        concurrent: at_once > 1,
        concurrency: (at_once > 1).then_some(at_once),
        temperature,
        top_p: None,
        top_k,
        repetition_penalty,
        stream: true,
        warmup_rounds,
        extra_params: Map::new(),
    }
}

/// The workloads of this name, or of the file of this name.
///
/// # Errors
/// What there is, or what is wrong with the file.
pub(super) fn named(name: &str) -> anyhow::Result<Vec<Workload>> {
    let set = if name == "all" { "query" } else { name };
    if let Some(set) = SETS.iter().find(|known| known.name == set) {
        return Ok(set.rows.iter().map(workload).collect());
    }
    let row = SINGLE.iter().find(|(short, _)| *short == name).map_or(name, |(_, row)| row);
    if let Some(row) = SETS.iter().flat_map(|set| set.rows).find(|known| known.0 == row) {
        return Ok(vec![workload(row)]);
    }
    if !Path::new(name).exists() {
        let sets: Vec<&str> = SETS.iter().map(|set| set.name).collect();
        bail!(
            "--workload: found `{name}`, expected a file or one of {}, all, short, long, stress, Q1 to Q8",
            sets.join(", ")
        );
    }
    of_file(Path::new(name))
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("yaml") || end.eq_ignore_ascii_case("yml"))
}

/// The workloads of a file: a list, or an object with one as `workloads`.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn of_file(path: &Path) -> anyhow::Result<Vec<Workload>> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{name}`"))?;
    let value: Value = if is_yaml(path) {
        serde_saphyr::from_str(&text).map_err(|error| anyhow::anyhow!("`{name}` is no YAML: {error}"))?
    } else {
        serde_json::from_str(&text)
            .with_context(|| format!("`{name}` is no JSON; a file in YAML ends in .yaml"))?
    };
    let list = value.get("workloads").unwrap_or(&value).clone();
    let workloads: Vec<Workload> =
        serde_json::from_value(list).with_context(|| format!("`{name}`: expected a list of workloads"))?;
    ensure!(!workloads.is_empty(), "`{name}` has no workload");
    for workload in &workloads {
        let at_once = workload.concurrency.unwrap_or(1);
        let numbers =
            [workload.num_requests, workload.max_tokens as usize, workload.prompt_tokens as usize, at_once];
        ensure!(
            numbers.iter().all(|number| (1..=1_000_000).contains(number)),
            "`{name}`, workload `{}`: expected num_requests, max_tokens, prompt_tokens and concurrency of 1 to 1000000",
            workload.name
        );
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        ensure!(
            workload.name.chars().all(plain) && workload.name.chars().any(|c| c.is_ascii_alphanumeric()),
            "`{name}`: found the name `{}`, expected letters, digits, `_`, `-` and `.`: it becomes a file",
            workload.name
        );
        let same = workloads.iter().filter(|other| other.name == workload.name).count();
        ensure!(same == 1, "`{name}`: {same} workloads are named `{}`", workload.name);
    }
    Ok(workloads)
}

/// A file of workloads, as [`of_file`] reads it.
///
/// # Errors
/// What JSON says.
pub(super) fn file_of(workloads: &[Workload], format: FileFormat) -> anyhow::Result<String> {
    let value = json!({ "workloads": workloads });
    if format == FileFormat::Json {
        return Ok(format!("{value:#}\n"));
    }
    // A value of JSON in one line is one of YAML, too.
    let mut out = String::from("workloads:\n");
    for workload in value["workloads"].as_array().into_iter().flatten() {
        for (index, (name, value)) in workload.as_object().into_iter().flatten().enumerate() {
            let before = if index == 0 { "  - " } else { "    " };
            out += &format!("{before}{name}: {value}\n");
        }
    }
    Ok(out)
}

impl Workload {
    /// Requests under way at once.
    pub(super) fn at_once(&self) -> usize {
        match (self.concurrent, self.concurrency) {
            (_, Some(concurrency)) => concurrency,
            (true, None) => self.num_requests,
            (false, None) => 1,
        }
    }

    /// What is sent: its own prompt, else `prompts` in turn, else made-up ones of its length, of which no two are alike,
    /// or the second would come out of the server's cache.
    ///
    /// # Errors
    /// What the tokenizer says.
    pub(super) fn samples(
        &self,
        tokens: &Tokens,
        seed: u64,
        prompts: &[String],
    ) -> anyhow::Result<Vec<Sample>> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let given = [
            ("temperature", self.temperature.map(|value| json!(value))),
            ("top_p", self.top_p.map(|value| json!(value))),
            ("top_k", self.top_k.map(|value| json!(value))),
            ("repetition_penalty", self.repetition_penalty.map(|value| json!(value))),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
        let mut extra: Map<String, Value> = given.collect();
        extra.extend(self.extra_params.clone());
        let samples = (0..self.num_requests).map(|index| {
            let given = prompts.get(index % prompts.len().max(1));
            let (text, length) = match self.prompt.as_ref().or(given) {
                Some(prompt) => (prompt.clone(), tokens.count(prompt)?),
                None => (text::make(&mut rng, tokens, self.prompt_tokens)?, self.prompt_tokens),
            };
            let sample = Sample::new(Prompt::Text(text), length, self.max_tokens);
            Ok(Sample { extra_body: extra.clone(), ..sample })
        });
        samples.collect()
    }
}
