//! Flags of the command line that set keys of the config file, and those that `pie run` and `pie start`
//! share.

use std::marker::PhantomData;
use std::path::PathBuf;

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use model_store::DEFAULT_MODEL;
use toml::Value;

use super::Settings;
use super::key::{Commands, Key, Kind};
use super::keys::{TABLES, Table};

// What `pie run` and `pie start` share. (clap would make a doc comment the text of their helps.)
#[derive(Args)]
pub(crate) struct CommonFlags {
    /// A file of settings; see docs/config.md.
    #[arg(short, long)]
    config: Option<PathBuf>,
    /// Model to serve when the config names none: a name of `pie model list`, or a file.
    #[arg(short, long, default_value = DEFAULT_MODEL)]
    model: String,
    #[command(flatten)]
    keys: KeyFlags<BothCommands>,
}

impl CommonFlags {
    /// The settings of the file, or the defaults, with these flags and `more` before what it says.
    ///
    /// # Errors
    /// When the file cannot be read or says something that it must not.
    pub(crate) fn settings(&self, more: &[Given]) -> Result<Settings> {
        let flags = [&self.keys.given[..], more].concat();
        Settings::read(self.config.as_deref(), &self.model, &flags)
    }
}

/// The flags of keys that some subcommands have.
pub(crate) struct KeyFlags<C> {
    pub(crate) given: Vec<Given>,
    commands: PhantomData<C>,
}

/// A key that was given as a flag.
#[derive(Clone)]
pub(crate) struct Given {
    pub(super) table: &'static Table,
    pub(super) key: &'static Key,
    pub(super) value: Value,
}

impl Given {
    /// Puts the value before that of the file; for every model, where the key is one of a model.
    pub(super) fn put_into(&self, file: &mut toml::Table) {
        let Given { table, key, value } = self;
        let put = |table: &mut toml::Table| {
            // The file's values of keys that belong to this one are for another value of it.
            let belongs = |other: &&Key| {
                let flags = other.flag.as_ref().zip(key.flag.as_ref());
                flags.is_some_and(|(other, flag)| other.requires == Some(flag.name))
            };
            for other in self.table.keys.iter().filter(belongs) {
                table.remove(other.name);
            }
            table.insert(key.name.to_string(), value.clone());
        };
        if table.name.is_empty() {
            return put(file);
        }
        match file.entry(table.name).or_insert_with(|| Value::Table(toml::Table::new())) {
            Value::Table(table) => put(table),
            Value::Array(rows) => rows.iter_mut().filter_map(Value::as_table_mut).for_each(put),
            other => unreachable!("`{}` was checked and is {other}", table.name),
        }
    }
}

/// Which flags a [`KeyFlags`] has.
pub(crate) trait FlagsOf {
    const COMMANDS: Commands;
}

/// Those of `pie run` and `pie start`.
pub(crate) struct BothCommands;

/// Those of `pie start` alone.
pub(crate) struct StartCommand;

impl FlagsOf for BothCommands {
    const COMMANDS: Commands = Commands::RunAndStart;
}

impl FlagsOf for StartCommand {
    const COMMANDS: Commands = Commands::Start;
}

impl<C: FlagsOf> KeyFlags<C> {
    /// The keys with such a flag, each with its table.
    fn keys() -> impl Iterator<Item = (&'static Table, &'static Key)> {
        let keys = TABLES.iter().flat_map(|table| table.keys.iter().map(move |key| (table, key)));
        keys.filter(|(_, key)| key.flag.as_ref().is_some_and(|flag| flag.commands == C::COMMANDS))
    }
}

impl<C: FlagsOf> Args for KeyFlags<C> {
    fn augment_args(command: Command) -> Command {
        command.args(Self::keys().filter_map(|(_, key)| argument(key)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<C: FlagsOf> FromArgMatches for KeyFlags<C> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<KeyFlags<C>, clap::Error> {
        let mut given = Vec::new();
        for (table, key) in Self::keys() {
            let Some(flag) = &key.flag else { continue };
            if let Some(value) = flag.sets {
                if matches.get_flag(flag.name) {
                    let value = key.read(value).expect("what the flag sets is a value of its key");
                    given.push(Given { table, key, value });
                }
                continue;
            }
            let values = matches.get_many::<Value>(flag.name).into_iter().flatten().cloned();
            // A list is of all its flags together.
            let value = values.reduce(|all, next| match (all, next) {
                (Value::Array(all), Value::Array(next)) => Value::Array([all, next].concat()),
                (_, next) => next,
            });
            given.extend(value.map(|value| Given { table, key, value }));
        }
        Ok(KeyFlags { given, commands: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flag of a key.
fn argument(key: &'static Key) -> Option<Arg> {
    let flag = key.flag.as_ref()?;
    if flag.sets.is_some() {
        return Some(Arg::new(flag.name).long(flag.name).help(help(key)).action(ArgAction::SetTrue));
    }
    let read = |text: &str| key.read(text).map_err(|error| format!("{error:#}"));
    let parser: ValueParser = match key.choices() {
        Some(choices) => {
            let values = choices.iter().map(|choice| PossibleValue::new(choice.name).help(choice.about));
            PossibleValuesParser::new(values).map(Value::String).into()
        }
        None => ValueParser::new(read),
    };
    let argument = Arg::new(flag.name).long(flag.name).value_name(flag.value).help(help(key));
    let argument = match key.kind {
        Kind::Texts => argument.action(ArgAction::Append),
        _ => argument,
    };
    let argument = match flag.short {
        Some(short) => argument.short(short),
        None => argument,
    };
    Some(
        match flag.requires {
            Some(other) => argument.requires(other),
            None => argument,
        }
        .value_parser(parser),
    )
}

/// What the key is, which values it may have, and what holds without it.
fn help(key: &Key) -> String {
    let mut help = key.about.trim_end_matches('.').to_string();
    let expected = key.expected();
    if key.choices().is_none() && !expected.is_empty() {
        help += &format!(" [{expected}]");
    }
    if !key.absent.is_empty() {
        help += &format!(" [default: {}]", key.absent);
    }
    help
}
