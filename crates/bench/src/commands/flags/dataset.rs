//! What is asked: the flags of `vllm bench serve`, and some more.

use std::path::{Path, PathBuf};

use clap::Args;

use super::key_value;
use crate::dataset::tokens::Tokens;
use crate::dataset::{Columns, Dataset, DatasetOptions, MultiTurnOptions, SharedPrefixOptions, load};

/// What is asked.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Dataset")]
pub struct DatasetFlags {
    /// random, random-ids, prefix_repetition, multi_turn, sharegpt, custom (JSON lines, CSV), azure, mooncake, burstgpt,
    /// mt_bench, sonnet.
    #[arg(long, default_value = "random")]
    pub dataset_name: String,
    /// Its file, for those that have one.
    #[arg(long)]
    pub dataset_path: Option<PathBuf>,
    /// How many requests.
    #[arg(long, default_value_t = 1000)]
    pub num_prompts: usize,
    /// Where random numbers start.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Folder with a tokenizer.json, that file, or a GGUF file: for exact lengths. --model, if it is one, by default.
    #[arg(long)]
    pub tokenizer: Option<String>,
    /// Count words in place of tokens, whatever --model is.
    #[arg(long)]
    pub skip_tokenizer_init: bool,
    /// Tokens of prompts, for every dataset that makes them up.
    #[arg(long)]
    pub input_len: Option<u32>,
    /// Tokens to request, for every dataset.
    #[arg(long)]
    pub output_len: Option<u32>,
    /// Do not begin a file again that has fewer samples.
    #[arg(long)]
    pub no_oversample: bool,
    /// Keep the order of a file.
    #[arg(long)]
    pub disable_shuffle: bool,
    /// Leave out samples with longer prompts.
    #[arg(long, value_name = "TOKENS")]
    pub max_input_len: Option<u32>,
    /// random: tokens of prompts.
    #[arg(long, default_value_t = 1024)]
    pub random_input_len: u32,
    /// random: tokens to request.
    #[arg(long, default_value_t = 128)]
    pub random_output_len: u32,
    /// random: lengths are uniform in n (1 - r) to n (1 + r).
    #[arg(long, default_value_t = 0.0)]
    pub random_range_ratio: f64,
    /// random: tokens that all prompts begin with.
    #[arg(long, default_value_t = 0)]
    pub random_prefix_len: u32,
    /// prefix_repetition: tokens of a beginning.
    #[arg(long, default_value_t = 256)]
    pub prefix_repetition_prefix_len: u32,
    /// prefix_repetition: tokens of the rest.
    #[arg(long, default_value_t = 256)]
    pub prefix_repetition_suffix_len: u32,
    /// prefix_repetition: how many beginnings.
    #[arg(long, default_value_t = 10)]
    pub prefix_repetition_num_prefixes: usize,
    /// prefix_repetition: tokens to request.
    #[arg(long, default_value_t = 128)]
    pub prefix_repetition_output_len: u32,
    /// prefix_repetition: choose beginnings by Zipf's law with this exponent.
    #[arg(long, value_name = "EXPONENT")]
    pub prefix_repetition_zipf: Option<f64>,
    /// sharegpt: tokens to request; those of the recorded answer by default.
    #[arg(long)]
    pub sharegpt_output_len: Option<u32>,
    /// custom: tokens to request; those of the file by default, and for -1.
    #[arg(long, allow_hyphen_values = true, value_parser = clap::value_parser!(i64).range(-1..=i64::from(u32::MAX)))]
    pub custom_output_len: Option<i64>,
    /// mt_bench, spec_bench: tokens to request.
    #[arg(long, default_value_t = 256)]
    pub spec_bench_output_len: u32,
    /// mt_bench, spec_bench: only questions of this category.
    #[arg(long, value_name = "NAME")]
    pub spec_bench_category: Option<String>,
    /// Taken for scripts that have it: prompts are never rendered here, but by the server.
    #[arg(long, hide = true)]
    skip_chat_template: bool,
    /// sonnet: tokens of prompts.
    #[arg(long, default_value_t = 550)]
    pub sonnet_input_len: u32,
    /// sonnet: tokens to request.
    #[arg(long, default_value_t = 150)]
    pub sonnet_output_len: u32,
    /// sonnet: tokens that all prompts begin with.
    #[arg(long, default_value_t = 200)]
    pub sonnet_prefix_len: u32,
    /// multi_turn: turns of a conversation.
    #[arg(long, default_value_t = 4.0)]
    pub multi_turn_turns: f64,
    /// multi_turn: their standard deviation.
    #[arg(long, default_value_t = 0.0)]
    pub multi_turn_turns_std: f64,
    /// multi_turn: tokens of the message that all conversations begin with.
    #[arg(long, default_value_t = 0)]
    pub multi_turn_system_len: u32,
    /// multi_turn: mean seconds between an answer and the next message.
    #[arg(long, default_value_t = 0.0, value_name = "SECS")]
    pub multi_turn_think: f64,
    /// Traces: tokens of a block that hash_ids name; found in the trace by default.
    #[arg(long, alias = "timed-trace-chunk-hash-size", value_name = "TOKENS")]
    pub block_tokens: Option<u32>,
    /// Traces: seconds in one unit of their time; that of the format by default.
    #[arg(long, alias = "timed-trace-sec-multiplier", value_name = "SECS")]
    pub time_unit: Option<f64>,
    /// custom: the name of a column: prompt, prompt_tokens, output_tokens, timestamp, session or blocks, =NAME.
    #[arg(long, value_parser = key_value, value_name = "WHAT=NAME")]
    pub column: Vec<(String, String)>,
}

