//! `pie key`: who may send requests.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};

use crate::config::is_user;
use crate::home::Home;
use crate::keys::{Entry, KeyLimits, Keys, Made, time};
use crate::output;

/// Flags of `pie key`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  pie key add ann
  pie key add batch --user ann --tokens-per-minute 20000 --running 4
  pie key add prometheus --admin --programs none
  pie key list
  pie key revoke ann

A running server sees a change within a second.")]
pub(crate) struct KeyFlags {
    #[command(subcommand)]
    command: KeyCommand,
    /// The file of keys: `keys_file` of the server's config [default: PIE_HOME/keys.toml]
    #[arg(long, global = true, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a key. It is printed once, and only its hash is kept.
    Add(Box<AddFlags>),
    /// The keys there are.
    List {
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Take a key away: its requests end.
    Revoke {
        /// Its id, or its name where only one has it.
        key: String,
    },
}

#[derive(Args)]
struct AddFlags {
    /// What it is for.
    name: String,
    /// Whose store, saved contexts and cached prefixes its programs see; keys of one user share them; `local` is the operator, whose are the programs that the server runs itself [default: the name]
    #[arg(long)]
    user: Option<String>,
    /// It opens what shows the whole server, too: /metrics, /stats and /debug/trace
    #[arg(long)]
    admin: bool,
    /// It ends after so long, for instance 12h or 30d [default: never]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires_in: Option<Duration>,
    #[command(flatten)]
    limits: KeyLimits,
}

pub(crate) fn key(flags: KeyFlags) -> Result<()> {
    let file = match flags.file {
        Some(file) => file,
        None => Home::find()?.keys(),
    };
    match flags.command {
        KeyCommand::Add(flags) => {
            let AddFlags { name, user, admin, expires_in, limits } = *flags;
            let user = user.unwrap_or_else(|| name.clone());
            for (what, text) in [("name", &name), ("user", &user)] {
                ensure!(
                    is_user(text),
                    "the {what} `{text}`: expected 1 to 256 bytes without control characters"
                );
            }
            let Made { text, entry } = Entry::make(&name, &user, expires_in, admin, limits)?;
            Keys::change(&file, |keys| {
                keys.keys.push(entry);
                Ok(())
            })?;
            eprintln!(
                "a key for user `{user}`, shown only now; clients send it as `Authorization: Bearer KEY`:"
            );
            output::line(text)
        }
        KeyCommand::List { json } => list(&Keys::read(&file)?, json),
        KeyCommand::Revoke { key } => {
            let id = Keys::change(&file, |keys| {
                let matching = keys.keys.iter().filter(|entry| entry.id == key || entry.name == key);
                let ids: Vec<String> = matching.map(|entry| entry.id.clone()).collect();
                let [id] = &ids[..] else {
                    match ids.len() {
                        0 => bail!(
                            "no key has the id or the name `{key}`; `pie key list` shows those there are"
                        ),
                        _ => bail!("`{key}` is the name of {}: give one of these ids", ids.join(", ")),
                    }
                };
                keys.keys.retain(|entry| entry.id != *id);
                Ok(id.clone())
            })?;
            output::line(format_args!("revoked {id}"))
        }
    }
}

fn list(keys: &Keys, json: bool) -> Result<()> {
    let date = |seconds| humantime::format_rfc3339_seconds(time(seconds)).to_string();
    if json {
        for Entry { id, name, user, created, expires, admin, limits, .. } in &keys.keys {
            let (created, expires) = (date(*created), expires.map(date));
            let key = serde_json::json!({ "id": id, "name": name, "user": user, "created": created,
                "expires": expires, "admin": admin, "limits": limits });
            output::line(key)?;
        }
        return Ok(());
    }
    if keys.keys.is_empty() {
        eprintln!("there are no keys; `pie key add NAME` makes one");
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["id", "name", "user", "created", "expires", "limits"]);
    for Entry { id, name, user, created, expires, admin, limits, .. } in &keys.keys {
        let expires = expires.map_or_else(|| "never".to_string(), date);
        let limits = [if *admin { "admin" } else { "" }.to_string(), limits.text()];
        let limits: Vec<&str> = limits.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        table.add_row([id, name, user, &date(*created), &expires, &limits.join(", ")]);
    }
    output::line(table)
}
