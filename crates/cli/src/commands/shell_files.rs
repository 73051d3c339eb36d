//! `pie completions` and `pie man`: what shells and `man` know of the command line, from its declaration.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::output;

/// Flags of `pie completions`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie completions bash > ~/.local/share/bash-completion/completions/pie
  pie completions zsh > ~/.zfunc/_pie
  pie completions fish > ~/.config/fish/completions/pie.fish")]
pub(crate) struct CompletionFlags {
    /// The shell.
    shell: Shell,
}

/// Flags of `pie man`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie man /usr/local/share/man/man1")]
pub(crate) struct ManFlags {
    /// Folder for the pages; made where there is none.
    folder: PathBuf,
}

pub(crate) fn completions<F: CommandFactory>(flags: &CompletionFlags) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(flags.shell, &mut F::command(), "pie", &mut text);
    output::line(String::from_utf8(text)?.trim_end())
}

pub(crate) fn man<F: CommandFactory>(flags: &ManFlags) -> Result<()> {
    let failed = || format!("cannot write the pages to {}", flags.folder.display());
    std::fs::create_dir_all(&flags.folder).with_context(failed)?;
    clap_mangen::generate_to(F::command(), &flags.folder).with_context(failed)
}
