//! Stage `dataset`: prompts, made from a seed or taken from a file. Each kind is a file and a row of [`TABLE`].

mod client_trace;
mod sharegpt;
mod synthetic_multiturn;
mod synthetic_shared;

use anyhow::Context;
use fastrand::Rng;

use super::config::Config;
use super::rows::{self, Prompts};
use crate::dataset::tokens::Tokens;

/// A kind of dataset.
pub struct Spec {
    /// Its name, as in `prompt_type`.
    pub name: &'static str,
    /// Makes it. Notes are for the reader of the terminal.
    pub make: fn(&Config, &Tokens, &mut Rng, &mut Vec<String>) -> anyhow::Result<Prompts>,
}

/// Every kind.
pub const TABLE: [Spec; 4] =
    [synthetic_multiturn::SPEC, synthetic_shared::SPEC, sharegpt::SPEC, client_trace::SPEC];

/// Makes the dataset and writes it.
///
/// # Errors
/// What is wrong with the configuration or a file.
pub fn run(config: &Config, tokens: &Tokens) -> anyhow::Result<()> {
    let name = config.text("prompt_type")?;
    let spec = TABLE.iter().find(|spec| spec.name == name).with_context(|| {
        format!("`prompt_type`: found `{name}`, expected {}", TABLE.map(|spec| spec.name).join(", "))
    })?;
    let mut notes = Vec::new();
    let prompts = (spec.make)(config, tokens, &mut Rng::with_seed(config.count("seed")?), &mut notes)?;
    let path = config.path("dataset_file")?;
    let what = match &prompts {
        Prompts::Plain(list) => {
            anyhow::ensure!(!list.is_empty(), "`{name}` made no prompt");
            rows::write(&path, list)?;
            format!("{} prompts", list.len())
        }
        Prompts::Sessions(list) => {
            anyhow::ensure!(!list.is_empty(), "`{name}` made no session");
            rows::write(&path, list)?;
            let turns: usize = list.iter().map(|session| session.prompts.len()).sum();
            format!("{turns} prompts in {} sessions", list.len())
        }
    };
    println!("dataset: {what} by {}, written to {}", tokens.source(), path.display());
    notes.iter().for_each(|note| println!("  {note}"));
    Ok(())
}
