//! `pie model`: the store of models.

use anyhow::Result;
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use indicatif::{HumanBytes, ProgressBar};
use model::Model;
use model_store::{Manifest, ModelStore, Phase, Progress, index};

use crate::home::{Home, store_settings};
use crate::{output, progress};

/// Flags of `pie model`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie model add smollm2-135m-instruct
  pie model add hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Llama-3.2-1B-Instruct-Q4_K_M.gguf
  pie model add ./my-model.gguf
  pie model list --available")]
pub(crate) struct ModelFlags {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Subcommand)]
enum ModelCommand {
    /// Add a model: a name of the index, `hf:OWNER/REPO[:FILE]`, or a local file or folder.
    Add {
        /// Which.
        model: String,
    },
    /// Models that are here; with `--available`, those of the index.
    List {
        /// The index.
        #[arg(long)]
        available: bool,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Remove a model and its files.
    Remove {
        /// Its name.
        model: String,
    },
    /// What a model is.
    Info {
        /// Its name, or a file.
        model: String,
        /// Only the path of what is opened.
        #[arg(long)]
        path: bool,
    },
}

pub(crate) async fn model(flags: ModelFlags) -> Result<()> {
    // The store waits for network and disk on its own thread of control; nothing else runs meanwhile.
    tokio::task::spawn_blocking(move || run(flags.command)).await?
}

fn run(command: ModelCommand) -> Result<()> {
    let home = Home::find()?;
    let store = ModelStore::open(&home.models(), store_settings())?;
    match command {
        ModelCommand::Add { model } => add(&store, &model),
        ModelCommand::List { available, json } => list(&store, available, json),
        ModelCommand::Remove { model } => {
            store.remove(&model)?;
            output::line(format_args!("removed {model}"))
        }
        ModelCommand::Info { model, path } => info(&home, &model, path),
    }
}

fn add(store: &ModelStore, model: &str) -> Result<()> {
    let mut bar: Option<(Phase, String, ProgressBar)> = None;
    let mut show = |step: Progress| {
        let same = bar.as_ref().is_some_and(|(phase, item, _)| *phase == step.phase && *item == step.item);
        if !same {
            if let Some((_, _, old)) = bar.take() {
                old.finish_and_clear();
            }
            let verb = match step.phase {
                Phase::Connecting => "asking",
                Phase::Downloading => "fetching",
                Phase::Copying => "copying",
                Phase::Verifying => "verifying",
            };
            let new = progress::bytes(&format!("{verb} {}", step.item), step.bytes_total);
            bar = Some((step.phase, step.item.clone(), new));
        }
        if let Some((_, _, bar)) = &bar {
            bar.set_position(step.bytes_done);
        }
    };
    let added = store.add(model, &mut show);
    if let Some((_, _, bar)) = bar {
        bar.finish_and_clear();
    }
    let Manifest { name, source, bytes, .. } = added?;
    output::line(format_args!("{name}: {} from {source}", HumanBytes(bytes)))
}

fn list(store: &ModelStore, available: bool, json: bool) -> Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if available {
        for entry in index() {
            table.add_row([entry.name, entry.about]);
        }
        return output::line(table);
    }
    let models = store.list()?;
    if json {
        for model in &models {
            output::line(serde_json::to_string(model)?)?;
        }
        return Ok(());
    }
    if models.is_empty() {
        let default = model_store::DEFAULT_MODEL;
        return output::line(format_args!(
            "no models yet; `pie model add {default}` fetches the default one"
        ));
    }
    for model in models {
        table.add_row([model.name, HumanBytes(model.bytes).to_string(), model.source]);
    }
    output::line(table)
}

fn info(home: &Home, name: &str, only_path: bool) -> Result<()> {
    let path = crate::assemble::model_path(home, name)?;
    if only_path {
        return output::line(path.display());
    }
    let model = Model::open(&path)?;
    let h = &model.hyperparameters;
    let special = model.tokenizer.special();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut row = |key: &str, value: String| {
        table.add_row([key.to_string(), value]);
    };
    row("name", model.name.clone());
    row("path", path.display().to_string());
    row("architecture", h.architecture.name().to_string());
    row("parameters", model.weights.parameters().to_string());
    row("weights", HumanBytes(model.weights.bytes()).to_string());
    row("layers", h.layers.to_string());
    row("hidden", h.hidden.to_string());
    row("heads", format!("{} query, {} key-value, {} values each", h.heads, h.kv_heads, h.head_dim));
    row("vocabulary", h.vocab.to_string());
    row("context", format!("{} tokens", h.context_length));
    row("stop tokens", format!("{:?}", special.stop));
    row(
        "chat template",
        match model.chat_template() {
            Ok(_) => "yes".to_string(),
            Err(error) => error.to_string(),
        },
    );
    output::line(table)
}