impl DatasetFlags {
    /// The tokenizer, and how the user named it.
    ///
    /// # Errors
    /// When it is named and cannot be read.
    pub fn tokens(&self, model: Option<&str>) -> anyhow::Result<(Tokens, Option<String>)> {
        if self.skip_tokenizer_init {
            return Ok((Tokens::Words, None));
        }
        match (&self.tokenizer, model) {
            (Some(path), _) => Ok((Tokens::open(Path::new(path))?, Some(path.clone()))),
            // A model that is a path has its tokenizer with it. Other names are the server's.
            (None, Some(model)) if Path::new(model).exists() => {
                Ok((Tokens::open(Path::new(model))?, Some(model.to_string())))
            }
            _ => Ok((Tokens::Words, None)),
        }
    }

    /// The options of the dataset.
    ///
    /// # Errors
    /// What is wrong with a flag.
    pub fn options(&self) -> anyhow::Result<DatasetOptions> {
        let name = crate::dataset::find(&self.dataset_name)?.name;
        let mut columns = Columns::default();
        for (what, column) in &self.column {
            let field = match what.as_str() {
                "prompt" => &mut columns.prompt,
                "prompt_tokens" => &mut columns.prompt_tokens,
                "output_tokens" => &mut columns.output_tokens,
                "timestamp" => &mut columns.timestamp,
                "session" => &mut columns.session,
                "blocks" => &mut columns.blocks,
                other => anyhow::bail!(
                    "--column: found `{other}`, expected prompt, prompt_tokens, output_tokens, timestamp, session or blocks"
                ),
            };
            *field = Some(column.clone());
        }
        let (input, prefix, own_output) = match name {
            "sonnet" => (self.sonnet_input_len, self.sonnet_prefix_len, Some(self.sonnet_output_len)),
            "random" | "random-ids" | "multi_turn" => {
                (self.random_input_len, self.random_prefix_len, Some(self.random_output_len))
            }
            "prefix_repetition" => (0, 0, Some(self.prefix_repetition_output_len)),
            "sharegpt" => (0, 0, self.sharegpt_output_len),
            "custom" => (0, 0, self.custom_output_len.and_then(|tokens| u32::try_from(tokens).ok())),
            "mt_bench" => (0, 0, Some(self.spec_bench_output_len)),
            _ => (0, 0, None),
        };
        Ok(DatasetOptions {
            name: name.into(),
            path: self.dataset_path.clone(),
            count: self.num_prompts,
            seed: self.seed,
            input_tokens: self.input_len.unwrap_or(input),
            output_tokens: self.output_len.or(own_output),
            range_ratio: self.random_range_ratio,
            prefix_tokens: prefix,
            oversample: !self.no_oversample,
            shuffle: !self.disable_shuffle,
            shared_prefix: SharedPrefixOptions {
                prefixes: self.prefix_repetition_num_prefixes,
                prefix_tokens: self.prefix_repetition_prefix_len,
                suffix_tokens: self.prefix_repetition_suffix_len,
                zipf: self.prefix_repetition_zipf,
            },
            multi_turn: MultiTurnOptions {
                turns: (self.multi_turn_turns, self.multi_turn_turns_std),
                system_tokens: self.multi_turn_system_len,
                think_secs: self.multi_turn_think,
            },
            columns,
            block_tokens: self.block_tokens,
            time_unit_secs: self.time_unit,
            max_input_tokens: self.max_input_len,
            category: self.spec_bench_category.clone(),
        })
    }

    /// The samples.
    ///
    /// # Errors
    /// What is wrong with a flag or a file.
    pub fn load(&self, tokens: &Tokens) -> anyhow::Result<Dataset> {
        anyhow::ensure!(self.num_prompts > 0, "--num-prompts: found 0, expected 1 or more");
        Ok(load(&self.options()?, tokens)?)
    }
}
